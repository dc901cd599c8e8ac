/* Real sockets to a scripted server; time is handed in. */
#include <criterion/criterion.h>
#include <errno.h>
#include <netinet/in.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "base/fault.h"
#include "base/list.h"
#include "base/resolve.h"
#include "http/http.h"
#include "tests/fixture/http_fixture.h"
#include "tests/fixture/loop_fixture.h"

#define CHUNKED "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"

static const struct http_script script[] = {
    {.path = "/hello", .pieces = {"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"}},
    {.path = "/a?b=c%20d&e=/../f", .pieces = {"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"}},
    {.path = "/error", .pieces = {"HTTP/1.1 503 Busy\r\nContent-Length: 4\r\n\r\nlook"}},
    {.path = "/redirect", .pieces = {"HTTP/1.1 302 Found\r\nLocation: /hello\r\nContent-Length: 0\r\n\r\n"}},
    {.path = "/until-close", .pieces = {"HTTP/1.1 200 OK\r\n\r\nall of it"}, .then = HTTP_CLOSE},
    {.path = "/stream", .pieces = {CHUNKED "4\r\none \r\n", "4\r\ntwo \r\n", "5\r\nthree\r\n0\r\n\r\n"}},
    {.path = "/cut-stream", .pieces = {CHUNKED "4\r\none \r\n", "9\r\ntw"}, .then = HTTP_CLOSE},
    {.path = "/trailers", .pieces = {CHUNKED "4\r\nbody\r\n0\r\nX-Sum: 1\r\n\r\n"}},
    {.path = "/interim",
     .pieces = {"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n",
                "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nbody"}},
    {.path = "/cut-interim",
     .pieces = {"HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 200 OK\r\nX: "},
     .then = HTTP_CLOSE},
    {.path = "/dated",
     .pieces =
         {"HTTP/1.1 200 OK\r\ndate:  Sun, 29 Nov 2026 10:20:30 GMT\r\nTransfer-Encoding: chunked\r\n\r\n"
          "0\r\nDate: Tue, 01 Dec 2026 00:00:00 GMT\r\n\r\n"}},
    {.path = "/no-date", .pieces = {"HTTP/1.1 200 OK\r\nDate: yesterday\r\nContent-Length: 0\r\n\r\n"}},
    {.path = "/cut", .pieces = {"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf"}, .then = HTTP_CLOSE},
    {.path = "/cut-head", .pieces = {"HTTP/1.1 200 OK\r\nContent-"}, .then = HTTP_CLOSE},
    {.path = "/silent-close", .then = HTTP_CLOSE},
    {.path = "/hang", .then = HTTP_HANG},
    {.path = "/hang-in-body", .pieces = {CHUNKED "4\r\none \r\n"}, .then = HTTP_HANG},
    {.path = "/rubbish", .pieces = {"SSH-2.0-OpenSSH_9.2\r\n\r\n"}, .then = HTTP_CLOSE},
    {.path = "/bad-chunk", .pieces = {CHUNKED "zz\r\none \r\n"}, .then = HTTP_CLOSE},
    {.path = "/largest",
     .pieces = {"HTTP/1.1 200 OK\r\nContent-Length: 1048576\r\n\r\n"},
     .filler_bytes = 1048576},
    {.path = "/too-large",
     .pieces = {"HTTP/1.1 200 OK\r\n\r\n"},
     .filler_bytes = 1048577,
     .then = HTTP_CLOSE},
    {.path = "/endless-error",
     .pieces = {"HTTP/1.1 500 No\r\n\r\n"},
     .filler_bytes = 4 << 20,
     .then = HTTP_CLOSE},
};

static char directory[] = "/tmp/test-http-XXXXXX";
static char path[64];
static struct loop *loop;
static struct http *http;
static struct http_fixture *server;

static void setup(void)
{
    cr_assert_not_null(mkdtemp(directory));
    snprintf(path, sizeof(path), "%s/socket", directory);
    loop = loop_new();
    http = http_new(loop);
    server = http_fixture_new(path, script, ELEMENTS(script));
}

static void teardown(void)
{
    _cleanup_free_ char *command = xasprintf("rm -rf '%s'", directory);

    http = http_free(http);
    loop_free_dry(loop);
    server = http_fixture_free(server);
    cr_assert_eq(system(command), 0);
}

TestSuite(http, .init = setup, .fini = teardown);

/* What came of a request. */
struct heard {
    struct op *op;
    unsigned times, pieces;
    int status;
    char *body, *streamed, redirect[80];
    size_t n_body;
    int64_t date_at_ms;
    bool failed;
    struct fault fault;
    void (*then)(struct heard *h);
};

