/* The module itself, over an allocator that fails on demand: at the call that makes allocations_left
 * negative. */
#include <criterion/criterion.h>
#include <limits.h>
#include <malloc.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static long allocations_left = LONG_MAX;

static bool memory_is_gone(void)
{
    return --allocations_left < 0;
}

static void *test_malloc(size_t n)
{
    return memory_is_gone() ? NULL : malloc(n);
}

static void *test_calloc(size_t n, size_t size)
{
    return memory_is_gone() ? NULL : calloc(n, size);
}

static void *test_reallocarray(void *p, size_t n, size_t size)
{
    return memory_is_gone() ? NULL : reallocarray(p, n, size);
}

static char *test_strdup(const char *text)
{
    return memory_is_gone() ? NULL : strdup(text);
}

#include "proto/mem.h"
#include "proto/text.h"

#define malloc       test_malloc
#define calloc       test_calloc
#define reallocarray test_reallocarray
#undef strdup
#define strdup test_strdup
#include "proto/buf.c"
#include "proto/json.c"
#include "proto/json_scan.c"
#include "proto/json_tree.c"
#include "proto/json_yajl.c"
#undef malloc
#undef calloc
#undef reallocarray
#undef strdup

static struct json *parsed(const char *text)
{
    struct json *v = NULL;

    cr_assert_eq(json_parse(text, strlen(text), &v), 0, "%s", text);
    return v;
}

static void assert_written(const struct json *v, const char *expected)
{
    struct buf b;

    buf_init(&b, 1 << 20);
    cr_assert_eq(json_write(v, &b), 0);
    cr_assert_str_eq(buf_text(&b), expected);
    buf_done(&b);
}

/* ---- reading ---- */

Test(json, reads_what_it_wrote)
{
    static const char *const texts[] = {
        "null",
        "true",
        "false",
        "0",
        "-1",
        "9223372036854775807",
        "-9223372036854775808",
        "1.5",
        "0.1",
        "1e+300",
        "4.94065645841247e-324",
        "1.7976931348623157e+308",
        "0.30000000000000004",
        "\"\"",
        "\"a\\\"\\\\\\b\\f\\n\\r\\t\\u0001\\u0000b/\"",
        "\"\xe4\xbd\xa0\xf0\x9f\x98\x80\"",
        "[]",
        "{}",
        "[1,[2,[3,{}]],\"x\"]",
        "{\"a\":1,\"b\":{\"a\":[null,true]},\"\":2}",
    };

    for (size_t i = 0; i < ELEMENTS(texts); i++) {
        _cleanup_json_ struct json *v = parsed(texts[i]);
        _cleanup_json_ struct json *copy = json_copy(v);

        assert_written(v, texts[i]);
        assert_written(copy, texts[i]);
    }
}

Test(json, reads_other_spellings_of_the_same)
{
    static const char *const rows[][2] = {
        {" \t\r\n[ 1 , 2 ]\n", "[1,2]"},
        {"\"\\u0041\\/\\u4f60\\ud83d\\ude00\"", "\"A/\xe4\xbd\xa0\xf0\x9f\x98\x80\""},
        {"1E2", "100.0"},
        {"1.0", "1.0"},
        {"-0", "0"},
        {"-0.0", "-0.0"},
        {"1e-999", "0.0"},
        {"12345678901234567.0", "12345678901234568.0"},
    };

    for (size_t i = 0; i < ELEMENTS(rows); i++) {
        _cleanup_json_ struct json *v = parsed(rows[i][0]);

        assert_written(v, rows[i][1]);
    }
}

