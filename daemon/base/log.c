/* The ring is one block of memory with records one behind the other; a record is never split, so a little
 * stays unused where the ring turns over. It holds [first, next) or, once turned over, [first, turn) and [0,
 * next). Everything here belongs to the loop's thread. */
#include "base/log.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/outlet.h"
#include "proto/buf.h"
#include "proto/mem.h"
#include "proto/text.h"

#define RING_BYTES       ((size_t)4 << 20)
#define TEXT_BYTES_MAX   4096
#define TARGET_BYTES_MAX 256
#define JOURNALD         "/run/systemd/journal/socket"

struct record {
    uint32_t size;         /* of the whole record, a multiple of 8 */
    uint16_t target_bytes; /* of target with its NUL; the text stands behind it, with its own */
    uint8_t level, source;
    uint64_t number;
    int64_t at_ms;
    char target[];
};

static struct {
    enum log_level most;
    struct outlet *outlet; /* NULL before the first line */
    uint64_t next_number;
    struct log_follower *followers;
    bool telling;

    char *ring; /* NULL before log_open() */
    size_t first, next, turn;
    uint64_t n; /* records held */
    uint64_t
        seen_number; /* where the last reader was, so that followers need not start at the oldest each time */
    size_t seen_at;
} journal = {.most = LOG_LEVEL_INFO};

static const char *const source_names[] = {
    [LOG_DAEMON] = "daemon",   [LOG_SESSION] = "session",   [LOG_ENGINE] = "engine",
    [LOG_REQUEST] = "request", [LOG_PROVIDER] = "provider",
};

static const char *const level_names[] = {
    [LOG_LEVEL_ERR] = "err",   [LOG_LEVEL_WARNING] = "warning", [LOG_LEVEL_NOTICE] = "notice",
    [LOG_LEVEL_INFO] = "info", [LOG_LEVEL_DEBUG] = "debug",
};

const char *log_source_name(enum log_source s)
{
    return (unsigned)s < ELEMENTS(source_names) ? source_names[s] : "?";
}

const char *log_level_name(enum log_level l)
{
    return (unsigned)l < ELEMENTS(level_names) && level_names[l] ? level_names[l] : "?";
}

void log_open(enum log_level most)
{
    journal.most = most;
    outlet_free(journal.outlet);
    journal.outlet = outlet_new(STDERR_FILENO, JOURNALD);
    if (!journal.ring)
        journal.ring = xalloc(RING_BYTES);
}

bool log_wants(enum log_level level)
{
    return level <= journal.most;
}

void log_close(void)
{
    free(journal.ring);
    journal.ring = NULL;
    journal.first = journal.next = journal.turn = 0;
    journal.n = 0;
    journal.outlet = outlet_free(journal.outlet);
}

static struct record *record_at(size_t at)
{
    return (struct record *)(void *)(journal.ring + at);
}

static size_t after(size_t at)
{
    at += record_at(at)->size;
    return journal.next <= journal.first && at == journal.turn ? 0 : at;
}

static void ring_evict(void)
{
    journal.first = after(journal.first);
    journal.n--;
}

static void ring_make_room(size_t need)
{
    while (journal.n > 0) {
        if (journal.first < journal.next) {
            if (RING_BYTES - journal.next >= need)
                return;
            journal.turn = journal.next;
            journal.next = 0;
        } else if (journal.first - journal.next >= need) {
            return;
        } else {
            ring_evict();
        }
    }
    journal.first = journal.next = 0;
}

static void ring_add(const struct log_entry *e)
{
    size_t target_bytes = strlen(e->target) + 1, text_bytes = strlen(e->text) + 1;
    size_t need = (sizeof(struct record) + target_bytes + text_bytes + 7) / 8 * 8;
    struct record *r;

    if (!journal.ring)
        return;
    ring_make_room(need);
    r = record_at(journal.next);
    r->size = (uint32_t)need;
    r->target_bytes = (uint16_t)target_bytes;
    r->level = (uint8_t)e->level;
    r->source = (uint8_t)e->source;
    r->number = e->number;
    r->at_ms = e->at_ms;
    memcpy(r->target, e->target, target_bytes);
    memcpy(r->target + target_bytes, e->text, text_bytes);
    journal.next += need;
    journal.n++;
}

