#include <criterion/criterion.h>

#include "base/clock.h"
#include "base/loop_private.h"
#include "base/timer.h"
#include "tests/fixture/loop_fixture.h"

static void count(void *ctx)
{
    ++*(unsigned *)ctx;
}

Test(timer, fires_once_and_not_early)
{
    struct loop *l = loop_new();
    unsigned fired = 0;
    struct timer *t = timer_new(l, count, &fired);

    timer_arm(t, 600000);
    cr_assert(timer_is_armed(t));
    loop_advance(l, 599000);
    cr_assert_eq(fired, 0);
    loop_advance(l, 1000);
    cr_assert_eq(fired, 1);
    cr_assert(!timer_is_armed(t));
    cr_assert_eq(timer_due(t), 0);
    loop_advance(l, 3600000);
    cr_assert_eq(fired, 1);
    cr_assert_null(timer_free(t));
    cr_assert_null(timer_free(NULL));
    loop_free_dry(l);
}

Test(timer, fires_by_the_kernel_with_nobody_moving_the_clock)
{
    struct loop *l = loop_new();
    unsigned fired = 0;
    struct timer *t = timer_new(l, count, &fired);
    uint64_t start = clock_now_ms();

    timer_arm(t, 20);
    cr_assert(LOOP_UNTIL(l, fired));
    cr_assert_geq(clock_now_ms() - start, 20);
    timer_free(t);
    loop_free_dry(l);
}

Test(timer, zero_delay_and_the_past_fire_from_the_loop)
{
    struct loop *l = loop_new();
    unsigned fired = 0;
    struct timer *t = timer_new(l, count, &fired), *past = timer_new(l, count, &fired);

    timer_arm(t, 0);
    timer_arm_at(past, 0);
    cr_assert_eq(fired, 0);
    cr_assert(LOOP_UNTIL(l, fired == 2));
    timer_free(t);
    timer_free(past);
    loop_free_dry(l);
}

Test(timer, arming_again_replaces)
{
    struct loop *l = loop_new();
    unsigned fired = 0;
    struct timer *t = timer_new(l, count, &fired);

    timer_arm(t, 1000);
    timer_arm(t, 5000);
    loop_advance(l, 2000);
    cr_assert_eq(fired, 0);
    timer_arm(t, 100);
    loop_advance(l, 100);
    cr_assert_eq(fired, 1);
    timer_arm(t, 10);
    timer_disarm(t);
    timer_disarm(t);
    loop_advance(l, 10000);
    cr_assert_eq(fired, 1);
    timer_free(t);
    loop_free_dry(l);
}

Test(timer, the_end_of_time_can_be_waited_for)
{
    struct loop *l = loop_new();
    unsigned fired = 0;
    struct timer *t = timer_new(l, count, &fired);

    timer_arm(t, UINT64_MAX);
    cr_assert_eq(timer_due(t), UINT64_MAX);
    loop_advance(l, 1000000);
    cr_assert_eq(fired, 0);
    timer_free(t);
    loop_free_dry(l);
}

static struct timer *victims[3];

static void free_all(void *ctx)
{
    ++*(unsigned *)ctx;
    for (unsigned i = 0; i < 3; i++)
        victims[i] = timer_free(victims[i]);
}

Test(timer, one_that_fires_may_free_itself_and_others_that_are_due)
{
    struct loop *l = loop_new();
    unsigned fired = 0;

    for (unsigned i = 0; i < 3; i++) {
        victims[i] = timer_new(l, free_all, &fired);
        timer_arm(victims[i], 50);
    }
    loop_advance(l, 50);
    cr_assert_eq(fired, 1);
    loop_free_dry(l);
}

struct again {
    struct timer *timer;
    unsigned fired;
};

static void arm_again(void *ctx)
{
    struct again *a = ctx;

    a->fired++;
    timer_arm(a->timer, 0);
}

Test(timer, one_that_arms_itself_for_now_leaves_room_for_others)
{
    struct loop *l = loop_new();
    struct again a = {0};

    a.timer = timer_new(l, arm_again, &a);
    timer_arm(a.timer, 0);
    loop_turn(l, false);
    cr_assert_eq(a.fired, 1, "once per turn");
    cr_assert(LOOP_UNTIL(l, a.fired >= 10));
    timer_free(a.timer);
    loop_free_dry(l);
}

/* Any order of arming, moving and dropping: what fires, fires in the order of due, and nothing is lost. */
static struct {
    struct timer *timer;
    bool fired;
} many[200];
static uint64_t last_due;
static uint64_t dues[200];

static void check_order(void *ctx)
{
    size_t i = (size_t)ctx;

    cr_assert_geq(dues[i], last_due);
    cr_assert_leq(dues[i], clock_now_ms());
    last_due = dues[i];
    many[i].fired = true;
}

Test(timer, many_fire_in_the_order_of_their_due)
{
    struct loop *l = loop_new();
    uint64_t start = clock_now_ms() + 1000;

    srand(7);
    for (size_t i = 0; i < 200; i++)
        many[i].timer = timer_new(l, check_order, (void *)i);
    for (unsigned step = 0; step < 2000; step++) {
        size_t i = (size_t)rand() % 200;

        dues[i] = start + (uint64_t)rand() % 100000;
        timer_arm_at(many[i].timer, dues[i]);
        if (rand() % 4 == 0) {
            timer_disarm(many[i].timer);
            dues[i] = 0;
        }
    }
    for (unsigned i = 0; i < 60; i++)
        loop_advance(l, 2000);
    for (size_t i = 0; i < 200; i++) {
        cr_assert_eq(many[i].fired, dues[i] != 0, "timer %zu", i);
        timer_free(many[i].timer);
    }
    loop_free_dry(l);
}

/* An idle daemon must not wake up: deadlines that were moved away cost at most one wake-up. */
Test(timer, a_dropped_deadline_costs_at_most_one_wake_up)
{
    struct loop *l = loop_new();
    unsigned fired = 0;
    struct timer *t = timer_new(l, count, &fired);
    uint64_t armed;

    timer_arm(t, 1000);
    loop_turn(l, false);
    armed = l->timers.armed_due;
    for (unsigned i = 0; i < 100; i++) {
        timer_arm(t, 2000);
        loop_turn(l, false);
        cr_assert_eq(l->timers.armed_due, armed, "left alone: the timer is due later than that");
    }
    timer_arm(t, 500);
    loop_turn(l, false);
    cr_assert_lt(l->timers.armed_due, armed);
    timer_free(t);
    loop_free_dry(l);
}
