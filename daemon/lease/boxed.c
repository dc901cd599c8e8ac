/* A keeper without a provider. What the machine is can be told by three things alone: the session, what the
 * guard says, and of which power-on the guard says it. */
#include "lease/boxed.h"

#include <stdio.h>

#include "base/clock.h"
#include "base/event.h"
#include "base/loop.h"
#include "base/op.h"
#include "base/runq.h"
#include "base/settings.h"
#include "base/timer.h"
#include "guard/keeper.h"
#include "proto/mem.h"
#include "proto/text.h"
#include "store/store.h"

#define AGAIN_MS 20000u /* as often as its guard tries another way */
#define ALARM_MS 90000u /* four ways at a period of 20 s, and it is still there */
#define GRACE_MS 60000  /* a guard that nobody renews has stopped it so long after its end */
#define USED_S   60     /* the last use is written down so exactly */

struct boxed {
    struct boxed_context context;
    struct keeper *keeper;
    struct work changed;
    struct timer *timer;
    enum boxed_state state;
    int64_t since_at_ms;
    unsigned cycles;

    /* Of this power-on. */
    char cycle[64]; /* as its guard has it; "": not read yet */
    int64_t stop_asked_at_ms;
    uint64_t stop_due;  /* when that was; 0: it is not to stop */
    bool told;          /* and its guard has taken it, or may have */
    int64_t acts_at_ms; /* its guard, as of its last answer */
    int64_t used_s;     /* the last use, by its own clock; -1: unknown */
    struct fault alarm;

    enum boxed_trial trial;
    int64_t tried_at_ms;
    struct fault failed; /* what that says of its guard */
    bool drills;
    uint64_t away_due; /* it went when it was told to, and this is over when it stayed away; 0: not so */

    /* Of this login. */
    bool up, nobody; /* nobody: answers there */
    bool heard;      /* its guard was read, or there can be none */
    bool guarded, is_anothers;
    struct op *telling;

    bool no_guard; /* let go without, by name */
};

static void tell(struct boxed *b)
{
    runq_add(b->context.loop, &b->changed);
}

/* Nobody waits for that: a stop waits for no disk. */
static void boxed_write(const struct boxed *b)
{
    const struct boxed_record r = {
        .state = (char *)boxed_state_name(b->state),
        .cycle = (char *)b->cycle,
        .since_at_ms = b->since_at_ms,
        .stop_asked_at_ms = b->stop_asked_at_ms,
        .told = b->told,
        .no_guard = b->no_guard,
        .acts_at_ms = b->acts_at_ms,
        .trial = (char *)boxed_trial_name(b->trial),
        .tried_at_ms = b->tried_at_ms,
        .used_s = b->used_s,
    };

    store_put_boxed(b->context.store, b->context.name, &r);
}

static void on_changed(void *ctx)
{
    struct boxed *b = ctx;

    boxed_write(b);
    b->context.changed(b->context.ctx);
}

/* The only place that writes b->state. */
static void boxed_enter(struct boxed *b, enum boxed_state next)
{
    if (b->state == next)
        return;
    log_line(LOG_LEVEL_INFO, LOG_PROVIDER, b->context.name, "machine: %s -> %s", boxed_state_name(b->state),
             boxed_state_name(next));
    b->state = next;
    b->since_at_ms = clock_wall_ms();
    tell(b);
}

/* ---- on its way off ---- */

static void boxed_know_trial(struct boxed *b, enum boxed_trial trial, int64_t at_ms)
{
    b->trial = trial;
    b->tried_at_ms = at_ms;
    b->failed = (struct fault){};
    if (trial == BOXED_STAYED || trial == BOXED_CAME_BACK)
        fault_code(&b->failed, FAULT_INVALID, "guard_failed", "%s was told to switch itself off, and %s",
                   b->context.name,
                   trial == BOXED_STAYED ? "was still there when its guard had tried all its ways"
                                         : "came back by itself");
}

static void boxed_note_trial(struct boxed *b, enum boxed_trial trial)
{
    boxed_know_trial(b, trial, clock_wall_ms());
    b->drills = false;
    b->away_due = 0;
    tell(b);
}

