/* links: gateway
 * wraps: malloc calloc realloc reallocarray strdup strndup vasprintf
 *
 * Memory that runs out. Whatever proto/ and http1.c read of bytes from outside is read again and again, the
 * first time with no allocation that succeeds, then with one, with two, until it goes well: each time it
 * fails in an orderly way, and what goes well is what goes well with memory. The sanitizer counts what is
 * left. */
#include <criterion/criterion.h>
#include <errno.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "gateway/http1.h"
#include "proto/buf.h"
#include "proto/json.h"
#include "proto/ssh_command.h"
#include "proto/ssh_proxy.h"
#include "proto/text.h"
#include "proto/varlink.h"

TestSuite(memory, .timeout = 100);

static long left = LONG_MAX;

static bool is_gone(void)
{
    return left != LONG_MAX && left-- <= 0;
}

void *__real_malloc(size_t n);
void *__real_calloc(size_t n, size_t size);
void *__real_realloc(void *p, size_t n);
void *__real_reallocarray(void *p, size_t n, size_t size);
char *__real_strdup(const char *s);
char *__real_strndup(const char *s, size_t n);
int __real_vasprintf(char **ret, const char *format, va_list args);
void *__wrap_malloc(size_t n);
void *__wrap_calloc(size_t n, size_t size);
void *__wrap_realloc(void *p, size_t n);
void *__wrap_reallocarray(void *p, size_t n, size_t size);
char *__wrap_strdup(const char *s);
char *__wrap_strndup(const char *s, size_t n);
int __wrap_vasprintf(char **ret, const char *format, va_list args);

void *__wrap_malloc(size_t n)
{
    return is_gone() ? NULL : __real_malloc(n);
}

void *__wrap_calloc(size_t n, size_t size)
{
    return is_gone() ? NULL : __real_calloc(n, size);
}

void *__wrap_realloc(void *p, size_t n)
{
    return is_gone() ? NULL : __real_realloc(p, n);
}

void *__wrap_reallocarray(void *p, size_t n, size_t size)
{
    return is_gone() ? NULL : __real_reallocarray(p, n, size);
}

char *__wrap_strdup(const char *s)
{
    return is_gone() ? NULL : __real_strdup(s);
}

char *__wrap_strndup(const char *s, size_t n)
{
    return is_gone() ? NULL : __real_strndup(s, n);
}

int __wrap_vasprintf(char **ret, const char *format, va_list args)
{
    return is_gone() ? -1 : __real_vasprintf(ret, format, args);
}

/* A piece of work says what came of it as text; negative: it failed. */
typedef int (*work_fn)(struct buf *out);

/* How often it failed. */
static long until_it_goes_well(const char *name, work_fn work)
{
    struct buf expected, out;
    long k = -1;
    int r;

    buf_init(&expected, 1 << 20);
    buf_init(&out, 1 << 20);
    cr_assert_geq(work(&expected), 0, "%s fails with all the memory there is", name);
    cr_assert_gt(expected.len, 0);
    do {
        buf_done(&out);
        left = ++k;
        r = work(&out);
        cr_assert(r >= 0 || r == -ENOMEM, "%s, %ld allocations: %d", name, k, r);
        cr_assert(r < 0 || left >= 0, "%s goes well although allocation %ld failed", name, k);
    } while (r < 0);
    left = LONG_MAX;
    cr_assert_eq(out.len, expected.len, "%s", name);
    cr_assert_arr_eq(out.data, expected.data, expected.len, "%s", name);
    buf_done(&expected);
    buf_done(&out);
    return k;
}

/* ---- JSON ---- */

static int tree(struct buf *out)
{
    static const char text[] = "{\"a\":[1,2.5,\"x\\u00e4\\n\",null,true,[],{}],\"b\":{\"c\":{\"d\":\"text\"}}"
                               ",\"e\":[[[[[[1]]]]]],\"f\":2,"
                               "\"g\":3,\"h\":4,\"i\":1,\"j\":1,\"k\":1,\"l\":1,\"m\":1,\"n\":1,\"o\":1,"
                               "\"p\":1,\"q\":1,\"r\":1,\"s\":1}";
    _cleanup_json_ struct json *v = NULL, *copy = NULL;
    int r = json_parse(text, strlen(text), &v);

    if (r < 0)
        return r;
    copy = json_copy(v);
    json_put_string(copy, "new", "value");
    return json_write(copy, out);
}

