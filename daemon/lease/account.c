/* The figures are sums of the ledger at the moment they are asked for; what is kept here is the balance, the
 * provider's clock, learned prices, and how asking went. It is asked once at the start until it answers, and
 * by a slow timer while something runs, which also looks whether a limit was reached. */
#include "lease/account.h"

#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/event.h"
#include "base/list.h"
#include "base/loop.h"
#include "base/timer.h"
#include "lease/hunt.h"
#include "lease/reserved.h"
#include "policy/money.h"
#include "proto/mem.h"
#include "proto/text.h"

#define WATCH_MS       15000  /* a limit is noticed so much late */
#define BALANCE_MS     600000 /* between two reads while something runs */
#define BALANCE_BAD_MS 60000  /* after one that failed */
#define NEAR_PERCENT   80     /* of a day's limit: people hear of it */
#define LOW_WAIT_MS    5000   /* for the balance that may have been topped up */

#define PRICES_MAX 64 /* kinds of cards that were rented */

struct account {
    struct account_context context;
    struct account_record record;
    const struct rental_ops *ops;
    struct rental *rental;
    struct ledger *ledger;
    struct reserved *reserved;
    struct list asks;

    bool was_heard;      /* an answer came, whether or not it says the time */
    int64_t heard_at_ms; /* the provider's time at heard_due; 0: never heard of it */
    uint64_t heard_due;
    bool has_balance;
    int64_t balance_milli, balance_at_ms;
    uint64_t asked_due;        /* when the balance was asked for by ourselves */
    bool runs, is_checking;    /* something of it does; account_check() has no answer yet */
    bool is_listed;            /* a list was read since account_renew() */
    struct fault blind;        /* why it could not be read */
    struct fault *trouble;     /* worked out when it is asked for */
    char told[32];             /* its code when changed() ran last */
    unsigned era;              /* of the token: an answer to the one before says nothing */
    struct op *balance, *list; /* our own questions */
    struct timer *timer;       /* armed while something runs, or there is a check to be answered */
    struct work changed;
    struct pace pace;
    struct learned_price {
        char card[64];
        int64_t milli;
    } prices[PRICES_MAX];
    unsigned n_prices;
};

/* Limits are told by what they stop. Here is told what a person can mend before it does: a token that is
 * refused, most of a day's limit, a clock that is wrong. */
static void tell(void *ctx)
{
    struct account *a = ctx;
    const struct fault *f = account_trouble(a);

    if (streq(f->code, "token_refused") && !streq(a->told, f->code))
        event_publish(LOG_LEVEL_ERR, LOG_PROVIDER, account_name(a), f->code, "%s", f->text);
    if (money_is_warning(f) && !streq(a->told, f->code))
        event_publish(LOG_LEVEL_WARNING, LOG_PROVIDER, account_name(a), f->code, "%s", f->text);
    snprintf(a->told, sizeof a->told, "%s", f->code);
    a->context.changed(a->context.ctx, a);
}

static void account_changed(struct account *a)
{
    runq_add(a->context.loop, &a->changed);
}

/* ---- the time ---- */

static void on_heard(void *ctx, int64_t their_at_ms)
{
    struct account *a = ctx;
    bool was_off = account_clock_off_ms(a) != 0;

    a->was_heard = true;
    a->heard_at_ms = their_at_ms;
    a->heard_due = clock_now_ms();
    if (was_off != (account_clock_off_ms(a) != 0))
        account_changed(a);
}

int64_t account_their_now_ms(const struct account *a)
{
    return a->heard_at_ms ? a->heard_at_ms + (int64_t)(clock_now_ms() - a->heard_due) : 0;
}

int64_t account_clock_off_ms(const struct account *a)
{
    int64_t off_ms = clock_wall_ms() - account_their_now_ms(a);

    return a->heard_at_ms && (off_ms > LEDGER_SKEW_MS || off_ms < -LEDGER_SKEW_MS) ? off_ms : 0;
}

