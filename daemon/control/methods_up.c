/* Up, from its words to the wish: where the model is wanted, whether it can be placed there or a machine can be
 * rented for it, then the goal, which is on disk before anything is told of it. The rest of the call is told by
 * up_tell.c and up_end.c. */
#include "control/methods.h"

#include "base/fault.h"
#include "control/follow.h"
#include "control/show.h"
#include "control/target.h"
#include "control/up_image.h"
#include "control/up_rent.h"
#include "control/up_search.h"
#include "control/up_second.h"
#include "control/up_tell.h"
#include "gateway/gateway.h"
#include "lease/account.h"
#include "lease/lease.h"
#include "manager.h"
#include "proto/json.h"
#include "proto/text.h"

#define UP_OTHERS (MANAGER_CHOICES_MAX - 1) /* with --or */

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
    bool any = false;

    for (unsigned i = 0; f && i < w->n_models; i++)
        if (w->told[i].was_off && w->models[i]) {
            deployment_want(w->models[i], GOAL_OFF, true);
            any = true;
        }
    if (any)
        call_not_kept(c, f, "it was not brought up: that it is wanted could not be kept");
    else
        w->fn(w);
}

/* The one that is meant, if there is one already. on NULL: wherever it is. */
static struct deployment *up_finds(const struct call *c, const char *on)
{
    const char *model = json_get_text(c->parameters, "model");
    struct manager *m = c->context->manager;

    return on ? manager_find_on(m, model, on) : manager_find_deployment(m, model);
}

/* It is off, and nowhere else: it moves to where it is wanted now (manager_place()), and back if that is refused. */
static void note_moved(struct follow *w, const char *on)
{
    const char *model = json_get_text(w->call->parameters, "model");
    struct manager *m = w->call->context->manager;
    const struct deployment *d = manager_find_deployment(m, model);

    if (!on || !d || manager_find_on(m, model, on) || deployment_goal(d) != GOAL_OFF)
        return;
    w->moved.instance = xstrdup(lease_name(deployment_lease(d)));
    w->moved.arguments = json_copy(deployment_arguments(d));
}

/* From now on it is wanted there. It can be placed. */
static void up_want(struct follow *w, const char *on)
{
    struct call *c = w->call;
    const struct json *arguments = json_get(c->parameters, "arguments");
    const char *model = json_get_text(c->parameters, "model");
    struct deployment *d = up_finds(c, on);
    bool same = !arguments || (d && deployment_has_arguments(d, arguments));
    struct fault f = {};

    if (manager_place(c->context->manager, model, on, arguments, &d, &f) < 0)
        abort(); /* it was asked */
    follow_add(w, d);
    if (json_get_bool(c->parameters, "unverified", false))
        deployment_allow_unverified(d);
    up_allow(c, d);

    struct follow_told *told = &w->told[w->n_models - 1];

    told->was_off = deployment_goal(d) == GOAL_OFF;
    told->was_ready = same && deployment_state(d) == DEPLOYMENT_READY && !told->was_off &&
                      lease_is_reachable(deployment_lease(d));
    up_note_stages(d, told);
    if (told->was_ready)
        return;
    call_log_change(c, model, "up on %s%s", lease_name(deployment_lease(d)),
                    same ? "" : ", with other arguments");
    w->ticket = deployment_want(d, GOAL_ON_DEMAND, false);
}

static bool can_rent(struct manager *m)
{
    struct account *a;

    for (unsigned i = 0; (a = manager_account_at(m, i)); i++)
        if (account_ops(a)->create)
            return true;
    return false;
}

