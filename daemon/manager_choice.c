/* A model that is wanted on one of several instances, whichever comes first (`up --on A --or B,C`), and on a
 * machine that is made when the one that was meant has no card, or proves too dear (`up --gpu A,B`). It is
 * wanted on one of them at a time, so that at most one call that costs money is under way, whoever the
 * provider is; where no card was free in a whole round of the search, or the way there failed, it is the next
 * one's turn. Who has had his turn is off again, and the next one's begins when that is confirmed. Who failed
 * has no other turn, nor has who was taken away by a word. When one is within reach it stays there.
 *
 * All of it is on disk, in one transaction with the goals: a daemon that is started anew goes on with those
 * that are left, in their order. */
#include "manager_power.h"

#include <string.h>

#include "base/clock.h"
#include "base/event.h"
#include "base/log.h"
#include "base/timer.h"
#include "lease/hunt.h"
#include "lease/lease.h"
#include "lease/rented.h"
#include "proto/buf.h"
#include "proto/text.h"
#include "session/session.h"

#define TURN_MS    2000u                     /* between two turns */
#define EARLY_MS   1000                      /* before the last one of a round would try again by itself */
#define TRIES      2u                        /* of a login, on a machine that is simply there */
#define PLACES_MAX (MANAGER_CHOICES_MAX + 2) /* and one that is made, and one more */
#define TO_BE_MADE "+"                       /* on disk: no name of an instance */

struct choice {
    struct list node;
    struct manager *manager;
    char *model;
    /* In the order of their turns; one that is NULL is made when it is its turn. */
    char *places[PLACES_MAX];
    unsigned n, at;           /* whose turn it is, */
    bool has_begun;           /* and it is wanted; else the one before is waited for */
    struct manager_rent rent; /* like this, the texts are ours; gpu NULL: none is made */
    int64_t begun_at_ms, until_at_ms;
    int64_t begun_due;   /* as clock_past_due() */
    struct timer *timer; /* runs while somebody's turn is over, and the next one's has not come */
};