int64_t account_now_ms(const struct account *a)
{
    return clock_wall_ms() - account_clock_off_ms(a);
}

static int64_t their_now_ms(void *ctx)
{
    return account_now_ms(ctx);
}

/* ---- its pace ---- */

uint64_t account_claim_call(struct account *a, const void *who, uint64_t due)
{
    return pace_claim(&a->pace, who, due, clock_now_ms());
}

void account_called(struct account *a, const void *who)
{
    pace_called(&a->pace, who, clock_now_ms());
}

/* ---- prices ---- */

void account_learn_price(struct account *a, const char *card, int64_t milli)
{
    unsigned i = 0;

    while (i < a->n_prices && !streq(a->prices[i].card, card))
        i++;
    if (i == PRICES_MAX)
        return;
    a->n_prices = MAX(a->n_prices, i + 1);
    snprintf(a->prices[i].card, sizeof a->prices[i].card, "%s", card);
    a->prices[i].milli = milli;
}

int64_t account_price(const struct account *a, const struct rental_offer *offer)
{
    for (unsigned i = 0; i < a->n_prices; i++)
        if (streq(a->prices[i].card, offer->card))
            return MAX(a->prices[i].milli, offer->price_milli);
    return offer->price_milli;
}

/* ---- the balance ---- */

struct ask {
    struct op op;
    struct list node;
    struct account *account;
    struct op *inner;
    unsigned era;
    rental_money_fn done;
    void *ctx;
};

static void ask_cancel(struct op *op)
{
    struct ask *k = CONTAINER_OF(op, struct ask, op);

    op_cancel(&k->inner);
    list_remove(&k->node);
    free(k);
}

static void learn(struct account *a, int64_t milli, const struct fault *f)
{
    a->was_heard = a->was_heard || !f;
    a->blind = f ? *f : (struct fault){0};
    if (!f && a->ops->balance) {
        a->has_balance = true;
        a->balance_milli = milli;
        a->balance_at_ms = clock_wall_ms();
    }
    account_changed(a);
}

static void ask_on_answer(void *ctx, int64_t milli, const struct fault *f)
{
    struct ask *k = ctx;
    rental_money_fn done = k->done;
    void *done_ctx = k->ctx;

    if (k->era == k->account->era)
        learn(k->account, milli, f);
    op_end(&k->op);
    ask_cancel(&k->op);
    done(done_ctx, milli, f);
}

/* Where the balance is not told, what is asked instead says as much of the token. */
static void ask_on_list(void *ctx, const struct instance_seen *seen, unsigned n, const struct fault *f)
{
    struct ask *k = ctx;

    if (!f && k->era == k->account->era)
        account_listed(k->account, seen, n);
    ask_on_answer(ctx, 0, f);
}

void account_ask_balance(struct account *a, struct op **slot, rental_money_fn done, void *ctx)
{
    struct ask *k = xnew(struct ask);

    k->account = a;
    k->era = a->era;
    k->done = done;
    k->ctx = ctx;
    list_append(&a->asks, &k->node);
    op_begin(&k->op, slot, ask_cancel);
    if (a->ops->balance)
        a->ops->balance(a->rental, &k->inner, ask_on_answer, k);
    else
        a->ops->list(a->rental, &k->inner, ask_on_list, k);
}

static void on_own_balance(void *ctx, int64_t milli, const struct fault *f)
{
    (void)ctx, (void)milli, (void)f; /* learn() has it */
}

static void on_own_list(void *ctx, const struct instance_seen *seen, unsigned n, const struct fault *f)
{
    struct account *a = ctx;

    if (!f)
        account_listed(a, seen, n);
}

static void ask_again(struct account *a)
{
    if (!a->balance) {
        a->asked_due = clock_now_ms();
        account_ask_balance(a, &a->balance, on_own_balance, a);
    }
    if (a->is_checking && a->ops->balance && !a->list)
        a->ops->list(a->rental, &a->list, on_own_list, a);
}

