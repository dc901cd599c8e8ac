/* One request after the other while there is a session, until one is answered. What it leaves is known by
 * what lives there then. Whoever waits hears how the first one ended, or that the way was lost meanwhile. */
#include "lease/freed.h"

#include "base/fault.h"
#include "base/log.h"
#include "base/loop.h"
#include "base/timer.h"
#include "guard/guard.h"
#include "proto/mem.h"
#include "proto/text.h"

#define AGAIN_MS 20000u

struct freed {
    struct freed_context context;
    char owner[GUARD_OWNER_MAX + 1];
    bool up;
    struct op *asking;
    struct timer *timer; /* of the next try */
    struct op wait;      /* of whoever waits for the end of a try */
    op_done_fn done;
    void *ctx;
};

static const struct fault unreached = {
    .kind = FAULT_TRANSIENT, .code = "guard_left", .text = "it is not reached"};

static void end_wait(struct freed *f, const struct fault *why)
{
    struct op **slot = f->wait.slot;

    if (!slot)
        return;
    op_end(&f->wait);
    op_finish_later(f->context.loop, slot, why, f->done, f->ctx);
}

/* Another llmhostd's is none of ours any more. One that acts already is past being told. */
static bool is_over(const struct guard_answer *a)
{
    return a->verdict == GUARD_MISSING || a->verdict == GUARD_DOES_NOT_COUNT ||
           (a->verdict == GUARD_REFUSED && a->reason != GUARD_REASON_LATE);
}

static void on_released(void *ctx, const struct guard_answer *a, const struct fault *why)
{
    struct freed *f = ctx;
    struct fault still;

    if (!why && is_over(a)) {
        log_notice(f->context.name, "its guard is ended");
        end_wait(f, NULL);
        f->context.over(f->context.ctx);
        return;
    }
    fault_code(&still, FAULT_TRANSIENT, "guard_left", "its guard was not ended: %s",
               why ? why->text : guard_verdict_name(a->verdict));
    log_warning(f->context.name, "%s", still.text);
    end_wait(f, &still);
    timer_arm(f->timer, AGAIN_MS);
}

static void freed_ask(void *ctx)
{
    struct freed *f = ctx;

    guard_release(f->context.host, f->owner, &f->asking, on_released, f);
}

struct freed *freed_new(const struct freed_context *context)
{
    struct freed *f = xnew(struct freed);

    f->context = *context;
    f->timer = timer_new(context->loop, freed_ask, f);
    snprintf(f->owner, sizeof f->owner, "%s", context->owner);
    return f;
}

struct freed *freed_free(struct freed *f)
{
    static const struct fault gone = {.kind = FAULT_GONE, .text = "it is no longer to be ended"};

    if (!f)
        return NULL;
    op_cancel(&f->asking);
    end_wait(f, &gone);
    f->timer = timer_free(f->timer);
    free(f);
    return NULL;
}

void freed_on_session(struct freed *f, bool up)
{
    if (up == f->up)
        return;
    f->up = up;
    op_cancel(&f->asking);
    timer_disarm(f->timer);
    if (up)
        freed_ask(f);
    else
        end_wait(f, &unreached);
}

int64_t freed_acts_at_ms(const struct freed *f)
{
    return f->context.acts_at_ms;
}

static void wait_cancel(struct op *op)
{
    (void)op; /* the try goes on */
}

void freed_wait(struct freed *f, struct op **slot, op_done_fn done, void *ctx)
{
    if (!f->asking || f->wait.slot) {
        op_finish_later(f->context.loop, slot, &unreached, done, ctx);
        return;
    }
    f->done = done;
    f->ctx = ctx;
    op_begin(&f->wait, slot, wait_cancel);
}
