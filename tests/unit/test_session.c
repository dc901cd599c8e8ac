/* The session against a real sshd: logins, our own key, losses with work in flight, forwards across a
 * reconnect. */
#include <arpa/inet.h>
#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include "base/clock.h"
#include "base/event.h"
#include "base/log.h"
#include "base/op.h"
#include "base/resolve.h"
#include "session/forward.h"
#include "session/host.h"
#include "session/session_private.h"
#include "store/secrets.h"
#include "tests/fixture/loop_fixture.h"
#include "tests/fixture/sshd_fixture.h"

static char home[] = "/tmp/test_session.XXXXXX";
static struct sshd_fixture *sshd;
static struct loop *loop;
static struct resolver *resolver;
static struct secrets *secrets;
static struct session *session;
static struct host *host;
static struct op *op;

static struct {
    unsigned changes, pins;
    struct host_key pinned;
    char events[2000];
} seen;

static struct {
    unsigned n;
    int status;
    char out[512];
    struct stream *stream;
    struct fault fault;
} answer;

static void on_changed(void *ctx, struct session *s)
{
    cr_assert_eq(ctx, &seen);
    cr_assert_eq(s, session);
    seen.changes++;
}

static void on_pin(void *ctx, const struct host_key *shown)
{
    cr_assert_eq(ctx, &seen);
    seen.pins++;
    memcpy(&seen.pinned, shown, offsetof(struct host_key, blob) + shown->n);
}

static void on_event(void *ctx, const struct event *e)
{
    size_t n = strlen(seen.events);

    (void)ctx;
    cr_assert_str_eq(e->target, "gpu-a");
    cr_assert_eq(e->source, LOG_SESSION);
    snprintf(seen.events + n, sizeof(seen.events) - n, "%s;", e->kind);
}

static struct event_listener listener = {.heard = on_event};

static char *path_of(const char *name)
{
    return xasprintf("%s/%s", home, name);
}

static char *read_file(const char *name)
{
    _cleanup_free_ char *path = path_of(name);
    char *text = xalloc(16384);
    FILE *f = fopen(path, "r");

    cr_assert_not_null(f, "%s", path);
    cr_assert_lt(fread(text, 1, 16383, f), 16383);
    fclose(f);
    return text;
}

static void write_file(const char *name, const char *text)
{
    _cleanup_free_ char *path = path_of(name);
    FILE *f = fopen(path, "w");

    cr_assert(f && fputs(text, f) >= 0 && fclose(f) == 0);
}

/* The keys that are let in are those of a home of the test's own, so that our key can be added to them. */
static void setup_with(const char *extra)
{
    _cleanup_free_ char *public = NULL;
    const char *name = ".ssh/authorized_keys";

    cr_assert_not_null(mkdtemp(home));
    _cleanup_free_ char *ssh = path_of(".ssh"), *keys = path_of(name);
    _cleanup_free_ char *config = xasprintf("AuthorizedKeysFile %s\nSetEnv HOME=%s\n%s", keys, home, extra);

    sshd = sshd_fixture_new(config);
    if (!sshd)
        return;
    cr_assert_eq(mkdir(ssh, 0700), 0);
    cr_assert_eq(key_public(sshd_fixture_key(sshd), &public), 0);
    write_file(name, public); /* without a newline at the end: such files exist */
    loop = loop_new();
    resolver = resolver_new(loop);
    cr_assert_eq(secrets_open(home, &secrets), 0);
    event_listen(&listener);
}

static void setup(void)
{
    setup_with("");
}

static void setup_single(void)
{
    setup_with("MaxSessions 1");
}

static void teardown(void)
{
    _cleanup_free_ char *command = xasprintf("rm -rf %s", home);

    if (sshd) {
        op_cancel(&op);
        stream_free(answer.stream, false);
        host_free(host);
        session_free(session);
        secrets_free(secrets);
        resolver_free(resolver);
        event_unlisten(&listener);
        loop_free_dry(loop);
        log_close();
        sshd_fixture_free(sshd);
    }
    cr_assert_eq(system(command), 0);
}

TestSuite(session, .init = setup, .fini = teardown, .timeout = 90);
TestSuite(session_single, .init = setup_single, .fini = teardown, .timeout = 90);

