/* A model that is wanted on one of several instances, whichever comes first (`up --on A --or B,C`). It is
 * wanted on one of them at a time, so that at most one call that costs money is under way, whoever the
 * provider is; where no card was free in a whole round of the search, or the way there failed, it is the next
 * one's turn. Who has had his turn is off again. When one is within reach it stays there.
 *
 * Only whose turn it is, is on disk, as a goal: after a restart that one is looked for alone. */
#include "manager_private.h"

#include <string.h>

#include "base/clock.h"
#include "base/event.h"
#include "base/timer.h"
#include "lease/hunt.h"
#include "lease/lease.h"
#include "lease/rented.h"
#include "proto/text.h"
#include "session/session.h"

#define TURN_MS    2000u                     /* between two turns */
#define EARLY_MS   1000                      /* before the last one of a round would try again by itself */
#define TRIES      2u                        /* of a login, on a machine that is simply there */
#define PLACES_MAX (MANAGER_CHOICES_MAX + 1) /* and one that is made */

struct choice {
    struct list node;
    struct manager *manager;
    char *model;
    /* In the order of their turns; one that is NULL is made when it is its turn. */
    char *instances[PLACES_MAX];
    struct manager_rent rent; /* like this */
    unsigned n, at;           /* whose turn it is */
    unsigned n_failed;        /* in a row, up to now */
    int64_t until_at_ms;      /* 0: as long as each would be looked for */
    struct timer *timer;      /* runs while somebody's turn is over, and the next one's has not come */
};

static struct choice *choice_free(struct choice *c)
{
    list_remove(&c->node);
    timer_free(c->timer);
    for (unsigned i = 0; i < c->n; i++)
        free(c->instances[i]);
    free((char *)c->rent.provider);
    free((char *)c->rent.gpu);
    free((char *)c->rent.image);
    free((char *)c->rent.region);
    free(c->model);
    free(c);
    return NULL;
}

static struct choice *find_choice(struct manager *m, const char *model)
{
    LIST_FOREACH (c, &m->choices, struct choice, node)
        if (streq(c->model, model))
            return c;
    return NULL;
}

/* ---- whose turn it is ---- */

/* A call that costs money was refused by all that could be asked: nothing is under way. */
static bool found_none(const struct rented *r)
{
    return life_state(rented_life(r)) == LIFE_WAITING && rented_hunt(r)->rounds > 0;
}

static bool is_out_of_reach(struct lease *l)
{
    struct session_figures n = {0};

    if (lease_rented(l) || !lease_session(l))
        return false;
    session_figures(lease_session(l), &n);
    return session_state(lease_session(l)) == SESSION_REFUSED || n.tries >= TRIES;
}

static bool has_had_its_turn(const struct deployment *d)
{
    struct lease *l = deployment_lease(d);

    return deployment_state(d) == DEPLOYMENT_FAILED ||
           (deployment_state(d) == DEPLOYMENT_CONNECTING &&
            (lease_rented(l) ? found_none(lease_rented(l)) : is_out_of_reach(l)));
}

/* All of them failed, or the time is over: the last one says why. */
static bool is_over(const struct choice *c)
{
    return c->n_failed >= c->n || (c->until_at_ms && clock_wall_ms() >= c->until_at_ms);
}

static uint64_t wait_ms(const struct choice *c, const struct deployment *d)
{
    const struct rented *r = lease_rented(deployment_lease(d));
    int64_t next_ms = r ? life_next_at_ms(rented_life(r)) - clock_wall_ms() - EARLY_MS : 0;

    return c->at + 1 == c->n && next_ms > TURN_MS ? (uint64_t)next_ms : TURN_MS;
}

