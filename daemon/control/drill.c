/* The drill: the guard of a machine is told to stop it now, the provider is asked again and again what became
 * of it, and nobody else stops it meanwhile. Off within the provider's usual time: its own shutdown ends the
 * bill, which rented.c writes down. Not off: that is said, and the provider is told to stop it. Of a machine
 * without an account boxed.c judges the trial: whether it goes away, and stays away; its bill nobody sees. */
#include "base/clock.h"
#include "base/fault.h"
#include "base/settings.h"
#include "base/timer.h"
#include "control/checks.h"
#include "control/checks_rent.h"
#include "control/follow.h"
#include "control/machines.h"
#include "control/show.h"
#include "guard/keeper.h"
#include "lease/account.h"
#include "lease/boxed.h"
#include "lease/lease.h"
#include "lease/rented.h"
#include "proto/json.h"
#include "proto/text.h"
#include "session/session.h"

#define DRILL_LOOK_MS 3000
/* Without an account: until its guard has heard of it, has tried its ways, and the machine is away. */
#define DRILL_BOXED_MS 240000

struct drill {
    struct call *call;
    struct manager_listener listener;
    struct lease *lease; /* NULL: gone */
    struct timer *timer;
    uint64_t told_due;          /* the guard has taken it; 0: not yet, or of a machine without an account */
    uint64_t begun_due;         /* of a machine without an account; 0: it has one */
    int64_t tried_before_at_ms; /* of that: its last trial before this one */
};

static void drill_drop(struct call *c)
{
    struct drill *d = c->state;

    manager_unlisten(c->context->manager, &d->listener);
    timer_free(d->timer);
    free(d);
}

static void drill_answer(struct drill *d, bool is_off)
{
    const char *name = lease_name(d->lease);
    const struct rental_ops *ops = account_ops(rented_account(lease_rented(d->lease)));
    struct json *v = json_object(), *list = json_array();
    char took[TEXT_SHORT_MAX];

    duration_format(took, clock_now_ms() - d->told_due, true);
    if (is_off)
        check_add(list, "rented.proof", name, "ok", NULL,
                  "its guard was told to stop it, and %s said after %s that it is off: its own shutdown ends "
                  "the bill",
                  ops->title, took);
    else
        check_add(
            list, "rented.proof", name, "fail", check_command("llmhostctl wait %s --for=confirmed", name),
            "its guard was told to stop it, and after %s %s does not say that it is off: its own shutdown "
            "does not end the bill; %s is told to stop it now",
            took, ops->title, ops->title);
    json_put_bool(v, "healthy", is_off);
    json_put(v, "checks", list);
    call_reply(d->call, v);
}

static void drill_answer_boxed(struct drill *d, const struct boxed_figures *n)
{
    struct json *v = json_object(), *list = json_array();

    check_trial(d->lease, list);
    json_put_bool(v, "healthy", n->trial == BOXED_WENT);
    json_put(v, "checks", list);
    call_reply(d->call, v);
}

static void drill_look_boxed(struct drill *d)
{
    struct boxed *b = lease_boxed(d->lease);
    const char *name = lease_name(d->lease);
    bool is_late = clock_now_ms() - d->begun_due > DRILL_BOXED_MS;
    _cleanup_free_ char *next = xasprintf("llmhostctl doctor %s", name);
    struct boxed_figures n;

    boxed_figures(b, &n);
    if (n.tried_at_ms != d->tried_before_at_ms) {
        drill_answer_boxed(d, &n);
        return;
    }
    if (!is_late && boxed_state(b) != BOXED_ON)
        return;
    boxed_stay(b);
    call_fail(d->call, EXIT_REFUSED, "no_guard", name, boxed_trouble(b)->kind ? boxed_trouble(b)->text : NULL,
              next, "%s was not tried: its guard does not say that it was told", name);
}

/* There is no such machine any more, or no guard on it. True: the call was answered. */
static bool drill_has_ended(struct drill *d)
{
    if (d->lease && (lease_rented(d->lease) || lease_boxed(d->lease)))
        return false;
    if (d->lease)
        call_fail(d->call, EXIT_REFUSED, "no_guard", lease_name(d->lease), NULL, "llmhostctl status",
                  "%s is not switched off by a guard any more", lease_name(d->lease));
    else
        call_fail(d->call, EXIT_NOT_FOUND, "gone", NULL, NULL, "llmhostctl status",
                  d->begun_due ? "the machine was removed meanwhile"
                               : "the machine was given back meanwhile");
    return true;
}

