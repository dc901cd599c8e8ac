/* One request at a time: read, ask, install. keeper_next() says which comes next, keeper_do() makes it or
 * waits for the time of it; keeper_event() is the door that answers, timers and people's wishes come through.
 *
 * Wishes (a hold, to take it over, to stop) are flags and go with the next request. One is over when a
 * request that carried it was taken. */
#include "guard/keeper.h"

#include <inttypes.h>

#include "base/clock.h"
#include "base/event.h"
#include "base/log.h"
#include "base/loop.h"
#include "base/timer.h"
#include "proto/mem.h"
#include "session/host.h"

#define RENEW_MS      60000u
#define TAKEN_SLACK_S 5 /* whole seconds of two clocks */
#define USELESS_MS    (5 * 60000u)
#define SOON_FIRST_MS 2000u
#define SOON_MOST_MS  20000u

enum keeper_event {
    EV_OPEN,
    EV_CLOSED,
    EV_FORGET,
    EV_WISH,  /* somebody wants something sent */
    EV_SEEN,  /* an answer: seen says what it means */
    EV_FAULT, /* none, or one that makes no sense */
    EV_TIMER,
    EV_COUNT,
};

/* What an answer means to us. */
enum keeper_seen {
    SEEN_OURS,      /* read: it lives, and is ours or nobody's */
    SEEN_TAKEN,     /* asked: it has taken it */
    SEEN_FOREIGN,   /* another owner's, and we are not to take it */
    SEEN_NONE,      /* none lives there */
    SEEN_STILLBORN, /* none lives there, right after it was installed */
    SEEN_UNCLEAR,   /* half a line, or a refusal that another sequence may cure */
    SEEN_ACTING,    /* it is switching the machine off */
    SEEN_USELESS,   /* there can be none that counts */
    SEEN_COUNT,
};

/* STAY: whatever is under way goes on. REST: until the time of the state; SOON: until a try is due. */
enum keeper_act { STAY, REST, SOON, READ, ASK, INSTALL };
struct keeper_move {
    enum keeper_state state;
    enum keeper_act act;
};

struct keeper {
    struct keeper_context context;
    enum keeper_state state;

    /* What keeper_next() reads besides. */
    bool open;
    enum keeper_seen seen;
    bool hold_wish, take_wish; /* and stop.slot: to stop */
    bool sent_take;            /* the last request carried it */

    bool sent_hold, sent_stop;
    enum keeper_act doing; /* what is in flight, or was: READ, ASK, INSTALL */
    struct op *op;
    struct timer *timer;
    struct work changed;
    unsigned tries;    /* that failed in a row */
    uint64_t seq;      /* the last one used, or read */
    uint64_t asked_due; /* when that was sent */
    uint64_t hold_due; /* as wished, else as read of a guard of ours; 0: none */
    struct op stop;
    op_done_fn stop_done;
    void *stop_ctx;
    struct keeper_figures figures;
    struct fault fault;
};

static void keeper_event(struct keeper *k, enum keeper_event ev, const struct fault *f);

/* ---- What comes next: pure ---- */

static bool keeper_wishes(const struct keeper *k)
{
    return k->hold_wish || k->take_wish || k->stop.slot;
}

static struct keeper_move next_wish(const struct keeper *k)
{
    if (k->op)
        return (struct keeper_move){k->state, STAY}; /* its answer leads to the next request */
    switch (k->state) {
    case KEEPER_KEPT: return (struct keeper_move){k->state, ASK};
    case KEEPER_ASKING:
    case KEEPER_INSTALLING:
    case KEEPER_USELESS: return (struct keeper_move){k->state, READ};
    case KEEPER_REFUSED: return (struct keeper_move){k->state, k->take_wish ? READ : STAY};
    case KEEPER_AWAY: break;
    }
    return (struct keeper_move){k->state, STAY};
}

