/* links: gateway
 *
 * One request whose tunnel, engine or owner ends it: what is repeated, what is said, and what is never sent
 * twice. */
#include "tests/unit/request_world.h"

TestSuite(request_loss, .init = world_open, .fini = world_close);

/* ---- losses ---- */

Test(request_loss, a_request_that_was_read_is_not_repeated)
{
    struct app *a = sent_on_fresh(CHAT);

    link_close(0);
    app_wants(a, "HTTP/1.1 502 ");
    app_wants(a, "\"code\":\"engine_lost\"");
    cr_assert(app_has(a, "not repeated"));
    loop_advance(world.loop, 5000);
    for (unsigned i = 1; i < world.n_links; i++)
        cr_assert_not(link_has(i, MODEL));
    cr_assert_eq(world.deepseek.doubts, 1);
    app_free(a);
}

Test(request_loss, why_the_engine_ended_is_told)
{
    struct app *a;
    bool whole;
    char *got;

    fault_code(&world.deepseek.judge_fault, FAULT_TRANSIENT, "engine_crashed", "ollama ended on gpu1, by SIGKILL");
    a = sent_on_fresh(CHAT);
    link_close(0);
    app_wants(a, "HTTP/1.1 502 ");
    app_wants(a, "the engine ended while deepseek-r1:7b had this request (ollama ended on gpu1, by SIGKILL); it was not repeated");
    app_forget(a);
    buf_clear(&world.links[0]->got);
    app_post(a, CHAT, MODEL);
    unsigned at = engine_with(MODEL);

    link_say(at, STREAM_HEAD "9\r\ndata: x\n\n\r\n");
    app_wants(a, "data: x");
    cr_assert_gt(world.deepseek.heard, 0u);
    link_close(at);
    app_wants(a, "0\r\n\r\n");
    got = unchunked(app_got(a), &whole);
    cr_assert(whole);
    cr_assert(strstr(got, "in the middle of this answer (ollama ended on gpu1, by SIGKILL); the request was not repeated"), "%s", got);
    free(got);
    app_free(a);
}

Test(request_loss, a_reason_that_takes_long_is_not_waited_for)
{
    struct app *a = sent_on_fresh(CHAT), *b;

    world.deepseek.judge_hangs = true;
    link_close(0);
    loop_advance(world.loop, 1990);
    cr_assert_not(app_has(a, "HTTP/1.1"));
    loop_advance(world.loop, 11);
    app_wants(a, "the engine closed the connection while deepseek-r1:7b had this request; it was not repeated");
    app_free(a);
    b = app_new();
    buf_clear(&world.links[0]->got);
    app_post(b, CHAT, MODEL);
    unsigned at = engine_with(MODEL);

    link_close(at);
    loop_turns(world.loop, 3);
    app_free(b); /* it leaves while the reason is asked for */
    loop_advance(world.loop, 3000);
    cr_assert_eq(world.deepseek.begun, world.deepseek.ended);
}

Test(request_loss, a_tunnel_that_breaks_before_the_answer_is_502_and_said_so)
{
    struct app *a;

    world.deepseek.channels = true;
    a = sent_on_fresh("/api/chat");
    link_break(0);
    app_wants(a, "HTTP/1.1 502 ");
    app_wants(a, "{\"error\":\"the tunnel broke while deepseek-r1:7b had this request; it was not repeated");
    app_free(a);
}

Test(request_loss, a_cut_in_the_answers_head_is_502)
{
    struct app *a = sent_on_fresh(CHAT);

    link_say(0, "HTTP/1.1 200 OK\r\nContent-Ty");
    loop_turns(world.loop, 3);
    link_close(0);
    app_wants(a, "HTTP/1.1 502 ");
    app_free(a);
}

Test(request_loss, an_answer_that_makes_no_sense_is_502)
{
    struct app *a = sent_on_fresh(CHAT);

    link_say(0, "SSH-2.0-OpenSSH_9.2\r\n\r\n");
    app_wants(a, "HTTP/1.1 502 ");
    app_wants(a, "\"code\":\"bad_answer\"");
    app_free(a);
}

Test(request_loss, a_cut_in_an_event_stream_is_an_event)
{
    struct app *a = sent_on_fresh(CHAT);
    bool whole;
    char *got;

    link_say(0, STREAM_HEAD "9\r\ndata: x\n\n\r\n");
    app_wants(a, "data: x");
    link_close(0);
    app_wants(a, "0\r\n\r\n");
    got = unchunked(app_got(a), &whole);
    cr_assert(whole);
    cr_assert_eq(strncmp(got, "data: x\n\ndata: {\"error\":{\"message\":\"", 36), 0, "%s", got);
    cr_assert(strstr(got, "\"code\":\"engine_lost\"}}\n\n"));
    cr_assert_not(strstr(got, "[DONE]"));
    free(got);
    app_forget(a);
    app_post(a, CHAT, "{\"model\":\"nosuch\"}");
    app_wants(a, "HTTP/1.1 404 ");
    app_free(a);
}

