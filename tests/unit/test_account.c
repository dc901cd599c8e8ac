/* An account over a real database and a company of our own.
 *
 * links: lease
 * wraps: rental_find */
#include "base/clock.h"
#include "base/event.h"
#include "lease/account.h"
#include "tests/unit/store_world.h"

#define HOUR     3600000ll
#define DAY      (24 * HOUR)
#define SHANGHAI (8 * HOUR)

/* ---- a company ---- */

struct rental {
    struct rental_context context;
    char *base_url;
    unsigned opened, moved, balances;
    struct op op; /* the one balance call that can be under way */
    bool is_asked;
    rental_money_fn done;
    void *ctx;
    struct op list_op; /* likewise of the list */
    unsigned lists;
    rental_list_fn on_list;
    void *list_ctx;
};
static struct rental company;
static bool is_silent; /* it says no time by itself */

static void balance_cancel(struct op *op)
{
    (void)op;
    company.is_asked = false;
}

static void company_balance(struct rental *r, struct op **slot, rental_money_fn done, void *ctx)
{
    cr_assert_not(r->is_asked, "one question at a time");
    r->balances++;
    r->is_asked = true;
    r->done = done;
    r->ctx = ctx;
    op_begin(&r->op, slot, balance_cancel);
}

static void list_cancel(struct op *op)
{
    (void)op;
}

static void company_list(struct rental *r, struct op **slot, rental_list_fn done, void *ctx)
{
    r->lists++;
    r->on_list = done;
    r->list_ctx = ctx;
    op_begin(&r->list_op, slot, list_cancel);
}

static void reply_list(const struct instance_seen *seen, unsigned n, const struct fault *f)
{
    op_end(&company.list_op);
    company.on_list(company.list_ctx, seen, n, f);
}

static void reply(int64_t milli, const struct fault *f)
{
    cr_assert(company.is_asked);
    company.is_asked = false;
    op_end(&company.op);
    company.done(company.ctx, milli, f);
}

/* Its answers say what its clock says: so much behind ours. */
static void tell_time(int64_t behind_ms)
{
    company.context.heard(company.context.ctx, clock_wall_ms() - behind_ms);
}

static struct rental *company_open(const struct rental_context *context)
{
    company = (struct rental){.base_url = xstrdup(context->base_url), .opened = 1, .context = *context};
    if (!is_silent)
        tell_time(0);
    return &company;
}

static struct rental *company_close(struct rental *r)
{
    cr_assert_not(r->is_asked, "what is in flight must have been cancelled");
    free(r->base_url);
    return NULL;
}

static void company_move(struct rental *r, const char *base_url)
{
    free(r->base_url);
    r->base_url = xstrdup(base_url);
    r->moved++;
}

const struct rental_ops *__wrap_rental_find(const char *name)
{
    static const struct rental_ops ops = {.name = "company",
                                          .title = "Company",
                                          .unit = "CNY",
                                          .day_offset_ms = SHANGHAI,
                                          .open = company_open,
                                          .close = company_close,
                                          .move = company_move,
                                          .list = company_list,
                                          .balance = company_balance};

    cr_assert_str_eq(name, "company");
    return &ops;
}

/* ---- the account ---- */

static struct account *account;
static unsigned n_changed;

static unsigned n_seen;

static void on_listed(void *ctx, struct account *a, const struct instance_seen *seen, unsigned n)
{
    cr_assert_eq(ctx, &n_changed);
    cr_assert_eq(a, account);
    cr_assert_str_eq(seen[0].id, "pro-1");
    n_seen += n;
}

static void on_changed(void *ctx, struct account *a)
{
    cr_assert_eq(ctx, &n_changed);
    cr_assert_eq(a, account);
    n_changed++;
}

static void open_account(const struct money_limits *limits)
{
    struct account_context context = {
        .loop = loop, .store = store, .changed = on_changed, .listed = on_listed, .ctx = &n_changed};
    struct account_record r = {.provider = "company", .base_url = "http://127.0.0.1:1", .limits = *limits};

    account = account_new(&context, &r);
}

/* It is noon at the company, in the middle of a month. */
static void setup_account(void)
{
    setup();
    struct ledger *clock = ledger_new(store, "x", "CNY", SHANGHAI);
    int64_t now = clock_wall_ms(), noon = ledger_month_begins(clock, now) + 14 * DAY + DAY / 2;

    if (noon < now)
        noon = ledger_month_begins(clock, ledger_month_begins(clock, now) + 35 * DAY) + 14 * DAY + DAY / 2;
    loop_advance(loop, (uint64_t)(noon - now));
    ledger_free(clock);
    open_account(&(struct money_limits){.day_milli = 10000});
}

static void teardown_account(void)
{
    account = account_free(account);
    teardown();
}

TestSuite(account, .init = setup_account, .fini = teardown_account, .timeout = 60);

