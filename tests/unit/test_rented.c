/* links: lease
 *
 * The half of a lease that costs money, from the first wish to the machine that is on: what is written down
 * before a call, which cards are tried, what it may cost, and which way in is told. */
#include "tests/unit/rented_world.h"

#include "lease/rented_private.h"

TestSuite(rented, .init = setup, .fini = teardown);

Test(rented, is_made_reached_guarded_and_stopped)
{
    struct rented_figures n;

    make_new("4090D", 0);
    cr_assert_eq(rented_step(rented), RENTED_AT_REST);
    is_on_its_way();
    cr_assert_eq(company.n_create, 1);
    cr_assert_str_eq(company.card, "pro-4090d");
    cr_assert_eq(strncmp(books.machine, company.name, strlen(company.name)), 0,
                 "%s begins as the machine's name", books.machine);
    cr_assert_str_eq(books.kind, "create");
    cr_assert_eq(books.last.rate_milli, 1980);
    cr_assert_eq(books.last.at_least_ms, (2 + 5 + 15) * 60000 + 20000);
    cr_assert_str_eq(books.outcome, "made");
    cr_assert_not_null(strstr(company.start_command, "llmhost-first"));
    cr_assert_str_eq(way.host, "connect.gz.example");
    cr_assert_eq(rented_step(rented), RENTED_SSH);

    session_is(true);
    cr_assert(keeper->way);
    cr_assert_eq(rented_step(rented), RENTED_GUARD);
    cr_assert_not(rented_is_guarded(rented));
    keeper_becomes(KEEPER_KEPT);
    cr_assert_eq(rented_step(rented), RENTED_THERE);
    cr_assert(rented_is_guarded(rented));
    rented_figures(rented, &n);
    cr_assert_eq(n.rate_milli, 1980);
    cr_assert_eq(n.tries, 1);
    cr_assert(n.was_powered);
    cr_assert_eq(books.reading.power, INSTANCE_ON);
    cr_assert_eq(books.reading.rate_milli, 1980);

    company.ignores_stops = true;
    rented_want(rented, LIFE_GOAL_OFF);
    cr_assert(COMES_TRUE(!keeper->way));
    cr_assert_eq(state(), LIFE_STOPPING);
    cr_assert_eq(keeper->n_forgotten, 0, "its guard may act before the provider does");
    company.ignores_stops = false;
    cr_assert(COMES_TRUE(state() == LIFE_STOPPED));
    cr_assert_not(has_way);
    cr_assert_not(keeper->way);
    cr_assert_eq(keeper->n_forgotten, 1);
    cr_assert(books.reading.off_counts);
    rented_figures(rented, &n);
    cr_assert_eq(n.released_at_ms, company.machine.stopped_at_ms + 15 * 24 * 3600000ll);
    cr_assert_eq(rented_trouble(rented)->kind, FAULT_NONE);
}

Test(rented, a_second_power_on_has_a_name_of_its_own_and_the_price_that_was_read)
{
    char first[96];

    make_new("4090D", 0);
    company.way.price_milli = 2040;
    is_there();
    snprintf(first, sizeof first, "%s", books.machine);
    rented_want(rented, LIFE_GOAL_OFF);
    cr_assert(COMES_TRUE(state() == LIFE_STOPPED));
    session_is(false);
    is_on_its_way();
    cr_assert_eq(company.n_create, 1);
    cr_assert_eq(company.n_start, 1);
    cr_assert_str_eq(books.kind, "power_on");
    cr_assert_eq(books.last.rate_milli, 2040);
    cr_assert_str_neq(books.machine, first);
    cr_assert_not_null(strstr(company.start_command, "llmhost-first"));
}

/* Whoever looks at once after a start of the daemon sees what was known before it. */
Test(rented, a_search_is_one_also_before_the_first_look_of_a_new_daemon)
{
    struct rented_figures n;

    make_new("4090D", 0);
    fault_code(&company.refusal, FAULT_EXHAUSTED, "no_capacity", "none is free");
    rented_want(rented, LIFE_GOAL_ON);
    cr_assert(COMES_TRUE(state() == LIFE_WAITING));
    starts_again();
    rented_figures(rented, &n);
    cr_assert(n.state == LIFE_UNKNOWN && n.is_none && n.goal == LIFE_GOAL_ON);
    cr_assert_eq(rented_step(rented), RENTED_CAPACITY);
    company.refusal = (struct fault){0};
    cr_assert(COMES_TRUE(state() == LIFE_RUNNING));
    starts_again();
    rented_figures(rented, &n);
    cr_assert(n.state == LIFE_UNKNOWN && !n.is_none);
    cr_assert_eq(rented_step(rented), RENTED_POWER_ON);
}

