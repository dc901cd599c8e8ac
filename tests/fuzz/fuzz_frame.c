/* A stream of messages, whole and in pieces: the same frames come out. What reads as a call or a reply reads
 * the same after it was written. */
#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "proto/buf.h"
#include "proto/json.h"
#include "proto/varlink.h"
#include "tests/fuzz/json_same.h"

static void check_written(const struct buf *first, const struct buf *second)
{
    if (first->len != second->len || memcmp(first->data, second->data, first->len) != 0)
        abort();
}

static void check_call(const char *text, size_t n)
{
    struct varlink_call call, again;
    struct buf first, second;

    if (varlink_call_parse(text, n, &call) < 0)
        return;
    buf_init(&first, 2 * VARLINK_MESSAGE_BYTES_MAX);
    buf_init(&second, 2 * VARLINK_MESSAGE_BYTES_MAX);
    if (varlink_call_write(&first, call.method, call.parameters, call.more, call.oneway) == 0) {
        if (varlink_call_parse(first.data, first.len - 1, &again) < 0 ||
            varlink_call_write(&second, again.method, again.parameters, again.more, again.oneway) < 0)
            abort();
        if (strcmp(call.method, again.method) != 0 || call.more != again.more ||
            call.oneway != again.oneway || !json_same(call.parameters, again.parameters))
            abort();
        check_written(&first, &second);
        varlink_call_done(&again);
    }
    varlink_call_done(&call);
    buf_done(&first);
    buf_done(&second);
}

static int reply_write(struct buf *out, const struct varlink_reply *r)
{
    return r->error ? varlink_error_write(out, r->error, r->parameters)
                    : varlink_reply_write(out, r->parameters, r->continues);
}

static void check_reply(const char *text, size_t n)
{
    struct varlink_reply reply, again;
    struct buf first, second;

    if (varlink_reply_parse(text, n, &reply) < 0)
        return;
    buf_init(&first, 2 * VARLINK_MESSAGE_BYTES_MAX);
    buf_init(&second, 2 * VARLINK_MESSAGE_BYTES_MAX);
    if (reply_write(&first, &reply) == 0) {
        if (varlink_reply_parse(first.data, first.len - 1, &again) < 0 || reply_write(&second, &again) < 0)
            abort();
        if (reply.continues != again.continues || !reply.error != !again.error ||
            (reply.error && strcmp(reply.error, again.error) != 0) ||
            !json_same(reply.parameters, again.parameters))
            abort();
        check_written(&first, &second);
        varlink_reply_done(&again);
    }
    varlink_reply_done(&reply);
    buf_done(&first);
    buf_done(&second);
}

/* All frames that are whole, each followed by a newline. */
static void read_frames(const uint8_t *data, size_t n, size_t piece, struct buf *out)
{
    struct buf in;
    const char *text;
    size_t length;

    buf_init(&in, SIZE_MAX);
    for (size_t at = 0; at < n; at += piece) {
        if (buf_add(&in, data + at, MIN(piece, n - at)) < 0)
            abort();
        for (; varlink_frame(&in, &text, &length) == 1; buf_drop(&in, length + 1)) {
            if (memchr(text, '\0', length) || text[length] != '\0')
                abort();
            if (buf_add(out, text, length) < 0 || buf_add(out, "\n", 1) < 0)
                abort();
            if (piece > n) {
                check_call(text, length);
                check_reply(text, length);
            }
        }
    }
    buf_done(&in);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    struct buf whole, pieces;

    buf_init(&whole, SIZE_MAX);
    buf_init(&pieces, SIZE_MAX);
    read_frames(data, n, n + 1, &whole);
    read_frames(data, n, 1 + n % 11, &pieces);
    if (whole.len != pieces.len || (whole.len && memcmp(whole.data, pieces.data, whole.len) != 0))
        abort();
    buf_done(&whole);
    buf_done(&pieces);
    return 0;
}
