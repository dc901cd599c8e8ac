/* Nothing is freed from inside a call: a connection that is over closes its stream and leaves the rest,
 * request included, to the run queue at the end of the turn. So the request may call client_send() without
 * asking each time what became of us. What it sends in one turn leaves in one write: the head of an answer,
 * what there is of its body and its end would else wake the application three times. */
#include "gateway/client.h"

#include <errno.h>
#include <string.h>

#include "base/clock.h"
#include "base/stream.h"
#include "base/timer.h"
#include "gateway/dialect.h"
#include "gateway/gateway_private.h"
#include "gateway/http1.h"
#include "gateway/request.h"
#include "proto/buf.h"

#define READ_BYTES (64u << 10)

enum client_state {
    CLIENT_HEAD, /* between requests, or in a head */
    CLIENT_BODY,
    CLIENT_ANSWER, /* what comes meanwhile waits in c->in */
    CLIENT_LINGER, /* our side is closed; what still comes is thrown away */
};

struct client {
    struct list node;
    struct gateway *gateway;
    struct stream *stream; /* NULL: over, about to be freed */
    struct http1 *http;
    struct timer *timer;
    struct work work, flush;
    struct buf in, out;
    struct request *request;
    enum client_state state;
    bool closes;   /* after this answer */
    bool answered; /* the answer is complete but perhaps still in c->out */
    bool unread;   /* the body was not read to its end */
    size_t body_bytes; /* since the timer was armed */
};

static void client_process(struct client *c);

/* ---- its end ---- */

struct client *client_free(struct client *c)
{
    if (!c)
        return NULL;
    runq_drop(&c->work);
    runq_drop(&c->flush);
    stream_free(c->stream, true);
    c->stream = NULL;
    c->request = request_free(c->request);
    list_remove(&c->node);
    timer_free(c->timer);
    http1_free(c->http);
    buf_wipe(&c->in);
    buf_done(&c->out);
    gateway_client_gone(c->gateway);
    free(c);
    return NULL;
}

static void client_close(struct client *c, bool reset)
{
    if (!c->stream)
        return;
    c->stream = stream_free(c->stream, reset);
    timer_disarm(c->timer);
    runq_drop(&c->flush);
    runq_add(c->gateway->loop, &c->work);
}

/* ---- wanting ---- */

static void client_update(struct client *c)
{
    bool in = c->state != CLIENT_ANSWER || c->in.len < CLIENT_EARLY_MAX;

    if (c->stream)
        stream_want(c->stream, (in ? STREAM_IN : 0) | (c->out.len > 0 ? STREAM_OUT : 0));
}

/* Our side is closed first and theirs waited for: closing with bytes of theirs unread would reset the
 * connection, and the answer with it. */
static void client_linger(struct client *c)
{
    c->state = CLIENT_LINGER;
    buf_wipe(&c->in);
    stream_shutdown(c->stream);
    timer_arm(c->timer, CLIENT_LINGER_MS);
    client_update(c);
}

/* Everything has been taken by the other side. */
static void client_on_drained(struct client *c)
{
    if (!c->answered)
        return;
    c->answered = false;
    if (c->closes || c->unread) {
        client_linger(c);
        return;
    }
    runq_add(c->gateway->loop, &c->work);
}

/* ---- out ---- */

static void client_flush(struct client *c)
{
    bool was_full = client_is_full(c);

    while (c->stream && c->out.len > 0) {
        ssize_t n = stream_write(c->stream, c->out.data, c->out.len);

        if (n == -EAGAIN)
            break;
        if (n < 0) {
            client_close(c, true);
            return;
        }
        buf_drop(&c->out, (size_t)n);
    }
    if (!c->stream)
        return;
    if (c->out.len == 0)
        buf_done(&c->out);
    client_update(c);
    if (was_full && c->request && c->out.len <= CLIENT_OUT_LOW)
        request_resume(c->request);
}

void client_send(struct client *c, const void *data, size_t n)
{
    if (!c->stream)
        return;
    if (buf_add(&c->out, data, n) < 0) {
        client_close(c, true);
        return;
    }
    if (c->out.len >= CLIENT_OUT_LOW)
        client_flush(c);
    else
        runq_add(c->gateway->loop, &c->flush);
}

