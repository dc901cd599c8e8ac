/* What took too long, at the limit of a call or before it: a stop that nobody confirms, which goes on billing,
 * and a search that found no card so far. */
#include "control/machines.h"

#include "base/clock.h"
#include "base/fault.h"
#include "control/explain.h"
#include "control/follow.h"
#include "control/show_rent.h"
#include "control/up_second.h"
#include "guard/keeper.h"
#include "lease/account.h"
#include "lease/boxed.h"
#include "lease/lease.h"
#include "lease/rented.h"
#include "proto/buf.h"
#include "proto/text.h"
#include "provider/known_host.h"

static void boxed_fail_stop(struct follow *w, const struct lease *l)
{
    const struct known_host *where = known_host_find(lease_record(l)->host);
    _cleanup_free_ char *why = xasprintf("its guard was told to stop it, and is told again and again%s%s",
                                         where ? "; switch it off at " : "", where ? where->console_url : "");
    _cleanup_free_ char *next = xasprintf("llmhostctl down %s --now", lease_name(l));

    call_fail(w->call, EXIT_NOT_CONFIRMED, "stop_not_confirmed", lease_name(l), why, next,
              "STOP NOT CONFIRMED: %s is still there, and may still be billed", lease_name(l));
}

void machines_fail_stop(struct follow *w, struct lease *l)
{
    if (lease_boxed(l)) {
        boxed_fail_stop(w, l);
        return;
    }

    const struct rented *r = lease_rented(l);
    const struct rental_ops *ops = account_ops(rented_account(r));
    const struct keeper *k = rented_keeper(r);
    struct keeper_figures guard = {0};
    struct rented_figures n;
    char rate[TEXT_SHORT_MAX] = "?", since[TEXT_SHORT_MAX], at[MINUTE_TEXT_MAX];
    _cleanup_free_ char *why = NULL, *by_guard = NULL, *next = NULL, *says = NULL;
    bool estimate;
    int64_t rate_milli = rental_rate(l, &estimate);

    if (k)
        keeper_figures(k, &guard);
    rented_figures(r, &n);
    if (rate_milli)
        money_format(rate, rate_milli, ops->unit);
    if (n.guard_told)
        by_guard = xasprintf("its guard was told to stop it");
    else if (guard.acts_at_ms)
        by_guard =
            xasprintf("the guard on the machine switches it off by %s", minute_format(at, guard.acts_at_ms));
    duration_format(since, (uint64_t)MAX(clock_wall_ms() - n.stop_asked_at_ms, (int64_t)0), false);
    says = *n.word ? xasprintf("%s still says \"%s\" after %s", ops->title, n.word, since)
                   : xasprintf("%s does not list it, and did not say that it is off", ops->title);
    why = xasprintf("%s; it is asked again and again; %s; check: %s", says,
                    by_guard ? by_guard : "no guard on it is known", ops->console_url);
    next = xasprintf("llmhostctl wait %s --for=confirmed\nllmhostctl down %s --now", lease_name(l),
                     lease_name(l));
    call_fail(w->call, EXIT_NOT_CONFIRMED, "stop_not_confirmed", lease_name(l), why, next,
              "STOP NOT CONFIRMED: %s may still be billed at %s%s/h", lease_name(l), rate,
              estimate ? "~" : "");
}

char *machine_stake(const struct lease *l, const char *name)
{
    const struct rented *r = lease_rented(l);
    const struct keeper *k = rented_keeper(r);
    struct keeper_figures guard = {0};
    struct rented_figures n;
    char rate[TEXT_SHORT_MAX], at[MINUTE_TEXT_MAX];
    bool estimate;
    int64_t rate_milli = rental_rate(l, &estimate);

    if (k)
        keeper_figures(k, &guard);
    rented_figures(r, &n);
    _cleanup_free_ char *price =
        rate_milli ? xasprintf(" at %s%s/h",
                               money_format(rate, rate_milli, account_ops(rented_account(r))->unit),
                               estimate ? "~" : "")
                   : xstrdup("");
    const char *on = n.state == LIFE_RUNNING || (n.state == LIFE_STOPPING && *n.word) ? "is on" : "may be on";

    if (lease_is_reachable(l) && n.goal == LIFE_GOAL_ON) /* which renews its guard */
        return xasprintf("%s %s%s", name, on, price);
    if (!guard.acts_at_ms)
        return xasprintf("%s %s%s, and no guard of it is known", name, on, price);
    return xasprintf("%s %s%s, its guard ends it by %s", name, on, price,
                     minute_format(at, guard.acts_at_ms));
}

