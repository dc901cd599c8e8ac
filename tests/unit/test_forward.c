/* Forwards between real sockets: clients and far ends are plain non-blocking descriptors of the test, the way
 * between them is a host that can be down. */
#include <arpa/inet.h>
#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>

#include "base/fault.h"
#include "base/loop.h"
#include "base/op.h"
#include "session/forward.h"
#include "tests/fixture/loop_fixture.h"

static struct loop *loop;
static struct host *local;
static struct forward *forward;
static int far = -1; /* the listener that stands for the machine's port */
static uint16_t far_port;

/* ---- A host that is this one, and can be down ---- */

static struct gate {
    struct host host;
    bool is_down;
    struct list held;
    unsigned dials, cancelled;
    int waiting;
    enum host_traffic traffic;
} gate;

struct held {
    struct op op;
    struct list node;
    struct op *inner;
    uint16_t port;
    host_dial_fn done;
    void *ctx;
};

static void held_cancel(struct op *op)
{
    struct held *d = CONTAINER_OF(op, struct held, op);

    op_cancel(&d->inner);
    list_remove(&d->node);
    free(d);
    gate.cancelled++;
}

static void held_on_dialled(void *ctx, struct stream *s, const struct fault *f)
{
    _cleanup_free_ struct held *d = ctx;

    list_remove(&d->node);
    op_end(&d->op);
    d->done(d->ctx, s, f);
}

static void gate_dial(struct host *h, const char *address, uint16_t port, enum host_traffic kind,
                      struct op **slot, host_dial_fn done, void *ctx)
{
    struct held *d = xnew(struct held);

    (void)h;
    cr_assert_str_eq(address, "127.0.0.1");
    gate.dials++;
    gate.traffic = kind;
    op_begin(&d->op, slot, held_cancel);
    list_init(&d->node);
    list_append(&gate.held, &d->node);
    d->port = port;
    d->done = done;
    d->ctx = ctx;
    if (!gate.is_down)
        host_dial(local, "127.0.0.1", port, kind, &d->inner, held_on_dialled, d);
}

static void gate_waiting(struct host *h, int change)
{
    (void)h;
    gate.waiting += change;
}

static void gate_open(void)
{
    gate.is_down = false;
    LIST_FOREACH (d, &gate.held, struct held, node)
        if (!d->inner)
            host_dial(local, "127.0.0.1", d->port, HOST_STREAM, &d->inner, held_on_dialled, d);
}

static const struct host_ops gate_ops = {.name = "gate", .dial = gate_dial, .waiting = gate_waiting};

/* ---- Sockets ---- */

static int listen_anywhere(uint16_t *ret_port)
{
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

    cr_assert(bind(fd, (struct sockaddr *)&a, sizeof(a)) == 0 && listen(fd, 512) == 0);
    cr_assert_eq(getsockname(fd, (struct sockaddr *)&a, &(socklen_t){sizeof(a)}), 0);
    *ret_port = ntohs(a.sin_port);
    return fd;
}

static int call(uint16_t port)
{
    struct sockaddr_in a = {
        .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK), .sin_port = htons(port)};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    cr_assert_eq(connect(fd, (struct sockaddr *)&a, sizeof(a)), 0, "%s", strerror(errno));
    fcntl(fd, F_SETFL, O_NONBLOCK);
    return fd;
}

