/* links: lease
 *
 * The half of a lease that costs money, from the first wish to the confirmed stop: what is written down
 * before a call, which way in is told, what the guard decides, and what ends it. */
#include "base/event.h"
#include "tests/unit/rented_world.h"

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

Test(rented, is_switched_off_again_when_it_can_have_no_guard)
{
    make_new("4090D", 0);
    is_on_its_way();
    session_is(true);
    fault_code(&keeper->fault, FAULT_INVALID, "no_guard", "root disk is full");
    keeper_becomes(KEEPER_USELESS);
    cr_assert_eq(life_goal(rented_life(rented)), LIFE_GOAL_OFF);
    cr_assert(COMES_TRUE(state() == LIFE_STOPPED));
    cr_assert_str_eq(rented_trouble(rented)->code, "no_guard");
    cr_assert_not_null(strstr(rented_trouble(rented)->text, "root disk is full"));
}

Test(rented, is_switched_off_again_when_no_guard_is_read_back)
{
    make_new("4090D", 0);
    is_on_its_way();
    session_is(true);
    passes(60000);
    session_is(false);
    session_is(true);
    cr_assert_eq(state(), LIFE_RUNNING);
    cr_assert(COMES_TRUE(state() == LIFE_STOPPED));
    cr_assert_str_eq(rented_trouble(rented)->code, "no_guard");
}

/* It is said while it is so, and nothing of it is left when it is off. */
Test(rented, one_that_somebody_switched_on_is_not_ended_for_its_guard)
{
    make_new("4090D", 0);
    is_there();
    rented_want(rented, LIFE_GOAL_OFF);
    cr_assert(COMES_TRUE(state() == LIFE_STOPPED));
    session_is(false);
    company.machine.power = INSTANCE_ON;
    cr_assert(COMES_TRUE(state() == LIFE_RUNNING && has_way));
    session_is(true);
    keeper_becomes(KEEPER_USELESS);
    passes(30000);
    cr_assert_eq(state(), LIFE_RUNNING);
    cr_assert_str_eq(rented_trouble(rented)->code, "started_elsewhere");
    company.machine.power = INSTANCE_CHANGING; /* and starts it again */
    cr_assert(COMES_TRUE(state() == LIFE_UNKNOWN));
    company.machine.power = INSTANCE_ON;
    cr_assert(COMES_TRUE(state() == LIFE_RUNNING));
    cr_assert_not(life_record(rented_life(rented))->ours);
    company.machine.power = INSTANCE_OFF;
    cr_assert(COMES_TRUE(state() == LIFE_STOPPED));
    flush();
    cr_assert_eq(rented_trouble(rented)->kind, FAULT_NONE, "%s", rented_trouble(rented)->text);
}

Test(rented, one_that_is_wanted_now_is_no_trouble_for_who_switched_it_on)
{
    make_new("4090D", 0);
    is_there();
    rented_want(rented, LIFE_GOAL_OFF);
    cr_assert(COMES_TRUE(state() == LIFE_STOPPED));
    session_is(false);
    company.machine.power = INSTANCE_ON;
    cr_assert(COMES_TRUE(state() == LIFE_RUNNING && has_way));
    session_is(true);
    cr_assert_str_eq(rented_trouble(rented)->code, "started_elsewhere");
    rented_want(rented, LIFE_GOAL_ON);
    cr_assert_eq(rented_trouble(rented)->kind, FAULT_NONE, "%s", rented_trouble(rented)->text);
    fault_code(&keeper->fault, FAULT_DENIED, "other_owner", "another llmhostd keeps it");
    keeper_becomes(KEEPER_REFUSED);
    cr_assert_str_eq(rented_trouble(rented)->code, "other_owner");
}

Test(rented, stays_on_without_a_guard_when_that_was_allowed_by_name)
{
    make_new("4090D", 0);
    rented_allow(rented, false, true);
    is_on_its_way();
    cr_assert_str_empty(company.start_command);
    session_is(true);
    keeper_becomes(KEEPER_USELESS);
    cr_assert(rented_is_guarded(rented));
    passes(300000);
    cr_assert_eq(state(), LIFE_RUNNING);
    cr_assert_eq(rented_step(rented), RENTED_THERE);
}

