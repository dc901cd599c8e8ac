/* One request on its way to an engine and back: what passes, what waits, what breaks, and what is never sent
 * twice. */
#include "gateway/request.h"

#include "gateway/pool.h"
#include "tests/fixture/gateway_world.h"

TestSuite(request, .init = world_open, .fini = world_close);

#define CHAT  "/v1/chat/completions"
#define MODEL "{\"model\":\"deepseek-r1:7b\"}"

#define STREAM_HEAD                                                                                          \
    "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\nConnection: "       \
    "keep-alive\r\n\r\n"
#define LINES_HEAD                                                                                           \
    "HTTP/1.1 200 OK\r\nContent-Type: application/x-ndjson\r\nTransfer-Encoding: chunked\r\n\r\n"
#define OK "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\nok"

/* The request has reached the engine on that connection: returns its text. */
static const char *engine_gets(unsigned i, const char *text)
{
    cr_assert(LOOP_UNTIL(world.loop, link_has(i, text)), "engine %u has no %s: %s", i, text,
              i < world.n_links ? link_got(world.links[i]) : "(not connected)");
    return link_got(world.links[i]);
}

/* The same on whichever connection: returns its number. */
static unsigned engine_with(const char *text)
{
    unsigned i = 0;

    cr_assert(LOOP_UNTIL(world.loop, ({
                             for (i = 0; i < world.n_links && !link_has(i, text); i++)
                                 ;
                             i < world.n_links;
                         })),
              "no engine has %s", text);
    return i;
}

/* The chunks of an answer put together. */
static char *unchunked(const char *answer, bool *ret_whole)
{
    const char *p = body_of(answer);
    struct buf out;
    size_t n = 1;

    buf_init(&out, WORLD_BYTES_MAX);
    *ret_whole = false;
    while (*p && n > 0) {
        char *end;

        n = strtoul(p, &end, 16);
        if (strncmp(end, "\r\n", 2) != 0 || strlen(end + 2) < n + 2)
            break;
        buf_add(&out, end + 2, n);
        p = end + 2 + n + 2;
        *ret_whole = n == 0;
    }
    return buf_take(&out);
}

/* ---- there ---- */

Test(request, the_engine_gets_the_body_as_it_came_and_the_head_without_what_is_ours)
{
    struct app *a = app_new();
    const char *got;

    app_say(
        a,
        "POST " CHAT
        "?trace=1 HTTP/1.1\r\nHost: gpu.lan:11434\r\nAuthorization: Bearer sk-secret\r\nX-Custom:  kept\r\n"
        "Connection: keep-alive, X-Mine\r\nX-Mine: 1\r\nTE: trailers\r\nOrigin: https://chat.example\r\n"
        "Accept: text/event-stream\r\nX-LLMHost-Max-Wait: 5\r\nCookie: a=b\r\nContent-Length: 37\r\n\r\n"
        "{ \"model\" : \"deepseek-r1:7b\", \"x\":1 }");
    got = engine_gets(0, "\"x\":1 }");
    cr_assert_eq(strncmp(got, "POST " CHAT "?trace=1 HTTP/1.1\r\nHost: 127.0.0.1:40001\r\n", 65), 0, "%s",
                 got);
    cr_assert(strstr(got, "X-Custom: kept\r\n"));
    cr_assert(strstr(got, "Accept: text/event-stream\r\n"));
    cr_assert(strstr(got, "Content-Length: 37\r\n"));
    cr_assert_str_eq(body_of(got), "{ \"model\" : \"deepseek-r1:7b\", \"x\":1 }");
    for (size_t i = 0; i < 8; i++) {
        static const char *const ours[] = {"secret",   "X-Mine", "TE:",        "Origin",
                                           "Max-Wait", "Cookie", "keep-alive", "gpu.lan"};

        cr_assert_not(strstr(got, ours[i]), "%s in %s", ours[i], got);
    }
    link_say(0, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nAccess-Control-Allow-Origin: *\r\nKeep-Alive: "
                "timeout=5\r\nX-Its: 1\r\n\r\nok");
    app_wants(a, "\r\n\r\nok");
    cr_assert(app_has(a, "Access-Control-Allow-Origin: https://chat.example\r\n"));
    cr_assert(app_has(a, "X-Its: 1\r\n"));
    cr_assert_not(app_has(a, "Origin: *"));
    cr_assert_not(app_has(a, "Keep-Alive"));
    app_free(a);
}

struct renamed {
    const char *path, *body, *becomes;
};

