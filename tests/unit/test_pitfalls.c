/* What using libssh2 and sshd the obvious way runs into. links: ssh */

/* clang-format off
 *
 * Each is provoked here or where this list says. With buffers of our own, whose SEND takes everything, these have
 * no way to happen: a call beside a half-sent packet, a retry with another buffer or length or from another
 * function, a keepalive into a full socket, a server that rekeys while half a packet waits
 * (rekeying_server_loses_no_byte shows what is left of it).
 *
 * a second open before the first has a result: test_channel, fifty_at_once
 * an open that never ends: test_channel, target_that_does_not_accept_fails_its_caller_after_fifteen_seconds;
 *     test_session, a_port_that_never_answers_leaves_the_way_open_for_others
 * two requests with a reply in flight: test_exec, many_at_once_keep_their_answers_apart
 * a channel that cannot be closed: test_channel, target_that_never_reads_stops_us, freed_channels_really_go
 * only stdout is read: test_exec, five_megabytes_of_errors_do_not_stop_it
 * input that nobody reads: test_exec, command_that_does_not_read_its_input_ends_all_the_same
 * an exit status read before it is there: test_exec, status_and_both_outputs
 * MaxSessions looks like a refused connection: test_exec, no_session_channels_is_said;
 *     test_session, more_commands_than_the_machine_runs_at_a_time_take_turns
 * no session channel, so sshd's Nagle and no ping: test_channel, pings_through_a_stream_where_sessions_are_refused;
 *     tests/bench, p99 of 1 KiB
 * keepalives whose answers are never freed: only where there is no channel at all, and rarely;
 *     test_conn, without_session_channels_it_is_asked_another_way
 * small messages that nobody reads slow the other channels: a stream's window bounds them, and large windows have
 *     connections of their own; test_channel, reader_that_stops_stops_the_sender
 * a session freed inside a callback: test_conn, owner_may_free_it_in_every_callback; test_channel, *_in_ready
 * a key unlocked on the loop: test_conn, encrypted_key_does_not_stop_the_loop
 * RSA with SHA-1 alone looks like a wrong key: test_conn, keys_of_other_kinds
 * a pin by name and port: tests/lab/test_tunnel, test_pin_belongs_to_the_instance_and_not_to_its_address
 * a frozen peer that TCP takes for a living one: test_conn, frozen_peer_is_found_within_ten_seconds
 * memory lost in the middle of a handshake: test_conn_faults, dropped_at_each_step
 * a pause before the first retry: tests/lab/test_outages, row rst
 *
 * clang-format on */
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

#include "base/loop_private.h"
#include "tests/fixture/ssh_client.h"

/* A stream that writes zeros while it may and counts what it reads. */
struct end {
    struct op *op;
    struct stream *stream;
    unsigned n_done;
    size_t sent, received;
    bool writes;
};

static void end_on_ready(void *ctx, unsigned what)
{
    static const char zeros[65536];
    static char data[1 << 20];
    struct end *e = ctx;
    ssize_t n = what & STREAM_IN ? stream_read(e->stream, data, sizeof(data)) : 0;

    e->received += n > 0 ? (size_t)n : 0;
    n = what & STREAM_OUT ? stream_write(e->stream, zeros, sizeof(zeros)) : 0;
    e->sent += n > 0 ? (size_t)n : 0;
}

static void end_on_dialled(void *ctx, struct stream *s, const struct fault *f)
{
    struct end *e = ctx;

    cr_assert(!f, "%s", f->text);
    e->n_done++;
    e->stream = s;
    stream_watch(s, end_on_ready, e);
    stream_want(s, STREAM_IN | (e->writes ? STREAM_OUT : 0));
}

static void dial(struct client *c, struct end *e, const struct target *t)
{
    ssh_dial(c->conn, "127.0.0.1", target_port(t), SSH_WINDOW_STREAM, &e->op, end_on_dialled, e);
}

