/* links: lease
 *
 * The guard that is to be ended on a machine that is no longer to be switched off: the real freed.c, over a
 * session and a guard of our own. */
#include <criterion/criterion.h>

#define guard_release fake_guard_release
#define timer_new     fake_timer_new
#define timer_free    fake_timer_free
#define timer_arm     fake_timer_arm
#define timer_disarm  fake_timer_disarm
#include "lease/freed.c"

#include "tests/fixture/loop_fixture.h"

static struct world {
    struct op asked; /* what the machine was asked last; slot NULL: answered, or given up */
    guard_done_fn answer;
    void *ctx;
    unsigned n_asked, n_over, n_told;
    bool armed;
    struct fault told;
    struct op *waiting;
} w;

static struct loop *loop;
static struct freed *freed;

static void asked_cancel(struct op *op)
{
    (void)op;
}

void fake_guard_release(struct host *h, const char *owner, struct op **slot, guard_done_fn done, void *ctx)
{
    (void)h;
    cr_assert_str_eq(owner, "a1b2c3");
    w.n_asked++;
    w.answer = done;
    w.ctx = ctx;
    op_begin(&w.asked, slot, asked_cancel);
}

struct timer *fake_timer_new(struct loop *l, void (*fire)(void *ctx), void *ctx)
{
    (void)l, (void)fire, (void)ctx;
    return NULL;
}

struct timer *fake_timer_free(struct timer *t)
{
    return t;
}

void fake_timer_arm(struct timer *t, uint64_t delay_ms)
{
    (void)t;
    cr_assert_gt(delay_ms, 0);
    w.armed = true;
}

void fake_timer_disarm(struct timer *t)
{
    (void)t;
    w.armed = false;
}

static void on_over(void *ctx)
{
    (void)ctx;
    w.n_over++;
    freed = freed_free(freed);
}

static void on_told(void *ctx, const struct fault *f)
{
    (void)ctx;
    w.n_told++;
    w.told = f ? *f : (struct fault){0};
}

static void setup(void)
{
    w = (struct world){0};
    loop = loop_new();
    freed = freed_new(&(struct freed_context){
        .loop = loop, .name = "gpu1", .owner = "a1b2c3", .acts_at_ms = 1700000000000, .over = on_over});
}

static void teardown(void)
{
    freed = freed_free(freed);
    loop = loop_free(loop);
}

TestSuite(freed, .init = setup, .fini = teardown);

static void wait_for_it(void)
{
    freed_wait(freed, &w.waiting, on_told, NULL);
    loop_turns(loop, 3);
}

static void says(enum guard_verdict verdict, enum guard_reason reason)
{
    const struct guard_answer a = {.verdict = verdict, .reason = reason};

    op_end(&w.asked);
    w.answer(w.ctx, &a, NULL);
    loop_turns(loop, 3);
}

static void cannot_be_asked(void)
{
    const struct fault f = {.kind = FAULT_UNCERTAIN, .code = "timeout", .text = "no answer within 15 s"};

    op_end(&w.asked);
    w.answer(w.ctx, NULL, &f);
    loop_turns(loop, 3);
}

Test(freed, is_asked_at_a_login_and_over_when_none_lives_there)
{
    cr_assert_eq(w.n_asked, 0);
    freed_on_session(freed, true);
    cr_assert_eq(w.n_asked, 1);
    wait_for_it();
    cr_assert_eq(w.n_told, 0, "the answer is on its way");
    says(GUARD_MISSING, 0);
    cr_assert_eq(w.n_over, 1);
    cr_assert_eq(w.n_told, 1);
    cr_assert_eq(w.told.kind, FAULT_NONE);
}

Test(freed, without_a_session_whoever_waits_is_answered_at_once)
{
    wait_for_it();
    cr_assert_eq(w.n_told, 1);
    cr_assert_str_eq(w.told.code, "guard_left");
}

Test(freed, a_lost_session_answers_whoever_waits)
{
    freed_on_session(freed, true);
    wait_for_it();
    freed_on_session(freed, false);
    loop_turns(loop, 3);
    cr_assert_eq(w.n_told, 1);
    cr_assert_str_eq(w.told.code, "guard_left");
    cr_assert_null(w.waiting);
    freed_on_session(freed, true);
    cr_assert_eq(w.n_asked, 2, "and it is asked all the same");
    says(GUARD_MISSING, 0);
    cr_assert_eq(w.n_over, 1);
    cr_assert_eq(w.n_told, 1);
}

Test(freed, what_came_to_nothing_is_tried_again_while_the_session_is_up)
{
    freed_on_session(freed, true);
    wait_for_it();
    cannot_be_asked();
    cr_assert_eq(w.n_told, 1);
    cr_assert_str_eq(w.told.code, "guard_left");
    cr_assert(w.armed);
    w.armed = false;
    freed_ask(freed);
    cr_assert_eq(w.n_asked, 2);
    says(GUARD_REFUSED, GUARD_REASON_LATE);
    cr_assert_eq(w.n_over, 0, "it acts already: it has not ended");
    cr_assert(w.armed);
    freed_on_session(freed, false);
    cr_assert_not(w.armed, "nobody can be asked");
    freed_on_session(freed, true);
    says(GUARD_REFUSED, GUARD_REASON_OWNER);
    cr_assert_eq(w.n_over, 1, "it is another one's");
}
