#include <criterion/criterion.h>
#include <time.h>

#include "base/clock.h"
#include "base/timer.h"
#include "tests/fixture/loop_fixture.h"

static char story[32];

struct sleeper {
    struct clock_watch *watch;
    uint64_t slept_ms;
    unsigned times;
};

static void on_resume(void *ctx, uint64_t slept_ms)
{
    struct sleeper *s = ctx;

    s->slept_ms = slept_ms;
    s->times++;
    strcat(story, "R");
}

static void on_timer(void *ctx)
{
    (void)ctx;
    strcat(story, "T");
}

/* A clock watch does not keep a loop alive, and a loop with nothing left does not turn. */
static struct timer *a_loop_with_something_to_do(struct loop *l)
{
    struct timer *t = timer_new(l, on_timer, NULL);

    timer_arm(t, UINT32_MAX);
    return t;
}

Test(clock, boottime_goes_on_and_wall_clock_is_of_this_century)
{
    uint64_t a = clock_now_ms(), b = clock_now_ms();

    cr_assert_geq(b, a);
    cr_assert_gt(a, 0);
    cr_assert_leq(llabs(clock_wall_ms() / 1000 - (int64_t)time(NULL)), 1);
}

Test(clock, sleep_is_told_with_its_length_before_timers_that_came_due)
{
    struct loop *l = loop_new();
    struct sleeper s = {0};
    struct timer *t = timer_new(l, on_timer, NULL);

    s.watch = clock_watch_new(l, on_resume, &s);
    timer_arm(t, 60000);
    loop_machine_sleeps(l, 2823000);
    cr_assert_str_eq(story, "RT");
    cr_assert_eq(s.times, 1);
    cr_assert_geq(s.slept_ms, 2822900);
    cr_assert_leq(s.slept_ms, 2823900);
    timer_arm(t, UINT32_MAX);
    loop_machine_sleeps(l, 6000);
    cr_assert_eq(s.times, 2, "each resume is told");
    cr_assert_lt(s.slept_ms, 7000);
    clock_watch_free(s.watch);
    timer_free(t);
    loop_free_dry(l);
}

Test(clock, a_nap_and_time_that_merely_passes_are_no_sleep)
{
    struct loop *l = loop_new();
    struct sleeper s = {0};
    struct timer *busy = a_loop_with_something_to_do(l);

    s.watch = clock_watch_new(l, on_resume, &s);
    loop_machine_sleeps(l, 4000);
    loop_machine_sleeps(l, 4000);
    loop_advance(l, 3600000);
    cr_assert_eq(s.times, 0);
    clock_watch_free(s.watch);
    timer_free(busy);
    loop_free_dry(l);
}

Test(clock, sleep_before_the_watch_was_made_is_not_told)
{
    struct loop *l = loop_new();
    struct sleeper s = {0};
    struct timer *busy = a_loop_with_something_to_do(l);

    loop_machine_sleeps(l, 60000);
    s.watch = clock_watch_new(l, on_resume, &s);
    loop_turns(l, 3);
    cr_assert_eq(s.times, 0);
    clock_watch_free(s.watch);
    cr_assert_null(clock_watch_free(NULL));
    timer_free(busy);
    loop_free_dry(l);
}

static struct sleeper pair[2];

static void free_both(void *ctx, uint64_t slept_ms)
{
    on_resume(ctx, slept_ms);
    pair[0].watch = clock_watch_free(pair[0].watch);
    pair[1].watch = clock_watch_free(pair[1].watch);
}

Test(clock, a_watch_may_free_itself_and_others_while_told)
{
    struct loop *l = loop_new();
    struct timer *busy = a_loop_with_something_to_do(l);

    pair[0].watch = clock_watch_new(l, free_both, &pair[0]);
    pair[1].watch = clock_watch_new(l, free_both, &pair[1]);
    loop_machine_sleeps(l, 60000);
    cr_assert_eq(pair[0].times + pair[1].times, 1);
    timer_free(busy);
    loop_free_dry(l);
}

Test(clock, a_watch_alone_does_not_keep_the_loop_alive)
{
    struct loop *l = loop_new();
    struct sleeper s = {0};

    s.watch = clock_watch_new(l, on_resume, &s);
    cr_assert(!loop_turn(l, true));
    clock_watch_free(s.watch);
    loop_free_dry(l);
}
