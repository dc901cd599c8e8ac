/* What the database keeps of money: what its constraints refuse, who gets the last yuan, what is there after
 * a restart.
 *
 * links: store */
#include "tests/unit/store_world.h"

TestSuite(store_money, .init = setup, .fini = teardown);

#define HOUR 3600000ll

/* SQL that a constraint refuses. */
static void refused(const char *words, const char *text)
{
    sqlite3 *db = NULL;
    char *why = NULL;

    cr_assert_eq(sqlite3_open(database, &db), SQLITE_OK);
    cr_assert_eq(sqlite3_exec(db, text, NULL, NULL, &why), SQLITE_CONSTRAINT, "%s", text);
    cr_assert_not_null(strstr(why, words), "\"%s\" does not say \"%s\"", why, words);
    sqlite3_free(why);
    sqlite3_close(db);
}

static struct spent_record row(int64_t from, int64_t to, const char *to_basis)
{
    return (struct spent_record){.provider = "autodl",
                                 .instance = "gz",
                                 .kind = "compute",
                                 .from_at_ms = from,
                                 .to_at_ms = to,
                                 .from_basis = "stamp",
                                 .to_basis = (char *)to_basis,
                                 .seen_at_ms = from,
                                 .rate_milli = 1980,
                                 .rate_basis = "snapshot",
                                 .unit = "CNY"};
}

static store_ticket put(int64_t from, int64_t to, const char *to_basis)
{
    struct spent_record r = row(from, to, to_basis);

    return store_put_spent(store, &r);
}

static void see_spent(void *ctx, const struct spent_record *r)
{
    (void)ctx;
    buf_addf(&loaded, "%s %s %s %s %lld %s %lld %s %lld %lld %s %s %lld%s\n", r->provider, r->instance,
             r->kind, or_none(r->intent), (long long)r->from_at_ms, r->from_basis, (long long)r->to_at_ms,
             or_none(r->to_basis), (long long)r->seen_at_ms, (long long)r->rate_milli, r->rate_basis, r->unit,
             (long long)r->lump_milli, r->no_card ? " no card" : "");
    if (r->machine)
        buf_addf(&loaded, " of %s\n", r->machine);
}

static void assert_spent(int64_t from, const char *expected)
{
    struct fault f = {0};

    buf_init(&loaded, 1 << 20);
    cr_assert_eq(store_load_spent(store, from, 0, see_spent, NULL, &f), 0, "%s", f.text);
    cr_assert_str_eq(buf_text(&loaded), expected);
    buf_done(&loaded);
}

/* ---- intervals ---- */

Test(store_money, the_schema_refuses_what_cannot_be)
{
    assert_written(put(100, 200, "stamp"));
    assert_written(put(300, 0, NULL));
#define INTERVAL(from, to, basis)                                                                            \
    "INSERT INTO spent(provider, instance, kind, from_at_ms, from_basis, to_at_ms, to_basis, seen_at_ms, "   \
    "unit, rate_basis) VALUES ('autodl', 'gz', 'compute', " #from ", 'stamp', " #to ", " #basis              \
    ", 1, 'CNY', 'list')"
    refused("overlap", INTERVAL(400, NULL, NULL));  /* a second open one */
    refused("UNIQUE", INTERVAL(100, 150, 'stamp')); /* the same start */
    refused("UNIQUE", INTERVAL(300, NULL, NULL));   /* the same start, open */
    refused("overlap", INTERVAL(199, 250, 'seen')); /* over an end */
    refused("overlap", INTERVAL(50, 101, 'seen'));  /* over a beginning */
    refused("overlap", INTERVAL(50, 250, 'seen'));  /* around */
    refused("overlap", INTERVAL(250, 301, 'seen')); /* into the open one */
    refused("CHECK", INTERVAL(250, 240, 'seen'));   /* an end before the start */
    refused("CHECK", INTERVAL(250, 260, NULL));     /* an end from nowhere */
    refused("CHECK", INTERVAL(250, 260, 'asked'));  /* an end that is none */
    refused("closed", "UPDATE spent SET to_at_ms = NULL, to_basis = NULL WHERE from_at_ms = 100");
    refused("closed", "UPDATE spent SET rate_milli = 1 WHERE from_at_ms = 100");
    refused("overlap", "UPDATE spent SET from_at_ms = 150 WHERE from_at_ms = 300");
    sql(INTERVAL(200, 300, 'seen'));
    sql("UPDATE spent SET to_at_ms = 299 WHERE from_at_ms = 200");
    refused("overlap", "UPDATE spent SET to_at_ms = 301 WHERE from_at_ms = 200");
    refused("UNIQUE",
            "UPDATE spent SET to_at_ms = NULL, to_basis = NULL WHERE from_at_ms = 300;"
            "INSERT INTO intent(name, kind, provider, instance, at_ms, reserved_milli, unit, day) VALUES"
            "('a', 'create', 'autodl', 'gz', 1, 1, 'CNY', ''), ('b', 'create', 'autodl', 'gz', 1, 1, "
            "'CNY', '')");
    refused("CHECK", "INSERT INTO intent(name, kind, provider, at_ms, reserved_milli, unit, day) VALUES"
                     "('c', 'create', 'autodl', 1, -1, 'CNY', '')");
}

