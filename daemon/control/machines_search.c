/* What a search for a card came to, once its end is all that a call was waiting for: what was switched on in
 * it, for how long and for how much, what may still come, and for what else to look again. */
#include "control/machines.h"

#include "base/clock.h"
#include "control/follow.h"
#include "control/show_rent.h"
#include "lease/account.h"
#include "lease/lease.h"
#include "lease/ledger.h"
#include "lease/rented.h"
#include "manager.h"
#include "proto/arguments.h"
#include "proto/json.h"
#include "proto/mem.h"
#include "provider/rental.h"

#define BEGAN_MS 5000 /* off the beginning of a search, which is known no better by the clock of its company */

/* What a search came to that ended here. */
struct searched {
    struct json *names;  /* of those that were switched on in it */
    struct json *unsure; /* of those that may come of a call that nobody heard the end of */
    int64_t powered_ms;
    struct ledger_sum spent;
    const char *unit;
};

/* In the books it is from its beginning on, by the clock of its company: where that is near ours, ends are written
 * down by either. */
static int64_t begun_at_ms(const struct follow_machine *m, const struct account *a)
{
    int64_t their_ms = account_their_now_ms(a), now_ms = account_now_ms(a);
    int64_t age_ms = (int64_t)clock_now_ms() - m->since_due;

    return (their_ms ? MIN(their_ms, now_ms) : now_ms) - age_ms - BEGAN_MS;
}

static void add_powered(struct searched *s, const struct follow_machine *m)
{
    const struct rented *r = lease_rented(m->lease);
    const struct account *a = rented_account(r);
    const struct ledger *g = account_ledger(a);
    int64_t now_ms = account_now_ms(a), begun_ms = begun_at_ms(m, a);
    const struct spent_record *row;
    bool was_powered;
    struct rented_figures n;

    rented_figures(r, &n);
    was_powered = n.was_powered;
    if (rented_record(r)->never_made || n.wanted_due < m->since_due - BEGAN_MS)
        return;
    for (unsigned i = 0; (row = ledger_row_at(g, i)); i++)
        if (streq(row->instance, lease_name(m->lease)) && streq(row->kind, "compute") &&
            row->from_at_ms >= begun_ms) {
            was_powered = true;
            s->powered_ms += MAX((row->to_at_ms ? row->to_at_ms : now_ms) - row->from_at_ms, (int64_t)0);
        }
    if (!was_powered && n.is_unsure)
        json_append_string(s->unsure, lease_name(m->lease));
    if (!was_powered)
        return;
    struct ledger_sum spent = ledger_sum(g, lease_name(m->lease), begun_ms, now_ms + 1);

    json_append_string(s->names, lease_name(m->lease));
    s->spent.milli += spent.milli;
    s->spent.estimate |= spent.estimate;
    s->spent.unknown |= spent.unknown;
    s->unit = account_ops(a)->unit;
}

/* What a search left of itself goes with it; NULL: something stays, on which the model can be wanted again. */
static const struct rented *searched_for(const struct follow *w)
{
    const struct rented *first = NULL;

    for (unsigned i = 0; i < w->n_models; i++) {
        const struct rented *r = w->models[i] ? lease_rented(deployment_lease(w->models[i])) : NULL;

        if (!r || !rented_was_never_made(r) || !rented_record(r)->by_search)
            return NULL;
        first = first ? first : r;
    }
    return first;
}

/* It is left of an older search, or sleeps: nothing of it belongs to what ended here. */
static bool is_beside(const struct follow_machine *m)
{
    return m->was_off && !m->was_looked_for;
}

/* What it would be looked for with again; what is as it is when nobody says it is left out. */
static void put_wish(const struct follow *w, const struct rented *r, struct json *v)
{
    const struct rental_record *wish = rented_record(r);
    struct account *a = rented_account(r);
    const struct json *arguments = w->models[0] ? deployment_arguments(w->models[0]) : NULL;
    _cleanup_free_ char *why = NULL;
    const char *usual = NULL;

    json_put_string(v, "gpu", wish->gpu);
    if (wish->max_price_milli)
        json_put_int(v, "max_price_milli", wish->max_price_milli);
    if (!manager_rental_account(w->call->context->manager, NULL))
        json_put_string(v, "provider", account_name(a));
    json_put_string(v, "region", wish->region);
    if (account_ops(a)->find_image(account_rental(a), NULL, &usual, &why) < 0 || !wish->image ||
        !streq(usual, wish->image))
        json_put_string(v, "image", wish->image);
    if (wish->disk_gb)
        json_put_int(v, "disk_gb", wish->disk_gb);
    if (!arguments)
        return;
    if (arguments_hold_secret(arguments))
        json_put_bool(v, "left_out", true);
    else
        json_put(v, "arguments", json_copy(arguments));
}

static struct json *show_searched(const struct follow *w)
{
    struct searched s = {.names = json_array(), .unsure = json_array()};
    const struct rented *wish = searched_for(w);
    struct json *v = json_object();
    bool was_powered;

    for (unsigned i = 0; i < w->n_machines; i++)
        if (w->machines[i].lease && !is_beside(&w->machines[i]))
            add_powered(&s, &w->machines[i]);
    was_powered = json_count(s.names) != 0;
    json_put_bool(v, "powered", was_powered);
    if (was_powered) {
        json_put_int(v, "powered_ms", s.powered_ms);
        json_put(v, "amount", show_sum(&s.spent, s.unit));
        json_put(v, "instances", TAKE_PTR(s.names));
    }
    if (json_count(s.unsure))
        json_put(v, "unsure", TAKE_PTR(s.unsure));
    json_free(s.names);
    json_free(s.unsure);
    if (wish)
        put_wish(w, wish, v);
    return v;
}

/* All that ended here was a search, and is off. */
static bool was_search(const struct follow *w)
{
    bool any = false;

    for (unsigned i = 0; i < w->n_machines; i++) {
        const struct follow_machine *m = &w->machines[i];

        if (is_beside(m) && (!m->lease || machine_is_off(m->lease)))
            continue;
        if (!m->was_looked_for || (m->lease && !machine_is_off(m->lease)))
            return false;
        any = true;
    }
    return any;
}

void machines_put_search(struct follow *w, struct json *v)
{
    if (was_search(w))
        json_put(v, "search", show_searched(w));
}
