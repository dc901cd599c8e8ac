/* The search for a card that a wish for power begins: how long it goes on, and what ends it. What is tried in
 * it, and when, is lease/hunt.h's. */
#include "manager_power.h"

#include "base/clock.h"
#include "base/event.h"
#include "lease/lease.h"
#include "lease/rented.h"
#include "policy/money.h"
#include "proto/text.h"

void power_begin_search(struct power *p)
{
    if (rented_record(p->rented)->search_until_at_ms <= clock_wall_ms()) /* that of an older word is no end */
        rented_look_until(p->rented, clock_wall_ms() + MANAGER_SEARCH_MS);
}

/* Nothing is seen to be on: only the wish is taken back. */
static void power_leave_search(struct power *p, const struct fault *why)
{
    struct rented_figures n;

    rented_figures(p->rented, &n);
    event_publish(LOG_LEVEL_NOTICE, LOG_DAEMON, lease_name(p->lease), "search_over",
                  "is looked for no longer, %s: %s",
                  n.is_unsure ? "and switched off if a call that got no answer still acts" : "nothing is on",
                  why->kind ? why->text : "nobody waits for it any more");
    p->asked_on = false;
    p->stay = (struct stay){STAY_OFF, STAY_UNWANTED, STAY_NEVER};
    if (why->kind && rented_record(p->rented)->no_card)
        rented_end_wish(p->rented, why);
    else
        rented_want(p->rented, LIFE_GOAL_OFF);
}

void power_end_search(struct power *p)
{
    power_leave_search(p, &(struct fault){0});
}

/* Trying on changes nothing: somebody has to do something first. */
static bool is_hopeless(const struct power *p, const struct fault *f)
{
    if (f->kind == FAULT_INVALID && rented_may_look(p->rented))
        return false; /* that was one of several */
    return f->kind == FAULT_DENIED || f->kind == FAULT_INVALID || money_ends_search(f);
}

/* The wall clock is what survives us; a search that a daemon before this one began does not begin anew. */
int64_t power_search_until_at_ms(struct power *p)
{
    if (!rented_record(p->rented)->search_until_at_ms)
        power_begin_search(p);
    return rented_record(p->rented)->search_until_at_ms;
}

/* What the provider said last stands in it, word for word. */
static void say_none_was_free(const struct power *p, struct fault *f)
{
    char said[sizeof f->text];
    struct rented_figures n;

    rented_figures(p->rented, &n);
    snprintf(said, sizeof said, "%s", f->kind == FAULT_EXHAUSTED ? f->text : "");
    fault_code(f, FAULT_EXHAUSTED, "no_capacity", "no %.60s was free in the time given%s%s%.200s",
               rented_record(p->rented)->gpu,
               n.was_powered || n.is_unsure ? "" : ", and nothing was powered on",
               *said ? "; the last answer: " : "", said);
}

void power_search(struct power *p)
{
    struct fault f = *life_trouble(rented_life(p->rented));

    power_leave_waiting(p);
    if (!is_hopeless(p, &f) && clock_wall_ms() >= power_search_until_at_ms(p))
        say_none_was_free(p, &f);
    else if (!is_hopeless(p, &f))
        f.kind = FAULT_NONE;
    if (f.kind)
        power_give_up_models(p, &f);
    if (!f.kind && rented_record(p->rented)->no_card && power_hold_due(p, clock_now_ms()) > clock_now_ms())
        return; /* kept without its card: that is a wish of a person, and no model's */
    if (!power_has_wish(p))
        power_leave_search(p, &f);
}
