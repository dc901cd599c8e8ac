/* Name to connected socket. All addresses are tried: the next one after 250 ms or as soon as one failed; the
 * first that connects wins. The attempt's watch goes on as the connection's, since libuv watches a descriptor
 * once. */
#include <errno.h>
#include <netinet/tcp.h>

#include "base/timer.h"
#include "base/watch.h"
#include "proto/ssh_proxy.h"
#include "ssh/conn_private.h"

/* A machine that was away and is back answers a new SYN at once; the kernel's own pause has grown to many
 * seconds by then. Two repetitions fit. */
#define ANSWER_MS            5000
#define KEEPALIVE_IDLE_S     15
#define KEEPALIVE_INTERVAL_S 5
#define KEEPALIVE_PROBES     3
#define USER_TIMEOUT_MS      20000

static void connect_next(struct ssh_conn *c);

static void set_option(int fd, int level, int option, int value)
{
    (void)setsockopt(fd, level, option, &value, sizeof(value));
}

/* TCP_NODELAY before the handshake saves a delayed ACK (41 ms). The kernel's keepalive is a net under the
 * ping. A shorter TCP_USER_TIMEOUT cuts connections that only lose packets. */
static void set_options(int fd)
{
    set_option(fd, IPPROTO_TCP, TCP_NODELAY, 1);
    set_option(fd, SOL_SOCKET, SO_KEEPALIVE, 1);
    set_option(fd, IPPROTO_TCP, TCP_KEEPIDLE, KEEPALIVE_IDLE_S);
    set_option(fd, IPPROTO_TCP, TCP_KEEPINTVL, KEEPALIVE_INTERVAL_S);
    set_option(fd, IPPROTO_TCP, TCP_KEEPCNT, KEEPALIVE_PROBES);
    set_option(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, USER_TIMEOUT_MS);
}

static void attempt_failed(struct ssh_conn *c, int error)
{
    struct connecting *n = &c->connecting;

    if (n->n_failed++ == 0)
        n->error = error;
    if (n->n_begun < n->found.n)
        connect_next(c);
    else if (n->n_failed == n->n_begun)
        conn_fail(c, FAULT_TRANSIENT, "unreachable", "cannot connect to %s port %u: %s", c->host, c->port,
                  strerror(-n->error));
}

static void attempt_end(struct attempt *a)
{
    if (a->watch)
        a->watch = watch_free(a->watch, true);
}

static void attempt_won(struct attempt *a)
{
    struct ssh_conn *c = a->conn;
    struct watch *w = TAKE_PTR(a->watch);

    address_format(a->address, c->peer, sizeof(c->peer));
    connect_end(c);
    conn_connected(c, a->fd, w);
}

static void attempt_on_ready(void *ctx, unsigned events)
{
    struct attempt *a = ctx;
    struct ssh_conn *c = a->conn;
    int error = 0;
    socklen_t n = sizeof(error);

    if (!a->watch) {
        conn_on_ready(c, events);
        return;
    }
    if (getsockopt(a->fd, SOL_SOCKET, SO_ERROR, &error, &n) < 0)
        error = errno;
    if (error == 0) {
        attempt_won(a);
        return;
    }
    attempt_end(a);
    attempt_failed(c, -error);
}

static int attempt_begin(struct attempt *a, struct ssh_conn *c, const union address *address)
{
    socklen_t n = address->any.sa_family == AF_INET6 ? sizeof(address->v6) : sizeof(address->v4);
    int fd = socket(address->any.sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0), r;

    if (fd < 0)
        return -errno;
    set_options(fd);
    if (connect(fd, &address->any, n) < 0 && errno != EINPROGRESS) {
        r = -errno;
        close(fd);
        return r;
    }
    *a = (struct attempt){.conn = c, .fd = fd, .address = address};
    a->watch = watch_new(c->loop, fd, attempt_on_ready, a);
    watch_want(a->watch, WATCH_OUT);
    return 0;
}

static void connect_next(struct ssh_conn *c)
{
    struct connecting *n = &c->connecting;
    unsigned i = n->n_begun++;
    int r = attempt_begin(&n->attempts[i], c, &n->found.at[i]);

    timer_arm(n->next, n->n_begun < n->found.n ? CONN_NEXT_ADDRESS_MS : ANSWER_MS);
    if (r < 0)
        attempt_failed(c, r);
}

static void connect_on_timer(void *ctx)
{
    struct ssh_conn *c = ctx;

    if (c->connecting.n_begun < c->connecting.found.n)
        connect_next(c);
    else
        conn_fail(c, FAULT_TRANSIENT, "unreachable", "no answer from %s port %u", c->host, c->port);
}

static void connect_on_resolved(void *ctx, const struct addresses *found, const struct fault *f)
{
    struct ssh_conn *c = ctx;

    if (f) {
        conn_fail(c, FAULT_TRANSIENT, "unreachable", "%s", f->text);
        return;
    }
    c->connecting.found = *found;
    connect_next(c);
}

static void connect_on_turn(void *ctx)
{
    struct ssh_conn *c = ctx;

    timer_arm(c->deadline, CONN_LOGIN_MS);
    if (c->way) {
        proxy_begin(c);
        return;
    }
    c->connecting.next = timer_new(c->loop, connect_on_timer, c);
    resolve(c->resolver, c->host, c->port, &c->connecting.resolving, connect_on_resolved, c);
}

/* The first sshd on the way is the one whose places are scarce: of a jump, the first host. What a command
 * connects to is not known. */
static void connect_wait_for_turn(struct ssh_conn *c)
{
    const char *jump =
        c->way && streq(ssh_proxy_option(c->way), "ProxyJump") ? ssh_proxy_value(c->way) : NULL;
    _cleanup_free_ char *first = jump ? strndup(jump, strcspn(jump, ",")) : NULL;

    c->turn = turn_new(c->turns, first ? first : c->host, first ? 0 : c->port, connect_on_turn, c);
}

void connect_begin(struct ssh_conn *c)
{
    if (c->turns)
        connect_wait_for_turn(c);
    else
        connect_on_turn(c);
}

void connect_end(struct ssh_conn *c)
{
    struct connecting *n = &c->connecting;

    op_cancel(&n->resolving);
    n->next = timer_free(n->next);
    for (unsigned i = 0; i < ELEMENTS(n->attempts); i++)
        attempt_end(&n->attempts[i]);
}
