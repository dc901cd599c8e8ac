/* The reader of whole documents: a tree over yajl's event parser. What yajl lets pass and we do not: vertical
 * tab and form feed as white space, overlong UTF-8 and surrogates, depth, numbers beyond 64 bits, keys that
 * come twice. */
#include "proto/json.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "proto/json_tree.h"
#include "proto/json_yajl.h"
#include "proto/text.h"

struct parse {
    struct yajl_memory memory;
    struct json *root;
    struct json *open[JSON_DEPTH_MAX];
    unsigned depth;
    char *key; /* of the value to come */
    int r;     /* why a callback stopped */
};

static int parse_fail(struct parse *p, int r)
{
    p->r = r;
    return 0;
}

/* Puts a value where it belongs; owns it also on failure. */
static int parse_place(struct parse *p, struct json *value)
{
    if (!value)
        return parse_fail(p, -ENOMEM);
    if (p->depth == 0) {
        p->root = value;
        return 1;
    }
    if (json_add(p->open[p->depth - 1], p->key, value) < 0)
        return parse_fail(p, -ENOMEM);
    p->key = NULL;
    return 1;
}

static int parse_on_null(void *ctx)
{
    return parse_place(ctx, json_null());
}

static int parse_on_boolean(void *ctx, int b)
{
    return parse_place(ctx, json_bool(b));
}

static int parse_on_number(void *ctx, const char *text, size_t n)
{
    struct number number;
    int r = number_read(text, n, &number);

    if (r < 0)
        return parse_fail(ctx, r);
    return parse_place(ctx, number.is_real ? json_real(number.d) : json_int(number.n));
}

static int parse_on_string(void *ctx, const unsigned char *text, size_t n)
{
    if (utf8_valid((const char *)text, n) < n)
        return parse_fail(ctx, -EBADMSG);
    return parse_place(ctx, json_string_n((const char *)text, n));
}

static int parse_on_key(void *ctx, const unsigned char *text, size_t n)
{
    struct parse *p = ctx;

    /* A key with a NUL inside would be taken for a shorter one. */
    if (utf8_valid((const char *)text, n) < n || memchr(text, '\0', n))
        return parse_fail(p, -EBADMSG);
    p->key = malloc(n + 1);
    if (!p->key)
        return parse_fail(p, -ENOMEM);
    memcpy(p->key, text, n);
    p->key[n] = '\0';
    return 1;
}

static int parse_enter(struct parse *p, struct json *holder)
{
    if (p->depth == JSON_DEPTH_MAX) {
        json_free(holder);
        return parse_fail(p, -E2BIG);
    }
    if (!parse_place(p, holder))
        return 0;
    p->open[p->depth++] = holder;
    return 1;
}

static int parse_on_object(void *ctx)
{
    return parse_enter(ctx, json_object());
}

static int parse_on_array(void *ctx)
{
    return parse_enter(ctx, json_array());
}

static int parse_on_object_end(void *ctx)
{
    struct parse *p = ctx;
    int r = json_has_twins(p->open[--p->depth]);

    return r == 0 ? 1 : parse_fail(p, r < 0 ? r : -EEXIST);
}

static int parse_on_array_end(void *ctx)
{
    struct parse *p = ctx;

    p->depth--;
    return 1;
}

static const yajl_callbacks parse_callbacks = {
    .yajl_null = parse_on_null,
    .yajl_boolean = parse_on_boolean,
    .yajl_number = parse_on_number,
    .yajl_string = parse_on_string,
    .yajl_start_map = parse_on_object,
    .yajl_map_key = parse_on_key,
    .yajl_end_map = parse_on_object_end,
    .yajl_start_array = parse_on_array,
    .yajl_end_array = parse_on_array_end,
};

/* A function of its own: after longjmp() its locals count for nothing. */
static int parse_run(struct parse *p, const char *text, size_t n)
{
    yajl_handle yajl;

    if (setjmp(p->memory.gone))
        return -ENOMEM;
    yajl = yajl_memory_start(&p->memory, &parse_callbacks, p);
    if (yajl_parse(yajl, (const unsigned char *)text, n) != yajl_status_ok ||
        yajl_complete_parse(yajl) != yajl_status_ok)
        return p->r < 0 ? p->r : -EBADMSG;
    return p->root ? 0 : -EBADMSG;
}

/* The unit of \uXXXX at text, or -EBADMSG. */
static int unit_at(const char *text, size_t n)
{
    int unit = 0;

    if (n < 6 || text[0] != '\\' || text[1] != 'u')
        return -EBADMSG;
    for (size_t i = 2; i < 6; i++) {
        int digit = hex_digit(text[i]);

        if (digit < 0)
            return digit;
        unit = unit << 4 | digit;
    }
    return unit;
}

/* How many bytes the escape at text has: 12 for a surrogate pair; 0: it is wrong. */
static size_t escape_length(const char *text, size_t n)
{
    int unit;

    if (n < 2 || text[1] != 'u')
        return 2; /* yajl knows the letters */
    unit = unit_at(text, n);
    if (unit < 0 || (unit & 0xfc00) == 0xdc00)
        return 0;
    if ((unit & 0xfc00) != 0xd800)
        return 6;
    unit = unit_at(text + 6, n - 6);
    return unit >= 0 && (unit & 0xfc00) == 0xdc00 ? 12 : 0;
}

/* What yajl does not see, or no longer. */
static bool is_sound(const char *text, size_t n)
{
    bool in_string = false;
    size_t step;

    for (size_t i = 0; i < n; i += step) {
        step = 1;
        if (text[i] == '"')
            in_string = !in_string;
        else if (in_string && text[i] == '\\')
            step = escape_length(text + i, n - i);
        else if (text[i] == '\v' || text[i] == '\f')
            return false;
        if (step == 0)
            return false;
    }
    return !in_string;
}

int json_parse(const char *text, size_t n, struct json **ret)
{
    struct parse p = {0};
    int r;

    if (!is_sound(text, n))
        return -EBADMSG;
    r = parse_run(&p, text, n);
    yajl_memory_done(&p.memory);
    free(p.key);
    if (r < 0) {
        json_free(p.root);
        return r;
    }
    *ret = p.root;
    return 0;
}
