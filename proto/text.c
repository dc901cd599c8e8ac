/* Everything here is a function of its arguments: no locale, no clock, no environment. Numbers are read by
 * hand, because strtod() and its family take signs, spaces, hexadecimal and the locale's comma. */
#include "proto/text.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <time.h>

#include "proto/buf.h"
#include "proto/mem.h"

#define MS_PER_SECOND   1000ull
#define MS_PER_MINUTE   (60 * MS_PER_SECOND)
#define MS_PER_HOUR     (60 * MS_PER_MINUTE)
#define MS_PER_DAY      (24 * MS_PER_HOUR)
#define DURATION_MAX_MS (3650 * MS_PER_DAY)

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

static bool is_letter(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

/* Digits up to the first other byte; stays at the largest value where there are too many. */
static uint64_t digits_read(const char **p)
{
    uint64_t n = 0;

    for (; is_digit(**p); (*p)++)
        if (__builtin_mul_overflow(n, 10, &n) || __builtin_add_overflow(n, (uint64_t)(**p - '0'), &n))
            n = UINT64_MAX;
    return n;
}

/* ---- durations and sizes ---- */

static const struct {
    const char *name;
    uint64_t ms;
} duration_units[] = {
    {"ms", 1}, {"s", MS_PER_SECOND}, {"m", MS_PER_MINUTE}, {"h", MS_PER_HOUR}, {"d", MS_PER_DAY},
};

/* The unit at *p, which must be smaller than the one before it: "30m1h" is a slip of the pen. */
static uint64_t duration_unit(const char **p, uint64_t below_ms)
{
    size_t n = 0;

    while (is_letter((*p)[n]))
        n++;
    for (size_t i = 0; i < ELEMENTS(duration_units); i++)
        if (strlen(duration_units[i].name) == n && memcmp(duration_units[i].name, *p, n) == 0) {
            *p += n;
            return duration_units[i].ms < below_ms ? duration_units[i].ms : 0;
        }
    return 0;
}

int duration_parse(const char *text, uint64_t *ret_ms)
{
    uint64_t sum_ms = 0, unit_ms = UINT64_MAX;
    bool too_long = false;

    if (streq(text, "0")) {
        *ret_ms = 0;
        return 0;
    }
    do {
        uint64_t n;

        if (!is_digit(*text))
            return -EINVAL;
        n = digits_read(&text);
        unit_ms = duration_unit(&text, unit_ms);
        if (unit_ms == 0)
            return -EINVAL;
        if (n > DURATION_MAX_MS / unit_ms)
            too_long = true;
        else
            sum_ms += n * unit_ms;
    } while (*text);
    if (too_long || sum_ms > DURATION_MAX_MS)
        return -ERANGE;
    *ret_ms = sum_ms;
    return 0;
}

/* "", "B", "k", "kB", "KiB", ...: 0 when it is none of them. */
static uint64_t size_unit(const char *suffix)
{
    static const char letters[] = "kMGTP";
    uint64_t thousand = 1000, unit = 1;
    const char *letter;

    if (*suffix == ' ')
        suffix++;
    if (streq(suffix, "") || streq(suffix, "B"))
        return 1;
    letter = strchr(letters, *suffix == 'K' ? 'k' : *suffix);
    if (!letter)
        return 0;
    suffix++;
    if (*suffix == 'i') {
        thousand = 1024;
        suffix++;
        if (*suffix != 'B')
            return 0;
    }
    if (!streq(suffix, "") && !streq(suffix, "B"))
        return 0;
    for (const char *l = letters; l <= letter; l++)
        unit *= thousand;
    return unit;
}

int size_parse(const char *text, uint64_t *ret_bytes)
{
    uint64_t whole, unit, sum, fraction = 0, scale = 1;
    bool has_fraction = false;

    if (!is_digit(*text))
        return -EINVAL;
    whole = digits_read(&text);
    if (*text == '.') {
        has_fraction = true;
        if (!is_digit(*++text))
            return -EINVAL;
        for (; is_digit(*text); text++)
            if (scale < 1000000000) {
                fraction = fraction * 10 + (uint64_t)(*text - '0');
                scale *= 10;
            }
    }
    if (*text == ' ' && text[1] == '\0')
        return -EINVAL;
    unit = size_unit(text);
    if (unit == 0 || (has_fraction && unit == 1))
        return -EINVAL;
    if (whole == UINT64_MAX || __builtin_mul_overflow(whole, unit, &sum) ||
        __builtin_add_overflow(sum, (uint64_t)((__uint128_t)fraction * unit / scale), &sum))
        return -ERANGE;
    *ret_bytes = sum;
    return 0;
}

const char *duration_format(char out[static TEXT_SHORT_MAX], uint64_t ms, bool tenths)
{
    uint64_t s = ms / MS_PER_SECOND;

    if (tenths && ms < 10 * MS_PER_SECOND)
        snprintf(out, TEXT_SHORT_MAX, "%" PRIu64 ".%" PRIu64 "s", s, ms / 100 % 10);
    else if (ms < MS_PER_MINUTE)
        snprintf(out, TEXT_SHORT_MAX, "%" PRIu64 "s", s);
    else if (ms < MS_PER_HOUR)
        snprintf(out, TEXT_SHORT_MAX, "%" PRIu64 "m%02" PRIu64 "s", s / 60, s % 60);
    else if (ms < MS_PER_DAY)
        snprintf(out, TEXT_SHORT_MAX, "%" PRIu64 "h%02" PRIu64 "m", s / 3600, s / 60 % 60);
    else
        snprintf(out, TEXT_SHORT_MAX, "%" PRIu64 "d%02" PRIu64 "h", s / 86400, s / 3600 % 24);
    return out;
}

/* One decimal below ten, as there the second digit matters. */
const char *bytes_format(char out[static TEXT_SHORT_MAX], uint64_t bytes)
{
    static const char *const units[] = {"kB", "MB", "GB", "TB", "PB", "EB"};
    uint64_t unit = 1000;
    size_t i = 0;

    if (bytes < 1000) {
        snprintf(out, TEXT_SHORT_MAX, "%" PRIu64 " B", bytes);
        return out;
    }
    /* 999.6 kB is 1.0 MB, not 1000 kB. */
    while (i + 1 < ELEMENTS(units) && bytes >= unit * 1000 - unit / 2) {
        unit *= 1000;
        i++;
    }
    uint64_t tenths = bytes / unit * 10 + (bytes % unit / (unit / 10));

    tenths += bytes % (unit / 10) >= unit / 20;
    if (tenths < 100)
        snprintf(out, TEXT_SHORT_MAX, "%" PRIu64 ".%" PRIu64 " %s", tenths / 10, tenths % 10, units[i]);
    else
        snprintf(out, TEXT_SHORT_MAX, "%" PRIu64 " %s", bytes / unit + (bytes % unit >= unit / 2), units[i]);
    return out;
}

const char *money_format(char out[static TEXT_SHORT_MAX], int64_t milli, const char *unit)
{
    const char *before = streq(unit, "CNY") ? "¥" : streq(unit, "USD") ? "$" : "";
    uint64_t size = milli < 0 ? -(uint64_t)milli : (uint64_t)milli, cents = size / 10 + (size % 10 >= 5);

    const char *sign = milli < 0 ? "-" : "", *space = *before ? "" : " ", *behind = *before ? "" : unit;

    if (size > 0 && cents == 0) /* too little for two places is not nothing */
        snprintf(out, TEXT_SHORT_MAX, "%s%s0.%03" PRIu64 "%s%s", sign, before, size, space, behind);
    else
        snprintf(out, TEXT_SHORT_MAX, "%s%s%" PRIu64 ".%02" PRIu64 "%s%s", sign, before, cents / 100,
                 cents % 100, space, behind);
    return out;
}

const char *host_port_format(char *out, size_t n, const char *host, unsigned port)
{
    snprintf(out, n, strchr(host, ':') ? "[%s]:%u" : "%s:%u", host, port);
    return out;
}

/* ---- names ---- */

bool name_is_instance(const char *name)
{
    size_t n = strlen(name);

    if (n < 1 || n > 40 || name[0] == '-' || name[n - 1] == '-')
        return false;
    for (; *name; name++)
        if (!is_digit(*name) && !(*name >= 'a' && *name <= 'z') && *name != '-')
            return false;
    return true;
}

static bool is_of(const char *text, size_t n, const char *others)
{
    for (size_t i = 0; i < n; i++)
        if (!text[i] || (!is_letter(text[i]) && !is_digit(text[i]) && !strchr(others, text[i])))
            return false;
    return true;
}

bool name_is_alias(const char *name)
{
    size_t n = strlen(name);

    return n >= 1 && n <= 60 && is_of(name, n, "._-") && is_of(name, 1, "");
}

static int model_name_refuse(const char **ret_why, const char *why)
{
    *ret_why = why;
    return -EINVAL;
}

int model_name_parse(const char *text, struct model_name *ret, const char **ret_why)
{
    const char *colon = strchr(text, ':'), *rest;
    struct model_name name = {0};
    size_t n_engine, n_rest;

    if (!colon)
        return model_name_refuse(ret_why, "a model is written ENGINE:NAME, for instance ollama:qwen3:8b");
    n_engine = (size_t)(colon - text);
    rest = colon + 1;
    n_rest = strlen(rest);
    if (n_engine == 0)
        return model_name_refuse(ret_why, "the engine in front of the colon is missing");
    if (memchr(text, '/', n_engine))
        return model_name_refuse(
            ret_why, "a model is written ENGINE:NAME, with a colon behind the engine: ollama:deepseek-r1:7b");
    if (n_engine >= sizeof(name.engine) || !is_of(text, n_engine, ".-_"))
        return model_name_refuse(ret_why, "an engine's name is at most 23 letters, digits or . - _");
    if (n_rest == 0)
        return model_name_refuse(ret_why, "the model's name after the colon is missing");
    if (n_rest >= sizeof(name.rest))
        return model_name_refuse(ret_why, "the model's name is longer than 200 bytes");
    if (!is_of(rest, n_rest, "/:._-@"))
        return model_name_refuse(ret_why, "a model's name may hold letters, digits and / : . _ - @ only");
    if (*rest == '-')
        return model_name_refuse(ret_why, "a model's name does not begin with -");
    memcpy(name.engine, text, n_engine);
    memcpy(name.rest, rest, n_rest);
    *ret = name;
    return 0;
}

/* Behind what everybody leaves out. */
static const char *model_short(const char *name)
{
    static const char *const left_out[] = {"registry.ollama.ai/", "library/"};

    for (unsigned i = 0; i < ELEMENTS(left_out); i++)
        if (strncasecmp(name, left_out[i], strlen(left_out[i])) == 0)
            name += strlen(left_out[i]);
    return name;
}

/* Where the tag's colon is, or the end: a colon in front of a slash belongs to a port. */
static size_t model_tag_at(const char *name)
{
    const char *slash = strrchr(name, '/'), *colon = strchr(slash ? slash : name, ':');

    return colon ? (size_t)(colon - name) : strlen(name);
}

bool model_same(const char *a, const char *b)
{
    if (*a == '/' || *b == '/')
        return streq(a, b);
    a = model_short(a);
    b = model_short(b);
    size_t n = model_tag_at(a);
    const char *tag_a = a[n] ? a + n + 1 : "latest", *tag_b = b + model_tag_at(b);

    tag_b = *tag_b ? tag_b + 1 : "latest";
    return n == model_tag_at(b) && strncasecmp(a, b, n) == 0 && strcasecmp(tag_a, tag_b) == 0;
}

/* Only the last star is ever tried again: an earlier one could not match more than it did. */
bool glob_match(const char *pattern, const char *text)
{
    const char *star = NULL, *star_text = NULL;

    while (*text) {
        if (*pattern == '*') {
            star = ++pattern;
            star_text = text;
        } else if (*pattern == '?' || *pattern == *text) {
            pattern++;
            text++;
        } else if (star) {
            pattern = star;
            text = ++star_text;
        } else
            return false;
    }
    while (*pattern == '*')
        pattern++;
    return *pattern == '\0';
}

bool glob_is_pattern(const char *text)
{
    return strpbrk(text, "*?") != NULL;
}

#define DISTANCE_BYTES_MAX 255

/* Optimal string alignment, three rows at a time. What both ends share is cut off first, so that long names
 * with a small difference cost little. */
unsigned text_distance(const char *a, const char *b, unsigned limit)
{
    unsigned rows[3][DISTANCE_BYTES_MAX + 1];
    unsigned *above = rows[0], *row = rows[1], *older = rows[2];
    size_t n_a, n_b;

    while (*a && *a == *b)
        a++, b++;
    n_a = strlen(a);
    n_b = strlen(b);
    while (n_a > 0 && n_b > 0 && a[n_a - 1] == b[n_b - 1])
        n_a--, n_b--;
    if (MAX(n_a, n_b) - MIN(n_a, n_b) > limit || MAX(n_a, n_b) > DISTANCE_BYTES_MAX)
        return limit + 1;
    for (unsigned j = 0; j <= n_b; j++)
        above[j] = j;
    for (unsigned i = 1; i <= n_a; i++) {
        unsigned best = row[0] = i;

        for (unsigned j = 1; j <= n_b; j++) {
            unsigned d = above[j - 1] + (a[i - 1] != b[j - 1]);

            d = MIN(d, MIN(above[j], row[j - 1]) + 1);
            if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1])
                d = MIN(d, older[j - 2] + 1);
            row[j] = d;
            best = MIN(best, d);
        }
        if (best > limit + 1)
            return limit + 1;
        unsigned *spare = older;

        older = above;
        above = row;
        row = spare;
    }
    return MIN(above[n_b], limit + 1);
}