/* A state that promises an answer is left when there is none; what is known of a guard stays known. */
static enum keeper_state unanswered(const struct keeper *k)
{
    return k->state == KEEPER_INSTALLING ? KEEPER_ASKING : k->state;
}

/* What will not be otherwise in a minute: an account that runs something else, a login that is forbidden. */
static bool is_final(const struct fault *f)
{
    return !fault_may_pass(f) && f->kind != FAULT_EXHAUSTED;
}

static struct keeper_move next_fault(const struct keeper *k, const struct fault *f)
{
    if (is_final(f) && k->state != KEEPER_KEPT) /* that it does live outweighs one strange answer */
        return (struct keeper_move){KEEPER_USELESS, REST};
    return (struct keeper_move){unanswered(k), SOON};
}

static struct keeper_move next_seen(const struct keeper *k)
{
    bool useless = k->state == KEEPER_USELESS; /* until it is kept: tries are not told as changes */

    switch (k->seen) {
    case SEEN_OURS: return (struct keeper_move){useless ? k->state : KEEPER_ASKING, ASK};
    case SEEN_TAKEN: return (struct keeper_move){KEEPER_KEPT, keeper_wishes(k) ? ASK : REST};
    case SEEN_FOREIGN:
        return (struct keeper_move){KEEPER_REFUSED, k->take_wish && !k->sent_take ? READ : REST};
    case SEEN_NONE: return (struct keeper_move){useless ? k->state : KEEPER_INSTALLING, INSTALL};
    case SEEN_UNCLEAR: return (struct keeper_move){unanswered(k), SOON};
    case SEEN_STILLBORN: return (struct keeper_move){useless ? k->state : KEEPER_ASKING, SOON};
    case SEEN_ACTING: return (struct keeper_move){KEEPER_ASKING, SOON};
    case SEEN_USELESS:
    case SEEN_COUNT: break;
    }
    return (struct keeper_move){KEEPER_USELESS, REST};
}

static struct keeper_move keeper_next(const struct keeper *k, enum keeper_event ev, const struct fault *f)
{
    if (k->state == KEEPER_AWAY && ev != EV_OPEN)
        return (struct keeper_move){k->state, STAY};
    switch (ev) {
    case EV_OPEN:
    case EV_FORGET: return (struct keeper_move){KEEPER_ASKING, READ};
    case EV_CLOSED: return (struct keeper_move){KEEPER_AWAY, REST};
    case EV_WISH: return next_wish(k);
    case EV_SEEN: return next_seen(k);
    case EV_FAULT: return next_fault(k, f);
    case EV_TIMER: return (struct keeper_move){k->state, k->state == KEEPER_KEPT ? ASK : READ};
    case EV_COUNT: break;
    }
    return (struct keeper_move){k->state, STAY};
}

/* ---- What an answer means ---- */

static bool is_foreign(const struct keeper *k, const struct guard_record *r)
{
    return !streq(r->owner, k->context.owner) && !streq(r->owner, GUARD_NOBODY);
}

/* The last number is behind it: no request can be higher. Only a box that writes nonsense gets there. */
static bool is_used_up(const struct keeper *k)
{
    return k->seq >= GUARD_SEQ_MAX;
}

static enum keeper_seen judge_living(const struct keeper *k, const struct guard_record *r)
{
    if (r->state == GUARD_STATE_ACTING || k->sent_stop)
        return SEEN_ACTING;
    if (k->doing != READ)
        return SEEN_TAKEN;
    return is_foreign(k, r) && !k->take_wish ? SEEN_FOREIGN : SEEN_OURS;
}

static enum keeper_seen judge_refusal(const struct guard_answer *a)
{
    switch (a->reason) {
    case GUARD_REASON_OWNER: return SEEN_FOREIGN;
    case GUARD_REASON_LATE: return SEEN_ACTING;
    case GUARD_REASON_OK:
    case GUARD_REASON_SEQ:
    case GUARD_REASON_RANGE:
    case GUARD_REASON_BOOT: break;
    }
    return SEEN_UNCLEAR;
}