#define REQUIRE_SSHD()                                                                                       \
    do {                                                                                                     \
        if (!sshd)                                                                                           \
            cr_skip_test("no sshd here");                                                                    \
    } while (0)

static struct session_target target_at(uint16_t port)
{
    return (struct session_target){
        .host = "127.0.0.1", .port = port, .user = sshd_fixture_user(sshd), .pinned = &seen.pinned};
}

static void begin(const struct session_target *target)
{
    static const struct session_events events = {.changed = on_changed, .pin = on_pin};

    session = session_new(loop, resolver, NULL, secrets, "gpu-a", target, &events, &seen);
    host = host_ssh_new(session);
    session_want(session, true);
}

static void allow(void)
{
    cr_assert_eq(secrets_put(secrets, "gpu-a", "key", sshd_fixture_key(sshd)), 0);
}

static bool is_up(void)
{
    return session_state(session) == SESSION_UP;
}

static void come_up(void)
{
    struct session_target target = target_at(sshd_fixture_port(sshd));

    allow();
    begin(&target);
    cr_assert(LOOP_UNTIL(loop, is_up() && seen.changes > 0), "%s", session_fault(session)->text);
}

static void on_ran(void *ctx, struct run_result *result, const struct fault *f)
{
    cr_assert_eq(ctx, &answer);
    cr_assert_null(op);
    answer.n++;
    if (f) {
        answer.fault = *f;
        return;
    }
    answer.status = result->status;
    snprintf(answer.out, sizeof(answer.out), "%s", buf_text(&result->out));
}

static void on_dialled(void *ctx, struct stream *s, const struct fault *f)
{
    cr_assert_eq(ctx, &answer);
    cr_assert_null(op);
    answer.n++;
    answer.stream = s;
    if (f)
        answer.fault = *f;
}

static void on_done(void *ctx, const struct fault *f)
{
    cr_assert_eq(ctx, &answer);
    answer.n++;
    if (f)
        answer.fault = *f;
}

static void run(const char *script)
{
    answer.n = 0;
    answer.fault = (struct fault){0};
    host_run(host, &(struct run_spec){.script = script}, &op, on_ran, &answer);
    cr_assert(LOOP_UNTIL(loop, answer.n == 1));
    cr_assert_eq(answer.fault.kind, FAULT_NONE, "%s", answer.fault.text);
}

Test(session, comes_up_pins_and_works)
{
    struct session_figures figures;
    char shown[FINGERPRINT_BYTES];

    REQUIRE_SSHD();
    come_up();
    cr_assert_eq(seen.pins, 1);
    cr_assert_str_eq(seen.pinned.algorithm, "ssh-ed25519");
    cr_assert_eq(strncmp(host_key_fingerprint(&seen.pinned, shown), "SHA256:", 7), 0);
    session_figures(session, &figures);
    cr_assert_str_eq(figures.method, "key");
    run("echo $((6*7)); exit 5");
    cr_assert_eq(answer.status, 5);
    cr_assert_str_eq(answer.out, "42\n");
    cr_assert_str_eq(seen.events, "tunnel_up;");
    cr_assert(host_is_reachable(host));
    session_want(session, false);
    cr_assert(LOOP_UNTIL(loop, seen.changes == 3));
    cr_assert_eq(session_state(session), SESSION_IDLE);
    cr_assert(!host_is_reachable(host));
}

