/* Messages in pieces, and everything two programs in a row could understand differently. */
#include "gateway/http1.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <string.h>

#include "proto/buf.h"

struct verdict {
    int r;           /* of the last call */
    unsigned status; /* of the refusal */
    enum http1_framing framing;
    char body[256];
    size_t used; /* of the whole text */
};

/* Hands in text in pieces of step bytes: head, then body. */
static struct verdict read_in_steps(enum http1_kind kind, const char *text, size_t n, size_t step)
{
    struct http1 *h = http1_new(kind);
    struct verdict v = {0};
    struct buf out;
    bool in_body = false;

    buf_init(&out, 1 << 20);
    while (v.r == 0 && v.used < n) {
        size_t piece = n - v.used < step ? n - v.used : step, used = 0;

        if (in_body) {
            v.r = http1_read_body(h, text + v.used, piece, &out, &used);
        } else {
            v.r = http1_read_head(h, text + v.used, piece, &used);
            if (v.r == 1) {
                in_body = true;
                v.framing = http1_get_head(h)->framing;
                v.r = v.framing == HTTP1_NO_BODY ? 1 : 0;
            }
        }
        v.used += used;
    }
    if (v.r == 0 && in_body && http1_read_end(h) == 0)
        v.r = 2;
    v.status = v.r < 0 ? http1_get_refusal(h)->status : 0;
    cr_assert_lt(out.len, sizeof(v.body));
    memcpy(v.body, out.data ? out.data : "", out.len);
    buf_done(&out);
    http1_free(h);
    return v;
}

/* The same in pieces of every size. */
static struct verdict read_all(enum http1_kind kind, const char *text)
{
    size_t n = strlen(text);
    struct verdict whole = read_in_steps(kind, text, n, n);

    for (size_t step = 1; step < n; step++) {
        struct verdict v = read_in_steps(kind, text, n, step);

        cr_assert_eq(v.r, whole.r, "%zu bytes at a time: %d, not %d: %s", step, v.r, whole.r, text);
        cr_assert_eq(v.status, whole.status, "%zu bytes at a time: status %u, not %u", step, v.status,
                     whole.status);
        if (v.r >= 0) /* how much of a refused one came before is nobody's business */
            cr_assert_str_eq(v.body, whole.body);
        if (v.r > 0)
            cr_assert_eq(v.used, whole.used);
    }
    return whole;
}

/* Splits once, at each place. */
static void split_once_everywhere(enum http1_kind kind, const char *text, const char *body)
{
    size_t n = strlen(text);

    for (size_t at = 0; at <= n; at++) {
        struct http1 *h = http1_new(kind);
        size_t used = 0, from = 0;
        struct buf out;
        int r = 0;

        buf_init(&out, 1 << 20);
        for (int piece = 0; piece < 2; piece++) {
            size_t to = piece == 0 ? at : n;

            while (from < to && !http1_get_head(h)) {
                cr_assert_geq(http1_read_head(h, text + from, to - from, &used), 0);
                from += used;
            }
            if (http1_get_head(h)) {
                r = http1_read_body(h, text + from, to - from, &out, &used);
                cr_assert_geq(r, 0, "split at %zu", at);
                from += used;
            }
        }
        cr_assert_eq(r, 1, "split at %zu", at);
        cr_assert_eq(from, n);
        cr_assert_str_eq(buf_text(&out), body);
        buf_done(&out);
        http1_free(h);
    }
}

#define POST "POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\n"

Test(http1, a_body_of_known_length_arrives)
{
    struct verdict v = read_all(HTTP1_REQUEST, POST "Content-Length: 11\r\n\r\nhello world");

    cr_assert_eq(v.r, 1);
    cr_assert_eq(v.framing, HTTP1_LENGTH);
    cr_assert_str_eq(v.body, "hello world");
}

