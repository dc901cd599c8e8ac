/* The objects and who hears of their changes. Verbs on instances are in manager_instance.c and manager_remove.c, on
 * rented ones and their accounts in manager_rent.c and manager_adopt.c, when those are on in manager_power.c; verbs on
 * forwards are in manager_forward.c, on short names in manager_names.c; which of several of one name is best asked, in
 * manager_pick.c. */
#include "manager_private.h"

#include <errno.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/network.h"
#include "base/settings.h"
#include "base/timer.h"
#include "engine/engine.h"
#include "lease/lease.h"
#include "lease/rented.h"
#include "proto/json.h"
#include "proto/text.h"
#include "provider/provider.h"

/* ---- listeners ---- */

void manager_listen(struct manager *m, struct manager_listener *l)
{
    l->next = m->listeners;
    m->listeners = l;
}

void manager_unlisten(struct manager *m, struct manager_listener *l)
{
    for (struct manager_listener **p = &m->listeners; *p; p = &(*p)->next)
        if (*p == l) {
            *p = l->next;
            return;
        }
}

/* A listener may take itself off the list when it is told; no other one. */
static void manager_tell_deployment(struct manager *m, struct deployment *d, bool gone)
{
    for (struct manager_listener *l = m->listeners, *next; l; l = next) {
        next = l->next;
        if (l->deployment)
            l->deployment(l->ctx, d, gone);
    }
}

void manager_tell_lease(struct manager *m, struct lease *lease, bool gone)
{
    for (struct manager_listener *l = m->listeners, *next; l; l = next) {
        next = l->next;
        if (l->lease)
            l->lease(l->ctx, lease, gone);
    }
}

static void manager_deployment_changed(void *ctx, struct deployment *d)
{
    powers_lease_changed(ctx, deployment_lease(d));
    choices_changed(ctx);
    manager_tell_deployment(ctx, d, false);
}

static void manager_lease_changed(void *ctx, struct lease *l)
{
    struct manager *m = ctx;

    trials_lease_changed(m, l);
    if (manager_find_lease(m, lease_name(l)) == l) /* else on trial: nobody else knows of it */
        manager_look_at_lease(m, l);
}

void manager_look_at_lease(struct manager *m, struct lease *l)
{
    powers_lease_changed(m,
                         l); /* before its models look at it: whether it is to be on may be theirs to say */
    runq_add(m->context.loop, &m->forget);
    LIST_FOREACH (d, &m->deployments, struct managed_deployment, node)
        if (deployment_lease(d->deployment) == l)
            deployment_look(d->deployment);
    choices_changed(m);
    manager_tell_lease(m, l, false);
}

/* ---- the objects ---- */

struct lease *manager_find_lease(struct manager *m, const char *name)
{
    LIST_FOREACH (l, &m->leases, struct managed_lease, node)
        if (streq(lease_name(l->lease), name))
            return l->lease;
    return NULL;
}

struct lease *manager_lease_at(struct manager *m, unsigned i)
{
    LIST_FOREACH (l, &m->leases, struct managed_lease, node)
        if (i-- == 0)
            return l->lease;
    return NULL;
}

void manager_insert_lease(struct manager *m, struct lease *lease)
{
    struct managed_lease *n = xnew(struct managed_lease);
    struct list *before = &m->leases;

    n->lease = lease;
    n->power = power_new(m, lease);
    list_init(&n->node);
    LIST_FOREACH (l, &m->leases, struct managed_lease, node)
        if (strcmp(lease_name(l->lease), lease_name(lease)) > 0) {
            before = &l->node;
            break;
        }
    list_append(before, &n->node);
}

void manager_drop_lease(struct manager *m, struct lease *lease)
{
    LIST_FOREACH_SAFE (l, &m->leases, struct managed_lease, node)
        if (l->lease == lease) {
            manager_tell_lease(m, lease, true);
            list_remove(&l->node);
            power_free(l->power);
            lease_free(l->lease);
            free(l);
        }
}

struct deployment *manager_deployment_at(struct manager *m, unsigned i)
{
    LIST_FOREACH (d, &m->deployments, struct managed_deployment, node)
        if (i-- == 0)
            return d->deployment;
    return NULL;
}

struct deployment *manager_find_on(struct manager *m, const char *name, const char *instance)
{
    LIST_FOREACH (d, &m->deployments, struct managed_deployment, node)
        if (streq(deployment_name(d->deployment), name) &&
            streq(lease_name(deployment_lease(d->deployment)), instance))
            return d->deployment;
    return NULL;
}

struct deployment *manager_model_at(struct manager *m, unsigned i)
{
    const char *last = "";