Test(store_money, an_interval_grows_is_moved_and_is_closed_once)
{
    struct spent_record r = row(1000, 0, NULL);

    r.from_basis = "asked";
    r.rate_milli = -1;
    r.rate_basis = "unknown";
    store_put_spent(store, &r);
    store_move_spent(store, &r, 1500);
    r.from_at_ms = 1500;
    r.from_basis = "stamp";
    r.rate_milli = 0;
    r.rate_basis = "snapshot";
    assert_written(store_put_spent(store, &r));
    assert_spent(0, "autodl gz compute - 1500 stamp 0 - 1000 0 snapshot CNY 0\n");
    assert_written(put(1500, 2000, "seen"));
    assert_written(put(1500, 1999, "stamp"));
    struct fault f = assert_fails(put(1500, 0, NULL));
    cr_assert_not_null(strstr(f.text, "closed"), "%s", f.text);
    reopen_store();
    assert_spent(0, "autodl gz compute - 1500 stamp 1999 stamp 1500 1980 snapshot CNY 0\n");
    assert_spent(1998, "autodl gz compute - 1500 stamp 1999 stamp 1500 1980 snapshot CNY 0\n");
    assert_spent(
        9999, "autodl gz compute - 1500 stamp 1999 stamp 1500 1980 snapshot CNY 0\n"); /* by a clock ahead */
    assert_written(put(5000, 5001, "stamp"));
    assert_spent(1999, "autodl gz compute - 5000 stamp 5001 stamp 5000 1980 snapshot CNY 0\n");
}

/* A batch that could not be written is merged: the end of the first must not come behind the second. */
Test(store_money, intervals_that_follow_each_other_are_written_in_their_order_after_a_full_disk)
{
    assert_written(put(100, 0, NULL));
    block();
    put(100, 200, "seen");
    assert_fails(put(300, 0, NULL));
    put(100, 190, "stamp");
    loop_turns(loop, 3);
    unblock();
    reopen_store();
    assert_spent(0, "autodl gz compute - 100 stamp 190 stamp 100 1980 snapshot CNY 0\n"
                    "autodl gz compute - 300 stamp 0 - 300 1980 snapshot CNY 0\n");
}

Test(store_money, a_prepaid_row_has_a_lump_and_no_rate)
{
    struct spent_record r = row(0, 7 * 24 * HOUR, "stamp");

    r.kind = "prepaid";
    r.rate_milli = -1;
    r.rate_basis = "user";
    r.lump_milli = 99000;
    assert_written(store_put_spent(store, &r));
    sql("CREATE TEMP TABLE t(n CHECK (n = 1)); INSERT INTO t SELECT count(*) FROM spent WHERE rate_milli IS "
        "NULL");
    assert_spent(0, "autodl gz prepaid - 0 stamp 604800000 stamp 0 -1 user CNY 99000\n");
}

/* ---- reservations ---- */

static struct intent_record intent(const char *name, const char *instance, int64_t milli)
{
    return (struct intent_record){.name = (char *)name,
                                  .kind = "create",
                                  .provider = "autodl",
                                  .instance = (char *)instance,
                                  .unit = "CNY",
                                  .day = "2026-11-27",
                                  .at_ms = HOUR,
                                  .reserved_milli = milli};
}

static const struct money_limits ten = {.day_milli = 10000};

static void reserve(const struct intent_record *r, const struct money_limits *limits, int64_t day,
                    int64_t month, struct heard *h)
{
    *h = (struct heard){0};
    store_reserve(store, r, limits, day, month, &h->op, hear, h);
    cr_assert_not_null(h->op);
    cr_assert_eq(h->times, 0);
}