Test(http1, a_chunked_body_arrives_without_its_framing)
{
    struct verdict v =
        read_all(HTTP1_REQUEST, POST "Transfer-Encoding: chunked\r\n\r\n"
                                     "5\r\nhello\r\n006\r\n world\r\n0\r\nX-Sum: 1\r\n\r\n");

    cr_assert_eq(v.r, 1);
    cr_assert_str_eq(v.body, "hello world");
}

Test(http1, both_framings_survive_a_split_anywhere)
{
    split_once_everywhere(HTTP1_REQUEST, POST "Content-Length: 11\r\n\r\nhello world", "hello world");
    split_once_everywhere(
        HTTP1_REQUEST,
        POST "Transfer-Encoding: Chunked\r\n\r\n5\r\nhello\r\n6\r\n world\r\n0\r\nA: b\r\n\r\n",
        "hello world");
    split_once_everywhere(HTTP1_ANSWER,
                          "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n\r\n", "a");
}

Test(http1, what_follows_a_message_is_left_alone)
{
    const char *text = "GET / HTTP/1.1\r\nHost: a\r\n\r\nGET /second HTTP/1.1\r\n";
    struct http1 *h = http1_new(HTTP1_REQUEST);
    size_t used;

    cr_assert_eq(http1_read_head(h, text, strlen(text), &used), 1);
    cr_assert_str_eq(text + used, "GET /second HTTP/1.1\r\n");
    http1_free(h);
}

Test(http1, what_follows_a_body_is_left_alone)
{
    const char *head = POST "Transfer-Encoding: chunked\r\n\r\n",
               *rest = "2\r\n{}\r\n0\r\n\r\nGET / HTTP/1.1\r\n";
    struct http1 *h = http1_new(HTTP1_REQUEST);
    struct buf out;
    size_t used;

    buf_init(&out, 100);
    cr_assert_eq(http1_read_head(h, head, strlen(head), &used), 1);
    cr_assert_eq(http1_read_body(h, rest, strlen(rest), &out, &used), 1);
    cr_assert_str_eq(rest + used, "GET / HTTP/1.1\r\n");
    cr_assert_str_eq(buf_text(&out), "{}");
    buf_done(&out);
    http1_free(h);
}

Test(http1, one_reader_takes_one_message_after_the_other)
{
    const char *text = POST "Content-Length: 2\r\n\r\n{}";
    struct http1 *h = http1_new(HTTP1_REQUEST);
    struct buf out;
    size_t used, more;

    buf_init(&out, 100);
    for (int i = 0; i < 3; i++) {
        cr_assert_eq(http1_read_head(h, text, strlen(text), &used), 1);
        cr_assert_eq(http1_read_body(h, text + used, strlen(text) - used, &out, &more), 1);
        http1_next(h);
        cr_assert_not(http1_has_begun(h));
        cr_assert_null(http1_get_head(h));
    }
    cr_assert_str_eq(buf_text(&out), "{}{}{}");
    buf_done(&out);
    http1_free(h);
}

Test(http1, fields_are_found_in_any_case_and_trimmed)
{
    const char *text = "GET /x?y=1 HTTP/1.0\r\nhOsT: \t a.b \t\r\nConnection: Keep-Alive , "
                       "TE\r\nX:\r\nConnection: close\r\n\r\n";
    struct http1 *h = http1_new(HTTP1_REQUEST);
    const struct http1_head *head;
    size_t used;

    cr_assert_eq(http1_read_head(h, text, strlen(text), &used), 1);
    head = http1_get_head(h);
    cr_assert_str_eq(head->method, "GET");
    cr_assert_str_eq(head->target, "/x?y=1");
    cr_assert_eq(head->minor, 0);
    cr_assert_str_eq(http1_field(head, "Host"), "a.b");
    cr_assert_str_eq(http1_field(head, "x"), "");
    cr_assert_null(http1_field(head, "Y"));
    cr_assert_eq(http1_count_fields(head, "connection"), 2);
    cr_assert(http1_field_lists(head, "connection", "te"));
    cr_assert(http1_field_lists(head, "connection", "CLOSE"));
    cr_assert_not(http1_field_lists(head, "connection", "keep"));
    http1_free(h);
}

