/* The loop's side of the store. Changes gather in a queue until the run queue has nothing more to add to it;
 * then the queue goes to the thread as one batch. One batch is under way at a time; what is queued meanwhile
 * is the next one.
 *
 * A ticket is the number of a change. Batches are written in order, so one number says it all: everything up
 * to `settled` is decided, and written unless it is among the few failures, which are kept. */
#include "store/store.h"

#include <errno.h>

#include "base/clock.h"
#include "base/event.h"
#include "base/fault.h"
#include "base/log.h"
#include "base/loop.h"
#include "base/timer.h"
#include "store/change.h"
#include "store/database.h"
#include "store/store_private.h"
#include "store/usual.h"
#include "store/writer.h"

#define RETRY_FIRST_MS    1000
#define RETRY_LAST_MS     30000
#define CLOSE_LIMIT_MS    5000
#define SLOW_MS           5000
#define EVENTS_QUEUED_MAX 1000
#define EVENTS_READ_MAX   10000
#define FAILURES_MAX      256

struct store {
    struct loop *loop;
    struct database *database; /* the writer's, once there are jobs */
    struct writer *writer;
    struct usual *usual;
    char daemon_id[9];
    char *path;

    store_ticket last; /* given out */
    store_ticket settled;
    struct list queue; /* of struct change */
    struct batch *under_way;
    struct work turn; /* closes the batch */
    store_ticket last_at_turn;

    struct list waiters;
    struct list reads; /* not sent yet */
    struct list reads_sent;
    struct list failures; /* oldest first */
    unsigned n_failures;
    store_ticket forgotten; /* no failure up to here is known any more */

    bool is_stuck;            /* the last batch could not be written and waits in the queue */
    struct fault fault, slow; /* why; and what to say when a write hangs */
    uint64_t stuck_due;       /* since when */
    uint64_t tried_due, retry_ms;
    struct timer *retry;
    unsigned events_dropped;
};

struct batch {
    struct job job;
    struct store *store; /* for the loop alone */
    struct list changes;
    store_ticket last;
    uint64_t queued_due; /* its oldest change */
    int r;
    struct fault fault;
};

struct waiter {
    struct op op;
    struct list node;
    store_ticket ticket;
    op_done_fn done;
    void *ctx;
};

struct failure {
    struct list node;
    store_ticket first, last;
    struct fault fault;
};

struct read {
    struct op op;
    struct job job;
    struct list node; /* in store->reads, then in reads_sent until over or cancelled */
    bool is_sent, is_cancelled;
    char *target;
    struct database_events events;
    int r;
    struct fault fault;
    store_events_fn done;
    void *ctx;
};

/* ---- tickets ---- */

static void remember_failure(struct store *s, const struct change *c)
{
    struct failure *f = xnew(struct failure);

    f->first = c->first_ticket;
    f->last = c->ticket;
    f->fault = *c->fault;
    list_append(&s->failures, &f->node);
    if (s->n_failures++ < FAILURES_MAX)
        return;
    f = LIST_FIRST(&s->failures, struct failure, node);
    s->forgotten = MAX(s->forgotten, f->last);
    list_remove(&f->node);
    free(f);
    s->n_failures--;
}

/* How a settled ticket ended: false, *ret_fault says why it was not written. */
static bool is_written(const struct store *s, store_ticket t, struct fault *ret_fault)
{
    LIST_FOREACH (f, &s->failures, struct failure, node)
        if (t >= f->first && t <= f->last) {
            *ret_fault = f->fault;
            return false;
        }
    if (t == 0 || t > s->forgotten)
        return true;
    fault_set(ret_fault, FAULT_UNCERTAIN, -ETIMEDOUT, "too long ago to know whether it was written");
    return false;
}

static void waiter_cancel(struct op *op)
{
    struct waiter *w = CONTAINER_OF(op, struct waiter, op);

    list_remove(&w->node);
    free(w);
}

/* Everybody who waits for a ticket up to `upto`: f for all, or NULL: as it ended. */
static void tell_waiters(struct store *s, store_ticket upto, const struct fault *f)
{
    struct list told;
    struct waiter *w;

    list_init(&told);
    LIST_FOREACH_SAFE (p, &s->waiters, struct waiter, node) {
        if (p->ticket > upto)
            continue;
        list_remove(&p->node);
        list_append(&told, &p->node);
    }
    struct fault same = f ? *f : (struct fault){0};

    while ((w = LIST_FIRST(&told, struct waiter, node))) {
        struct waiter copy = *w;
        struct fault own = same;
        bool written = !f && is_written(s, w->ticket, &own);

        op_end(&w->op);
        waiter_cancel(&w->op);
        copy.done(copy.ctx, written ? NULL : &own);
    }
}