static struct heard reserved(const char *name, const char *instance, int64_t milli,
                             const struct money_limits *limits, int64_t day, int64_t month)
{
    struct intent_record r = intent(name, instance, milli);
    struct heard h;

    reserve(&r, limits, day, month, &h);
    cr_assert(LOOP_UNTIL(loop, h.times > 0));
    return h;
}

static void assert_reserved(const char *name, const char *instance, int64_t milli, int64_t spent)
{
    struct heard h = reserved(name, instance, milli, &ten, spent, spent);

    cr_assert_not(h.failed, "%s", h.fault.text);
}

static void assert_no_money(const char *name, const char *instance, int64_t milli, int64_t spent)
{
    struct heard h = reserved(name, instance, milli, &ten, spent, spent);

    cr_assert(h.failed);
    cr_assert_eq(h.fault.kind, FAULT_EXHAUSTED);
    cr_assert_str_eq(h.fault.code, "budget", "%s", h.fault.text);
}

Test(store_money, a_reservation_that_is_granted_is_on_disk)
{
    struct heard h = reserved("d-gz-1", "gz", 3000, &ten, 7000, 0);

    cr_assert_not(h.failed, "%s", h.fault.text);
    sql("CREATE TEMP TABLE t(n CHECK (n = 3000)); INSERT INTO t SELECT reserved_milli FROM intent WHERE name "
        "= "
        "'d-gz-1' AND kind = 'create' AND instance = 'gz' AND resolved_at_ms IS NULL");
    refused("UNIQUE", "INSERT INTO intent(name, kind, provider, at_ms, reserved_milli, unit, day) VALUES"
                      "('d-gz-1', 'create', 'autodl', 1, 1, 'CNY', '')");
}

Test(store_money, a_refused_reservation_says_the_figures_and_leaves_nothing)
{
    assert_reserved("a", "hz", 1200, 0);
    struct heard h = reserved("b", "gz", 2100, &ten, 7400, 0);

    cr_assert_str_eq(
        h.fault.text,
        "of ¥10.00 for a day at autodl ¥7.40 are spent and ¥1.20 reserved, and gz needs ¥2.10 at least "
        "before it is off again");
    struct money_limits month = {.day_milli = 10000, .month_milli = 50000};
    h = reserved("b", "gz", 2100, &month, 0, 48000);
    cr_assert_str_eq(
        h.fault.text,
        "of ¥50.00 for a month at autodl ¥48.00 are spent and ¥1.20 reserved, and gz needs ¥2.10 at least "
        "before it is off again");
    sql("CREATE TEMP TABLE t(n CHECK (n = 1)); INSERT INTO t SELECT count(*) FROM intent");
    assert_no_money("b", "gz", 1401, 7400);
    assert_reserved("b", "gz", 1400, 7400);
}

Test(store_money, without_a_limit_everything_is_granted)
{
    struct money_limits none = {0};

    cr_assert_not(reserved("a", "a", 1000000000, &none, 5, 5).failed);
    cr_assert_not(reserved("b", "b", 1000000000, &none, 5, 5).failed);
    cr_assert_not(reserved("c", "c", -1, &none, 5, 5).failed);
}

Test(store_money, an_unknown_price_takes_the_whole_rest)
{
    assert_reserved("a", "a", 1000, 2000);
    assert_reserved("b", "b", -1, 2000);
    sql("CREATE TEMP TABLE t(n CHECK (n = 7000)); INSERT INTO t SELECT reserved_milli FROM intent WHERE name "
        "= 'b'");
    assert_no_money("c", "c", 1, 2000);
    struct heard h = reserved("c", "c", -1, &ten, 2000, 2000);
    cr_assert_not_null(strstr(h.fault.text, "its price being unknown"), "%s", h.fault.text);
    assert_written(store_release_intents(store, "autodl", "b", true));
    assert_reserved("c", "c", 7000, 2000);
}

/* Wakes at the same time for what is enough for one. */
Test(store_money, two_who_race_for_the_last_yuan_do_not_both_get_it, .timeout = 120)
{
    for (unsigned i = 0; i < 200; i++) {
        struct heard h[2];
        char name[2][20];

        for (unsigned j = 0; j < 2; j++) {
            snprintf(name[j], sizeof(name[j]), "race-%u-%u", i, j);
            struct intent_record r = intent(name[j], j ? "gz" : "hz", 1000);

            reserve(&r, &ten, 9000, 9000, &h[j]);
            if (i % 3 == 1 && j == 0)
                loop_turns(loop, 1); /* two batches */
        }
        cr_assert(LOOP_UNTIL(loop, h[0].times > 0 && h[1].times > 0));
        cr_assert_eq(h[0].failed + h[1].failed, 1, "race %u", i);
        cr_assert_str_eq(h[h[1].failed].fault.code, "budget");
        store_resolve_intent(store, name[h[0].failed], "refused", HOUR, false);
    }
    sql("CREATE TEMP TABLE t(n CHECK (n = 200)); INSERT INTO t SELECT count(*) FROM intent");
}

