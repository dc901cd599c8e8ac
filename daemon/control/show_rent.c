/* One function per type of the contract that has to do with money. */
#include "control/show_rent.h"

#include "base/clock.h"
#include "base/fault.h"
#include "control/control.h"
#include "control/show.h"
#include "control/show_cost.h"
#include "guard/keeper.h"
#include "lease/account.h"
#include "lease/boxed.h"
#include "lease/hunt.h"
#include "lease/lease.h"
#include "lease/ledger.h"
#include "lease/rented.h"
#include "manager.h"
#include "policy/money.h"
#include "proto/json.h"
#include "proto/mem.h"
#include "proto/text.h"
#include "provider/known_host.h"

#define HOUR_MS   3600000
#define SHARED_MS (10 * 60 * 1000) /* it was not renewed by another for so long: that one is gone */

/* ---- money ---- */

static struct json *show_money(int64_t milli, const char *unit, bool estimate, bool unknown)
{
    struct json *v = json_object();

    json_put_int(v, "milli", milli);
    json_put_string(v, "unit", unit);
    json_put_bool(v, "estimate", estimate);
    json_put_bool(v, "unknown", unknown);
    return v;
}

struct json *show_sum(const struct ledger_sum *sum, const char *unit)
{
    return show_money(sum->milli, unit, sum->estimate, sum->unknown);
}

struct json *show_rate(int64_t milli, bool estimate, const char *unit)
{
    return show_money(MAX(milli, (int64_t)0), unit, estimate && milli > 0, milli <= 0);
}

const char *doubt_format(char out[static DOUBT_TEXT_MAX], const struct lease *l, int64_t *ret_until_at_ms)
{
    const struct rented *r = lease_rented(l);
    struct rented_figures n;
    char age[TEXT_SHORT_MAX];

    rented_figures(r, &n);
    *ret_until_at_ms = n.doubted_until_at_ms;
    *out = '\0';
    if (n.doubted_until_at_ms)
        snprintf(out, DOUBT_TEXT_MAX, "%.32s may still act on a power-on asked %s ago",
                 account_ops(rented_account(r))->title,
                 duration_format(age, (uint64_t)MAX(clock_wall_ms() - n.asked_at_ms, (int64_t)0), false));
    return out;
}

bool rental_is_doubted(const struct lease *l)
{
    struct rented_figures n;

    if (!lease_rented(l))
        return false;
    rented_figures(lease_rented(l), &n);
    return n.goal != LIFE_GOAL_ON && n.doubted_until_at_ms;
}

char *show_left_out(const char *card, int64_t price_milli, const char *unit)
{
    char price[TEXT_SHORT_MAX];

    return xasprintf("%s is left out: %s an hour is more than is allowed", card,
                     money_format(price, price_milli, unit));
}

static void put_at(struct json *v, const char *key, int64_t at_ms)
{
    if (at_ms)
        json_put_int(v, key, at_ms);
}

/* ---- a machine ---- */

static const char *unit_of(const struct lease *l)
{
    return account_ops(rented_account(lease_rented(l)))->unit;
}

/* Nobody has looked yet, and there is nothing to look for: it is as it was before. */
const char *show_rental_state(const struct lease *l)
{
    struct rented_figures n;

    rented_figures(lease_rented(l), &n);
    if (n.state == LIFE_UNKNOWN && n.is_none)
        return life_state_name(n.goal == LIFE_GOAL_ON ? LIFE_WAITING : LIFE_ABSENT);
    return life_state_name(n.state);
}

bool rental_was_stopped(const struct lease *l)
{
    struct rented_figures n;

    rented_figures(lease_rented(l), &n);
    return n.state == LIFE_UNKNOWN && !n.seen_at_ms && !rental_is_coming(l) &&
           streq(rented_record(lease_rented(l))->state, life_state_name(LIFE_STOPPED));
}