static bool is_token_refused(const struct fault *f)
{
    return f->kind == FAULT_DENIED && streq(f->code, "token_refused");
}

/* A check waits for another token, and looks now and then whether this one is accepted after all. */
static bool is_balance_due(const struct account *a)
{
    bool soon = a->runs ? a->blind.kind || a->is_checking : !is_token_refused(&a->blind);
    uint64_t every_ms = soon ? BALANCE_BAD_MS : BALANCE_MS;

    return a->asked_due == 0 || clock_now_ms() - a->asked_due >= every_ms;
}

static void on_timer(void *ctx)
{
    struct account *a = ctx;

    if (!a->runs && !a->is_checking)
        return; /* it was answered meanwhile */
    timer_arm(a->timer, a->runs ? WATCH_MS : BALANCE_BAD_MS);
    if (is_balance_due(a))
        ask_again(a);
    if (!streq(account_trouble(a)->code, a->told))
        account_changed(a);
}

void account_runs(struct account *a, bool runs)
{
    if (runs && !a->runs)
        timer_arm(a->timer, 0);
    else if (!runs && !a->is_checking)
        timer_disarm(a->timer);
    a->runs = runs;
}

void account_check(struct account *a)
{
    a->is_checking = true;
    a->asked_due = 0;
    timer_arm(a->timer, 0);
}

void account_check_later(struct account *a)
{
    a->is_checking = true;
    if (!timer_is_armed(a->timer))
        timer_arm(a->timer, BALANCE_BAD_MS);
}

bool account_is_listed(const struct account *a)
{
    return a->is_listed;
}

void account_leave(struct account *a)
{
    a->is_checking = false;
    account_runs(a, false);
}

/* ---- what other calls tell ---- */

void account_listed(struct account *a, const struct instance_seen *seen, unsigned n)
{
    a->is_checking = false; /* unless somebody wants the next one, too */
    a->is_listed = true;
    if (is_token_refused(&a->blind)) { /* it is accepted after all */
        a->blind = (struct fault){0};
        account_changed(a);
    }
    if (a->context.listed)
        a->context.listed(a->context.ctx, a, seen, n);
}

bool account_name_is_taken(const struct account *a, const char *name)
{
    return a->context.is_orphan && (!a->is_listed || a->context.is_orphan(a->context.ctx, a, name));
}

static void on_refused(void *ctx, const struct fault *f)
{
    struct account *a = ctx;

    if (!is_token_refused(f))
        return;
    a->blind = *f;
    account_changed(a);
}

/* ---- the object ---- */

static struct account_record copy_record(const struct account_record *r)
{
    struct account_record copy = *r;

    copy.provider = xstrdup(r->provider);
    copy.base_url = xstrdup(r->base_url);
    return copy;
}

struct account *account_new(const struct account_context *context, const struct account_record *record)
{
    struct account *a = xnew(struct account);

    a->context = *context;
    a->record = copy_record(record);
    a->ops = rental_find(record->provider);
    work_init(&a->changed, tell, a);
    a->trouble = xnew(struct fault);
    a->rental = a->ops->open(&(struct rental_context){.http = context->http,
                                                      .resolver = context->resolver,
                                                      .secrets = context->secrets,
                                                      .base_url = a->record.base_url,
                                                      .heard = on_heard,
                                                      .now_ms = their_now_ms,
                                                      .refused = on_refused,
                                                      .ctx = a});
    a->ledger = ledger_new(context->store, a->record.provider, a->ops->unit, a->ops->day_offset_ms);
    a->reserved = reserved_new(a->ledger);
    list_init(&a->asks);
    a->timer = timer_new(context->loop, on_timer, a);
    return a;
}

