/* What `up` tells on the way: each thing once, when it changed, of each instance that the model is wanted on.
 * What was told is kept in follow_told; where several may be told of, a reply says of which it is. */
#include "control/up_tell.h"

#include "base/clock.h"
#include "base/fault.h"
#include "control/follow.h"
#include "control/show.h"
#include "control/up_rent.h"
#include "gateway/gateway.h"
#include "lease/hunt.h"
#include "lease/lease.h"
#include "lease/rented.h"
#include "manager.h"
#include "proto/json.h"
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
    if (w->second)
        json_append_string(list, w->second);
    if (w->note)
        json_append_string(list, w->note);
    if (json_count(list))
        json_put(v, "notes", list);
    else
        json_free(list);
    free(TAKE_PTR(w->changed));
    free(TAKE_PTR(w->second));
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

bool up_tell(struct follow *w, unsigned i)
{
    if (!up_tell_changed(w, i) || !up_tell_refused(w, i) || !up_tell_left(w, i))
        return false;
    return up_was_left(w, i) || (up_tell_restart(w, i) && up_tell_room(w, i) && up_tell_stages(w, i));
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
