/* Sleep: when it falls asleep by itself (policy/idle.h), what keeps it from that, and what wakes it. */
#include "base/clock.h"
#include "base/event.h"
#include "base/timer.h"
#include "deployment/deployment_private.h"
#include "proto/text.h"
#include "store/store.h"

static struct idle_facts sleep_facts(const struct deployment *d)
{
    return (struct idle_facts){.ready_due = d->entered_due, .used_due = d->used_due, .flaps = d->flaps};
}

/* The instant at which something happens by itself; IDLE_NEVER. */
static uint64_t sleep_due(const struct deployment *d)
{
    struct idle_facts facts = sleep_facts(d);
    int64_t left_ms = d->keep_until_at_ms - clock_wall_ms();

    if (d->goal == GOAL_ON)
        return clock_now_ms() + (uint64_t)MAX(left_ms, (int64_t)0);
    if (d->goal == GOAL_OFF || d->state != DEPLOYMENT_READY || d->in_flight)
        return IDLE_NEVER;
    return idle_sleep_due(&d->context.idle, &facts);
}

void deployment_arm_sleep(struct deployment *d)
{
    uint64_t due = sleep_due(d), now = clock_now_ms();

    if (due == IDLE_NEVER)
        timer_disarm(d->sleep_timer);
    else
        timer_arm(d->sleep_timer, due > now ? due - now : 0);
}

int64_t deployment_sleeps_at_ms(const struct deployment *d)
{
    uint64_t due = d->goal == GOAL_ON ? IDLE_NEVER : sleep_due(d);

    return due == IDLE_NEVER ? 0 : clock_wall_ms() + (int64_t)(due - clock_now_ms());
}

uint64_t deployment_unload_ms(const struct deployment *d)
{
    struct idle_facts facts = sleep_facts(d);

    return idle_unload_ms(&d->context.idle, &facts);
}

static uint64_t keep_is_over(struct deployment *d)
{
    event_publish(LOG_LEVEL_NOTICE, LOG_DAEMON, d->name, "keep_over", "no longer kept");
    d->goal = GOAL_ON_DEMAND;
    d->keep_until_at_ms = 0;
    d->goal_at_ms = clock_wall_ms();
    runq_add(d->context.loop, &d->changed);
    return deployment_write(d);
}

void deployment_on_sleep_timer(void *ctx)
{
    struct deployment *d = ctx;
    char idle[TEXT_SHORT_MAX], why[80];

    if (d->goal == GOAL_ON && clock_wall_ms() >= d->keep_until_at_ms)
        keep_is_over(d);
    if (d->goal == GOAL_ON || sleep_due(d) > clock_now_ms()) {
        deployment_arm_sleep(d);
        return;
    }
    duration_format(idle, clock_now_ms() - MAX(d->used_due, d->entered_due), false);
    snprintf(why, sizeof why, "idle for %s", idle);
    deployment_sleep(d, false, why);
    d->dozed = true;
}

bool deployment_is_falling_asleep(const struct deployment *d)
{
    return d->sleeps;
}

bool deployment_is_to_sleep(const struct deployment *d)
{
    switch (d->state) {
    case DEPLOYMENT_OFF:
    case DEPLOYMENT_ASLEEP:
    case DEPLOYMENT_FAILED:
    case DEPLOYMENT_STOPPING: return false;
    case DEPLOYMENT_DRAINING: return d->sleeps && d->cut;
    case DEPLOYMENT_CONNECTING:
    case DEPLOYMENT_INSTALLING:
    case DEPLOYMENT_PLACING:
    case DEPLOYMENT_STARTING:
    case DEPLOYMENT_FETCHING:
    case DEPLOYMENT_LOADING:
    case DEPLOYMENT_READY: break;
    }
    return d->sleeps;
}

uint64_t deployment_sleep(struct deployment *d, bool cut, const char *why)
{
    if (d->goal == GOAL_OFF || d->state == DEPLOYMENT_FAILED)
        return 0;
    /* A word is one also where it slept by itself already, or was about to: a machine goes off for it. */
    if (streq(why, DEPLOYMENT_SLEEP_WORD) || (!d->sleeps && d->state != DEPLOYMENT_ASLEEP))
        snprintf(d->room, sizeof d->room, "%s", why);
    d->goal = GOAL_ON_DEMAND;
    d->keep_until_at_ms = 0;
    d->dozed = false;
    d->wanted_due = 0; /* deployment_wake() sets it anew */
    d->sleeps = d->state != DEPLOYMENT_ASLEEP;
    d->cut = d->sleeps && (d->cut || cut);
    runq_add(d->context.loop, &d->look);
    runq_add(d->context.loop, &d->changed);
    return deployment_write(d);
}

void deployment_wake(struct deployment *d)
{
    if (d->dozed)
        d->flaps = idle_flaps(&d->context.idle, d->flaps, clock_now_ms() - d->entered_due);
    if (!d->wanted_due)
        d->wanted_due = clock_now_ms();
    d->woken = true;
    deployment_event(d, DEPLOYMENT_EV_GOAL, NULL);
}

bool deployment_sleeps_by_word(const struct deployment *d)
{
    return (d->sleeps || d->state == DEPLOYMENT_ASLEEP) &&
           (streq(d->room, DEPLOYMENT_SLEEP_WORD) || streq(d->room, DEPLOYMENT_SLEEP_REQUEST));
}

uint64_t deployment_keep(struct deployment *d, int64_t until_at_ms)
{
    if (!until_at_ms) { /* that wakes nobody, and keeps nobody from going to sleep */
        uint64_t ticket = d->goal == GOAL_ON ? keep_is_over(d) : deployment_write(d);

        deployment_arm_sleep(d);
        return ticket;
    }
    d->keep_until_at_ms = until_at_ms;
    return deployment_want(d, GOAL_ON, false);
}