static void client_on_flush(void *ctx)
{
    struct client *c = ctx;

    client_flush(c);
    if (c->stream && c->out.len == 0)
        client_on_drained(c);
}

void client_abort(struct client *c)
{
    client_flush(c);
    client_close(c, true);
}

bool client_is_full(const struct client *c)
{
    return c->out.len >= CLIENT_OUT_HIGH;
}

bool client_closes(const struct client *c)
{
    return c->closes || c->unread;
}

bool client_is_old(const struct client *c)
{
    const struct http1_head *head = http1_get_head(c->http);

    return head && head->minor == 0;
}

void client_answered(struct client *c)
{
    c->answered = true;
    c->state = CLIENT_ANSWER;
    if (c->stream && c->out.len == 0)
        client_on_drained(c);
}

void client_end(struct client *c)
{
    c->closes = true;
    client_answered(c);
}

/* ---- in ---- */

/* A head that cannot be trusted: whose words these are, and where the next request begins, is anybody's
 * guess. */
static void client_refuse_head(struct client *c)
{
    const struct http1_refusal *why = http1_get_refusal(c->http);

    c->gateway->figures.refused++;
    c->closes = true;
    c->unread = true;
    c->state = CLIENT_ANSWER;
    timer_disarm(c->timer);
    request_reply_bare(c, why->status, why->text);
    client_answered(c);
}

static void client_begin_body(struct client *c)
{
    const struct http1_head *head = http1_get_head(c->http);
    static const char go_on[] = "HTTP/1.1 100 Continue\r\n\r\n";

    c->state = CLIENT_BODY;
    c->body_bytes = 0;
    timer_arm(c->timer, CLIENT_BODY_MS);
    if (head->minor > 0 && c->in.len == 0 && http1_field_lists(head, "Expect", "100-continue"))
        client_send(c, go_on, sizeof(go_on) - 1);
}

static void client_end_body(struct client *c)
{
    c->state = CLIENT_ANSWER;
    c->unread = false;
    timer_disarm(c->timer);
    request_body_over(c->request);
}

static void client_begin_request(struct client *c)
{
    const struct http1_head *head = http1_get_head(c->http);
    bool has_body = head->framing != HTTP1_NO_BODY;

    c->gateway->figures.requests++;
    c->closes = head->minor == 0 || !head->keep_alive;
    c->unread = has_body;
    c->state = CLIENT_ANSWER; /* in case it is answered at once */
    timer_disarm(c->timer);
    c->request = request_new(c->gateway, c, head);
    if (!request_begin(c->request))
        return;
    if (has_body)
        client_begin_body(c);
    else
        client_end_body(c);
}

/* 1: go on; 0: wait for more. */
static int client_take_head(struct client *c)
{
    bool had_begun = http1_has_begun(c->http);
    size_t used = 0;
    int r = http1_read_head(c->http, c->in.data, c->in.len, &used);

    explicit_bzero(c->in.data, used); /* with the key in it */
    buf_drop(&c->in, used);
    if (r < 0)
        client_refuse_head(c);
    else if (r > 0)
        client_begin_request(c);
    else if (!had_begun && http1_has_begun(c->http))
        timer_arm(c->timer, CLIENT_HEAD_MS);
    return r > 0;
}

static int client_take_body(struct client *c)
{
    struct buf piece;
    size_t used = 0;
    int r;

    buf_init(&piece, READ_BYTES + CLIENT_EARLY_MAX);
    r = http1_read_body(c->http, c->in.data, c->in.len, &piece, &used);
    buf_drop(&c->in, used);
    c->body_bytes += used;
    if (c->body_bytes >= CLIENT_BODY_MIN) {
        c->body_bytes = 0;
        timer_arm(c->timer, CLIENT_BODY_MS);
    }
    if (r < 0) {
        request_body_broken(c->request, http1_get_refusal(c->http));
        c->closes = true;
    } else if (piece.len == 0 || request_body(c->request, piece.data, piece.len)) {
        if (r > 0)
            client_end_body(c);
    }
    buf_done(&piece);
    return r;
}

