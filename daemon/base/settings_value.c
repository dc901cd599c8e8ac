/* What a value may be. Each judges one kind; what it takes stands beside it in the table of settings.c. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/event.h"
#include "base/settings_private.h"
#include "proto/address.h"
#include "proto/mem.h"
#include "proto/text.h"

bool value_is_duration(const char *value, const struct known *k)
{
    uint64_t ms;

    return duration_parse(value, &ms) == 0 && ms <= k->most_ms;
}

/* None at all makes no sense. */
bool value_is_span(const char *value, const struct known *k)
{
    uint64_t ms;

    return value_is_duration(value, k) && duration_parse(value, &ms) == 0 && ms > 0;
}

int value_parse_bool(const char *value)
{
    static const char *const words[] = {"off", "on", "no", "yes", "false", "true"};

    for (unsigned i = 0; i < ELEMENTS(words); i++)
        if (strcasecmp(value, words[i]) == 0)
            return (int)(i % 2);
    return -1;
}

bool value_is_bool(const char *value, const struct known *k)
{
    (void)k;
    return value_parse_bool(value) >= 0;
}

int value_parse_percent(const char *value)
{
    size_t n = strspn(value, "0123456789");
    int percent = n == 1 || n == 2 ? atoi(value) : -1;

    return value[n] && !streq(value + n, "%") ? -1 : percent;
}

bool value_is_percent(const char *value, const struct known *k)
{
    (void)k;
    return value_parse_percent(value) >= 0;
}

bool value_is_listen(const char *value, const struct known *k)
{
    char ip[IP_TEXT_MAX];
    uint16_t port;

    (void)k;
    return ip_port_parse(value, ip, &port) == 0;
}

/* Every word, between blanks, starts with one of its letters and holds only these. */
static bool all_words(const char *value, bool (*is_word)(const char *word, size_t n))
{
    size_t n;

    for (value += strspn(value, " \t"); *value; value += strspn(value, " \t")) {
        n = strcspn(value, " \t");
        if (!is_word(value, n))
            return false;
        value += n;
    }
    return true;
}

static bool is_host_name(const char *word, size_t n)
{
    static const char letters[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-_";

    return n > 0 && n < 254 && strspn(word, letters) >= n && word[0] != '.' && word[0] != '-';
}

static bool is_origin(const char *word, size_t n)
{
    size_t scheme = strncmp(word, "https://", 8) == 0 ? 8 : strncmp(word, "http://", 7) == 0 ? 7 : 0;

    return scheme && n > scheme && strcspn(word + scheme, "/?#@,\"") >= n - scheme;
}

bool value_is_hosts(const char *value, const struct known *k)
{
    (void)k;
    return all_words(value, is_host_name);
}

bool value_is_origins(const char *value, const struct known *k)
{
    (void)k;
    return all_words(value, is_origin);
}

bool value_is_level(const char *value, const struct known *k)
{
    static const char *const levels[] = {"err", "warning", "notice", "info", "debug"};

    (void)k;
    for (unsigned i = 0; i < ELEMENTS(levels); i++)
        if (streq(value, levels[i]))
            return true;
    return false;
}

bool value_is_path(const char *value, const struct known *k)
{
    (void)k;
    return value[0] == '/';
}

bool value_is_path_there(const char *value, const struct known *k)
{
    return value_is_path(value, k) || (strncmp(value, "~/", 2) == 0 && value[2]);
}

bool value_is_version(const char *value, const struct known *k)
{
    (void)k;
    return value[strspn(value, "0123456789abcdefghijklmnopqrstuvwxyz.-")] == '\0' && strlen(value) < 24;
}

bool value_is_source(const char *value, const struct known *k)
{
    (void)k;
    return streq(value, "auto") || streq(value, "box") || streq(value, "upload");
}

bool value_is_mirror(const char *value, const struct known *k)
{
    (void)k;
    return (strncmp(value, "https://", 8) == 0 || strncmp(value, "http://", 7) == 0) && strlen(value) < 300 &&
           !strpbrk(value, " \t'\"");
}

/* No path: what is asked there has paths of its own. */
bool value_is_hub(const char *value, const struct known *k)
{
    const char *host = strstr(value, "://");
    size_t n =
        host ? strspn(host + 3, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-:") : 0;

    return value_is_mirror(value, k) && n && (!host[3 + n] || streq(host + 3 + n, "/"));
}

bool value_find_unknown_kind(const char *value, char *ret, size_t n)
{
    for (value += strspn(value, EVENT_BETWEEN); *value; value += strspn(value, EVENT_BETWEEN)) {
        size_t len = strcspn(value, EVENT_BETWEEN);

        snprintf(ret, n, "%.*s", (int)len, value);
        if (!streq(ret, "all") && !event_is_known(ret))
            return true;
        value += len;
    }
    return false;
}

bool value_is_kinds(const char *value, const struct known *k)
{
    char kind[64];

    (void)k;
    return !value_find_unknown_kind(value, kind, sizeof kind);
}