    LIST_FOREACH (d, &m->deployments, struct managed_deployment, node) {
        const char *name = deployment_name(d->deployment);

        if (!streq(name, last) && i-- == 0)
            return manager_find_deployment(m, name);
        last = name;
    }
    return NULL;
}

static bool needs_server(const struct deployment *d)
{
    return deployment_goal(d) != GOAL_OFF || deployment_state(d) == DEPLOYMENT_DRAINING;
}

static bool manager_shares_server(void *ctx, const struct deployment *asking)
{
    struct manager *m = ctx;

    LIST_FOREACH (d, &m->deployments, struct managed_deployment, node)
        if (d->deployment != asking && deployment_lease(d->deployment) == deployment_lease(asking) &&
            deployment_engine(d->deployment) == deployment_engine(asking) && needs_server(d->deployment))
            return true;
    return false;
}

static struct deployment *manager_insert_deployment(struct manager *m, struct lease *l, const char *name,
                                                    const struct deployment_record *restored)
{
    const struct deployment_context context = {
        .loop = m->context.loop,
        .http = m->context.http,
        .resolver = m->context.resolver,
        .store = m->context.store,
        .settings = m->context.settings,
        .socket_directory = m->context.socket_directory,
        .state_directory = m->context.state_directory,
        .idle = {.unload_ms = settings_ms(m->context.settings, "idle", "unload"),
                 .min_up_ms = settings_ms(m->context.settings, "idle", "min_up")},
        .changed = manager_deployment_changed,
        .shares_server = manager_shares_server,
        .find_room = manager_find_room,
        .has_neighbours = manager_has_neighbours,
        .ctx = m,
    };
    struct managed_deployment *n = xnew(struct managed_deployment);
    struct list *before = &m->deployments;

    n->deployment = deployment_new(&context, l, name, restored);
    list_init(&n->node);
    LIST_FOREACH (d, &m->deployments, struct managed_deployment, node) {
        int order = strcmp(deployment_name(d->deployment), name);

        if (order > 0 ||
            (order == 0 && strcmp(lease_name(deployment_lease(d->deployment)), lease_name(l)) > 0)) {
            before = &d->node;
            break;
        }
    }
    list_append(before, &n->node);
    return n->deployment;
}

static void manager_drop_deployment(struct manager *m, struct managed_deployment *d)
{
    manager_tell_deployment(m, d->deployment, true);
    list_remove(&d->node);
    deployment_free(d->deployment);
    free(d);
    choices_changed(m);
}

/* Nobody will stop any more what it may have left over there: that is said. */
uint64_t manager_forget_deployment(struct manager *m, struct deployment *d)
{
    store_ticket t =
        store_remove_deployment(m->context.store, deployment_name(d), lease_name(deployment_lease(d)));

    if (deployment_may_run(d))
        log_warning(deployment_name(d), "forgotten; its engine may still run on %s",
                    lease_name(deployment_lease(d)));
    LIST_FOREACH_SAFE (managed, &m->deployments, struct managed_deployment, node)
        if (managed->deployment == d)
            manager_drop_deployment(m, managed);
    return t;
}

void manager_drop_deployments(struct manager *m, struct lease *l)
{
    LIST_FOREACH_SAFE (d, &m->deployments, struct managed_deployment, node)
        if (deployment_lease(d->deployment) == l)
            manager_forget_deployment(m, d->deployment);
}

/* ---- placing ---- */

static const char *engine_list(struct buf *out)
{
    for (unsigned i = 0; engine_name_at(i); i++)
        buf_addf(out, "%s%s", i ? ", " : "", engine_name_at(i));
    return buf_text(out);
}

static int check_model(const char *model, const struct json *arguments, struct fault *f)
{
    struct model_name parts;
    const char *why;

    if (model_name_parse(model, &parts, &why) < 0)
        return fault_code(f, FAULT_INVALID, "bad_model", "\"%.100s\" names no model: %s", model, why);

    const struct engine_ops *ops = engine_find_ops(parts.engine);

    if (!ops) {
        struct buf names;

        buf_init(&names, 1024);
        fault_code(f, FAULT_INVALID, "unknown_engine", "no engine \"%s\"; there are: %s", parts.engine,
                   engine_list(&names));
        buf_done(&names);
        return -EINVAL;
    }
    if (ops->check(parts.rest, &why) < 0)
        return fault_code(f, FAULT_INVALID, "bad_model", "\"%.100s\" names no model of %s: %s", model,
                          ops->name, why);
    return engine_check_arguments(ops, arguments, f);
}

static const char *lease_list(struct manager *m, struct buf *out)
{
    struct lease *l;

    for (unsigned i = 0; (l = manager_lease_at(m, i)); i++)
        buf_addf(out, "%s%s", i ? ", " : "", lease_name(l));
    return buf_text(out);
}

