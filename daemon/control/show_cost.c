/* What machines cost, as the contract shows it. */
#include "control/show_cost.h"

#include "control/control.h"
#include "control/show_rent.h"
#include "lease/account.h"
#include "lease/lease.h"
#include "lease/rented.h"
#include "manager.h"
#include "proto/json.h"
#include "proto/mem.h"

/* ---- what an hour costs ---- */

bool cost_is_of_disk(const struct lease *l)
{
    const struct life *life = rented_life(lease_rented(l));

    return life_state(life) == LIFE_STOPPED || (life_state(life) == LIFE_WAITING && *life_record(life)->id);
}

struct ledger_sum cost_when_off(const struct lease *l)
{
    const struct rented *r = lease_rented(l);
    int64_t day_milli = rented_disk_day_milli(r);
    bool is_known = day_milli > 0 || account_ops(rented_account(r))->disk_day_milli;

    return (struct ledger_sum){.milli = (day_milli + 12) / 24,
                               .estimate = day_milli > 0,
                               .unknown = rented_record(r)->disk_gb > 0 && !is_known};
}

static void add_sum(struct ledger_sum *to, const struct ledger_sum *more)
{
    to->milli += more->milli;
    to->estimate |= more->estimate;
    to->unknown |= more->unknown;
}

const char *cost_machine(const struct lease *l)
{
    const struct account *a = rented_account(lease_rented(l));
    const char *id = life_record(rented_life(lease_rented(l)))->id, *last = NULL;
    const struct spent_record *r;

    for (unsigned i = 0; !*id && (r = ledger_row_at(account_ledger(a), i)); i++)
        if (streq(r->instance, lease_name(l)) && r->from_at_ms >= lease_record(l)->added_at_ms - LEDGER_SKEW_MS)
            last = r->machine;
    return *id ? id : last;
}

static bool has_open_interval(const struct lease *l)
{
    const struct account *a = rented_account(lease_rented(l));
    const struct spent_record *r;

    for (unsigned i = 0; (r = ledger_row_at(account_ledger(a), i)); i++)
        if (!r->to_at_ms && cost_is_of(l, r))
            return true;
    return false;
}

bool cost_is_of(const struct lease *l, const struct spent_record *r)
{
    const char *machine = cost_machine(l);

    return machine && ledger_is_of(r, lease_name(l), machine);
}

/* That it comes on is sure, and since when it bills is not: its company said yes, and has not said "running". */
static bool is_let_go(const struct lease *l)
{
    struct rented_figures n;

    rented_figures(lease_rented(l), &n);
    return n.state == LIFE_STARTING && !n.asks && !has_open_interval(l);
}

/* What it costs an hour, as it is: its time while it is on, its disk while it is off. */
static struct ledger_sum rate_now(const struct lease *l)
{
    const char *machine = cost_machine(l);
    bool estimate;

    if (cost_is_of_disk(l))
        return cost_when_off(l);
    if (is_let_go(l)) {
        int64_t milli = rental_rate(l, &estimate);

        return (struct ledger_sum){.milli = milli,
                                   .estimate = milli > 0,
                                   .unknown = milli <= 0 && !rented_prepaid_until_at_ms(lease_rented(l))};
    }
    return machine ? ledger_rate_of(account_ledger(rented_account(lease_rented(l))), lease_name(l), machine)
                   : (struct ledger_sum){0};
}

/* ---- what nobody knows ---- */

#define REASON_MAX 160
struct doubt {
    char reason[REASON_MAX]; /* why nobody knows what it costs now; "": that is known */
    bool may_have_begun;     /* by a call of ours: nor what it has cost so far */
};

static void doubt_the_call(struct doubt *d, const struct lease *l, const struct rented_figures *n)
{
    const char *title = account_ops(rented_account(lease_rented(l)))->title;
    bool makes = n->state == LIFE_CREATING || life_record(rented_life(lease_rented(l)))->create_open;
    int64_t until_at_ms;

    d->may_have_begun = true;
    if (makes || n->asks)
        snprintf(d->reason, REASON_MAX, "%.32s has not answered the call that %s", title,
                 makes ? "makes it" : "switches it on");
    else if (n->doubted_until_at_ms)
        doubt_format(d->reason, l, &until_at_ms);
    else
        snprintf(d->reason, REASON_MAX, "%.32s has not said what came of the call that switches it on", title);
}

