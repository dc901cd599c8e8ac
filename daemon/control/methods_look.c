/* Status, Watch, Doctor: looking. */
#include "control/methods.h"

#include <errno.h>

#include "base/event.h"
#include "base/runq.h"
#include "control/show.h"
#include "control/target.h"
#include "gateway/gateway.h"
#include "lease/lease.h"
#include "manager.h"
#include "proto/json.h"
#include "session/session.h"
#include "store/store.h"

static struct json *status_of(const struct call *c, const struct json *targets)
{
    struct manager *m = c->context->manager;
    struct json *v = json_object(), *models = json_array(), *instances = json_array();
    struct deployment *d;
    struct lease *l;

    for (unsigned i = 0; (d = manager_deployment_at(m, i)); i++)
        if (target_has_model(targets, d))
            json_append(models, show_model(d));
    for (unsigned i = 0; (l = manager_lease_at(m, i)); i++)
        if (target_has_instance(targets, l))
            json_append(instances, show_instance(l));
    json_put(v, "daemon", show_daemon(c->context));
    json_put(v, "models", models);
    json_put(v, "instances", instances);
    json_put(v, "trouble", show_trouble(c->context));
    return v;
}

void method_status(struct call *c)
{
    const struct json *targets = json_get(c->parameters, "targets");

    if (target_check(c, targets))
        call_reply(c, status_of(c, targets));
}

/* ---- Watch ---- */

/* What happened during a turn of the loop goes out at its end, each event with the object it is about. */
struct watch_event {
    struct list node;
    char *target;               /* NULL: the daemon */
    bool gone;                  /* the object of that name was freed */
    struct json *line;          /* of the log; NULL: the object changed without one */
};

struct watch_state {
    struct call *call;
    struct manager_listener listener;
    struct event_listener events;
    struct list waiting;
    struct work send;
};

static void watch_event_free(struct watch_event *e)
{
    list_remove(&e->node);
    json_free(e->line);
    free(e->target);
    free(e);
}

static void watch_drop(struct call *c)
{
    struct watch_state *w = c->state;

    manager_unlisten(c->context->manager, &w->listener);
    event_unlisten(&w->events);
    runq_drop(&w->send);
    LIST_FOREACH_SAFE(e, &w->waiting, struct watch_event, node)
        watch_event_free(e);
    free(w);
}

/* What is told of it: the object as it is now. NULL: it is none of those that were asked for. Takes the line. */
static struct json *watch_reply(struct watch_state *w, struct watch_event *e)
{
    const struct control_context *k = w->call->context;
    const struct json *targets = json_get(w->call->parameters, "targets");
    struct deployment *d = e->target && !e->gone ? manager_find_deployment(k->manager, e->target) : NULL;
    struct lease *l = e->target && !e->gone && !d ? manager_find_lease(k->manager, e->target) : NULL;
    bool wanted = e->gone     ? true
                  : d         ? target_has_model(targets, d)
                  : e->target ? target_has_name(targets, e->target)
                              : json_count(targets) == 0;

    if (!wanted)
        return NULL;
    struct json *v = json_object();

    if (d)
        json_put(v, "model", show_model(d));
    if (l)
        json_put(v, "instance", show_instance(l));
    if (e->gone)
        json_put_string(v, "gone", e->target);
    json_put(v, "trouble", show_trouble(k));
    if (e->line)
        json_put(v, "event", TAKE_PTR(e->line));
    return v;
}

static void watch_send(void *ctx)
{
    struct watch_state *w = ctx;

    while (!list_is_empty(&w->waiting)) {
        struct watch_event *e = LIST_FIRST(&w->waiting, struct watch_event, node);
        struct json *v = watch_reply(w, e);

        watch_event_free(e);
        if (v && !call_reply_more(w->call, v))
            return;
    }
}

static void watch_queue(struct watch_state *w, const char *target, bool gone, struct json *line)
{
    struct watch_event *e = xnew(struct watch_event);

    e->target = xstrdup(target);
    e->gone = gone;
    e->line = line;
    list_init(&e->node);
    list_append(&w->waiting, &e->node);
    runq_add(w->call->context->loop, &w->send);
}

static void watch_on_event(void *ctx, const struct event *e)
{
    watch_queue(ctx, e->target, false,
                show_line(e->at_ms, log_source_name(e->source), e->target, log_level_name(e->level), e->kind, e->text));
}

/* Changes that are no event (a count, a stage): the object alone, once however often it changed. Whether one that goes was asked for
 * is known only now. */