static int which_instance(const char *model, const char *list, struct fault *f)
{
    return fault_code(f, FAULT_INVALID, "which_instance",
                      "%s was not started: there are several instances to run it on: %s", model, list);
}

/* Where it is wanted, else where it is, else the only one there is. */
static int choose_lease(struct manager *m, const char *model, struct lease **ret, struct fault *f)
{
    struct deployment *best = manager_find_deployment(m, model);
    unsigned n = 0;
    struct buf names;
    int r = 0;

    if (best && deployment_goal(best) != GOAL_OFF) {
        *ret = deployment_lease(best);
        return 0;
    }
    buf_init(&names, 4096);
    LIST_FOREACH (d, &m->deployments, struct managed_deployment, node)
        if (streq(deployment_name(d->deployment), model)) {
            *ret = deployment_lease(d->deployment);
            buf_addf(&names, "%s%s", n++ ? ", " : "", lease_name(*ret));
        }
    if (n > 1) {
        r = which_instance(model, buf_text(&names), f);
    } else if (n == 0 && list_is_empty(&m->leases)) {
        r = fault_code(f, FAULT_INVALID, "no_instance",
                       "%s was not started: there is no instance to run it on", model);
    } else if (n == 0) {
        *ret = manager_lease_at(m, 0);
        if (manager_lease_at(m, 1))
            r = which_instance(model, lease_list(m, &names), f);
    }
    buf_done(&names);
    return r;
}

/* The only one there is, if it is off: it may begin anew on another machine. */
static struct deployment *find_movable(struct manager *m, const char *model)
{
    struct deployment *found = NULL;

    LIST_FOREACH (d, &m->deployments, struct managed_deployment, node)
        if (streq(deployment_name(d->deployment), model)) {
            if (found || !deployment_is_idle(d->deployment))
                return NULL;
            found = d->deployment;
        }
    return found;
}

/* A second one begins with the arguments of the first. */
static struct deployment *place_new(struct manager *m, const char *model, struct lease *l)
{
    struct deployment *other = manager_find_deployment(m, model), *moves = find_movable(m, model), *d;
    _cleanup_json_ struct json *arguments = other ? json_copy(deployment_arguments(other)) : NULL;

    d = manager_insert_deployment(m, l, model, NULL);
    deployment_set_arguments(d, arguments);
    if (moves) /* last: what is counted goes with the last one of a name */
        manager_forget_deployment(m, moves);
    return d;
}

static int find_place(struct manager *m, const char *model, const char *on, struct lease **ret,
                      struct fault *f)
{
    struct lease *l = on ? manager_find_lease(m, on) : NULL;
    int r = on ? 0 : choose_lease(m, model, &l, f);

    if (r == 0 && !manager_find_deployment(m, model))
        r = aliases_refuse_model(m, model, f);
    if (r < 0)
        return r;
    if (!l)
        return fault_code(f, FAULT_INVALID, "no_such_instance", "no instance \"%.60s\"", on);
    if (removals_have(m, lease_name(l)) ||
        (lease_rented(l) && life_goal(rented_life(lease_rented(l))) == LIFE_GOAL_RELEASE))
        return fault_code(f, FAULT_INVALID, "being_removed", "%s was not started: %s is being removed", model,
                          lease_name(l));
    *ret = l;
    return 0;
}

int manager_check_model(const char *model, struct fault *f)
{
    return check_model(model, NULL, f);
}

struct lease *manager_find_place(struct manager *m, const char *model, const char *on)
{
    struct lease *l;
    struct fault f;

    return find_place(m, model, on, &l, &f) == 0 ? l : NULL;
}

int manager_check_place(struct manager *m, const char *model, const char *on, const struct json *arguments,
                        struct fault *f)
{
    struct lease *l;
    int r = check_model(model, arguments, f);

    return r < 0 ? r : find_place(m, model, on, &l, f);
}

int manager_place(struct manager *m, const char *model, const char *on, const struct json *arguments,
                  struct deployment **ret, struct fault *f)
{
    struct lease *l;
    int r = check_model(model, arguments, f);

    if (r == 0)
        r = find_place(m, model, on, &l, f);
    if (r < 0)
        return r;
    *ret = manager_find_on(m, model, lease_name(l));
    if (!*ret)
        *ret = place_new(m, model, l);
    if (arguments)
        deployment_set_arguments(*ret, arguments);
    return 0;
}

/* ---- beginning and end ---- */