Test(store_money, a_refused_call_gives_its_money_back_and_one_that_was_made_holds_it)
{
    assert_reserved("a", "gz", 6000, 0);
    assert_no_money("b", "hz", 6000, 0);
    assert_written(store_resolve_intent(store, "a", "refused", HOUR, false));
    assert_reserved("b", "hz", 6000, 0);
    assert_written(store_resolve_intent(store, "b", "made", HOUR, true));
    assert_no_money("c", "gz", 6000, 0);
    assert_written(store_release_intents(store, "autodl", "hz", true));
    assert_written(store_resolve_intent(store, "b", "made", HOUR, true)); /* too late: it is over */
    assert_reserved("c", "gz", 6000, 0);
    sql("CREATE TEMP TABLE t(n CHECK (n = 'refused made')); INSERT INTO t SELECT group_concat(outcome, ' ') "
        "FROM "
        "intent WHERE resolved_at_ms IS NOT NULL");
}

/* Of 6000 reserved the open interval has cost 1980 after an hour: that is spent, and 4020 are still reserved.
 */
Test(store_money, while_an_interval_is_open_the_larger_of_reserved_and_spent_counts)
{
    struct spent_record r = row(HOUR, 0, NULL);

    assert_reserved("a", "gz", 6000, 0);
    store_resolve_intent(store, "a", "made", HOUR, true);
    r.intent = "a";
    assert_written(store_put_spent(store, &r));
    struct intent_record next = intent("b", "hz", 4001);
    struct heard h;

    next.at_ms = 2 * HOUR;
    reserve(&next, &ten, 1980, 1980, &h);
    cr_assert(LOOP_UNTIL(loop, h.times > 0));
    cr_assert_str_eq(h.fault.code, "budget");
    next.reserved_milli = 4000;
    reserve(&next, &ten, 1980, 1980, &h);
    cr_assert(LOOP_UNTIL(loop, h.times > 0));
    cr_assert_not(h.failed, "%s", h.fault.text);
    assert_written(store_resolve_intent(store, "b", "refused", HOUR, false));
    next = intent("c", "hz", 2080); /* five hours are 9900: more than was reserved, so only that counts */
    next.at_ms = 6 * HOUR;
    next.reserved_milli = 101;
    reserve(&next, &ten, 9900, 9900, &h);
    cr_assert(LOOP_UNTIL(loop, h.times > 0));
    cr_assert(h.failed);
    next.reserved_milli = 100;
    reserve(&next, &ten, 9900, 9900, &h);
    cr_assert(LOOP_UNTIL(loop, h.times > 0));
    cr_assert_not(h.failed, "%s", h.fault.text);
}

static struct rental_record rental(void)
{
    return (struct rental_record){.state = "running",
                                  .goal = "on",
                                  .id = "pro-1",
                                  .made = 3,
                                  .asked_at_ms = 4,
                                  .ours = true,
                                  .was_on = true,
                                  .card = "4090d-48",
                                  .image = "base-image-1",
                                  .gpu = "4090D",
                                  .cards = 2,
                                  .disk_gb = 100,
                                  .max_price_milli = 2200,
                                  .rate_milli = 1980,
                                  .guard_seq = UINT64_MAX,
                                  .stopped_at_ms = 5,
                                  .prepaid_until_at_ms = 6,
                                  .drilled_at_ms = 7,
                                  .over_budget = true,
                                  .adopted = true,
                                  .no_card = true,
                                  .used_at_ms = 8,
                                  .search_until_at_ms = 9,
                                  .acted = true,
                                  .hold_until_at_ms = 10,
                                  .never_made = true,
                                  .never_seen = true,
                                  .by_search = true,
                                  .wanted_at_ms = 11};
}

