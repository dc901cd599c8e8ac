/* Each connection is two pumps, one per direction, over one scratch for all: what is read is written at once,
 * and only what the other side did not take is kept, until it does. While a pump keeps something it does not
 * read: that is the back-pressure, and at most one scratch per direction.
 *
 * While the dial waits, what the client sends is kept (up to the same bound), because reading is how we see
 * it leave. */
#include "session/forward.h"

#include <errno.h>

#include "base/fault.h"
#include "base/list.h"
#include "base/log.h"
#include "base/op.h"

/* A forward that leads back to itself makes connections without end, and none of them ends by itself: with
 * all descriptors taken nobody can be accepted any more, not even who would remove it. The one too many is
 * reset, and takes the others along. */
#define LINKS_MAX 512u
/* For one read of either side; both are asked again while there is more. */
#define SCRATCH_BYTES (64u << 10)

static char scratch[SCRATCH_BYTES];

struct pump {
    struct buf left; /* read and not taken yet */
    bool ended;      /* the source has no more */
    bool shut;       /* and the sink was told */
};

struct forward_link {
    struct list node;
    struct forward *forward;
    struct stream *local, *remote; /* remote NULL: dialling */
    struct op *dial;
    struct pump up, down;
    bool gone;    /* the client closed both ways: nobody is left to read an answer */
    bool waiting; /* something went up, and nothing came down since */
};

struct forward {
    struct loop *loop;
    struct host *host;
    struct listener *listener;
    char *address;
    uint16_t port;
    bool only_us;
    enum host_traffic traffic;
    struct list links;
    unsigned connections;
    uint64_t bytes;
    struct fault fault; /* of the newest dial */
};

static void link_wait(struct forward_link *k, bool waiting)
{
    if (k->waiting == waiting)
        return;
    k->waiting = waiting;
    host_waiting(k->forward->host, waiting ? 1 : -1);
}

/* reset: both sides should see a failure, not a short answer. */
static void link_end(struct forward_link *k, bool reset)
{
    op_cancel(&k->dial);
    link_wait(k, false);
    stream_free(k->local, reset);
    stream_free(k->remote, reset);
    buf_done(&k->up.left);
    buf_done(&k->down.left);
    list_remove(&k->node);
    k->forward->connections--;
    free(k);
}

static unsigned wants(const struct pump *from_it, const struct pump *to_it)
{
    return (!from_it->ended && from_it->left.len == 0 ? STREAM_IN : 0u) |
           (to_it->left.len > 0 || (to_it->ended && !to_it->shut) ? STREAM_OUT : 0u);
}

/* 0, or negative errno when a side is broken. */
static int pump_write(struct pump *p, struct stream *to, const char *data, size_t n)
{
    while (n > 0) {
        ssize_t taken = stream_write(to, data, n);

        if (taken == -EAGAIN)
            return buf_add(&p->left, data, n);
        if (taken < 0)
            return (int)taken;
        data += taken;
        n -= (size_t)taken;
    }
    return 0;
}

static int pump_flush(struct pump *p, struct stream *to)
{
    while (p->left.len > 0) {
        ssize_t taken = stream_write(to, p->left.data, p->left.len);

        if (taken == -EAGAIN)
            return 0;
        if (taken < 0)
            return (int)taken;
        buf_drop(&p->left, (size_t)taken);
    }
    buf_done(&p->left);
    return 0;
}

/* Bytes read, 0 when there are none now or any more, negative errno. */
static ssize_t pump_read(struct forward_link *k, struct pump *p, struct stream *from, size_t most)
{
    ssize_t n = stream_read(from, scratch, most);

    if (n == -EAGAIN)
        return 0;
    if (n == 0)
        p->ended = true;
    else if (n > 0)
        k->forward->bytes += (uint64_t)n;
    return n;
}

static int pump_shut(struct pump *p, struct stream *to)
{
    int r;

    if (!p->ended || p->shut || p->left.len > 0)
        return 0;
    r = stream_shutdown(to);
    p->shut = r == 0;
    return r == -EAGAIN ? 0 : r;
}

/* One piece: a busy connection must not delay another. */
static int link_pump(struct forward_link *k, struct pump *p, struct stream *from, struct stream *to)
{
    int r = pump_flush(p, to);

    if (r >= 0 && p->left.len == 0 && !p->ended) {
        ssize_t n = pump_read(k, p, from, sizeof(scratch));

        if (n > 0)
            link_wait(k, p == &k->up);
        r = n > 0 ? pump_write(p, to, scratch, (size_t)n) : (int)n;
    }
    return r < 0 ? r : pump_shut(p, to);
}

static void link_update(struct forward_link *k)
{
    if (k->up.ended && !k->gone && stream_peer_left(k->local))
        k->gone = true;
    if (k->up.shut && (k->down.shut || k->gone)) {
        link_end(k, false);
        return;
    }
    if (k->down.ended)
        link_wait(k, false);
    stream_want(k->local, wants(&k->up, &k->down));
    stream_want(k->remote, wants(&k->down, &k->up));
}

