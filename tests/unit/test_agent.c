/* links: ssh
 * A real ssh-agent and a real sshd; agents that misbehave are played by a socket of ours. */
#include "ssh/agent.h"

#include <fcntl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>

#include "base/stream.h"
#include "tests/fixture/ssh_client.h"

/* An agent with a directory of its own; asks "yes" of nobody unless there is a file "no" or "wait" in it. */
struct real_agent {
    char directory[64], socket[80];
    pid_t pid;
};

static const char askpass[] = "#!/bin/sh\n"
                              "d=${0%/*}\n"
                              "while [ -e \"$d/wait\" ]; do sleep 0.02; done\n"
                              "[ ! -e \"$d/no\" ]\n";

static void put_file(const struct real_agent *a, const char *name, const char *text, unsigned mode)
{
    char path[128];
    int fd;

    snprintf(path, sizeof(path), "%s/%s", a->directory, name);
    fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, mode);
    cr_assert_geq(fd, 0);
    cr_assert_eq(write(fd, text, strlen(text)), (ssize_t)strlen(text));
    close(fd);
}

/* That its socket is there says only that it has a name. */
static bool agent_listens(const struct real_agent *a)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0), r;

    snprintf(address.sun_path, sizeof address.sun_path, "%s", a->socket);
    r = connect(fd, (struct sockaddr *)&address, sizeof address);
    close(fd);
    return r == 0;
}

static bool agent_start(struct real_agent *a)
{
    char program[80];

    if (access("/usr/bin/ssh-agent", X_OK) < 0 || access("/usr/bin/ssh-add", X_OK) < 0)
        return false;
    strcpy(a->directory, "/tmp/test_agent.XXXXXX");
    cr_assert_not_null(mkdtemp(a->directory));
    snprintf(a->socket, sizeof(a->socket), "%s/s", a->directory);
    snprintf(program, sizeof(program), "%s/askpass", a->directory);
    put_file(a, "askpass", askpass, 0700);
    a->pid = fork();
    if (a->pid == 0) {
        setenv("SSH_ASKPASS", program, 1);
        setenv("SSH_ASKPASS_REQUIRE", "force", 1);
        setenv("DISPLAY", ":0", 1);
        execl("/usr/bin/ssh-agent", "ssh-agent", "-D", "-a", a->socket, NULL);
        _exit(127);
    }
    for (unsigned i = 0; i < 500 && !agent_listens(a); i++)
        poll(NULL, 0, 10);
    cr_assert(agent_listens(a), "an agent");
    return true;
}

static void agent_end(struct real_agent *a)
{
    char command[128];

    kill(a->pid, SIGKILL);
    waitpid(a->pid, NULL, 0);
    snprintf(command, sizeof(command), "rm -rf '%s'", a->directory);
    cr_assert_eq(system(command), 0);
}

static void agent_add(const struct real_agent *a, const char *key, const char *option)
{
    char command[400];

    put_file(a, "key", key, 0600);
    snprintf(command, sizeof(command), "SSH_AUTH_SOCK=%s ssh-add -q %s %s/key 2>/dev/null", a->socket, option,
             a->directory);
    cr_assert_eq(system(command), 0, "%s", command);
}

#define REQUIRE(s, a)                                                                                        \
    do {                                                                                                     \
        REQUIRE_SSHD(s);                                                                                     \
        if (!agent_start(a))                                                                                 \
            cr_skip_test("no ssh-agent");                                                                    \
    } while (0)

static void begin(struct client *c, const struct sshd_fixture *s, const char *socket)
{
    c->agent = socket;
    client_open(c);
    client_connect(c, "127.0.0.1", sshd_fixture_port(s), sshd_fixture_user(s));
}

Test(agent, keys_of_every_kind_log_in)
{
    static const char *const types[] = {"ed25519", "ecdsa -b 256", "ecdsa -b 521", "rsa -b 2048"};
    struct sshd_fixture *s = sshd_fixture_new(NULL);

    for (size_t i = 0; i < ELEMENTS(types); i++) {
        struct real_agent a;
        struct client c = {0};
        _cleanup_free_ char *key = NULL;

        REQUIRE(s, &a);
        key = sshd_fixture_add_key(s, types[i], "");
        agent_add(&a, key, "");
        begin(&c, s, a.socket);
        cr_assert(LOOP_UNTIL(c.loop, c.n_up || c.n_down));
        cr_assert_eq(c.n_up, 1, "%s: %s", types[i], c.fault.text);
        cr_assert_str_eq(c.method, "agent");
        client_close(&c);
        agent_end(&a);
    }
    sshd_fixture_free(s);
}