/* The place of line number, which the ring must hold. */
static size_t ring_find(uint64_t number)
{
    uint64_t oldest = journal.next_number - journal.n;
    bool from_seen = journal.seen_number >= oldest && journal.seen_number <= number;
    uint64_t at_number = from_seen ? journal.seen_number : oldest;
    size_t at = from_seen ? journal.seen_at : journal.first;

    for (; at_number < number; at_number++)
        at = after(at);
    journal.seen_number = number;
    journal.seen_at = at;
    return at;
}

/* Each line is copied out: see() may log, which may overwrite the oldest. */
void log_read(uint64_t from, bool (*see)(void *ctx, const struct log_entry *e), void *ctx)
{
    uint64_t end = journal.next_number; /* what see() itself logs is for the next reading */

    for (uint64_t number = from; journal.n > 0 && number < end; number++) {
        char text[TEXT_BYTES_MAX], target[TARGET_BYTES_MAX];
        const struct record *r;
        struct log_entry e;

        number = MAX(number, journal.next_number - journal.n);
        if (number >= end)
            return;
        r = record_at(ring_find(number));
        strcpy(target, r->target);
        strcpy(text, r->target + r->target_bytes);
        e = (struct log_entry){r->number, r->at_ms, r->level, r->source, target, text, NULL, NULL};
        if (!see(ctx, &e))
            return;
    }
}

uint64_t log_next_number(void)
{
    return journal.next_number;
}

/* Into out, which holds n bytes: one line of valid UTF-8, cut between characters. */
static void clean(char *out, size_t n, const char *raw)
{
    struct buf b;
    size_t len;

    buf_init(&b, 4 * TEXT_BYTES_MAX);
    if (utf8_clean(&b, raw, strlen(raw), false) < 0)
        buf_clear(&b);
    len = MIN(b.len, n - 1);
    if (len > 0) {
        len = utf8_valid(b.data, len);
        memcpy(out, b.data, len);
    }
    out[len] = '\0';
    buf_done(&b);
}

/* A follower that logs is not told of its own line: it will read up to the end anyway. */
static void tell_followers(void)
{
    if (journal.telling)
        return;
    journal.telling = true;
    for (struct log_follower *f = journal.followers, *next; f; f = next) {
        next = f->next;
        f->added(f->ctx);
    }
    journal.telling = false;
}

static void add_line(struct log_entry *e, const char *target, const char *raw)
{
    char text[TEXT_BYTES_MAX], name[TARGET_BYTES_MAX];

    clean(text, sizeof(text), raw);
    clean(name, sizeof(name), target ? target : "");
    e->text = text;
    e->target = name;
    e->at_ms = clock_wall_ms();
    e->number = journal.next_number;
    ring_add(e);
    journal.next_number++;
    if (!journal.outlet)
        journal.outlet = outlet_new(STDERR_FILENO, NULL);
    outlet_write(journal.outlet, e);
    tell_followers();
}

void log_line(enum log_level level, enum log_source source, const char *target, const char *format, ...)
{
    struct log_entry e = {.level = level, .source = source};
    char raw[TEXT_BYTES_MAX];
    va_list args;

    if (level > journal.most)
        return;
    va_start(args, format);
    vsnprintf(raw, sizeof(raw), format, args);
    va_end(args);
    add_line(&e, target, raw);
}

void log_event(enum log_level level, enum log_source source, const char *target, const char *event,
               const char *message_id, const char *text)
{
    struct log_entry e = {.level = level, .source = source, .event = event, .message_id = message_id};

    if (level <= journal.most)
        add_line(&e, target, text);
}

void log_follow(struct log_follower *f)
{
    f->next = journal.followers;
    journal.followers = f;
}

void log_unfollow(struct log_follower *f)
{
    for (struct log_follower **at = &journal.followers; *at; at = &(*at)->next)
        if (*at == f) {
            *at = f->next;
            return;
        }
}
