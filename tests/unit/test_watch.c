#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <sys/socket.h>

#include "base/watch.h"
#include "proto/mem.h"
#include "tests/fixture/loop_fixture.h"

struct scene {
    struct loop *loop;
    struct watch *watch;
    int fds[2];
    unsigned calls, events;
};

static void on_ready(void *ctx, unsigned events)
{
    struct scene *s = ctx;

    s->calls++;
    s->events = events;
}

static void open_pair(struct scene *s)
{
    *s = (struct scene){.loop = loop_new()};
    cr_assert_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, s->fds), 0);
    s->watch = watch_new(s->loop, s->fds[0], on_ready, s);
}

static bool is_open(int fd)
{
    return fcntl(fd, F_GETFD) >= 0;
}

Test(watch, tells_what_is_ready_of_what_is_wanted_each_turn)
{
    struct scene s;

    open_pair(&s);
    loop_turns(s.loop, 3);
    cr_assert_eq(s.calls, 0, "nothing wanted");
    watch_want(s.watch, WATCH_OUT);
    loop_turns(s.loop, 3);
    cr_assert_eq(s.calls, 3);
    cr_assert_eq(s.events, WATCH_OUT);
    watch_want(s.watch, WATCH_IN);
    loop_turns(s.loop, 3);
    cr_assert_eq(s.calls, 3);
    cr_assert_eq(write(s.fds[1], "x", 1), 1);
    watch_want(s.watch, WATCH_IN | WATCH_OUT);
    cr_assert(LOOP_UNTIL(s.loop, s.calls >= 5));
    cr_assert_eq(s.events, WATCH_IN | WATCH_OUT);
    watch_want(s.watch, 0);
    s.calls = 0;
    cr_assert(!loop_turn(s.loop, true), "nothing wanted: nothing to wait for");
    cr_assert_eq(s.calls, 0);
    cr_assert_null(watch_free(s.watch, true));
    close(s.fds[1]);
    loop_free_dry(s.loop);
}

Test(watch, a_hang_up_counts_as_both)
{
    struct scene s;

    open_pair(&s);
    close(s.fds[1]);
    watch_want(s.watch, WATCH_IN | WATCH_OUT);
    cr_assert(LOOP_UNTIL(s.loop, s.calls));
    cr_assert_eq(s.events, WATCH_IN | WATCH_OUT);
    watch_free(s.watch, true);
    loop_free_dry(s.loop);
}

/* A pipe without readers is EPOLLERR alone to one who wants to read nothing of it: libuv stops its handle
 * then, and we go on. */
Test(watch, an_error_is_told_again_each_turn_until_it_is_not_wanted)
{
    struct scene s = {.loop = loop_new()};

    cr_assert_eq(pipe2(s.fds, O_NONBLOCK | O_CLOEXEC), 0);
    close(s.fds[0]);
    s.watch = watch_new(s.loop, s.fds[1], on_ready, &s);
    watch_want(s.watch, WATCH_IN);
    loop_turns(s.loop, 4);
    cr_assert_geq(s.calls, 2);
    cr_assert_eq(s.events, WATCH_IN);
    watch_want(s.watch, WATCH_OUT);
    s.calls = 0;
    loop_turns(s.loop, 4);
    cr_assert_geq(s.calls, 2);
    cr_assert_eq(s.events, WATCH_OUT);
    watch_want(s.watch, 0);
    s.calls = 0;
    loop_turns(s.loop, 2);
    cr_assert_eq(s.calls, 0);
    watch_free(s.watch, true);
    loop_free_dry(s.loop);
}

static void on_ready_free(void *ctx, unsigned events)
{
    struct scene *s = ctx;

    on_ready(ctx, events);
    s->watch = watch_free(s->watch, true);
}

Test(watch, may_be_freed_while_it_tells)
{
    struct scene s = {.loop = loop_new()};

    cr_assert_eq(pipe2(s.fds, O_NONBLOCK | O_CLOEXEC), 0);
    close(s.fds[0]);
    s.watch = watch_new(s.loop, s.fds[1], on_ready_free, &s);
    watch_want(s.watch, WATCH_IN | WATCH_OUT);
    cr_assert(LOOP_UNTIL(s.loop, s.calls));
    loop_turns(s.loop, 3);
    cr_assert_eq(s.calls, 1);
    loop_free_dry(s.loop);
}

Test(watch, freed_watches_are_silent_and_close_when_told)
{
    struct scene s;
    int fd;

    open_pair(&s);
    fd = s.fds[0];
    cr_assert_eq(write(s.fds[1], "x", 1), 1);
    watch_want(s.watch, WATCH_IN);
    watch_free(s.watch, true);
    cr_assert(is_open(fd), "not before the loop has let go of it");
    loop_turns(s.loop, 2);
    cr_assert(!is_open(fd));
    cr_assert_eq(s.calls, 0);
    close(s.fds[1]);
    cr_assert_null(watch_free(NULL, true));
    loop_free_dry(s.loop);
}

Test(watch, a_borrowed_descriptor_stays_open_and_can_be_watched_anew_at_once)
{
    struct scene s;
    struct watch *second;

    open_pair(&s);
    watch_want(s.watch, WATCH_IN);
    loop_turn(s.loop, false);
    watch_free(s.watch, false);
    second = watch_new(s.loop, s.fds[0], on_ready, &s);
    watch_want(second, WATCH_IN);
    cr_assert_eq(write(s.fds[1], "x", 1), 1);
    cr_assert(LOOP_UNTIL(s.loop, s.calls));
    watch_free(second, false);
    loop_turns(s.loop, 2);
    cr_assert(is_open(s.fds[0]));
    close(s.fds[0]);
    close(s.fds[1]);
    loop_free_dry(s.loop);
}

Test(watch, a_regular_file_is_always_ready)
{
    struct scene s = {.loop = loop_new()};
    int fd = open("/etc/passwd", O_RDONLY | O_CLOEXEC | O_NONBLOCK);

    cr_assert_geq(fd, 0);
    s.watch = watch_new(s.loop, fd, on_ready, &s);
    watch_want(s.watch, WATCH_IN);
    cr_assert(LOOP_UNTIL(s.loop, s.calls >= 2));
    cr_assert_eq(s.events, WATCH_IN);
    watch_want(s.watch, 0);
    s.calls = 0;
    loop_turns(s.loop, 3);
    cr_assert_eq(s.calls, 0);
    watch_free(s.watch, true);
    loop_free_dry(s.loop);
}
