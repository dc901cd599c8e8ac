/* What the states of a life are for, and what is seen: which machines of a list are ours, and whether our last call has
 * acted, or still may, without which no off can be believed. What follows from it is decided in life_fsm.c. */
#include "lease/life.h"

#include <errno.h>

#include "base/clock.h"
#include "base/event.h"
#include "base/log.h"
#include "base/op.h"
#include "base/timer.h"
#include "lease/life_private.h"
#include "proto/mem.h"
#include "proto/text.h"

#define KEPT_MS        10000u /* for an intent to be on disk */
#define CREATE_MS      60000u /* for the answer of a create: the driver's own limit is 30 s */
#define POLL_MS        5000u  /* between two lists while it changes */
#define UNKNOWN_MS_MAX 60000u
#define UNWANTED_MS_MAX 10000u
#define RUNNING_MS     30000u  /* while it runs */
#define RESTING_MS     600000u /* while it is at rest, and where a person has to do something first */
#define WATCHFUL_MS    60000u  /* at rest, not for long, or with a machine that may still appear */
#define RELEASED_MS    600000u
#define DAY_MS         (24 * 3600000u)
#define LATE_MS        3600000u /* what comes on so long after a call that was never seen to act: by that call */
#define STAMP_MS       5000     /* the provider's stamps and its clock are told in whole seconds */

struct life *life_new(const struct life_context *context, const struct life_record *record)
{
    struct life *l = xnew(struct life);

    l->context = *context;
    l->record = record ? *record : (struct life_record){.state = LIFE_ABSENT};
    l->timer = timer_new(context->loop, life_on_timer, l);
    work_init(&l->changed, life_on_changed, l);
    l->is_gone = l->record.state == LIFE_ABSENT;
    l->age.born_due = l->here.entered_due = clock_now_ms();
    life_rearm(l);
    if (record) {
        /* a young intent makes an off worthless again, unless it is known to have acted */
        l->record.state = LIFE_UNKNOWN;
        timer_arm(l->timer, 0);
    }
    return l;
}

struct life *life_free(struct life *l)
{
    if (!l)
        return NULL;
    op_cancel(&l->call);
    op_cancel(&l->look);
    op_cancel(&l->spare);
    runq_drop(&l->changed);
    l->timer = timer_free(l->timer);
    free(l);
    return NULL;
}

/* ---- what is seen ---- */

/* Ours by name: PREFIX-N with a number that was given out. A higher one is of a database that was lost: an
 * orphan, never touched. */
static bool is_ours(const struct life *l, const struct instance_seen *m)
{
    size_t n = strlen(l->context.prefix);
    char *end;

    if (l->record.adopted)
        return false;
    if (strncmp(m->name, l->context.prefix, n) != 0 || m->name[n] != '-')
        return false;
    if (m->name[n + 1] < '1' || m->name[n + 1] > '9')
        return false;
    unsigned long number = strtoul(m->name + n + 1, &end, 10);

    return !*end && number <= l->record.made;
}

/* The one this life is about: the one known; else one of our names, one that is on before others. */
static const struct instance_seen *life_find(const struct life *l, const struct instance_seen *seen,
                                             unsigned n)
{
    const struct instance_seen *best = NULL;

    for (unsigned i = 0; i < n; i++) {
        if (*l->record.id && streq(seen[i].id, l->record.id))
            return &seen[i];
        if (is_ours(l, &seen[i]) && (!best || (best->power == INSTANCE_OFF && seen[i].power != INSTANCE_OFF)))
            best = &seen[i];
    }
    return best;
}

bool life_has(const struct life *l, const struct instance_seen *m)
{
    return (*l->record.id && streq(m->id, l->record.id)) || is_ours(l, m);
}

static void on_spare_stopped(void *ctx, const struct fault *f)
{
    (void)ctx, (void)f; /* the next look tells whether it worked */
}

