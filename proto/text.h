/* How durations, sizes, ages and names are written, for both programs. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct buf;

/* "90s" "5m" "1h30m" "2d" "500ms"; a number needs its unit, "0" does not. 0 or -EINVAL, -ERANGE (above 10 years). */
int duration_parse(const char *text, uint64_t *ret_ms);
/* "64M" "2.5G" "100k" (1000) "1KiB" "4MiB" (1024), a plain number is bytes. 0 or -EINVAL, -ERANGE. */
int size_parse(const char *text, uint64_t *ret_bytes);

#define TEXT_SHORT_MAX 32
/* For people. Ages: "0.4s" "12s" "4m10s" "3h05m" "6d02h"; below 10 s with one decimal when tenths is true. */
const char *duration_format(char out[static TEXT_SHORT_MAX], uint64_t ms, bool tenths);
/* "0 B" "475 kB" "5.6 GB": powers of ten, as the model libraries count. */
const char *bytes_format(char out[static TEXT_SHORT_MAX], uint64_t bytes);
/* "¥3.70" "-$0.05" "12.00 CU": thousandths of a unit, rounded to hundredths, away from zero at the middle. */
const char *money_format(char out[static TEXT_SHORT_MAX], int64_t milli, const char *unit);
/* "gpu.example.org:22" "[::1]:22": an IPv6 address in brackets. Cut at n bytes. */
const char *host_port_format(char *out, size_t n, const char *host, unsigned port);

/* An instance: 1 to 40 of a-z 0-9 - (not first or last). */
bool name_is_instance(const char *name);

/* A short name of a model: 1 to 60 letters, digits and . _ -, a letter or digit first. */
bool name_is_alias(const char *name);

/* ENGINE:NAME, split at the first colon. 0, or -EINVAL: *ret_why (static text) says what is wrong.
 * NAME may hold letters, digits and / : . _ - @ and is at most 200 bytes; an absolute path is a name too. */
struct model_name {
    char engine[24];
    char rest[201];
};
int model_name_parse(const char *text, struct model_name *ret, const char **ret_why);
/* Do two NAMEs mean one model? Letters count alike, no tag is ":latest", and the library of ollama's own registry need not be named
 * (types/model/name.go at 0.32.15). A path is only itself. */
bool model_same(const char *a, const char *b);

/* The few patterns people use: * and ?; everything else is itself. */
bool glob_match(const char *pattern, const char *text);
bool glob_is_pattern(const char *text);

/* How many letters two names differ by (insert, remove, change, swap neighbours); stops counting above limit and returns limit + 1. */
unsigned text_distance(const char *a, const char *b, unsigned limit);

/* One word for a POSIX shell, in single quotes where needed. 0, -ENOBUFS, -ENOMEM. */
int shell_quote(struct buf *out, const char *word);

/* Length of the valid UTF-8 prefix of text; n when all is valid. */
size_t utf8_valid(const char *text, size_t n);
/* Adds text with invalid bytes replaced by U+FFFD and control characters (but for newline when keep_lines) by a space. */
int utf8_clean(struct buf *out, const char *text, size_t n, bool keep_lines);

/* Base64 (RFC 4648); padding only when pad. decode: -EBADMSG on anything else; padding is optional. */
int base64_encode(struct buf *out, const void *data, size_t n, bool pad);
int base64_decode(struct buf *out, const char *text, size_t n);

/* "2026-11-21T09:30:00.123456789Z" or with +08:00, years up to 9999, 0 to 9 digits after the second. 0 or -EINVAL. */
int rfc3339_parse(const char *text, int64_t *ret_at_ms);
/* ..., in UTC, milliseconds only when not zero. */
const char *rfc3339_format(char out[static TEXT_SHORT_MAX], int64_t at_ms);
