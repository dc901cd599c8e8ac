/* How the call of `up` ends. Models on several instances come up beside each other, and it waits for all; of one
 * that is wanted on whichever comes first, for that. What does not get there is told with its reason, what goes
 * on billing all the same, and what to do about it. */
#include "control/up_tell.h"

#include "base/clock.h"
#include "base/fault.h"
#include "control/explain.h"
#include "control/follow.h"
#include "control/show.h"
#include "control/show_rent.h"
#include "control/up_rent.h"
#include "lease/account.h"
#include "lease/lease.h"
#include "lease/rented.h"
#include "manager.h"
#include "policy/money.h"
#include "proto/buf.h"
#include "proto/json.h"
#include "proto/text.h"
#include "provider/rental.h"

/* ---- how far it is ---- */

static bool is_wanted_elsewhere(const struct follow *w, const struct deployment *d)
{
    const struct deployment *now = manager_find_deployment(w->call->context->manager, deployment_name(d));

    return !w->any && now && deployment_goal(now) != GOAL_OFF;
}

/* Switched off while somebody waits for it: by a limit of money, or by a person. */
static void up_was_ended(const struct follow *w, const struct deployment *d, struct fault *why)
{
    const struct rented *r = lease_rented(deployment_lease(d));

    if (r && account_must_stop(rented_account(r)))
        *why = *account_trouble(rented_account(r));
    else if (deployment_describe_off(d, why), !streq(why->code, "passed_over"))
        fault_set(why, FAULT_GONE, 0, "%s was switched off meanwhile", deployment_name(d));
    else if (is_wanted_elsewhere(w, d))
        fault_set(why, FAULT_GONE, 0, "%s is waited for on %s no longer: it is wanted elsewhere, by a newer word",
                  deployment_name(d), lease_name(deployment_lease(d)));
    else
        fault_code(why, FAULT_EXHAUSTED, "no_capacity", "no card was free for %s in the time given",
                   deployment_name(d));
}

/* How far that one is; UP_NOT: *why it does not get there. */
enum up_end { UP_GOES_ON, UP_READY, UP_NOT };

static enum up_end up_end_of(struct follow *w, unsigned i, struct fault *why)
{
    const struct deployment *d = w->models[i];
    const struct fault *refusal = lease_refusal(deployment_lease(d));

    if (w->told[i].was_ready) /* what became of it then is another story */
        return UP_READY;
    if (deployment_state(d) == DEPLOYMENT_READY && !refusal) {
        w->told[i].was_ready = lease_is_reachable(deployment_lease(d));
        return w->told[i].was_ready ? UP_READY : UP_GOES_ON;
    }
    if (deployment_state(d) == DEPLOYMENT_READY)
        *why = *refusal;
    else if (deployment_state(d) == DEPLOYMENT_FAILED)
        *why = *deployment_fault(d);
    else if (deployment_goal(d) == GOAL_OFF)
        up_was_ended(w, d, why);
    else if (deployment_state(d) == DEPLOYMENT_ASLEEP)
        fault_set(why, FAULT_GONE, 0, "%s was put to sleep meanwhile", deployment_name(d));
    else
        return UP_GOES_ON;
    return UP_NOT;
}

/* ---- it does not get there ---- */

/* Refused for a reason that the caller may overrule, once. */
static const char *up_could_insist(const struct fault *why)
{
    if (money_may_be_overruled(why))
        return "--over-budget";
    return streq(why->code, "no_guard") ? "--no-guard" : NULL;
}

/* Its machine is on, and goes on billing although the model did not come. */
static bool up_leaves_on(struct follow *w, const struct lease *l, int64_t *ret_until_at_ms)
{
    const struct rented *r = lease_rented(l);
    const char *stays = r ? manager_stay(w->call->context->manager, l, ret_until_at_ms) : NULL;

    return stays && (life_goal(rented_life(r)) == LIFE_GOAL_ON || streq(stays, "not_by_us")) &&
           !streq(stays, "stopped_by_user") && !streq(stays, "asleep") && !streq(stays, "budget");
}

/* Another model that is wanted on its machine, which a down of that would end as well; NULL: none is. */
static const struct deployment *up_beside(const struct follow *w, const struct deployment *d)
{
    struct deployment *other;

    for (unsigned i = 0; (other = manager_deployment_at(w->call->context->manager, i)); i++)
        if (other != d && deployment_lease(other) == deployment_lease(d) &&
            deployment_goal(other) != GOAL_OFF && deployment_state(other) != DEPLOYMENT_FAILED)
            return other;
    return NULL;
}

static char *up_down_alone(const struct follow *w, const struct deployment *d)
{
    bool elsewhere = manager_has_other(w->call->context->manager, d);

    return xasprintf("llmhostctl down %s%s%s", deployment_name(d), elsewhere ? " --on " : "",
                     elsewhere ? lease_name(deployment_lease(d)) : "");
}