Test(json, refuses_what_is_not_json)
{
    static const char *const texts[] = {
        "",
        " ",
        "[",
        "]",
        "{",
        "}",
        "[1,]",
        "[,1]",
        "[1 2]",
        "{\"a\"}",
        "{\"a\":}",
        "{\"a\":1,}",
        "{a:1}",
        "{1:1}",
        "{'a':1}",
        "tru",
        "nul",
        "True",
        "NaN",
        "Infinity",
        "-",
        "01",
        "1.",
        ".5",
        "+1",
        "1e",
        "0x10",
        "- 1",
        "\"abc",
        "\"\\x\"",
        "\"\\u12g4\"",
        "\"\\",
        "\"\\u12\"",
        "\"a\nb\"",
        "\"a\tb\"",
        "1 2",
        "1 x",
        "{}{}",
        "[]]",
        "nullx",
        "/**/1",
        "1//",
        "\v1",
        "[\f1]",
        "\xef\xbb\xbf{}",
        "\"\xff\"",
        "\"\xc0\x80\"",
        "\"\xed\xa0\x80\"",
        "\"\xe4\xbd\"",
        "\"\\ud83d\"",
        "\"\\ud83dx\\ude00\"",
        "\"\\ud83d\\u0041\"",
        "\"\\ud83d\\ud83d\"",
        "\"\\ud83d\\",
        "\"\\ud83d\\ude0",
        "1\"",
        "true\"x",
        "{} \"",
        "[]\"\\",
        "\"\\udc00\"",
        "{\"\xff\":1}",
        "{\"a\\u0000b\":1}",
        "{\"a\\udc00\":1}",
        "'a'",
        "{\"a\":1 \"b\":2}",
        "{\"a\":1:2}",
        "{:1}",
        "[1:2]",
        "\x7f",
        "1,",
        "-a",
        "1.e1",
        "1e1.5",
        "--1",
    };

    for (size_t i = 0; i < ELEMENTS(texts); i++) {
        struct json *v = NULL;

        cr_assert_eq(json_parse(texts[i], strlen(texts[i]), &v), -EBADMSG, "%s", texts[i]);
        cr_assert_null(v);
    }
    struct json *v = NULL;

    cr_assert_eq(json_parse("1\0", 2, &v), -EBADMSG);
    cr_assert_eq(json_parse("\0"
                            "1",
                            2, &v),
                 -EBADMSG);
    cr_assert_eq(json_parse("\"a\0b\"", 5, &v), -EBADMSG);
    cr_assert_null(v);
}

Test(json, refuses_every_beginning_of_a_document)
{
    static const char whole[] =
        "{\"a\":[1,-2.5e3,\"x\\u00e4\\n\",true,null,{\"b\":{}}],\"c\":\"\xe4\xbd\xa0\"}";
    struct json *v = NULL;

    for (size_t n = 0; n < strlen(whole); n++)
        cr_assert_eq(json_parse(whole, n, &v), -EBADMSG, "%zu", n);
    cr_assert_eq(json_parse(whole, strlen(whole), &v), 0);
    json_free(v);
}

Test(json, is_exact_in_64_bits_and_refuses_more)
{
    static const char *const too_large[] = {"9223372036854775808", "-9223372036854775809",
                                            "[99999999999999999999999]", "1e999", "-1e999"};
    _cleanup_json_ struct json *v = parsed("[9223372036854775807,-9223372036854775808,9007199254740993]");
    struct json *none = NULL;
    char digits[2000];
    int64_t n;

    cr_assert(json_to_int(json_at(v, 0), &n) && n == INT64_MAX);
    cr_assert(json_to_int(json_at(v, 1), &n) && n == INT64_MIN);
    cr_assert(json_to_int(json_at(v, 2), &n) && n == 9007199254740993);
    for (size_t i = 0; i < ELEMENTS(too_large); i++)
        cr_assert_eq(json_parse(too_large[i], strlen(too_large[i]), &none), -ERANGE, "%s", too_large[i]);
    memset(digits, '0', sizeof(digits));
    digits[1] = '.';
    cr_assert_eq(json_parse(digits, sizeof(digits), &none), -ERANGE);
    cr_assert_null(none);
}

static int parse_nested(const char *open, const char *close, unsigned depth)
{
    struct json *v = NULL;
    struct buf b;
    int r;

    buf_init(&b, 1 << 20);
    for (unsigned i = 0; i < depth; i++)
        buf_add_text(&b, open);
    buf_add_text(&b, "1");
    for (unsigned i = 0; i < depth; i++)
        buf_add_text(&b, close);
    r = json_parse(b.data, b.len, &v);
    buf_done(&b);
    json_free(v);
    return r;
}