Test(rented, what_the_budget_refuses_is_not_asked_and_tried_again)
{
    struct rented_figures n;

    make_new("4090D", 0);
    books.is_empty = true;
    rented_want(rented, LIFE_GOAL_ON);
    cr_assert(COMES_TRUE(state() == LIFE_WAITING));
    cr_assert_str_eq(rented_trouble(rented)->code, "budget");
    cr_assert_eq(rented_step(rented), RENTED_CAPACITY);
    cr_assert_eq(company.n_create, 0);
    cr_assert_eq(books.n_resolved, 0, "there is nothing to resolve");
    rented_figures(rented, &n);
    cr_assert_gt(n.next_at_ms, 0);
    cr_assert_not(n.was_powered);

    rented_want(rented, LIFE_GOAL_OFF);
    flush();
    rented_allow(rented, true, false);
    rented_want(rented, LIFE_GOAL_ON);
    cr_assert(COMES_TRUE(state() == LIFE_RUNNING));
    cr_assert(books.last.over);
}

Test(rented, it_is_not_asked_for_right_after_another_of_its_account)
{
    make_new("4090D", 0);
    books.asked_by_others_due = clock_now_ms() + 60000;
    rented_want(rented, LIFE_GOAL_ON);
    cr_assert(COMES_TRUE(books.n_reserved == 1));
    flush();
    cr_assert_eq(state(), LIFE_CREATING);
    cr_assert_eq(company.n_create, 0);
    rented_want(rented, LIFE_GOAL_OFF);
    cr_assert(COMES_TRUE(state() == LIFE_ABSENT));
    cr_assert_str_eq(books.outcome, "not_asked");
    books.asked_by_others_due = 0;
    rented_want(rented, LIFE_GOAL_ON);
    cr_assert(COMES_TRUE(company.n_create == 1));
    cr_assert_eq(books.n_called, 1);
}

Test(rented, the_next_card_is_tried_when_one_is_sold_out)
{
    struct rented_figures n;

    make_new("4090D,5090x2", 0);
    fault_code(&company.refusal, FAULT_EXHAUSTED, "no_capacity", "none is free");
    rented_want(rented, LIFE_GOAL_ON);
    cr_assert(COMES_TRUE(state() == LIFE_WAITING));
    cr_assert_str_eq(company.card, "pro-4090d");
    cr_assert_str_eq(books.outcome, "refused");
    cr_assert(COMES_TRUE(company.n_create == 2));
    cr_assert_str_eq(company.card, "pro-5090");
    cr_assert_eq(company.cards, 2);
    cr_assert_eq(books.last.rate_milli, 6400);
    cr_assert(COMES_TRUE(company.n_create == 3));
    cr_assert_str_eq(company.card, "pro-4090d", "and from the beginning");
    company.refusal = (struct fault){};
    cr_assert(COMES_TRUE(company.n_create == 4 && has_way));
    rented_figures(rented, &n);
    cr_assert_eq(n.tries, 4);
    cr_assert_str_eq(rented_record(rented)->card, "pro-5090");
    cr_assert_str_eq(rented_record(rented)->gpu, "5090", "it is no search any more");
    cr_assert_eq(rented_record(rented)->cards, 2);

    flush();
    starts_again();
    rented_figures(rented, &n);
    cr_assert_eq(n.list_rate_milli, 6400, "it is known which card it has");
}

Test(rented, every_region_is_tried_for_each_card)
{
    static const char *const asked[] = {"pro-4090d west", "pro-4090d east", "pro-5090 west", "pro-5090 east"};
    char what[80];

    make_new_in("4090D,5090", "west,east", 0);
    fault_code(&company.refusal, FAULT_EXHAUSTED, "no_capacity", "none is free");
    rented_want(rented, LIFE_GOAL_ON);
    for (unsigned i = 0; i < ELEMENTS(asked); i++) {
        cr_assert(COMES_TRUE(company.n_create == i + 1));
        snprintf(what, sizeof what, "%s %s", company.card, company.region);
        cr_assert_str_eq(what, asked[i]);
        if (i == 2)
            company.refusal = (struct fault){};
    }
    cr_assert(COMES_TRUE(has_way));
    cr_assert_str_eq(rented_record(rented)->region, "east", "that is where it stands");
    cr_assert_str_eq(rented_record(rented)->gpu, "5090");
}

