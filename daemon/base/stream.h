/* A two-way stream of bytes that behaves like a non-blocking socket. Behind it is a file descriptor here, or a channel of an SSH
 * connection (ssh/channel.h): who moves bytes need not know which.
 *
 * Nothing is buffered in between, so not reading is back-pressure all the way. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>
#include <sys/types.h>

struct loop;
struct stream;

enum stream_events { STREAM_IN = 1, STREAM_OUT = 2 };

/* what: those of the wanted events that are ready now. Comes again each turn of the loop as long as it is so. */
typedef void (*stream_ready_fn)(void *ctx, unsigned what);

struct stream_ops {
    void (*want)(struct stream *s, unsigned events);
    ssize_t (*read)(struct stream *s, void *to, size_t n);
    ssize_t (*write)(struct stream *s, const void *from, size_t n);
    int (*shutdown)(struct stream *s);
    void (*free)(struct stream *s, bool reset);
    bool (*is_silent)(const struct stream *s);      /* NULL: never */
};

/* Embedded by each kind. */
struct stream {
    const struct stream_ops *ops;
    stream_ready_fn ready;
    void *ctx;
};

/* Who is told, and of what. May be called from ready(). */
static inline void stream_watch(struct stream *s, stream_ready_fn ready, void *ctx)
{
    s->ready = ready;
    s->ctx = ctx;
}
static inline void stream_want(struct stream *s, unsigned events)
{
    s->ops->want(s, events);
}

/* Bytes read, 0 at the peer's end, -EAGAIN, or another negative errno when the stream is broken. */
static inline ssize_t stream_read(struct stream *s, void *to, size_t n)
{
    return s->ops->read(s, to, n);
}
/* Bytes taken (1 to n), -EAGAIN, or another negative errno. */
static inline ssize_t stream_write(struct stream *s, const void *from, size_t n)
{
    return s->ops->write(s, from, n);
}
/* Its way is under suspicion just now: it may go on, or turn out to be dead. Begin nothing new on it. */
static inline bool stream_is_silent(const struct stream *s)
{
    return s->ops->is_silent && s->ops->is_silent(s);
}
/* No more from us; the peer sees an end after everything taken before. 0, -EAGAIN (try again when STREAM_OUT) or negative errno. */
static inline int stream_shutdown(struct stream *s)
{
    return s->ops->shutdown(s);
}
/* After this returns ready() will not run. reset: the peer should see a failure, not a short answer (where that can be said). */
static inline struct stream *stream_free(struct stream *s, bool reset)
{
    if (s)
        s->ops->free(s, reset);
    return NULL;
}

/* Takes a connected, non-blocking descriptor. TCP_NODELAY is set where it is TCP. */
struct stream *stream_new_fd(struct loop *l, int fd);
/* The descriptor behind a stream_new_fd(), -1 for another kind: for SO_PEERCRED and addresses. */
int stream_fd(const struct stream *s);
/* The peer has closed both ways, or broken off: nobody is left to read an answer. Tells one who said all from one who left where the
 * kernel can: on a Unix socket at once, for TCP (both are a FIN) not before the reset that answers our next byte. */
bool stream_peer_left(const struct stream *s);

/* A connection to a local TCP port or Unix socket, or to an address as resolved; an op. */
struct op;
struct fault;
struct sockaddr;
typedef void (*stream_connect_fn)(void *ctx, struct stream *s, const struct fault *f);      /* takes s; NULL with a fault */
void stream_connect(struct loop *l, const struct sockaddr *address, socklen_t n, uint64_t timeout_ms, struct op **slot,
                    stream_connect_fn done, void *ctx);

/* A listener. */
struct listener;
/* on_stream takes each new stream. ip: numeric; port 0 lets the kernel choose. -EADDRINUSE, -EACCES, … */
int listener_new_tcp(struct loop *l, const char *ip, uint16_t port, void (*on_stream)(void *ctx, struct stream *s), void *ctx,
                     struct listener **ret);
/* 0: this host has the address, so that somebody can listen there; else why not, -EADDRNOTAVAIL mostly. Listens at nothing. */
int listener_try_ip(const char *ip);
/* mode: permissions of the socket file. A stale socket file that nobody listens on is replaced; a living one is -EADDRINUSE. */
int listener_new_unix(struct loop *l, const char *path, unsigned mode, void (*on_stream)(void *ctx, struct stream *s), void *ctx,
                      struct listener **ret);
/* Takes a descriptor that listens already (socket activation), when 0 is returned. -EINVAL: it does not listen. Whoever passed it
 * may go on listening when we no longer do. */
int listener_new_fd(struct loop *l, int fd, void (*on_stream)(void *ctx, struct stream *s), void *ctx, struct listener **ret);
uint16_t listener_port(const struct listener *l);      /* 0: not TCP */
/* While paused connections wait in the backlog. Accepting pauses by itself for a moment when descriptors run out. */
void listener_pause(struct listener *l, bool paused);
/* Closes, and removes the file of a Unix socket. */
struct listener *listener_free(struct listener *l);
/* The same for one of TCP that nobody else has: its address can be had again at once, not only when the loop lets go of it. */
struct listener *listener_give_up(struct listener *l);
