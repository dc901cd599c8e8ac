/* Queued work runs from a prepare handle, the last thing libuv does before it polls. libuv runs prepare
 * handles in the reverse order of their start (src/unix/loop-watcher.c, 1.44 to 1.51), so ours, started
 * first, comes after those of others and also sees what they queued. An idle handle is active while work is
 * queued: a loop with work is alive, and its poll never waits. */
#include "base/runq.h"

#include "base/loop_private.h"

static void on_busy(uv_idle_t *idle)
{
    (void)idle;
}

static void on_prepare(uv_prepare_t *prepare)
{
    struct loop *l = CONTAINER_OF(prepare, struct loop, prepare);

    clock_look(l);
    runq_drain(l);
    timers_before_poll(l);
}

void runq_open(struct loop *l)
{
    list_init(&l->works);
    uv_prepare_init(&l->uv, &l->prepare);
    uv_idle_init(&l->uv, &l->busy);
    uv_prepare_start(&l->prepare, on_prepare);
    uv_unref((uv_handle_t *)&l->prepare);
}

void runq_drain(struct loop *l)
{
    struct work *w;

    while ((w = LIST_FIRST(&l->works, struct work, node))) {
        list_remove(&w->node);
        w->fn(w->ctx); /* may free w */
    }
    uv_idle_stop(&l->busy);
}

void work_init(struct work *w, void (*fn)(void *ctx), void *ctx)
{
    list_init(&w->node);
    w->fn = fn;
    w->ctx = ctx;
}

void runq_add(struct loop *l, struct work *w)
{
    if (!list_is_empty(&w->node))
        return;
    list_append(&l->works, &w->node);
    uv_idle_start(&l->busy, on_busy);
}

void runq_drop(struct work *w)
{
    list_remove(&w->node);
}
