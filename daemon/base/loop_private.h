/* What the files of base/ share about the loop; nobody else includes this (but the loop fixture of the tests,
 * for the clock). */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <uv.h>

#include "base/list.h"

struct timer;

struct loop {
    uv_loop_t uv;

    /* runq.c */
    uv_prepare_t prepare; /* started first, so that it runs after every other prepare handle: the last word
                             before poll */
    uv_idle_t busy; /* active while work is queued: keeps the loop alive and makes poll return at once */
    struct list works;

    /* timer.c */
    struct {
        uv_poll_t poll;
        int fd;
        struct timer **heap;
        unsigned n, size;
        unsigned alive;     /* made and not freed */
        uint64_t armed_due; /* what the timerfd is set to, 0: not set */
        uint64_t count;     /* of arms so far */
    } timers;

    /* clock.c */
    struct list clock_watches;
    uint64_t asleep_ms; /* boottime minus monotonic when last looked */
    uv_poll_t set_poll; /* tells at resume when nothing else would */
    int set_fd;

    /* child.c */
    struct list orphans; /* freed, not yet reaped */
};

void runq_open(struct loop *l);
void runq_drain(struct loop *l);

void timers_open(struct loop *l);
void timers_before_poll(struct loop *l);
void timers_done(struct loop *l);

void clock_open(struct loop *l);
/* Compares the clocks and tells the clock watches when the machine has slept. */
void clock_look(struct loop *l);
void clock_done(struct loop *l);

/* Kills what is left at once instead of in 2 s. */
void children_hurry(struct loop *l);

/* For tests: time goes on by ms, for the boottime clock and the wall clock; for the monotonic one too unless
 * the machine slept. */
void clock_shift(struct loop *l, uint64_t ms, bool slept);
/* Somebody sets the wall clock. */
void clock_shift_wall(int64_t ms);
/* Boottime as the kernel has it for an instant of clock_now_ms(). */
uint64_t clock_kernel_ms(uint64_t due_ms);