bool rental_is_coming(const struct lease *l)
{
    const struct life *life = rented_life(lease_rented(l));
    const struct life_record *r = life_record(life);

    switch (life_state(life)) {
    case LIFE_CREATING:
    case LIFE_STARTING: return true;
    case LIFE_UNKNOWN: return r->asked_at_ms && !r->acted; /* nobody has seen what came of it */
    case LIFE_ABSENT:
    case LIFE_WAITING:
    case LIFE_RUNNING:
    case LIFE_STOPPING:
    case LIFE_STOPPED:
    case LIFE_RELEASING:
    case LIFE_RELEASED: break;
    }
    return false;
}

/* It is let go without a guard, by name. */
static bool is_unguarded(const struct rented *r)
{
    const struct keeper *k = rented_keeper(r);

    return rented_is_guarded(r) && (!k || keeper_state(k) == KEEPER_USELESS);
}

/* It is being switched on, and a guard goes along with that: there is none to be reached before. */
static const char *guard_to_come(const struct lease *l)
{
    const struct rented *r = lease_rented(l);

    if (!rental_is_coming(l) || (rented_keeper(r) && keeper_state(rented_keeper(r)) != KEEPER_AWAY))
        return NULL;
    if (rented_record(r)->no_guard)
        return "none";
    return account_ops(rented_account(r))->set_timer ? "timer_first" : "to_come";
}

static const char *guard_is_none(const struct lease *l)
{
    const struct rented *r = lease_rented(l);

    if (rented_is_left_alone(r))
        return "not_ours";
    return is_unguarded(r) ? "none" : guard_to_come(l);
}

/* none: why there is none to be asked; NULL: there is to be one. */
static struct json *show_guard(const struct keeper *k, const char *none, bool proved, int64_t tried_at_ms)
{
    struct json *v = json_object();
    struct keeper_figures n = {0};

    if (k)
        keeper_figures(k, &n);
    json_put_string(v, "state", none ? none : keeper_state_name(k ? keeper_state(k) : KEEPER_AWAY));
    put_at(v, "read_at_ms", n.read_at_ms);
    put_at(v, "acts_at_ms", n.acts_at_ms);
    put_at(v, "hold_until_at_ms", n.hold_until_at_ms);
    json_put_string(v, "owner", *n.owner ? n.owner : NULL);
    put_at(v, "owner_heard_at_ms", n.owner_heard_at_ms);
    json_put_string(v, "ways", *n.ways ? n.ways : NULL);
    json_put_bool(v, "proved", proved);
    put_at(v, "tried_at_ms", tried_at_ms);
    if (k && keeper_fault(k)->kind)
        json_put_string(v, "reason", keeper_fault(k)->text);
    return v;
}

int64_t rental_rate(const struct lease *l, bool *ret_estimate)
{
    struct rented_figures n;

    rented_figures(lease_rented(l), &n);
    *ret_estimate = !n.rate_milli && !rented_prepaid_until_at_ms(lease_rented(l));
    if (rented_prepaid_until_at_ms(lease_rented(l)))
        return 0;
    return n.rate_milli ? n.rate_milli : n.list_rate_milli;
}

/* What was asked for. */
static void put_wish(struct json *v, const struct rented *rented, const char *unit)
{
    const struct rental_record *r = rented_record(rented);

    json_put_string(v, "gpu", r->gpu);
    json_put_int(v, "cards", r->cards);
    json_put_string(v, "image", r->image);
    json_put_string(v, "region", r->region);
    json_put_int(v, "disk_gb", r->disk_gb);
    if (r->max_price_milli)
        json_put(v, "max_price", show_money(r->max_price_milli, unit, false, false));
    put_at(v, "prepaid_until_at_ms", rented_prepaid_until_at_ms(rented));
}

struct json *show_rental_cost(const struct lease *l, int64_t for_ms)
{
    int64_t now_ms = account_now_ms(rented_account(lease_rented(l)));
    int64_t paid_ms = MAX(rented_prepaid_until_at_ms(lease_rented(l)) - now_ms, (int64_t)0);
    bool estimate;
    int64_t rate_milli = rental_rate(l, &estimate);

    if (paid_ms > 0) /* by time from its end on, if it is longer */
        return show_money(0, unit_of(l), for_ms > paid_ms, for_ms > paid_ms);
    return show_rate((int64_t)((double)rate_milli * (double)for_ms / HOUR_MS), estimate, unit_of(l));
}

