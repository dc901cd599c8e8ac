#include <arpa/inet.h>
#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/un.h>

#include "base/fault.h"
#include "base/op.h"
#include "base/stream.h"
#include "proto/mem.h"
#include "tests/fixture/loop_fixture.h"

struct end {
    struct stream *stream;
    unsigned calls, what;
    ssize_t last;
    size_t sent, got;
};

static void on_ready(void *ctx, unsigned what)
{
    struct end *e = ctx;

    e->calls++;
    e->what = what;
}

static void open_pair(struct loop *l, struct end *a, struct end *b)
{
    int fds[2];

    cr_assert_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds), 0);
    a->stream = stream_new_fd(l, fds[0]);
    b->stream = stream_new_fd(l, fds[1]);
    stream_watch(a->stream, on_ready, a);
    stream_watch(b->stream, on_ready, b);
}

Test(stream, tells_who_left_from_who_said_all)
{
    struct loop *l = loop_new();
    struct end a = {0}, b = {0};
    char byte;

    open_pair(l, &a, &b);
    cr_assert(!stream_peer_left(b.stream));
    cr_assert_eq(stream_shutdown(a.stream), 0);
    cr_assert_eq(stream_read(b.stream, &byte, 1), 0);
    cr_assert(!stream_peer_left(b.stream));
    stream_free(a.stream, false);
    cr_assert(LOOP_UNTIL(l, stream_peer_left(b.stream)));
    stream_free(b.stream, false);
    loop_free_dry(l);
}

Test(stream, reads_what_was_written_and_the_end_behind_it)
{
    struct loop *l = loop_new();
    struct end a = {0}, b = {0};
    char text[16] = "";

    open_pair(l, &a, &b);
    cr_assert_eq(stream_read(b.stream, text, sizeof(text)), -EAGAIN);
    stream_want(b.stream, STREAM_IN);
    loop_turns(l, 2);
    cr_assert_eq(b.calls, 0);
    cr_assert_eq(stream_write(a.stream, "hello", 5), 5);
    cr_assert_eq(stream_shutdown(a.stream), 0);
    cr_assert(LOOP_UNTIL(l, b.calls));
    cr_assert_eq(b.what, STREAM_IN);
    cr_assert_eq(stream_read(b.stream, text, sizeof(text)), 5);
    cr_assert_str_eq(text, "hello");
    cr_assert_eq(stream_read(b.stream, text, sizeof(text)), 0);
    cr_assert_eq(stream_write(b.stream, "still", 5), 5, "the other way is still open");
    cr_assert_eq(stream_read(a.stream, text, sizeof(text)), 5);
    cr_assert_null(stream_free(a.stream, false));
    stream_free(b.stream, false);
    cr_assert_null(stream_free(NULL, true));
    loop_free_dry(l);
}

Test(stream, writing_to_one_who_has_gone_is_an_error_and_no_signal)
{
    struct loop *l = loop_new();
    struct end a = {0}, b = {0};

    open_pair(l, &a, &b);
    stream_free(b.stream, false);
    loop_turns(l, 2);
    cr_assert_eq(stream_write(a.stream, "x", 1), -EPIPE);
    stream_want(a.stream, STREAM_IN | STREAM_OUT);
    cr_assert(LOOP_UNTIL(l, a.calls));
    stream_free(a.stream, true);
    loop_free_dry(l);
}

static void send_some(void *ctx, unsigned what)
{
    struct end *e = ctx;
    char block[8192];
    ssize_t n;

    if (!(what & STREAM_OUT))
        return;
    memset(block, 'a' + (int)(e->sent / sizeof(block) % 26), sizeof(block));
    n = stream_write(e->stream, block, sizeof(block) - e->sent % sizeof(block));
    if (n > 0)
        e->sent += (size_t)n;
    if (e->sent >= 4u << 20) {
        stream_want(e->stream, 0);
        stream_shutdown(e->stream);
    }
}

static void take_some(void *ctx, unsigned what)
{
    struct end *e = ctx;
    char block[65536];
    ssize_t n = what & STREAM_IN ? stream_read(e->stream, block, sizeof(block)) : -EAGAIN;

    for (ssize_t i = 0; i < n; i++)
        cr_assert_eq(block[i], (char)('a' + (e->got + (size_t)i) / 8192 % 26), "byte %zu",
                     e->got + (size_t)i);
    if (n > 0)
        e->got += (size_t)n;
    e->last = n;
}