Test(rented, one_that_the_provider_does_not_take_is_left_out)
{
    make_new("4090D,5090", 0);
    fault_code(&company.refusal, FAULT_INVALID, "bad_request", "it is not accepted");
    rented_want(rented, LIFE_GOAL_ON);
    cr_assert(COMES_TRUE(company.n_create == 1));
    cr_assert(rented_may_look(rented));
    company.refusal.kind = FAULT_EXHAUSTED;
    cr_assert(COMES_TRUE(company.n_create == 3));
    cr_assert_str_eq(company.card, "pro-5090", "once more that one");
    rented_want(rented, LIFE_GOAL_OFF);
    cr_assert(COMES_TRUE(state() == LIFE_ABSENT));
    rented_want(rented, LIFE_GOAL_ON);
    cr_assert(COMES_TRUE(company.n_create == 4));
    cr_assert_str_eq(company.card, "pro-4090d", "a new wish asks anew");
}

Test(rented, the_end_of_a_search_outlives_us)
{
    int64_t until_at_ms = clock_wall_ms() + 3600000;

    make_new("4090D", 0);
    fault_code(&company.refusal, FAULT_EXHAUSTED, "no_capacity", "none is free");
    rented_look_until(rented, until_at_ms);
    rented_want(rented, LIFE_GOAL_ON);
    cr_assert(COMES_TRUE(state() == LIFE_WAITING));
    flush();
    starts_again();
    cr_assert_eq(rented_record(rented)->search_until_at_ms, until_at_ms);
    company.refusal = (struct fault){};
    cr_assert(COMES_TRUE(has_way));
    cr_assert_eq(rented_record(rented)->search_until_at_ms, 0, "it came");
}

/* Asked for, and no answer yet; meanwhile nobody wants it any more. */
static void is_asked_and_unwanted(void)
{
    make_new("4090D,5090", 0);
    company.holds = true;
    rented_want(rented, LIFE_GOAL_ON);
    for (unsigned i = 0; i < 50 && !company.n_create; i++)
        flush();
    cr_assert_eq(company.n_create, 1);
    rented_want(rented, LIFE_GOAL_OFF);
    flush();
    cr_assert_eq(state(), LIFE_CREATING);
}

static void was_made_and_stopped(void)
{
    cr_assert(COMES_TRUE(state() == LIFE_STOPPED));
    cr_assert_str_eq(books.outcome, "made");
    cr_assert_eq(books.n_resolved, 1);
    cr_assert_str_eq(rented_record(rented)->gpu, "4090D", "it is no search any more");
}

Test(rented, one_that_is_made_when_nobody_wants_it_any_more)
{
    is_asked_and_unwanted();
    company_answers();
    was_made_and_stopped();
    cr_assert_geq(company.n_stop, 1);
}

Test(rented, one_that_is_found_on_when_nobody_wants_it_any_more)
{
    is_asked_and_unwanted();
    company.holds = false; /* that one is never answered, and has happened */
    company.exists = true;
    company.machine.power = INSTANCE_ON;
    was_made_and_stopped();
    cr_assert_geq(company.n_stop, 1);
}

Test(rented, one_that_is_found_off_was_made)
{
    is_asked_and_unwanted();
    company.holds = false;
    company.exists = true;
    company.machine.power = INSTANCE_OFF;
    was_made_and_stopped();
}

Test(rented, a_second_machine_that_came_up_late_is_in_the_books)
{
    make_new("4090D", 0);
    is_there();
    company.spare =
        (struct instance_seen){.id = "pro-2", .power = INSTANCE_ON, .started_at_ms = clock_wall_ms()};
    snprintf(company.spare.name, sizeof company.spare.name, "%s", company.name);
    company.has_spare = true;
    cr_assert(COMES_TRUE(books.spare.power == INSTANCE_ON));
    cr_assert_str_eq(books.spare_name, "gz+pro-2");
    cr_assert_eq(books.spare.started_at_ms, company.spare.started_at_ms);
    cr_assert_eq(books.spare.list_rate_milli, 1980);
    cr_assert_not_null(books.spare.intent, "by us");
    cr_assert_str_eq(books.reading.instance, "gz");
    books.row.instance = (char *)"gz+pro-2";
    cr_assert(COMES_TRUE(books.spare.power == INSTANCE_OFF), "it was stopped");
    cr_assert(books.spare.off_counts && books.spare.stopped_at_ms == company.spare.stopped_at_ms);
    cr_assert_eq(books.spare.asked_at_ms, 0, "of an old one that was off nothing is added");
    cr_assert_eq(state(), LIFE_RUNNING);
    cr_assert_eq(books.n_gone, 0);

    company.has_spare = false; /* it is in no list any more, and its interval is open */
    cr_assert(COMES_TRUE(books.n_gone == 1));
    cr_assert_str_eq(books.gone, "gz+pro-2");
    books.row.instance = (char *)"gz-2+pro-2";
    passes(120000);
    cr_assert_eq(books.n_gone, 1, "another one's");
}

