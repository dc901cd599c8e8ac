/* links: gateway
 *
 * What an application gets while its request is held: nothing at first, then bytes that mean nothing; and
 * what follows them. */
#include "gateway/beat.h"
#include "gateway/http1.h"
#include "tests/unit/request_world.h"

TestSuite(request_beats, .init = world_open, .fini = world_close);

#define STREAM "{\"model\":\"deepseek-r1:7b\",\"stream\":true}"
#define WHOLE  "{\"model\":\"deepseek-r1:7b\",\"stream\":false}"

/* ---- which ---- */

Test(request_beats, each_path_has_the_beat_its_clients_understand)
{
    static const struct {
        const char *path;
        int stream;
        const char *type, *bytes;
    } rows[] = {
        {"/v1/chat/completions", 1, "text/event-stream", ": llmhost\n\n"},
        {"/v1/chat/completions", -1, "application/json", " "},
        {"/v1/completions?x=1", 1, "text/event-stream", ": llmhost\n\n"},
        {"/v1/responses", 1, "text/event-stream", ": llmhost\n\n"},
        {"/v1/embeddings", 1, "application/json", " "},
        {"/api/chat", -1, "application/x-ndjson", " "},
        {"/api/generate", 1, "application/x-ndjson", " "},
        {"/api/generate", 0, "application/json", " "},
        {"/api/embed", -1, "application/json", " "},
        {"/api/pull", -1, "application/x-ndjson", NULL},
        {"/api/pull", 0, "application/json", " "},
        {"/v1/audio/speech", -1, NULL, NULL},
        {"/v1/chat", 1, NULL, NULL},
    };

    for (size_t i = 0; i < ELEMENTS(rows); i++) {
        struct http1_head head = {.method = "POST", .target = rows[i].path};
        struct route route;
        struct beats b;

        route_take(&head, &route);
        b = beats_for(&route, rows[i].stream);
        cr_assert(rows[i].type ? b.type && streq(b.type, rows[i].type) : !b.type, "%s: %s", rows[i].path,
                  b.type);
        cr_assert(rows[i].bytes ? b.bytes && streq(b.bytes, rows[i].bytes) : !b.bytes, "%s", rows[i].path);
    }
}

/* ---- when ---- */

static struct app *held_with(const char *path, const char *body)
{
    struct app *a = app_new();
    int before = world.deepseek.held;

    world.deepseek.state = DEPLOYMENT_LOADING;
    app_post(a, path, body);
    cr_assert(LOOP_UNTIL(world.loop, world.deepseek.held == before + 1));
    return a;
}

/* Time passes in steps, as it does. */
static void pass_s(unsigned seconds)
{
    while (seconds-- > 0)
        loop_advance(world.loop, 1000);
}

static unsigned count_of(const char *text, const char *what)
{
    unsigned n = 0;

    for (text = strstr(text, what); text; text = strstr(text + strlen(what), what))
        n++;
    return n;
}

/* What has come of the body so far. */
static char *body_so_far(struct app *a)
{
    bool whole;

    return unchunked(app_got(a), &whole);
}

static void body_is(struct app *a, const char *expected)
{
    _cleanup_free_ char *got = NULL;

    cr_assert(LOOP_UNTIL(world.loop, ({
                             free(got);
                             got = body_so_far(a);
                             streq(got, expected);
                         })),
              "\"%s\"", got);
}

Test(request_beats, a_stream_of_openai_gets_comments)
{
    struct app *a = held_with(CHAT, STREAM);

    loop_advance(world.loop, 4900);
    cr_assert_eq(strlen(app_got(a)), 0, "the true status may still come");
    loop_advance(world.loop, 200);
    app_wants(a, "HTTP/1.1 200 OK\r\n");
    app_wants(a, ": llmhost\n\n\r\n");
    cr_assert(app_has(a, "Content-Type: text/event-stream\r\n"));
    cr_assert(app_has(a, "X-Accel-Buffering: no\r\n"));
    cr_assert(app_has(a, "Transfer-Encoding: chunked\r\n"));
    loop_advance(world.loop, 9000);
    body_is(a, ": llmhost\n\n");
    pass_s(31);
    body_is(a, ": llmhost\n\n: llmhost\n\n: llmhost\n\n: llmhost\n\n: llmhost\n\n");
    cr_assert_not(app_has(a, "retry:") || app_has(a, "event:"));
    app_free(a);
}

Test(request_beats, a_stream_of_ollama_gets_spaces)
{
    struct app *a = held_with("/api/chat", MODEL);

    pass_s(26);
    body_is(a, "   ");
    cr_assert(app_has(a, "Content-Type: application/x-ndjson\r\n"));
    cr_assert(app_has(a, "X-Accel-Buffering: no\r\n"));
    app_free(a);
}