Test(request_loss, a_cut_in_the_middle_of_an_event_begins_a_new_one)
{
    struct app *a = sent_on_fresh("/v1/responses");
    bool whole;
    char *got;

    world.deepseek.channels = true;
    link_say(0, STREAM_HEAD "9\r\ndata: {\"a\r\n");
    app_wants(a, "data: {\"a");
    link_close(0);
    app_wants(a, "0\r\n\r\n");
    got = unchunked(app_got(a), &whole);
    cr_assert_eq(strncmp(got, "data: {\"a\n\ndata: {\"error\":{", 27), 0, "%s", got);
    free(got);
    app_free(a);
}

Test(request_loss, a_cut_in_lines_is_a_line)
{
    struct app *a = sent_on_fresh("/api/generate");
    bool whole;
    char *got;

    link_say(0, LINES_HEAD "b\r\n{\"a\":1}\n{\"b\r\n");
    app_wants(a, "{\"b");
    link_close(0);
    app_wants(a, "0\r\n\r\n");
    got = unchunked(app_got(a), &whole);
    cr_assert(whole);
    cr_assert_eq(strncmp(got, "{\"a\":1}\n{\"b\n{\"error\":\"", 22), 0, "%s", got);
    cr_assert_eq(got[strlen(got) - 1], '\n');
    free(got);
    app_free(a);
}

Test(request_loss, a_tunnel_that_breaks_in_a_stream_is_an_event)
{
    struct app *a;

    world.deepseek.channels = true;
    a = sent_on_fresh(CHAT);
    link_say(0, STREAM_HEAD "9\r\ndata: x\n\n\r\n");
    app_wants(a, "data: x");
    link_break(0);
    loop_turns(world.loop, 2);
    app_wants(a, "\"code\":\"tunnel_lost\"");
    app_wants(a, "0\r\n\r\n");
    app_free(a);
}

Test(request_loss, a_cut_in_an_unstreamed_answer_is_a_broken_connection)
{
    struct app *a = sent_on_fresh(CHAT), *b;
    unsigned at;
    bool whole;
    char *got;

    link_say(0, "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc");
    app_wants(a, "abc");
    link_close(0);
    cr_assert(LOOP_UNTIL(world.loop, app_is_over(a)));
    cr_assert(a->reset);
    app_free(a);

    buf_clear(&world.links[0]->got);
    b = app_new();
    app_post(b, CHAT, MODEL);
    at = engine_with(MODEL);
    link_say(at, "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: "
                 "chunked\r\n\r\n3\r\nabc\r\n");
    app_wants(b, "abc");
    link_close(at);
    cr_assert(LOOP_UNTIL(world.loop, app_is_over(b)));
    got = unchunked(app_got(b), &whole);
    cr_assert_not(whole);
    free(got);
    app_free(b);
}

/* ---- the owner's hand ---- */

static void cut(struct deployment *d)
{
    d->cut = true;
    world_tell(d);
}

Test(request_loss, down_now_ends_what_is_open)
{
    struct app *streaming = sent_on_fresh(CHAT), *silent = app_new();

    link_say(0, STREAM_HEAD "9\r\ndata: x\n\n\r\n");
    app_wants(streaming, "data: x");
    app_post(silent, "/api/chat", MODEL);
    cr_assert(LOOP_UNTIL(world.loop, world.deepseek.waiting == 2));
    world.deepseek.goal = GOAL_OFF;
    cut(&world.deepseek);
    app_wants(streaming, "\"code\":\"stopped_by_user\"");
    app_wants(streaming, "0\r\n\r\n");
    app_wants(silent, "HTTP/1.1 503 ");
    cr_assert_eq(world.deepseek.ended, 2);
    cr_assert(LOOP_UNTIL(world.loop, link_is_over(0)));
    app_free(streaming);
    app_free(silent);
}

/* Its server is to be started anew, and has drained for long enough. */
Test(request_loss, a_restart_ends_what_is_open_and_not_what_is_held)
{
    struct app *streaming = sent_on_fresh(CHAT), *held = app_new();

    link_say(0, STREAM_HEAD "9\r\ndata: x\n\n\r\n");
    app_wants(streaming, "data: x");
    world.deepseek.state = DEPLOYMENT_DRAINING;
    app_post(held, CHAT, MODEL);
    cr_assert(LOOP_UNTIL(world.loop, world.deepseek.held == 1));
    world.deepseek.state = DEPLOYMENT_STOPPING;
    cut(&world.deepseek);
    app_wants(streaming, "\"code\":\"restarted\"");
    cr_assert_eq(world.deepseek.ended, 1);
    cr_assert_eq(world.deepseek.held, 1);
    app_free(streaming);
    app_free(held);
}

Test(request_loss, a_model_that_is_removed_ends_its_requests)
{
    struct app *a = app_new();

    world.deepseek.state = DEPLOYMENT_LOADING;
    app_post(a, CHAT, MODEL);
    cr_assert(LOOP_UNTIL(world.loop, world.deepseek.held == 1));
    world.manager.listener->deployment(world.manager.listener->ctx, &world.deepseek, true);
    cr_assert_eq(world.deepseek.ended, 1, "at once: it is about to be freed");
    cr_assert(list_is_empty(&world.deepseek.holds));
    app_wants(a, "HTTP/1.1 503 ");
    app_free(a);
}