static void watch_on_change(struct watch_state *w, const char *name, bool gone)
{
    LIST_FOREACH(e, &w->waiting, struct watch_event, node)
        if (!gone && !e->gone && e->target && streq(e->target, name))
            return;
    watch_queue(w, name, gone, NULL);
}

static void watch_on_deployment(void *ctx, struct deployment *d, bool gone)
{
    struct watch_state *w = ctx;

    if (!gone || target_has_model(json_get(w->call->parameters, "targets"), d))
        watch_on_change(w, deployment_name(d), gone);
}

static void watch_on_lease(void *ctx, struct lease *l, bool gone)
{
    struct watch_state *w = ctx;

    if (!gone || target_has_instance(json_get(w->call->parameters, "targets"), l))
        watch_on_change(w, lease_name(l), gone);
}

void method_watch(struct call *c)
{
    const struct json *targets = json_get(c->parameters, "targets");

    if (!c->more) {
        call_expected_more(c);
        return;
    }
    if (!target_check(c, targets))
        return;
    struct watch_state *w = xnew(struct watch_state);

    w->call = c;
    list_init(&w->waiting);
    work_init(&w->send, watch_send, w);
    w->listener = (struct manager_listener){.deployment = watch_on_deployment, .lease = watch_on_lease, .ctx = w};
    w->events = (struct event_listener){.heard = watch_on_event, .ctx = w};
    manager_listen(c->context->manager, &w->listener);
    event_listen(&w->events);
    c->state = w;
    c->drop = watch_drop;
    call_reply_more(c, status_of(c, targets));
}

/* ---- Doctor ---- */

static void add_check(struct json *list, const char *id, const char *target, const char *level, struct json *next,
                      const char *format, ...) __attribute__((format(printf, 6, 7)));
static void add_check(struct json *list, const char *id, const char *target, const char *level, struct json *next,
                      const char *format, ...)
{
    struct json *v = json_object();
    _cleanup_free_ char *text = NULL;
    va_list args;

    va_start(args, format);
    if (vasprintf(&text, format, args) < 0)
        text = NULL;
    va_end(args);
    json_put_string(v, "id", id);
    json_put_string(v, "target", target);
    json_put_string(v, "level", level);
    json_put_string(v, "message", text ? text : "");
    json_put(v, "next", next ? next : json_array());
    json_append(list, v);
}

static struct json *one_command(const char *format, ...) __attribute__((format(printf, 1, 2)));
static struct json *one_command(const char *format, ...)
{
    struct json *list = json_array();
    _cleanup_free_ char *text = NULL;
    va_list args;

    va_start(args, format);
    if (vasprintf(&text, format, args) >= 0)
        json_append_string(list, text);
    va_end(args);
    return list;
}

static bool check_daemon(const struct call *c, struct json *list)
{
    const struct fault *stuck = NULL;
    struct fault taken;
    bool well = true;

    add_check(list, "daemon.running", NULL, "ok", NULL, "llmhostd %s, control socket %s", LLMHOST_VERSION,
              c->context->socket_path);
    if (show_port_taken(c->context, &taken)) {
        add_check(list, "gateway.port", NULL, "fail", NULL, "%s", taken.text);
        well = false;
    } else {
        add_check(list, "gateway.port", NULL, "ok", NULL, "%s is ours", gateway_endpoint(c->context->gateway));
    }
    if (store_stuck_ms(c->context->store, &stuck) && stuck) {
        add_check(list, "store.writable", NULL, "fail", NULL, "changes do not reach the disk: %s", stuck->text);
        return false;
    }
    add_check(list, "store.writable", NULL, "ok", NULL, "the database in %s is written", c->context->state_directory);
    return well;
}

static bool check_host_key(struct lease *l, struct json *list)
{
    const struct host_key *shown = session_shown_key(lease_session(l));
    const char *name = lease_name(l);
    char expected[FINGERPRINT_BYTES], got[FINGERPRINT_BYTES];

    if (!lease_host_key(l))
        return true;
    host_key_fingerprint(lease_host_key(l), expected);
    if (!shown || !shown->n || host_key_equal(shown, lease_host_key(l))) {
        add_check(list, "ssh.host_key", name, "ok", NULL, "host key %s pinned", expected);
        return true;
    }
    host_key_fingerprint(shown, got);
    add_check(list, "ssh.host_key", name, "fail", one_command("llmhostctl doctor %s --accept-new-host-key=%s", name, got),
              "shows another host key than before: expected %s, got %s; if you re-installed it, accept the new one", expected, got);
    return false;
}

