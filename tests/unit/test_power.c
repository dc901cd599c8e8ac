/* links: deployment
 *
 * When a rented machine is switched on and off: by its models, by others, for want of money or of a card. */
#include "tests/unit/power_world.h"

TestSuite(power, .init = begin, .fini = end);

Test(power, a_model_that_is_wanted_switches_it_on_once)
{
    goes_up(0, false);
    changed();
    goes_up(1, true);
    cr_assert_eq(w.goal, LIFE_GOAL_ON);
    cr_assert_eq(w.n_wants, 1);
    machine_is(LIFE_STARTING);
    passes(3);
    cr_assert(w.goal == LIFE_GOAL_ON && w.runs);
}

Test(power, idle_for_15m_it_goes_off)
{
    comes_up();
    passes(14);
    cr_assert_eq(w.goal, LIFE_GOAL_ON);
    passes(1);
    cr_assert_eq(w.goal, LIFE_GOAL_OFF);
    cr_assert_eq(w.models[0].state, DEPLOYMENT_ASLEEP);
    machine_is(LIFE_STOPPED);
    passes(60);
    cr_assert(w.n_wants == 2 && !w.runs && !w.timer_due);
}

Test(power, a_request_in_between_begins_the_time_anew)
{
    comes_up();
    passes(10);
    w.models[0].figures.used_due = w.now;
    passes(14);
    cr_assert_eq(w.goal, LIFE_GOAL_ON);
    passes(2);
    cr_assert_eq(w.goal, LIFE_GOAL_OFF);
}

Test(power, down_of_the_last_model_is_off_at_once)
{
    comes_up();
    w.models[0].goal = GOAL_OFF;
    w.models[0].state = DEPLOYMENT_DRAINING;
    w.models[0].figures.open = 1;
    changed();
    cr_assert_eq(w.goal, LIFE_GOAL_ON, "its requests end first");
    w.models[0].figures.open = 0;
    w.models[0].state = DEPLOYMENT_OFF;
    changed();
    cr_assert_eq(w.goal, LIFE_GOAL_OFF);
}

Test(power, down_of_one_of_two_leaves_it_on)
{
    comes_up();
    goes_up(1, false);
    is_ready(1);
    w.models[0].goal = GOAL_OFF;
    w.models[0].state = DEPLOYMENT_OFF;
    changed();
    cr_assert_eq(w.goal, LIFE_GOAL_ON);
}

Test(power, sleep_by_a_word_waits_for_no_idle_time)
{
    comes_up();
    w.models[0].falls = w.models[0].by_word = true;
    changed();
    cr_assert_eq(w.goal, LIFE_GOAL_ON);
    passes(0);
    cr_assert_eq(w.goal, LIFE_GOAL_OFF);
}

static void loses_its_tunnel(void)
{
    w.reachable = false;
    changed();
}

static void is_told(enum deployment_goal goal, enum deployment_state state)
{
    w.models[0].goal = goal;
    w.models[0].state = state;
    w.models[0].falls = w.models[0].by_word = goal != GOAL_OFF;
    changed();
}

Test(power, nothing_is_drained_through_a_tunnel_that_is_lost)
{
    comes_up();
    loses_its_tunnel();
    cr_assert_eq(w.goal, LIFE_GOAL_ON, "that alone is no reason");
    passes(1);
    is_told(GOAL_OFF, DEPLOYMENT_STOPPING);
    cr_assert_eq(w.goal, LIFE_GOAL_OFF, "at once");
    cr_assert_not_null(strstr(w.said, "is to be switched off: no model on it is wanted; it cannot be reached"),
                       "%s", w.said);
    machine_is(LIFE_STOPPED);
    cr_assert_eq(w.models[0].state, DEPLOYMENT_OFF, "there is nothing to stop any more");
}

Test(power, a_tunnel_that_is_lost_while_its_model_ends_is_not_waited_for)
{
    comes_up();
    is_told(GOAL_OFF, DEPLOYMENT_STOPPING);
    cr_assert_eq(w.goal, LIFE_GOAL_ON);
    loses_its_tunnel();
    cr_assert_eq(w.goal, LIFE_GOAL_OFF);
}

Test(power, sleep_waits_for_no_tunnel_either)
{
    comes_up();
    loses_its_tunnel();
    is_told(GOAL_ON_DEMAND, DEPLOYMENT_STOPPING);
    cr_assert_eq(w.goal, LIFE_GOAL_OFF);
    machine_is(LIFE_STOPPED);
    cr_assert_eq(w.models[0].state, DEPLOYMENT_ASLEEP);
}