Test(stream, moves_megabytes_in_order)
{
    struct loop *l = loop_new();
    struct end a = {0}, b = {.last = -1};

    open_pair(l, &a, &b);
    stream_watch(a.stream, send_some, &a);
    stream_watch(b.stream, take_some, &b);
    stream_want(a.stream, STREAM_OUT);
    stream_want(b.stream, STREAM_IN);
    cr_assert(LOOP_UNTIL(l, b.last == 0));
    cr_assert_geq(b.got, 4u << 20);
    cr_assert_eq(b.got, a.sent);
    stream_free(a.stream, false);
    stream_free(b.stream, false);
    loop_free_dry(l);
}

Test(stream, an_unread_stream_is_back_pressure)
{
    struct loop *l = loop_new();
    struct end a = {0}, b = {0};
    char block[65536] = "";
    ssize_t n;

    open_pair(l, &a, &b);
    while ((n = stream_write(a.stream, block, sizeof(block))) > 0)
        cr_assert_lt(a.sent += (size_t)n, 64u << 20);
    cr_assert_eq(n, -EAGAIN);
    stream_want(a.stream, STREAM_OUT);
    loop_turns(l, 5);
    cr_assert_eq(a.calls, 0);
    while (stream_read(b.stream, block, sizeof(block)) > 0)
        ;
    cr_assert(LOOP_UNTIL(l, a.calls));
    stream_free(a.stream, false);
    stream_free(b.stream, false);
    loop_free_dry(l);
}

static void free_when_ready(void *ctx, unsigned what)
{
    struct end *e = ctx;

    on_ready(ctx, what);
    e->stream = stream_free(e->stream, false);
}

Test(stream, may_be_freed_inside_its_own_ready)
{
    struct loop *l = loop_new();
    struct end a = {0}, b = {0};

    open_pair(l, &a, &b);
    stream_watch(a.stream, free_when_ready, &a);
    stream_want(a.stream, STREAM_IN | STREAM_OUT);
    cr_assert_eq(stream_write(b.stream, "x", 1), 1);
    loop_turns(l, 4);
    cr_assert_eq(a.calls, 1);
    stream_free(b.stream, false);
    loop_free_dry(l);
}

static void free_the_other(void *ctx, unsigned what)
{
    struct end *pair = ctx;

    (void)what;
    pair[0].calls++;
    pair[0].stream = stream_free(pair[0].stream, false);
    pair[1].stream = stream_free(pair[1].stream, false);
}

Test(stream, one_freed_by_another_that_is_ready_in_the_same_turn_stays_silent)
{
    struct loop *l = loop_new();
    struct end pair[2] = {0};

    open_pair(l, &pair[0], &pair[1]);
    for (unsigned i = 0; i < 2; i++) {
        stream_watch(pair[i].stream, free_the_other, pair);
        stream_want(pair[i].stream, STREAM_OUT);
    }
    loop_turns(l, 4);
    cr_assert_eq(pair[0].calls, 1);
    loop_free_dry(l);
}

Test(stream, works_over_a_pipe)
{
    struct loop *l = loop_new();
    struct stream *in, *out;
    char text[4] = "";
    int fds[2];

    cr_assert_eq(pipe2(fds, O_NONBLOCK | O_CLOEXEC), 0);
    in = stream_new_fd(l, fds[0]);
    out = stream_new_fd(l, fds[1]);
    cr_assert_eq(stream_write(out, "abc", 3), 3);
    cr_assert_eq(stream_read(in, text, 3), 3);
    cr_assert_str_eq(text, "abc");
    cr_assert_eq(stream_shutdown(out), -ENOTSOCK);
    stream_free(out, true);
    loop_turns(l, 2);
    cr_assert_eq(stream_read(in, text, 3), 0);
    stream_free(in, false);
    loop_free_dry(l);
}

/* Listeners and connections. */
struct server {
    struct loop *loop;
    struct listener *listener;
    struct stream *streams[64];
    unsigned n;
    bool free_at_first;
};

