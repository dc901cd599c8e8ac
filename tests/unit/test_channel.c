/* Dials and streams. links: ssh */
#include <sys/mman.h>

#include "ssh/conn_private.h"
#include "tests/fixture/ssh_client.h"

#define PATTERN 251

/* One end of a stream: sends a pattern, counts and checks what comes. */
struct end {
    struct op *op;
    struct stream *stream;
    unsigned n_done, n_ready;
    bool failed, slot_was_clear;
    struct fault fault;
    size_t to_send, sent, received, most, step;
    bool end_sent, ended, wrong, lazy, free_in_ready;
    int broken;
};

static void end_want(struct end *e)
{
    stream_want(e->stream,
                (e->ended || e->received >= e->most ? 0 : STREAM_IN) | (e->end_sent ? 0 : STREAM_OUT));
}

static void end_receive(struct end *e)
{
    char data[65536];
    size_t n = MIN(e->step ? e->step : sizeof(data), e->most - e->received);
    ssize_t r = n ? stream_read(e->stream, data, n) : -EAGAIN;

    e->ended = r == 0;
    if (r < 0 && r != -EAGAIN)
        e->broken = (int)r;
    for (ssize_t i = 0; i < r; i++)
        e->wrong |= (unsigned char)data[i] != e->received++ % PATTERN;
}

static void end_send(struct end *e)
{
    char data[65536];
    size_t n = MIN(sizeof(data), e->to_send - e->sent);
    ssize_t r;

    if (n == 0) {
        r = stream_shutdown(e->stream);
        e->end_sent = r == 0;
    } else {
        for (size_t i = 0; i < n; i++)
            data[i] = (char)((e->sent + i) % PATTERN);
        r = stream_write(e->stream, data, n);
        e->sent += r > 0 ? (size_t)r : 0;
    }
    if (r < 0 && r != -EAGAIN)
        e->broken = (int)r;
}

static void end_on_ready(void *ctx, unsigned what)
{
    struct end *e = ctx;

    e->n_ready++;
    if (e->free_in_ready) {
        e->stream = stream_free(e->stream, true);
        return;
    }
    if (what & STREAM_IN)
        end_receive(e);
    if (what & STREAM_OUT)
        end_send(e);
    if (e->broken)
        stream_want(e->stream, 0);
    else
        end_want(e);
}

static void end_on_dialled(void *ctx, struct stream *s, const struct fault *f)
{
    struct end *e = ctx;

    e->n_done++;
    e->slot_was_clear = e->op == NULL;
    e->failed = f != NULL;
    if (f)
        e->fault = *f;
    e->stream = s;
    if (!s)
        return;
    stream_watch(s, end_on_ready, e);
    if (!e->most)
        e->most = SIZE_MAX;
    if (!e->lazy)
        end_want(e);
}

static void dial(struct client *c, struct end *e, uint16_t port)
{
    ssh_dial(c->conn, "127.0.0.1", port, SSH_WINDOW_STREAM, &e->op, end_on_dialled, e);
    cr_assert_not_null(e->op);
    cr_assert_eq(e->n_done, 0, "not from inside the call");
}

static void dial_to_end(struct client *c, struct end *e, uint16_t port)
{
    dial(c, e, port);
    cr_assert(LOOP_UNTIL(c->loop, e->n_done));
    cr_assert(e->slot_was_clear);
}

Test(channel, bytes_go_both_ways)
{
    struct sshd_fixture *s = sshd_fixture_new(NULL);
    struct target *t = target_new(TARGET_ECHO);
    struct client c = {0};
    struct end e = {.to_send = 5u << 20};

    REQUIRE_SSHD(s);
    client_login(&c, s);
    dial_to_end(&c, &e, target_port(t));
    cr_assert(!e.failed, "%s", e.fault.text);
    cr_assert(LOOP_UNTIL(c.loop, e.ended || e.broken));
    cr_assert_eq(e.broken, 0);
    cr_assert_eq(e.received, 5u << 20);
    cr_assert(!e.wrong, "every byte in its place");
    e.stream = stream_free(e.stream, false);
    client_close(&c);
    target_free(t);
    sshd_fixture_free(s);
}