/* A create that took effect after all, when there was another one already: it bills, and nobody wants it. */
static void life_stop_spare(struct life *l, const struct instance_seen *m, const struct instance_seen *spare,
                            unsigned n)
{
    bool is_news = !streq(l->fault.code, "two_machines");

    if (!is_news && !l->spare)
        l->fault = (struct fault){0}; /* unless it is told again */
    for (unsigned i = 0; i < n && !l->spare; i++) {
        if (spare[i].power == INSTANCE_OFF)
            continue;
        fault_code(&l->fault, FAULT_TRANSIENT, "two_machines",
                   "%s came up late, beside %s: it is being switched off", spare[i].id, m->id);
        if (is_news)
            event_publish(LOG_LEVEL_ERR, LOG_PROVIDER, l->context.name, "two_machines", "%s", l->fault.text);
        l->context.ops->stop(l->context.rental, spare[i].id, &l->spare, on_spare_stopped, l);
    }
}

/* m is there, and what else is of our names. */
static void life_see(struct life *l, const struct instance_seen *m, const struct instance_seen *seen,
                     unsigned n)
{
    _cleanup_free_ struct instance_seen *spare = xalloc(MAX(n, 1u) * sizeof(*spare));
    unsigned n_spare = 0;

    for (unsigned i = 0; i < n; i++)
        if (&seen[i] != m && is_ours(l, &seen[i]))
            spare[n_spare++] = seen[i];
    life_stop_spare(l, m, spare, n_spare);
    l->context.seen(l->context.ctx, m, spare, n_spare);
}

/* ---- whether our last call has acted ---- */

/* Heard with the first answer; from then on it is a clock of ours that counts, which nobody sets. */
static void life_note_age(struct life *l)
{
    int64_t now_ms = life_their_now_ms(l);

    if (l->age.asked_due || l->age.heard_due || !l->record.asked_at_ms || !now_ms)
        return;
    l->age.heard_due = clock_now_ms();
    l->age.heard_ms = (uint64_t)MAX(now_ms - l->record.asked_at_ms, (int64_t)0);
}

/* Since our last call that makes or switches on, at least: of one that a daemon before this one made, by the
 * provider's clock. Where nobody tells that, it is as old as we are: the clock of this computer may have been
 * set meanwhile, and a call that is taken for older than it is makes a second machine. */
static uint64_t asked_age_ms(const struct life *l, uint64_t now)
{
    if (l->age.asked_due)
        return now - l->age.asked_due;
    return l->age.heard_due ? l->age.heard_ms + (now - l->age.heard_due) : now - l->age.born_due;
}

/* Likewise, as well as anybody knows: for what costs nothing when it is wrong. */
static uint64_t likely_age_ms(const struct life *l, uint64_t now)
{
    int64_t by_wall_ms = clock_wall_ms() - l->record.asked_at_ms;

    if (l->age.asked_due || l->age.heard_due)
        return asked_age_ms(l, now);
    return (uint64_t)MAX(by_wall_ms, (int64_t)(now - l->age.born_due));
}

/* For how long it can still act. */
static uint64_t unsettled_ms(const struct life *l, uint64_t now)
{
    uint64_t age_ms = asked_age_ms(l, now);

    if (!l->record.asked_at_ms || age_ms > l->context.settle_ms)
        return 0;
    return l->context.settle_ms - age_ms + 1;
}

static bool is_settled(const struct life *l, uint64_t now)
{
    return unsettled_ms(l, now) == 0;
}

/* How long after our call it came on: by the stamp of its bill, which tells it also to a daemon that looks
 * much later. While it boots it has none, and then it is as late as it is seen. */
static uint64_t late_by_ms(const struct life *l, const struct instance_seen *m)
{
    uint64_t age_ms = likely_age_ms(l, clock_now_ms());
    int64_t late_ms = m->started_at_ms - l->record.asked_at_ms;

    if (m->power != INSTANCE_ON || !m->started_at_ms || late_ms < -STAMP_MS)
        return age_ms;
    return MIN((uint64_t)MAX(late_ms, (int64_t)0), age_ms);
}

/* The stamps of the bill do not tell it, though a whole cycle since the call would show in them: somebody's
 * own cycle, while our call is under way, looks the same. Believing them made 198 false stops instead of 153
 * in 50,000 stories with console buttons (test_life.c), for three hundredths of the doubt. */