static void on_stream(void *ctx, struct stream *s)
{
    struct server *v = ctx;

    cr_assert_lt(v->n, 64);
    v->streams[v->n++] = s;
    if (v->free_at_first)
        v->listener = listener_free(v->listener);
}

static void open_server(struct server *v)
{
    *v = (struct server){.loop = loop_new()};
    cr_assert_eq(listener_new_tcp(v->loop, "127.0.0.1", 0, on_stream, v, &v->listener), 0);
    cr_assert_gt(listener_port(v->listener), 0);
}

static void close_server(struct server *v)
{
    for (unsigned i = 0; i < v->n; i++)
        stream_free(v->streams[i], false);
    listener_free(v->listener);
    loop_free_dry(v->loop);
}

struct client {
    struct op *op;
    struct stream *stream;
    unsigned calls;
    bool slot_was_clear;
    struct fault fault;
};

static void on_connected(void *ctx, struct stream *s, const struct fault *f)
{
    struct client *c = ctx;

    c->calls++;
    c->slot_was_clear = c->op == NULL;
    c->stream = s;
    cr_assert_neq(s == NULL, f == NULL);
    if (f)
        c->fault = *f;
}

static void connect_ip(struct loop *l, const char *ip, uint16_t port, struct client *c)
{
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons(port)};

    inet_pton(AF_INET, ip, &a.sin_addr);
    stream_connect(l, (struct sockaddr *)&a, sizeof(a), 10000, &c->op, on_connected, c);
    cr_assert_eq(c->calls, 0, "not from inside the call");
    cr_assert_not_null(c->op);
}

static void connect_path(struct loop *l, const char *path, struct client *c)
{
    struct sockaddr_un a = {.sun_family = AF_UNIX};

    strcpy(a.sun_path, path);
    stream_connect(l, (struct sockaddr *)&a, sizeof(a), 10000, &c->op, on_connected, c);
}

Test(stream_connect, answer)
{
    struct server v;
    struct client c = {0};
    char byte;
    int on = 0;

    open_server(&v);
    connect_ip(v.loop, "127.0.0.1", listener_port(v.listener), &c);
    cr_assert(LOOP_UNTIL(v.loop, c.calls && v.n));
    cr_assert(c.slot_was_clear);
    cr_assert_eq(stream_write(c.stream, "x", 1), 1);
    cr_assert(LOOP_UNTIL(v.loop, stream_read(v.streams[0], &byte, 1) == 1));
    getsockopt(stream_fd(v.streams[0]), IPPROTO_TCP, TCP_NODELAY, &on, &(socklen_t){sizeof(on)});
    cr_assert(on);
    on = 0;
    getsockopt(stream_fd(c.stream), IPPROTO_TCP, TCP_NODELAY, &on, &(socklen_t){sizeof(on)});
    cr_assert(on);
    stream_free(c.stream, false);
    close_server(&v);
}

Test(stream_connect, fault)
{
    struct server v;
    struct client c = {0}, no_file = {0}, no_family = {0};
    uint16_t port;

    open_server(&v);
    port = listener_port(v.listener);
    v.listener = listener_free(v.listener);
    loop_turns(v.loop, 2);
    connect_ip(v.loop, "127.0.0.1", port, &c);
    cr_assert(LOOP_UNTIL(v.loop, c.calls));
    cr_assert(c.slot_was_clear);
    cr_assert_eq(c.fault.kind, FAULT_TRANSIENT);
    cr_assert_eq(c.fault.error, -ECONNREFUSED);
    connect_path(v.loop, "/nonexistent/socket", &no_file);
    cr_assert(LOOP_UNTIL(v.loop, no_file.calls));
    cr_assert_eq(no_file.fault.kind, FAULT_GONE);
    stream_connect(v.loop, &(struct sockaddr){.sa_family = 250}, sizeof(struct sockaddr), 10000,
                   &no_family.op, on_connected, &no_family);
    cr_assert_eq(no_family.calls, 0, "starting never fails");
    cr_assert(LOOP_UNTIL(v.loop, no_family.calls));
    cr_assert_eq(no_family.fault.kind, FAULT_INVALID);
    close_server(&v);
}

