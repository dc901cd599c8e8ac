/* The one loop everything runs on: libuv's, a queue of work for later in the same turn, and timers on the boottime clock.
 * Every object that waits for something is given the loop when it is made. */
#pragma once

#include <stdbool.h>
#include <uv.h>

struct loop;

struct loop *loop_new(void);
/* Runs the loop until nothing is left to close, then frees it. Aborts when a handle or a timer was left behind: a bug of ours. */
struct loop *loop_free(struct loop *l);

/* Until loop_stop(), or until nothing is left that could happen. */
void loop_run(struct loop *l);
/* One turn: what is ready now; waits for something when wait is true. Returns false when nothing is left. For tests. */
bool loop_turn(struct loop *l, bool wait);
void loop_stop(struct loop *l);

/* For leaves in base/ (and http/, whose library wants to see it). */
uv_loop_t *loop_uv(struct loop *l);
