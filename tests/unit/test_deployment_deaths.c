/* links: deployment
 *
 * A server that dies or answers no more: it is started again, later each time, and not for ever. */
#pragma GCC diagnostic ignored "-Wunused-function" /* not each test needs each part of the world */
#include "tests/unit/deployment_world.h"

TestSuite(deployment_deaths, .init = begin, .fini = end);

Test(deployment_deaths, a_death_is_mended_but_not_the_fifth_in_ten_minutes)
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

Test(deployment_deaths, why_it_is_started_again_is_known_meanwhile)
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

Test(deployment_deaths, a_server_that_dies_again_is_started_later)
{
    go_up();
    cr_assert_leq(backs_off_ms(), 1u);
    cr_assert_geq(backs_off_ms(), 999u);
    cr_assert_geq(backs_off_ms(), 1999u);
    cr_assert_geq(backs_off_ms(), 3999u);
}

Test(deployment_deaths, a_restart_of_its_machine_is_no_death)
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

Test(deployment_deaths, a_hung_server_is_started_again_within_a_minute)
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

Test(deployment_deaths, a_server_that_hangs_while_it_loads_is_started_again_and_a_slow_one_is_not)
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

Test(deployment_deaths, a_busy_server_is_never_started_again)
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

Test(deployment_deaths, a_way_that_is_away_is_no_silence)
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

Test(deployment_deaths, a_server_that_hangs_long_after_its_way_was_away_is_noticed_as_well)
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

Test(deployment_deaths, whoever_asks_is_told_why_it_died)
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

Test(deployment_deaths, a_look_that_began_before_the_question_is_no_answer_to_it)
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

Test(deployment_deaths, crashes_long_ago_do_not_count)
{
    go_up();
    for (unsigned crashes = 1; crashes <= 12; crashes++) {
        w.runs = w.loaded = false;
        run_until(w.now + ALIVE_WINDOW_MS + 60000);
        cr_assert_eq(w.d->state, READY, "crash %u", crashes);
    }
}