/* A Unix listener that never accepts and whose backlog is full: the attempt can only wait. */
static int full_listener(char path[static 64])
{
    struct sockaddr_un a = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    snprintf(path, 64, "/tmp/test_stream.%d.full", (int)getpid());
    strcpy(a.sun_path, path);
    unlink(path);
    cr_assert_eq(bind(fd, (struct sockaddr *)&a, sizeof(a)), 0);
    cr_assert_eq(listen(fd, 0), 0);
    return fd;
}

static void fill_backlog(struct loop *l, const char *path, struct client *fillers, unsigned n)
{
    for (unsigned i = 0; i < n; i++)
        connect_path(l, path, &fillers[i]);
    loop_turns(l, 3);
}

static void free_fillers(struct client *fillers, unsigned n)
{
    for (unsigned i = 0; i < n; i++) {
        op_cancel(&fillers[i].op);
        stream_free(fillers[i].stream, false);
    }
}

Test(stream_connect, timeout)
{
    struct loop *l = loop_new();
    struct client fillers[4] = {0}, c = {0};
    char path[64];
    int fd = full_listener(path);

    fill_backlog(l, path, fillers, 4);
    connect_path(l, path, &c);
    loop_advance(l, 9000);
    cr_assert_eq(c.calls, 0);
    loop_advance(l, 1001);
    cr_assert_eq(c.calls, 1);
    cr_assert(c.slot_was_clear);
    cr_assert_eq(c.fault.error, -ETIMEDOUT);
    cr_assert_eq(c.fault.kind, FAULT_TRANSIENT);
    free_fillers(fillers, 4);
    close(fd);
    unlink(path);
    loop_free_dry(l);
}

Test(stream_connect, waits_for_room_in_a_full_backlog)
{
    struct loop *l = loop_new();
    struct client fillers[4] = {0}, c = {0};
    char path[64];
    int fd = full_listener(path), taken[6];

    fill_backlog(l, path, fillers, 4);
    connect_path(l, path, &c);
    loop_turns(l, 3);
    cr_assert_eq(c.calls, 0);
    fcntl(fd, F_SETFL, O_NONBLOCK);
    for (unsigned i = 0; i < 6; i++) {
        taken[i] = accept(fd, NULL, NULL);
        loop_advance(l, 100);
    }
    cr_assert(LOOP_UNTIL(l, c.calls));
    cr_assert_not_null(c.stream);
    stream_free(c.stream, false);
    for (unsigned i = 0; i < 6; i++)
        if (taken[i] >= 0)
            close(taken[i]);
    free_fillers(fillers, 4);
    close(fd);
    unlink(path);
    loop_free_dry(l);
}

Test(stream_connect, cancelled_before_the_answer)
{
    struct server v;
    struct client at_once = {0}, on_the_way = {0};

    open_server(&v);
    connect_ip(v.loop, "127.0.0.1", listener_port(v.listener), &at_once);
    op_cancel(&at_once.op);
    connect_ip(v.loop, "127.0.0.1", listener_port(v.listener), &on_the_way);
    loop_turn(v.loop, false);
    op_cancel(&on_the_way.op);
    loop_turns(v.loop, 5);
    cr_assert_eq(at_once.calls, 0);
    cr_assert_leq(on_the_way.calls, 1);
    if (on_the_way.calls)
        stream_free(on_the_way.stream, false); /* loopback was faster than the turn */
    close_server(&v);
}

Test(stream_connect, owner_freed_before_the_answer)
{
    struct server v;
    struct client *c = xnew(struct client);
    char path[64];
    int fd = full_listener(path);
    struct client fillers[4] = {0};

    open_server(&v);
    fill_backlog(v.loop, path, fillers, 4);
    connect_path(v.loop, path, c);
    loop_turns(v.loop, 2);
    cr_assert_eq(c->calls, 0);
    op_cancel(&c->op);
    free(c);
    loop_advance(v.loop, 20000);
    free_fillers(fillers, 4);
    close(fd);
    unlink(path);
    close_server(&v);
}