/* libssh2 clears buffers for the largest packets, which a session that moves nothing large never fills. */
Test(channel, idle_session_holds_no_pages_of_zeros)
{
    struct sshd_fixture *s = sshd_fixture_new(NULL);
    size_t page = (size_t)sysconf(_SC_PAGESIZE), n = (48u << 10) / page, n_resident = 0;
    unsigned char resident[(48u << 10) / 4096];
    struct client c = {0};

    REQUIRE_SSHD(s);
    client_login(&c, s);
    cr_assert(LOOP_UNTIL(c.loop, ssh_conn_rtt_ms(c.conn) >= 0));
    cr_assert_eq(mincore((void *)((uintptr_t)c.conn->ssh / page * page), n * page, resident), 0);
    for (size_t i = 0; i < n; i++)
        n_resident += resident[i] & 1;
    cr_assert(n_resident > 0 && n_resident <= n / 2, "%zu of %zu", n_resident, n);
    client_close(&c);
    sshd_fixture_free(s);
}

static struct end ahead;
static uint16_t ahead_port;

static void dial_ahead(struct client *c)
{
    cr_assert_eq(c->n_up, 0);
    dial(c, &ahead, ahead_port);
}

/* Where our key let us in before. */
Test(channel, first_dial_travels_with_the_login)
{
    struct sshd_fixture *s = sshd_fixture_new(NULL);
    struct target *t = target_new(TARGET_ECHO);
    struct client c = {.own_key_holds = true, .on_soon = dial_ahead};

    REQUIRE_SSHD(s);
    ahead = (struct end){.to_send = 100000};
    ahead_port = target_port(t);
    client_begin(&c, s);
    cr_assert(LOOP_UNTIL(c.loop, c.n_up || c.n_down || (ahead.op && openings_are_ahead(c.conn))));
    cr_assert(c.n_up == 0 && c.n_down == 0, "before the answer to the login");
    cr_assert(LOOP_UNTIL(c.loop, ahead.ended || ahead.broken || c.n_down));
    cr_assert(c.n_up == 1 && c.n_down == 0, "%s", c.fault.text);
    cr_assert(ahead.received == 100000 && !ahead.wrong && !ahead.broken);
    ahead.stream = stream_free(ahead.stream, false);
    client_close(&c);
    target_free(t);
    sshd_fixture_free(s);
}

static struct sshd_fixture *slow;

static void dial_ahead_of_slow(struct client *c)
{
    sshd_fixture_signal(slow, SIGSTOP);
    dial_ahead(c);
}

/* A server that takes its time with a login is none whose ports hang. */
Test(channel, first_dial_counts_from_the_answer_to_the_login)
{
    struct sshd_fixture *s = slow = sshd_fixture_new(NULL);
    struct target *full = target_new(TARGET_FULL);
    struct client c = {.own_key_holds = true, .on_soon = dial_ahead_of_slow};

    REQUIRE_SSHD(s);
    ahead = (struct end){0};
    ahead_port = target_port(full);
    client_begin(&c, s);
    cr_assert(LOOP_UNTIL(c.loop, c.n_down || (ahead.op && openings_are_ahead(c.conn))));
    uint64_t asked_due = ssh_conn_dialling_due(c.conn);

    cr_assert(LOOP_UNTIL(c.loop, clock_now_ms() > asked_due + 300));
    cr_assert(c.n_up == 0 && c.n_down == 0);
    sshd_fixture_signal(s, SIGCONT);
    cr_assert(LOOP_UNTIL(c.loop, c.n_up || c.n_down));
    cr_assert_geq(ssh_conn_dialling_due(c.conn), asked_due + 300);
    op_cancel(&ahead.op);
    client_close(&c);
    target_free(full);
    sshd_fixture_free(s);
}

