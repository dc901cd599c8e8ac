/* links: gateway
 *
 * An engine that answers nothing more since somebody left it in the middle of an answer. */
#include "tests/unit/request_world.h"

TestSuite(request_cure, .init = world_open, .fini = world_close);

#define UNLOAD "{\"model\":\"deepseek-r1:7b\",\"keep_alive\":0}"
#define GONE   "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}"

static void pass_s(unsigned seconds)
{
    while (seconds-- > 0)
        loop_advance(world.loop, 1000);
}

/* Somebody reads the beginning of an answer and goes. */
static void leave_one(void)
{
    struct app *a = sent_on_fresh("/api/chat");

    link_say(0, LINES_HEAD "3\r\n{}\n\r\n");
    app_wants(a, "{}");
    app_leave(a);
    cr_assert(LOOP_UNTIL(world.loop, link_is_over(0)));
    buf_clear(&world.links[0]->got);
    app_free(a);
}

/* How many connections were sent this text. */
static unsigned count_with(const char *text)
{
    unsigned n = 0;

    for (unsigned i = 0; i < world.n_links; i++)
        n += link_has(i, text);
    return n;
}

Test(request_cure, a_silent_engine_is_unloaded_and_asked_again)
{
    struct app *a = app_new();
    unsigned at;

    leave_one();
    app_post(a, "/api/chat", MODEL);
    at = engine_with(MODEL);
    pass_s(29);
    cr_assert_eq(count_with(UNLOAD), 0);
    cr_assert_not(link_is_over(at));
    pass_s(2);
    cr_assert(LOOP_UNTIL(world.loop, link_is_over(at)),
              "the request is taken back first: it holds the model");
    buf_clear(&world.links[at]->got);
    at = engine_with(UNLOAD);
    cr_assert(link_has(at, "POST /api/generate HTTP/1.1\r\n"));
    cr_assert_eq(count_with("/api/chat"), 0, "not before it is unloaded");
    link_say(at, GONE);
    link_say(engine_with("/api/chat"), OK);
    app_wants(a, "ok");
    cr_assert_eq(world.deepseek.begun, 2);
    app_free(a);
}

Test(request_cure, it_is_done_once_for_a_request)
{
    struct app *a = app_new();
    unsigned at;

    leave_one();
    app_post(a, "/api/chat", MODEL);
    engine_with(MODEL);
    pass_s(31);
    link_say(engine_with(UNLOAD), GONE);
    cr_assert(LOOP_UNTIL(world.loop, count_with(MODEL) == 2));
    pass_s(300);
    cr_assert_eq(count_with(UNLOAD), 1);
    for (at = world.n_links - 1; !link_has(at, MODEL); at--)
        ;
    link_say(at, LINES_HEAD "0\r\n\r\n");
    app_wants(a, "0\r\n\r\n");
    app_free(a);
}

Test(request_cure, an_unload_that_fails_or_hangs_is_not_the_end)
{
    struct app *a = app_new();
    unsigned at;

    leave_one();
    app_post(a, "/api/chat", MODEL);
    engine_with(MODEL);
    pass_s(31);
    engine_with(UNLOAD);
    pass_s(31);
    cr_assert(LOOP_UNTIL(world.loop, count_with(MODEL) == 2));
    for (at = world.n_links - 1; !link_has(at, MODEL); at--)
        ;
    link_say(at, LINES_HEAD "3\r\n{}\n\r\n0\r\n\r\n");
    app_wants(a, "{}");
    app_free(a);
}

Test(request_cure, a_silent_engine_nobody_left_is_thinking)
{
    struct app *a = sent_on_fresh("/api/chat");

    pass_s(300);
    cr_assert_eq(count_with(UNLOAD), 0);
    link_say(0, OK);
    app_wants(a, "ok");
    app_free(a);
}