static void hear(void *ctx, struct http_answer *answer, const struct fault *f)
{
    struct heard *h = ctx;

    cr_assert_null(h->op, "the slot is cleared before done()");
    cr_assert((answer == NULL) == (f != NULL));
    h->times++;
    h->failed = f != NULL;
    h->fault = f ? *f : (struct fault){0};
    if (answer) {
        h->status = answer->status;
        h->date_at_ms = answer->date_at_ms;
        snprintf(h->redirect, sizeof h->redirect, "%s", answer->redirect ? answer->redirect : "");
        h->n_body = answer->body.len;
        h->body = buf_take(&answer->body);
    }
    if (h->then)
        h->then(h);
}

static void hear_data(void *ctx, const char *data, size_t n)
{
    struct heard *h = ctx;
    char *longer = xasprintf("%s%.*s", h->streamed ? h->streamed : "", (int)n, data);

    free(h->streamed);
    h->streamed = longer;
    h->pieces++;
}

static void forget(struct heard *h)
{
    free(h->body);
    free(h->streamed);
    *h = (struct heard){0};
}

static void start(struct heard *h, struct http_request rq)
{
    rq.method = rq.method ? rq.method : "GET";
    if (!rq.unix_socket && !rq.origin)
        rq.unix_socket = path;
    http_start(http, &rq, &h->op, hear, h);
    cr_assert_not_null(h->op);
    cr_assert_eq(h->times, 0, "never from inside the call");
}

static void ask(struct heard *h, struct http_request rq)
{
    start(h, rq);
    cr_assert(LOOP_UNTIL(loop, h->times));
    cr_assert_eq(h->times, 1);
}

/* What it must come to when the world does its part, and a fault when not. */
static void assert_fault(const struct heard *h, enum fault_kind kind, int error, const char *words)
{
    cr_assert(h->failed);
    cr_assert_eq(h->fault.kind, kind, "%s: %s", fault_kind_name(h->fault.kind), h->fault.text);
    cr_assert_eq(h->fault.error, error, "%d: %s", h->fault.error, h->fault.text);
    cr_assert_not_null(strstr(h->fault.text, words), "%s", h->fault.text);
}

static void assert_body(const struct heard *h, int status, const char *body)
{
    cr_assert_not(h->failed, "%s", h->fault.text);
    cr_assert_eq(h->status, status);
    cr_assert_str_eq(h->body, body);
}

static bool request_has(const char *words)
{
    _cleanup_free_ char *request = http_fixture_last_request(server);

    return strstr(request, words) != NULL;
}

/* ---- answers ---- */

Test(http, an_answer_has_its_status_and_body)
{
    struct heard h = {0};

    ask(&h, (struct http_request){.path = "/hello"});
    assert_body(&h, 200, "hello");
    forget(&h);
    ask(&h, (struct http_request){.path = "/until-close"});
    assert_body(&h, 200, "all of it");
    forget(&h);
}

Test(http, an_error_status_is_an_answer_and_a_redirect_is_not_followed)
{
    struct heard h = {0};

    ask(&h, (struct http_request){.path = "/error"});
    assert_body(&h, 503, "look");
    forget(&h);
    ask(&h, (struct http_request){.path = "/redirect"});
    assert_body(&h, 302, "");
    cr_assert_str_eq(h.redirect, "http://localhost/hello", "where to is told");
    forget(&h);
    ask(&h, (struct http_request){.path = "/nowhere"});
    assert_body(&h, 404, "");
    forget(&h);
    cr_assert_eq(http_fixture_requests(server), 3);
}

Test(http, the_time_of_the_other_side_is_in_the_head_or_nowhere)
{
    struct heard h = {0};

    ask(&h, (struct http_request){.path = "/dated"});
    assert_body(&h, 200, "");
    cr_assert_eq(h.date_at_ms, 1795947630000ll);
    forget(&h);
    ask(&h, (struct http_request){.path = "/no-date"});
    cr_assert_eq(h.date_at_ms, 0);
    forget(&h);
    ask(&h, (struct http_request){.path = "/hello"});
    cr_assert_eq(h.date_at_ms, 0);
    forget(&h);
}

Test(http, headers_say_which_answer_and_how_much_of_it_is_wanted)
{
    struct heard h = {0};

    ask(&h, (struct http_request){.path = "/hello", .accept = "text/plain", .range = "bytes=0-9"});
    assert_body(&h, 200, "hello");
    cr_assert_str_eq(h.redirect, "");
    forget(&h);
    cr_assert(request_has("\r\nAccept: text/plain\r\n"));
    cr_assert(request_has("\r\nRange: bytes=0-9\r\n"));
}

