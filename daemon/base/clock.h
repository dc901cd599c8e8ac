/* The two clocks. Deadlines are on CLOCK_BOOTTIME, which goes on while the machine sleeps and never jumps; wall clock is for
 * display and records. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

struct loop;

uint64_t clock_now_ms(void);        /* boottime; read anew at each call */
int64_t clock_wall_ms(void);        /* since 1970 */
bool clock_was_set(int64_t wall_ms); /* no earlier than 2020, as no clock is that was never set */

/* When clock_now_ms(), which is now, will be at that instant of the wall clock; 0: it has passed. */
static inline uint64_t clock_due_of(int64_t at_ms, uint64_t now)
{
    int64_t left_ms = at_ms - clock_wall_ms();

    return left_ms > 0 ? now + (uint64_t)left_ms : 0;
}

/* Likewise, when it was; one to come is now, as somebody set the clock. Below 0: before this boot. What was noted so can be compared with
 * each other, whatever becomes of the wall clock meanwhile. */
static inline int64_t clock_past_due(int64_t at_ms, uint64_t now)
{
    int64_t age_ms = clock_wall_ms() - at_ms;

    return (int64_t)now - (age_ms > 0 ? age_ms : 0);
}

/* "14:52", with the day where that is not today's. */
#define MINUTE_TEXT_MAX 24
const char *minute_format(char out[static MINUTE_TEXT_MAX], int64_t at_ms);

/* Tells when the machine has slept: boottime went on by at least 5 s more than CLOCK_MONOTONIC. Runs on each resume, from the
 * loop, before timers that came due meanwhile. Returns NULL-safe handle; the loop owns nothing. */
struct clock_watch;
struct clock_watch *clock_watch_new(struct loop *l, void (*resumed)(void *ctx, uint64_t slept_ms), void *ctx);
struct clock_watch *clock_watch_free(struct clock_watch *w);