static void drill_look(struct drill *d)
{
    struct rented *r;

    if (d->call->over || (!d->told_due && !d->begun_due) || drill_has_ended(d))
        return;
    r = lease_rented(d->lease);
    if (!r)
        drill_look_boxed(d);
    else if (machine_is_off(d->lease)) {
        drill_answer(d, true);
    } else if (clock_now_ms() - d->told_due >
               settings_ms(d->call->context->settings, "guard", "stop_alarm")) {
        rented_want(r, LIFE_GOAL_OFF);
        drill_answer(d, false);
    }
}

static void drill_on_timer(void *ctx)
{
    struct drill *d = ctx;

    timer_arm(d->timer, DRILL_LOOK_MS);
    if (d->lease && lease_rented(d->lease))
        rented_doubt(lease_rented(d->lease));
    drill_look(d);
}

static void drill_on_lease(void *ctx, struct lease *l, bool gone)
{
    struct drill *d = ctx;

    if (l != d->lease)
        return;
    if (gone)
        d->lease = NULL;
    else if (machine_is_off(l))
        timer_arm(d->timer, 0); /* not from inside of what changed it */
}

static void drill_on_told(void *ctx, const struct fault *f)
{
    struct call *c = ctx;
    struct drill *d = c->state;

    if (f && f->kind != FAULT_UNCERTAIN) { /* it may have gone off before its answer was on the way */
        call_fault(c, f, d->lease ? lease_name(d->lease) : NULL, "its guard was not told to stop it");
        return;
    }
    d->told_due = clock_now_ms();
    timer_arm(d->timer, DRILL_LOOK_MS);
}

/* Somebody uses a model on it, or waits for one. NULL: nobody. */
static const struct deployment *find_user(struct manager *m, const struct lease *l)
{
    struct deployment *d;

    for (unsigned i = 0; (d = manager_deployment_at(m, i)); i++) {
        enum deployment_state s = deployment_state(d);
        struct deployment_figures n;

        deployment_figures(d, &n);
        if (deployment_lease(d) == l && (n.open || n.held || n.keep_until_at_ms ||
                                         (s >= DEPLOYMENT_CONNECTING && s <= DEPLOYMENT_LOADING)))
            return d;
    }
    return NULL;
}

/* False: the call was answered. */
static bool may_drill(struct call *c, const struct lease *l)
{
    const char *name = lease_name(l);
    const struct boxed *b = lease_boxed(l);
    const struct keeper *k = b ? boxed_keeper(b) : lease_rented(l) ? rented_keeper(lease_rented(l)) : NULL;
    const struct deployment *user = find_user(c->context->manager, l);
    const char *model = show_model_of(c->context->manager, l);
    _cleanup_free_ char *next = xasprintf("llmhostctl doctor %s", name);
    _cleanup_free_ char *up =
        xasprintf("llmhostctl up %s --on %s\n%s", model ? model : "ollama:NAME", name, next);
    struct fault off;

    if (!b && !lease_rented(l))
        call_fail(c, EXIT_USAGE, "not_rented", name, NULL, "llmhostctl instance list",
                  "%s is not rented: there is no bill to end", name);
    else if (b ? boxed_state(b) != BOXED_ON : life_state(rented_life(lease_rented(l))) != LIFE_RUNNING)
        call_fail(c, EXIT_NOT_RUNNING, "not_running", name, lease_needs_hand(l, &off) ? off.text : NULL, up,
                  "%s is not on: its guard can be tried only while it is", name);
    else if (user)
        call_fail(c, EXIT_CONFLICT, "in_use", name, NULL, next, "%s was not stopped: %s on it is in use",
                  name, deployment_name(user));
    else if (!k || keeper_state(k) != KEEPER_KEPT)
        call_fail(c, EXIT_REFUSED, "no_guard", name,
                  k && keeper_fault(k)->kind ? keeper_fault(k)->text : NULL, next,
                  "%s has no guard of ours that answers", name);
    else
        return true;
    return false;
}

static void drill_tell(struct drill *d)
{
    struct boxed *b = lease_boxed(d->lease);
    struct boxed_figures n;

    if (!b) {
        rented_stop_by_guard(lease_rented(d->lease), &d->call->op, drill_on_told, d->call);
        return;
    }
    boxed_figures(b, &n);
    d->tried_before_at_ms = n.tried_at_ms;
    d->begun_due = clock_now_ms();
    timer_arm(d->timer, DRILL_LOOK_MS);
    boxed_drill(b);
}

void drill_begin(struct call *c, struct lease *l)
{
    if (!may_drill(c, l))
        return;

    struct drill *d = xnew(struct drill);

    d->call = c;
    d->lease = l;
    d->timer = timer_new(c->context->loop, drill_on_timer, d);
    d->listener = (struct manager_listener){.lease = drill_on_lease, .ctx = d};
    manager_listen(c->context->manager, &d->listener);
    c->state = d;
    c->drop = drill_drop;
    call_log_change(c, lease_name(l), "drill: its guard is told to stop it");
    drill_tell(d);
}