static void limit(int64_t day, int64_t month, int64_t price, int64_t floor)
{
    assert_written(account_set_limits(account, &(struct money_limits){day, month, price, floor}));
}

/* So much was spent, by a machine that was off again, so long ago. */
static void spend(const char *instance, int64_t milli, int64_t ago_ms)
{
    int64_t to = clock_wall_ms() - ago_ms;

    ledger_restore(account_ledger(account), &(struct spent_record){.instance = (char *)instance,
                                                                   .kind = "compute",
                                                                   .from_at_ms = to - HOUR,
                                                                   .from_basis = "stamp",
                                                                   .to_at_ms = to,
                                                                   .to_basis = "stamp",
                                                                   .seen_at_ms = to,
                                                                   .rate_milli = milli,
                                                                   .rate_basis = "snapshot"});
}

static void begin(const char *machine, const char *instance, int64_t rate, uint64_t at_least_ms, bool over,
                  struct heard *h)
{
    struct account_reservation r = {.instance = instance,
                                    .machine = machine,
                                    .kind = "power_on",
                                    .rate_milli = rate,
                                    .at_least_ms = at_least_ms,
                                    .over = over};

    *h = (struct heard){0};
    account_reserve(account, &r, &h->op, hear, h);
    cr_assert_eq(h->times, 0);
    cr_assert_not_null(h->op);
}

static struct heard reserve(const char *machine, int64_t rate, uint64_t at_least_ms)
{
    struct heard h;

    begin(machine, machine, rate, at_least_ms, false, &h);
    cr_assert(LOOP_UNTIL(loop, h.times > 0));
    return h;
}

static void assert_reserved(const char *machine, int64_t milli)
{
    _cleanup_free_ char *check = xasprintf("CREATE TEMP TABLE t(n CHECK (n = %lld)); INSERT INTO t SELECT "
                                           "ifnull((SELECT reserved_milli FROM intent "
                                           "WHERE name = '%s'), -1)",
                                           (long long)milli, machine);

    sql(check);
}

/* ---- reservations ---- */

Test(account, what_is_paid_at_least_is_reserved)
{
    cr_assert_not(reserve("a", 1980, 20 * 60000).failed);
    assert_reserved("a", 660 + 10);
    cr_assert_not(reserve("b", 1, 1000).failed);
    assert_reserved("b", 1 + 10);
    sql("CREATE TEMP TABLE t(n CHECK (n = 2)); INSERT INTO t SELECT count(*) FROM intent WHERE provider = "
        "'company' "
        "AND kind = 'power_on' AND unit = 'CNY' AND day LIKE '____-__-15'");
}

Test(account, what_is_spent_today_is_not_there_any_more)
{
    spend("old", 5000, 20 * HOUR); /* yesterday's */
    spend("gz", 9000, HOUR);
    struct heard h = reserve("a", 1980, HOUR);

    cr_assert(h.failed);
    cr_assert_str_eq(h.fault.code, "budget");
    cr_assert_str_eq(
        h.fault.text,
        "of ¥10.00 for a day at company ¥9.00 are spent and ¥0.00 reserved, and a needs ¥1.99 at least "
        "before it is off again");
    cr_assert_not(reserve("a", 990, HOUR).failed);
    limit(0, 15000, 0, 0);
    h = reserve("b", 990, HOUR); /* a month has yesterday in it, too, and 1000 are reserved */
    cr_assert_str_eq(h.fault.code, "budget_month");
    cr_assert_not_null(strstr(h.fault.text, "¥15.00 for a month"), "%s", h.fault.text);
    limit(0, 17000, 0, 0);
    cr_assert_not(reserve("b", 990, HOUR).failed);
}

Test(account, an_unknown_price_takes_what_is_left_and_nothing_starts_beside_it)
{
    spend("gz", 4000, HOUR);
    cr_assert_not(reserve("a", 0, HOUR).failed);
    assert_reserved("a", 6000);
    cr_assert_str_eq(reserve("b", 1, 1000).fault.code, "budget");
    account_resolve(account, "a", "refused");
    cr_assert_not(reserve("b", 1, 1000).failed);
}

Test(account, a_call_that_was_made_holds_its_money_and_one_that_was_refused_does_not)
{
    cr_assert_not(reserve("a", 6000, HOUR).failed);
    account_resolve(account, "a", "made");
    cr_assert(reserve("b", 6000, HOUR).failed);
    assert_written(store_release_intents(store, "company", "a", true));
    cr_assert_not(reserve("b", 6000, HOUR).failed);
    account_resolve(account, "b", "refused");
    cr_assert_not(reserve("c", 6000, HOUR).failed);
}

