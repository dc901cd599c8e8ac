/* What `up` tells, and how its call ends: each change on the way, of each instance that the model was wanted on
 * (they come up beside each other, and the call waits for all), then that it is ready, or why it does not get
 * there, what goes on billing all the same, and what to do about it. */
#include "control/up_tell.h"

#include "base/clock.h"
#include "base/fault.h"
#include "control/explain.h"
#include "control/follow.h"
#include "control/show.h"
#include "control/show_rent.h"
#include "control/up_rent.h"
#include "gateway/gateway.h"
#include "lease/account.h"
#include "lease/hunt.h"
#include "lease/lease.h"
#include "lease/rented.h"
#include "manager.h"
#include "policy/money.h"
#include "proto/buf.h"
#include "proto/json.h"
#include "proto/text.h"
#include "provider/rental.h"
#include "session/session.h"

/* ---- replies ---- */

static void up_put_note(struct follow *w, struct json *v)
{
    struct json *list = json_array();

    if (*w->fit)
        json_append_string(list, w->fit);
    if (!w->named_dear && up_rents(w->call))
        up_name_dear(w->call, list);
    if (w->changed)
        json_append_string(list, w->changed);
    if (w->note)
        json_append_string(list, w->note);
    if (json_count(list))
        json_put(v, "notes", list);
    else
        json_free(list);
    free(TAKE_PTR(w->changed));
    w->note = NULL;
    w->named_dear = true;
    *w->fit = '\0';
}

/* What the first and the last reply have in common. */
static struct json *up_reply(struct follow *w)
{
    struct json *v = json_object(), *models = json_array();

    json_put(v, "model", show_model(w->models[0]));
    for (unsigned i = 0; i < w->n_models; i++)
        json_append(models, show_model(w->models[i]));
    if (w->n_models > 1)
        json_put(v, "models", models);
    else
        json_free(models);
    json_put_string(v, "endpoint", gateway_endpoint(w->call->context->gateway));
    if (w->n_models == 1 && lease_rented(deployment_lease(w->models[0])))
        json_put(v, "instance", show_instance(w->call->context, deployment_lease(w->models[0])));
    up_put_note(w, v);
    return v;
}

void up_answer(struct follow *w, uint64_t took_ms)
{
    struct json *v = up_reply(w);

    json_put_int(v, "took_ms", (int64_t)took_ms);
    call_reply(w->call, v);
}

/* Each reply says of which machine it is. */
static bool is_one_of_several(const struct follow *w)
{
    return w->n_models > 1 || w->any;
}

/* A reply with progress of that one. False when the call is over. */
static bool up_more(struct follow *w, unsigned i, struct json *progress)
{
    struct json *v = json_object();

    if (is_one_of_several(w))
        json_put_string(progress, "instance", lease_name(deployment_lease(w->models[i])));
    json_put(v, "progress", progress);
    return call_reply_more(w->call, v);
}

/* ---- on the way ---- */

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
static bool up_tell_restart(struct follow *w, unsigned i)
{
    const struct deployment *d = w->models[i];
    struct follow_told *told = &w->told[i];
    enum deployment_state s = deployment_state(d);
    struct deployment_figures n;
    char text[80] = "what runs is stopped, to begin anew";

    if (deployment_goal(d) == GOAL_OFF || (s != DEPLOYMENT_DRAINING && s != DEPLOYMENT_STOPPING))
        return true;
    deployment_figures(d, &n);
    if (s == DEPLOYMENT_DRAINING)
        snprintf(text, sizeof text, "waits for %u open request%s, to begin anew", n.open,
                 n.open == 1 ? "" : "s");
    if (told->restart == 1 + (unsigned)s && told->streams == n.open)
        return true;
    told->restart = 1 + (unsigned)s;
    told->streams = n.open;
    return up_more(w, i, follow_progress("engine", "running", text, clock_now_ms() - w->begun_due));
}

/* Who makes room for it, or whom it waits for. False when the call is over. */
static bool up_tell_room(struct follow *w, unsigned i)
{
    const struct deployment *d = w->models[i];
    const char *text = deployment_state(d) == DEPLOYMENT_PLACING ? deployment_room_text(d) : NULL;
    struct follow_told *told = &w->told[i];
    struct deployment_figures n;

    if (!text || streq(text, told->room))
        return true;
    snprintf(told->room, sizeof told->room, "%s", text);
    deployment_figures(d, &n);
    return up_more(
        w, i, follow_progress("room", "running", text, (uint64_t)MAX(clock_wall_ms() - n.since_at_ms, 0)));
}

