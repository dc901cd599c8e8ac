/* A line of eighteen words. It is taken whole or not at all: each word has its kind, and a number that would
 * not fit into the guard's own arithmetic is none. */
#include "guard/record.h"

#include <errno.h>
#include <string.h>

#include "proto/mem.h"

#define DIGITS_MAX 12 /* as guard.sh takes them */
#define LINE_MAX   1024

static const char *const states[] = {"first", "lease", "acting"};
static const char *const reasons[] = {"ok", "late", "owner", "seq", "range", "boot"};
static const char *const powers[] = {"none", "sudo", "root"};

static bool read_number(const char *word, int64_t *ret)
{
    size_t n = strspn(word, "0123456789");
    int64_t value = 0;

    if (n == 0 || n > DIGITS_MAX || word[n])
        return false;
    for (size_t i = 0; i < n; i++)
        value = value * 10 + (word[i] - '0');
    *ret = value;
    return true;
}

static bool read_name(const char *word, const char *letters, char *to, size_t size)
{
    size_t n = strlen(word);

    if (n == 0 || n >= size || strspn(word, letters) != n)
        return false;
    memcpy(to, word, n + 1);
    return true;
}

#define LETTERS "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_."

static bool read_owner(const char *word, char to[static GUARD_OWNER_MAX + 1])
{
    return read_name(word, LETTERS, to, GUARD_OWNER_MAX + 1);
}

bool guard_owner_is_good(const char *owner)
{
    char copy[GUARD_OWNER_MAX + 1];

    return read_owner(owner, copy) && !streq(owner, GUARD_NOBODY);
}

static bool read_choice(const char *word, size_t n, const char *const *names, unsigned n_names, unsigned *ret)
{
    for (unsigned i = 0; i < n_names; i++)
        if (strlen(names[i]) == n && strncmp(names[i], word, n) == 0) {
            *ret = i;
            return true;
        }
    return false;
}

static bool read_state(const char *word, struct guard_record *r)
{
    unsigned i;

    if (!read_choice(word, strlen(word), states, ELEMENTS(states), &i))
        return false;
    r->state = i;
    return true;
}

/* "root:/usr/bin/shutdown,kill" */
static bool read_ways(const char *word, struct guard_record *r)
{
    size_t n = strcspn(word, ":");
    unsigned i;

    if (!read_choice(word, n, powers, ELEMENTS(powers), &i) || !word[n])
        return false;
    r->power = i;
    return read_name(word + n + 1, LETTERS "/,", r->ways, sizeof r->ways);
}

/* "ok", "no:REASON:OWNER:SEQ" */
static bool read_note(char *word, struct guard_record *r)
{
    char *reason, *owner, *seq;
    unsigned i;

    if (streq(word, "ok")) {
        r->refused = GUARD_REASON_OK;
        return true;
    }
    if (strncmp(word, "no:", 3) != 0)
        return false;
    reason = word + 3;
    owner = strchr(reason, ':');
    seq = owner ? strchr(owner + 1, ':') : NULL;
    if (!seq || !read_choice(reason, (size_t)(owner - reason), reasons, ELEMENTS(reasons), &i) ||
        i == GUARD_REASON_OK)
        return false;
    *seq = '\0';
    r->refused = i;
    return read_owner(owner + 1, r->refused_owner) && read_number(seq + 1, &r->refused_seq);
}

static bool read_words(char *const *word, struct guard_record *r)
{
    return read_name(word[1], LETTERS, r->boot, sizeof r->boot) && read_number(word[2], &r->init) &&
           read_number(word[3], &r->pid) && read_number(word[4], &r->born) &&
           read_number(word[5], &r->beat_s) && read_owner(word[6], r->owner) &&
           read_number(word[7], &r->seq) && read_number(word[8], &r->lease_s) &&
           read_number(word[9], &r->hold_s) && read_number(word[10], &r->hold_pid) &&
           read_number(word[11], &r->hold_born) && read_state(word[12], r) &&
           read_number(word[13], &r->tries) && read_number(word[14], &r->taken_s) && read_ways(word[15], r) &&
           read_note(word[16], r);
}