Test(power, what_is_open_in_a_tunnel_that_is_silent_has_until_that_is_lost)
{
    comes_up();
    w.models[0].figures.open = 1;
    is_told(GOAL_OFF, DEPLOYMENT_DRAINING);
    loses_its_tunnel();
    cr_assert_eq(w.goal, LIFE_GOAL_ON, "it goes on as soon as that speaks");
    w.now += SILENT_MS - 1;
    changed();
    cr_assert_eq(w.goal, LIFE_GOAL_ON);
    cr_assert_eq(w.timer_due, w.now + 1);
    w.reachable = true;
    changed();
    w.now += SILENT_MS;
    changed();
    cr_assert_eq(w.goal, LIFE_GOAL_ON, "it spoke");
    loses_its_tunnel();
    w.now += SILENT_MS;
    changed();
    cr_assert_eq(w.goal, LIFE_GOAL_OFF);
}

Test(power, a_tunnel_that_is_lost_ends_nothing_that_another_model_needs)
{
    comes_up();
    goes_up(1, false);
    is_ready(1);
    loses_its_tunnel();
    is_told(GOAL_OFF, DEPLOYMENT_STOPPING);
    passes(10);
    cr_assert_eq(w.goal, LIFE_GOAL_ON);
}

Test(power, an_engine_that_does_not_end_is_no_reason_to_pay_on)
{
    comes_up();
    w.models[0].goal = GOAL_OFF;
    w.models[0].state = DEPLOYMENT_STOPPING;
    changed();
    passes(6);
    cr_assert_eq(w.goal, LIFE_GOAL_ON);
    passes(2);
    cr_assert_eq(w.goal, LIFE_GOAL_OFF);
}

Test(power, off_by_somebody_else_is_not_answered_by_on)
{
    comes_up();
    has_trouble(FAULT_TRANSIENT, "stopped_elsewhere");
    w.goal = LIFE_GOAL_OFF;
    machine_is(LIFE_STOPPED);
    cr_assert_eq(w.goal, LIFE_GOAL_OFF);
    cr_assert_eq(w.models[0].state, DEPLOYMENT_ASLEEP);
    cr_assert_str_eq(w.models[0].why, "the machine was switched off elsewhere");
    passes(5);
    goes_up(0, true);
    cr_assert_eq(w.goal, LIFE_GOAL_ON, "but by the next request");
    machine_is(LIFE_RUNNING);
    is_ready(0);
    passes(3);
    w.goal = LIFE_GOAL_OFF;
    machine_is(LIFE_STOPPED);
    cr_assert_eq(w.models[0].goal, GOAL_OFF, "twice within 10 min is meant");
    cr_assert_str_eq(w.models[0].ended.code, "stopped_elsewhere");
}

Test(power, two_offs_by_somebody_else_that_are_far_apart)
{
    for (int i = 0; i < 2; i++) {
        w.trouble = (struct fault){};
        goes_up(0, true);
        machine_is(LIFE_RUNNING);
        is_ready(0);
        has_trouble(FAULT_TRANSIENT, "stopped_elsewhere");
        w.goal = LIFE_GOAL_OFF;
        machine_is(LIFE_STOPPED);
        cr_assert(w.models[0].goal == GOAL_ON_DEMAND && w.models[0].state == DEPLOYMENT_ASLEEP);
        passes(11);
    }
}

Test(power, one_that_vanished_is_made_anew_by_a_word_alone)
{
    comes_up();
    has_trouble(FAULT_TRANSIENT, "vanished");
    w.goal = LIFE_GOAL_OFF;
    machine_is(LIFE_ABSENT);
    cr_assert_eq(w.models[0].goal, GOAL_OFF);
    cr_assert_str_eq(w.models[0].ended.code, "machine_gone");
    passes(5);
    cr_assert_eq(w.goal, LIFE_GOAL_OFF);
    goes_up(0, false);
    cr_assert_eq(w.goal, LIFE_GOAL_ON);
    machine_is(LIFE_WAITING);
    cr_assert_eq(w.models[0].goal, GOAL_ON_DEMAND);
}

