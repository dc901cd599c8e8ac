/* links: deployment
 *
 * The way of a model up and down again, one moment at a time: its stages, open requests, a way that breaks
 * or is refused, a restart of the daemon, and those who wait for it. */
#pragma GCC diagnostic ignored "-Wunused-function" /* not each test needs each part of the world */
#include "tests/unit/deployment_world.h"

TestSuite(deployment, .init = begin, .fini = end);

Test(deployment, a_model_that_is_wanted_gets_ready_through_every_stage)
{
    struct stage_view v;

    go_up();
    for (enum stage s = 0; s < STAGE_COUNT; s++) {
        bool of_rented = s == STAGE_CAPACITY || s == STAGE_POWER_ON || s == STAGE_GUARD;

        deployment_stage(w.d, s, &v);
        cr_assert_eq(v.state, of_rented ? STAGE_AHEAD : STAGE_DONE, "%s", stage_name(s));
    }
    cr_assert(w.runs && w.loaded && w.fetched);
    cr_assert_eq(w.n_ready, 1);
}

Test(deployment, open_requests_are_waited_for_but_not_for_ever)
{
    go_up();
    request_begins();
    want(true);
    deployment_want(w.d, GOAL_OFF, false);
    run_until(w.now + 299000);
    cr_assert_eq(w.d->state, DRAINING);
    cr_assert_not(deployment_is_cut(w.d));
    run_until(w.now + 60000);
    cr_assert_eq(w.d->state, OFF);
    cr_assert(deployment_is_cut(w.d));
    request_ends();
    go_up();
    cr_assert_not(deployment_is_cut(w.d));
}

Test(deployment, the_age_is_that_of_the_oldest_that_is_left)
{
    struct deployment_use uses[4];
    struct deployment_figures n;

    go_up();
    int64_t began = clock_wall_ms();

    for (unsigned i = 0; i < 4; i++) {
        deployment_request_begin(w.d, &uses[i]);
        run_until(w.now + 1000);
    }
    deployment_request_held(w.d, &uses[1], true);
    run_until(w.now + 1000);
    deployment_request_held(w.d, &uses[0], true);
    deployment_figures(w.d, &n);
    cr_assert_eq(n.open, 2);
    cr_assert_eq(n.held, 2);
    cr_assert_eq(n.open_since_at_ms, began + 2000);
    cr_assert_eq(n.held_since_at_ms, began + 4000);
    deployment_request_held(w.d, &uses[1], false);
    deployment_figures(w.d, &n);
    cr_assert_eq(n.open_since_at_ms, began + 1000, "it has come before those that are open");
    cr_assert_eq(n.held_since_at_ms, began + 5000);
    deployment_request_end(w.d, &uses[1]);
    deployment_request_end(w.d, &uses[2]);
    deployment_figures(w.d, &n);
    cr_assert_eq(n.open_since_at_ms, began + 3000, "there was one all the time, but it was not this one");
    deployment_request_end(w.d, &uses[3]);
    deployment_request_held(w.d, &uses[0], false);
    deployment_request_end(w.d, &uses[0]);
    deployment_figures(w.d, &n);
    cr_assert_eq(n.open_since_at_ms + n.held_since_at_ms, 0);
}

Test(deployment, the_last_request_ends_the_draining)
{
    go_up();
    request_begins();
    request_begins();
    deployment_want(w.d, GOAL_OFF, false);
    request_ends();
    run_until(w.now + 1000);
    cr_assert_eq(w.d->state, DRAINING);
    request_ends();
    run_until(w.now + 1000);
    cr_assert_eq(w.d->state, OFF);
    cr_assert_not(w.runs);
}

Test(deployment, down_now_cuts_at_once_also_while_it_drains)
{
    go_up();
    request_begins();
    deployment_want(w.d, GOAL_OFF, false);
    run_until(w.now + 1000);
    deployment_want(w.d, GOAL_OFF, true);
    cr_assert_eq(w.d->state, STOPPING);
    cr_assert(deployment_is_cut(w.d));
    run_until(w.now + 1000);
    cr_assert_eq(w.d->state, OFF);
    request_ends();
}

Test(deployment, those_that_come_after_a_cut_are_not_cut)
{
    go_up();
    request_begins();
    deployment_sleep(w.d, true, "llmhostctl sleep");
    cr_assert(deployment_is_cut(w.d));
    request_ends();
    run_until(w.now + 10000);
    cr_assert_eq(w.d->state, ASLEEP);
    cr_assert_not(deployment_is_cut(w.d));
    want(true);
    run_until(w.now + 60000);
    cr_assert_eq(w.d->state, READY);
    request_begins();
    cr_assert_not(deployment_is_cut(w.d));
    request_ends();
}

Test(deployment, up_while_it_drains_keeps_the_model_where_it_is)
{
    go_up();
    request_begins();
    deployment_want(w.d, GOAL_OFF, false);
    deployment_want(w.d, GOAL_ON_DEMAND, false);
    cr_assert_eq(w.d->state, READY);
    run_until(w.now + 60000);
    cr_assert_eq(w.d->state, READY);
    cr_assert_eq(w.n_ready, 1, "it was not loaded anew");
    request_ends();
}

