/* Words of people about the power of one machine, and what is said of it. */
#include "manager_power.h"

#include <assert.h>
#include <string.h>

#include "base/clock.h"
#include "lease/account.h"
#include "lease/boxed.h"
#include "lease/hunt.h"
#include "lease/lease.h"
#include "lease/rented.h"
#include "proto/text.h"

#define KEEP_ENDLESS_MS (10000ull * 365 * 24 * 3600 * 1000) /* millions at the price of no card */

static bool power_may_be_on(const struct power *p)
{
    struct rented_figures n;

    if (!p->rented)
        return boxed_state(lease_boxed(p->lease)) == BOXED_ON ||
               boxed_state(lease_boxed(p->lease)) == BOXED_STOPPING;
    rented_figures(p->rented, &n);
    return !life_is_at_rest(life_state(rented_life(p->rented))) &&
           life_state(rented_life(p->rented)) != LIFE_WAITING && !n.is_none;
}

const char *manager_stay(struct manager *m, const struct lease *l, int64_t *ret_at_ms)
{
    const struct power *p = power_find(m, l);

    *ret_at_ms = 0;
    if (p && p->rented && rented_is_left_alone(p->rented) &&
        life_state(rented_life(p->rented)) == LIFE_RUNNING)
        return "not_by_us";
    if (!p || !power_may_be_on(p))
        return NULL;
    if (p->rented && p->stay.verdict == STAY_ON && life_state(rented_life(p->rented)) == LIFE_STOPPING)
        return NULL; /* what kept it on does not any more: its trouble says why */
    if (p->stay.until_due != STAY_NEVER && p->stay.until_due)
        *ret_at_ms = clock_wall_ms() + (int64_t)(p->stay.until_due - clock_now_ms());
    if (p->rented && p->stay.reason == STAY_KEPT && rented_is_without_card(p->rented))
        return "no_card";
    return stay_reason_name(p->stay.reason);
}

bool power_is_kept(const struct power *p)
{
    return power_may_be_on(p) && (p->stay.reason == STAY_KEPT || p->stay.reason == STAY_PREPAID);
}

static bool is_lately(const struct power *p, uint64_t due, uint64_t now)
{
    return due && now < due + power_rule(p).stop_ms;
}

/* One more of what uses it, if that was lately enough. */
static void add_quiet(const struct power *p, char out[static QUIET_TEXT_MAX], const char *what, uint64_t due,
                      uint64_t now)
{
    size_t n = strlen(out);
    char age[TEXT_SHORT_MAX];

    if (is_lately(p, due, now))
        snprintf(out + n, QUIET_TEXT_MAX - n, "%s%s %s ago", n ? ", " : "", what,
                 duration_format(age, now - due, false));
}

const char *manager_quiet_text(struct manager *m, const struct lease *l, char out[static QUIET_TEXT_MAX])
{
    const struct power *p = power_find(m, l);
    uint64_t now = clock_now_ms();
    char cards[40];

    *out = '\0';
    if (!p)
        return out;
    snprintf(cards, sizeof cards, "its card computed (%u%%)", p->gpu_percent);
    add_quiet(p, out, "a login was typed into", p->typed_due, now);
    add_quiet(p, out, "a forward was used", p->forward_due, now);
    add_quiet(p, out, cards, p->gpu_due, now);
    return out;
}

void manager_press(struct manager *m, struct lease *l)
{
    struct power *p = power_find(m, l);

    if (!p)
        return;
    if (!p->rented) {
        power_press_boxed(p);
        return;
    }
    if (life_goal(rented_life(p->rented)) != LIFE_GOAL_RELEASE) /* which is to be off first, too */
        power_off(p, "asked for once more");
    rented_doubt(p->rented);
}

