/* Dials and commands. Each is an op of its own around the op of the connection it is given to, so that it can
 * outlive the connection: a dial goes back into the queue and is asked again of the next one; a command does
 * so only when the connection says that it never began. Numbers keep the order in which requests were made.
 */
#include "session/session_private.h"

#include <errno.h>

#include "base/op.h"

struct session_request {
    struct op op;
    struct list node;        /* in queued or started */
    struct session *session; /* NULL: freed, the answer is on its way */
    uint64_t link_number;    /* of the connection it was given to */
    struct op *inner;
    struct work gone;
    uint64_t number;
    char *host; /* a dial */
    uint16_t port;
    uint32_t window_bytes;
    ssh_dial_fn dialled;
    char *script; /* a command */
    struct run_spec spec;
    void (*on_output)(void *ctx, const char *data, size_t n);
    run_done_fn ran;
    void *ctx;
};

static struct session_request *request_free(struct session_request *rq)
{
    list_remove(&rq->node);
    runq_drop(&rq->gone);
    free(rq->host);
    free(rq->script);
    free(rq);
    return NULL;
}

/* Somebody waits for each of these, but for a command that may go on for ever (tail -f): it may be silent for
 * hours. */
static bool request_waits(const struct session_request *rq)
{
    return !rq->script || rq->spec.timeout_ms != UINT64_MAX;
}

void session_requests_count(struct session *s)
{
    int n = s->waiting;

    if (s->state != SESSION_UP)
        return;
    LIST_FOREACH (rq, &s->started, struct session_request, node)
        n += request_waits(rq);
    ssh_conn_waiters(s->link->conn, n > 0 ? (unsigned)n : 0);
}

static void request_cancel(struct op *op)
{
    struct session_request *rq = CONTAINER_OF(op, struct session_request, op);
    struct session *s = rq->session;

    op_cancel(&rq->inner);
    request_free(rq);
    if (s)
        session_requests_count(s);
}

/* The owner may free the session in its done(): nothing comes after it. */
static void request_finish(struct session_request *rq, struct stream *stream, struct run_result *result,
                           const struct fault *f)
{
    ssh_dial_fn dialled = rq->dialled;
    run_done_fn ran = rq->ran;
    struct session *s = rq->session;
    void *ctx = rq->ctx;

    op_end(&rq->op);
    request_free(rq);
    if (s)
        session_requests_count(s);
    if (dialled)
        dialled(ctx, stream, f);
    else
        ran(ctx, result, f);
}

static void request_on_gone(void *ctx)
{
    struct fault f;

    fault_set(&f, FAULT_GONE, -ECANCELED, "the way to the machine was given up");
    request_finish(ctx, NULL, NULL, &f);
}

/* The connection it was given to is over, or about to say so. */
static bool request_lost_its_link(const struct session_request *rq)
{
    const struct session_link *link = rq->session->link;

    return !link || rq->link_number != link->number || !ssh_conn_is_up(link->conn);
}

static void request_queue(struct session_request *rq)
{
    struct list *before = &rq->session->queued;

    LIST_FOREACH (other, &rq->session->queued, struct session_request, node)
        if (other->number > rq->number) {
            before = &other->node;
            break;
        }
    list_append(before, &rq->node);
}

static void request_again(struct session_request *rq)
{
    list_remove(&rq->node);
    request_queue(rq);
    session_requests_start(rq->session);
}

static void request_on_dialled(void *ctx, struct stream *stream, const struct fault *f)
{
    struct session_request *rq = ctx;
    bool answered = f && (streq(f->code, "refused") || streq(f->code, "forbidden"));

    if (f && !answered && request_lost_its_link(rq))
        request_again(rq);
    else
        request_finish(rq, stream, NULL, f);
}

/* A transient fault says that the server never told us the command runs. The script of a command without
 * input is sent only after that; one with input travels with the request itself, and may have begun. */
static void request_on_ran(void *ctx, struct run_result *result, const struct fault *f)
{
    struct session_request *rq = ctx;
    struct fault uncertain;

    if (f && f->kind == FAULT_TRANSIENT && request_lost_its_link(rq)) {
        if (!rq->spec.input) {
            request_again(rq);
            return;
        }
        uncertain = *f;
        uncertain.kind = FAULT_UNCERTAIN;
        f = &uncertain;
    }
    request_finish(rq, NULL, result, f);
}

static void request_on_output(void *ctx, const char *data, size_t n)
{
    struct session_request *rq = ctx;

    rq->on_output(rq->ctx, data, n);
}

static void request_start(struct session_request *rq)
{
    struct session *s = rq->session;

    list_remove(&rq->node);
    list_append(&s->started, &rq->node);
    rq->link_number = s->link->number;
    if (rq->script)
        ssh_run(s->link->conn, &rq->spec, &rq->inner, request_on_ran, rq);
    else
        ssh_dial(s->link->conn, rq->host, rq->port, rq->window_bytes, &rq->inner, request_on_dialled, rq);
}

void session_requests_start(struct session *s)
{
    struct session_request *rq;

    if (s->state != SESSION_UP || !ssh_conn_is_up(s->link->conn))
        return;
    while ((rq = LIST_FIRST(&s->queued, struct session_request, node)))
        request_start(rq);
    session_requests_count(s);
}

static void requests_abandon(struct session *s, struct list *from)
{
    struct session_request *rq;

    while ((rq = LIST_FIRST(from, struct session_request, node))) {
        op_cancel(&rq->inner);
        list_remove(&rq->node);
        rq->session = NULL;
        runq_add(s->loop, &rq->gone);
    }
}

void session_requests_abandon(struct session *s)
{
    requests_abandon(s, &s->started);
    requests_abandon(s, &s->queued);
}

static struct session_request *request_new(struct session *s, struct op **slot, void *ctx)
{
    struct session_request *rq = xnew(struct session_request);

    op_begin(&rq->op, slot, request_cancel);
    list_init(&rq->node);
    work_init(&rq->gone, request_on_gone, rq);
    rq->session = s;
    rq->number = s->requests++;
    rq->ctx = ctx;
    return rq;
}

void session_dial(struct session *s, const char *host, uint16_t port, uint32_t window_bytes, struct op **slot,
                  ssh_dial_fn done, void *ctx)
{
    struct session_request *rq = request_new(s, slot, ctx);

    rq->host = xstrdup(host);
    rq->port = port;
    rq->window_bytes = window_bytes;
    rq->dialled = done;
    request_queue(rq);
    session_requests_start(s);
}

void session_run(struct session *s, const struct run_spec *spec, struct op **slot, run_done_fn done,
                 void *ctx)
{
    struct session_request *rq = request_new(s, slot, ctx);

    rq->script = xstrdup(spec->script);
    rq->spec = *spec;
    rq->spec.script = rq->script;
    rq->on_output = spec->on_output;
    rq->spec.on_output = spec->on_output ? request_on_output : NULL;
    rq->ran = done;
    request_queue(rq);
    session_requests_start(s);
}

void session_waiting(struct session *s, int change)
{
    s->waiting += change;
    session_requests_count(s);
}