Test(session, puts_its_own_key_there_once_and_takes_it_away_again)
{
    struct session_target target = target_at(sshd_fixture_port(sshd));
    _cleanup_free_ char *before = NULL, *after = NULL, *again = NULL, *removed = NULL, *mine = NULL,
                        *public = NULL;
    struct session_figures figures;

    REQUIRE_SSHD();
    before = read_file(".ssh/authorized_keys");
    target.install_key = true;
    allow();
    begin(&target);
    cr_assert(LOOP_UNTIL(loop, is_up()));
    cr_assert(LOOP_UNTIL(loop, !session->key_op));
    after = read_file(".ssh/authorized_keys");
    cr_assert_eq(secrets_get(secrets, "daemon", "key", &mine), 0);
    cr_assert_eq(key_public(mine, &public), 0);
    cr_assert_eq(strncmp(after, before, strlen(before)), 0, "what was there stays");
    cr_assert_eq(after[strlen(before)], '\n');
    cr_assert_eq(strncmp(after + strlen(before) + 1, public, strlen(public)), 0);
    cr_assert_eq(strncmp(after + strlen(before) + 1 + strlen(public), " llmhost-", 9), 0, "%s", after);
    cr_assert_eq(after[strlen(after) - 1], '\n');

    /* Now without anything but it. */
    secrets_remove(secrets, "gpu-a", "key");
    session_want(session, false);
    session_want(session, true);
    cr_assert(LOOP_UNTIL(loop, is_up()));
    session_figures(session, &figures);
    cr_assert_str_eq(figures.method, "own key");

    answer.n = 0;
    session_forget_key(session, &op, on_done, &answer);
    cr_assert(LOOP_UNTIL(loop, answer.n == 1));
    cr_assert_eq(answer.fault.kind, FAULT_NONE, "%s", answer.fault.text);
    removed = read_file(".ssh/authorized_keys");
    cr_assert_eq(strncmp(removed, before, strlen(before)), 0);
    cr_assert_str_eq(removed + strlen(before), "\n");
    run("ls -A ~/.ssh | wc -l");
    cr_assert_eq(atoi(answer.out), 1, "nothing is left beside it");
    answer.n = 0;
    session_forget_key(session, &op, on_done, &answer);
    cr_assert(LOOP_UNTIL(loop, answer.n == 1));
    cr_assert_eq(answer.fault.kind, FAULT_NONE, "a second time is no failure");
    explicit_bzero(mine, strlen(mine));
}

Test(session, a_key_that_somebody_restricted_is_neither_added_again_nor_removed)
{
    struct session_target target = target_at(sshd_fixture_port(sshd));
    _cleanup_free_ char *before = NULL, *edited = NULL, *after = NULL, *mine = NULL, *public = NULL;
    struct session_figures figures;

    REQUIRE_SSHD();
    before = read_file(".ssh/authorized_keys");
    cr_assert_eq(key_generate(&mine, &public), 0);
    cr_assert_eq(secrets_put(secrets, "daemon", "key", mine), 0);
    edited = xasprintf("%s\nfrom=\"192.0.2.1\" %s not from here\n", before, public);
    write_file(".ssh/authorized_keys", edited);
    target.install_key = true;
    allow();
    begin(&target);
    cr_assert(LOOP_UNTIL(loop, is_up() && session->key_op));
    session_figures(session, &figures);
    cr_assert_str_eq(figures.method, "key");
    cr_assert(LOOP_UNTIL(loop, !session->key_op));
    session_forget_key(session, &op, on_done, &answer);
    cr_assert(LOOP_UNTIL(loop, answer.n == 1));
    cr_assert_eq(answer.fault.kind, FAULT_NONE, "%s", answer.fault.text);
    after = read_file(".ssh/authorized_keys");
    cr_assert_str_eq(after, edited);
}

Test(session, install_key_no_leaves_the_machine_as_it_is)
{
    _cleanup_free_ char *before = NULL, *after = NULL;
    char *mine = NULL;

    REQUIRE_SSHD();
    before = read_file(".ssh/authorized_keys");
    come_up();
    cr_assert_null(session->key_op);
    run("true");
    after = read_file(".ssh/authorized_keys");
    cr_assert_str_eq(before, after);
    cr_assert_eq(secrets_get(secrets, "daemon", "key", &mine), -ENOENT);
}