Test(request_cure, an_engine_that_answered_since_is_well)
{
    struct app *a = app_new(), *b = app_new();
    unsigned at;

    leave_one();
    app_post(a, "/api/chat", MODEL);
    at = engine_with(MODEL);
    buf_clear(&world.links[at]->got);
    link_say(at, OK);
    app_wants(a, "ok");
    app_post(b, "/api/chat", MODEL);
    engine_with(MODEL);
    pass_s(120);
    cr_assert_eq(count_with(UNLOAD), 0);
    app_free(a);
    app_free(b);
}

Test(request_cure, one_of_several_only_waits_for_its_turn)
{
    struct app *a = app_new(), *b = app_new();

    leave_one();
    app_post(a, "/api/chat", MODEL);
    app_post(b, "/api/chat", MODEL);
    cr_assert(LOOP_UNTIL(world.loop, count_with(MODEL) == 2));
    pass_s(45);
    cr_assert_eq(count_with(UNLOAD), 0);
    app_leave(b);
    pass_s(61);
    cr_assert(LOOP_UNTIL(world.loop, count_with(UNLOAD) == 1), "alone, and 30 s after the last one left");
    app_free(a);
    app_free(b);
}

Test(request_cure, who_was_there_before_has_its_time_too)
{
    struct app *a = sent_on_fresh("/api/chat"), *b = app_new();

    app_post(b, "/api/chat", MODEL);
    cr_assert(LOOP_UNTIL(world.loop, count_with(MODEL) == 2));
    pass_s(25);
    app_leave(b);
    pass_s(25);
    cr_assert_eq(count_with(UNLOAD), 0);
    pass_s(10);
    cr_assert(LOOP_UNTIL(world.loop, count_with(UNLOAD) == 1));
    app_free(a);
    app_free(b);
}

Test(request_cure, a_stream_is_told_that_it_waits)
{
    struct app *a = app_new();

    leave_one();
    app_post(a, CHAT, "{\"model\":\"deepseek-r1:7b\",\"stream\":true}");
    engine_with("\"stream\":true}");
    pass_s(29);
    cr_assert_eq(strlen(app_got(a)), 0);
    pass_s(2);
    app_wants(a, ": llmhost\n\n");
    app_leave(a);
    cr_assert(LOOP_UNTIL(world.loop, world.deepseek.ended == 2));
    app_free(a);
}

Test(request_cure, an_engine_of_another_kind_does_not_stick)
{
    struct app *a = app_new(), *b = app_new();
    const char *qwen = "{\"model\":\"Qwen/Qwen3-4B-GGUF:Q4_K_M\"}";

    app_post(a, CHAT, qwen);
    engine_with(qwen);
    app_leave(a);
    cr_assert(LOOP_UNTIL(world.loop, world.qwen.ended == 1));
    app_post(b, CHAT, qwen);
    cr_assert(LOOP_UNTIL(world.loop, count_with(qwen) == 2));
    pass_s(120);
    cr_assert_eq(count_with("keep_alive"), 0);
    app_free(a);
    app_free(b);
}

Test(request_cure, a_tunnel_that_breaks_under_a_request_leaves_the_engine_with_it)
{
    struct app *a;

    world.deepseek.channels = true;
    a = sent_on_fresh("/api/chat");
    link_break(0);
    app_wants(a, "the tunnel broke while deepseek-r1:7b had this request");
    app_forget(a);
    buf_clear(&world.links[0]->got);
    app_post(a, "/api/chat", MODEL);
    engine_with(MODEL);
    pass_s(31);
    engine_with(UNLOAD);
    app_free(a);
}

Test(request_cure, an_engine_that_ended_in_its_answer_was_not_left)
{
    struct app *a = sent_on_fresh("/api/chat");

    link_say(0, "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 20\r\n\r\n{");
    app_wants(a, "{");
    link_close(0);
    cr_assert(LOOP_UNTIL(world.loop, app_is_over(a)));
    app_free(a);
    buf_clear(&world.links[0]->got);
    a = app_new();
    app_post(a, "/api/chat", MODEL);
    engine_with(MODEL);
    pass_s(300);
    cr_assert_eq(count_with(UNLOAD), 0);
    app_free(a);
}
