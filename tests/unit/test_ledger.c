/* The ledger over a real database: what is read of a machine, and what it is written down as. Instants are in
 * seconds from a midnight of the provider's; it is in Shanghai. */
#include "lease/ledger.h"
#include "tests/unit/store_world.h"

#define SHANGHAI (8 * 3600000ll)
#define MIDNIGHT 1795795200000ll /* 2026-11-28T00:00:00+08:00 */
#define T(s)     (MIDNIGHT + (int64_t)(s)*1000)

static struct ledger *ledger;

static void setup_ledger(void)
{
    setup();
    ledger = ledger_new(store, "autodl", "CNY", SHANGHAI);
}

static void teardown_ledger(void)
{
    ledger = ledger_free(ledger);
    teardown();
}

TestSuite(ledger, .init = setup_ledger, .fini = teardown_ledger, .timeout = 120);

/* ---- a machine, as it is read ---- */

static struct ledger_reading seen;

static void machine(const char *name, int64_t asked_s)
{
    seen = (struct ledger_reading){
        .instance = name, .off_counts = true, .asked_at_ms = asked_s ? T(asked_s) : 0, .rate_milli = 1980};
}

static void on(int64_t now_s, int64_t started_s, int64_t stopped_s)
{
    seen.power = INSTANCE_ON;
    seen.started_at_ms = started_s ? T(started_s) : 0;
    seen.stopped_at_ms = stopped_s ? T(stopped_s) : 0;
    ledger_read(ledger, &seen, T(now_s));
}

static void off(int64_t now_s, int64_t started_s, int64_t stopped_s)
{
    seen.power = INSTANCE_OFF;
    seen.started_at_ms = started_s ? T(started_s) : 0;
    seen.stopped_at_ms = stopped_s ? T(stopped_s) : 0;
    ledger_read(ledger, &seen, T(now_s));
}

static void add_row(struct buf *out, const struct spent_record *r)
{
    buf_addf(out, "%s %s %lld %s", r->instance, r->intent ? r->intent : "-",
             (long long)(r->from_at_ms - MIDNIGHT) / 1000, r->from_basis);
    if (r->to_at_ms)
        buf_addf(out, " .. %lld %s", (long long)(r->to_at_ms - MIDNIGHT) / 1000, r->to_basis);
    if (strcmp(r->kind, "compute") == 0)
        buf_addf(out, ", %lld %s\n", (long long)r->rate_milli, r->rate_basis);
    else
        buf_addf(out, ", %s %lld\n", r->kind, (long long)r->lump_milli);
}

static void see_row(void *ctx, const struct spent_record *r)
{
    (void)ctx;
    add_row(&loaded, r);
}

static void assert_stored(const char *expected)
{
    struct fault f = {0};

    assert_written(store_put_account(store, &(struct account_record){.provider = "autodl"}));
    buf_init(&loaded, 16 << 20);
    cr_assert_eq(store_load_spent(store, 0, 0, see_row, NULL, &f), 0, "%s", f.text);
    cr_assert_str_eq(buf_text(&loaded), expected);
    buf_done(&loaded);
}

/* In memory, and the same in the database. */
static void assert_rows(const char *expected)
{
    const struct spent_record *r;
    struct buf rows;

    buf_init(&rows, 16 << 20);
    for (unsigned i = 0; (r = ledger_row_at(ledger, i)); i++)
        add_row(&rows, r);
    cr_assert_str_eq(buf_text(&rows), expected);
    assert_stored(buf_text(&rows));
    buf_done(&rows);
}

static void restore_row(void *ctx, const struct spent_record *r)
{
    (void)ctx;
    ledger_restore(ledger, r);
}

static void restart(void)
{
    struct fault f = {0};

    ledger = ledger_free(ledger);
    reopen_store();
    ledger = ledger_new(store, "autodl", "CNY", SHANGHAI);
    cr_assert_eq(store_load_spent(store, 0, 0, restore_row, NULL, &f), 0, "%s", f.text);
}

static int64_t cost(int64_t from_s, int64_t to_s, const char *marks)
{
    struct ledger_sum sum = ledger_sum(ledger, NULL, T(from_s), T(to_s));

    cr_assert_eq(sum.estimate, strchr(marks, '~') != NULL, "estimate");
    cr_assert_eq(sum.unknown, strchr(marks, '?') != NULL, "unknown");
    return sum.milli;
}

/* ---- cycles ---- */

