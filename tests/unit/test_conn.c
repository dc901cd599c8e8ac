/* Connections against a real sshd. Servers that misbehave are in test_conn_faults.c, streams in
 * test_channel.c, commands in test_exec.c. */
#include "ssh/conn.h"

#include <poll.h>
#include <time.h>

#include "base/loop_private.h"
#include "tests/fixture/ssh_client.h"

Test(conn, logs_in_with_a_key)
{
    struct sshd_fixture *s = sshd_fixture_new(NULL);
    struct client c = {0};

    REQUIRE_SSHD(s);
    client_login(&c, s);
    cr_assert_str_eq(c.method, "own key");
    cr_assert_eq(c.n_host_key, 1);
    cr_assert_str_eq(c.shown.algorithm, "ssh-ed25519");
    cr_assert(ssh_conn_is_up(c.conn));
    cr_assert_eq(strncmp(ssh_conn_peer(c.conn), "127.0.0.1:", 10), 0);
    cr_assert_eq(strncmp(ssh_conn_banner(c.conn), "SSH-2.0-OpenSSH", 15), 0);
    cr_assert_lt(ssh_conn_rtt_ms(c.conn), 0, "not known yet");
    cr_assert(LOOP_UNTIL(c.loop, ssh_conn_rtt_ms(c.conn) >= 0),
              "the first ping comes with the control channel");
    cr_assert_lt(ssh_conn_rtt_ms(c.conn), 5000);
    client_close(&c);
    sshd_fixture_free(s);
}

Test(conn, second_key_is_tried_after_the_own_one)
{
    struct sshd_fixture *s = sshd_fixture_new(NULL), *other = sshd_fixture_new(NULL);
    struct client c = {0};

    REQUIRE_SSHD(s);
    c.own_key = sshd_fixture_key(other);
    c.key = sshd_fixture_key(s);
    client_login(&c, s);
    cr_assert_str_eq(c.method, "key");
    client_close(&c);
    sshd_fixture_free(other);
    sshd_fixture_free(s);
}

/* RSA too, whatever libssh2 can do: the signature is ours. */
Test(conn, keys_of_other_kinds)
{
    static const struct {
        const char *type, *passphrase;
    } keys[] = {
        {"ecdsa -b 256", ""},          {"ecdsa -b 384", ""},        {"ecdsa -b 521 -m PEM", ""},
        {"rsa -b 3072", ""},           {"rsa -b 2048 -m PEM", ""},  {"rsa -b 2048 -m PKCS8", ""},
        {"rsa -b 2048 -m PEM", "two words"}, {"ecdsa -m PKCS8", "two words"},   {"ed25519", ""},
    };
    struct sshd_fixture *s = sshd_fixture_new(NULL);

    REQUIRE_SSHD(s);
    for (size_t i = 0; i < ELEMENTS(keys); i++) {
        _cleanup_free_ char *key = sshd_fixture_add_key(s, keys[i].type, keys[i].passphrase);
        struct client c = {.key = key, .passphrase = *keys[i].passphrase ? keys[i].passphrase : NULL};

        client_login(&c, s);
        cr_assert_str_eq(c.method, "key", "%s", keys[i].type);
        client_close(&c);
    }
    sshd_fixture_free(s);
}

Test(conn, rsa_key_with_a_passphrase_in_openssh_format_says_what_helps)
{
    struct sshd_fixture *s = sshd_fixture_new(NULL);
    _cleanup_free_ char *key = NULL;
    struct client c = {.passphrase = "secret words"};

    REQUIRE_SSHD(s);
    c.key = key = sshd_fixture_add_key(s, "rsa -b 2048 -a 1", "secret words");
    client_open(&c);
    client_connect(&c, "127.0.0.1", sshd_fixture_port(s), sshd_fixture_user(s));
    if (ssh_library_has_rsa()) {
        cr_assert(LOOP_UNTIL(c.loop, c.n_up));
    } else {
        expect_down(&c, "login_refused", FAULT_DENIED);
        cr_assert_not_null(strstr(c.fault.text, "ssh-keygen -p -m PEM"), "%s", c.fault.text);
    }
    client_close(&c);
    sshd_fixture_free(s);
}