Test(request, another_name_of_the_model_is_replaced_and_nothing_else)
{
    static const struct renamed rows[] = {
        {"/api/chat", "{\"model\":\"nomic-embed-text\",\"a\":1}",
         "{\"model\":\"nomic-embed-text:latest\",\"a\":1}"},
        {"/api/chat", "{\"a\" : \"\\u00e4\",\"model\" :\t\"nomic-embed-text\" }",
         "{\"a\" : \"\\u00e4\",\"model\" :\t\"nomic-embed-text:latest\" }"},
        {"/api/chat", "{\"model\":\"n\\u006fmic-embed-text\"}", "{\"model\":\"nomic-embed-text:latest\"}"},
        {"/api/chat", "{\"model\":\"nomic-embed-text:latest\"}", "{\"model\":\"nomic-embed-text:latest\"}"},
        {"/api/chat", "{\"model\":\"nomic-embed-text\\u003alatest\"}",
         "{\"model\":\"nomic-embed-text\\u003alatest\"}"},
        {"/api/chat", "{\"name\":\"nomic-embed-text\",\"model\":\"\"}",
         "{\"name\":\"nomic-embed-text:latest\",\"model\":\"\"}"},
        {"/api/chat", "{\"name\":\"nomic-embed-text\",\"x\":[1],\"model\":\"nomic-embed-text\"}",
         "{\"name\":\"nomic-embed-text:latest\",\"x\":[1],\"model\":\"nomic-embed-text:latest\"}"},
        {"/api/chat", "{\"model\":\"ollama:nomic-embed-text:latest\",\"name\":\"\"}",
         "{\"model\":\"nomic-embed-text:latest\",\"name\":\"\"}"},
        {CHAT,
         "{\"messages\":[{\"model\":\"nomic-embed-text\"}],\"name\":\"x\",\"model\":\"nomic-embed-text\"}",
         "{\"messages\":[{\"model\":\"nomic-embed-text\"}],\"name\":\"x\",\"model\":\"nomic-embed-text:"
         "latest\"}"},
    };
    struct app *a = app_new();

    world_state(&world.embed, DEPLOYMENT_READY);
    for (size_t i = 0; i < ELEMENTS(rows); i++) {
        _cleanup_free_ char *length = xasprintf("Content-Length: %zu\r\n", strlen(rows[i].becomes));
        const char *got;

        app_post(a, rows[i].path, rows[i].body);
        got = engine_gets(0, rows[i].becomes);
        cr_assert_str_eq(body_of(got), rows[i].becomes);
        cr_assert(strstr(got, length), "no %s in %s", length, got);
        buf_clear(&world.links[0]->got);
        link_say(0, OK);
        app_wants(a, "\r\n\r\nok");
        app_forget(a);
    }
    app_free(a);
}

Test(request, a_body_may_be_split_anywhere_and_chunked)
{
    struct app *a = app_new();
    const char *text = "POST " CHAT " HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
                       "9\r\n{\"model\":\r\n11\r\n\"deepseek-r1:7b\"}\r\n0\r\nX: y\r\n\r\n";
    const char *got;

    for (const char *p = text; *p; p++)
        app_say_n(a, p, 1);
    got = engine_gets(0, "7b\"}");
    cr_assert_str_eq(body_of(got), MODEL);
    cr_assert(strstr(got, "Content-Length: 26\r\n"));
    cr_assert_not(strstr(got, "Transfer-Encoding"));
    link_say(0, OK);
    app_wants(a, "ok");
    app_free(a);
}

/* A body of n bytes whose name stands last. */
static char *large_body(size_t n, const char *name)
{
    _cleanup_free_ char *end = xasprintf("\",\"model\":\"%s\"}", name);
    size_t tail = strlen(end), head = strlen("{\"prompt\":\"");
    char *body = xalloc(n + 1);

    memcpy(body, "{\"prompt\":\"", head);
    for (size_t i = head; i < n - tail; i++)
        body[i] = (char)('a' + i % 23);
    memcpy(body + n - tail, end, tail);
    return body;
}

static void say_head_of(struct app *a, size_t n)
{
    _cleanup_free_ char *head =
        xasprintf("POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: %zu\r\n\r\n", n);

    cr_assert(app_say(a, head));
}

Test(request, a_large_body_goes_through_a_file_and_arrives_whole)
{
    static const size_t sizes[] = {BODY_MEMORY_BYTES - 1, BODY_MEMORY_BYTES, BODY_MEMORY_BYTES + 1, 3 << 20};

    for (size_t i = 0; i < ELEMENTS(sizes); i++) {
        _cleanup_free_ char *body = large_body(sizes[i], "ollama:deepseek-r1:7b");
        struct app *a = app_new();
        const char *got;

        say_head_of(a, sizes[i]);
        cr_assert(app_say_n(a, body, sizes[i]));
        got = body_of(engine_gets(0, "\"deepseek-r1:7b\"}"));
        cr_assert_eq(strlen(got), sizes[i] - strlen("ollama:"));
        cr_assert_eq(memcmp(got, body, sizes[i] - strlen("\"ollama:deepseek-r1:7b\"}")), 0);
        buf_clear(&world.links[0]->got);
        link_say(0, OK);
        app_wants(a, "ok");
        cr_assert_eq(world.gateway->budget.used_bytes, 0);
        app_free(a);
    }
}