static void life_note_act(struct life *l, const struct instance_seen *m)
{
    uint64_t late_ms = late_by_ms(l, m);

    if (l->record.acted || l->seen == SEEN_OFF)
        return;
    l->record.acted = true;
    /* Also later than anybody waited for it: nobody says how late a call may act, and what we take for
     * somebody else's bills for as long as max_up. Whoever pressed a button just then is taken for us, is told
     * so (life_tell_late()), and is left alone the next time, for this call has acted now. */
    if (l->record.asked_at_ms && late_ms < LATE_MS) {
        l->record.ours = true;
        l->came_late = late_ms > l->context.settle_ms && l->record.goal != LIFE_GOAL_ON;
    }
    l->context.keep(l->context.ctx, &l->record);
}

static void on_list(void *ctx, const struct instance_seen *seen, unsigned n, const struct fault *f)
{
    struct life *l = ctx;

    if (f) {
        life_event(l, LIFE_EV_BLIND, f);
        return;
    }
    life_note_age(l);
    if (l->context.listed)
        l->context.listed(l->context.ctx, seen, n);
    const struct instance_seen *m = life_find(l, seen, n);

    if (l->is_blind && l->fault.kind == FAULT_DENIED) {
        l->fault = (struct fault){0};
        runq_add(l->context.loop, &l->changed);
    }
    l->is_blind = false;
    if (!m && l->none.n == 0)
        l->none.from_due = clock_now_ms();
    l->none.n = m ? 0 : l->none.n + 1;
    l->seen = !m                         ? SEEN_NONE
              : m->power == INSTANCE_OFF ? SEEN_OFF
              : m->power == INSTANCE_ON  ? SEEN_ON
                                         : SEEN_CHANGING;
    if (m) {
        snprintf(l->record.id, sizeof l->record.id, "%s", m->id);
        l->record.create_open = l->is_gone = false;
        l->started.at_ms = m->started_at_ms;
        if (streq(l->fault.code, "vanished"))
            l->fault = (struct fault){0};
        life_note_act(l, m);
        life_see(l, m, seen, n);
    }
    life_event(l, LIFE_EV_SEEN, NULL);
    l->here.seen_not_on = l->record.state == LIFE_STOPPING && l->seen != SEEN_ON;
}

void life_look(struct life *l)
{
    if (!l->look)
        l->context.ops->list(l->context.rental, &l->look, on_list, l);
}

/* One that somebody else made, was on or on its way there when it was seen last, and was not found off since.
 * Of those, a list that leaves it out says nothing about its bill. */
static bool may_bill_unseen(const struct life *l)
{
    return l->record.adopted && (l->record.was_on || l->record.ours) && !l->is_gone;
}

/* Of one that is to be given back: that was heard, or it is in no list for long. */
static bool may_be_released(const struct life *l, uint64_t now)
{
    return l->is_given_back || now - l->none.from_due >= RELEASED_MS;
}

/* A database that is older than its machines counts from where it was. What has a number up to ours is ours. */
static bool is_next_taken(const struct life *l)
{
    char name[INSTANCE_NAME_MAX];

    snprintf(name, sizeof name, "%s-%u", l->context.prefix, l->record.made + 1);
    return l->context.is_taken && !*l->record.id && !l->record.adopted &&
           l->context.is_taken(l->context.ctx, name);
}

void life_note_facts(struct life *l)
{
    uint64_t now = clock_now_ms();
    bool settled = is_settled(l, now);
    bool none = l->none.n >= 2 && !(l->context.answers && l->context.answers(l->context.ctx));

    l->facts.off_counts = l->record.acted || settled;
    /* One that is given back was off first: no call of ours can still make it appear. In the place of one of
     * others none is made, however wrong the lists were. */
    l->facts.is_missing = none && may_bill_unseen(l);
    l->facts.none_counts =
        none && !l->facts.is_missing &&
        (l->record.state == LIFE_RELEASING ? may_be_released(l, now) : settled || l->record.adopted);
    l->facts.came_up = l->age.asked_due && l->started.at_ms && l->started.at_ms != l->started.before_ms;
    l->facts.is_taken = is_next_taken(l);
    l->facts.late = now - l->here.entered_due > 2 * l->context.settle_ms;
    l->facts.hopeless =
        l->boots.n_failed + 1 >= LIFE_BOOTS_MAX && now - l->boots.from_due <= LIFE_BOOTS_WITHIN_MS;
}

