/* links: gateway
 *
 * One request that waits: for its model, and for a connection to it. Without heartbeats, which are
 * test_request_beats.c's. */
#include "tests/unit/request_world.h"

static void open_quiet(void)
{
    world_open_with("[gateway]\nlisten=127.0.0.1:0\nhold=10m\nheartbeat=off\n");
}

TestSuite(request_hold, .init = open_quiet, .fini = world_close);

/* ---- the hold ---- */

Test(request_hold, a_request_waits_for_its_model)
{
    struct app *a = app_new();
    unsigned at;

    world.deepseek.state = DEPLOYMENT_LOADING;
    app_post(a, CHAT, MODEL);
    cr_assert(LOOP_UNTIL(world.loop, world.deepseek.held == 1));
    cr_assert_eq(world.deepseek.begun, 1);
    loop_advance(world.loop, 599000);
    cr_assert_eq(strlen(app_got(a)), 0);
    world_state(&world.deepseek, DEPLOYMENT_READY);
    at = engine_with(MODEL);
    cr_assert_eq(world.deepseek.held, 0);
    link_say(at, OK);
    app_wants(a, "ok");
    app_free(a);
}

Test(request_hold, a_hold_ends_with_503_and_no_wish_to_be_asked_again)
{
    struct app *a = app_new(), *b = app_new();

    world.deepseek.state = DEPLOYMENT_LOADING;
    app_post(a, CHAT, MODEL);
    app_post(b, "/api/chat", MODEL);
    cr_assert(LOOP_UNTIL(world.loop, world.deepseek.held == 2));
    loop_advance(world.loop, 601000);
    app_wants(a, "HTTP/1.1 503 Service Unavailable\r\n");
    cr_assert(app_has(a, "Retry-After: 30\r\n"));
    cr_assert(app_has(a, "x-should-retry: false\r\n"));
    cr_assert(app_has(a, "\"code\":\"not_ready\""));
    cr_assert(app_has(a, "loading"));
    app_wants(b, "{\"error\":\"deepseek-r1:7b is not ready after");
    cr_assert_eq(world.deepseek.held, 0);
    fault_code(&world.deepseek.fault, FAULT_TRANSIENT, "engine_crashed", "ollama ended on gpu1, by SIGKILL");
    app_forget(a);
    app_post(a, CHAT, MODEL);
    cr_assert(LOOP_UNTIL(world.loop, world.deepseek.held == 1));
    loop_advance(world.loop, 601000);
    app_wants(a, ": loading, ollama ended on gpu1, by SIGKILL; ask again");
    app_free(a);
    app_free(b);
}

Test(request_hold, the_application_may_bound_the_hold)
{
    struct app *a = app_new();
    _cleanup_free_ char *bad = NULL;

    world.deepseek.state = DEPLOYMENT_LOADING;
    app_say(a, "POST " CHAT
               " HTTP/1.1\r\nHost: localhost\r\nX-LLMHost-Max-Wait: 5\r\nContent-Length: 26\r\n\r\n" MODEL);
    cr_assert(LOOP_UNTIL(world.loop, world.deepseek.held == 1));
    loop_advance(world.loop, 4900);
    cr_assert_eq(strlen(app_got(a)), 0);
    loop_advance(world.loop, 200);
    app_wants(a, "HTTP/1.1 503 ");
    bad = ask("POST " CHAT
              " HTTP/1.1\r\nHost: localhost\r\nX-LLMHost-Max-Wait: soon\r\nContent-Length: 26\r\n\r\n" MODEL);
    cr_assert_eq(status_of(bad), 400);
    app_free(a);
}

Test(request_hold, a_machine_that_only_a_person_switches_on_is_named_at_its_end)
{
    struct app *a = app_new();

    world.deepseek.state = DEPLOYMENT_CONNECTING;
    world.deepseek.needs_hand = true;
    app_say(a, "POST " CHAT
               " HTTP/1.1\r\nHost: localhost\r\nX-LLMHost-Max-Wait: 5\r\nContent-Length: 26\r\n\r\n" MODEL);
    cr_assert(LOOP_UNTIL(world.loop, world.deepseek.held == 1), "it may be switched on meanwhile");
    loop_advance(world.loop, 5100);
    app_wants(a, "HTTP/1.1 503 ");
    app_wants(a, "switch it on at https://console.example");
    cr_assert_not_null(strstr(app_got(a), "\"code\":\"switched_off\""), "%s", app_got(a));
    app_free(a);
}