/* The reservation and the interval are one call's, also when another daemon sees what came of it. */
Test(rented, a_restart_before_it_is_on_keeps_the_name_of_the_call)
{
    char name[96];

    make_new("4090D", 0);
    company.boots_to = INSTANCE_CHANGING;
    rented_want(rented, LIFE_GOAL_ON);
    cr_assert(COMES_TRUE(state() == LIFE_STARTING));
    snprintf(name, sizeof name, "%s", books.machine);
    books.n_resolved = 0;
    flush();
    starts_again();
    company.machine.power = INSTANCE_ON;
    cr_assert(COMES_TRUE(has_way && state() == LIFE_RUNNING));
    cr_assert_str_eq(books.reading.intent, name);
    cr_assert_eq(books.n_reserved, 1, "nothing was asked for once more");
    cr_assert_eq(company.n_create, 1);
}

Test(rented, what_it_was_let_go_without_is_known_to_the_next_daemon)
{
    make_new("4090D", 0);
    books.record.limits.price_milli = 1500;
    rented_allow(rented, true, true);
    is_on_its_way();
    flush();
    starts_again();
    cr_assert(COMES_TRUE(has_way), "%s", rented_trouble(rented)->text);
    session_is(true);
    keeper_becomes(KEEPER_USELESS);
    passes(300000);
    cr_assert_eq(state(), LIFE_RUNNING, "%s", rented_trouble(rented)->text);
    cr_assert(rented_may_overspend(rented));
    rented_want(rented, LIFE_GOAL_OFF);
    cr_assert(COMES_TRUE(state() == LIFE_STOPPED));
    starts_again();
    cr_assert_not(rented_may_overspend(rented));
    session_is(false);
    books.record.limits.price_milli = 0;
    is_on_its_way();
    cr_assert_not_null(strstr(company.start_command, "llmhost-first"));
}

Test(rented, what_is_allowed_while_it_goes_off_is_for_the_next_time)
{
    make_new("4090D", 0);
    is_there();
    company.ignores_stops = true;
    rented_want(rented, LIFE_GOAL_OFF);
    cr_assert(COMES_TRUE(state() == LIFE_STOPPING));
    rented_allow(rented, true, true);
    rented_want(rented, LIFE_GOAL_ON);
    session_is(false);
    passes(10000);
    cr_assert_eq(state(), LIFE_STOPPING);
    company.ignores_stops = false;
    cr_assert(COMES_TRUE(company.n_start == 1 && has_way));
    cr_assert_str_empty(company.start_command);
    cr_assert(books.last.over);
    session_is(true);
    keeper_becomes(KEEPER_USELESS);
    passes(300000);
    cr_assert_eq(state(), LIFE_RUNNING, "%s", rented_trouble(rented)->text);
}

Test(rented, a_machine_that_another_daemon_keeps_is_used_and_never_stopped)
{
    make_new("4090D", 0);
    is_on_its_way();
    session_is(true);
    fault_code(&keeper->fault, FAULT_DENIED, "other_owner", "another llmhostd keeps it");
    keeper_becomes(KEEPER_REFUSED);
    cr_assert(rented_is_guarded(rented));
    cr_assert_str_eq(rented_trouble(rented)->code, "other_owner");
    session_is(false); /* which makes it no machine of ours */
    rented_want(rented, LIFE_GOAL_OFF);
    session_is(true);
    keeper_becomes(KEEPER_REFUSED);
    rented_want(rented, LIFE_GOAL_OFF);
    passes(10000);
    cr_assert_eq(state(), LIFE_RUNNING);
    cr_assert_eq(life_goal(rented_life(rented)), LIFE_GOAL_OFF);
    cr_assert_eq(company.n_stop, 0);
    rented_take(rented);
    cr_assert_eq(keeper->n_taken, 1);
    keeper_becomes(KEEPER_KEPT);
    rented_want(rented, LIFE_GOAL_OFF);
    cr_assert(COMES_TRUE(state() == LIFE_STOPPED));
}