Test(request_beats, a_document_gets_nothing_for_45_s_and_then_spaces)
{
    struct app *a = held_with(CHAT, MODEL), *b = held_with("/api/generate", WHOLE);

    pass_s(44);
    cr_assert_eq(strlen(app_got(a)) + strlen(app_got(b)), 0);
    pass_s(22);
    body_is(a, "   ");
    body_is(b, "   ");
    cr_assert(app_has(a, "Content-Type: application/json\r\n"));
    cr_assert(app_has(a, "X-Accel-Buffering: no\r\n"));
    app_free(a);
    app_free(b);
}

Test(request_beats, a_pull_gets_lines)
{
    struct app *a = held_with("/api/pull", MODEL);

    pass_s(16);
    body_is(a, "{\"status\":\"llmhost loading\"}\n{\"status\":\"llmhost loading\"}\n");
    world_state(&world.deepseek, DEPLOYMENT_READY);
    app_wants(a, "{\"status\":\"success\"}\n");
    app_wants(a, "0\r\n\r\n");
    app_free(a);
}

Test(request_beats, a_pull_that_does_not_stream_may_wait_long_too)
{
    struct app *a = held_with("/api/pull", WHOLE);

    pass_s(46);
    world_state(&world.deepseek, DEPLOYMENT_READY);
    app_wants(a, "0\r\n\r\n");
    body_is(a, " {\"status\":\"success\"}\n");
    app_free(a);
}

Test(request_beats, who_sets_a_limit_gets_no_bytes_and_the_true_status)
{
    struct app *a = app_new();

    world.deepseek.state = DEPLOYMENT_LOADING;
    app_say(a,
            "POST " CHAT
            " HTTP/1.1\r\nHost: localhost\r\nX-LLMHost-Max-Wait: 120\r\nContent-Length: 40\r\n\r\n" STREAM);
    cr_assert(LOOP_UNTIL(world.loop, world.deepseek.held == 1));
    pass_s(119);
    cr_assert_eq(strlen(app_got(a)), 0);
    pass_s(2);
    app_wants(a, "HTTP/1.1 503 ");
    cr_assert(app_has(a, "Retry-After: 30\r\n"));
    cr_assert(app_has(a, "x-should-retry: false\r\n"));
    app_free(a);
}

Test(request_beats, what_fails_early_has_its_true_status)
{
    struct app *a = held_with(CHAT, STREAM);

    loop_advance(world.loop, 4000);
    fault_code(&world.deepseek.hold_fault, FAULT_EXHAUSTED, "out_of_memory", "it does not fit");
    world_settle(&world.deepseek);
    app_wants(a, "HTTP/1.1 503 ");
    app_free(a);
}

Test(request_beats, a_request_that_was_not_held_is_only_relayed)
{
    struct app *a = app_new();

    app_post(a, CHAT, STREAM);
    engine_gets(0, STREAM);
    pass_s(120);
    cr_assert_eq(strlen(app_got(a)), 0);
    link_say(0, STREAM_HEAD "9\r\ndata: x\n\n\r\n0\r\n\r\n");
    app_wants(a, "0\r\n\r\n");
    body_is(a, "data: x\n\n");
    app_free(a);
}

Test(request_beats, http_1_0_gets_them_without_chunks)
{
    struct app *a = app_new();

    world.deepseek.state = DEPLOYMENT_LOADING;
    app_say(a, "POST " CHAT " HTTP/1.0\r\nContent-Length: 40\r\n\r\n" STREAM);
    cr_assert(LOOP_UNTIL(world.loop, world.deepseek.held == 1));
    pass_s(16);
    app_wants(a, "\r\n\r\n: llmhost\n\n: llmhost\n\n");
    cr_assert_not(app_has(a, "chunked"));
    world_state(&world.deepseek, DEPLOYMENT_READY);
    link_say(engine_with(STREAM), STREAM_HEAD "9\r\ndata: x\n\n\r\n0\r\n\r\n");
    cr_assert(LOOP_UNTIL(world.loop, app_is_over(a)));
    cr_assert_str_eq(body_of(app_got(a)), ": llmhost\n\n: llmhost\n\ndata: x\n\n");
    cr_assert_not(a->reset);
    app_free(a);
}

/* ---- the answer ---- */

/* Held for so long, and then at the engine: the number of its connection. */
static unsigned sent_after(unsigned seconds, const char *path, const char *body, struct app **ret)
{
    *ret = held_with(path, body);
    pass_s(seconds);
    world_state(&world.deepseek, DEPLOYMENT_READY);
    return engine_with(body);
}

