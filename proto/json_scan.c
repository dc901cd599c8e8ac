/* The reader of pieces. A filter walks over the bytes in front of yajl. It knows where strings begin and end,
 * and hands each one to yajl in one go, so that its event comes while its place is known. A string that comes
 * in pieces is held until its closing quote; yajl would hold it too, but look at it from its first byte again
 * with every piece. Of a long one yajl sees two quotes only: a picture in a request is one string of many
 * megabytes. */
#include "proto/json.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "proto/buf.h"
#include "proto/json_yajl.h"

#define SCAN_DEPTH_MAX      256
#define SCAN_TEXT_BYTES_MAX 4096
#define SCAN_RAW_BYTES_MAX  (6 * SCAN_TEXT_BYTES_MAX + 2) /* two quotes, each byte written as \u0061 */

struct scan_kept {
    struct json_member member;
    char *text;
};

struct json_scan {
    const char *const *keys;
    size_t n_keys;
    struct scan_kept *kept; /* one for each key */
    struct yajl_memory memory;
    yajl_handle yajl;
    int r;
    bool ended;

    /* the filter */
    enum { OUTSIDE, IN_STRING, IN_ESCAPE, IN_HEX } where;
    uint64_t at_bytes;             /* of the document, before the piece at hand */
    uint64_t from_bytes, to_bytes; /* the string at hand */
    uint64_t length;               /* of it, as decoded */
    unsigned hex, hex_left;
    bool cut;           /* longer than SCAN_RAW_BYTES_MAX */
    struct buf held;    /* what earlier pieces had of it */
    size_t token_bytes; /* a number or word at hand */

    /* the events */
    unsigned depth;
    struct scan_kept *next; /* whose value comes now */
    struct scan_kept *open; /* the array or object at hand */
};

static int scan_fail(struct json_scan *s, int r)
{
    if (s->r == 0)
        s->r = r;
    return 0;
}

/* Every value comes through here. *ret: where to keep it, or NULL. */
static int scan_value(struct json_scan *s, enum json_type type, struct scan_kept **ret)
{
    *ret = NULL;
    if (s->depth == 0)
        return type == JSON_OBJECT ? 1 : scan_fail(s, -EBADMSG);
    if (s->depth == 2 && s->open)
        s->open->member.count++;
    if (s->depth == 1 && s->next) {
        s->next->member.found = true;
        s->next->member.type = type;
        *ret = TAKE_PTR(s->next);
    }
    return 1;
}

static int scan_on_null(void *ctx)
{
    struct scan_kept *kept;

    return scan_value(ctx, JSON_NULL, &kept);
}

static int scan_on_boolean(void *ctx, int b)
{
    struct scan_kept *kept;
    int go_on = scan_value(ctx, JSON_BOOL, &kept);

    if (kept)
        kept->member.number = b != 0;
    return go_on;
}

static int64_t clamp(double d)
{
    return d >= 0x1p63 ? INT64_MAX : d < -0x1p63 ? INT64_MIN : (int64_t)d;
}

static int scan_on_number(void *ctx, const char *text, size_t n)
{
    struct number number = {0};
    struct scan_kept *kept;
    int r = number_read(text, n, &number);

    if (!scan_value(ctx, r < 0 || number.is_real ? JSON_REAL : JSON_INT, &kept))
        return 0;
    if (kept)
        kept->member.number = r < 0 || number.is_real ? clamp(number.d) : number.n;
    return 1;
}

static int scan_on_string(void *ctx, const unsigned char *text, size_t n)
{
    struct json_scan *s = ctx;
    struct scan_kept *kept;

    if (!scan_value(s, JSON_STRING, &kept))
        return 0;
    if (!kept)
        return 1;
    kept->member.count = s->cut ? s->length : n;
    kept->member.from_bytes = s->from_bytes;
    kept->member.to_bytes = s->to_bytes;
    if (s->cut || n > SCAN_TEXT_BYTES_MAX)
        return 1;
    kept->text = malloc(n + 1);
    if (!kept->text)
        return scan_fail(s, -ENOMEM);
    memcpy(kept->text, text, n);
    kept->text[n] = '\0';
    kept->member.text = kept->text;
    return 1;
}

static struct scan_kept *scan_find(const struct json_scan *s, const char *key, size_t n)
{
    for (size_t i = 0; i < s->n_keys; i++)
        if (strlen(s->keys[i]) == n && memcmp(s->keys[i], key, n) == 0)
            return &s->kept[i];
    return NULL;
}