Test(agent, keys_that_are_not_let_in_are_passed_over)
{
    struct sshd_fixture *s = sshd_fixture_new(NULL), *other = sshd_fixture_new(NULL);
    struct real_agent a;
    struct client c = {0};

    REQUIRE(s, &a);
    agent_add(&a, sshd_fixture_key(other), "");
    agent_add(&a, sshd_fixture_key(s), "");
    begin(&c, s, a.socket);
    cr_assert(LOOP_UNTIL(c.loop, c.n_up || c.n_down));
    cr_assert_str_eq(c.method, "agent", "%s", c.fault.text);
    client_close(&c);
    agent_end(&a);
    sshd_fixture_free(other);
    sshd_fixture_free(s);
}

/* The loop goes on meanwhile, and the owner is told why nothing happens. */
Test(agent, key_that_asks_its_owner_is_waited_for)
{
    struct sshd_fixture *s = sshd_fixture_new(NULL);
    struct real_agent a;
    struct client c = {0};
    char wait[96];

    REQUIRE(s, &a);
    agent_add(&a, sshd_fixture_key(s), "-c");
    put_file(&a, "wait", "", 0600);
    begin(&c, s, a.socket);
    cr_assert(LOOP_UNTIL(c.loop, *c.waits_for || c.n_down), "told that it waits");
    cr_assert_eq(c.n_down, 0, "%s", c.fault.text);
    snprintf(wait, sizeof(wait), "%s/wait", a.directory);
    cr_assert_eq(unlink(wait), 0);
    cr_assert(LOOP_UNTIL(c.loop, c.n_up || c.n_down));
    cr_assert_eq(c.n_up, 1, "%s", c.fault.text);
    client_close(&c);
    agent_end(&a);
    sshd_fixture_free(s);
}

Test(agent, refused_by_its_owner_the_next_way_is_tried)
{
    struct sshd_fixture *s = sshd_fixture_new(NULL);
    struct real_agent a;
    struct client c = {0};

    REQUIRE(s, &a);
    agent_add(&a, sshd_fixture_key(s), "-c");
    put_file(&a, "no", "", 0600);
    begin(&c, s, a.socket);
    expect_down(&c, "login_refused", FAULT_DENIED);
    cr_assert_not_null(strstr(c.fault.text, "refuses to sign"), "%s", c.fault.text);
    client_close(&c);
    agent_end(&a);
    sshd_fixture_free(s);
}

Test(agent, freed_while_a_key_asks_its_owner)
{
    struct sshd_fixture *s = sshd_fixture_new(NULL);
    struct real_agent a;
    struct client c = {0};

    REQUIRE(s, &a);
    agent_add(&a, sshd_fixture_key(s), "-c");
    put_file(&a, "wait", "", 0600);
    begin(&c, s, a.socket);
    cr_assert(LOOP_UNTIL(c.loop, *c.waits_for || c.n_down));
    client_close(&c);
    agent_end(&a);
    sshd_fixture_free(s);
}

Test(agent, none_there_is_said)
{
    struct sshd_fixture *s = sshd_fixture_new(NULL);
    struct client c = {0};

    REQUIRE_SSHD(s);
    begin(&c, s, "/nonexistent/agent");
    expect_down(&c, "login_refused", FAULT_DENIED);
    cr_assert_not_null(strstr(c.fault.text, "ssh-agent is not there"), "%s", c.fault.text);
    client_close(&c);
    sshd_fixture_free(s);
}

Test(agent, without_keys_is_said)
{
    struct sshd_fixture *s = sshd_fixture_new(NULL);
    struct real_agent a;
    struct client c = {0};

    REQUIRE(s, &a);
    begin(&c, s, a.socket);
    expect_down(&c, "login_refused", FAULT_DENIED);
    cr_assert_not_null(strstr(c.fault.text, "holds no key"), "%s", c.fault.text);
    client_close(&c);
    agent_end(&a);
    sshd_fixture_free(s);
}

/* ---- agents of ours ---- */

struct asking {
    struct loop *loop;
    struct listener *listener;
    struct stream *peer;
    const void *answer;
    size_t n_answer;
    bool hangs_up;
    char directory[64], socket[80];
    struct op *op;
    unsigned n_done, n_keys;
    struct fault fault;
};

