/* links: deployment
 *
 * A model that leaves the memory and comes back: for want of room, for another model, by the engine itself. */
#pragma GCC diagnostic ignored "-Wunused-function" /* not each test needs each part of the world */
#include "tests/unit/deployment_world.h"

TestSuite(deployment_sleep, .init = begin, .fini = end);

Test(deployment_sleep, one_that_sleeps_wakes_by_a_request)
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

Test(deployment_sleep, one_that_sleeps_is_asleep_for_the_next_daemon_too)
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

Test(deployment_sleep, open_requests_end_before_it_sleeps_and_up_keeps_it)
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

Test(deployment_sleep, what_the_engine_unloads_by_itself_is_asleep_unless_it_is_asked)
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

Test(deployment_sleep, without_room_it_waits_and_says_for_whom)
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
Test(deployment_sleep, out_of_memory_beside_others_is_no_end)
{
    w.neighbours = true;
    w.too_much = 2;
    want(true);
    run_until(w.now + 120000);
    cr_assert_eq(w.d->state, READY);
    cr_assert_eq(w.n_made_room, 2);
    cr_assert_eq(w.n_failed, 0);
}

Test(deployment_sleep, out_of_memory_all_alone_is)
{
    w.too_much = 1;
    want(true);
    run_until(w.now + 120000);
    cr_assert_eq(w.d->state, FAILED);
    cr_assert_str_eq(w.d->fault.code, "out_of_memory");
    cr_assert_eq(w.n_made_room, 0);
}
