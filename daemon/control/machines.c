/* Down, Sleep and Wait end at the confirmed stop of a rented machine, where nothing keeps it on. */
#include "control/machines.h"

#include <time.h>

#include "base/clock.h"
#include "base/fault.h"
#include "control/explain.h"
#include "control/follow.h"
#include "control/show.h"
#include "control/show_rent.h"
#include "guard/keeper.h"
#include "lease/account.h"
#include "lease/boxed.h"
#include "lease/lease.h"
#include "lease/ledger.h"
#include "lease/rented.h"
#include "proto/buf.h"
#include "proto/json.h"
#include "proto/text.h"
#include "provider/known_host.h"

#define BEGAN_MS 5000 /* off the beginning of a search, which is known no better by the clock of its company */

void machines_add(struct follow *w, struct lease *l)
{
    if (!lease_rented(l) && !lease_boxed(l))
        return;
    for (unsigned i = 0; i < w->n_machines; i++)
        if (w->machines[i].lease == l)
            return;
    w->machines = reallocarray(w->machines, w->n_machines + 1, sizeof *w->machines);
    if (!w->machines)
        abort();
    const struct rented *r = lease_rented(l);
    struct rented_figures n = {};

    if (r)
        rented_figures(r, &n);
    w->machines[w->n_machines++] = (struct follow_machine){
        .lease = l,
        .is_over = machine_is_off(l),
        .was_off = machine_is_off(l),
        .was_looked_for = r && (w->searched_at_ms || rented_step(r) == RENTED_CAPACITY || n.is_unsure),
        .since_at_ms = w->searched_at_ms ? w->searched_at_ms : r ? rented_record(r)->wanted_at_ms : 0,
    };
}

void machines_add_of_models(struct follow *w)
{
    for (unsigned i = 0; i < w->n_models; i++)
        if (w->models[i])
            machines_add(w, deployment_lease(w->models[i]));
}

/* ---- on its way off ---- */

bool machine_is_off(const struct lease *l)
{
    if (lease_boxed(l))
        return boxed_state(lease_boxed(l)) == BOXED_OFF;
    return lease_rented(l) && life_is_at_rest(life_state(rented_life(lease_rented(l))));
}

bool machine_is_anothers(struct call *c, const struct lease *l)
{
    static const struct fault others = {
        .kind = FAULT_DENIED, .code = "other_owner", .text = "another llmhostd keeps this machine"};
    const struct keeper *k = lease_rented(l)  ? rented_keeper(lease_rented(l))
                             : lease_boxed(l) ? boxed_keeper(lease_boxed(l))
                                              : NULL;

    if (!(lease_rented(l) && rented_is_anothers(lease_rented(l))) &&
        !(lease_boxed(l) && boxed_is_anothers(lease_boxed(l))))
        return false;
    call_fault(c, k && streq(keeper_fault(k)->code, others.code) ? keeper_fault(k) : &others, lease_name(l),
               NULL);
    return true;
}

bool machine_is_unconfirmed(const struct lease *l)
{
    const struct fault *f = lease_rented(l)  ? rented_trouble(lease_rented(l))
                            : lease_boxed(l) ? boxed_trouble(lease_boxed(l))
                                             : NULL;

    return f && streq(f->code, "stop_not_confirmed");
}

/* It is wanted, and was not put to sleep. */
static bool is_awake(const struct deployment *d)
{
    return deployment_goal(d) != GOAL_OFF && !deployment_sleeps_by_word(d);
}

/* It was not reached, or no word about its models ends it. */
static bool boxed_stays_on(const struct follow *w, const struct lease *l)
{
    int64_t until_at_ms;
    const char *why = manager_stay(w->call->context->manager, l, &until_at_ms);

    return boxed_state(lease_boxed(l)) != BOXED_STOPPING &&
           !(why && (streq(why, "stopped_by_user") || streq(why, "asleep")));
}

/* Something keeps it on; or somebody else switched it on, and it is nobody's to switch off. */
static bool stays_on(const struct follow *w, const struct lease *l)
{
    if (lease_boxed(l))
        return boxed_stays_on(w, l);

    const struct life *life = rented_life(lease_rented(l));
    struct manager *m = w->call->context->manager;
    struct deployment *d;
    int64_t until_at_ms;

    if (life_goal(life) != LIFE_GOAL_ON)
        return life_state(life) == LIFE_RUNNING;
    for (unsigned i = 0; (d = manager_deployment_at(m, i)); i++)
        if (deployment_lease(d) == l && is_awake(d))
            return true;
    const char *why = manager_stay(m, l, &until_at_ms);

    return why && streq(why, "kept");
}

