/* Up, Down, Sleep, Keep, Wait: they set a goal, wait until it is on disk, then follow the deployments until
 * they are there. What they follow goes on without them: a caller who leaves changes nothing. */
#include "control/methods.h"

#include "base/clock.h"
#include "base/fault.h"
#include "base/runq.h"
#include "base/timer.h"
#include "control/explain.h"
#include "control/show.h"
#include "control/target.h"
#include "gateway/gateway.h"
#include "lease/lease.h"
#include "manager.h"
#include "proto/buf.h"
#include "proto/json.h"
#include "proto/text.h"
#include "session/session.h"
#include "store/store.h"

/* What a call follows. */
struct follow {
    struct call *call;
    struct manager_listener listener;
    struct work look;
    struct timer *timer;
    struct deployment **models; /* an element is NULL once its deployment is gone */
    unsigned n_models;
    uint64_t begun_due;
    /* What was told. Up: of each stage, and of the tunnel. Down: how many streams. */
    unsigned told[STAGE_COUNT], told_tries;
    unsigned told_streams, told_off; /* Up: in which state that was */
    char told_room[DEPLOYMENT_TEXT_MAX];
    bool told_away;
    bool was_off;        /* up: nobody wanted it before */
    store_ticket ticket; /* down: of the goal */
    const char *note;    /* Up: for the first reply, NULL: none */
    /* Looks at what it follows; answers the call when there is something to say for the last time. */
    void (*fn)(struct follow *w);
};

static void follow_drop(struct call *c)
{
    struct follow *w = c->state;

    manager_unlisten(c->context->manager, &w->listener);
    runq_drop(&w->look);
    timer_free(w->timer);
    free(w->models);
    free(w);
}

static void follow_on_deployment(void *ctx, struct deployment *d, bool gone)
{
    struct follow *w = ctx;

    for (unsigned i = 0; i < w->n_models; i++)
        if (w->models[i] == d) {
            if (gone)
                w->models[i] = NULL;
            runq_add(w->call->context->loop, &w->look);
        }
}

static void follow_on_lease(void *ctx, struct lease *l, bool gone)
{
    struct follow *w = ctx;

    (void)l, (void)gone;
    runq_add(w->call->context->loop, &w->look);
}

/* Nothing is told before the goal is on disk. */
static void follow_look(void *ctx)
{
    struct follow *w = ctx;

    if (!w->call->op)
        w->fn(w);
}

static void follow_on_timer(void *ctx)
{
    struct follow *w = ctx;
    const char *target = w->n_models == 1 && w->models[0] ? deployment_name(w->models[0]) : NULL;
    char took[TEXT_SHORT_MAX];

    duration_format(took, clock_now_ms() - w->begun_due, false);
    _cleanup_free_ char *next =
        target ? xasprintf("llmhostctl wait %s", target) : xstrdup("llmhostctl status");

    call_fail(w->call, EXIT_TIMED_OUT, "timed_out", target, "the work goes on", next,
              "%s is not there after %s", target ? target : "it", took);
}

/* From now on fn() looks after each change, until the call is over. */
static struct follow *follow_new(struct call *c, void (*fn)(struct follow *w))
{
    struct follow *w = xnew(struct follow);
    int64_t timeout_ms = json_get_int(c->parameters, "timeout_ms", 0);

    w->call = c;
    w->fn = fn;
    w->begun_due = clock_now_ms();
    w->listener =
        (struct manager_listener){.deployment = follow_on_deployment, .lease = follow_on_lease, .ctx = w};
    manager_listen(c->context->manager, &w->listener);
    work_init(&w->look, follow_look, w);
    w->timer = timer_new(c->context->loop, follow_on_timer, w);
    if (timeout_ms > 0)
        timer_arm(w->timer, (uint64_t)timeout_ms);
    c->state = w;
    c->drop = follow_drop;
    return w;
}