static const char *ask_for_2_s =
    "POST " CHAT " HTTP/1.1\r\nHost: localhost\r\nX-LLMHost-Max-Wait: 2\r\nContent-Length: 26\r\n\r\n" MODEL;

Test(request_hold, a_short_hold_is_as_short_while_the_tunnel_is_down)
{
    struct app *a = app_new();

    world.deepseek.hold_is_over = world.deepseek.tunnel_down = true;
    app_say(a, ask_for_2_s);
    cr_assert(LOOP_UNTIL(world.loop, !list_is_empty(&world.deepseek.dials)));
    loop_advance(world.loop, 2001);
    app_wants(a, "HTTP/1.1 503 ");
    cr_assert(app_has(a, "the tunnel to its machine is down"));
    app_free(a);
}

Test(request_hold, a_dial_under_way_outlasts_a_short_hold)
{
    struct app *a = app_new();

    world.deepseek.hold_is_over = world.deepseek.port_hangs = true;
    app_say(a, ask_for_2_s);
    cr_assert(LOOP_UNTIL(world.loop, !list_is_empty(&world.deepseek.dials)));
    loop_advance(world.loop, 4000);
    cr_assert_eq(strlen(app_got(a)), 0);
    loop_advance(world.loop, 1001);
    app_wants(a, "HTTP/1.1 503 ");
    app_free(a);
}

Test(request_hold, a_stopped_model_says_so_at_once)
{
    _cleanup_free_ char *answer = NULL;

    world.deepseek.state = DEPLOYMENT_OFF;
    fault_code(&world.deepseek.hold_fault, FAULT_GONE, "stopped_by_user", "deepseek-r1:7b is off");
    answer = post(CHAT, MODEL);
    cr_assert_eq(status_of(answer), 503);
    cr_assert(strstr(answer, "\"code\":\"stopped_by_user\""));
    cr_assert(strstr(answer, "deepseek-r1:7b is off. bring it back: llmhostctl up "));
    cr_assert_eq(world.deepseek.dialed, 0);
}

Test(request_hold, a_fault_while_held_is_the_answer)
{
    struct app *a = app_new();

    world.deepseek.state = DEPLOYMENT_LOADING;
    app_post(a, "/api/generate", MODEL);
    cr_assert(LOOP_UNTIL(world.loop, world.deepseek.held == 1));
    fault_code(&world.deepseek.hold_fault, FAULT_EXHAUSTED, "out_of_memory",
               "the model does not fit into 8 GB");
    world_state(&world.deepseek, DEPLOYMENT_FAILED);
    app_wants(a, "HTTP/1.1 503 ");
    app_wants(a, "{\"error\":\"deepseek-r1:7b: the model does not fit into 8 GB\"}");
    app_free(a);
}

Test(request_hold, an_application_that_leaves_while_held_is_dropped)
{
    struct app *a = app_new();

    world.deepseek.state = DEPLOYMENT_LOADING;
    app_post(a, CHAT, MODEL);
    cr_assert(LOOP_UNTIL(world.loop, world.deepseek.held == 1));
    app_leave(a);
    cr_assert(LOOP_UNTIL(world.loop, world.deepseek.held == 0));
    cr_assert(list_is_empty(&world.deepseek.holds));
    cr_assert_eq(world.deepseek.ended, 1);
    app_free(a);
}