static void reserve(const char *name, const char *instance)
{
    struct intent_record intent = {.name = (char *)name,
                                   .kind = "create",
                                   .provider = "autodl",
                                   .instance = (char *)instance,
                                   .unit = "CNY",
                                   .day = "",
                                   .reserved_milli = 1};
    struct heard h = {0};

    store_reserve(store, &intent, &(struct money_limits){0}, 0, 0, &h.op, hear, &h);
    cr_assert(LOOP_UNTIL(loop, h.times > 0));
    cr_assert_not(h.failed, "%s", h.fault.text);
}

Test(ledger, a_cycle_that_was_seen_is_exact)
{
    machine("gz", 100);
    seen.intent = "d-gz-1";
    reserve("d-gz-1", "gz");
    on(140, 130, 0);
    assert_rows("gz d-gz-1 130 stamp, 1980 snapshot\n");
    on(3700, 130, 0);
    cr_assert_eq(cost(0, 3730, "~"), 1980);
    cr_assert_eq(ledger_rate(ledger, "gz").milli, 1980);
    off(3800, 130, 3730);
    assert_rows("gz d-gz-1 130 stamp .. 3730 stamp, 1980 snapshot\n");
    cr_assert_eq(cost(0, 9999, ""), 1980);
    cr_assert_eq(ledger_rate(ledger, "gz").milli, 0);
    off(3900, 130, 3730);
    assert_rows("gz d-gz-1 130 stamp .. 3730 stamp, 1980 snapshot\n");
}

Test(ledger, during_a_boot_the_stamps_are_those_of_the_boot_before)
{
    machine("gz", 100);
    on(140, 130, 0);
    off(400, 130, 300);
    seen.asked_at_ms = T(500);
    seen.power = INSTANCE_CHANGING;
    ledger_read(ledger, &seen, T(505));
    on(510, 130, 300); /* on, they say, and no new stamp yet */
    assert_rows("gz - 130 stamp .. 300 stamp, 1980 snapshot\ngz - 500 asked, 1980 snapshot\n");
    on(515, 508, 300);
    assert_rows("gz - 130 stamp .. 300 stamp, 1980 snapshot\ngz - 508 stamp, 1980 snapshot\n");
    off(600, 508, 590);
    assert_rows("gz - 130 stamp .. 300 stamp, 1980 snapshot\ngz - 508 stamp .. 590 stamp, 1980 snapshot\n");
}

Test(ledger, an_off_is_not_ended_by_a_stamp_of_the_cycle_before)
{
    machine("gz", 100);
    on(140, 130, 0);
    off(400, 130, 300);
    seen.asked_at_ms = T(500);
    on(510, 130, 300);
    off(700, 130, 300);
    assert_rows("gz - 130 stamp .. 300 stamp, 1980 snapshot\ngz - 500 asked .. 700 seen, 1980 snapshot\n");
    off(760, 505, 690); /* there they are */
    assert_rows("gz - 130 stamp .. 300 stamp, 1980 snapshot\ngz - 505 stamp .. 690 stamp, 1980 snapshot\n");
}

Test(ledger, an_off_that_cannot_be_believed_ends_nothing)
{
    machine("gz", 100);
    on(140, 130, 0);
    seen.off_counts = false;
    off(150, 130, 145);
    assert_rows("gz - 130 stamp, 1980 snapshot\n");
}

Test(ledger, a_stop_without_a_stamp_is_seen_and_the_stamp_may_come_later)
{
    machine("gz", 100);
    on(140, 130, 0);
    off(300, 130, 0);
    assert_rows("gz - 130 stamp .. 300 seen, 1980 snapshot\n");
    cr_assert_eq(cost(0, 9999, "~"), (1980 * 170 + 1800) / 3600);
    restart();
    off(360, 130, 0);
    assert_rows("gz - 130 stamp .. 300 seen, 1980 snapshot\n");
    off(420, 130, 290);
    assert_rows("gz - 130 stamp .. 290 stamp, 1980 snapshot\n");
    cr_assert_eq(cost(0, 9999, ""), 1980 * 160 / 3600);
}

Test(ledger, a_stop_that_nobody_saw_is_a_guess_and_a_new_interval)
{
    machine("gz", 100);
    on(140, 130, 0);
    on(250, 130, 0);
    seen.rate_milli = 2080;
    on(900, 800, 0);
    assert_rows("gz - 130 stamp .. 250 guess, 1980 snapshot\ngz - 800 stamp, 2080 snapshot\n");
    on(910, 800, 0);
    on(2000, 1900, 1500); /* and here the list tells of a stop */
    off(2200, 1900, 2100);
    assert_rows("gz - 130 stamp .. 250 guess, 1980 snapshot\ngz - 800 stamp .. 1500 guess, 2080 snapshot\n"
                "gz - 1900 stamp .. 2100 stamp, 2080 snapshot\n");
    cr_assert_eq(cost(1500, 9999, ""), (2080 * 200 + 1800) / 3600);
    cost(0, 9999, "~");
}