static void follow_add(struct follow *w, struct deployment *d)
{
    w->models = reallocarray(w->models, w->n_models + 1, sizeof *w->models);
    if (!w->models)
        abort();
    w->models[w->n_models++] = d;
}

static void follow_add_target(struct follow *w, const char *target)
{
    const char *on = json_get_text(w->call->parameters, "on");
    struct deployment *d;

    for (unsigned i = 0; (d = manager_deployment_at(w->call->context->manager, i)); i++)
        if (target_is_model(target, d) && (!on || streq(on, lease_name(deployment_lease(d)))))
            follow_add(w, d);
}

/* A limit of no time, or less, is none at all: it is not taken as "for ever". The call was answered then. */
static bool timeout_is_wrong(struct call *c)
{
    if (!json_get(c->parameters, "timeout_ms") || json_get_int(c->parameters, "timeout_ms", 1) > 0)
        return false;
    call_invalid_parameter(c, "timeout_ms");
    return true;
}

static void follow_gone(struct follow *w)
{
    call_fail(w->call, EXIT_NOT_FOUND, "gone", NULL, NULL, "llmhostctl status",
              "the model was removed meanwhile");
}

/* A reply with progress of what is no stage of the way up. */
static struct json *progress_reply(const char *stage, const char *state, const char *text, uint64_t took_ms)
{
    struct json *v = json_object(), *p = json_object();

    json_put_string(p, "stage", stage);
    json_put_string(p, "state", state);
    json_put_string(p, "text", text);
    json_put_int(p, "took_ms", (int64_t)took_ms);
    json_put(v, "progress", p);
    return v;
}

/* ---- Up ---- */

static void up_put_note(struct follow *w, struct json *v)
{
    struct json *list;

    if (!w->note)
        return;
    list = json_array();
    json_append_string(list, w->note);
    json_put(v, "notes", list);
    w->note = NULL;
}

static void up_answer(struct follow *w, uint64_t took_ms)
{
    struct json *v = json_object();

    json_put(v, "model", show_model(w->models[0]));
    json_put_int(v, "took_ms", (int64_t)took_ms);
    json_put_string(v, "endpoint", gateway_endpoint(w->call->context->gateway));
    up_put_note(w, v);
    call_reply(w->call, v);
}

/* Tries of the session that have ended, while the way is looked for. */
static unsigned tries_of(const struct deployment *d)
{
    const struct session *way = lease_session(deployment_lease(d));
    struct session_figures n = {};

    if (way)
        session_figures(way, &n);
    return n.tries;
}

/* Nothing is under way over there: it waits for the tunnel alone. */
static bool up_is_away(const struct deployment *d)
{
    enum deployment_state s = deployment_state(d);

    return (s == DEPLOYMENT_READY || s == DEPLOYMENT_DRAINING || s == DEPLOYMENT_STOPPING) &&
           !lease_is_reachable(deployment_lease(d)) && !lease_refusal(deployment_lease(d));
}

/* The server runs, and has to end before it can begin anew. False when the call is over. */
static bool up_tell_restart(struct follow *w)
{
    enum deployment_state s = deployment_state(w->models[0]);
    struct deployment_figures n;
    char text[80] = "what runs is stopped, to begin anew";

    if (deployment_goal(w->models[0]) == GOAL_OFF || (s != DEPLOYMENT_DRAINING && s != DEPLOYMENT_STOPPING))
        return true;
    deployment_figures(w->models[0], &n);
    if (s == DEPLOYMENT_DRAINING)
        snprintf(text, sizeof text, "waits for %u open request%s, to begin anew", n.in_flight,
                 n.in_flight == 1 ? "" : "s");
    if (w->told_off == 1 + (unsigned)s && w->told_streams == n.in_flight)
        return true;
    w->told_off = 1 + (unsigned)s;
    w->told_streams = n.in_flight;
    return call_reply_more(w->call, progress_reply("engine", "running", text, clock_now_ms() - w->begun_due));
}