static const char *candidate_state(const struct hunt *h, const struct hunt_candidate *c)
{
    switch (c->out) {
    case HUNT_DEAR: return "dear";
    case HUNT_REFUSED: return "refused";
    case HUNT_IN: break;
    }
    return hunt_current(h) == c ? "next" : "later";
}

static void put_search(struct json *v, const struct rented *r, const char *unit)
{
    const struct hunt *h = rented_hunt(r);
    struct json *list = json_array();

    int64_t most_milli = account_ceiling_milli(rented_account(r), rented_record(r)->max_price_milli,
                                               rented_record(r)->over_budget);

    if (most_milli)
        json_put(v, "search_max_price", show_money(most_milli, unit, false, false));
    put_at(v, "search_until_at_ms", rented_record(r)->search_until_at_ms);
    for (unsigned i = 0; i < h->n; i++) {
        const struct hunt_candidate *c = &h->all[i];
        struct json *one = json_object();

        json_put_string(one, "gpu", c->gpu);
        json_put_int(one, "cards", c->cards);
        json_put_string(one, "region", *c->region ? c->region : NULL);
        if (c->price_milli)
            json_put(one, "price", show_rate(c->price_milli, true, unit));
        json_put_string(one, "state", candidate_state(h, c));
        json_append(list, one);
    }
    json_put(v, "candidates", list);
}

/* What keeps it on, and until when. */
static void put_stay(struct json *v, const struct control_context *k, const struct lease *l)
{
    int64_t until_at_ms;
    const char *stays = manager_stay(k->manager, l, &until_at_ms);
    char quiet[QUIET_TEXT_MAX] = "";

    if (stays && streq(stays, "quiet_use"))
        manager_quiet_text(k->manager, l, quiet);
    json_put_string(v, "stays", stays);
    put_at(v, "until_at_ms", until_at_ms);
    if (*quiet)
        json_put_string(v, "quiet", quiet);
}

/* It waits for a card; or there is none of it yet, and a model on it is wanted since just now. */
static bool is_looked_for(const struct control_context *k, const struct lease *l)
{
    const struct life *life = rented_life(lease_rented(l));
    struct deployment *d;

    if (streq(show_rental_state(l), life_state_name(LIFE_WAITING)))
        return true;
    if (*life_record(life)->id || (life_state(life) != LIFE_ABSENT && life_state(life) != LIFE_CREATING))
        return false;
    for (unsigned i = 0; (d = manager_deployment_at(k->manager, i)); i++)
        if (deployment_lease(d) == l && deployment_goal(d) != GOAL_OFF)
            return true;
    return false;
}

struct json *show_rental(const struct control_context *k, const struct lease *l)
{
    const struct rented *r = lease_rented(l);
    const struct life_record *life = life_record(rented_life(r));
    struct json *v = json_object();
    struct rented_figures n;
    bool estimate;

    rented_figures(r, &n);
    put_wish(v, r, unit_of(l));
    json_put_string(v, "goal", life_goal_name(n.goal));
    json_put_string(v, "id", *life->id ? life->id : NULL);
    json_put_bool(v, "adopted", life->adopted);
    if (rented_record(r)->never_made)
        json_put_bool(v, "never_made", true);
    json_put_bool(v, "no_card", rented_is_without_card(r));
    json_put_string(v, "provider_state", *n.word ? n.word : NULL);
    put_at(v, "provider_state_at_ms", n.seen_at_ms);
    put_at(v, "since_at_ms", n.since_at_ms);
    put_at(v, "stop_asked_at_ms", n.stop_asked_at_ms);
    if (n.guard_told)
        json_put_bool(v, "guard_told", true);
    put_at(v, "doubted_until_at_ms", n.doubted_until_at_ms);
    if (rental_was_stopped(l))
        json_put_string(v, "was", life_state_name(LIFE_STOPPED));
    if (n.is_unsure)
        json_put_bool(v, "unsure", true);
    put_stay(v, k, l);
    json_put_int(v, "tries", n.tries);
    put_at(v, "next_try_at_ms", n.next_at_ms);
    if (n.state == LIFE_UNKNOWN && rental_is_coming(l))
        put_at(v, "asked_at_ms", n.asked_at_ms);
    if (is_looked_for(k, l))
        put_search(v, r, unit_of(l));
    int64_t rate_milli = rental_rate(l, &estimate);