Test(channel, first_dial_travels_with_no_other_login)
{
    struct sshd_fixture *s = sshd_fixture_new(NULL);
    struct client c = {.on_soon = dial_ahead};

    REQUIRE_SSHD(s);
    client_login(&c, s);
    cr_assert_eq(ahead.n_done, 0);
    cr_assert_null(ahead.op);
    client_close(&c);
    sshd_fixture_free(s);
}

/* The server takes our key, and now wants a password as well. */
Test(channel, first_dial_behind_a_login_that_is_refused_is_lost_with_it)
{
    struct sshd_fixture *s = sshd_fixture_new("PasswordAuthentication yes\nAuthenticationMethods publickey,password\n");
    struct client c = {.own_key_holds = true, .on_soon = dial_ahead};

    REQUIRE_SSHD(s);
    ahead = (struct end){0};
    ahead_port = 9;
    client_begin(&c, s);
    expect_down(&c, "lost", FAULT_TRANSIENT);
    cr_assert(LOOP_UNTIL(c.loop, ahead.n_done));
    cr_assert(ahead.failed && ahead.fault.kind == FAULT_TRANSIENT, "%s", ahead.fault.text);
    client_close(&c);
    sshd_fixture_free(s);
}

static void note_run(void *ctx, struct run_result *result, const struct fault *f)
{
    (void)result;
    *(unsigned *)ctx += f ? 100 : 1;
}

/* Nagle in sshd would make the first answer wait for the acknowledgement of another one. */
Test(channel, session_channels_wait_for_the_first_answer)
{
    struct sshd_fixture *s = sshd_fixture_new(NULL);
    struct target *echo = target_new(TARGET_ECHO);
    struct client c = {0};
    struct end e = {.to_send = 10};
    unsigned ran = 0;
    struct op *run = NULL;

    REQUIRE_SSHD(s);
    client_begin(&c, s);
    dial(&c, &e, target_port(echo));
    ssh_run(c.conn, &(struct run_spec){.script = "true"}, &run, note_run, &ran);
    cr_assert(LOOP_UNTIL(c.loop, e.received == 10));
    cr_assert(ran == 0 && ssh_conn_rtt_ms(c.conn) < 0, "before anything else");
    cr_assert(LOOP_UNTIL(c.loop, ran && ssh_conn_rtt_ms(c.conn) >= 0), "without time going on");
    cr_assert_eq(ran, 1);
    e.stream = stream_free(e.stream, false);
    client_close(&c);
    target_free(echo);
    sshd_fixture_free(s);
}

Test(channel, session_channels_do_not_wait_long_nor_for_a_stream_that_asked_nothing)
{
    struct sshd_fixture *s = sshd_fixture_new(NULL);
    struct target *deaf = target_new(TARGET_DEAF), *echo = target_new(TARGET_ECHO);
    struct client c[2] = {{0}, {0}};
    struct end silent = {.lazy = true}, asks = {.to_send = 10}, other = {.to_send = 10};

    REQUIRE_SSHD(s);
    client_begin(&c[0], s);
    dial(&c[0], &silent, target_port(deaf));
    cr_assert(LOOP_UNTIL(c[0].loop, ssh_conn_rtt_ms(c[0].conn) >= 0));
    silent.stream = stream_free(silent.stream, false);
    client_close(&c[0]);

    client_begin(&c[1], s);
    dial(&c[1], &asks, target_port(deaf));
    cr_assert(LOOP_UNTIL(c[1].loop, asks.n_done));
    dial_to_end(&c[1], &other, target_port(echo));
    cr_assert_null(c[1].conn->ping.channel, "it was queued before this dial, which overtook it");
    loop_advance(c[1].loop, 1000);
    cr_assert(LOOP_UNTIL(c[1].loop, ssh_conn_rtt_ms(c[1].conn) >= 0));
    cr_assert_eq(asks.received, 0);
    asks.stream = stream_free(asks.stream, true);
    other.stream = stream_free(other.stream, true);
    client_close(&c[1]);
    target_free(echo);
    target_free(deaf);
    sshd_fixture_free(s);
}