/* Of several that it is tried on one after the other: it was this one's turn, and is not any more. */
static bool up_was_left(const struct follow *w, unsigned i)
{
    return w->any && deployment_goal(w->models[i]) == GOAL_OFF;
}

/* Somebody said something else of it: what was refused is another list's. False when the call is over. */
static bool up_tell_changed(struct follow *w, unsigned i)
{
    const struct lease *l = deployment_lease(w->models[i]);
    struct follow_told *told = &w->told[i];
    char text[SEARCH_TEXT_MAX], was[SEARCH_TEXT_MAX];

    search_format(text, l);
    if (!*text || streq(text, told->search))
        return true;
    memcpy(was, told->search, sizeof was);
    memcpy(told->search, text, sizeof told->search);
    if (!*was)
        return true;
    told->refused = 0;
    told->stages[STAGE_CAPACITY]--; /* which goes on below it */

    struct json *progress = json_object();
    _cleanup_free_ char *now = xasprintf("from now on %s", text);

    json_put_string(progress, "stage", stage_name(STAGE_CAPACITY));
    json_put_string(progress, "state", "changed");
    json_put_string(progress, "text", now);
    return up_more(w, i, progress);
}

/* Each that was asked for a card in vain, once: how the search goes on is what its stage says. False when the
 * call is over. */
static bool up_tell_refused(struct follow *w, unsigned i)
{
    const struct rented *r = lease_rented(deployment_lease(w->models[i]));
    const struct hunt *h = r ? rented_hunt(r) : NULL;
    struct follow_told *told = &w->told[i];
    char name[HUNT_NAME_MAX];

    _Static_assert(HUNT_MAX <= sizeof(told->refused) * 8, "a bit for each candidate");
    if (!h || h->begun == told->searches || (h->n < 2 && !w->any))
        return true;
    for (unsigned k = 0; k < h->n; k++) {
        const struct hunt_candidate *c = &h->all[k];

        if (!c->tries || told->refused & 1u << k)
            continue;
        told->refused |= 1u << k;
        _cleanup_free_ char *text =
            h->n > 1 ? xasprintf("%s: %s", hunt_name(c, name), c->why) : xstrdup(c->why);
        struct json *progress = json_object();

        json_put_string(progress, "stage", stage_name(STAGE_CAPACITY));
        json_put_string(progress, "state", "refused");
        json_put_string(progress, "text", text);
        if (!up_more(w, i, progress))
            return false;
    }
    return true;
}

/* What was told to run and does no more, without an end that could be told. False when the call is over. */
static bool up_tell_left(struct follow *w, unsigned i)
{
    const struct deployment *d = w->models[i];
    struct follow_told *told = &w->told[i];
    struct stage_view p;

    for (enum stage s = 0; s < STAGE_COUNT; s++) {
        deployment_stage(d, s, &p);
        if (!told->runs[s] || !(p.state == STAGE_AHEAD || up_was_left(w, i)))
            continue;
        told->runs[s] = false;
        if (!up_more(w, i, follow_progress(stage_name(s), stage_state_name(STAGE_AHEAD), "", p.took_ms)))
            return false;
    }
    return true;
}

/* Of several the next one is tried, and the reason of this one is not that of the whole. One that is switched on
 * is named, for it bills from now on. */
static struct json *up_progress(const struct follow *w, const struct deployment *d, enum stage s)
{
    struct json *v = show_progress(d, s);
    struct stage_view p;

    deployment_stage(d, s, &p);
    if (w->any && p.state == STAGE_FAILED && deployment_state(d) == DEPLOYMENT_FAILED)
        json_put_string(v, "text", deployment_fault(d)->text);
    if (!is_one_of_several(w) && s == STAGE_POWER_ON && p.state == STAGE_RUNNING) {
        _cleanup_free_ char *text = xasprintf("%s: %s", lease_name(deployment_lease(d)), p.text);

        json_put_string(v, "text", text);
    }
    return v;
}