Test(json, goes_as_deep_as_32)
{
    cr_assert_eq(parse_nested("[", "]", 32), 0);
    cr_assert_eq(parse_nested("[", "]", 33), -E2BIG);
    cr_assert_eq(parse_nested("[", "]", 100000), -E2BIG);
    cr_assert_eq(parse_nested("{\"a\":", "}", 32), 0);
    cr_assert_eq(parse_nested("{\"a\":", "}", 33), -E2BIG);
}

Test(json, refuses_a_key_that_comes_twice)
{
    struct json *v = NULL;
    struct buf b;

    cr_assert_eq(json_parse("{\"a\":1,\"a\":1}", 13, &v), -EEXIST);
    cr_assert_eq(json_parse("[{\"a\":1,\"b\":2,\"\\u0061\":3}]", 26, &v), -EEXIST);
    v = json_free(parsed("[{\"a\":1},{\"a\":{\"a\":1}}]"));

    buf_init(&b, 1 << 20);
    buf_add_text(&b, "{");
    for (int i = 0; i < 5000; i++)
        buf_addf(&b, "\"k%d\":%d,", i, i);
    size_t len = b.len;

    buf_add_text(&b, "\"k2500\":1}");
    cr_assert_eq(json_parse(b.data, b.len, &v), -EEXIST);
    b.len = len;
    buf_add_text(&b, "\"other\":1}");
    cr_assert_eq(json_parse(b.data, b.len, &v), 0);
    cr_assert_eq(json_count(v), 5001);
    cr_assert_eq(json_get_int(v, "k4999", 0), 4999);
    json_free(v);
    buf_done(&b);
}

/* ---- making, looking, writing ---- */

Test(json, looks_into_things_that_are_not_there)
{
    _cleanup_json_ struct json *v =
        parsed("{\"text\":\"x\",\"n\":5,\"r\":2.0,\"half\":2.5,\"yes\":true,\"list\":[1,2]}");
    int64_t n = 7;
    double d;

    cr_assert_eq(json_type(NULL), JSON_NULL);
    cr_assert_null(json_get(NULL, "a"));
    cr_assert_null(json_get(json_get(v, "list"), "a"));
    cr_assert_null(json_get(v, "nothing"));
    cr_assert_null(json_text(json_get(v, "n")));
    cr_assert_null(json_get_text(NULL, "a"));
    cr_assert_eq(json_count(NULL), 0);
    cr_assert_eq(json_count(json_get(v, "text")), 0);
    cr_assert_null(json_at(v, 6));
    cr_assert_null(json_at(json_get(v, "text"), 0));
    cr_assert_null(json_key_at(json_get(v, "list"), 0));
    cr_assert_null(json_key_at(v, 6));
    cr_assert_str_eq(json_key_at(v, 1), "n");
    cr_assert_str_eq(json_get_text(v, "text"), "x");
    cr_assert_eq(json_get_int(v, "text", -3), -3);
    cr_assert_eq(json_get_int(v, "r", -3), 2);
    cr_assert_eq(json_get_int(v, "half", -3), -3);
    cr_assert_eq(json_get_bool(v, "yes", false), true);
    cr_assert_eq(json_get_bool(v, "n", true), true);
    cr_assert_not(json_to_int(NULL, &n));
    cr_assert_not(json_to_int(json_get(v, "half"), &n));
    cr_assert_eq(n, 7);
    cr_assert(json_to_real(json_get(v, "n"), &d) && d == 5.0);
    cr_assert_not(json_to_real(json_get(v, "text"), &d));
    cr_assert(json_is_true(json_get(v, "yes")));
    cr_assert_not(json_is_true(json_get(v, "n")));
    cr_assert_not(json_is_true(NULL));
}

