/* One block of memory: head bytes that were dropped, len bytes that count, and always one byte more for a
 * NUL. Growing copies by hand instead of realloc(), and overwrites the old block: a buffer that held a secret
 * must not leave it behind in memory that buf_wipe() no longer sees. */
#include "proto/buf.h"

#include <errno.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define BUF_BYTES_MIN 64

static char *buf_block(const struct buf *b)
{
    return b->data ? b->data - b->head : NULL;
}

void buf_init(struct buf *b, size_t max_bytes)
{
    *b = (struct buf){.max_bytes = max_bytes};
}

void buf_done(struct buf *b)
{
    free(buf_block(b));
    buf_init(b, b->max_bytes);
}

void buf_wipe(struct buf *b)
{
    if (b->data)
        explicit_bzero(buf_block(b), b->size);
    buf_done(b);
}

static int buf_grow(struct buf *b, size_t needed)
{
    size_t twice = b->size > SIZE_MAX / 2 ? SIZE_MAX : b->size * 2;
    size_t most = b->max_bytes == SIZE_MAX ? SIZE_MAX : b->max_bytes + 1;
    size_t size = twice < BUF_BYTES_MIN ? BUF_BYTES_MIN : twice;
    char *block;

    if (size > most)
        size = most;
    if (size < needed)
        size = needed;
    block = malloc(size);
    if (!block)
        return -ENOMEM;
    if (b->data) {
        memcpy(block, b->data, b->len);
        explicit_bzero(buf_block(b), b->size);
        free(buf_block(b));
    }
    b->data = block;
    b->head = 0;
    b->size = size;
    return 0;
}

static void buf_close_gap(struct buf *b)
{
    char *block = buf_block(b);

    memmove(block, b->data, b->len);
    b->data = block;
    b->head = 0;
}

int buf_reserve(struct buf *b, size_t n, char **ret_room)
{
    size_t needed;
    int r;

    if (n > b->max_bytes - b->len || n >= SIZE_MAX - b->len)
        return -ENOBUFS;
    needed = b->len + n + 1;
    if (b->size - b->head < needed) {
        /* Moving is paid for by what was dropped; with less dropped than is left, twice the room is cheaper.
         */
        if (b->size >= needed && (b->head >= b->len || b->size > b->max_bytes))
            buf_close_gap(b);
        else {
            r = buf_grow(b, needed);
            if (r < 0)
                return r;
        }
    }
    *ret_room = b->data + b->len;
    return 0;
}

void buf_grew(struct buf *b, size_t n)
{
    b->len += n;
}

int buf_add(struct buf *b, const void *data, size_t n)
{
    char *room;
    int r;

    if (n == 0)
        return 0;
    r = buf_reserve(b, n, &room);
    if (r < 0)
        return r;
    memcpy(room, data, n);
    b->len += n;
    return 0;
}

int buf_add_text(struct buf *b, const char *text)
{
    return buf_add(b, text, strlen(text));
}

/* What fits into the room there is is written once. */
int buf_addf(struct buf *b, const char *format, ...)
{
    size_t left = b->data ? b->size - b->head - b->len : 0;
    char *room = left > 0 ? b->data + b->len : NULL;
    va_list args;
    int n, r;

    va_start(args, format);
    n = vsnprintf(room, left, format, args);
    va_end(args);
    if (n < 0)
        return -ENOMEM;
    if ((size_t)n >= left) {
        r = buf_reserve(b, (size_t)n, &room);
        if (r < 0)
            return r;
        va_start(args, format);
        vsnprintf(room, (size_t)n + 1, format, args);
        va_end(args);
    }
    b->len += (size_t)n;
    return 0;
}

void buf_drop(struct buf *b, size_t n)
{
    if (n >= b->len) {
        buf_clear(b);
        return;
    }
    b->data += n;
    b->head += n;
    b->len -= n;
}

void buf_clear(struct buf *b)
{
    b->data = buf_block(b);
    b->head = 0;
    b->len = 0;
}

const char *buf_text(struct buf *b)
{
    if (b->len == 0)
        return "";
    b->data[b->len] = '\0'; /* buf_reserve() always leaves room for it */
    return b->data;
}

char *buf_take(struct buf *b)
{
    char *text;

    if (b->len == 0) {
        buf_done(b);
        return calloc(1, 1);
    }
    buf_close_gap(b);
    text = b->data;
    text[b->len] = '\0';
    buf_init(b, b->max_bytes);
    return text;
}
