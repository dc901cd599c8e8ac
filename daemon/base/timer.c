/* A binary heap of armed timers, ordered by due and then by the order of arming, over one timerfd. The
 * timerfd is set only before poll, and only when the first timer is due earlier than what it is set to: most
 * timers are deadlines that are moved or dropped before they come due, and one wake-up too many is cheaper
 * than a system call for each of them. */
#include "base/timer.h"

#include <sys/timerfd.h>

#include "base/clock.h"
#include "base/loop_private.h"

struct timer {
    struct loop *loop;
    void (*fire)(void *ctx);
    void *ctx;
    uint64_t due;
    uint64_t number; /* of this arming */
    unsigned place;  /* in the heap, from 1; 0: not armed */
};

static bool is_before(const struct timer *a, const struct timer *b)
{
    return a->due != b->due ? a->due < b->due : a->number < b->number;
}

static void heap_put(struct loop *l, unsigned place, struct timer *t)
{
    l->timers.heap[place - 1] = t;
    t->place = place;
}

/* Moves t from an empty place to where it belongs. */
static void heap_settle(struct loop *l, unsigned place, struct timer *t)
{
    struct timer **heap = l->timers.heap;
    unsigned below;

    while (place > 1 && is_before(t, heap[place / 2 - 1])) {
        heap_put(l, place, heap[place / 2 - 1]);
        place /= 2;
    }
    while ((below = 2 * place) <= l->timers.n) {
        if (below < l->timers.n && is_before(heap[below], heap[below - 1]))
            below++;
        if (!is_before(heap[below - 1], t))
            break;
        heap_put(l, place, heap[below - 1]);
        place = below;
    }
    heap_put(l, place, t);
}

static void heap_add(struct loop *l, struct timer *t)
{
    uv_handle_t *poll = (uv_handle_t *)&l->timers.poll;

    if (l->timers.n == l->timers.size) {
        unsigned size = l->timers.size ? 2 * l->timers.size : 16;
        struct timer **heap = reallocarray(l->timers.heap, size, sizeof(*heap));

        if (!heap)
            abort();
        l->timers.heap = heap;
        l->timers.size = size;
    }
    if (l->timers.n++ == 0)
        uv_ref(poll);
    heap_settle(l, l->timers.n, t);
}

static void heap_remove(struct loop *l, struct timer *t)
{
    unsigned place = t->place;
    struct timer *last = l->timers.heap[--l->timers.n];

    t->place = 0;
    if (last != t)
        heap_settle(l, place, last);
    if (l->timers.n == 0)
        uv_unref((uv_handle_t *)&l->timers.poll);
}

/* Fires what is due and was armed before this pass: one that arms itself anew for "now" comes next turn,
 * after I/O had its say. */
static void fire_due(struct loop *l)
{
    uint64_t now = clock_now_ms(), armed_so_far = l->timers.count;

    while (l->timers.n > 0) {
        struct timer *t = l->timers.heap[0];

        if (t->due > now || t->number > armed_so_far)
            break;
        heap_remove(l, t);
        t->fire(t->ctx); /* may free t */
    }
}

static void on_timerfd(uv_poll_t *poll, int status, int events)
{
    struct loop *l = CONTAINER_OF(poll, struct loop, timers.poll);
    uint64_t times;

    (void)status;
    (void)events;
    if (read(l->timers.fd, &times, sizeof(times)) == sizeof(times))
        l->timers.armed_due = 0;
    clock_look(l); /* who slept hears of it before the deadlines that passed meanwhile */
    fire_due(l);
}

void timers_before_poll(struct loop *l)
{
    struct itimerspec at = {0};
    uint64_t due, kernel_ms;

    if (l->timers.n == 0)
        return;
    due = l->timers.heap[0]->due;
    if (l->timers.armed_due && l->timers.armed_due <= due)
        return;
    kernel_ms = MAX(clock_kernel_ms(due), 1u); /* 0 would disarm */
    at.it_value.tv_sec = (time_t)MIN(kernel_ms / 1000, (uint64_t)INT32_MAX);
    at.it_value.tv_nsec = (long)(kernel_ms % 1000) * 1000000;
    if (timerfd_settime(l->timers.fd, TFD_TIMER_ABSTIME, &at, NULL) < 0)
        abort();
    l->timers.armed_due = MAX(due, 1u);
}

void timers_open(struct loop *l)
{
    l->timers.fd = timerfd_create(CLOCK_BOOTTIME, TFD_NONBLOCK | TFD_CLOEXEC);
    if (l->timers.fd < 0 || uv_poll_init(&l->uv, &l->timers.poll, l->timers.fd) < 0)
        abort();
    uv_poll_start(&l->timers.poll, UV_READABLE, on_timerfd);
    uv_unref((uv_handle_t *)&l->timers.poll);
}

void timers_done(struct loop *l)
{
    close(l->timers.fd);
    free(l->timers.heap);
}

struct timer *timer_new(struct loop *l, void (*fire)(void *ctx), void *ctx)
{
    struct timer *t = xnew(struct timer);

    t->loop = l;
    t->fire = fire;
    t->ctx = ctx;
    l->timers.alive++;
    return t;
}

struct timer *timer_free(struct timer *t)
{
    if (t) {
        timer_disarm(t);
        t->loop->timers.alive--;
        free(t);
    }
    return NULL;
}

void timer_arm(struct timer *t, uint64_t delay_ms)
{
    uint64_t now = clock_now_ms();

    timer_arm_at(t, delay_ms > UINT64_MAX - now ? UINT64_MAX : now + delay_ms);
}

void timer_arm_at(struct timer *t, uint64_t due_ms)
{
    timer_disarm(t);
    t->due = due_ms;
    t->number = ++t->loop->timers.count;
    heap_add(t->loop, t);
}

void timer_disarm(struct timer *t)
{
    if (t->place)
        heap_remove(t->loop, t);
}

bool timer_is_armed(const struct timer *t)
{
    return t->place != 0;
}

uint64_t timer_due(const struct timer *t)
{
    return t->place ? t->due : 0;
}