Test(json, reals_beyond_64_bits_are_no_integers)
{
    static const double reals[] = {0x1p63, -0x1p64, 1e300, NAN, INFINITY};
    int64_t n;

    for (size_t i = 0; i < ELEMENTS(reals); i++) {
        _cleanup_json_ struct json *v = json_real(reals[i]);

        cr_assert_not(json_to_int(v, &n));
    }
    _cleanup_json_ struct json *lowest = json_real(-0x1p63);

    cr_assert(json_to_int(lowest, &n) && n == INT64_MIN);
}

Test(json, keeps_the_nul_inside_a_string)
{
    _cleanup_json_ struct json *v = parsed("\"a\\u0000b\"");
    size_t n;

    cr_assert_arr_eq(json_text_n(v, &n), "a\0b", 4);
    cr_assert_eq(n, 3);
    cr_assert_str_eq(json_text(v), "a");
    cr_assert_null(json_text_n(NULL, &n));
}

Test(json, makes_and_writes)
{
    _cleanup_json_ struct json *v = json_object();
    struct json *list = json_array();

    json_append_string(list, "x");
    json_append(list, json_int(-5));
    json_append(list, json_real(2.5));
    json_append(list, json_null());
    json_append(list, json_bool(false));
    json_put(v, "list", list);
    json_put_string(v, "text", "y");
    json_put_string(v, "left_out", NULL);
    json_put(v, "null", json_string(NULL));
    json_put_int(v, "n", 1);
    json_put_int(v, "n", 2);
    json_put_bool(v, "yes", true);
    assert_written(v,
                   "{\"list\":[\"x\",-5,2.5,null,false],\"text\":\"y\",\"null\":null,\"n\":2,\"yes\":true}");

    struct json *taken = json_take(v, "text");

    assert_written(taken, "\"y\"");
    json_free(taken);
    cr_assert_null(json_take(v, "text"));
    cr_assert_null(json_take(NULL, "text"));
    json_free(json_take(v, "yes"));
    json_free(json_take(v, "list"));
    assert_written(v, "{\"null\":null,\"n\":2}");
}

Test(json, makes_invalid_utf8_valid_on_the_way_out)
{
    _cleanup_json_ struct json *v = json_object();
    struct buf b;

    json_put_string(v, "a\xff", "\x80x\xe4\xbd");
    assert_written(v, "{\"a\xef\xbf\xbd\":\"\xef\xbf\xbdx\xef\xbf\xbd\xef\xbf\xbd\"}");
    buf_init(&b, 1000);
    cr_assert_eq(json_write(v, &b), 0);
    cr_assert_eq(utf8_valid(b.data, b.len), b.len);
    json_free(parsed(buf_text(&b)));
    buf_done(&b);
}

Test(json, writes_no_word_that_json_lacks)
{
    _cleanup_json_ struct json *v = json_array();

    json_append(v, json_real(NAN));
    json_append(v, json_real(-INFINITY));
    assert_written(v, "[null,null]");
}

Test(json, writes_all_or_nothing)
{
    _cleanup_json_ struct json *v = parsed("[1,2,3,\"a long enough text\"]");
    struct buf b;

    buf_init(&b, 20);
    cr_assert_eq(buf_add_text(&b, "before"), 0);
    cr_assert_eq(json_write(v, &b), -ENOBUFS);
    cr_assert_str_eq(buf_text(&b), "before");
    buf_done(&b);
}

Test(json, what_went_wrong_while_making_shows_when_writing)
{
    struct buf b;

    buf_init(&b, 1000);
    cr_assert_eq(json_write(NULL, &b), -ENOMEM);
    _cleanup_json_ struct json *v = json_object();
    struct json *inner = json_array();

    json_append(inner, NULL);
    json_put(v, "inner", inner);
    cr_assert_eq(json_write(v, &b), -ENOMEM);
    _cleanup_json_ struct json *copy = json_copy(v);

    cr_assert_eq(json_write(copy, &b), -ENOMEM);
    _cleanup_json_ struct json *wrong = json_int(1);

    json_put(wrong, "a", json_int(2));
    cr_assert_eq(json_write(wrong, &b), -ENOMEM);
    json_put(NULL, "a", json_int(2));
    json_append(NULL, json_int(2));
    cr_assert_eq(b.len, 0);
    buf_done(&b);
}