static int scan_on_key(void *ctx, const unsigned char *text, size_t n)
{
    struct json_scan *s = ctx;

    if (s->depth != 1)
        return 1;
    s->next = s->cut ? NULL : scan_find(s, (const char *)text, n);
    if (s->next && s->next->member.found)
        return scan_fail(s, -EEXIST);
    return 1;
}

static int scan_enter(struct json_scan *s, enum json_type type)
{
    struct scan_kept *kept;

    if (s->depth == SCAN_DEPTH_MAX)
        return scan_fail(s, -E2BIG);
    if (!scan_value(s, type, &kept))
        return 0;
    if (++s->depth == 2)
        s->open = kept;
    return 1;
}

static int scan_on_object(void *ctx)
{
    return scan_enter(ctx, JSON_OBJECT);
}

static int scan_on_array(void *ctx)
{
    return scan_enter(ctx, JSON_ARRAY);
}

static int scan_on_end(void *ctx)
{
    struct json_scan *s = ctx;

    s->depth--;
    return 1;
}

static const yajl_callbacks scan_callbacks = {
    .yajl_null = scan_on_null,
    .yajl_boolean = scan_on_boolean,
    .yajl_number = scan_on_number,
    .yajl_string = scan_on_string,
    .yajl_start_map = scan_on_object,
    .yajl_map_key = scan_on_key,
    .yajl_end_map = scan_on_end,
    .yajl_start_array = scan_on_array,
    .yajl_end_array = scan_on_end,
};

static int scan_prepare(struct json_scan *s)
{
    if (setjmp(s->memory.gone))
        return -ENOMEM;
    s->yajl = yajl_memory_start(&s->memory, &scan_callbacks, s);
    yajl_config(s->yajl, yajl_dont_validate_strings, 1);
    return 0;
}

struct json_scan *json_scan_new(const char *const *keys, size_t n_keys)
{
    struct json_scan *s = calloc(1, sizeof(*s));

    if (!s)
        return NULL;
    s->keys = keys;
    s->n_keys = n_keys;
    buf_init(&s->held, SCAN_RAW_BYTES_MAX);
    s->kept = calloc(n_keys + 1, sizeof(*s->kept));
    if (!s->kept || scan_prepare(s) < 0)
        return json_scan_free(s);
    return s;
}

struct json_scan *json_scan_free(struct json_scan *s)
{
    if (!s)
        return NULL;
    yajl_memory_done(&s->memory);
    buf_done(&s->held);
    for (size_t i = 0; s->kept && i < s->n_keys; i++)
        free(s->kept[i].text);
    free(s->kept);
    free(s);
    return NULL;
}

static int scan_to_yajl(struct json_scan *s, const char *data, size_t n)
{
    if (n == 0)
        return 0;
    if (setjmp(s->memory.gone))
        return scan_fail(s, -ENOMEM), s->r;
    if (yajl_parse(s->yajl, (const unsigned char *)data, n) != yajl_status_ok)
        scan_fail(s, -EBADMSG);
    return s->r;
}

/* Between strings. A number or a word has an end soon, or it is none. */
static int filter_outside(struct json_scan *s, char c, uint64_t at)
{
    if (c == '"') {
        s->where = IN_STRING;
        s->from_bytes = at;
        s->length = 0;
        s->cut = false;
        s->token_bytes = 0;
    } else if (strchr(" \t\r\n{}[]:,", c)) /* a NUL too: yajl refuses it */
        s->token_bytes = 0;
    else if (c == '\v' || c == '\f' || ++s->token_bytes > NUMBER_BYTES_MAX)
        return -EBADMSG;
    return 0;
}

/* Behind a backslash. Half of a surrogate pair counts as two: together they make four bytes. */
static int filter_escape(struct json_scan *s, char c)
{
    int digit;

    if (s->where == IN_ESCAPE) {
        if (!c || !strchr("\"\\/bfnrtu", c))
            return -EBADMSG;
        s->where = c == 'u' ? IN_HEX : IN_STRING;
        s->hex = 0;
        s->hex_left = 4;
        s->length += c != 'u';
        return 0;
    }
    digit = hex_digit(c);
    if (digit < 0)
        return digit;
    s->hex = s->hex << 4 | (unsigned)digit;
    if (--s->hex_left == 0) {
        s->length += s->hex < 0x80 ? 1 : s->hex < 0x800 || (s->hex & 0xf800) == 0xd800 ? 2 : 3;
        s->where = IN_STRING;
    }
    return 0;
}

