/* Private to json.c and json_scan.c: what the two readers share.
 *
 * yajl 2.1 does not look at what malloc() gives it. It gets an allocator of ours, which keeps a list of its
 * blocks and leaves by longjmp() when memory is gone; the list is then thrown away as a whole, also in the
 * good case. */
#pragma once

#include <setjmp.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <yajl/yajl_parse.h>

struct yajl_block;
struct yajl_memory {
    struct yajl_block *first;
    jmp_buf gone; /* to be set by setjmp() in the function that calls yajl */
};

yajl_handle yajl_memory_start(struct yajl_memory *m, const yajl_callbacks *callbacks, void *ctx);
/* Frees the handle too. */
void yajl_memory_done(struct yajl_memory *m);

#define NUMBER_BYTES_MAX 1000

struct number {
    bool is_real;
    int64_t n;
    double d;
};

/* Text as yajl hands it over. 0; -ERANGE: an integer outside 64 bits or an infinite real, d is filled in all
 * the same; too long, nothing is filled in. */
int number_read(const char *text, size_t n, struct number *ret);

/* 0 to 15, or -EBADMSG. */
int hex_digit(char c);