/* Our end of the connection to this port of 127.0.0.1. */
static int socket_to(uint16_t port)
{
    for (int fd = 0; fd < 1024; fd++) {
        struct sockaddr_in a;
        socklen_t n = sizeof(a);

        if (getpeername(fd, (struct sockaddr *)&a, &n) == 0 && a.sin_family == AF_INET &&
            ntohs(a.sin_port) == port)
            return fd;
    }
    return -1;
}

/* Nothing moves any more: what can be written is. */
static void until_full(struct client *c, const struct end *e)
{
    size_t before;

    cr_assert(LOOP_UNTIL(c->loop, ({
                             before = e->sent;
                             loop_turns(c->loop, 100);
                             poll(NULL, 0, 20);
                             loop_turns(c->loop, 100);
                             e->sent > 0 && e->sent == before;
                         })));
}

/* libssh2 1.11.1 answers "again" for ever when it is freed with half a packet in a full socket; and what it
 * writes while it is freed goes to whoever has the number of its socket by then. */
Test(pitfalls, frozen_peer_with_full_buffers_is_freed_at_once_and_its_socket_gets_no_more_bytes)
{
    struct sshd_fixture *s = sshd_fixture_new(NULL);
    struct target *t = target_new(TARGET_ECHO);
    struct client c = {0};
    struct end e = {.writes = true};
    int pair[2], fd;
    char byte;

    REQUIRE_SSHD(s);
    client_login(&c, s);
    dial(&c, &e, t);
    cr_assert(LOOP_UNTIL(c.loop, e.received > 100000));
    cr_assert_gt(sshd_fixture_signal(s, SIGSTOP), 0);
    until_full(&c, &e);
    fd = socket_to(sshd_fixture_port(s));
    cr_assert_geq(fd, 0);
    c.conn = ssh_conn_free(c.conn);
    loop_turns(c.loop, 5);
    cr_assert(fcntl(fd, F_GETFD) < 0 && errno == EBADF, "it is closed");
    cr_assert_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
    if (pair[0] != fd) {
        cr_assert_eq(dup2(pair[0], fd), fd);
        close(pair[0]);
    }
    stream_free(e.stream, true);
    loop_turns(c.loop, 50);
    client_close(&c);
    cr_assert(recv(pair[1], &byte, 1, MSG_DONTWAIT) < 0 && errno == EAGAIN,
              "who has its number now gets nothing, not even an end");
    close(pair[1]);
    close(fd);
    sshd_fixture_signal(s, SIGCONT);
    target_free(t);
    sshd_fixture_free(s);
}

/* "Writable" must not be asked of the socket when it is the window that is empty: the loop would not sleep.
 */
Test(pitfalls, empty_window_lets_the_loop_sleep)
{
    struct sshd_fixture *s = sshd_fixture_new(NULL);
    struct target *t = target_new(TARGET_DEAF);
    struct client c = {0};
    struct end e = {.writes = true};
    unsigned n_asleep = 0;

    REQUIRE_SSHD(s);
    client_login(&c, s);
    dial(&c, &e, t);
    cr_assert(LOOP_UNTIL(c.loop, e.n_done));
    until_full(&c, &e);
    for (unsigned i = 0; i < 20; i++) {
        struct pollfd p = {.fd = uv_backend_fd(&c.loop->uv), .events = POLLIN};

        loop_turns(c.loop, 5);
        n_asleep += poll(&p, 1, 0) == 0 && uv_backend_timeout(&c.loop->uv) != 0;
    }
    cr_assert_gt(n_asleep, 15, "asleep %u times of 20", n_asleep);
    stream_free(e.stream, true);
    client_close(&c);
    target_free(t);
    sshd_fixture_free(s);
}