Test(rented, a_boot_that_fails_is_known_before_our_call_is_too_old_to_act)
{
    struct rented_figures n;
    uint64_t from;

    make_new("4090D", 0);
    company.boots_to = INSTANCE_CHANGING;
    rented_want(rented, LIFE_GOAL_ON);
    cr_assert(COMES_TRUE(state() == LIFE_STARTING));
    passes(1000);
    from = clock_now_ms();
    company.machine.power = INSTANCE_OFF;
    company.boots_to = INSTANCE_ON;
    cr_assert(COMES_TRUE(state() == LIFE_WAITING));
    cr_assert_lt(clock_now_ms() - from, START_MS / 2, "of the daemon's own clock, which the test sets");
    cr_assert_str_eq(rented_trouble(rented)->code, "boot_failed");
    cr_assert(COMES_TRUE(has_way));
    cr_assert_eq(company.n_start, 1);
    rented_figures(rented, &n);
    cr_assert_eq(n.tries, 2);
}

/* Between two looks at it: its stamp says that it was on. */
Test(rented, what_is_switched_off_as_soon_as_it_is_on_stays_off)
{
    for (unsigned power_on = 1; power_on <= 2; power_on++) {
        if (power_on == 1)
            make_new("4090D", 0);
        company.boots_to = INSTANCE_CHANGING;
        rented_want(rented, LIFE_GOAL_ON);
        cr_assert(COMES_TRUE(state() == LIFE_STARTING));
        passes(1000);
        company.machine.started_at_ms = clock_wall_ms() + power_on * 1000;
        company.machine.power = INSTANCE_OFF;
        cr_assert(COMES_TRUE(state() == LIFE_STOPPED || state() == LIFE_WAITING));
        cr_assert_eq(state(), LIFE_STOPPED);
        cr_assert_str_eq(rented_trouble(rented)->code, "stopped_elsewhere");
        cr_assert_eq(life_goal(rented_life(rented)), LIFE_GOAL_OFF);
        cr_assert_eq(company.n_start, power_on - 1);
    }
}

/* Somebody else switches it on an hour later. */
Test(rented, a_power_on_that_came_to_nothing_is_no_usual_boot)
{
    make_new("4090D", 0);
    company.boots_to = INSTANCE_CHANGING;
    rented_want(rented, LIFE_GOAL_ON);
    cr_assert(COMES_TRUE(state() == LIFE_STARTING));
    passes(1000);
    company.machine.started_at_ms = clock_wall_ms() + 1000;
    company.machine.power = INSTANCE_OFF;
    cr_assert(COMES_TRUE(state() == LIFE_STOPPED));
    passes(3600000);
    company.machine.started_at_ms = clock_wall_ms();
    company.machine.power = INSTANCE_ON;
    cr_assert(COMES_TRUE(has_way));
    cr_assert_eq(store_usual_ms(store, "power_on - gz"), 0);
}

Test(rented, the_third_boot_that_fails_ends_the_wish)
{
    make_new("4090D", 0);
    company.boots_to = INSTANCE_CHANGING;
    rented_want(rented, LIFE_GOAL_ON);
    for (unsigned boots = 1; boots <= 3; boots++) {
        cr_assert(COMES_TRUE(state() == LIFE_STARTING), "boot %u", boots);
        passes(1000);
        company.machine.power = INSTANCE_OFF;
        cr_assert(COMES_TRUE(state() == (boots < 3 ? LIFE_WAITING : LIFE_STOPPED)), "boot %u", boots);
        cr_assert_str_eq(rented_trouble(rented)->code, "boot_failed");
    }
    cr_assert_eq(life_goal(rented_life(rented)), LIFE_GOAL_OFF);
}

Test(rented, a_card_above_the_highest_price_is_passed_over)
{
    make_new("5090,4090D", 2200);
    is_on_its_way();
    cr_assert_str_eq(company.card, "pro-4090d");
}

