/* SSH's data types in bytes (RFC 4251 §5): what keys and the agent's messages are made of. No I/O. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct buf;

/* Reading: what is left of some bytes, borrowed. Each read takes from the front: 0, or -EBADMSG and nothing is taken. */
struct wire {
    const uint8_t *at;
    size_t n;
};

int wire_read_byte(struct wire *w, uint8_t *ret);
int wire_read_u32(struct wire *w, uint32_t *ret);
int wire_read_string(struct wire *w, struct wire *ret);
bool wire_is(const struct wire *w, const char *text);

/* Writing, into a buf with room reserved for all of it, so that no secret is left behind in memory that grew elsewhere: too
 * little room aborts. */
void wire_add_byte(struct buf *b, uint8_t value);
void wire_add_u32(struct buf *b, uint32_t value);
void wire_add_string(struct buf *b, const void *data, size_t n);
void wire_add_text(struct buf *b, const char *text);
/* A positive number as an mpint: without leading zeros, with one in front where the top bit is set. */
void wire_add_mpint(struct buf *b, const uint8_t *number, size_t n);
