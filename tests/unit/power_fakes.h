/* A clock, a timer and a guard's word that are what a test says, over a world w with now, timer_due and
 * guard: included behind it. For power_world.h and test_manager_boxed.c. */
#pragma once

uint64_t fake_clock_now_ms(void)
{
    return w.now;
}

void fake_timer_arm(struct timer *t, uint64_t delay_ms)
{
    (void)t;
    w.timer_due = w.now + delay_ms;
}

void fake_timer_disarm(struct timer *t)
{
    (void)t;
    w.timer_due = 0;
}

void fake_keeper_figures(const struct keeper *k, struct keeper_figures *ret)
{
    (void)k;
    *ret = w.guard;
}