/* Every stage that changed since it was told. False when the call is over. */
static bool up_tell_stages(struct follow *w, unsigned i)
{
    const struct deployment *d = w->models[i];
    struct follow_told *told = &w->told[i];
    unsigned tries = tries_of(d);
    struct stage_view p;

    for (enum stage s = 0; s < STAGE_COUNT; s++) {
        deployment_stage(d, s, &p);
        bool tried = s == STAGE_SSH && p.state == STAGE_RUNNING && tries != told->tries;

        if (p.state == STAGE_AHEAD || (p.changes == told->stages[s] && !tried))
            continue;
        told->stages[s] = p.changes;
        told->runs[s] = p.state == STAGE_RUNNING;
        if (!up_more(w, i, up_progress(w, d, s)))
            return false;
    }
    bool away = up_is_away(d) && (tries != told->tries || !told->away);

    told->away |= away;
    told->tries = tries;
    return !away || up_more(w, i, show_way(d));
}

/* False when the call is over. */
static bool up_tell(struct follow *w, unsigned i)
{
    if (!up_tell_changed(w, i) || !up_tell_refused(w, i) || !up_tell_left(w, i))
        return false;
    return up_was_left(w, i) || (up_tell_restart(w, i) && up_tell_room(w, i) && up_tell_stages(w, i));
}

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

/* What goes on billing, in *why, and how it ends, in *next. */
static void up_add_bill(struct follow *w, const struct lease *l, struct buf *why, struct buf *next)
{
    char rate[TEXT_SHORT_MAX], at[MINUTE_TEXT_MAX];
    _cleanup_free_ char *down = xasprintf("llmhostctl down %s", lease_name(l));
    int64_t until_at_ms = 0, milli;
    bool estimate;

    if (!up_leaves_on(w, l, &until_at_ms))
        return;
    milli = rental_rate(l, &estimate);
    buf_addf(why, "%s%s stays on", why->len ? "; " : "", lease_name(l));
    if (milli)
        buf_addf(why, " at %s%s/h", estimate ? "~" : "",
                 money_format(rate, milli, account_ops(rented_account(lease_rented(l)))->unit));
    if (until_at_ms)
        buf_addf(why, " until %s", minute_format(at, until_at_ms));
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
            up_add_bill(w, deployment_lease(w->models[i]), &reasons, next);
    call_fail(w->call, status, code, target, buf_text(&reasons), buf_text(next), "%s",
              what ? what : why->text);
    buf_done(&reasons);
}

static void up_fail_insist(struct follow *w, const struct deployment *d, const struct fault *why,
                           const char *what)
{
    struct manager *m = w->call->context->manager;
    struct lease *made = w->made && w->n_models == 1 ? deployment_lease(d) : NULL;
    struct buf next;

    buf_init(&next, 8192);
    explain_next_for(why, show_subject(d), deployment_name(d), &next);
    buf_addf(&next, "\nllmhostctl up %s", deployment_name(d));
    if (made)
        up_add_rent(w->call, &next);
    buf_addf(&next, " %s", up_could_insist(why));
    up_fail_with(w, explain_status(why), explain_code(why), deployment_name(d), why, what, &next);
    buf_done(&next);
    if (made && !streq(why->code, "no_guard"))
        manager_forget_never_made(m, made);
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
        up_fail_by_table(w, why, show_subject(d), what);
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

bool up_begin(struct follow *w)
{
    struct json *v = up_reply(w);
    uint64_t usual_ms = 0;
    struct deployment_figures n;

    for (unsigned i = 0; i < w->n_models; i++) {
        deployment_figures(w->models[i], &n);
        usual_ms = MAX(usual_ms, n.usual_ms);
    }
    if (usual_ms)
        json_put_int(v, "usual_ms", (int64_t)usual_ms);
    return call_reply_more(w->call, v);
}

void up_accepted(struct follow *w)
{
    if (up_still_has_all(w))
        up_answer(w, 0);
}

static bool is_on_its_way(const struct deployment *d)
{
    return deployment_state(d) >= DEPLOYMENT_CONNECTING && deployment_state(d) <= DEPLOYMENT_LOADING;
}

void up_note_stages(const struct deployment *d, struct follow_told *told)
{
    const struct rented *r = lease_rented(deployment_lease(d));
    struct stage_view p;

    search_format(told->search, deployment_lease(d));
    if (r)
        told->searches = rented_hunt(r)->begun - (life_goal(rented_life(r)) == LIFE_GOAL_ON);
    for (enum stage s = 0; s < STAGE_COUNT; s++) {
        deployment_stage(d, s, &p);
        told->stages[s] = p.changes;
        if (p.state == STAGE_RUNNING || (p.state == STAGE_DONE && is_on_its_way(d)))
            told->stages[s] = p.changes - 1;
    }
}
