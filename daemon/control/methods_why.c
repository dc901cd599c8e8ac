/* Ps, Why: what is in memory, and what keeps it there or not. */
#include <string.h>

#include "base/fault.h"
#include "control/methods.h"
#include "control/show.h"
#include "control/show_rent.h"
#include "control/target.h"
#include "control/up_search.h"
#include "gateway/gateway.h"
#include "lease/account.h"
#include "lease/boxed.h"
#include "lease/hunt.h"
#include "lease/lease.h"
#include "lease/rented.h"
#include "manager.h"
#include "proto/json.h"
#include "proto/text.h"
#include "session/session.h"

/* ---- Ps ---- */

static bool is_in_memory(const struct deployment *d)
{
    enum deployment_state s = deployment_state(d);

    return s == DEPLOYMENT_READY || s == DEPLOYMENT_DRAINING || s == DEPLOYMENT_STOPPING;
}

void method_ps(struct call *c)
{
    const struct json *targets = json_get(c->parameters, "targets");
    bool all = json_get_bool(c->parameters, "all", false);
    struct deployment *d;

    if (!target_check(c, targets))
        return;
    struct json *v = json_object(), *models = json_array();

    for (unsigned i = 0; (d = manager_deployment_at(c->context->manager, i)); i++)
        if (target_has_model(targets, d) && (all || is_in_memory(d)))
            json_append(models, show_model(d));
    json_put(v, "models", models);
    if (targets)
        json_put(v, "targets", json_copy(targets));
    call_reply(c, v);
}

/* ---- Why ---- */

/* instance: of a model that is not on this one alone, else NULL. */
static void add_line(struct json *lines, const char *target, const char *instance, const char *verdict,
                     struct json *causes)
{
    struct json *v = json_object();

    json_put_string(v, "target", target);
    json_put_string(v, "instance", instance);
    json_put_string(v, "verdict", verdict);
    json_put(v, "causes", causes);
    json_append(lines, v);
}

/* The machine is to be reached, and just now it is not. */
static bool is_cut_off(struct lease *l)
{
    const struct session *s = lease_session(l);

    return s && session_state(s) != SESSION_UP && session_state(s) != SESSION_IDLE;
}

/* The first connection of all is no broken one. */
static void add_tunnel(struct json *causes, struct lease *l)
{
    const struct session *s = lease_session(l);
    const struct fault *f = session_fault(s);
    struct session_figures n;

    session_figures(s, &n);
    show_add_cause(causes, f->kind ? "tunnel_down" : "connecting", n.tries, n.since_at_ms,
                   f->kind ? f->text : NULL);
}

static void why_instance(struct lease *l, struct json *lines)
{
    struct json *causes = json_array();
    bool cut_off = is_cut_off(l);

    if (cut_off)
        add_tunnel(causes, l);
    show_add_cause(causes, "not_rented", 1, 0, NULL);
    add_line(lines, lease_name(l), NULL, cut_off ? "down" : "awake", causes);
}

/* ---- a search ---- */

/* "4090D in westDC3"; an instance that somebody has named, and that can be one machine alone, by its name. */
static const char *name_candidate(const struct lease *l, const struct hunt_candidate *c,
                                  char out[static HUNT_NAME_MAX])
{
    const struct rented *r = lease_rented(l);

    if (rented_hunt(r)->n == 1 && !rented_record(r)->by_search)
        return lease_name(l);
    return hunt_name(c, out);
}

/* What each of them answered, and which of them is not asked. */
static void add_answers(struct json *causes, const struct lease *l)
{
    const struct rented *r = lease_rented(l);
    const struct hunt *h = rented_hunt(r);
    const char *unit = account_ops(rented_account(r))->unit;
    char text_of[HUNT_NAME_MAX];

    for (unsigned i = 0; i < h->n; i++) {
        const struct hunt_candidate *c = &h->all[i];
        const char *name = name_candidate(l, c, text_of);
        _cleanup_free_ char *text = NULL;

        if (c->out == HUNT_DEAR)
            text = show_left_out(name, c->price_milli, unit);
        else if (c->tries)
            text = xasprintf("%s: %s", name, c->why);
        if (text)
            show_add_cause(causes, "answered", c->out == HUNT_DEAR ? 0 : c->tries, 0, text);
    }
}

/* Who is asked next, and when; until_at_ms 0: just now. */
static void add_next_try(struct json *causes, const struct lease *l)
{
    const struct rented *r = lease_rented(l);
    const struct hunt_candidate *c = hunt_current(rented_hunt(r));
    struct rented_figures n;
    char name[HUNT_NAME_MAX];

    rented_figures(r, &n);
    if (c && (n.state == LIFE_WAITING || n.state == LIFE_CREATING || n.state == LIFE_STARTING))
        show_add_cause_until(causes, "next_try", 1, 0, n.next_at_ms, name_candidate(l, c, name));
}