/* Who makes room for it, or whom it waits for. False when the call is over. */
static bool up_tell_room(struct follow *w)
{
    const struct deployment *d = w->models[0];
    const char *text = deployment_state(d) == DEPLOYMENT_PLACING ? deployment_room_text(d) : NULL;
    struct deployment_figures n;

    if (!text || streq(text, w->told_room))
        return true;
    snprintf(w->told_room, sizeof w->told_room, "%s", text);
    deployment_figures(d, &n);
    return call_reply_more(
        w->call, progress_reply("room", "running", text, (uint64_t)MAX(clock_wall_ms() - n.since_at_ms, 0)));
}

/* Every stage that changed since it was told. False when the call is over. */
static bool up_tell(struct follow *w)
{
    unsigned tries = tries_of(w->models[0]);
    struct stage_view p;

    if (!up_tell_restart(w) || !up_tell_room(w))
        return false;
    for (enum stage s = 0; s < STAGE_COUNT; s++) {
        deployment_stage(w->models[0], s, &p);
        bool tried = s == STAGE_SSH && p.state == STAGE_RUNNING && tries != w->told_tries;

        if (p.state == STAGE_AHEAD || (p.changes == w->told[s] && !tried))
            continue;
        w->told[s] = p.changes;
        struct json *v = json_object();

        json_put(v, "progress", show_progress(w->models[0], s));
        if (!call_reply_more(w->call, v))
            return false;
    }
    bool away = up_is_away(w->models[0]) && (tries != w->told_tries || !w->told_away);

    w->told_away |= away;
    w->told_tries = tries;
    if (away) {
        struct json *v = json_object();

        json_put(v, "progress", show_way(w->models[0]));
        return call_reply_more(w->call, v);
    }
    return true;
}

/* A server that runs behind a tunnel that is down answers nobody. False also when the call is over, because
 * nobody is let in. */
static bool follow_may_ask(struct follow *w, const struct deployment *d)
{
    const struct lease *l = deployment_lease(d);
    const struct fault *refusal = lease_refusal(l);

    if (refusal)
        call_fault(w->call, refusal, lease_name(l), NULL);
    return !refusal && lease_is_reachable(l);
}

static void up_look(struct follow *w)
{
    struct deployment *d = w->models[0];
    struct deployment_figures n;

    if (!d) {
        follow_gone(w);
        return;
    }
    if (w->call->more && !up_tell(w))
        return;
    deployment_figures(d, &n);
    if (deployment_state(d) == DEPLOYMENT_READY) {
        if (follow_may_ask(w, d))
            up_answer(w, n.took_ms);
    } else if (deployment_state(d) == DEPLOYMENT_FAILED) {
        call_fault(w->call, deployment_fault(d), show_subject(d), NULL);
    } else if (deployment_goal(d) == GOAL_OFF) {
        call_fail(w->call, EXIT_NOT_RUNNING, "stopped_by_user", deployment_name(d), NULL, "",
                  "%s was switched off meanwhile", deployment_name(d));
    } else if (deployment_state(d) == DEPLOYMENT_ASLEEP) {
        call_fail(w->call, EXIT_CONFLICT, "put_to_sleep", deployment_name(d), deployment_room_text(d), "",
                  "%s was put to sleep meanwhile", deployment_name(d));
    }
}

/* The first of several replies: where it goes, and how long it usually takes. */
static bool up_begin(struct follow *w)
{
    struct json *v = json_object();
    struct deployment_figures n;

    deployment_figures(w->models[0], &n);
    json_put(v, "model", show_model(w->models[0]));
    json_put_string(v, "endpoint", gateway_endpoint(w->call->context->gateway));
    if (n.usual_ms)
        json_put_int(v, "usual_ms", (int64_t)n.usual_ms);
    up_put_note(w, v);
    return call_reply_more(w->call, v);
}