Test(ledger, a_cycle_that_nobody_saw_is_found_afterwards)
{
    machine("gz", 100);
    on(140, 130, 0);
    off(250, 130, 240);
    seen.rate_milli = 0;
    seen.list_rate_milli = 2500;
    off(1000, 500, 900);
    assert_rows("gz - 130 stamp .. 240 stamp, 1980 snapshot\ngz - 500 stamp .. 900 stamp, 2500 list\n");
    cost(300, 9999, "~");
    off(1100, 500, 900);
    assert_rows("gz - 130 stamp .. 240 stamp, 1980 snapshot\ngz - 500 stamp .. 900 stamp, 2500 list\n");
}

Test(ledger, a_stop_and_a_whole_cycle_that_nobody_saw)
{
    machine("gz", 100);
    on(140, 130, 0);
    off(1000, 500, 900);
    assert_rows("gz - 130 stamp .. 140 guess, 1980 snapshot\ngz - 500 stamp .. 900 stamp, 1980 list\n");
}

Test(ledger, what_was_before_it_was_ours_is_not_counted)
{
    machine("taken", 0);
    off(1000, 500, 900);
    assert_rows("");
    on(1100, 1090, 900);
    off(1300, 1090, 1200);
    assert_rows("taken - 1090 stamp .. 1200 stamp, 1980 snapshot\n");
}

Test(ledger, a_boot_of_ours_that_nobody_saw_is_counted)
{
    machine("gz", 490);
    off(1000, 500, 900);
    assert_rows("gz - 500 stamp .. 900 stamp, 1980 list\n");
}

Test(ledger, without_stamps_what_was_asked_and_seen_counts)
{
    machine("gz", 100);
    on(140, 0, 0);
    on(200, 0, 0);
    off(300, 0, 0);
    machine("other", 0);
    on(400, 0, 0);
    off(500, 0, 0);
    assert_rows("gz - 100 asked .. 300 seen, 1980 snapshot\nother - 400 seen .. 500 seen, 1980 snapshot\n");
}

Test(ledger, a_stamp_that_comes_after_the_interval_corrects_its_beginning)
{
    machine("gz", 100);
    on(140, 0, 0);
    on(150, 133, 0);
    on(200, 133, 0);
    assert_rows("gz - 133 stamp, 1980 snapshot\n");
    machine("hz", 0);
    on(160, 0, 0);
    on(165, 31, 0);
    assert_rows("hz - 31 stamp, 1980 snapshot\ngz - 133 stamp, 1980 snapshot\n");
}

Test(ledger, an_end_that_was_seen_gives_way_to_the_start_behind_it)
{
    machine("gz", 100);
    on(140, 130, 0);
    off(300, 130, 0);
    seen.asked_at_ms = 0;
    on(305, 297, 290); /* somebody pressed twice */
    assert_rows("gz - 130 stamp .. 297 seen, 1980 snapshot\ngz - 297 stamp, 1980 snapshot\n");
}

Test(ledger, one_that_was_taken_for_gone_and_runs_on_is_one_interval)
{
    machine("gz", 100);
    on(140, 130, 0);
    ledger_gone(ledger, "gz", T(200));
    assert_rows("gz - 130 stamp .. 140 guess, 1980 snapshot\n");
    on(260, 130, 0);
    assert_rows("gz - 130 stamp, 1980 snapshot\n");
    off(400, 130, 390);
    assert_rows("gz - 130 stamp .. 390 stamp, 1980 snapshot\n");
    ledger_gone(ledger, "gz", T(500));
    ledger_gone(ledger, "never", T(500));
    assert_rows("gz - 130 stamp .. 390 stamp, 1980 snapshot\n");
}

Test(ledger, machines_do_not_mix)
{
    machine("gz", 100);
    on(140, 130, 0);
    machine("hz", 120);
    on(141, 125, 0);
    off(200, 125, 190);
    assert_rows("hz - 125 stamp .. 190 stamp, 1980 snapshot\ngz - 130 stamp, 1980 snapshot\n");
    cr_assert_eq(ledger_sum(ledger, "hz", T(0), T(999)).milli, (1980 * 65 + 1800) / 3600);
    cr_assert_eq(ledger_rate(ledger, "hz").milli, 0);
    cr_assert_eq(ledger_rate(ledger, NULL).milli, 1980);
}

Test(ledger, a_machine_that_is_on_when_it_is_first_seen)
{
    machine("taken", 0);
    on(1000, 500, 900); /* of the cycle before */
    on(1030, 500, 900);
    assert_rows("taken - 1000 seen, 1980 snapshot\n");
    machine("other", 0);
    on(1040, 700, 650);
    assert_rows("other - 700 stamp, 1980 snapshot\ntaken - 1000 seen, 1980 snapshot\n");
}

