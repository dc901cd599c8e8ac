/* The loop itself is libuv's. Our own handles are unref'd, so that libuv's idea of "alive" is that of our
 * users: an armed timer, a wanted descriptor, queued work, a handle that closes, a request of the thread
 * pool. */
#include "base/loop.h"

#include "base/loop_private.h"

static void check(int r, const char *what)
{
    if (r < 0) {
        fprintf(stderr, "%s: %s\n", what, uv_strerror(r));
        abort();
    }
}

struct loop *loop_new(void)
{
    struct loop *l = xnew(struct loop);

    check(uv_loop_init(&l->uv), "event loop");
    list_init(&l->orphans);
    runq_open(l);
    timers_open(l);
    clock_open(l);
    return l;
}

static bool is_own(const struct loop *l, const uv_handle_t *h)
{
    const void *p = h;

    return p == &l->prepare || p == &l->busy || p == &l->timers.poll || p == &l->set_poll;
}

static void refuse_left_behind(uv_handle_t *h, void *ctx)
{
    const struct loop *l = ctx;

    if (uv_is_closing(h) || is_own(l, h))
        return;
    fprintf(stderr, "loop_free: a %s handle was left behind\n", uv_handle_type_name(h->type));
    abort();
}

static void close_own(uv_handle_t *h, void *ctx)
{
    const struct loop *l = ctx;

    if (is_own(l, h) && !uv_is_closing(h))
        uv_close(h, NULL);
}

/* What others queued for the end (deferred frees, closes) still happens; what can only end by itself is not
 * waited for but for children, which are killed, and look-ups in the thread pool, which cannot be. */
struct loop *loop_free(struct loop *l)
{
    if (!l)
        return NULL;
    children_hurry(l);
    do {
        runq_drain(l);
        uv_run(&l->uv, list_is_empty(&l->orphans) ? UV_RUN_NOWAIT : UV_RUN_ONCE);
    } while (!list_is_empty(&l->orphans) || !list_is_empty(&l->works));
    uv_walk(&l->uv, refuse_left_behind, l);
    if (l->timers.alive > 0 || !list_is_empty(&l->clock_watches)) {
        fprintf(stderr, "loop_free: %u timers and %s clock watch were left behind\n", l->timers.alive,
                list_is_empty(&l->clock_watches) ? "no" : "a");
        abort();
    }
    uv_walk(&l->uv, close_own, l);
    uv_run(&l->uv, UV_RUN_DEFAULT);
    timers_done(l);
    clock_done(l);
    check(uv_loop_close(&l->uv), "loop_free");
    free(l);
    return NULL;
}

void loop_run(struct loop *l)
{
    uv_run(&l->uv, UV_RUN_DEFAULT);
}

/* Work that is queued already is what this turn is for: it must not wait for more after it. */
bool loop_turn(struct loop *l, bool wait)
{
    return uv_run(&l->uv, wait && list_is_empty(&l->works) ? UV_RUN_ONCE : UV_RUN_NOWAIT) != 0;
}

void loop_stop(struct loop *l)
{
    uv_stop(&l->uv);
}

uv_loop_t *loop_uv(struct loop *l)
{
    return &l->uv;
}
