/* Wait: a gate for scripts. */
#include "control/methods.h"

#include "base/fault.h"
#include "control/follow.h"
#include "control/machines.h"
#include "control/show.h"
#include "control/target.h"
#include "lease/lease.h"
#include "proto/json.h"
#include "proto/text.h"

static void wait_answer(struct follow *w, struct lease *l)
{
    struct json *v = json_object();

    if (w->n_models == 1 && w->models[0])
        json_put(v, "model", show_model(w->models[0]));
    if (l)
        json_put(v, "instance", show_instance(w->call->context, l));
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

static bool wait_has_one_wanted(const struct follow *w)
{
    for (unsigned i = 0; i < w->n_models; i++)
        if (w->models[i] && deployment_goal(w->models[i]) != GOAL_OFF)
            return true;
    return false;
}

/* Ready, failed, or off: each ends the waiting for "ready"; off only when nothing else of it is wanted. One that sleeps answers as well: a request wakes
 * it, and nothing else would end the waiting. */
static void wait_look_ready(struct follow *w)
{
    if (wait_has_one_ready(w)) {
        wait_answer(w, NULL);
        return;
    }
    bool any_wanted = wait_has_one_wanted(w);

    for (unsigned i = 0; i < w->n_models; i++) {
        struct deployment *d = w->models[i];

        if (!d) {
            follow_gone(w);
            return;
        }
        if (deployment_goal(d) == GOAL_OFF && any_wanted)
            continue;
        if (deployment_state(d) == DEPLOYMENT_FAILED) {
            call_fault(w->call, deployment_fault(d), show_subject(d, deployment_fault(d)), NULL);
            return;
        }
        if (deployment_goal(d) == GOAL_OFF) {
            struct fault off;

            deployment_describe_off(d, &off);
            call_fault(w->call, &off, show_subject(d, &off), NULL);
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

/* The machine of the only model, where that bills on: its model's end is not its own. */
static struct lease *wait_rented_on(const struct follow *w)
{
    struct lease *l = w->n_models == 1 && w->models[0] ? deployment_lease(w->models[0]) : NULL;

    return l && lease_rented(l) && !machine_is_off(l) ? l : NULL;
}

static void wait_look_stopped(struct follow *w)
{
    for (unsigned i = 0; i < w->n_models; i++) {
        struct deployment *d = w->models[i];

        if (d && !deployment_is_idle(d))
            return;
        if (d && deployment_state(d) == DEPLOYMENT_FAILED) {
            call_fault(w->call, deployment_fault(d), show_subject(d, deployment_fault(d)),
                       "its engine may still run");
            return;
        }
    }
    wait_answer(w, wait_rented_on(w));
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

/* Its provider says that it is off; that it takes long does not end the waiting. */
static void wait_look_confirmed(struct follow *w)
{
    if (machines_are_off(w))
        wait_answer(w, w->n_machines == 1 ? w->machines[0].lease : NULL);
}

/* The machines meant, of which there must be one that is rented. */
static void wait_begin_confirmed(struct follow *w, const char *target)
{
    struct lease *l;

    w->needs_end = true;
    machines_add_of_models(w);
    for (unsigned i = 0; (l = manager_lease_at(w->call->context->manager, i)); i++)
        if (target_is_instance(target, l))
            machines_add(w, l);
    for (unsigned i = 0; i < w->n_machines; i++)
        if (!lease_rented(w->machines[i].lease)) /* what it went away for, nobody can say */
            w->machines[i--] = w->machines[--w->n_machines];
    if (!w->n_machines)
        call_fail(w->call, EXIT_USAGE, "not_rented", target, NULL, "llmhostctl instance list",
                  "%s is on no rented machine: nobody can confirm that it is off", target);
}

/* As in "it is not off after 20s". */
static const char *wait_end_name(void (*fn)(struct follow *w))
{
    return fn == wait_look_stopped     ? "off"
           : fn == wait_look_idle      ? "asleep"
           : fn == wait_look_tunnel    ? "connected"
           : fn == wait_look_confirmed ? "confirmed off"
                                       : NULL;
}

void method_wait(struct call *c)
{
    const char *target = json_get_text(c->parameters, "target");
    const char *until = json_get_text(c->parameters, "until");
    void (*fn)(struct follow * w) = !until || streq(until, "ready") ? wait_look_ready
                                    : streq(until, "stopped")       ? wait_look_stopped
                                    : streq(until, "idle")          ? wait_look_idle
                                    : streq(until, "tunnel")        ? wait_look_tunnel
                                    : streq(until, "confirmed")     ? wait_look_confirmed
                                                                    : NULL;

    if (!fn) {
        call_invalid_parameter(c, "until");
        return;
    }
    if (follow_timeout_is_wrong(c) || !target_check_one(c, target))
        return;
    struct follow *w = follow_new(c, fn);

    w->end = wait_end_name(fn);

    follow_add_target(w, target);
    if (!w->n_models && fn == wait_look_ready) {
        call_fail(c, EXIT_NOT_FOUND, "not_found", target, NULL, "llmhostctl status",
                  "no model is wanted on %s", target);
        return;
    }
    if (fn == wait_look_confirmed)
        wait_begin_confirmed(w, target);
    if (!c->over)
        w->fn(w);
}