Test(channel, stream_is_silent_while_its_peer_is)
{
    struct sshd_fixture *s = sshd_fixture_new(NULL);
    struct target *t = target_new(TARGET_ECHO);
    struct client c = {.hears_suspicion = true};
    struct end e = {.lazy = true};

    REQUIRE_SSHD(s);
    client_login(&c, s);
    dial_to_end(&c, &e, target_port(t));
    cr_assert(LOOP_UNTIL(c.loop, ssh_conn_rtt_ms(c.conn) >= 0));
    cr_assert(!stream_is_silent(e.stream));
    cr_assert_gt(sshd_fixture_signal(s, SIGSTOP), 0);
    ssh_conn_ping(c.conn);
    loop_advance(c.loop, 1001);
    loop_turns(c.loop, 3);
    cr_assert(c.n_suspect == 1 && stream_is_silent(e.stream));
    cr_assert_gt(sshd_fixture_signal(s, SIGCONT), 0);
    cr_assert(LOOP_UNTIL(c.loop, c.n_spoke == 1));
    cr_assert(!stream_is_silent(e.stream));
    client_close(&c);
    cr_assert(!stream_is_silent(e.stream), "broken, which its owner is told otherwise");
    e.stream = stream_free(e.stream, false);
    target_free(t);
    sshd_fixture_free(s);
}

Test(channel, rekeying_server_loses_no_byte)
{
    struct sshd_fixture *s = sshd_fixture_new("RekeyLimit 256K\n");
    struct target *t = target_new(TARGET_ECHO);
    struct client c = {0};
    struct end e[3] = {{.to_send = 2u << 20}, {.to_send = 2u << 20}, {.to_send = 2u << 20}};

    REQUIRE_SSHD(s);
    client_login(&c, s);
    for (unsigned i = 0; i < ELEMENTS(e); i++)
        dial(&c, &e[i], target_port(t));
    cr_assert(LOOP_UNTIL(c.loop, (e[0].ended && e[1].ended && e[2].ended) || c.n_down), "%zu %zu %zu",
              e[0].received, e[1].received, e[2].received);
    cr_assert_eq(c.n_down, 0, "%s", c.fault.text);
    for (unsigned i = 0; i < ELEMENTS(e); i++) {
        cr_assert_eq(e[i].received, 2u << 20, "%zu", e[i].received);
        cr_assert(!e[i].wrong);
        e[i].stream = stream_free(e[i].stream, false);
    }
    client_close(&c);
    target_free(t);
    sshd_fixture_free(s);
}

Test(channel, small_reads_get_everything)
{
    struct sshd_fixture *s = sshd_fixture_new(NULL);
    struct target *t = target_new(TARGET_ECHO);
    struct client c = {0};
    struct end e = {.to_send = 100000, .step = 100};

    REQUIRE_SSHD(s);
    client_login(&c, s);
    dial_to_end(&c, &e, target_port(t));
    cr_assert(LOOP_UNTIL(c.loop, e.ended || e.broken));
    cr_assert_eq(e.received, 100000);
    cr_assert(!e.wrong);
    e.stream = stream_free(e.stream, false);
    client_close(&c);
    target_free(t);
    sshd_fixture_free(s);
}

Test(channel, reader_that_stops_stops_the_sender)
{
    struct sshd_fixture *s = sshd_fixture_new(NULL);
    struct target *echo = target_new(TARGET_ECHO), *source = target_new(TARGET_SOURCE);
    struct client c = {0};
    struct end stalled = {.lazy = true}, e = {.to_send = 3u << 20};
    unsigned before;

    REQUIRE_SSHD(s);
    client_login(&c, s);
    dial_to_end(&c, &stalled, target_port(source));
    dial_to_end(&c, &e, target_port(echo));
    cr_assert(LOOP_UNTIL(c.loop, e.ended), "one that is stalled does not stop another");
    cr_assert(!e.wrong);
    cr_assert_eq(stalled.n_ready, 0, "told of nothing that was not wanted");
    stalled.end_sent = true;
    stalled.most = 4u << 20;
    end_want(&stalled);
    cr_assert(LOOP_UNTIL(c.loop, stalled.received == stalled.most));
    cr_assert(!stalled.wrong, "goes on where it stopped");
    before = stalled.n_ready;
    loop_turns(c.loop, 50);
    cr_assert_eq(stalled.n_ready, before);
    stream_free(e.stream, false);
    stream_free(stalled.stream, true);
    client_close(&c);
    target_free(source);
    target_free(echo);
    sshd_fixture_free(s);
}