/* Of the 2990 reserved for it the open interval has cost 1980 in its hour. */
Test(account, while_it_runs_the_larger_of_reserved_and_spent_counts)
{
    int64_t now = clock_wall_ms();

    cr_assert_not(reserve("a", 2980, HOUR).failed);
    account_resolve(account, "a", "made");
    ledger_read(account_ledger(account),
                &(struct ledger_reading){.instance = "a",
                                         .power = INSTANCE_ON,
                                         .started_at_ms = now / 1000 * 1000,
                                         .asked_at_ms = now,
                                         .intent = "a",
                                         .rate_milli = 1980},
                now);
    loop_advance(loop, HOUR);
    struct heard h = reserve("b", 6999, HOUR + 10000);

    cr_assert(h.failed);
    cr_assert_not_null(strstr(h.fault.text, "¥1.98 are spent and ¥1.01 reserved"), "%s", h.fault.text);
    cr_assert_not(reserve("b", 6990, HOUR).failed);
}

Test(account, most_of_a_day_is_said_and_stops_nothing)
{
    limit(10100, 0, 0, 0);
    spend("gz", 8000, HOUR);
    cr_assert_eq(account_trouble(account)->kind, FAULT_NONE);
    limit(10000, 0, 0, 0);
    cr_assert_str_eq(account_trouble(account)->code, "budget_near");
    cr_assert_str_eq(account_trouble(account)->text,
                     "¥8.00 of ¥10.00 for a day are spent at Company: once all is spent, what runs is switched off within 2 minutes");
    cr_assert_not(account_must_stop(account));
    spend("hz", 2000, HOUR);
    cr_assert_str_eq(account_trouble(account)->code, "budget");
    limit(0, 50000, 0, 0);
    cr_assert_eq(account_trouble(account)->kind, FAULT_NONE);
}

/* ---- keeps ---- */

static struct heard keep(const char *instance, int64_t rate, uint64_t for_ms)
{
    struct heard h = {0};

    account_reserve_keep(account, instance, rate, for_ms, &h.op, hear, &h);
    cr_assert_eq(h.times, 0);
    cr_assert(LOOP_UNTIL(loop, h.times > 0));
    return h;
}

static struct ledger_sum set_aside(void)
{
    struct account_figures n;

    account_figures(account, &n);
    return n.reserved;
}

static void take_reserved(void *ctx, const struct intent_record *r)
{
    cr_assert_eq(ctx, account);
    account_restore_reserved(account, r);
}

/* As the database has it, also by what the next daemon reads there. */
static void assert_set_aside(int64_t milli)
{
    struct fault f;

    cr_assert_eq(set_aside().milli, milli, "%lld", (long long)set_aside().milli);
    limit(10000, 0, 0, 0); /* all before it is written */
    account_free(account);
    open_account(&(struct money_limits){.day_milli = 10000});
    cr_assert_geq(store_load_reserved(store, take_reserved, account, &f), 0);
    cr_assert_eq(set_aside().milli, milli, "%lld as written", (long long)set_aside().milli);
}

Test(account, what_is_set_aside_can_be_told)
{
    assert_set_aside(0);
    cr_assert_not(reserve("a", 2000, HOUR).failed);
    cr_assert_not(reserve("b", 1000, HOUR).failed);
    assert_set_aside(2010 + 1010);
    account_resolve(account, "a", "made");
    account_resolve(account, "b", "refused");
    assert_set_aside(2010);
    cr_assert_not(keep("a", 1000, HOUR).failed);
    cr_assert_not(keep("a", 1000, 2 * HOUR).failed);
    cr_assert(keep("a", 1000, 20 * HOUR).failed, "the one it has stays");
    assert_set_aside(2010 + 2010);
    account_release(account, "a", false);
    assert_set_aside(2010);
    account_release_keep(account, "a");
    assert_set_aside(0);
    cr_assert(reserve("c", 11000, HOUR).failed);
    assert_set_aside(0);
    cr_assert_not(reserve("c", 0, HOUR).failed);
    cr_assert(set_aside().unknown, "all that is left");
    account_release(account, "c", true);
    cr_assert(!set_aside().unknown && !set_aside().milli);
    limit(0, 0, 0, 0);
    cr_assert_not(reserve("d", 0, HOUR).failed);
    cr_assert(!set_aside().unknown, "of no limit");
}

Test(account, what_was_spent_of_it_is_set_aside_no_more)
{
    int64_t now = clock_wall_ms() / 1000 * 1000;

    cr_assert_not(reserve("a", 2000, 2 * HOUR).failed);
    account_resolve(account, "a", "made");
    ledger_read(account_ledger(account),
                &(struct ledger_reading){.instance = "a",
                                         .power = INSTANCE_ON,
                                         .started_at_ms = now,
                                         .asked_at_ms = now,
                                         .intent = "a",
                                         .rate_milli = 2000},
                now);
    loop_advance(loop, HOUR);
    cr_assert_leq(set_aside().milli, 2010);
    cr_assert_geq(set_aside().milli, 2000);
    loop_advance(loop, 2 * HOUR);
    cr_assert_eq(set_aside().milli, 0);
}