struct lease *manager_make_lease(struct manager *m, const struct instance_record *r, bool stored)
{
    const struct lease_context context = {
        .loop = m->context.loop,
        .resolver = m->context.resolver,
        .turns = m->context.turns,
        .secrets = m->context.secrets,
        .store = m->context.store,
        .settings = m->context.settings,
        .account = r->rental ? manager_find_account(m, r->provider) : NULL,
        .changed = manager_lease_changed,
        .ctx = m,
    };

    return lease_new(&context, r, stored);
}

static void restore_instance(void *ctx, const struct instance_record *r)
{
    struct manager *m = ctx;

    if (!provider_find(r->provider)) {
        log_err(r->name, "not restored: no provider \"%s\" in this version", r->provider);
        return;
    }
    if (r->rental && !manager_find_account(m, r->provider))
        log_err(r->name, "cannot be switched on or off: there is no account at %s", r->provider);
    manager_insert_lease(m, manager_make_lease(m, r, true));
}

static void restore_deployment(void *ctx, const struct deployment_record *r)
{
    struct manager *m = ctx;
    struct lease *l = manager_find_lease(m, r->instance);
    struct fault f = {};

    if (!l || check_model(r->name, NULL, &f) < 0) {
        log_err(r->name, "not restored: %s", l ? f.text : "its instance is gone");
        return;
    }
    manager_insert_deployment(m, l, r->name, r);
}

static void restore_forward(void *ctx, const struct forward_record *r)
{
    forwards_restore(ctx, r);
}

static void manager_hurry_sessions(struct manager *m)
{
    LIST_FOREACH (l, &m->leases, struct managed_lease, node)
        if (lease_session(l->lease))
            session_hurry(lease_session(l->lease));
}

/* Nothing can be trusted to be as it was: connections may be dead, engines gone. */
static void manager_on_resumed(void *ctx, uint64_t slept_ms)
{
    struct manager *m = ctx;

    log_notice(NULL, "the machine slept for %llu s", (unsigned long long)(slept_ms / 1000));
    manager_hurry_sessions(m);
    powers_doubt(m);
    LIST_FOREACH (d, &m->deployments, struct managed_deployment, node)
        deployment_doubt(d->deployment);
}

static void manager_on_network(void *ctx)
{
    log_info(NULL, "this machine's addresses or its default route changed: looking at every tunnel");
    manager_hurry_sessions(ctx);
}

int manager_new(const struct manager_context *context, struct manager **ret, struct fault *f)
{
    static const struct store_readers readers = {restore_instance, restore_deployment, restore_forward};
    struct manager *m = xnew(struct manager);

    m->context = *context;
    list_init(&m->leases);
    list_init(&m->choices);
    list_init(&m->deployments);
    list_init(&m->forwards);
    list_init(&m->trials);
    list_init(&m->removals);
    list_init(&m->puts);
    list_init(&m->keeps);
    list_init(&m->aliases);
    list_init(&m->accounts);
    list_init(&m->gone_accounts);
    list_init(&m->releases);
    list_init(&m->adoptions);
    list_init(&m->orphans);
    list_init(&m->orphan_ends);
    work_init(&m->forget, releases_forget, m);
    m->forget_timer = timer_new(context->loop, releases_forget, m);

    int r = accounts_load(m, f);

    if (r == 0)
        r = store_load(context->store, &readers, m, f);
    if (r == 0)
        r = store_load_orphans(context->store, orphans_restore, m, f);
    if (r == 0)
        r = store_load_aliases(context->store, aliases_restore, m, f);
    if (r == 0)
        r = store_load_choices(context->store, choices_restore, m, f);
    if (r < 0) {
        manager_free(m);
        return r;
    }
    powers_restored(m);
    runq_add(context->loop, &m->forget); /* a search may have ended just before the daemon before this one */
    m->clock_watch = clock_watch_new(context->loop, manager_on_resumed, m);
    r = network_watch_new(context->loop, manager_on_network, m, &m->network_watch);
    if (r < 0)
        log_info(NULL, "changes of the network are not told here: %s", strerror(-r));
    *ret = m;
    return 0;
}

struct manager *manager_free(struct manager *m)
{
    if (!m)
        return NULL;
    clock_watch_free(m->clock_watch);
    network_watch_free(m->network_watch);
    trials_drop(m);
    choices_drop(m);
    releases_drop(m);
    adoptions_drop(m);
    orphans_drop(m);
    runq_drop(&m->forget);
    m->forget_timer = timer_free(m->forget_timer);
    forwards_drop(m, NULL);
    aliases_drop(m);
    LIST_FOREACH_SAFE (d, &m->deployments, struct managed_deployment, node)
        manager_drop_deployment(m, d);
    while (!list_is_empty(&m->leases))
        manager_drop_lease(m, LIST_FIRST(&m->leases, struct managed_lease, node)->lease);
    accounts_drop(m);
    free(m);
    return NULL;
}
