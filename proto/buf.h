/* Growing bytes with a ceiling given at birth. Whatever is sized by the outside goes through here. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

struct buf {
    char *data;         /* len bytes; not terminated, but see buf_text() */
    size_t len;
    size_t max_bytes;   /* never holds more than this */
    size_t head, size;  /* private: bytes dropped in front of data; bytes allocated */
};

/* Holds no memory until something is added. */
void buf_init(struct buf *b, size_t max_bytes);
/* Frees; the buffer is empty and usable again. */
void buf_done(struct buf *b);
/* As buf_done(), and overwrites first: for what may have held a secret. */
void buf_wipe(struct buf *b);

/* All or nothing: 0, -ENOBUFS (ceiling) or -ENOMEM. */
int buf_add(struct buf *b, const void *data, size_t n);
int buf_add_text(struct buf *b, const char *text);
int buf_addf(struct buf *b, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Room for n more bytes at the end, to be written by the caller and then counted with buf_grew(). */
int buf_reserve(struct buf *b, size_t n, char **ret_room);
void buf_grew(struct buf *b, size_t n);

/* Removes the first n bytes; cheap. */
void buf_drop(struct buf *b, size_t n);
void buf_clear(struct buf *b);

/* The bytes with a NUL behind them (not counted in len); "" when empty, NULL when memory is gone. Valid until the next change. */
const char *buf_text(struct buf *b);
/* Hands the terminated bytes to the caller, who frees; the buffer is empty then. NULL when memory is gone. */
char *buf_take(struct buf *b);
