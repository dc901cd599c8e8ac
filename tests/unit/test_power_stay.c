/* links: deployment
 *
 * What keeps a rented machine on: people, what is prepaid, use of other kinds; also after a restart of the
 * daemon. */
#include "tests/unit/power_world.h"

TestSuite(power_stay, .init = begin, .fini = end);

Test(power_stay, kept_it_stays_on_while_its_models_sleep)
{
    comes_up();
    manager_keep_instance(&w.manager, the_lease(), clock_wall_ms() + 60 * MIN_MS);
    cr_assert_eq(w.hold_ms, 60 * MIN_MS);
    w.models[0].falls = true;
    passes(59);
    cr_assert_eq(w.goal, LIFE_GOAL_ON);
    passes(1);
    cr_assert_eq(w.goal, LIFE_GOAL_OFF);
}

/* Somebody may look at what failed; nobody pays for hours of it. */
Test(power_stay, kept_models_that_failed_keep_nothing_on)
{
    comes_up();
    w.models[0].goal = GOAL_ON;
    w.models[0].figures.keep_until_at_ms = clock_wall_ms() + 60 * MIN_MS;
    passes(10);
    w.models[0].state = DEPLOYMENT_FAILED;
    w.models[0].figures.since_due = w.now;
    changed();
    passes(4);
    cr_assert_eq(w.goal, LIFE_GOAL_ON);
    passes(2);
    cr_assert_eq(w.goal, LIFE_GOAL_OFF);
}

Test(power_stay, no_longer_kept)
{
    comes_up();
    manager_keep_instance(&w.manager, the_lease(), clock_wall_ms() + 600 * MIN_MS);
    passes(100);
    manager_keep_instance(&w.manager, the_lease(), 0);
    cr_assert_eq(w.hold_ms, 0);
    passes(0);
    cr_assert_eq(w.goal, LIFE_GOAL_OFF);
}

Test(power_stay, no_longer_kept_though_its_guard_has_not_heard_of_it)
{
    comes_up();
    manager_keep_instance(&w.manager, the_lease(), clock_wall_ms() + 600 * MIN_MS);
    w.guard.hold_until_at_ms = clock_wall_ms() + 600 * MIN_MS;
    passes(100);
    cr_assert_eq(w.goal, LIFE_GOAL_ON);
    manager_keep_instance(&w.manager, the_lease(), 0);
    cr_assert_eq(w.goal, LIFE_GOAL_OFF, "at once: who waits for the end of it looks now");
}

/* Of several keeps the machine is paid for once, up to the last end. */
Test(power_stay, a_keep_reserves_what_the_machine_costs_until_all_are_over)
{
    struct op *slot = NULL;

    comes_up();
    manager_reserve_keep(&w.manager, the_lease(), NULL, clock_wall_ms() + 60 * MIN_MS, &slot, NULL, NULL);
    cr_assert(w.keep.for_ms == 60 * MIN_MS && w.keep.rate_milli == 1880);
    w.rate_milli = 1980;
    w.models[0].figures.keep_until_at_ms = clock_wall_ms() + 90 * MIN_MS;
    manager_reserve_keep(&w.manager, the_lease(), NULL, clock_wall_ms() + 60 * MIN_MS, &slot, NULL, NULL);
    cr_assert(w.keep.for_ms == 90 * MIN_MS && w.keep.rate_milli == 1980);
    manager_reserve_keep(&w.manager, the_lease(), w.nodes[0].deployment, clock_wall_ms() + 60 * MIN_MS, &slot,
                         NULL, NULL);
    cr_assert_eq(w.keep.for_ms, 60 * MIN_MS, "in place of the model's own");
}

Test(power_stay, the_money_of_a_keep_is_given_back_when_it_is_over)
{
    struct op *slot = NULL;

    comes_up();
    unsigned n = w.n_released;

    manager_reserve_keep(&w.manager, the_lease(), NULL, clock_wall_ms() + 60 * MIN_MS, &slot, NULL, NULL);
    w.is_reserving = true;
    changed();
    cr_assert_eq(w.n_released, n, "it is not told yet");
    w.is_reserving = false;
    manager_keep_instance(&w.manager, the_lease(), clock_wall_ms() + 60 * MIN_MS);
    passes(59);
    cr_assert_eq(w.n_released, n);
    passes(2);
    cr_assert_eq(w.n_released, n + 1);
}

