/* What the models on a machine want of its power, and what becomes of them when it goes off. */
#include "manager_power.h"

#include "base/clock.h"
#include "lease/lease.h"

/* ---- what they want ---- */

/* On its way to memory: what a machine is switched on for. */
static bool is_wish(const struct deployment *d)
{
    enum deployment_state s = deployment_state(d);

    return deployment_goal(d) != GOAL_OFF && s >= DEPLOYMENT_CONNECTING && s <= DEPLOYMENT_LOADING &&
           !deployment_is_falling_asleep(d);
}

static bool is_in_memory(const struct deployment *d)
{
    enum deployment_state s = deployment_state(d);

    return s == DEPLOYMENT_READY || s == DEPLOYMENT_DRAINING || s == DEPLOYMENT_STOPPING ||
           (deployment_is_falling_asleep(d) && s >= DEPLOYMENT_CONNECTING && s <= DEPLOYMENT_LOADING);
}

/* One that failed is kept by nobody's word: it is not there to be kept. */
static bool is_used(const struct deployment *d, const struct deployment_figures *n)
{
    enum deployment_state s = deployment_state(d);

    return is_wish(d) || (deployment_goal(d) == GOAL_ON && s != DEPLOYMENT_FAILED) ||
           (s == DEPLOYMENT_READY && n->open + n->held);
}

#define FOREACH_MODEL(d, p)                                                                                  \
    LIST_FOREACH (d, &(p)->manager->deployments, struct managed_deployment, node)                            \
        if (deployment_lease(d->deployment) == (p)->lease)

bool power_has_wish(const struct power *p)
{
    FOREACH_MODEL (d, p)
        if (is_wish(d->deployment))
            return true;
    return false;
}

bool power_has_open(const struct power *p)
{
    struct deployment_figures n;

    FOREACH_MODEL (d, p) {
        deployment_figures(d->deployment, &n);
        if (n.open)
            return true;
    }
    return false;
}

static void add_facts(struct stay_facts *f, const struct deployment *d, uint64_t now)
{
    struct deployment_figures n;

    deployment_figures(d, &n);
    f->in_memory |= is_in_memory(d);
    f->used_due = MAX(f->used_due, n.used_due);
    if (n.asked_due)
        f->begun_due = 0;
    if (deployment_goal(d) == GOAL_OFF)
        return;
    f->asleep_by_word = (f->asleep_by_word || !f->any_goal) && deployment_sleeps_by_word(d);
    f->any_goal = true;
    f->wanted |= is_used(d, &n);
    if (deployment_state(d) == DEPLOYMENT_FAILED)
        f->failed_due = MAX(f->failed_due, n.since_due);
    else
        f->hold_until_due = MAX(f->hold_until_due, clock_due_of(n.keep_until_at_ms, now));
}

void power_add_models(const struct power *p, struct stay_facts *f, uint64_t now)
{
    FOREACH_MODEL (d, p)
        add_facts(f, d->deployment, now);
}

uint64_t power_models_kept_due(const struct power *p, const struct deployment *but, uint64_t now)
{
    struct deployment_figures n;
    uint64_t due = 0;

    FOREACH_MODEL (d, p) {
        deployment_figures(d->deployment, &n);
        if (d->deployment != but)
            due = MAX(due, clock_due_of(n.keep_until_at_ms, now));
    }
    return due;
}

/* ---- what follows for them ---- */

void power_sleep_models(const struct power *p, bool cut, const char *why)
{
    FOREACH_MODEL (d, p)
        if (is_wish(d->deployment) || is_in_memory(d->deployment))
            if (cut || !deployment_is_falling_asleep(d->deployment))
                deployment_sleep(d->deployment, cut, why);
}

void power_end_models(const struct power *p, bool cut, const struct fault *why)
{
    FOREACH_MODEL (d, p)
        deployment_end(d->deployment, why, cut);
}

void power_give_up_models(const struct power *p, const struct fault *why)
{
    FOREACH_MODEL (d, p)
        deployment_give_up(d->deployment, why);
}

void power_lose_machine(const struct power *p, const char *why)
{
    FOREACH_MODEL (d, p)
        deployment_machine_is_off(d->deployment, why);
}

void power_lose_servers(const struct power *p, const char *why)
{
    FOREACH_MODEL (d, p)
        if (!is_wish(d->deployment))
            deployment_machine_is_off(d->deployment, why);
}

/* Those begun by requests that have all gone are no wish any more. */
void power_leave_waiting(const struct power *p)
{
    struct deployment_figures n;

    FOREACH_MODEL (d, p) {
        deployment_figures(d->deployment, &n);
        if (is_wish(d->deployment) && n.by_request && !n.open && !n.held)
            deployment_sleep(d->deployment, true, "nobody waits for a machine any more");
    }
}