static void add_search_end(struct json *causes, int64_t until_at_ms, const char *target)
{
    if (until_at_ms)
        show_add_cause_until(causes, "search_ends", 1, 0, until_at_ms, target);
}

/* target: whose down ends it. */
static void add_search(struct json *causes, const struct lease *l, const char *target)
{
    const struct rental_record *r = rented_record(lease_rented(l));
    char text[SEARCH_TEXT_MAX];

    show_add_cause(causes, "searched", 1, r->wanted_at_ms, search_describe(text, l));
    add_answers(causes, l);
    add_next_try(causes, l);
    add_search_end(causes, r->search_until_at_ms, target);
}

/* No machine is on, and none is known to be on its way. */
static bool is_looked_for(const struct lease *l)
{
    const struct rented *r = lease_rented(l);

    return r && (streq(show_rental_state(l), life_state_name(LIFE_WAITING)) ||
                 (life_state(rented_life(r)) == LIFE_CREATING && rented_record(r)->never_made));
}

/* "search", "stops", "off"; or "awake", which is also one that is on its way there, or not known to be off. */
static const char *rental_verdict(const struct lease *l)
{
    if (is_looked_for(l))
        return "search";
    if (rental_is_doubted(l))
        return "off";
    switch (life_state(rented_life(lease_rented(l)))) {
    case LIFE_ABSENT:
    case LIFE_STOPPED:
    case LIFE_RELEASING:
    case LIFE_RELEASED: return "off";
    case LIFE_STOPPING: return "stops";
    case LIFE_WAITING:
    case LIFE_CREATING:
    case LIFE_STARTING:
    case LIFE_RUNNING: break;
    case LIFE_UNKNOWN:
        return rental_was_stopped(l) || streq(show_rental_state(l), life_state_name(LIFE_ABSENT)) ? "off" : "awake";
    }
    return "awake";
}

static void add_stays(struct manager *m, const struct lease *l, struct json *causes, const char *stays,
                      int64_t since_at_ms, int64_t until_at_ms)
{
    char quiet[QUIET_TEXT_MAX] = "";

    if (streq(stays, "quiet_use"))
        manager_quiet_text(m, l, quiet);
    show_add_cause_until(causes, stays, 1, since_at_ms, until_at_ms, *quiet ? quiet : NULL);
}

/* The search has said it already, as what one of them answered. */
static bool is_answer(const struct lease *l, const struct fault *f)
{
    const struct hunt *h = rented_hunt(lease_rented(l));

    if (streq(f->code, "no_capacity") || streq(f->code, "host_full"))
        return true;
    for (unsigned i = 0; i < h->n; i++)
        if (h->all[i].tries && strncmp(h->all[i].why, f->text, strlen(h->all[i].why)) == 0)
            return true;
    return false;
}

/* What keeps it on, or why it is off; what is wrong with it stands beside. */
static void why_rented(struct manager *m, struct lease *l, struct json *lines)
{
    const char *verdict = rental_verdict(l);
    struct json *causes = json_array();
    struct rented_figures n;
    int64_t until_at_ms = 0, since_at_ms;
    const char *stays = manager_stay(m, l, &until_at_ms);
    char doubt[DOUBT_TEXT_MAX];
    struct fault f;

    rented_figures(lease_rented(l), &n);
    if (n.state == LIFE_STOPPED && rented_record(lease_rented(l))->stopped_at_ms)
        n.since_at_ms = rented_record(lease_rented(l))->stopped_at_ms; /* whichever daemon saw it */
    if (manager_is_misnamed(l) && !streq(verdict, "search"))
        show_add_cause(causes, "misnamed", 1, 0, rented_record(lease_rented(l))->gpu);
    if (n.state == LIFE_RUNNING && is_cut_off(l))
        add_tunnel(causes, l);
    if (rental_is_coming(l) && !streq(verdict, "search") && !rental_is_doubted(l))
        show_add_cause(causes, "switching_on", 1, n.asked_at_ms, NULL);
    else if (stays)
        add_stays(m, l, causes, stays, n.since_at_ms, until_at_ms);
    if (streq(verdict, "search"))
        add_search(causes, l, lease_name(l));
    if (n.state == LIFE_STOPPING && !streq(rented_trouble(lease_rented(l))->code, "stop_not_confirmed"))
        show_add_cause(causes, "stopping", 1, n.stop_asked_at_ms,
                       n.guard_told ? "its guard was told to stop it"
                       : *n.word    ? n.word
                                    : NULL);
    if (*doubt_format(doubt, l, &until_at_ms))
        show_add_cause_until(causes, "doubted", 1, 0, until_at_ms, doubt);
    if (rented_was_never_made(lease_rented(l)))
        show_add_cause(causes, "never_made", 1, 0, NULL);
    else if (streq(verdict, "off") && !rental_is_doubted(l))
        show_add_cause(causes, rental_was_stopped(l) ? "was_off" : "machine_off", 1,
                       rental_was_stopped(l) ? rented_record(lease_rented(l))->stopped_at_ms : n.since_at_ms,
                       *n.word ? n.word : NULL);
    for (unsigned i = 0; rental_trouble(l, i, &f, &since_at_ms); i++)
        if (!streq(verdict, "search") || !is_answer(l, &f))
            show_add_cause(causes, "failure", 1, since_at_ms, f.text);
    add_line(lines, lease_name(l), NULL, verdict, causes);
}

