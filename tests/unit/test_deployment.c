/* links: deployment
 *
 * What a deployment does, one moment at a time. */
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

Test(deployment, a_death_is_mended_but_not_the_fifth_in_ten_minutes)
{
    const struct fault *why;
    int64_t at_ms;

    go_up();
    cr_assert_eq(deployment_deaths(w.d, &why, &at_ms), 0);
    for (unsigned deaths = 1; deaths <= 4; deaths++) {
        w.runs = w.loaded = false;
        run_until(w.now + 60000);
        cr_assert_eq(w.d->state, READY, "death %u", deaths);
        cr_assert(w.runs);
        cr_assert_eq(deployment_deaths(w.d, &why, &at_ms), deaths);
        cr_assert_str_eq(why->code, "engine_exited");
    }
    w.runs = w.loaded = false;
    run_until(w.now + 60000);
    cr_assert_eq(w.d->state, FAILED);
    cr_assert_str_eq(deployment_fault(w.d)->code, "engine_exited");
    cr_assert_not_null(strstr(deployment_fault(w.d)->text, "it died 5 times within 10 min"), "%s",
                       deployment_fault(w.d)->text);
    want(true);
    run_until(w.now + 60000);
    cr_assert_eq(w.d->state, READY, "somebody asks: from the beginning");
    cr_assert_eq(deployment_deaths(w.d, &why, &at_ms), 0);
}

Test(deployment, why_it_is_started_again_is_known_meanwhile)
{
    go_up();
    w.runs = w.loaded = false;
    deployment_doubt(w.d);
    while (w.d->state == READY)
        run_until(w.now + 1);
    cr_assert_str_eq(deployment_fault(w.d)->code, "engine_exited");
    while (w.d->state != READY) {
        cr_assert_str_eq(deployment_fault(w.d)->code, "engine_exited", "%s",
                         deployment_state_name(w.d->state));
        run_until(w.now + 1);
    }
    cr_assert_eq(deployment_fault(w.d)->kind, FAULT_NONE);
}

/* Until it is ready again after a death: how long it waited in connecting. */
static uint64_t backs_off_ms(void)
{
    uint64_t from;

    w.runs = w.loaded = false;
    deployment_doubt(w.d);
    while (w.d->state == READY)
        run_until(w.now + 1);
    from = w.now;
    while (w.d->state == CONNECTING)
        run_until(w.now + 1);
    uint64_t waited_ms = w.now - from;

    run_until(w.now + 20000);
    cr_assert_eq(w.d->state, READY);
    return waited_ms;
}

Test(deployment, a_server_that_dies_again_is_started_later)
{
    go_up();
    cr_assert_leq(backs_off_ms(), 1u);
    cr_assert_geq(backs_off_ms(), 999u);
    cr_assert_geq(backs_off_ms(), 1999u);
    cr_assert_geq(backs_off_ms(), 3999u);
}

Test(deployment, a_restart_of_its_machine_is_no_death)
{
    const struct fault *why;
    int64_t at_ms;

    go_up();
    for (unsigned i = 0; i < 12; i++) {
        w.runs = w.loaded = false;
        w.restarted = true;
        run_until(w.now + 60000);
        w.restarted = false;
        cr_assert_eq(w.d->state, READY);
    }
    cr_assert_eq(deployment_deaths(w.d, &why, &at_ms), 0);
}

static unsigned starts_within(uint64_t ms)
{
    unsigned before = w.d->server_number;

    run_until(w.now + ms);
    return w.d->server_number - before;
}

Test(deployment, a_hung_server_is_started_again_within_a_minute)
{
    const struct fault *why;
    int64_t at_ms, pid;

    go_up();
    pid = w.engine.facts.pid;
    w.hangs = true;
    deployment_hears(w.d);
    cr_assert_eq(starts_within(29000), 0);
    cr_assert_eq(starts_within(18000 + 1000), 1);
    cr_assert_eq(w.engine.hung_pid, pid, "that one is ended by the start");
    run_until(w.now + 20000);
    cr_assert_eq(w.d->state, READY);
    cr_assert_eq(deployment_deaths(w.d, &why, &at_ms), 1);
    cr_assert_str_eq(why->code, "no_answer");
    cr_assert_not_null(strstr(why->text, "ollama hangs, has answered nobody for "), "%s", why->text);
}