static bool check_instance(struct lease *l, struct json *list)
{
    struct session *s = lease_session(l);
    const char *name = lease_name(l);
    struct session_figures n;

    if (!s) {
        add_check(list, "instance.local", name, "ok", NULL, "this very host");
        return true;
    }
    bool well = check_host_key(l, list);

    session_figures(s, &n);
    if (session_state(s) == SESSION_UP) {
        add_check(list, "ssh.session", name, "ok", NULL, "ssh is up, logged in by %s", n.method ? n.method : "?");
        return well;
    }
    add_check(list, "ssh.session", name, "fail", one_command("llmhostctl logs %s", name), "ssh is %s: %s",
              session_state_name(session_state(s)), session_fault(s)->kind ? session_fault(s)->text : "no try has ended yet");
    return false;
}

/* The instances meant by target (NULL: all), and those of the models meant by it. */
static bool check_instances(struct manager *m, const char *target, struct json *list)
{
    struct lease *l;
    bool well = true;

    for (unsigned i = 0; (l = manager_lease_at(m, i)); i++) {
        bool meant = !target || target_is_instance(target, l);
        struct deployment *d;

        for (unsigned k = 0; !meant && (d = manager_deployment_at(m, k)); k++)
            meant = deployment_lease(d) == l && target_is_model(target, d);
        if (meant && !check_instance(l, list))
            well = false;
    }
    return well;
}

static bool check_models(struct manager *m, const char *target, struct json *list)
{
    struct deployment *d;
    bool well = true;

    for (unsigned i = 0; (d = manager_deployment_at(m, i)); i++)
        if ((!target || target_is_model(target, d)) && deployment_fault(d)->kind) {
            add_check(list, "model.state", deployment_name(d), "fail", one_command("llmhostctl logs %s", deployment_name(d)), "%s",
                      deployment_fault(d)->text);
            well = false;
        }
    return well;
}

/* fingerprint is pinned. */
static void doctor_accepted(struct call *c, struct lease *l, const char *fingerprint, store_ticket t)
{
    struct json *v = json_object(), *list = json_array();

    call_log_change(c, lease_name(l), "new host key accepted");
    add_check(list, "ssh.host_key", lease_name(l), "ok", NULL, "the host key %s is pinned now; connecting", fingerprint);
    json_put_bool(v, "healthy", true);
    json_put(v, "checks", list);
    call_reply_after(c, t, v, "the host key is accepted, but not on disk yet");
}

static void doctor_accept(struct call *c, struct lease *l, const char *fingerprint)
{
    store_ticket t;
    int r = lease_accept_host_key(l, fingerprint, &t);

    if (r == 0) {
        doctor_accepted(c, l, fingerprint, t);
    } else if (r == -ENOENT) {
        call_fail(c, EXIT_CONFLICT, "no_new_host_key", lease_name(l), NULL, "", "%s shows no other host key than the pinned one",
                  lease_name(l));
    } else {
        char got[FINGERPRINT_BYTES];

        host_key_fingerprint(session_shown_key(lease_session(l)), got);
        _cleanup_free_ char *why = xasprintf("it shows %s", got);

        call_fail(c, EXIT_TUNNEL, "host_key", lease_name(l), why, "", "not accepted: %s does not show %s", lease_name(l),
                  fingerprint);
    }
}

void method_doctor(struct call *c)
{
    const char *target = json_get_text(c->parameters, "target");
    const char *fingerprint = json_get_text(c->parameters, "accept_new_host_key");
    struct lease *l = target ? manager_find_lease(c->context->manager, target) : NULL;

    if (fingerprint && !l) {
        call_fail(c, target ? EXIT_NOT_FOUND : EXIT_USAGE, "not_found", target, NULL, "llmhostctl instance list",
                  "a host key is accepted for one instance%s%s", target ? ", and there is none called " : "", target ? target : "");
        return;
    }
    if (fingerprint) {
        doctor_accept(c, l, fingerprint);
        return;
    }
    if (target && !target_check_one(c, target))
        return;

    struct json *v = json_object(), *list = json_array();
    bool daemon_well = target || check_daemon(c, list);
    bool instances_well = check_instances(c->context->manager, target, list);
    bool models_well = check_models(c->context->manager, target, list);

    json_put_bool(v, "healthy", daemon_well && instances_well && models_well);
    json_put(v, "checks", list);
    call_reply(c, v);
}