Test(conn, refused_host_key_asks_for_no_secret)
{
    struct sshd_fixture *s = sshd_fixture_new(NULL);
    struct client c = {.refuse_host_key = true};
    _cleanup_free_ char *log = NULL;

    REQUIRE_SSHD(s);
    c.password = "never to be sent";
    client_open(&c);
    client_connect(&c, "127.0.0.1", sshd_fixture_port(s), sshd_fixture_user(s));
    expect_down(&c, "host_key", FAULT_DENIED);
    cr_assert_str_eq(c.fault.text, "not the key we know");
    cr_assert_eq(c.n_secrets, 0);
    log = sshd_fixture_log(s);
    cr_assert_null(strstr(log, "Failed"), "%s", log);
    client_close(&c);
    sshd_fixture_free(s);
}

Test(conn, refused_login_names_what_is_offered_and_what_was_tried)
{
    struct sshd_fixture *s = sshd_fixture_new("PasswordAuthentication yes\n"),
                        *other = sshd_fixture_new(NULL);
    struct client c = {0};

    REQUIRE_SSHD(s);
    c.own_key = sshd_fixture_key(other);
    c.password = "wrong";
    client_open(&c);
    client_connect(&c, "127.0.0.1", sshd_fixture_port(s), "nobody-of-that-name");
    expect_down(&c, "login_refused", FAULT_DENIED);
    cr_assert_not_null(strstr(c.fault.text, "offers publickey,password"), "%s", c.fault.text);
    cr_assert_not_null(strstr(c.fault.text, "tried: own key, password"), "%s", c.fault.text);
    cr_assert_null(strstr(c.fault.text, "wrong"), "no secrets");
    client_close(&c);
    sshd_fixture_free(other);
    sshd_fixture_free(s);
}

Test(conn, nothing_to_log_in_with)
{
    struct sshd_fixture *s = sshd_fixture_new(NULL);
    struct client c = {0};

    REQUIRE_SSHD(s);
    client_open(&c);
    client_connect(&c, "127.0.0.1", sshd_fixture_port(s), sshd_fixture_user(s));
    expect_down(&c, "login_refused", FAULT_DENIED);
    cr_assert_not_null(strstr(c.fault.text, "tried: nothing"), "%s", c.fault.text);
    client_close(&c);
    sshd_fixture_free(s);
}

Test(conn, too_many_tries_are_a_refusal_too)
{
    struct sshd_fixture *s = sshd_fixture_new("MaxAuthTries 1\n"), *other = sshd_fixture_new(NULL);
    struct client c = {0};

    REQUIRE_SSHD(s);
    c.own_key = sshd_fixture_key(other);
    client_open(&c);
    client_connect(&c, "127.0.0.1", sshd_fixture_port(s), sshd_fixture_user(s));
    expect_down(&c, "login_refused", FAULT_DENIED);
    client_close(&c);
    sshd_fixture_free(other);
    sshd_fixture_free(s);
}

Test(conn, unusable_key_is_named)
{
    struct sshd_fixture *s = sshd_fixture_new(NULL);
    struct client c = {0};

    REQUIRE_SSHD(s);
    c.key = sshd_fixture_host_key(s);
    client_open(&c);
    client_connect(&c, "127.0.0.1", sshd_fixture_port(s), sshd_fixture_user(s));
    expect_down(&c, "login_refused", FAULT_DENIED);
    cr_assert_not_null(strstr(c.fault.text, "a public key"), "%s", c.fault.text);
    client_close(&c);
    sshd_fixture_free(s);
}

/* Stands for everything else the loop has to do. What counts is how long this thread computed between two
 * beats: on a busy machine a gap by the wall clock may be somebody else's. */
