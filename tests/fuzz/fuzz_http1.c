/* links: gateway
 * HTTP/1 messages in two lengths of pieces: whatever the bytes, both readings come to the same end, and the
 * library never disagrees with our own count of where a body ends without the message being refused.
 *
 * The first byte chooses: its lowest bit a request or an answer, the rest the length of the pieces. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "gateway/http1.h"
#include "proto/buf.h"

struct reading {
    int r; /* of the last call, 2: ended with the connection */
    size_t used;
    struct buf body;
};

static int read_piece(struct http1 *h, struct reading *v, const char *data, size_t n)
{
    size_t used = 0;
    int r;

    if (http1_get_head(h)) {
        r = http1_read_body(h, data, n, &v->body, &used);
    } else {
        r = http1_read_head(h, data, n, &used);
        if (r == 1)
            r = http1_get_head(h)->framing == HTTP1_NO_BODY;
    }
    if (used > n)
        abort();
    v->used += used;
    return r;
}

static void read_message(enum http1_kind kind, const char *data, size_t n, size_t step, struct reading *ret)
{
    struct http1 *h = http1_new(kind);

    *ret = (struct reading){0};
    buf_init(&ret->body, 1 << 20);
    while (ret->r == 0 && ret->used < n)
        ret->r = read_piece(h, ret, data + ret->used, n - ret->used < step ? n - ret->used : step);
    if (ret->r == 0 && http1_get_head(h) && http1_read_end(h) == 0)
        ret->r = 2;
    if (ret->r < 0 && !http1_get_refusal(h)->status)
        abort();
    http1_free(h);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    struct reading whole, pieces;
    enum http1_kind kind;

    if (n < 2)
        return 0;
    kind = data[0] & 1 ? HTTP1_ANSWER : HTTP1_REQUEST;
    read_message(kind, (const char *)data + 1, n - 1, n, &whole);
    read_message(kind, (const char *)data + 1, n - 1, 1 + (data[0] >> 1), &pieces);
    if (whole.r != pieces.r)
        abort();
    if (whole.r > 0 && (whole.used != pieces.used || whole.body.len != pieces.body.len ||
                        (whole.body.len && memcmp(whole.body.data, pieces.body.data, whole.body.len) != 0)))
        abort();
    buf_done(&whole.body);
    buf_done(&pieces.body);
    return 0;
}