struct account *account_free(struct account *a)
{
    if (!a)
        return NULL;
    LIST_FOREACH_SAFE (k, &a->asks, struct ask, node)
        op_cancel(k->op.slot);
    op_cancel(&a->list);
    runq_drop(&a->changed);
    a->timer = timer_free(a->timer);
    a->reserved = reserved_free(a->reserved);
    a->ledger = ledger_free(a->ledger);
    a->ops->close(a->rental);
    free(a->record.provider);
    free(a->record.base_url);
    free(a->trouble);
    free(a);
    return NULL;
}

const char *account_name(const struct account *a)
{
    return a->record.provider;
}

const struct rental_ops *account_ops(const struct account *a)
{
    return a->ops;
}

struct rental *account_rental(const struct account *a)
{
    return a->rental;
}

struct ledger *account_ledger(const struct account *a)
{
    return a->ledger;
}

const struct account_record *account_record(const struct account *a)
{
    return &a->record;
}

store_ticket account_set_limits(struct account *a, const struct money_limits *limits)
{
    a->record.limits = *limits;
    account_changed(a);
    return store_put_account(a->context.store, &a->record);
}

void account_renew(struct account *a, const char *base_url)
{
    char *url = xstrdup(base_url); /* may be the record's own */

    if (!a->record.base_url != !url || (url && !streq(url, a->record.base_url)))
        a->ops->move(a->rental, url);
    free(a->record.base_url);
    a->record.base_url = url;
    a->era++;
    a->was_heard = a->has_balance = a->is_listed = false;
    a->heard_at_ms = 0;
    a->blind = (struct fault){0};
    op_cancel(&a->balance);
    op_cancel(&a->list);
    a->asked_due = 0;
    if (timer_is_armed(a->timer))
        timer_arm(a->timer, 0);
    account_changed(a);
}

/* ---- figures ---- */

static struct ledger_sum today(const struct account *a, int64_t now_ms)
{
    return ledger_sum(a->ledger, NULL, ledger_day_begins(a->ledger, now_ms), now_ms);
}

static struct ledger_sum this_month(const struct account *a, int64_t now_ms)
{
    return ledger_sum(a->ledger, NULL, ledger_month_begins(a->ledger, now_ms), now_ms);
}

void account_figures(const struct account *a, struct account_figures *ret)
{
    int64_t now_ms = account_now_ms(a);
    bool all;
    int64_t reserved = reserved_milli(a->reserved, NULL, now_ms, &all);

    *ret = (struct account_figures){
        .has_balance = a->has_balance,
        .balance_milli = a->balance_milli,
        .balance_at_ms = a->balance_at_ms,
        .today = today(a, now_ms),
        .month = this_month(a, now_ms),
        .rate = ledger_rate(a->ledger, NULL),
        .reserved = {.milli = reserved, .unknown = all},
        .today_limit_milli = a->record.limits.day_milli,
        .month_limit_milli = a->record.limits.month_milli,
    };
}

static bool is_low(const struct account *a)
{
    int64_t floor_milli = a->record.limits.floor_milli;

    return a->has_balance && floor_milli > 0 && a->balance_milli <= floor_milli;
}

static void say_low(const struct account *a, struct fault *f)
{
    char balance[TEXT_SHORT_MAX], least[TEXT_SHORT_MAX];

    fault_code(f, FAULT_EXHAUSTED, "low_balance", "%s are left at %s, and %s are to stay there",
               money_format(balance, a->balance_milli, a->ops->unit), a->ops->title,
               money_format(least, a->record.limits.floor_milli, a->ops->unit));
}

