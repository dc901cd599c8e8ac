/* links: lease
 *
 * The half of a lease that costs money, and its guard: none, one that is another's, one that stops it, and
 * what it is told. */
#include "tests/unit/rented_world.h"

TestSuite(rented_guard, .init = setup, .fini = teardown);

Test(rented_guard, is_switched_off_again_when_it_can_have_no_guard)
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

Test(rented_guard, is_switched_off_again_when_no_guard_is_read_back)
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
Test(rented_guard, one_that_somebody_switched_on_is_not_ended_for_its_guard)
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

Test(rented_guard, one_that_is_wanted_now_is_no_trouble_for_who_switched_it_on)
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

Test(rented_guard, stays_on_without_a_guard_when_that_was_allowed_by_name)
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
Test(rented_guard, a_restart_before_it_is_on_keeps_the_name_of_the_call)
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

Test(rented_guard, what_it_was_let_go_without_is_known_to_the_next_daemon)
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

Test(rented_guard, what_is_allowed_while_it_goes_off_is_for_the_next_time)
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

Test(rented_guard, a_machine_that_another_daemon_keeps_is_used_and_never_stopped)
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

Test(rented_guard, a_guard_that_stops_it_as_told_is_proved)
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

Test(rented_guard, a_hold_goes_to_the_guard)
{
    make_new("4090D", 0);
    is_there();
    rented_hold(rented, 7200000);
    cr_assert_eq(keeper->hold_s, 7200);
    keeper->context.seq_used(keeper->context.ctx, 77);
    cr_assert_eq(rented_record(rented)->guard_seq, 77);
}

/* On disk before it is answered, for its guard may not have been reached; over with the wish. */
Test(rented_guard, a_hold_outlives_us)
{
    make_new("4090D", 0);
    is_there();
    rented_hold(rented, 7200000);
    flush();
    starts_again();
    cr_assert_leq(llabs(rented_record(rented)->hold_until_at_ms - clock_wall_ms() - 7200000), 2000);
    cr_assert_geq(keeper->hold_s, 7190);
    cr_assert_leq(keeper->hold_s, 7200);
    rented_hold(rented, 0);
    flush();
    starts_again();
    cr_assert_eq(rented_record(rented)->hold_until_at_ms, RENTAL_HOLD_OVER);
    cr_assert_eq(keeper->hold_s, 0);
    cr_assert(keeper->is_held, "and it is told so");
    rented_want(rented, LIFE_GOAL_OFF);
    cr_assert(COMES_TRUE(state() == LIFE_STOPPED));
    cr_assert_eq(rented_record(rented)->hold_until_at_ms, 0);
}

Test(rented_guard, a_drill_that_nobody_waits_for_any_more)
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