/* ---- what is asked ---- */

void life_on_kept(void *ctx, const struct fault *f)
{
    life_event(ctx, f ? LIFE_EV_UNSTORED : LIFE_EV_STORED, f);
}

static void on_made(void *ctx, const char *id, const struct fault *f)
{
    struct life *l = ctx;

    if (!f) {
        snprintf(l->record.id, sizeof l->record.id, "%s", id);
        l->record.create_open = false;
    }
    life_event(l, f ? LIFE_EV_FAULT : LIFE_EV_MADE, f);
}

static void on_done(void *ctx, const struct fault *f)
{
    struct life *l = ctx;

    l->is_gone = l->is_gone || (f && f->kind == FAULT_GONE);
    l->is_given_back =
        l->is_given_back || (l->record.state == LIFE_RELEASING && (!f || f->kind == FAULT_GONE));
    life_event(l, f ? LIFE_EV_FAULT : LIFE_EV_DONE, f);
}

void life_act(struct life *l)
{
    const struct rental_ops *ops = l->context.ops;
    struct rental *r = l->context.rental;

    if (l->call)
        return; /* it is under way */
    switch (l->record.state) {
    case LIFE_CREATING: {
        struct instance_wish wish = *l->context.wish;

        snprintf(l->named, sizeof l->named, "%s-%u", l->context.prefix, l->record.made);
        wish.name = l->named;
        l->here.asked = true;
        life_rearm(l);
        ops->create(r, &wish, &l->call, on_made, l);
        break;
    }
    case LIFE_STARTING:
        l->here.asked = true;
        life_rearm(l);
        ops->start(r, l->record.id, &l->context.wish->start, &l->call, on_done, l);
        break;
    case LIFE_STOPPING:
        l->here.asked = true;
        if (*l->record.id)
            ops->stop(r, l->record.id, &l->call, on_done, l);
        break;
    case LIFE_RELEASING:
        l->here.asked = true;
        life_rearm(l);
        ops->release(r, l->record.id, &l->call, on_done, l);
        break;
    case LIFE_UNKNOWN:
    case LIFE_WAITING: life_look(l); break; /* what is on already need not be tried for */
    case LIFE_ABSENT:
    case LIFE_RUNNING:
    case LIFE_STOPPED:
    case LIFE_RELEASED: break;
    }
}

/* ---- time ---- */

static uint64_t resting_ms(const struct life *l)
{
    bool young = clock_now_ms() - l->here.entered_due < RESTING_MS;
    bool unsure = l->record.asked_at_ms && likely_age_ms(l, clock_now_ms()) < DAY_MS;

    return (l->record.state == LIFE_STOPPED ? young : unsure) ? WATCHFUL_MS : RESTING_MS;
}

/* What nobody wants and a call may still bring bills from then on until it is seen. */
static uint64_t unknown_ms(const struct life *l)
{
    uint64_t pause_ms = (uint64_t)POLL_MS << MIN(l->here.looks, 4u);

    return MIN(pause_ms, l->record.goal != LIFE_GOAL_ON && l->record.asked_at_ms ? UNWANTED_MS_MAX : UNKNOWN_MS_MAX);
}

static uint64_t timer_ms(const struct life *l)
{
    switch (l->record.state) {
    case LIFE_UNKNOWN: return unknown_ms(l);
    case LIFE_WAITING:
        /* A person has to do something first. */
        return l->fault.kind == FAULT_DENIED ? RESTING_MS : l->context.wait_ms(l->context.ctx);
    case LIFE_CREATING: return l->here.asked ? CREATE_MS : KEPT_MS;
    case LIFE_STARTING:
    case LIFE_RELEASING: return l->here.asked ? POLL_MS : KEPT_MS;
    case LIFE_RUNNING: return RUNNING_MS;
    case LIFE_STOPPING: return POLL_MS;
    case LIFE_ABSENT:
    case LIFE_RELEASED:
    case LIFE_STOPPED: return resting_ms(l);
    }
    return 0;
}

void life_rearm(struct life *l)
{
    timer_arm(l->timer, timer_ms(l));
    l->here.looks++;
}