/* After the handshake it would be 40 ms too late. */
Test(pitfalls, nagle_is_off_before_the_first_byte)
{
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t n = sizeof(a), n_value = sizeof(int);
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0), value = 0, fd = -1;
    struct client c = {0};

    cr_assert(bind(listener, (struct sockaddr *)&a, n) == 0 && listen(listener, 1) == 0);
    cr_assert_eq(getsockname(listener, (struct sockaddr *)&a, &n), 0);
    client_open(&c);
    client_connect(&c, "127.0.0.1", ntohs(a.sin_port), "me");
    cr_assert(LOOP_UNTIL(c.loop, (fd = accept(listener, NULL, NULL)) >= 0));
    cr_assert_eq(getsockopt(socket_to(ntohs(a.sin_port)), IPPROTO_TCP, TCP_NODELAY, &value, &n_value), 0);
    cr_assert_neq(value, 0);
    close(fd);
    close(listener);
    client_close(&c);
}

/* One read brings packets of several channels, and no other event comes for the second. */
Test(pitfalls, two_channels_answered_in_one_segment_are_both_heard)
{
    struct sshd_fixture *s = sshd_fixture_new(NULL);
    struct target *t = target_new(TARGET_ECHO);
    struct client c = {0};
    struct end e[2] = {0};

    REQUIRE_SSHD(s);
    client_login(&c, s);
    for (unsigned i = 0; i < 2; i++) {
        dial(&c, &e[i], t);
        cr_assert(LOOP_UNTIL(c.loop, e[i].n_done));
    }
    loop_turns(c.loop, 20);
    for (unsigned round = 0; round < 10; round++) {
        size_t wanted = 10 * (round + 1);

        for (unsigned i = 0; i < 2; i++)
            cr_assert_eq(stream_write(e[i].stream, "0123456789", 10), 10);
        loop_turns(c.loop, 3);
        poll(NULL, 0, 50); /* both answers are there before we look again */
        loop_turns(c.loop, 3);
        for (unsigned i = 0; i < 2; i++)
            cr_assert(e[i].received == wanted || LOOP_UNTIL(c.loop, e[i].received == wanted));
        cr_assert_eq(e[0].received, e[1].received);
    }
    for (unsigned i = 0; i < 2; i++)
        stream_free(e[i].stream, true);
    client_close(&c);
    target_free(t);
    sshd_fixture_free(s);
}

/* A download must not delay another connection of the same loop for longer than this takes. */
Test(pitfalls, one_turn_takes_no_more_than_64_kib)
{
    struct sshd_fixture *s = sshd_fixture_new(NULL);
    struct target *t = target_new(TARGET_SOURCE);
    struct client c = {0};
    struct end e = {0};
    size_t most = 0;

    REQUIRE_SSHD(s);
    client_login(&c, s);
    dial(&c, &e, t);
    cr_assert(LOOP_UNTIL(c.loop, e.received > 1000000));
    for (unsigned i = 0; i < 50; i++) {
        size_t before = e.received;

        poll(NULL, 0, 5); /* more than that is waiting in the socket */
        loop_turns(c.loop, 1);
        most = MAX(most, e.received - before);
    }
    cr_assert_leq(most, 65536 + 32768, "what was read, and what of a packet had come before: %zu", most);
    cr_assert_gt(most, 16384, "it did wait: %zu", most);
    stream_free(e.stream, true);
    client_close(&c);
    target_free(t);
    sshd_fixture_free(s);
}

Test(pitfalls, peer_dies_while_five_hundred_channels_close)
{
    enum { N = 500 };
    struct sshd_fixture *s = sshd_fixture_new(NULL);
    struct target *t = target_new(TARGET_ECHO);
    static struct end e[N];
    struct client c = {0};
    unsigned n_done = 0;

    REQUIRE_SSHD(s);
    client_login(&c, s);
    for (unsigned i = 0; i < N; i++)
        dial(&c, &e[i], t);
    cr_assert(LOOP_UNTIL(c.loop, ({
                             n_done = 0;
                             for (unsigned i = 0; i < N; i++)
                                 n_done += e[i].n_done;
                             n_done == N;
                         })));
    for (unsigned i = 0; i < N; i++)
        stream_free(e[i].stream, i % 2);
    loop_turns(c.loop, 1);
    sshd_fixture_signal(s, SIGKILL);
    cr_assert(LOOP_UNTIL(c.loop, c.n_down));
    cr_assert_str_eq(c.fault.code, "lost", "%s", c.fault.text);
    client_close(&c);
    target_free(t);
    sshd_fixture_free(s);
}

