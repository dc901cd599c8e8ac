/* A stream over a descriptor: a watch for readiness, and read or write as they are. Nothing is kept in
 * between. */
#include "base/stream.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>

#include "base/watch.h"
#include "proto/mem.h"

struct fd_stream {
    struct stream stream;
    struct watch *watch;
    int fd;
    bool is_socket;
};

static struct fd_stream *of(const struct stream *s)
{
    return CONTAINER_OF(s, struct fd_stream, stream);
}

/* The last thing done with it: ready() may free the stream. */
static void on_ready(void *ctx, unsigned events)
{
    struct fd_stream *f = ctx;
    unsigned what = (events & WATCH_IN ? STREAM_IN : 0) | (events & WATCH_OUT ? STREAM_OUT : 0);

    if (f->stream.ready)
        f->stream.ready(f->stream.ctx, what);
}

static void fd_want(struct stream *s, unsigned events)
{
    watch_want(of(s)->watch, (events & STREAM_IN ? WATCH_IN : 0) | (events & STREAM_OUT ? WATCH_OUT : 0));
}

static ssize_t fd_read(struct stream *s, void *to, size_t n)
{
    struct fd_stream *f = of(s);
    ssize_t got;

    do {
        got = f->is_socket ? recv(f->fd, to, n, MSG_DONTWAIT) : read(f->fd, to, n);
    } while (got < 0 && errno == EINTR);
    return got < 0 ? -errno : got;
}

static ssize_t fd_write(struct stream *s, const void *from, size_t n)
{
    struct fd_stream *f = of(s);
    ssize_t taken;

    do {
        taken = f->is_socket ? send(f->fd, from, n, MSG_DONTWAIT | MSG_NOSIGNAL) : write(f->fd, from, n);
    } while (taken < 0 && errno == EINTR);
    return taken < 0 ? -errno : taken;
}

static int fd_shutdown(struct stream *s)
{
    return shutdown(of(s)->fd, SHUT_WR) < 0 ? -errno : 0;
}

/* Without this a peer reads an orderly end, however little of the answer it has. A Unix socket knows no
 * reset. */
static void arrange_reset(int fd)
{
    struct linger at_once = {.l_onoff = 1, .l_linger = 0};

    setsockopt(fd, SOL_SOCKET, SO_LINGER, &at_once, sizeof(at_once));
}

static void fd_free(struct stream *s, bool reset)
{
    struct fd_stream *f = of(s);

    if (reset && f->is_socket)
        arrange_reset(f->fd);
    watch_free(f->watch, true);
    free(f);
}

static const struct stream_ops fd_ops = {
    .want = fd_want,
    .read = fd_read,
    .write = fd_write,
    .shutdown = fd_shutdown,
    .free = fd_free,
};

struct stream *stream_new_fd(struct loop *l, int fd)
{
    struct fd_stream *f = xnew(struct fd_stream);
    int type, on = 1;

    f->stream.ops = &fd_ops;
    f->fd = fd;
    f->is_socket = getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &(socklen_t){sizeof(type)}) == 0;
    if (f->is_socket)
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on,
                   sizeof(on)); /* fails where it is not TCP, as it should */
    f->watch = watch_new(l, fd, on_ready, f);
    return &f->stream;
}

int stream_fd(const struct stream *s)
{
    return s->ops == &fd_ops ? of(s)->fd : -1;
}

bool stream_peer_left(const struct stream *s)
{
    struct pollfd p = {.fd = stream_fd(s)};

    return p.fd >= 0 && poll(&p, 1, 0) == 1 && (p.revents & (POLLHUP | POLLERR));
}
