/* The module itself, over an allocator that fails on demand: at the call that makes allocations_left
 * negative. */
#include <criterion/criterion.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proto/buf.h"
#include "proto/json.h"
#include "proto/mem.h"

static long allocations_left = LONG_MAX;

static void *test_calloc(size_t n, size_t size)
{
    return --allocations_left < 0 ? NULL : calloc(n, size);
}

static char *test_strdup(const char *text)
{
    return --allocations_left < 0 ? NULL : strdup(text);
}

#define calloc test_calloc
#undef strdup
#define strdup test_strdup
#include "proto/varlink.c"
#include "proto/varlink_check.c"
#include "proto/varlink_contract.c"
#undef calloc
#undef strdup

static struct json *parsed(const char *text)
{
    struct json *v = NULL;

    cr_assert_eq(json_parse(text, strlen(text), &v), 0, "%s", text);
    return v;
}

static void assert_json(const struct json *v, const char *expected)
{
    struct buf b;

    buf_init(&b, 1 << 20);
    cr_assert_eq(json_write(v, &b), 0);
    cr_assert_str_eq(buf_text(&b), expected);
    buf_done(&b);
}

/* ---- frames ---- */

Test(varlink, cuts_a_stream_into_messages)
{
    static const char stream[] =
        "{\"a\":1}\0\0{\"b\":2}"; /* two messages, one of them empty, and the NUL of C: a third */
    const char *text;
    struct buf b;
    size_t n;

    buf_init(&b, 100);
    cr_assert_eq(varlink_frame(&b, &text, &n), 0);
    for (size_t i = 0; i < 7; i++) {
        cr_assert_eq(buf_add(&b, stream + i, 1), 0);
        cr_assert_eq(varlink_frame(&b, &text, &n), 0);
    }
    cr_assert_eq(buf_add(&b, stream + 7, sizeof(stream) - 7), 0);
    cr_assert_eq(varlink_frame(&b, &text, &n), 1);
    cr_assert_eq(n, 7);
    cr_assert_arr_eq(text, "{\"a\":1}", 8);
    buf_drop(&b, n + 1);
    cr_assert_eq(varlink_frame(&b, &text, &n), 1);
    cr_assert_eq(n, 0);
    buf_drop(&b, n + 1);
    cr_assert_eq(varlink_frame(&b, &text, &n), 1);
    cr_assert_arr_eq(text, "{\"b\":2}", 8);
    buf_drop(&b, n + 1);
    cr_assert_eq(varlink_frame(&b, &text, &n), 0);
    buf_done(&b);
}

Test(varlink, a_message_may_have_a_mebibyte_and_no_more)
{
    const char *text;
    struct buf b;
    size_t n;
    char *room;

    buf_init(&b, 2 * VARLINK_MESSAGE_BYTES_MAX);
    cr_assert_eq(buf_reserve(&b, VARLINK_MESSAGE_BYTES_MAX, &room), 0);
    memset(room, 'x', VARLINK_MESSAGE_BYTES_MAX);
    buf_grew(&b, VARLINK_MESSAGE_BYTES_MAX);
    cr_assert_eq(varlink_frame(&b, &text, &n), 0);
    cr_assert_eq(buf_add(&b, "", 1), 0);
    cr_assert_eq(varlink_frame(&b, &text, &n), 1);
    cr_assert_eq(n, VARLINK_MESSAGE_BYTES_MAX);
    b.data[VARLINK_MESSAGE_BYTES_MAX] = 'x';
    cr_assert_eq(varlink_frame(&b, &text, &n), -EMSGSIZE);
    cr_assert_eq(buf_add(&b, "", 1), 0);
    cr_assert_eq(varlink_frame(&b, &text, &n), -EMSGSIZE);
    buf_done(&b);
}

/* ---- messages ---- */

static int call_parse(const char *text, struct varlink_call *ret)
{
    return varlink_call_parse(text, strlen(text), ret);
}

static int reply_parse(const char *text, struct varlink_reply *ret)
{
    return varlink_reply_parse(text, strlen(text), ret);
}