Test(rented, what_somebody_else_switched_off_stays_off_and_says_so)
{
    make_new("4090D", 0);
    is_there();
    company.machine.power = INSTANCE_OFF;
    cr_assert(COMES_TRUE(state() == LIFE_STOPPED));
    cr_assert_str_eq(rented_trouble(rented)->code, "stopped_elsewhere");
    cr_assert_eq(life_goal(rented_life(rented)), LIFE_GOAL_OFF);
    cr_assert_eq(rented_record(rented)->drilled_at_ms, 0);
    session_is(false);
    is_on_its_way();
    cr_assert_eq(rented_trouble(rented)->kind, FAULT_NONE);
}

/* As every provider tells it: first a word for being on its way off. */
Test(rented, what_goes_off_by_and_by_is_not_switched_on_again)
{
    make_new("4090D", 0);
    is_there();
    company.machine.power = INSTANCE_CHANGING;
    cr_assert(COMES_TRUE(state() == LIFE_UNKNOWN));
    company.machine.power = INSTANCE_OFF;
    cr_assert(COMES_TRUE(state() == LIFE_STOPPED));
    cr_assert_str_eq(rented_trouble(rented)->code, "stopped_elsewhere");
    cr_assert_eq(life_goal(rented_life(rented)), LIFE_GOAL_OFF);
    cr_assert_eq(company.n_start, 0);
}

Test(rented, one_that_answers_is_not_gone_whatever_the_list_leaves_out)
{
    make_new("4090D", 0);
    is_there();
    loop_advance(loop, START_MS + 60000);
    company.exists = false;
    for (int i = 0; i < 10; i++)
        loop_advance(loop, 60000);
    cr_assert_neq(state(), LIFE_ABSENT);
    cr_assert(has_way, "its session is not cut");
    cr_assert_eq(company.n_create, 1);
    session_is(false);
    cr_assert(COMES_TRUE(state() == LIFE_ABSENT), "now nothing of it is left");
    cr_assert_str_eq(rented_trouble(rented)->code, "vanished");
}

/* The one before was paid for to the end of next week, proved and priced; it is gone, and so is all that. */
Test(rented, one_that_is_made_anew_has_nothing_of_the_one_before)
{
    make_new("4090D", 0);
    company.way.price_milli = 2040;
    company.machine.prepaid_until_at_ms = clock_wall_ms() + 7 * 24 * 3600000ll;
    is_there();
    rented_doubt(rented);
    loop_turns(loop, 20);
    cr_assert_gt(rented_record(rented)->prepaid_until_at_ms, 0);
    session_is(false);
    loop_advance(loop, 300000);
    company.exists = false;
    cr_assert(COMES_TRUE(state() == LIFE_ABSENT));
    company.machine.prepaid_until_at_ms = 0;
    rented_want(rented, LIFE_GOAL_ON);
    cr_assert(COMES_TRUE(company.n_create == 2));
    cr_assert_not(books.last.is_free);
    cr_assert_eq(rented_record(rented)->prepaid_until_at_ms, 0);
    cr_assert_eq(rented_record(rented)->stopped_at_ms, 0);
}

Test(rented, a_word_of_the_provider_that_nobody_knows_cuts_no_session)
{
    make_new("4090D", 0);
    is_there();
    company.machine.power = INSTANCE_CHANGING;
    cr_assert(COMES_TRUE(state() == LIFE_UNKNOWN));
    cr_assert(has_way);
    cr_assert_eq(rented_step(rented), RENTED_THERE);
    company.machine.power = INSTANCE_ON;
    cr_assert(COMES_TRUE(state() == LIFE_RUNNING && company.n_reach == 2));
    cr_assert(rented_is_guarded(rented));
    cr_assert_eq(keeper->n_forgotten, 0);

    company.machine.power = INSTANCE_CHANGING;
    cr_assert(COMES_TRUE(state() == LIFE_UNKNOWN));
    session_is(false);
    cr_assert_not(rented_is_guarded(rented), "it may boot again");
    rented_want(rented, LIFE_GOAL_OFF);
    cr_assert(COMES_TRUE(state() != LIFE_UNKNOWN));
    rented_want(rented, LIFE_GOAL_ON);
    company.machine.power = INSTANCE_ON;
    cr_assert(COMES_TRUE(company.n_start == 1));
    cr_assert_eq(keeper->n_forgotten, 1, "first off, then on again: another boot");
}