Test(store_money, what_is_reserved_for_an_instance_that_is_removed_is_free_again)
{
    struct rental_record r = rental();

    put_instance("gz", 1);
    store_put_rental(store, "gz", &r);
    assert_reserved("a", "gz", 9000, 0);
    store_resolve_intent(store, "a", "made", HOUR, true);
    assert_written(store_put_rental(store, "gz", &r)); /* a newer value removes nothing */
    assert_no_money("b", "hz", 9000, 0);
    assert_written(store_remove_instance(store, "gz"));
    assert_reserved("b", "hz", 9000, 0);
}

Test(store_money, another_unit_or_provider_is_another_purse)
{
    struct intent_record r = intent("a", "gz", 10000);
    struct heard h;

    r.unit = "CU";
    reserve(&r, &ten, 0, 0, &h);
    cr_assert(LOOP_UNTIL(loop, h.times > 0));
    cr_assert_not(h.failed);
    assert_reserved("b", "hz", 10000, 0);
}

Test(store_money, one_instance_has_one_open_reservation)
{
    assert_reserved("a", "gz", 1, 0);
    struct heard h = reserved("b", "gz", 1, &ten, 0, 0);

    cr_assert(h.failed);
    cr_assert_eq(h.fault.kind, FAULT_INVALID);
    assert_written(store_release_intents(store, "autodl", "gz", true));
    assert_reserved("b", "gz", 1, 0);
}

/* Who was told that there is no reservation asks again, and must not find its own money taken. */
Test(store_money, a_reservation_that_could_not_be_written_does_not_come_true_later)
{
    block();
    struct heard h = reserved("a", "gz", 10000, &ten, 0, 0);

    cr_assert(h.failed);
    cr_assert_str_neq(h.fault.code, "budget");
    put_instance("gz", 1);
    unblock();
    reopen_store();
    assert_loads("instance gz ssh box root 1 0 0 0\n");
    sql("CREATE TEMP TABLE t(n CHECK (n = 0)); INSERT INTO t SELECT count(*) FROM intent");
    assert_reserved("a", "gz", 10000, 0);
}

Test(store_money, a_cancelled_reservation_tells_nobody)
{
    struct intent_record r = intent("a", "gz", 1);
    struct heard h;

    reserve(&r, &ten, 0, 0, &h);
    op_cancel(&h.op);
    assert_written(put_instance("gz", 1));
    cr_assert_eq(h.times, 0);
}

Test(store_money, a_reservation_is_of_the_same_transaction_as_its_turn)
{
    struct intent_record r = intent("a", "gz", 1);
    struct heard h;

    watch_sqlite();
    put_instance("gz", 1);
    reserve(&r, &ten, 0, 0, &h);
    put_instance("hz", 1);
    cr_assert(LOOP_UNTIL(loop, h.times > 0));
    cr_assert_eq(atomic_load(&begins), 1);
}

/* ---- records ---- */

static void see_account(void *ctx, const struct account_record *r)
{
    (void)ctx;
    buf_addf(&loaded, "%s %s %lld %lld %lld %lld %lld\n", r->provider, or_none(r->base_url),
             (long long)r->limits.day_milli, (long long)r->limits.month_milli,
             (long long)r->limits.price_milli, (long long)r->limits.floor_milli, (long long)r->added_at_ms);
}

static void assert_accounts(const char *expected)
{
    struct fault f = {0};

    buf_init(&loaded, 1 << 20);
    cr_assert_eq(store_load_accounts(store, see_account, NULL, &f), 0, "%s", f.text);
    cr_assert_str_eq(buf_text(&loaded), expected);
    buf_done(&loaded);
}

static struct rental_record found;
static unsigned n_rented, n_others;

static void see_rental(void *ctx, const struct instance_record *r)
{
    (void)ctx;
    if (!r->rental) {
        n_others++;
        return;
    }
    n_rented++;
    cr_assert_str_eq(r->name, "gz");
    cr_assert_str_eq(r->rental->state, "running");
    cr_assert_str_eq(r->rental->goal, "on");
    cr_assert_null(r->rental->region);
    cr_assert_str_eq(r->rental->id, "pro-1");
    cr_assert_str_eq(r->rental->card, "4090d-48");
    cr_assert_str_eq(r->rental->image, "base-image-1");
    cr_assert_str_eq(r->rental->gpu, "4090D");
    found = *r->rental;
}

static void load_rentals(void)
{
    struct store_readers readers = {.instance = see_rental};
    struct fault f = {0};

    n_rented = n_others = 0;
    cr_assert_eq(store_load(store, &readers, NULL, &f), 0, "%s", f.text);
}