/* ---- without memory ---- */

static const char rich[] =
    "{\"a\":[1,2.5,\"x\xc3\xa4\\n\",null,true,[],{}],\"b\":{\"c\":{\"d\":\"text\"}},\"e\":1,\"f\":2,\"g\":3,"
    "\"h\":4,"
    "\"i\":1,\"j\":1,\"k\":1,\"l\":1,\"m\":1,\"n\":1,\"o\":1,\"p\":1,\"q\":1,\"r\":1,\"s\":1}";

Test(json, reading_survives_missing_memory_at_any_point)
{
    struct json *v = NULL;
    long k = 0;
    int r;

    do {
        allocations_left = k++;
        r = json_parse(rich, strlen(rich), &v);
        cr_assert(r == 0 || r == -ENOMEM, "%ld: %d", k, r);
    } while (r < 0);
    allocations_left = LONG_MAX;
    cr_assert_gt(k, 40);
    assert_written(v, rich);
    json_free(v);
}

static struct json *make_something(void)
{
    struct json *v = json_object(), *list = json_array();

    json_append_string(list, "x");
    json_append(list, json_int(1));
    json_append(list, json_array());
    json_put(v, "list", list);
    json_put_string(v, "text", "y");
    json_put_int(v, "n", 1);
    json_put_bool(v, "b", true);
    json_put(v, "real", json_real(0.5));
    json_put(v, "null", json_null());
    return v;
}

Test(json, making_survives_missing_memory_at_any_point)
{
    struct buf b;
    long k = 0;
    int r;

    buf_init(&b, 1000);
    do {
        allocations_left = k++;
        struct json *v = make_something();
        struct json *copy = json_copy(v);

        allocations_left = LONG_MAX;
        cr_assert_eq(b.len, 0);
        r = json_write(copy, &b);
        cr_assert(r == 0 || r == -ENOMEM);
        json_free(v);
        json_free(copy);
    } while (r < 0);
    cr_assert_gt(k, 20);
    cr_assert_str_eq(buf_text(&b),
                     "{\"list\":[\"x\",1,[]],\"text\":\"y\",\"n\":1,\"b\":true,\"real\":0.5,\"null\":null}");
    buf_done(&b);
}

/* ---- scanning ---- */

static const char *const keys[] = {"model", "stream", "n", "messages", "options", "prompt", "keep_alive"};

static struct json_scan *scanned(const char *text, size_t n, size_t piece, int *ret_r)
{
    struct json_scan *s = json_scan_new(keys, ELEMENTS(keys));
    int r = 0;

    for (size_t i = 0; i < n && r == 0; i += piece)
        r = json_scan_feed(s, text + i, MIN(piece, n - i));
    *ret_r = r < 0 ? r : json_scan_end(s);
    return s;
}

static struct json_member member(const struct json_scan *s, const char *key)
{
    struct json_member m;

    json_scan_member(s, key, &m);
    return m;
}

static const char request[] =
    " {\"messages\" : [{\"role\":\"user\",\"content\":\"\xe4\xbd\xa0\\n\"},{\"model\":\"inner\"},[1,[2]]], "
    "\"stream\":true,\n"
    "\"model\" :\n \"ollama:\\u0071wen\\\"3\" , \"n\": -12, \"options\":{\"a\":1,\"b\":[1,2]}, "
    "\"prompt\":null,"
    "\"other\":[{}], \"keep_alive\": 5.9e0 } ";

