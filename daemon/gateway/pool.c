/* Idle connections wait here for the next request, newest first; each is watched, so one that its engine
 * closes leaves at once. A timer dials a new one when the last was taken or ended, while the model has been
 * asked lately.
 *
 * For requests that wait as many connections are dialed as there are requests, but none belongs to one of
 * them: whatever comes, new or given back, goes to the oldest. */
#include "gateway/pool.h"

#include <errno.h>

#include "base/clock.h"
#include "base/stream.h"
#include "base/timer.h"
#include "deployment/deployment.h"

struct idle {
    struct list node;
    struct pool *pool;
    struct stream *stream;
    uint64_t since_due;
};

/* A request that waits for a connection, and a connection on its way for one. */
struct want {
    struct op op;
    struct list node;
    struct pool *pool;
    uint64_t turn;
    bool fresh;
    pool_done_fn done;
    void *ctx;
};

struct dialing {
    struct list node;
    struct pool *pool;
    struct op *op;
    unsigned number; /* of the server it leads to */
};

struct pool {
    struct list node;
    struct loop *loop;
    struct deployment *deployment;
    struct list idles; /* the one used last in front */
    unsigned n_idle;
    unsigned number;      /* of the server the idle ones lead to */
    struct list wants;    /* by turn */
    struct list dialings; /* oldest first */
    unsigned n_wants, n_dialings;
    struct work serve;
    struct op *dial;
    struct timer *timer; /* the next dial, or the next look for surplus */
    uint64_t asked_due;  /* the last request; 0: none yet */
    uint64_t redial_due; /* not before */
    uint64_t redial_ms;
    bool warmed; /* there was one for this server */
    uint64_t abandoned_due;
};

static void pool_tend(struct pool *p);
static void pool_serve(void *ctx);
static void dialing_drop(struct dialing *d);

static void pool_on_timer(void *ctx)
{
    pool_tend(ctx);
}

struct pool *pool_new(struct loop *l, struct deployment *d)
{
    struct pool *p = xnew(struct pool);

    list_init(&p->node);
    list_init(&p->idles);
    list_init(&p->wants);
    list_init(&p->dialings);
    work_init(&p->serve, pool_serve, p);
    p->loop = l;
    p->deployment = d;
    p->number = deployment_server_number(d);
    p->redial_ms = POOL_REDIAL_MIN_MS;
    p->timer = timer_new(l, pool_on_timer, p);
    return p;
}

static struct stream *idle_release(struct idle *i)
{
    struct stream *s = i->stream;

    list_remove(&i->node);
    i->pool->n_idle--;
    free(i);
    return s;
}

static void pool_drop_idles(struct pool *p)
{
    LIST_FOREACH_SAFE (i, &p->idles, struct idle, node)
        stream_free(idle_release(i), false);
}

struct pool *pool_free(struct pool *p)
{
    if (!p)
        return NULL;
    list_remove(&p->node);
    runq_drop(&p->serve);
    LIST_FOREACH_SAFE (d, &p->dialings, struct dialing, node)
        dialing_drop(d);
    op_cancel(&p->dial);
    timer_free(p->timer);
    pool_drop_idles(p);
    free(p);
    return NULL;
}

struct deployment *pool_deployment(const struct pool *p)
{
    return p->deployment;
}

struct list *pool_node(struct pool *p)
{
    return &p->node;
}

struct pool *pool_of_node(struct list *node)
{
    return CONTAINER_OF(node, struct pool, node);
}

/* An idle engine has nothing to say: an end, an error, or bytes nobody asked for all mean that this
 * connection is over. */
