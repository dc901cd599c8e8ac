/* A timer on the boottime clock. All timers of a loop share one timerfd, so one that is armed costs no wake-up of its own and
 * one that came due while the machine slept fires at resume. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

struct loop;
struct timer;

struct timer *timer_new(struct loop *l, void (*fire)(void *ctx), void *ctx);
/* After this returns, fire() will not run and the owner may go. NULL is fine; returns NULL. */
struct timer *timer_free(struct timer *t);

/* Replaces what was armed. fire() runs once, from the loop, also for 0 ms. */
void timer_arm(struct timer *t, uint64_t delay_ms);
void timer_arm_at(struct timer *t, uint64_t due_ms);        /* an instant of clock_now_ms() */
void timer_disarm(struct timer *t);
bool timer_is_armed(const struct timer *t);
uint64_t timer_due(const struct timer *t);                  /* 0 when not armed */