struct metronome {
    struct timer *timer;
    uint64_t last_ns, longest_gap_ns;
    unsigned beats;
};

static uint64_t computed_ns(void)
{
    struct timespec t;

    cr_assert_eq(clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t), 0);
    return (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
}

static void metronome_beat(void *ctx)
{
    struct metronome *m = ctx;
    uint64_t now = computed_ns();

    if (m->beats++ > 0)
        m->longest_gap_ns = MAX(m->longest_gap_ns, now - m->last_ns);
    m->last_ns = now;
    timer_arm(m->timer, 5);
}

Test(conn, encrypted_key_does_not_stop_the_loop)
{
    struct sshd_fixture *s = sshd_fixture_new(NULL);
    struct client c = {0};
    struct metronome m = {0};
    _cleanup_free_ char *key = NULL;

    REQUIRE_SSHD(s);
    key = sshd_fixture_add_key(s, "ed25519 -a 48", "secret words"); /* half a second of computing, twice */
    c.key = key;
    c.passphrase = "secret words";
    client_open(&c);
    m.timer = timer_new(c.loop, metronome_beat, &m);
    timer_arm(m.timer, 0);
    client_connect(&c, "127.0.0.1", sshd_fixture_port(s), sshd_fixture_user(s));
    cr_assert(LOOP_UNTIL(c.loop, c.n_up || c.n_down));
    cr_assert_eq(c.n_up, 1, "%s", c.fault.text);
    cr_assert_str_eq(c.method, "key");
    cr_assert_gt(m.beats, 20, "%u beats", m.beats);
    cr_assert_lt(m.longest_gap_ns / 1000000, 100);
    timer_free(m.timer);
    client_close(&c);
    sshd_fixture_free(s);
}

Test(conn, encrypted_key_needs_its_passphrase)
{
    static const char *const passphrases[] = {NULL, "", "other words"};
    struct sshd_fixture *s = sshd_fixture_new(NULL);
    _cleanup_free_ char *key = NULL;

    REQUIRE_SSHD(s);
    key = sshd_fixture_add_key(s, "ed25519", "secret words");
    for (size_t i = 0; i < ELEMENTS(passphrases); i++) {
        struct client c = {.key = key, .passphrase = passphrases[i]};

        client_open(&c);
        client_connect(&c, "127.0.0.1", sshd_fixture_port(s), sshd_fixture_user(s));
        expect_down(&c, "passphrase_needed", FAULT_DENIED);
        cr_assert_not_null(strstr(c.fault.text, passphrases[i] ? "wrong" : "missing"), "%s", c.fault.text);
        client_close(&c);
    }
    sshd_fixture_free(s);
}

Test(conn, freed_while_a_thread_has_the_session)
{
    struct sshd_fixture *s = sshd_fixture_new(NULL);
    _cleanup_free_ char *key = NULL;

    REQUIRE_SSHD(s);
    key = sshd_fixture_add_key(s, "ed25519 -a 48", "secret words");
    for (unsigned turns = 1; turns < 60; turns += 3) {
        struct client c = {.key = key, .passphrase = "secret words"};

        client_open(&c);
        client_connect(&c, "127.0.0.1", sshd_fixture_port(s), sshd_fixture_user(s));
        cr_assert(LOOP_UNTIL(c.loop, c.n_secrets));
        for (unsigned i = 0; i < turns; i++)
            loop_turn(c.loop, false);
        client_close(&c);
    }
    sshd_fixture_free(s);
}

Test(conn, name_with_two_addresses_and_one_server)
{
    struct sshd_fixture *s = sshd_fixture_new(NULL);
    struct client c = {0};

    REQUIRE_SSHD(s);
    c.own_key = sshd_fixture_key(s);
    client_open(&c);
    client_connect(&c, "localhost", sshd_fixture_port(s),
                   sshd_fixture_user(s)); /* ::1 too, where nothing listens */
    cr_assert(LOOP_UNTIL(c.loop, c.n_up || c.n_down));
    cr_assert_eq(c.n_up, 1, "%s", c.fault.text);
    client_close(&c);
    sshd_fixture_free(s);
}

