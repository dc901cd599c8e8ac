/* How the machines that a call waits for go off: which of them belong to it, which stay on all the same, and
 * the provider's word until each is confirmed. */
#include "control/machines.h"

#include <time.h>

#include "base/clock.h"
#include "base/fault.h"
#include "control/follow.h"
#include "control/show.h"
#include "control/show_cost.h"
#include "control/show_rent.h"
#include "guard/keeper.h"
#include "lease/account.h"
#include "lease/boxed.h"
#include "lease/lease.h"
#include "lease/rented.h"
#include "proto/json.h"

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
        .was_looked_for = r && (w->was_searched || rented_step(r) == RENTED_CAPACITY || n.is_unsure),
        .since_due = w->was_searched ? w->searched_due : n.wanted_due,
    };
}

void machines_add_of_models(struct follow *w)
{
    for (unsigned i = 0; i < w->n_models; i++)
        if (w->models[i])
            machines_add(w, deployment_lease(w->models[i]));
}

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

bool machine_goes_off(const struct follow *w, const struct lease *l)
{
    const struct rented *r = lease_rented(l);

    return r && !rented_is_anothers(r) && !rented_is_left_alone(r) && !machine_is_off(l) && !stays_on(w, l);
}

bool machine_takes_along(const struct lease *l)
{
    return lease_rented(l) && life_state(rented_life(lease_rented(l))) == LIFE_STOPPING &&
           !lease_is_reachable(l);
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

void machines_put_stay(struct follow *w, struct json *v)
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

/* Of several: each bill that has ended. */
static void machines_put_ended(struct follow *w, struct json *v)
{
    struct json *list = json_array();

    for (unsigned i = 0; i < w->n_machines; i++) {
        const struct follow_machine *m = &w->machines[i];

        if (!m->lease || m->stays || m->was_off || m->was_looked_for || !lease_rented(m->lease))
            continue;
        struct json *one = json_object();

        json_put(one, "instance", show_instance(w->call->context, m->lease));
        json_put(one, "spent", show_spent_today(m->lease));
        json_append(list, one);
    }
    if (json_count(list))
        json_put(v, "ended", list);
    else
        json_free(list);
}

void machines_put(struct follow *w, struct json *v)
{
    struct lease *l = w->n_machines == 1 ? w->machines[0].lease : NULL;

    machines_put_stay(w, v);
    machines_put_search(w, v);
    if (!l) {
        machines_put_ended(w, v);
        return;
    }
    json_put(v, "instance", show_instance(w->call->context, l));
    if (lease_rented(l))
        json_put(v, "spent", show_spent_today(l));
}