static void boxed_alarm(struct boxed *b)
{
    bool is_news = !b->alarm.kind;
    char took[TEXT_SHORT_MAX];

    fault_code(
        &b->alarm, FAULT_TRANSIENT, "stop_not_confirmed",
        "%s was told to switch itself off %s ago, and is still there: it may still be billed",
        b->context.name,
        duration_format(took, (uint64_t)MAX(clock_wall_ms() - b->stop_asked_at_ms, (int64_t)0), false));
    if (is_news)
        event_publish(LOG_LEVEL_ERR, LOG_PROVIDER, b->context.name, "stop_not_confirmed", "%s",
                      b->alarm.text);
    if (b->told && b->tried_at_ms < b->stop_asked_at_ms && clock_now_ms() - b->stop_due >= ALARM_MS)
        boxed_note_trial(b, BOXED_STAYED);
    tell(b);
}

/* It went, which a trial is only where its guard did not need all its ways, or more time than they take: it
 * may be the network that went then. */
static void boxed_goes(struct boxed *b)
{
    bool at_once = !b->alarm.kind && b->stop_due && clock_now_ms() - b->stop_due < ALARM_MS;

    b->alarm = (struct fault){};
    boxed_enter(b, BOXED_OFF);
    if (!at_once)
        return;
    b->away_due = clock_now_ms() + BOXED_AWAY_MS;
    timer_arm(b->timer, BOXED_AWAY_MS);
}

static void boxed_forget_stop(struct boxed *b)
{
    b->stop_due = 0;
    b->told = b->drills = false;
    b->away_due = 0;
    b->alarm = (struct fault){};
}

/* One that went off before it could answer was told all the same. */
static void on_told(void *ctx, const struct fault *f)
{
    struct boxed *b = ctx;

    if (!f || f->kind == FAULT_UNCERTAIN)
        b->told = true;
    if (f && streq(f->code, "other_owner") && b->stop_due) {
        boxed_forget_stop(b);
        boxed_enter(b, BOXED_ON);
    }
    if (b->told && !b->up && b->state == BOXED_STOPPING)
        boxed_goes(b);
    tell(b);
}

/* Not before it is known of which power-on the machine is that answers. */
static void boxed_tell_guard(struct boxed *b)
{
    if (b->telling || !b->up || !b->heard || b->state != BOXED_STOPPING)
        return;
    keeper_stop_now(b->keeper, &b->telling, on_told, b);
    timer_arm(b->timer, AGAIN_MS);
}

/* ---- what is seen ---- */

/* Nobody can renew: by its end, and the time it takes, the guard has stopped it. One that a daemon before
 * this one knew is looked for first. */
static void boxed_watch_lost(struct boxed *b)
{
    if (b->up || !b->acts_at_ms || b->state == BOXED_OFF || (b->state == BOXED_UNKNOWN && !b->nobody))
        return;
    int64_t left_ms = b->acts_at_ms + GRACE_MS - clock_wall_ms();

    if (left_ms > 0)
        timer_arm(b->timer, (uint64_t)left_ms);
    else
        boxed_enter(b, BOXED_OFF);
}

static void boxed_begins(struct boxed *b, const char *cycle)
{
    if (b->drills && b->away_due)
        boxed_note_trial(b, BOXED_CAME_BACK);
    snprintf(b->cycle, sizeof b->cycle, "%s", cycle);
    boxed_forget_stop(b);
    b->stop_asked_at_ms = 0;
    b->used_s = -1;
    b->cycles++;
    boxed_enter(b, BOXED_ON);
}

/* Who answers is the machine that was told to stop. */
static void boxed_on_back(struct boxed *b)
{
    boxed_enter(b, BOXED_STOPPING);
    boxed_alarm(b);
}

static void boxed_on_heard(struct boxed *b, const struct keeper_figures *n, bool acts)
{
    bool first = !b->heard;

    b->heard = true;
    if (*n->cycle && !streq(n->cycle, b->cycle))
        boxed_begins(b, n->cycle);
    else if (b->state == BOXED_OFF && b->told)
        boxed_on_back(b);
    else if (b->state == BOXED_OFF || b->state == BOXED_UNKNOWN)
        boxed_enter(b, BOXED_ON);
    if (acts && b->state == BOXED_ON) { /* by its own end, or by the word of a daemon before this one */
        b->stop_asked_at_ms = clock_wall_ms();
        b->stop_due = clock_now_ms();
        b->told = true;
        boxed_enter(b, BOXED_STOPPING);
        timer_arm(b->timer, AGAIN_MS);
    } else if (first) {
        boxed_tell_guard(b);
    }
}