int guard_record_read(const char *text, size_t n, struct guard_record *ret)
{
    struct guard_record r = {};
    char line[LINE_MAX], *words[18], *save = NULL;
    size_t n_words = 0;

    while (n > 0 && (text[n - 1] == ' ' || text[n - 1] == '\n'))
        n--;
    if (n >= sizeof line || memchr(text, '\0', n) || memchr(text, '\n', n))
        return -EBADMSG;
    memcpy(line, text, n);
    line[n] = '\0';
    for (char *word = strtok_r(line, " ", &save); word; word = strtok_r(NULL, " ", &save)) {
        if (n_words == ELEMENTS(words))
            return -EBADMSG;
        words[n_words++] = word;
    }
    if (n_words == 0)
        return -EAGAIN;
    if (n_words < ELEMENTS(words)) /* the first word may itself be cut */
        return strncmp("llmhost1", words[0], n_words == 1 ? strlen(words[0]) : sizeof "llmhost1") == 0
                   ? -EAGAIN
                   : -EBADMSG;
    if (!streq(words[0], "llmhost1") || !streq(words[17], ".") || !read_words(words, &r))
        return -EBADMSG;
    *ret = r;
    return 0;
}

/* ---- Reports ---- */

static bool take_said(const char *value, struct guard_report *r)
{
    int64_t n;

    if (!read_number(value, &n))
        return false;
    /* Anything else: there was a guard.sh, but it could not do its work. */
    r->said = n <= GUARD_SAID_UNWRITABLE ? (enum guard_said)n : GUARD_SAID_NONE;
    return true;
}

static bool take_record(const char *value, struct guard_report *r)
{
    int e = guard_record_read(value, strlen(value), &r->record);

    r->has_record = e == 0;
    r->is_half = e == -EAGAIN && value[strspn(value, " ")];
    return true;
}

static bool take_line(const char *key, const char *value, struct guard_report *r)
{
    unsigned i;

    if (streq(key, "folder")) {
        if (strlen(value) < sizeof r->folder)
            strcpy(r->folder, value);
        return true;
    }
    if (streq(key, "said"))
        return take_said(value, r);
    if (streq(key, "as")) {
        if (!read_choice(value, strlen(value), powers, ELEMENTS(powers), &i))
            return false;
        r->power = i;
        return true;
    }
    if (streq(key, "record"))
        return take_record(value, r);
    if (streq(key, "now")) {
        if (!read_number(value, &r->now_s))
            r->now_s = -1;
        return true;
    }
    if (streq(key, "typed") && !read_number(value, &r->typed_s))
        r->typed_s = -1;
    return false;
}

int guard_report_read(const char *text, size_t n, struct guard_report *ret)
{
    struct guard_report r = {.said = GUARD_SAID_NONE, .power = GUARD_POWER_ROOT, .now_s = -1, .typed_s = -1};
    _cleanup_free_ char *copy = strndup(text, n);
    char *save = NULL;
    bool ours = false;

    for (char *line = copy ? strtok_r(copy, "\n", &save) : NULL; line; line = strtok_r(NULL, "\n", &save)) {
        char *value = strchr(line, '=');

        if (!value)
            continue;
        *value++ = '\0';
        if (streq(line, "ok")) {
            *ret = r;
            return 0;
        }
        ours |= take_line(line, value, &r);
    }
    return ours || !copy || !*copy ? -EAGAIN : -EBADMSG;
}

bool guard_report_is_alive(const struct guard_report *r)
{
    return r->said != GUARD_SAID_NONE && r->has_record && r->now_s >= r->record.beat_s &&
           r->now_s - r->record.beat_s <= GUARD_BEAT_S_MAX;
}