Test(varlink, reads_calls)
{
    struct varlink_call c;

    cr_assert_eq(
        call_parse("{\"method\":\"io.llmhost.Up\",\"parameters\":{\"model\":\"m\"},\"more\":true}", &c), 0);
    cr_assert_str_eq(c.method, "io.llmhost.Up");
    assert_json(c.parameters, "{\"model\":\"m\"}");
    cr_assert(c.more && !c.oneway);
    varlink_call_done(&c);
    cr_assert_null(c.method);
    cr_assert_eq(
        call_parse("{\"oneway\":true,\"method\":\"X\",\"parameters\":null,\"more\":false,\"upgrade\":false}",
                   &c),
        0);
    cr_assert(!c.more && c.oneway);
    assert_json(c.parameters, "{}");
    varlink_call_done(&c);
    varlink_call_done(&c);
}

Test(varlink, refuses_calls_that_are_none)
{
    static const struct {
        const char *text;
        int r;
    } rows[] = {
        {"", -EBADMSG},
        {"{}", -EBADMSG},
        {"[]", -EBADMSG},
        {"\"method\"", -EBADMSG},
        {"{\"method\":1}", -EBADMSG},
        {"{\"method\":\"\"}", -EBADMSG},
        {"{\"method\":null}", -EBADMSG},
        {"{\"method\":\"a\\u0000b\"}", -EBADMSG},
        {"{\"method\":\"X\"", -EBADMSG},
        {"{\"method\":\"X\"}{}", -EBADMSG},
        {"{\"method\":\"X\",\"parameters\":[]}", -EBADMSG},
        {"{\"method\":\"X\",\"parameters\":\"\"}", -EBADMSG},
        {"{\"method\":\"X\",\"more\":1}", -EBADMSG},
        {"{\"method\":\"X\",\"oneway\":\"true\"}", -EBADMSG},
        {"{\"method\":\"X\",\"more\":true,\"oneway\":true}", -EBADMSG},
        {"{\"method\":\"X\",\"upgrade\":true}", -EBADMSG},
        {"{\"method\":\"X\",\"other\":1}", -EBADMSG},
        {"{\"method\":\"X\",\"error\":\"X\"}", -EBADMSG},
        {"{\"method\":\"X\",\"method\":\"Y\"}", -EEXIST},
        {"{\"method\":\"X\",\"parameters\":{\"a\":1,\"a\":2}}", -EEXIST},
        {"{\"method\":\"X\",\"parameters\":{\"a\":99999999999999999999}}", -ERANGE},
    };

    for (size_t i = 0; i < ELEMENTS(rows); i++) {
        struct varlink_call c = {.more = true};

        cr_assert_eq(call_parse(rows[i].text, &c), rows[i].r, "%s", rows[i].text);
        cr_assert_null(c.method);
        cr_assert(c.more);
    }
}

Test(varlink, refuses_deep_and_large_calls)
{
    struct varlink_call c;
    struct buf b;

    buf_init(&b, 4 * VARLINK_MESSAGE_BYTES_MAX);
    buf_add_text(&b, "{\"method\":\"X\",\"parameters\":{\"a\":");
    for (int i = 0; i < 40; i++)
        buf_add_text(&b, "[");
    cr_assert_eq(varlink_call_parse(b.data, b.len, &c), -E2BIG);
    buf_clear(&b);
    buf_add_text(&b, "{\"method\":\"X\",\"parameters\":{\"a\":\"");
    while (b.len <= VARLINK_MESSAGE_BYTES_MAX)
        buf_add_text(
            &b, "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx");
    buf_add_text(&b, "\"}}");
    cr_assert_eq(varlink_call_parse(b.data, b.len, &c), -EBADMSG);
    buf_done(&b);
}

Test(varlink, reads_replies)
{
    struct varlink_reply r;

    cr_assert_eq(reply_parse("{}", &r), 0);
    cr_assert_null(r.error);
    assert_json(r.parameters, "{}");
    cr_assert_not(r.continues);
    varlink_reply_done(&r);
    cr_assert_eq(reply_parse("{\"parameters\":{\"a\":[1]},\"continues\":true}", &r), 0);
    assert_json(r.parameters, "{\"a\":[1]}");
    cr_assert(r.continues);
    varlink_reply_done(&r);
    cr_assert_eq(reply_parse("{\"error\":\"io.llmhost.NotFound\",\"parameters\":{\"code\":\"x\"}}", &r), 0);
    cr_assert_str_eq(r.error, "io.llmhost.NotFound");
    assert_json(r.parameters, "{\"code\":\"x\"}");
    varlink_reply_done(&r);
}