Test(http, interim_answers_and_trailers_are_passed_over)
{
    struct heard h = {0};

    http_fixture_go_on(server);
    ask(&h, (struct http_request){.path = "/interim"});
    assert_body(&h, 200, "body");
    forget(&h);
    ask(&h, (struct http_request){.path = "/trailers"});
    assert_body(&h, 200, "body");
    forget(&h);
}

Test(http, a_head_request_waits_for_no_body)
{
    struct heard h = {0};

    ask(&h, (struct http_request){.method = "HEAD", .path = "/cut"});
    assert_body(&h, 200, "");
    cr_assert(request_has("HEAD /cut HTTP/1.1\r\n"));
    forget(&h);
}

Test(http, a_request_says_what_it_was_told_and_nothing_of_the_environment)
{
    struct heard h = {0};

    setenv("http_proxy", "http://127.0.0.1:9", 1);
    setenv("ALL_PROXY", "socks5://127.0.0.1:9", 1);
    ask(&h, (struct http_request){.path = "/a?b=c%20d&e=/../f"});
    assert_body(&h, 200, "");
    cr_assert(request_has("GET /a?b=c%20d&e=/../f HTTP/1.1\r\nHost: localhost\r\n"));
    cr_assert_not(request_has("Content-Type"));
    forget(&h);
}

Test(http, bodies_are_copied_and_carry_their_type)
{
    char body[] = "{\"model\":\"m\"}";
    struct heard h = {0};

    start(&h,
          (struct http_request){.method = "POST", .path = "/hello", .body = body, .n_body = strlen(body)});
    memset(body, 'x', strlen(body));
    cr_assert(LOOP_UNTIL(loop, h.times));
    assert_body(&h, 200, "hello");
    cr_assert(request_has("POST /hello HTTP/1.1\r\n"));
    cr_assert(request_has("Content-Type: application/json\r\n"));
    cr_assert(request_has("Content-Length: 13\r\n"));
    cr_assert(request_has("\r\n\r\n{\"model\":\"m\"}"));
    cr_assert_not(request_has("Expect"));
    forget(&h);
    ask(&h,
        (struct http_request){
            .method = "DELETE", .path = "/hello", .content_type = "text/plain", .body = "abc", .n_body = 3});
    assert_body(&h, 200, "hello");
    cr_assert(request_has("DELETE /hello HTTP/1.1\r\n"));
    cr_assert(request_has("Content-Type: text/plain\r\n"));
    cr_assert(request_has("\r\n\r\nabc"));
    forget(&h);
    ask(&h, (struct http_request){.method = "POST", .path = "/hello"});
    cr_assert(request_has("Content-Length: 0\r\n"));
    forget(&h);
}

Test(http, a_large_body_arrives_whole)
{
    static char body[500000];
    struct heard h = {0};

    memset(body, 'x', sizeof(body));
    ask(&h, (struct http_request){.method = "POST", .path = "/hello", .body = body, .n_body = sizeof(body)});
    assert_body(&h, 200, "hello");
    _cleanup_free_ char *request = http_fixture_last_request(server);

    cr_assert_eq(strlen(strstr(request, "\r\n\r\n")), sizeof(body) + 4);
    forget(&h);
}

Test(http, the_largest_answer_is_an_answer_and_one_byte_more_a_fault)
{
    struct heard h = {0};

    ask(&h, (struct http_request){.path = "/largest"});
    cr_assert_not(h.failed);
    cr_assert_eq(h.n_body, HTTP_ANSWER_BYTES_MAX);
    forget(&h);
    ask(&h, (struct http_request){.path = "/too-large"});
    assert_fault(&h, FAULT_INVALID, -EMSGSIZE, "GET /too-large: the answer is longer than 1024 KiB");
    forget(&h);
}

/* ---- streams ---- */

Test(http, a_stream_arrives_piece_by_piece)
{
    struct heard h = {0};

    start(&h, (struct http_request){.path = "/stream", .on_data = hear_data});
    cr_assert(LOOP_UNTIL(loop, h.pieces == 1));
    cr_assert_str_eq(h.streamed, "one ");
    cr_assert_eq(h.times, 0);
    http_fixture_go_on(server);
    cr_assert(LOOP_UNTIL(loop, h.pieces == 2));
    http_fixture_go_on(server);
    cr_assert(LOOP_UNTIL(loop, h.times));
    cr_assert_str_eq(h.streamed, "one two three");
    assert_body(&h, 200, "");
    forget(&h);
}