Test(account, a_keep_reserves_all_of_it_and_another_takes_its_place)
{
    cr_assert_not(keep("gz", 2000, 2 * HOUR).failed);
    assert_reserved("keep gz", 4010);
    cr_assert_not(keep("gz", 2000, 4 * HOUR).failed);
    assert_reserved("keep gz", 8010);
    cr_assert_not(keep("gz", 2000, HOUR).failed);
    assert_reserved("keep gz", 2010);
    cr_assert_not(reserve("b", 7000, HOUR).failed);
}

Test(account, a_keep_that_does_not_fit_says_what_would)
{
    cr_assert_not(keep("hz", 2000, 2 * HOUR).failed);
    struct heard h = keep("gz", 2000, 3 * HOUR);

    cr_assert(h.failed);
    cr_assert_str_eq(h.fault.code, "budget");
    cr_assert_str_eq(h.fault.text,
                     "of ¥10.00 for a day at company ¥0.00 are spent and ¥4.01 reserved: ¥5.99 are "
                     "left, and gz for 3h00m takes ¥6.01; the longest that fits is 2h59m");
    cr_assert_eq(store_keep_fits_ms(&h.fault), 2 * HOUR + 59 * 60000);
    cr_assert_not(keep("gz", 2000, (uint64_t)store_keep_fits_ms(&h.fault)).failed);
    h = keep("hz", 2000, 4 * HOUR); /* the one it has stays */
    cr_assert(h.failed);
    assert_reserved("keep hz", 4010);
    h = keep("xb", 2000, HOUR);
    cr_assert_not_null(strstr(h.fault.text, "no keep fits"), "%s", h.fault.text);
    cr_assert_eq(store_keep_fits_ms(&h.fault), 0);
}

Test(account, what_is_said_to_fit_fits_whatever_the_price)
{
    for (int64_t rate_milli = 7; rate_milli < 3000; rate_milli += 31) {
        struct heard h = keep("gz", rate_milli, 10000 * HOUR);

        cr_assert(h.failed);
        cr_assert_not(keep("gz", rate_milli, (uint64_t)store_keep_fits_ms(&h.fault)).failed, "at %lld: %lld ms",
                      (long long)rate_milli, (long long)store_keep_fits_ms(&h.fault));
        cr_assert(keep("gz", rate_milli, (uint64_t)store_keep_fits_ms(&h.fault) + 180 * 60000).failed, "and no more does");
        account_release_keep(account, "gz");
    }
}

Test(account, a_keep_that_is_over_holds_nothing_and_can_be_said_again)
{
    cr_assert_not(keep("gz", 2000, 4 * HOUR).failed);
    account_release_keep(account, "gz");
    cr_assert_not(keep("hz", 2000, 4 * HOUR).failed);
    account_release_keep(account, "hz");
    cr_assert_not(keep("gz", 2000, 4 * HOUR).failed);
    cr_assert(keep("hz", 2000, 4 * HOUR).failed);
    assert_written(store_release_intents(store, "company", "gz", true)); /* it is off */
    cr_assert_not(keep("hz", 2000, 4 * HOUR).failed);
}

Test(account, a_keep_is_used_up_by_what_its_machine_costs_whoever_switched_it_on)
{
    int64_t now = clock_wall_ms();

    ledger_read(
        account_ledger(account),
        &(struct ledger_reading){
            .instance = "gz", .power = INSTANCE_ON, .started_at_ms = now / 1000 * 1000, .rate_milli = 2000},
        now);
    loop_advance(loop, HOUR); /* spent: 2000 */
    cr_assert_not(keep("gz", 2000, 3 * HOUR).failed);
    loop_advance(loop, HOUR);
    struct heard h = reserve("b", 7000, HOUR);

    cr_assert(h.failed);
    cr_assert_not_null(strstr(h.fault.text, "¥4.00 are spent and ¥4.01 reserved"), "%s", h.fault.text);
    cr_assert_not(reserve("b", 1970, HOUR).failed);
}

Test(account, over_the_budget_is_allowed_once_by_name)
{
    struct heard h;

    limit(10000, 10000, 1000, 500000);
    spend("gz", 12000, HOUR);
    begin("a", "a", 9000, HOUR, true, &h);
    cr_assert(LOOP_UNTIL(loop, h.times > 0));
    cr_assert_not(h.failed, "%s", h.fault.text);
    assert_reserved("a", 9010);
    cr_assert_str_eq(reserve("b", 9, HOUR).fault.code, "budget");
}

Test(account, what_is_dearer_than_the_account_allows_is_refused)
{
    limit(10000, 0, 2200, 0);
    struct heard h = reserve("a", 2201, HOUR);

    cr_assert(h.failed);
    cr_assert_str_eq(h.fault.code, "budget_hour");
    cr_assert_not_null(strstr(h.fault.text, "¥2.20"), "%s", h.fault.text);
    cr_assert_not(reserve("a", 2200, HOUR).failed);
}