Test(session, refused_credentials_stop_it_until_they_are_others)
{
    struct session_target target = target_at(sshd_fixture_port(sshd));
    _cleanup_free_ char *stranger = NULL, *public = NULL, *log = NULL;

    REQUIRE_SSHD();
    cr_assert_eq(key_generate(&stranger, &public), 0);
    cr_assert_eq(secrets_put(secrets, "gpu-a", "key", stranger), 0);
    begin(&target);
    host_run(host, &(struct run_spec){.script = "echo patient"}, &op, on_ran, &answer);
    cr_assert(LOOP_UNTIL(loop, session_state(session) == SESSION_REFUSED));
    cr_assert_str_eq(session_fault(session)->code, "login_refused");
    cr_assert_str_eq(seen.events, "tunnel_refused;");
    loop_advance(loop, 3600000);
    session_hurry(session);
    loop_turns(loop, 20);
    cr_assert_eq(session_state(session), SESSION_REFUSED);
    cr_assert_eq(answer.n, 0, "the command waits for as long as its owner likes");
    allow();
    session_renew(session, NULL);
    cr_assert(LOOP_UNTIL(loop, answer.n == 1));
    cr_assert_str_eq(answer.out, "patient\n");
    cr_assert_eq(session_fault(session)->kind, FAULT_NONE);
}

Test(session, another_host_key_is_refused_with_nothing_said)
{
    struct session_target target = target_at(sshd_fixture_port(sshd));
    _cleanup_free_ char *log = NULL;

    REQUIRE_SSHD();
    come_up();
    session_want(session, false);
    host = host_free(host);
    session = session_free(session);
    seen.pinned.blob[seen.pinned.n - 1] ^= 1;
    begin(&target);
    cr_assert(LOOP_UNTIL(loop, session_state(session) == SESSION_REFUSED));
    cr_assert_str_eq(session_fault(session)->code, "host_key");
    cr_assert(strstr(session_fault(session)->text, "no password was sent"), "%s",
              session_fault(session)->text);
    cr_assert_eq(session_shown_key(session)->n, seen.pinned.n);
    cr_assert_eq(seen.pins, 1);
    target.pinned = session_shown_key(session);
    session_renew(session, &target);
    cr_assert(LOOP_UNTIL(loop, is_up()));
}

Test(session, a_lost_connection_is_back_at_once_and_a_running_command_is_uncertain)
{
    struct session_figures figures;

    REQUIRE_SSHD();
    come_up();
    loop_advance(loop, 5000);
    run("true");
    answer.n = 0;
    host_run(host, &(struct run_spec){.script = "echo started >~/started; sleep 100"}, &op, on_ran, &answer);
    _cleanup_free_ char *started = path_of("started");
    struct stat st;

    cr_assert(LOOP_UNTIL(loop, stat(started, &st) == 0));
    cr_assert_gt(sshd_fixture_signal(sshd, SIGKILL), 0);
    cr_assert(LOOP_UNTIL(loop, answer.n == 1));
    cr_assert_eq(answer.fault.kind, FAULT_UNCERTAIN, "%s", answer.fault.text);
    cr_assert(LOOP_UNTIL(loop, is_up()));
    session_figures(session, &figures);
    cr_assert_eq(figures.reconnects, 1);
    cr_assert_neq(figures.last_break[0], '\0');
    cr_assert_str_eq(seen.events, "tunnel_up;tunnel_lost;tunnel_restored;");
    run("echo again");
    cr_assert_str_eq(answer.out, "again\n");
}

Test(session, a_frozen_machine_is_noticed_and_a_dial_outlives_it)
{
    struct target *echo = target_new(TARGET_ECHO);
    unsigned waited_ms = 0;
    char text[8];

    REQUIRE_SSHD();
    come_up();
    run("true");
    cr_assert_gt(sshd_fixture_signal(sshd, SIGSTOP), 0);
    answer.n = 0;
    host_dial(host, "127.0.0.1", target_port(echo), HOST_STREAM, &op, on_dialled, &answer);
    for (; is_up() && waited_ms < 20000; waited_ms += 100) {
        loop_advance(loop, 100);
        loop_turns(loop, 5);
    }
    cr_assert_leq(waited_ms, 3200, "a request waits");
    cr_assert(LOOP_UNTIL(loop, answer.n == 1));
    cr_assert_not_null(answer.stream, "%s", answer.fault.text);
    cr_assert_eq(stream_write(answer.stream, "hello", 5), 5);
    cr_assert(LOOP_UNTIL(loop, stream_read(answer.stream, text, sizeof(text)) == 5));
    sshd_fixture_signal(sshd, SIGKILL);
    target_free(echo);
}