static size_t unread_in_library(struct client *c, bool *ret_is_full)
{
    unsigned long unread, window = libssh2_channel_window_read_ex(channels_any(c->conn), &unread, NULL);

    *ret_is_full = unread == window;
    return unread;
}

Test(channel, what_nobody_reads_is_kept_as_bytes_up_to_the_window)
{
    struct sshd_fixture *s = sshd_fixture_new(NULL);
    struct target *source = target_new(TARGET_SOURCE);
    struct client c = {0};
    struct end e = {.lazy = true};
    size_t before, unread;
    bool is_full;

    REQUIRE_SSHD(s);
    client_login(&c, s);
    dial_to_end(&c, &e, target_port(source));
    /* The first window may be full before the channel is looked at; then it gets the rest, and is read. */
    cr_assert(LOOP_UNTIL(c.loop, (unread = unread_in_library(&c, &is_full),
                                  is_full && unread < CHANNEL_FIRST_WINDOW)), "a packet each, whatever is in it");
    do { /* the loop does not turn: nothing more can come */
        before = e.received;
        end_receive(&e);
    } while (e.received > before);
    cr_assert_eq(e.received, SSH_WINDOW_STREAM);
    e.end_sent = true;
    e.most = 3 * SSH_WINDOW_STREAM;
    end_want(&e);
    cr_assert(LOOP_UNTIL(c.loop, e.received == e.most), "the peer may send again");
    cr_assert(!e.wrong);
    stream_free(e.stream, true);
    client_close(&c);
    target_free(source);
    sshd_fixture_free(s);
}

Test(channel, target_that_never_reads_stops_us)
{
    struct sshd_fixture *s = sshd_fixture_new(NULL);
    struct target *t = target_new(TARGET_DEAF);
    struct client c = {0};
    struct end e = {.to_send = 256u << 20};
    size_t before;

    REQUIRE_SSHD(s);
    client_login(&c, s);
    dial_to_end(&c, &e, target_port(t));
    cr_assert(LOOP_UNTIL(c.loop, ({
                             before = e.sent;
                             loop_turns(c.loop, 200);
                             poll(NULL, 0, 50);
                             loop_turns(c.loop, 200);
                             e.sent == before;
                         })));
    cr_assert_lt(e.sent, 64u << 20, "%zu bytes went somewhere", e.sent);
    before = e.n_ready;
    loop_turns(c.loop, 50);
    cr_assert_eq(e.n_ready, before, "no spinning while the window is shut");
    stream_free(e.stream, false); /* its channel cannot be closed while the target does not read */
    client_close(&c);
    target_free(t);
    sshd_fixture_free(s);
}

Test(channel, fifty_at_once)
{
    enum { N = 50 };
    struct sshd_fixture *s = sshd_fixture_new(NULL);
    struct target *t = target_new(TARGET_ECHO);
    struct client c = {0};
    struct end e[N] = {0};
    unsigned n_ended = 0;

    REQUIRE_SSHD(s);
    client_login(&c, s);
    for (unsigned i = 0; i < N; i++) {
        e[i].to_send = 20000 + i;
        dial(&c, &e[i], target_port(t));
    }
    cr_assert(LOOP_UNTIL(c.loop, ({
                             n_ended = 0;
                             for (unsigned i = 0; i < N; i++)
                                 n_ended += e[i].ended || e[i].failed;
                             n_ended == N;
                         })));
    for (unsigned i = 0; i < N; i++) {
        cr_assert(!e[i].failed, "%s", e[i].fault.text);
        cr_assert_eq(e[i].received, 20000 + i);
        cr_assert(!e[i].wrong);
        stream_free(e[i].stream, false);
    }
    client_close(&c);
    target_free(t);
    sshd_fixture_free(s);
}