Test(http1, a_connection_lasts_as_the_version_and_the_word_say)
{
    const struct {
        const char *text;
        bool keep_alive;
    } rows[] = {
        {"GET / HTTP/1.1\r\nHost: a\r\n\r\n", true},
        {"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", false},
        {"GET / HTTP/1.0\r\n\r\n", false},
        {"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", true},
    };

    for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
        struct http1 *h = http1_new(HTTP1_REQUEST);
        size_t used;

        cr_assert_eq(http1_read_head(h, rows[i].text, strlen(rows[i].text), &used), 1);
        cr_assert_eq(http1_get_head(h)->keep_alive, rows[i].keep_alive, "%s", rows[i].text);
        http1_free(h);
    }
}

struct refused {
    const char *text;
    unsigned status;
};

static void refuses(enum http1_kind kind, const struct refused *rows, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        struct verdict v = read_all(kind, rows[i].text);

        cr_assert_eq(v.r, -EBADMSG, "accepted (%d): %s", v.r, rows[i].text);
        cr_assert_eq(v.status, rows[i].status, "%u, not %u: %s", v.status, rows[i].status, rows[i].text);
    }
}

Test(http1, requests_that_could_be_understood_in_two_ways_are_refused)
{
    static const struct refused rows[] = {
        {POST "Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n", 400},
        {POST "Transfer-Encoding: chunked\r\nContent-Length: 2\r\n\r\n", 400},
        {POST "Content-Length: 2\r\nContent-Length: 2\r\n\r\n{}", 400},
        {POST "Content-Length: 2\r\ncontent-length: 3\r\n\r\n{}", 400},
        {POST "Content-Length: 2, 2\r\n\r\n{}", 400},
        {POST "Content-Length: +2\r\n\r\n{}", 400},
        {POST "Content-Length: -2\r\n\r\n{}", 400},
        {POST "Content-Length: 2 \v\r\n\r\n{}", 400},
        {POST "Content-Length: 0x2\r\n\r\n{}", 400},
        {POST "Content-Length: 2 2\r\n\r\n{}", 400},
        {POST "Content-Length:\r\n\r\n", 400},
        {POST "Content-Length: 99999999999999999999999\r\n\r\n", 413},
        {POST "Content-Length : 2\r\n\r\n{}", 400},
        {POST "Content-Length\t: 2\r\n\r\n{}", 400},
        {POST "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n", 400},
        {POST "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n", 400},
        {POST "Transfer-Encoding: gzip, chunked\r\n\r\n", 400},
        {POST "Transfer-Encoding: chunked, chunked\r\n\r\n", 400},
        {POST "Transfer-Encoding: identity\r\n\r\n", 400},
        {POST "Transfer-Encoding: xchunked\r\n\r\n", 400},
        {POST "Transfer-Encoding: \"chunked\"\r\n\r\n", 400},
        {POST "Transfer-Encoding:\r\n\r\n", 400},
        {POST "Transfer-Encoding : chunked\r\n\r\n", 400},
        {"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n", 400},
        {POST "X: a\r\n b\r\n\r\n", 400},
        {POST "X: a\r\n\tb\r\n\r\n", 400},
        {"GET / HTTP/1.1\r\n Host: a\r\n\r\n", 400},
        {POST "Content-Length: 2\n\r\n{}", 400},
        {"GET / HTTP/1.1\nHost: a\n\n", 400},
        {POST "X: a\rb\r\n\r\n", 400},
        {POST "X: a\x01"
              "b\r\n\r\n",
         400},
        {POST "X: a\x7f\r\n\r\n", 400},
        {POST "X\r\n\r\n", 400},
        {POST ": x\r\n\r\n", 400},
        {POST "X Y: z\r\n\r\n", 400},
        {POST "X\xc3\xa4: z\r\n\r\n", 400},
        {POST "Host: b\r\n\r\n", 400},
        {"GET / HTTP/1.1\r\n\r\n", 400},
    };

    refuses(HTTP1_REQUEST, rows, sizeof(rows) / sizeof(*rows));
}