/* One that is still looked for may be the dearest of those that are asked for. */
static int64_t keep_rate_milli(const struct rented *r)
{
    const struct hunt *h = rented_hunt(r);
    struct rented_figures n;
    int64_t most_milli = 0;

    rented_figures(r, &n);
    for (unsigned i = 0; i < h->n; i++)
        if (h->all[i].out == HUNT_IN)
            most_milli = MAX(most_milli, h->all[i].price_milli);
    return n.rate_milli ? n.rate_milli : MAX(most_milli, n.list_rate_milli);
}

void manager_reserve_keep(struct manager *m, struct lease *l, const struct deployment *of,
                          int64_t until_at_ms, struct op **slot, op_done_fn done, void *ctx)
{
    struct power *p = power_find(m, l);
    uint64_t now = clock_now_ms(), until_due = clock_due_of(until_at_ms, now);

    assert(!p || p->rented); /* for one that is switched off from inside nobody is asked for money */
    if (!p || rented_prepaid_due(p->rented, now) >= until_due) {
        op_finish_later(m->context.loop, slot, NULL, done, ctx);
        return;
    }
    until_due = MAX(until_due, power_kept_due(p, of ? KEEPS_ALL : KEEPS_OF_MODELS, of, now));
    p->has_keep_money = true;
    keeps_reserve(m, l,
                  &(struct keep_wish){.rate_milli = keep_rate_milli(p->rented),
                                      .for_ms = MAX(until_due, now + 1) - now},
                  slot, done, ctx);
}

/* For longer than any limit allows: what is refused says how much less would do, and changes nothing. */
void manager_ask_keep(struct manager *m, struct lease *l, struct op **slot, op_done_fn done, void *ctx)
{
    const struct money_limits *limits = &account_record(rented_account(lease_rented(l)))->limits;
    const struct rented *r = lease_rented(l);
    int64_t rate_milli = keep_rate_milli(r);

    if ((!limits->day_milli && !limits->month_milli) || rate_milli <= 0 ||
        rented_prepaid_due(r, clock_now_ms())) {
        op_finish_later(m->context.loop, slot, NULL, done, ctx);
        return;
    }
    keeps_reserve(m, l, &(struct keep_wish){.rate_milli = rate_milli, .for_ms = KEEP_ENDLESS_MS}, slot, done,
                  ctx);
}

uint64_t manager_keep_instance(struct manager *m, struct lease *l, int64_t until_at_ms)
{
    struct power *p = power_find(m, l);
    uint64_t now = clock_now_ms();
    store_ticket t = 0;

    if (!p)
        return 0;
    p->hold_until_due = until_at_ms ? clock_due_of(until_at_ms, now) : 0;
    p->held_due = until_at_ms ? now : p->held_due;
    p->is_unused &= !until_at_ms;
    p->hold_is_over = !until_at_ms;
    if (p->rented)
        t = rented_hold(p->rented, p->hold_until_due ? p->hold_until_due - now : 0);
    else /* its guard has it, not the database */
        boxed_hold(lease_boxed(l), p->hold_until_due ? p->hold_until_due - now : 0);
    power_judge(p);
    manager_tell_lease(m, l, false);
    return t;
}

/* The hold is there before the wish, whose reservation is for all of it. */
uint64_t manager_keep_without_card(struct manager *m, struct lease *l, int64_t until_at_ms)
{
    struct power *p = power_find(m, l);

    uint64_t now = clock_now_ms();

    if (!p || !p->rented)
        return 0;
    rented_leave_card(p->rented, true);
    p->asked_on = true;
    p->away_due = p->leave_due = 0;
    p->hold_until_due = clock_due_of(until_at_ms, now);
    p->held_due = now;
    p->is_unused = p->hold_is_over = false;
    rented_look_until(p->rented, until_at_ms);
    store_ticket t = rented_hold(p->rented, p->hold_until_due ? p->hold_until_due - now : 0);

    rented_want(p->rented, LIFE_GOAL_ON);
    power_judge(p);
    manager_tell_lease(m, l, false);
    return t; /* all of this turn is one transaction */
}