Test(request, sixty_four_mebibytes_pass_and_one_byte_more_does_not)
{
    _cleanup_free_ char *body = large_body(BODY_BYTES_MAX, "deepseek-r1:7b");
    struct app *a = app_new(), *b = app_new();
    char chunk[65536 + 1];

    say_head_of(a, BODY_BYTES_MAX);
    cr_assert(app_say_n(a, body, BODY_BYTES_MAX));
    cr_assert(LOOP_UNTIL(world.loop, world.n_links > 0 && (link_got(world.links[0]),
                                                           world.links[0]->got.len > BODY_BYTES_MAX)));
    engine_gets(0, "deepseek-r1:7b\"}");
    link_say(0, OK);
    app_wants(a, "ok");
    app_free(a);

    memset(chunk, ' ', sizeof(chunk));
    app_say(b, "POST " CHAT " HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n");
    for (unsigned i = 0; i < 1024; i++)
        cr_assert(app_say(b, "10000\r\n") && app_say_n(b, chunk, 65536) && app_say(b, "\r\n"));
    app_say(b, "1\r\n \r\n");
    app_wants(b, "HTTP/1.1 413 ");
    app_wants(b, "Connection: close");
    cr_assert_eq(world.gateway->budget.used_bytes, 0);
    app_free(b);
}

Test(request, all_bodies_together_have_a_limit)
{
    _cleanup_free_ char *body = large_body(1 << 20, "deepseek-r1:7b");
    struct app *a = app_new(), *b = app_new();

    world.gateway->budget.max_bytes = 3 << 19;
    world.deepseek.tunnel_down = true;
    say_head_of(a, 1 << 20);
    cr_assert(app_say_n(a, body, 1 << 20));
    cr_assert(LOOP_UNTIL(world.loop, world.deepseek.held == 1));
    say_head_of(b, 1 << 20);
    app_say_n(b, body, 1 << 20);
    app_wants(b, "HTTP/1.1 503 ");
    app_wants(b, "\"code\":\"busy\"");
    app_leave(a);
    cr_assert(LOOP_UNTIL(world.loop, world.gateway->budget.used_bytes == 0));
    app_free(a);
    app_free(b);
}

/* ---- back ---- */

Test(request, a_stream_passes_byte_for_byte)
{
    struct app *a = app_new();
    struct buf sent;
    bool whole;
    char *got;

    buf_init(&sent, 1 << 20);
    app_post(a, CHAT, MODEL);
    engine_gets(0, MODEL);
    link_say(0, STREAM_HEAD);
    for (int i = 0; i < 200; i++) {
        _cleanup_free_ char *event =
            xasprintf("data: {\"n\":%d}\r\n%.*s\n\n", i, i, "0123456789\r0123456789\v0123456789012345");
        _cleanup_free_ char *chunk = xasprintf("%zx\r\n%s\r\n", strlen(event), event);

        link_say(0, chunk);
        buf_add_text(&sent, event);
        if (i % 3 == 0)
            loop_turns(world.loop, 2);
    }
    app_wants(a, "\"n\":199}");
    cr_assert(app_has(a, "X-Accel-Buffering: no\r\n"));
    cr_assert(app_has(a, "Content-Type: text/event-stream\r\n"));
    link_say(0, "0\r\n\r\n");
    app_wants(a, "\r\n0\r\n\r\n");
    got = unchunked(app_got(a), &whole);
    cr_assert(whole);
    cr_assert_str_eq(got, buf_text(&sent));
    free(got);
    buf_done(&sent);
    app_free(a);
}

Test(request, each_piece_leaves_as_it_comes)
{
    struct app *a = app_new();

    app_post(a, "/api/chat", MODEL);
    engine_gets(0, MODEL);
    link_say(0, LINES_HEAD "3\r\n{}\n\r\n");
    app_wants(a, "3\r\n{}\n\r\n");
    link_say(0, "4\r\n{");
    app_wants(a, "1\r\n{\r\n");
    link_say(0, "1}\n\r\n0\r\n\r\n");
    app_wants(a, "3\r\n1}\n\r\n0\r\n\r\n");
    app_free(a);
}

Test(request, an_answer_in_pieces_of_one_byte_is_the_same_answer)
{
    const char *answer = "HTTP/1.1 418 Teapot\r\nContent-Length: 5\r\nX-A: b\r\n\r\nshort";
    struct app *a = app_new();

    app_post(a, CHAT, MODEL);
    engine_gets(0, MODEL);
    for (const char *p = answer; *p; p++) {
        link_say(0, (char[]){*p, '\0'});
        loop_turns(world.loop, 1);
    }
    app_wants(a, "short");
    cr_assert(app_has(a, "HTTP/1.1 418 Teapot\r\n"));
    cr_assert(app_has(a, "Content-Length: 5\r\n"));
    cr_assert_not(app_has(a, "chunked"));
    app_free(a);
}