Test(power, one_that_vanished_while_its_model_slept_is_not_made_anew_by_a_request)
{
    goes_up(0, false);
    machine_is(LIFE_RUNNING);
    is_ready(0);
    w.models[0].state = DEPLOYMENT_ASLEEP;
    w.goal = LIFE_GOAL_OFF;
    machine_is(LIFE_STOPPED);
    cr_assert_eq(w.models[0].goal, GOAL_ON_DEMAND);
    has_trouble(FAULT_TRANSIENT, "vanished");
    machine_is(LIFE_ABSENT);
    cr_assert_eq(w.models[0].goal, GOAL_OFF);
    cr_assert_str_eq(w.models[0].ended.code, "machine_gone");
}

static void ends_after(unsigned minutes_unheard)
{
    comes_up();
    w.seen_at_ms = clock_wall_ms();
    w.models[0].goal = GOAL_OFF;
    w.models[0].state = DEPLOYMENT_OFF;
    w.now += minutes_unheard * MIN_MS;
    changed();
}

Test(power, its_guard_ends_it_where_its_provider_cannot_be_reached)
{
    w.reachable = true;
    ends_after(2);
    cr_assert_not_null(strstr(w.said, "its guard is told to stop it"), "%s", w.said);
    changed();
    cr_assert_eq(w.goal, LIFE_GOAL_ON, "its session lasts until it has heard");
    guard_answers(NULL);
    cr_assert_eq(w.goal, LIFE_GOAL_OFF, "the provider is asked nevertheless");
}

Test(power, a_guard_that_does_not_answer_leaves_it_to_its_provider)
{
    static const struct fault lost = {.kind = FAULT_TRANSIENT, .text = "the tunnel is down"};

    w.reachable = true;
    ends_after(2);
    guard_answers(&lost);
    cr_assert_eq(w.goal, LIFE_GOAL_OFF);
    cr_assert_not_null(strstr(w.said, "the tunnel is down"), "%s", w.said);
}

Test(power, a_provider_that_was_heard_just_now_is_asked_alone)
{
    w.reachable = true;
    ends_after(1);
    cr_assert_null(w.guard_done);
    cr_assert_eq(w.goal, LIFE_GOAL_OFF);
}

Test(power, a_boot_that_fails_ends_with_its_reason)
{
    goes_up(0, false);
    machine_is(LIFE_STARTING);
    has_trouble(FAULT_TRANSIENT, "boot_failed");
    w.goal = LIFE_GOAL_OFF;
    machine_is(LIFE_STOPPED);
    cr_assert(w.models[0].state == DEPLOYMENT_FAILED && streq(w.models[0].ended.code, "boot_failed"));
    passes(60);
    cr_assert_eq(w.goal, LIFE_GOAL_OFF);
    goes_up(0, false);
    cr_assert_eq(w.goal, LIFE_GOAL_ON, "up begins anew");
}

Test(power, without_a_guard_it_goes_off_and_its_model_says_why)
{
    goes_up(0, false);
    machine_is(LIFE_RUNNING);
    has_trouble(FAULT_DENIED, "no_guard");
    w.goal = LIFE_GOAL_OFF;
    machine_is(LIFE_STOPPING);
    cr_assert(w.models[0].state == DEPLOYMENT_FAILED && streq(w.models[0].ended.code, "no_guard"));
    int64_t until_at_ms;

    cr_assert_null(manager_stay(&w.manager, the_lease(), &until_at_ms), "nothing keeps it on any more");
}

Test(power, a_limit_drains_for_two_minutes)
{
    comes_up();
    w.models[0].figures.open = 1;
    w.must_stop = true;
    fault_code(&w.money, FAULT_EXHAUSTED, "budget", "the day's 30.00 are spent");
    powers_account_changed(&w.manager, (struct account *)(void *)&w);
    cr_assert_eq(w.models[0].goal, GOAL_OFF);
    cr_assert(!w.models[0].cut && streq(w.models[0].ended.code, "budget"));
    passes(1);
    cr_assert_eq(w.goal, LIFE_GOAL_ON);
    passes(1);
    cr_assert_eq(w.goal, LIFE_GOAL_OFF);
    cr_assert(strstr(w.said, "the day's 30.00 are spent"), "%s", w.said);
}