Test(varlink, refuses_replies_that_are_none)
{
    static const char *const texts[] = {
        "",
        "[]",
        "1",
        "{\"error\":1}",
        "{\"error\":\"\"}",
        "{\"continues\":1}",
        "{\"parameters\":[]}",
        "{\"error\":\"X\",\"continues\":true}",
        "{\"method\":\"X\"}",
        "{\"error\":\"a\\u0000\"}",
        "{\"parameters\":{}",
    };
    struct varlink_reply r = {0};

    for (size_t i = 0; i < ELEMENTS(texts); i++) {
        cr_assert_eq(reply_parse(texts[i], &r), -EBADMSG, "%s", texts[i]);
        cr_assert_null(r.parameters);
    }
}

static void assert_message(struct buf *b, const char *expected)
{
    const char *text;
    size_t n;

    cr_assert_eq(varlink_frame(b, &text, &n), 1);
    cr_assert_eq(n + 1, b->len);
    cr_assert_str_eq(text, expected);
    buf_clear(b);
}

Test(varlink, writes_messages)
{
    _cleanup_json_ struct json *p = parsed("{\"a\":\"\\u0000\"}");
    struct buf b;

    buf_init(&b, 1000);
    cr_assert_eq(varlink_call_write(&b, "io.llmhost.\"Up", p, false, false), 0);
    assert_message(&b, "{\"method\":\"io.llmhost.\\\"Up\",\"parameters\":{\"a\":\"\\u0000\"}}");
    cr_assert_eq(varlink_call_write(&b, "X", NULL, true, false), 0);
    assert_message(&b, "{\"method\":\"X\",\"parameters\":{},\"more\":true}");
    cr_assert_eq(varlink_call_write(&b, "X", NULL, false, true), 0);
    assert_message(&b, "{\"method\":\"X\",\"parameters\":{},\"oneway\":true}");
    cr_assert_eq(varlink_reply_write(&b, p, true), 0);
    assert_message(&b, "{\"parameters\":{\"a\":\"\\u0000\"},\"continues\":true}");
    cr_assert_eq(varlink_reply_write(&b, NULL, false), 0);
    assert_message(&b, "{\"parameters\":{}}");
    cr_assert_eq(varlink_error_write(&b, "io.llmhost.Failed", p), 0);
    assert_message(&b, "{\"error\":\"io.llmhost.Failed\",\"parameters\":{\"a\":\"\\u0000\"}}");
    buf_done(&b);
}

Test(varlink, never_writes_half_a_message)
{
    static char long_text[VARLINK_MESSAGE_BYTES_MAX];
    _cleanup_json_ struct json *p = json_object(), *broken = json_object();
    struct buf b;

    buf_init(&b, 4 * VARLINK_MESSAGE_BYTES_MAX);
    cr_assert_eq(varlink_reply_write(&b, NULL, false), 0);
    json_put(broken, "a", NULL);
    cr_assert_eq(varlink_reply_write(&b, broken, false), -ENOMEM);
    memset(long_text, 'x', sizeof(long_text) - 1);
    json_put_string(p, "a", long_text);
    cr_assert_eq(varlink_reply_write(&b, p, false), -EMSGSIZE);
    assert_message(&b, "{\"parameters\":{}}");
    long_text[sizeof(long_text) - 1 - strlen("{\"parameters\":{\"a\":\"\"}}")] = '\0';
    json_put_string(p, "a", long_text);
    cr_assert_eq(varlink_reply_write(&b, p, false), 0);
    buf_done(&b);
    for (size_t max = 0; max < 40; max++) {
        buf_init(&b, max);
        int r = varlink_call_write(&b, "Method", NULL, true, false);

        cr_assert_eq(r, -ENOBUFS);
        cr_assert_eq(b.len, 0);
        buf_done(&b);
    }
}

/* ---- contracts ---- */

static struct varlink_contract *contract(const char *text)
{
    struct varlink_contract *c = NULL;
    char *why = NULL;
    int r = varlink_contract_parse(text, &c, &why);

    cr_assert_eq(r, 0, "%s", why);
    return c;
}