    json_put(v, "rate",
             rented_prepaid_until_at_ms(r) ? show_money(0, unit_of(l), false, false)
                                           : show_rate(rate_milli, estimate, unit_of(l)));
    json_put(v, "today", show_spent_today(l));
    json_put(v, "guard",
             show_guard(rented_keeper(r), guard_is_none(l), rented_record(r)->drilled_at_ms != 0,
                        rented_record(r)->drilled_at_ms));
    put_at(v, "off_at_ms", n.off_at_ms);
    json_put_string(v, "timer_reason", n.timer_lacks);
    put_at(v, "released_at_ms", n.released_at_ms);
    if (cost_is_of_disk(l)) {
        const struct ledger_sum stopped = cost_when_off(l);

        json_put(v, "stopped", show_sum(&stopped, unit_of(l)));
    }
    return v;
}

struct json *show_in_box(const struct control_context *k, const struct lease *l)
{
    const struct known_host *where = known_host_find(lease_record(l)->host);
    const struct boxed *b = lease_boxed(l);
    const struct keeper *guard = boxed_keeper(b);
    bool none = boxed_is_guarded(b) && keeper_state(guard) == KEEPER_USELESS;
    struct json *v = json_object();
    struct boxed_figures n;

    boxed_figures(b, &n);
    json_put_string(v, "stop", lease_record(l)->stop);
    json_put(v, "guard", show_guard(guard, none ? "none" : NULL, n.trial == BOXED_WENT, n.tried_at_ms));
    json_put_string(v, "trial", boxed_trial_name(n.trial));
    put_at(v, "since_at_ms", n.since_at_ms);
    put_at(v, "stop_asked_at_ms", n.stop_asked_at_ms);
    put_stay(v, k, l);
    json_put_string(v, "console", where ? where->console_url : NULL);
    return v;
}

/* ---- what is wrong ---- */

bool rental_is_of_account(const struct lease *l, const struct fault *f)
{
    return lease_rented(l) && money_is_of_account(f);
}

const char *rental_subject(const struct lease *l, const struct fault *f)
{
    return rental_is_of_account(l, f) ? account_name(rented_account(lease_rented(l))) : lease_name(l);
}

static bool is_released_soon(const struct lease *l, struct fault *ret)
{
    const struct rental_ops *ops = account_ops(rented_account(lease_rented(l)));
    struct rented_figures n;
    char left[TEXT_SHORT_MAX], at[MINUTE_TEXT_MAX];

    rented_figures(lease_rented(l), &n);

    int64_t left_ms = n.released_at_ms - account_now_ms(rented_account(lease_rented(l)));

    if (!rented_is_released_soon(lease_rented(l)))
        return false;
    fault_code(ret, FAULT_INVALID, "released_soon",
               "%s gives %s back with its data in %s (%s) unless it is switched on before", ops->title,
               lease_name(l), duration_format(left, (uint64_t)MAX(left_ms, (int64_t)0), false),
               minute_format(at, n.released_at_ms));
    return true;
}

static bool runs_without_guard(const struct lease *l, struct fault *ret)
{
    const struct rented *r = lease_rented(l);

    if (!is_unguarded(r) || life_state(rented_life(r)) != LIFE_RUNNING)
        return false;
    fault_code(ret, FAULT_INVALID, "no_guard",
               "%s runs without a guard: nothing but this computer switches it off", lease_name(l));
    return true;
}