static void peer_on_ready(void *ctx, unsigned what)
{
    struct asking *a = ctx;
    char piece[512];

    (void)what;
    if (stream_read(a->peer, piece, sizeof(piece)) <= 0)
        return;
    stream_want(a->peer, 0);
    for (size_t at = 0; at < a->n_answer;) {
        ssize_t n = stream_write(a->peer, (const char *)a->answer + at, a->n_answer - at);

        if (n <= 0)
            break;
        at += (size_t)n;
    }
    if (a->hangs_up)
        a->peer = stream_free(a->peer, false);
}

static void asking_on_stream(void *ctx, struct stream *s)
{
    struct asking *a = ctx;

    a->peer = s;
    stream_watch(s, peer_on_ready, a);
    stream_want(s, STREAM_IN);
}

static void asking_on_keys(void *ctx, const struct agent_key *keys, unsigned n, const struct fault *f)
{
    struct asking *a = ctx;

    (void)keys;
    a->n_done++;
    a->n_keys = n;
    if (f)
        a->fault = *f;
}

static void asking_open(struct asking *a)
{
    strcpy(a->directory, "/tmp/test_agent.XXXXXX");
    cr_assert_not_null(mkdtemp(a->directory));
    snprintf(a->socket, sizeof(a->socket), "%s/s", a->directory);
    a->loop = loop_new();
    cr_assert_eq(listener_new_unix(a->loop, a->socket, 0600, asking_on_stream, a, &a->listener), 0);
    agent_list(a->loop, a->socket, &a->op, asking_on_keys, a);
}

static void asking_close(struct asking *a)
{
    op_cancel(&a->op);
    stream_free(a->peer, false);
    listener_free(a->listener);
    loop_free_dry(a->loop);
    rmdir(a->directory);
}

Test(agent, answers_without_sense)
{
    static const struct {
        const char *bytes;
        size_t n;
        const char *says;
    } rows[] = {
        {"\0\0\0\0", 4, "no sense"},
        {"\0\0\0\1\14", 5, "no sense"},
        {"\0\0\0\5\14\0\0\0\1", 9, "no sense"},
        {"\0\0\0\11\14\0\0\0\1\0\0\1\0", 13, "no sense"},
        {"\0\0\0\1\5", 5, "does not list"},
        {"\0\0\0\1\16", 5, "no sense"},
        {"\xff\xff\xff\xff", 4, "without end"},
        {"\0\0\0\5\14", 5, "hung up"},
        {"", 0, "hung up"},
    };

    for (size_t i = 0; i < ELEMENTS(rows); i++) {
        struct asking a = {.answer = rows[i].bytes, .n_answer = rows[i].n, .hangs_up = true};

        asking_open(&a);
        cr_assert(LOOP_UNTIL(a.loop, a.n_done), "row %zu", i);
        cr_assert_not_null(strstr(a.fault.text, rows[i].says), "row %zu: %s", i, a.fault.text);
        asking_close(&a);
        cr_assert_eq(a.n_done, 1);
    }
}

Test(agent, more_keys_than_anybody_has_are_cut)
{
    char answer[5 + 4 + 40 * 12];
    struct asking a = {.answer = answer, .n_answer = sizeof(answer)};

    memcpy(answer, "\0\0\1\345\14\0\0\0\50", 9);
    for (unsigned i = 0; i < 40; i++)
        memcpy(answer + 9 + 12 * i, "\0\0\0\3abc\0\0\0\1x", 12);
    asking_open(&a);
    cr_assert(LOOP_UNTIL(a.loop, a.n_done));
    cr_assert_eq(a.n_keys, AGENT_KEYS_MAX, "%s", a.fault.text);
    asking_close(&a);
}

Test(agent, silent_one_is_given_five_seconds)
{
    struct asking a = {0};

    asking_open(&a);
    cr_assert(LOOP_UNTIL(a.loop, a.n_done));
    cr_assert_not_null(strstr(a.fault.text, "does not answer"), "%s", a.fault.text);
    asking_close(&a);
}

Test(agent, cancelled_before_the_answer)
{
    struct asking a = {0};

    asking_open(&a);
    cr_assert(LOOP_UNTIL(a.loop, a.peer));
    op_cancel(&a.op);
    loop_turns(a.loop, 3);
    asking_close(&a);
    cr_assert_eq(a.n_done, 0);
}