static struct choice *choice_free(struct choice *c)
{
    list_remove(&c->node);
    timer_free(c->timer);
    for (unsigned i = 0; i < c->n; i++)
        free(c->places[i]);
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

/* ---- on disk ---- */

static void choice_write(const struct choice *c)
{
    struct buf places;

    buf_init(&places, 4096);
    for (unsigned i = 0; i < c->n; i++)
        buf_addf(&places, "%s%s", i ? "," : "", c->places[i] ? c->places[i] : TO_BE_MADE);
    store_put_choice(c->manager->context.store, &(struct choice_record){
                                                    .model = c->model,
                                                    .places = (char *)buf_text(&places),
                                                    .turn = c->at,
                                                    .until_at_ms = c->until_at_ms,
                                                    .begun_at_ms = c->begun_at_ms,
                                                    .provider = (char *)c->rent.provider,
                                                    .gpu = (char *)c->rent.gpu,
                                                    .image = (char *)c->rent.image,
                                                    .region = (char *)c->rent.region,
                                                    .disk_gb = c->rent.disk_gb,
                                                    .max_price_milli = c->rent.max_price_milli,
                                                    .over_budget = c->rent.over_budget,
                                                });
    buf_done(&places);
}

/* ---- its places ---- */

static struct deployment *deployment_at(const struct choice *c, unsigned i)
{
    return c->places[i] ? manager_find_on(c->manager, c->model, c->places[i]) : NULL;
}

/* Who follows it hears of that: nothing else may change from then on. */
static void choice_end(struct choice *c)
{
    for (unsigned i = 0; i < c->n; i++)
        if (deployment_at(c, i))
            manager_tell_lease(c->manager, deployment_lease(deployment_at(c, i)), false);
    runq_add(c->manager->context.loop, &c->manager->forget); /* those that nothing came of */
    store_remove_choice(c->manager->context.store, c->model);
    choice_free(c);
}

/* Its place; c->n: it has none. */
static unsigned place_of(const struct choice *c, const struct deployment *d)
{
    unsigned i = 0;

    while (i < c->n && deployment_at(c, i) != d)
        i++;
    return i;
}

static void add_place(struct choice *c, unsigned i, const char *name)
{
    memmove(&c->places[i + 1], &c->places[i], (c->n - i) * sizeof c->places[0]);
    c->places[i] = name ? xstrdup(name) : NULL;
    c->at += i < c->n && i <= c->at;
    c->n++;
}

/* The one behind it takes its place. */
static void remove_place(struct choice *c, unsigned i)
{
    free(c->places[i]);
    c->n--;
    memmove(&c->places[i], &c->places[i + 1], (c->n - i) * sizeof c->places[0]);
    if (i == c->at)
        c->has_begun = false;
    c->at -= i < c->at;
    c->at = c->at < c->n ? c->at : 0;
}

/* With the one that would be made in its stead. */
static void take_away(struct choice *c, unsigned i)
{
    if (i + 1 < c->n && !c->places[i + 1])
        remove_place(c, i + 1);
    remove_place(c, i);
}

static bool has_failed(const struct deployment *d)
{
    return deployment_state(d) == DEPLOYMENT_FAILED;
}

/* One that was not made yet asks for the same cards; and what it failed of, but for its price and its boots,
 * another one would fail of as well. */
static bool may_be_made_after(const struct deployment *d)
{
    const struct rented *r = lease_rented(deployment_lease(d));

    if (!r || !*life_record(rented_life(r))->id)
        return !r;
    return !has_failed(d) || streq(deployment_fault(d)->code, "price") ||
           streq(deployment_fault(d)->code, "boot_failed");
}

static bool may_have_turn(const struct choice *c, unsigned i)
{
    const struct deployment *before = i && !c->places[i] ? deployment_at(c, i - 1) : NULL;

    return !before || may_be_made_after(before);
}

/* c->n: nobody's. */
static unsigned next_turn(const struct choice *c)
{
    for (unsigned k = 1; k < c->n; k++)
        if (may_have_turn(c, (c->at + k) % c->n))
            return (c->at + k) % c->n;
    return c->n;
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

    return has_failed(d) || (deployment_state(d) == DEPLOYMENT_CONNECTING &&
                             (lease_rented(l) ? found_none(lease_rented(l)) : is_out_of_reach(l)));
}

/* Within reach; and its price was read, which may be too high. */
static bool has_come(const struct deployment *d)
{
    const struct rented *r = lease_rented(deployment_lease(d));
    struct rented_figures n = {0};

    if (!lease_is_reachable(deployment_lease(d)))
        return false;
    if (r)
        rented_figures(r, &n);
    return !r || n.rate_milli || deployment_state(d) == DEPLOYMENT_READY;
}

static bool is_late(const struct choice *c)
{
    return clock_wall_ms() >= c->until_at_ms;
}

/* From the end of one turn to the next: of the last one of a round, until just before it would try again by
 * itself. */
static uint64_t wait_ms(const struct choice *c, const struct deployment *d)
{
    const struct rented *r = lease_rented(deployment_lease(d));
    int64_t next_ms = r ? life_next_at_ms(rented_life(r)) - clock_wall_ms() - EARLY_MS : 0;

    return c->at + 1 == c->n && next_ms > TURN_MS ? (uint64_t)next_ms : TURN_MS;
}

/* Those that a word has taken away meanwhile. */
static void choice_note_lost(struct choice *c)
{
    unsigned n = c->n;

    for (unsigned i = c->n; i-- > 0;)
        if (c->places[i] && !deployment_at(c, i))
            take_away(c, i);
    if (c->n && c->n != n)
        choice_write(c);
}

static void choice_look(struct choice *c)
{
    choice_note_lost(c);
    if (!c->n) {
        choice_end(c);
        return;
    }
    if (!c->has_begun) {
        if (!timer_is_armed(c->timer))
            timer_arm(c->timer, TURN_MS);
        return;
    }
    struct deployment *d = deployment_at(c, c->at);
    bool has_next = next_turn(c) < c->n;

    /* By somebody's word, or because it came; or nobody else is left, and what becomes of this one is said by
     * it. */
    if (c->n == 1 || deployment_goal(d) == GOAL_OFF || deployment_state(d) == DEPLOYMENT_ASLEEP ||
        has_come(d) || (has_failed(d) && (!has_next || is_late(c))))
        choice_end(c);
    else if (!has_had_its_turn(d) || !has_next)
        timer_disarm(c->timer);
    else if (!timer_is_armed(c->timer))
        timer_arm(c->timer, wait_ms(c, d));
}

/* NULL: it cannot be had, and is none of them any more. */
static struct deployment *find_or_rent(struct choice *c, unsigned i)
{
    struct deployment *d = NULL;
    struct lease *l = NULL;
    struct fault f = {0};
    uint64_t ticket;