Test(rented, a_way_that_comes_late_is_trouble_and_no_end)
{
    make_new("4090D", 0);
    *company.way.host = '\0';
    rented_want(rented, LIFE_GOAL_ON);
    cr_assert(COMES_TRUE(state() == LIFE_RUNNING));
    cr_assert_eq(rented_step(rented), RENTED_SSH);
    cr_assert(COMES_TRUE(company.n_reach > 10));
    cr_assert_eq(n_ways, 0);
    cr_assert_eq(rented_trouble(rented)->kind, FAULT_NONE);
    cr_assert(COMES_TRUE(streq(rented_trouble(rented)->code, "no_way")));
    cr_assert_eq(life_goal(rented_life(rented)), LIFE_GOAL_ON);
    snprintf(company.way.host, sizeof company.way.host, "connect.gz.example");
    cr_assert(COMES_TRUE(has_way));
    cr_assert_eq(rented_trouble(rented)->kind, FAULT_NONE);
}

Test(rented, is_switched_off_when_it_costs_more_than_was_allowed)
{
    make_new("4090D", 2000);
    company.way.price_milli = 2300;
    rented_want(rented, LIFE_GOAL_ON);
    cr_assert(COMES_TRUE(company.n_stop > 0 && state() == LIFE_STOPPED));
    cr_assert_eq(n_ways, 1, "none but the end of it was told");
    cr_assert_not(has_way);
    cr_assert_eq(company.n_release, 0);
    cr_assert_str_eq(rented_trouble(rented)->code, "price");
    cr_assert_not_null(strstr(rented_trouble(rented)->text, "2.30"), "%s", rented_trouble(rented)->text);
    cr_assert_not_null(strstr(rented_trouble(rented)->text, "2.00"), "%s", rented_trouble(rented)->text);
    cr_assert_eq(life_goal(rented_life(rented)), LIFE_GOAL_OFF);

    company.way.price_milli = 1980;
    is_on_its_way();
    cr_assert_eq(rented_trouble(rented)->kind, FAULT_NONE);
}

Test(rented, another_word_about_its_price_is_the_one_that_counts)
{
    make_new("4090D", 2000);
    company.way.price_milli = 2300;
    rented_want(rented, LIFE_GOAL_ON);
    cr_assert(COMES_TRUE(company.n_stop > 0 && state() == LIFE_STOPPED));
    cr_assert_str_eq(rented_trouble(rented)->code, "price");
    rented_limit_price(rented, 2400);
    is_there();
    rented_limit_price(rented, 2100);
    passes(60000);
    cr_assert_eq(life_goal(rented_life(rented)), LIFE_GOAL_ON, "whoever uses it was promised more");
    cr_assert_eq(rented_record(rented)->max_price_milli, 2400);
}

Test(rented, is_held_to_the_price_of_its_account_unless_it_is_let_go_once)
{
    make_new("4090D", 0);
    books.record.limits.price_milli = 1500;
    rented_want(rented, LIFE_GOAL_ON);
    cr_assert(COMES_TRUE(company.n_stop > 0 && state() == LIFE_STOPPED));
    cr_assert_str_eq(rented_trouble(rented)->code, "price");
    rented_allow(rented, true, false);
    is_there();
    cr_assert(rented_may_overspend(rented));
    rented_want(rented, LIFE_GOAL_OFF);
    cr_assert(COMES_TRUE(state() == LIFE_STOPPED));
    cr_assert_not(rented_may_overspend(rented), "once");
    session_is(false);
    rented_want(rented, LIFE_GOAL_ON);
    cr_assert(COMES_TRUE(streq(rented_trouble(rented)->code, "price")), "that was once");
}

/* Its price was let go for this time; what is spent counts from that word on. */
Test(rented, is_held_to_the_limits_again_by_a_word_and_to_the_price_by_one_about_that)
{
    make_new("4090D", 0);
    books.record.limits.price_milli = 1500;
    rented_allow(rented, true, false);
    is_there();
    rented_hold_to_limits(rented, true);
    flush();
    cr_assert_not(rented_may_overspend(rented));
    cr_assert_eq(rented_ceiling_milli(rented), 0);
    rented_want(rented, LIFE_GOAL_OFF);
    cr_assert(COMES_TRUE(state() == LIFE_STOPPED));
    cr_assert_eq(rented_ceiling_milli(rented), 1500);
    session_is(false);
    rented_allow(rented, true, false);
    is_there();
    rented_hold_to_limits(rented, false);
    cr_assert_eq(rented_ceiling_milli(rented), 1500);
}
