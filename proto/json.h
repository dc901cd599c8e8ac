/* JSON as a bounded tree, over yajl's event parser; yajl stays in json.c, json_scan.c and json_yajl.c.
 *
 * Reading is strict: depth 32, integers exact in 64 bits, duplicate keys refused, invalid UTF-8 refused, nothing after
 * the value. Writing makes invalid UTF-8 valid (U+FFFD).
 * Building never crashes: a failed allocation spreads as NULL, and json_write() then says -ENOMEM.
 * Numbers are read and written by the C library: both programs leave LC_NUMERIC alone.
 * Every value is owned by the array or object that holds it, a root by whoever made it. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "proto/mem.h"

struct buf;
struct json;

enum json_type { JSON_NULL, JSON_BOOL, JSON_INT, JSON_REAL, JSON_STRING, JSON_ARRAY, JSON_OBJECT };

#define JSON_DEPTH_MAX 32

/* 0, or -EBADMSG (not JSON), -E2BIG (deeper than 32), -EEXIST (a key twice), -ERANGE (a number
 * beyond 64 bits or longer than 1000 bytes), -ENOMEM. Keys with a NUL inside and lone surrogates are not JSON either. */
int json_parse(const char *text, size_t n, struct json **ret);
struct json *json_free(struct json *v);     /* takes NULL, returns NULL */
DEFINE_CLEANUP(struct json *, json_free)
#define _cleanup_json_ _cleanup_(cleanup_json_free)
struct json *json_copy(const struct json *v);

/* Making. */
struct json *json_object(void);
struct json *json_array(void);
struct json *json_null(void);
struct json *json_bool(bool b);
struct json *json_int(int64_t n);
struct json *json_real(double d);
struct json *json_string(const char *text);             /* NULL makes null */
struct json *json_string_n(const char *text, size_t n);

/* Takes value, also on failure. A key that is there already is replaced. A NULL value marks object as broken. */
void json_put(struct json *object, const char *key, struct json *value);
void json_append(struct json *array, struct json *value);
/* Shorter. A NULL text leaves the key out. */
void json_put_string(struct json *object, const char *key, const char *text);
void json_put_int(struct json *object, const char *key, int64_t n);
void json_put_bool(struct json *object, const char *key, bool b);
void json_append_string(struct json *array, const char *text);
/* Takes a member out of object; the caller owns it then. NULL: not there. */
struct json *json_take(struct json *object, const char *key);

/* Looking. All take NULL for v: then there is nothing. */
enum json_type json_type(const struct json *v);
const struct json *json_get(const struct json *object, const char *key);        /* NULL: not there, or no object */
size_t json_count(const struct json *v);                                        /* elements, members, or 0 */
const struct json *json_at(const struct json *v, size_t i);                     /* element or member value, NULL beyond the end */
const char *json_key_at(const struct json *object, size_t i);
const char *json_text(const struct json *v);                                    /* NULL: no string. Ends at an embedded NUL; see json_text_n() */
const char *json_text_n(const struct json *v, size_t *ret_n);
bool json_to_int(const struct json *v, int64_t *ret);                           /* also for a real without a fraction */
bool json_to_real(const struct json *v, double *ret);
bool json_is_true(const struct json *v);
/* Members of an object, with what to take when they are missing or of another type. */
const char *json_get_text(const struct json *object, const char *key);          /* NULL */
int64_t json_get_int(const struct json *object, const char *key, int64_t otherwise);
bool json_get_bool(const struct json *object, const char *key, bool otherwise);

/* Adds the text to out. 0, -ENOBUFS, -ENOMEM. */
int json_write(const struct json *v, struct buf *out);

/* A document read in pieces, of which only a few top-level members are kept: for request bodies of any size.
 * Members of interest that are strings, numbers, booleans or null are kept (strings up to 4 KiB); of arrays and objects only
 * the number of elements is. Depth up to 256; invalid UTF-8 passes (the engine judges it). */
struct json_scan;
struct json_scan *json_scan_new(const char *const *keys, size_t n_keys);        /* borrows keys; NULL: no memory */
struct json_scan *json_scan_free(struct json_scan *s);
/* 0 or -EBADMSG, -E2BIG, -EEXIST (an interesting key twice), -ENOMEM; once failed it stays failed. */
int json_scan_feed(struct json_scan *s, const void *data, size_t n);
/* The document is over: 0, or -EBADMSG when it is not a whole JSON object. */
int json_scan_end(struct json_scan *s);

struct json_member {
    bool found;
    enum json_type type;
    const char *text;               /* JSON_STRING; owned by the scan; NULL when longer than 4 KiB */
    int64_t number;                 /* JSON_INT; JSON_REAL rounded towards zero; JSON_BOOL 0 or 1 */
    size_t count;                   /* JSON_ARRAY, JSON_OBJECT; JSON_STRING: its length, as decoded */
    uint64_t from_bytes, to_bytes;  /* JSON_STRING: where the value stands in the document, quotes included */
};
void json_scan_member(const struct json_scan *s, const char *key, struct json_member *ret);