static struct stream *dial_echo(struct target *echo)
{
    answer.n = 0;
    host_dial(host, "127.0.0.1", target_port(echo), HOST_STREAM, &op, on_dialled, &answer);
    cr_assert(LOOP_UNTIL(loop, answer.n == 1));
    cr_assert_not_null(answer.stream, "%s", answer.fault.text);
    return TAKE_PTR(answer.stream);
}

static void stream_echoes(struct stream *s, const char *text)
{
    char got[16];
    size_t n = strlen(text);

    cr_assert_eq(stream_write(s, text, n), (ssize_t)n);
    cr_assert(LOOP_UNTIL(loop, stream_read(s, got, sizeof(got)) == (ssize_t)n));
    cr_assert_eq(memcmp(got, text, n), 0);
}

static unsigned links(void)
{
    unsigned n = 0;

    LIST_FOREACH (link, &session->links, struct session_link, node)
        n++;
    return n;
}

/* Each time the machine answers the ping that is due, however slow it is. Somebody waits. */
static void live_for(unsigned ms)
{
    for (unsigned passed = 0; passed < ms; passed += 600) {
        uint64_t heard = ssh_conn_last_contact_due(session->link->conn);

        loop_advance(loop, 600);
        cr_assert(LOOP_UNTIL(loop, ssh_conn_last_contact_due(session->link->conn) > heard));
    }
}

/* What a machine under load does to us, or a path that is away for some seconds. */
Test(session, a_stream_outlives_silence_while_new_ones_have_a_second_connection)
{
    struct target *echo = target_new(TARGET_ECHO);
    struct stream *old, *new;
    struct session_figures figures;

    REQUIRE_SSHD();
    come_up();
    old = dial_echo(echo);
    stream_echoes(old, "before");
    cr_assert_gt(sshd_fixture_signal(sshd, SIGSTOP), 0);
    session_waiting(session, 1);
    cr_assert_eq(stream_write(old, "meanwhile", 9), 9);
    for (unsigned ms = 0; is_up() && ms < 3500; ms += 100) {
        loop_advance(loop, 100);
        loop_turns(loop, 5);
    }
    cr_assert(!is_up());
    cr_assert_str_eq(session_fault(session)->code, "ping");
    new = dial_echo(echo);
    stream_echoes(new, "new");
    cr_assert_eq(links(), 2);
    live_for(3000);
    cr_assert_gt(sshd_fixture_signal(sshd, SIGCONT), 0);
    char got[16];

    cr_assert(LOOP_UNTIL(loop, stream_read(old, got, sizeof(got)) == 9));
    cr_assert_eq(memcmp(got, "meanwhile", 9), 0);
    stream_echoes(old, "after");
    cr_assert_eq(links(), 2);
    session_figures(session, &figures);
    cr_assert_eq(figures.reconnects, 1);
    cr_assert(strstr(figures.last_break, "no byte for"), "%s", figures.last_break);
    cr_assert_str_eq(seen.events, "tunnel_up;tunnel_lost;tunnel_restored;");
    stream_free(old, false);
    live_for(12000);
    cr_assert_eq(links(), 1, "the old one went with its last stream");
    stream_echoes(new, "still");
    stream_free(new, false);
    target_free(echo);
}

Test(session, stalls_of_two_seconds_lose_nothing)
{
    struct target *echo = target_new(TARGET_ECHO);
    struct stream *stream;

    REQUIRE_SSHD();
    come_up();
    stream = dial_echo(echo);
    session_waiting(session, 1);
    for (unsigned i = 0; i < 8; i++) {
        cr_assert_gt(sshd_fixture_signal(sshd, SIGSTOP), 0);
        loop_advance(loop, 1000);
        loop_advance(loop, 1000);
        cr_assert_gt(sshd_fixture_signal(sshd, SIGCONT), 0);
        stream_echoes(stream, "here");
    }
    session_waiting(session, -1);
    cr_assert_str_eq(seen.events, "tunnel_up;");
    cr_assert_eq(session->links_made, 1);
    stream_free(stream, false);
    target_free(echo);
}