/* How many bytes from data on are plain text of a string. */
static size_t filter_plain(const char *data, size_t n)
{
    size_t i = 0;

    while (i < n && (unsigned char)data[i] >= 0x20 && data[i] != '"' && data[i] != '\\')
        i++;
    return i;
}

/* The string has grown by n bytes; the closing quote, if it is there, is the last. */
static int filter_hold(struct json_scan *s, const char *data, size_t n)
{
    int r;

    if (s->cut)
        return 0;
    r = buf_add(&s->held, data, n);
    if (r == -ENOBUFS) {
        s->cut = true;
        buf_done(&s->held);
        return 0;
    }
    return r;
}

static int filter_close(struct json_scan *s, const char *data, size_t n)
{
    int r;

    s->where = OUTSIDE;
    if (!s->cut && s->held.len == 0 && n <= SCAN_RAW_BYTES_MAX)
        return scan_to_yajl(s, data, n);
    r = filter_hold(s, data, n);
    if (r == 0)
        r = s->cut ? scan_to_yajl(s, "\"\"", 2) : scan_to_yajl(s, s->held.data, s->held.len);
    buf_clear(&s->held);
    return r;
}

/* Inside a string. Goes on to its end or the next backslash; *i is the first byte not looked at. */
static int filter_string(struct json_scan *s, const char *data, size_t n, size_t *i, size_t *mark)
{
    size_t plain = filter_plain(data + *i, n - *i), from = *mark;

    s->length += plain;
    *i += plain;
    if (*i == n)
        return 0;
    if ((unsigned char)data[*i] < 0x20)
        return -EBADMSG;
    (*i)++;
    if (data[*i - 1] == '\\') {
        s->where = IN_ESCAPE;
        return 0;
    }
    s->to_bytes = s->at_bytes + *i;
    *mark = *i;
    return filter_close(s, data + from, *i - from);
}

/* Between strings; what came before one is handed on in front of it. */
static int filter_outside_at(struct json_scan *s, const char *data, size_t *i, size_t *mark)
{
    size_t at = (*i)++, from = *mark;
    int r = filter_outside(s, data[at], s->at_bytes + at);

    if (r < 0 || s->where == OUTSIDE)
        return r;
    *mark = at;
    return scan_to_yajl(s, data + from, at - from);
}

/* mark is the first byte that is neither with yajl nor held. */
static int scan_piece(struct json_scan *s, const char *data, size_t n)
{
    size_t mark = 0, i = 0;
    int r = 0;

    while (i < n && r == 0)
        if (s->where == OUTSIDE)
            r = filter_outside_at(s, data, &i, &mark);
        else if (s->where == IN_STRING)
            r = filter_string(s, data, n, &i, &mark);
        else
            r = filter_escape(s, data[i++]);
    if (r == 0)
        r = s->where == OUTSIDE ? scan_to_yajl(s, data + mark, n - mark)
                                : filter_hold(s, data + mark, n - mark);
    s->at_bytes += n;
    return r;
}

int json_scan_feed(struct json_scan *s, const void *data, size_t n)
{
    int r;

    if (s->ended)
        scan_fail(s, -EBADMSG);
    if (s->r < 0)
        return s->r;
    r = scan_piece(s, data, n);
    if (r < 0)
        scan_fail(s, r);
    return s->r;
}

static int scan_finish(struct json_scan *s)
{
    if (setjmp(s->memory.gone))
        return -ENOMEM;
    return yajl_complete_parse(s->yajl) == yajl_status_ok ? 0 : -EBADMSG;
}

int json_scan_end(struct json_scan *s)
{
    if (s->r == 0 && !s->ended) {
        int r = s->where == OUTSIDE ? scan_finish(s) : -EBADMSG;

        if (r < 0)
            scan_fail(s, r);
    }
    s->ended = true;
    return s->r;
}

void json_scan_member(const struct json_scan *s, const char *key, struct json_member *ret)
{
    const struct scan_kept *kept = scan_find(s, key, strlen(key));

    *ret = kept ? kept->member : (struct json_member){0};
}
