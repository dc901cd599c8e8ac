/* Down and Sleep: what is open ends first, then what runs. Both wait until nothing of it bills, where nothing else
 * keeps its machine on (machines.h). */
#include "control/methods.h"

#include "base/clock.h"
#include "base/fault.h"
#include "control/follow.h"
#include "control/machines.h"
#include "control/orphans.h"
#include "control/show.h"
#include "control/target.h"
#include "engine/engine.h"
#include "lease/account.h"
#include "lease/lease.h"
#include "lease/rented.h"
#include "proto/json.h"

/* ---- Down ---- */

static struct json *down_progress(const char *stage, const char *state, const char *text, uint64_t took_ms)
{
    struct json *v = json_object();

    json_put(v, "progress", follow_progress(stage, state, text, took_ms));
    json_put_bool(v, "done", false);
    return v;
}

/* Or none that anybody saw: behind a call without an answer, no engine was ever started. */
static bool has_no_machine(const struct lease *l)
{
    struct rented_figures n;

    if (!lease_rented(l))
        return false;
    rented_figures(lease_rented(l), &n);
    return machine_is_off(l) || n.is_none || n.is_unsure ||
           rented_step(lease_rented(l)) == RENTED_CAPACITY;
}

/* Its machine lets nobody in so far, or was given up before it did. */
static bool was_never_started(const struct deployment *d)
{
    return !deployment_may_run(d) &&
           (deployment_state(d) == DEPLOYMENT_CONNECTING || deployment_state(d) == DEPLOYMENT_FAILED);
}

/* Where none can run none is stopped. */
static void note_engines(struct follow *w)
{
    for (unsigned i = 0; i < w->n_models; i++) {
        const struct deployment *d = w->models[i];

        w->told[i].has_no_engine = deployment_state(d) == DEPLOYMENT_OFF || has_no_machine(deployment_lease(d)) ||
                                   was_never_started(d);
    }
}

static unsigned count_engines(const struct follow *w)
{
    unsigned n = 0;

    for (unsigned i = 0; i < w->n_models; i++)
        n += !w->told[i].has_no_engine;
    return n;
}

#define AWAY_TEXT_MAX 160

/* What cannot be asked ends when it can, or with its machine, which costs money until then. */
static void away_format(char out[static AWAY_TEXT_MAX], const struct follow *w, const struct lease *away)
{
    const char *lost = lease_refusal(away) ? "the login is refused" : "the tunnel is down";

    if (!machine_goes_off(w, away)) {
        snprintf(out, AWAY_TEXT_MAX, "%s; it stops when that is back", lost);
        return;
    }
    _cleanup_free_ char *stake = machine_stake(away, "it");

    snprintf(out, AWAY_TEXT_MAX, "%s; %s is asked to switch it off; until then %s", lost,
             account_ops(rented_account(lease_rented(away)))->title, stake);
}

/* How many requests are open, when it changed. False when the call is over. */
static bool down_tell(struct follow *w, unsigned streams, unsigned off, struct lease *away)
{
    uint64_t took_ms = clock_now_ms() - w->begun_due;
    unsigned n = count_engines(w);
    char text[AWAY_TEXT_MAX];

    if (streams != w->told_streams) {
        w->told_streams = streams;
        snprintf(text, sizeof text, "%u open", streams);
        if (!call_reply_more(w->call, down_progress("streams", streams ? "running" : "done", text, took_ms)))
            return false;
    }
    if (off != w->told_off) {
        w->told_off = off;
        if (w->n_models == 1 && off && w->models[0] && deployment_leaves_server(w->models[0]))
            snprintf(text, sizeof text, "left running (pid %lld): another llmhostd started it",
                     (long long)deployment_facts(w->models[0])->pid);
        else
            snprintf(text, sizeof text, n == 1 ? "stopped" : "%u of %u stopped", off, n);
        if (!call_reply_more(w->call,
                             down_progress("engine", off == n ? "done" : "running", text, took_ms)))
            return false;
    }
    if (away && !w->told_away) {
        w->told_away = true;
        away_format(text, w, away);
        if (!call_reply_more(w->call, down_progress("engine", "running", text, took_ms)))
            return false;
    }
    return true;
}

/* All of it is off. */
static void down_over(struct follow *w)
{
    bool forget = json_get_bool(w->call->parameters, "forget", false);
    struct lease *host = manager_find_lease(w->call->context->manager,
                                            json_get_text(w->call->parameters, "target"));
    struct json *v = json_object();
    store_ticket t = w->ticket;

    if (w->n_models == 1 && w->models[0] && !forget)
        json_put(v, "model", show_model(w->models[0]));
    machines_put(w, v);
    if (!w->n_machines && host) /* which nobody switches off from here */
        json_put(v, "instance", show_instance(w->call->context, host));
    json_put_bool(v, "done", true);
    json_put_int(v, "took_ms", (int64_t)(clock_now_ms() - w->begun_due));
    for (unsigned i = 0; forget && i < w->n_models; i++)
        if (w->models[i])
            t = manager_forget_deployment(w->call->context->manager, w->models[i]);
    if (t)
        call_reply_after(
            w->call, t, v,
            forget ? "it is off and forgotten, but not on disk yet"
                   : "it is off, but not on disk yet: llmhostd would bring it up again at its next start");
    else
        call_reply(w->call, v);
}