Test(conn, closed_port_is_unreachable)
{
    struct client c = {0};

    client_open(&c);
    client_connect(&c, "127.0.0.1", closed_port(), "me");
    expect_down(&c, "unreachable", FAULT_TRANSIENT);
    cr_assert_not_null(strstr(c.fault.text, "refused"), "%s", c.fault.text);
    client_close(&c);
}

Test(conn, server_that_does_not_answer_is_unreachable_after_five_seconds_and_one_that_says_nothing_after_fifteen)
{
    struct target *t = target_new(TARGET_FULL), *deaf = target_new(TARGET_DEAF);
    struct client c = {0}, d = {0};

    client_open(&c);
    client_connect(&c, "127.0.0.1", target_port(t), "me");
    loop_turns(c.loop, 5);
    loop_advance(c.loop, 4900);
    cr_assert_eq(c.n_down, 0);
    loop_advance(c.loop, 200);
    expect_down(&c, "unreachable", FAULT_TRANSIENT);
    client_close(&c);
    client_open(&d);
    client_connect(&d, "127.0.0.1", target_port(deaf), "me");
    cr_assert(LOOP_UNTIL(d.loop, *ssh_conn_peer(d.conn)));
    loop_advance(d.loop, 15100);
    expect_down(&d, "unreachable", FAULT_TRANSIENT);
    cr_assert_not_null(strstr(d.fault.text, "handshake"), "%s", d.fault.text);
    client_close(&d);
    target_free(deaf);
    target_free(t);
}

Test(conn, owner_may_free_it_in_every_callback)
{
    struct sshd_fixture *s = sshd_fixture_new(NULL);

    REQUIRE_SSHD(s);
    for (unsigned i = 0; i < 3; i++) {
        struct client c = {.free_in_host_key = i == 0,
                           .free_in_up = i == 1,
                           .free_in_down = i == 2,
                           .refuse_host_key = i == 2};

        c.own_key = sshd_fixture_key(s);
        client_open(&c);
        client_connect(&c, "127.0.0.1", sshd_fixture_port(s), sshd_fixture_user(s));
        cr_assert(LOOP_UNTIL(c.loop, !c.conn));
        loop_turns(c.loop, 5);
        cr_assert_eq(c.n_down, i == 2);
        client_close(&c);
    }
    sshd_fixture_free(s);
}

Test(conn, freed_at_any_turn_of_the_way_up)
{
    struct sshd_fixture *s = sshd_fixture_new(NULL);

    REQUIRE_SSHD(s);
    for (unsigned turns = 0; turns < 60; turns += 2) {
        struct client c = {.own_key = sshd_fixture_key(s)};
        struct loop_bound b = {0};

        client_open(&c);
        client_connect(&c, "127.0.0.1", sshd_fixture_port(s), sshd_fixture_user(s));
        for (unsigned i = 0; i < turns; i++)
            loop_fixture_turn(c.loop, &b);
        client_close(&c);
        cr_assert_eq(c.n_down, 0, "who frees it needs no news of it");
    }
    sshd_fixture_free(s);
}

/* Life. */

Test(conn, killed_peer_is_lost)
{
    struct sshd_fixture *s = sshd_fixture_new(NULL);
    struct client c = {0};

    REQUIRE_SSHD(s);
    client_login(&c, s);
    cr_assert_gt(sshd_fixture_signal(s, SIGKILL), 0);
    cr_assert(LOOP_UNTIL(c.loop, c.n_down));
    cr_assert_str_eq(c.fault.code, "lost", "%s", c.fault.text);
    cr_assert_eq(c.fault.kind, FAULT_TRANSIENT);
    client_close(&c);
    sshd_fixture_free(s);
}

/* Moves the clock in small steps and lets the world answer in between; returns how many ms passed until it
 * was down. */