static const char everything[] =
    "# A comment\n"
    "interface org.example.all\n"
    "type Mode (fast, slow)   # another\n"
    "type Tree (label: string, below: []Tree)\n"
    "type Secret (text: string)\n"
    "method Try(b: bool, i: int, f: float, s: string, any: object, mode: Mode, inline: (one, two),\n"
    "  at: (x: int, y: ?int), tree: ?Tree, list: [][]int, map: [string]Mode, maybe: ?[]?string,\n"
    "  secrets: ?[string]Secret) -> (ok: bool)\n"
    "method Nothing() -> ()\n"
    "error Broken (part: string)\n";

static const char good[] = "{\"b\":true,\"i\":-5,\"f\":1,\"s\":\"\",\"any\":[{}],\"mode\":\"slow\","
                           "\"inline\":\"one\",\"at\":{\"x\":1,\"y\":null},"
                           "\"tree\":{\"label\":\"a\",\"below\":[{\"label\":\"b\",\"below\":[]}]},\"list\":[["
                           "],[1,2]],\"map\":{\"k\":\"fast\"},"
                           "\"maybe\":[null,\"x\"]}";

Test(varlink_contract, reads_the_whole_language)
{
    struct varlink_contract *c = contract(everything);

    cr_assert_str_eq(varlink_contract_name(c), "org.example.all");
    cr_assert_str_eq(varlink_contract_text(c), everything);
    cr_assert_str_eq(varlink_contract_method(c, 0), "Try");
    cr_assert_str_eq(varlink_contract_method(c, 1), "Nothing");
    cr_assert_null(varlink_contract_method(c, 2));
    varlink_contract_free(c);
    cr_assert_null(varlink_contract_free(NULL));
}

Test(varlink_contract, reads_spaces_and_comments_anywhere)
{
    struct varlink_contract *c = contract(
        "#x\r\n\tinterface a-b.c1 # \n#\ntype#\nA#\n(#\na#\n:#\n?#\n[]int#\n,#\nb_1:int)method M(a:A)->()#");

    cr_assert_str_eq(varlink_contract_name(c), "a-b.c1");
    cr_assert_str_eq(varlink_contract_method(c, 0), "M");
    varlink_contract_free(c);
}

Test(varlink_contract, says_in_which_line_it_does_not_understand)
{
    static const struct {
        const char *text, *why;
    } rows[] = {
        {"", "line 1: interface expected, but the text ends"},
        {"method X() -> ()", "line 1: interface expected at \"method\""},
        {"interface", "line 1: the name of an interface"},
        {"interface x", "line 1: the name of an interface"},
        {"interface x.", "line 1: the name of an interface"},
        {"interface x..y", "line 1: the name of an interface"},
        {"interface -x.y", "line 1: the name of an interface"},
        {"interface x.y-", "line 1: the name of an interface"},
        {"interface 1x.y", "line 1: the name of an interface"},
        {"interface a.b\nfoo", "line 2: type, method or error expected at \"foo\""},
        {"interface a.b\nmethods X() -> ()", "line 2: type, method or error"},
        {"interface a.b\nmethod x() -> ()", "line 2: a name with a capital letter"},
        {"interface a.b\nmethod X_y() -> ()", "line 2: ( expected"},
        {"interface a.b\nmethod X()", "line 2: -> expected, but the text ends"},
        {"interface a.b\nmethod X() ->", "line 2: ( expected, but the text ends"},
        {"interface a.b\nmethod X(\n\na: int", "line 4: ) expected, but the text ends"},
        {"interface a.b\nmethod X(a: int,) -> ()", "line 2: the name of a field"},
        {"interface a.b\nmethod X(a: int b: int) -> ()", "line 2: ) expected"},
        {"interface a.b\nmethod X(a) -> ()", "line 2: parameters need types"},
        {"interface a.b\nmethod X(1a: int) -> ()", "line 2: the name of a field"},
        {"interface a.b\nmethod X(a_: int) -> ()", "line 2: ) expected"},
        {"interface a.b\nmethod X(a__b: int) -> ()", "line 2: ) expected"},
        {"interface a.b\nmethod X(a: integer) -> ()", "line 2: a type expected"},
        {"interface a.b\nmethod X(a: ) -> ()", "line 2: a type expected"},
        {"interface a.b\nmethod X(a: ??int) -> ()", "line 2: a type expected"},
        {"interface a.b\nmethod X(a: [int]int) -> ()", "line 2: a type expected"},
        {"interface a.b\nmethod X(a: []) -> ()", "line 2: a type expected"},
        {"interface a.b\nmethod X(a: int, a: int) -> ()", "line 2: a comes twice"},
        {"interface a.b\ntype A (a, a)", "line 2: a comes twice"},
        {"interface a.b\ntype A (a, b: int)", "line 2: b has a type among words without"},
        {"interface a.b\ntype A (a: int, b)", "line 2: the field b has no type"},
        {"interface a.b\ntype A (a: int)\nerror A ()", "line 3: A is declared twice"},
        {"interface a.b\ntype A (a: int)\n\nmethod M(\nb: []Nowhere) -> ()",
         "line 5: there is no type Nowhere"},
        {"interface a.b\nerror E ()\nmethod M() -> (e: E)", "line 3: there is no type E"},
        {"interface a.b\ntype A int", "line 2: ( expected"},
        {"interface a.b\nerror A", "line 2: ( expected, but the text ends"},
    };

    for (size_t i = 0; i < ELEMENTS(rows); i++) {
        struct varlink_contract *c = NULL;
        char *why = NULL;

        cr_assert_eq(varlink_contract_parse(rows[i].text, &c, &why), -EBADMSG, "%s", rows[i].text);
        cr_assert_null(c);
        cr_assert_not_null(why);
        cr_assert_eq(strncmp(why, rows[i].why, strlen(rows[i].why)), 0, "%s: %s", rows[i].text, why);
        free(why);
    }
}