Test(http, a_stream_may_be_longer_than_any_answer)
{
    struct heard h = {0};

    ask(&h, (struct http_request){.path = "/too-large", .on_data = hear_data});
    cr_assert_not(h.failed);
    cr_assert_eq(strlen(h.streamed), HTTP_ANSWER_BYTES_MAX + 1);
    forget(&h);
}

Test(http, an_error_is_collected_even_when_a_stream_was_asked_for)
{
    struct heard h = {0};

    ask(&h, (struct http_request){.path = "/error", .on_data = hear_data});
    assert_body(&h, 503, "look");
    cr_assert_eq(h.pieces, 0);
    forget(&h);
    ask(&h, (struct http_request){.path = "/endless-error", .on_data = hear_data});
    assert_fault(&h, FAULT_INVALID, -EMSGSIZE, "longer than");
    cr_assert_eq(h.pieces, 0);
    forget(&h);
}

Test(http, a_stream_that_is_cut_is_a_fault_after_its_pieces)
{
    struct heard h = {0};

    start(&h, (struct http_request){.path = "/cut-stream", .on_data = hear_data});
    cr_assert(LOOP_UNTIL(loop, h.pieces == 1));
    http_fixture_go_on(server);
    cr_assert(LOOP_UNTIL(loop, h.times));
    cr_assert_str_eq(h.streamed, "one tw");
    assert_fault(&h, FAULT_TRANSIENT, -ECONNRESET, "cut in the middle");
    forget(&h);
}

/* ---- faults ---- */

Test(http, nobody_there_is_a_refused_connection)
{
    struct heard h = {0};

    ask(&h, (struct http_request){.path = "/hello", .unix_socket = "/tmp/nobody/is/here"});
    assert_fault(&h, FAULT_TRANSIENT, -ECONNREFUSED, "GET /hello: nobody there");
    forget(&h);
    server = http_fixture_free(server); /* its socket file stays */
    ask(&h, (struct http_request){.method = "POST", .path = "/hello"});
    assert_fault(&h, FAULT_TRANSIENT, -ECONNREFUSED, "POST /hello: nobody there");
    forget(&h);
}

Test(http, a_path_too_long_for_a_socket_is_a_fault)
{
    char long_path[200];
    struct heard h = {0};

    memset(long_path, '/', sizeof(long_path));
    long_path[sizeof(long_path) - 1] = 0;
    ask(&h, (struct http_request){.path = "/hello", .unix_socket = long_path});
    cr_assert(h.failed);
    forget(&h);
}

Test(http, what_is_no_path_is_a_fault_from_the_loop)
{
    static const char *const paths[] = {"", "hello", "/a b", "/a\r\nX-Evil: 1", "/a#b", "/\x7f"};
    struct heard h = {0};

    for (size_t i = 0; i < ELEMENTS(paths); i++) {
        ask(&h, (struct http_request){.path = paths[i]});
        assert_fault(&h, FAULT_INVALID, -EINVAL, "not a path");
        forget(&h);
    }
    start(&h, (struct http_request){.path = "nothing"});
    op_cancel(&h.op);
    loop_turns(loop, 3);
    cr_assert_eq(h.times, 0);
    cr_assert_eq(http_fixture_connections(server), 0);
}

Test(http, an_answer_that_is_cut_is_transient_for_a_get_and_uncertain_for_a_post)
{
    static const char *const paths[] = {"/cut", "/cut-head", "/cut-interim", "/silent-close"};
    struct heard h = {0};

    for (size_t i = 0; i < ELEMENTS(paths); i++) {
        ask(&h, (struct http_request){.path = paths[i]});
        assert_fault(&h, FAULT_TRANSIENT, -ECONNRESET, "cut");
        forget(&h);
        ask(&h, (struct http_request){.method = "POST", .path = paths[i], .body = "{}", .n_body = 2});
        assert_fault(&h, FAULT_UNCERTAIN, -ECONNRESET, "cut");
        forget(&h);
    }
}

Test(http, an_answer_that_is_not_http_makes_no_sense)
{
    struct heard h = {0};

    ask(&h, (struct http_request){.path = "/rubbish"});
    assert_fault(&h, FAULT_INVALID, -EPROTO, "no sensible answer");
    forget(&h);
    ask(&h, (struct http_request){.path = "/bad-chunk"});
    cr_assert(h.failed);
    forget(&h);
}

/* ---- time ---- */

