/* links: deployment
 *
 * A model on a machine that is rented: what it is waited for shows in its stages, and what becomes of it when
 * the machine goes off. */
#pragma GCC diagnostic ignored "-Wunused-function" /* not each test needs each part of the world */
#include "tests/unit/deployment_world.h"

static void begin_rented(void)
{
    begin();
    rent = (struct rented_world){.there = true, .keeper = KEEPER_ASKING};
    w.way = false;
}

static void end_rented(void)
{
    end();
    rent = (struct rented_world){};
}

TestSuite(deployment_rented, .init = begin_rented, .fini = end_rented);

static void machine_is(enum rented_step step)
{
    rent.step = step;
    way_changes(step == RENTED_THERE, false);
    if (w.d)
        deployment_look(w.d);
}

static void expect_stage(enum stage s, enum stage_state state, const char *text)
{
    struct stage_view v;

    deployment_stage(w.d, s, &v);
    cr_expect_eq(v.state, state, "%s: %s", stage_name(s), stage_state_name(v.state));
    cr_expect_str_eq(v.text, text);
}

static void come_up(void)
{
    rent.figures.was_powered = true;
    want(true);
    machine_is(RENTED_POWER_ON);
    rent.keeper = KEEPER_KEPT;
    machine_is(RENTED_THERE);
    run_until(w.now + 60000);
    cr_assert_eq(w.d->state, READY);
}

Test(deployment_rented, each_step_of_its_machine_is_a_stage)
{
    hunt_read(&rent.hunt, "5090x2", 1, "west");
    fault_code(&rent.trouble, FAULT_EXHAUSTED, "no_capacity", "no card is free");
    rent.figures =
        (struct rented_figures){.state = LIFE_WAITING, .tries = 3, .next_at_ms = clock_wall_ms() + 28000};
    want(true);
    machine_is(RENTED_CAPACITY);
    expect_stage(STAGE_CAPACITY, STAGE_RUNNING, "none free, try 3");
    expect_stage(STAGE_POWER_ON, STAGE_AHEAD, "");
    rent.figures.tries = 4;
    machine_is(RENTED_CAPACITY);
    expect_stage(STAGE_CAPACITY, STAGE_RUNNING, "none free, try 4");

    struct stage_view before, v;

    deployment_stage(w.d, STAGE_CAPACITY, &before);
    rent.figures.next_at_ms += 30000; /* all else is the same */
    machine_is(RENTED_CAPACITY);
    deployment_stage(w.d, STAGE_CAPACITY, &v);
    cr_assert(v.next_at_ms == rent.figures.next_at_ms && v.changes == before.changes + 1);
    rent.figures = (struct rented_figures){.state = LIFE_CREATING, .asks = true};
    machine_is(RENTED_CAPACITY);
    expect_stage(STAGE_CAPACITY, STAGE_RUNNING, "asks for 5090x2 in west");
    run_until(w.now + 90000);
    rent.figures = (struct rented_figures){.state = LIFE_STARTING, .was_powered = true};
    machine_is(RENTED_POWER_ON);
    expect_stage(STAGE_CAPACITY, STAGE_DONE, "4090D in west, ¥1.98/h~");
    expect_stage(STAGE_POWER_ON, STAGE_RUNNING, "4090D in west, ¥1.98/h~");
    machine_is(RENTED_SSH);
    expect_stage(STAGE_POWER_ON, STAGE_DONE, "running, first guard 30m");
    expect_stage(STAGE_SSH, STAGE_RUNNING, "");
    machine_is(RENTED_GUARD);
    expect_stage(STAGE_SSH, STAGE_DONE, "gpu1.example:22");
    rent.keeper = KEEPER_KEPT;
    machine_is(RENTED_THERE);
    expect_stage(STAGE_GUARD, STAGE_DONE, "lease 15m, read back");
    expect_stage(STAGE_ENGINE, STAGE_RUNNING, "");

    deployment_stage(w.d, STAGE_CAPACITY, &v);
    cr_assert_eq(v.took_ms, 90000);
    run_until(w.now + 60000);
    cr_assert_eq(w.d->state, READY);
}