Test(request, answers_that_only_announce_are_skipped)
{
    struct app *a = app_new();

    app_post(a, CHAT, MODEL);
    engine_gets(0, MODEL);
    link_say(0, "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n" OK);
    app_wants(a, "\r\n\r\nok");
    cr_assert_eq(strncmp(app_got(a), "HTTP/1.1 200 OK", 15), 0);
    app_free(a);
}

Test(request, an_answer_without_a_body_is_complete_at_once)
{
    struct app *a = app_new();

    app_post(a, CHAT, MODEL);
    engine_gets(0, MODEL);
    link_say(0, "HTTP/1.1 204 No Content\r\n\r\n");
    app_wants(a, "HTTP/1.1 204 No Content\r\n");
    cr_assert(LOOP_UNTIL(world.loop, world.deepseek.ended == 1));
    app_free(a);
}

Test(request, an_engine_may_answer_before_it_has_read_everything)
{
    _cleanup_free_ char *body = large_body(8 << 20, "deepseek-r1:7b");
    struct app *a = app_new();

    say_head_of(a, 8 << 20);
    cr_assert(app_say_n(a, body, 8 << 20));
    engine_gets(0, "POST /v1/completions");
    link_say(0, "HTTP/1.1 400 Bad Request\r\nContent-Length: 5\r\n\r\nlarge");
    app_wants(a, "\r\n\r\nlarge");
    cr_assert(LOOP_UNTIL(world.loop, link_is_over(0)),
              "a connection with half a request on it is used no more");
    app_free(a);
}

Test(request, http_1_0_gets_a_stream_that_ends_with_the_connection)
{
    struct app *a = app_new();

    app_say(a, "POST " CHAT " HTTP/1.0\r\nContent-Length: 26\r\n\r\n" MODEL);
    engine_gets(0, MODEL);
    link_say(0, STREAM_HEAD "7\r\ndata: x\r\n2\r\n\n\n\r\n0\r\n\r\n");
    cr_assert(LOOP_UNTIL(world.loop, app_is_over(a)));
    cr_assert_not(a->reset);
    cr_assert_str_eq(body_of(app_got(a)), "data: x\n\n");
    cr_assert_not(app_has(a, "chunked"));
    cr_assert(app_has(a, "Connection: close\r\n"));
    app_free(a);
}

Test(request, an_answer_that_ends_with_the_connection_is_whole)
{
    struct app *a = app_new();
    bool whole;
    char *got;

    app_post(a, CHAT, MODEL);
    engine_gets(0, MODEL);
    link_say(0, "HTTP/1.0 200 OK\r\nContent-Type: text/plain\r\n\r\nuntil the end");
    link_close(0);
    app_wants(a, "0\r\n\r\n");
    got = unchunked(app_got(a), &whole);
    cr_assert(whole);
    cr_assert_str_eq(got, "until the end");
    free(got);
    app_free(a);
}

