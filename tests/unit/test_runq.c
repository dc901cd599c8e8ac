/* links: base
 * The loop and its run queue. */
#include <criterion/criterion.h>
#include <signal.h>
#include <sys/socket.h>

#include "base/runq.h"
#include "base/timer.h"
#include "base/watch.h"
#include "proto/mem.h"
#include "tests/fixture/loop_fixture.h"

/* What happened, in order: each letter is one event. */
static char story[64];

static void tell(const char *what)
{
    strncat(story, what, sizeof(story) - strlen(story) - 1);
}

static void tell_ctx(void *ctx)
{
    tell(ctx);
}

struct queued {
    struct loop *loop;
    struct work work, second;
};

static void work_adds_more(void *ctx)
{
    struct queued *q = ctx;

    tell("a");
    runq_add(q->loop, &q->second);
}

Test(runq, work_queued_by_work_runs_in_the_same_pass_after_what_was_there)
{
    struct queued q = {.loop = loop_new()};
    struct work other;

    work_init(&q.work, work_adds_more, &q);
    work_init(&q.second, tell_ctx, "c");
    work_init(&other, tell_ctx, "b");
    runq_add(q.loop, &q.work);
    runq_add(q.loop, &other);
    loop_turn(q.loop, true);
    cr_assert_str_eq(story, "abc");
    loop_free_dry(q.loop);
}

Test(runq, queued_often_runs_once_and_can_be_queued_again)
{
    struct loop *l = loop_new();
    struct work w;

    work_init(&w, tell_ctx, "w");
    for (unsigned i = 0; i < 5; i++)
        runq_add(l, &w);
    loop_turn(l, true);
    cr_assert_str_eq(story, "w");
    runq_add(l, &w);
    loop_turn(l, true);
    cr_assert_str_eq(story, "ww");
    loop_free_dry(l);
}

Test(runq, dropped_work_does_not_run)
{
    struct loop *l = loop_new();
    struct work w, never;

    work_init(&w, tell_ctx, "w");
    work_init(&never, tell_ctx, "n");
    runq_drop(&w);
    runq_add(l, &w);
    runq_drop(&w);
    runq_drop(&never);
    loop_turns(l, 3);
    cr_assert_str_eq(story, "");
    loop_free_dry(l);
}

static void drop_other(void *ctx)
{
    runq_drop(ctx);
}

Test(runq, work_may_drop_work_that_is_queued_behind_it)
{
    struct loop *l = loop_new();
    struct work first, second;

    work_init(&second, tell_ctx, "s");
    work_init(&first, drop_other, &second);
    runq_add(l, &first);
    runq_add(l, &second);
    loop_turns(l, 2);
    cr_assert_str_eq(story, "");
    loop_free_dry(l);
}

/* A socket that is readable from the start: each poll tells "P". What is queued from X must run before the
 * next P. */
struct scene {
    struct loop *loop;
    struct work work;
    struct watch *watch;
    int fds[2];
};

static void on_readable(void *ctx, unsigned events)
{
    (void)ctx;
    (void)events;
    tell("P");
}

static void scene_open(struct scene *s)
{
    s->loop = loop_new();
    work_init(&s->work, tell_ctx, "w");
    cr_assert_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, s->fds), 0);
    cr_assert_eq(write(s->fds[1], "x", 1), 1);
    s->watch = watch_new(s->loop, s->fds[0], on_readable, s);
    watch_want(s->watch, WATCH_IN);
}

static void scene_close(struct scene *s)
{
    watch_free(s->watch, true);
    close(s->fds[1]);
    loop_free_dry(s->loop);
}

/* After the event (a capital letter) the next thing is the work, with no poll between. */
static void expect_work_right_after(struct scene *s, const char *event)
{
    const char *at;

    cr_assert(LOOP_UNTIL(s->loop, strchr(story, 'w')), "story: %s", story);
    at = strstr(story, event);
    cr_assert_not_null(at, "story: %s", story);
    /* Events of the same poll may still follow; of the next they may not, and each poll tells P once. */
    cr_assert_leq(strcspn(at, "w"), 2, "story: %s", story);
    cr_assert_null(strstr(at, "PP"), "polled twice before the work ran: %s", story);
}

static void queue_from_timer(void *ctx)
{
    struct scene *s = ctx;

    tell("T");
    runq_add(s->loop, &s->work);
}

