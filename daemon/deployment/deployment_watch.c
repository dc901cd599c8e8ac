/* A server that loads a model says nothing until that is done, and its step waits for as long as the engine
 * allows. So it is looked at beside it: one that was stopped, or does nothing at all, is started anew
 * (policy/alive.h has the rule). */
#include "deployment/deployment_private.h"

#include "base/clock.h"
#include "base/timer.h"
#include "lease/lease.h"

#define LOOK_MS 5000

static void watch_begin(struct deployment *d)
{
    alive_load_begins(&d->load, clock_now_ms());
    timer_arm(d->watch_timer, LOOK_MS);
}

static void watch_on_looked(void *ctx, const struct engine_life *life, const struct fault *f)
{
    struct deployment *d = ctx;
    struct fault hangs;

    if (f || life->pid <= 0) { /* what cannot be heard is not silent; one that ended tells its step */
        watch_begin(d);
        return;
    }
    timer_arm(d->watch_timer, LOOK_MS);
    if (!alive_load_hangs(&d->load, clock_now_ms(), life->computed_ms, life->moved_bytes, life->stopped))
        return;
    fault_code(&hangs, FAULT_TRANSIENT, "no_answer", "%s %s on %s while it loaded %s", d->engine->ops->name,
               life->stopped ? "was stopped (SIGSTOP)" : "hung, and neither computed nor read anything,",
               lease_name(d->lease), d->id);
    d->engine->hung_pid = life->pid; /* the next start ends it */
    deployment_event(d, DEPLOYMENT_EV_FAULT, &hangs);
}

void deployment_on_watch_timer(void *ctx)
{
    struct deployment *d = ctx;

    d->engine->ops->look(d->engine, &d->watch_op, watch_on_looked, d);
}

void deployment_watch(struct deployment *d)
{
    op_cancel(&d->watch_op);
    timer_disarm(d->watch_timer);
    if (d->state == DEPLOYMENT_LOADING)
        watch_begin(d);
}