Test(request, requests_in_a_pipeline_are_never_mixed)
{
    struct app *a = app_new();
    struct buf both;

    buf_init(&both, 10000);
    for (int i = 0; i < 2; i++)
        buf_addf(&both,
                 "POST " CHAT " HTTP/1.1\r\nHost: localhost\r\nContent-Length: "
                              "32\r\n\r\n{\"model\":\"deepseek-r1:7b\",\"n\":%d}",
                 i);
    app_say_n(a, both.data, both.len);
    buf_done(&both);
    engine_gets(0, "\"n\":0}");
    loop_turns(world.loop, 10);
    cr_assert_not(link_has(0, "\"n\":1}") || link_has(1, "\"n\":1}"),
                  "the second goes when the first has been answered");
    link_say(0, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nfirst");
    app_wants(a, "first");
    engine_gets(0, "\"n\":1}");
    link_say(0, "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nsecond");
    app_wants(a, "second");
    cr_assert_eq(world.deepseek.begun, 2);
    app_free(a);
}

/* ---- back-pressure ---- */

Test(request, an_application_that_does_not_read_stops_the_engine)
{
    struct app *a = app_new();
    _cleanup_free_ char *piece = xalloc(65536 + 16);
    size_t sent = 0, quiet = 0, left = 0, n;
    const uint64_t all = 32u << 20;

    setsockopt(a->fd, SOL_SOCKET, SO_RCVBUF, &(int){1 << 20}, sizeof(int));
    app_post(a, CHAT, MODEL);
    engine_gets(0, MODEL);
    link_say(0, "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nContent-Length: 33554432\r\n\r\n");
    memset(piece, 'x', 65536);
    while (quiet < 200 && sent < all) {
        ssize_t put = send(world.links[0]->fd, piece, 65536, MSG_NOSIGNAL | MSG_DONTWAIT);

        quiet = put > 0 ? 0 : quiet + 1;
        sent += put > 0 ? (size_t)put : 0;
        loop_turns(world.loop, 2);
    }
    cr_assert_lt(sent, 12u << 20, "%zu bytes were taken for somebody who reads nothing", sent);
    cr_assert_eq(world.deepseek.waiting, 0, "nobody waits for an engine that may not send");
    cr_assert(LOOP_UNTIL(world.loop, ({
                             ssize_t put = sent < all
                                               ? send(world.links[0]->fd, piece, MIN(all - sent, 65536),
                                                      MSG_NOSIGNAL | MSG_DONTWAIT)
                                               : 0;

                             sent += put > 0 ? (size_t)put : 0;
                             n = strlen(app_got(a));
                             left += n;
                             app_forget(a);
                             left >= all || a->ended;
                         })),
              "%zu of %zu bytes arrived", left, sent);
    cr_assert(LOOP_UNTIL(world.loop, world.deepseek.ended == 1));
    cr_assert_geq(left, all);
    app_free(a);
}

/* ---- leaving ---- */

Test(request, an_application_that_leaves_frees_its_engine_at_once)
{
    struct app *a = app_new();

    app_post(a, CHAT, MODEL);
    engine_gets(0, MODEL);
    link_say(0, STREAM_HEAD "2\r\nab\r\n");
    app_wants(a, "ab");
    app_leave(a);
    cr_assert(LOOP_UNTIL(world.loop, link_is_over(0)));
    cr_assert_eq(world.deepseek.ended, 1);
    app_free(a);
}

Test(request, an_application_that_leaves_before_the_answer_is_noticed)
{
    struct app *a = app_new();

    app_post(a, CHAT, MODEL);
    engine_gets(0, MODEL);
    cr_assert_eq(world.deepseek.waiting, 1);
    app_leave(a);
    cr_assert(LOOP_UNTIL(world.loop, link_is_over(0)));
    cr_assert_eq(world.deepseek.waiting, 0);
    app_free(a);
}

Test(request, an_application_that_leaves_in_its_body_never_counted)
{
    struct app *a = app_new();

    say_head_of(a, 1000000);
    app_say(a, "{\"model\":\"deepseek-r1:7b\",");
    app_leave(a);
    cr_assert(LOOP_UNTIL(world.loop, world.gateway->figures.open == 0));
    cr_assert_eq(world.deepseek.begun, 0);
    cr_assert_eq(world.gateway->budget.used_bytes, 0);
    app_free(a);
}

/* ---- the hold ---- */

Test(request, a_request_waits_for_its_model)
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

Test(request, a_hold_ends_with_503_and_no_wish_to_be_asked_again)
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
    app_free(a);
    app_free(b);
}

Test(request, the_application_may_bound_the_hold)
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

static const char *ask_for_2_s =
    "POST " CHAT " HTTP/1.1\r\nHost: localhost\r\nX-LLMHost-Max-Wait: 2\r\nContent-Length: 26\r\n\r\n" MODEL;

Test(request, a_short_hold_is_as_short_while_the_tunnel_is_down)
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

Test(request, a_dial_under_way_outlasts_a_short_hold)
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

Test(request, a_stopped_model_says_so_at_once)
{
    _cleanup_free_ char *answer = NULL;

    world.deepseek.state = DEPLOYMENT_OFF;
    fault_code(&world.deepseek.hold_fault, FAULT_GONE, "stopped_by_user",
               "deepseek-r1:7b is off");
    answer = post(CHAT, MODEL);
    cr_assert_eq(status_of(answer), 503);
    cr_assert(strstr(answer, "\"code\":\"stopped_by_user\""));
    cr_assert(strstr(answer, "deepseek-r1:7b is off. bring it back: llmhostctl up "));
    cr_assert_eq(world.deepseek.dialed, 0);
}

Test(request, a_fault_while_held_is_the_answer)
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

Test(request, an_application_that_leaves_while_held_is_dropped)
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

Test(request, the_gateway_may_go_while_requests_are_held_dialing_and_answered)
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

Test(request, a_refused_connection_is_doubted_and_tried_again)
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

Test(request, a_connection_that_cannot_be_had_ends_the_hold_with_its_reason)
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

Test(request, a_connection_that_is_forbidden_is_not_tried_again)
{
    struct app *a = app_new();

    fault_code(&world.deepseek.dial_fault, FAULT_DENIED, "forbidden", "the server forbids forwarding");
    app_post(a, CHAT, MODEL);
    app_wants(a, "\"code\":\"forbidden\"");
    app_free(a);
}

Test(request, an_outage_before_the_request_left_is_waited_out)
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

Test(request, a_channel_that_took_no_byte_is_replaced)
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

/* ---- losses ---- */

/* The first request of a model is on a connection of its own making. */
static struct app *sent_on_fresh(const char *path)
{
    struct app *a = app_new();

    app_post(a, path, MODEL);
    engine_gets(0, MODEL);
    return a;
}

Test(request, a_request_that_was_read_is_not_repeated)
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