static enum keeper_seen keeper_judge(const struct keeper *k, const struct guard_answer *a)
{
    const struct guard_report *r = &a->report;

    switch (a->verdict) {
    case GUARD_TAKEN: return judge_living(k, &r->record);
    case GUARD_REFUSED: return judge_refusal(a);
    case GUARD_MISSING:
        if (r->has_record && is_foreign(k, &r->record) && !k->take_wish)
            return SEEN_FOREIGN; /* its owner puts it there again, or the second dog acts */
        return k->doing == INSTALL ? SEEN_STILLBORN : SEEN_NONE;
    case GUARD_UNREADABLE: return SEEN_UNCLEAR;
    case GUARD_UNWRITABLE: return k->state == KEEPER_KEPT ? SEEN_UNCLEAR : SEEN_USELESS; /* as is_final() */
    case GUARD_DOES_NOT_COUNT: break;
    }
    return SEEN_USELESS;
}

/* A guard that lives: what is known of it, by our clocks. */
static void note_record(struct keeper *k, const struct guard_answer *a)
{
    const struct guard_record *r = &a->report.record;
    int64_t now = clock_wall_ms(), box_s = a->report.now_s, hold_s = MAX(r->hold_s - box_s, 0);
    struct keeper_figures *f = &k->figures;

    f->read_at_ms = now;
    f->box_due = clock_now_ms();
    f->box_s = box_s;
    f->acts_at_ms = now + a->left_s * 1000;
    f->hold_until_at_ms = hold_s ? now + hold_s * 1000 : 0;
    strcpy(f->owner, streq(r->owner, GUARD_NOBODY) ? "" : r->owner);
    f->owner_heard_at_ms = *f->owner ? now - MAX(box_s - r->taken_s, 0) * 1000 : 0;
    strcpy(f->ways, r->ways);
    snprintf(f->cycle, sizeof f->cycle, "%s.%" PRId64, r->boot, r->init);
    if (!k->hold_wish && !is_foreign(k, r))
        k->hold_due = hold_s ? clock_now_ms() + (uint64_t)hold_s * 1000 : 0;
}

/* A box that cannot tell says nothing: what it said before is as old as it is. */
static void note_typed(struct keeper *k, int64_t typed_s)
{
    uint64_t now = clock_now_ms();

    if (typed_s >= 0)
        k->figures.typed_due = now - MIN((uint64_t)typed_s * 1000, now - 1);
}

/* The sequence that we used is taken, by somebody before us: our request is refused for it, or that was long ago. */
static bool is_taken_by_another(const struct keeper *k, const struct guard_answer *a)
{
    const struct guard_record *r = &a->report.record;
    int64_t asked_s = (int64_t)(clock_now_ms() - k->asked_due) / 1000;

    return a->verdict == GUARD_TAKEN && k->doing == ASK &&
           ((r->refused == GUARD_REASON_SEQ && r->refused_seq == r->seq) ||
            (r->taken_s > 0 && a->report.now_s - r->taken_s > asked_s + TAKEN_SLACK_S));
}

/* While we keep it nobody else has our id: so nobody goes beyond the last sequence that we used, nor uses that.
 * Two that each go on from what they read do both. */
static void note_shared(struct keeper *k, const struct guard_answer *a)
{
    const struct guard_record *r = &a->report.record;

    if (k->state != KEEPER_KEPT || !streq(r->owner, k->context.owner) ||
        ((uint64_t)r->seq <= k->seq && !is_taken_by_another(k, a)))
        return;
    if (!k->figures.shared_due)
        log_line(LOG_LEVEL_WARNING, LOG_PROVIDER, k->context.name,
                 "guard: another llmhostd with our id, a copy of this database, renews it too");
    k->figures.shared_due = clock_now_ms();
}

