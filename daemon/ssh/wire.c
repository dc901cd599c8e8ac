/* A reader takes a value as a whole, or leaves everything where it was: lengths come from outside and are held against
 * what is left. What is written is ours and small: its buffer's ceiling is a bug of ours, and aborts. */
#include "ssh/wire.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "proto/buf.h"

int wire_read_byte(struct wire *w, uint8_t *ret)
{
    if (w->n < 1)
        return -EBADMSG;
    *ret = *w->at++;
    w->n--;
    return 0;
}

int wire_read_u32(struct wire *w, uint32_t *ret)
{
    if (w->n < 4)
        return -EBADMSG;
    *ret = (uint32_t)w->at[0] << 24 | (uint32_t)w->at[1] << 16 | (uint32_t)w->at[2] << 8 | w->at[3];
    w->at += 4;
    w->n -= 4;
    return 0;
}

int wire_read_string(struct wire *w, struct wire *ret)
{
    struct wire rest = *w;
    uint32_t n;

    if (wire_read_u32(&rest, &n) < 0 || n > rest.n)
        return -EBADMSG;
    *ret = (struct wire){.at = rest.at, .n = n};
    *w = (struct wire){.at = rest.at + n, .n = rest.n - n};
    return 0;
}

bool wire_is(const struct wire *w, const char *text)
{
    return w->n == strlen(text) && memcmp(w->at, text, w->n) == 0;
}

static void add(struct buf *b, const void *data, size_t n)
{
    if (buf_add(b, data, n) < 0)
        abort();
}

void wire_add_byte(struct buf *b, uint8_t value)
{
    add(b, &value, 1);
}

void wire_add_u32(struct buf *b, uint32_t value)
{
    const uint8_t bytes[4] = {(uint8_t)(value >> 24), (uint8_t)(value >> 16), (uint8_t)(value >> 8),
                              (uint8_t)value};

    add(b, bytes, sizeof(bytes));
}

void wire_add_string(struct buf *b, const void *data, size_t n)
{
    wire_add_u32(b, (uint32_t)n);
    add(b, data, n);
}

void wire_add_text(struct buf *b, const char *text)
{
    wire_add_string(b, text, strlen(text));
}

void wire_add_mpint(struct buf *b, const uint8_t *number, size_t n)
{
    for (; n > 0 && *number == 0; n--)
        number++;
    bool high = n > 0 && *number & 0x80;

    wire_add_u32(b, (uint32_t)n + high);
    if (high)
        wire_add_byte(b, 0);
    add(b, number, n);
}