Test(request_beats, the_answer_follows_in_our_framing)
{
    struct app *a;
    unsigned at = sent_after(6, CHAT, STREAM, &a);

    link_say(at, STREAM_HEAD "9\r\ndata: x\n\n\r\n");
    app_wants(a, "data: x");
    link_say(at, "9\r\ndata: y\n\n\r\n0\r\n\r\n");
    app_wants(a, "0\r\n\r\n");
    body_is(a, ": llmhost\n\ndata: x\n\ndata: y\n\n");
    cr_assert_eq(count_of(app_got(a), "HTTP/1.1"), 1);
    cr_assert_eq(count_of(app_got(a), "Content-Type"), 1);
    app_forget(a);
    app_post(a, CHAT, STREAM);
    link_say(engine_with(STREAM), OK);
    app_wants(a, "\r\n\r\nok");
    app_free(a);
}

Test(request_beats, a_document_of_known_length_follows_in_our_framing)
{
    struct app *a;
    unsigned at = sent_after(46, "/v1/embeddings", MODEL, &a);

    link_say(at, "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 8\r\n\r\n{\"a\":1}\n");
    app_wants(a, "0\r\n\r\n");
    body_is(a, " {\"a\":1}\n");
    cr_assert_not(app_has(a, "Content-Length"));
    app_free(a);
}

Test(request_beats, they_go_on_while_the_engine_thinks)
{
    struct app *a;
    unsigned at = sent_after(4, "/api/chat", MODEL, &a);

    pass_s(22);
    body_is(a, "   ");
    link_say(at, LINES_HEAD "8\r\n{\"a\":1}\n\r\n");
    app_wants(a, "{\"a\":1}");
    pass_s(30);
    link_say(at, "0\r\n\r\n");
    app_wants(a, "0\r\n\r\n");
    body_is(a, "   {\"a\":1}\n");
    app_free(a);
}

Test(request_beats, an_answer_behind_them_is_asked_for_uncompressed)
{
    struct app *a = app_new();
    unsigned at;

    world.deepseek.state = DEPLOYMENT_LOADING;
    app_say(a, "POST " CHAT
               " HTTP/1.1\r\nHost: localhost\r\nAccept-Encoding: gzip\r\nContent-Length: 40\r\n\r\n" STREAM);
    cr_assert(LOOP_UNTIL(world.loop, world.deepseek.held == 1));
    pass_s(6);
    world_state(&world.deepseek, DEPLOYMENT_READY);
    at = engine_with(STREAM);
    cr_assert_not(link_has(at, "Accept-Encoding"));
    link_say(at, "HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 3\r\n\r\nabc");
    app_wants(a, "0\r\n\r\n");
    cr_assert(app_has(a, "data: {\"error\":{"), "%s", app_got(a));
    app_free(a);
}

/* ---- and failure ---- */

Test(request_beats, a_late_failure_is_one_event_and_a_clean_end)
{
    struct app *a = held_with(CHAT, STREAM), *b = held_with("/api/chat", MODEL);

    pass_s(16);
    fault_code(&world.deepseek.hold_fault, FAULT_EXHAUSTED, "out_of_memory", "it does not fit");
    world_settle(&world.deepseek);
    app_wants(a, "0\r\n\r\n");
    app_wants(b, "0\r\n\r\n");
    body_is(a, ": llmhost\n\n: llmhost\n\ndata: {\"error\":{\"message\":\"deepseek-r1:7b: it does not "
               "fit\",\"type\":"
               "\"out_of_memory\",\"param\":null,\"code\":\"out_of_memory\"}}\n\n");
    body_is(b, "  {\"error\":\"deepseek-r1:7b: it does not fit\"}\n");
    cr_assert_not(app_has(a, "[DONE]"));
    app_forget(b);
    app_post(b, "/api/chat", "{\"model\":\"nosuch\"}");
    app_wants(b, "HTTP/1.1 404 ");
    app_free(a);
    app_free(b);
}

Test(request_beats, a_late_failure_of_a_document_is_an_error_and_a_torn_end)
{
    struct app *a = held_with(CHAT, MODEL), *b = held_with("/api/chat", WHOLE);
    bool whole = true;

    pass_s(46);
    fault_code(&world.deepseek.hold_fault, FAULT_EXHAUSTED, "out_of_memory", "it does not fit");
    world_settle(&world.deepseek);
    cr_assert(LOOP_UNTIL(world.loop, app_is_over(a) && app_is_over(b)));
    cr_assert_not(a->reset || b->reset, "what was sent must arrive");
    body_is(a, " {\"error\":{\"message\":\"deepseek-r1:7b: it does not "
               "fit\",\"type\":\"out_of_memory\",\"param\":null,"
               "\"code\":\"out_of_memory\"}}\n");
    body_is(b, " {\"error\":\"deepseek-r1:7b: it does not fit\"}\n");
    free(unchunked(app_got(a), &whole));
    cr_assert_not(whole, "no last chunk");
    app_free(a);
    app_free(b);
}