Test(power_stay, the_money_of_a_keep_that_was_not_granted_is_given_back)
{
    struct op *slot = NULL;

    comes_up();
    unsigned n = w.n_released;

    manager_reserve_keep(&w.manager, the_lease(), NULL, clock_wall_ms() + 60 * MIN_MS, &slot, NULL, NULL);
    changed();
    cr_assert_eq(w.n_released, n + 1);
    changed();
    cr_assert_eq(w.n_released, n + 1, "once");
}

Test(power_stay, what_is_prepaid_is_not_stopped_for_idling_nor_for_money_until_that_is_over)
{
    comes_up();
    w.record.prepaid_until_at_ms = clock_wall_ms() + 10 * 60 * MIN_MS;
    w.must_stop = true;
    passes(9 * 60);
    cr_assert_eq(w.goal, LIFE_GOAL_ON);
    w.must_stop = false;
    passes(60 + 3);
    cr_assert_eq(w.goal, LIFE_GOAL_OFF);
}

Test(power_stay, bytes_of_a_forward_are_use)
{
    comes_up();
    for (unsigned i = 0; i < 30; i++) {
        w.bytes++;
        passes(1);
    }
    cr_assert_eq(w.goal, LIFE_GOAL_ON);
    passes(16);
    cr_assert_eq(w.goal, LIFE_GOAL_OFF);
}

Test(power_stay, login_that_is_typed_into_is_use)
{
    char text[QUIET_TEXT_MAX];

    comes_up();
    for (unsigned i = 0; i < 30; i++) {
        passes(1);
        w.guard.typed_due = w.now - 20 * 1000; /* as it was read */
    }
    cr_assert_eq(w.goal, LIFE_GOAL_ON);
    cr_assert_eq(w.lease.power->stay.reason, STAY_QUIET_USE);
    passes(3);
    cr_assert_str_eq(manager_quiet_text(&w.manager, the_lease(), text), "a login was typed into 3m20s ago");
    w.bytes++;
    passes(1);
    cr_assert_str_eq(manager_quiet_text(&w.manager, the_lease(), text),
                     "a login was typed into 4m20s ago, a forward was used 0s ago");
    passes(16);
    cr_assert_eq(w.goal, LIFE_GOAL_OFF);
}

/* What was asked of its cards is answered. */
static void cards_compute(int percent)
{
    cr_assert_not_null(w.lease.power->gpu_look);
    op_end(&w.gpu_op);
    w.gpu_done(w.gpu_ctx, percent, "it hangs");
}

static void minutes_of_computing(unsigned n, int percent)
{
    for (unsigned i = 0; i < n; i++) {
        passes(1);
        cards_compute(percent);
    }
}

Test(power_stay, cards_that_compute_are_use_where_that_is_asked_for)
{
    char text[QUIET_TEXT_MAX];

    w.gpu_use = 5;
    comes_up();
    minutes_of_computing(40, 37);
    cr_assert_eq(w.goal, LIFE_GOAL_ON);
    cr_assert_eq(w.lease.power->stay.reason, STAY_QUIET_USE);
    minutes_of_computing(3, 5); /* no more than that is no use */
    cr_assert_str_eq(manager_quiet_text(&w.manager, the_lease(), text), "its card computed (37%) 3m00s ago");
    minutes_of_computing(12, 0);
    cr_assert_eq(w.goal, LIFE_GOAL_OFF);
    cr_assert_leq(w.n_looks, 60u, "once a minute");
}

Test(power_stay, cards_that_compute_keep_it_on_for_quiet_hold_at_most)
{
    w.gpu_use = 5;
    comes_up();
    minutes_of_computing(118, 100);
    cr_assert_eq(w.goal, LIFE_GOAL_ON);
    for (unsigned i = 0; i < 4 && w.goal == LIFE_GOAL_ON; i++)
        minutes_of_computing(1, 100);
    cr_assert_eq(w.goal, LIFE_GOAL_OFF);
}

Test(power_stay, what_cards_do_not_tell_keeps_nothing_on)
{
    w.gpu_use = 5;
    comes_up();
    minutes_of_computing(14, GPU_USE_UNKNOWN);
    cr_assert_eq(w.goal, LIFE_GOAL_ON);
    cr_assert_eq(w.n_lines, 1u, "said once");
    passes(2);
    cr_assert_eq(w.goal, LIFE_GOAL_OFF);
}