static int answer(void)
{
    int fd = -1;

    cr_assert(LOOP_UNTIL(loop, (fd = accept4(far, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0));
    return fd;
}

static void say(int fd, const char *text)
{
    cr_assert_eq(send(fd, text, strlen(text), MSG_NOSIGNAL), (ssize_t)strlen(text));
}

/* Turns the loop until there is something to read, an end (0) or an error (negative). */
static ssize_t hear(int fd, char *to, size_t n)
{
    ssize_t got = -1;

    cr_assert(LOOP_UNTIL(loop, (got = recv(fd, to, n, 0)) >= 0 || errno != EAGAIN));
    return got < 0 ? -errno : got;
}

static void expect(int fd, const char *text)
{
    char got[256] = "";
    size_t n = 0;

    while (n < strlen(text)) {
        ssize_t r = hear(fd, got + n, sizeof(got) - 1 - n);

        cr_assert_gt(r, 0, "\"%s\" after \"%s\"", strerror((int)-r), got);
        n += (size_t)r;
    }
    cr_assert_str_eq(got, text);
}

static void expect_end(int fd, ssize_t how)
{
    char c;

    cr_assert_eq(hear(fd, &c, 1), how);
}

static void setup(void)
{
    loop = loop_new();
    local = host_local_new(loop);
    gate = (struct gate){.host.ops = &gate_ops};
    list_init(&gate.held);
    far = listen_anywhere(&far_port);
    cr_assert_eq(forward_new_tcp(loop, &gate.host, "127.0.0.1", 0, "127.0.0.1", far_port, &forward), 0);
}

static void teardown(void)
{
    forward = forward_free(forward);
    cr_assert_eq(gate.waiting, 0);
    cr_assert(list_is_empty(&gate.held));
    host_free(local);
    close(far);
    loop_free_dry(loop);
}

TestSuite(forward, .init = setup, .fini = teardown, .timeout = 60);

Test(forward, carries_both_ways_and_counts)
{
    int client = call(forward_port(forward)), server = answer();

    say(client, "question");
    expect(server, "question");
    cr_assert_eq(gate.waiting, 1, "an answer is waited for");
    say(server, "the answer");
    expect(client, "the answer");
    cr_assert_eq(gate.waiting, 0);
    cr_assert_eq(forward_bytes(forward), 18);
    cr_assert_eq(forward_connections(forward), 1);
    cr_assert_eq(gate.traffic, HOST_BULK);
    close(client);
    expect_end(server, 0);
    close(server);
    cr_assert(LOOP_UNTIL(loop, forward_connections(forward) == 0));
}

Test(forward, an_end_in_one_direction_leaves_the_other_open)
{
    int client = call(forward_port(forward)), server = answer();

    say(client, "all I have to say");
    shutdown(client, SHUT_WR);
    expect(server, "all I have to say");
    expect_end(server, 0);
    say(server, "late ");
    expect(client, "late ");
    loop_turns(loop, 50);
    say(server, "answer");
    expect(client, "answer");
    cr_assert_eq(forward_connections(forward), 1);
    close(server);
    expect_end(client, 0);
    cr_assert_eq(forward_connections(forward), 0);
    close(client);
}

Test(forward, the_far_end_may_end_first)
{
    int client = call(forward_port(forward)), server = answer();

    say(server, "banner");
    shutdown(server, SHUT_WR);
    expect(client, "banner");
    expect_end(client, 0);
    say(client, "still here");
    expect(server, "still here");
    close(client);
    expect_end(server, 0);
    cr_assert(LOOP_UNTIL(loop, forward_connections(forward) == 0));
    close(server);
}

Test(forward, a_reset_is_passed_on_as_a_reset)
{
    struct linger at_once = {.l_onoff = 1};
    int client = call(forward_port(forward)), server = answer();

    say(client, "question");
    expect(server, "question");
    setsockopt(server, SOL_SOCKET, SO_LINGER, &at_once, sizeof(at_once));
    close(server);
    expect_end(client, -ECONNRESET);
    close(client);

    client = call(forward_port(forward));
    server = answer();
    setsockopt(client, SOL_SOCKET, SO_LINGER, &at_once, sizeof(at_once));
    close(client);
    expect_end(server, -ECONNRESET);
    close(server);
    cr_assert_eq(forward_connections(forward), 0);
}

Test(forward, nobody_listening_there_is_a_reset_here)
{
    close(far);
    far = -1;
    int client = call(forward_port(forward));

    expect_end(client, -ECONNRESET);
    cr_assert_eq(forward_connections(forward), 0);
    close(client);
}

/* Sends until the far end stops reading: what is under way is bounded by the kernel's buffers and one
 * scratch. */
static size_t send_until_stuck(int fd)
{
    static char block[32768];
    size_t sent = 0;
    unsigned idle = 0;

    while (idle < 50) {
        ssize_t n = send(fd, block, sizeof(block), MSG_NOSIGNAL);

        idle = n > 0 ? 0 : idle + 1;
        sent += n > 0 ? (size_t)n : 0;
        loop_turns(loop, 2);
    }
    return sent;
}

static size_t drain(int fd, size_t n)
{
    static char block[65536];
    size_t got = 0;

    while (got < n) {
        ssize_t r = hear(fd, block, sizeof(block));

        cr_assert_gt(r, 0);
        got += (size_t)r;
    }
    return got;
}

Test(forward, who_stops_reading_stops_the_sender_and_loses_nothing)
{
    for (int up = 0; up < 2; up++) {
        int client = call(forward_port(forward)), server = answer();
        int from = up ? client : server, to = up ? server : client;
        uint64_t before = forward_bytes(forward);
        size_t sent = send_until_stuck(from);

        cr_assert_lt(sent, 64u << 20, "no back-pressure: %zu bytes", sent);
        uint64_t taken = forward_bytes(forward) - before;

        loop_turns(loop, 100);
        cr_assert_eq(forward_bytes(forward) - before, taken, "nothing more is taken while it is stuck");
        shutdown(from, SHUT_WR);
        cr_assert_eq(drain(to, sent), sent);
        expect_end(to, 0);
        close(client);
        close(server);
        cr_assert(LOOP_UNTIL(loop, forward_connections(forward) == 0));
    }
}

Test(forward, bytes_arrive_in_order_whatever_the_sizes)
{
    int client = call(forward_port(forward)), server = answer();
    uint32_t in = 1, out = 1;
    size_t sent = 0, got = 0, all = 3 << 20;
    static unsigned char block[50000];

    while (got < all) {
        size_t want = MIN(all - sent, (size_t)(in % sizeof(block)) + 1);
        uint32_t ahead = in;

        for (size_t i = 0; i < want; i++) {
            ahead = ahead * 1664525u + 1013904223u;
            block[i] = (unsigned char)(ahead >> 24);
        }
        ssize_t n = want > 0 && sent < all ? send(client, block, want, MSG_NOSIGNAL) : 0;

        for (ssize_t i = 0; i < n; i++)
            in = in * 1664525u + 1013904223u;
        sent += n > 0 ? (size_t)n : 0;
        loop_turns(loop, 1);
        n = recv(server, block, out % 7000 + 1, 0);
        for (ssize_t i = 0; i < n; i++) {
            out = out * 1664525u + 1013904223u;
            cr_assert_eq(block[i], (unsigned char)(out >> 24), "at byte %zu", got + (size_t)i);
        }
        got += n > 0 ? (size_t)n : 0;
    }
    close(client);
    close(server);
}

Test(forward, connections_are_held_while_the_tunnel_is_down_then_flow)
{
    gate.is_down = true;
    int a = call(forward_port(forward)), b = call(forward_port(forward));

    say(a, "early words");
    cr_assert(LOOP_UNTIL(loop, forward_connections(forward) == 2 && forward_bytes(forward) == 11));
    shutdown(a, SHUT_WR);
    loop_turns(loop, 20);
    cr_assert_eq(forward_connections(forward), 2);
    gate_open();
    int server_a = answer(), server_b = answer();

    expect(server_a, "early words");
    expect_end(server_a, 0);
    say(server_a, "heard");
    expect(a, "heard");
    say(b, "me too");
    expect(server_b, "me too");
    close(a), close(b), close(server_a), close(server_b);
    cr_assert(LOOP_UNTIL(loop, forward_connections(forward) == 0));
}

Test(forward, a_client_that_leaves_while_held_takes_its_dial_along)
{
    struct linger at_once = {.l_onoff = 1};

    gate.is_down = true;
    int silent = call(forward_port(forward)), rude = call(forward_port(forward));

    say(rude, "question");
    cr_assert(LOOP_UNTIL(loop, gate.dials == 2 && forward_bytes(forward) == 8));
    close(silent);
    cr_assert(LOOP_UNTIL(loop, forward_connections(forward) == 1));
    setsockopt(rude, SOL_SOCKET, SO_LINGER, &at_once, sizeof(at_once));
    close(rude);
    cr_assert(LOOP_UNTIL(loop, forward_connections(forward) == 0));
    cr_assert_eq(gate.cancelled, 2);
    gate_open();
    loop_turns(loop, 20);
    cr_assert_lt(accept(far, NULL, NULL), 0, "nobody is connected for them any more");
}

Test(forward, a_held_client_that_says_much_is_not_read_without_bound)
{
    gate.is_down = true;
    int client = call(forward_port(forward));
    size_t sent = send_until_stuck(client);

    cr_assert_leq(forward_bytes(forward), 64 << 10);
    gate_open();
    int server = answer();

    shutdown(client, SHUT_WR);
    cr_assert_eq(drain(server, sent), sent);
    expect_end(server, 0);
    close(client);
    close(server);
}

Test(forward, ends_its_connections_when_it_is_freed)
{
    int client = call(forward_port(forward)), server = answer();

    gate.is_down = true;
    int held = call(forward_port(forward));

    say(client, "question");
    expect(server, "question");
    cr_assert(LOOP_UNTIL(loop, forward_connections(forward) == 2));
    forward = forward_free(forward);
    expect_end(client, -ECONNRESET);
    expect_end(held, -ECONNRESET);
    cr_assert_eq(gate.cancelled, 1);
    close(client), close(server), close(held);
}

Test(forward, a_taken_port_is_said)
{
    struct forward *other = NULL;

    cr_assert_eq(
        forward_new_tcp(loop, &gate.host, "127.0.0.1", forward_port(forward), "127.0.0.1", 1, &other),
        -EADDRINUSE);
    cr_assert_eq(forward_new_tcp(loop, &gate.host, "192.0.2.77", 0, "127.0.0.1", 1, &other), -EADDRNOTAVAIL);
    cr_assert_null(other);
}

Test(forward, one_that_leads_to_itself_ends_with_a_reset)
{
    forward_free(forward);
    close(far);
    far = -1;
    cr_assert_eq(forward_new_tcp(loop, &gate.host, "127.0.0.1", far_port, "127.0.0.1", far_port, &forward), 0);
    int client = call(far_port);

    expect_end(client, -ECONNRESET);
    cr_assert(LOOP_UNTIL(loop, forward_connections(forward) == 0));
    cr_assert_lt(gate.dials, 1000);
    close(client);
}

Test(forward, two_hundred_connections_at_once)
{
    enum { N = 200 };
    static int client[N], server[N];
    char text[32];

    for (int i = 0; i < N; i++) {
        client[i] = call(forward_port(forward));
        loop_turns(loop, 1);
    }
    for (int i = 0; i < N; i++)
        server[i] = answer();
    cr_assert_eq(forward_connections(forward), N);
    for (int i = 0; i < N; i++) {
        snprintf(text, sizeof(text), "client %d;", i);
        say(client[i], text);
    }
    for (int i = 0; i < N; i++) { /* echoed by whoever got it: each client must hear its own words */
        ssize_t n = hear(server[i], text, sizeof(text));

        cr_assert_gt(n, 0);
        cr_assert_eq(send(server[i], text, (size_t)n, MSG_NOSIGNAL), n);
    }
    for (int i = 0; i < N; i++) {
        snprintf(text, sizeof(text), "client %d;", i);
        expect(client[i], text);
        close(client[i]);
    }
    for (int i = 0; i < N; i++) {
        expect_end(server[i], 0);
        close(server[i]);
    }
    cr_assert(LOOP_UNTIL(loop, forward_connections(forward) == 0));
}

/* ---- The Unix variant ---- */

static int call_unix(const char *path)
{
    struct sockaddr_un a = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    snprintf(a.sun_path, sizeof(a.sun_path), "%s", path);
    cr_assert_eq(connect(fd, (struct sockaddr *)&a, sizeof(a)), 0, "%s", strerror(errno));
    fcntl(fd, F_SETFL, O_NONBLOCK);
    return fd;
}

static char unix_path[64];

static void unix_setup(void)
{
    setup();
    forward_free(forward);
    snprintf(unix_path, sizeof(unix_path), "/tmp/test_forward.%d", getpid());
    cr_assert_eq(forward_new_unix(loop, &gate.host, unix_path, "127.0.0.1", far_port, &forward), 0);
}

TestSuite(forward_unix, .init = unix_setup, .fini = teardown, .timeout = 60);

Test(forward_unix, serves_this_process_and_removes_its_file)
{
    struct stat st;

    cr_assert(stat(unix_path, &st) == 0 && (st.st_mode & 0777) == 0600);
    int client = call_unix(unix_path), server = answer();

    say(client, "GET /");
    expect(server, "GET /");
    say(server, "200");
    expect(client, "200");
    cr_assert_eq(gate.traffic, HOST_STREAM);
    close(client);
    close(server);
    forward = forward_free(forward);
    cr_assert(stat(unix_path, &st) < 0 && errno == ENOENT);
}

Test(forward_unix, refuses_another_process_of_the_same_user)
{
    pid_t pid = fork();

    if (pid == 0) {
        struct pollfd p = {.fd = call_unix(unix_path), .events = POLLIN};
        char c;

        _exit(poll(&p, 1, 10000) == 1 && read(p.fd, &c, 1) <= 0 ? 0 : 1);
    }
    int status = -1;

    cr_assert(LOOP_UNTIL(loop, waitpid(pid, &status, WNOHANG) == pid));
    cr_assert_eq(status, 0);
    cr_assert_eq(gate.dials, 0);
    cr_assert_eq(forward_connections(forward), 0);
}

Test(forward_unix, a_request_given_up_is_ended_there_too)
{
    int client = call_unix(unix_path), server = answer();

    say(client, "GET /slow");
    expect(server, "GET /slow");
    close(client);
    expect_end(server, 0);
    cr_assert_eq(forward_connections(forward), 0, "nobody is left to hear an answer");
    close(server);
}

Test(forward_unix, a_held_request_given_up_is_never_dialled)
{
    gate.is_down = true;
    int client = call_unix(unix_path);

    say(client, "GET /slow");
    cr_assert(LOOP_UNTIL(loop, forward_bytes(forward) == 9));
    close(client);
    cr_assert(LOOP_UNTIL(loop, forward_connections(forward) == 0));
    cr_assert_eq(gate.cancelled, 1);
}
