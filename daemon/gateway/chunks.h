/* Private to http1.c. Where a chunked body ends (RFC 9112, 7.1), by rules stricter than the parser libraries': at most 8 hexadecimal
 * digits and no extension behind them (no library sends any, and where one ends is read in different ways), 8 KiB of trailers, every line with
 * CR LF. All zero: a body begins. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

enum chunk_step {
    CHUNK_SIZE,
    CHUNK_SIZE_LF,
    CHUNK_DATA,
    CHUNK_DATA_CR,
    CHUNK_DATA_LF,
    CHUNK_LINE, /* a trailer line or the empty one begins */
    CHUNK_TRAILER,
    CHUNK_TRAILER_LF,
    CHUNK_LAST_LF,
    CHUNK_OVER,
};

struct chunks {
    enum chunk_step step;
    uint64_t left_bytes;        /* of this chunk */
    unsigned step_bytes;        /* digits, or bytes of all trailers */
};

/* How many of the n bytes belong to the body, framing included: all, unless its end is among them. -EBADMSG: refused, for good. */
ssize_t chunks_span(struct chunks *k, const char *data, size_t n);
bool chunks_are_over(const struct chunks *k);