/* Its boot failed: the card is asked for anew, and what was told of its way is not true any more. */
Test(deployment_rented, a_search_that_begins_anew_is_its_stage_again)
{
    want(true);
    machine_is(RENTED_SSH);
    expect_stage(STAGE_POWER_ON, STAGE_DONE, "running already");
    fault_code(&rent.trouble, FAULT_EXHAUSTED, "host_full", "others have its card");
    rent.figures = (struct rented_figures){.state = LIFE_WAITING, .tries = 2};
    machine_is(RENTED_CAPACITY);
    expect_stage(STAGE_CAPACITY, STAGE_RUNNING, "none free, try 2");
    expect_stage(STAGE_POWER_ON, STAGE_AHEAD, "");
    expect_stage(STAGE_SSH, STAGE_AHEAD, "");
}

/* What was said of one of several is not why the others are waited for. */
Test(deployment_rented, one_of_several_that_is_refused_is_no_reason_to_wait)
{
    hunt_read(&rent.hunt, "4090D,5090x8", 1, NULL);
    fault_code(&rent.trouble, FAULT_INVALID, "bad_parameter", "AutoDL does not accept the request");
    rent.figures = (struct rented_figures){.state = LIFE_WAITING, .tries = 2};
    rent.hunt.all[1].out = HUNT_REFUSED;
    want(true);
    machine_is(RENTED_CAPACITY);
    expect_stage(STAGE_CAPACITY, STAGE_RUNNING, "none free, try 2");
    rent.hunt.all[0].out = HUNT_REFUSED;
    machine_is(RENTED_CAPACITY);
    expect_stage(STAGE_CAPACITY, STAGE_RUNNING, "AutoDL does not accept the request, try 2");
}

Test(deployment_rented, money_is_what_it_waits_for)
{
    fault_code(&rent.trouble, FAULT_EXHAUSTED, "budget", "1.20 of the day's 30.00 are left");
    rent.figures = (struct rented_figures){.state = LIFE_WAITING, .tries = 1};
    want(true);
    machine_is(RENTED_CAPACITY);
    expect_stage(STAGE_CAPACITY, STAGE_RUNNING, "1.20 of the day's 30.00 are left, try 1");
}

Test(deployment_rented, let_go_without_a_guard_it_is_said)
{
    rent.keeper = KEEPER_USELESS;
    want(true);
    machine_is(RENTED_THERE);
    expect_stage(STAGE_POWER_ON, STAGE_DONE, "running already");
    expect_stage(STAGE_GUARD, STAGE_DONE, "none: nothing stops this machine but this llmhostd");
}

/* Each state of one that is wanted leads to asleep, with the reason; and nothing is believed to run over
 * there. */
Test(deployment_rented, its_machine_is_off)
{
    come_up();
    request_begins();
    machine_is(RENTED_AT_REST);
    deployment_machine_is_off(w.d, "gpu1 was switched off elsewhere");
    run_until(w.now + 1000);
    cr_assert_eq(w.d->state, ASLEEP);
    cr_assert_str_eq(deployment_room_text(w.d), "gpu1 was switched off elsewhere");
    cr_assert_not(deployment_may_run(w.d));
    cr_assert_not(w.records[w.n_records - 1].touched);
    request_ends();
    deployment_want(w.d, GOAL_OFF, false);
    run_until(w.now + 1000);
    cr_assert_eq(w.d->state, OFF, "there is nothing to stop");
}

Test(deployment_rented, it_was_kept_and_its_machine_is_off)
{
    struct deployment_figures n;

    come_up();
    deployment_keep(w.d, clock_wall_ms() + 3600000);
    deployment_machine_is_off(w.d, "gpu1 was switched off elsewhere");
    run_until(w.now + 1000);
    deployment_figures(w.d, &n);
    cr_assert(w.d->state == ASLEEP && w.d->goal == GOAL_ON_DEMAND && n.keep_until_at_ms == 0);
}

