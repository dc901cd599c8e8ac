/* Who makes room for a model that is to be loaded on the same machine. What is asked of whom is judged by
 * policy/room.h; here the facts are gathered, and the sentence that tells of it. */
#include "base/clock.h"
#include "engine/engine.h"
#include "lease/lease.h"
#include "manager_private.h"
#include "policy/room.h"
#include "proto/text.h"

#define HOLDERS_MAX 64

struct holders {
    struct room_holder facts[HOLDERS_MAX];
    struct deployment *of[HOLDERS_MAX];
    unsigned n;
    int64_t reserved_bytes; /* of what is free: by those that are just being loaded */
};

/* A server of its own loads from its start on, unless it may have to download first. */
static bool is_loading(const struct deployment *d)
{
    enum deployment_state s = deployment_state(d);
    bool has_begun = s == DEPLOYMENT_STARTING || s == DEPLOYMENT_FETCHING;

    return s == DEPLOYMENT_LOADING ||
           (has_begun && !deployment_engine(d)->shared && deployment_facts(d)->load_bytes > 0);
}

/* looked_at_ms: when the machine was asked what is free. */
static void add_holder(struct holders *h, struct deployment *d, int64_t looked_at_ms)
{
    const struct engine_facts *f = deployment_facts(d);
    enum deployment_state s = deployment_state(d);
    struct deployment_figures n;
    struct room_holder *facts = &h->facts[h->n];
    bool is_new;

    if (h->n == HOLDERS_MAX ||
        !(is_loading(d) || s == DEPLOYMENT_READY || s == DEPLOYMENT_DRAINING || s == DEPLOYMENT_STOPPING))
        return;
    deployment_figures(d, &n);
    is_new = is_loading(d) || (s == DEPLOYMENT_READY && n.since_at_ms >= looked_at_ms);
    *facts = (struct room_holder){.how = is_new || s != DEPLOYMENT_READY                  ? ROOM_CHANGING
                                         : n.open + n.held > 0 || n.keep_until_at_ms ? ROOM_BUSY
                                                                                          : ROOM_IDLE,
                                  .used_at_ms = MAX(n.last_used_at_ms, n.since_at_ms),
                                  .bytes = f->size_bytes};
    if (is_new) /* what is free does not show it yet, or not all of it */
        h->reserved_bytes += room_missing(f->load_bytes, 0, 0);
    h->of[h->n++] = d;
}

static void find_holders(struct manager *m, const struct deployment *asking, struct holders *ret)
{
    *ret = (struct holders){};
    LIST_FOREACH (d, &m->deployments, struct managed_deployment, node)
        if (d->deployment != asking && deployment_lease(d->deployment) == deployment_lease(asking))
            add_holder(ret, d->deployment, deployment_looked_at_ms(asking));
}

bool manager_has_neighbours(void *ctx, const struct deployment *asking)
{
    struct holders h;

    find_holders(ctx, asking, &h);
    return h.n > 0;
}

static void tell_unload(const struct deployment *victim, char ret[static DEPLOYMENT_TEXT_MAX])
{
    struct deployment_figures n;
    char idle[TEXT_SHORT_MAX];

    deployment_figures(victim, &n);
    duration_format(idle, (uint64_t)MAX(clock_wall_ms() - MAX(n.last_used_at_ms, n.since_at_ms), 0), false);
    snprintf(ret, DEPLOYMENT_TEXT_MAX, "unloads %.90s, idle for %s, to make room", deployment_name(victim),
             idle);
}

/* Who holds the memory, and what to do about it. */
static void tell_wait(const struct deployment *holder, const struct engine_facts *f,
                      char ret[static DEPLOYMENT_TEXT_MAX])
{
    const char *name = deployment_name(holder);
    struct deployment_figures n;
    char free_text[TEXT_SHORT_MAX] = "?";
    int len;

    deployment_figures(holder, &n);
    if (f->free_bytes >= 0)
        bytes_format(free_text, (uint64_t)f->free_bytes);
    if (deployment_state(holder) != DEPLOYMENT_READY)
        len = snprintf(ret, DEPLOYMENT_TEXT_MAX, "no room (%s free): waits for %.90s, %s", free_text, name,
                       deployment_state_name(deployment_state(holder)));
    else if (n.keep_until_at_ms)
        len = snprintf(ret, DEPLOYMENT_TEXT_MAX,
                       "no room (%s free): %.60s is kept; or: llmhostctl keep %.60s --off", free_text, name,
                       name);
    else
        len = snprintf(ret, DEPLOYMENT_TEXT_MAX,
                       "no room (%s free): waits for the %u request%s of %.60s; or: llmhostctl down %.60s",
                       free_text, n.open + n.held, n.open + n.held == 1 ? "" : "s", name, name);
    if (len >= DEPLOYMENT_TEXT_MAX)
        snprintf(ret, DEPLOYMENT_TEXT_MAX, "no room (%s free): waits for %.100s", free_text, name);
}

bool manager_find_room(void *ctx, struct deployment *asking, bool *crowded,
                       char ret_text[static DEPLOYMENT_TEXT_MAX])
{
    const struct engine_facts *f = deployment_facts(asking);
    char why[DEPLOYMENT_TEXT_MAX];
    struct holders h;
    int64_t missing;
    unsigned which;

    find_holders(ctx, asking, &h);
    missing = room_missing(f->load_bytes, f->free_bytes, h.reserved_bytes);
    if (*crowded)
        missing = MAX(missing, 1);
    switch (room_judge(missing, h.facts, h.n, &which)) {
    case ROOM_ENOUGH: return true;
    case ROOM_WAIT:
        if (deployment_state(h.of[which]) != DEPLOYMENT_READY && deployment_room_text(asking))
            snprintf(ret_text, DEPLOYMENT_TEXT_MAX, "%s", deployment_room_text(asking));
        else
            tell_wait(h.of[which], f, ret_text);
        return false;
    case ROOM_UNLOAD: break;
    }
    *crowded = false;
    tell_unload(h.of[which], ret_text);
    snprintf(why, sizeof why, "made room for %.120s", deployment_name(asking));
    deployment_sleep(h.of[which], false, why);
    return false;
}