/* Its time is paid for, or its company tells what it costs, or nothing of it can be on: that is known. */
static struct doubt doubt_of(const struct lease *l)
{
    const struct account *a = rented_account(lease_rented(l));
    struct doubt d = {.reason = ""};
    struct rented_figures n;

    rented_figures(lease_rented(l), &n);
    if (rented_prepaid_until_at_ms(lease_rented(l)) || n.is_none || is_let_go(l) || has_open_interval(l))
        return d;
    switch (n.state) {
    case LIFE_ABSENT:
    case LIFE_WAITING:
    case LIFE_STOPPED:
    case LIFE_RELEASING:
    case LIFE_RELEASED: return d;
    case LIFE_CREATING:
    case LIFE_STARTING: doubt_the_call(&d, l, &n); return d;
    case LIFE_UNKNOWN:
    case LIFE_STOPPING:
    case LIFE_RUNNING: break;
    }
    if (rental_is_coming(l) || n.doubted_until_at_ms)
        doubt_the_call(&d, l, &n);
    else
        snprintf(d.reason, REASON_MAX, n.seen_at_ms ? "%.32s does not say whether it is on"
                                                    : "%.32s was not read yet", account_ops(a)->title);
    return d;
}

void cost_figures(const struct control_context *k, const struct account *a, struct account_figures *ret)
{
    struct lease *l;

    account_figures(a, ret);
    for (unsigned i = 0; (l = manager_lease_at(k->manager, i)); i++) {
        if (!lease_rented(l) || rented_account(lease_rented(l)) != a)
            continue;
        const struct doubt d = doubt_of(l);
        const struct ledger_sum beside =
            cost_is_of_disk(l) || is_let_go(l) ? rate_now(l) : (struct ledger_sum){0};

        add_sum(&ret->rate, &beside);
        ret->rate.unknown |= *d.reason != '\0';
        ret->today.unknown |= d.may_have_begun;
        ret->month.unknown |= d.may_have_begun;
    }
}

/* ---- the books ---- */

static struct ledger_sum spent_since(const struct account *a, const char *name, const char *machine,
                                     int64_t from_at_ms)
{
    return ledger_sum_of(account_ledger(a), name, machine, from_at_ms, account_now_ms(a) + 1);
}

/* In a call that has no answer it may have cost more. */
static struct ledger_sum spent_by(const struct lease *l, int64_t from_at_ms)
{
    const char *machine = cost_machine(l);
    struct ledger_sum sum =
        machine ? spent_since(rented_account(lease_rented(l)), lease_name(l), machine, from_at_ms)
                : (struct ledger_sum){0};

    sum.unknown |= doubt_of(l).may_have_begun;
    return sum;
}

static int64_t day_begins(const struct account *a)
{
    return ledger_day_begins(account_ledger(a), account_now_ms(a));
}

static int64_t month_begins(const struct account *a)
{
    return ledger_month_begins(account_ledger(a), account_now_ms(a));
}

struct json *show_spent_today(const struct lease *l)
{
    const struct account *a = rented_account(lease_rented(l));
    const struct ledger_sum today = spent_by(l, day_begins(a));

    return show_sum(&today, account_ops(a)->unit);
}

struct json *show_spent_month(const struct account *a, const char *name, const char *machine)
{
    const struct ledger_sum month =
        machine ? spent_since(a, name, machine, month_begins(a)) : (struct ledger_sum){0};

    return show_sum(&month, account_ops(a)->unit);
}

static bool is_stamp(const char *basis)
{
    return basis && streq(basis, "stamp");
}

struct json *show_spent(const struct account *a, const struct spent_record *r)
{
    bool exact = is_stamp(r->from_basis) && is_stamp(r->to_basis) && streq(r->rate_basis, "snapshot");
    bool is_lump = !streq(r->kind, "compute");
    struct json *v = json_object();
    /* As the sums have it, all of it; what is paid at once is told as it was paid. */
    const struct ledger_sum amount = {
        .milli = is_lump ? r->lump_milli : ledger_cost(r, r->to_at_ms ? r->to_at_ms + 1 : account_now_ms(a)),
        .estimate = is_lump ? streq(r->kind, "disk") : !exact,
        .unknown = ledger_is_unknown(r),
    };