Test(http, the_deadline_of_the_whole)
{
    struct heard get = {0}, post = {0};

    start(&get, (struct http_request){.path = "/hang", .timeout_ms = 5000});
    start(&post, (struct http_request){.method = "POST", .path = "/hang-in-body", .timeout_ms = 5000});
    cr_assert(LOOP_UNTIL(loop, http_fixture_requests(server) == 2));
    loop_advance(loop, 4000);
    cr_assert_eq(get.times + post.times, 0);
    loop_advance(loop, 1000);
    cr_assert(LOOP_UNTIL(loop, get.times && post.times));
    assert_fault(&get, FAULT_TRANSIENT, -ETIMEDOUT, "GET /hang: no answer within 5.0s");
    assert_fault(&post, FAULT_UNCERTAIN, -ETIMEDOUT, "no answer within");
    loop_turns(loop, 3);
    cr_assert(http_fixture_wait_closed(server)); /* who is not listened to is told so */
}

Test(http, without_a_word_it_is_thirty_seconds_and_there_may_be_none)
{
    struct heard usual = {0}, none = {0};

    start(&usual, (struct http_request){.path = "/hang"});
    start(&none, (struct http_request){.path = "/hang", .timeout_ms = UINT64_MAX});
    cr_assert(LOOP_UNTIL(loop, http_fixture_requests(server) == 2));
    loop_advance(loop, 29000);
    cr_assert_eq(usual.times, 0);
    loop_advance(loop, 1000);
    cr_assert_eq(usual.times, 1);
    loop_machine_sleeps(loop, 24 * 3600 * 1000);
    cr_assert_eq(none.times, 0);
    op_cancel(&none.op);
}

Test(http, silence_is_measured_from_the_last_byte)
{
    struct heard h = {0};

    start(&h, (struct http_request){
                  .path = "/stream", .timeout_ms = UINT64_MAX, .quiet_ms = 10000, .on_data = hear_data});
    cr_assert(LOOP_UNTIL(loop, h.pieces == 1));
    loop_advance(loop, 9000);
    http_fixture_go_on(server);
    cr_assert(LOOP_UNTIL(loop, h.pieces == 2));
    loop_advance(loop, 9000);
    cr_assert_eq(h.times, 0);
    loop_advance(loop, 1000);
    cr_assert_eq(h.times, 1);
    assert_fault(&h, FAULT_TRANSIENT, -ETIMEDOUT, "GET /stream: nothing came for 10s");
    forget(&h);
}

Test(http, silence_before_the_first_byte_counts)
{
    struct heard h = {0};

    start(&h, (struct http_request){.path = "/hang", .quiet_ms = 3000});
    loop_advance(loop, 2000);
    cr_assert_eq(h.times, 0);
    loop_advance(loop, 1000);
    cr_assert_eq(h.times, 1);
    assert_fault(&h, FAULT_TRANSIENT, -ETIMEDOUT, "nothing came for");
}

/* ---- cancelling and freeing ---- */

Test(http, cancelled_at_any_time_nothing_is_heard_and_the_server_sees_it)
{
    struct heard h = {0};

    start(&h, (struct http_request){.path = "/hello"});
    op_cancel(&h.op);
    cr_assert_null(h.op);
    start(&h, (struct http_request){.path = "/hang"});
    cr_assert(LOOP_UNTIL(loop, http_fixture_requests(server) == 1));
    op_cancel(&h.op);
    start(&h, (struct http_request){.path = "/stream", .on_data = hear_data});
    cr_assert(LOOP_UNTIL(loop, h.pieces == 1));
    op_cancel(&h.op);
    http_fixture_go_on(server);
    http_fixture_go_on(server);
    loop_turns(loop, 3);
    cr_assert(http_fixture_wait_closed(server));
    loop_turns(loop, 3);
    cr_assert_eq(h.times, 0);
    cr_assert_eq(h.pieces, 1);
    forget(&h);
}

static void cancel_myself(void *ctx, const char *data, size_t n)
{
    struct heard *h = ctx;

    hear_data(ctx, data, n);
    op_cancel(&h->op);
}

Test(http, a_stream_may_be_cancelled_by_who_hears_it)
{
    struct heard h = {0};

    start(&h, (struct http_request){.path = "/too-large", .on_data = cancel_myself});
    cr_assert(LOOP_UNTIL(loop, h.pieces));
    loop_turns(loop, 3);
    cr_assert(http_fixture_wait_closed(server));
    cr_assert_eq(h.pieces, 1);
    cr_assert_eq(h.times, 0);
    forget(&h);
}

static bool freed;

static void free_myself(void *ctx, const char *data, size_t n)
{
    struct heard *h = ctx;

    (void)data;
    (void)n;
    op_cancel(&h->op);
    free(h);
    freed = true;
}

