/* Sleep shows in the difference of two clocks: CLOCK_BOOTTIME counts it, CLOCK_MONOTONIC does not. We look
 * before timers fire and before each poll. So that there is a wake-up at resume even when no timer is due, a
 * second timerfd waits on CLOCK_REALTIME with TFD_TIMER_CANCEL_ON_SET: the kernel cancels it whenever wall
 * clock and monotonic clock move apart, which is what sleep does (timerfd_create(2); fs/timerfd.c,
 * timerfd_resume()). It exists only while somebody watches. */
#include "base/clock.h"

#include <sys/timerfd.h>
#include <time.h>

#include "base/loop_private.h"

#define SLEPT_MS_MIN 5000
#define SET_MS_MIN   1577836800000 /* 2020-01-01 */

struct clock_watch {
    struct list node;
    void (*resumed)(void *ctx, uint64_t slept_ms);
    void *ctx;
};

static struct {
    uint64_t boot_ms, mono_ms;
    int64_t wall_ms;
} shift; /* always 0 but in tests */

static uint64_t read_ms(clockid_t id)
{
    struct timespec t;

    clock_gettime(id, &t);
    return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

uint64_t clock_now_ms(void)
{
    return read_ms(CLOCK_BOOTTIME) + shift.boot_ms;
}

int64_t clock_wall_ms(void)
{
    return (int64_t)(read_ms(CLOCK_REALTIME) + shift.boot_ms) + shift.wall_ms;
}

bool clock_was_set(int64_t wall_ms)
{
    return wall_ms >= SET_MS_MIN;
}

uint64_t clock_kernel_ms(uint64_t due_ms)
{
    return due_ms > shift.boot_ms ? due_ms - shift.boot_ms : 0;
}

/* The monotonic clock is read first: an interrupted reading may invent a sleep of the interruption, never a
 * negative one. */
static uint64_t asleep_ms(void)
{
    uint64_t mono = read_ms(CLOCK_MONOTONIC) + shift.mono_ms;

    return clock_now_ms() - mono;
}

void clock_shift(struct loop *l, uint64_t ms, bool slept)
{
    shift.boot_ms += ms;
    if (!slept)
        shift.mono_ms += ms;
    l->timers.armed_due = 0; /* is wrong by ms now: set anew before the next poll */
}

void clock_shift_wall(int64_t ms)
{
    shift.wall_ms += ms;
}

void clock_look(struct loop *l)
{
    struct list untold;
    struct clock_watch *w;
    uint64_t now, slept;

    if (list_is_empty(&l->clock_watches))
        return;
    now = asleep_ms();
    slept = now > l->asleep_ms ? now - l->asleep_ms : 0;
    l->asleep_ms = now;
    if (slept < SLEPT_MS_MIN)
        return;
    list_init(&untold);
    list_prepend(&l->clock_watches, &untold); /* takes over all: any watch may be freed while one is told */
    list_remove(&l->clock_watches);
    while ((w = LIST_FIRST(&untold, struct clock_watch, node))) {
        list_remove(&w->node);
        list_append(&l->clock_watches, &w->node);
        w->resumed(w->ctx, slept);
    }
}

static void set_arm(struct loop *l)
{
    struct itimerspec never = {.it_value.tv_sec = INT64_MAX / 1000000000};

    timerfd_settime(l->set_fd, TFD_TIMER_ABSTIME | TFD_TIMER_CANCEL_ON_SET, &never, NULL);
}

static void on_set(uv_poll_t *poll, int status, int events)
{
    struct loop *l = CONTAINER_OF(poll, struct loop, set_poll);
    uint64_t times;

    (void)status;
    (void)events;
    if (read(l->set_fd, &times, sizeof(times)) < 0) /* ECANCELED: the clock was set, or jumped at resume */
        set_arm(l);
    clock_look(l);
}

void clock_open(struct loop *l)
{
    list_init(&l->clock_watches);
    l->set_fd = timerfd_create(CLOCK_REALTIME, TFD_NONBLOCK | TFD_CLOEXEC);
    if (l->set_fd < 0 || uv_poll_init(&l->uv, &l->set_poll, l->set_fd) < 0)
        abort();
}

void clock_done(struct loop *l)
{
    close(l->set_fd);
}

struct clock_watch *clock_watch_new(struct loop *l, void (*resumed)(void *ctx, uint64_t slept_ms), void *ctx)
{
    struct clock_watch *w = xnew(struct clock_watch);

    w->resumed = resumed;
    w->ctx = ctx;
    if (list_is_empty(&l->clock_watches)) {
        l->asleep_ms = asleep_ms();
        set_arm(l);
        uv_poll_start(&l->set_poll, UV_READABLE, on_set);
        uv_unref((uv_handle_t *)&l->set_poll);
    }
    list_append(&l->clock_watches, &w->node);
    return w;
}

struct clock_watch *clock_watch_free(struct clock_watch *w)
{
    if (w) {
        list_remove(&w->node);
        free(w);
    }
    return NULL;
}

const char *minute_format(char out[static MINUTE_TEXT_MAX], int64_t at_ms)
{
    time_t at = (time_t)(at_ms / 1000), now = (time_t)(clock_wall_ms() / 1000);
    struct tm then, today;

    localtime_r(&at, &then);
    localtime_r(&now, &today);
    strftime(out, MINUTE_TEXT_MAX,
             then.tm_year == today.tm_year && then.tm_yday == today.tm_yday ? "%H:%M" : "%Y-%m-%d %H:%M",
             &then);
    return out;
}
