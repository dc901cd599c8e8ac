/* Up: it sets the goal, waits until that is on disk, then tells of the way up. */
#include "control/methods.h"

#include "base/clock.h"
#include "base/fault.h"
#include "control/follow.h"
#include "control/show.h"
#include "gateway/gateway.h"
#include "lease/lease.h"
#include "proto/json.h"
#include "proto/text.h"
#include "session/session.h"

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
        snprintf(text, sizeof text, "waits for %u open request%s, to begin anew", n.open,
                 n.open == 1 ? "" : "s");
    if (w->told_off == 1 + (unsigned)s && w->told_streams == n.open)
        return true;
    w->told_off = 1 + (unsigned)s;
    w->told_streams = n.open;
    return call_reply_more(w->call,
                           follow_progress("engine", "running", text, clock_now_ms() - w->begun_due));
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
        w->call, follow_progress("room", "running", text, (uint64_t)MAX(clock_wall_ms() - n.since_at_ms, 0)));
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

    if (follow_timeout_is_wrong(c))
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