/* What its end waits for: requests, and a machine where a server may run that cannot be asked. */
static void add_waited_for(const struct follow *w, unsigned i, unsigned *streams, struct lease **away)
{
    struct lease *l = deployment_lease(w->models[i]);
    struct deployment_figures n;

    deployment_figures(w->models[i], &n);
    *streams += n.open;
    if (!w->told[i].has_no_engine && !lease_is_reachable(l))
        *away = l;
}

static void down_look(struct follow *w)
{
    struct lease *away = NULL;
    const struct fault *failed = NULL;
    const char *name = NULL;
    unsigned streams = 0, off = 0, stopped = 0, taken = 0;

    for (unsigned i = 0; i < w->n_models; i++) {
        struct deployment *d = w->models[i];

        if (!d || deployment_is_idle(d)) {
            off++;
            stopped += !w->told[i].has_no_engine;
            if (d && deployment_state(d) == DEPLOYMENT_FAILED && !machine_is_off(deployment_lease(d))) {
                failed = deployment_fault(d);
                name = deployment_name(d);
            }
            continue;
        }
        if (deployment_goal(d) != GOAL_OFF) {
            call_fail(w->call, EXIT_CONFLICT, "wanted_again", deployment_name(d), NULL, "llmhostctl status",
                      "%s was not stopped: it was asked for again meanwhile", deployment_name(d));
            return;
        }
        taken += machine_takes_along(deployment_lease(d));
        add_waited_for(w, i, &streams, &away);
    }
    if (w->call->more && !down_tell(w, streams, stopped, away))
        return;
    if (off + taken < w->n_models) {
        if (!count_engines(w))
            machines_tell_doubt(w);
        return;
    }
    if (!machines_are_off(w) || taken)
        return;
    if (failed) {
        call_fault(w->call, failed, name, "its engine may still run");
        return;
    }
    down_over(w);
}

/* A stop waits for no disk: one that cannot be kept is told of at its end. */
static void down_on_durable(void *ctx, const struct fault *f)
{
    struct call *c = ctx;

    (void)f;
    down_look(c->state);
}

/* Likewise of one that is switched off from inside. */
static void down_boxed(struct follow *w, struct lease *l)
{
    struct manager *m = w->call->context->manager;

    machines_add(w, l);
    manager_keep_instance(m, l, 0);
    manager_press(m, l);
}

/* The machine itself is meant: its keep is over, and it goes off whoever switched it on. */
static void down_machine(struct follow *w, struct lease *l, bool cut)
{
    struct manager *m = w->call->context->manager;
    const struct life *life = rented_life(lease_rented(l));
    int64_t until_at_ms;
    const char *why = manager_stay(m, l, &until_at_ms);

    machines_add(w, l);
    if (why && streq(why, "kept"))
        w->ticket = MAX(w->ticket, manager_keep_instance(m, l, 0));
    if (life_goal(life) == LIFE_GOAL_OFF &&
        (life_state(life) == LIFE_RUNNING || life_state(life) == LIFE_UNKNOWN))
        rented_want(lease_rented(l), LIFE_GOAL_OFF);
    else if (life_state(life) == LIFE_STOPPING && cut)
        manager_press(m, l);
}

/* Switched on by somebody else, and nobody is left who wants a model on it: this word is about it as well.
 * One that is another's is not. */
static bool down_reaches(struct manager *m, const struct lease *l)
{
    const struct rented *r = l ? lease_rented(l) : NULL;
    struct deployment *d;

    if (!r || rented_is_left_alone(r) || rented_is_anothers(r) ||
        life_goal(rented_life(r)) != LIFE_GOAL_OFF || life_state(rented_life(r)) != LIFE_RUNNING)
        return false;
    for (unsigned i = 0; (d = manager_deployment_at(m, i)); i++)
        if (deployment_lease(d) == l && deployment_goal(d) != GOAL_OFF)
            return false;
    return true;
}

static void down_machines_of_models(struct follow *w)
{
    for (unsigned i = 0; i < w->n_models; i++) {
        struct lease *l = deployment_lease(w->models[i]);

        if (down_reaches(w->call->context->manager, l))
            rented_want(lease_rented(l), LIFE_GOAL_OFF);
    }
}

static void down_machines(struct follow *w, const char *target, bool cut)
{
    struct lease *l;

    w->tells_end = w->call->more;
    down_machines_of_models(w);
    machines_add_of_models(w);
    for (unsigned i = 0; (l = manager_lease_at(w->call->context->manager, i)); i++)
        if ((lease_rented(l) || lease_boxed(l)) && target_is_instance(target, l)) {
            if (!w->n_models)
                call_log_change(w->call, lease_name(l), "down%s", cut ? ", now" : "");
            if (lease_rented(l))
                down_machine(w, l, cut);
            else
                down_boxed(w, l);
        }
}