static void on_keeper(void *ctx)
{
    struct boxed *b = ctx;
    enum keeper_state s = keeper_state(b->keeper);
    bool acts = streq(keeper_fault(b->keeper)->code, "guard_acts");
    struct keeper_figures n;

    if (b->up && (acts || s == KEEPER_KEPT || s == KEEPER_REFUSED || s == KEEPER_USELESS)) {
        keeper_figures(b->keeper, &n);
        b->acts_at_ms = n.acts_at_ms;
        if (s == KEEPER_USELESS)
            *n.cycle = '\0'; /* nobody has read it now */
        b->guarded = s == KEEPER_KEPT || s == KEEPER_REFUSED;
        b->is_anothers = s == KEEPER_REFUSED;
        boxed_on_heard(b, &n, acts);
    }
    tell(b);
}

static void on_timer(void *ctx)
{
    struct boxed *b = ctx;

    if (b->state == BOXED_STOPPING && b->up) {
        if (clock_now_ms() - b->stop_due >= ALARM_MS || b->alarm.kind)
            boxed_alarm(b);
        timer_arm(b->timer, AGAIN_MS);
        boxed_tell_guard(b);
    }
    if (b->away_due && clock_now_ms() >= b->away_due)
        boxed_note_trial(b, BOXED_WENT);
    boxed_watch_lost(b);
}

/* It may be another power-on that we find. */
static void boxed_turn(struct boxed *b, bool up)
{
    b->up = up;
    b->heard = b->guarded = b->is_anothers = false;
    timer_disarm(b->timer);
    if (up && b->state == BOXED_UNKNOWN)
        boxed_enter(b, BOXED_ON);
    keeper_way(b->keeper, up);
    if (!up && b->state == BOXED_STOPPING && b->told)
        boxed_goes(b);
    tell(b);
}

void boxed_on_session(struct boxed *b, enum boxed_way way)
{
    bool nobody = way == BOXED_WAY_NOBODY, is_news = nobody && !b->nobody;

    b->nobody = nobody;
    if ((way == BOXED_WAY_UP) != b->up)
        boxed_turn(b, way == BOXED_WAY_UP);
    else if (!is_news)
        return;
    if (nobody && b->state == BOXED_STOPPING && b->told)
        boxed_enter(b, BOXED_OFF); /* while no daemon was there */
    boxed_watch_lost(b);
}

/* ---- what is wanted ---- */

void boxed_stop(struct boxed *b)
{
    if (b->state == BOXED_OFF || b->is_anothers)
        return;
    if (!b->stop_due) {
        b->stop_due = clock_now_ms();
        b->stop_asked_at_ms = clock_wall_ms();
    }
    boxed_enter(b, BOXED_STOPPING);
    boxed_tell_guard(b);
}

void boxed_drill(struct boxed *b)
{
    b->drills = true;
    boxed_stop(b);
}

bool boxed_stay(struct boxed *b)
{
    if (b->state != BOXED_STOPPING || b->told || b->telling)
        return false;
    boxed_forget_stop(b);
    b->stop_asked_at_ms = 0;
    boxed_enter(b, BOXED_ON);
    boxed_watch_lost(b);
    return true;
}

void boxed_hold(struct boxed *b, uint64_t for_ms)
{
    keeper_hold(b->keeper, (uint32_t)MIN(for_ms / 1000, (uint64_t)GUARD_HOLD_S_MAX));
}

void boxed_take(struct boxed *b)
{
    keeper_take(b->keeper);
}

void boxed_allow(struct boxed *b, bool no_guard)
{
    if (b->no_guard != no_guard)
        tell(b);
    b->no_guard = no_guard;
}

/* ---- when it was used ---- */

/* Its own clock at that instant of ours; false: it was not read in this power-on. */
static bool boxed_clock(const struct boxed *b, uint64_t due, int64_t *ret_s)
{
    struct keeper_figures n;

    keeper_figures(b->keeper, &n);
    if (!n.box_due || !*n.cycle || !streq(n.cycle, b->cycle))
        return false;
    *ret_s = n.box_s + ((int64_t)due - (int64_t)n.box_due) / 1000;
    return true;
}

void boxed_note_used(struct boxed *b, uint64_t used_due)
{
    int64_t s;

    if (!boxed_clock(b, used_due, &s) || (b->used_s >= 0 && s < b->used_s + USED_S))
        return;
    b->used_s = MAX(s, (int64_t)0);
    tell(b);
}

