/* The tree: making it, looking at it, writing it. An object is a list of members in the order they came; ours
 * are small enough to be searched from the front. */
#include "proto/json_tree.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proto/buf.h"
#include "proto/mem.h"
#include "proto/text.h"

/* ---- making ---- */

static struct json *json_new(enum json_type type, size_t more)
{
    struct json *v = calloc(1, sizeof(*v) + more);

    if (v)
        v->type = type;
    return v;
}

static bool json_holds(const struct json *v)
{
    return v && (v->type == JSON_ARRAY || v->type == JSON_OBJECT);
}

static char *json_string_bytes(const struct json *v)
{
    return (char *)(v + 1);
}

/* Texts are overwritten: any of them may have been a secret, and nobody behind here could tell. */
struct json *json_free(struct json *v)
{
    if (v && v->type == JSON_STRING)
        wipe(json_string_bytes(v), v->length);
    if (json_holds(v)) {
        for (unsigned i = 0; i < v->count; i++) {
            free(v->slots[i].key);
            json_free(v->slots[i].value);
        }
        free(v->slots);
    }
    free(v);
    return NULL;
}

struct json *json_object(void)
{
    return json_new(JSON_OBJECT, 0);
}

struct json *json_array(void)
{
    return json_new(JSON_ARRAY, 0);
}

struct json *json_null(void)
{
    return json_new(JSON_NULL, 0);
}

struct json *json_bool(bool b)
{
    struct json *v = json_new(JSON_BOOL, 0);

    if (v)
        v->number = b;
    return v;
}

struct json *json_int(int64_t n)
{
    struct json *v = json_new(JSON_INT, 0);

    if (v)
        v->number = n;
    return v;
}

struct json *json_real(double d)
{
    struct json *v = json_new(JSON_REAL, 0);

    if (v)
        v->real = d;
    return v;
}

struct json *json_string_n(const char *text, size_t n)
{
    struct json *v;

    if (n > SIZE_MAX / 2)
        return NULL;
    v = json_new(JSON_STRING, n + 1);
    if (v) {
        v->length = n;
        if (n > 0)
            memcpy(json_string_bytes(v), text, n);
    }
    return v;
}

struct json *json_string(const char *text)
{
    return text ? json_string_n(text, strlen(text)) : json_null();
}

int json_add(struct json *holder, char *key, struct json *value)
{
    if (holder->count == holder->room) {
        unsigned room = holder->room ? holder->room * 2 : 4;
        struct json_slot *slots =
            room > holder->room ? reallocarray(holder->slots, room, sizeof(*slots)) : NULL;

        if (!slots) {
            json_free(value);
            return -ENOMEM;
        }
        holder->slots = slots;
        holder->room = room;
    }
    holder->slots[holder->count++] = (struct json_slot){key, value};
    return 0;
}

static struct json_slot *json_find(const struct json *object, const char *key)
{
    if (object && object->type == JSON_OBJECT)
        for (unsigned i = 0; i < object->count; i++)
            if (streq(object->slots[i].key, key))
                return &object->slots[i];
    return NULL;
}

void json_put(struct json *object, const char *key, struct json *value)
{
    struct json_slot *slot = json_find(object, key);
    char *own_key;

    if (!object || object->type != JSON_OBJECT || !value) {
        json_free(value);
        if (object)
            object->broken = true;
        return;
    }
    if (slot) {
        json_free(slot->value);
        slot->value = value;
        return;
    }
    own_key = strdup(key);
    if (!own_key)
        json_free(value);
    if (!own_key || json_add(object, own_key, value) < 0) {
        free(own_key);
        object->broken = true;
    }
}

void json_append(struct json *array, struct json *value)
{
    if (!array || array->type != JSON_ARRAY || !value) {
        json_free(value);
        if (array)
            array->broken = true;
        return;
    }
    if (json_add(array, NULL, value) < 0)
        array->broken = true;
}

struct json *json_take(struct json *object, const char *key)
{
    struct json_slot *slot = json_find(object, key);
    struct json *value;