static void idle_on_ready(void *ctx, unsigned what)
{
    struct idle *i = ctx;
    struct pool *p = i->pool;
    char byte;

    (void)what;
    if (stream_read(i->stream, &byte, 1) == -EAGAIN)
        return;
    deployment_suspect(p->deployment);
    if (clock_now_ms() - i->since_due < POOL_REDIAL_MIN_MS) /* closed at once: do not hammer */
        p->redial_ms = MIN(p->redial_ms * 2, (uint64_t)POOL_REDIAL_MAX_MS);
    else
        p->redial_ms = POOL_REDIAL_MIN_MS;
    p->redial_due = clock_now_ms() + p->redial_ms;
    stream_free(idle_release(i), false);
    pool_tend(p);
}

static void pool_keep(struct pool *p, struct stream *s)
{
    struct idle *i = xnew(struct idle);

    i->pool = p;
    i->stream = s;
    i->since_due = clock_now_ms();
    list_init(&i->node);
    list_prepend(&p->idles, &i->node);
    p->n_idle++;
    p->warmed = true;
    stream_watch(s, idle_on_ready, i);
    stream_want(s, STREAM_IN);
    if (p->n_wants > 0)
        runq_add(p->loop, &p->serve);
}

static void pool_on_dialed(void *ctx, struct stream *s, const struct fault *f)
{
    struct pool *p = ctx;

    if (f) {
        p->redial_ms = MIN(p->redial_ms * 2, (uint64_t)POOL_REDIAL_MAX_MS);
        p->redial_due = clock_now_ms() + p->redial_ms;
    } else {
        pool_keep(p, s);
    }
    pool_tend(p);
}

/* Those beyond the first that were idle for long, oldest last in the list. */
static void pool_trim(struct pool *p)
{
    uint64_t now = clock_now_ms();

    while (p->n_idle > 1) {
        struct idle *oldest = CONTAINER_OF(p->idles.prev, struct idle, node);

        if (p->n_idle <= POOL_IDLE_MAX && now < oldest->since_due + POOL_SURPLUS_MS)
            break;
        stream_free(idle_release(oldest), false);
    }
}

static bool pool_wants_one(const struct pool *p)
{
    bool lately = p->asked_due && clock_now_ms() < p->asked_due + POOL_LATELY_MS;

    return p->n_idle == 0 && !p->dial && deployment_state(p->deployment) == DEPLOYMENT_READY &&
           (lately || !p->warmed);
}

/* Dials when one is missing, trims when there are too many, and arranges the next look. */
static void pool_tend(struct pool *p)
{
    uint64_t now = clock_now_ms();

    pool_trim(p);
    timer_disarm(p->timer);
    if (pool_wants_one(p)) {
        if (now >= p->redial_due)
            deployment_dial(p->deployment, &p->dial, pool_on_dialed, p);
        else
            timer_arm_at(p->timer, p->redial_due);
    } else if (p->n_idle > 1) {
        timer_arm(p->timer, POOL_SURPLUS_MS);
    }
}

void pool_look(struct pool *p)
{
    unsigned number = deployment_server_number(p->deployment);

    if (number != p->number)
        p->abandoned_due = 0; /* whoever was left is no more */
    if (number != p->number || deployment_state(p->deployment) != DEPLOYMENT_READY) {
        pool_drop_idles(p);
        op_cancel(&p->dial);
        p->warmed = p->warmed && number == p->number;
        p->redial_due = 0;
        p->redial_ms = POOL_REDIAL_MIN_MS;
    }
    p->number = number;
    pool_tend(p);
}

/* A request that was written to a dead tunnel cannot be sent again; one that waits for another way can. */
static void pool_drop_silent(struct pool *p)
{
    LIST_FOREACH_SAFE (i, &p->idles, struct idle, node)
        if (stream_is_silent(i->stream))
            stream_free(idle_release(i), false);
}

bool pool_has_idle(struct pool *p)
{
    pool_drop_silent(p);
    return p->n_idle > 0;
}

/* Another one for the next request, but not in front of this one's own, and not if this one is back by then.
 */
static void pool_is_asked(struct pool *p)
{
    p->asked_due = clock_now_ms();
    p->redial_due = MAX(p->redial_due, p->asked_due + POOL_REDIAL_MIN_MS);
}

