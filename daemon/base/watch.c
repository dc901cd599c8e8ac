/* uv_poll, which knows two things we do not pass on: that it stops itself when epoll reports an error alone
 * (we tell the owner and start it again while events are still wanted), and that it refuses what epoll
 * refuses. A regular file is such a thing; it is always ready, so an idle handle stands in. */
#include "base/watch.h"

#include "base/loop_private.h"

struct watch {
    union {
        uv_handle_t any;
        uv_poll_t poll;
        uv_idle_t idle;
    } uv;
    bool always_ready;
    bool close_fd;
    unsigned wanted;
    int fd;
    void (*ready)(void *ctx, unsigned events);
    void *ctx;
};

static void watch_start(struct watch *w);

/* The owner may free the watch meanwhile; its memory stays until on_closed(). */
static void tell(struct watch *w, unsigned events)
{
    events &= w->wanted;
    if (events)
        w->ready(w->ctx, events);
}

static void on_poll(uv_poll_t *poll, int status, int events)
{
    struct watch *w = CONTAINER_OF(poll, struct watch, uv.poll);
    unsigned what = 0;

    if (status < 0) {
        tell(w, WATCH_IN | WATCH_OUT);
        if (!uv_is_closing(&w->uv.any))
            watch_start(w);
        return;
    }
    if (events & UV_READABLE)
        what |= WATCH_IN;
    if (events & UV_WRITABLE)
        what |= WATCH_OUT;
    tell(w, what);
}

static void on_idle(uv_idle_t *idle)
{
    tell(CONTAINER_OF(idle, struct watch, uv.idle), WATCH_IN | WATCH_OUT);
}

static void watch_start(struct watch *w)
{
    int events = (w->wanted & WATCH_IN ? UV_READABLE : 0) | (w->wanted & WATCH_OUT ? UV_WRITABLE : 0);

    if (w->always_ready)
        events ? uv_idle_start(&w->uv.idle, on_idle) : uv_idle_stop(&w->uv.idle);
    else
        events ? uv_poll_start(&w->uv.poll, events, on_poll) : uv_poll_stop(&w->uv.poll);
}

struct watch *watch_new(struct loop *l, int fd, void (*ready)(void *ctx, unsigned events), void *ctx)
{
    struct watch *w = xnew(struct watch);

    w->fd = fd;
    w->ready = ready;
    w->ctx = ctx;
    if (uv_poll_init(&l->uv, &w->uv.poll, fd) < 0) {
        w->always_ready = true;
        uv_idle_init(&l->uv, &w->uv.idle);
    }
    return w;
}

void watch_want(struct watch *w, unsigned events)
{
    events &= WATCH_IN | WATCH_OUT;
    if (events == w->wanted)
        return;
    w->wanted = events;
    watch_start(w);
}

static void on_closed(uv_handle_t *h)
{
    struct watch *w = CONTAINER_OF(h, struct watch, uv.any);

    if (w->close_fd)
        close(w->fd);
    free(w);
}

struct watch *watch_free(struct watch *w, bool close_fd)
{
    if (w) {
        w->close_fd = close_fd;
        w->wanted = 0;
        uv_close(&w->uv.any, on_closed);
    }
    return NULL;
}