Test(store_money, rentals_and_accounts_are_there_after_a_restart)
{
    struct rental_record r = rental();
    struct account_record a = {.provider = "autodl",
                               .base_url = "http://127.0.0.1:1",
                               .limits = {50000, 600000, 2200, 5000},
                               .added_at_ms = 9};

    put_instance("gz", 1);
    put_instance("mine", 1);
    store_put_rental(store, "gz", &r);
    store_put_account(store, &a);
    a.limits.day_milli = 20000;
    a.base_url = NULL;
    assert_written(store_put_account(store, &a));
    assert_written(put_instance("gz", 2)); /* leaves its rental as it is */
    reopen_store();
    load_rentals();
    cr_assert_eq(n_rented, 1);
    cr_assert_eq(n_others, 1);
    cr_assert_eq(found.made, 3);
    cr_assert_eq(found.asked_at_ms, 4);
    cr_assert(!found.create_open && found.ours && found.was_on);
    cr_assert(found.cards == 2 && found.disk_gb == 100);
    cr_assert(found.max_price_milli == 2200 && found.rate_milli == 1980);
    cr_assert_eq(found.guard_seq, UINT64_MAX);
    cr_assert(found.stopped_at_ms == 5 && found.prepaid_until_at_ms == 6 && found.drilled_at_ms == 7);
    cr_assert(found.over_budget && !found.no_guard && found.adopted && found.no_card);
    cr_assert(found.used_at_ms == 8 && found.search_until_at_ms == 9);
    cr_assert(found.acted && found.hold_until_at_ms == 10);
    cr_assert(found.never_made && found.never_seen && found.by_search && found.wanted_at_ms == 11);
    assert_accounts("autodl - 20000 600000 2200 5000 9\n");
    store_remove_account(store, "autodl");
    assert_written(store_remove_instance(store, "gz"));
    reopen_store();
    load_rentals();
    cr_assert_eq(n_rented, 0);
    assert_accounts("");
    sql("CREATE TEMP TABLE t(n CHECK (n = 0)); INSERT INTO t SELECT count(*) FROM rental");
}

Test(store_money, a_rental_needs_its_instance)
{
    struct rental_record r = rental();
    struct fault f = assert_fails(store_put_rental(store, "gz", &r));

    cr_assert_eq(f.kind, FAULT_GONE);
    cr_assert_not_null(strstr(f.text, "there is no instance gz"), "%s", f.text);
}

static void see_box(void *ctx, const struct instance_record *r)
{
    const struct boxed_record *b = r->boxed;

    (void)ctx;
    n_others += !b;
    if (!b)
        return;
    n_rented++;
    cr_assert(!r->rental);
    cr_assert_str_eq(b->state, "stopping");
    cr_assert_str_eq(b->cycle, "4f8165b4.7");
    cr_assert(b->since_at_ms == 1 && b->stop_asked_at_ms == 2 && b->acts_at_ms == 3 && b->tried_at_ms == 4);
    cr_assert(b->told && !b->no_guard);
    cr_assert_str_eq(b->trial, "went");
    cr_assert_eq(b->used_s, 5);
}

Test(store_money, what_is_known_of_a_machine_that_stops_from_inside_is_there_after_a_restart)
{
    const struct store_readers readers = {.instance = see_box};
    struct boxed_record b = {.state = (char *)"running",
                             .cycle = (char *)"",
                             .since_at_ms = 1,
                             .stop_asked_at_ms = 2,
                             .no_guard = true,
                             .acts_at_ms = 3,
                             .trial = (char *)"went",
                             .tried_at_ms = 4,
                             .used_s = 5};
    struct fault f = assert_fails(store_put_boxed(store, "gpu1", &b));

    cr_assert_eq(f.kind, FAULT_GONE);
    put_instance("gpu1", 1);
    put_instance("plain", 1);
    store_put_boxed(store, "gpu1", &b);
    b.state = (char *)"stopping";
    b.cycle = (char *)"4f8165b4.7";
    b.told = true;
    b.no_guard = false;
    store_put_boxed(store, "gpu1", &b);
    assert_written(put_instance("gpu1", 2));
    reopen_store();
    n_rented = n_others = 0;
    cr_assert_eq(store_load(store, &readers, NULL, &f), 0, "%s", f.text);
    cr_assert(n_rented == 1 && n_others == 1);
    assert_written(store_remove_instance(store, "gpu1"));
    sql("CREATE TEMP TABLE t(n CHECK (n = 0)); INSERT INTO t SELECT count(*) FROM boxed");
}