Test(listener, says_why_it_cannot)
{
    struct server v;
    struct listener *second = NULL;

    open_server(&v);
    cr_assert_eq(listener_new_tcp(v.loop, "127.0.0.1", listener_port(v.listener), on_stream, &v, &second),
                 -EADDRINUSE);
    cr_assert_eq(listener_new_tcp(v.loop, "localhost", 0, on_stream, &v, &second), -EINVAL);
    cr_assert_eq(listener_new_tcp(v.loop, "192.0.2.1", 0, on_stream, &v, &second), -EADDRNOTAVAIL);
    cr_assert_eq(listener_new_unix(v.loop, "/nonexistent/x", 0600, on_stream, &v, &second), -ENOENT);
    cr_assert_null(second);
    close_server(&v);
}

Test(listener, while_paused_connections_wait)
{
    struct server v;
    struct client c = {0};

    open_server(&v);
    listener_pause(v.listener, true);
    connect_ip(v.loop, "127.0.0.1", listener_port(v.listener), &c);
    cr_assert(LOOP_UNTIL(v.loop, c.calls));
    loop_turns(v.loop, 5);
    cr_assert_eq(v.n, 0);
    listener_pause(v.listener, false);
    cr_assert(LOOP_UNTIL(v.loop, v.n == 1));
    stream_free(c.stream, false);
    close_server(&v);
}

Test(listener, may_be_freed_inside_on_stream)
{
    struct server v;
    struct client a = {0}, b = {0};

    open_server(&v);
    v.free_at_first = true;
    listener_pause(v.listener, true);
    connect_ip(v.loop, "127.0.0.1", listener_port(v.listener), &a);
    connect_ip(v.loop, "127.0.0.1", listener_port(v.listener), &b);
    cr_assert(LOOP_UNTIL(v.loop, a.calls && b.calls));
    listener_pause(v.listener, false);
    cr_assert(LOOP_UNTIL(v.loop, v.n));
    loop_turns(v.loop, 3);
    cr_assert_eq(v.n, 1);
    cr_assert_null(v.listener);
    stream_free(a.stream, false);
    stream_free(b.stream, false);
    close_server(&v);
}

Test(listener, out_of_descriptors_it_pauses_and_comes_back)
{
    struct server v;
    struct client c = {0};
    struct rlimit was, now;

    open_server(&v);
    listener_pause(v.listener, true);
    connect_ip(v.loop, "127.0.0.1", listener_port(v.listener), &c);
    cr_assert(LOOP_UNTIL(v.loop, c.calls));
    getrlimit(RLIMIT_NOFILE, &was);
    now = was;
    now.rlim_cur = 0;
    setrlimit(RLIMIT_NOFILE, &now);
    listener_pause(v.listener, false);
    loop_turns(v.loop, 5);
    setrlimit(RLIMIT_NOFILE, &was);
    loop_turns(v.loop, 5);
    cr_assert_eq(v.n, 0, "still paused: no spinning on the backlog");
    loop_advance(v.loop, 101);
    cr_assert(LOOP_UNTIL(v.loop, v.n == 1));
    stream_free(c.stream, false);
    close_server(&v);
}

Test(listener, takes_a_socket_that_listens_already)
{
    struct loop *l = loop_new();
    struct listener *n = NULL;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

    cr_assert_eq(listener_new_fd(l, fd, on_stream, NULL, &n), -EINVAL);
    cr_assert_eq(listen(fd, 5), 0);
    cr_assert_eq(listener_new_fd(l, fd, on_stream, NULL, &n), 0);
    cr_assert_gt(listener_port(n), 0);
    listener_free(n);
    loop_free_dry(l);
}

Test(listener, a_unix_socket_has_its_mode_and_its_file_goes_with_it)
{
    struct server v = {.loop = loop_new()};
    struct client c = {0};
    struct stat st;
    char path[64];

    snprintf(path, sizeof(path), "/tmp/test_stream.%d.unix", (int)getpid());
    cr_assert_eq(listener_new_unix(v.loop, path, 0660, on_stream, &v, &v.listener), 0);
    cr_assert_eq(stat(path, &st), 0);
    cr_assert_eq(st.st_mode & 07777, 0660);
    cr_assert_eq(listener_port(v.listener), 0);
    connect_path(v.loop, path, &c);
    cr_assert(LOOP_UNTIL(v.loop, c.calls && v.n));
    stream_free(c.stream, true);
    v.listener = listener_free(v.listener);
    cr_assert_neq(stat(path, &st), 0);
    close_server(&v);
}