Test(http, the_owner_may_be_freed_by_a_piece_and_before_one)
{
    struct heard *h = xnew(struct heard), *before = xnew(struct heard);

    start(h, (struct http_request){.path = "/too-large", .on_data = free_myself});
    start(before, (struct http_request){.path = "/hang"});
    cr_assert(LOOP_UNTIL(loop, http_fixture_requests(server) == 2));
    op_cancel(&before->op);
    free(before);
    cr_assert(LOOP_UNTIL(loop, freed));
    loop_turns(loop, 3);
    cr_assert(http_fixture_wait_closed(server));
}

static struct heard other;

static void cancel_other_and_start_anew(void *ctx, const char *data, size_t n)
{
    hear_data(ctx, data, n);
    if (((struct heard *)ctx)->pieces > 1)
        return;
    op_cancel(&other.op);
    start(&other, (struct http_request){.path = "/hello"});
}

Test(http, a_piece_may_cancel_and_start_other_requests)
{
    struct heard h = {0};

    start(&other, (struct http_request){.path = "/hang"});
    start(&h, (struct http_request){.path = "/too-large", .on_data = cancel_other_and_start_anew});
    cr_assert(LOOP_UNTIL(loop, h.times && other.times));
    cr_assert_not(h.failed);
    assert_body(&other, 200, "hello");
    cr_assert_eq(other.times, 1);
    forget(&h);
    forget(&other);
}

static void start_and_cancel(void *ctx, const char *data, size_t n)
{
    hear_data(ctx, data, n);
    start(&other, (struct http_request){.path = "/hello"});
    op_cancel(&other.op);
}

Test(http, what_a_piece_starts_and_cancels_again_never_begins)
{
    struct heard h = {0};

    start(&h, (struct http_request){.path = "/until-close", .on_data = start_and_cancel});
    cr_assert(LOOP_UNTIL(loop, h.times));
    loop_turns(loop, 5);
    cr_assert_eq(http_fixture_requests(server), 1);
    cr_assert_eq(other.times, 0);
    forget(&h);
}

static void ask_again(struct heard *h)
{
    if (h->times < 5) {
        free(h->body);
        h->body = NULL;
        http_start(http, &(struct http_request){.method = "GET", .path = "/hello", .unix_socket = path},
                   &h->op, hear, h);
    }
}

Test(http, an_answer_may_start_the_next_request)
{
    struct heard h = {.then = ask_again};

    http_start(http, &(struct http_request){.method = "GET", .path = "/hello", .unix_socket = path}, &h.op,
               hear, &h);
    cr_assert(LOOP_UNTIL(loop, h.times == 5));
    cr_assert_eq(http_fixture_connections(server), 1);
    forget(&h);
}

Test(http, freed_with_requests_in_flight)
{
    struct heard h[4] = {0};

    start(&h[0], (struct http_request){.path = "/hang"});
    start(&h[1], (struct http_request){.path = "/stream", .on_data = hear_data});
    cr_assert(LOOP_UNTIL(loop, http_fixture_requests(server) == 2 && h[1].pieces == 1));
    start(&h[2], (struct http_request){.path = "/hello"});
    start(&h[3], (struct http_request){.path = "no path"});
    http = http_free(http);
    for (int i = 0; i < 4; i++)
        cr_assert_null(h[i].op);
    http_fixture_go_on(server);
    http_fixture_go_on(server);
    loop_turns(loop, 3);
    cr_assert(http_fixture_wait_closed(server));
    loop_turns(loop, 3);
    for (int i = 0; i < 4; i++)
        cr_assert_eq(h[i].times, 0);
    forget(&h[1]);
}

static void free_http(struct heard *h)
{
    (void)h;
    start(&other, (struct http_request){.path = "/hello"});
    http = http_free(http);
    cr_assert_null(other.op);
}

static void free_http_on_data(void *ctx, const char *data, size_t n)
{
    hear_data(ctx, data, n);
    free_http(ctx);
}

Test(http, freed_by_an_answer)
{
    struct heard h = {.then = free_http}, waiting = {0};

    start(&waiting, (struct http_request){.path = "/hang"});
    ask(&h, (struct http_request){.path = "/hello"});
    cr_assert_null(waiting.op);
    loop_turns(loop, 3);
    cr_assert_eq(waiting.times, 0);
    free(h.body);
}

Test(http, freed_by_a_piece)
{
    struct heard h = {0};

    start(&h, (struct http_request){.path = "/too-large", .on_data = free_http_on_data});
    cr_assert(LOOP_UNTIL(loop, h.pieces) || h.pieces);
    cr_assert_null(h.op);
    loop_turns(loop, 3);
    cr_assert_eq(h.times, 0);
    cr_assert_eq(h.pieces, 1);
    forget(&h);
}