Test(store_money, reservations_and_intervals_outlive_a_restart)
{
    struct spent_record r = row(HOUR, 0, NULL);

    assert_reserved("a", "gz", 6000, 0);
    r.intent = "a";
    r.no_card = true;
    assert_written(store_put_spent(store, &r));
    reopen_store();
    assert_spent(0, "autodl gz compute a 3600000 stamp 0 - 3600000 1980 snapshot CNY 0 no card\n");
    assert_no_money("b", "hz", 4001, 0);
    assert_reserved("b", "hz", 4000, 0);
}

Test(store_money, a_database_from_before_money_is_brought_forward)
{
    assert_written(put_instance("gpu-a", 1));
    store = store_close(store);
    sql("DROP TABLE spent; DROP TABLE intent; DROP TABLE account; DROP TABLE rental; DROP TABLE boxed; DROP "
        "TABLE choice; DROP TABLE orphan; "
        "ALTER TABLE instance DROP COLUMN stop; PRAGMA user_version = 10");
    open_store();
    assert_loads("instance gpu-a ssh box root 1 0 0 0\n");
    assert_reserved("a", "gpu-a", 6000, 0);
    assert_written(put(100, 0, NULL));
    assert_accounts("");
}

static void see_untold(void *ctx, const struct instance_record *r)
{
    (void)ctx;
    cr_assert_eq(r->boxed->used_s, -1);
    n_rented++;
}

/* Of what was on then nobody knows when it was used last. */
Test(store_money, a_database_of_version_13_is_brought_forward)
{
    const struct store_readers readers = {.instance = see_untold};
    struct boxed_record b = {
        .state = (char *)"running", .cycle = (char *)"4f8165b4.7", .trial = (char *)"untried", .used_s = 9};
    struct fault f = {0};

    put_instance("gpu1", 1);
    assert_written(store_put_boxed(store, "gpu1", &b));
    store = store_close(store);
    sql("ALTER TABLE boxed DROP COLUMN used_s; DROP TABLE orphan; ALTER TABLE rental DROP COLUMN never_made; "
        "ALTER TABLE rental DROP COLUMN by_search; ALTER TABLE rental DROP COLUMN wanted_at_ms; "
        "ALTER TABLE choice DROP COLUMN begun_at_ms; ALTER TABLE spent DROP COLUMN machine; "
        "ALTER TABLE rental DROP COLUMN never_seen; PRAGMA user_version = 13");
    open_store();
    n_rented = 0;
    cr_assert_eq(store_load(store, &readers, NULL, &f), 0, "%s", f.text);
    cr_assert_eq(n_rented, 1);
}

/* What began in the time of the machine that has the name is its, and what is open by whatever clock; of what was
 * before nobody knows. */
Test(store_money, a_database_of_version_14_is_brought_forward)
{
    struct rental_record r = rental();
    struct spent_record second = row(200000, 300000, "stamp");

    r.id = (char *)"pro-2";
    r.made_at_ms = 100000;
    put_instance("gz", 1);
    store_put_rental(store, "gz", &r);
    put(1000, 39999, "stamp");
    put(40000, 120000, "stamp"); /* a minute before: clocks differ */
    assert_written(put(130000, 0, NULL));
    second.instance = (char *)"gz+pro-7";
    assert_written(store_put_spent(store, &second));
    r.id = (char *)"pro-3";
    r.made_at_ms = 9000000;
    put_instance("mine", 1);
    store_put_rental(store, "mine", &r);
    second = row(210000, 0, NULL);
    second.instance = (char *)"mine";
    assert_written(store_put_spent(store, &second));
    store = store_close(store);
    sql("UPDATE instance SET provider = 'autodl'; ALTER TABLE spent DROP COLUMN machine; "
        "ALTER TABLE rental DROP COLUMN never_seen; PRAGMA user_version = 14");
    open_store();
    assert_spent(0, "autodl gz compute - 1000 stamp 39999 stamp 1000 1980 snapshot CNY 0\n"
                    "autodl gz compute - 40000 stamp 120000 stamp 40000 1980 snapshot CNY 0\n of pro-2\n"
                    "autodl gz compute - 130000 stamp 0 - 130000 1980 snapshot CNY 0\n of pro-2\n"
                    "autodl gz+pro-7 compute - 200000 stamp 300000 stamp 200000 1980 snapshot CNY 0\n of pro-7\n"
                    "autodl mine compute - 210000 stamp 0 - 210000 1980 snapshot CNY 0\n of pro-3\n");
    second = row(130000, 0, NULL);
    second.machine = (char *)"pro-2";
    assert_written(store_put_spent(store, &second));
    refused("closed", "UPDATE spent SET machine = NULL WHERE from_at_ms = 1000");
}