    if (!slot)
        return NULL;
    value = slot->value;
    free(slot->key);
    memmove(slot, slot + 1, (size_t)(object->slots + object->count - (slot + 1)) * sizeof(*slot));
    object->count--;
    return value;
}

void json_put_string(struct json *object, const char *key, const char *text)
{
    if (text)
        json_put(object, key, json_string(text));
}

void json_put_int(struct json *object, const char *key, int64_t n)
{
    json_put(object, key, json_int(n));
}

void json_put_bool(struct json *object, const char *key, bool b)
{
    json_put(object, key, json_bool(b));
}

void json_append_string(struct json *array, const char *text)
{
    json_append(array, json_string(text));
}

struct json *json_copy(const struct json *v)
{
    struct json *copy;

    if (!v)
        return NULL;
    if (v->type == JSON_STRING)
        return json_string_n(json_string_bytes(v), v->length);
    copy = json_new(v->type, 0);
    if (!copy)
        return NULL;
    if (v->type == JSON_REAL)
        copy->real = v->real;
    else if (!json_holds(v))
        copy->number = v->number;
    else {
        copy->broken = v->broken;
        for (unsigned i = 0; i < v->count; i++) {
            struct json *value = json_copy(v->slots[i].value);
            char *key = v->slots[i].key ? strdup(v->slots[i].key) : NULL;

            if (!value || !key != !v->slots[i].key || json_add(copy, key, TAKE_PTR(value)) < 0) {
                free(key);
                json_free(value);
                return json_free(copy);
            }
        }
    }
    return copy;
}

/* ---- looking ---- */

enum json_type json_type(const struct json *v)
{
    return v ? v->type : JSON_NULL;
}

const struct json *json_get(const struct json *object, const char *key)
{
    const struct json_slot *slot = json_find(object, key);

    return slot ? slot->value : NULL;
}

size_t json_count(const struct json *v)
{
    return json_holds(v) ? v->count : 0;
}

const struct json *json_at(const struct json *v, size_t i)
{
    return i < json_count(v) ? v->slots[i].value : NULL;
}

const char *json_key_at(const struct json *object, size_t i)
{
    return i < json_count(object) ? object->slots[i].key : NULL;
}

const char *json_text_n(const struct json *v, size_t *ret_n)
{
    if (!v || v->type != JSON_STRING)
        return NULL;
    *ret_n = v->length;
    return json_string_bytes(v);
}

const char *json_text(const struct json *v)
{
    size_t n;

    return json_text_n(v, &n);
}

bool json_to_int(const struct json *v, int64_t *ret)
{
    if (!v || (v->type != JSON_INT && v->type != JSON_REAL))
        return false;
    if (v->type == JSON_REAL) {
        /* 2^63 itself is a double, but no int64_t. */
        if (!(v->real >= -0x1p63 && v->real < 0x1p63) || (double)(int64_t)v->real != v->real)
            return false;
        *ret = (int64_t)v->real;
        return true;
    }
    *ret = v->number;
    return true;
}

bool json_to_real(const struct json *v, double *ret)
{
    if (!v || (v->type != JSON_INT && v->type != JSON_REAL))
        return false;
    *ret = v->type == JSON_REAL ? v->real : (double)v->number;
    return true;
}

bool json_is_true(const struct json *v)
{
    return v && v->type == JSON_BOOL && v->number;
}

const char *json_get_text(const struct json *object, const char *key)
{
    return json_text(json_get(object, key));
}

int64_t json_get_int(const struct json *object, const char *key, int64_t otherwise)
{
    int64_t n;

    return json_to_int(json_get(object, key), &n) ? n : otherwise;
}

bool json_get_bool(const struct json *object, const char *key, bool otherwise)
{
    const struct json *v = json_get(object, key);

    return v && v->type == JSON_BOOL ? v->number : otherwise;
}