/* The balance that was low when it was read last may have been topped up: only the reservation asks again. */
Test(power, a_limit_of_before_takes_no_wish_back)
{
    w.must_stop = true;
    changed();
    passes(10);
    goes_up(0, false);
    machine_is(LIFE_STARTING);
    cr_assert(w.goal == LIFE_GOAL_ON && w.models[0].state == DEPLOYMENT_CONNECTING);
    w.must_stop = false;
    machine_is(LIFE_RUNNING);
    is_ready(0);
    passes(3);
    cr_assert(w.goal == LIFE_GOAL_ON && w.models[0].state == DEPLOYMENT_READY);
}

Test(power, a_limit_that_was_reached_stops_none_that_was_let_go_beyond_it)
{
    w.must_stop = true;
    w.may_overspend = true;
    changed();
    passes(5);
    comes_up();
    w.models[0].figures.open = 1;
    passes(10);
    cr_assert(w.goal == LIFE_GOAL_ON && w.models[0].state == DEPLOYMENT_READY);
    w.may_overspend = false;
    changed();
    passes(3);
    cr_assert_eq(w.goal, LIFE_GOAL_OFF);
}

Test(power, a_search_begun_by_requests_ends_with_the_last_of_them)
{
    goes_up(0, true);
    has_trouble(FAULT_EXHAUSTED, "no_capacity");
    machine_is(LIFE_WAITING);
    passes(9);
    cr_assert_eq(w.goal, LIFE_GOAL_ON);
    w.models[0].figures.held = 0;
    changed();
    cr_assert_eq(w.goal, LIFE_GOAL_OFF);
    machine_is(LIFE_ABSENT);
    cr_assert_eq(w.models[0].state, DEPLOYMENT_ASLEEP);
}

Test(power, a_search_begun_by_up_ends_after_two_hours)
{
    goes_up(0, false);
    has_trouble(FAULT_EXHAUSTED, "no_capacity");
    machine_is(LIFE_WAITING);
    passes(119);
    cr_assert_eq(w.goal, LIFE_GOAL_ON);
    passes(1);
    cr_assert_eq(w.goal, LIFE_GOAL_OFF);
    cr_assert(w.models[0].state == DEPLOYMENT_FAILED && streq(w.models[0].ended.code, "no_capacity"));
}

Test(power, a_search_ends_when_it_was_said_to_end)
{
    w.record.search_until_at_ms = fake_clock_wall_ms() + 5 * MIN_MS;
    goes_up(0, false);
    fault_code(&w.trouble, FAULT_EXHAUSTED, "host_full", "the machine's cards are all rented by others");
    machine_is(LIFE_WAITING);
    passes(4);
    cr_assert_eq(w.goal, LIFE_GOAL_ON);
    passes(1);
    cr_assert_eq(w.goal, LIFE_GOAL_OFF);
    cr_assert_str_eq(w.models[0].ended.code, "no_capacity");
    cr_assert_not_null(strstr(w.models[0].ended.text, "all rented by others"), "%s", w.models[0].ended.text);
}

Test(power, one_of_several_that_is_refused_ends_no_search)
{
    w.may_look = true;
    goes_up(0, false);
    has_trouble(FAULT_INVALID, "bad_request");
    machine_is(LIFE_WAITING);
    cr_assert_eq(w.goal, LIFE_GOAL_ON);
    w.may_look = false;
    changed();
    cr_assert_eq(w.goal, LIFE_GOAL_OFF);
    cr_assert_str_eq(w.models[0].ended.code, "bad_request");
}

Test(power, what_only_people_can_mend_is_not_waited_for)
{
    static const struct {
        enum fault_kind kind;
        const char *code;
    } rows[] = {
        {FAULT_EXHAUSTED, "budget"}, {FAULT_EXHAUSTED, "low_balance"}, {FAULT_DENIED, "token_refused"}};

    for (unsigned i = 0; i < ELEMENTS(rows); i++) {
        w.trouble = (struct fault){};
        goes_up(0, true);
        has_trouble(rows[i].kind, rows[i].code);
        machine_is(LIFE_WAITING);
        cr_assert_eq(w.goal, LIFE_GOAL_OFF, "%s", rows[i].code);
        cr_assert(w.models[0].state == DEPLOYMENT_FAILED && streq(w.models[0].ended.code, rows[i].code));
        machine_is(LIFE_STOPPED);
    }
}

Test(power, once_it_is_on_it_needs_no_waiter)
{
    goes_up(0, true);
    machine_is(LIFE_STARTING);
    w.models[0].figures.held = 0;
    changed();
    passes(2);
    machine_is(LIFE_RUNNING);
    passes(2);
    cr_assert_eq(w.goal, LIFE_GOAL_ON);
}