Test(account, a_reservation_whose_owner_went_is_given_back)
{
    struct heard h;

    begin("a", "gz", 9000, HOUR, false, &h);
    op_cancel(&h.op);
    cr_assert_not(reserve("b", 9000, HOUR).failed);
    cr_assert_eq(h.times, 0);
    begin("c", "gz", 500, HOUR, false, &h);
    loop_turns(loop, 1); /* the thread has it */
    op_cancel(&h.op);
    assert_written(put_instance("x", 1));
    sql("CREATE TEMP TABLE t(n CHECK (n = 1)); INSERT INTO t SELECT count(*) FROM intent WHERE "
        "resolved_at_ms IS "
        "NULL");
}

Test(account, a_reservation_that_cannot_be_written_is_a_fault_of_the_database)
{
    block();
    struct heard h = reserve("a", 1980, HOUR);

    cr_assert(h.failed);
    cr_assert_str_neq(h.fault.code, "budget");
    unblock();
}

/* ---- the balance ---- */

struct heard_money {
    struct op *op;
    unsigned times;
    int64_t milli;
    bool failed;
};

static void hear_money(void *ctx, int64_t milli, const struct fault *f)
{
    struct heard_money *h = ctx;

    cr_assert_null(h->op);
    h->times++;
    h->milli = milli;
    h->failed = f != NULL;
}

static void balance_is(int64_t milli)
{
    struct heard_money h = {0};

    account_ask_balance(account, &h.op, hear_money, &h);
    reply(milli, NULL);
    cr_assert_eq(h.times, 1);
    cr_assert_eq(h.milli, milli);
}

Test(account, the_balance_is_asked_every_ten_minutes_while_something_runs)
{
    struct account_figures figures;

    loop_advance(loop, 3 * HOUR);
    cr_assert_eq(company.balances, 0);
    account_runs(account, true);
    loop_advance(loop, 0);
    cr_assert_eq(company.balances, 1);
    account_runs(account, true);
    reply(50000, NULL);
    n_changed = 0;
    loop_turns(loop, 2);
    for (unsigned i = 0; i < 39; i++)
        loop_advance(loop, 15000);
    cr_assert_eq(company.balances, 1);
    for (unsigned i = 0; i < 3; i++)
        loop_advance(loop, 15000);
    cr_assert_eq(company.balances, 2);
    for (unsigned i = 0; i < 200; i++)
        loop_advance(loop, 15000); /* an answer that does not come is waited for by the driver */
    cr_assert_eq(company.balances, 2);
    reply(40000, NULL);
    account_runs(account, false);
    loop_advance(loop, HOUR);
    cr_assert_eq(company.balances, 2);
    account_figures(account, &figures);
    cr_assert(figures.has_balance);
    cr_assert_eq(figures.balance_milli, 40000);
    cr_assert_leq(figures.balance_at_ms, clock_wall_ms() - HOUR);
    cr_assert_eq(figures.today_limit_milli, 10000);
}

static unsigned n_told;

static void on_event(void *ctx, const struct event *e)
{
    (void)ctx;
    n_told += streq(e->kind, "token_refused") && streq(e->target, "company");
}

Test(account, a_token_that_is_refused_is_trouble_and_stops_nothing)
{
    struct fault no = {.kind = FAULT_DENIED, .code = "token_refused", .text = "no"};
    struct event_listener listener = {.heard = on_event};

    event_listen(&listener);
    n_told = 0;

    cr_assert_eq(account_trouble(account)->kind, FAULT_NONE);
    account_runs(account, true);
    loop_advance(loop, 0);
    reply(0, &no);
    n_changed = 0;
    loop_turns(loop, 2);
    cr_assert_eq(n_changed, 1);
    cr_assert_str_eq(account_trouble(account)->code, "token_refused");
    cr_assert_not(account_must_stop(account));
    for (unsigned i = 0; i < 5; i++)
        loop_advance(loop, 15000); /* sooner than one that went well */
    cr_assert_eq(company.balances, 2);
    reply(0, &no);
    loop_turns(loop, 2);
    cr_assert_eq(n_told, 1, "once, until it was well again");
    for (unsigned i = 0; i < 5; i++)
        loop_advance(loop, 15000);
    reply(1, NULL);
    cr_assert_eq(account_trouble(account)->kind, FAULT_NONE);
    event_unlisten(&listener);
}