bool boxed_unused_ms(const struct boxed *b, uint64_t now, uint64_t *ret_ms)
{
    int64_t s;

    if (b->used_s < 0 || !boxed_clock(b, now, &s))
        return false;
    *ret_ms = (uint64_t)MAX(s - b->used_s, (int64_t)0) * 1000;
    return true;
}

/* ---- beginning and end ---- */

/* It is read before it is asked, and what is read is gone on from. */
static void on_seq_used(void *ctx, uint64_t seq)
{
    (void)ctx, (void)seq;
}

/* What it is must be seen again; what was said of it stands. */
static void boxed_restore(struct boxed *b, const struct boxed_record *r)
{
    if (streq(r->state, boxed_state_name(BOXED_STOPPING)))
        b->state = BOXED_STOPPING;
    else if (streq(r->state, boxed_state_name(BOXED_OFF)))
        b->state = BOXED_OFF;
    if (b->state != BOXED_UNKNOWN)
        b->since_at_ms = r->since_at_ms;
    snprintf(b->cycle, sizeof b->cycle, "%s", r->cycle);
    b->stop_asked_at_ms = r->stop_asked_at_ms;
    b->stop_due = b->state == BOXED_STOPPING ? clock_now_ms() : 0;
    b->told = r->told;
    b->no_guard = r->no_guard;
    b->acts_at_ms = r->acts_at_ms;
    b->used_s = r->used_s;
    for (unsigned i = BOXED_UNTRIED; i <= BOXED_CAME_BACK; i++)
        if (streq(r->trial, boxed_trial_name(i)))
            boxed_know_trial(b, i, r->tried_at_ms);
}

struct boxed *boxed_new(const struct boxed_context *context, const struct boxed_record *record)
{
    struct boxed *b = xnew(struct boxed);
    const struct keeper_context keeper = {
        .loop = context->loop,
        .host = context->host,
        .name = context->name,
        .owner = store_daemon_id(context->store),
        .lease_s = (uint32_t)(settings_ms(context->settings, "guard", "lease") / 1000),
        .first_s = (uint32_t)(settings_ms(context->settings, "guard", "first") / 1000),
        .seq_used = on_seq_used,
        .changed = on_keeper,
        .ctx = b,
    };

    b->context = *context;
    b->used_s = -1;
    b->since_at_ms = clock_wall_ms();
    work_init(&b->changed, on_changed, b);
    b->timer = timer_new(context->loop, on_timer, b);
    b->keeper = keeper_new(&keeper);
    if (record)
        boxed_restore(b, record);
    tell(b);
    return b;
}

struct boxed *boxed_free(struct boxed *b)
{
    if (!b)
        return NULL;
    op_cancel(&b->telling);
    b->keeper = keeper_free(b->keeper);
    timer_free(b->timer);
    runq_drop(&b->changed);
    free(b);
    return NULL;
}

/* ---- what people see ---- */

enum boxed_state boxed_state(const struct boxed *b)
{
    return b->state;
}

const char *boxed_state_name(enum boxed_state s)
{
    static const char *const names[] = {"unknown", "running", "stopping", "stopped?"};

    return names[s];
}

const char *boxed_trial_name(enum boxed_trial t)
{
    static const char *const names[] = {"untried", "went", "stayed", "came_back"};

    return names[t];
}

bool boxed_is_guarded(const struct boxed *b)
{
    return b->guarded || b->no_guard;
}

bool boxed_is_anothers(const struct boxed *b)
{
    return b->is_anothers;
}

const struct keeper *boxed_keeper(const struct boxed *b)
{
    return b->keeper;
}

void boxed_figures(const struct boxed *b, struct boxed_figures *ret)
{
    *ret = (struct boxed_figures){
        .since_at_ms = b->since_at_ms,
        .stop_asked_at_ms = b->stop_asked_at_ms,
        .cycles = b->cycles,
        .told = b->told,
        .acts_at_ms = b->acts_at_ms,
        .trial = b->trial,
        .tried_at_ms = b->tried_at_ms,
    };
}

const struct fault *boxed_trouble(const struct boxed *b)
{
    static const struct fault none = {};

    if (b->alarm.kind)
        return &b->alarm;
    if (!b->up || b->state != BOXED_ON)
        return &none;
    return keeper_fault(b->keeper)->kind ? keeper_fault(b->keeper) : &b->failed;
}