/* Why it is not off: its provider, or our account there, has said so; else what it says of the machine. */
static char *off_is_late(const struct lease *l)
{
    const struct rented *r = lease_rented(l);
    const struct fault *f = rented_trouble(r);
    const char *title = account_ops(rented_account(r))->title;
    struct rented_figures n;

    rented_figures(r, &n);
    if (!f->kind)
        f = account_trouble(rented_account(r));
    if (f->kind && f->kind != FAULT_EXHAUSTED)
        return xstrdup(f->text);
    return *n.word ? xasprintf("%s still says \"%s\"", title, n.word)
                   : xasprintf("%s has not said that it is off", title);
}

/* It is rented, and w waits for its end. */
static bool is_to_end(const struct follow *w, const struct follow_machine *m)
{
    return w->end && m->lease && lease_rented(m->lease) && !m->stays && !machine_is_off(m->lease);
}

char *machines_bill_on(const struct follow *w)
{
    struct buf out;

    buf_init(&out, 4096);
    for (unsigned i = 0; i < w->n_machines; i++) {
        if (!is_to_end(w, &w->machines[i]))
            continue;
        _cleanup_free_ char *one =
            machine_stake(w->machines[i].lease, lease_name(w->machines[i].lease));

        buf_addf(&out, "%s%s", out.len ? "; " : "", one);
    }
    return buf_take(&out);
}

/* Of one that was told to go off: that goes on, and so does its bill. */
static bool answer_late_off(struct follow *w, const struct follow_machine *m)
{
    struct lease *l = m->lease;
    char took[TEXT_SHORT_MAX];

    if (!is_to_end(w, m) || life_goal(rented_life(lease_rented(l))) == LIFE_GOAL_ON)
        return false;
    const char *name = lease_name(l);

    duration_format(took, clock_now_ms() - w->begun_due, false);
    _cleanup_free_ char *late = off_is_late(l), *stake = machine_stake(l, name);
    _cleanup_free_ char *why = xasprintf("%s; it is asked again and again", stake);
    _cleanup_free_ char *next = xasprintf("llmhostctl wait %s --for=confirmed", name);

    call_fail(w->call, EXIT_TIMED_OUT, "timed_out", name, why, next,
              "%s is not confirmed off after %s: %s", name, took, late);
    return true;
}

/* It waits for a card, or for money: no work goes on but the search. */
static bool answer_search(struct follow *w, const struct deployment *d, const struct lease *l)
{
    const struct rented *r = lease_rented(l);
    const struct fault *f = rented_trouble(r);
    struct rented_figures n;
    char took[TEXT_SHORT_MAX];

    if (life_state(rented_life(r)) != LIFE_WAITING || !f->kind)
        return false;
    rented_figures(r, &n);
    duration_format(took, clock_now_ms() - w->begun_due, false);
    _cleanup_free_ char *alone = up_second_next(w->call, d), *next =
        alone ? TAKE_PTR(alone)
              : xasprintf("llmhostctl wait %s\nllmhostctl down %s", deployment_name(d), deployment_name(d));
    _cleanup_free_ char *why = xasprintf("%s; the search goes on%s", f->text,
                                         n.was_powered || n.is_unsure ? "" : ", and nothing is switched on by it so far");

    call_fail(w->call, explain_status(f), explain_code(f), deployment_name(d), why, next,
              "%s has no machine after %s (%u %s)", deployment_name(d), took, n.tries,
              n.tries == 1 ? "try" : "tries");
    return true;
}

/* Told to stop, and nobody will say that it did while the list leaves it out. */
static bool is_lost_from_list(const struct lease *l)
{
    const struct life *life = lease_rented(l) ? rented_life(lease_rented(l)) : NULL;

    return life && life_state(life) == LIFE_STOPPING && life_is_missing(life);
}

bool machines_answer_timeout(struct follow *w)
{
    for (unsigned i = 0; i < w->n_machines; i++) {
        struct lease *l = w->machines[i].lease;

        if (l && (machine_is_unconfirmed(l) || is_lost_from_list(l))) {
            machines_fail_stop(w, l);
            return true;
        }
    }
    for (unsigned i = 0; i < w->n_machines; i++)
        if (answer_late_off(w, &w->machines[i]))
            return true;
    for (unsigned i = 0; i < w->n_models; i++) {
        const struct deployment *d = w->models[i];

        if (d && lease_rented(deployment_lease(d)) && deployment_state(d) == DEPLOYMENT_CONNECTING &&
            answer_search(w, d, deployment_lease(d)))
            return true;
    }
    return false;
}
