/* The service manager is a datagram socket of ours here, and passed sockets are put where systemd puts them,
 * in a child process whose descriptors may be overwritten. links: base */
#include "base/service.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>

#include "base/stream.h"
#include "proto/mem.h"
#include "proto/text.h"
#include "tests/fixture/loop_fixture.h"

static int manager; /* what the daemon says comes out here */
static const char *status = "one";
static unsigned asked;

static char *on_status(void *ctx)
{
    (void)ctx;
    asked++;
    return xstrdup(status);
}

static void manager_begins(void)
{
    struct sockaddr_un at = {.sun_family = AF_UNIX};
    char name[64];
    int n = snprintf(name, sizeof(name), "@llmhost-test-service-%d", (int)getpid());

    memcpy(at.sun_path + 1, name + 1, (size_t)n - 1);
    manager = socket(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    cr_assert_eq(bind(manager, (struct sockaddr *)&at,
                      (socklen_t)offsetof(struct sockaddr_un, sun_path) + (socklen_t)n),
                 0);
    setenv("NOTIFY_SOCKET", name, 1);
}

static void manager_ends(void)
{
    close(manager);
}

/* The next thing said; "" when there is nothing. */
static const char *said(void)
{
    static char text[2048];
    ssize_t n = recv(manager, text, sizeof(text) - 1, 0);

    text[MAX(n, 0)] = '\0';
    return text;
}

TestSuite(service, .init = manager_begins, .fini = manager_ends);

Test(service, says_that_it_is_ready_and_then_its_status)
{
    struct loop *l = loop_new();
    struct service *s = service_new(l, on_status, NULL);

    service_changed(s);
    loop_turns(l, 3);
    cr_assert_str_eq(said(), "", "nothing before it is ready");
    service_ready(s);
    loop_turns(l, 3);
    cr_assert_str_eq(said(), "READY=1");
    cr_assert_str_eq(said(), "STATUS=one");
    cr_assert_str_eq(said(), "");
    cr_assert_null(service_free(s));
    cr_assert_null(service_free(NULL));
    loop_free_dry(l);
}

Test(service, status_is_told_once_a_second_and_only_when_it_is_another)
{
    struct loop *l = loop_new();
    struct service *s = service_new(l, on_status, NULL);

    service_ready(s);
    loop_turns(l, 3);
    said(), said();
    for (int i = 0; i < 100; i++) {
        status = i % 2 ? "two" : "three";
        service_changed(s);
        loop_turns(l, 2);
    }
    cr_assert_str_eq(said(), "", "not within the same second");
    cr_assert_eq(asked, 1);
    loop_advance(l, 1001);
    cr_assert_str_eq(said(), "STATUS=two", "the newest");
    cr_assert_eq(asked, 2);
    loop_advance(l, 5000);
    service_changed(s);
    loop_turns(l, 3);
    cr_assert_eq(asked, 3, "after a quiet time at once");
    cr_assert_str_eq(said(), "", "it is the same");
    service_free(s);
    loop_free_dry(l);
}

Test(service, an_end_is_the_last_thing_said)
{
    struct loop *l = loop_new();
    struct service *s = service_new(l, on_status, NULL);

    service_ready(s);
    service_stopping(s);
    status = "three";
    service_changed(s);
    loop_advance(l, 1001);
    cr_assert_str_eq(said(), "READY=1");
    cr_assert_str_eq(said(), "STOPPING=1\nSTATUS=Ending");
    cr_assert_str_eq(said(), "");
    service_free(s);
    loop_free_dry(l);
}

Test(service, watchdog_is_fed_at_half_its_time)
{
    struct loop *l = loop_new();
    char pid[16];

    snprintf(pid, sizeof(pid), "%d", (int)getpid());
    setenv("WATCHDOG_PID", pid, 1);
    setenv("WATCHDOG_USEC", "10000000", 1);
    struct service *s = service_new(l, on_status, NULL);

    cr_assert_null(getenv("WATCHDOG_USEC"), "a child of ours is not to feed it");
    loop_advance(l, 20000);
    cr_assert_str_eq(said(), "", "nothing before it is ready");
    service_ready(s);
    loop_turns(l, 3);
    cr_assert_str_eq(said(), "READY=1");
    cr_assert_str_eq(said(), "WATCHDOG=1");
    cr_assert_str_eq(said(), "STATUS=one");
    loop_advance(l, 4900);
    cr_assert_str_eq(said(), "");
    for (int i = 0; i < 3; i++) {
        loop_advance(l, i ? 5000 : 101);
        cr_assert_str_eq(said(), "WATCHDOG=1");
        cr_assert_str_eq(said(), "");
    }
    service_free(s);
    loop_free_dry(l);
}

/* As deep as the kernel lets it be (net.unix.max_dgram_qlen). */
static unsigned fill_the_managers_queue(void)
{
    struct sockaddr_un at = {0};
    socklen_t n_at = sizeof(at);
    int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    unsigned n = 0;

    cr_assert_eq(getsockname(manager, (struct sockaddr *)&at, &n_at), 0);
    while (sendto(fd, "x", 1, MSG_DONTWAIT, (struct sockaddr *)&at, n_at) == 1)
        n++;
    cr_assert_eq(errno, EAGAIN);
    close(fd);
    return n;
}

Test(service, a_manager_that_hangs_stops_nobody_and_is_told_later)
{
    struct loop *l = loop_new();
    struct service *s = service_new(l, on_status, NULL);
    unsigned filled = fill_the_managers_queue();

    alarm(20); /* sd_notify() would wait for ever */
    service_ready(s);
    for (int i = 0; i < 1000; i++) {
        status = i % 2 ? "a status of forty letters, or about so many"
                       : "another one, which is as long as that one";
        service_changed(s);
        loop_advance(l, 1001);
    }
    while (filled--)
        cr_assert_str_eq(said(), "x");
    cr_assert_str_eq(said(), "");
    loop_advance(l, 201);
    const char *text = said();

    cr_assert_eq(strncmp(text, "READY=1\nSTATUS=another", 22), 0, "%s", text);
    cr_assert_lt(strlen(text), 200u + 1000u);
    cr_assert_str_eq(said(), "");
    status = "one";
    service_changed(s);
    loop_advance(l, 1001);
    cr_assert_str_eq(said(), "STATUS=one");
    alarm(0);
    service_free(s);
    loop_free_dry(l);
}

Test(service, without_a_manager_nothing_is_said_and_nothing_passed)
{
    struct loop *l = loop_new();

    unsetenv("NOTIFY_SOCKET");
    struct service *s = service_new(l, on_status, NULL);

    service_ready(s);
    loop_turns(l, 3);
    cr_assert_eq(service_take_socket(s, "control"), 0);
    service_stopping(s);
    cr_assert_str_eq(said(), "");
    service_free(s);
    loop_free_dry(l);
}

/* ---- passed sockets ---- */

static int listening(void)
{
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0); /* blocking, as systemd passes them */

    return listen(fd, 5) == 0 ? fd : -1;
}