Test(account, at_the_start_it_is_asked_until_it_answers_whatever_runs)
{
    const struct instance_seen seen = {.id = "pro-1"};
    struct fault away = {.kind = FAULT_TRANSIENT, .code = "provider_unreachable", .text = "away"};

    n_seen = 0;
    account_check(account);
    account_runs(account, false); /* nothing does */
    loop_advance(loop, 0);
    cr_assert_eq(company.balances + company.lists, 2);
    reply(0, &away);
    reply_list(NULL, 0, &away);
    loop_advance(loop, 61000);
    cr_assert_eq(company.balances + company.lists, 4);
    reply(50000, NULL);
    reply_list(&seen, 1, NULL);
    cr_assert_eq(n_seen, 1);
    for (unsigned i = 0; i < 20; i++)
        loop_advance(loop, HOUR);
    cr_assert_eq(company.balances + company.lists, 4, "and not again");
    cr_assert_eq(account_trouble(account)->kind, FAULT_NONE);
}

Test(account, a_start_that_nobody_answers_ends_with_the_account)
{
    account_check(account);
    loop_advance(loop, 0);
    cr_assert_eq(company.lists, 1);
    account_leave(account);
    loop_advance(loop, HOUR);
    cr_assert_eq(company.lists, 1);
}

Test(account, a_token_that_any_call_is_refused_with_is_told_until_a_list_comes_through)
{
    struct fault no = {.kind = FAULT_DENIED, .code = "token_refused", .text = "no"},
                 unverified = {.kind = FAULT_DENIED, .code = "not_verified", .text = "who are you"};
    const struct instance_seen seen = {.id = "pro-1"};
    struct event_listener listener = {.heard = on_event};

    event_listen(&listener);
    n_told = 0;
    company.context.refused(company.context.ctx, &unverified);
    loop_turns(loop, 2);
    cr_assert_eq(account_trouble(account)->kind, FAULT_NONE, "that is not the token's fault");
    for (unsigned i = 0; i < 3; i++) {
        company.context.refused(company.context.ctx, &no);
        loop_turns(loop, 2);
    }
    cr_assert_eq(n_told, 1);
    cr_assert_str_eq(account_trouble(account)->code, "token_refused");
    account_listed(account, &seen, 1);
    loop_turns(loop, 2);
    cr_assert_eq(account_trouble(account)->kind, FAULT_NONE);
    company.context.refused(company.context.ctx, &no);
    loop_turns(loop, 2);
    cr_assert_eq(n_told, 2);
    event_unlisten(&listener);
}

Test(account, asking_ends_with_its_owner)
{
    struct heard_money h = {0};

    account_ask_balance(account, &h.op, hear_money, &h);
    op_cancel(&h.op);
    cr_assert_not(company.is_asked);
    account_ask_balance(account, &h.op, hear_money, &h);
    account = account_free(account);
    cr_assert_null(h.op);
    cr_assert_eq(h.times, 0);
}

Test(account, below_its_floor_nothing_is_switched_on_and_what_runs_stops)
{
    struct heard h;

    limit(0, 0, 0, 5000);
    balance_is(5001);
    cr_assert_not(account_must_stop(account));
    balance_is(5000);
    cr_assert(account_must_stop(account));
    cr_assert_str_eq(account_trouble(account)->code, "low_balance");
    begin("a", "a", 1980, HOUR, false, &h);
    cr_assert(company.is_asked, "it may have been topped up");
    reply(5000, NULL);
    cr_assert_eq(h.times, 1);
    cr_assert_str_eq(h.fault.code, "low_balance");
    cr_assert_not_null(strstr(h.fault.text, "¥5.00"), "%s", h.fault.text);
    begin("a", "a", 1980, HOUR, false, &h);
    reply(20000, NULL);
    cr_assert(LOOP_UNTIL(loop, h.times > 0));
    cr_assert_not(h.failed, "%s", h.fault.text);
    cr_assert_not(account_must_stop(account));
}

/* As the limits are: with what it needs, besides what others were promised. A keep is of one that is on. */
Test(account, nothing_is_switched_on_whose_start_would_go_below_the_floor)
{
    struct heard h;

    limit(0, 0, 0, 5000);
    balance_is(9000);
    begin("a", "a", 1990, HOUR, false, &h);
    cr_assert(LOOP_UNTIL(loop, h.times > 0));
    cr_assert_not(h.failed, "%s", h.fault.text);
    begin("b", "b", 1991, HOUR, false, &h);
    cr_assert(company.is_asked, "it may have been topped up");
    reply(9000, NULL);
    cr_assert_str_eq(h.fault.code, "low_balance");
    cr_assert_str_eq(h.fault.text, "¥9.00 are left at Company, ¥2.00 of that reserved, and ¥5.00 are to stay there: a start "
                                   "needs ¥2.00 at least");
    cr_assert_not(account_must_stop(account));
    begin("b", "b", 1990, HOUR, false, &h);
    cr_assert(LOOP_UNTIL(loop, h.times > 0));
    cr_assert_not(h.failed, "%s", h.fault.text);
    begin("c", "c", 1990, HOUR, true, &h);
    cr_assert(LOOP_UNTIL(loop, h.times > 0));
    cr_assert_not(h.failed, "by a word");
    cr_assert_not(keep("a", 1000, HOUR).failed);
}