Test(request_hold, the_gateway_may_go_while_requests_are_held_dialing_and_answered)
{
    struct app *held = app_new(), *dialing = app_new(), *streaming = app_new();

    world.deepseek.tunnel_down = false;
    app_post(streaming, CHAT, MODEL);
    engine_gets(0, MODEL);
    link_say(0, STREAM_HEAD "9\r\ndata: x\n\n\r\n");
    app_wants(streaming, "data: x");
    world.embed.state = DEPLOYMENT_LOADING;
    app_post(held, "/api/chat", "{\"model\":\"nomic-embed-text\"}");
    cr_assert(LOOP_UNTIL(world.loop, world.embed.held == 1));
    app_post(dialing, CHAT, "{\"model\":\"Qwen/Qwen3-4B-GGUF:Q4_K_M\"}");
    cr_assert(LOOP_UNTIL(world.loop, world.qwen.begun == 1));
    world.gateway = gateway_free(world.gateway);
    cr_assert(LOOP_UNTIL(world.loop, app_is_over(streaming) && app_is_over(held)));
    cr_assert(app_has(streaming, "data: {\"error\":{\"message\":\"llmhostd is being stopped\""), "%s",
              app_got(streaming));
    cr_assert(app_has(streaming, "0\r\n\r\n"));
    cr_assert(app_has(held, "HTTP/1.1 503 "));
    app_free(held);
    app_free(dialing);
    app_free(streaming);
}

/* ---- connecting ---- */

Test(request_hold, a_refused_connection_is_doubted_and_tried_again)
{
    struct app *a = app_new();

    fault_code(&world.deepseek.dial_fault, FAULT_TRANSIENT, "refused", "nothing listens on port 40001");
    app_post(a, CHAT, MODEL);
    cr_assert(LOOP_UNTIL(world.loop, world.deepseek.doubts == 1));
    loop_advance(world.loop, 600);
    cr_assert(LOOP_UNTIL(world.loop, world.deepseek.doubts == 2));
    world.deepseek.dial_fault.kind = FAULT_NONE;
    loop_advance(world.loop, 600);
    engine_gets(0, MODEL);
    link_say(0, OK);
    app_wants(a, "ok");
    app_free(a);
}

Test(request_hold, a_connection_that_cannot_be_had_ends_the_hold_with_its_reason)
{
    struct app *a = app_new();

    fault_code(&world.deepseek.dial_fault, FAULT_TRANSIENT, "refused", "nothing listens on port 40001");
    app_post(a, CHAT, MODEL);
    for (int i = 0; i < 610; i++)
        loop_advance(world.loop, 1000);
    app_wants(a, "HTTP/1.1 503 ");
    app_wants(a, "nothing listens on port 40001");
    app_free(a);
}

Test(request_hold, a_connection_that_is_forbidden_is_not_tried_again)
{
    struct app *a = app_new();

    fault_code(&world.deepseek.dial_fault, FAULT_DENIED, "forbidden", "the server forbids forwarding");
    app_post(a, CHAT, MODEL);
    app_wants(a, "\"code\":\"forbidden\"");
    app_free(a);
}

Test(request_hold, an_outage_before_the_request_left_is_waited_out)
{
    struct app *a = app_new();
    unsigned at;

    world.deepseek.tunnel_down = true;
    app_post(a, CHAT, MODEL);
    cr_assert(LOOP_UNTIL(world.loop, world.deepseek.held == 1));
    loop_advance(world.loop, 60000);
    world.deepseek.tunnel_down = false;
    world_state(&world.deepseek, DEPLOYMENT_READY);
    at = engine_with(MODEL);
    link_say(at, OK);
    app_wants(a, "ok");
    app_free(a);
}

Test(request_hold, a_channel_that_took_no_byte_is_replaced)
{
    struct app *a = app_new();

    world.deepseek.channels = world.deepseek.refuses_writes = true;
    app_post(a, CHAT, MODEL);
    cr_assert(LOOP_UNTIL(world.loop, world.n_links > 0));
    loop_turns(world.loop, 3);
    world.deepseek.refuses_writes = false;
    link_break(0);
    cr_assert(LOOP_UNTIL(world.loop, world.deepseek.doubts > 0));
    loop_advance(world.loop, 600);
    cr_assert(LOOP_UNTIL(world.loop, link_has(1, MODEL) || link_has(2, MODEL)));
    cr_assert_eq(strlen(app_got(a)), 0);
    app_free(a);
}
