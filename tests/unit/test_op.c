/* The promise of op.h, on the plain kind; every other kind is tested against the same five ways in its own
 * module. */
#include <criterion/criterion.h>
#include <errno.h>
#include <signal.h>

#include "base/fault.h"
#include "base/op.h"
#include "base/timer.h"
#include "proto/mem.h"
#include "tests/fixture/loop_fixture.h"

struct owner {
    struct loop *loop;
    struct op *op;
    unsigned calls;
    bool failed, slot_was_clear;
    struct fault fault;
};

static void on_done(void *ctx, const struct fault *f)
{
    struct owner *o = ctx;

    o->calls++;
    o->failed = f != NULL;
    if (f)
        o->fault = *f;
    o->slot_was_clear = o->op == NULL;
}

Test(op, answer)
{
    struct owner o = {.loop = loop_new()};

    op_finish_later(o.loop, &o.op, NULL, on_done, &o);
    cr_assert_not_null(o.op);
    cr_assert_eq(o.calls, 0, "not from inside the call that started it");
    cr_assert(LOOP_UNTIL(o.loop, o.calls));
    cr_assert(!o.failed);
    cr_assert(o.slot_was_clear);
    loop_turns(o.loop, 5);
    cr_assert_eq(o.calls, 1);
    loop_free_dry(o.loop);
}

Test(op, fault_is_copied)
{
    struct owner o = {.loop = loop_new()};
    struct fault f;

    fault_set(&f, FAULT_DENIED, -EACCES, "no");
    op_finish_later(o.loop, &o.op, &f, on_done, &o);
    fault_set(&f, FAULT_GONE, 0, "something else");
    cr_assert(LOOP_UNTIL(o.loop, o.calls));
    cr_assert(o.failed && o.slot_was_clear);
    cr_assert_eq(o.fault.kind, FAULT_DENIED);
    cr_assert_str_eq(o.fault.text, "no");
    loop_free_dry(o.loop);
}

/* A kind that never answers by itself, with a deadline: how every kind with a timer behaves. */
struct slow {
    struct op op;
    struct timer *timer;
    op_done_fn done;
    void *ctx;
    unsigned *cancelled;
};

static void slow_free(struct slow *s)
{
    timer_free(s->timer);
    free(s);
}

static void slow_on_timer(void *ctx)
{
    struct slow *s = ctx;
    struct fault f;

    fault_set(&f, FAULT_TRANSIENT, -ETIMEDOUT, "no answer");
    op_end(&s->op);
    s->done(s->ctx, &f);
    slow_free(s);
}

static void slow_cancel(struct op *op)
{
    struct slow *s = CONTAINER_OF(op, struct slow, op);

    ++*s->cancelled;
    slow_free(s);
}

static void slow_start(struct owner *o, unsigned *cancelled)
{
    struct slow *s = xnew(struct slow);

    s->timer = timer_new(o->loop, slow_on_timer, s);
    s->done = on_done;
    s->ctx = o;
    s->cancelled = cancelled;
    op_begin(&s->op, &o->op, slow_cancel);
    timer_arm(s->timer, 30000);
}

Test(op, timeout)
{
    struct owner o = {.loop = loop_new()};
    unsigned cancelled = 0;

    slow_start(&o, &cancelled);
    loop_advance(o.loop, 29000);
    cr_assert_eq(o.calls, 0);
    loop_advance(o.loop, 1001);
    cr_assert_eq(o.calls, 1);
    cr_assert(o.failed && o.slot_was_clear);
    cr_assert_eq(o.fault.error, -ETIMEDOUT);
    cr_assert_eq(cancelled, 0);
    loop_free_dry(o.loop);
}

Test(op, cancelled_before_the_answer)
{
    struct owner o = {.loop = loop_new()};
    unsigned cancelled = 0;

    op_cancel(&o.op);
    slow_start(&o, &cancelled);
    op_cancel(&o.op);
    cr_assert_null(o.op);
    cr_assert_eq(cancelled, 1);
    op_cancel(&o.op);
    cr_assert_eq(cancelled, 1);
    op_finish_later(o.loop, &o.op, NULL, on_done, &o);
    op_cancel(&o.op);
    loop_advance(o.loop, 60000);
    cr_assert_eq(o.calls, 0);
    loop_free_dry(o.loop);
}

Test(op, owner_freed_before_the_answer)
{
    struct loop *l = loop_new();
    struct owner *o = xnew(struct owner);

    o->loop = l;
    op_finish_later(l, &o->op, NULL, on_done, o);
    op_cancel(&o->op);
    free(o);
    loop_turns(l, 3); /* AddressSanitizer is the judge */
    loop_free_dry(l);
}

static void start_another(void *ctx, const struct fault *f)
{
    struct owner *o = ctx;

    on_done(ctx, f);
    if (o->calls < 3)
        op_finish_later(o->loop, &o->op, NULL, start_another, o);
}

Test(op, a_slot_can_be_used_again_from_done)
{
    struct owner o = {.loop = loop_new()};

    op_finish_later(o.loop, &o.op, NULL, start_another, &o);
    loop_turn(o.loop, false);
    cr_assert_eq(o.calls, 3, "all in the same turn");
    loop_free_dry(o.loop);
}

Test(op, two_requests_in_one_slot_abort, .signal = SIGABRT)
{
    struct owner o = {.loop = loop_new()};

    op_finish_later(o.loop, &o.op, NULL, on_done, &o);
    op_finish_later(o.loop, &o.op, NULL, on_done, &o);
}
