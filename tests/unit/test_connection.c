/* The ways a call ends when the daemon does not answer as it should. A child plays the daemon. links: client
 */
#include <criterion/criterion.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>

#include "client/connection.h"
#include "client/output.h"
#include "proto/mem.h"

static char folder[64], path[96];
static pid_t child;

static void setup(void)
{
    strcpy(folder, "/tmp/test_connection_XXXXXX");
    cr_assert_not_null(mkdtemp(folder));
    snprintf(path, sizeof(path), "%s/control", folder);
    unsetenv("LLMHOST_SOCKET");
    child = 0;
}

static void teardown(void)
{
    if (child > 0) {
        kill(child, SIGKILL);
        waitpid(child, NULL, 0);
    }
    unlink(path);
    rmdir(folder);
}

TestSuite(connection, .init = setup, .fini = teardown);

enum play { SILENT, HALF, EMPTY, SIGN_OF_LIFE };

/* One message is read whole: a server that closes with bytes unread would reset the connection. */
static void read_message(int fd)
{
    char byte;

    while (read(fd, &byte, 1) == 1 && byte)
        ;
}

static void say(int fd, const char *text, size_t n)
{
    if (write(fd, text, n) != (ssize_t)n)
        _exit(1);
}

/* SIGN_OF_LIFE: the first connection gets its answer only after a second one has asked for a sign of life and
 * got it. */
static void play(int listener, enum play part)
{
    static const char answer[] = "{\"parameters\":{\"instances\":[]}}", empty[] = "{}";
    int first = accept(listener, NULL, NULL);

    read_message(first);
    if (part == HALF) {
        say(first, answer, 10);
        _exit(0);
    }
    if (part == EMPTY)
        say(first, empty, sizeof(empty));
    if (part == SIGN_OF_LIFE) {
        int second = accept(listener, NULL, NULL);

        read_message(second);
        say(second, answer, sizeof(answer));
        say(first, answer, sizeof(answer));
    }
    pause();
}

static struct connection *start(enum play part)
{
    struct sockaddr_un a = {.sun_family = AF_UNIX};
    int listener = socket(AF_UNIX, SOCK_STREAM, 0);
    struct connection *c = NULL;
    struct json *error = NULL;

    memcpy(a.sun_path, path, strlen(path) + 1);
    cr_assert_eq(bind(listener, (struct sockaddr *)&a, sizeof(a)), 0);
    cr_assert_eq(listen(listener, 8), 0);
    child = fork();
    if (child == 0)
        play(listener, part);
    close(listener);
    cr_assert_eq(connection_open(path, &c, &error), EXIT_DONE);
    return c;
}

static void expect_code(const struct call *call, const char *code)
{
    cr_assert_not_null(call->error);
    cr_assert_str_eq(json_get_text(call->error, "code"), code);
}

Test(connection, silent_daemon_is_found_out)
{
    struct connection *c = start(SILENT);
    _cleanup_call_ struct call call = {.method = "Status"};

    connection_set_patience(c, 20, 20);
    cr_assert_eq(connection_run(c, &call), EXIT_NO_DAEMON);
    expect_code(&call, "no_answer");
    connection_free(c);
}

Test(connection, slow_daemon_that_shows_a_sign_of_life_is_waited_for)
{
    struct connection *c = start(SIGN_OF_LIFE);
    _cleanup_call_ struct call call = {.method = "InstanceList"};

    connection_set_patience(c, 20, 10000);
    cr_assert_eq(connection_run(c, &call), EXIT_DONE);
    cr_assert_not_null(call.answer);
    connection_free(c);
}

Test(connection, daemon_that_dies_within_a_reply_is_gone)
{
    struct connection *c = start(HALF);
    _cleanup_call_ struct call call = {.method = "Status"};

    cr_assert_eq(connection_run(c, &call), EXIT_NO_DAEMON);
    expect_code(&call, "daemon_gone");
    connection_free(c);
}

/* The contract says it for Status; for Up the verb does, since its replies have other parts. */
Test(connection, answer_without_what_it_must_have_is_no_success)
{
    static const char *const rows[][2] = {{"Status", NULL}, {"Up", "model"}, {"InstanceAdd", "instance"}};

    for (size_t i = 0; i < ELEMENTS(rows); i++) {
        struct connection *c = start(EMPTY);
        _cleanup_call_ struct call call = {.method = rows[i][0], .needs = rows[i][1]};

        cr_assert_eq(connection_run(c, &call), EXIT_NO_DAEMON, "%s", rows[i][0]);
        expect_code(&call, "bad_reply");
        cr_assert_null(call.answer);
        connection_free(c);
        kill(child, SIGKILL);
        waitpid(child, NULL, 0);
        unlink(path);
    }
    child = 0;
}

static void count_tick(void *ctx)
{
    ++*(unsigned *)ctx;
}

Test(connection, own_limit_ends_the_wait_and_ticks_go_on_until_then)
{
    struct connection *c = start(SILENT);
    unsigned ticks = 0;
    _cleanup_call_ struct call call = {
        .method = "Status", .limit_ms = 60, .on_tick = count_tick, .tick_ms = 10, .ctx = &ticks};

    cr_assert_eq(connection_run(c, &call), EXIT_TIMED_OUT);
    expect_code(&call, "timed_out");
    cr_assert_geq(ticks, 1);
    connection_free(c);
}

static void interrupt_self(void *ctx)
{
    (void)ctx;
    kill(getpid(), SIGINT);
}

Test(connection, interrupt_ends_the_wait_without_an_error)
{
    struct connection *c = start(SILENT);
    _cleanup_call_ struct call call = {.method = "Status", .on_tick = interrupt_self, .tick_ms = 10};

    cr_assert_eq(connection_run(c, &call), EXIT_INTERRUPTED);
    cr_assert_null(call.error);
    connection_free(c);
}

Test(connection, socket_path_that_is_too_long_is_said)
{
    char longer[200];
    struct connection *c = NULL;
    _cleanup_json_ struct json *error = NULL;

    memset(longer, 'x', sizeof(longer) - 1);
    longer[0] = '/';
    longer[sizeof(longer) - 1] = '\0';
    cr_assert_eq(connection_open(longer, &c, &error), EXIT_NO_DAEMON);
    cr_assert_null(c);
    cr_assert_not_null(strstr(json_get_text(error, "message"), "too long"));
}

Test(connection, secrets_are_overwritten_in_place)
{
    struct json *secret = json_object();
    _cleanup_call_ struct call call = {.method = "InstanceAdd", .parameters = json_object()};
    const char *text;

    json_put_string(secret, "text", "tr0ub4dor");
    json_put(call.parameters, "password", secret);
    text = json_text(json_get(secret, "text"));
    call_wipe(&call);
    for (size_t i = 0; i < strlen("tr0ub4dor"); i++)
        cr_assert_eq(text[i], '\0');
}