static void see_orphan(void *ctx, const struct orphan_record *r)
{
    (void)ctx;
    buf_addf(&loaded, "%s %s (%s): %s, %u x %s at %lld%s from %lld, seen %lld, missing %lld\n", r->provider,
             r->id, r->name, r->word, r->cards, r->gpu, (long long)r->price_milli,
             r->no_card ? " without it" : "", (long long)r->started_at_ms, (long long)r->seen_at_ms,
             (long long)r->missing_at_ms);
}

static void assert_orphans(const char *expected)
{
    struct fault f = {0};

    buf_init(&loaded, 1 << 20);
    cr_assert_eq(store_load_orphans(store, see_orphan, NULL, &f), 0, "%s", f.text);
    cr_assert_str_eq(buf_text(&loaded), expected);
    buf_done(&loaded);
}

Test(store_money, a_machine_that_nothing_knows_is_there_after_a_restart_as_it_was_last)
{
    struct orphan_record o = {.provider = (char *)"autodl",
                              .id = (char *)"pro-9",
                              .name = (char *)"ab-4090d-1",
                              .word = (char *)"starting",
                              .gpu = (char *)"4090D",
                              .cards = 2,
                              .no_card = true,
                              .seen_at_ms = 3};

    store_put_orphan(store, &o);
    o.word = (char *)"running";
    o.price_milli = 1880;
    o.started_at_ms = 2;
    o.missing_at_ms = 4;
    o.no_card = false;
    store_put_orphan(store, &o);
    o.id = (char *)"pro-10";
    assert_written(store_put_orphan(store, &o));
    assert_written(store_remove_orphan(store, "autodl", "pro-10"));
    reopen_store();
    assert_orphans("autodl pro-9 (ab-4090d-1): running, 2 x 4090D at 1880 from 2, seen 3, missing 4\n");
}

static void see_choice(void *ctx, const struct choice_record *r)
{
    (void)ctx;
    buf_addf(&loaded, "%s %u of %s from %lld until %lld: %s %s %s %s %u %lld %d\n", r->model, r->turn,
             r->places, (long long)r->begun_at_ms, (long long)r->until_at_ms, or_none(r->provider),
             or_none(r->gpu), or_none(r->image), or_none(r->region), r->disk_gb, (long long)r->max_price_milli, r->over_budget);
}

static void assert_choices(const char *expected)
{
    struct fault f = {0};

    buf_init(&loaded, 1 << 20);
    cr_assert_eq(store_load_choices(store, see_choice, NULL, &f), 0, "%s", f.text);
    cr_assert_str_eq(buf_text(&loaded), expected);
    buf_done(&loaded);
}

Test(store_money, a_choice_is_there_after_a_restart_as_it_was_last)
{
    struct choice_record c = {
        .model = (char *)"ollama:m", .places = (char *)"a,+,b", .turn = 0, .begun_at_ms = 8, .until_at_ms = 9};

    store_put_choice(store, &c);
    c.turn = 2;
    c.provider = (char *)"autodl";
    c.gpu = (char *)"4090D,5090";
    c.image = (char *)"mine";
    c.region = (char *)"westDC3";
    c.disk_gb = 50;
    c.max_price_milli = 2200;
    c.over_budget = true;
    assert_written(store_put_choice(store, &c));
    reopen_store();
    assert_choices("ollama:m 2 of a,+,b from 8 until 9: autodl 4090D,5090 mine westDC3 50 2200 1\n");
    assert_written(store_remove_choice(store, "ollama:m"));
    reopen_store();
    assert_choices("");
}

Test(store_money, a_keep_outlasts_what_a_search_gives_back)
{
    struct intent_record r = intent("keep gz", "gz", 6000);
    struct heard h;

    r.kept_ms = 3600000;
    reserve(&r, &ten, 0, 0, &h);
    cr_assert(LOOP_UNTIL(loop, h.times > 0));
    assert_reserved("a", "gz", 3000, 0);
    assert_written(store_release_intents(store, "autodl", "gz", false));
    assert_no_money("b", "hz", 4001, 0);
    assert_written(store_release_intents(store, "autodl", "gz", true));
    assert_reserved("b", "hz", 10000, 0);
}