static void link_go_on(struct forward_link *k, bool up, bool down)
{
    int r = 0;

    if (up)
        r = link_pump(k, &k->up, k->local, k->remote);
    if (down && r >= 0)
        r = link_pump(k, &k->down, k->remote, k->local);
    if (r < 0)
        link_end(k, true);
    else
        link_update(k);
}

static void link_on_remote(void *ctx, unsigned what)
{
    link_go_on(ctx, what & STREAM_OUT, what & STREAM_IN);
}

/* Nothing said and gone, or gone altogether: the dial is not needed any more. One that has said something and
 * shut its side may still want the answer. */
static void link_on_held(struct forward_link *k)
{
    ssize_t n = pump_read(k, &k->up, k->local, SCRATCH_BYTES - k->up.left.len);
    bool left = n < 0 || (k->up.ended && (k->up.left.len == 0 || stream_peer_left(k->local)));

    if (n > 0)
        left = buf_add(&k->up.left, scratch, (size_t)n) < 0;
    if (left)
        link_end(k, true);
    else if (k->up.ended || k->up.left.len == SCRATCH_BYTES)
        stream_want(k->local, 0);
}

static void link_on_local(void *ctx, unsigned what)
{
    struct forward_link *k = ctx;

    if (k->remote)
        link_go_on(k, what & STREAM_IN, what & STREAM_OUT);
    else
        link_on_held(k);
}

static void link_on_dialled(void *ctx, struct stream *s, const struct fault *f)
{
    struct forward_link *k = ctx;

    k->forward->fault = f ? *f : (struct fault){0};
    if (f) {
        log_debug(NULL, "forward to %s:%u: %s", k->forward->address, k->forward->port, f->text);
        link_end(k, true);
        return;
    }
    k->remote = s;
    stream_watch(s, link_on_remote, k);
    if (k->up.left.len > 0)
        link_wait(k, true);
    link_go_on(k, true, false);
}

/* A Unix socket for this very process: the mode keeps other users out, this keeps out other programs of the
 * same user. */
static bool is_ours(const struct stream *s)
{
    struct ucred peer;
    socklen_t n = sizeof(peer);

    return getsockopt(stream_fd(s), SOL_SOCKET, SO_PEERCRED, &peer, &n) == 0 && peer.pid == getpid();
}

static void forward_on_stream(void *ctx, struct stream *s)
{
    struct forward *f = ctx;

    if (f->only_us ? !is_ours(s) : f->connections >= LINKS_MAX) {
        stream_free(s, true);
        return;
    }
    struct forward_link *k = xnew(struct forward_link);

    k->forward = f;
    k->local = s;
    buf_init(&k->up.left, SCRATCH_BYTES);
    buf_init(&k->down.left, SCRATCH_BYTES);
    list_init(&k->node);
    list_append(&f->links, &k->node);
    f->connections++;
    stream_watch(s, link_on_local, k);
    stream_want(s, STREAM_IN);
    host_dial(f->host, f->address, f->port, f->traffic, &k->dial, link_on_dialled, k);
}

static struct forward *forward_new(struct loop *l, struct host *h, const char *address, uint16_t port)
{
    struct forward *f = xnew(struct forward);

    f->loop = l;
    f->host = h;
    f->address = xstrdup(address);
    f->port = port;
    list_init(&f->links);
    return f;
}

int forward_new_tcp(struct loop *l, struct host *h, const char *ip, uint16_t listen_port, const char *address,
                    uint16_t port, struct forward **ret)
{
    struct forward *f = forward_new(l, h, address, port);
    int r = listener_new_tcp(l, ip, listen_port, forward_on_stream, f, &f->listener);

    f->traffic = HOST_BULK;
    if (r < 0) {
        forward_free(f);
        return r;
    }
    *ret = f;
    return 0;
}

int forward_new_unix(struct loop *l, struct host *h, const char *path, const char *address, uint16_t port,
                     struct forward **ret)
{
    struct forward *f = forward_new(l, h, address, port);
    int r = listener_new_unix(l, path, 0600, forward_on_stream, f, &f->listener);

    f->traffic = HOST_STREAM;
    f->only_us = true;
    if (r < 0) {
        forward_free(f);
        return r;
    }
    *ret = f;
    return 0;
}

struct forward *forward_free(struct forward *f)
{
    if (!f)
        return NULL;
    listener_free(f->listener);
    LIST_FOREACH_SAFE (k, &f->links, struct forward_link, node)
        link_end(k, true);
    free(f->address);
    free(f);
    return NULL;
}

uint16_t forward_port(const struct forward *f)
{
    return listener_port(f->listener);
}

unsigned forward_connections(const struct forward *f)
{
    return f->connections;
}

uint64_t forward_bytes(const struct forward *f)
{
    return f->bytes;
}

const struct fault *forward_fault(const struct forward *f)
{
    return f->fault.kind ? &f->fault : NULL;
}