static bool machine_say(struct follow *w, const char *stage, const char *state, const struct lease *l,
                        const char *text)
{
    struct json *v = json_object(), *progress;

    progress = follow_progress(stage, state, text, clock_now_ms() - w->begun_due);
    if (w->n_machines > 1)
        json_put_string(progress, "instance", lease_name(l));
    json_put(v, "progress", progress);
    json_put_bool(v, "done", false);
    return call_reply_more(w->call, v);
}

static bool machine_tell(struct follow *w, const char *stage, const char *state, const struct lease *l)
{
    struct rented_figures n;
    char text[80];

    if (lease_boxed(l)) {
        bool gone = boxed_state(lease_boxed(l)) == BOXED_OFF;

        return machine_say(w, stage, streq(stage, "confirmed") ? "skipped" : state, l,
                           streq(stage, "confirmed") ? "by nobody: there is no account here"
                           : gone                    ? "it went away"
                                                     : "its guard stops it");
    }
    rented_figures(lease_rented(l), &n);
    snprintf(text, sizeof text, "%s: %s", account_ops(rented_account(lease_rented(l)))->title,
             *n.word ? n.word : show_rental_state(l));
    return machine_say(w, stage, state, l, text);
}

static const char *machine_word(const struct lease *l, char out[static INSTANCE_WORD_MAX])
{
    struct rented_figures n;

    if (lease_boxed(l))
        return boxed_state_name(boxed_state(lease_boxed(l)));
    rented_figures(lease_rented(l), &n);
    snprintf(out, INSTANCE_WORD_MAX, "%s", n.word);
    return *out ? out : show_rental_state(l);
}

/* It is off, as it seems, and the call waits on: why, and how long. */
static bool machine_tell_doubt(struct follow *w, struct follow_machine *m, const char *doubt,
                               int64_t until_at_ms)
{
    time_t at = (time_t)((until_at_ms + 999) / 1000);
    char text[DOUBT_TEXT_MAX + 32], clock[16];
    struct tm tm;

    if (streq(m->told, "doubted"))
        return true;
    snprintf(m->told, sizeof m->told, "doubted");
    strftime(clock, sizeof clock, "%H:%M:%S", localtime_r(&at, &tm));
    snprintf(text, sizeof text, "%s; confirmed by %s", doubt, clock);
    return machine_say(w, "power_off", "running", m->lease, text);
}

/* The provider's word, whenever it is another one. False: the call is over. */
static bool machine_tell_changes(struct follow *w, struct follow_machine *m)
{
    char text[INSTANCE_WORD_MAX], doubt[DOUBT_TEXT_MAX];
    const char *word = machine_word(m->lease, text);
    int64_t until_at_ms;

    if (lease_rented(m->lease) && *doubt_format(doubt, m->lease, &until_at_ms))
        return machine_tell_doubt(w, m, doubt, until_at_ms);
    if (streq(m->told, word))
        return true;
    snprintf(m->told, sizeof m->told, "%s", word);
    return machine_tell(w, "power_off", "running", m->lease);
}

static bool machine_tell_end(struct follow *w, struct follow_machine *m)
{
    struct rented_figures n = {.was_powered = true};

    if (m->is_over)
        return true;
    m->is_over = true;
    if (lease_rented(m->lease))
        rented_figures(lease_rented(m->lease), &n);
    if (n.is_unsure)
        return machine_say(w, "power_off", "skipped", m->lease,
                           "none is seen; a call for one got no answer");
    if (!*m->told && !n.was_powered) /* it was looked for */
        return machine_say(w, "power_off", "skipped", m->lease, "nothing was switched on");
    return machine_tell(w, "power_off", "done", m->lease) && machine_tell(w, "confirmed", "done", m->lease);
}

void machines_tell_doubt(struct follow *w)
{
    char doubt[DOUBT_TEXT_MAX];
    int64_t until_at_ms;

    for (unsigned i = 0; w->tells_end && i < w->n_machines; i++) {
        struct follow_machine *m = &w->machines[i];

        if (m->lease && lease_rented(m->lease) && *doubt_format(doubt, m->lease, &until_at_ms) &&
            !machine_tell_doubt(w, m, doubt, until_at_ms))
            return;
    }
}