Test(session, what_was_asked_before_it_was_there_is_done_when_it_is)
{
    struct session_target target = target_at(closed_port());

    REQUIRE_SSHD();
    allow();
    begin(&target);
    host_run(host, &(struct run_spec){.script = "echo at last"}, &op, on_ran, &answer);
    cr_assert(LOOP_UNTIL(loop, session_state(session) == SESSION_WAITING));
    cr_assert_str_eq(session_fault(session)->code, "unreachable");
    struct session_figures figures;

    session_figures(session, &figures);
    cr_assert_gt(figures.next_try_at_ms, clock_wall_ms() - 1000);
    target = target_at(sshd_fixture_port(sshd));
    session_renew(session, &target);
    cr_assert(LOOP_UNTIL(loop, answer.n == 1));
    cr_assert_str_eq(answer.out, "at last\n");
}

static unsigned others;

static void on_other(void *ctx, struct run_result *result, const struct fault *f)
{
    (void)ctx;
    cr_assert(!f, "%s", f->text);
    cr_assert_str_eq(buf_text(&result->out), "not held up\n");
    others++;
}

Test(session, nothing_listening_there_is_said_by_its_code)
{
    REQUIRE_SSHD();
    come_up();
    host_dial(host, "127.0.0.1", closed_port(), HOST_STREAM, &op, on_dialled, &answer);
    cr_assert(LOOP_UNTIL(loop, answer.n == 1));
    cr_assert_null(answer.stream);
    cr_assert_str_eq(answer.fault.code, "refused");
    cr_assert(is_up());
}

Test(session, a_port_that_never_answers_leaves_the_way_open_for_others)
{
    struct target *full = target_new(TARGET_FULL);
    struct op *other = NULL;

    REQUIRE_SSHD();
    come_up();
    host_dial(host, "127.0.0.1", target_port(full), HOST_STREAM, &op, on_dialled, &answer);
    cr_assert(LOOP_UNTIL(loop, ssh_conn_dialling_due(session->link->conn) > 0));
    live_for(3600);
    host_run(host, &(struct run_spec){.script = "echo not held up"}, &other, on_other, NULL);
    cr_assert(LOOP_UNTIL(loop, others == 1));
    cr_assert_eq(answer.n, 0);
    op_cancel(&op);
    target_free(full);
}

static struct op *many[40];
static unsigned gone;

static void on_gone(void *ctx, struct run_result *result, const struct fault *f)
{
    (void)ctx, (void)result;
    cr_assert(f && f->kind == FAULT_GONE);
    gone++;
}

static void free_it(void *ctx, struct run_result *result, const struct fault *f)
{
    (void)ctx, (void)result, (void)f;
    host = host_free(host);
    session = session_free(session);
}

#define CROWD 30

static struct op *crowd[CROWD];
static unsigned crowd_done;

static void on_crowd(void *ctx, struct run_result *result, const struct fault *f)
{
    (void)ctx;
    cr_assert(!f, "%s", f->text);
    cr_assert_eq(result->status, 0);
    crowd_done++;
}

/* sshd refuses the eleventh session channel of a connection, unless it was told otherwise. */
Test(session, more_commands_than_the_machine_runs_at_a_time_take_turns)
{
    struct session_figures figures;

    REQUIRE_SSHD();
    come_up();
    for (unsigned i = 0; i < CROWD; i++)
        host_run(host, &(struct run_spec){.script = "sleep 0.1"}, &crowd[i], on_crowd, &answer);
    cr_assert(LOOP_UNTIL(loop, crowd_done == CROWD), "%u", crowd_done);
    run("echo still");
    cr_assert_str_eq(answer.out, "still\n");
    session_figures(session, &figures);
    cr_assert_eq(figures.reconnects, 0);
}

Test(session, commands_that_never_end_do_not_keep_the_others_from_running)
{
    REQUIRE_SSHD();
    come_up();
    for (unsigned i = 0; i < 15; i++)
        host_run(host,
                 &(struct run_spec){.script = "echo x >>~/began; exec sleep 1000", .timeout_ms = UINT64_MAX},
                 &crowd[i], on_crowd, &answer);
    run("until [ $(wc -l <~/began) = 15 ]; do sleep 0.05; done; echo all");
    cr_assert_str_eq(answer.out, "all\n");
    cr_assert_eq(crowd_done, 0);
    for (unsigned i = 0; i < 15; i++)
        op_cancel(&crowd[i]);
    run("echo after");
    cr_assert_str_eq(answer.out, "after\n");
}