static void check_request(size_t piece)
{
    int r;
    struct json_scan *s = scanned(request, strlen(request), piece, &r);
    struct json_member m = member(s, "model");
    const char *quote = strstr(request, "\"ollama");

    cr_assert_eq(r, 0);
    cr_assert(m.found);
    cr_assert_eq(m.type, JSON_STRING);
    cr_assert_str_eq(m.text, "ollama:qwen\"3");
    cr_assert_eq(m.count, strlen("ollama:qwen\"3"));
    cr_assert_eq(m.from_bytes, (uint64_t)(quote - request), "piece %zu: %llu", piece,
                 (unsigned long long)m.from_bytes);
    cr_assert_eq(m.to_bytes, (uint64_t)(strstr(quote, "3\"") + 2 - request));
    m = member(s, "messages");
    cr_assert(m.found && m.type == JSON_ARRAY && m.count == 3);
    m = member(s, "options");
    cr_assert(m.found && m.type == JSON_OBJECT && m.count == 2);
    m = member(s, "stream");
    cr_assert(m.found && m.type == JSON_BOOL && m.number == 1);
    m = member(s, "n");
    cr_assert(m.found && m.type == JSON_INT && m.number == -12);
    m = member(s, "keep_alive");
    cr_assert(m.found && m.type == JSON_REAL && m.number == 5);
    m = member(s, "prompt");
    cr_assert(m.found && m.type == JSON_NULL);
    m = member(s, "other");
    cr_assert_not(m.found);
    json_scan_free(s);
}

Test(json_scan, finds_members_whatever_the_pieces)
{
    for (size_t piece = 1; piece <= sizeof(request); piece++)
        check_request(piece);
}

static int scan_text(const char *text, size_t piece)
{
    int r;

    json_scan_free(scanned(text, strlen(text), piece, &r));
    return r;
}

Test(json_scan, refuses_what_is_no_whole_object)
{
    static const char *const texts[] = {
        "",
        " ",
        "[]",
        "1",
        "\"a\"",
        "null",
        "{",
        "{}{}",
        "{} x",
        "{a",
        "{\"a",
        "{\"a\":",
        "{\"a\":1",
        "{\"a\":\"\\q\"}",
        "{\"a\":\"\\u00g0\"}",
        "{\"a\":\"\n\"}",
        "{\"a\":1,}",
        "{\v}",
        "{\"a\":01}",
        "{\"a\":tru}",
        "{\"a\":[}",
        "\xef\xbb\xbf{}",
        "{\"a\":\"\\u12\"}",
        "{\"model\" 1}",
        "{\"a\":--1}",
    };

    for (size_t i = 0; i < ELEMENTS(texts); i++)
        for (size_t piece = 1; piece < 12; piece += 5)
            cr_assert_eq(scan_text(texts[i], piece), -EBADMSG, "%s", texts[i]);
    cr_assert_eq(scan_text(" {} \n", 1), 0);
}

Test(json_scan, refuses_every_beginning_of_a_document)
{
    for (size_t n = 0; n < strlen(request) - 2; n++) {
        int r;

        json_scan_free(scanned(request, n, 7, &r));
        cr_assert_eq(r, -EBADMSG, "%zu", n);
    }
}

Test(json_scan, refuses_an_interesting_key_twice)
{
    cr_assert_eq(scan_text("{\"model\":\"a\",\"model\":\"b\"}", 1), -EEXIST);
    cr_assert_eq(scan_text("{\"model\":\"a\",\"x\":1,\"\\u006dodel\":\"b\"}", 100), -EEXIST);
    cr_assert_eq(scan_text("{\"model\":null,\"model\":null}", 3), -EEXIST);
    cr_assert_eq(scan_text("{\"x\":1,\"x\":1,\"model\":{\"model\":1,\"model\":2}}", 3), 0);
}

Test(json_scan, goes_as_deep_as_256)
{
    for (unsigned depth = 255; depth <= 256; depth++) {
        struct buf b;

        buf_init(&b, 10000);
        buf_add_text(&b, "{\"messages\":");
        for (unsigned i = 0; i < depth; i++)
            buf_add_text(&b, "[");
        for (unsigned i = 0; i < depth; i++)
            buf_add_text(&b, "]");
        buf_add_text(&b, "}");
        cr_assert_eq(scan_text(buf_text(&b), 10), depth == 255 ? 0 : -E2BIG);
        buf_done(&b);
    }
}