Test(request, a_tunnel_that_breaks_before_the_answer_is_502_and_said_so)
{
    struct app *a;

    world.deepseek.channels = true;
    a = sent_on_fresh("/api/chat");
    link_break(0);
    app_wants(a, "HTTP/1.1 502 ");
    app_wants(a, "{\"error\":\"the tunnel broke while deepseek-r1:7b had this request; it was not repeated");
    app_free(a);
}

Test(request, a_cut_in_the_answers_head_is_502)
{
    struct app *a = sent_on_fresh(CHAT);

    link_say(0, "HTTP/1.1 200 OK\r\nContent-Ty");
    loop_turns(world.loop, 3);
    link_close(0);
    app_wants(a, "HTTP/1.1 502 ");
    app_free(a);
}

Test(request, an_answer_that_makes_no_sense_is_502)
{
    struct app *a = sent_on_fresh(CHAT);

    link_say(0, "SSH-2.0-OpenSSH_9.2\r\n\r\n");
    app_wants(a, "HTTP/1.1 502 ");
    app_wants(a, "\"code\":\"bad_answer\"");
    app_free(a);
}

Test(request, a_cut_in_an_event_stream_is_an_event)
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

Test(request, a_cut_in_the_middle_of_an_event_begins_a_new_one)
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

Test(request, a_cut_in_lines_is_a_line)
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

Test(request, a_tunnel_that_breaks_in_a_stream_is_an_event)
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

Test(request, a_cut_in_an_unstreamed_answer_is_a_broken_connection)
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

/* ---- connections that are kept ---- */

/* One request answered: its connection, number 0, is idle then. */
static struct app *with_idle(void)
{
    struct app *a = sent_on_fresh(CHAT);

    link_say(0, OK);
    app_wants(a, "\r\n\r\nok");
    loop_turns(world.loop, 3);
    app_forget(a);
    buf_clear(&world.links[0]->got);
    return a;
}

Test(request, a_connection_is_used_again)
{
    struct app *a = with_idle();

    app_post(a, CHAT, MODEL);
    engine_gets(0, MODEL);
    link_say(0, OK);
    app_wants(a, "ok");
    cr_assert_leq(world.n_links, 2);
    app_free(a);
}

Test(request, a_stale_connection_costs_nobody_an_answer)
{
    struct app *a = with_idle();
    unsigned n = world.n_links;

    app_post(a, CHAT, MODEL);
    engine_gets(0, MODEL);
    link_close(0);
    cr_assert(LOOP_UNTIL(world.loop, world.n_links > n && link_has(world.n_links - 1, MODEL)));
    link_say(world.n_links - 1, OK);
    app_wants(a, "ok");
    cr_assert_eq(world.deepseek.begun, 2);
    app_free(a);
}

Test(request, the_second_try_is_the_last)
{
    struct app *a = with_idle();
    unsigned n = world.n_links;

    app_post(a, CHAT, MODEL);
    engine_gets(0, MODEL);
    link_close(0);
    cr_assert(LOOP_UNTIL(world.loop, world.n_links > n && link_has(world.n_links - 1, MODEL)));
    link_close(world.n_links - 1);
    app_wants(a, "HTTP/1.1 502 ");
    app_free(a);
}

Test(request, an_old_connection_that_ends_late_was_not_stale)
{
    struct app *a = with_idle();

    app_post(a, CHAT, MODEL);
    engine_gets(0, MODEL);
    loop_advance(world.loop, 3000);
    link_close(0);
    app_wants(a, "HTTP/1.1 502 ");
    cr_assert(app_has(a, "not repeated"));
    app_free(a);
}

Test(request, an_old_channel_that_broke_with_the_tunnel_was_not_stale)
{
    struct app *a;

    world.deepseek.channels = true;
    a = with_idle();
    app_post(a, CHAT, MODEL);
    engine_gets(0, MODEL);
    link_break(0);
    app_wants(a, "\"code\":\"tunnel_lost\"");
    app_free(a);
}

/* What was written to it could not be sent again. */
Test(request, nothing_new_begins_on_a_silent_tunnel)
{
    struct app *a;
    unsigned n;

    world.deepseek.channels = true;
    a = with_idle();
    n = world.n_links;
    for (unsigned i = 0; i < n; i++)
        world.links[i]->silent = true;
    app_post(a, CHAT, MODEL);
    cr_assert(LOOP_UNTIL(world.loop, world.n_links > n && link_has(world.n_links - 1, MODEL)));
    for (unsigned i = 0; i < n; i++)
        cr_assert(world.links[i]->freed && !link_has(i, MODEL));
    link_say(world.n_links - 1, OK);
    app_wants(a, "ok");
    app_free(a);
}