/* Too little for a power-on that needs so much, besides what others were promised. */
static bool is_low_for(const struct account *a, int64_t needs_milli, const char *machine, struct fault *f)
{
    int64_t floor_milli = a->record.limits.floor_milli;
    char balance[TEXT_SHORT_MAX], least[TEXT_SHORT_MAX], needs[TEXT_SHORT_MAX], held[TEXT_SHORT_MAX];
    bool all;
    int64_t others = reserved_milli(a->reserved, machine, account_now_ms(a), &all);

    if (is_low(a)) {
        say_low(a, f);
        return true;
    }
    if (!a->has_balance || floor_milli <= 0 || a->balance_milli - others - MAX(needs_milli, 0) >= floor_milli)
        return false;
    fault_code(f, FAULT_EXHAUSTED, "low_balance",
               "%s are left at %s, %s of that reserved, and %s are to stay there: a start needs %s at least",
               money_format(balance, a->balance_milli, a->ops->unit), a->ops->title,
               money_format(held, others, a->ops->unit), money_format(least, floor_milli, a->ops->unit),
               money_format(needs, MAX(needs_milli, 0), a->ops->unit));
    return true;
}

static bool is_over(const struct account *a, struct ledger_sum sum, int64_t limit_milli, const char *code,
                    const char *of, struct fault *f)
{
    char spent[TEXT_SHORT_MAX], limit[TEXT_SHORT_MAX];

    if (limit_milli == 0 || sum.milli < limit_milli)
        return false;
    fault_code(f, FAULT_EXHAUSTED, code, "%s%s are spent at %s, of %s for a %s", sum.estimate ? "~" : "",
               money_format(spent, sum.milli, a->ops->unit), a->ops->title,
               money_format(limit, limit_milli, a->ops->unit), of);
    return true;
}

/* What runs has to stop: f says why. */
static bool has_to_stop(const struct account *a, struct fault *f)
{
    int64_t now_ms = account_now_ms(a);

    if (is_over(a, today(a, now_ms), a->record.limits.day_milli, "budget", "day", f) ||
        is_over(a, this_month(a, now_ms), a->record.limits.month_milli, "budget_month", "month", f))
        return true;
    if (is_low(a))
        say_low(a, f);
    return is_low(a);
}

int64_t account_alert_milli(const struct account *a)
{
    int64_t limit_milli = a->record.limits.day_milli;

    return limit_milli / 100 * NEAR_PERCENT + limit_milli % 100 * NEAR_PERCENT / 100;
}

static void say_near(const struct account *a, struct fault *f)
{
    int64_t limit_milli = a->record.limits.day_milli;
    struct ledger_sum sum = today(a, account_now_ms(a));
    char spent[TEXT_SHORT_MAX], limit[TEXT_SHORT_MAX];

    if (limit_milli > 0 && sum.milli >= account_alert_milli(a))
        fault_code(f, FAULT_EXHAUSTED, "budget_near",
                   "%s%s of %s for a day are spent at %s: once all is spent, what runs is switched off within 2 minutes",
                   sum.estimate ? "~" : "", money_format(spent, sum.milli, a->ops->unit),
                   money_format(limit, limit_milli, a->ops->unit), a->ops->title);
}

/* Money is counted by the provider's; what people see of other times is wrong until somebody sets it. */
static void say_clock_off(const struct account *a, struct fault *f)
{
    int64_t off_ms = account_clock_off_ms(a);
    char by[TEXT_SHORT_MAX];

    if (off_ms)
        fault_code(f, FAULT_INVALID, "clock_off",
                   "the clock of this computer is %s %s %s's: money is counted by theirs",
                   duration_format(by, (uint64_t)(off_ms > 0 ? off_ms : -off_ms), false),
                   off_ms > 0 ? "ahead of" : "behind", a->ops->title);
}

bool account_must_stop(const struct account *a)
{
    struct fault why;

    return has_to_stop(a, &why);
}

const struct fault *account_trouble(const struct account *a)
{
    if (has_to_stop(a, a->trouble))
        return a->trouble;
    *a->trouble = a->blind;
    if (!a->blind.kind)
        say_near(a, a->trouble);
    if (!a->trouble->kind)
        say_clock_off(a, a->trouble);
    return a->trouble;
}

/* ---- reservations ---- */