Test(ledger, a_start_long_after_it_was_seen_is_another_cycle)
{
    machine("gz", 100);
    on(140, 0, 0);
    on(200, 0, 0);
    on(900, 800, 0);
    assert_rows("gz - 100 asked .. 200 guess, 1980 snapshot\ngz - 800 stamp, 1980 snapshot\n");
    on(1000, 990, 0); /* their clock is behind ours: seen at 900 and at 995 */
    on(1005, 990, 0);
    on(1020, 1003, 0);
    assert_rows("gz - 100 asked .. 200 guess, 1980 snapshot\ngz - 800 stamp .. 900 guess, 1980 snapshot\n"
                "gz - 990 stamp .. 1003 guess, 1980 snapshot\ngz - 1003 stamp, 1980 snapshot\n");
}

Test(ledger, what_was_asked_for_again_is_not_what_was_gone)
{
    machine("gz", 100);
    on(140, 130, 0);
    ledger_gone(ledger, "gz", T(200));
    seen.asked_at_ms = T(300);
    on(310, 130, 0); /* the stamp of the cycle before */
    assert_rows("gz - 130 stamp .. 140 guess, 1980 snapshot\ngz - 300 asked, 1980 snapshot\n");
    on(320, 308, 0);
    assert_rows("gz - 130 stamp .. 140 guess, 1980 snapshot\ngz - 308 stamp, 1980 snapshot\n");
}

Test(ledger, what_began_again_by_itself_is_not_by_us)
{
    machine("gz", 100);
    seen.intent = "d-gz-1";
    reserve("d-gz-1", "gz");
    on(140, 130, 0);
    on(900, 800, 700); /* somebody's buttons */
    off(1000, 800, 950);
    assert_rows(
        "gz d-gz-1 130 stamp .. 700 guess, 1980 snapshot\ngz - 800 stamp .. 950 stamp, 1980 snapshot\n");
}

/* ---- prices ---- */

Test(ledger, a_price_that_changes_while_it_runs_is_an_interval_of_its_own)
{
    machine("gz", 100);
    on(140, 130, 0);
    seen.rate_milli = 2080;
    on(1000, 130, 0);
    on(1100, 130, 0);
    assert_rows("gz - 130 stamp .. 1000 price, 1980 snapshot\ngz - 1000 seen, 2080 snapshot\n");
    restart();
    off(2100, 130, 2000); /* the stamp is of the whole cycle */
    assert_rows("gz - 130 stamp .. 1000 price, 1980 snapshot\ngz - 1000 seen .. 2000 stamp, 2080 snapshot\n");
    cost(0, 9999, "~");
}

Test(ledger, the_price_is_read_at_the_first_look_of_each_cycle)
{
    machine("gz", 100);
    seen.rate_milli = 0;
    on(140, 130, 0);
    assert_rows("gz - 130 stamp, -1 unknown\n");
    cr_assert_eq(cost(0, 3730, "?"), 0);
    cr_assert(ledger_rate(ledger, NULL).unknown);
    seen.list_rate_milli = 2000;
    on(150, 130, 0);
    assert_rows("gz - 130 stamp, 2000 list\n");
    cr_assert(ledger_rate(ledger, NULL).estimate);
    seen.rate_milli = 1980;
    on(160, 130, 0);
    assert_rows("gz - 130 stamp, 1980 snapshot\n");
    seen.rate_milli = 0; /* not read again: it stays */
    on(170, 130, 0);
    off(3800, 130, 3730);
    assert_rows("gz - 130 stamp .. 3730 stamp, 1980 snapshot\n");
}

Test(ledger, an_unknown_rate_stays_unknown_and_is_never_nothing)
{
    machine("gz", 100);
    seen.rate_milli = 0;
    on(140, 130, 0);
    off(3800, 130, 3730);
    assert_rows("gz - 130 stamp .. 3730 stamp, -1 unknown\n");
    cost(0, 3600, "?");
    cost(3730, 9999, "");
}

/* ---- what is paid as a whole ---- */

#define DAY 86400

Test(ledger, a_prepaid_one_costs_nothing_by_the_hour_and_nobody_knows_what_else)
{
    machine("week", 100);
    seen.prepaid_until_at_ms = T(7 * DAY);
    on(140, 130, 0);
    assert_rows("week - 130 stamp, 0 user\nweek - 140 seen .. 604800 seen, prepaid 0\n");
    cr_assert_eq(ledger_rate(ledger, "week").milli, 0);
    cr_assert(!ledger_rate(ledger, "week").unknown);
    cost(0, DAY, "?");
    on(200, 130, 0);
    restart();
    off(3800, 130, 3730);
    assert_rows("week - 130 stamp .. 3730 stamp, 0 user\nweek - 140 seen .. 604800 seen, prepaid 0\n");
    cost(0, DAY, "?");
    cost(8 * DAY, 9 * DAY, "");
}

