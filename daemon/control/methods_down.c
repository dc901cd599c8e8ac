/* Down and Sleep, which let open requests end, and Keep, which holds them off. */
#include "control/methods.h"

#include "base/clock.h"
#include "base/fault.h"
#include "control/follow.h"
#include "control/machines.h"
#include "control/orphans.h"
#include "control/show.h"
#include "control/show_rent.h"
#include "control/target.h"
#include "engine/engine.h"
#include "lease/account.h"
#include "lease/boxed.h"
#include "lease/lease.h"
#include "lease/rented.h"
#include "proto/json.h"
#include "proto/text.h"

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

/* Where none can run none is stopped. */
static void note_engines(struct follow *w)
{
    for (unsigned i = 0; i < w->n_models; i++) {
        const struct lease *l = deployment_lease(w->models[i]);

        w->told[i].has_no_engine =
            deployment_state(w->models[i]) == DEPLOYMENT_OFF || has_no_machine(l);
    }
}

static unsigned count_engines(const struct follow *w)
{
    unsigned n = 0;

    for (unsigned i = 0; i < w->n_models; i++)
        n += !w->told[i].has_no_engine;
    return n;
}

/* How many requests are open, when it changed. False when the call is over. */
static bool down_tell(struct follow *w, unsigned streams, unsigned off, struct lease *away)
{
    uint64_t took_ms = clock_now_ms() - w->begun_due;
    unsigned n = count_engines(w);
    char text[96];

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
        const struct fault *refusal = lease_refusal(away);

        w->told_away = true;
        snprintf(text, sizeof text, "%s; it stops when that is back",
                 refusal ? "the login is refused" : "the tunnel is down");
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
    unsigned streams = 0, off = 0, stopped = 0;

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
        add_waited_for(w, i, &streams, &away);
    }
    if (w->call->more && !down_tell(w, streams, stopped, away))
        return;
    if (off < w->n_models) {
        if (!count_engines(w))
            machines_tell_doubt(w);
        return;
    }
    if (!machines_are_off(w))
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
    unsigned streams = 0, asleep = 0, stopped = 0;
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
        add_waited_for(w, i, &streams, &away);
    }
    if (w->call->more && !down_tell(w, streams, stopped, away))
        return;
    if (asleep < w->n_models || !machines_are_off(w))
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

/* Only what is wanted can sleep: an off model stays off. */
static void follow_drop_off(struct follow *w)
{
    unsigned n = 0;

    for (unsigned i = 0; i < w->n_models; i++)
        if (deployment_goal(w->models[i]) != GOAL_OFF)
            w->models[n++] = w->models[i];
    w->n_models = n;
    note_engines(w);
}