static void up_accepted(struct follow *w)
{
    if (w->models[0])
        up_answer(w, 0);
    else
        follow_gone(w);
}

static bool is_on_its_way(const struct deployment *d)
{
    return deployment_state(d) >= DEPLOYMENT_CONNECTING && deployment_state(d) <= DEPLOYMENT_LOADING;
}

/* What the first `up` of all says once. NULL: nothing. */
static const char *first_note(const struct control_context *k)
{
    if (manager_deployment_at(k->manager, 0) || !k->linger_file || access(k->linger_file, F_OK) == 0)
        return NULL;
    return "llmhostd ends when you log out, and its tunnels with it; so that it goes on:\n"
           "loginctl enable-linger";
}

static void up_on_durable(void *ctx, const struct fault *f)
{
    struct call *c = ctx;
    struct follow *w = c->state;

    if (f && w->was_off && w->models[0]) {
        deployment_want(w->models[0], GOAL_OFF, true);
        call_not_kept(c, f, "it was not brought up: that it is wanted could not be kept");
        return;
    }
    w->fn(w);
}

/* The one that is meant, if there is one already. */
static struct deployment *up_finds(struct call *c)
{
    const char *model = json_get_text(c->parameters, "model"), *on = json_get_text(c->parameters, "on");
    struct manager *m = c->context->manager;

    return on ? manager_find_on(m, model, on) : manager_find_deployment(m, model);
}

static void up_place(struct call *c)
{
    const char *model = json_get_text(c->parameters, "model");
    const char *on = json_get_text(c->parameters, "on");
    const struct json *arguments = json_get(c->parameters, "arguments");
    bool wait = json_get_bool(c->parameters, "wait", true);
    const char *note = first_note(c->context);
    struct deployment *d = up_finds(c);
    bool same = !arguments || (d && deployment_has_arguments(d, arguments));
    struct fault f = {};

    if (manager_place(c->context->manager, model, on, arguments, &d, &f) < 0) {
        call_fault(c, &f, streq(f.code, "no_such_instance") ? on : model, NULL);
        return;
    }
    bool ready = same && deployment_state(d) == DEPLOYMENT_READY && deployment_goal(d) != GOAL_OFF &&
                 lease_is_reachable(deployment_lease(d));
    struct follow *w = follow_new(c, wait ? up_look : up_accepted);

    w->note = note;
    w->was_off = deployment_goal(d) == GOAL_OFF;
    follow_add(w, d);
    for (enum stage s = 0; s < STAGE_COUNT; s++) {
        struct stage_view p;

        deployment_stage(d, s, &p);
        w->told[s] = p.changes; /* what is over does not concern this call; what runs is told below */
        if (p.state == STAGE_RUNNING || (p.state == STAGE_DONE && is_on_its_way(d)))
            w->told[s] = p.changes - 1;
    }
    if (ready) {
        up_answer(w, 0);
        return;
    }
    call_log_change(c, model, "up on %s%s", lease_name(deployment_lease(d)),
                    same ? "" : ", with other arguments");
    uint64_t ticket = deployment_want(d, GOAL_ON_DEMAND, false);

    if (wait && c->more && !up_begin(w))
        return;
    store_after(c->context->store, ticket, &c->op, up_on_durable, c);
}

void method_up(struct call *c)
{
    const char *model = json_get_text(c->parameters, "model");
    const struct json *arguments = json_get(c->parameters, "arguments");
    struct deployment *known;
    struct fault f = {};

    if (timeout_is_wrong(c))
        return;
    if (show_port_taken(c->context, &f)) {
        call_fail(c, EXIT_CONFLICT, f.code, model,
                  "stop it, or set [gateway] listen= to another address in llmhostd.conf",
                  "llmhostctl status", "%s", f.text);
        return;
    }
    known = up_finds(c);
    if (known && deployment_goal(known) != GOAL_OFF &&
        (!arguments || deployment_has_arguments(known, arguments)))
        up_place(c); /* wanted already: nothing new to keep */
    else
        call_if_kept(c, up_place);
}

