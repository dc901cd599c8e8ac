/* yajl's memory, and the reading of numbers and digits. */
#include "proto/json_yajl.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "proto/mem.h"

/* ---- yajl's memory ----
 *
 * Overwritten before it is given back: a text with an escape in it, or one that came in two pieces, was put together here,
 * and it may have been a secret. */

struct yajl_block {
    struct yajl_block *next, *previous;
    size_t size;
    max_align_t bytes[];
};

static void block_link(struct yajl_memory *m, struct yajl_block *b)
{
    b->previous = NULL;
    b->next = m->first;
    if (b->next)
        b->next->previous = b;
    m->first = b;
}

static void block_unlink(struct yajl_memory *m, struct yajl_block *b)
{
    if (b->previous)
        b->previous->next = b->next;
    else
        m->first = b->next;
    if (b->next)
        b->next->previous = b->previous;
}

static void block_free(struct yajl_memory *m, struct yajl_block *b)
{
    block_unlink(m, b);
    wipe(b->bytes, b->size);
    free(b);
}

static void *memory_resize(void *ctx, void *p, size_t size)
{
    struct yajl_memory *m = ctx;
    struct yajl_block *b = p ? CONTAINER_OF(p, struct yajl_block, bytes) : NULL;
    struct yajl_block *grown = size < SIZE_MAX / 2 ? malloc(sizeof(*grown) + size) : NULL;

    if (!grown)
        longjmp(m->gone, 1);
    grown->size = size;
    block_link(m, grown);
    if (b) {
        memcpy(grown->bytes, b->bytes, MIN(b->size, size));
        block_free(m, b);
    }
    return grown->bytes;
}

static void *memory_get(void *ctx, size_t size)
{
    return memory_resize(ctx, NULL, size);
}

static void memory_free(void *ctx, void *p)
{
    if (p)
        block_free(ctx, CONTAINER_OF(p, struct yajl_block, bytes));
}

void yajl_memory_done(struct yajl_memory *m)
{
    while (m->first)
        block_free(m, m->first);
}

yajl_handle yajl_memory_start(struct yajl_memory *m, const yajl_callbacks *callbacks, void *ctx)
{
    yajl_alloc_funcs functions = {memory_get, memory_resize, memory_free, m};

    return yajl_alloc(callbacks, &functions, ctx); /* copies functions */
}

/* ---- numbers ---- */

int number_read(const char *text, size_t n, struct number *ret)
{
    char copy[NUMBER_BYTES_MAX + 1];
    bool negative = *text == '-';
    int64_t sum = 0;

    if (n > NUMBER_BYTES_MAX)
        return -ERANGE;
    memcpy(copy, text, n);
    copy[n] = '\0';
    ret->d = strtod(copy, NULL);
    ret->is_real = strpbrk(copy, ".eE") != NULL;
    if (ret->is_real)
        return isfinite(ret->d) ? 0 : -ERANGE;
    for (const char *c = copy + negative; *c; c++) {
        int digit = negative ? -(*c - '0') : *c - '0';

        if (__builtin_mul_overflow(sum, 10, &sum) || __builtin_add_overflow(sum, digit, &sum))
            return -ERANGE;
    }
    ret->n = sum;
    return 0;
}

int hex_digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    c |= 0x20;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -EBADMSG;
}