static void add_waiter(struct store *s, store_ticket t, struct op **slot, op_done_fn done, void *ctx)
{
    struct waiter *w = xnew(struct waiter);

    w->ticket = t;
    w->done = done;
    w->ctx = ctx;
    list_append(&s->waiters, &w->node);
    op_begin(&w->op, slot, waiter_cancel);
    runq_add(s->loop, &s->turn);
}

void store_after(struct store *s, store_ticket t, struct op **slot, op_done_fn done, void *ctx)
{
    struct fault f;

    if (t > s->last) {
        fault_set(&f, FAULT_INVALID, -EINVAL, "no such ticket");
        op_finish_later(s->loop, slot, &f, done, ctx);
        return;
    }
    if (t <= s->settled) {
        bool written = t == 0 || is_written(s, t, &f);

        op_finish_later(s->loop, slot, written ? NULL : &f, done, ctx);
        return;
    }
    add_waiter(s, t, slot, done, ctx);
}

void store_ready(struct store *s, struct op **slot, op_done_fn done, void *ctx)
{
    if (s->is_stuck)
        add_waiter(s, 0, slot, done, ctx);
    else
        op_finish_later(s->loop, slot, NULL, done, ctx);
}

/* ---- batches ---- */

static void batch_run(struct job *j, struct database *d)
{
    struct batch *b = CONTAINER_OF(j, struct batch, job);

    b->r = database_write(d, &b->changes, &b->fault);
}

static void batch_drop(struct job *j)
{
    struct batch *b = CONTAINER_OF(j, struct batch, job);

    changes_free(&b->changes);
    free(b);
}

/* Puts `from` in front of `to`. */
static void move_to_front(struct list *to, struct list *from)
{
    while (!list_is_empty(from)) {
        struct list *node = from->prev;

        list_remove(node);
        list_prepend(to, node);
    }
}

static void batch_written(struct store *s, struct batch *b)
{
    LIST_FOREACH (c, &b->changes, struct change, node)
        if (c->fault)
            remember_failure(s, c);
    s->settled = b->last;
    bool was_stuck = s->is_stuck;
    unsigned dropped = s->events_dropped;

    s->is_stuck = false;
    s->events_dropped = 0;
    s->retry_ms = 0;
    if (was_stuck)
        event_publish(LOG_LEVEL_NOTICE, LOG_DAEMON, NULL, "state_written",
                      "%s is written again; %u events were dropped", s->path, dropped);
}

static void set_stuck(struct store *s, const struct fault *f, uint64_t since_due)
{
    bool is_news = !s->is_stuck || !streq(s->fault.text, f->text);

    if (!s->is_stuck)
        s->stuck_due = since_due;
    s->is_stuck = true;
    s->fault = *f;
    s->retry_ms = s->retry_ms ? MIN(2 * s->retry_ms, (uint64_t)RETRY_LAST_MS) : RETRY_FIRST_MS;
    s->tried_due = clock_now_ms();
    timer_arm(s->retry, s->retry_ms);
    if (is_news) /* comes back as a change, to be written when that is possible */
        event_publish(LOG_LEVEL_ERR, LOG_DAEMON, NULL, "state_not_written", "%s", s->fault.text);
}

static void batch_failed(struct store *s, struct batch *b)
{
    set_stuck(s, &b->fault, b->queued_due);
    changes_drop_reservations(&b->changes);
    move_to_front(&s->queue, &b->changes);
}

static void batch_over(struct job *j)
{
    struct batch *b = CONTAINER_OF(j, struct batch, job);
    struct store *s = b->store;
    store_ticket upto = b->last;
    bool failed = b->r < 0;

    s->under_way = NULL;
    if (failed)
        batch_failed(s, b);
    else
        batch_written(s, b);
    batch_drop(j);
    runq_add(s->loop, &s->turn); /* the next batch; or the same fault for those who came later */
    struct fault f = s->fault;

    tell_waiters(s, upto, failed ? &f : NULL);
}

static void send_batch(struct store *s)
{
    struct change *first = LIST_FIRST(&s->queue, struct change, node);

    if (!first && !s->is_stuck)
        return;
    struct batch *b = xnew(struct batch);

    b->job = (struct job){.run = batch_run, .over = batch_over, .drop = batch_drop};
    b->store = s;
    b->last = s->last;
    b->queued_due = first ? first->queued_due : clock_now_ms();
    list_init(&b->changes);
    move_to_front(&b->changes, &s->queue);
    s->under_way = b;
    timer_disarm(s->retry);
    writer_send(s->writer, &b->job);
}

static void shrink_queue(struct store *s)
{
    changes_merge(&s->queue);
    s->events_dropped += changes_drop_events(&s->queue, EVENTS_QUEUED_MAX);
}

/* While stuck, somebody who waits is reason enough to try before the timer, but not more than once a second.
 */