static uint64_t ms_until_down(struct client *c, uint64_t most_ms)
{
    uint64_t start = clock_now_ms();

    while (!c->n_down && clock_now_ms() - start < most_ms) {
        loop_advance(c->loop, 100);
        loop_turns(c->loop, 20);
    }
    return clock_now_ms() - start;
}

Test(conn, frozen_peer_is_found_within_ten_seconds)
{
    struct sshd_fixture *s = sshd_fixture_new(NULL);
    struct client c = {0};
    uint64_t took;

    REQUIRE_SSHD(s);
    client_login(&c, s);
    cr_assert(LOOP_UNTIL(c.loop, ssh_conn_rtt_ms(c.conn) >= 0));
    cr_assert_gt(sshd_fixture_signal(s, SIGSTOP), 0);
    took = ms_until_down(&c, 20000);
    cr_assert_eq(c.n_down, 1);
    cr_assert_str_eq(c.fault.code, "ping");
    cr_assert(took >= 6400 && took <= 10000, "%lu ms", (unsigned long)took);
    client_close(&c);
    sshd_fixture_free(s);
}

Test(conn, frozen_peer_is_found_within_three_seconds_when_somebody_waits)
{
    struct sshd_fixture *s = sshd_fixture_new(NULL);
    struct client c = {0};
    uint64_t took;

    REQUIRE_SSHD(s);
    client_login(&c, s);
    cr_assert(LOOP_UNTIL(c.loop, ssh_conn_rtt_ms(c.conn) >= 0));
    ssh_conn_waiters(c.conn, 1);
    cr_assert_gt(sshd_fixture_signal(s, SIGSTOP), 0);
    took = ms_until_down(&c, 20000);
    cr_assert_eq(c.n_down, 1);
    cr_assert_str_eq(c.fault.code, "ping");
    cr_assert(took >= 2400 && took <= 3500, "%lu ms", (unsigned long)took);
    client_close(&c);
    sshd_fixture_free(s);
}

/* Until the suspicion of a peer that is waited for. */
static void client_freeze(struct client *c, struct sshd_fixture *s)
{
    uint64_t start;

    c->hears_suspicion = true;
    client_login(c, s);
    cr_assert(LOOP_UNTIL(c->loop, ssh_conn_rtt_ms(c->conn) >= 0));
    ssh_conn_waiters(c->conn, 1);
    cr_assert_gt(sshd_fixture_signal(s, SIGSTOP), 0);
    start = clock_now_ms();
    while (!c->n_suspect && clock_now_ms() - start < 10000) {
        loop_advance(c->loop, 100);
        loop_turns(c->loop, 20);
    }
    cr_assert_eq(c->n_suspect, 1);
    cr_assert_lt(clock_now_ms() - start, 3500);
}

Test(conn, silent_peer_is_under_suspicion_until_ten_seconds_without_a_byte)
{
    struct sshd_fixture *s = sshd_fixture_new(NULL);
    struct client c = {0};
    uint64_t heard;

    REQUIRE_SSHD(s);
    client_freeze(&c, s);
    cr_assert(ssh_conn_is_up(c.conn));
    heard = ssh_conn_last_contact_due(c.conn);
    ssh_conn_waiters(c.conn, 2);
    ssh_conn_ping(c.conn);
    ms_until_down(&c, 20000);
    cr_assert_eq(c.n_down, 1);
    cr_assert_str_eq(c.fault.code, "ping");
    cr_assert(clock_now_ms() - heard >= 10000 && clock_now_ms() - heard < 10300, "%lu ms",
              (unsigned long)(clock_now_ms() - heard));
    cr_assert(c.n_suspect == 1 && c.n_spoke == 0);
    client_close(&c);
    sshd_fixture_free(s);
}