Test(deployment, a_server_that_hangs_while_it_loads_is_started_again_and_a_slow_one_is_not)
{
    want(true);
    while (w.d->state != LOADING)
        run_until(w.now + 1);
    w.hangs = true; /* its step would wait for half an hour */
    op_cancel(&w.d->op);
    deployment_act(w.d);
    int64_t pid = w.engine.facts.pid;

    cr_assert_eq(starts_within(9000), 0);
    cr_assert_eq(starts_within(5 * 60 * 1000 + 20000), 1);
    cr_assert_eq(w.engine.hung_pid, pid);
    run_until(w.now + 20000);
    cr_assert_eq(w.d->state, READY);
    cr_assert_eq(deployment_deaths(w.d, &(const struct fault *){NULL}, &(int64_t){0}), 0,
                 "it was not ready before");
}

Test(deployment, a_busy_server_is_never_started_again)
{
    go_up();
    request_begins();
    w.hangs = w.computes = true;
    cr_assert_eq(starts_within(8 * 3600 * 1000), 0, "it computes, for somebody");
    request_ends();
    cr_assert_eq(starts_within(4 * 60 * 1000), 1, "now for nobody");
    run_until(w.now + 20000);
    w.hangs = true;
    w.computes = false;
    for (unsigned i = 0; i < 1000; i++) {
        cr_assert_eq(starts_within(20000), 0, "a stream moves");
        deployment_hears(w.d);
    }
    cr_assert_eq(starts_within(60000), 1);
}

Test(deployment, a_way_that_is_away_is_no_silence)
{
    go_up();
    w.hangs = true;
    for (unsigned i = 0; i < 100; i++) {
        cr_assert_eq(starts_within(20000), 0);
        way_changes(false, false);
        cr_assert_eq(starts_within(60000), 0);
        way_changes(true, false);
    }
}

Test(deployment, a_server_that_hangs_long_after_its_way_was_away_is_noticed_as_well)
{
    go_up();
    way_changes(false, false);
    run_until(w.now + 60000);
    way_changes(true, false);
    run_until(w.now + 60000);
    cr_assert_eq(w.d->state, READY);
    w.hangs = true;
    cr_assert_eq(starts_within(60000), 1);
}

Test(deployment, whoever_asks_is_told_why_it_died)
{
    static struct holder asks[3];

    go_up();
    deployment_judge(w.d, &asks[0].op, on_hold_over, &asks[0]);
    run_until(w.now + 1000);
    cr_assert_eq(asks[0].n_answers, 1);
    cr_assert_eq(asks[0].fault.kind, FAULT_NONE, "it lives");
    w.runs = w.loaded = false;
    deployment_judge(w.d, &asks[0].op, on_hold_over, &asks[0]);
    deployment_judge(w.d, &asks[1].op, on_hold_over, &asks[1]);
    op_cancel(&asks[1].op);
    while (w.d->state == READY)
        run_until(w.now + 1);
    cr_assert_eq(asks[0].n_answers, 2);
    cr_assert_str_eq(asks[0].fault.code, "engine_exited");
    cr_assert_eq(asks[1].n_answers, 0);
    deployment_judge(w.d, &asks[2].op, on_hold_over, &asks[2]);
    cr_assert_eq(asks[2].n_answers, 0, "not from inside the call");
    works_run();
    cr_assert_str_eq(asks[2].fault.code, "engine_exited", "it is known already");
    want(false);
    run_until(w.now + 60000);
    deployment_judge(w.d, &asks[2].op, on_hold_over, &asks[2]);
    works_run();
    cr_assert_eq(asks[2].fault.kind, FAULT_NONE);
    deployment_judge(w.d, &asks[2].op, on_hold_over, &asks[2]);
    w.d = deployment_free(w.d);
    cr_assert_str_eq(asks[2].fault.code, "shutting_down");
    daemon_starts();
}

Test(deployment, a_look_that_began_before_the_question_is_no_answer_to_it)
{
    static struct holder asks[2];

    go_up();
    for (unsigned i = 0; i < 2; i++) {
        deployment_doubt(w.d);
        while (!w.d->op)
            run_until(w.now + 1);
        w.jobs[0]->happened = true; /* it found all well, and says so later */
        w.runs = w.loaded = i == 0;
        deployment_judge(w.d, &asks[i].op, on_hold_over, &asks[i]);
        run_until(w.jobs[0]->due);
        cr_assert_eq(asks[i].n_answers, 0);
        while (!asks[i].n_answers)
            run_until(w.now + 1);
    }
    cr_assert_eq(asks[0].fault.kind, FAULT_NONE, "it lives");
    cr_assert_str_eq(asks[1].fault.code, "engine_exited");
}

