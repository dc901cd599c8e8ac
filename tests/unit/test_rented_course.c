/* links: lease
 *
 * The half of a lease that costs money, once it is on: what others do to it, what its provider says and
 * leaves out, and its end. */
#include "base/event.h"
#include "tests/unit/rented_world.h"

TestSuite(rented_course, .init = setup, .fini = teardown);

Test(rented_course, what_somebody_else_switched_off_stays_off_and_says_so)
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
Test(rented_course, what_goes_off_by_and_by_is_not_switched_on_again)
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

Test(rented_course, one_that_answers_is_not_gone_whatever_the_list_leaves_out)
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
Test(rented_course, one_that_is_made_anew_has_nothing_of_the_one_before)
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

Test(rented_course, a_word_of_the_provider_that_nobody_knows_cuts_no_session)
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

Test(rented_course, a_refused_token_is_trouble_until_another_one_works)
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

Test(rented_course, a_stop_that_is_not_confirmed_is_told_once_whatever_else_is_wrong)
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

Test(rented_course, a_stop_is_an_alarm_after_the_time_of_the_settings)
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

Test(rented_course, the_way_is_read_again_while_nobody_gets_in)
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

Test(rented_course, a_price_that_changes_while_it_runs_is_read)
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

Test(rented_course, time_that_is_paid_for_has_no_price_that_is_too_high)
{
    make_new("4090D", 2100);
    company.machine.prepaid_until_at_ms = clock_wall_ms() + 3600000;
    company.way.price_milli = 2300;
    is_there();
    cr_assert_eq(state(), LIFE_RUNNING);
    cr_assert_gt(rented_prepaid_until_at_ms(rented), 0);
    cr_assert_eq(books.reading.prepaid_until_at_ms, rented_prepaid_until_at_ms(rented));
}

Test(rented_course, a_disk_that_was_made_larger_elsewhere_is_the_one_it_has)
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

/* One reservation is for all of it: two could have the money of one. */
Test(rented_course, without_its_card_it_reserves_all_of_its_time)
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

Test(rented_course, on_its_way_off_it_costs_what_it_does_without_its_card)
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

Test(rented_course, a_new_daemon_finds_what_the_last_one_asked_for)
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

Test(rented_course, a_new_daemon_counts_the_days_from_the_providers_stop)
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

Test(rented_course, each_of_the_last_days_of_its_data_is_told_once)
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

Test(rented_course, a_new_daemon_knows_which_card_was_tried)
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

Test(rented_course, is_given_back_only_by_an_explicit_word)
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

Test(rented_course, may_go_at_any_point)
{
    for (unsigned steps = 0; steps < 40; steps++) {
        company.exists = has_way = false;
        company.machine = (struct instance_seen){};
        story_until(steps);
    }
    cr_assert_gt(company.n_stop, 0, "the whole story was told once");
}

Test(rented_course, may_go_while_its_reservation_is_on_its_way)
{
    make_new("4090D", 0);
    rented_want(rented, LIFE_GOAL_ON);
    loop_turn(loop, false);
    cr_assert_eq(books.n_reserved, 1);
    rented = rented_free(rented);
    cr_assert_str_eq(books.outcome, "not_asked");
    cr_assert_eq(company.n_create, 0);
}
