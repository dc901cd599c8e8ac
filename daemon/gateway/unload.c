/* A request of our own over a connection of its own, as any application could make it. */
#include "gateway/unload.h"

#include <errno.h>

#include "base/fault.h"
#include "base/timer.h"
#include "deployment/deployment.h"
#include "engine/engine.h"
#include "gateway/http1.h"
#include "gateway/upstream.h"
#include "proto/buf.h"
#include "proto/json.h"
#include "proto/mem.h"

#define ASK_BYTES_MAX 4096

struct unload {
    struct op op;
    struct deployment *deployment;
    struct op *dial;
    struct upstream *upstream;
    struct timer *timer;
    unsigned status; /* of the answer */
    op_done_fn done;
    void *ctx;
};

static void unload_free(struct unload *u)
{
    op_cancel(&u->dial);
    upstream_free(u->upstream, true);
    timer_free(u->timer);
    free(u);
}

static void unload_cancel(struct op *op)
{
    unload_free(CONTAINER_OF(op, struct unload, op));
}

static void unload_end(struct unload *u, const struct fault *f)
{
    op_done_fn done = u->done;
    void *ctx = u->ctx;

    op_end(&u->op);
    unload_free(u);
    done(ctx, f);
}

static void unload_fail(struct unload *u, const char *why)
{
    struct fault f;

    fault_set(&f, FAULT_UNCERTAIN, -EIO, "%s was asked to unload: %s", deployment_id(u->deployment), why);
    unload_end(u, &f);
}

static void on_timer(void *ctx)
{
    unload_fail(ctx, "no answer");
}

static void on_head(void *ctx, const struct http1_head *head)
{
    struct unload *u = ctx;

    u->status = head->status;
}

static void on_data(void *ctx, const char *data, size_t n)
{
    (void)ctx;
    (void)data;
    (void)n;
}

static void on_end(void *ctx)
{
    struct unload *u = ctx;

    if (u->status == 200)
        unload_end(u, NULL);
    else
        unload_fail(u, "it refused");
}

static void on_lost(void *ctx, int error)
{
    (void)error;
    unload_fail(ctx, "the connection was lost");
}

/* Head and body in one. NULL: no memory. */
static char *unload_text(const struct deployment *d, size_t *ret_n)
{
    _cleanup_json_ struct json *ask = json_object();
    struct buf body, all;

    buf_init(&body, ASK_BYTES_MAX);
    buf_init(&all, ASK_BYTES_MAX);
    json_put_string(ask, "model", deployment_id(d));
    json_put_int(ask, "keep_alive", 0);
    json_write(ask, &body);
    buf_addf(&all,
             "POST /api/generate HTTP/1.1\r\nHost: 127.0.0.1:%u\r\nContent-Type: application/json\r\n"
             "Content-Length: %zu\r\nConnection: close\r\n\r\n",
             deployment_facts(d)->port, body.len);
    buf_add(&all, body.data, body.len);
    buf_done(&body);
    *ret_n = all.len;
    return buf_take(&all);
}

static void on_dialed(void *ctx, struct stream *s, const struct fault *f)
{
    struct unload *u = ctx;
    const struct upstream_events events = {on_head, on_data, on_end, on_lost, u};
    size_t n;
    char *text;

    if (f) {
        unload_end(u, f);
        return;
    }
    text = unload_text(u->deployment, &n);
    u->upstream = upstream_new(s, text, n, NULL, &events);
}

void unload_begin(struct loop *l, struct deployment *d, struct op **slot, op_done_fn done, void *ctx)
{
    struct unload *u = xnew(struct unload);

    u->deployment = d;
    u->done = done;
    u->ctx = ctx;
    u->timer = timer_new(l, on_timer, u);
    timer_arm(u->timer, UNLOAD_MS);
    op_begin(&u->op, slot, unload_cancel);
    deployment_dial(d, &u->dial, on_dialed, u);
}