static int scan(struct buf *out)
{
    static const char *const keys[] = {"model", "stream"};
    static const char text[] =
        "{\"messages\":[{\"content\":\"a\\u00e4 long one\"}],\"model\":\"deep\\/seek\","
        "\"stream\":true}";
    struct json_scan *s = json_scan_new(keys, ELEMENTS(keys));
    struct json_member m;
    int r = s ? 0 : -ENOMEM;

    for (size_t i = 0; i < strlen(text) && r == 0; i++)
        r = json_scan_feed(s, text + i, 1);
    if (r == 0)
        r = json_scan_end(s);
    if (r == 0) {
        json_scan_member(s, "model", &m);
        r = buf_addf(out, "%s %d", m.text, (int)m.count);
    }
    json_scan_free(s);
    return r;
}

Test(memory, json_is_read_and_written_without)
{
    cr_assert_gt(until_it_goes_well("tree", tree), 80);
    cr_assert_gt(until_it_goes_well("scan", scan), 8);
}

/* ---- the control socket ---- */

static struct varlink_contract *contract;

static int frame_and_call(struct buf *out)
{
    static const char bytes[] =
        "{\"method\":\"io.llmhost.InstanceAdd\",\"parameters\":{\"name\":\"gpu1\",\"command\":\"ssh root@h\","
        "\"password\":{\"text\":\"secret\"}},\"more\":true}";
    _cleanup_json_ struct json *shown = NULL;
    struct varlink_call call = {0};
    const char *text;
    struct buf in;
    size_t n;
    int r = 0;

    buf_init(&in, VARLINK_MESSAGE_BYTES_MAX);
    for (size_t i = 0; i < sizeof(bytes) && r == 0; i++)
        r = buf_add(&in, bytes + i, 1);
    if (r == 0)
        r = varlink_frame(&in, &text, &n) == 1 ? varlink_call_parse(text, n, &call) : -EBADMSG;
    if (r == 0)
        r = varlink_check_call(contract, call.method, call.parameters, NULL);
    if (r == 0) {
        shown = varlink_hide_secrets(contract, call.method, call.parameters);
        r = shown ? varlink_call_write(out, call.method, shown, call.more, false) : -ENOMEM;
    }
    varlink_call_done(&call);
    buf_done(&in);
    return r;
}

static int wrong_call(struct buf *out)
{
    static const char text[] = "{\"method\":\"io.llmhost.Up\",\"parameters\":{\"model\":\"x\",\"wait\":1}}";
    _cleanup_free_ char *where = NULL;
    struct varlink_call call = {0};
    int r = varlink_call_parse(text, strlen(text), &call);

    if (r == 0) {
        r = varlink_check_call(contract, call.method, call.parameters, &where);
        cr_assert_lt(r, 0);
        r = r == -EINVAL && where ? buf_add_text(out, where) : -ENOMEM;
    }
    varlink_call_done(&call);
    return r;
}

static int reply(struct buf *out)
{
    static const char text[] =
        "{\"error\":\"io.llmhost.NotFound\",\"parameters\":{\"code\":\"a\",\"message\":\"b\","
        "\"next\":[\"c\"]}}";
    struct varlink_reply v = {0};
    int r = varlink_reply_parse(text, strlen(text), &v);

    if (r == 0)
        r = varlink_check_error(contract, v.error, v.parameters, NULL);
    if (r == 0)
        r = varlink_error_write(out, v.error, v.parameters);
    if (r == 0)
        r = varlink_reply_write(out, v.parameters, true);
    varlink_reply_done(&v);
    return r;
}

static int no_parameters(struct buf *out)
{
    int r = varlink_check_call(contract, "Status", NULL, NULL);

    return r < 0 ? r : varlink_reply_write(out, NULL, false);
}

static int description(struct buf *out)
{
    _cleanup_(cleanup_varlink_contract_free) struct varlink_contract *c = NULL;
    int r = varlink_contract_parse(varlink_org_varlink_service, &c, NULL);

    return r < 0 ? r : buf_add_text(out, varlink_contract_name(c));
}

static int wrong_description(struct buf *out)
{
    struct varlink_contract *c = NULL;
    _cleanup_free_ char *why = NULL;
    int r = varlink_contract_parse("interface a.b\ntype T (a: int, b: Unheard)\n", &c, &why);

    cr_assert_lt(r, 0);
    return r == -EBADMSG && why ? buf_add_text(out, why) : -ENOMEM;
}

Test(memory, calls_and_replies_are_read_checked_and_written_without)
{
    cr_assert_eq(varlink_contract_parse(varlink_io_llmhost, &contract, NULL), 0);
    cr_assert_gt(until_it_goes_well("frame and call", frame_and_call), 30);
    cr_assert_gt(until_it_goes_well("wrong call", wrong_call), 10);
    cr_assert_gt(until_it_goes_well("reply", reply), 10);
    until_it_goes_well("no parameters", no_parameters);
    varlink_contract_free(contract);
}