/* The ways to one: which of them come first depends on whether there is an account to rent with. */
static void up_fail_no_instance(struct call *c, const struct fault *f)
{
    const char *model = json_get_text(c->parameters, "model");
    bool rents = can_rent(c->context->manager);
    _cleanup_free_ char *next =
        rents ? xasprintf("llmhostctl offers --for %s\nllmhostctl up %s --gpu=CARD\n"
                          "llmhostctl instance add gpu1 'ssh -p 46464 root@HOST'",
                          model, model)
              : xasprintf("llmhostctl provider add autodl\nllmhostctl up %s --gpu=CARD\n"
                          "llmhostctl instance add gpu1 'ssh -p 46464 root@HOST'",
                          model);

    call_fail(c, EXIT_USAGE, "no_instance", model,
              rents ? "one is rented for it, or one of yours is added by its ssh command"
                    : "one is rented for it, once there is an account, or one of yours is added by its ssh "
                      "command",
              next, "%s", f->text);
}

/* All or none: before anything is made. False: the call was answered. */
static bool up_may_place(struct call *c, const char *on)
{
    const char *model = json_get_text(c->parameters, "model");
    char *name = on ? target_on_at(on, 0) : NULL;
    struct fault f = {};
    bool ok = true;
    unsigned i = 0;

    do {
        ok = manager_check_place(c->context->manager, model, name, json_get(c->parameters, "arguments"),
                                 &f) == 0;
        if (!ok && streq(f.code, "no_instance"))
            up_fail_no_instance(c, &f);
        else if (!ok)
            call_fault(c, &f, streq(f.code, "no_such_instance") ? name : model, NULL);
        free(name);
    } while (ok && on && (name = target_on_at(on, ++i)));
    return ok;
}

/* Where it is already comes first: one that is off there is not to move elsewhere. */
static void up_want_all(struct follow *w, const char *on)
{
    char *name;

    for (unsigned pass = 0; on && pass < 2; pass++)
        for (unsigned i = 0; (name = target_on_at(on, i)); i++) {
            if ((pass == 0) == (up_finds(w->call, name) != NULL))
                up_want(w, name);
            free(name);
        }
    if (!on)
        up_want(w, NULL);
}

/* On a machine that is an instance from now on, and is switched on because a model on it is wanted. */
static bool up_want_rented(struct follow *w)
{
    uint64_t made = 0;
    struct lease *l = up_rent(w->call, &made);

    if (!l)
        return false;
    note_moved(w, lease_name(l));
    up_want(w, lease_name(l));
    w->made = made != 0;
    w->ticket = MAX(w->ticket, made);
    return true;
}

/* It is wanted on one instance already: the others are told of, and wait for their turn. */
static void up_add_others(struct follow *w, bool rents)
{
    struct call *c = w->call;
    const char *others = json_get_text(c->parameters, "or_on");
    const char *names[UP_OTHERS + 1] = {lease_name(deployment_lease(w->models[0]))};
    unsigned n = 1;
    struct manager_rent rent;
    struct fault f = {};
    char *name;

    if (rents)
        up_read_rent(c, &rent);
    for (unsigned i = 0; others && n <= UP_OTHERS && (name = target_on_at(others, i)); i++) {
        struct deployment *d;

        if (!streq(name, names[0]) && manager_place(c->context->manager, deployment_name(w->models[0]), name,
                                                    json_get(c->parameters, "arguments"), &d, &f) == 0) {
            follow_add(w, d);
            up_limit_price(c, d);
            names[n++] = lease_name(deployment_lease(d));
            up_note_stages(d, &w->told[w->n_models - 1]);
        }
        free(name);
    }
    w->any = true;
    manager_choose(c->context->manager, deployment_name(w->models[0]), names, n, rents ? &rent : NULL,
                   json_get_int(c->parameters, "search_until_at_ms", 0));
}

/* Of those that are tried besides, the one on which it is up, or on its way: it came already. Caller frees;
 * NULL: none. */
static char *up_came_to(struct call *c)
{
    const char *others = json_get_text(c->parameters, "or_on");
    char *name;

    for (unsigned i = 0; others && (name = target_on_at(others, i)); i++) {
        const struct deployment *d = up_finds(c, name);

        if (d && deployment_goal(d) != GOAL_OFF && deployment_state(d) != DEPLOYMENT_FAILED)
            return name;
        free(name);
    }
    return NULL;
}