/* What is known of it without a provider. */
static void why_boxed(struct manager *m, struct lease *l, struct json *lines)
{
    const struct boxed *b = lease_boxed(l);
    bool cut_off = is_cut_off(l), off = boxed_state(b) == BOXED_OFF;
    struct json *causes = json_array();
    struct boxed_figures n;
    int64_t until_at_ms = 0;
    const char *stays = manager_stay(m, l, &until_at_ms);
    struct fault f;

    boxed_figures(b, &n);
    if (cut_off && !off)
        add_tunnel(causes, l);
    if (stays)
        add_stays(m, l, causes, stays, n.since_at_ms, until_at_ms);
    if (boxed_state(b) == BOXED_STOPPING)
        show_add_cause(causes, "stopping", 1, n.stop_asked_at_ms, NULL);
    if (off)
        show_add_cause(causes, "gone_off", 1, n.since_at_ms,
                       n.told ? "its guard was told to switch it off"
                              : "its guard was to switch it off by then");
    if (lease_needs_hand(l, &f))
        show_add_cause(causes, "failure", 1, 0, f.text);
    if (boxed_trouble(b)->kind)
        show_add_cause(causes, "failure", 1, 0, boxed_trouble(b)->text);
    add_line(lines, lease_name(l), NULL, off                                ? "off"
                                          : boxed_state(b) == BOXED_STOPPING ? "stops"
                                          : cut_off                          ? "down"
                                                                             : "awake",
             causes);
}

static const char *model_verdict(const struct deployment *d, bool cut_off)
{
    switch (show_model_state(d)) {
    case DEPLOYMENT_OFF: return "off";
    case DEPLOYMENT_ASLEEP: return "asleep";
    case DEPLOYMENT_FAILED: return "failed";
    case DEPLOYMENT_CONNECTING:
    case DEPLOYMENT_INSTALLING:
    case DEPLOYMENT_PLACING:
    case DEPLOYMENT_STARTING:
    case DEPLOYMENT_FETCHING:
    case DEPLOYMENT_LOADING:
    case DEPLOYMENT_READY:
    case DEPLOYMENT_DRAINING:
    case DEPLOYMENT_STOPPING: break;
    }
    return cut_off ? "down" : "awake";
}

/* By somebody's word; or by a limit, or somebody else's button, which has its own. */
static void add_off(struct json *causes, const struct deployment *d, int64_t since_at_ms)
{
    struct fault why;

    deployment_describe_off(d, &why);
    if (streq(why.code, "stopped_by_user"))
        show_add_cause(causes, "stopped_by_user", 1, since_at_ms, NULL);
    else
        show_add_cause(causes, "failure", 1, since_at_ms, why.text);
}

/* What came so far of one of those that are tried one after the other. */
static void add_place(struct json *causes, struct lease *l)
{
    const struct session *s = lease_session(l);
    struct session_figures n;

    if (lease_rented(l)) {
        add_answers(causes, l);
        return;
    }
    if (!s || !session_fault(s)->kind)
        return;
    session_figures(s, &n);
    _cleanup_free_ char *text = xasprintf("%s: %s", lease_name(l), session_fault(s)->text);

    show_add_cause(causes, "answered", n.tries, 0, text);
}