Test(rented, a_refused_token_is_trouble_until_another_one_works)
{
    make_new("4090D", 0);
    is_there();
    fault_code(&company.blind, FAULT_DENIED, "token_refused", "the token is not valid");
    cr_assert(COMES_TRUE(streq(rented_trouble(rented)->code, "token_refused")));
    cr_assert_eq(state(), LIFE_RUNNING);
    company.blind = (struct fault){};
    rented_doubt(rented);
    loop_turns(loop, 5);
    cr_assert_eq(rented_trouble(rented)->kind, FAULT_NONE);
}

static unsigned n_alarms;

static void on_event(void *ctx, const struct event *e)
{
    (void)ctx;
    n_alarms += streq(e->kind, "stop_not_confirmed");
}

Test(rented, a_stop_that_is_not_confirmed_is_told_once_whatever_else_is_wrong)
{
    struct event_listener listener = {.heard = on_event};
    uint64_t begun_due;

    make_new("4090D", 0);
    is_there();
    event_listen(&listener);
    n_alarms = 0;
    fault_code(&company.blind, FAULT_DENIED, "token_refused", "the token is not valid");
    rented_want(rented, LIFE_GOAL_OFF);
    cr_assert(COMES_TRUE(n_alarms == 1));
    begun_due = clock_now_ms();
    cr_assert(COMES_TRUE(clock_now_ms() - begun_due > 120000));
    event_unlisten(&listener);
    cr_assert_eq(n_alarms, 1);
    cr_assert_eq(state(), LIFE_STOPPING);
}

Test(rented, a_stop_is_an_alarm_after_the_time_of_the_settings)
{
    struct event_listener listener = {.heard = on_event};
    char *why;
    uint64_t begun_due;

    settings_free(settings);
    cr_assert_eq(settings_parse("[guard]\nstop_alarm = 20s\n", "test", &settings, &why), 0);
    make_new("4090D", 0);
    is_there();
    event_listen(&listener);
    n_alarms = 0;
    company.blind = (struct fault){.kind = FAULT_TRANSIENT, .text = "no answer"};
    rented_want(rented, LIFE_GOAL_OFF);
    begun_due = clock_now_ms();
    cr_assert(COMES_TRUE(n_alarms == 1));
    event_unlisten(&listener);
    cr_assert_geq(clock_now_ms() - begun_due, 20000);
    cr_assert_leq(clock_now_ms() - begun_due, 26000, "looked at every 5 s");
    cr_assert_str_eq(rented_trouble(rented)->code, "stop_not_confirmed");
}

static void on_told(void *ctx, const struct fault *f)
{
    *(int *)ctx = f ? -1 : 1;
}

Test(rented, a_guard_that_stops_it_as_told_is_proved)
{
    struct op *op = NULL;
    int told = 0;

    make_new("4090D", 0);
    is_there();
    rented_stop_by_guard(rented, &op, on_told, &told);
    cr_assert_eq(told, 0);
    loop_turns(loop, 3);
    cr_assert_eq(told, 1);
    cr_assert(keeper->is_told_to_stop);
    company.machine.power = INSTANCE_OFF;
    cr_assert(COMES_TRUE(state() == LIFE_STOPPED));
    cr_assert_eq(company.n_stop, 0);
    cr_assert_gt(rented_record(rented)->drilled_at_ms, 0);
    cr_assert_eq(rented_trouble(rented)->kind, FAULT_NONE, "%s", rented_trouble(rented)->text);
}

Test(rented, the_way_is_read_again_while_nobody_gets_in)
{
    make_new("4090D", 0);
    is_there();
    passes(120000);
    cr_assert_eq(company.n_reach, 1);
    session_is(false);
    company.way.port = 40000;
    cr_assert(COMES_TRUE(way.port == 40000));
    cr_assert(rented_is_guarded(rented), "it was read back in this power-on");
    rented_doubt(rented);
    loop_turns(loop, 3);
    cr_assert_geq(company.n_reach, 3);
}

