/* The provider's own timer, where it has one: the third way to the stop, beside us and the guard. It travels
 * with the power-on (instance_start.first_ms), so that there is no moment before the first login in which
 * nothing would end the bill; while the machine is ours and guarded it is kept ahead of what is wanted, and
 * what the list says of it is the read-back. It is no deadline: the guard acts long before. */
#include "base/clock.h"
#include "base/event.h"
#include "lease/account.h"
#include "lease/rented_private.h"
#include "proto/text.h"

#define AHEAD_MS (60 * 60000)
#define HOLD_MS  (5 * 60000) /* behind the end of a hold, which the guard knows */
#define SKEW_MS  (2 * 60000) /* it knows whole minutes */
#define AGAIN_MS 60000u      /* between two calls */

static const struct rental_ops *ops_of(const struct rented *r)
{
    return account_ops(r->context.account);
}

/* The first one is set by the driver, before it switches on. */
void rented_choose_timer(struct rented *r)
{
    bool has = ops_of(r)->set_timer && !rented_prepaid_until_at_ms(r);

    r->wish.start.first_ms = has ? r->first_ms : 0;
}

static void timer_failed(struct rented *r, const char *text)
{
    bool is_news = !r->timer_fault.kind;

    fault_code(&r->timer_fault, FAULT_TRANSIENT, "no_timer", "%s", text);
    if (is_news)
        event_publish(LOG_LEVEL_WARNING, LOG_PROVIDER, r->context.name, "no_timer", "%s", text);
}

static void on_timer_set(void *ctx, const struct fault *f)
{
    struct rented *r = ctx;
    char text[300];

    if (f) {
        snprintf(text, sizeof text, "%s does not set its timer: %.200s", ops_of(r)->title, f->text);
        r->timer_at_ms = 0;
        timer_failed(r, text);
    }
    runq_add(r->context.loop, &r->changed);
}

static void set_timer(struct rented *r, int64_t at_ms)
{
    r->timer_at_ms = at_ms;
    r->timer_due = clock_now_ms();
    ops_of(r)->set_timer(account_rental(r->context.account), r->record.id, at_ms, &r->timer_call,
                         on_timer_set, r);
}

/* What was set last is what the list says, or it was not set. */
static void read_back(struct rented *r)
{
    int64_t off_ms = r->seen.off_at_ms - r->timer_at_ms;

    if (!r->timer_at_ms)
        return;
    if (off_ms >= -SKEW_MS && off_ms <= SKEW_MS)
        r->timer_fault = (struct fault){0};
    else
        timer_failed(r, r->seen.off_at_ms ? "the provider's timer stands at another time than it was set to"
                                          : "the provider's timer was set, and the list does not show it");
}

/* By the provider's clock, as all of this; a hold's end is told by ours. */
static int64_t wanted_at_ms(const struct rented *r, int64_t now_ms)
{
    int64_t off_ms = account_clock_off_ms(r->context.account);
    struct keeper_figures k = {0};

    keeper_figures(r->keeper, &k);
    return MAX(now_ms + AHEAD_MS, k.hold_until_at_ms ? k.hold_until_at_ms - off_ms + HOLD_MS : 0);
}

/* Set when half of the way is gone, and when it stands where nobody wants it any more. */
static bool is_due(const struct rented *r, int64_t wanted_ms, int64_t now_ms)
{
    int64_t stands_ms = r->seen.off_at_ms;

    return stands_ms - now_ms < (wanted_ms - now_ms) / 2 || stands_ms > wanted_ms + AHEAD_MS;
}

void rented_watch_timer(struct rented *r)
{
    enum life_state s = life_state(r->life);
    int64_t now_ms = account_now_ms(r->context.account), wanted_ms;

    if (!ops_of(r)->set_timer || !r->record.id || r->timer_call ||
        (r->timer_due && clock_now_ms() - r->timer_due < AGAIN_MS))
        return;
    if (s == LIFE_STOPPED && r->timer_at_ms && r->seen.off_at_ms > now_ms) {
        set_timer(r, 0); /* somebody may switch it on for work of his own */
        return;
    }
    if (s != LIFE_RUNNING || !r->record.ours || r->is_anothers || !rented_is_guarded(r) ||
        rented_prepaid_until_at_ms(r))
        return;
    read_back(r);
    wanted_ms = wanted_at_ms(r, now_ms);
    if (is_due(r, wanted_ms, now_ms))
        set_timer(r, wanted_ms);
}