Test(json_scan, once_failed_stays_failed)
{
    struct json_scan *s = json_scan_new(keys, ELEMENTS(keys));

    cr_assert_eq(json_scan_feed(s, "{]", 2), -EBADMSG);
    cr_assert_eq(json_scan_feed(s, "{}", 2), -EBADMSG);
    cr_assert_eq(json_scan_end(s), -EBADMSG);
    json_scan_free(s);
    s = json_scan_new(keys, ELEMENTS(keys));
    cr_assert_eq(json_scan_feed(s, "{}", 2), 0);
    cr_assert_eq(json_scan_end(s), 0);
    cr_assert_eq(json_scan_end(s), 0);
    cr_assert_eq(json_scan_feed(s, " ", 1), -EBADMSG);
    json_scan_free(s);
    cr_assert_null(json_scan_free(NULL));
}

Test(json_scan, lets_invalid_utf8_pass)
{
    int r;
    static const char text[] = "{\"model\":\"a\xff\",\"\xfe\":\"\xc0\x80\"}";
    struct json_scan *s = scanned(text, strlen(text), 1, &r);

    cr_assert_eq(r, 0);
    cr_assert_str_eq(member(s, "model").text, "a\xff");
    json_scan_free(s);
}

Test(json_scan, numbers_too_large_are_the_nearest)
{
    int r;
    static const char text[] = "{\"n\":99999999999999999999,\"stream\":-1e300,\"model\":1e999}";
    struct json_scan *s = scanned(text, strlen(text), 1, &r);

    cr_assert_eq(r, 0);
    cr_assert(member(s, "n").type == JSON_REAL && member(s, "n").number == INT64_MAX);
    cr_assert(member(s, "stream").type == JSON_REAL && member(s, "stream").number == INT64_MIN);
    cr_assert(member(s, "model").type == JSON_REAL && member(s, "model").number == INT64_MAX);
    json_scan_free(s);
}

static void check_length(size_t n, const char *unit, size_t unit_length, size_t piece)
{
    struct json_member m;
    struct json_scan *s;
    struct buf b;
    int r;

    buf_init(&b, 1 << 20);
    buf_add_text(&b, "{\"prompt\":\"");
    for (size_t i = 0; i < n; i++)
        buf_add_text(&b, unit);
    buf_add_text(&b, "\",\"model\":\"m\"}");
    s = scanned(b.data, b.len, piece, &r);
    cr_assert_eq(r, 0);
    m = member(s, "prompt");
    cr_assert(m.found && m.type == JSON_STRING);
    cr_assert_eq(m.count, n * unit_length, "%zu of %s: %zu", n, unit, m.count);
    cr_assert_eq(m.from_bytes, 10);
    cr_assert_eq(m.to_bytes, 12 + n * strlen(unit));
    if (n * unit_length <= 4096)
        cr_assert_eq(strlen(m.text), m.count);
    else
        cr_assert_null(m.text);
    cr_assert_str_eq(member(s, "model").text, "m");
    json_scan_free(s);
    buf_done(&b);
}

Test(json_scan, keeps_strings_up_to_4_kib_and_counts_the_others)
{
    static const struct {
        const char *unit;
        size_t length;
    } units[] = {{"a", 1},           {"\\n", 1},     {"\\u0061", 1},
                 {"\\u00e4", 2},     {"\\u4f60", 3}, {"\\ud83d\\ude00", 4},
                 {"\xe4\xbd\xa0", 3}};
    static const size_t counts[] = {0, 1, 1023, 1365, 1366, 4095, 4096, 4097, 9000, 30000};
    static const size_t pieces[] = {1, 13, 4096, 1 << 20};

    for (size_t u = 0; u < ELEMENTS(units); u++)
        for (size_t c = 0; c < ELEMENTS(counts); c++)
            for (size_t p = 0; p < ELEMENTS(pieces); p++)
                check_length(counts[c], units[u].unit, units[u].length, pieces[p]);
}