Test(http1, first_lines_that_are_none_are_refused)
{
    static const struct refused rows[] = {
        {"GET /\r\n\r\n", 400},
        {"GET\r\n\r\n", 400},
        {"GET  / HTTP/1.1\r\nHost: a\r\n\r\n", 400},
        {"GET / x HTTP/1.1\r\nHost: a\r\n\r\n", 400},
        {"GET / HTTP/1.1 \r\nHost: a\r\n\r\n", 400},
        {"GET x HTTP/1.1\r\nHost: a\r\n\r\n", 400},
        {"GET /\xff HTTP/1.1\r\nHost: a\r\n\r\n", 400},
        {"G@T / HTTP/1.1\r\nHost: a\r\n\r\n", 400},
        {" GET / HTTP/1.1\r\nHost: a\r\n\r\n", 400},
        {"GET / HTTP/1.2\r\nHost: a\r\n\r\n", 505},
        {"GET / HTTP/2.0\r\nHost: a\r\n\r\n", 505},
        {"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505},
        {"GET / HTTP/0.9\r\n\r\n", 505},
        {"GET / http/1.1\r\nHost: a\r\n\r\n", 400},
        {"GET / HTTP/11\r\nHost: a\r\n\r\n", 400},
        {"GET / HTTP/1.10\r\nHost: a\r\n\r\n", 400},
        {"CONNECT a:443 HTTP/1.1\r\nHost: a\r\n\r\n", 400},
        {"TRACE / HTTP/1.1\r\nHost: a\r\n\r\n", 501},
        {"get / HTTP/1.1\r\nHost: a\r\n\r\n", 501},
        {"\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", 400},
        {"\rGET / HTTP/1.1\r\nHost: a\r\n\r\n", 400},
        {"\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", 400},
        {"\x16\x03\x01\x02", 400},
    };

    refuses(HTTP1_REQUEST, rows, sizeof(rows) / sizeof(*rows));
}

Test(http1, chunks_that_make_no_sense_are_refused)
{
#define CHUNKED POST "Transfer-Encoding: chunked\r\n\r\n"
    static const struct refused rows[] = {
        {CHUNKED "\r\n", 400},
        {CHUNKED "x\r\n", 400},
        {CHUNKED "2\n{}\r\n", 400},
        {CHUNKED "2\r\n{}}\r\n", 400},
        {CHUNKED "2\r\n{}\n0\r\n", 400},
        {CHUNKED "+2\r\n{}\r\n", 400},
        {CHUNKED "-2\r\n{}\r\n", 400},
        {CHUNKED "0x2\r\n{}\r\n", 400},
        {CHUNKED " 2\r\n{}\r\n", 400},
        {CHUNKED "2 \r\n{}\r\n", 400},
        {CHUNKED ";x\r\n", 400},
        {CHUNKED "123456789\r\n", 400},
        {CHUNKED "2;\r\n{}\r\n", 400},
        {CHUNKED "2;a=b\r\n{}\r\n", 400},
        {CHUNKED "2;a\n{}\r\n", 400},
        {CHUNKED "0;a\r\n\r\n", 400},
        {CHUNKED "0\r\n x\r\n\r\n", 400},
        {CHUNKED "0\r\nA: b\n\r\n", 400},
        {CHUNKED "0\r\nA: b\r\n c\r\n\r\n", 400},
    };

    refuses(HTTP1_REQUEST, rows, sizeof(rows) / sizeof(*rows));
}

Test(http1, an_empty_line_in_front_is_forgiven_once)
{
    cr_assert_eq(read_all(HTTP1_REQUEST, "\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n").r, 1);
}

static int read_large(size_t n_bytes, unsigned n_fields, unsigned *ret_status)
{
    struct http1 *h = http1_new(HTTP1_REQUEST);
    struct buf text;
    size_t used;
    int r;

    buf_init(&text, 1 << 20);
    buf_add_text(&text, "GET / HTTP/1.1\r\nHost: a\r\n");
    for (unsigned i = 1; i < n_fields; i++)
        buf_addf(&text, "A%u: b\r\n", i);
    if (n_bytes) {
        buf_add_text(&text, "X: ");
        while (text.len < n_bytes - 4)
            buf_add(&text, "x", 1);
        buf_add_text(&text, "\r\n");
    }
    buf_add_text(&text, "\r\n");
    r = http1_read_head(h, text.data, text.len, &used);
    *ret_status = r < 0 ? http1_get_refusal(h)->status : 0;
    buf_done(&text);
    http1_free(h);
    return r;
}

Test(http1, a_head_has_a_size_it_may_not_exceed)
{
    unsigned status;

    cr_assert_eq(read_large(HTTP1_HEAD_BYTES_MAX, 1, &status), 1);
    cr_assert_eq(read_large(HTTP1_HEAD_BYTES_MAX + 1, 1, &status), -EBADMSG);
    cr_assert_eq(status, 431);
    cr_assert_eq(read_large(0, HTTP1_FIELDS_MAX, &status), 1);
    cr_assert_eq(read_large(0, HTTP1_FIELDS_MAX + 1, &status), -EBADMSG);
    cr_assert_eq(status, 431);
}

Test(http1, answers_end_by_length_by_chunks_or_with_the_connection)
{
    struct verdict v = read_all(HTTP1_ANSWER, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");

    cr_assert_eq(v.r, 1);
    cr_assert_str_eq(v.body, "ok");
    v = read_all(HTTP1_ANSWER, "HTTP/1.0 200\r\n\r\nuntil the end");
    cr_assert_eq(v.r, 2);
    cr_assert_str_eq(v.body, "until the end");
    v = read_all(HTTP1_ANSWER, "HTTP/1.1 404 \r\nTransfer-Encoding: chunked\r\n\r\n2\r\nno\r\n0\r\n\r\n");
    cr_assert_eq(v.r, 1);
    cr_assert_str_eq(v.body, "no");
    v = read_all(HTTP1_ANSWER, "HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\n");
    cr_assert_eq(v.r, 1);
    v = read_all(HTTP1_ANSWER, "HTTP/1.1 100 Continue\r\n\r\n");
    cr_assert_eq(v.r, 1);
}

Test(http1, a_short_answer_is_known_to_be_short)
{
    cr_assert_eq(read_all(HTTP1_ANSWER, "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nok").r, 0);
    cr_assert_eq(read_all(HTTP1_ANSWER, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n").r,
                 0);
}

Test(http1, answers_that_make_no_sense_are_refused)
{
    static const struct refused rows[] = {
        {"HTTP/1.1 20 OK\r\n\r\n", 400},
        {"HTTP/1.1 2000 OK\r\n\r\n", 400},
        {"HTTP/1.1 900 OK\r\n\r\n", 400},
        {"HTTP/1.1\r\n\r\n", 400},
        {"HTTP/2.0 200 OK\r\n\r\n", 505},
        {"HTTP/1.1 200 OK\nContent-Length: 0\n\n", 400},
        {"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n", 400},
        {"\r\nHTTP/1.1 200 OK\r\n\r\n", 400},
    };

    refuses(HTTP1_ANSWER, rows, sizeof(rows) / sizeof(*rows));
}

Test(http1, a_full_buffer_is_said_and_not_taken_for_a_bad_message)
{
    const char *head = POST "Content-Length: 20\r\n\r\n";
    struct http1 *h = http1_new(HTTP1_REQUEST);
    struct buf out;
    size_t used;

    buf_init(&out, 8);
    cr_assert_eq(http1_read_head(h, head, strlen(head), &used), 1);
    cr_assert_eq(http1_read_body(h, "0123456789", 10, &out, &used), -ENOBUFS);
    buf_done(&out);
    http1_free(h);
}
