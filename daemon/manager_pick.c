/* Which one of several of a name a request is sent to, or waits for: the one that is likely to answer
 * soonest, then one that has not just failed a request, then the one with the fewest. */
#include <string.h>

#include "lease/lease.h"
#include "manager_private.h"
#include "proto/text.h"

/* How soon it would answer, from never on. */
enum rank { RANK_OFF, RANK_FAILED, RANK_AWAY, RANK_FAR, RANK_ASLEEP, RANK_COMING, RANK_READY };

/* For the first time it may have to be installed and downloaded, which can take an hour; others only load. */
static enum rank rank_of_coming(const struct deployment_figures *n)
{
    return n->usual_ms ? RANK_COMING : RANK_FAR;
}

static enum rank rank_of(const struct deployment *d, const struct deployment_figures *n)
{
    if (deployment_goal(d) == GOAL_OFF)
        return RANK_OFF;
    if (deployment_state(d) == DEPLOYMENT_FAILED || lease_refusal(deployment_lease(d)))
        return RANK_FAILED;
    if (!deployment_is_reachable(d))
        return RANK_AWAY;
    switch (deployment_state(d)) {
    case DEPLOYMENT_READY: return RANK_READY;
    case DEPLOYMENT_ASLEEP: return n->held ? RANK_COMING : RANK_ASLEEP; /* it is woken for those already */
    case DEPLOYMENT_OFF:                                                /* wanted, and about to begin */
    case DEPLOYMENT_CONNECTING:
    case DEPLOYMENT_INSTALLING:
    case DEPLOYMENT_PLACING:
    case DEPLOYMENT_STARTING:
    case DEPLOYMENT_FETCHING:
    case DEPLOYMENT_LOADING: return rank_of_coming(n);
    case DEPLOYMENT_DRAINING:
    case DEPLOYMENT_STOPPING: return RANK_FAR;
    case DEPLOYMENT_FAILED: break;
    }
    return RANK_FAILED;
}

struct choice {
    struct deployment *deployment;
    enum rank rank;
    bool is_shunned;
    unsigned load;
};

static struct choice choice_of(struct deployment *d)
{
    struct deployment_figures n;

    deployment_figures(d, &n);
    return (struct choice){d, rank_of(d, &n), deployment_is_shunned(d), n.open + n.held};
}

/* Reason enough for a request to leave the second for the first; that it is less busy is none. */
static bool is_sooner(const struct choice *a, const struct choice *b)
{
    return a->rank > b->rank || (a->rank == b->rank && !a->is_shunned && b->is_shunned);
}

static bool is_better(const struct choice *a, const struct choice *b)
{
    return is_sooner(a, b) || (!is_sooner(b, a) && a->load < b->load);
}

static void consider(struct choice *best, struct deployment *d)
{
    struct choice c = choice_of(d);

    if (!best->deployment || is_better(&c, best))
        *best = c;
}

struct deployment *manager_find_deployment(struct manager *m, const char *name)
{
    struct choice best = {};

    LIST_FOREACH (d, &m->deployments, struct managed_deployment, node)
        if (streq(deployment_name(d->deployment), name))
            consider(&best, d->deployment);
    return best.deployment;
}

/* As ollama has it: a name without a tag means that one. */
bool id_matches(const char *id, const char *asked)
{
    size_t n = strlen(id), m = strlen(asked), same = MIN(n, m);

    if (strncmp(id, asked, same) != 0)
        return false;
    return n == m || streq(n > m ? id + m : asked + n, ":latest");
}

struct deployment *manager_find_id(struct manager *m, const char *id)
{
    const char *real = manager_real_name(m, id);
    struct choice best = {.deployment = manager_find_deployment(m, real)};

    if (best.deployment || real != id)
        return best.deployment;
    LIST_FOREACH (d, &m->deployments, struct managed_deployment, node)
        if (id_matches(deployment_id(d->deployment), id) || id_matches(deployment_name(d->deployment), id))
            consider(&best, d->deployment);
    return best.deployment;
}

static bool is_other(const struct deployment *d, const struct deployment *than)
{
    return d != than && streq(deployment_name(d), deployment_name(than));
}

bool manager_has_other(struct manager *m, const struct deployment *than)
{
    LIST_FOREACH (d, &m->deployments, struct managed_deployment, node)
        if (is_other(d->deployment, than))
            return true;
    return false;
}

struct deployment *manager_find_sooner(struct manager *m, struct deployment *than)
{
    struct choice best = {}, now;

    LIST_FOREACH (d, &m->deployments, struct managed_deployment, node)
        if (is_other(d->deployment, than))
            consider(&best, d->deployment);
    if (!best.deployment)
        return NULL;
    now = choice_of(than);
    return is_sooner(&best, &now) ? best.deployment : NULL;
}
