/* Line by line: sections open entries, keys fill them, and an entry is judged when the next one opens. What
 * ends up in the words of a script or in a file's name may only hold letters that mean nothing there. */
#include "engine/catalog.h"

#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <string.h>

#include "proto/mem.h"

#define LETTERS "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"

/* Copies a word that holds only these letters and begins with one that is not a sign. */
static int take_word(char *to, size_t size, const char *value, const char *signs)
{
    char allowed[120];

    snprintf(allowed, sizeof allowed, LETTERS "%s", signs);
    if (!isalnum((unsigned char)value[0]) || value[strspn(value, allowed)] || strlen(value) >= size)
        return -EINVAL;
    strcpy(to, value);
    return 0;
}

static int take_number(int64_t *to, const char *value)
{
    if (!*value || value[strspn(value, "0123456789")] || strlen(value) > 15)
        return -EINVAL;
    *to = strtoll(value, NULL, 10);
    return *to > 0 ? 0 : -EINVAL;
}

static bool ends_with(const char *text, const char *end)
{
    size_t n = strlen(text), m = strlen(end);

    return n >= m && streq(text + n - m, end);
}

static int take_url(struct catalog_entry *e, const char *value)
{
    e->is_zst = ends_with(value, ".tar.zst");
    if (strncmp(value, "https://", 8) != 0 && strncmp(value, "http://", 7) != 0)
        return -EINVAL;
    if (!e->is_zst && !ends_with(value, ".tgz"))
        return -EINVAL;
    return take_word(e->url, sizeof e->url, value, ":/.-_~%+=&?@,");
}

static int take_sha256(struct catalog_entry *e, const char *value)
{
    if (strlen(value) != 64 || strspn(value, "0123456789abcdef") != 64)
        return -EINVAL;
    strcpy(e->sha256, value);
    return 0;
}

/* Relative, and nowhere upwards. */
static int take_tree(struct catalog_entry *e, const char *value)
{
    return strstr(value, "..") ? -EINVAL : take_word(e->tree, sizeof e->tree, value, " /._-");
}

static int take_value(struct catalog_entry *e, const char *key, const char *value)
{
    if (streq(key, "url"))
        return take_url(e, value);
    if (streq(key, "sha256"))
        return take_sha256(e, value);
    if (streq(key, "tree"))
        return take_tree(e, value);
    if (streq(key, "bytes"))
        return take_number(&e->bytes, value);
    if (streq(key, "at_most"))
        return take_number(&e->at_most, value);
    if (streq(key, "unpacked"))
        return take_number(&e->unpacked, value);
    return -ENOENT;
}

/* "[ENGINE VERSION ARCHITECTURE]" without its brackets. */
static int take_section(struct catalog_entry *e, char *section)
{
    char *save = NULL, *words[3];

    for (unsigned i = 0; i < 3; i++)
        if (!(words[i] = strtok_r(i ? NULL : section, " \t", &save)))
            return -EINVAL;
    if (strtok_r(NULL, " \t", &save) || take_word(e->engine, sizeof e->engine, words[0], ".-") < 0 ||
        take_word(e->version, sizeof e->version, words[1], ".-") < 0 ||
        take_word(e->arch, sizeof e->arch, words[2], "_") < 0)
        return -EINVAL;
    return 0;
}

/* NULL: it is whole. */
static const char *judge(struct catalog_entry *e)
{
    if (!*e->url)
        return "url is missing";
    if (!*e->tree)
        return "tree is missing";
    if (e->bytes < 0 && e->at_most < 0)
        return "bytes or at_most is missing";
    if (e->bytes > 0)
        e->at_most = e->bytes;
    if (e->unpacked < 0)
        e->unpacked = 2 * e->at_most;
    return NULL;
}

static int complain(char **ret_why, unsigned line, const char *why, const char *what)
{
    *ret_why = xasprintf("line %u: %s%s%.60s", line, why, *what ? ": " : "", what);
    return -EINVAL;
}

static char *trim(char *text)
{
    text += strspn(text, " \t\r");
    for (size_t n = strlen(text); n && strchr(" \t\r", text[n - 1]); n--)
        text[n - 1] = '\0';
    return text;
}

static int parse_section(struct catalog *c, char *line, unsigned number, char **ret_why)
{
    const char *why = c->n ? judge(&c->entries[c->n - 1]) : NULL;
    char *end = strchr(line, ']');

    if (why)
        return complain(ret_why, number, "the section before it is not whole", why);
    if (c->n == CATALOG_ENTRIES_MAX)
        return complain(ret_why, number, "too many sections", "");
    struct catalog_entry *e = &c->entries[c->n++];

    *e = (struct catalog_entry){.bytes = -1, .at_most = -1, .unpacked = -1};
    if (!end || end[1] || (*end = '\0', take_section(e, line + 1) < 0))
        return complain(ret_why, number, "a section is [ENGINE VERSION ARCHITECTURE]", line);
    return 0;
}

static int parse_line(struct catalog *c, char *line, unsigned number, char **ret_why)
{
    char *value = strchr(line, '=');

    if (!*line || *line == '#' || *line == ';')
        return 0;
    if (*line == '[')
        return parse_section(c, line, number, ret_why);
    if (!value || !c->n)
        return complain(ret_why, number, value ? "no section before it" : "neither a section nor KEY = VALUE",
                        line);
    *value++ = '\0';
    switch (take_value(&c->entries[c->n - 1], trim(line), trim(value))) {
    case 0: return 0;
    case -ENOENT: return complain(ret_why, number, "unknown key", trim(line));
    default: return complain(ret_why, number, "not a good value of its key", trim(value));
    }
}

int catalog_parse(const char *text, size_t n, struct catalog *ret, char **ret_why)
{
    _cleanup_free_ char *copy = n <= CATALOG_BYTES_MAX ? strndup(text, n) : NULL;
    _cleanup_free_ struct catalog *c = xnew(struct catalog);
    unsigned number = 0;
    char *rest = copy, *line;

    if (!copy || strlen(copy) != n)
        return complain(ret_why, 1, copy ? "a byte 0 in it" : "too long", "");
    while ((line = strsep(&rest, "\n"))) {
        int r = parse_line(c, trim(line), ++number, ret_why);

        if (r < 0)
            return r;
    }
    const char *why = c->n ? judge(&c->entries[c->n - 1]) : "no section in it";

    if (why)
        return complain(ret_why, number, why, "");
    *ret = *c;
    return 0;
}

bool catalog_is_version(const char *text)
{
    char version[sizeof((struct catalog_entry *)NULL)->version];

    return take_word(version, sizeof version, text, ".-") == 0;
}

const struct catalog_entry *catalog_next(const struct catalog *c, const char *engine, const char *version,
                                         const char *arch, bool can_zst, const struct catalog_entry *after)
{
    for (const struct catalog_entry *e = after ? after + 1 : c->entries; e < c->entries + c->n; e++)
        if (streq(e->engine, engine) && streq(e->arch, arch) && (!version || streq(e->version, version)) &&
            (can_zst || !e->is_zst))
            return e;
    return NULL;
}

const struct catalog_entry *catalog_pick(const struct catalog *c, const char *engine, const char *version,
                                         const char *arch, bool can_zst)
{
    return catalog_next(c, engine, version, arch, can_zst, NULL);
}