static bool may_try(const struct store *s)
{
    if (!s->is_stuck || !timer_is_armed(s->retry))
        return true;
    return !list_is_empty(&s->waiters) && clock_now_ms() - s->tried_due >= RETRY_FIRST_MS;
}

static void send_reads(struct store *s)
{
    LIST_FOREACH_SAFE (r, &s->reads, struct read, node) {
        list_remove(&r->node);
        list_append(&s->reads_sent, &r->node);
        r->is_sent = true;
        writer_send(s->writer, &r->job);
    }
}

static void hand_over(struct store *s)
{
    if (s->under_way)
        return; /* batch_over() comes back here */
    if (s->is_stuck)
        shrink_queue(s);
    if (may_try(s))
        send_batch(s);
    send_reads(s); /* behind the batch: they see what was written before them */
    if (s->under_way)
        return;
    struct fault f = s->fault;

    tell_waiters(s, s->last, s->is_stuck ? &f : NULL);
}

/* Runs again behind the work that is queued already, until that adds nothing more: so all changes of one turn
 * of the loop are one transaction, whoever comes first in the run queue. */
static void store_on_turn(void *ctx)
{
    struct store *s = ctx;

    if (s->last_at_turn == s->last) {
        hand_over(s);
        return;
    }
    s->last_at_turn = s->last;
    runq_add(s->loop, &s->turn);
}

static void store_on_retry(void *ctx)
{
    struct store *s = ctx;

    runq_add(s->loop, &s->turn);
}

store_ticket store_queue(struct store *s, struct change *c)
{
    c->first_ticket = c->ticket = ++s->last;
    c->queued_due = clock_now_ms();
    list_append(&s->queue, &c->node);
    runq_add(s->loop, &s->turn);
    return c->ticket;
}

/* ---- open and close ---- */

static void add_usual(void *ctx, const char *what, const char *last)
{
    usual_load(ctx, what, last);
}

int store_open(struct loop *l, const char *directory, struct store **ret, struct fault *f)
{
    struct database *d = NULL;
    int r = database_open(directory, &d, f);

    if (r < 0)
        return r;
    struct fault why = *f; /* of one that can only be read */
    struct usual *usual = usual_new();

    r = database_load_durations(d, add_usual, usual, f);
    if (r < 0) {
        usual_free(usual);
        database_free(d);
        return r;
    }
    struct store *s = xnew(struct store);

    s->loop = l;
    s->database = d;
    s->usual = usual;
    s->path = xstrdup(d->path);
    memcpy(s->daemon_id, d->daemon_id, sizeof(s->daemon_id));
    fault_set(&s->slow, FAULT_TRANSIENT, -EBUSY, "%s: the disk does not answer", d->path);
    list_init(&s->queue);
    list_init(&s->waiters);
    list_init(&s->reads);
    list_init(&s->reads_sent);
    list_init(&s->failures);
    work_init(&s->turn, store_on_turn, s);
    s->retry = timer_new(l, store_on_retry, s);
    s->writer = writer_new(l, d);
    if (d->read_only)
        set_stuck(s, &why, clock_now_ms());
    *ret = s;
    return 0;
}

static void cancel_ops(struct store *s)
{
    LIST_FOREACH_SAFE (w, &s->waiters, struct waiter, node)
        op_cancel(w->op.slot);
    LIST_FOREACH_SAFE (r, &s->reads, struct read, node)
        op_cancel(r->op.slot);
    LIST_FOREACH_SAFE (r, &s->reads_sent, struct read, node)
        op_cancel(r->op.slot);
}

/* What is queued gets one try, however often it failed before. */
static void write_rest(struct store *s)
{
    uint64_t end_due = clock_now_ms() + CLOSE_LIMIT_MS, now;
    bool tried = false;

    while ((now = clock_now_ms()) < end_due) {
        if (!s->under_way) {
            if (tried || list_is_empty(&s->queue))
                break;
            send_batch(s);
            tried = true;
        }
        if (!writer_wait(s->writer, end_due - now))
            break;
    }
    if (s->under_way || !list_is_empty(&s->queue))
        event_publish(LOG_LEVEL_ERR, LOG_DAEMON, NULL, "state_not_written",
                      "%s: the last changes were not written (%s)", s->path,
                      s->is_stuck ? s->fault.text : "the disk does not answer");
}

struct store *store_close(struct store *s)
{
    if (!s)
        return NULL;
    cancel_ops(s);
    write_rest(s);
    s->writer = writer_free(s->writer);
    s->retry = timer_free(s->retry);
    runq_drop(&s->turn);
    changes_free(&s->queue);
    LIST_FOREACH_SAFE (f, &s->failures, struct failure, node)
        free(f);
    usual_free(s->usual);
    free(s->path);
    free(s);
    return NULL;
}