/* Of all those that it is tried on, in one line. */
static void why_searched(struct manager *m, const struct deployment *d, struct json *lines)
{
    const char *model = deployment_name(d), *next = NULL;
    struct json *causes = json_array();
    char text[SEARCH_TEXT_MAX];
    unsigned n_places = 0;
    struct choice_place p;

    for (unsigned i = 0; manager_choice_place(m, model, i, &p); i++)
        n_places += p.instance != NULL;
    show_add_cause(causes, "searched", 1, manager_choice_began(m, d),
                   n_places == 1 && lease_rented(deployment_lease(d))
                       ? search_describe(text, deployment_lease(d))
                       : NULL); /* of several each has its own cards */
    for (unsigned i = 0; manager_choice_place(m, model, i, &p); i++) {
        if (p.instance && manager_find_lease(m, p.instance))
            add_place(causes, manager_find_lease(m, p.instance));
        if (p.is_next)
            next = p.instance ? p.instance : "another machine";
    }
    if (next)
        show_add_cause(causes, "next_turn", 1, 0, next);
    else if (lease_rented(deployment_lease(d)))
        add_next_try(causes, deployment_lease(d));
    else
        show_add_cause(causes, "next_try", 1, 0, lease_name(deployment_lease(d)));
    add_search_end(causes, manager_choice_until(m, model), model);
    add_line(lines, model, NULL, "search", causes);
}

/* It is looked for: said of the one whose turn it is. True: nothing else is to be said of d. */
static bool why_search(struct manager *m, const struct deployment *d, struct json *lines)
{
    const struct lease *l = deployment_lease(d);
    struct choice_place p;

    if (manager_chooses_on(m, d) && !lease_is_reachable(l)) {
        for (unsigned i = 0; manager_choice_place(m, deployment_name(d), i, &p); i++)
            if (p.has_turn && p.instance && streq(p.instance, lease_name(l)))
                why_searched(m, d, lines);
        return true;
    }
    if (deployment_state(d) != DEPLOYMENT_CONNECTING || !is_looked_for(l))
        return false;
    struct json *causes = json_array();

    add_search(causes, l, deployment_name(d));
    add_line(lines, deployment_name(d), manager_has_other(m, d) ? lease_name(l) : NULL, "search", causes);
    return true;
}

static void why_model(struct manager *m, const struct deployment *d, struct json *lines)
{
    if (why_search(m, d, lines))
        return;

    enum deployment_state s = show_model_state(d);
    const char *verdict = model_verdict(d, is_cut_off(deployment_lease(d)));
    struct json *causes = show_causes(d);
    struct deployment_figures n;

    deployment_figures(d, &n);
    if (streq(verdict, "down"))
        add_tunnel(causes, deployment_lease(d));
    if (s == DEPLOYMENT_DRAINING || s == DEPLOYMENT_STOPPING)
        show_add_cause(causes, "draining", n.open, n.since_at_ms, NULL);
    if (s == DEPLOYMENT_ASLEEP)
        show_add_cause(causes, "unloaded", 1, n.since_at_ms, deployment_room_text(d));
    if (deployment_goal(d) == GOAL_OFF && s != DEPLOYMENT_FAILED)
        add_off(causes, d, s == DEPLOYMENT_OFF ? n.since_at_ms : 0);
    struct json *restarts = show_restarts(d);

    if (restarts)
        json_append(causes, restarts);
    if (deployment_fault(d)->kind)
        show_add_cause(causes, "failure", 1, n.since_at_ms, deployment_fault(d)->text);
    add_line(lines, deployment_name(d), manager_has_other(m, d) ? lease_name(deployment_lease(d)) : NULL,
             verdict, causes);
}

static struct json *not_counted(const struct gateway *g)
{
    struct json *list = json_array();
    const char *what;
    uint64_t count;

    for (unsigned i = 0; (what = gateway_look_at(g, i, &count)); i++)
        if (count)
            show_add_cause(list, what, (int64_t)count, 0, NULL);
    return list;
}

void method_why(struct call *c)
{
    const struct json *targets = json_get(c->parameters, "targets");
    struct manager *m = c->context->manager;
    struct deployment *d;
    struct lease *l;

    if (!target_check(c, targets))
        return;
    struct json *v = json_object(), *lines = json_array();

    for (unsigned i = 0; (l = manager_lease_at(m, i)); i++) {
        if (target_has_instance(targets, l) && lease_rented(l))
            why_rented(m, l, lines);
        else if (target_has_instance(targets, l) && lease_boxed(l))
            why_boxed(m, l, lines);
        else if (target_has_instance(targets, l))
            why_instance(l, lines);
        for (unsigned k = 0; (d = manager_deployment_at(m, k)); k++)
            if (deployment_lease(d) == l && target_has_model(targets, d))
                why_model(m, d, lines);
    }
    json_put(v, "lines", lines);
    json_put(v, "not_counted", not_counted(c->context->gateway));
    call_reply(c, v);
}