struct stream *pool_take(struct pool *p)
{
    struct stream *s = NULL;

    pool_is_asked(p);
    if (pool_has_idle(p))
        s = idle_release(LIST_FIRST(&p->idles, struct idle, node));
    pool_tend(p);
    return s;
}

void pool_set_abandoned(struct pool *p, bool abandoned)
{
    p->abandoned_due = abandoned ? clock_now_ms() : 0;
}

uint64_t pool_abandoned_due(const struct pool *p)
{
    return p->abandoned_due;
}

void pool_put(struct pool *p, struct stream *s, unsigned number)
{
    if (number == p->number && deployment_state(p->deployment) == DEPLOYMENT_READY)
        pool_keep(p, s);
    else
        stream_free(s, false);
    pool_tend(p);
}

/* ---- requests that wait ---- */

static void want_free(struct want *w)
{
    list_remove(&w->node);
    w->pool->n_wants--;
    free(w);
}

static void want_cancel(struct op *op)
{
    struct want *w = CONTAINER_OF(op, struct want, op);

    runq_add(w->pool->loop, &w->pool->serve); /* one dialing is too many */
    want_free(w);
}

static void want_give(struct want *w, const struct pool_stream *s, const struct fault *f)
{
    pool_done_fn done = w->done;
    void *ctx = w->ctx;

    op_end(&w->op);
    want_free(w);
    done(ctx, s, f);
}

static void dialing_drop(struct dialing *d)
{
    op_cancel(&d->op);
    list_remove(&d->node);
    d->pool->n_dialings--;
    free(d);
}

static void dialing_on_end(void *ctx, struct stream *s, const struct fault *f)
{
    struct dialing *d = ctx;
    struct pool *p = d->pool;
    const struct pool_stream new = {s, d->number, false};

    dialing_drop(d);
    if (p->n_wants > 0)
        want_give(LIST_FIRST(&p->wants, struct want, node), s ? &new : NULL, f);
    else if (s)
        pool_put(p, s, new.number);
}

static void dialing_new(struct pool *p)
{
    struct dialing *d = xnew(struct dialing);

    d->pool = p;
    d->number = deployment_server_number(p->deployment);
    list_init(&d->node);
    list_append(&p->dialings, &d->node);
    p->n_dialings++;
    deployment_dial(p->deployment, &d->op, dialing_on_end, d);
}

/* The oldest that may have an idle connection; NULL: none. */
static struct want *pool_next_want(struct pool *p)
{
    LIST_FOREACH (w, &p->wants, struct want, node)
        if (!w->fresh)
            return w;
    return NULL;
}

static void pool_serve(void *ctx)
{
    struct pool *p = ctx;
    struct want *w;

    while ((w = pool_next_want(p)) && pool_has_idle(p))
        want_give(w, &(struct pool_stream){pool_take(p), p->number, true}, NULL);
    while (p->n_dialings < p->n_wants)
        dialing_new(p);
    while (p->n_dialings > p->n_wants) /* the one that began last has come least far */
        dialing_drop(CONTAINER_OF(p->dialings.prev, struct dialing, node));
}

void pool_want(struct pool *p, uint64_t turn, bool fresh, struct op **slot, pool_done_fn done, void *ctx)
{
    struct want *w = xnew(struct want);
    struct list *after = p->wants.prev;

    w->pool = p;
    w->turn = turn;
    w->fresh = fresh;
    w->done = done;
    w->ctx = ctx;
    while (after != &p->wants && CONTAINER_OF(after, struct want, node)->turn > turn)
        after = after->prev;
    list_init(&w->node);
    list_prepend(after, &w->node); /* behind it */
    p->n_wants++;
    op_begin(&w->op, slot, want_cancel);
    pool_is_asked(p);
    runq_add(p->loop, &p->serve);
}
