/* The body of a request, read to its end before it goes anywhere: in memory first, then in a file that has no name. One or two
 * strings in it may be replaced on the way out (the model's name); everything else leaves byte for byte as it came. */
#pragma once

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define BODY_MEMORY_BYTES (256u << 10)
#define BODY_BYTES_MAX    (64u << 20)
#define BODY_TOGETHER_MAX (512ull << 20)
#define BODY_PATCHES_MAX  2

struct body;

/* What all bodies of a gateway may hold together. */
struct body_budget {
    uint64_t used_bytes, max_bytes;
};

/* Borrows the budget. */
struct body *body_new(struct body_budget *budget);
struct body *body_free(struct body *b);

/* 0, -EFBIG (more than BODY_BYTES_MAX), -EDQUOT (the budget is used up), -ENOSPC (the disk is), or what the file system says. */
int body_add(struct body *b, const void *data, size_t n);
/* From now on [from, to) is read as text. In order of from, not overlapping, at most BODY_PATCHES_MAX. Copies text. */
void body_replace(struct body *b, uint64_t from_bytes, uint64_t to_bytes, const char *text, size_t n);

/* With the replacements. */
uint64_t body_size(const struct body *b);
/* Up to n bytes from there on; 0 at the end, or negative errno. */
ssize_t body_read(const struct body *b, uint64_t offset, void *to, size_t n);