Test(account, a_company_that_does_not_say_what_is_left_is_not_waited_for)
{
    struct fault no = {.kind = FAULT_TRANSIENT, .code = "provider_unreachable", .text = "no"};
    struct heard h;

    limit(0, 0, 0, 5000);
    balance_is(4000);
    begin("a", "a", 1980, HOUR, false, &h);
    loop_advance(loop, 5000);
    cr_assert_eq(h.times, 1);
    cr_assert_str_eq(h.fault.code, "low_balance");
    cr_assert_not(company.is_asked);
    begin("a", "a", 1980, HOUR, false, &h);
    reply(0, &no);
    cr_assert_str_eq(h.fault.code, "low_balance");
    begin("a", "a", 1980, HOUR, false, &h);
    op_cancel(&h.op);
    cr_assert_not(company.is_asked);
    cr_assert_eq(h.times, 0);
}

Test(account, another_token_makes_what_is_known_unknown)
{
    struct heard_money old = {0};
    struct account_figures figures;

    limit(0, 0, 0, 5000);
    balance_is(4000);
    account_ask_balance(account, &old.op, hear_money, &old);
    account_renew(account, account_record(account)->base_url);
    cr_assert_eq(company.moved, 0);
    cr_assert_not(account_must_stop(account));
    reply(4000, NULL); /* of the one before */
    cr_assert_eq(old.times, 1);
    account_figures(account, &figures);
    cr_assert_not(figures.has_balance);
    account_renew(account, NULL);
    cr_assert_eq(company.moved, 1);
    cr_assert_null(company.base_url);
    cr_assert_null(account_record(account)->base_url);
    account_runs(account, true);
    loop_advance(loop, 0);
    account_renew(account, "http://127.0.0.1:2");
    cr_assert_str_eq(company.base_url, "http://127.0.0.1:2");
    cr_assert_not(company.is_asked);
    loop_advance(loop, 0);
    cr_assert(company.is_asked, "what runs wants to know");
}

/* ---- limits that are reached ---- */

Test(account, what_runs_stops_when_the_day_or_the_month_is_used_up)
{
    spend("old", 5000, 20 * HOUR);
    spend("gz", 9999, HOUR);
    cr_assert_not(account_must_stop(account));
    spend("gz", 10, 3 * HOUR);
    cr_assert(account_must_stop(account));
    cr_assert_eq(account_trouble(account)->kind, FAULT_EXHAUSTED);
    cr_assert_str_eq(account_trouble(account)->code, "budget");
    cr_assert_str_eq(account_trouble(account)->text, "¥10.01 are spent at Company, of ¥10.00 for a day");
    limit(20000, 15010, 0, 0);
    cr_assert_not(account_must_stop(account));
    limit(20000, 15009, 0, 0);
    cr_assert(account_must_stop(account));
    cr_assert_not_null(strstr(account_trouble(account)->text, "for a month"));
    limit(0, 0, 0, 0);
    cr_assert_not(account_must_stop(account));
}

Test(account, a_limit_that_is_reached_while_something_runs_is_told)
{
    int64_t now = clock_wall_ms();
    struct account_figures figures;

    limit(1000, 0, 0, 0);
    ledger_read(
        account_ledger(account),
        &(struct ledger_reading){
            .instance = "a", .power = INSTANCE_ON, .started_at_ms = now / 1000 * 1000, .rate_milli = 2000},
        now);
    account_runs(account, true);
    loop_advance(loop, 0);
    reply(50000, NULL);
    loop_advance(loop, HOUR / 2 - 60000);
    account_figures(account, &figures);
    cr_assert(figures.today.estimate && !figures.today.unknown);
    cr_assert_eq(figures.rate.milli, 2000);
    cr_assert_not(account_must_stop(account));
    loop_turns(loop, 2);
    n_changed = 0;
    for (unsigned i = 0; i < 5; i++)
        loop_advance(loop, 15000);
    cr_assert(account_must_stop(account));
    cr_assert_eq(n_changed, 1);
    loop_advance(loop, 15000);
    cr_assert_eq(n_changed, 1);
}

Test(account, limits_are_kept)
{
    limit(1, 2, 3, 4);
    cr_assert_eq(account_record(account)->limits.month_milli, 2);
    sql("CREATE TEMP TABLE t(n CHECK (n = '1 2 3 4')); INSERT INTO t SELECT day_milli || ' ' || month_milli "
        "|| ' ' || "
        "price_milli || ' ' || floor_milli FROM account WHERE provider = 'company'");
    cr_assert_geq(n_changed, 1);
    cr_assert_str_eq(account_name(account), "company");
    cr_assert_str_eq(account_ops(account)->unit, "CNY");
    cr_assert_eq(account_rental(account), &company);
}