Test(request, a_ready_model_is_warm_before_it_is_asked)
{
    world_tell(&world.deepseek);
    cr_assert(LOOP_UNTIL(world.loop, world.deepseek.dialed == 1));
    loop_advance(world.loop, 3600000);
    cr_assert_eq(world.deepseek.dialed, 1);
    link_close(0);
    loop_advance(world.loop, 60000);
    cr_assert_eq(world.deepseek.dialed, 1, "nobody asked: not replaced");
}

Test(request, an_idle_connection_that_ends_is_replaced_while_somebody_asks)
{
    struct app *a = with_idle();
    unsigned n;

    loop_advance(world.loop, 6000);
    n = (unsigned)world.deepseek.dialed;
    for (unsigned i = 0; i < world.n_links; i++)
        link_close(i);
    loop_turns(world.loop, 3);
    loop_advance(world.loop, 1100);
    cr_assert(LOOP_UNTIL(world.loop, world.deepseek.dialed == (int)n + 1));
    loop_advance(world.loop, 601000);
    link_close(world.n_links - 1);
    loop_advance(world.loop, 60000);
    cr_assert_eq(world.deepseek.dialed, (int)n + 1);
    app_free(a);
}

Test(request, a_server_that_closes_at_once_is_not_hammered)
{
    struct app *a = with_idle();

    for (int i = 0; i < 120; i++) {
        for (unsigned k = 0; k < world.n_links; k++)
            if (world.links[k]->fd >= 0)
                link_close(k);
        loop_advance(world.loop, 500);
    }
    cr_assert_lt(world.deepseek.dialed, 12, "%d connections in a minute", world.deepseek.dialed);
    app_free(a);
}

Test(request, connections_to_an_older_server_are_dropped)
{
    struct app *a = with_idle();

    world.deepseek.server_number++;
    world_tell(&world.deepseek);
    cr_assert(LOOP_UNTIL(world.loop, link_is_over(0)));
    app_post(a, CHAT, MODEL);
    cr_assert(LOOP_UNTIL(world.loop, link_has(world.n_links - 1, MODEL)));
    cr_assert_not(link_has(0, MODEL));
    app_free(a);
}

Test(request, surplus_connections_go_after_a_while)
{
    struct app *apps[8];
    unsigned open = 0;

    for (unsigned i = 0; i < 8; i++) {
        apps[i] = app_new();
        app_post(apps[i], CHAT, MODEL);
    }
    cr_assert(LOOP_UNTIL(world.loop, world.deepseek.waiting == 8));
    for (unsigned i = 0; i < 8; i++) {
        unsigned at = engine_with(MODEL);

        buf_clear(&world.links[at]->got);
        link_say(at, OK);
    }
    for (unsigned i = 0; i < 8; i++) {
        app_wants(apps[i], "ok");
        app_free(apps[i]);
    }
    loop_advance(world.loop, 61000);
    loop_advance(world.loop, 61000);
    for (unsigned i = 0; i < world.n_links; i++)
        open += !link_is_over(i);
    cr_assert_eq(open, 1);
}

/* ---- the owner's hand ---- */

static void cut(struct deployment *d)
{
    d->cut = true;
    world_tell(d);
}

Test(request, down_now_ends_what_is_open)
{
    struct app *streaming = sent_on_fresh(CHAT), *silent = app_new();

    link_say(0, STREAM_HEAD "9\r\ndata: x\n\n\r\n");
    app_wants(streaming, "data: x");
    app_post(silent, "/api/chat", MODEL);
    cr_assert(LOOP_UNTIL(world.loop, world.deepseek.waiting == 2));
    cut(&world.deepseek);
    app_wants(streaming, "\"code\":\"stopped_by_user\"");
    app_wants(streaming, "0\r\n\r\n");
    app_wants(silent, "HTTP/1.1 503 ");
    cr_assert_eq(world.deepseek.ended, 2);
    cr_assert(LOOP_UNTIL(world.loop, link_is_over(0)));
    app_free(streaming);
    app_free(silent);
}

Test(request, a_model_that_is_removed_ends_its_requests)
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

/* ---- ollama's own ways ---- */

Test(request, stop_of_a_model_that_is_off_is_answered_without_waking_it)
{
    static const struct {
        const char *path, *body;
        const char *says;
    } rows[] = {
        {"/api/generate", "{\"model\":\"nomic-embed-text\",\"prompt\":\"\",\"keep_alive\":\"0s\"}",
         "\"response\":\"\""},
        {"/api/generate", "{\"model\":\"nomic-embed-text\",\"keep_alive\":0}", "\"response\":\"\""},
        {"/api/generate", "{\"model\":\"nomic-embed-text\",\"keep_alive\":\"0m0s\",\"prompt\":null}",
         "\"response\":\"\""},
        {"/api/chat", "{\"model\":\"nomic-embed-text\",\"messages\":[],\"keep_alive\":0}",
         "\"message\":{\"role\":\"assistant\",\"content\":\"\"}"},
    };

    for (size_t i = 0; i < ELEMENTS(rows); i++) {
        _cleanup_free_ char *answer = post(rows[i].path, rows[i].body);

        cr_assert_eq(status_of(answer), 200);
        cr_assert(strstr(answer, "\"done\":true,\"done_reason\":\"unload\""), "%s", answer);
        cr_assert(strstr(answer, rows[i].says), "%s", answer);
        cr_assert(strstr(answer, "\"model\":\"nomic-embed-text\""));
    }
    cr_assert_eq(world.embed.begun + world.embed.held_ever, 0);
}