static void choice_look(struct choice *c)
{
    struct deployment *d = manager_find_on(c->manager, c->model, c->instances[c->at]);
    bool failed = d && deployment_state(d) == DEPLOYMENT_FAILED;

    if (!d || deployment_goal(d) == GOAL_OFF || lease_is_reachable(deployment_lease(d)) ||
        (failed && c->n_failed + 1 >= c->n)) {
        choice_free(c); /* by somebody's word, or because it came; or nobody is left */
        return;
    }
    if (!has_had_its_turn(d))
        timer_disarm(c->timer);
    else if (!timer_is_armed(c->timer))
        timer_arm(c->timer, wait_ms(c, d));
}

/* NULL: it cannot be had. */
static struct deployment *find_or_rent(struct choice *c)
{
    struct deployment *d = NULL;
    struct lease *l = NULL;
    struct fault f = {0};
    uint64_t ticket;

    if (c->instances[c->at])
        return manager_find_on(c->manager, c->model, c->instances[c->at]);
    if (manager_rent(c->manager, &c->rent, false, &l, &ticket, &f) < 0 ||
        manager_place(c->manager, c->model, lease_name(l), NULL, &d, &f) < 0) {
        event_publish(LOG_LEVEL_WARNING, LOG_DAEMON, c->model, "hunt", "no other machine can be rented: %s",
                      f.text);
        return NULL;
    }
    c->instances[c->at] = xstrdup(lease_name(l));
    return d;
}

/* Both goals are one transaction: what is queued in one turn of the loop (store.h). */
static void on_turn(void *ctx)
{
    struct choice *c = ctx;
    struct manager *m = c->manager;
    struct deployment *d = manager_find_on(m, c->model, c->instances[c->at]), *next;

    if (!d || !has_had_its_turn(d))
        return;
    c->n_failed = deployment_state(d) == DEPLOYMENT_FAILED ? c->n_failed + 1 : 0;
    c->at = (c->at + 1) % c->n;
    next = is_over(c) ? NULL : find_or_rent(c);
    if (!next || is_over(c)) {
        choice_free(c);
        return;
    }
    event_publish(LOG_LEVEL_NOTICE, LOG_DAEMON, c->model, "hunt", "nothing came of %s: now %s",
                  lease_name(deployment_lease(d)), lease_name(deployment_lease(next)));
    deployment_want(d, GOAL_OFF, true);
    if (c->until_at_ms && lease_rented(deployment_lease(next)))
        rented_look_until(lease_rented(deployment_lease(next)), c->until_at_ms);
    deployment_want(next, GOAL_ON_DEMAND, false);
}

/* ---- the manager's ---- */

void choices_changed(struct manager *m)
{
    LIST_FOREACH_SAFE (c, &m->choices, struct choice, node)
        choice_look(c);
}

void choices_drop(struct manager *m)
{
    LIST_FOREACH_SAFE (c, &m->choices, struct choice, node)
        choice_free(c);
}

bool manager_chooses(struct manager *m, const char *model)
{
    return find_choice(m, model) != NULL;
}

static void take_rent(struct choice *c, const struct manager_rent *w)
{
    c->rent = *w;
    c->rent.provider = xstrdup(w->provider);
    c->rent.gpu = xstrdup(w->gpu);
    c->rent.image = xstrdup(w->image);
    c->rent.region = xstrdup(w->region);
    c->rent.model = c->model;
    c->rent.name = NULL;
    c->rent.anew = true;
}

void manager_choose(struct manager *m, const char *model, const char *const *instances, unsigned n,
                    const struct manager_rent *rent, int64_t until_at_ms)
{
    struct choice *c = find_choice(m, model);

    if (c)
        choice_free(c);
    c = xnew(struct choice);
    c->manager = m;
    c->model = xstrdup(model);
    c->until_at_ms = until_at_ms;
    for (unsigned i = 0; i < MIN(n, MANAGER_CHOICES_MAX); i++) {
        c->instances[c->n++] = xstrdup(instances[i]);
        if (i == 0 && rent)
            c->n++;
    }
    if (rent)
        take_rent(c, rent);
    c->timer = timer_new(m->context.loop, on_turn, c);
    list_init(&c->node);
    list_append(&m->choices, &c->node);
}