Test(deployment_rented, what_it_slept_for_is_not_told_anew)
{
    come_up();
    w.stuck = true;
    deployment_sleep(w.d, false, "idle for 5m");
    run_until(w.now + 100);
    cr_assert_eq(w.d->state, STOPPING);
    deployment_machine_is_off(w.d, "gpu1 is off");
    cr_assert_eq(w.d->state, ASLEEP);
    cr_assert_str_eq(deployment_room_text(w.d), "idle for 5m");
    w.stuck = false;
}

Test(deployment_rented, down_needs_no_machine_that_is_off)
{
    come_up();
    machine_is(RENTED_SSH);
    deployment_want(w.d, GOAL_OFF, true);
    run_until(w.now + 60000);
    cr_assert_eq(w.d->state, STOPPING, "the way is away");
    deployment_machine_is_off(w.d, "gpu1 is off");
    cr_assert_eq(w.d->state, OFF);
}

Test(deployment_rented, who_waits_gets_one_wake)
{
    struct deployment_figures n;

    come_up();
    machine_is(RENTED_SSH);
    deployment_sleep(w.d, true, "gpu1 goes off");
    deployment_hold(w.d, &w.holders[0].op, on_hold_over, &w.holders[0]);
    deployment_machine_is_off(w.d, "gpu1 is off");
    run_until(w.now + 10);
    cr_assert_eq(w.d->state, CONNECTING);
    deployment_figures(w.d, &n);
    cr_assert(n.by_request);
    want(true);
    deployment_figures(w.d, &n);
    cr_assert_not(n.by_request, "now it is a word");
}

Test(deployment_rented, it_gives_up_with_the_reason_of_its_machine)
{
    struct fault f;

    fault_code(&f, FAULT_TRANSIENT, "boot_failed", "it went off again by itself, three times");
    want(true);
    machine_is(RENTED_POWER_ON);
    deployment_hold(w.d, &w.holders[0].op, on_hold_over, &w.holders[0]);
    deployment_give_up(w.d, &f);
    run_until(w.now + 10);
    cr_assert_eq(w.d->state, FAILED);
    cr_assert_str_eq(w.holders[0].fault.code, "boot_failed");
    expect_stage(STAGE_POWER_ON, STAGE_FAILED, "");
    machine_is(RENTED_THERE);
    cr_assert_eq(w.d->state, FAILED, "not by a machine that somebody else switched on");
    want(true);
    run_until(w.now + 60000);
    cr_assert_eq(w.d->state, READY);
}

Test(deployment_rented, a_price_that_is_too_high_is_no_fault_of_the_way_in)
{
    struct fault f;

    fault_code(&f, FAULT_DENIED, "price", "it costs 2.90 an hour, and at most 2.80 was allowed");
    rent.figures.was_powered = true;
    want(true);
    machine_is(RENTED_POWER_ON);
    machine_is(RENTED_SSH);
    deployment_give_up(w.d, &f);
    cr_assert_eq(w.d->state, FAILED);
    expect_stage(STAGE_CAPACITY, STAGE_DONE, "4090D in west, ¥1.98/h~");
    expect_stage(STAGE_POWER_ON, STAGE_FAILED, "too dear");
    expect_stage(STAGE_SSH, STAGE_AHEAD, "");
}

/* Somebody waited for all of it; the next time no card is looked for. */
Test(deployment_rented, a_search_is_no_part_of_how_long_it_usually_takes)
{
    struct deployment_figures n;

    rent.figures = (struct rented_figures){.state = LIFE_WAITING, .tries = 3};
    want(true);
    machine_is(RENTED_CAPACITY);
    run_until(w.now + 600000);
    come_up();
    deployment_figures(w.d, &n);
    cr_assert_geq(n.took_ms, 600000);
    cr_assert_geq(w.duration.ms, 1);
    cr_assert_leq(w.duration.ms, n.took_ms - 600000);
}