Test(request, stop_of_a_loaded_model_and_everything_else_with_keep_alive_goes_to_the_engine)
{
    static const char *const bodies[] = {
        "{\"model\":\"deepseek-r1:7b\",\"prompt\":\"\",\"keep_alive\":\"0s\"}",
        "{\"model\":\"deepseek-r1:7b\",\"prompt\":\"x\",\"keep_alive\":0}",
        "{\"model\":\"deepseek-r1:7b\",\"prompt\":\"\",\"keep_alive\":0.5}",
        "{\"model\":\"deepseek-r1:7b\",\"prompt\":\"\",\"keep_alive\":\"10m\"}",
        "{\"model\":\"deepseek-r1:7b\",\"prompt\":\"\"}",
    };
    struct app *a = app_new();

    for (size_t i = 0; i < ELEMENTS(bodies); i++) {
        app_post(a, "/api/generate", bodies[i]);
        engine_gets(0, bodies[i]);
        link_say(0, OK);
        app_wants(a, "\r\n\r\nok");
        app_forget(a);
    }
    cr_assert_eq(world.deepseek.begun, (int)ELEMENTS(bodies));
    app_free(a);
}

Test(request, a_pull_of_a_known_model_waits_until_it_is_ready)
{
    struct app *a = app_new();
    bool whole;
    char *got;

    world.deepseek.state = DEPLOYMENT_FETCHING;
    app_post(a, "/api/pull",
             "{\"model\":\"\",\"username\":\"\",\"password\":\"\",\"name\":\"deepseek-r1:7b\"}");
    cr_assert(LOOP_UNTIL(world.loop, world.deepseek.held == 1));
    world_tell(&world.deepseek);
    app_wants(a, "{\"status\":\"llmhost fetching\"}\n");
    world_state(&world.deepseek, DEPLOYMENT_LOADING);
    app_wants(a, "{\"status\":\"llmhost loading\"}\n");
    world_state(&world.deepseek, DEPLOYMENT_READY);
    app_wants(a, "0\r\n\r\n");
    got = unchunked(app_got(a), &whole);
    cr_assert(whole);
    cr_assert(strstr(got, "{\"status\":\"success\"}\n"));
    cr_assert_eq(strlen(strstr(got, "{\"status\":\"success\"}\n")), 21);
    cr_assert(app_has(a, "Content-Type: application/x-ndjson\r\n"));
    cr_assert(app_has(a, "X-Accel-Buffering: no\r\n"));
    free(got);
    app_free(a);
}

Test(request, a_pull_that_fails_late_ends_with_an_error_line)
{
    struct app *a = app_new();

    world.deepseek.state = DEPLOYMENT_FETCHING;
    app_post(a, "/api/pull", MODEL);
    cr_assert(LOOP_UNTIL(world.loop, world.deepseek.held == 1));
    world_tell(&world.deepseek);
    app_wants(a, "fetching");
    fault_code(&world.deepseek.hold_fault, FAULT_EXHAUSTED, "disk_full", "4 GB are missing");
    world_settle(&world.deepseek);
    app_wants(a, "{\"error\":\"deepseek-r1:7b: 4 GB are missing\"}\n");
    app_wants(a, "0\r\n\r\n");
    app_free(a);
}

Test(request, a_pull_that_does_not_stream_gets_one_document)
{
    _cleanup_free_ char *answer = post("/api/pull", "{\"model\":\"deepseek-r1:7b\",\"stream\":false}");

    cr_assert_eq(status_of(answer), 200);
    cr_assert_str_eq(body_of(answer), "{\"status\":\"success\"}\n");
}

Test(request, a_pull_of_an_unknown_model_rents_nothing)
{
    _cleanup_free_ char *lines = post("/api/pull", "{\"name\":\"deepseek-r1:14b\",\"model\":\"\"}"),
                        *one = NULL;
    const char *body = body_of(lines);

    cr_assert_eq(status_of(lines), 200);
    cr_assert_eq(strncmp(body, "{\"error\":\"", 10), 0);
    cr_assert_eq(strchr(body, '\n'), body + strlen(body) - 1, "one line");
    cr_assert(strstr(body, "deepseek-r1:7b"));
    cr_assert(strstr(body, "llmhostctl up ollama:deepseek-r1:14b"));
    one = post("/api/pull", "{\"model\":\"x; rm -rf /\",\"stream\":false}");
    cr_assert_eq(status_of(one), 404);
    cr_assert_not(strstr(one, "llmhostctl up"));
}
