/* links: gateway
 *
 * A model on two instances: which request goes to the other one, when, and that each gets one answer and
 * reaches one engine. deepseek is on gpu1, its twin on gpu2. */
#include "gateway/counts.h"
#include "tests/unit/request_world.h"

static void open_two(void)
{
    world_open_with("[gateway]\nlisten=127.0.0.1:0\nhold=10m\nheartbeat=off\n");
    world_add(&world.twin, world.deepseek.name, &world_ollama, DEPLOYMENT_ASLEEP);
    world.twin.lease.name = "gpu2";
}

TestSuite(request_move, .init = open_two, .fini = world_close);

static void switch_off(struct deployment *d)
{
    d->goal = GOAL_OFF;
    fault_code(&d->hold_fault, FAULT_GONE, "stopped_by_user", "%s is off", d->id);
    world_state(d, DEPLOYMENT_OFF);
}

static void fail(struct deployment *d)
{
    fault_code(&d->hold_fault, FAULT_EXHAUSTED, "out_of_memory", "the model does not fit into 8 GB");
    world_state(d, DEPLOYMENT_FAILED);
}

static struct app *held_at(struct deployment *d, const char *path)
{
    struct app *a = app_new();
    int held = d->held;

    app_post(a, path, MODEL);
    cr_assert(LOOP_UNTIL(world.loop, d->held == held + 1));
    return a;
}

/* It was answered by that one, and counts there alone. */
static void answered_by(struct app *a, struct deployment *d)
{
    struct deployment *other = d == &world.twin ? &world.deepseek : &world.twin;
    unsigned at = engine_with(MODEL);
    struct count n;

    cr_assert_eq(world.links[at]->deployment, d);
    link_say(at, OK);
    app_wants(a, "ok");
    cr_assert(LOOP_UNTIL(world.loop, d->ended == 1));
    cr_assert_eq(d->begun, 1);
    cr_assert_eq(other->begun, 0);
    cr_assert_eq(other->held + d->held, 0);
    gateway_counts_of(world.gateway, d->name, &n);
    cr_assert_eq(n.requests, 1);
    cr_assert_eq(n.errors, 0);
    app_free(a);
}

Test(request_move, held_for_one_that_is_switched_off)
{
    struct app *a;

    world.deepseek.state = DEPLOYMENT_LOADING;
    a = held_at(&world.deepseek, CHAT);
    switch_off(&world.deepseek);
    cr_assert(LOOP_UNTIL(world.loop, world.twin.held == 1));
    cr_assert_eq(world.deepseek.held, 0);
    cr_assert_eq(strlen(app_got(a)), 0);
    world_state(&world.twin, DEPLOYMENT_READY);
    answered_by(a, &world.twin);
}

Test(request_move, held_for_one_that_fails)
{
    struct app *a;

    world.deepseek.state = DEPLOYMENT_LOADING;
    a = held_at(&world.deepseek, "/api/chat");
    fail(&world.deepseek);
    world_state(&world.twin, DEPLOYMENT_READY);
    answered_by(a, &world.twin);
}

Test(request_move, held_for_one_that_falls_asleep)
{
    struct app *a;

    world.deepseek.state = world.twin.state = DEPLOYMENT_LOADING;
    a = held_at(&world.deepseek, CHAT);
    world_state(&world.deepseek, DEPLOYMENT_ASLEEP);
    cr_assert(LOOP_UNTIL(world.loop, world.twin.held == 1));
    world_state(&world.twin, DEPLOYMENT_READY);
    answered_by(a, &world.twin);
}

Test(request_move, held_while_the_other_is_ready_first)
{
    struct app *a;

    world.deepseek.state = world.twin.state = DEPLOYMENT_LOADING;
    a = held_at(&world.deepseek, CHAT);
    world_state(&world.twin, DEPLOYMENT_READY);
    answered_by(a, &world.twin);
}

Test(request_move, waiting_for_a_tunnel)
{
    struct app *a;

    world.deepseek.hold_is_over = world.deepseek.tunnel_down = true;
    a = held_at(&world.deepseek, CHAT);
    cr_assert(LOOP_UNTIL(world.loop, !list_is_empty(&world.deepseek.dials)));
    world_state(&world.twin, DEPLOYMENT_READY);
    answered_by(a, &world.twin);
    cr_assert(list_is_empty(&world.deepseek.dials));
}

Test(request_move, a_removed_one_leaves_its_requests_to_the_other)
{
    struct app *a;

    world.deepseek.state = DEPLOYMENT_LOADING;
    a = held_at(&world.deepseek, CHAT);
    world.deepseek.goal = GOAL_OFF;
    world.manager.listener->deployment(world.manager.listener->ctx, &world.deepseek, true);
    world_state(&world.twin, DEPLOYMENT_READY);
    answered_by(a, &world.twin);
}