Test(channel, dials_before_the_login_wait_for_it)
{
    struct sshd_fixture *s = sshd_fixture_new(NULL);
    struct target *t = target_new(TARGET_ECHO);
    struct client c = {0};
    struct end e = {.to_send = 10};

    REQUIRE_SSHD(s);
    c.own_key = sshd_fixture_key(s);
    client_open(&c);
    client_connect(&c, "127.0.0.1", sshd_fixture_port(s), sshd_fixture_user(s));
    dial_to_end(&c, &e, target_port(t));
    cr_assert(!e.failed, "%s", e.fault.text);
    cr_assert(LOOP_UNTIL(c.loop, e.ended));
    stream_free(e.stream, false);
    client_close(&c);
    target_free(t);
    sshd_fixture_free(s);
}

Test(channel, closed_port_is_refused_and_the_next_dial_works)
{
    struct sshd_fixture *s = sshd_fixture_new(NULL);
    struct target *t = target_new(TARGET_ECHO);
    struct client c = {0};
    struct end none = {0}, e = {.to_send = 10};

    REQUIRE_SSHD(s);
    client_login(&c, s);
    dial_to_end(&c, &none, closed_port());
    cr_assert(none.failed);
    cr_assert_null(none.stream);
    cr_assert_str_eq(none.fault.code, "refused");
    cr_assert_eq(none.fault.kind, FAULT_TRANSIENT);
    dial_to_end(&c, &e, target_port(t));
    cr_assert(LOOP_UNTIL(c.loop, e.ended));
    stream_free(e.stream, false);
    client_close(&c);
    target_free(t);
    sshd_fixture_free(s);
}

Test(channel, forbidden_forwarding_is_named)
{
    struct sshd_fixture *s = sshd_fixture_new("AllowTcpForwarding no\n");
    struct client c = {0};
    struct end e = {0};

    REQUIRE_SSHD(s);
    client_login(&c, s);
    dial_to_end(&c, &e, closed_port());
    cr_assert_str_eq(e.fault.code, "forbidden", "%s", e.fault.text);
    cr_assert_eq(e.fault.kind, FAULT_DENIED);
    client_close(&c);
    sshd_fixture_free(s);
}

Test(channel, target_that_does_not_accept_fails_its_caller_after_fifteen_seconds)
{
    struct sshd_fixture *s = sshd_fixture_new(NULL);
    struct target *t = target_new(TARGET_FULL);
    struct client c = {0};
    struct end e = {0}, behind = {0};

    REQUIRE_SSHD(s);
    client_login(&c, s);
    cr_assert(LOOP_UNTIL(c.loop, ssh_conn_rtt_ms(c.conn) >= 0));
    dial(&c, &e, target_port(t));
    for (unsigned i = 0; i < 29; i++) { /* answers to pings come in between */
        loop_advance(c.loop, 500);
        poll(NULL, 0, 5);
        loop_turns(c.loop, 5);
        if (i == 10)
            dial(&c, &behind, closed_port());
    }
    cr_assert_eq(e.n_done, 0);
    loop_advance(c.loop, 600);
    cr_assert(LOOP_UNTIL(c.loop, e.n_done));
    cr_assert_str_eq(e.fault.code, "timeout");
    cr_assert_eq(c.n_down, 0, "the connection lives: %s", c.fault.text);
    cr_assert_eq(behind.n_done, 0, "it has its own fifteen seconds");
    op_cancel(&behind.op);
    client_close(&c);
    target_free(t);
    sshd_fixture_free(s);
}