Test(runq, work_queued_from_a_timer_runs_before_the_next_poll)
{
    struct scene s;
    struct timer *t;

    scene_open(&s);
    t = timer_new(s.loop, queue_from_timer, &s);
    timer_arm(t, 0);
    expect_work_right_after(&s, "T");
    timer_free(t);
    scene_close(&s);
}

static void queue_from_io(void *ctx, unsigned events)
{
    struct scene *s = ctx;
    char byte;

    (void)events;
    if (read(s->fds[1], &byte, 1) == 1) {
        tell("I");
        runq_add(s->loop, &s->work);
    }
}

Test(runq, work_queued_from_io_runs_before_the_next_poll)
{
    struct scene s;
    struct watch *w;

    scene_open(&s);
    w = watch_new(s.loop, s.fds[1], queue_from_io, &s);
    watch_want(w, WATCH_IN);
    cr_assert_eq(write(s.fds[0], "y", 1), 1);
    expect_work_right_after(&s, "I");
    watch_free(w, false);
    scene_close(&s);
}

static void queue_from_async(uv_async_t *a)
{
    struct scene *s = a->data;

    tell("A");
    runq_add(s->loop, &s->work);
}

Test(runq, work_queued_from_an_async_callback_runs_before_the_next_poll)
{
    struct scene s;
    uv_async_t async;

    scene_open(&s);
    cr_assert_eq(uv_async_init(loop_uv(s.loop), &async, queue_from_async), 0);
    async.data = &s;
    uv_async_send(&async);
    expect_work_right_after(&s, "A");
    uv_close((uv_handle_t *)&async, NULL);
    scene_close(&s);
}

static void queue_from_close(uv_handle_t *h)
{
    struct scene *s = h->data;

    tell("C");
    runq_add(s->loop, &s->work);
}

Test(runq, work_queued_from_a_close_callback_runs_before_the_next_poll)
{
    struct scene s;
    uv_async_t async;

    scene_open(&s);
    cr_assert_eq(uv_async_init(loop_uv(s.loop), &async, NULL), 0);
    async.data = &s;
    uv_close((uv_handle_t *)&async, queue_from_close);
    expect_work_right_after(&s, "C");
    scene_close(&s);
}

static void queue_from_prepare(uv_prepare_t *p)
{
    struct scene *s = p->data;

    tell("R");
    runq_add(s->loop, &s->work);
    uv_prepare_stop(p);
}

Test(runq, work_queued_from_another_prepare_handle_runs_before_the_next_poll)
{
    struct scene s;
    uv_prepare_t prepare;

    scene_open(&s);
    uv_prepare_init(loop_uv(s.loop), &prepare);
    prepare.data = &s;
    uv_prepare_start(&prepare, queue_from_prepare);
    loop_turn(s.loop, false);
    cr_assert_str_eq(story, "RwP");
    uv_close((uv_handle_t *)&prepare, NULL);
    scene_close(&s);
}

Test(loop, runs_until_nothing_is_left)
{
    struct loop *l = loop_new();
    struct timer *t = timer_new(l, tell_ctx, "T");
    struct work w;

    loop_run(l);
    cr_assert_str_eq(story, "");
    work_init(&w, tell_ctx, "w");
    runq_add(l, &w);
    timer_arm(t, 1);
    loop_run(l);
    cr_assert_str_eq(story, "wT");
    cr_assert(!loop_turn(l, true), "nothing could happen, so it did not wait");
    timer_free(t);
    loop_free(l);
}

static void stop_loop(void *ctx)
{
    loop_stop(ctx);
}

Test(loop, stops_when_told_with_timers_still_armed)
{
    struct loop *l = loop_new();
    struct timer *far_off = timer_new(l, tell_ctx, "T"), *soon = timer_new(l, stop_loop, l);

    timer_arm(far_off, 3600000);
    timer_arm(soon, 0);
    loop_run(l);
    cr_assert_str_eq(story, "");
    timer_free(far_off);
    timer_free(soon);
    loop_free(l);
}

Test(loop, freeing_runs_what_is_queued)
{
    struct loop *l = loop_new();
    struct work w;

    work_init(&w, tell_ctx, "w");
    runq_add(l, &w);
    loop_free(l);
    cr_assert_str_eq(story, "w");
    cr_assert_null(loop_free(NULL));
}

Test(loop, a_timer_left_behind_aborts, .signal = SIGABRT)
{
    struct loop *l = loop_new();

    timer_new(l, tell_ctx, "T");
    loop_free(l);
}

Test(loop, a_watch_left_behind_aborts, .signal = SIGABRT)
{
    struct scene s;

    scene_open(&s);
    loop_free(s.loop);
}