Test(varlink_contract, bounds_how_deep_types_go)
{
    struct varlink_contract *c = NULL;
    char *why = NULL;
    struct buf b;

    buf_init(&b, 1 << 20);
    buf_add_text(&b, "interface a.b\ntype A (a: ");
    for (int i = 0; i < 100000; i++)
        buf_add_text(&b, "[]");
    cr_assert_eq(varlink_contract_parse(buf_text(&b), &c, &why), -EBADMSG);
    cr_assert_str_eq(why, "line 2: types are nested too deeply");
    free(why);
    cr_assert_eq(varlink_contract_parse(buf_text(&b), &c, NULL), -EBADMSG);
    buf_done(&b);
}

Test(varlink_contract, accepts_what_fits)
{
    struct varlink_contract *c = contract(everything);
    _cleanup_json_ struct json *v = parsed(good), *empty = json_object(), *ok = parsed("{\"ok\":false}");
    char *where = NULL;

    cr_assert_eq(varlink_check_call(c, "Try", v, &where), 0, "%s", where);
    cr_assert_eq(varlink_check_call(c, "org.example.all.Try", v, &where), 0);
    cr_assert_eq(varlink_check_call(c, "Nothing", NULL, &where), 0);
    cr_assert_eq(varlink_check_call(c, "Nothing", empty, NULL), 0);
    cr_assert_eq(varlink_check_reply(c, "Try", ok, &where), 0);
    cr_assert_eq(varlink_check_reply(c, "Nothing", NULL, &where), 0);
    cr_assert_null(where);
    varlink_contract_free(c);
}

Test(varlink_contract, does_not_know_other_methods_and_errors)
{
    struct varlink_contract *c = contract(everything);
    char *where = NULL;

    cr_assert_eq(varlink_check_call(c, "Other", NULL, &where), -ENOENT);
    cr_assert_eq(varlink_check_call(c, "", NULL, &where), -ENOENT);
    cr_assert_eq(varlink_check_call(c, "try", NULL, &where), -ENOENT);
    cr_assert_eq(varlink_check_call(c, "Mode", NULL, &where), -ENOENT);
    cr_assert_eq(varlink_check_call(c, "Broken", NULL, &where), -ENOENT);
    cr_assert_eq(varlink_check_call(c, "org.example.Try", NULL, &where), -ENOENT);
    cr_assert_eq(varlink_check_call(c, "org.example.allTry", NULL, &where), -ENOENT);
    cr_assert_eq(varlink_check_call(c, "org.example.all.", NULL, &where), -ENOENT);
    cr_assert_eq(varlink_check_reply(c, "Broken", NULL, &where), -ENOENT);
    cr_assert_eq(varlink_check_error(c, "Try", NULL, &where), -ENOENT);
    cr_assert_eq(varlink_check_error(c, "org.example.all.Broken", NULL, &where), -EINVAL);
    cr_assert_str_eq(where, "part");
    free(where);
    varlink_contract_free(c);
}