static int json_compare_keys(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* Sorted when there are many: a flood of keys must not cost the square of its length. */
int json_has_twins(const struct json *object)
{
    _cleanup_free_ const char **keys = NULL;

    if (object->count <= 16) {
        for (unsigned i = 1; i < object->count; i++)
            for (unsigned k = 0; k < i; k++)
                if (streq(object->slots[i].key, object->slots[k].key))
                    return 1;
        return 0;
    }
    keys = calloc(object->count, sizeof(*keys));
    if (!keys)
        return -ENOMEM;
    for (unsigned i = 0; i < object->count; i++)
        keys[i] = object->slots[i].key;
    qsort(keys, object->count, sizeof(*keys), json_compare_keys);
    for (unsigned i = 1; i < object->count; i++)
        if (streq(keys[i - 1], keys[i]))
            return 1;
    return 0;
}

/* ---- writing ---- */

static int write_escape(struct buf *out, unsigned char c)
{
    switch (c) {
    case '"': return buf_add_text(out, "\\\"");
    case '\\': return buf_add_text(out, "\\\\");
    case '\b': return buf_add_text(out, "\\b");
    case '\f': return buf_add_text(out, "\\f");
    case '\n': return buf_add_text(out, "\\n");
    case '\r': return buf_add_text(out, "\\r");
    case '\t': return buf_add_text(out, "\\t");
    default: return buf_addf(out, "\\u%04x", c);
    }
}

/* Runs of bytes that stand for themselves are added at once. */
static int write_valid(struct buf *out, const char *text, size_t n)
{
    size_t from = 0;
    int r = 0;

    for (size_t i = 0; i < n && r == 0; i++) {
        unsigned char c = (unsigned char)text[i];

        if (c >= 0x20 && c != '"' && c != '\\')
            continue;
        r = buf_add(out, text + from, i - from);
        if (r == 0)
            r = write_escape(out, c);
        from = i + 1;
    }
    return r < 0 ? r : buf_add(out, text + from, n - from);
}

static int write_string(struct buf *out, const char *text, size_t n)
{
    int r = buf_add_text(out, "\"");

    while (r == 0 && n > 0) {
        size_t valid = utf8_valid(text, n);

        r = write_valid(out, text, valid);
        if (r == 0 && valid < n) {
            r = buf_add_text(out, "\xef\xbf\xbd");
            valid++;
        }
        text += valid;
        n -= valid;
    }
    return r < 0 ? r : buf_add_text(out, "\"");
}

/* As few digits as bring back the same number; never without a sign that it is no integer. */
static int write_real(struct buf *out, double d)
{
    char text[40];
    int digits = 15;

    if (!isfinite(d))
        return buf_add_text(out, "null"); /* JSON has no word for it */
    do
        snprintf(text, sizeof(text), "%.*g", digits, d);
    while (strtod(text, NULL) != d && digits++ < 17);
    if (!strpbrk(text, ".e"))
        strcat(text, ".0");
    return buf_add_text(out, text);
}

static int write_value(struct buf *out, const struct json *v);

static int write_slots(struct buf *out, const struct json *v, bool keys)
{
    int r = buf_add_text(out, keys ? "{" : "[");

    for (unsigned i = 0; i < v->count && r == 0; i++) {
        if (i > 0)
            r = buf_add_text(out, ",");
        if (r == 0 && keys)
            r = write_string(out, v->slots[i].key, strlen(v->slots[i].key));
        if (r == 0 && keys)
            r = buf_add_text(out, ":");
        if (r == 0)
            r = write_value(out, v->slots[i].value);
    }
    return r < 0 ? r : buf_add_text(out, keys ? "}" : "]");
}

static int write_value(struct buf *out, const struct json *v)
{
    if (!v || v->broken)
        return -ENOMEM;
    switch (v->type) {
    case JSON_NULL: return buf_add_text(out, "null");
    case JSON_BOOL: return buf_add_text(out, v->number ? "true" : "false");
    case JSON_INT: return buf_addf(out, "%" PRId64, v->number);
    case JSON_REAL: return write_real(out, v->real);
    case JSON_STRING: return write_string(out, json_string_bytes(v), v->length);
    case JSON_ARRAY: return write_slots(out, v, false);
    case JSON_OBJECT: return write_slots(out, v, true);
    }
    return -ENOMEM;
}

int json_write(const struct json *v, struct buf *out)
{
    size_t len = out->len;
    int r = write_value(out, v);

    if (r < 0)
        out->len = len;
    return r;
}