Test(conn, silent_peer_that_speaks_again_is_as_before)
{
    struct sshd_fixture *s = sshd_fixture_new(NULL);
    struct client c = {0};

    REQUIRE_SSHD(s);
    client_freeze(&c, s);
    cr_assert_gt(sshd_fixture_signal(s, SIGCONT), 0);
    cr_assert(LOOP_UNTIL(c.loop, c.n_spoke == 1));
    cr_assert(ssh_conn_is_up(c.conn));
    cr_assert_gt(sshd_fixture_signal(s, SIGSTOP), 0);
    ms_until_down(&c, 20000);
    cr_assert(c.n_suspect == 2 && c.n_spoke == 1 && c.n_down == 1);
    client_close(&c);
    sshd_fixture_free(s);
}

Test(conn, owner_may_free_it_when_it_is_silent)
{
    struct sshd_fixture *s = sshd_fixture_new(NULL);
    struct client c = {.free_in_suspect = true};

    REQUIRE_SSHD(s);
    client_freeze(&c, s);
    cr_assert_null(c.conn);
    cr_assert_eq(c.n_down, 0);
    client_close(&c);
    sshd_fixture_free(s);
}

static void live_for(struct client *c, uint64_t ms)
{
    for (uint64_t passed = 0; passed < ms; passed += 500) {
        uint64_t contact = ssh_conn_last_contact_due(c->conn);
        struct loop_bound b = {0};

        loop_advance(c->loop, 500);
        while (ssh_conn_last_contact_due(c->conn) == contact && clock_now_ms() - contact > 500 &&
               !c->n_down && b.waited_ms < 20) {
            loop_turn(c->loop, false);
            poll(NULL, 0, 1);
            b.waited_ms++;
        }
    }
}

/* The next instant at which the peer was heard, in steps of 100 ms. */
static uint64_t next_contact(struct client *c)
{
    uint64_t before = ssh_conn_last_contact_due(c->conn);

    for (unsigned steps = 0; steps < 100 && ssh_conn_last_contact_due(c->conn) == before; steps++) {
        loop_advance(c->loop, 100);
        for (unsigned waited_ms = 0; waited_ms < 10 && ssh_conn_last_contact_due(c->conn) == before;
             waited_ms++) {
            loop_turn(c->loop, false);
            poll(NULL, 0, 1);
        }
    }
    return ssh_conn_last_contact_due(c->conn);
}

/* So that a daemon with many of them wakes up once for all. */
Test(conn, idle_connections_ask_at_common_instants)
{
    struct sshd_fixture *s = sshd_fixture_new(NULL);
    struct client c = {0};
    uint64_t first, second;

    REQUIRE_SSHD(s);
    client_login(&c, s);
    cr_assert(LOOP_UNTIL(c.loop, ssh_conn_rtt_ms(c.conn) >= 0));
    first = next_contact(&c);
    second = next_contact(&c);
    cr_assert_lt(first % 2500, 500, "%lu", (unsigned long)first);
    cr_assert_lt(second % 2500, 500, "%lu", (unsigned long)second);
    cr_assert(second - first > 4000 && second - first < 6000, "%lu ms", (unsigned long)(second - first));
    client_close(&c);
    sshd_fixture_free(s);
}

Test(conn, living_peer_stays_while_waited_for_and_idle)
{
    struct sshd_fixture *s = sshd_fixture_new(NULL);
    struct client c = {0};

    REQUIRE_SSHD(s);
    client_login(&c, s);
    cr_assert(LOOP_UNTIL(c.loop, ssh_conn_rtt_ms(c.conn) >= 0));
    live_for(&c, 30000);
    cr_assert_eq(c.n_down, 0, "%s", c.fault.text);
    ssh_conn_waiters(c.conn, 2);
    live_for(&c, 10000);
    ssh_conn_waiters(c.conn, 0);
    live_for(&c, 10000);
    cr_assert_eq(c.n_down, 0, "%s", c.fault.text);
    client_close(&c);
    sshd_fixture_free(s);
}

