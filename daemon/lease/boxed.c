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
    uint64_t stop_due; /* when that was; 0: it is not to stop */
    bool told;         /* and its guard has taken it, or may have */
    struct fault alarm;

    /* Of this login. */
    bool up, heard; /* heard: its guard was read, or there can be none */
    bool guarded, is_anothers;
    struct op *telling;

    bool no_guard; /* let go without, by name */
};

static void tell(struct boxed *b)
{
    runq_add(b->context.loop, &b->changed);
}

static void on_changed(void *ctx)
{
    struct boxed *b = ctx;

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
    tell(b);
}

static void boxed_forget_stop(struct boxed *b)
{
    b->stop_due = 0;
    b->told = false;
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
        boxed_enter(b, BOXED_OFF);
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

/* Nobody can renew: by its end, and the time it takes, the guard has stopped it. */
static void boxed_watch_lost(struct boxed *b)
{
    struct keeper_figures n;

    keeper_figures(b->keeper, &n);
    if (b->up || !n.acts_at_ms || b->state == BOXED_UNKNOWN || b->state == BOXED_OFF)
        return;
    int64_t left_ms = n.acts_at_ms + GRACE_MS - clock_wall_ms();

    if (left_ms > 0)
        timer_arm(b->timer, (uint64_t)left_ms);
    else
        boxed_enter(b, BOXED_OFF);
}

static void boxed_begins(struct boxed *b, const char *cycle)
{
    snprintf(b->cycle, sizeof b->cycle, "%s", cycle);
    boxed_forget_stop(b);
    b->stop_asked_at_ms = 0;
    b->cycles++;
    boxed_enter(b, BOXED_ON);
}

/* Who answers is the machine that was told to stop. */
static void boxed_is_back(struct boxed *b)
{
    boxed_enter(b, BOXED_STOPPING);
    boxed_alarm(b);
}

static void boxed_is_heard(struct boxed *b, const struct keeper_figures *n, bool acts)
{
    bool first = !b->heard;

    b->heard = true;
    if (*n->cycle && !streq(n->cycle, b->cycle))
        boxed_begins(b, n->cycle);
    else if (b->state == BOXED_OFF && b->told)
        boxed_is_back(b);
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
        if (s == KEEPER_USELESS)
            *n.cycle = '\0'; /* nobody has read it now */
        b->guarded = s == KEEPER_KEPT || s == KEEPER_REFUSED;
        b->is_anothers = s == KEEPER_REFUSED;
        boxed_is_heard(b, &n, acts);
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
    boxed_watch_lost(b);
}

void boxed_on_session(struct boxed *b, bool up)
{
    if (up == b->up)
        return;
    b->up = up;
    b->heard = b->guarded = b->is_anothers = false; /* it may be another power-on that we find */
    timer_disarm(b->timer);
    if (up && b->state == BOXED_UNKNOWN)
        boxed_enter(b, BOXED_ON);
    keeper_way(b->keeper, up);
    if (!up && b->state == BOXED_STOPPING && b->told) {
        b->alarm = (struct fault){};
        boxed_enter(b, BOXED_OFF);
    }
    boxed_watch_lost(b);
    tell(b);
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

/* ---- beginning and end ---- */

/* It is read before it is asked, and what is read is gone on from. */
static void on_seq_used(void *ctx, uint64_t seq)
{
    (void)ctx, (void)seq;
}

struct boxed *boxed_new(const struct boxed_context *context)
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
    b->since_at_ms = clock_wall_ms();
    work_init(&b->changed, on_changed, b);
    b->timer = timer_new(context->loop, on_timer, b);
    b->keeper = keeper_new(&keeper);
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
    };
}

const struct fault *boxed_trouble(const struct boxed *b)
{
    static const struct fault none = {};

    if (b->alarm.kind)
        return &b->alarm;
    return b->up && b->state == BOXED_ON ? keeper_fault(b->keeper) : &none;
}