/* ---- a clock that is wrong ---- */

#define MONTH (30 * DAY)

/* It is that much ahead of the company's, which says so; what was spent an hour ago was, by its time. */
static void set_clock_wrong(int64_t ahead_ms)
{
    tell_time(ahead_ms);
    spend("gz", 9000, HOUR + ahead_ms);
}

static void assert_counts_as_ever(const char *words, const char *refusal)
{
    struct account_figures figures;

    cr_assert_str_eq(account_trouble(account)->text, words);
    cr_assert_not(account_must_stop(account));
    account_figures(account, &figures);
    cr_assert_eq(figures.today.milli, 9000);
    cr_assert_eq(figures.month.milli, 9000);
    cr_assert_str_eq(reserve("a", 1980, HOUR).fault.code, refusal);
    cr_assert_not(reserve("b", 900, HOUR).failed);
}

Test(account, a_clock_that_is_ahead_makes_no_room_in_a_limit)
{
    limit(10000, 20000, 0, 0);
    set_clock_wrong(MONTH + 60000); /* a moment passes until it is told */
    limit(12000, 0, 0, 0);          /* four fifths of it are not spent: that is said first */
    cr_assert_str_eq(account_trouble(account)->code, "clock_off");
    cr_assert_str_eq(account_trouble(account)->text,
                     "the clock of this computer is 30d00h ahead of Company's: money is counted by theirs");
    limit(10000, 20000, 0, 0);
    assert_counts_as_ever(
        "¥9.00 of ¥10.00 for a day are spent at Company: once all is spent, what runs is switched off within 2 minutes",
        "budget");
}

Test(account, a_clock_that_is_behind_makes_no_room_in_a_limit)
{
    limit(0, 10000, 0, 0);
    set_clock_wrong(-MONTH - 60000); /* a moment passes until it is told */
    assert_counts_as_ever(
        "the clock of this computer is 30d00h behind Company's: money is counted by theirs", "budget_month");
}

/* What runs would have cost 30 days by our clock. */
Test(account, a_clock_that_is_set_ahead_stops_nothing_that_runs)
{
    int64_t now = account_now_ms(account);

    ledger_read(
        account_ledger(account),
        &(struct ledger_reading){
            .instance = "a", .power = INSTANCE_ON, .started_at_ms = now / 1000 * 1000, .rate_milli = 2000},
        now);
    cr_assert_not(account_must_stop(account));
    tell_time(MONTH);
    loop_turns(loop, 2);
    cr_assert_not(account_must_stop(account));
    cr_assert_eq(n_changed, 1, "it is said when it is first known");
    cr_assert_str_eq(account_trouble(account)->code, "clock_off");
    tell_time(0);
    loop_turns(loop, 2);
    cr_assert_eq(account_trouble(account)->kind, FAULT_NONE);
    cr_assert_eq(n_changed, 2);
}

Test(account, clocks_that_differ_by_less_than_a_minute_agree)
{
    tell_time(59000);
    cr_assert_eq(account_clock_off_ms(account), 0);
    tell_time(-59000);
    cr_assert_eq(account_clock_off_ms(account), 0);
    tell_time(61000);
    cr_assert_eq(account_clock_off_ms(account), 61000);
}

/* A day's limit is of the company's day: which one that is has to be heard before anything is spent. */
Test(account, before_anything_is_bought_the_company_is_asked_for_the_time)
{
    struct heard h;

    account_free(account);
    is_silent = true;
    open_account(&(struct money_limits){.day_milli = 10000});
    spend("gz", 9000, HOUR + MONTH);
    begin("a", "a", 1980, HOUR, false, &h);
    loop_turns(loop, 3);
    cr_assert(company.is_asked);
    tell_time(MONTH);
    reply(50000, NULL);
    cr_assert(LOOP_UNTIL(loop, h.times > 0));
    cr_assert_str_eq(h.fault.code, "budget");
    begin("b", "b", 900, HOUR, false, &h);
    cr_assert_not(company.is_asked, "once is enough");
    cr_assert(LOOP_UNTIL(loop, h.times > 0));
    cr_assert_not(h.failed);
}

Test(account, a_company_that_tells_no_time_is_not_waited_for_twice)
{
    struct heard h;

    account_free(account);
    is_silent = true;
    open_account(&(struct money_limits){.day_milli = 10000});
    begin("a", "a", 1980, HOUR, false, &h);
    reply(50000, NULL);
    cr_assert(LOOP_UNTIL(loop, h.times > 0));
    cr_assert_not(h.failed);
    begin("b", "b", 1980, HOUR, false, &h);
    cr_assert_not(company.is_asked);
    cr_assert(LOOP_UNTIL(loop, h.times > 0));
    cr_assert_not(h.failed);
}