Test(channel, cancelled_at_any_turn)
{
    struct sshd_fixture *s = sshd_fixture_new(NULL);
    struct target *t = target_new(TARGET_ECHO);
    struct client c = {0};
    struct end e = {.to_send = 10};

    REQUIRE_SSHD(s);
    client_login(&c, s);
    for (unsigned turns = 0; turns < 12; turns++) {
        struct end cancelled = {0};
        struct loop_bound b = {0};

        dial(&c, &cancelled, target_port(t));
        for (unsigned i = 0; i < turns && !cancelled.n_done; i++)
            loop_fixture_turn(c.loop, &b);
        op_cancel(&cancelled.op);
        cr_assert_null(cancelled.op);
        loop_turns(c.loop, 3);
        stream_free(cancelled.stream, false);
    }
    dial_to_end(&c, &e, target_port(t));
    cr_assert(LOOP_UNTIL(c.loop, e.ended), "the next one works");
    stream_free(e.stream, false);
    client_close(&c);
    target_free(t);
    sshd_fixture_free(s);
}

Test(channel, reset_target_ends_the_stream)
{
    struct sshd_fixture *s = sshd_fixture_new(NULL);
    struct target *t = target_new(TARGET_RESET);
    struct client c = {0};
    struct end e = {.to_send = 64u << 20};

    REQUIRE_SSHD(s);
    client_login(&c, s);
    dial_to_end(&c, &e, target_port(t));
    cr_assert(LOOP_UNTIL(c.loop, e.ended && e.broken), "who still sends hears of it");
    cr_assert_eq(e.broken, -EPIPE, "%d", e.broken);
    cr_assert_eq(c.n_down, 0);
    stream_free(e.stream, false);
    client_close(&c);
    target_free(t);
    sshd_fixture_free(s);
}

Test(channel, streams_of_a_dead_connection_are_still_their_owners)
{
    struct sshd_fixture *s = sshd_fixture_new(NULL);
    struct target *t = target_new(TARGET_SOURCE);
    struct client c = {0};
    struct end watching = {.most = SIZE_MAX, .end_sent = true}, quiet = {.lazy = true}, waiting = {0};
    char byte;

    REQUIRE_SSHD(s);
    client_login(&c, s);
    dial_to_end(&c, &watching, target_port(t));
    dial_to_end(&c, &quiet, target_port(t));
    cr_assert(LOOP_UNTIL(c.loop, watching.received > 100000));
    dial(&c, &waiting, target_port(t));
    sshd_fixture_signal(s, SIGKILL);
    cr_assert(LOOP_UNTIL(c.loop, c.n_down && watching.broken && waiting.n_done));
    cr_assert_eq(watching.broken, -ECONNRESET);
    cr_assert_eq(waiting.fault.kind, FAULT_TRANSIENT);
    cr_assert_eq(stream_read(quiet.stream, &byte, 1), -ECONNRESET);
    cr_assert_eq(stream_write(quiet.stream, "x", 1), -ECONNRESET);
    cr_assert_eq(stream_shutdown(quiet.stream), -ECONNRESET);
    c.conn = ssh_conn_free(c.conn);
    stream_want(quiet.stream, STREAM_IN);
    cr_assert(LOOP_UNTIL(c.loop, quiet.broken));
    cr_assert_eq(stream_read(watching.stream, &byte, 1), -ECONNRESET);
    stream_free(watching.stream, false);
    stream_free(quiet.stream, true);
    client_close(&c);
    target_free(t);
    sshd_fixture_free(s);
}

Test(channel, dial_on_a_connection_that_is_over)
{
    struct sshd_fixture *s = sshd_fixture_new(NULL);
    struct client c = {0};
    struct end e = {0};

    REQUIRE_SSHD(s);
    client_login(&c, s);
    sshd_fixture_signal(s, SIGKILL);
    cr_assert(LOOP_UNTIL(c.loop, c.n_down));
    dial_to_end(&c, &e, 1);
    cr_assert(e.failed);
    cr_assert_eq(e.fault.kind, FAULT_TRANSIENT);
    client_close(&c);
    sshd_fixture_free(s);
}