Test(power, switched_on_elsewhere_it_is_left_alone_up_to_max_up)
{
    machine_is(LIFE_RUNNING);
    passes(719);
    cr_assert_eq(w.n_wants, 0);
    passes(2);
    cr_assert(w.n_wants == 1 && w.goal == LIFE_GOAL_OFF);
}

Test(power, switched_on_elsewhere_beyond_the_money_it_is_told_and_not_stopped)
{
    machine_is(LIFE_RUNNING);
    passes(10);
    cr_assert_str_empty(w.said);
    w.must_stop = true;
    fault_code(&w.money, FAULT_EXHAUSTED, "budget", "the day's 30.00 are spent");
    powers_account_changed(&w.manager, (struct account *)(void *)&w);
    cr_assert_not_null(strstr(w.said, "the day's 30.00 are spent"), "%s", w.said);
    *w.said = '\0';
    passes(60);
    cr_assert_str_empty(w.said, "once");
    cr_assert_eq(w.n_wants, 0);
}

Test(power, switched_on_elsewhere_it_serves_who_wants_a_model)
{
    machine_is(LIFE_RUNNING);
    passes(10);
    goes_up(0, true);
    cr_assert_eq(w.goal, LIFE_GOAL_ON);
    is_ready(0);
    passes(15);
    cr_assert_eq(w.goal, LIFE_GOAL_OFF, "and is ours then");
}

Test(power, one_that_is_given_back_is_nobodys)
{
    w.goal = LIFE_GOAL_RELEASE;
    goes_up(0, true);
    cr_assert_eq(w.n_wants, 0);
}

Test(power, pressed_it_is_asked_once_more)
{
    comes_up();
    w.models[0] = (struct model){};
    changed();
    machine_is(LIFE_STOPPING);
    manager_press(&w.manager, the_lease());
    cr_assert(w.n_wants == 3 && w.n_doubts == 1 && w.goal == LIFE_GOAL_OFF);
}

Test(power, pressed_while_it_is_given_back_it_still_is)
{
    w.goal = LIFE_GOAL_RELEASE;
    machine_is(LIFE_STOPPING);
    manager_press(&w.manager, the_lease());
    cr_assert(w.n_doubts == 1 && w.goal == LIFE_GOAL_RELEASE);
}

Test(power, why_it_is_on)
{
    int64_t at_ms;

    cr_assert_null(manager_stay(&w.manager, the_lease(), &at_ms));
    comes_up();
    cr_assert_str_eq(manager_stay(&w.manager, the_lease(), &at_ms), "idle");
    cr_assert_not(power_is_kept(power_find(&w.manager, the_lease())));
    cr_assert_eq(at_ms, clock_wall_ms() + 15 * MIN_MS);
    w.models[0].figures.open = 1;
    changed();
    cr_assert_str_eq(manager_stay(&w.manager, the_lease(), &at_ms), "in_use");
}

Test(power, one_that_is_lost_is_looked_at_at_once_and_soon_again)
{
    comes_up();
    cr_assert_eq(w.n_doubts, 0);
    w.reachable = false;
    changed();
    changed();
    cr_assert_eq(w.n_doubts, 1);
    passes(1);
    cr_assert(w.n_doubts > 10 && w.n_doubts < 15, "%u", w.n_doubts);
    passes(10);
    cr_assert_lt(w.n_doubts, 25);
    w.reachable = true;
    changed();
    unsigned n = w.n_doubts;

    passes(3);
    cr_assert_eq(w.n_doubts, n);
}

/* Nobody looks at it for that reason any more, and no timer waits for an instant that is over. */
Test(power, one_that_is_lost_and_goes_off_is_no_longer_lost)
{
    comes_up();
    w.reachable = false;
    changed();
    machine_is(LIFE_STOPPING);
    unsigned n = w.n_doubts;

    w.now += LOST_MS + 1;
    changed();
    cr_assert_gt(w.timer_due, w.now);
    cr_assert_eq(w.n_doubts, n);
}

Test(power, one_that_never_was_reached_yet_is_not_lost)
{
    w.reachable = false;
    goes_up(0, false);
    machine_is(LIFE_RUNNING);
    passes(2);
    cr_assert_eq(w.n_doubts, 0);
}

