/* One request on its way to an engine and back: what passes, and who stops whom. What waits, what breaks and
 * what is kept: test_request_hold.c, test_request_loss.c, test_request_kept.c. */
#include "gateway/request.h"

#include <signal.h>
#include <sys/resource.h>

#include "tests/unit/request_world.h"

TestSuite(request, .init = world_open, .fini = world_close);

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
         "{\"name\":\"nomic-embed-text:latest\",\"model\":\"nomic-embed-text:latest\"}"},
        {"/api/chat", "{\"name\":\"nomic-embed-text\",\"a\":1}",
         "{\"name\":\"nomic-embed-text:latest\",\"model\":\"nomic-embed-text:latest\",\"a\":1}"},
        {"/api/chat", "{\"name\":\"nomic-embed-text:latest\"}",
         "{\"name\":\"nomic-embed-text:latest\",\"model\":\"nomic-embed-text:latest\"}"},
        {"/api/chat", "{\"name\":\"nomic-embed-text\",\"x\":[1],\"model\":\"nomic-embed-text\"}",
         "{\"name\":\"nomic-embed-text:latest\",\"x\":[1],\"model\":\"nomic-embed-text:latest\"}"},
        {"/api/chat", "{\"model\":\"ollama:nomic-embed-text:latest\",\"name\":\"\"}",
         "{\"model\":\"nomic-embed-text:latest\",\"name\":\"\"}"},
        {CHAT,
         "{\"messages\":[{\"model\":\"nomic-embed-text\"}],\"name\":\"x\",\"model\":\"nomic-embed-text\"}",
         "{\"messages\":[{\"model\":\"nomic-embed-text\"}],\"name\":\"x\",\"model\":\"nomic-embed-text:"
         "latest\"}"},
        {"/api/chat", "{\"model\":\"e\",\"a\":\"e\"}", "{\"model\":\"nomic-embed-text:latest\",\"a\":\"e\"}"},
        {"/api/embed", "{\"name\":\"\\u0065:latest\",\"model\":\"\"}",
         "{\"name\":\"nomic-embed-text:latest\",\"model\":\"nomic-embed-text:latest\"}"},
        {CHAT, "{\"model\":\"a-long-name-of-what-is-called-nomic\"}",
         "{\"model\":\"nomic-embed-text:latest\"}"},
    };
    struct app *a = app_new();

    world.manager.aliases[0] = (struct alias){"e", "ollama:nomic-embed-text:latest"};
    world.manager.aliases[1] =
        (struct alias){"a-long-name-of-what-is-called-nomic", "ollama:nomic-embed-text:latest"};
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

/* The largest size of a file stands in for a disk: the kernel refuses in the same place. */
Test(request, a_full_disk_costs_only_the_body_that_needs_it)
{
    _cleanup_free_ char *body = large_body(3 << 20, "deepseek-r1:7b");
    struct app *small = app_new(), *large = app_new(), *again = app_new();
    struct rlimit limit, before;

    signal(SIGXFSZ, SIG_IGN);
    getrlimit(RLIMIT_FSIZE, &before);
    limit = before;
    limit.rlim_cur = 1 << 20;
    cr_assert_eq(setrlimit(RLIMIT_FSIZE, &limit), 0);
    app_post(small, CHAT, MODEL);
    engine_gets(0, MODEL);
    say_head_of(large, 3 << 20);
    app_say_n(large, body, 3 << 20);
    app_wants(large, "HTTP/1.1 507 Insufficient Storage\r\n");
    app_wants(large, "\"code\":\"spool_full\"");
    cr_assert(app_has(large, "Connection: close\r\n"));
    cr_assert_eq(world.gateway->budget.used_bytes, strlen(MODEL));
    link_say(0, OK);
    app_wants(small, "ok");
    setrlimit(RLIMIT_FSIZE, &before);
    say_head_of(again, 3 << 20);
    cr_assert(app_say_n(again, body, 3 << 20));
    engine_with("deepseek-r1:7b\"}");
    app_free(small);
    app_free(large);
    app_free(again);
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