Test(listener, a_stale_socket_file_is_replaced_a_living_one_is_not)
{
    struct server v = {.loop = loop_new()}, second = {0};
    struct sockaddr_un a = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    snprintf(a.sun_path, sizeof(a.sun_path), "/tmp/test_stream.%d.stale", (int)getpid());
    cr_assert_eq(bind(fd, (struct sockaddr *)&a, sizeof(a)), 0);
    close(fd);
    cr_assert_eq(access(a.sun_path, F_OK), 0, "left by somebody who crashed");
    cr_assert_eq(listener_new_unix(v.loop, a.sun_path, 0600, on_stream, &v, &v.listener), 0);
    cr_assert_eq(listener_new_unix(v.loop, a.sun_path, 0600, on_stream, &v, &second.listener), -EADDRINUSE);
    v.listener = listener_free(v.listener);
    fd = open(a.sun_path, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
    close(fd);
    cr_assert_eq(listener_new_unix(v.loop, a.sun_path, 0600, on_stream, &v, &second.listener), -EADDRINUSE,
                 "an ordinary file is not ours to remove");
    cr_assert_eq(access(a.sun_path, F_OK), 0);
    unlink(a.sun_path);
    close_server(&v);
}

Test(listener, leaves_the_socket_file_of_a_successor)
{
    struct server v = {.loop = loop_new()};
    struct listener *second;
    char path[64];

    snprintf(path, sizeof(path), "/tmp/test_stream.%d.next", (int)getpid());
    cr_assert_eq(listener_new_unix(v.loop, path, 0600, on_stream, &v, &v.listener), 0);
    unlink(path);
    cr_assert_eq(listener_new_unix(v.loop, path, 0600, on_stream, &v, &second), 0);
    v.listener = listener_free(v.listener);
    cr_assert_eq(access(path, F_OK), 0);
    listener_free(second);
    cr_assert_neq(access(path, F_OK), 0);
    close_server(&v);
}

Test(stream, a_reset_is_seen_as_a_failure_where_tcp_can_say_it)
{
    struct server v;
    struct client cut = {0}, ended = {0};
    char byte;
    ssize_t r;

    open_server(&v);
    connect_ip(v.loop, "127.0.0.1", listener_port(v.listener), &cut);
    cr_assert(LOOP_UNTIL(v.loop, cut.calls && v.n == 1));
    v.streams[0] = stream_free(v.streams[0], true);
    cr_assert(LOOP_UNTIL(v.loop, (r = stream_read(cut.stream, &byte, 1)) != -EAGAIN));
    cr_assert_eq(r, -ECONNRESET);
    connect_ip(v.loop, "127.0.0.1", listener_port(v.listener), &ended);
    cr_assert(LOOP_UNTIL(v.loop, ended.calls && v.n == 2));
    v.streams[1] = stream_free(v.streams[1], false);
    cr_assert(LOOP_UNTIL(v.loop, (r = stream_read(ended.stream, &byte, 1)) != -EAGAIN));
    cr_assert_eq(r, 0);
    stream_free(cut.stream, false);
    stream_free(ended.stream, false);
    close_server(&v);
}

Test(listener, a_storm_of_connections_is_taken_in_portions)
{
    struct server v;
    struct client c[40] = {0};
    unsigned connected = 0;

    open_server(&v);
    listener_pause(v.listener, true);
    for (unsigned i = 0; i < 40; i++)
        connect_ip(v.loop, "127.0.0.1", listener_port(v.listener), &c[i]);
    for (unsigned i = 0; i < 40; i++)
        cr_assert(LOOP_UNTIL(v.loop, c[i].calls == 1), "connection %u", i);
    listener_pause(v.listener, false);
    loop_turn(v.loop, false);
    connected = v.n;
    cr_assert_eq(connected, 16);
    cr_assert(LOOP_UNTIL(v.loop, v.n == 40));
    for (unsigned i = 0; i < 40; i++)
        stream_free(c[i].stream, false);
    close_server(&v);
}