Test(request_move, a_refused_connection_is_no_reason_to_wait)
{
    struct app *a;

    fault_code(&world.deepseek.dial_fault, FAULT_TRANSIENT, "refused", "nothing listens on port 40001");
    world_state(&world.twin, DEPLOYMENT_READY);
    a = app_new();
    app_post(a, CHAT, MODEL);
    answered_by(a, &world.twin);
}

Test(request_move, two_that_refuse_are_tried_in_turn_with_pauses)
{
    struct app *a;

    fault_code(&world.deepseek.dial_fault, FAULT_TRANSIENT, "refused", "nothing listens on port 40001");
    world.twin.dial_fault = world.deepseek.dial_fault;
    world_state(&world.twin, DEPLOYMENT_READY);
    a = held_at(&world.deepseek, CHAT);
    cr_assert(LOOP_UNTIL(world.loop, world.twin.doubts == 1));
    loop_turns(world.loop, 20);
    cr_assert_eq(world.deepseek.doubts, 1);
    cr_assert_eq(world.twin.doubts, 1);
    world.twin.dial_fault.kind = FAULT_NONE;
    loop_advance(world.loop, 600);
    answered_by(a, &world.twin);
}

Test(request_move, a_channel_that_took_no_byte)
{
    struct app *a = app_new();
    unsigned at = 0;

    world.deepseek.channels = world.deepseek.refuses_writes = true;
    app_post(a, CHAT, MODEL);
    cr_assert(LOOP_UNTIL(world.loop, world.n_links > 0));
    at = world.n_links - 1;
    loop_turns(world.loop, 3);
    world_state(&world.twin, DEPLOYMENT_READY);
    loop_turns(world.loop, 3);
    cr_assert_eq(world.deepseek.begun, 1, "it is on its way, as far as we know");
    for (unsigned i = 0; i <= at; i++)
        link_break(i);
    answered_by(a, &world.twin);
}

Test(request_move, what_has_reached_an_engine_stays)
{
    struct app *a = app_new();
    unsigned at;

    world.deepseek.channels = true;
    app_post(a, CHAT, MODEL);
    at = engine_with(MODEL);
    world_state(&world.twin, DEPLOYMENT_READY);
    world.deepseek.tunnel_down = true;
    world_tell(&world.deepseek);
    link_break(at);
    app_wants(a, "HTTP/1.1 502 ");
    cr_assert(app_has(a, "tunnel_lost"));
    loop_advance(world.loop, 2000);
    for (unsigned i = 0; i < world.n_links; i++)
        cr_assert(world.links[i]->deployment != &world.twin || !link_has(i, MODEL));
    cr_assert_eq(world.twin.begun, 0);
    cr_assert(world.deepseek.shunned);
    app_free(a);
}

Test(request_move, a_cut_ends_the_open_ones_and_moves_the_held)
{
    struct app *open = app_new(), *held;
    unsigned at;

    app_post(open, CHAT, "{\"model\":\"deepseek-r1:7b\",\"n\":1}");
    engine_with("\"n\":1}");
    world_state(&world.deepseek, DEPLOYMENT_DRAINING);
    held = held_at(&world.deepseek, CHAT);
    world.deepseek.cut = true;
    switch_off(&world.deepseek);
    app_wants(open, "HTTP/1.1 503 ");
    cr_assert(app_has(open, "open requests included"));
    world_state(&world.twin, DEPLOYMENT_READY);
    at = engine_with(MODEL);
    cr_assert_eq(world.links[at]->deployment, &world.twin);
    link_say(at, OK);
    app_wants(held, "ok");
    app_free(open);
    app_free(held);
}

Test(request_move, when_none_is_left_the_last_reason_is_told_once)
{
    struct app *a;

    world.deepseek.state = world.twin.state = DEPLOYMENT_LOADING;
    a = held_at(&world.deepseek, CHAT);
    fail(&world.twin);
    switch_off(&world.deepseek);
    app_wants(a, "HTTP/1.1 503 ");
    cr_assert(app_has(a, "out_of_memory"), "%s", app_got(a));
    cr_assert_null(strstr(app_got(a) + 9, "HTTP/1.1"));
    app_free(a);
}

Test(request_move, the_hold_goes_on_from_where_it_was)
{
    struct app *a;

    world.deepseek.state = world.twin.state = DEPLOYMENT_LOADING;
    a = held_at(&world.deepseek, CHAT);
    loop_advance(world.loop, 400000);
    switch_off(&world.deepseek);
    cr_assert(LOOP_UNTIL(world.loop, world.twin.held == 1));
    loop_advance(world.loop, 199000);
    cr_assert_eq(strlen(app_got(a)), 0);
    loop_advance(world.loop, 2000);
    app_wants(a, "HTTP/1.1 503 ");
    cr_assert(app_has(a, "not_ready"));
    app_free(a);
}