    json_put_string(v, "provider", account_name(a));
    json_put_string(v, "instance", r->instance);
    json_put_string(v, "id", r->machine);
    json_put_string(v, "kind", r->kind);
    json_put_bool(v, "by_us", r->intent != NULL);
    json_put_int(v, "from_at_ms", r->from_at_ms);
    json_put_string(v, "from_basis", r->from_basis);
    if (r->to_at_ms)
        json_put_int(v, "to_at_ms", r->to_at_ms);
    json_put_string(v, "to_basis", r->to_basis);
    json_put_bool(v, "to_confirmed", r->to_basis && (is_stamp(r->to_basis) || streq(r->to_basis, "seen")));
    if (r->rate_milli >= 0)
        json_put_int(v, "rate_milli", r->rate_milli);
    json_put_string(v, "rate_basis", r->rate_basis);
    if (r->no_card)
        json_put_bool(v, "no_card", true);
    json_put(v, "amount", show_sum(&amount, r->unit));
    return v;
}

static void put_sums(struct json *v, const struct account *a, const struct ledger_sum *today,
                     const struct ledger_sum *month, const struct ledger_sum *stopped)
{
    const char *unit = account_ops(a)->unit;

    json_put(v, "today", show_sum(today, unit));
    json_put(v, "month", show_sum(month, unit));
    json_put(v, "stopped", show_sum(stopped, unit));
}

struct json *show_cost_line(const struct lease *l)
{
    const struct account *a = rented_account(lease_rented(l));
    const struct rented *rented = lease_rented(l);
    const struct doubt d = doubt_of(l);
    const struct ledger_sum now = rate_now(l), stopped = cost_when_off(l), today = spent_by(l, day_begins(a)),
                            month = spent_by(l, month_begins(a));
    struct json *v = json_object();

    json_put_string(v, "instance", lease_name(l));
    json_put_string(v, "id", cost_machine(l));
    json_put_string(v, "state", show_rental_state(l));
    if (*d.reason)
        json_put_string(v, "now_unknown", d.reason);
    else
        json_put(v, "now", show_sum(&now, account_ops(a)->unit));
    put_sums(v, a, &today, &month, &stopped);
    json_put_string(v, "gpu", rented_record(rented)->gpu);
    json_put_int(v, "cards", rented_record(rented)->cards);
    if (rented_record(rented)->disk_gb)
        json_put_int(v, "disk_gb", rented_record(rented)->disk_gb);
    if (rented_prepaid_until_at_ms(rented))
        json_put_int(v, "prepaid_until_at_ms", rented_prepaid_until_at_ms(rented));
    return v;
}

/* When its time was over, or it was seen last. */
static int64_t was_on_at_ms(const struct account *a, const struct spent_record *machine)
{
    const struct spent_record *r;
    int64_t at_ms = 0;

    for (unsigned i = 0; (r = ledger_row_at(account_ledger(a), i)); i++)
        if (streq(r->kind, "compute") && ledger_is_of(r, machine->instance, machine->machine))
            at_ms = MAX(at_ms, r->to_at_ms ? r->to_at_ms : r->seen_at_ms);
    return at_ms;
}

struct json *show_cost_of_gone(const struct account *a, const struct spent_record *r, bool earlier)
{
    const struct ledger_sum now = ledger_rate_of(account_ledger(a), r->instance, r->machine), none = {0},
                            today = spent_since(a, r->instance, r->machine, day_begins(a)),
                            month = spent_since(a, r->instance, r->machine, month_begins(a));
    struct json *v = json_object();

    json_put_string(v, "instance", r->instance);
    json_put_string(v, "id", r->machine);
    json_put_string(v, "state", life_state_name(LIFE_RELEASED));
    json_put(v, "now", show_sum(&now, account_ops(a)->unit));
    put_sums(v, a, &today, &month, &none);
    if (earlier)
        json_put_bool(v, "earlier", true);
    if (was_on_at_ms(a, r))
        json_put_int(v, "was_on_at_ms", was_on_at_ms(a, r));
    return v;
}