bool guard_is_shared(const struct lease *l, struct fault *ret)
{
    const struct keeper *k = lease_rented(l)  ? rented_keeper(lease_rented(l))
                             : lease_boxed(l) ? boxed_keeper(lease_boxed(l))
                                              : NULL;
    struct keeper_figures n = {};
    uint64_t now = clock_now_ms();
    char age[TEXT_SHORT_MAX];

    if (k)
        keeper_figures(k, &n);
    if (!n.shared_due || now - n.shared_due > SHARED_MS)
        return false;
    fault_code(ret, FAULT_INVALID, "guard_shared",
               "another llmhostd with a copy of this database renews the guard of %s too (%s ago): what one of "
               "them ends may be kept on, or switched on again, by the other",
               lease_name(l), duration_format(age, now - n.shared_due, false));
    return true;
}

/* Somebody else switched it on: that is said, and nothing of it is stopped before its time. */
static bool runs_beyond_the_money(const struct lease *l, struct fault *ret)
{
    const struct life *life = rented_life(lease_rented(l));
    const struct account *a = rented_account(lease_rented(l));

    if (life_state(life) != LIFE_RUNNING || life_record(life)->ours || !account_must_stop(a))
        return false;
    fault_code(ret, FAULT_EXHAUSTED, "over_budget",
               "%s was switched on elsewhere and runs on, although %.150s", lease_name(l),
               account_trouble(a)->text);
    return true;
}

/* The alarm says what is at stake. */
static void tell_stop(const struct lease *l, struct fault *f)
{
    struct rented_figures n;
    char since[TEXT_SHORT_MAX], rate[TEXT_SHORT_MAX];
    bool estimate;

    rented_figures(lease_rented(l), &n);
    int64_t rate_milli = rental_rate(l, &estimate);

    fault_code(f, FAULT_TRANSIENT, "stop_not_confirmed",
               "%s was told to switch off %s ago, and %s still says \"%s\": it may still be billed at %s/h",
               lease_name(l),
               duration_format(since, (uint64_t)MAX(clock_wall_ms() - n.stop_asked_at_ms, (int64_t)0), false),
               account_ops(rented_account(lease_rented(l)))->title, *n.word ? n.word : "nothing",
               rate_milli ? money_format(rate, rate_milli, unit_of(l)) : "?");
}

bool rental_trouble(const struct lease *l, unsigned i, struct fault *ret, int64_t *ret_since_at_ms)
{
    const struct rented *r = lease_rented(l);
    struct rented_figures n;

    rented_figures(r, &n);
    *ret_since_at_ms = n.stop_asked_at_ms ? n.stop_asked_at_ms : n.since_at_ms;
    if (rented_trouble(r)->kind && i-- == 0) {
        *ret = *rented_trouble(r);
        if (streq(ret->code, "stop_not_confirmed"))
            tell_stop(l, ret);
        return true;
    }
    *ret_since_at_ms = 0;
    if (!streq(rented_trouble(r)->code, "no_guard") && runs_without_guard(l, ret) && i-- == 0)
        return true;
    if (runs_beyond_the_money(l, ret) && i-- == 0)
        return true;
    return is_released_soon(l, ret) && i == 0;
}

/* ---- accounts ---- */

static unsigned count_machines(const struct control_context *k, const struct account *a)
{
    struct lease *l;
    unsigned n = 0;

    for (unsigned i = 0; (l = manager_lease_at(k->manager, i)); i++)
        n += lease_rented(l) && rented_account(lease_rented(l)) == a;
    return n;
}

static bool is_on_for_us(const struct rented *r)
{
    enum life_state s = life_state(rented_life(r));

    return life_goal(rented_life(r)) == LIFE_GOAL_ON && !life_is_at_rest(s) && s != LIFE_WAITING;
}

/* An hour of it is more than may be now: such a price was said after it was switched on. */
static bool is_dearer(const struct lease *l, const struct account *a)
{
    const struct rental_record *r = rented_record(lease_rented(l));
    int64_t most = account_ceiling_milli(a, r->max_price_milli, r->over_budget);
    bool estimate;

    return r->ours && most && rental_rate(l, &estimate) > most;
}

/* exempt: those that no limit of it stops, by a word for this once; ending: those that one that is reached does; dearer:
 * those that are on for more than its limit of an hour. */