void method_down(struct call *c)
{
    const char *target = json_get_text(c->parameters, "target");
    bool cut = json_get_bool(c->parameters, "now", false);

    if (json_get_text(c->parameters, "at")) {
        orphan_down(c);
        return;
    }
    if (follow_timeout_is_wrong(c) || !target_check_one(c, target))
        return;
    const struct lease *l = manager_find_lease(c->context->manager, target);

    if (l && machine_is_anothers(c, l))
        return;
    struct follow *w = follow_new(c, down_look);

    w->end = "off";

    if (!follow_add_target(w, target))
        return;
    if (w->n_models)
        call_log_change(c, target, "down%s%s", cut ? ", now" : "",
                        json_get_bool(c->parameters, "forget", false) ? ", and to be forgotten" : "");
    note_engines(w);
    for (unsigned i = 0; i < w->n_models && !w->was_searched; i++)
        w->was_searched = manager_choice_begun(c->context->manager, w->models[i], &w->searched_due);
    for (unsigned i = 0; i < w->n_models; i++) {
        manager_choose_without(c->context->manager, w->models[i]);
        w->ticket = deployment_want(w->models[i], GOAL_OFF, cut);
    }
    down_machines(w, target, cut);
    if (w->ticket)
        store_after(c->context->store, w->ticket, &c->op, down_on_durable, c);
    else
        down_look(w); /* an instance without a model */
}

/* ---- Sleep ---- */

/* True when it is not under way any more. A request that came wakes it: then it is not asleep, but all was
 * done. */
static void sleep_look(struct follow *w)
{
    unsigned streams = 0, asleep = 0, stopped = 0, taken = 0;
    struct lease *away = NULL;

    for (unsigned i = 0; i < w->n_models; i++) {
        struct deployment *d = w->models[i];

        if (!d || deployment_goal(d) == GOAL_OFF || deployment_state(d) == DEPLOYMENT_ASLEEP ||
            deployment_state(d) == DEPLOYMENT_FAILED) {
            asleep++;
            stopped += !w->told[i].has_no_engine;
            continue;
        }
        if (!deployment_is_falling_asleep(d)) {
            call_fail(w->call, EXIT_CONFLICT, "woken_again", deployment_name(d), NULL, "llmhostctl status",
                      "%s does not sleep: it was asked for again meanwhile", deployment_name(d));
            return;
        }
        taken += machine_takes_along(deployment_lease(d));
        add_waited_for(w, i, &streams, &away);
    }
    if (w->call->more && !down_tell(w, streams, stopped, away))
        return;
    if (asleep + taken < w->n_models || !machines_are_off(w) || taken)
        return;
    struct json *v = json_object();

    if (w->n_models == 1 && w->models[0])
        json_put(v, "model", show_model(w->models[0]));
    machines_put(w, v);
    json_put_bool(v, "done", true);
    json_put_int(v, "took_ms", (int64_t)(clock_now_ms() - w->begun_due));
    if (w->ticket)
        call_reply_after(w->call, w->ticket, v,
                         "it sleeps, but that is not on disk yet: llmhostd would wake it at its next start");
    else
        call_reply(w->call, v);
}

/* It sleeps whether or not the disk has it: one that cannot be kept is told of at its end. */
static void sleep_on_durable(void *ctx, const struct fault *f)
{
    struct call *c = ctx;

    (void)f;
    sleep_look(c->state);
}

/* One that has failed is in no memory, and stays failed: sleep would only hide why. The call was answered. */
static bool sleep_is_refused(struct follow *w)
{
    struct deployment *d = w->n_models == 1 ? w->models[0] : NULL;

    if (!d || deployment_state(d) != DEPLOYMENT_FAILED)
        return false;
    _cleanup_free_ char *next =
        xasprintf("llmhostctl why %s\nllmhostctl up %s", deployment_name(d), deployment_name(d));

    call_fail(w->call, EXIT_NOT_RUNNING, "not_running", deployment_name(d), deployment_fault(d)->text, next,
              "%s has failed and is not in memory", deployment_name(d));
    return true;
}

void method_sleep(struct call *c)
{
    const char *target = json_get_text(c->parameters, "target");
    bool cut = json_get_bool(c->parameters, "now", false);

    if (follow_timeout_is_wrong(c) || !target_check_one(c, target))
        return;
    struct follow *w = follow_new(c, sleep_look);

    w->end = "asleep";

    if (!follow_add_wanted(w, target) || sleep_is_refused(w))
        return;
    note_engines(w);
    call_log_change(c, target, "sleep%s", cut ? ", now" : "");
    w->tells_end = c->more;
    machines_add_of_models(w);
    for (unsigned i = 0; i < w->n_models; i++)
        w->ticket = MAX(w->ticket, deployment_sleep(w->models[i], cut, DEPLOYMENT_SLEEP_WORD));
    if (w->ticket)
        store_after(c->context->store, w->ticket, &c->op, sleep_on_durable, c);
    else
        sleep_look(w); /* all have failed */
}
