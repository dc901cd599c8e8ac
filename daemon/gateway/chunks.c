/* Byte by byte, a step for each place in the framing; the bytes of the chunks themselves are passed over in
 * one go. */
#include "gateway/chunks.h"

#include <errno.h>

#include "gateway/http1.h"
#include "proto/mem.h"

#define CHUNK_DIGITS_MAX  8
#define TRAILER_BYTES_MAX (8u << 10)

static int hex_digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

static bool chunk_size(struct chunks *k, char c)
{
    int digit = hex_digit(c);

    if (digit >= 0 && k->step_bytes < CHUNK_DIGITS_MAX) {
        k->left_bytes = k->left_bytes * 16 + (unsigned)digit;
        k->step_bytes++;
        return true;
    }
    k->step = CHUNK_SIZE_LF;
    return k->step_bytes > 0 && c == '\r';
}

static bool is_line_char(unsigned char c)
{
    return (c >= ' ' && c != 0x7f) || c == '\t';
}

static bool chunk_trailer(struct chunks *k, char c)
{
    if (c == '\r')
        k->step = CHUNK_TRAILER_LF;
    return c == '\r' || (is_line_char((unsigned char)c) && ++k->step_bytes <= TRAILER_BYTES_MAX);
}

static bool chunk_lf(struct chunks *k, char c, enum chunk_step next)
{
    k->step = next;
    if (next == CHUNK_SIZE) {
        k->left_bytes = 0;
        k->step_bytes = 0;
    }
    return c == '\n';
}

/* One byte of framing. False: refused. */
static bool chunk_take(struct chunks *k, char c)
{
    switch (k->step) {
    case CHUNK_SIZE: return chunk_size(k, c);
    case CHUNK_SIZE_LF: k->step_bytes = 0; return chunk_lf(k, c, k->left_bytes ? CHUNK_DATA : CHUNK_LINE);
    case CHUNK_DATA_CR: k->step = CHUNK_DATA_LF; return c == '\r';
    case CHUNK_DATA_LF: return chunk_lf(k, c, CHUNK_SIZE);
    case CHUNK_LINE:
        k->step = c == '\r' ? CHUNK_LAST_LF : CHUNK_TRAILER;
        return c == '\r' || http1_is_token_char((unsigned char)c);
    case CHUNK_TRAILER: return chunk_trailer(k, c);
    case CHUNK_TRAILER_LF: return chunk_lf(k, c, CHUNK_LINE);
    case CHUNK_LAST_LF: return chunk_lf(k, c, CHUNK_OVER);
    case CHUNK_DATA:
    case CHUNK_OVER: break;
    }
    return false;
}

ssize_t chunks_span(struct chunks *k, const char *data, size_t n)
{
    size_t i = 0;

    while (i < n && k->step != CHUNK_OVER) {
        if (k->step == CHUNK_DATA) {
            size_t some = MIN(n - i, k->left_bytes);

            i += some;
            k->left_bytes -= some;
            if (k->left_bytes == 0)
                k->step = CHUNK_DATA_CR;
        } else if (!chunk_take(k, data[i++])) {
            return -EBADMSG;
        }
    }
    return (ssize_t)i;
}

bool chunks_are_over(const struct chunks *k)
{
    return k->step == CHUNK_OVER;
}