static void up_go(struct call *c, const char *fit)
{
    const char *on = json_get_text(c->parameters, "on"), *note = first_note(c->context);
    bool wait = json_get_bool(c->parameters, "wait", true);
    _cleanup_free_ char *came = up_came_to(c);
    struct up_search before;

    if (!came && !up_agrees_to_price(c))
        return;
    up_search_before(c, &before);
    struct follow *w = follow_new(c, wait ? up_look : up_accepted);

    w->note = note;
    snprintf(w->fit, sizeof w->fit, "%s", fit);
    if (came)
        up_want(w, came);
    else if (!up_rents(c))
        up_want_all(w, on);
    else if (!up_want_rented(w))
        return;
    bool rents = !came && up_rents(c) && up_has_more(c, deployment_lease(w->models[0]));

    if (w->ticket && !came && (rents || json_get_text(c->parameters, "or_on")))
        up_add_others(w, rents);
    uint64_t ended = 0; /* no daemon after this one looks for both */

    w->changed = up_search_after(c, &before, w->models[0], w->any, &ended);
    if (w->ticket)
        w->ticket = MAX(w->ticket, ended);
    w->second = up_second_note(c, w->models[0], w->any);
    if (!w->ticket) { /* ready, all of them */
        up_answer(w, 0);
        return;
    }
    if (wait && c->more && !up_begin(w))
        return;
    store_after(c->context->store, w->ticket, &c->op, up_on_durable, c);
}

static void up_go_on(struct call *c, const char *fit)
{
    up_when_it_rests(c, fit, up_go);
}

/* What is tried besides is there, and what is tried first is said. */
static bool up_may_choose(struct call *c)
{
    const char *on = json_get_text(c->parameters, "on"), *others = json_get_text(c->parameters, "or_on");
    unsigned n = 0;
    char *name;

    if (!others)
        return true;
    while ((name = target_on_at(others, n))) {
        n++;
        free(name);
    }
    if ((!on && !up_rents(c)) || (on && strchr(on, ',')) || n > UP_OTHERS) {
        call_fail(c, EXIT_USAGE, "which_instance", json_get_text(c->parameters, "model"), NULL,
                  "llmhostctl up MODEL --on INSTANCE --or INSTANCE",
                  "--or says what is tried after one instance, which --on or --gpu names; at most %u",
                  UP_OTHERS);
        return false;
    }
    return up_may_place(c, others);
}

static void up_place(struct call *c)
{
    const char *on = json_get_text(c->parameters, "on");

    if (up_may_choose(c) && up_may_rent(c) && (up_rents(c) || up_may_place(c, on)))
        up_if_it_fits(c, up_go_on);
}

static void up_keep(struct call *c)
{
    call_if_kept(c, up_place);
}

/* Wanted already, everywhere: nothing new to keep. */
static bool up_is_wanted(const struct call *c)
{
    const char *on = json_get_text(c->parameters, "on");
    const struct json *arguments = json_get(c->parameters, "arguments");
    char *name = on ? target_on_at(on, 0) : NULL;
    bool wanted;
    unsigned i = 0;

    do {
        const struct deployment *d = up_finds(c, name);

        wanted =
            d && deployment_goal(d) != GOAL_OFF && (!arguments || deployment_has_arguments(d, arguments));
        free(name);
    } while (wanted && on && (name = target_on_at(on, ++i)));
    return wanted;
}

void method_up(struct call *c)
{
    const char *model = json_get_text(c->parameters, "model");
    struct fault f = {};

    if (follow_timeout_is_wrong(c) || up_names_nothing(c))
        return;
    if (show_port_taken(c->context, &f)) {
        _cleanup_free_ char *next = show_port_next(gateway_endpoint(c->context->gateway) + strlen("http://"));

        call_fail(c, EXIT_CONFLICT, f.code, model, "stop it, or let llmhostd listen elsewhere", next, "%s",
                  f.text);
        return;
    }
    if (!up_rents(c) && up_is_wanted(c))
        up_place(c);
    else
        up_with_image(c, up_keep);
}