Test(channel, connection_freed_before_the_answer)
{
    struct sshd_fixture *s = sshd_fixture_new(NULL);
    struct target *t = target_new(TARGET_ECHO);

    REQUIRE_SSHD(s);
    for (unsigned turns = 0; turns < 6; turns++) {
        struct client c = {0};
        struct end e = {.lazy = true}, cancelled = {.lazy = true};
        struct loop_bound b = {0};

        client_login(&c, s);
        dial(&c, &e, target_port(t));
        dial(&c, &cancelled, target_port(t));
        for (unsigned i = 0; i < turns; i++)
            loop_fixture_turn(c.loop, &b);
        c.conn = ssh_conn_free(c.conn);
        op_cancel(&cancelled.op);
        cr_assert(LOOP_UNTIL(c.loop, e.n_done));
        stream_free(e.stream, false);
        stream_free(cancelled.stream, false);
        client_close(&c);
    }
    target_free(t);
    sshd_fixture_free(s);
}

Test(channel, stream_and_connection_may_be_freed_in_ready)
{
    struct sshd_fixture *s = sshd_fixture_new(NULL);
    struct target *t = target_new(TARGET_SOURCE);
    struct client c = {0};
    struct end e = {.free_in_ready = true}, other = {.free_in_ready = true};

    REQUIRE_SSHD(s);
    client_login(&c, s);
    dial(&c, &e, target_port(t));
    dial(&c, &other, target_port(t));
    cr_assert(LOOP_UNTIL(c.loop, e.n_ready && other.n_ready));
    cr_assert_null(e.stream);
    loop_turns(c.loop, 20);
    cr_assert_eq(e.n_ready, 1);
    client_close(&c);
    target_free(t);
    sshd_fixture_free(s);
}

static void free_connection_on_ready(void *ctx, unsigned what)
{
    struct client *c = ctx;

    (void)what;
    c->conn = ssh_conn_free(c->conn);
}

Test(channel, connection_freed_in_ready_with_unread_data)
{
    struct sshd_fixture *s = sshd_fixture_new(NULL);
    struct target *t = target_new(TARGET_SOURCE);
    struct client c = {0};
    struct end e = {.lazy = true}, other = {.lazy = true};

    REQUIRE_SSHD(s);
    client_login(&c, s);
    dial_to_end(&c, &e, target_port(t));
    dial_to_end(&c, &other, target_port(t));
    loop_turns(c.loop, 100);
    stream_watch(e.stream, free_connection_on_ready, &c);
    stream_want(e.stream, STREAM_IN);
    cr_assert(LOOP_UNTIL(c.loop, !c.conn));
    stream_free(e.stream, false);
    stream_free(other.stream, false);
    client_close(&c);
    target_free(t);
    sshd_fixture_free(s);
}

Test(channel, freed_channels_really_go)
{
    struct sshd_fixture *s = sshd_fixture_new(NULL);
    struct target *t = target_new(TARGET_ECHO);
    struct client c = {0};
    _cleanup_free_ char *log = NULL;

    REQUIRE_SSHD(s);
    client_login(&c, s);
    for (unsigned i = 0; i < 600; i++) { /* more than a server would keep open */
        struct end e = {.to_send = 1};

        dial_to_end(&c, &e, target_port(t));
        cr_assert(!e.failed, "%u: %s", i, e.fault.text);
        stream_free(e.stream, i & 1);
    }
    client_close(&c);
    target_free(t);
    sshd_fixture_free(s);
}

Test(channel, pings_through_a_stream_where_sessions_are_refused)
{
    struct sshd_fixture *s = sshd_fixture_new("MaxSessions 0\n");
    struct target *t = target_new(TARGET_ECHO);
    struct client c = {0};
    struct end e = {.lazy = true};

    REQUIRE_SSHD(s);
    client_login(&c, s);
    dial_to_end(&c, &e, target_port(t));
    ssh_conn_waiters(c.conn, 1);
    for (unsigned i = 0; i < 60; i++) {
        loop_advance(c.loop, 500);
        poll(NULL, 0, 3);
        loop_turns(c.loop, 5);
    }
    cr_assert_eq(c.n_down, 0, "%s", c.fault.text);
    e.to_send = 1000;
    end_want(&e);
    cr_assert(LOOP_UNTIL(c.loop, e.ended));
    cr_assert_eq(e.received, 1000);
    stream_free(e.stream, false);
    client_close(&c);
    target_free(t);
    sshd_fixture_free(s);
}