/* ---- looking ---- */

uint64_t store_stuck_ms(const struct store *s, const struct fault **ret_fault)
{
    uint64_t now = clock_now_ms();

    *ret_fault = NULL;
    if (s->is_stuck) {
        *ret_fault = &s->fault;
        return MAX(now - s->stuck_due, 1u);
    }
    if (s->under_way && now - s->under_way->queued_due >= SLOW_MS) {
        *ret_fault = &s->slow;
        return now - s->under_way->queued_due;
    }
    return 0;
}

const char *store_daemon_id(const struct store *s)
{
    return s->daemon_id;
}

int store_load(struct store *s, const struct store_readers *readers, void *ctx, struct fault *f)
{
    return database_load(s->database, readers, ctx, f);
}

int store_load_counts(struct store *s, void (*count)(void *ctx, const struct count_record *r), void *ctx,
                      struct fault *f)
{
    return database_load_counts(s->database, count, ctx, f);
}

int store_load_aliases(struct store *s, void (*alias)(void *ctx, const char *name, const char *model),
                       void *ctx, struct fault *f)
{
    return database_load_aliases(s->database, alias, ctx, f);
}

int store_load_choices(struct store *s, void (*choice)(void *ctx, const struct choice_record *r), void *ctx,
                       struct fault *f)
{
    return database_load_choices(s->database, choice, ctx, f);
}

int store_load_accounts(struct store *s, void (*account)(void *ctx, const struct account_record *r),
                        void *ctx, struct fault *f)
{
    return database_load_accounts(s->database, account, ctx, f);
}

int store_load_orphans(struct store *s, void (*orphan)(void *ctx, const struct orphan_record *r), void *ctx,
                       struct fault *f)
{
    return database_load_orphans(s->database, orphan, ctx, f);
}

int store_load_reserved(struct store *s, void (*reserved)(void *ctx, const struct intent_record *r), void *ctx,
                        struct fault *f)
{
    return database_load_reserved(s->database, reserved, ctx, f);
}

int store_load_spent(struct store *s, int64_t now_ms, int64_t for_ms,
                     void (*spent)(void *ctx, const struct spent_record *r), void *ctx, struct fault *f)
{
    return database_load_spent(s->database, now_ms, for_ms, spent, ctx, f);
}

int store_load_keys(struct store *s, void (*key)(void *ctx, const struct key_record *r), void *ctx,
                    struct fault *f)
{
    return database_load_keys(s->database, key, ctx, f);
}

/* ---- how long things take ---- */

void store_put_duration(struct store *s, const char *what, uint64_t ms)
{
    _cleanup_free_ char *last = usual_add(s->usual, what, ms);
    struct change *c = change_new(CHANGE_PUT_DURATION);

    change_text(c, what);
    change_text(c, last);
    store_queue(s, c);
}

uint64_t store_usual_ms(const struct store *s, const char *what)
{
    return usual_ms(s->usual, what);
}

/* ---- reading events ---- */

static void read_run(struct job *j, struct database *d)
{
    struct read *r = CONTAINER_OF(j, struct read, job);

    r->r = database_read_events(d, &r->events, &r->fault);
}

static void read_drop(struct job *j)
{
    struct read *r = CONTAINER_OF(j, struct read, job);

    database_events_done(&r->events);
    free(r->target);
    free(r);
}

static void read_over(struct job *j)
{
    struct read *r = CONTAINER_OF(j, struct read, job);

    if (!r->is_cancelled) {
        list_remove(&r->node);
        op_end(&r->op);
        if (r->r < 0)
            r->done(r->ctx, NULL, 0, 0, &r->fault);
        else
            r->done(r->ctx, r->events.rows, r->events.n, r->events.older, NULL);
    }
    read_drop(j);
}

/* Once sent it is the thread's until it is over. */
static void read_cancel(struct op *op)
{
    struct read *r = CONTAINER_OF(op, struct read, op);

    list_remove(&r->node);
    r->is_cancelled = true;
    if (!r->is_sent)
        read_drop(&r->job);
}

void store_read_events(struct store *s, const char *target, int64_t since_at_ms, unsigned lines,
                       struct op **slot, store_events_fn done, void *ctx)
{
    struct read *r = xnew(struct read);

    r->job = (struct job){.run = read_run, .over = read_over, .drop = read_drop};
    r->target = xstrdup(target);
    r->events.target = r->target;
    r->events.since_at_ms = since_at_ms;
    r->events.lines = MIN(lines, (unsigned)EVENTS_READ_MAX);
    r->done = done;
    r->ctx = ctx;
    list_append(&s->reads, &r->node);
    op_begin(&r->op, slot, read_cancel);
    runq_add(s->loop, &s->turn);
}