/* ---- shells and encodings ---- */

int shell_quote(struct buf *out, const char *word)
{
    size_t len = out->len;
    int r;

    if (*word && is_of(word, strlen(word), "_@+:,./-"))
        return buf_add_text(out, word);
    r = buf_add_text(out, "'");
    for (; r == 0 && *word; word++)
        r = *word == '\'' ? buf_add_text(out, "'\\''") : buf_add(out, word, 1);
    if (r == 0)
        r = buf_add_text(out, "'");
    if (r < 0)
        out->len = len;
    return r;
}

/* Bytes of the character at text, or 0: not UTF-8 (RFC 3629: no detours, no surrogates, nothing above
 * U+10FFFF). */
static size_t utf8_length(const unsigned char *text, size_t n)
{
    unsigned char low = 0x80, high = 0xbf;
    size_t length;

    if (text[0] < 0x80)
        return 1;
    if (text[0] < 0xc2 || text[0] > 0xf4)
        return 0;
    length = text[0] < 0xe0 ? 2 : text[0] < 0xf0 ? 3 : 4;
    if (n < length)
        return 0;
    if (text[0] == 0xe0)
        low = 0xa0;
    else if (text[0] == 0xed)
        high = 0x9f;
    else if (text[0] == 0xf0)
        low = 0x90;
    else if (text[0] == 0xf4)
        high = 0x8f;
    if (text[1] < low || text[1] > high)
        return 0;
    for (size_t i = 2; i < length; i++)
        if ((text[i] & 0xc0) != 0x80)
            return 0;
    return length;
}