Test(deployment_rented, the_way_that_failed_is_no_part_of_the_next_one)
{
    struct deployment_figures n;
    struct fault f;

    fault_code(&f, FAULT_EXHAUSTED, "no_capacity", "no card was free");
    want(true);
    machine_is(RENTED_CAPACITY);
    run_until(w.now + 600000);
    deployment_give_up(w.d, &f);
    run_until(w.now + 600000);
    cr_assert_eq(w.d->state, FAILED);
    uint64_t begun = w.now;

    come_up();
    deployment_figures(w.d, &n);
    cr_assert_geq(n.took_ms, 1);
    cr_assert_leq(n.took_ms, w.now - begun);
    cr_assert_leq(w.duration.ms, n.took_ms);
}

Test(deployment_rented, off_by_a_limit_says_so_also_after_a_restart)
{
    struct fault f, told;

    come_up();
    fault_code(&f, FAULT_EXHAUSTED, "budget", "the day's 30.00 are spent");
    cr_assert_gt(deployment_end(w.d, &f, false), 0u);
    run_until(w.now + 1000);
    cr_assert_eq(w.d->state, OFF);
    deployment_describe_off(w.d, &told);
    cr_assert_str_eq(told.code, "budget");
    cr_assert(strstr(told.text, "the day's 30.00 are spent"), "%s", told.text);
    w.n_durable = w.n_records;
    daemon_ends();
    daemon_starts();
    deployment_describe_off(w.d, &told);
    cr_assert_str_eq(told.code, "budget");
    want(true);
    deployment_want(w.d, GOAL_OFF, false);
    deployment_describe_off(w.d, &told);
    cr_assert_str_eq(told.code, "stopped_by_user");
}

Test(deployment_rented, sleep_by_a_word_or_by_itself)
{
    come_up();
    deployment_sleep(w.d, false, "idle for 5m");
    cr_assert_not(deployment_sleeps_by_word(w.d));
    run_until(w.now + 1000);
    come_up();
    deployment_sleep(w.d, false, DEPLOYMENT_SLEEP_WORD);
    cr_assert(deployment_sleeps_by_word(w.d));
    run_until(w.now + 1000);
    cr_assert_eq(w.d->state, ASLEEP);
    cr_assert(deployment_sleeps_by_word(w.d));
}

Test(deployment_rented, a_word_counts_also_where_it_sleeps_by_itself)
{
    come_up();
    deployment_sleep(w.d, false, "idle for 5m");
    deployment_sleep(w.d, false, DEPLOYMENT_SLEEP_WORD); /* on its way */
    cr_assert(deployment_sleeps_by_word(w.d));
    run_until(w.now + 1000);
    cr_assert_eq(w.d->state, ASLEEP);
    cr_assert(deployment_sleeps_by_word(w.d));
    come_up();
    deployment_sleep(w.d, false, "idle for 5m");
    run_until(w.now + 1000);
    cr_assert_eq(w.d->state, ASLEEP);
    cr_assert_not(deployment_sleeps_by_word(w.d));
    deployment_sleep(w.d, false, DEPLOYMENT_SLEEP_WORD);
    cr_assert(deployment_sleeps_by_word(w.d));
}

Test(deployment_rented, a_restart_beside_a_machine_that_is_off_wakes_nobody)
{
    come_up();
    w.n_durable = w.n_records;
    daemon_ends();
    machine_is(RENTED_AT_REST);
    daemon_starts();
    deployment_machine_is_off(w.d, "gpu1 is off");
    run_until(w.now + 1000);
    cr_assert_eq(w.d->state, ASLEEP);
}

Test(deployment_rented, why_its_machine_went_off_last_time_refuses_nobody)
{
    rent.step = RENTED_AT_REST;
    w.refused = true;
    want(true);
    cr_assert_eq(w.n_renewed, 0);
    deployment_look(w.d);
    run_until(w.now + 1000);
    cr_assert_eq(w.d->state, CONNECTING);
    rent.step = RENTED_SSH;
    deployment_look(w.d);
    cr_assert_eq(w.d->state, FAILED);
}