    if (c->places[i])
        return deployment_at(c, i);
    if (manager_rent(c->manager, &c->rent, false, &l, &ticket, &f) < 0 ||
        manager_place(c->manager, c->model, lease_name(l), NULL, &d, &f) < 0) {
        event_publish(LOG_LEVEL_WARNING, LOG_DAEMON, c->model, "hunt", "no other machine can be rented: %s",
                      f.text);
        remove_place(c, i);
        return NULL;
    }
    deployment_pass(d, "it is not its turn", false); /* written down */
    c->places[i] = xstrdup(lease_name(l));
    if (c->n < PLACES_MAX)
        add_place(c, i + 1, NULL);
    return d;
}

/* ---- from one to the next ---- */

/* A model of others, or a word about the machine, keeps it on: it goes off some other time. */
static bool is_kept_by_others(const struct choice *c, const struct lease *l)
{
    const struct power *p = power_find(c->manager, l);

    LIST_FOREACH (d, &c->manager->deployments, struct managed_deployment, node)
        if (deployment_lease(d->deployment) == l && deployment_goal(d->deployment) != GOAL_OFF)
            return true;
    return p && power_is_kept(p);
}

/* Switched on by us, or about to be, and not off yet. */
static bool is_leaving(const struct choice *c, const struct lease *l)
{
    const struct rented *r = lease_rented(l);
    enum life_state s = r ? life_state(rented_life(r)) : LIFE_ABSENT;

    return !life_is_at_rest(s) && s != LIFE_WAITING && life_record(rented_life(r))->ours &&
           !is_kept_by_others(c, l);
}

/* Whoever had his turn, also those that are none of them any more. */
static bool somebody_is_leaving(const struct choice *c, const struct deployment *next)
{
    LIST_FOREACH (d, &c->manager->deployments, struct managed_deployment, node)
        if (d->deployment != next && streq(deployment_name(d->deployment), c->model) &&
            is_leaving(c, deployment_lease(d->deployment)))
            return true;
    return false;
}

static void choice_begin_turn(struct choice *c)
{
    struct deployment *d = deployment_at(c, c->at);

    if (!d || is_late(c)) {
        if (d)
            deployment_pass(d, "no card was free in the time given", true);
        choice_end(c);
        return;
    }
    if (somebody_is_leaving(c, d)) {
        timer_arm(c->timer, TURN_MS);
        return;
    }
    c->has_begun = true;
    /* It is set back: to a daemon after this one whoever is wanted now was wanted after the beginning. */
    c->begun_at_ms = MIN(c->begun_at_ms, clock_wall_ms());
    if (lease_rented(deployment_lease(d)))
        rented_look_until(lease_rented(deployment_lease(d)), c->until_at_ms);
    deployment_want(d, GOAL_ON_DEMAND, false);
}

/* Its money was reserved for that machine, and is given back with it. */
static void tell_keep(const struct choice *c, const struct deployment *d)
{
    struct deployment_figures n;

    deployment_figures(d, &n);
    if (n.keep_until_at_ms)
        event_publish(
            LOG_LEVEL_WARNING, LOG_DAEMON, c->model, "hunt",
            "its keep on %s is over, and what it would cost is reserved no more: say it again when it "
            "is ready",
            lease_name(deployment_lease(d)));
}

static void choice_end_turn(struct choice *c, struct deployment *d)
{
    bool failed = has_failed(d), may_be_made = may_be_made_after(d);
    char why[400];
    struct deployment *next = NULL;
    unsigned at = next_turn(c);

    if (is_late(c)) { /* its own search is over too, and says why */
        choice_end(c);
        return;
    }
    if (at < c->n && !c->places[at] && !is_late(c) && !manager_may_name(c->manager, c->rent.provider)) {
        timer_arm(c->timer, TURN_MS);
        return;
    }
    for (unsigned i; !next && (i = next_turn(c)) < c->n;)
        next = find_or_rent(c, i);
    if (!next) {
        if (failed || c->n == 1)
            choice_end(c);
        return;
    }
    snprintf(why, sizeof why, "nothing came of %s%s%.200s%s: now %s", lease_name(deployment_lease(d)),
             failed ? " (" : "", failed ? deployment_fault(d)->text : "", failed ? ")" : "",
             lease_name(deployment_lease(next)));
    event_publish(LOG_LEVEL_NOTICE, LOG_DAEMON, c->model, "hunt", "%s", why);
    tell_keep(c, d);
    deployment_pass(d, why, true);
    if (failed && may_be_made)
        remove_place(c, c->at);
    else if (failed)
        take_away(c, c->at);
    c->at = place_of(c, next);
    c->has_begun = false;
    choice_begin_turn(c);
}

/* All goals and what is written of it are one transaction: what is queued in one turn of the loop (store.h).
 */
static void on_turn(void *ctx)
{
    struct choice *c = ctx;
    struct manager *m = c->manager;
    _cleanup_free_ char *model = xstrdup(c->model);
    struct deployment *d = c->has_begun ? deployment_at(c, c->at) : NULL;

    if (!c->has_begun)
        choice_begin_turn(c);
    else if (d && has_had_its_turn(d))
        choice_end_turn(c, d);
    c = find_choice(m, model);
    if (c)
        choice_write(c);
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

bool manager_choice_place(struct manager *m, const char *model, unsigned i, struct choice_place *ret)
{
    const struct choice *c = find_choice(m, model);

    if (!c || i >= c->n)
        return false;
    *ret = (struct choice_place){.instance = c->places[i],
                                 .has_turn = i == c->at,
                                 .is_next = c->has_begun && timer_is_armed(c->timer) && i == next_turn(c)};
    return true;
}

int64_t manager_choice_until(struct manager *m, const char *model)
{
    const struct choice *c = find_choice(m, model);

    return c ? c->until_at_ms : 0;
}

bool choices_have(struct manager *m, const struct lease *l)
{
    LIST_FOREACH (c, &m->choices, struct choice, node)
        for (unsigned i = 0; i < c->n; i++)
            if (c->places[i] && streq(c->places[i], lease_name(l)))
                return true;
    return false;
}

bool manager_chooses(struct manager *m, const char *model)
{
    return find_choice(m, model) != NULL;
}

bool manager_chooses_on(struct manager *m, const struct deployment *d)
{
    const struct choice *c = find_choice(m, deployment_name(d));

    return c && place_of(c, d) < c->n;
}

int64_t manager_choice_began(struct manager *m, const struct deployment *d)
{
    const struct choice *c = find_choice(m, deployment_name(d));

    if (!c || place_of(c, d) == c->n)
        return 0;
    return c->begun_at_ms;
}

bool manager_choice_begun(struct manager *m, const struct deployment *d, int64_t *ret_due)
{
    const struct choice *c = find_choice(m, deployment_name(d));

    if (!c || place_of(c, d) == c->n)
        return false;
    *ret_due = c->begun_due;
    return true;
}

void manager_choice_look_until(struct manager *m, const struct deployment *d, int64_t until_at_ms)
{
    struct choice *c = find_choice(m, deployment_name(d));

    if (!c || place_of(c, d) == c->n || c->until_at_ms == until_at_ms)
        return;
    c->until_at_ms = until_at_ms;
    choice_write(c);
}

void manager_choose_without(struct manager *m, const struct deployment *d)
{
    struct choice *c = find_choice(m, deployment_name(d));

    if (!c || place_of(c, d) == c->n)
        return;
    take_away(c, place_of(c, d));
    if (c->n)
        choice_write(c);
    choice_look(c);
}

void manager_choose_alone(struct manager *m, const struct deployment *d)
{
    struct choice *c = find_choice(m, deployment_name(d));

    if (c && place_of(c, d) < c->n)
        choice_end(c);
}

static struct choice *choice_new(struct manager *m, const char *model, int64_t until_at_ms)
{
    struct choice *c = xnew(struct choice);

    c->manager = m;
    c->model = xstrdup(model);
    c->until_at_ms = until_at_ms;
    c->timer = timer_new(m->context.loop, on_turn, c);
    list_init(&c->node);
    list_append(&m->choices, &c->node);
    return c;
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

void choices_restore(void *ctx, const struct choice_record *r)
{
    struct choice *c = choice_new(ctx, r->model, r->until_at_ms);

    c->begun_at_ms = r->begun_at_ms ? r->begun_at_ms : r->until_at_ms - MANAGER_SEARCH_MS; /* of an older version */
    c->begun_due = clock_past_due(c->begun_at_ms, clock_now_ms());
    for (const char *at = r->places; *at && c->n < PLACES_MAX; at += strcspn(at, ","), at += *at == ',') {
        _cleanup_free_ char *name = xasprintf("%.*s", (int)strcspn(at, ","), at);

        add_place(c, c->n, streq(name, TO_BE_MADE) ? NULL : name);
    }
    c->at = r->turn < c->n ? r->turn : 0;
    if (r->gpu)
        take_rent(c, &(struct manager_rent){.provider = r->provider,
                                            .gpu = r->gpu,
                                            .image = r->image,
                                            .region = r->region,
                                            .disk_gb = r->disk_gb,
                                            .max_price_milli = r->max_price_milli,
                                            .over_budget = r->over_budget});
    choice_look(c); /* its turn begins anew, when what is known of the others is no memory any more */
}

/* The machine whose turn it is was perhaps looked for alone until now: it is one search, with one beginning and
 * one end, which a word that names no other leaves as it is. */
static void take_search(struct choice *c, bool names_end)
{
    const struct deployment *d = deployment_at(c, c->at);
    struct rented *r = d ? lease_rented(deployment_lease(d)) : NULL;
    enum life_state s = r ? life_state(rented_life(r)) : LIFE_RUNNING;

    if (s == LIFE_WAITING || s == LIFE_CREATING) {
        const struct rental_record *is = rented_record(r);
        struct rented_figures n;

        rented_figures(r, &n);
        c->begun_due = MIN(c->begun_due, n.wanted_due);
        if (is->wanted_at_ms)
            c->begun_at_ms = MIN(c->begun_at_ms, is->wanted_at_ms);
        if (!names_end && is->search_until_at_ms > clock_wall_ms())
            c->until_at_ms = is->search_until_at_ms;
    }
    if (s != LIFE_RUNNING)
        rented_look_until(r, c->until_at_ms);
}

void manager_choose(struct manager *m, const char *model, const char *const *instances, unsigned n,
                    const struct manager_rent *rent, int64_t until_at_ms)
{
    struct choice *c = find_choice(m, model);

    if (c)
        choice_free(c);
    c = choice_new(m, model, until_at_ms ? until_at_ms : clock_wall_ms() + MANAGER_SEARCH_MS);
    if (rent)
        take_rent(c, rent);
    c->has_begun = true;
    c->begun_at_ms = clock_wall_ms();
    c->begun_due = (int64_t)clock_now_ms();
    for (unsigned i = 0; i < MIN(n, MANAGER_CHOICES_MAX); i++) {
        add_place(c, c->n, instances[i]);
        if (i == 0 && rent)
            add_place(c, c->n, NULL);
        if (i > 0)
            deployment_pass(deployment_at(c, c->n - 1), "it is not its turn", false); /* written down */
    }
    take_search(c, until_at_ms != 0);
    choice_write(c);
}