static void assert_refused(const struct varlink_contract *c, const char *key, const char *value,
                           const char *expected)
{
    _cleanup_json_ struct json *v = parsed(good);
    char *where = NULL;

    if (value)
        json_put(v, key, parsed(value));
    else
        json_free(json_take(v, key));
    cr_assert_eq(varlink_check_call(c, "Try", v, &where), -EINVAL, "%s: %s", key, value);
    cr_assert_str_eq(where, expected);
    free(where);
    cr_assert_eq(varlink_check_call(c, "Try", v, NULL), -EINVAL);
}

Test(varlink_contract, names_what_does_not_fit)
{
    static const char *const rows[][3] = {
        {"b", "1", "b"},
        {"b", "\"true\"", "b"},
        {"i", "1.5", "i"},
        {"i", "1.0", "i"},
        {"i", "\"1\"", "i"},
        {"i", "true", "i"},
        {"f", "\"1\"", "f"},
        {"s", "1", "s"},
        {"s", "\"a\\u0000b\"", "s"},
        {"s", "null", "s"},
        {"s", NULL, "s"},
        {"any", NULL, "any"},
        {"any", "null", "any"},
        {"mode", "\"other\"", "mode"},
        {"mode", "\"\"", "mode"},
        {"mode", "\"fast\\u0000\"", "mode"},
        {"mode", "1", "mode"},
        {"inline", "\"three\"", "inline"},
        {"at", "{}", "at.x"},
        {"at", "[]", "at"},
        {"at", "{\"x\":1,\"z\":2}", "at.z"},
        {"at", "{\"x\":1,\"y\":\"2\"}", "at.y"},
        {"tree",
         "{\"label\":\"a\",\"below\":[{\"label\":\"b\",\"below\":[]},{\"label\":\"c\",\"below\":[{\"label\":"
         "1}]}]}",
         "tree.below[1].below[0].label"},
        {"tree", "{\"label\":\"a\",\"below\":[null]}", "tree.below[0]"},
        {"list", "[[1],[2,\"3\"]]", "list[1][1]"},
        {"list", "{}", "list"},
        {"map", "{\"k\":\"fast\",\"l\":\"medium\"}", "map.l"},
        {"map", "{\"k\":null}", "map.k"},
        {"map", "[]", "map"},
        {"maybe", "[1]", "maybe[0]"},
        {"maybe", "\"x\"", "maybe"},
        {"unknown", "1", "unknown"},
        {"unknown", "null", "unknown"},
    };
    struct varlink_contract *c = contract(everything);

    for (size_t i = 0; i < ELEMENTS(rows); i++)
        assert_refused(c, rows[i][0], rows[i][1], rows[i][2]);
    varlink_contract_free(c);
}

Test(varlink_contract, a_misspelt_parameter_is_named_before_the_missing_one)
{
    struct varlink_contract *c = contract("interface a.b\nmethod M(model: string) -> (model: string)");
    _cleanup_json_ struct json *v = parsed("{\"modle\":\"x\"}"), *list = json_array();
    char *where = NULL;

    cr_assert_eq(varlink_check_call(c, "M", v, &where), -EINVAL);
    cr_assert_str_eq(where, "modle");
    free(where);
    cr_assert_eq(varlink_check_reply(c, "M", v, &where), -EINVAL);
    cr_assert_str_eq(where, "modle");
    free(where);
    cr_assert_eq(varlink_check_call(c, "M", list, &where), -EINVAL);
    cr_assert_str_eq(where, "");
    free(where);
    varlink_contract_free(c);
}

Test(varlink_contract, a_path_without_end_is_cut)
{
    struct varlink_contract *c = contract("interface a.b\nmethod M() -> ()");
    _cleanup_json_ struct json *v = json_object();
    char key[5000], *where = NULL;

    memset(key, 'k', sizeof(key) - 1);
    key[sizeof(key) - 1] = '\0';
    json_put_int(v, key, 1);
    cr_assert_eq(varlink_check_call(c, "M", v, &where), -EINVAL);
    cr_assert_lt(strlen(where), 300);
    free(where);
    varlink_contract_free(c);
}