Test(request_move, a_pull_is_over_when_the_other_is_ready)
{
    struct app *a;

    world.deepseek.state = DEPLOYMENT_LOADING;
    a = held_at(&world.deepseek, "/api/pull");
    switch_off(&world.deepseek);
    world_state(&world.twin, DEPLOYMENT_READY);
    app_wants(a, "{\"status\":\"success\"}");
    cr_assert_eq(world.deepseek.begun, 0);
    app_free(a);
}

Test(request_move, an_engines_own_failure_is_remembered_until_it_answers_well)
{
    struct app *a = app_new();

    app_post(a, CHAT, MODEL);
    engine_gets(0, MODEL);
    link_say(0, "HTTP/1.1 500 Internal Server Error\r\nContent-Length: 2\r\n\r\nno");
    app_wants(a, "no");
    cr_assert(world.deepseek.shunned);
    app_forget(a);
    app_post(a, CHAT, MODEL);
    cr_assert(LOOP_UNTIL(world.loop, ({
                             const char *first = strstr(link_got(world.links[0]), MODEL);

                             first &&strstr(first + 1, MODEL);
                         })));
    link_say(0, "HTTP/1.1 404 Not Found\r\nContent-Length: 2\r\n\r\nok");
    app_wants(a, "ok");
    cr_assert_not(world.deepseek.shunned, "the application's mistake");
    app_free(a);
}

Test(request_move, ollama_stop_is_for_all_of_that_name)
{
    _cleanup_free_ char *answer = NULL;

    world.twin.state = DEPLOYMENT_READY;
    answer = post("/api/generate", "{\"model\":\"deepseek-r1:7b\",\"keep_alive\":0}");
    cr_assert(strstr(answer, "\"done_reason\":\"unload\""));
    cr_assert_eq(world.deepseek.state, DEPLOYMENT_ASLEEP);
    cr_assert_eq(world.twin.state, DEPLOYMENT_ASLEEP);
    cr_assert_eq(world.qwen.state, DEPLOYMENT_READY);
}

/* ---- the order ---- */

static struct app *ask_number(unsigned n)
{
    _cleanup_free_ char *body = xasprintf("{\"model\":\"deepseek-r1:7b\",\"n\":%u.}", n);
    struct app *a = app_new();

    body[strlen(body) - 2] = ' ';
    app_post(a, CHAT, body);
    return a;
}

/* How often it reached an engine; the last connection that has it. */
static unsigned sent_times(unsigned n, unsigned *ret_at)
{
    _cleanup_free_ char *text = xasprintf("\"n\":%u }", n);
    unsigned times = 0;

    for (unsigned i = 0; i < world.n_links; i++)
        for (const char *p = link_got(world.links[i]); (p = strstr(p, text)); p++) {
            times++;
            *ret_at = i;
        }
    return times;
}

Test(request_move, those_that_move_keep_their_turn)
{
    struct app *apps[4];
    unsigned at;

    world.deepseek.state = world.twin.state = DEPLOYMENT_LOADING;
    world.twin.port_hangs = true;
    for (unsigned i = 0; i < 4; i++) {
        apps[i] = ask_number(i);
        cr_assert(LOOP_UNTIL(world.loop, world.deepseek.held + world.twin.held == (int)i + 1));
        if (i == 1) /* so that one is there before the others come */
            switch_off(&world.deepseek);
        if (i == 1)
            world.deepseek.goal = GOAL_ON_DEMAND, world.deepseek.hold_fault.kind = FAULT_NONE,
            world.deepseek.state = DEPLOYMENT_LOADING;
    }
    cr_assert_eq(world.twin.held, 2);
    world_state(&world.twin, DEPLOYMENT_READY);
    cr_assert(LOOP_UNTIL(world.loop, world.twin.held == 4 && !list_is_empty(&world.twin.dials)));
    for (unsigned i = 0; i < 4; i++) {
        LIST_FOREACH (w, &world.twin.dials, struct world_wait, node) {
            runq_add(world.loop, &w->work);
            break;
        }
        cr_assert(LOOP_UNTIL(world.loop, sent_times(i, &at) == 1), "%u is not the next", i);
        cr_assert(i == 3 || sent_times(i + 1, &at) == 0);
    }
    for (unsigned i = 0; i < 4; i++) {
        sent_times(i, &at);
        link_say(at, OK);
        app_wants(apps[i], "ok");
        app_free(apps[i]);
    }
}

static void post_number(struct app *a, unsigned n)
{
    _cleanup_free_ char *body = xasprintf("{\"model\":\"deepseek-r1:7b\",\"n\":%u }", n);

    app_post(a, CHAT, body);
}