Test(deployment, a_stop_that_may_pass_is_asked_again_and_one_that_fails_is_told)
{
    go_up();
    w.stuck = true;
    deployment_want(w.d, GOAL_OFF, false);
    run_until(w.now + 60000);
    cr_assert_eq(w.d->state, FAILED);
    cr_assert_str_eq(deployment_fault(w.d)->code, "engine_stuck");
    cr_assert(deployment_is_idle(w.d));
    w.stuck = false;
    run_until(w.now + 60000);
    cr_assert_eq(w.d->state, FAILED, "until somebody says so");
    deployment_want(w.d, GOAL_OFF, false);
    run_until(w.now + 1000);
    cr_assert_eq(w.d->state, OFF);
    cr_assert_not(w.runs);
}

Test(deployment, a_stop_waits_for_a_machine_that_is_away)
{
    go_up();
    way_changes(false, false);
    deployment_want(w.d, GOAL_OFF, false);
    run_until(w.now + 3600000);
    cr_assert_eq(w.d->state, STOPPING);
    cr_assert(w.runs);
    way_changes(true, false);
    run_until(w.now + 1000);
    cr_assert_eq(w.d->state, OFF);
    cr_assert_not(w.runs);
}

Test(deployment, a_refused_way_fails_and_a_mended_one_goes_on)
{
    way_changes(false, false);
    want(true);
    way_changes(false, true);
    run_until(w.now + 1000);
    cr_assert_eq(w.d->state, FAILED);
    cr_assert_str_eq(deployment_fault(w.d)->code, "login_refused");
    way_changes(true, false);
    run_until(w.now + 60000);
    cr_assert_eq(w.d->state, READY);
}

Test(deployment, up_tries_a_refused_login_once_more)
{
    way_changes(false, true);
    deployment_want(w.d, GOAL_ON_DEMAND, false);
    cr_assert_eq(w.n_renewed, 1);
    run_until(w.now + 1000);
    cr_assert_eq(w.d->state, CONNECTING);
    way_changes(false, true);
    run_until(w.now + 1000);
    cr_assert_eq(w.d->state, FAILED);
    deployment_want(w.d, GOAL_OFF, false);
    cr_assert_eq(w.n_renewed, 1);
}

/* What may pass is tried again, but not for ever: only a way that was away meanwhile counts for nothing. */
Test(deployment, a_start_that_fails_again_and_again_is_given_up)
{
    const struct fault f = {.kind = FAULT_TRANSIENT, .code = "busy", .text = "busy"};
    unsigned faults = 0;

    want(true);
    for (unsigned ms = 0; ms < 120000 && w.d->state != FAILED; ms++) {
        run_until(w.now + 1);
        if (w.d->state != CONNECTING && w.d->state != FAILED) {
            faults++;
            deployment_event(w.d, DEPLOYMENT_EV_FAULT, &f);
        }
    }
    cr_assert_eq(w.d->state, FAILED);
    cr_assert_eq(faults, DEPLOYMENT_ATTEMPTS_MAX);
}

Test(deployment, a_way_that_breaks_again_and_again_is_no_fault_of_the_engine)
{
    want(true);
    for (unsigned i = 0; i < 50; i++) {
        run_until(w.now + 40);
        way_changes(false, false);
        run_until(w.now + 5000);
        way_changes(true, false);
        cr_assert_neq(w.d->state, FAILED, "break %u", i);
    }
    run_until(w.now + 60000);
    cr_assert_eq(w.d->state, READY);
}

Test(deployment, somebody_who_asks_again_does_not_wait_for_a_back_off)
{
    w.runs = true;
    want(true);
    run_until(w.now);
    w.d->attempts = 4;
    deployment_enter(w.d, CONNECTING, "test", NULL);
    uint64_t rests_until = w.timer->due;

    cr_assert_geq(rests_until, w.now + 4000);
    want(true);
    run_until(w.now + 3000);
    cr_assert_eq(w.d->state, READY);
}

Test(deployment, a_download_goes_forward_only_beyond_where_it_has_been)
{
    static const struct {
        int64_t bytes;
        unsigned attempts;
    } told[] = {{0, 3}, {-1, 3}, {900, 0}, {900, 3}, {10, 3}, {899, 3}, {901, 0}};

    want(true);
    w.d->reachable = true;
    deployment_enter(w.d, CONNECTING, "test", NULL);
    deployment_enter(w.d, FETCHING, "test", NULL);
    struct engine_reply to = deployment_reply(w.d);

    for (unsigned i = 0; i < ELEMENTS(told); i++) {
        w.d->attempts = 3;
        to.progress(to.ctx, &(struct engine_progress){.bytes = told[i].bytes, .bytes_total = 1000});
        cr_assert_eq(w.d->attempts, told[i].attempts, "%u", i);
    }
}

