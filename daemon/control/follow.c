/* It listens to the manager, and looks once a turn of the loop, however much changed in it. What is removed
 * meanwhile leaves a NULL in its place: fn() decides what that means. */
#include "control/follow.h"

#include "base/clock.h"
#include "base/fault.h"
#include "base/timer.h"
#include "control/machines.h"
#include "control/target.h"
#include "control/up_second.h"
#include "lease/lease.h"
#include "proto/json.h"
#include "proto/text.h"
#include "store/store.h"

static void follow_drop(struct call *c)
{
    struct follow *w = c->state;

    manager_unlisten(c->context->manager, &w->listener);
    runq_drop(&w->look);
    timer_free(w->timer);
    free(w->models);
    free(w->told);
    free(w->machines);
    free(w->changed);
    free(w->second);
    free(w->moved.instance);
    json_free(w->moved.arguments);
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

    for (unsigned i = 0; gone && i < w->n_machines; i++)
        if (w->machines[i].lease == l)
            w->machines[i].lease = NULL;
    runq_add(w->call->context->loop, &w->look);
}

/* Nothing is told before the goal is on disk. */
static void follow_look(void *ctx)
{
    struct follow *w = ctx;

    if (!w->call->op)
        w->fn(w);
}

/* The one name of all; NULL: there are several. */
static const char *follow_name(const struct follow *w)
{
    const char *name = w->n_models && w->models[0] ? deployment_name(w->models[0]) : NULL;

    for (unsigned i = 1; name && i < w->n_models; i++)
        if (!w->models[i] || !streq(deployment_name(w->models[i]), name))
            return NULL;
    return name;
}

static void follow_on_timer(void *ctx)
{
    struct follow *w = ctx;
    const char *target = follow_name(w);
    const struct fault *stuck = NULL;
    char took[TEXT_SHORT_MAX];

    if (machines_answer_timeout(w))
        return;
    duration_format(took, clock_now_ms() - w->begun_due, false);
    bool is_alone = !w->end && !w->any && w->n_models == 1 && w->models[0];
    _cleanup_free_ char *bills = machines_bill_on(w),
                        *second = is_alone ? up_second_next(w->call, w->models[0]) : NULL;
    _cleanup_free_ char *next =
        second   ? TAKE_PTR(second)
        : target ? xasprintf("llmhostctl wait %s%s", target, *bills ? " --for=confirmed" : "")
                 : xstrdup("llmhostctl status");

    store_stuck_ms(w->call->context->store, &stuck);
    _cleanup_free_ char *why = xasprintf(
        "the work goes on%s%s%s%s",
        stuck ? ", but what is new is not on disk, and a restart of llmhostd would forget it: " : "",
        stuck ? stuck->text : "", *bills ? "; until then " : "", bills);

    call_fail(w->call, EXIT_TIMED_OUT, "timed_out", target, why, next, "%s is not %s after %s",
              target ? target : "it", w->end ? w->end : "there", took);
}

struct follow *follow_new(struct call *c, void (*fn)(struct follow *w))
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

void follow_add(struct follow *w, struct deployment *d)
{
    w->models = reallocarray(w->models, w->n_models + 1, sizeof *w->models);
    w->told = reallocarray(w->told, w->n_models + 1, sizeof *w->told);
    if (!w->models || !w->told)
        abort();
    w->told[w->n_models] = (struct follow_told){};
    w->models[w->n_models++] = d;
}

static unsigned follow_add_on(struct follow *w, const char *target, const char *on)
{
    struct deployment *d;
    unsigned n = 0;

    for (unsigned i = 0; (d = manager_deployment_at(w->call->context->manager, i)); i++)
        if (target_is_model(target, d) && (!on || streq(on, lease_name(deployment_lease(d))))) {
            follow_add(w, d);
            n++;
        }
    return n;
}

bool follow_add_target(struct follow *w, const char *target)
{
    const char *on = json_get_text(w->call->parameters, "on");
    char *name;

    if (!on) {
        follow_add_on(w, target, NULL);
        return true;
    }
    for (unsigned i = 0; (name = target_on_at(on, i)); i++) {
        bool is_there = follow_add_on(w, target, name);

        if (!is_there)
            call_fail(w->call, EXIT_NOT_FOUND, "not_found", target, NULL, "llmhostctl status",
                      "%s is not on %s", target, name);
        free(name);
        if (!is_there)
            return false;
    }
    return true;
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

bool follow_add_wanted(struct follow *w, const char *target)
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

bool follow_timeout_is_wrong(struct call *c)
{
    if (!json_get(c->parameters, "timeout_ms") || json_get_int(c->parameters, "timeout_ms", 1) > 0)
        return false;
    call_invalid_parameter(c, "timeout_ms");
    return true;
}

void follow_gone(struct follow *w)
{
    call_fail(w->call, EXIT_NOT_FOUND, "gone", NULL, NULL, "llmhostctl status",
              "the model was removed meanwhile");
}

struct json *follow_progress(const char *stage, const char *state, const char *text, uint64_t took_ms)
{
    struct json *v = json_object();

    json_put_string(v, "stage", stage);
    json_put_string(v, "state", state);
    json_put_string(v, "text", text);
    json_put_int(v, "took_ms", (int64_t)took_ms);
    return v;
}

bool follow_may_ask(struct follow *w, const struct deployment *d)
{
    const struct lease *l = deployment_lease(d);
    const struct fault *refusal = lease_refusal(l);

    if (refusal)
        call_fault(w->call, refusal, lease_name(l), NULL);
    return !refusal && lease_is_reachable(l);
}