/* ---- Down ---- */

static struct json *down_progress(const char *stage, const char *state, const char *text, uint64_t took_ms)
{
    struct json *v = progress_reply(stage, state, text, took_ms);

    json_put_bool(v, "done", false);
    return v;
}

/* How many requests are open, when it changed. False when the call is over. */
static bool down_tell(struct follow *w, unsigned streams, unsigned off, struct lease *away)
{
    uint64_t took_ms = clock_now_ms() - w->begun_due;
    char text[64];

    if (streams != w->told_streams) {
        w->told_streams = streams;
        snprintf(text, sizeof text, "%u open", streams);
        if (!call_reply_more(w->call, down_progress("streams", streams ? "running" : "done", text, took_ms)))
            return false;
    }
    if (off != w->told_off) {
        w->told_off = off;
        snprintf(text, sizeof text, w->n_models == 1 ? "stopped" : "%u of %u stopped", off, w->n_models);
        if (!call_reply_more(w->call,
                             down_progress("engine", off == w->n_models ? "done" : "running", text, took_ms)))
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
    struct json *v = json_object();
    store_ticket t = w->ticket;

    if (w->n_models == 1 && w->models[0] && !forget)
        json_put(v, "model", show_model(w->models[0]));
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

static void down_look(struct follow *w)
{
    struct lease *away = NULL;
    const struct fault *failed = NULL;
    const char *name = NULL;
    unsigned streams = 0, off = 0;

    for (unsigned i = 0; i < w->n_models; i++) {
        struct deployment *d = w->models[i];
        struct deployment_figures n;

        if (!d || deployment_is_idle(d)) {
            off++;
            if (d && deployment_state(d) == DEPLOYMENT_FAILED) {
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
        deployment_figures(d, &n);
        streams += n.in_flight;
        if (!lease_is_reachable(deployment_lease(d)))
            away = deployment_lease(d);
    }
    if (w->call->more && !down_tell(w, streams, off, away))
        return;
    if (off < w->n_models)
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

void method_down(struct call *c)
{
    const char *target = json_get_text(c->parameters, "target"), *on = json_get_text(c->parameters, "on");
    bool cut = json_get_bool(c->parameters, "now", false);

    if (timeout_is_wrong(c) || !target_check_one(c, target))
        return;
    struct follow *w = follow_new(c, down_look);

    follow_add_target(w, target);
    if (!w->n_models && on) {
        call_fail(c, EXIT_NOT_FOUND, "not_found", target, NULL, "llmhostctl status", "%s is not on %s",
                  target, on);
        return;
    }
    if (w->n_models)
        call_log_change(c, target, "down%s%s", cut ? ", now" : "",
                        json_get_bool(c->parameters, "forget", false) ? ", and to be forgotten" : "");
    for (unsigned i = 0; i < w->n_models; i++)
        w->ticket = deployment_want(w->models[i], GOAL_OFF, cut);
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
    unsigned streams = 0, asleep = 0;
    struct lease *away = NULL;

    for (unsigned i = 0; i < w->n_models; i++) {
        struct deployment *d = w->models[i];
        struct deployment_figures n;

        if (!d || deployment_goal(d) == GOAL_OFF || deployment_state(d) == DEPLOYMENT_ASLEEP) {
            asleep++;
            continue;
        }
        if (!deployment_is_falling_asleep(d)) {
            call_fail(w->call, EXIT_CONFLICT, "woken_again", deployment_name(d), NULL, "llmhostctl status",
                      "%s does not sleep: it was asked for again meanwhile", deployment_name(d));
            return;
        }
        deployment_figures(d, &n);
        streams += n.in_flight;
        if (!lease_is_reachable(deployment_lease(d)))
            away = deployment_lease(d);
    }
    if (w->call->more && !down_tell(w, streams, asleep, away))
        return;
    if (asleep < w->n_models)
        return;
    struct json *v = json_object();

    if (w->n_models == 1 && w->models[0])
        json_put(v, "model", show_model(w->models[0]));
    json_put_bool(v, "done", true);
    json_put_int(v, "took_ms", (int64_t)(clock_now_ms() - w->begun_due));
    call_reply_after(w->call, w->ticket, v,
                     "it sleeps, but that is not on disk yet: llmhostd would wake it at its next start");
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
}

/* What is off stays off until up. False: there is nothing else, and the call was answered. */
static bool follow_add_wanted(struct follow *w, const char *target)
{
    struct fault f;

    follow_add_target(w, target);
    struct deployment *off = w->n_models == 1 ? w->models[0] : NULL;

    follow_drop_off(w);
    if (w->n_models)
        return true;
    if (off)
        deployment_describe_off(off, &f);
    else
        fault_code(&f, FAULT_GONE, "not_found", "no model is wanted on %s", target);
    call_fault(w->call, &f, off ? deployment_name(off) : target, NULL);
    return false;
}

void method_sleep(struct call *c)
{
    const char *target = json_get_text(c->parameters, "target");
    bool cut = json_get_bool(c->parameters, "now", false);

    if (timeout_is_wrong(c) || !target_check_one(c, target))
        return;
    struct follow *w = follow_new(c, sleep_look);

    if (!follow_add_wanted(w, target))
        return;
    call_log_change(c, target, "sleep%s", cut ? ", now" : "");
    for (unsigned i = 0; i < w->n_models; i++)
        w->ticket = deployment_sleep(w->models[i], cut, "llmhostctl sleep");
    store_after(c->context->store, w->ticket, &c->op, sleep_on_durable, c);
}

/* ---- Keep ---- */

#define KEEP_MS_MAX ((int64_t)30 * 24 * 3600 * 1000)

/* Nothing is told before it is on disk; it does not wait until they are ready. */
static void keep_on_durable(void *ctx, const struct fault *f)
{
    struct call *c = ctx;
    struct follow *w = c->state;
    struct json *v = json_object(), *models = json_array();

    for (unsigned i = 0; i < w->n_models; i++)
        if (w->models[i])
            json_append(models, show_model(w->models[i]));
    json_put(v, "models", models);
    if (f) {
        json_free(v);
        call_not_kept(c, f, "it is kept for now, but not on disk: a restart of the daemon would forget it");
        return;
    }
    call_reply(c, v);
}

static void keep_nothing(struct follow *w)
{
    (void)w;
}

void method_keep(struct call *c)
{
    const char *target = json_get_text(c->parameters, "target");
    int64_t for_ms = json_get_int(c->parameters, "for_ms", 0);

    if (for_ms < 0 || for_ms > KEEP_MS_MAX) {
        call_invalid_parameter(c, "for_ms");
        return;
    }
    if (!target_check_one(c, target))
        return;
    struct follow *w = follow_new(c, keep_nothing);

    if (!follow_add_wanted(w, target))
        return;
    char how_long[TEXT_SHORT_MAX];

    call_log_change(c, target, for_ms ? "keep for %s" : "keep is over%s",
                    for_ms ? duration_format(how_long, (uint64_t)for_ms, false) : "");
    for (unsigned i = 0; i < w->n_models; i++)
        w->ticket = deployment_keep(w->models[i], for_ms ? clock_wall_ms() + for_ms : 0);
    store_after(c->context->store, w->ticket, &c->op, keep_on_durable, c);
}

/* ---- Wait ---- */

static void wait_answer(struct follow *w, struct lease *l)
{
    struct json *v = json_object();

    if (w->n_models == 1 && w->models[0])
        json_put(v, "model", show_model(w->models[0]));
    if (l)
        json_put(v, "instance", show_instance(l));
    call_reply(w->call, v);
}

/* A model on several instances is there when one of them answers. */
static bool wait_has_one_ready(const struct follow *w)
{
    const char *target = json_get_text(w->call->parameters, "target");
    bool any = false;

    for (unsigned i = 0; i < w->n_models; i++) {
        const struct deployment *d = w->models[i];

        if (!d || !(streq(target, deployment_name(d)) || streq(target, deployment_id(d))))
            return false;
        any |= deployment_state(d) == DEPLOYMENT_READY && deployment_goal(d) != GOAL_OFF &&
               deployment_is_reachable(d);
    }
    return any;
}

/* Ready, failed, or off: each ends the waiting for "ready". One that sleeps answers as well: a request wakes
 * it, and nothing else would end the waiting. */
static void wait_look_ready(struct follow *w)
{
    if (wait_has_one_ready(w)) {
        wait_answer(w, NULL);
        return;
    }
    for (unsigned i = 0; i < w->n_models; i++) {
        struct deployment *d = w->models[i];

        if (!d) {
            follow_gone(w);
            return;
        }
        if (deployment_state(d) == DEPLOYMENT_FAILED) {
            call_fault(w->call, deployment_fault(d), show_subject(d), NULL);
            return;
        }
        if (deployment_goal(d) == GOAL_OFF) {
            struct fault off;

            deployment_describe_off(d, &off);
            call_fault(w->call, &off, deployment_name(d), NULL);
            return;
        }
        if (deployment_state(d) != DEPLOYMENT_ASLEEP &&
            (deployment_state(d) != DEPLOYMENT_READY || !follow_may_ask(w, d)))
            return;
    }
    wait_answer(w, NULL);
}

static void wait_look_idle(struct follow *w)
{
    for (unsigned i = 0; i < w->n_models; i++)
        if (w->models[i] && deployment_state(w->models[i]) != DEPLOYMENT_ASLEEP &&
            !deployment_is_idle(w->models[i]))
            return;
    wait_answer(w, NULL);
}

static void wait_look_stopped(struct follow *w)
{
    for (unsigned i = 0; i < w->n_models; i++) {
        struct deployment *d = w->models[i];

        if (d && !deployment_is_idle(d))
            return;
        if (d && deployment_state(d) == DEPLOYMENT_FAILED) {
            call_fault(w->call, deployment_fault(d), deployment_name(d), "its engine may still run");
            return;
        }
    }
    wait_answer(w, NULL);
}

static void wait_look_tunnel(struct follow *w)
{
    const char *target = json_get_text(w->call->parameters, "target");
    struct lease *l = manager_find_lease(w->call->context->manager, target);

    if (!l && w->n_models && w->models[0])
        l = deployment_lease(w->models[0]);
    if (!l)
        follow_gone(w);
    else if (lease_refusal(l))
        call_fault(w->call, lease_refusal(l), lease_name(l), NULL);
    else if (lease_is_reachable(l))
        wait_answer(w, l);
}

void method_wait(struct call *c)
{
    const char *target = json_get_text(c->parameters, "target");
    const char *until = json_get_text(c->parameters, "until");
    void (*fn)(struct follow * w) = !until || streq(until, "ready") ? wait_look_ready
                                    : streq(until, "stopped")       ? wait_look_stopped
                                    : streq(until, "idle")          ? wait_look_idle
                                    : streq(until, "tunnel")        ? wait_look_tunnel
                                                                    : NULL;

    if (!fn) {
        call_invalid_parameter(c, "until");
        return;
    }
    if (timeout_is_wrong(c) || !target_check_one(c, target))
        return;
    struct follow *w = follow_new(c, fn);

    follow_add_target(w, target);
    if (!w->n_models && fn == wait_look_ready) {
        call_fail(c, EXIT_NOT_FOUND, "not_found", target, NULL, "llmhostctl status",
                  "no model is wanted on %s", target);
        return;
    }
    w->fn(w);
}