Test(deployment, a_restored_model_is_found_again_or_stopped)
{
    go_up();
    daemon_ends();
    w.n_durable = w.n_records;
    daemon_starts();
    cr_assert_eq(w.d->state, OFF, "nothing is done before all are restored");
    run_until(w.now + 30000);
    cr_assert_eq(w.d->state, READY);
    deployment_want(w.d, GOAL_OFF, false);
    w.n_durable = w.n_records;
    daemon_ends();
    cr_assert(w.runs);
    while (w.n_jobs)
        job_drop(0);
    daemon_starts();
    run_until(w.now + 30000);
    cr_assert_eq(w.d->state, OFF);
    cr_assert_not(w.runs);
}

Test(deployment, what_was_wanted_is_stopped_although_its_start_was_not_on_disk)
{
    want(true);
    run_until(w.now + 60000);
    daemon_ends();
    w.n_records = w.n_durable = 1; /* the goal, and nothing of what followed */
    daemon_starts();
    deployment_want(w.d, GOAL_OFF, false);
    run_until(w.now + 30000);
    cr_assert_eq(w.d->state, OFF);
    cr_assert_not(w.runs);
}

Test(deployment, held_requests_are_answered_when_it_is_ready_failed_or_off)
{
    struct holder *h = w.holders;

    want(true);
    deployment_hold(w.d, &h[0].op, on_hold_over, &h[0]);
    deployment_hold(w.d, &h[1].op, on_hold_over, &h[1]);
    cr_assert_eq(h[0].n_answers, 0);
    op_cancel(&h[1].op);
    run_until(w.now + 30000);
    cr_assert_eq(h[0].n_answers, 1);
    cr_assert_eq(h[0].fault.kind, FAULT_NONE);
    cr_assert_eq(h[1].n_answers, 0);
    w.broken = true;
    w.runs = false;
    run_until(w.now + 30000);
    cr_assert_eq(w.d->state, FAILED);
    deployment_hold(w.d, &h[0].op, on_hold_over, &h[0]);
    works_run();
    cr_assert_str_eq(h[0].fault.code, "engine_missing");
    deployment_want(w.d, GOAL_OFF, false);
    deployment_hold(w.d, &h[0].op, on_hold_over, &h[0]);
    works_run();
    cr_assert_str_eq(h[0].fault.code, "stopped_by_user");
}

Test(deployment, one_who_holds_is_told_when_the_deployment_goes)
{
    way_changes(false, false);
    want(true);
    deployment_hold(w.d, &w.holders[0].op, on_hold_over, &w.holders[0]);
    run_until(w.now + 1000);
    daemon_ends();
    cr_assert_eq(w.holders[0].n_answers, 1);
    cr_assert_str_eq(w.holders[0].fault.code, "shutting_down");
    daemon_starts();
}

Test(deployment, a_shared_server_is_only_unloaded)
{
    w.shared = true;
    go_up();
    deployment_want(w.d, GOAL_OFF, false);
    run_until(w.now + 10000);
    cr_assert_eq(w.d->state, OFF);
    cr_assert(w.runs);
    cr_assert_not(w.loaded);
}

Test(deployment, a_start_that_never_gets_there_is_late)
{
    want(true);
    while (w.d->state != STARTING)
        run_until(w.now + 1);
    for (unsigned i = 0; i < 300000 && w.d->state != FAILED; i++) {
        w.runs = false; /* gone before it answers */
        run_until(w.now + 1);
    }
    cr_assert_eq(w.d->state, FAILED);
    cr_assert(w.d->replaced, "after it was started anew once");
    cr_assert_str_eq(deployment_fault(w.d)->code, "timed_out");
}

/* Most things are there at once, or take long: who asks too often is a burden, who rests too long is slow. */
Test(deployment, how_long_it_rests_and_how_long_it_may_take)
{
    static const struct {
        enum deployment_state state;
        unsigned misses, attempts;
        uint64_t age_ms, rest_ms;
    } rests[] = {
        {READY, 0, 0, 0, 15000},      {READY, 1, 0, 0, 2000},      {STOPPING, 0, 0, 0, 100},
        {STOPPING, 0, 1, 0, 2000},    {PLACING, 0, 0, 19999, 300}, {PLACING, 0, 0, 20000, 2000},
        {LOADING, 0, 0, 1999, 50},    {LOADING, 0, 0, 2000, 500},  {LOADING, 0, 0, 19999, 500},
        {LOADING, 0, 0, 20000, 2000},
    };

    w.now += 60000;
    for (unsigned i = 0; i < ELEMENTS(rests); i++) {
        struct deployment d = {.state = rests[i].state,
                               .misses = rests[i].misses,
                               .attempts = rests[i].attempts,
                               .entered_due = w.now - rests[i].age_ms};

        cr_assert_eq(state_rest_ms(&d), rests[i].rest_ms, "row %u: %llu", i,
                     (unsigned long long)state_rest_ms(&d));
    }
    cr_assert_eq(state_limit_ms(STARTING), 60 * 1000);
    cr_assert_eq(state_limit_ms(LOADING), 30 * 60 * 1000);
    cr_assert_eq(state_limit_ms(FETCHING), 0, "its silence is what ends it");
}