static void note_answer(struct keeper *k, const struct guard_answer *a)
{
    bool lives = a->verdict == GUARD_TAKEN || a->verdict == GUARD_REFUSED;

    note_typed(k, MIN(a->report.typed_s, (int64_t)365 * 24 * 3600));
    if (lives && a->report.has_record)
        note_shared(k, a);
    if (a->report.has_record)
        k->seq = MAX(k->seq, (uint64_t)a->report.record.seq);
    if (lives)
        note_record(k, a);
    if (a->verdict != GUARD_MISSING)
        return;
    k->figures.acts_at_ms = 0;
    if (!a->report.has_record && k->hold_due > clock_now_ms())
        k->hold_wish = true; /* nothing is left there that a new guard could inherit it from */
}

/* What was sent is settled. */
static void note_taken(struct keeper *k)
{
    k->fault = (struct fault){};
    k->tries = 0;
    k->take_wish = k->take_wish && !k->sent_take;
    k->hold_wish = k->hold_wish && !k->sent_hold;
}

static void note_acting(struct keeper *k)
{
    fault_code(&k->fault, FAULT_TRANSIENT, "guard_acts", "its guard is switching the machine off");
    k->figures.acts_at_ms = clock_wall_ms();
    k->hold_wish = false;
    k->hold_due = 0;
}

static void note_useless(struct keeper *k, const struct guard_answer *a)
{
    if (a->verdict == GUARD_DOES_NOT_COUNT)
        fault_code(&k->fault, FAULT_DENIED, "no_guard",
                   "a guard cannot switch this machine off: the login is neither root nor may it use sudo "
                   "without a password");
    else if (a->verdict == GUARD_UNWRITABLE)
        fault_code(&k->fault, FAULT_EXHAUSTED, "no_guard",
                   "the guard cannot be written to /dev/shm, /run or the home of this machine");
    else
        fault_code(&k->fault, FAULT_INVALID, "no_guard",
                   "the guard of this machine has a record that cannot be gone on from");
}

static void note_trouble(struct keeper *k, const struct guard_answer *a)
{
    switch (k->seen) {
    case SEEN_FOREIGN:
        k->tries = 0;
        fault_code(&k->fault, FAULT_DENIED, "other_owner", "another llmhostd (%s) keeps this machine",
                   a->report.record.owner);
        break;
    case SEEN_STILLBORN:
        fault_code(&k->fault, k->sent_stop ? FAULT_UNCERTAIN : FAULT_TRANSIENT, "no_guard",
                   "a guard was put there and does not live");
        break;
    case SEEN_UNCLEAR:
        fault_set(
            &k->fault, k->sent_stop && a->verdict == GUARD_UNREADABLE ? FAULT_UNCERTAIN : FAULT_TRANSIENT, 0,
            "the guard could not be asked: %s",
            a->verdict == GUARD_REFUSED ? guard_reason_name(a->reason) : guard_verdict_name(a->verdict));
        break;
    case SEEN_ACTING: note_acting(k); break;
    case SEEN_USELESS: note_useless(k, a); break;
    case SEEN_TAKEN: note_taken(k); break;
    case SEEN_OURS:
    case SEEN_NONE:
    case SEEN_COUNT: break;
    }
}

static void keeper_on_answer(void *ctx, const struct guard_answer *a, const struct fault *f)
{
    struct keeper *k = ctx;

    if (f) {
        k->fault = *f;
        if (is_final(f))
            fault_code(&k->fault, f->kind, "no_guard", "%s", f->text);
        keeper_event(k, EV_FAULT, f);
        return;
    }
    note_answer(k, a);
    k->seen = is_used_up(k) ? SEEN_USELESS : keeper_judge(k, a);
    note_trouble(k, a);
    keeper_event(k, EV_SEEN, NULL);
}

/* ---- Doing ---- */

static uint64_t rest_ms(const struct keeper *k)
{
    switch (k->state) {
    case KEEPER_KEPT:
    case KEEPER_REFUSED: return MIN(RENEW_MS, (uint64_t)k->context.lease_s * 1000 / 3);
    case KEEPER_USELESS: return USELESS_MS;
    case KEEPER_AWAY:
    case KEEPER_ASKING:
    case KEEPER_INSTALLING: break;
    }
    return SOON_FIRST_MS;
}