/* What goes on billing, in *why, and how it ends, in *next. */
static void up_add_bill(struct follow *w, const struct deployment *d, struct buf *why, struct buf *next)
{
    const struct lease *l = deployment_lease(d);
    const struct deployment *other = up_beside(w, d);
    char rate[TEXT_SHORT_MAX], at[MINUTE_TEXT_MAX];
    _cleanup_free_ char *down = other ? up_down_alone(w, d) : xasprintf("llmhostctl down %s", lease_name(l));
    int64_t until_at_ms = 0, milli;
    bool estimate;

    if (!up_leaves_on(w, l, &until_at_ms))
        return;
    milli = rental_rate(l, &estimate);
    buf_addf(why, "%s%s stays on", why->len ? "; " : "", lease_name(l));
    if (milli)
        buf_addf(why, " at %s/h%s", money_format(rate, milli, account_ops(rented_account(lease_rented(l)))->unit),
                 estimate ? "~" : "");
    if (until_at_ms)
        buf_addf(why, " until %s", minute_format(at, until_at_ms));
    if (other)
        buf_addf(why, ", and %s is wanted on it", deployment_name(other));
    if (!strstr(buf_text(next), down))
        buf_addf(next, "%s%s", next->len ? "\n" : "", down);
}

/* The end of the call; every machine that it leaves on is told of. what NULL: why is the whole of it. */
static void up_fail_with(struct follow *w, enum exit_status status, const char *code, const char *target,
                         const struct fault *why, const char *what, struct buf *next)
{
    struct buf reasons;

    buf_init(&reasons, 16384);
    if (what)
        buf_add_text(&reasons, why->text);
    for (unsigned i = 0; i < w->n_models; i++)
        if (w->models[i] && !w->told[i].was_ready)
            up_add_bill(w, w->models[i], &reasons, next);
    call_fail(w->call, status, code, target, buf_text(&reasons), buf_text(next), "%s",
              what ? what : why->text);
    buf_done(&reasons);
}

/* Nothing came of the machine that it moved to: it is where it was, and off. */
static void move_back(struct manager *m, const char *model, const struct up_moved *moved)
{
    struct deployment *d;
    struct fault f = {};

    if (moved->instance && manager_find_lease(m, moved->instance))
        manager_place(m, model, moved->instance, moved->arguments, &d, &f);
}

static void up_fail_insist(struct follow *w, const struct deployment *d, const struct fault *why,
                           const char *what)
{
    struct manager *m = w->call->context->manager;
    struct lease *made = w->made && w->n_models == 1 ? deployment_lease(d) : NULL;
    _cleanup_free_ char *model = xstrdup(deployment_name(d));
    struct up_moved moved = w->moved; /* w ends with the answer */
    struct buf next;

    w->moved = (struct up_moved){};
    buf_init(&next, 8192);
    explain_next_for(why, show_subject(d, why), deployment_name(d), &next);
    buf_addf(&next, "\nllmhostctl up %s", deployment_name(d));
    if (made)
        up_add_rent(w->call, &next);
    buf_addf(&next, " %s", up_could_insist(why));
    up_fail_with(w, explain_status(why), explain_code(why), deployment_name(d), why, what, &next);
    buf_done(&next);
    if (made && !streq(why->code, "no_guard")) {
        move_back(m, model, &moved);
        manager_forget_never_made(m, made);
    }
    free(moved.instance);
    json_free(moved.arguments);
}

/* By its own table: the target is the model, its machine or its account. */
static void up_fail_by_table(struct follow *w, const struct fault *why, const char *target, const char *what)
{
    struct buf next;

    buf_init(&next, 8192);
    explain_next_for(why, target, json_get_text(w->call->parameters, "model"), &next);
    up_fail_with(w, explain_status(why), explain_code(why), target, why, what, &next);
    buf_done(&next);
}

/* Somebody else's word came between. */
static void up_fail_by_word(struct follow *w, const struct deployment *d, const struct fault *why,
                            const char *what)
{
    bool is_off = deployment_goal(d) == GOAL_OFF;
    const char *room = deployment_room_text(d);
    struct fault asleep = *why;
    struct buf next;

    buf_init(&next, 8192);
    if (!is_off && !what && room) { /* for whom it made room */
        what = why->text;
        snprintf(asleep.text, sizeof asleep.text, "%s", room);
    }
    up_fail_with(w, is_off ? EXIT_NOT_RUNNING : EXIT_CONFLICT, is_off ? "stopped_by_user" : "put_to_sleep",
                 deployment_name(d), &asleep, what, &next);
    buf_done(&next);
}

