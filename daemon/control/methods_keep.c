/* Keep: nothing is put to sleep, or switched off, for so long. Its money is reserved before it is said; of several
 * models for one after the other, so that none is kept where another cannot be paid for. */
#include "control/methods.h"

#include "base/clock.h"
#include "base/fault.h"
#include "control/explain.h"
#include "control/follow.h"
#include "control/machines.h"
#include "control/show.h"
#include "control/show_rent.h"
#include "control/target.h"
#include "lease/account.h"
#include "lease/boxed.h"
#include "lease/lease.h"
#include "lease/rented.h"
#include "proto/json.h"
#include "proto/text.h"

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

/* What was said, for so long instead. Caller frees. */
static char *keep_command(const struct call *c, int64_t for_ms)
{
    const char *on = json_get_text(c->parameters, "on");
    char how_long[TEXT_SHORT_MAX];

    if (for_ms == KEEP_INSTANCE_MS_MAX)
        return xasprintf("llmhostctl keep %s 7d", json_get_text(c->parameters, "target"));
    return xasprintf("llmhostctl keep %s %s%s%s", json_get_text(c->parameters, "target"),
                     duration_format(how_long, (uint64_t)for_ms, false), on ? " --on " : "", on ? on : "");
}

/* No money: whose, and how it is mended. */
static void keep_refuse(struct call *c, const struct lease *l, const struct fault *f)
{
    const char *subject = rental_subject(l, f);
    int64_t fits_ms = store_keep_fits_ms(f);
    struct buf next;

    if (!fits_ms) {
        call_fault(c, f, subject, NULL);
        return;
    }
    _cleanup_free_ char *less = keep_command(c, fits_ms);

    buf_init(&next, 4096);
    buf_addf(&next, "%s\n", less);
    explain_next(f, subject, &next);
    call_fail(c, explain_status(f), explain_code(f), subject, NULL, buf_text(&next), "%s", f->text);
    buf_done(&next);
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

/* The longest is proposed, as far as the limits of its account allow that. */
static void keep_on_asked(void *ctx, const struct fault *f)
{
    struct call *c = ctx;
    bool is_of_money = f && streq(f->code, "budget");
    int64_t fits_ms = is_of_money ? MIN(store_keep_fits_ms(f), KEEP_INSTANCE_MS_MAX) : KEEP_INSTANCE_MS_MAX;
    _cleanup_free_ char *less = fits_ms ? keep_command(c, fits_ms) : xstrdup("llmhostctl cost");

    call_fail(c, EXIT_USAGE, "bad_time", json_get_text(c->parameters, "target"),
              fits_ms == KEEP_INSTANCE_MS_MAX ? "its guard lets it run on for no longer without llmhostd"
                                              : "and the limits of its account leave less",
              less, "a keep of a rented machine lasts at most 7 days");
}

/* A rented machine stays on whatever its models do; one that is off is not switched on for that. */
static void keep_instance(struct call *c, struct lease *l, int64_t for_ms)
{
    const char *name = lease_name(l);
    _cleanup_free_ char *up = xasprintf("llmhostctl up ollama:NAME --on %s", name);
    bool no_card = json_get_bool(c->parameters, "no_card", false);
    char how_long[TEXT_SHORT_MAX];
    struct fault off;

    if (for_ms && machine_is_anothers(c, l))
        return;
    if (for_ms > KEEP_INSTANCE_MS_MAX) {
        if (lease_rented(l) && !no_card)
            manager_ask_keep(c->context->manager, l, &c->op, keep_on_asked, c);
        else
            keep_on_asked(c, NULL);
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

/* To keep it would switch its machine on, or look for a card anew. */
static bool keep_would_switch_on(const struct deployment *d)
{
    const struct rented *r = lease_rented(deployment_lease(d));

    return r && (life_goal(rented_life(r)) != LIFE_GOAL_ON || rented_is_without_card(r));
}

/* What is on is kept, of several; nothing is switched on for that. False: the call was answered. */
static bool keep_drop_off(struct follow *w, const char *target)
{
    const struct deployment *off = NULL;
    unsigned n = 0;

    for (unsigned i = 0; i < w->n_models; i++) {
        if (keep_would_switch_on(w->models[i]))
            off = w->models[i];
        else
            w->models[n++] = w->models[i];
    }
    w->n_models = n;
    if (n)
        return true;
    const char *on = lease_name(deployment_lease(off));
    _cleanup_free_ char *up = xasprintf("llmhostctl up %s --on %s", deployment_name(off), on);

    call_fail(w->call, EXIT_NOT_RUNNING, "not_running", target, NULL, up,
              "%s sleeps, and %s is not on%s: there is nothing to keep", deployment_name(off), on,
              rented_is_without_card(lease_rented(deployment_lease(off))) ? " with its card" : "");
    return false;
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

    if (!follow_add_wanted(w, target) || (for_ms && !keep_drop_off(w, target)))
        return;
    char how_long[TEXT_SHORT_MAX];

    machines_add_of_models(w);
    call_log_change(c, target, for_ms ? "keep for %s" : "keep is over%s",
                    for_ms ? duration_format(how_long, (uint64_t)for_ms, false) : "");
    w->keep_until_at_ms = for_ms ? clock_wall_ms() + for_ms : 0;
    keep_pay(w);
}