Test(json_scan, judges_also_the_middle_of_a_long_string)
{
    static const char *const bad[] = {"\\q", "\\u00zz", "\n", "\\"};
    static const char *const ends[] = {"\"}", "\"", ""};

    for (size_t i = 0; i < ELEMENTS(bad) + ELEMENTS(ends); i++) {
        struct buf b;
        int r;

        buf_init(&b, 1 << 20);
        buf_add_text(&b, "{\"prompt\":\"");
        for (size_t k = 0; k < 50000; k++)
            buf_add_text(&b, "a");
        buf_add_text(&b, i < ELEMENTS(bad) ? bad[i] : "b");
        buf_add_text(&b, i < ELEMENTS(bad) ? "\"}" : ends[i - ELEMENTS(bad)]);
        json_scan_free(scanned(b.data, b.len, 1000, &r));
        cr_assert_eq(r, i == ELEMENTS(bad) ? 0 : -EBADMSG, "%zu", i);
        buf_done(&b);
    }
}

Test(json_scan, a_long_key_is_not_its_beginning)
{
    static const char *beginning[1];
    struct json_scan *s;
    struct buf b;

    buf_init(&b, 1 << 20);
    for (size_t k = 0; k < 30000; k++)
        buf_add_text(&b, "a");
    char *key = buf_take(&b);

    key[SCAN_RAW_BYTES_MAX] = '\0';
    beginning[0] = key;
    s = json_scan_new(beginning, 1);
    key[SCAN_RAW_BYTES_MAX] = 'a';
    buf_addf(&b, "{\"%s\":1}", key);
    cr_assert_eq(json_scan_feed(s, b.data, b.len), 0);
    cr_assert_eq(json_scan_end(s), 0);
    key[SCAN_RAW_BYTES_MAX] = '\0';
    cr_assert_not(member(s, key).found);
    json_scan_free(s);
    free(key);
    buf_done(&b);
}

static size_t scan_memory(const struct json_scan *s)
{
    size_t n = 0;

    for (const struct yajl_block *b = s->memory.first; b; b = b->next)
        n += malloc_usable_size((void *)b);
    return n;
}

Test(json_scan, reads_64_mib_and_keeps_next_to_nothing)
{
    struct json_scan *s = json_scan_new(keys, ELEMENTS(keys));
    static char piece[65536];
    struct json_member m;

    cr_assert_eq(json_scan_feed(s, "{\"messages\":[\"", 14), 0);
    memset(piece, 'A', sizeof(piece));
    for (int i = 0; i < 1024; i++)
        cr_assert_eq(json_scan_feed(s, piece, sizeof(piece)), 0);
    cr_assert_eq(json_scan_feed(s, "\"", 1), 0);
    for (size_t i = 0; i + 4 <= sizeof(piece); i += 4)
        memcpy(piece + i, ",1.5", 4);
    for (int i = 0; i < 16; i++)
        cr_assert_eq(json_scan_feed(s, piece, sizeof(piece)), 0);
    cr_assert_leq(scan_memory(s), 200000);
    cr_assert_eq(json_scan_feed(s, "],\"model\":\"m\"}", 14), 0);
    cr_assert_eq(json_scan_end(s), 0);
    m = member(s, "model");
    cr_assert_eq(m.from_bytes, 14 + (1024ull + 16) * 65536 + 1 + 10);
    cr_assert_eq(m.to_bytes, m.from_bytes + 3);
    cr_assert_eq(member(s, "messages").count, 1 + 16 * 65536 / 4);
    json_scan_free(s);
}

Test(json_scan, a_number_without_end_is_refused)
{
    struct json_scan *s = json_scan_new(keys, ELEMENTS(keys));
    int r = json_scan_feed(s, "{\"n\":", 5);

    for (int i = 0; i < 2000 && r == 0; i++)
        r = json_scan_feed(s, "1", 1);
    cr_assert_eq(r, -EBADMSG);
    json_scan_free(s);
}

Test(json_scan, survives_missing_memory_at_any_point)
{
    long k = 0;
    int r;

    do {
        struct json_scan *s;

        allocations_left = k++;
        s = json_scan_new(keys, ELEMENTS(keys));
        r = s ? json_scan_feed(s, request, strlen(request)) : -ENOMEM;
        if (r == 0)
            r = json_scan_end(s);
        cr_assert(r == 0 || r == -ENOMEM);
        json_scan_free(s);
    } while (r < 0);
    allocations_left = LONG_MAX;
    cr_assert_gt(k, 8);
}