Test(rented, a_price_that_changes_while_it_runs_is_read)
{
    struct rented_figures n;

    make_new("4090D", 0);
    is_there();
    company.way.price_milli += 100;
    passes(599000);
    cr_assert_eq(company.n_reach, 1);
    passes(1000);
    cr_assert_eq(company.n_reach, 2);
    rented_figures(rented, &n);
    cr_assert_eq(n.rate_milli, company.way.price_milli);
    cr_assert_eq(way.port, company.way.port, "it is told to nobody who is in");
}

Test(rented, time_that_is_paid_for_has_no_price_that_is_too_high)
{
    make_new("4090D", 2100);
    company.machine.prepaid_until_at_ms = clock_wall_ms() + 3600000;
    company.way.price_milli = 2300;
    is_there();
    cr_assert_eq(state(), LIFE_RUNNING);
    cr_assert_gt(rented_prepaid_until_at_ms(rented), 0);
    cr_assert_eq(books.reading.prepaid_until_at_ms, rented_prepaid_until_at_ms(rented));
}

Test(rented, a_disk_that_was_made_larger_elsewhere_is_the_one_it_has)
{
    make_new("4090D", 0);
    is_there();
    company.machine.disk_gb = 80;
    rented_doubt(rented);
    cr_assert(COMES_TRUE(rented_record(rented)->disk_gb == 80));
    company.machine.disk_gb = 0; /* not told */
    rented_doubt(rented);
    loop_turns(loop, 20);
    cr_assert_eq(rented_record(rented)->disk_gb, 80u);
}

Test(rented, a_hold_goes_to_the_guard)
{
    make_new("4090D", 0);
    is_there();
    rented_hold(rented, 7200000);
    cr_assert_eq(keeper->hold_s, 7200);
    keeper->context.seq_used(keeper->context.ctx, 77);
    cr_assert_eq(rented_record(rented)->guard_seq, 77);
}

/* On disk before it is answered, for its guard may not have been reached; over with the wish. */
Test(rented, a_hold_outlives_us)
{
    make_new("4090D", 0);
    is_there();
    rented_hold(rented, 7200000);
    flush();
    starts_again();
    cr_assert_eq(rented_record(rented)->hold_until_at_ms / 1000, (clock_wall_ms() + 7200000) / 1000);
    cr_assert_geq(keeper->hold_s, 7190);
    cr_assert_leq(keeper->hold_s, 7200);
    rented_want(rented, LIFE_GOAL_OFF);
    cr_assert(COMES_TRUE(state() == LIFE_STOPPED));
    cr_assert_eq(rented_record(rented)->hold_until_at_ms, 0);
}

/* One reservation is for all of it: two could have the money of one. */
Test(rented, without_its_card_it_reserves_all_of_its_time)
{
    make_new("4090D", 0);
    is_there();
    rented_want(rented, LIFE_GOAL_OFF);
    cr_assert(COMES_TRUE(state() == LIFE_STOPPED));
    session_is(false);
    rented_leave_card(rented, true);
    rented_hold(rented, 7200000);
    books.is_empty = true;
    rented_want(rented, LIFE_GOAL_ON);
    cr_assert(rented_is_reserving(rented));
    cr_assert(COMES_TRUE(state() == LIFE_WAITING));
    cr_assert_not(rented_is_reserving(rented));
    cr_assert_geq(books.last.at_least_ms, 7190000);
    cr_assert_leq(books.last.at_least_ms, 7200000);
    rented_end_wish(rented, rented_trouble(rented));
    cr_assert(COMES_TRUE(state() == LIFE_STOPPED));
    cr_assert_str_eq(rented_trouble(rented)->code, "budget", "nobody else says it");
    books.is_empty = false;
    is_on_its_way();
    cr_assert_eq(rented_trouble(rented)->kind, FAULT_NONE);
    cr_assert_lt(books.last.at_least_ms, 7190000, "with its card it is as usual");
}