Test(power, one_of_another_daemon_is_never_stopped_by_us)
{
    w.is_anothers = true;
    machine_is(LIFE_RUNNING);
    passes(2000);
    cr_assert_eq(w.n_wants, 0);
}

Test(power, one_that_others_made_and_switched_on_has_no_end)
{
    int64_t at_ms;

    w.is_left_alone = true;
    machine_is(LIFE_RUNNING);
    passes(24 * 60);
    cr_assert_eq(w.n_wants, 0);
    cr_assert_str_eq(manager_stay(&w.manager, the_lease(), &at_ms), "not_by_us");
    cr_assert_eq(at_ms, 0);
}

Test(power, without_its_card_it_is_on_for_as_long_as_was_said)
{
    int64_t at_ms, until_at_ms = clock_wall_ms() + 60 * MIN_MS;

    w.models[0] = (struct model){.goal = GOAL_ON_DEMAND, .state = DEPLOYMENT_ASLEEP};
    machine_is(LIFE_STOPPED);
    cr_assert_eq(manager_keep_without_card(&w.manager, the_lease(), until_at_ms), 7);
    cr_assert(w.record.no_card && w.goal == LIFE_GOAL_ON && w.hold_ms == 60 * MIN_MS);
    machine_is(LIFE_WAITING);
    passes(1);
    cr_assert_eq(w.goal, LIFE_GOAL_ON, "what does not work at once is tried on");
    machine_is(LIFE_RUNNING);
    cr_assert_str_eq(manager_stay(&w.manager, the_lease(), &at_ms), "no_card");
    cr_assert(power_is_kept(power_find(&w.manager, the_lease())));
    cr_assert_eq(at_ms, until_at_ms);
    passes(58);
    cr_assert_eq(w.goal, LIFE_GOAL_ON);
    passes(2);
    cr_assert_eq(w.goal, LIFE_GOAL_OFF, "models that sleep on it have no say");
}

/* What is cut before it answers may act after all, and is waited for: three minutes, for one that boots in
 * one. */
Test(power, a_model_waits_for_the_power_on_without_a_card_to_act)
{
    machine_is(LIFE_STOPPED);
    manager_keep_without_card(&w.manager, the_lease(), clock_wall_ms() + 60 * MIN_MS);
    machine_is(LIFE_STARTING);
    goes_up(0, true);
    cr_assert(w.record.no_card && w.n_wants == 1, "its call is not answered yet");
    w.record.acted = true;
    changed();
    cr_assert_not(w.record.no_card);
    cr_assert_eq(w.n_wants, 3, "on, off, on");
}

/* No model has the reason. */
Test(power, without_the_money_for_it_the_machine_says_why)
{
    machine_is(LIFE_STOPPED);
    manager_keep_without_card(&w.manager, the_lease(), clock_wall_ms() + 60 * MIN_MS);
    has_trouble(FAULT_EXHAUSTED, "budget");
    machine_is(LIFE_WAITING);
    cr_assert_eq(w.goal, LIFE_GOAL_OFF);
    cr_assert_str_eq(w.wish_ended.code, "budget");
}

/* Its guard has not heard of it yet, or there is none so far. */
Test(power, a_restart_knows_of_a_hold)
{
    machine_is(LIFE_STOPPED);
    manager_keep_without_card(&w.manager, the_lease(), clock_wall_ms() + 60 * MIN_MS);
    power_free(w.lease.power);
    daemon_begins(LIFE_UNKNOWN, LIFE_GOAL_ON);
    machine_is(LIFE_RUNNING);
    w.guard.read_at_ms = clock_wall_ms();
    passes(58);
    cr_assert_eq(w.goal, LIFE_GOAL_ON);
    passes(3);
    cr_assert_eq(w.goal, LIFE_GOAL_OFF);
}

Test(power, without_its_card_it_goes_off_and_on_again_for_a_model)
{
    machine_is(LIFE_STOPPED);
    manager_keep_without_card(&w.manager, the_lease(), clock_wall_ms() + 60 * MIN_MS);
    machine_is(LIFE_RUNNING);
    goes_up(0, true);
    cr_assert_not(w.record.no_card);
    cr_assert_eq(w.goal, LIFE_GOAL_ON);
    cr_assert_eq(w.n_wants, 3, "on, off, on");
    cr_assert_eq(w.hold_ms, 0);
}