Test(ledger, a_lump_is_spread_over_its_days)
{
    ledger_restore(ledger, &(struct spent_record){.instance = "week",
                                                  .kind = "prepaid",
                                                  .from_at_ms = T(0),
                                                  .to_at_ms = T(7 * DAY),
                                                  .from_basis = "stamp",
                                                  .to_basis = "stamp",
                                                  .rate_milli = -1,
                                                  .rate_basis = "user",
                                                  .lump_milli = 99001});
    cr_assert_eq(ledger_sum(ledger, "week", T(-1), T(8 * DAY)).milli, 99001);
    int64_t days = 0;
    for (int day = 0; day < 7; day++) {
        int64_t share = cost(day * DAY, (day + 1) * DAY, "");

        cr_assert(share > 14000 && share < 14300);
        days += share;
    }
    cr_assert_eq(days, 99001);
}

Test(ledger, behind_its_end_a_prepaid_one_is_billed_by_time)
{
    machine("day", 100);
    seen.prepaid_until_at_ms = T(1000);
    on(140, 130, 0);
    on(990, 130, 0);
    seen.prepaid_until_at_ms = 0; /* the list says payg */
    on(1030, 130, 0);
    assert_rows("day - 130 stamp .. 1000 price, 0 user\nday - 140 seen .. 1000 seen, prepaid 0\n"
                "day - 1000 seen, 1980 snapshot\n");
    off(5000, 130, 4600);
    assert_rows("day - 130 stamp .. 1000 price, 0 user\nday - 140 seen .. 1000 seen, prepaid 0\n"
                "day - 1000 seen .. 4600 stamp, 1980 snapshot\n");
    cr_assert_eq(cost(1000, 9999, "~"), 1980);
}

Test(ledger, an_end_that_comes_just_before_the_stop_is_billed_all_the_same)
{
    machine("day", 100);
    seen.prepaid_until_at_ms = T(1000);
    on(140, 130, 0);
    seen.prepaid_until_at_ms = 0;
    off(5000, 130, 4600);
    assert_rows("day - 130 stamp .. 1000 price, 0 user\nday - 140 seen .. 1000 seen, prepaid 0\n"
                "day - 1000 seen .. 4600 stamp, 1980 snapshot\n");
}

Test(ledger, one_that_stopped_before_its_time_was_over_costs_nothing_more)
{
    machine("day", 100);
    seen.prepaid_until_at_ms = T(1000);
    on(140, 130, 0);
    seen.prepaid_until_at_ms = 0;
    off(5000, 130, 900);
    assert_rows("day - 130 stamp .. 900 stamp, 0 user\nday - 140 seen .. 1000 seen, prepaid 0\n");
}

Test(ledger, the_list_may_be_late_to_say_that_the_time_is_over)
{
    machine("day", 100);
    seen.prepaid_until_at_ms = T(1000);
    on(140, 130, 0);
    on(1030, 130, 0);
    assert_rows("day - 130 stamp .. 1000 price, 0 user\nday - 140 seen .. 1000 seen, prepaid 0\n"
                "day - 1000 seen, 1980 snapshot\n");
}

Test(ledger, one_that_is_prepaid_while_it_runs_is_free_from_then_on)
{
    machine("day", 100);
    on(140, 130, 0);
    seen.prepaid_until_at_ms = T(DAY);
    on(1030, 130, 0);
    assert_rows("day - 130 stamp .. 1030 price, 1980 snapshot\nday - 1030 seen .. 86400 seen, prepaid 0\n"
                "day - 1030 seen, 0 user\n");
}

Test(ledger, a_rental_that_is_prolonged_is_another_one)
{
    machine("day", 100);
    seen.prepaid_until_at_ms = T(1000);
    off(140, 130, 135);
    seen.prepaid_until_at_ms = T(5000);
    off(200, 130, 135);
    seen.prepaid_until_at_ms = T(4000); /* corrected */
    off(210, 130, 135);
    assert_rows("day - 130 stamp .. 135 stamp, 0 user\n"
                "day - 140 seen .. 1000 seen, prepaid 0\nday - 1000 seen .. 4000 seen, prepaid 0\n");
}