Test(rented, on_its_way_off_it_costs_what_it_does_without_its_card)
{
    make_new("4090D", 0);
    is_there();
    rented_want(rented, LIFE_GOAL_OFF);
    cr_assert(COMES_TRUE(state() == LIFE_STOPPED));
    session_is(false);
    rented_leave_card(rented, true);
    rented_hold(rented, 7200000);
    is_on_its_way();
    company.ignores_stops = true;
    rented_want(rented, LIFE_GOAL_OFF);
    cr_assert(COMES_TRUE(state() == LIFE_STOPPING));
    passes(1000);
    cr_assert(rented_is_without_card(rented));
    company.ignores_stops = false;
    cr_assert(COMES_TRUE(state() == LIFE_STOPPED));
    cr_assert_not(rented_is_without_card(rented));
    is_on_its_way();
    company.ignores_stops = true;
    rented_want(rented, LIFE_GOAL_OFF);
    cr_assert(COMES_TRUE(state() == LIFE_STOPPING));
    cr_assert_not(rented_is_without_card(rented), "that was another power-on");
}

Test(rented, a_new_daemon_finds_what_the_last_one_asked_for)
{
    make_new("4090D", 0);
    company.holds = true;
    rented_want(rented, LIFE_GOAL_ON);
    cr_assert(LOOP_UNTIL(loop, company.n_create == 1));
    cr_assert_str_eq(rented_record(rented)->state, "creating");
    company.holds = false; /* it had no answer, and it happened */
    company.exists = true;
    company.machine.power = INSTANCE_ON;
    starts_again();
    cr_assert_eq(rented_record(rented)->made, 1);
    cr_assert(rented_record(rented)->create_open);
    cr_assert(COMES_TRUE(has_way));
    cr_assert_eq(company.n_create, 1, "not a second one");
    cr_assert_str_eq(rented_record(rented)->id, "pro-1");
}

Test(rented, a_new_daemon_counts_the_days_from_the_providers_stop)
{
    struct rented_figures n;
    int64_t days_11_ms = 11 * 24 * 3600000ll;

    make_new("4090D", 0);
    is_there();
    rented_want(rented, LIFE_GOAL_OFF);
    cr_assert(COMES_TRUE(state() == LIFE_STOPPED));
    company.machine.stopped_at_ms -= days_11_ms;
    starts_again();
    cr_assert(COMES_TRUE(state() == LIFE_STOPPED));
    rented_figures(rented, &n);
    cr_assert_eq(n.released_at_ms, company.machine.stopped_at_ms + 15 * 24 * 3600000ll);
    session_is(false);
    company.stamps_late = true;
    is_there();
    rented_want(rented, LIFE_GOAL_OFF);
    cr_assert(COMES_TRUE(state() == LIFE_STOPPED));
    cr_assert_gt(rented_record(rented)->stopped_at_ms, company.machine.stopped_at_ms,
                 "that is of the boot before");
    company.machine.stopped_at_ms = clock_wall_ms() + 1000;
    cr_assert(COMES_TRUE(rented_record(rented)->stopped_at_ms == company.machine.stopped_at_ms));
}

static unsigned n_warnings;
static char last_warning[200];

static void on_warning(void *ctx, const struct event *e)
{
    (void)ctx;
    if (!streq(e->kind, "released_soon"))
        return;
    n_warnings++;
    snprintf(last_warning, sizeof last_warning, "%s", e->text);
}

