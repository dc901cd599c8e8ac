/* Status, Watch: looking. */
#include "control/methods.h"

#include "base/event.h"
#include "base/runq.h"
#include "control/orphans.h"
#include "control/show.h"
#include "control/show_rent.h"
#include "control/target.h"
#include "lease/lease.h"
#include "manager.h"
#include "proto/json.h"

static struct json *model_of(const struct call *c, const struct deployment *d)
{
    struct json *v = show_model(d);

    json_put(v, "counts", show_counts(c->context, d));
    return v;
}

static struct json *status_of(const struct call *c, const struct json *targets)
{
    struct manager *m = c->context->manager;
    struct json *v = json_object(), *models = json_array(), *instances = json_array();
    struct deployment *d;
    struct lease *l;

    for (unsigned i = 0; (d = manager_deployment_at(m, i)); i++)
        if (target_has_model(targets, d))
            json_append(models, model_of(c, d));
    for (unsigned i = 0; (l = manager_lease_at(m, i)); i++)
        if (target_has_instance(targets, l))
            json_append(instances, show_instance(c->context, l));
    json_put(v, "daemon", show_daemon(c->context));
    json_put(v, "models", models);
    json_put(v, "instances", instances);
    json_put(v, "trouble", show_trouble(c->context, targets));
    json_put(v, "accounts", show_accounts(c->context));
    json_put(v, "orphans", show_orphans(c->context));
    return v;
}

void method_status(struct call *c)
{
    const struct json *targets = json_get(c->parameters, "targets");

    if (!target_check(c, targets))
        return;
    struct json *v = status_of(c, targets);

    if (targets)
        json_put(v, "targets", json_copy(targets));
    call_reply(c, v);
}

/* ---- Watch ---- */

/* What happened during a turn of the loop goes out at its end, each event with the object it is about. */
struct watch_event {
    struct list node;
    char *target;      /* NULL: the daemon */
    char *on;          /* of a model that changed: its instance; NULL: whichever */
    bool gone;         /* the object of that name was freed */
    struct json *line; /* of the log; NULL: the object changed without one */
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
    free(e->on);
    free(e);
}

static void watch_drop(struct call *c)
{
    struct watch_state *w = c->state;

    manager_unlisten(c->context->manager, &w->listener);
    event_unlisten(&w->events);
    runq_drop(&w->send);
    LIST_FOREACH_SAFE (e, &w->waiting, struct watch_event, node)
        watch_event_free(e);
    free(w);
}

/* An event tells of a model wherever it is. */
static struct deployment *watch_finds(struct manager *m, const struct watch_event *e)
{
    return e->on ? manager_find_on(m, e->target, e->on) : manager_find_deployment(m, e->target);
}

/* What is told of it: the object as it is now. NULL: it is none of those that were asked for. Takes the line.
 */
static struct json *watch_reply(struct watch_state *w, struct watch_event *e)
{
    const struct control_context *k = w->call->context;
    const struct json *targets = json_get(w->call->parameters, "targets");
    struct deployment *d = e->target && !e->gone ? watch_finds(k->manager, e) : NULL;
    struct lease *l = e->target && !e->gone && !d ? manager_find_lease(k->manager, e->target) : NULL;
    bool wanted = e->gone     ? true
                  : d         ? target_has_model(targets, d)
                  : e->target ? target_has_name(targets, e->target)
                              : json_count(targets) == 0;

    if (!wanted)
        return NULL;
    struct json *v = json_object();

    if (d)
        json_put(v, "model", model_of(w->call, d));
    if (l)
        json_put(v, "instance", show_instance(k, l));
    if (e->gone)
        json_put_string(v, "gone", e->target);
    if (e->gone)
        json_put_string(v, "gone_on", e->on);
    json_put(v, "trouble", show_trouble(k, targets));
    if (!d && !l)
        json_put(v, "orphans", show_orphans(k));
    if (l && lease_rented(l))
        json_put(v, "accounts", show_accounts(k));
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

static void watch_queue(struct watch_state *w, const char *target, const char *on, bool gone,
                        struct json *line)
{
    struct watch_event *e = xnew(struct watch_event);

    e->target = xstrdup(target);
    e->on = xstrdup(on);
    e->gone = gone;
    e->line = line;
    list_init(&e->node);
    list_append(&w->waiting, &e->node);
    runq_add(w->call->context->loop, &w->send);
}

static void watch_on_event(void *ctx, const struct event *e)
{
    watch_queue(ctx, e->target, NULL, false,
                show_line(e->at_ms, log_source_name(e->source), e->target, log_level_name(e->level), e->kind,
                          e->text));
}

/* Changes that are no event (a count, a stage): the object alone, once however often it changed. Whether one
 * that goes was asked for is known only now. */
static void watch_on_change(struct watch_state *w, const char *name, const char *on, bool gone)
{
    LIST_FOREACH (e, &w->waiting, struct watch_event, node)
        if (!gone && !e->gone && e->target && streq(e->target, name) && (!on || (e->on && streq(e->on, on))))
            return;
    watch_queue(w, name, on, gone, NULL);
}

static void watch_on_deployment(void *ctx, struct deployment *d, bool gone)
{
    struct watch_state *w = ctx;

    if (!gone || target_has_model(json_get(w->call->parameters, "targets"), d))
        watch_on_change(w, deployment_name(d), lease_name(deployment_lease(d)), gone);
}

static void watch_on_lease(void *ctx, struct lease *l, bool gone)
{
    struct watch_state *w = ctx;

    if (!gone || target_has_instance(json_get(w->call->parameters, "targets"), l))
        watch_on_change(w, lease_name(l), NULL, gone);
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
    w->listener =
        (struct manager_listener){.deployment = watch_on_deployment, .lease = watch_on_lease, .ctx = w};
    w->events = (struct event_listener){.heard = watch_on_event, .ctx = w};
    manager_listen(c->context->manager, &w->listener);
    event_listen(&w->events);
    c->state = w;
    c->drop = watch_drop;
    call_reply_more(c, status_of(c, targets));
}