/* Nobody but the provider can end a stop; people are told when it takes too long. */
static void life_watch_stop(struct life *l)
{
    if (l->record.state != LIFE_STOPPING || streq(l->fault.code, "stop_not_confirmed") ||
        clock_now_ms() - l->here.entered_due < l->context.stop_alarm_ms)
        return;
    fault_code(&l->fault, FAULT_TRANSIENT, "stop_not_confirmed",
               "the machine was told to switch off, and the provider does not say that it is off");
    if (!l->here.stop_told) /* once, although what else goes wrong takes its place as the fault in between */
        event_publish(LOG_LEVEL_ERR, LOG_PROVIDER, l->context.name, "stop_not_confirmed", "%s",
                      l->fault.text);
    l->here.stop_told = true;
    runq_add(l->context.loop, &l->changed);
}

void life_on_timer(void *ctx)
{
    struct life *l = ctx;

    life_watch_stop(l);
    life_event(l, LIFE_EV_TIMER, NULL);
}

/* After each change of state: whether the goal still agrees with where it is now. Others hear of it last,
 * they may free us. */
void life_on_changed(void *ctx)
{
    struct life *l = ctx;

    life_event(l, LIFE_EV_GOAL, NULL);
    l->context.changed(l->context.ctx, l);
}

/* ---- what people see and want ---- */

void life_want(struct life *l, enum life_goal goal)
{
    if (goal == LIFE_GOAL_ON && l->record.goal != goal && life_is_at_rest(l->record.state))
        l->fault = (struct fault){0}; /* what became of the last wish */
    l->record.goal = goal;
    if (l->record.state == LIFE_RUNNING || l->record.state == LIFE_UNKNOWN)
        l->record.ours = true; /* a word about one that may be on takes it over, whoever switched it on */
    if (streq(l->fault.code, "started_elsewhere"))
        l->fault = (struct fault){0};
    l->came_late &= goal != LIFE_GOAL_ON;
    l->boots.n_failed = 0;
    l->context.keep(l->context.ctx, &l->record);
    life_event(l, LIFE_EV_GOAL, NULL);
}

void life_try_now(struct life *l)
{
    if (l->record.state == LIFE_WAITING && l->fault.kind != FAULT_DENIED)
        timer_arm(l->timer, 0);
}

void life_leave(struct life *l)
{
    l->record.goal = LIFE_GOAL_OFF;
    l->record.ours = false;
    l->context.keep(l->context.ctx, &l->record);
}

void life_doubt(struct life *l)
{
    l->here.looks = 0;
    life_look(l);
}

enum life_state life_state(const struct life *l)
{
    return l->record.state;
}

enum life_goal life_goal(const struct life *l)
{
    return l->record.goal;
}

bool life_is_asking(const struct life *l)
{
    return (l->record.state == LIFE_CREATING || l->record.state == LIFE_STARTING) && l->call;
}

bool life_is_none(const struct life *l)
{
    bool may_come = l->record.create_open && (l->record.state != LIFE_CREATING || l->here.asked);

    return !*l->record.id && !may_come;
}

const struct life_record *life_record(const struct life *l)
{
    return &l->record;
}

const struct fault *life_trouble(const struct life *l)
{
    return &l->fault;
}

int64_t life_asked_at_ms(const struct life *l)
{
    return l->record.asked_at_ms ? clock_wall_ms() - (int64_t)likely_age_ms(l, clock_now_ms()) : 0;
}

int64_t life_doubted_until_at_ms(const struct life *l)
{
    bool ends = l->record.state == LIFE_STOPPING || l->record.state == LIFE_UNKNOWN;
    bool off = (l->seen == SEEN_OFF && !l->record.acted) ||
               (l->seen == SEEN_NONE && l->none.n && !may_bill_unseen(l));
    uint64_t left_ms = unsettled_ms(l, clock_now_ms());

    return ends && off && left_ms ? clock_wall_ms() + (int64_t)left_ms : 0;
}

bool life_is_missing(const struct life *l)
{
    return l->facts.is_missing;
}

int64_t life_next_at_ms(const struct life *l)
{
    uint64_t due = timer_due(l->timer);

    return due ? clock_wall_ms() + (int64_t)(due - clock_now_ms()) : 0;
}