Test(power_stay, cards_are_asked_once_at_a_time_and_no_longer_than_it_is_there)
{
    w.gpu_use = 5;
    comes_up();
    passes(5);
    cr_assert_eq(w.n_looks, 1u, "it hangs");
    w.reachable = false;
    powers_lease_changed(&w.manager, the_lease());
    cr_assert_eq(w.n_looks_given_up, 1u);
    passes(2);
    cr_assert_eq(w.n_looks, 1u);
    w.reachable = true;
    powers_lease_changed(&w.manager, the_lease());
    cr_assert_eq(w.n_looks, 2u);
    op_cancel(&w.lease.power->gpu_look);
}

Test(power_stay, cards_are_not_asked_unless_somebody_wants_that)
{
    comes_up();
    passes(10);
    cr_assert_eq(w.n_looks, 0u);
}

Test(power_stay, cards_of_a_machine_that_is_not_ours_to_end_are_not_asked)
{
    w.gpu_use = 5;
    w.is_anothers = true;
    comes_up();
    passes(10);
    cr_assert_eq(w.n_looks, 0u);
}

Test(power_stay, login_that_is_only_open_is_no_use)
{
    comes_up();
    w.guard.typed_due = w.now;
    passes(14);
    cr_assert_eq(w.goal, LIFE_GOAL_ON);
    passes(3);
    cr_assert_eq(w.goal, LIFE_GOAL_OFF);
}

Test(power_stay, typing_holds_a_machine_for_two_hours_at_most)
{
    comes_up();
    for (unsigned i = 0; i < 119; i++) {
        w.guard.typed_due = w.now;
        passes(1);
    }
    cr_assert_eq(w.goal, LIFE_GOAL_ON);
    for (unsigned i = 0; i < 5; i++) {
        w.guard.typed_due = w.now;
        passes(1);
    }
    cr_assert_eq(w.goal, LIFE_GOAL_OFF);
}

Test(power_stay, a_restart_beside_a_machine_that_is_off_wakes_nobody)
{
    power_free(w.lease.power);
    w.models[0].goal = GOAL_ON_DEMAND;
    w.models[0].state = DEPLOYMENT_OFF; /* as it is restored */
    daemon_begins(LIFE_UNKNOWN, LIFE_GOAL_OFF);
    cr_assert_eq(w.models[0].state, DEPLOYMENT_ASLEEP);
    changed();
    cr_assert_eq(w.n_wants, 0);
    goes_up(0, true);
    cr_assert_eq(w.goal, LIFE_GOAL_ON, "but a request does");
}

Test(power_stay, a_restart_beside_one_that_runs_goes_on)
{
    power_free(w.lease.power);
    daemon_begins(LIFE_UNKNOWN, LIFE_GOAL_ON);
    goes_up(0, false);
    machine_is(LIFE_RUNNING);
    is_ready(0);
    passes(10);
    cr_assert_eq(w.n_wants, 0);
    passes(10);
    cr_assert_eq(w.goal, LIFE_GOAL_OFF);
}

/* The word comes before the first list: none is made behind it. */
Test(power_stay, a_restart_in_a_search_that_nobody_wants_any_more_ends_it_at_once)
{
    power_free(w.lease.power);
    w.is_none = true;
    daemon_begins(LIFE_UNKNOWN, LIFE_GOAL_ON);
    w.models[0].goal = GOAL_ON_DEMAND;
    w.models[0].state = DEPLOYMENT_OFF; /* as it is restored */
    changed();
    cr_assert_eq(w.goal, LIFE_GOAL_ON, "it is wanted");
    w.models[0].goal = GOAL_OFF;
    w.models[0].state = DEPLOYMENT_DRAINING;
    changed();
    cr_assert_eq(w.goal, LIFE_GOAL_OFF);
}

/* Kept for ever, it ends 12 h after the last word, however many daemons there were since. */
/* The call that a daemon before this one made may still act. Were it wanted until that is settled, the next
 * one would be made then. */