static void up_fail(struct follow *w, unsigned i, const struct fault *why, const char *what)
{
    const struct deployment *d = w->models[i];

    if (deployment_state(d) == DEPLOYMENT_READY)
        up_fail_by_table(w, why, lease_name(deployment_lease(d)), what);
    else if (up_could_insist(why))
        up_fail_insist(w, d, why, what);
    else if (deployment_state(d) == DEPLOYMENT_FAILED || streq(why->code, "no_capacity"))
        up_fail_by_table(w, why, show_subject(d, why), what);
    else
        up_fail_by_word(w, d, why, what);
}

static void add_name(struct buf *out, const struct deployment *d)
{
    buf_addf(out, "%s%s", out->len ? ", " : "", lease_name(deployment_lease(d)));
}

/* The exit status is that of the first that did not get there; who did and who did not is said, and each
 * reason. */
static void up_fail_some(struct follow *w)
{
    struct buf there, not_there, reasons;
    unsigned first = 0;
    struct fault of_first = {}, f;

    buf_init(&there, 4096);
    buf_init(&not_there, 4096);
    buf_init(&reasons, 16384);
    for (unsigned i = 0; i < w->n_models; i++) {
        if (up_end_of(w, i, &f) == UP_READY) {
            add_name(&there, w->models[i]);
            continue;
        }
        if (!not_there.len) {
            first = i;
            of_first = f;
        }
        add_name(&not_there, w->models[i]);
        buf_addf(&reasons, "%s%s: %s", reasons.len ? "; " : "", lease_name(deployment_lease(w->models[i])),
                 f.text);
    }
    _cleanup_free_ char *what =
        there.len
            ? xasprintf("%s is ready on %s, but not on %s", deployment_name(w->models[0]), buf_text(&there),
                        buf_text(&not_there))
            : xasprintf("%s is ready on none of %s", deployment_name(w->models[0]), buf_text(&not_there));

    snprintf(of_first.text, sizeof of_first.text, "%s", buf_text(&reasons));
    up_fail(w, first, &of_first, what);
    buf_done(&there);
    buf_done(&not_there);
    buf_done(&reasons);
}

/* ---- a look, after each change ---- */

/* A machine was rented meanwhile, and it was its turn. */
static void up_follow_new(struct follow *w)
{
    struct deployment *d;

    for (unsigned i = 0; (d = manager_deployment_at(w->call->context->manager, i)); i++) {
        unsigned k = 0;

        while (k < w->n_models && w->models[k] != d)
            k++;
        if (k == w->n_models && manager_chooses_on(w->call->context->manager, d))
            follow_add(w, d);
    }
}

/* Wanted on whichever comes first: it is over with the first that is ready, or when nothing is left to try.
 */
static void up_look_any(struct follow *w)
{
    bool goes_on = manager_chooses(w->call->context->manager, deployment_name(w->models[0]));
    struct fault why = {}, last = {};
    struct deployment_figures n;
    unsigned failed = 0;

    up_follow_new(w);
    for (unsigned i = 0; i < w->n_models; i++) {
        if (w->call->more && !up_tell(w, i))
            return;
        enum up_end end = up_end_of(w, i, &why);

        if (end == UP_READY) {
            deployment_figures(w->models[i], &n);
            w->models[0] = w->models[i];
            w->n_models = 1;
            up_answer(w, n.took_ms);
            return;
        }
        goes_on |= end == UP_GOES_ON;
        if (end == UP_NOT && (deployment_goal(w->models[i]) != GOAL_OFF || !last.kind)) {
            failed = i;
            last = why;
        }
    }
    if (!goes_on)
        up_fail(w, failed, &last, NULL);
}

/* One that was forgotten ends the call; of several that are tried one after the other it is one less. */
static bool up_still_has_all(struct follow *w)
{
    unsigned n = 0;

    for (unsigned i = 0; i < w->n_models; i++)
        if (w->models[i]) {
            w->models[n] = w->models[i];
            w->told[n++] = w->told[i];
        }
    if (n == w->n_models || (w->any && n)) {
        w->n_models = n;
        return true;
    }
    follow_gone(w);
    return false;
}

void up_look(struct follow *w)
{
    unsigned n_ready = 0;
    uint64_t took_ms = 0;
    struct deployment_figures n;
    struct fault why = {};
    bool goes_on = false;

    if (!up_still_has_all(w))
        return;
    if (w->any) {
        up_look_any(w);
        return;
    }
    for (unsigned i = 0; i < w->n_models; i++) {
        if (w->call->more && !up_tell(w, i))
            return;
        enum up_end end = up_end_of(w, i, &why);

        goes_on |= end == UP_GOES_ON;
        n_ready += end == UP_READY;
        deployment_figures(w->models[i], &n);
        took_ms = MAX(took_ms, n.took_ms);
    }
    if (goes_on)
        return;
    if (n_ready == w->n_models)
        up_answer(w, took_ms);
    else if (w->n_models == 1)
        up_fail(w, 0, &why, NULL);
    else
        up_fail_some(w);
}

void up_accepted(struct follow *w)
{
    if (up_still_has_all(w))
        up_answer(w, 0);
}