Test(varlink_contract, hides_secrets_from_the_log)
{
    struct varlink_contract *c = contract(everything);
    _cleanup_json_ struct json *v = parsed("{\"s\":\"plain\",\"secrets\":{\"a\":{\"text\":\"hush\"},\"b\":"
                                           "\"hush\",\"c\":null},\"at\":{\"x\":\"hush\",\"q\":1},"
                                           "\"passwrd\":{\"text\":\"hush\"},\"i\":{\"text\":\"hush\"},"
                                           "\"list\":\"hush\",\"map\":{\"k\":\"fast\"},"
                                           "\"maybe\":[\"x\",{\"t\":\"hush\"}],\"any\":[1]}");
    _cleanup_json_ struct json *hidden = varlink_hide_secrets(c, "org.example.all.Try", v);

    assert_json(
        hidden,
        "{\"s\":\"plain\",\"secrets\":{\"a\":\"<secret>\",\"b\":\"<secret>\",\"c\":null},\"at\":{\"x\":\"<"
        "unknown>\",\"q\":\"<unknown>\"},"
        "\"passwrd\":\"<unknown>\",\"i\":\"<unknown>\",\"list\":\"<unknown>\",\"map\":{\"k\":\"fast\"},"
        "\"maybe\":[\"x\",\"<unknown>\"],\"any\":[1]}");
    json_free(hidden);
    hidden = varlink_hide_secrets(c, "Other", v);
    assert_json(hidden, "\"<unknown>\"");
    json_free(hidden);
    hidden = varlink_hide_secrets(c, "Try", NULL);
    assert_json(hidden, "{}");
    varlink_contract_free(c);
}

/* ---- our own contract, from its own text ---- */

static struct json *sample(const struct varlink_type *t, unsigned depth)
{
    struct json *v;

    switch (t->kind) {
    case VARLINK_BOOL: return json_bool(true);
    case VARLINK_INT: return json_int(INT64_MIN);
    case VARLINK_FLOAT: return json_real(0.5);
    case VARLINK_STRING: return json_string("text");
    case VARLINK_OBJECT: return json_array();
    case VARLINK_ENUM: return json_string(t->fields->name);
    case VARLINK_NAMED: return sample(t->decl->in, depth);
    case VARLINK_ARRAY:
        v = json_array();
        if (depth < 10)
            json_append(v, sample(t->of, depth + 1));
        return v;
    case VARLINK_MAP:
        v = json_object();
        if (depth < 10)
            json_put(v, "key", sample(t->of, depth + 1));
        return v;
    case VARLINK_STRUCT: break;
    }
    v = json_object();
    for (const struct varlink_field *f = t->fields; f; f = f->next)
        json_put(v, f->name, sample(f->type, depth + 1));
    return v;
}

typedef int (*check_fn)(const struct varlink_contract *c, const char *name, const struct json *parameters,
                        char **ret_where);

static void assert_names(check_fn check_as, const struct varlink_contract *c, const char *name,
                         const struct json *v, const char *field)
{
    char *where = NULL;

    cr_assert_eq(check_as(c, name, v, &where), -EINVAL, "%s.%s", name, field);
    cr_assert_str_eq(where, field, "%s.%s", name, field);
    free(where);
}

/* Each parameter missing, null, of another type, in a list; and one too many. */
static void torment(check_fn check_as, const struct varlink_contract *c, const char *name,
                    const struct varlink_type *t)
{
    struct json *v = sample(t, 0);
    char *where = NULL;

    cr_assert_eq(check_as(c, name, v, &where), 0, "%s: %s", name, where);
    json_put_int(v, "one_too_many", 1);
    assert_names(check_as, c, name, v, "one_too_many");
    v = json_free(v);
    for (const struct varlink_field *f = t->fields; f; f = f->next) {
        bool is_text = f->type->kind == VARLINK_STRING || f->type->kind == VARLINK_ENUM;

        v = sample(t, 0);
        json_put(v, f->name, is_text ? json_int(1) : json_string("no such thing"));
        assert_names(check_as, c, name, v, f->name);
        json_put(v, f->name, json_null());
        if (f->type->maybe)
            cr_assert_eq(check_as(c, name, v, NULL), 0, "%s.%s", name, f->name);
        else
            assert_names(check_as, c, name, v, f->name);
        json_free(json_take(v, f->name));
        if (f->type->maybe)
            cr_assert_eq(check_as(c, name, v, NULL), 0, "%s.%s", name, f->name);
        else
            assert_names(check_as, c, name, v, f->name);
        json_free(v);
    }
}