Test(http, freed_by_a_timeout)
{
    struct heard h = {.then = free_http};

    start(&h, (struct http_request){.path = "/hang", .timeout_ms = 1000});
    loop_advance(loop, 1000);
    cr_assert_eq(h.times, 1);
    cr_assert_null(http);
}

Test(http, freeing_nothing_is_fine)
{
    cr_assert_null(http_free(NULL));
}

/* ---- connections ---- */

Test(http, fifty_in_parallel_are_all_answered)
{
    static struct heard h[50];
    unsigned done = 0;

    for (size_t i = 0; i < ELEMENTS(h); i++)
        start(&h[i], (struct http_request){.path = i % 2 ? "/hello" : "/largest"});
    cr_assert(LOOP_UNTIL(loop, ({
                             done = 0;
                             for (size_t i = 0; i < ELEMENTS(h); i++)
                                 done += h[i].times;
                             done == ELEMENTS(h);
                         })));
    for (size_t i = 0; i < ELEMENTS(h); i++) {
        cr_assert_not(h[i].failed, "%s", h[i].fault.text);
        cr_assert_eq(h[i].n_body, i % 2 ? 5 : HTTP_ANSWER_BYTES_MAX);
        forget(&h[i]);
    }
    cr_assert_leq(http_fixture_connections(server), ELEMENTS(h));
}

Test(http, connections_are_used_again)
{
    struct heard h = {0};

    for (int i = 0; i < 20; i++) {
        ask(&h, (struct http_request){.method = i % 2 ? "GET" : "POST", .path = "/hello"});
        assert_body(&h, 200, "hello");
        forget(&h);
    }
    cr_assert_eq(http_fixture_requests(server), 20);
    cr_assert_eq(http_fixture_connections(server), 1);
}

Test(http, another_socket_is_another_connection)
{
    _cleanup_free_ char *second = xasprintf("%s/second", directory);
    struct http_fixture *beside = http_fixture_new(second, script, ELEMENTS(script));
    struct heard h = {0};

    for (int i = 0; i < 4; i++) {
        ask(&h, (struct http_request){.path = "/hello", .unix_socket = i % 2 ? second : path});
        forget(&h);
    }
    cr_assert_eq(http_fixture_requests(server), 2);
    cr_assert_eq(http_fixture_requests(beside), 2);
    cr_assert_eq(http_fixture_connections(server) + http_fixture_connections(beside), 2);
    http = http_free(http);
    loop_turns(loop, 3);
    http_fixture_free(beside);
}

Test(http, a_kept_connection_that_was_closed_meanwhile_is_made_anew)
{
    struct heard h = {0};

    for (int i = 0; i < 3; i++) {
        ask(&h, (struct http_request){.method = "POST", .path = "/hello", .body = "{}", .n_body = 2});
        assert_body(&h, 200, "hello");
        forget(&h);
        http_fixture_hang_up(server);
    }
    cr_assert_eq(http_fixture_connections(server), 3);
}

Test(http, a_loop_with_nothing_in_flight_has_nothing_to_wait_for)
{
    struct heard h = {0};

    ask(&h, (struct http_request){.path = "/hello"});
    forget(&h);
    loop_turns(loop, 3);
    cr_assert_not(loop_turn(loop, false));
}

/* ---- over the network ---- */

static struct addresses loopback(uint16_t port)
{
    return (struct addresses){
        .n = 1,
        .at[0].v4 = {.sin_family = AF_INET,
                     .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
                     .sin_port = htons(port)},
    };
}

Test(http, a_name_is_what_the_addresses_say_and_the_token_goes_along)
{
    uint16_t port;
    struct http_fixture *far = http_fixture_new_tcp(script, ELEMENTS(script), &port);
    _cleanup_free_ char *origin = xasprintf("http://api.example:%u", port), *asked = NULL;
    struct addresses where = loopback(port);
    struct heard h = {0};

    ask(&h, (struct http_request){
                .origin = origin, .addresses = &where, .authorization = "token-1", .path = "/hello"});
    assert_body(&h, 200, "hello");
    forget(&h);
    asked = http_fixture_last_request(far);
    cr_assert(strstr(asked, "\r\nAuthorization: token-1\r\n"), "%s", asked);
    cr_assert(strstr(asked, "\r\nHost: api.example:"), "%s", asked);
    http = http_free(http); /* its connections, before the server waits for them */
    http = http_new(loop);
    http_fixture_free(far);
}