Test(deployment, crashes_long_ago_do_not_count)
{
    go_up();
    for (unsigned crashes = 1; crashes <= 12; crashes++) {
        w.runs = w.loaded = false;
        run_until(w.now + ALIVE_WINDOW_MS + 60000);
        cr_assert_eq(w.d->state, READY, "crash %u", crashes);
    }
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

/* ---- room ---- */

Test(deployment, one_that_sleeps_wakes_by_a_request)
{
    go_up();
    deployment_sleep(w.d, false, "made room for ollama:other");
    run_until(w.now + 10000);
    cr_assert_eq(w.d->state, ASLEEP);
    cr_assert_str_eq(deployment_room_text(w.d), "made room for ollama:other");
    cr_assert_not(w.loaded);
    cr_assert(w.d->touched, "the server may run on");
    deployment_hold(w.d, &w.holders[0].op, on_hold_over, &w.holders[0]);
    while (w.d->state != PLACING)
        run_until(w.now + 1);
    cr_assert_null(deployment_room_text(w.d), "why it slept is over, and nobody has looked for room yet");
    run_until(w.now + 60000);
    cr_assert_eq(w.d->state, READY);
    cr_assert_null(deployment_room_text(w.d));
    cr_assert_eq(w.holders[0].n_answers, 1);
    cr_assert_eq(w.holders[0].fault.kind, FAULT_NONE);
}

Test(deployment, one_that_sleeps_is_asleep_for_the_next_daemon_too)
{
    go_up();
    deployment_sleep(w.d, false, "made room for ollama:other");
    run_until(w.now + 10000);
    w.n_durable = w.n_records;
    daemon_ends();
    daemon_starts();
    run_until(w.now + 60000);
    cr_assert_eq(w.d->state, ASLEEP);
    cr_assert_str_eq(deployment_room_text(w.d), "made room for ollama:other");
    want(true);
    run_until(w.now + 60000);
    cr_assert_eq(w.d->state, READY);
}

Test(deployment, open_requests_end_before_it_sleeps_and_up_keeps_it)
{
    go_up();
    request_begins();
    deployment_sleep(w.d, false, "made room for ollama:other");
    run_until(w.now + 1000);
    cr_assert_eq(w.d->state, DRAINING);
    want(true);
    run_until(w.now + 1000);
    cr_assert_eq(w.d->state, READY);
    deployment_sleep(w.d, false, "made room for ollama:other");
    run_until(w.now + 1000);
    request_ends();
    run_until(w.now + 10000);
    cr_assert_eq(w.d->state, ASLEEP);
    deployment_want(w.d, GOAL_OFF, false);
    run_until(w.now + 10000);
    cr_assert_eq(w.d->state, OFF);
    deployment_sleep(w.d, false, "made room for ollama:other");
    run_until(w.now + 10000);
    cr_assert_eq(w.d->state, OFF);
}

Test(deployment, what_the_engine_unloads_by_itself_is_asleep_unless_it_is_asked)
{
    go_up();
    w.loaded = false;
    request_begins();
    run_until(w.now + 40000);
    cr_assert_eq(w.d->state, READY, "the request loads it again");
    request_ends();
    run_until(w.now + 40000);
    cr_assert_eq(w.d->state, ASLEEP);
    cr_assert_str_eq(deployment_room_text(w.d), "the engine has unloaded it");
}

Test(deployment, without_room_it_waits_and_says_for_whom)
{
    w.crammed = true;
    want(true);
    run_until(w.now + 120000);
    cr_assert_eq(w.d->state, PLACING);
    cr_assert_str_eq(deployment_room_text(w.d), "no room");
    w.crammed = false;
    run_until(w.now + 10000);
    cr_assert_eq(w.d->state, READY);
}

/* Twice the engine says that it is too much: each time somebody goes. */
Test(deployment, out_of_memory_beside_others_is_no_end)
{
    w.neighbours = true;
    w.too_much = 2;
    want(true);
    run_until(w.now + 120000);
    cr_assert_eq(w.d->state, READY);
    cr_assert_eq(w.n_made_room, 2);
    cr_assert_eq(w.n_failed, 0);
}

Test(deployment, out_of_memory_all_alone_is)
{
    w.too_much = 1;
    want(true);
    run_until(w.now + 120000);
    cr_assert_eq(w.d->state, FAILED);
    cr_assert_str_eq(w.d->fault.code, "out_of_memory");
    cr_assert_eq(w.n_made_room, 0);
}

/* ---- a machine that is rented ---- */

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
    expect_stage(STAGE_CAPACITY, STAGE_DONE, "1 x 4090D");
    expect_stage(STAGE_POWER_ON, STAGE_RUNNING, "");
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