static void torment_all(const char *text, size_t methods, size_t errors)
{
    struct varlink_contract *c = contract(text);

    for (const struct varlink_decl *d = c->decls; d; d = d->next)
        if (d->kind == DECL_METHOD) {
            torment(varlink_check_call, c, d->name, d->in);
            torment(varlink_check_reply, c, d->name, d->out);
            methods--;
        } else if (d->kind == DECL_ERROR) {
            torment(varlink_check_error, c, d->name, d->in);
            errors--;
        }
    cr_assert_eq(methods, 0);
    cr_assert_eq(errors, 0);
    varlink_contract_free(c);
}

static size_t count_lines(const char *text, const char *beginning)
{
    size_t n = 0;

    for (; text; text = strchr(text, '\n'), text = text ? text + 1 : NULL)
        n += strncmp(text, beginning, strlen(beginning)) == 0;
    return n;
}

Test(varlink_contract, our_own_hold_every_message_against_themselves)
{
    static const char *const texts[] = {varlink_io_llmhost, varlink_org_varlink_service};

    for (size_t i = 0; i < ELEMENTS(texts); i++) {
        cr_assert_gt(count_lines(texts[i], "method "), 1);
        torment_all(texts[i], count_lines(texts[i], "method "), count_lines(texts[i], "error "));
    }
}

Test(varlink_contract, our_passwords_are_hidden)
{
    struct varlink_contract *c = contract(varlink_io_llmhost);
    _cleanup_json_ struct json *v = parsed("{\"name\":\"a\",\"password\":{\"text\":\"hush\"},\"key\":{"
                                           "\"text\":\"hush\"},\"options\":{\"port\":\"22\"}}");
    _cleanup_json_ struct json *hidden = varlink_hide_secrets(c, "InstanceAdd", v);

    assert_json(
        hidden,
        "{\"name\":\"a\",\"password\":\"<secret>\",\"key\":\"<secret>\",\"options\":{\"port\":\"22\"}}");
    varlink_contract_free(c);
}

/* varlinkctl 257 refuses an inline struct that uses a named type. */
static void assert_no_inline_struct(const struct varlink_type *t)
{
    if (!t)
        return;
    cr_assert_neq(t->kind, VARLINK_STRUCT);
    assert_no_inline_struct(t->of);
}

Test(varlink_contract, our_own_has_no_inline_structs)
{
    struct varlink_contract *c = contract(varlink_io_llmhost);

    for (const struct varlink_decl *d = c->decls; d; d = d->next)
        for (int i = 0; i < 2; i++) {
            const struct varlink_type *t = i ? d->out : d->in;

            for (const struct varlink_field *f = t ? t->fields : NULL; f; f = f->next)
                assert_no_inline_struct(f->type);
        }
    varlink_contract_free(c);
}

/* ---- without memory ---- */

Test(varlink, survives_missing_memory_at_any_point)
{
    static const char call[] = "{\"method\":\"X\"}", reply[] = "{\"error\":\"X\"}";
    struct varlink_call c;
    struct varlink_reply r;

    for (long k = 0; k < 1; k++) {
        allocations_left = k;
        cr_assert_eq(call_parse(call, &c), -ENOMEM);
        allocations_left = k;
        cr_assert_eq(reply_parse(reply, &r), -ENOMEM);
    }
}

Test(varlink_contract, survives_missing_memory_at_any_point)
{
    struct varlink_contract *c = NULL;
    char *why = NULL, *where = NULL;
    long k = 0;
    int r;

    do {
        allocations_left = k++;
        r = varlink_contract_parse(everything, &c, &why);
        cr_assert(r == 0 || r == -ENOMEM);
        cr_assert_null(why);
    } while (r < 0);
    cr_assert_gt(k, 50);
    allocations_left = 0;
    cr_assert_eq(varlink_check_call(c, "Try", NULL, &where), -ENOMEM);
    cr_assert_null(where);
    varlink_contract_free(c);
}