Test(ledger, a_disk_is_a_row_for_each_day_that_is_over)
{
    machine("gz", 100);
    seen.disk_day_milli = 330;
    seen.known_at_ms = T(90);
    on(140, 130, 0);
    off(3800, 130, 3730);
    off(DAY - 1, 130, 3730);
    assert_rows("gz - 130 stamp .. 3730 stamp, 1980 snapshot\n");
    off(DAY, 130, 3730);
    off(DAY + 600, 130, 3730);
    off(2 * DAY + 600, 130, 3730);
    assert_rows("gz - 130 stamp .. 3730 stamp, 1980 snapshot\ngz - 130 seen .. 86400 seen, disk 330\n"
                "gz - 86400 seen .. 172800 seen, disk 330\n");
    cr_assert_eq(cost(0, DAY, "~"), 1980 + 330);
    cr_assert_eq(cost(DAY, 2 * DAY, "~"), 330);
    cr_assert_eq(cost(2 * DAY, 3 * DAY, ""), 0);
}

Test(ledger, days_of_a_disk_when_nobody_looked_are_guesses)
{
    machine("gz", 100);
    seen.disk_day_milli = 330;
    seen.known_at_ms = T(90);
    on(140, 130, 0);
    off(3800, 130, 3730);
    restart();
    off(3 * DAY + 600, 130, 3730);
    restart();
    off(3 * DAY + 700, 130, 3730);
    assert_rows("gz - 130 stamp .. 3730 stamp, 1980 snapshot\ngz - 130 seen .. 86400 guess, disk 330\n"
                "gz - 86400 seen .. 172800 guess, disk 330\ngz - 172800 seen .. 259200 seen, disk 330\n");
    cr_assert_eq(cost(0, 4 * DAY, "~"), 1980 + 3 * 330);
}

/* Written by a clock that was 30 days ahead for an hour, with no word of the company's clock. */
Test(ledger, what_a_wrong_clock_put_into_the_future_comes_back)
{
    enum { MONTH_S = 30 * 86400 };

    machine("gz", 0);
    seen.rate_milli = 3600;
    on(MONTH_S + 100, 0, 0);
    on(MONTH_S + 400, 0, 0);
    off(MONTH_S + 400, 0, 0);
    on(MONTH_S + 1000, 0, 0);
    on(MONTH_S + 1200, 0, 0);
    cr_assert_eq(cost(0, 5000, ""), 0, "nobody would see it");
    on(5000, 0, 0);
    assert_rows("gz - 4500 seen .. 4800 guess, 3600 snapshot\n"
                "gz - 4800 seen, 3600 snapshot\n");
    cr_assert_eq(cost(0, 5000, "~"), 500);
    off(5100, 0, 0);
    restart();
    assert_rows("gz - 4500 seen .. 4800 guess, 3600 snapshot\n"
                "gz - 4800 seen .. 5100 seen, 3600 snapshot\n");
}

Test(ledger, an_end_that_is_in_the_future_is_now)
{
    machine("gz", 0);
    on(1000, 900, 0);
    off(30 * 86400, 0, 0); /* by a clock ahead, and no stamp */
    on(2000, 0, 0);
    cr_assert_eq(cost(0, 2000, "~"), 1980 * 1100 / 3600);
}

Test(ledger, days_of_a_disk_that_are_not_over_were_not_charged)
{
    machine("gz", 0);
    seen.is_adopted = true;
    seen.known_at_ms = T(0);
    seen.disk_day_milli = 330;
    off(2 * 86400 + 60, 0, 0);
    cr_assert_eq(cost(0, 40 * 86400, "~"), 660);
    off(32 * 86400, 0, 0);
    cr_assert_eq(cost(0, 40 * 86400, "~"), 32 * 330);
    off(2 * 86400 + 120, 0, 0);
    cr_assert_eq(cost(0, 40 * 86400, "~"), 660);
    off(3 * 86400 + 60, 0, 0);
    cr_assert_eq(cost(0, 40 * 86400, "~"), 3 * 330);
}

Test(ledger, a_disk_that_is_not_there_yet_costs_nothing)
{
    machine("gz", 0);
    seen.disk_day_milli = 330;
    seen.known_at_ms = T(90);
    off(5 * DAY, 0, 0);
    assert_rows("");
    seen.is_adopted = true; /* it was there before it was ours */
    off(5 * DAY + 10, 0, 0);
    cr_assert_eq(cost(0, 6 * DAY, "~"), 5 * 330);
}