Test(request_beats, the_end_of_the_hold_is_said_too)
{
    struct app *a = held_with(CHAT, STREAM);

    pass_s(601);
    app_wants(a, "\"code\":\"not_ready\"");
    app_wants(a, "0\r\n\r\n");
    app_free(a);
}

Test(request_beats, an_error_of_the_engine_becomes_an_event)
{
    static const struct {
        const char *path, *body, *error, *expected;
    } rows[] = {
        {CHAT, STREAM, "{\"error\":\n {\"message\":\"too long\",\"type\":\"invalid\",\"code\":400}}",
         ": llmhost\n\ndata: {\"error\":{\"message\":\"too long\",\"type\":\"invalid\",\"code\":400}}\n\n"},
        {"/api/chat", MODEL, "{\"error\":\"no such thing\"}", " {\"error\":\"no such thing\"}\n"},
        {"/api/chat", MODEL, "<html>oops</html>",
         " {\"error\":\"the engine of deepseek-r1:7b answered 400: <html>oops</html>\"}\n"},
        {"/api/chat", MODEL, "", " {\"error\":\"the engine of deepseek-r1:7b answered 400: \"}\n"},
    };

    for (size_t i = 0; i < ELEMENTS(rows); i++) {
        struct app *a;
        unsigned at = sent_after(6, rows[i].path, rows[i].body, &a);
        _cleanup_free_ char *answer = xasprintf("HTTP/1.1 400 Bad Request\r\nContent-Length: %zu\r\n\r\n%s",
                                                strlen(rows[i].error), rows[i].error);

        buf_clear(&world.links[at]->got);
        link_say(at, answer);
        app_wants(a, "0\r\n\r\n");
        body_is(a, rows[i].expected);
        app_free(a);
    }
}

Test(request_beats, an_error_of_the_engine_tears_a_document)
{
    struct app *a;
    unsigned at = sent_after(46, CHAT, MODEL, &a);
    bool whole = true;

    link_say(at, "HTTP/1.1 500 Oops\r\nTransfer-Encoding: chunked\r\n\r\n15\r\n{\"error\":{\"message\":\"\r\n"
                 "5\r\nx\"}}\n\r\n0\r\n\r\n");
    cr_assert(LOOP_UNTIL(world.loop, app_is_over(a)));
    cr_assert_not(a->reset);
    body_is(a, " {\"error\":{\"message\":\"x\"}}\n");
    free(unchunked(app_got(a), &whole));
    cr_assert_not(whole);
    app_free(a);
}

Test(request_beats, a_loss_behind_them_is_an_event)
{
    struct app *a;
    unsigned at = sent_after(6, "/api/chat", MODEL, &a);

    buf_clear(&world.links[at]->got);
    link_close(at); /* a connection that was idle: it may have been stale */
    link_close(engine_with(MODEL));
    app_wants(a, "0\r\n\r\n");
    cr_assert(
        app_has(a, "{\"error\":\"the engine closed the connection while deepseek-r1:7b had this request"));
    app_free(a);
}

Test(request_beats, an_application_may_leave_between_them)
{
    struct app *a = held_with(CHAT, STREAM), *b = held_with(CHAT, STREAM);

    pass_s(6);
    app_wants(a, "llmhost");
    app_leave(a);
    cr_assert(LOOP_UNTIL(world.loop, world.deepseek.held == 1));
    pass_s(60);
    world_state(&world.deepseek, DEPLOYMENT_READY);
    link_say(engine_with(STREAM), STREAM_HEAD "9\r\ndata: x\n\n\r\n0\r\n\r\n");
    app_wants(b, "data: x");
    app_free(a);
    app_free(b);
}

Test(request_beats, the_gateway_may_go_between_them)
{
    struct app *a = held_with(CHAT, STREAM), *b = held_with("/api/chat", WHOLE);

    pass_s(46);
    app_wants(b, " ");
    world.gateway = gateway_free(world.gateway);
    cr_assert(LOOP_UNTIL(world.loop, app_is_over(a) && app_is_over(b)));
    cr_assert(app_has(a, "data: {\"error\":{\"message\":\"llmhostd is being stopped\""), "%s", app_got(a));
    cr_assert(app_has(b, "{\"error\":\"llmhostd is being stopped\"}"), "%s", app_got(b));
    app_free(a);
    app_free(b);
}
