/* Two lists: who waits, in the order of asking, and who has a place. Whatever changes makes somebody look,
 * once a turn of the loop; a timer looks when the mere passing of time makes room. A place that is left stays
 * taken for a moment, without its owner. */
#include "ssh/turn.h"

#include <stdlib.h>
#include <strings.h>

#include "base/clock.h"
#include "base/list.h"
#include "base/runq.h"
#include "base/timer.h"

struct turns {
    struct loop *loop;
    struct list waiting, taken;
    struct timer *timer;
    struct work look;
};

struct turn {
    struct turns *all; /* NULL: freed */
    struct list node;
    char *host;
    uint16_t port;
    bool hurries, has_begun, has_left;
    uint64_t due; /* taken: it counts less from then on, or, once left, not at all */
    void (*begin)(void *ctx);
    void *ctx;
};

static void turn_destroy(struct turn *t)
{
    list_remove(&t->node);
    free(t->host);
    free(t);
}

static void turns_forget_those_who_left(struct turns *all, uint64_t now)
{
    LIST_FOREACH_SAFE (t, &all->taken, struct turn, node)
        if (t->has_left && now >= t->due)
            turn_destroy(t);
}

static bool turn_has_room(const struct turn *t, uint64_t now)
{
    unsigned at_port = 0, at_host = 0;

    LIST_FOREACH (other, &t->all->taken, struct turn, node) {
        if (strcasecmp(other->host, t->host) != 0)
            continue;
        at_port += other->port == t->port;
        at_host += now < other->due;
    }
    return at_port < TURNS_MAX && at_host < TURNS_MAX;
}

static struct turn *turns_next(const struct turns *all, uint64_t now)
{
    struct turn *first = NULL;

    LIST_FOREACH (t, &all->waiting, struct turn, node)
        if ((!first || t->hurries) && turn_has_room(t, now)) {
            if (t->hurries)
                return t;
            first = t;
        }
    return first;
}

static void turns_plan(struct turns *all, uint64_t now)
{
    uint64_t due = UINT64_MAX;

    LIST_FOREACH (t, &all->taken, struct turn, node)
        if (t->due > now)
            due = MIN(due, t->due);
    if (list_is_empty(&all->waiting) || due == UINT64_MAX)
        timer_disarm(all->timer);
    else
        timer_arm_at(all->timer, due);
}

/* Whoever begins may end at once, and others with it. */
static void turns_look(void *ctx)
{
    struct turns *all = ctx;
    uint64_t now = clock_now_ms();
    struct turn *t;

    turns_forget_those_who_left(all, now);
    while ((t = turns_next(all, now))) {
        list_remove(&t->node);
        list_append(&all->taken, &t->node);
        t->has_begun = true;
        t->due = now + TURN_SLOW_MS;
        t->begin(t->ctx);
    }
    turns_plan(all, now);
}

struct turns *turns_new(struct loop *l)
{
    struct turns *all = xnew(struct turns);

    all->loop = l;
    list_init(&all->waiting);
    list_init(&all->taken);
    all->timer = timer_new(l, turns_look, all);
    work_init(&all->look, turns_look, all);
    return all;
}

static void turns_abandon(struct list *from)
{
    LIST_FOREACH_SAFE (t, from, struct turn, node) {
        list_remove(&t->node);
        t->all = NULL;
    }
}

struct turns *turns_free(struct turns *all)
{
    if (!all)
        return NULL;
    turns_forget_those_who_left(all, UINT64_MAX);
    turns_abandon(&all->taken);
    turns_abandon(&all->waiting);
    timer_free(all->timer);
    runq_drop(&all->look);
    free(all);
    return NULL;
}

struct turn *turn_new(struct turns *all, const char *host, uint16_t port, void (*begin)(void *ctx), void *ctx)
{
    struct turn *t = xnew(struct turn);

    t->all = all;
    t->host = xstrdup(host);
    t->port = port;
    t->begin = begin;
    t->ctx = ctx;
    list_init(&t->node);
    list_append(&all->waiting, &t->node);
    runq_add(all->loop, &all->look);
    return t;
}

void turn_hurry(struct turn *t, bool hurries)
{
    t->hurries = hurries;
}

bool turn_has_begun(const struct turn *t)
{
    return t->has_begun;
}

struct turn *turn_free(struct turn *t)
{
    if (!t)
        return NULL;
    if (!t->has_begun || !t->all) {
        turn_destroy(t);
        return NULL;
    }
    t->has_left = true;
    t->due = clock_now_ms() + TURN_LEAVE_MS;
    turns_plan(t->all, clock_now_ms());
    return NULL;
}