static uint32_t hold_to_send_s(const struct keeper *k)
{
    uint64_t now = clock_now_ms();

    if (k->sent_stop)
        return 0;
    if (!k->hold_wish)
        return GUARD_HOLD_UNCHANGED;
    return k->hold_due > now ? (uint32_t)MIN((k->hold_due - now + 999) / 1000, GUARD_HOLD_S_MAX) : 0;
}

/* A request with a sequence of its own, and the wishes of now. */
static void keeper_send(struct keeper *k)
{
    k->sent_hold = k->hold_wish;
    k->sent_take = k->take_wish;
    k->sent_stop = k->stop.slot != NULL;
    struct guard_request q = {
        .owner = k->context.owner,
        .seq = ++k->seq,
        .lease_s = k->sent_stop ? 0 : k->context.lease_s,
        .hold_s = hold_to_send_s(k),
        .take = k->sent_take,
    };

    k->asked_due = clock_now_ms();
    k->context.seq_used(k->context.ctx, q.seq);
    if (k->doing == INSTALL)
        guard_install(k->context.host, k->context.first_s, &q, &k->op, keeper_on_answer, k);
    else
        guard_ask(k->context.host, &q, &k->op, keeper_on_answer, k);
}

static void keeper_do(struct keeper *k, enum keeper_act act)
{
    if (act == STAY)
        return;
    op_cancel(&k->op); /* of another boot, or over a way that is closed */
    timer_disarm(k->timer);
    switch (act) {
    case STAY: break;
    case REST:
        if (k->state != KEEPER_AWAY)
            timer_arm(k->timer, rest_ms(k));
        break;
    case SOON: timer_arm(k->timer, MIN((uint64_t)SOON_FIRST_MS << MIN(k->tries, 4u), SOON_MOST_MS)); break;
    case READ:
        k->doing = READ;
        k->sent_take = k->sent_stop = false;
        guard_read(k->context.host, &k->op, keeper_on_answer, k);
        break;
    case ASK:
    case INSTALL:
        k->doing = act;
        keeper_send(k);
        break;
    }
    k->tries += act == SOON;
}

/* The only place that writes k->state. */
static void keeper_enter(struct keeper *k, enum keeper_state next)
{
    bool bad = next == KEEPER_USELESS;

    log_line(bad ? LOG_LEVEL_WARNING : LOG_LEVEL_INFO, LOG_PROVIDER, k->context.name, "guard: %s -> %s%s%s",
             keeper_state_name(k->state), keeper_state_name(next), bad ? ": " : "", bad ? k->fault.text : "");
    k->state = next;
    if (next == KEEPER_REFUSED)
        event_publish(LOG_LEVEL_WARNING, LOG_PROVIDER, k->context.name, k->fault.code, "%s", k->fault.text);
}

static void keeper_end_stop(struct keeper *k, const struct fault *f)
{
    struct op **slot = k->stop.slot;

    if (!slot)
        return;
    op_end(&k->stop);
    op_finish_later(k->context.loop, slot, f, k->stop_done, k->stop_ctx);
}

/* Who wanted to stop hears when nothing is under way any more that could do it. What was not answered is
 * uncertain if the stop was in it, and only then. */
static void keeper_settle_stop(struct keeper *k, bool acts, bool answered)
{
    struct fault f = k->fault;

    if (k->op)
        return;
    if (!k->open)
        fault_code(&f, FAULT_TRANSIENT, "unreachable",
                   "the way to the machine is closed: its guard cannot be asked");
    if (!answered && fault_may_pass(&f))
        f.kind = k->sent_stop ? FAULT_UNCERTAIN : FAULT_TRANSIENT;
    keeper_end_stop(k, acts ? NULL : &f);
    k->sent_stop = false;
}

