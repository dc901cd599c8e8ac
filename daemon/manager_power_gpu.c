/* Whether the cards of a machine compute, where somebody wants that to count ([idle] gpu_use): a training, a
 * notebook, which asks no model and types nothing. It is use like a login that is typed into, no more: it keeps
 * the machine on for quiet_hold at most, and what is not known keeps nothing on. */
#include "manager_power.h"

#include "base/clock.h"
#include "base/log.h"
#include "base/settings.h"
#include "lease/boxed.h"
#include "lease/lease.h"
#include "lease/rented.h"

#define PARTS 3 /* so many looks in the time after which it is stopped, or one each minute, if that is more */

static unsigned threshold(const struct power *p)
{
    return settings_percent(p->manager->context.settings, "idle", "gpu_use");
}

static void on_gpu(void *ctx, int percent, const char *why)
{
    struct power *p = ctx;
    bool is_unknown = percent == GPU_USE_UNKNOWN;

    if (is_unknown && !p->gpu_is_dark)
        log_line(LOG_LEVEL_WARNING, LOG_DAEMON, lease_name(p->lease),
                 "whether its cards compute is not known, and keeps it no longer: %s", why);
    p->gpu_is_dark = is_unknown;
    if (is_unknown || (unsigned)percent <= threshold(p))
        return;
    p->gpu_due = clock_now_ms();
    p->gpu_percent = (unsigned)percent;
    power_judge_anew(p);
}

/* Another's, or somebody's own, is not ours to end, nor to run anything on. */
static bool is_worth_a_look(const struct power *p)
{
    if (!p->on_due || !lease_is_reachable(p->lease))
        return false;
    if (!p->rented)
        return !boxed_is_anothers(lease_boxed(p->lease));
    return !rented_is_anothers(p->rented) && !rented_is_left_alone(p->rented) &&
           !rented_is_without_card(p->rented);
}

void power_look_at_gpu(struct power *p, uint64_t now)
{
    uint64_t stop_ms = power_rule(p).stop_ms;

    if (!threshold(p) || !stop_ms)
        return;
    if (!is_worth_a_look(p)) {
        op_cancel(&p->gpu_look);
        p->gpu_look_due = 0;
        return;
    }
    if (p->gpu_look_due && now < p->gpu_look_due)
        return;
    p->gpu_look_due = now + MIN(MAX(stop_ms / PARTS, 1000u), (uint64_t)LOOK_MS);
    if (!p->gpu_look)
        gpu_use_ask(lease_host(p->lease), &p->gpu_asker, &p->gpu_look, on_gpu, p);
}