static void client_process(struct client *c)
{
    int r = 1;

    while (c->stream && c->in.len > 0 && r > 0) {
        if (c->state == CLIENT_HEAD)
            r = client_take_head(c);
        else if (c->state == CLIENT_BODY)
            r = client_take_body(c);
        else
            break;
    }
    if (c->state == CLIENT_LINGER)
        buf_wipe(&c->in); /* a head may be among what is not read any more */
    if (c->in.len == 0)
        buf_done(&c->in);
    client_update(c);
}

/* The application has closed. Whoever closes its side before the answer is there has left: TCP cannot tell it
 * from one who said all, the engines themselves and nginx take it so too, and else a machine would be woken,
 * or a whole answer made, for nobody. */
static void client_on_end(struct client *c)
{
    client_close(c, c->state == CLIENT_BODY || c->state == CLIENT_ANSWER);
}

static void client_read(struct client *c)
{
    char scratch[READ_BYTES];
    size_t room = c->state == CLIENT_ANSWER ? CLIENT_EARLY_MAX - c->in.len : sizeof(scratch);
    ssize_t n = stream_read(c->stream, scratch, room);
    int r;

    if (n == -EAGAIN)
        return;
    if (n <= 0) {
        client_on_end(c);
        return;
    }
    r = buf_add(&c->in, scratch, (size_t)n);
    explicit_bzero(scratch, (size_t)n); /* a head, with the key in it; behind a body stands the next one */
    if (r < 0)
        client_close(c, true);
    else
        client_process(c);
}

static void client_on_ready(void *ctx, unsigned what)
{
    struct client *c = ctx;

    if (what & STREAM_OUT) {
        client_flush(c);
        if (c->stream && c->out.len == 0)
            client_on_drained(c);
    }
    if (c->stream && (what & STREAM_IN) && (c->state != CLIENT_ANSWER || c->in.len < CLIENT_EARLY_MAX))
        client_read(c);
}

/* ---- turns ---- */

static void client_next(struct client *c)
{
    c->request = request_free(c->request);
    http1_next(c->http);
    c->state = CLIENT_HEAD;
    list_remove(&c->node);
    list_append(&c->gateway->clients, &c->node);
    timer_arm(c->timer, CLIENT_IDLE_MS);
    client_process(c);
}

static void client_on_work(void *ctx)
{
    struct client *c = ctx;

    if (c->stream)
        client_next(c);
    else
        client_free(c);
}

/* Too slow, too late, or simply idle: there is nobody to explain it to. */
static void client_on_timer(void *ctx)
{
    struct client *c = ctx;

    client_close(c, c->state == CLIENT_BODY);
}

struct client *client_new(struct gateway *g, struct stream *s)
{
    struct http1 *http = http1_new(HTTP1_REQUEST);
    struct client *c;

    if (!http) {
        stream_free(s, true);
        return NULL;
    }
    c = xnew(struct client);
    c->gateway = g;
    c->stream = s;
    c->http = http;
    c->timer = timer_new(g->loop, client_on_timer, c);
    work_init(&c->work, client_on_work, c);
    work_init(&c->flush, client_on_flush, c);
    buf_init(&c->in, READ_BYTES + CLIENT_EARLY_MAX);
    buf_init(&c->out, 4 * CLIENT_OUT_HIGH + (4u << 20)); /* the longest answer of our own at once */
    list_init(&c->node);
    list_append(&g->clients, &c->node);
    stream_watch(s, client_on_ready, c);
    timer_arm(c->timer, CLIENT_HEAD_MS);
    client_update(c);
    return c;
}

struct client *client_of_node(struct list *node)
{
    return CONTAINER_OF(node, struct client, node);
}

bool client_may_go(const struct client *c)
{
    return c->stream && c->state == CLIENT_HEAD;
}

void client_look_elsewhere(struct client *c, const struct deployment *d)
{
    if (c->stream && c->request)
        request_look_elsewhere(c->request, d);
}

void client_deployment_changed(struct client *c, struct deployment *d, bool gone)
{
    if (c->stream && c->request)
        request_deployment_changed(c->request, d, gone);
}

void client_cut(struct client *c)
{
    c->closes = true;
    if (c->stream && c->request && !c->answered)
        request_cut(c->request, "shutting_down", "llmhostd is being stopped");
    client_flush(c);
    if (c->stream && c->out.len == 0)
        c->stream = stream_free(c->stream, false);
}
