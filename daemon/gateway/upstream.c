/* One request over one connection to an engine: head and body out as the connection takes them, the answer in
 * through the parser. When it is over and the engine keeps the connection open, the stream is handed on to
 * the pool. */
#include "gateway/upstream.h"

#include <errno.h>

#include "base/clock.h"
#include "base/stream.h"
#include "gateway/body.h"
#include "gateway/http1.h"
#include "proto/buf.h"
#include "proto/mem.h"

#define READ_BYTES      (16u << 10)
#define READS_PER_TURN  4
#define WRITES_PER_TURN 4

struct upstream {
    struct stream *stream;
    char *head;
    size_t n_head;
    const struct body *body;
    uint64_t size, sent; /* of head and body */
    uint64_t progress_due;
    uint64_t answer_bytes;
    struct http1 *answer; /* NULL: no memory, which is told from the loop */
    struct upstream_events events;
    bool paused, ended;
};

static void upstream_update(struct upstream *u)
{
    stream_want(u->stream, (u->paused ? 0 : STREAM_IN) | (u->sent < u->size ? STREAM_OUT : 0));
}

/* ---- out ---- */

/* The next bytes to send, of the head and behind it of the body: what is small leaves in one piece. 0 or
 * negative errno. */
static ssize_t next_bytes(const struct upstream *u, char *to, size_t n)
{
    size_t of_head = u->sent < u->n_head ? MIN(n, u->n_head - (size_t)u->sent) : 0;
    ssize_t of_body = 0;

    memcpy(to, u->head + (of_head > 0 ? u->sent : 0), of_head);
    if (u->body && of_head < n)
        of_body = body_read(u->body, u->sent + of_head - u->n_head, to + of_head, n - of_head);
    if (of_body < 0)
        return of_head > 0 ? (ssize_t)of_head : of_body;
    return (ssize_t)of_head + of_body;
}

static ssize_t write_some(struct upstream *u)
{
    char scratch[READ_BYTES];
    ssize_t n = next_bytes(u, scratch, sizeof(scratch));

    if (n <= 0)
        return n < 0 ? n : -EIO;
    n = stream_write(u->stream, scratch, (size_t)n);
    if (n > 0) {
        u->sent += (uint64_t)n;
        u->progress_due = clock_now_ms();
    }
    return n;
}

/* 0, or why it broke. An engine that answers before it has read everything may close its side: then the
 * answer counts. */
static int upstream_write(struct upstream *u)
{
    for (int i = 0; i < WRITES_PER_TURN && u->sent < u->size; i++) {
        ssize_t n = write_some(u);

        if (n == -EAGAIN)
            break;
        if (n == -EPIPE && u->answer_bytes > 0) {
            u->size = u->sent;
            u->ended = true; /* never to be used again */
            break;
        }
        if (n < 0)
            return (int)n;
    }
    upstream_update(u);
    return 0;
}

/* ---- in ---- */

/* The head may be one of those that only announce another. 1: go on with the body. */
static int read_head(struct upstream *u, const char *data, size_t n, size_t *ret_used)
{
    int r = http1_read_head(u->answer, data, n, ret_used);
    const struct http1_head *head = http1_get_head(u->answer);

    if (r <= 0)
        return r < 0 ? -EPROTO : 0;
    if (head->status == 101)
        return -EPROTO;
    if (head->status < 200) {
        http1_next(u->answer);
        return 0;
    }
    u->events.head(u->events.ctx, head);
    return 1;
}

/* 1: the answer is over. */
static int take(struct upstream *u, const char *data, size_t n)
{
    struct buf out;
    size_t used;
    int r = 0;

    while (n > 0 && !http1_get_head(u->answer)) {
        r = read_head(u, data, n, &used);
        if (r < 0)
            return r;
        data += used;
        n -= used;
    }
    if (!http1_get_head(u->answer))
        return 0;
    buf_init(&out, READ_BYTES);
    r = http1_read_body(u->answer, data, n, &out, &used);
    if (used < n)
        u->ended = true; /* more than was asked for: what follows could be anybody's answer */
    if (out.len > 0 && r >= 0)
        u->events.data(u->events.ctx, out.data, out.len);
    buf_done(&out);
    return r == -EBADMSG ? -EPROTO : r;
}

/* The peer has closed: the end of some answers, the loss of all others. */
static int take_end(struct upstream *u)
{
    u->ended = true;
    return http1_get_head(u->answer) && http1_read_end(u->answer) == 0 ? 1 : -ECONNABORTED;
}

static int upstream_read(struct upstream *u)
{
    char scratch[READ_BYTES];
    int r = 0;

    for (int i = 0; i < READS_PER_TURN && !u->paused && r == 0; i++) {
        ssize_t n = stream_read(u->stream, scratch, sizeof(scratch));

        if (n == -EAGAIN)
            break;
        if (n < 0)
            return (int)n;
        u->answer_bytes += (uint64_t)n;
        r = n == 0 ? take_end(u) : take(u, scratch, (size_t)n);
    }
    return r;
}

static void upstream_on_ready(void *ctx, unsigned what)
{
    struct upstream *u = ctx;
    int r = u->answer ? 0 : -ENOMEM, w = 0;

    if (r == 0 && (what & STREAM_OUT))
        w = upstream_write(u);
    if (r == 0 && ((what & STREAM_IN) || w < 0)) /* a broken way out may still have an answer on the way in */
        r = upstream_read(u);
    if (r == 0)
        r = w;
    if (r == 1) {
        u->events.end(u->events.ctx);
    } else if (r < 0) {
        stream_want(u->stream, 0);
        u->events.lost(u->events.ctx, r == -ECONNABORTED ? 0 : r);
    }
}

/* ---- its life ---- */

struct upstream *upstream_new(struct stream *s, char *head, size_t n_head, const struct body *body,
                              const struct upstream_events *events)
{
    struct upstream *u = xnew(struct upstream);

    u->stream = s;
    u->head = head;
    u->n_head = n_head;
    u->body = body;
    u->size = n_head + (body ? body_size(body) : 0);
    u->events = *events;
    u->answer = http1_new(HTTP1_ANSWER);
    u->progress_due = clock_now_ms();
    stream_watch(s, upstream_on_ready, u);
    if (u->answer)
        upstream_write(u); /* at once; if it fails it fails again, from the loop */
    upstream_update(u);
    return u;
}

struct upstream *upstream_free(struct upstream *u, bool reset)
{
    if (!u)
        return NULL;
    stream_free(u->stream, reset);
    http1_free(u->answer);
    free(u->head);
    free(u);
    return NULL;
}

struct stream *upstream_take_stream(struct upstream *u)
{
    const struct http1_head *head = u->answer ? http1_get_head(u->answer) : NULL;

    if (!head || !head->keep_alive || u->ended || u->sent < u->size)
        return NULL;
    return TAKE_PTR(u->stream);
}

void upstream_pause(struct upstream *u, bool paused)
{
    if (u->paused == paused)
        return;
    u->paused = paused;
    upstream_update(u);
}

uint64_t upstream_sent_bytes(const struct upstream *u)
{
    return u->sent;
}

bool upstream_is_sent(const struct upstream *u)
{
    return u->sent == u->size;
}

uint64_t upstream_progress_due(const struct upstream *u)
{
    return u->progress_due;
}

uint64_t upstream_answer_bytes(const struct upstream *u)
{
    return u->answer_bytes;
}

bool upstream_is_local(const struct upstream *u)
{
    return stream_fd(u->stream) >= 0;
}