Test(conn, asked_at_once_when_told_to)
{
    struct sshd_fixture *s = sshd_fixture_new(NULL);
    struct client c = {0};
    uint64_t took;

    REQUIRE_SSHD(s);
    client_login(&c, s);
    cr_assert(LOOP_UNTIL(c.loop, ssh_conn_rtt_ms(c.conn) >= 0));
    cr_assert_gt(sshd_fixture_signal(s, SIGSTOP), 0);
    ssh_conn_ping(c.conn);
    took = ms_until_down(&c, 20000);
    cr_assert(took >= 900 && took <= 1500, "%lu ms", (unsigned long)took);
    client_close(&c);
    sshd_fixture_free(s);
}

/* However long the machine slept: the peer has ten seconds from now on, as from any other silence. */
Test(conn, asked_after_sleep_it_has_its_time_to_answer)
{
    struct sshd_fixture *s = sshd_fixture_new(NULL);
    struct client c = {.hears_suspicion = true};
    uint64_t asked;

    REQUIRE_SSHD(s);
    client_login(&c, s);
    cr_assert(LOOP_UNTIL(c.loop, ssh_conn_rtt_ms(c.conn) >= 0));
    cr_assert_gt(sshd_fixture_signal(s, SIGSTOP), 0);
    clock_shift(c.loop, 3600000, true);
    ssh_conn_ping(c.conn);
    asked = clock_now_ms();
    while (!c.n_suspect && clock_now_ms() - asked < 10000)
        loop_advance(c.loop, 100);
    cr_assert(c.n_suspect == 1 && c.n_down == 0);
    cr_assert(clock_now_ms() - asked >= 900 && clock_now_ms() - asked < 1500);
    ms_until_down(&c, 20000);
    cr_assert_eq(c.n_down, 1);
    cr_assert(clock_now_ms() - asked >= 10000 && clock_now_ms() - asked < 10500, "%lu ms",
              (unsigned long)(clock_now_ms() - asked));
    client_close(&c);
    sshd_fixture_free(s);
}

/* A ping under way when the machine fell asleep says nothing about the peer. */
Test(conn, asked_before_sleep_it_is_not_blamed_for_it)
{
    struct sshd_fixture *s = sshd_fixture_new(NULL);
    struct client c = {.hears_suspicion = true};

    REQUIRE_SSHD(s);
    client_login(&c, s);
    cr_assert(LOOP_UNTIL(c.loop, ssh_conn_rtt_ms(c.conn) >= 0));
    cr_assert_gt(sshd_fixture_signal(s, SIGSTOP), 0);
    ssh_conn_ping(c.conn);
    loop_turns(c.loop, 3);
    clock_shift(c.loop, 3600000, true);
    ssh_conn_ping(c.conn);
    loop_turns(c.loop, 3);
    cr_assert(c.n_suspect == 1 && c.n_down == 0);
    cr_assert_gt(sshd_fixture_signal(s, SIGCONT), 0);
    cr_assert(LOOP_UNTIL(c.loop, c.n_spoke == 1));
    cr_assert(ssh_conn_is_up(c.conn));
    client_close(&c);
    sshd_fixture_free(s);
}

Test(conn, without_session_channels_it_is_asked_another_way)
{
    struct sshd_fixture *s = sshd_fixture_new("MaxSessions 0\n");
    struct client c = {0};
    uint64_t took;

    REQUIRE_SSHD(s);
    client_login(&c, s);
    loop_turns(c.loop, 50);
    ssh_conn_waiters(c.conn, 1);
    live_for(&c, 20000);
    cr_assert_eq(c.n_down, 0, "%s", c.fault.text);
    cr_assert_gt(sshd_fixture_signal(s, SIGSTOP), 0);
    took = ms_until_down(&c, 20000);
    cr_assert_str_eq(c.fault.code, "ping");
    cr_assert(took >= 2400 && took <= 3600, "%lu ms", (unsigned long)took);
    client_close(&c);
    sshd_fixture_free(s);
}