/* What is off stays off until up. False: there is nothing else, and the call was answered. */
static bool follow_add_wanted(struct follow *w, const char *target)
{
    struct fault f;

    if (!follow_add_target(w, target))
        return false;
    bool is_model = !glob_is_pattern(target) && !manager_find_lease(w->call->context->manager, target);
    struct deployment *off = w->n_models == 1 || (w->n_models && is_model) ? w->models[0] : NULL;

    follow_drop_off(w);
    if (w->n_models)
        return true;
    if (off) {
        deployment_describe_off(off, &f);
        call_fault(w->call, &f, deployment_name(off), NULL);
    } else {
        _cleanup_free_ char *next = xasprintf("llmhostctl up ollama:NAME --on %s", target);

        call_fail(w->call, EXIT_NOT_FOUND, "not_found", target, NULL,
                  glob_is_pattern(target) ? "llmhostctl status" : next, "no model is wanted on %s", target);
    }
    return false;
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

    if (!follow_add_wanted(w, target) || sleep_is_refused(w))
        return;
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

/* ---- Keep ---- */

#define DAY_MS               ((int64_t)24 * 3600 * 1000)
#define KEEP_MS_MAX          (30 * DAY_MS)
#define KEEP_INSTANCE_MS_MAX (7 * DAY_MS)

/* The machine that stays on, itself or because of the model on it, and what that costs. */
static void keep_put_machine(struct follow *w, struct json *v)
{
    int64_t for_ms = json_get_int(w->call->parameters, "for_ms", 0);
    struct lease *l = w->n_machines == 1 ? w->machines[0].lease : NULL;

    if (!l)
        return;
    json_put(v, "instance", show_instance(w->call->context, l));
    if (for_ms && lease_rented(l))
        json_put(v, "cost", show_rental_cost(l, for_ms));
}

static bool keep_is_about(const struct follow *w, const struct deployment *d)
{
    for (unsigned i = 0; i < w->n_models; i++)
        if (w->models[i] == d)
            return true;
    return false;
}

/* The keep is over, of a machine or a model, and that of another model on that machine goes on. */
static void keep_add_kept(struct follow *w, struct json *models)
{
    struct manager *m = w->call->context->manager;
    struct deployment_figures n;
    struct deployment *d;

    for (unsigned i = 0; !w->keep_until_at_ms && (d = manager_deployment_at(m, i)); i++) {
        deployment_figures(d, &n);
        for (unsigned k = 0; n.keep_until_at_ms && !keep_is_about(w, d) && k < w->n_machines; k++)
            if (deployment_lease(d) == w->machines[k].lease)
                json_append(models, show_model(d));
    }
}

/* The keep of a model is over, and that of its machine goes on. */
static void keep_note_stay(struct follow *w)
{
    int64_t until_at_ms;

    for (unsigned i = 0; w->n_models && !w->keep_until_at_ms && i < w->n_machines; i++) {
        const struct lease *l = w->machines[i].lease;
        const char *why = l ? manager_stay(w->call->context->manager, l, &until_at_ms) : NULL;

        w->machines[i].stays = why && streq(why, "kept");
    }
}

/* Nothing is told before it is on disk; it does not wait until they are ready. */
static void keep_on_durable(void *ctx, const struct fault *f)
{
    struct call *c = ctx;
    struct follow *w = c->state;
    struct json *v = json_object(), *models = json_array();

    for (unsigned i = 0; i < w->n_models; i++)
        if (w->models[i])
            json_append(models, show_model(w->models[i]));
    keep_add_kept(w, models);
    json_put(v, "models", models);
    keep_put_machine(w, v);
    keep_note_stay(w);
    machines_put_stay(w, v);
    if (f) {
        json_free(v);
        call_not_kept(c, f, "it is kept for now, but not on disk: a restart of the daemon would forget it");
        return;
    }
    call_reply(c, v);
}

/* No money: whose, and how it is mended. */
static void keep_refuse(struct call *c, const struct lease *l, const struct fault *f)
{
    call_fault(c, f, rental_subject(l, f), NULL);
}

/* There is no money, and the wish ends by that later in this turn. */
static bool is_refused_money(const struct lease *l, const struct rented *r)
{
    const struct fault *f = life_trouble(rented_life(r));

    return life_state(rented_life(r)) == LIFE_WAITING && f->kind == FAULT_EXHAUSTED &&
           rental_is_of_account(l, f);
}

/* Whether there is money for it is known when the power-on has reserved it. */
static void keep_no_card_look(struct follow *w)
{
    struct lease *l = w->machines[0].lease;
    const struct rented *r = l ? lease_rented(l) : NULL;
    struct fault f;

    if (!r) {
        call_fail(w->call, EXIT_NOT_FOUND, "gone", NULL, NULL, "llmhostctl status",
                  "the machine was given back meanwhile");
        return;
    }
    if (life_goal(rented_life(r)) == LIFE_GOAL_ON) {
        if (!rented_is_reserving(r) && !is_refused_money(l, r))
            keep_on_durable(w->call, NULL);
        return;
    }
    f = *rented_trouble(r);
    if (!f.kind)
        fault_code(&f, FAULT_GONE, "machine_off", "%s was switched off meanwhile", lease_name(l));
    keep_refuse(w->call, l, &f);
}

static void keep_no_card_on_durable(void *ctx, const struct fault *f)
{
    struct call *c = ctx;

    if (f)
        keep_on_durable(c, f);
    else
        keep_no_card_look(c->state);
}

static void keep_nothing(struct follow *w)
{
    (void)w;
}

static void no_card_is_for_others(struct call *c, const char *target)
{
    call_fail(c, EXIT_USAGE, "not_rented", target, NULL, "llmhostctl instance list",
              "%.60s is no rented machine: only one of those is on without its card", target);
}

/* Only what is off can be switched on like that, and only where there is such a thing. True: the call was
 * answered. */
static bool no_card_is_refused(struct call *c, const struct lease *l)
{
    const struct rental_ops *ops = account_ops(rented_account(lease_rented(l)));
    const char *name = lease_name(l);
    enum life_state s = life_state(rented_life(lease_rented(l)));
    _cleanup_free_ char *keep = xasprintf("llmhostctl keep %s TIME --no-card", name);
    _cleanup_free_ char *with = xasprintf("llmhostctl up ollama:NAME --on %s", name);
    _cleanup_free_ char *down = xasprintf("llmhostctl down %s\n%s", name, keep);

    if (json_get_int(c->parameters, "for_ms", 0) == 0)
        call_fail(c, EXIT_USAGE, "bad_time", name, NULL, keep, "for how long is not said");
    else if (!ops->has_no_card)
        call_fail(c, EXIT_USAGE, "has_no_card", name, "it is on with its card or not at all", with,
                  "%s was not switched on: %s has no boot without a card there", name, ops->title);
    else if (s == LIFE_ABSENT)
        call_fail(c, EXIT_NOT_RUNNING, "not_running", name, NULL, with, "there is no machine for %s yet",
                  name);
    else if (s != LIFE_STOPPED || life_goal(rented_life(lease_rented(l))) != LIFE_GOAL_OFF)
        call_fail(c, EXIT_CONFLICT, "not_off", name, NULL, down,
                  "%s is not off: only from there it comes up without its card", name);
    else
        return false;
    return true;
}

static void keep_machine(void *ctx, const struct fault *f)
{
    struct call *c = ctx;
    struct follow *w = c->state;
    struct lease *l = w->machines[0].lease;

    if (!l) {
        call_fail(c, EXIT_NOT_FOUND, "gone", NULL, NULL, "llmhostctl status",
                  "the machine was given back meanwhile");
        return;
    }
    if (f) {
        keep_refuse(c, l, f);
        return;
    }
    w->ticket = manager_keep_instance(c->context->manager, l, w->keep_until_at_ms);
    store_after(c->context->store, w->ticket, &c->op, keep_on_durable, c);
}

static void keep_without_card(struct call *c, struct lease *l)
{
    struct follow *w = c->state;

    w->ticket = manager_keep_without_card(c->context->manager, l, w->keep_until_at_ms);
    store_after(c->context->store, w->ticket, &c->op, keep_no_card_on_durable, c);
}

static bool is_to_be_on(const struct lease *l)
{
    return lease_rented(l) ? life_goal(rented_life(lease_rented(l))) == LIFE_GOAL_ON
                           : boxed_state(lease_boxed(l)) == BOXED_ON;
}

/* A rented machine stays on whatever its models do; one that is off is not switched on for that. */
static void keep_instance(struct call *c, struct lease *l, int64_t for_ms)
{
    const char *name = lease_name(l);
    _cleanup_free_ char *up = xasprintf("llmhostctl up ollama:NAME --on %s", name);
    _cleanup_free_ char *less = xasprintf("llmhostctl keep %s 7d", name);
    bool no_card = json_get_bool(c->parameters, "no_card", false);
    char how_long[TEXT_SHORT_MAX];
    struct fault off;

    if (for_ms && machine_is_anothers(c, l))
        return;
    if (for_ms > KEEP_INSTANCE_MS_MAX) {
        call_fail(c, EXIT_USAGE, "bad_time", name, "its guard lets it run on for no longer without llmhostd",
                  less, "a keep of a rented machine lasts at most 7 days");
        return;
    }
    if (no_card && !lease_rented(l)) {
        no_card_is_for_others(c, name);
        return;
    }
    if (no_card && no_card_is_refused(c, l))
        return;
    if (for_ms && !no_card && !is_to_be_on(l)) {
        call_fail(c, EXIT_NOT_RUNNING, "not_running", name, lease_needs_hand(l, &off) ? off.text : NULL, up,
                  "%s is not on: there is nothing to keep", name);
        return;
    }
    struct follow *w = follow_new(c, no_card ? keep_no_card_look : keep_nothing);

    call_log_change(c, name,
                    !for_ms   ? "keep is over%s"
                    : no_card ? "keep for %s, without its card"
                              : "keep for %s",
                    for_ms ? duration_format(how_long, (uint64_t)for_ms, false) : "");
    machines_add(w, l);
    w->keep_until_at_ms = for_ms ? clock_wall_ms() + for_ms : 0;
    if (no_card)
        keep_without_card(c, l);
    else if (for_ms && lease_rented(l))
        manager_reserve_keep(c->context->manager, l, NULL, w->keep_until_at_ms, &c->op, keep_machine, c);
    else
        keep_machine(c, NULL);
}

static void keep_models(struct follow *w)
{
    struct call *c = w->call;

    for (unsigned i = 0; i < w->n_models; i++)
        if (w->models[i])
            w->ticket = deployment_keep(w->models[i], w->keep_until_at_ms);
    store_after(c->context->store, w->ticket, &c->op, keep_on_durable, c);
}

static void keep_pay(struct follow *w);

static void keep_on_paid(void *ctx, const struct fault *f)
{
    struct call *c = ctx;
    struct follow *w = c->state;
    const struct deployment *d = w->models[w->n_paid - 1];

    if (f && d)
        keep_refuse(c, deployment_lease(d), f);
    else
        keep_pay(w);
}

/* The money of those that are on rented machines comes first, one after the other. */
static void keep_pay(struct follow *w)
{
    struct call *c = w->call;

    while (w->keep_until_at_ms && w->n_paid < w->n_models) {
        struct deployment *d = w->models[w->n_paid++];

        if (!d || !lease_rented(deployment_lease(d)))
            continue;
        manager_reserve_keep(c->context->manager, deployment_lease(d), d, w->keep_until_at_ms, &c->op,
                             keep_on_paid, c);
        return;
    }
    keep_models(w);
}

void method_keep(struct call *c)
{
    const char *target = json_get_text(c->parameters, "target");
    int64_t for_ms = json_get_int(c->parameters, "for_ms", 0);

    if (for_ms < 0) {
        call_invalid_parameter(c, "for_ms");
        return;
    }
    if (!target_check_one(c, target))
        return;
    struct lease *l = manager_find_lease(c->context->manager, target);

    if (l && (lease_rented(l) || lease_boxed(l))) {
        keep_instance(c, l, for_ms);
        return;
    }
    if (for_ms > KEEP_MS_MAX) {
        _cleanup_free_ char *less = xasprintf("llmhostctl keep %s 30d", target);

        call_fail(c, EXIT_USAGE, "bad_time", target, NULL, less, "a keep lasts at most 30 days");
        return;
    }
    if (json_get_bool(c->parameters, "no_card", false)) {
        no_card_is_for_others(c, target);
        return;
    }
    struct follow *w = follow_new(c, keep_nothing);

    if (!follow_add_wanted(w, target))
        return;
    char how_long[TEXT_SHORT_MAX];

    machines_add_of_models(w);
    call_log_change(c, target, for_ms ? "keep for %s" : "keep is over%s",
                    for_ms ? duration_format(how_long, (uint64_t)for_ms, false) : "");
    w->keep_until_at_ms = for_ms ? clock_wall_ms() + for_ms : 0;
    keep_pay(w);
}