static void put_bound(struct json *v, const struct control_context *k, const struct account *a)
{
    struct json *exempt = json_array(), *ending = json_array(), *dearer = json_array();
    struct lease *l;

    for (unsigned i = 0; (l = manager_lease_at(k->manager, i)); i++) {
        const struct rented *r = lease_rented(l);

        if (!r || rented_account(r) != a || !is_on_for_us(r))
            continue;
        if (rented_may_overspend(r))
            json_append_string(exempt, lease_name(l));
        else if (account_must_stop(a) && !rented_prepaid_until_at_ms(r) && !rented_is_anothers(r))
            json_append_string(ending, lease_name(l));
        else if (is_dearer(l, a))
            json_append_string(dearer, lease_name(l));
    }
    json_put(v, "exempt", exempt);
    json_put(v, "ending", ending);
    json_put(v, "dearer", dearer);
}

static void put_limit(struct json *v, const char *key, int64_t milli)
{
    if (milli > 0)
        json_put_int(v, key, milli);
}

struct json *show_account(const struct control_context *k, const struct account *a)
{
    const struct rental_ops *ops = account_ops(a);
    const struct account_record *r = account_record(a);
    struct json *v = json_object();
    struct account_figures n;

    cost_figures(k, a, &n);
    json_put_string(v, "provider", account_name(a));
    json_put_string(v, "title", ops->title);
    if (ops->unofficial)
        json_put_bool(v, "unofficial", true);
    if (ops->create)
        json_put_bool(v, "rents", true);
    json_put_string(v, "unit", ops->unit);
    json_put_string(v, "base_url", r->base_url);
    put_limit(v, "day_milli", r->limits.day_milli);
    put_limit(v, "alert_milli", account_alert_milli(a));
    put_limit(v, "month_milli", r->limits.month_milli);
    put_limit(v, "price_milli", r->limits.price_milli);
    put_limit(v, "floor_milli", r->limits.floor_milli);
    if (n.has_balance) {
        json_put(v, "balance", show_money(n.balance_milli, ops->unit, false, false));
        json_put_int(v, "balance_at_ms", n.balance_at_ms);
    }
    json_put(v, "today", show_sum(&n.today, ops->unit));
    json_put(v, "month", show_sum(&n.month, ops->unit));
    if (n.reserved.milli || n.reserved.unknown)
        json_put(v, "reserved", show_sum(&n.reserved, ops->unit));
    json_put(v, "rate", show_sum(&n.rate, ops->unit));
    json_put_int(v, "instances", count_machines(k, a));
    put_bound(v, k, a);
    if (account_trouble(a)->kind)
        json_put(v, "trouble", show_fault(account_trouble(a), account_name(a), account_name(a), 0));
    return v;
}

struct json *show_removed_account(const struct control_context *k, const struct account *a)
{
    const char *unit = account_ops(a)->unit;
    struct json *v = json_object();
    struct account_figures n;

    cost_figures(k, a, &n);
    json_put_string(v, "provider", account_name(a));
    json_put_string(v, "unit", unit);
    json_put(v, "today", show_sum(&n.today, unit));
    json_put(v, "month", show_sum(&n.month, unit));
    json_put(v, "rate", show_sum(&n.rate, unit));
    return v;
}

struct json *show_accounts(const struct control_context *k)
{
    struct json *list = json_array();
    struct account *a;

    for (unsigned i = 0; (a = manager_account_at(k->manager, i)); i++)
        json_append(list, show_account(k, a));
    return list;
}

struct json *show_offer(const struct account *a, const struct rental_offer *o)
{
    struct json *v = json_object();
    int64_t price_milli = account_price(a, o);

    json_put_string(v, "provider", account_name(a));
    json_put_string(v, "gpu", o->gpu);
    json_put_int(v, "memory_gib", o->memory_gib);
    if (price_milli)
        json_put(v, "price", show_money(price_milli, account_ops(a)->unit, true, false));
    if (price_milli && price_milli == o->price_milli)
        json_put_string(v, "price_day", o->price_day);
    if (o->stock >= 0)
        json_put_int(v, "stock", o->stock);
    json_put_bool(v, "unofficial", o->unofficial);
    return v;
}