Test(rented, each_of_the_last_days_of_its_data_is_told_once)
{
    struct event_listener listener = {.heard = on_warning};
    const int64_t hour_ms = 3600000;

    make_new("4090D", 0);
    is_there();
    event_listen(&listener);
    n_warnings = 0;
    rented_want(rented, LIFE_GOAL_OFF);
    cr_assert(COMES_TRUE(state() == LIFE_STOPPED));
    cr_assert_not(rented_is_released_soon(rented));
    cr_assert_eq(n_warnings, 0);
    company.machine.stopped_at_ms -= (10 * 24 + 5) * hour_ms;
    starts_again();
    cr_assert(COMES_TRUE(n_warnings == 1));
    cr_assert(rented_is_released_soon(rented));
    cr_assert(strstr(last_warning, "gives it back with its data in 4d18h unless"), "%s", last_warning);
    for (unsigned i = 0; i < 23; i++) {
        loop_advance(loop, (uint64_t)hour_ms);
        flush();
    }
    cr_assert_eq(n_warnings, 2);
    cr_assert(strstr(last_warning, " 3d"), "%s", last_warning);
    rented_want(rented, LIFE_GOAL_ON);
    cr_assert(COMES_TRUE(state() == LIFE_RUNNING));
    cr_assert_not(rented_is_released_soon(rented));
    event_unlisten(&listener);
}

Test(rented, a_new_daemon_knows_which_card_was_tried)
{
    struct rented_figures n;

    make_new("4090D,5090x2", 0);
    fault_code(&company.refusal, FAULT_EXHAUSTED, "no_capacity", "none is free");
    rented_want(rented, LIFE_GOAL_ON);
    cr_assert(COMES_TRUE(state() == LIFE_WAITING));
    company.holds = true;
    cr_assert(COMES_TRUE(company.n_create == 2));
    company.refusal = (struct fault){};
    company.holds = false;
    company.exists = true;
    company.machine.power = INSTANCE_ON;
    starts_again();
    cr_assert(COMES_TRUE(has_way));
    cr_assert_str_eq(rented_record(rented)->gpu, "5090");
    rented_figures(rented, &n);
    cr_assert_eq(n.list_rate_milli, 6400);
}

Test(rented, is_given_back_only_by_an_explicit_word)
{
    make_new("4090D", 0);
    is_there();
    rented_want(rented, LIFE_GOAL_RELEASE);
    cr_assert(COMES_TRUE(state() == LIFE_RELEASED));
    cr_assert_gt(company.n_release, 0);
    cr_assert_eq(books.n_gone, 1);
    cr_assert_null(rented_record(rented)->id);
}

/* A story of a wish, a machine, a drill and an end, left after so many steps. */
static void story_until(unsigned steps)
{
    struct op *op = NULL;
    int told = 0;
    bool drilled = false;

    make_new("4090D", 0);
    rented_want(rented, LIFE_GOAL_ON);
    for (unsigned i = 0; i < steps; i++) {
        loop_advance(loop, 300);
        if (i % 4 == 3)
            flush();
        if (has_way && !keeper->way)
            session_is(true);
        else if (keeper->way && keeper->state == KEEPER_ASKING)
            keeper_becomes(KEEPER_KEPT);
        else if (rented_is_guarded(rented) && !drilled)
            rented_stop_by_guard(rented, &op, on_told, &told), drilled = true;
        else if (told)
            rented_want(rented, LIFE_GOAL_OFF);
    }
    rented = rented_free(rented);
    loop_turns(loop, 3);
    cr_assert_null(op);
    cr_assert_eq(told != 0, drilled, "who waited was answered");
}

Test(rented, may_go_at_any_point)
{
    for (unsigned steps = 0; steps < 40; steps++) {
        company.exists = has_way = false;
        company.machine = (struct instance_seen){};
        story_until(steps);
    }
    cr_assert_gt(company.n_stop, 0, "the whole story was told once");
}

Test(rented, a_drill_that_nobody_waits_for_any_more)
{
    struct op *op = NULL;
    int told = 0;

    make_new("4090D", 0);
    is_there();
    rented_stop_by_guard(rented, &op, on_told, &told);
    op_cancel(&op);
    cr_assert_null(op);
    rented_stop_by_guard(rented, &op, on_told, &told);
    loop_turns(loop, 3);
    cr_assert_eq(told, 1);
}

Test(rented, may_go_while_its_reservation_is_on_its_way)
{
    make_new("4090D", 0);
    rented_want(rented, LIFE_GOAL_ON);
    loop_turn(loop, false);
    cr_assert_eq(books.n_reserved, 1);
    rented = rented_free(rented);
    cr_assert_str_eq(books.outcome, "not_asked");
    cr_assert_eq(company.n_create, 0);
}