struct reservation {
    struct op op;
    struct account *account;
    struct op *inner;
    struct timer *timer; /* while the balance is asked for once more */
    char *instance, *machine, *kind;
    int64_t milli; /* -1: all that is left */
    uint64_t kept_ms;
    bool over, is_reserving;
    op_done_fn done;
    void *ctx;
};

static void reservation_free(struct reservation *v)
{
    op_cancel(&v->inner);
    v->timer = timer_free(v->timer);
    free(v->instance);
    free(v->machine);
    free(v->kind);
    free(v);
}

/* What is on its way to the database may get there. A keep's is given back when there is none. */
static void reservation_cancel(struct op *op)
{
    struct reservation *v = CONTAINER_OF(op, struct reservation, op);

    if (v->is_reserving && !v->kept_ms)
        account_resolve(v->account, v->machine, "not_asked");
    reservation_free(v);
}

static void reservation_end(void *ctx, const struct fault *f)
{
    struct reservation *v = ctx;
    op_done_fn done = v->done;
    void *done_ctx = v->ctx;
    struct fault why = f ? *f : (struct fault){0};

    if (f && !v->kept_ms)
        reserved_drop(v->account->reserved, v->machine);
    op_end(&v->op);
    reservation_free(v);
    done(done_ctx, f ? &why : NULL);
}

/* As the database does: all that is left of no limit is nothing. */
static int64_t reservation_milli(const struct reservation *v)
{
    const struct money_limits *limits = &v->account->record.limits;
    bool is_limited = !v->over && (limits->day_milli || limits->month_milli);

    return v->milli < 0 && !is_limited ? 0 : v->milli;
}

/* The one before of a keep counts until this one is written; whoever releases a call's does that behind it. */
static void reservation_on_kept(void *ctx, const struct fault *f)
{
    struct reservation *v = ctx;

    if (!f)
        reserved_put(v->account->reserved, &(struct intent_record){.name = v->machine,
                                                                   .instance = v->instance,
                                                                   .at_ms = account_now_ms(v->account),
                                                                   .reserved_milli = reservation_milli(v),
                                                                   .kept_ms = (int64_t)v->kept_ms});
    reservation_end(v, f);
}

static void reservation_write(struct reservation *v)
{
    static const struct money_limits none;
    struct account *a = v->account;
    int64_t now_ms = account_now_ms(a);
    char day[12];
    struct intent_record r = {
        .name = v->machine,
        .kind = v->kind,
        .provider = a->record.provider,
        .instance = v->instance,
        .unit = (char *)a->ops->unit,
        .day = (char *)ledger_day_format(a->ledger, now_ms, day),
        .at_ms = now_ms,
        .reserved_milli = v->milli,
        .kept_ms = (int64_t)v->kept_ms,
    };

    v->is_reserving = true;
    if (!v->kept_ms) {
        struct intent_record held = r;

        held.reserved_milli = reservation_milli(v);
        reserved_put(a->reserved, &held);
    }
    store_reserve(a->context.store, &r, v->over ? &none : &a->record.limits, today(a, now_ms).milli,
                  this_month(a, now_ms).milli, &v->inner, v->kept_ms ? reservation_on_kept : reservation_end, v);
}

static bool reservation_is_low(const struct reservation *v, struct fault *f)
{
    if (v->over)
        return false;
    if (!v->kept_ms)
        return is_low_for(v->account, v->milli, v->machine, f);
    if (is_low(v->account))
        say_low(v->account, f);
    return is_low(v->account);
}

/* It was low when it was read last, and may have been topped up since; or nobody heard yet which day it is
 * there. One that cannot be asked is no reason to believe either. */
static void reservation_judge(struct reservation *v)
{
    struct fault f;

    op_cancel(&v->inner);
    v->timer = timer_free(v->timer);
    if (reservation_is_low(v, &f)) {
        reservation_end(v, &f);
        return;
    }
    reservation_write(v);
}