Test(request_move, a_warm_connection_over_there_is_the_oldest_ones)
{
    struct app *younger = app_new(), *older = app_new(); /* by their requests, not by their connections */
    unsigned at = 0;

    loop_turns(world.loop, 3);
    world.deepseek.port_hangs = true;
    post_number(older, 0);
    cr_assert(LOOP_UNTIL(world.loop, world.deepseek.begun == 1));
    post_number(younger, 1);
    cr_assert(LOOP_UNTIL(world.loop, world.deepseek.begun == 2));
    world_state(&world.twin, DEPLOYMENT_READY);
    cr_assert(LOOP_UNTIL(world.loop, world.twin.dialed == 1), "one is kept warm");
    world.twin.port_hangs = true;
    world.deepseek.tunnel_down = true;
    world_tell(&world.deepseek);
    cr_assert(LOOP_UNTIL(world.loop, sent_times(0, &at) == 1));
    cr_assert_eq(sent_times(1, &at), 0);
    sent_times(0, &at);
    link_say(at, OK);
    app_wants(older, "ok");
    cr_assert(LOOP_UNTIL(world.loop, sent_times(1, &at) == 1));
    link_say(at, OK);
    app_wants(younger, "ok");
    app_free(older);
    app_free(younger);
}

/* ---- many stories ---- */

enum { STORIES = 300, STEPS = 40, APPS = 6 };

static struct deployment *any_of_both(unsigned *seed)
{
    return rand_r(seed) % 2 ? &world.deepseek : &world.twin;
}

/* Whoever has a request and has not answered it does. */
static void engines_answer(bool *answered)
{
    unsigned at = 0;

    for (unsigned n = 0; n < APPS; n++) {
        if (answered[n] || sent_times(n, &at) == 0 || world.links[at]->fd < 0)
            continue;
        answered[n] = true;
        link_say(at, OK);
    }
}

static void something_happens(unsigned *seed, bool *answered)
{
    static const enum deployment_state states[] = {DEPLOYMENT_LOADING, DEPLOYMENT_READY, DEPLOYMENT_ASLEEP,
                                                   DEPLOYMENT_DRAINING};
    struct deployment *d = any_of_both(seed);

    switch (rand_r(seed) % 9) {
    case 0:
    case 1:
        d->goal = GOAL_ON_DEMAND;
        d->hold_fault.kind = FAULT_NONE;
        world_state(d, states[(unsigned)rand_r(seed) % ELEMENTS(states)]);
        break;
    case 2: d == &world.twin ? fail(d) : switch_off(d); break;
    case 3:
        d->tunnel_down = !d->tunnel_down;
        world_tell(d);
        world_settle(d);
        break;
    case 4: fault_code(&d->dial_fault, FAULT_TRANSIENT, "refused", "nothing listens"); break;
    case 5: d->dial_fault.kind = FAULT_NONE; break;
    case 6: engines_answer(answered); break;
    case 7: d->shunned = false; break;
    case 8: loop_advance(world.loop, 700); break;
    }
    loop_turns(world.loop, (unsigned)rand_r(seed) % 4);
}

static void calm(struct deployment *d)
{
    d->goal = GOAL_ON_DEMAND;
    d->hold_fault.kind = d->dial_fault.kind = FAULT_NONE;
    d->tunnel_down = false;
    world_state(d, DEPLOYMENT_READY);
}

static unsigned story(unsigned number)
{
    unsigned seed = number, at, moved;
    bool answered[APPS] = {};
    struct app *apps[APPS];

    open_two();
    for (unsigned step = 0, n = 0; step < STEPS; step++) {
        if (step % (STEPS / 2 / APPS) == 0 && n < APPS) {
            apps[n] = ask_number(n);
            n++;
        }
        something_happens(&seed, answered);
    }
    calm(&world.deepseek);
    calm(&world.twin);
    for (unsigned n = 0; n < APPS; n++) {
        for (unsigned i = 0; i < 100 && !app_has(apps[n], "HTTP/1.1 "); i++) {
            engines_answer(answered);
            loop_advance(world.loop, 600);
        }
        cr_assert(app_has(apps[n], "HTTP/1.1 "), "story %u: %u has no answer", number, n);
        cr_assert_null(strstr(app_got(apps[n]) + 9, "HTTP/1.1 "), "story %u: %u has two answers", number, n);
        cr_assert_leq(sent_times(n, &at), 1, "story %u: %u was sent twice", number, n);
        app_free(apps[n]);
    }
    moved = (unsigned)(world.deepseek.moved + world.twin.moved);
    world_close();
    return moved;
}

Test(request_stories, each_gets_one_answer_from_one_engine, .timeout = 120)
{
    unsigned moved = 0;

    for (unsigned number = 1; number <= STORIES; number++)
        moved += story(number);
    cr_assert_gt(moved, (unsigned)STORIES, "they moved %u times", moved);
}