Test(power_stay, down_after_a_restart_behind_an_unsure_call_wants_no_other_one)
{
    power_free(w.lease.power);
    w.is_unsure = true;
    daemon_begins(LIFE_UNKNOWN, LIFE_GOAL_ON);
    w.models[0].goal = GOAL_ON_DEMAND;
    w.models[0].state = DEPLOYMENT_CONNECTING;
    changed();
    cr_assert_eq(w.goal, LIFE_GOAL_ON, "it is wanted");
    w.models[0].goal = GOAL_OFF;
    w.models[0].state = DEPLOYMENT_STOPPING; /* whatever may run there */
    changed();
    cr_assert_eq(w.goal, LIFE_GOAL_OFF);
}

Test(power_stay, max_up_counts_on_over_restarts)
{
    comes_up();
    w.models[0].goal = GOAL_ON;
    passes(400);
    cr_assert_geq(w.n_used, 1);
    cr_assert_leq(w.n_used, 2, "a use is written down once");
    for (int i = 0; i < 2; i++) {
        power_free(w.lease.power);
        w.models[0].figures = (struct deployment_figures){};
        daemon_begins(LIFE_UNKNOWN, LIFE_GOAL_ON);
        machine_is(LIFE_RUNNING);
        is_ready(0);
        passes(100);
        cr_assert_eq(w.goal, LIFE_GOAL_ON);
    }
    passes(119);
    cr_assert_eq(w.goal, LIFE_GOAL_ON);
    passes(4);
    cr_assert_eq(w.goal, LIFE_GOAL_OFF);
    machine_is(LIFE_STOPPED);
    cr_assert_eq(w.record.used_at_ms, 0, "what was is nothing to the next one");
}

Test(power_stay, a_request_after_a_restart_begins_max_up_anew)
{
    comes_up();
    w.models[0].goal = GOAL_ON;
    passes(600);
    power_free(w.lease.power);
    w.models[0].figures = (struct deployment_figures){};
    daemon_begins(LIFE_UNKNOWN, LIFE_GOAL_ON);
    machine_is(LIFE_RUNNING);
    is_ready(0);
    passes(60);
    w.models[0].figures.used_due = w.models[0].figures.asked_due = w.now;
    passes(700);
    cr_assert_eq(w.goal, LIFE_GOAL_ON);
    passes(30);
    cr_assert_eq(w.goal, LIFE_GOAL_OFF);
}

Test(power_stay, a_restart_believes_the_guard_about_a_hold)
{
    power_free(w.lease.power);
    w.models[0] = (struct model){.goal = GOAL_ON_DEMAND, .state = DEPLOYMENT_ASLEEP, .by_word = true};
    daemon_begins(LIFE_UNKNOWN, LIFE_GOAL_ON);
    machine_is(LIFE_RUNNING);
    cr_assert_eq(w.goal, LIFE_GOAL_ON, "the guard was not read yet");
    w.guard.read_at_ms = clock_wall_ms();
    w.guard.hold_until_at_ms = clock_wall_ms() + 30 * MIN_MS;
    passes(29);
    cr_assert_eq(w.goal, LIFE_GOAL_ON);
    passes(1);
    cr_assert_eq(w.goal, LIFE_GOAL_OFF);
}

/* Killed before the guard heard of it: what it says is what we took back. */
Test(power_stay, a_restart_believes_ourselves_about_the_end_of_a_hold)
{
    w.models[0] = (struct model){.goal = GOAL_ON_DEMAND, .state = DEPLOYMENT_ASLEEP, .by_word = true};
    machine_is(LIFE_RUNNING);
    manager_keep_instance(&w.manager, the_lease(), clock_wall_ms() + 30 * MIN_MS);
    manager_keep_instance(&w.manager, the_lease(), 0);
    power_free(w.lease.power);
    daemon_begins(LIFE_UNKNOWN, LIFE_GOAL_ON);
    machine_is(LIFE_RUNNING);
    w.guard.read_at_ms = clock_wall_ms();
    w.guard.hold_until_at_ms = clock_wall_ms() + 30 * MIN_MS;
    passes(2);
    cr_assert_eq(w.goal, LIFE_GOAL_OFF);
}

Test(power_stay, a_restart_does_not_wait_for_a_guard_for_ever)
{
    power_free(w.lease.power);
    daemon_begins(LIFE_UNKNOWN, LIFE_GOAL_ON);
    machine_is(LIFE_RUNNING);
    passes(2);
    cr_assert_eq(w.goal, LIFE_GOAL_OFF, "nothing on it is wanted");
}
