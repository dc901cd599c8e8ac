/* Dials and commands. Each is an op of its own around the op of the connection it is given to, so that it can
 * outlive the connection: a dial goes back into the queue and is asked again of the next one; a command does
 * so only when the connection says that it never began. Numbers keep the order in which requests were made.
 */
#include "session/session_private.h"

#include <errno.h>

#include "base/clock.h"
#include "base/op.h"
#include "base/timer.h"

/* A command that is alone and yet refused. sshd keeps the place of a command that was given up, or has just
 * ended, until its process is gone: moments, or more where the machine is busy. */
#define REFUSED_MS           10000
#define REFUSED_PAUSE_MS     10
#define REFUSED_PAUSE_MAX_MS 500
#define BULK_BYTES           (256u << 10)

struct session_request {
    struct op op;
    struct list node;        /* in queued or started */
    struct session *session; /* NULL: freed, the answer is on its way */
    uint64_t link_number;    /* of the connection it was given to */
    unsigned refusals;       /* a command: no channel was opened for it */
    uint64_t refused_due;    /* by then, if it is alone, it is refused for good; 0: it was not refused alone */
    uint64_t again_due;      /* on this connection not asked again before */
    uint64_t pause_ms;
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

unsigned session_requests_on(const struct session_link *link)
{
    unsigned n = 0;

    LIST_FOREACH (rq, &link->session->started, struct session_request, node)
        n += rq->link_number == link->number;
    return n;
}

/* Whose streams the others wait on is not known here: on any. What is not given to a connection yet waits for
 * each that is on its way; commands among it are mostly our own, and no reason to go before others. */
void session_requests_count(struct session *s)
{
    LIST_FOREACH (link, &s->links, struct session_link, node) {
        int n = s->waiting;

        LIST_FOREACH (rq, &s->started, struct session_request, node)
            n += rq->link_number == link->number && request_waits(rq);
        LIST_FOREACH (rq, &s->queued, struct session_request, node)
            n += !ssh_conn_is_up(link->conn) && !rq->script;
        ssh_conn_waiters(link->conn, n > 0 ? (unsigned)n : 0);
    }
}

static void request_cancel(struct op *op)
{
    struct session_request *rq = CONTAINER_OF(op, struct session_request, op);
    struct session *s = rq->session;

    op_cancel(&rq->inner);
    request_free(rq);
    if (s)
        session_requests_start(s); /* its place is free */
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
        session_requests_start(s); /* its place is free */
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

/* NULL: it is gone. */
static struct session_link *request_link(const struct session_request *rq)
{
    LIST_FOREACH (link, &rq->session->links, struct session_link, node)
        if (link->number == rq->link_number)
            return link;
    return NULL;
}

/* The connection it was given to is over, or about to say so. */
static bool request_lost_its_link(const struct session_request *rq)
{
    const struct session_link *link = request_link(rq);

    return !link || !ssh_conn_is_up(link->conn);
}

/* sshd opens so many session channels per connection (MaxSessions, 10 unless told otherwise) and refuses the
 * next one; how many it never says. ending: only commands that end by themselves. */
static unsigned link_runs(const struct session_link *link, bool ending)
{
    unsigned n = 0;

    LIST_FOREACH (rq, &link->session->started, struct session_request, node)
        n += rq->script && rq->link_number == link->number && (!ending || request_waits(rq));
    return n;
}

static bool link_has_room(struct session_link *link)
{
    unsigned n = link_runs(link, false);

    if (ssh_conn_is_yielding(link->conn))
        return false;
    if (n == 0)
        link->runs_max = 0; /* what was learned may be old */
    return !link->runs_max || n < link->runs_max;
}

static bool link_takes_work(const struct session_link *link)
{
    return ssh_conn_is_up(link->conn) && !link->is_suspect && !link->is_retired;
}

/* A dial hangs in it, and all that comes after. */
static bool link_is_stalled(const struct session_link *link)
{
    uint64_t since_due = ssh_conn_dialling_due(link->conn);

    return since_due && clock_now_ms() >= since_due + SESSION_STALLED_MS;
}

/* A place comes free by itself. */
static bool session_has_ending_runs(const struct session *s, bool is_bulk)
{
    LIST_FOREACH (link, &s->links, struct session_link, node)
        if (link->is_bulk == is_bulk && link_takes_work(link) && !link_is_stalled(link) &&
            (link_runs(link, true) > 0 || ssh_conn_is_yielding(link->conn)))
            return true;
    return false;
}

/* An upload, or a stream with a large window. */
static bool request_is_bulk(const struct session_request *rq)
{
    return rq->script ? rq->spec.n_input >= BULK_BYTES : rq->window_bytes >= SSH_WINDOW_BULK;
}

/* Where the same port has been hanging: it would hang anywhere, and block one connection after the other. */
static struct session_link *request_link_hung(const struct session_request *rq)
{
    LIST_FOREACH (link, &rq->session->links, struct session_link, node)
        if (!rq->script && link_takes_work(link) && link_is_stalled(link) &&
            ssh_conn_dials(link->conn, rq->host, rq->port))
            return link;
    return NULL;
}

static struct session_link *request_link_free(const struct session_request *rq)
{
    LIST_FOREACH (link, &rq->session->links, struct session_link, node)
        if (link->is_bulk == request_is_bulk(rq) && link_takes_work(link) && !link_is_stalled(link) &&
            (!rq->script || link_has_room(link)))
            return link;
    return NULL;
}

/* NULL: one that suits it better is on its way, or a place on one comes free. An upload waits for that, which
 * costs a moment of what takes long anyway; a dial does not. */
static struct session_link *request_choose(const struct session_request *rq)
{
    struct session *s = rq->session;
    bool is_bulk = request_is_bulk(rq), found = false;
    struct session_link *link = request_link_hung(rq);

    if (!link)
        link = request_link_free(rq);
    if (link)
        return link;
    if (rq->script && session_has_ending_runs(s, is_bulk))
        return NULL;
    found = session_spare_open(s, is_bulk);
    if (is_bulk && !rq->script && !link_is_stalled(s->link))
        return s->link;
    return found ? NULL : s->link;
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

static void request_forget_refusals(struct session_request *rq)
{
    rq->refused_due = rq->again_due = rq->pause_ms = 0;
}

/* Nothing of ours has the place it was refused. */
static bool request_pauses(struct session_request *rq)
{
    uint64_t now = clock_now_ms();

    if (!rq->refused_due)
        rq->refused_due = now + REFUSED_MS;
    rq->pause_ms = MIN(MAX(2 * rq->pause_ms, REFUSED_PAUSE_MS), REFUSED_PAUSE_MAX_MS);
    rq->again_due = now + rq->pause_ms;
    return rq->again_due < rq->refused_due;
}

/* No session channel was opened for this command; whether it waits for a place. The first time it asks again
 * at once: a server that reads our close and our open in one go counts both. */
static bool request_may_wait(struct session_request *rq)
{
    struct session_link *link = request_link(rq);
    unsigned others = link ? link_runs(link, false) - 1 : 0;

    if (!link || ++rq->refusals == 1)
        return link != NULL;
    if (others == 0 && ssh_conn_yield(link->conn))
        rq->session->is_single = true;
    else if (others == 0)
        return (link->has_run || rq->session->is_single) && request_pauses(rq);
    if (others == 0)
        return true;
    request_forget_refusals(rq); /* now ours have it */
    link->runs_max = others;
    return session_has_ending_runs(rq->session, link->is_bulk) ||
           session_spare_open(rq->session, link->is_bulk);
}

/* A transient fault says that the server never told us the command runs. The script of a command without
 * input is sent only after that; one with input travels with the request itself, and may have begun. */
static void request_on_ran(void *ctx, struct run_result *result, const struct fault *f)
{
    struct session_request *rq = ctx;
    struct session_link *link = request_link(rq);
    struct fault uncertain;

    if (f && streq(f->code, "refused") && request_may_wait(rq)) {
        request_again(rq);
        return;
    }
    if (!f && link) {
        link->has_run = true;
        rq->session->is_single |= ssh_conn_is_single(link->conn);
    }
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

static void request_start(struct session_request *rq, struct session_link *link)
{
    list_remove(&rq->node);
    list_append(&rq->session->started, &rq->node);
    if (rq->link_number != link->number)
        request_forget_refusals(rq);
    rq->link_number = link->number;
    link->used_due = clock_now_ms();
    if (rq->script) {
        ssh_run(link->conn, &rq->spec, &rq->inner, request_on_ran, rq);
        return;
    }
    ssh_dial(link->conn, rq->host, rq->port, rq->window_bytes, &rq->inner, request_on_dialled, rq);
    session_spare_look_within(rq->session, SESSION_STALLED_MS);
}

/* A dial without an answer has moved no byte, and a command that has not begun none either. */
static bool request_may_move(const struct session_request *rq)
{
    return !rq->script || !ssh_run_has_begun(rq->inner);
}

/* It waits behind a dial that hangs, and need not. */
static bool request_is_blocked(const struct session_request *rq, const struct session_link *link)
{
    return link_is_stalled(link) && (rq->script || !ssh_conn_dials(link->conn, rq->host, rq->port)) &&
           (request_link_free(rq) || session_spare_open(rq->session, request_is_bulk(rq)));
}

/* A new connection is asked at once. */
static bool request_is_paused(const struct session_request *rq)
{
    struct timer *timer = rq->session->pause_timer;

    if (rq->again_due <= clock_now_ms() || !request_link(rq))
        return false;
    if (!timer_is_armed(timer) || timer_due(timer) > rq->again_due)
        timer_arm_at(timer, rq->again_due);
    return true;
}

/* From a connection that may be dead, or has stopped opening. */
static void requests_take_back(struct session *s)
{
    LIST_FOREACH_SAFE (rq, &s->started, struct session_request, node) {
        const struct session_link *link = request_link(rq);

        if (!link || !request_may_move(rq) || !(link->is_suspect || request_is_blocked(rq, link)))
            continue;
        op_cancel(&rq->inner);
        list_remove(&rq->node);
        request_queue(rq);
    }
}

void session_requests_start(struct session *s)
{
    if (s->state != SESSION_UP || !ssh_conn_is_up(s->link->conn)) {
        session_requests_count(s);
        return;
    }
    requests_take_back(s);
    LIST_FOREACH_SAFE (rq, &s->queued, struct session_request, node) {
        struct session_link *link = request_is_paused(rq) ? NULL : request_choose(rq);

        if (link)
            request_start(rq, link);
    }
    session_requests_count(s);
}

void session_on_pause_timer(void *ctx)
{
    session_requests_start(ctx);
}

/* If the login fails after all, each is queued again. */
bool session_requests_go_ahead(struct session *s)
{
    bool any = false;

    LIST_FOREACH_SAFE (rq, &s->queued, struct session_request, node)
        if (!rq->script && !request_is_bulk(rq)) {
            request_start(rq, s->link);
            any = true;
        }
    session_requests_count(s);
    return any;
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