bool machines_are_off(struct follow *w)
{
    bool all = true;

    for (unsigned i = 0; i < w->n_machines; i++) {
        struct follow_machine *m = &w->machines[i];

        if (!m->lease || m->stays)
            continue;
        if (machine_is_off(m->lease)) {
            if (w->tells_end && !machine_tell_end(w, m))
                return false;
            continue;
        }
        if (!*m->told && !w->needs_end && stays_on(w, m->lease)) {
            m->stays = true;
            continue;
        }
        all = false;
        if (w->tells_end && !machine_tell_changes(w, m))
            return false;
        if (!w->needs_end && machine_is_unconfirmed(m->lease)) {
            machines_fail_stop(w, m->lease);
            return false;
        }
    }
    return all;
}

/* What a search came to that ended here. */
struct searched {
    struct json *names;  /* of those that were switched on in it */
    struct json *unsure; /* of those that may come of a call that nobody heard the end of */
    int64_t powered_ms;
    struct ledger_sum spent;
    const char *unit;
};

/* In the books it is from its beginning on, by the clock of its company. */
static void add_powered(struct searched *s, const struct follow_machine *m)
{
    const struct rented *r = lease_rented(m->lease);
    const struct account *a = rented_account(r);
    const struct ledger *g = account_ledger(a);
    int64_t now_ms = account_now_ms(a);
    int64_t begun_ms = m->since_at_ms + now_ms - clock_wall_ms() - BEGAN_MS;
    const struct spent_record *row;
    bool was_powered;
    struct rented_figures n;

    rented_figures(r, &n);
    was_powered = n.was_powered;
    if (rented_record(r)->never_made || rented_record(r)->wanted_at_ms < m->since_at_ms - BEGAN_MS)
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
static const struct rental_record *searched_for(const struct follow *w)
{
    const struct rental_record *first = NULL;

    for (unsigned i = 0; i < w->n_models; i++) {
        const struct rented *r = w->models[i] ? lease_rented(deployment_lease(w->models[i])) : NULL;

        if (!r || !rented_is_unmade(r) || !rented_record(r)->by_search)
            return NULL;
        first = first ? first : rented_record(r);
    }
    return first;
}

/* It is left of an older search, or sleeps: nothing of it belongs to what ended here. */
static bool is_beside(const struct follow_machine *m)
{
    return m->was_off && !m->was_looked_for;
}

static struct json *show_searched(const struct follow *w)
{
    struct searched s = {.names = json_array(), .unsure = json_array()};
    const struct rental_record *wish = searched_for(w);
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
    if (wish) {
        json_put_string(v, "gpu", wish->gpu);
        if (wish->max_price_milli)
            json_put_int(v, "max_price_milli", wish->max_price_milli);
    }
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

static void put_stay(struct follow *w, struct json *v)
{
    struct json *list = json_array();

    for (unsigned i = 0; i < w->n_machines; i++)
        if (w->machines[i].lease && w->machines[i].stays)
            json_append(list, show_instance(w->call->context, w->machines[i].lease));
    if (json_count(list))
        json_put(v, "stay", list);
    else
        json_free(list);
}

void machines_put(struct follow *w, struct json *v)
{
    struct lease *l = w->n_machines == 1 ? w->machines[0].lease : NULL;

    put_stay(w, v);

    if (was_search(w))
        json_put(v, "search", show_searched(w));
    if (!l)
        return;
    json_put(v, "instance", show_instance(w->call->context, l));
    if (lease_rented(l))
        json_put(v, "spent", show_spent_today(l));
}

/* ---- what takes too long ---- */

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
    _cleanup_free_ char *next =
        xasprintf("llmhostctl wait %s\nllmhostctl down %s", deployment_name(d), deployment_name(d));
    _cleanup_free_ char *why = xasprintf("%s; the search goes on%s", f->text,
                                         n.was_powered || n.is_unsure ? "" : ", and nothing is switched on so far");

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
    for (unsigned i = 0; i < w->n_models; i++) {
        const struct deployment *d = w->models[i];

        if (d && lease_rented(deployment_lease(d)) && deployment_state(d) == DEPLOYMENT_CONNECTING &&
            answer_search(w, d, deployment_lease(d)))
            return true;
    }
    return false;
}