Test(ledger, a_name_that_is_used_again_is_another_disk)
{
    machine("gz", 100);
    seen.disk_day_milli = 330;
    seen.known_at_ms = T(90);
    on(140, 130, 0);
    off(DAY, 130, 3730);
    ledger_gone(ledger, "gz", T(DAY + 5));
    seen.known_at_ms = T(5 * DAY);
    seen.asked_at_ms = T(5 * DAY + 10);
    on(5 * DAY + 20, 5 * DAY + 15, 0);
    on(6 * DAY, 5 * DAY + 15, 0);
    cr_assert_eq(ledger_sum(ledger, "gz", T(DAY), T(5 * DAY)).milli, 0);
    cr_assert_eq(ledger_row_at(ledger, 3)->lump_milli, 330);
    cr_assert_eq(ledger_row_at(ledger, 3)->from_at_ms, T(5 * DAY + 15));
}

/* ---- sums and days ---- */

Test(ledger, amounts_are_to_the_nearest_thousandth_and_at_least_a_cent)
{
    machine("gz", 100);
    seen.rate_milli = 1000;
    on(140, 130, 0);
    off(200, 130, 131);
    cr_assert_eq(cost(0, 9999, ""), 10);
    on(300, 300, 131);
    off(400, 300, 300);
    cr_assert_eq(cost(200, 9999, ""), 10);
    cr_assert_eq(cost(200, 300, ""), 0);
    on(500, 500, 300);
    off(1000, 500, 905); /* 405 s: 112.5 */
    cr_assert_eq(cost(450, 9999, ""), 113);
}

Test(ledger, days_and_months_are_the_providers)
{
    char day[12];

    cr_assert_eq(ledger_day_begins(ledger, T(0)), T(0));
    cr_assert_eq(ledger_day_begins(ledger, T(86399)), T(0));
    cr_assert_eq(ledger_day_begins(ledger, T(0) - 1), T(-86400));
    cr_assert_eq(ledger_month_begins(ledger, T(0)), T(-27 * 86400));
    cr_assert_eq(ledger_month_begins(ledger, T(3 * 86400 - 1)), T(-27 * 86400));
    cr_assert_eq(ledger_month_begins(ledger, T(3 * 86400)), T(3 * 86400));
    cr_assert_str_eq(ledger_day_format(ledger, T(-1), day), "2026-11-27");
    cr_assert_str_eq(ledger_day_format(ledger, T(0), day), "2026-11-28");
}

static uint64_t state_of_random;

static int64_t random_below(int64_t n)
{
    state_of_random = state_of_random * 6364136223846793005u + 1442695040888963407u;
    return (int64_t)((state_of_random >> 33) % (uint64_t)n);
}

Test(ledger, the_days_of_an_interval_add_up_to_the_whole)
{
    state_of_random = 1;
    for (unsigned i = 0; i < 20000; i++) {
        int64_t from = T(random_below(86400)) + (i % 4 ? 0 : random_below(1000)),
                to = from + random_below(4 * 86400000ll);
        int64_t rate = random_below(20000), days = 0;
        struct ledger *one = ledger_new(NULL, "autodl", "CNY", SHANGHAI);

        ledger_restore(one, &(struct spent_record){.instance = "gz",
                                                   .kind = "compute",
                                                   .from_at_ms = from,
                                                   .to_at_ms = to,
                                                   .from_basis = "stamp",
                                                   .to_basis = "stamp",
                                                   .rate_milli = rate,
                                                   .rate_basis = "snapshot"});
        for (int64_t day = T(0); day < T(6 * 86400);) {
            int64_t next = day + 86400000;

            cr_assert_eq(ledger_day_begins(one, next), next);
            days += ledger_sum(one, NULL, day, next).milli;
            day = next;
        }
        int64_t whole = (rate * (to - from) + 1800000) / 3600000;

        cr_assert_eq(days, rate ? MAX(whole, 10) : 0, "%lld to %lld at %lld", (long long)from, (long long)to,
                     (long long)rate);
        ledger_free(one);
    }
}

Test(ledger, what_is_long_over_leaves_memory_but_for_the_newest_of_a_machine)
{
    machine("gz", 100);
    on(140, 130, 0);
    off(300, 130, 290);
    on(500, 490, 290);
    off(700, 490, 690);
    machine("hz", 0);
    off(70 * 86400, 0, 0);
    cr_assert_eq(ledger_row_at(ledger, 0)->from_at_ms, T(490));
    cr_assert_null(ledger_row_at(ledger, 1));
    assert_stored("gz - 130 stamp .. 290 stamp, 1980 snapshot\ngz - 490 stamp .. 690 stamp, 1980 snapshot\n");
    machine("gz", 100);
    off(70 * 86400 + 30, 490, 690);
    cr_assert_null(ledger_row_at(ledger, 1));
}

/* ---- stories ---- */

/* A provider that bills by the second, its list that keeps the last pair of stamps, and a reader that looks
 * now and then, restarts, and may sleep through any number of cycles. Clocks agree. */