static bool is_open(int fd)
{
    return fcntl(fd, F_GETFD) >= 0;
}

static void on_stream(void *ctx, struct stream *s)
{
    ++*(unsigned *)ctx;
    stream_free(s, false);
}

/* In a child: 0, or the line that was not as it should be. */
#define CHECK(condition)                                                                                     \
    do {                                                                                                     \
        if (!(condition))                                                                                    \
            _exit(__LINE__ % 251 + 1);                                                                       \
    } while (0)

static int in_child(void (*test)(void))
{
    pid_t pid = fork();
    int result;

    if (pid == 0) {
        char text[16];

        snprintf(text, sizeof(text), "%d", (int)getpid());
        setenv("LISTEN_PID", text, 1);
        setenv("LISTEN_FDS", "3", 1);
        setenv("LISTEN_FDNAMES", "gateway:control:gateway", 1);
        for (int fd = 3, from; fd < 6; fd++) {
            from = listening();
            CHECK(from >= 0 && (from == fd || dup2(from, fd) == fd));
        }
        test();
        _exit(0);
    }
    cr_assert_eq(waitpid(pid, &result, 0), pid);
    return WIFEXITED(result) ? WEXITSTATUS(result) : 255;
}

static void takes_by_name(void)
{
    struct loop *l = loop_new();
    struct service *s = service_new(l, on_status, NULL);

    CHECK(!getenv("LISTEN_FDS"));
    CHECK(service_take_socket(s, "control") == 4);
    CHECK(service_take_socket(s, "control") == 0);
    CHECK(service_take_socket(s, "gateway") == 3);
    CHECK(fcntl(3, F_GETFD) & FD_CLOEXEC);
    service_ready(s);
    service_free(s);
    CHECK(is_open(3) && is_open(4));
    CHECK(!is_open(5));
    loop_free(l);
}

Test(service, a_passed_socket_is_taken_by_its_name_and_the_rest_is_closed)
{
    cr_assert_eq(in_child(takes_by_name), 0);
}

static void accepts_there(void)
{
    struct loop *l = loop_new();
    struct service *s = service_new(l, on_status, NULL);
    int fd = service_take_socket(s, "gateway"), kept = dup(fd), first, second;
    struct sockaddr_storage at;
    socklen_t n = sizeof(at);
    struct listener *door;
    unsigned accepted = 0;

    CHECK(listener_new_fd(l, fd, on_stream, &accepted, &door) == 0);
    CHECK(getsockname(fd, (struct sockaddr *)&at, &n) == 0);
    first = socket(AF_INET, SOCK_STREAM, 0);
    CHECK(connect(first, (struct sockaddr *)&at, n) == 0);
    alarm(20); /* a blocking accept() would wait for the second one for ever */
    CHECK(LOOP_UNTIL(l, accepted == 1));
    loop_turns(l, 3);
    listener_free(door);
    service_free(s);
    loop_free(l);
    second = socket(AF_INET, SOCK_STREAM, 0);
    CHECK(connect(second, (struct sockaddr *)&at, n) == 0); /* the manager still listens */
    CHECK(accept(kept, NULL, NULL) >= 0 || errno == EAGAIN);
}

Test(service, who_connects_while_we_are_away_is_not_refused)
{
    cr_assert_eq(in_child(accepts_there), 0);
}

Test(service, a_persons_service_knows_where_its_lingering_is_written)
{
    static const struct {
        int manager; /* who it is, from our parent on */
        bool ours;
    } rows[] = {{0, true}, {1, false}};
    struct loop *l = loop_new();
    char pid[16];

    unsetenv("MANAGERPID");
    for (size_t i = 0; i <= ELEMENTS(rows); i++) {
        struct service *s = service_new(l, on_status, NULL);
        const char *file = service_linger_file(s);

        cr_assert_eq(file != NULL, i && rows[i - 1].ours, "%zu", i);
        cr_assert(!file || strncmp(file, "/var/lib/systemd/linger/", 24) == 0, "%s", file);
        service_free(s);
        snprintf(pid, sizeof(pid), "%d", (int)getppid() + rows[MIN(i, 1u)].manager);
        setenv("MANAGERPID", pid, 1);
    }
    unsetenv("MANAGERPID");
    loop_free_dry(l);
}