/* The only door. f: of EV_FAULT. */
static void keeper_event(struct keeper *k, enum keeper_event ev, const struct fault *f)
{
    struct keeper_move m = keeper_next(k, ev, f);

    if (m.state != k->state)
        keeper_enter(k, m.state);
    if (m.act == SOON && k->tries == 0)
        log_line(LOG_LEVEL_WARNING, LOG_PROVIDER, k->context.name, "guard: %s", k->fault.text);
    keeper_do(k, m.act);
    keeper_settle_stop(k, ev == EV_SEEN && k->seen == SEEN_ACTING, ev == EV_SEEN);
    runq_add(k->context.loop, &k->changed);
}

static void keeper_on_timer(void *ctx)
{
    keeper_event(ctx, EV_TIMER, NULL);
}

static void keeper_on_changed(void *ctx)
{
    struct keeper *k = ctx;

    k->context.changed(k->context.ctx);
}

/* ---- What others want and see ---- */

struct keeper *keeper_new(const struct keeper_context *context)
{
    struct keeper *k = xnew(struct keeper);

    k->context = *context;
    k->context.lease_s = MIN(MAX(context->lease_s, 1u), GUARD_LEASE_S_MAX); /* 0 would be a stop */
    k->seq = context->seq;
    k->timer = timer_new(context->loop, keeper_on_timer, k);
    work_init(&k->changed, keeper_on_changed, k);
    return k;
}

struct keeper *keeper_free(struct keeper *k)
{
    if (!k)
        return NULL;
    k->open = false;
    op_cancel(&k->op);
    keeper_settle_stop(k, false, false);
    runq_drop(&k->changed);
    k->timer = timer_free(k->timer);
    free(k);
    return NULL;
}

void keeper_way(struct keeper *k, bool open)
{
    if (open == k->open)
        return;
    k->open = open;
    k->tries = 0;
    if (fault_may_pass(&k->fault))
        k->fault = (struct fault){};
    keeper_event(k, open ? EV_OPEN : EV_CLOSED, NULL);
}

void keeper_forget(struct keeper *k)
{
    struct fault gone;

    fault_code(&gone, FAULT_GONE, "gone", "the machine was switched off and on before its guard answered");
    keeper_end_stop(k, &gone);
    k->figures = (struct keeper_figures){};
    k->fault = (struct fault){};
    k->tries = 0;
    k->take_wish = false;
    k->hold_due = k->hold_wish ? k->hold_due : 0;
    if (is_used_up(k))
        k->seq = 0; /* the guards of another boot begin at 0 again */
    keeper_event(k, EV_FORGET, NULL);
}

void keeper_hold(struct keeper *k, uint32_t hold_s)
{
    k->hold_wish = true;
    k->sent_hold = false; /* what is in flight carries another one */
    k->hold_due = hold_s ? clock_now_ms() + (uint64_t)hold_s * 1000 : 0;
    keeper_event(k, EV_WISH, NULL);
}

void keeper_take(struct keeper *k)
{
    k->take_wish = true;
    keeper_event(k, EV_WISH, NULL);
}

static void stop_cancel(struct op *op)
{
    (void)op; /* ended: what is in flight may still stop it */
}

void keeper_stop_now(struct keeper *k, struct op **slot, op_done_fn done, void *ctx)
{
    if (k->stop.slot)
        abort(); /* a second one: a bug of ours */
    k->stop_done = done;
    k->stop_ctx = ctx;
    op_begin(&k->stop, slot, stop_cancel);
    keeper_event(k, EV_WISH, NULL);
}

enum keeper_state keeper_state(const struct keeper *k)
{
    return k->state;
}

const char *keeper_state_name(enum keeper_state s)
{
    static const char *const names[] = {"away", "asking", "installing", "kept", "refused", "useless"};

    return names[s];
}

void keeper_figures(const struct keeper *k, struct keeper_figures *ret)
{
    *ret = k->figures;
}

const struct fault *keeper_fault(const struct keeper *k)
{
    return &k->fault;
}