size_t utf8_valid(const char *text, size_t n)
{
    size_t i = 0, length;

    while (i < n) {
        length = utf8_length((const unsigned char *)text + i, n - i);
        if (length == 0)
            break;
        i += length;
    }
    return i;
}

int utf8_clean(struct buf *out, const char *text, size_t n, bool keep_lines)
{
    size_t len = out->len;
    int r = 0;

    while (n > 0 && r == 0) {
        const unsigned char *c = (const unsigned char *)text;
        size_t length = utf8_length(c, n);
        bool keep = c[0] == '\n' && keep_lines;

        if (length == 0)
            r = buf_add_text(out, "\xef\xbf\xbd");
        else if (!keep && (c[0] < 0x20 || c[0] == 0x7f || (c[0] == 0xc2 && c[1] < 0xa0)))
            r = buf_add(out, " ", 1);
        else
            r = buf_add(out, text, length);
        text += MAX(length, 1);
        n -= MAX(length, 1);
    }
    if (r < 0)
        out->len = len;
    return r;
}

static const char base64_letters[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

int base64_encode(struct buf *out, const void *data, size_t n, bool pad)
{
    const unsigned char *in = data;
    char *to;
    int r;

    if (n > SIZE_MAX / 4 * 3 - 3)
        return -ENOBUFS;
    r = buf_reserve(out, pad ? (n + 2) / 3 * 4 : n / 3 * 4 + (n % 3 ? n % 3 + 1 : 0), &to);
    if (r < 0)
        return r;
    for (size_t i = 0; i < n; i += 3) {
        unsigned bits = (unsigned)in[i] << 16;
        size_t some = MIN(n - i, 3);

        bits |= some > 1 ? (unsigned)in[i + 1] << 8 : 0;
        bits |= some > 2 ? in[i + 2] : 0;
        for (size_t k = 0; k < 4; k++, bits <<= 6)
            if (k <= some)
                *to++ = base64_letters[bits >> 18 & 63];
            else if (pad)
                *to++ = '=';
    }
    buf_grew(out, (size_t)(to - (out->data + out->len)));
    return 0;
}

/* Padding is all there or not there at all. */
static int base64_strip(const char *text, size_t *n)
{
    size_t padding = 0;

    while (padding < *n && text[*n - 1 - padding] == '=')
        padding++;
    if (padding > 2 || (padding > 0 && *n % 4 != 0))
        return -EBADMSG;
    *n -= padding;
    return *n % 4 == 1 ? -EBADMSG : 0;
}

int base64_decode(struct buf *out, const char *text, size_t n)
{
    unsigned bits = 0, n_bits = 0;
    char *to, *end;
    int r = base64_strip(text, &n);

    if (r < 0)
        return r;
    r = buf_reserve(out, n / 4 * 3 + (n % 4 ? n % 4 - 1 : 0), &to);
    if (r < 0)
        return r;
    end = to;
    for (size_t i = 0; i < n; i++) {
        const char *letter = text[i] ? strchr(base64_letters, text[i]) : NULL;

        if (!letter)
            return -EBADMSG;
        bits = (bits << 6 | (unsigned)(letter - base64_letters)) & 0xffff;
        n_bits += 6;
        if (n_bits >= 8) {
            n_bits -= 8;
            *end++ = (char)(bits >> n_bits);
        }
    }
    if (bits & ((1u << n_bits) - 1)) /* bits left over must be zero, or two texts would mean the same */
        return -EBADMSG;
    buf_grew(out, (size_t)(end - to));
    return 0;
}

/* ---- instants ---- */

/* Exactly n digits. */
static int digits_take(const char **p, unsigned n, int *ret)
{
    int value = 0;

    for (; n > 0; n--, (*p)++) {
        if (!is_digit(**p))
            return -EINVAL;
        value = value * 10 + (**p - '0');
    }
    *ret = value;
    return 0;
}

static int letter_take(const char **p, const char *letters)
{
    if (!**p || !strchr(letters, **p))
        return -EINVAL;
    (*p)++;
    return 0;
}

/* ".123456789", if it is there: milliseconds. */
static int fraction_take(const char **p, int *ret_ms)
{
    int ms = 0, n = 0;

    if (**p != '.') {
        *ret_ms = 0;
        return 0;
    }
    for ((*p)++; is_digit(**p); (*p)++, n++)
        if (n < 3)
            ms = ms * 10 + (**p - '0');
    if (n < 1 || n > 9)
        return -EINVAL;
    for (; n < 3; n++)
        ms *= 10;
    *ret_ms = ms;
    return 0;
}

static int offset_take(const char **p, int *ret_minutes)
{
    int hours, minutes, sign = **p == '-' ? -1 : 1, r;

    if (**p == 'Z' || **p == 'z') {
        (*p)++;
        *ret_minutes = 0;
        return 0;
    }
    r = letter_take(p, "+-");
    if (r < 0 || (r = digits_take(p, 2, &hours)) < 0 || (r = letter_take(p, ":")) < 0 ||
        (r = digits_take(p, 2, &minutes)) < 0)
        return r;
    if (hours > 23 || minutes > 59)
        return -EINVAL;
    *ret_minutes = sign * (hours * 60 + minutes);
    return 0;
}

int rfc3339_parse(const char *text, int64_t *ret_at_ms)
{
    struct tm tm = {0};
    int year, month, day, second, ms, offset, r;
    time_t t;

    if ((r = digits_take(&text, 4, &year)) < 0 || (r = letter_take(&text, "-")) < 0 ||
        (r = digits_take(&text, 2, &month)) < 0 || (r = letter_take(&text, "-")) < 0 ||
        (r = digits_take(&text, 2, &day)) < 0 || (r = letter_take(&text, "Tt")) < 0 ||
        (r = digits_take(&text, 2, &tm.tm_hour)) < 0 || (r = letter_take(&text, ":")) < 0 ||
        (r = digits_take(&text, 2, &tm.tm_min)) < 0 || (r = letter_take(&text, ":")) < 0 ||
        (r = digits_take(&text, 2, &second)) < 0 || (r = fraction_take(&text, &ms)) < 0 ||
        (r = offset_take(&text, &offset)) < 0)
        return r;
    if (*text || month < 1 || month > 12 || day < 1 || tm.tm_hour > 23 || tm.tm_min > 59 || second > 60)
        return -EINVAL;
    tm.tm_year = year - 1900;
    tm.tm_mon = month - 1;
    tm.tm_mday = 1;
    t = timegm(&tm) + (day - 1) * 86400;
    if (!gmtime_r(&t, &tm) || tm.tm_mon != month - 1)
        return -EINVAL; /* February 30 */
    *ret_at_ms = ((int64_t)t + second - offset * 60) * 1000 + ms;
    return 0;
}

const char *rfc3339_format(char out[static TEXT_SHORT_MAX], int64_t at_ms)
{
    int64_t ms = at_ms % 1000 < 0 ? at_ms % 1000 + 1000 : at_ms % 1000;
    time_t t = (time_t)(at_ms / 1000 - (at_ms % 1000 < 0));
    struct tm tm;
    size_t n;

    if (!gmtime_r(&t, &tm) || tm.tm_year < -1900 || tm.tm_year > 9999 - 1900) {
        snprintf(out, TEXT_SHORT_MAX, "?");
        return out;
    }
    n = (size_t)snprintf(out, TEXT_SHORT_MAX, "%04d-%02d-%02dT%02d:%02d:%02d", tm.tm_year + 1900,
                         tm.tm_mon + 1, tm.tm_mday, tm.tm_hour, tm.tm_min, tm.tm_sec);
    if (n >= TEXT_SHORT_MAX)
        n = TEXT_SHORT_MAX - 1;
    if (ms)
        snprintf(out + n, TEXT_SHORT_MAX - n, ".%03dZ", (int)ms);
    else
        snprintf(out + n, TEXT_SHORT_MAX - n, "Z");
    return out;
}