struct bill {
    int64_t from_s, to_s, rate;
};
static struct bill bill[200];
static unsigned n_bill;

static void tell_story(unsigned seed)
{
    int64_t now = 10, started = 0, stopped = 0, rate = 1980;
    bool is_on = false;

    state_of_random = seed;
    machine("gz", 0);
    n_bill = 0;
    for (unsigned step = 0; step < 120; step++) {
        now += 1 + random_below(random_below(4) ? 40 : 400);
        switch (random_below(7)) {
        case 0:
            if (is_on) {
                is_on = false;
                stopped = bill[n_bill++].to_s = now;
            } else {
                is_on = true;
                started = now;
                bill[n_bill] = (struct bill){.from_s = now, .rate = rate};
                seen.asked_at_ms = random_below(3) ? T(now - random_below(10)) : 0;
            }
            break;
        case 1:
            if (!is_on)
                rate = 1500 + random_below(1000);
            break;
        case 2:
            if (random_below(10) == 0)
                restart();
            break;
        default:
            seen.rate_milli = is_on ? rate : 0;
            seen.list_rate_milli = random_below(2) ? rate : 0;
            if (is_on)
                on(now, started, stopped);
            else if (random_below(8) == 0)
                off(now, 0, 0);
            else
                off(now, started, stopped);
        }
    }
    if (is_on)
        stopped = bill[n_bill++].to_s = ++now;
    seen.rate_milli = seen.list_rate_milli = 0;
    off(now + 5, started, stopped);
}

/* One that is stamped at both ends is of the bill, to the second; with a rate that was read in it, to the
 * price. */
static void assert_like_bill(const struct spent_record *r, unsigned seed)
{
    bool exact = streq(r->from_basis, "stamp") && r->to_basis && streq(r->to_basis, "stamp");

    cr_assert_gt(r->to_at_ms, 0, "seed %u: one is open", seed);
    for (unsigned i = 0; exact && i < n_bill; i++) {
        if (T(bill[i].from_s) != r->from_at_ms)
            continue;
        cr_assert_eq(T(bill[i].to_s), r->to_at_ms, "seed %u", seed);
        if (streq(r->rate_basis, "snapshot"))
            cr_assert_eq(bill[i].rate, r->rate_milli, "seed %u", seed);
        return;
    }
    cr_assert_not(exact, "seed %u: %lld is not of the bill", seed,
                  (long long)(r->from_at_ms - MIDNIGHT) / 1000);
}

Test(ledger, stories_of_a_reader_that_sees_little_agree_with_the_bill)
{
    for (unsigned seed = 1; seed <= 50; seed++) {
        const struct spent_record *r;
        struct buf rows;
        unsigned exact = 0;

        tell_story(seed);
        buf_init(&rows, 1 << 20);
        for (unsigned i = 0; (r = ledger_row_at(ledger, i)); i++) {
            assert_like_bill(r, seed);
            exact += streq(r->from_basis, "stamp") && streq(r->to_basis, "stamp");
            add_row(&rows, r);
        }
        cr_assert(n_bill == 0 || exact > 0, "seed %u", seed);
        assert_stored(buf_text(&rows)); /* the database refused none of it */
        buf_done(&rows);
        ledger = ledger_free(ledger);
        ledger = ledger_new(store, "autodl", "CNY", SHANGHAI);
        sql("DELETE FROM spent");
    }
}

Test(ledger, interval_that_is_shown_costs_what_the_sums_have_of_it)
{
    static const int64_t spans_ms[] = {0, 1, 1000, 60000, 3600000, 90061000};

    for (size_t i = 0; i < ELEMENTS(spans_ms); i++) {
        const struct spent_record r = {
            .instance = "x",
            .kind = "compute",
            .from_at_ms = MIDNIGHT,
            .from_basis = "stamp",
            .to_at_ms = MIDNIGHT + spans_ms[i],
            .to_basis = "stamp",
            .seen_at_ms = MIDNIGHT,
            .rate_milli = 1980,
            .rate_basis = "snapshot",
        };

        ledger = ledger_free(ledger);
        ledger = ledger_new(store, "autodl", "CNY", SHANGHAI);
        ledger_restore(ledger, &r);
        cr_assert_eq(ledger_cost(&r, r.to_at_ms + 1),
                     ledger_sum(ledger, NULL, r.from_at_ms, r.to_at_ms + 1).milli);
        cr_assert_geq(ledger_cost(&r, r.to_at_ms + 1), LEDGER_MINIMUM_MILLI);
        cr_assert_eq(ledger_cost(&r, r.from_at_ms), 0);
    }
}