/* sshd keeps its place until its process is gone, and nobody says when. */
Test(session_single, a_command_that_was_given_up_holds_up_the_next_one_no_longer_than_it_lives)
{
    _cleanup_free_ char *began = path_of("began");

    REQUIRE_SSHD();
    come_up();
    run("true");
    cr_assert(session->is_single);
    host_run(host, &(struct run_spec){.script = ">~/began; sleep 1"}, &op, on_ran, &answer);
    cr_assert(LOOP_UNTIL(loop, access(began, F_OK) == 0));
    op_cancel(&op);
    run("echo after");
    cr_assert_str_eq(answer.out, "after\n");
}

Test(session, may_be_freed_from_an_answer_with_work_in_flight)
{
    REQUIRE_SSHD();
    come_up();
    for (unsigned i = 0; i < ELEMENTS(many); i++)
        host_run(host, &(struct run_spec){.script = i ? "sleep 100" : "true"}, &many[i],
                 i ? on_gone : free_it, NULL);
    op_cancel(&many[7]);
    cr_assert(LOOP_UNTIL(loop, !session && gone == ELEMENTS(many) - 2));
}

Test(session, puts_files_through_it)
{
    static char data[3 << 20];
    _cleanup_free_ char *path = path_of("a file");
    struct stat st;

    REQUIRE_SSHD();
    come_up();
    memset(data, 'z', sizeof(data));
    host_put(host, "~/a file", 0700, data, sizeof(data), &op, on_done, &answer);
    cr_assert(LOOP_UNTIL(loop, answer.n == 1));
    cr_assert_eq(answer.fault.kind, FAULT_NONE, "%s", answer.fault.text);
    cr_assert(stat(path, &st) == 0 && st.st_size == (off_t)sizeof(data) && (st.st_mode & 0777) == 0700);
    cr_assert_eq(session->links_made, 2, "on a connection of its own");
}

static int call(uint16_t port)
{
    struct sockaddr_in a = {
        .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK), .sin_port = htons(port)};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    cr_assert_eq(connect(fd, (struct sockaddr *)&a, sizeof(a)), 0);
    fcntl(fd, F_SETFL, O_NONBLOCK);
    return fd;
}

static void echo_through(int fd, const char *text)
{
    char got[64];
    ssize_t n = -1;

    cr_assert_eq(send(fd, text, strlen(text), MSG_NOSIGNAL), (ssize_t)strlen(text));
    cr_assert(LOOP_UNTIL(loop, (n = recv(fd, got, sizeof(got), 0)) >= 0 || errno != EAGAIN));
    cr_assert_eq(n, (ssize_t)strlen(text), "%s", n < 0 ? strerror(errno) : "an end");
    cr_assert_eq(memcmp(got, text, strlen(text)), 0);
}

Test(session, a_forward_holds_while_it_is_down_and_resets_what_was_cut)
{
    struct target *echo = target_new(TARGET_ECHO);
    struct forward *forward;
    char c;
    ssize_t n = -1;

    REQUIRE_SSHD();
    come_up();
    cr_assert_eq(forward_new_tcp(loop, host, "127.0.0.1", 0, "127.0.0.1", target_port(echo), &forward), 0);
    int cut = call(forward_port(forward));

    echo_through(cut, "before");
    session_want(session, false);
    cr_assert(LOOP_UNTIL(loop, (n = recv(cut, &c, 1, 0)) >= 0 || errno != EAGAIN));
    cr_assert(n < 0 && errno == ECONNRESET, "a failure, not a short answer");
    int held = call(forward_port(forward));

    cr_assert_eq(send(held, "ear", 3, MSG_NOSIGNAL), 3);
    cr_assert(LOOP_UNTIL(loop, forward_connections(forward) == 1));
    session_want(session, true);
    cr_assert(LOOP_UNTIL(loop, recv(held, &c, 1, MSG_PEEK) == 1));
    char early[3];

    cr_assert_eq(recv(held, early, 3, 0), 3);
    echo_through(held, "after");
    close(cut), close(held);
    forward_free(forward);
    target_free(echo);
}