/* The first correct factor looks like a refusal to libssh2. */
Test(pitfalls, one_factor_of_two_is_no_refusal)
{
    struct sshd_fixture *s = sshd_fixture_new("AuthenticationMethods publickey,publickey\n");
    struct client c = {0};
    _cleanup_free_ char *other = NULL;

    REQUIRE_SSHD(s);
    other = sshd_fixture_add_key(s, "ed25519", "");
    c.own_key = sshd_fixture_key(s);
    c.key = other;
    client_login(&c, s);
    cr_assert(ssh_conn_is_up(c.conn));
    c.conn = ssh_conn_free(c.conn);

    c.key = NULL;
    c.n_up = 0;
    client_connect(&c, "127.0.0.1", sshd_fixture_port(s), sshd_fixture_user(s));
    expect_down(&c, "login_refused", FAULT_DENIED);
    client_close(&c);
    sshd_fixture_free(s);
}

static void connect_pinned(struct client *c, const struct sshd_fixture *s, const struct host_key *pinned)
{
    const struct ssh_conn_events events = {.host_key = client_on_host_key,
                                           .secrets = client_on_secrets,
                                           .up = client_on_up,
                                           .down = client_on_down};
    struct ssh_target target = {.name = "gpu-a",
                                .host = "127.0.0.1",
                                .port = sshd_fixture_port(s),
                                .user = sshd_fixture_user(s),
                                .pinned = pinned};

    client_open(c);
    c->own_key = sshd_fixture_key(s);
    c->conn = ssh_conn_new(c->loop, c->resolver, &target, &events, c);
    cr_assert(LOOP_UNTIL(c->loop, c->n_up || c->n_down));
    cr_assert_eq(c->n_up, 1, "%s", c->fault.text);
    client_close(c);
}

/* The library's own order would choose one of the others, and that would look like a changed host. */
Test(pitfalls, server_with_several_host_keys_shows_the_pinned_one)
{
    char folder[] = "/tmp/pitfalls.XXXXXX";
    _cleanup_free_ char *extra = NULL, *make = NULL, *drop = NULL;
    struct client first = {0}, again = {0}, other = {0}, pinned_other = {0};

    cr_assert_not_null(mkdtemp(folder));
    make = xasprintf("ssh-keygen -q -t ecdsa -b 256 -N '' -f %s/key", folder);
    drop = xasprintf("rm -r %s", folder);
    if (system(make) != 0)
        cr_skip_test("no sshd here");
    extra = xasprintf("HostKey %s/key\n", folder);

    _cleanup_free_ char *alone = xasprintf("%sHostKeyAlgorithms ecdsa-sha2-nistp256\n", extra);
    struct sshd_fixture *s = sshd_fixture_new(extra), *one = sshd_fixture_new(alone);

    REQUIRE_SSHD(s);
    connect_pinned(&first, s, NULL);
    cr_assert_str_eq(first.shown.algorithm, "ssh-ed25519", "as ssh itself prefers");
    connect_pinned(&again, s, &first.shown);
    cr_assert(host_key_equal(&again.shown, &first.shown));
    connect_pinned(&other, one, NULL);
    cr_assert_str_eq(other.shown.algorithm, "ecdsa-sha2-nistp256");
    connect_pinned(&pinned_other, s, &other.shown);
    cr_assert(host_key_equal(&pinned_other.shown, &other.shown));
    sshd_fixture_free(one);
    sshd_fixture_free(s);
    cr_assert_eq(system(drop), 0);
}