Test(memory, a_contract_is_read_without)
{
    cr_assert_gt(until_it_goes_well("description", description), 20);
    cr_assert_gt(until_it_goes_well("wrong description", wrong_description), 5);
}

/* ---- texts ---- */

static int command(struct buf *out)
{
    struct ssh_command c = {0};
    _cleanup_free_ char *why = NULL;
    int r = ssh_command_parse("ssh -CNg -l root -L 6006:127.0.0.1:6006 -L 7007 -i 'a key' root@box -p 46464",
                              &c, &why);

    cr_assert(r == 0 || r == -ENOMEM);
    cr_assert_null(why);
    if (r == 0)
        r = buf_addf(out, "%s@%s:%u %s %s %u", c.user, c.host, c.port, c.identity_file, c.left_out,
                     c.n_forwards);
    ssh_command_done(&c);
    return r;
}

static int wrong_command(struct buf *out)
{
    struct ssh_command c = {0};
    _cleanup_free_ char *why = NULL;
    int r = ssh_command_parse("ssh -L 1:2:3:4:5 root@box", &c, &why);

    cr_assert_lt(r, 0);
    return r == -EINVAL && why ? buf_add_text(out, why) : -ENOMEM;
}

static int proxy(struct buf *out)
{
    static const char *const values[] = {"ops@bastion:2200,me@gate", "nc %h %p"};

    for (size_t i = 0; i < ELEMENTS(values); i++) {
        _cleanup_free_ char *line = NULL, *text = NULL, *why = NULL;
        int r = ssh_proxy_read(i ? "ProxyCommand" : "ProxyJump", values[i], &line, &why);

        if (r == 0)
            r = ssh_proxy_command(line, "box", 22, "root", &text, &why);
        cr_assert(r == 0 || r == -ENOMEM);
        if (r == 0)
            r = buf_addf(out, "%s %s\n", line, text);
        if (r < 0)
            return r;
    }
    return 0;
}

static int words(struct buf *out)
{
    struct buf b;
    int r;

    buf_init(&b, 4096);
    r = shell_quote(out, "it's");
    if (r == 0)
        r = utf8_clean(out, "a\xff\n\x01", 4, true);
    if (r == 0)
        r = base64_encode(&b, "seven b", 7, true);
    if (r == 0)
        r = base64_decode(out, buf_text(&b), b.len);
    if (r == 0)
        r = buf_addf(out, "%d %s", 7, "eight");
    buf_done(&b);
    return r;
}

static int taken(struct buf *out)
{
    _cleanup_free_ char *nothing = NULL;
    struct buf b;

    buf_init(&b, 10);
    nothing = buf_take(&b);
    return nothing ? buf_addf(out, "[%s]", nothing) : -ENOMEM;
}

Test(memory, texts_are_read_and_written_without)
{
    cr_assert_gt(until_it_goes_well("command", command), 8);
    cr_assert_gt(until_it_goes_well("wrong command", wrong_command), 2);
    cr_assert_gt(until_it_goes_well("proxy", proxy), 5);
    cr_assert_gt(until_it_goes_well("words", words), 1);
    until_it_goes_well("taken", taken);
}

/* ---- HTTP ---- */

/* In pieces of 7 bytes. A refusal for want of memory is no other refusal. */
static int message(enum http1_kind kind, const char *text, struct buf *out)
{
    struct http1 *h = http1_new(kind);
    size_t n = strlen(text), at = 0, used;
    int r = h ? 0 : -ENOMEM;

    while (r == 0 && at < n) {
        size_t piece = MIN(n - at, (size_t)7);

        used = 0;
        if (http1_get_head(h))
            r = http1_read_body(h, text + at, piece, out, &used);
        else
            r = MIN(http1_read_head(h, text + at, piece, &used), 0);
        at += used;
    }
    if (h && r < 0) {
        cr_assert_eq(http1_get_refusal(h)->status, 503, "%s", http1_get_refusal(h)->text);
        cr_assert_lt(http1_read_body(h, "x", 1, out, &used), 0, "it stays refused");
        r = -ENOMEM;
    } else if (h) {
        r = buf_addf(out, " %u fields", http1_get_head(h)->n_fields);
    }
    http1_free(h);
    return r;
}

static int request(struct buf *out)
{
    return message(
        HTTP1_REQUEST,
        "POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nAccept: */*\r\n"
        "Transfer-Encoding: chunked\r\n\r\n7\r\n{\"a\":1}\r\n1\r\n \r\n0\r\nTrailer: t\r\n\r\n",
        out);
}

static int answer(struct buf *out)
{
    return message(HTTP1_ANSWER, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", out);
}

Test(memory, http_messages_are_read_without)
{
    cr_assert_gt(until_it_goes_well("request", request), 5);
    cr_assert_gt(until_it_goes_well("answer", answer), 3);
}