static void reservation_on_balance(void *ctx, int64_t milli, const struct fault *f)
{
    (void)milli, (void)f;
    reservation_judge(ctx);
}

static void reservation_on_timer(void *ctx)
{
    reservation_judge(ctx);
}

static bool is_too_dear(const struct account *a, int64_t rate_milli, struct fault *f)
{
    char price[TEXT_SHORT_MAX], limit[TEXT_SHORT_MAX];

    if (a->record.limits.price_milli == 0 || rate_milli <= a->record.limits.price_milli)
        return false;
    fault_code(f, FAULT_EXHAUSTED, "budget_hour", "an hour costs %s, and nothing dearer than %s is rented at %s",
               money_format(price, rate_milli, a->ops->unit),
               money_format(limit, a->record.limits.price_milli, a->ops->unit), a->ops->title);
    return true;
}

/* rate × time, rounded up, and what an interval costs at least. */
static int64_t needed_milli(int64_t rate_milli, uint64_t at_least_ms)
{
    if (rate_milli <= 0)
        return -1;
    return (rate_milli * (int64_t)(at_least_ms / 1000) + 3599) / 3600 + LEDGER_MINIMUM_MILLI;
}

void account_reserve(struct account *a, const struct account_reservation *r, struct op **slot,
                     op_done_fn done, void *ctx)
{
    struct reservation *v = xnew(struct reservation);
    struct fault f;

    v->account = a;
    v->instance = xstrdup(r->instance);
    v->machine = xstrdup(r->machine);
    v->kind = xstrdup(r->kind);
    v->milli = r->is_free ? 0 : needed_milli(r->rate_milli, r->at_least_ms);
    v->kept_ms = r->kept_ms;
    v->over = r->over || r->is_free;
    v->done = done;
    v->ctx = ctx;
    op_begin(&v->op, slot, reservation_cancel);
    if (!v->over && is_too_dear(a, r->rate_milli, &f)) {
        op_finish_later(a->context.loop, &v->inner, &f, reservation_end, v);
    } else if (!a->was_heard || reservation_is_low(v, &f)) {
        v->timer = timer_new(a->context.loop, reservation_on_timer, v);
        timer_arm(v->timer, LOW_WAIT_MS);
        account_ask_balance(a, &v->inner, reservation_on_balance, v);
    } else {
        reservation_write(v);
    }
}

/* One for each machine, by a name that no call has. */
static char *keep_name(const char *instance)
{
    return xasprintf("keep %s", instance);
}

void account_reserve_keep(struct account *a, const char *instance, int64_t rate_milli, uint64_t for_ms,
                          struct op **slot, op_done_fn done, void *ctx)
{
    _cleanup_free_ char *name = keep_name(instance);
    const struct account_reservation r = {
        .instance = instance,
        .machine = name,
        .kind = "power_on", /* what the database calls it; its outcome is "kept" */
        .rate_milli = rate_milli,
        .at_least_ms = for_ms,
        .kept_ms = for_ms,
    };

    account_reserve(a, &r, slot, done, ctx);
}

void account_release_keep(struct account *a, const char *instance)
{
    _cleanup_free_ char *name = keep_name(instance);

    reserved_drop(a->reserved, name);
    store_resolve_intent(a->context.store, name, "over", account_now_ms(a), false);
}

void account_resolve(struct account *a, const char *machine, const char *outcome)
{
    bool held = !streq(outcome, "refused") && !streq(outcome, "not_asked");

    if (!held)
        reserved_drop(a->reserved, machine);
    store_resolve_intent(a->context.store, machine, outcome, account_now_ms(a), held);
}

void account_release(struct account *a, const char *instance, bool keeps)
{
    reserved_release(a->reserved, instance, keeps);
    store_release_intents(a->context.store, a->record.provider, instance, keeps);
}

void account_restore_reserved(struct account *a, const struct intent_record *r)
{
    reserved_put(a->reserved, r);
}