/* Where a connection that was used before ends without an answer curl asks again by itself. */
Test(http, what_may_have_been_done_far_away_is_never_sent_twice)
{
    static const char *const methods[] = {"POST", "PUT", "DELETE"};
    uint16_t port;
    struct http_fixture *far = http_fixture_new_tcp(script, ELEMENTS(script), &port);
    _cleanup_free_ char *origin = xasprintf("http://api.example:%u", port);
    struct addresses where = loopback(port);
    struct http_request look = {.origin = origin, .addresses = &where, .path = "/hello"}, act = look;
    struct heard h = {0};

    act.path = "/silent-close";
    act.body = "{}";
    act.n_body = 2;
    for (unsigned i = 0; i < ELEMENTS(methods); i++) {
        unsigned asked = http_fixture_requests(far);

        ask(&h, look);
        assert_body(&h, 200, "hello");
        forget(&h);
        act.method = methods[i];
        ask(&h, act);
        assert_fault(&h, FAULT_UNCERTAIN, -ECONNRESET, "the connection was cut before an answer");
        forget(&h);
        cr_assert_eq(http_fixture_requests(far), asked + 2, "%s: %u", methods[i],
                     http_fixture_requests(far) - asked);
    }
    http = http_free(http);
    http = http_new(loop);
    http_fixture_free(far);
}

Test(http, an_origin_that_is_none_or_has_no_address_is_refused)
{
    static const char *const bad[] = {"api.example",   "ftp://api.example", "http://",
                                      "http://a:0",    "http://a:99999",    "http://user@a",
                                      "http://a/path", "https://a:80x"};
    struct addresses where = loopback(80), nowhere = {0};
    struct heard h = {0};

    for (unsigned i = 0; i < ELEMENTS(bad); i++) {
        ask(&h, (struct http_request){.origin = bad[i], .addresses = &where, .path = "/hello"});
        assert_fault(&h, FAULT_INVALID, -EINVAL, "is not https://HOST");
        forget(&h);
    }
    ask(&h, (struct http_request){.origin = "http://a", .addresses = &nowhere, .path = "/hello"});
    assert_fault(&h, FAULT_INVALID, -EINVAL, "is not https://HOST");
    forget(&h);
}

Test(http, nobody_at_the_address_is_refused_and_may_pass)
{
    uint16_t port;
    struct http_fixture *far = http_fixture_new_tcp(script, ELEMENTS(script), &port);
    struct addresses where = loopback(port);
    _cleanup_free_ char *origin = xasprintf("http://api.example:%u", port);
    struct heard h = {0};

    http_fixture_free(far);
    ask(&h, (struct http_request){.origin = origin, .addresses = &where, .path = "/hello"});
    assert_fault(&h, FAULT_TRANSIENT, -ECONNREFUSED, "connection refused");
    forget(&h);
}

/* A server of TLS whose certificate it has made itself. */
static pid_t impostor_start(uint16_t port)
{
    _cleanup_free_ char *make =
        xasprintf("openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj "
                  "/CN=api.example "
                  "-addext subjectAltName=DNS:api.example -keyout %s/key -out %s/cert 2>/dev/null",
                  directory, directory);
    _cleanup_free_ char *key = xasprintf("%s/key", directory), *cert = xasprintf("%s/cert", directory);
    _cleanup_free_ char *at = xasprintf("127.0.0.1:%u", port);
    pid_t pid;

    cr_assert_eq(system(make), 0);
    pid = fork();
    if (pid == 0) {
        execlp("openssl", "openssl", "s_server", "-quiet", "-accept", at, "-key", key, "-cert", cert, NULL);
        _exit(127);
    }
    return pid;
}

Test(http, a_certificate_nobody_vouches_for_gets_no_token)
{
    uint16_t port;
    struct http_fixture *free_one = http_fixture_new_tcp(script, ELEMENTS(script), &port);

    http_fixture_free(free_one);
    struct addresses where = loopback(port);
    _cleanup_free_ char *origin = xasprintf("https://api.example:%u", port);
    pid_t impostor = impostor_start(port);
    struct heard h = {0};

    do { /* it is not there yet */
        forget(&h);
        ask(&h, (struct http_request){
                    .origin = origin, .addresses = &where, .authorization = "token-1", .path = "/hello"});
    } while (h.failed && h.fault.error == -ECONNREFUSED && waitpid(impostor, NULL, WNOHANG) == 0);
    cr_assert_eq(h.fault.kind, FAULT_DENIED, "%s", h.fault.text);
    cr_assert_str_eq(h.fault.code, "certificate");
    forget(&h);
    kill(impostor, SIGKILL);
    waitpid(impostor, NULL, 0);
}
