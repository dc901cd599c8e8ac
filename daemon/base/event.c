/* The listeners are a plain list. Who is being told may leave, and so may the one who would be next: each
 * round of telling keeps its next listener where event_unlisten() can find it. */
#include "base/event.h"

#include <stdarg.h>
#include <stdio.h>

#include "base/clock.h"
#include "proto/mem.h"
#include "proto/text.h"

#define TEXT_BYTES_MAX 1024

struct round {
    struct event_listener *next;
    struct round *outer; /* the round in whose heard() this one was published */
};

static struct event_listener *listeners;
static struct round *rounds;

static void tell(const struct event *e)
{
    struct round round = {.next = listeners, .outer = rounds};

    rounds = &round;
    while (round.next) {
        struct event_listener *l = round.next;

        round.next = l->next;
        l->heard(l->ctx, e);
    }
    rounds = round.outer;
}

/* As in llmhostd(8), EVENTS. */
// clang-format off
static const char *const known[] = {
    "started", "instance_added", "instance_changed", "instance_removed", "tunnel_up", "tunnel_lost",
    "tunnel_restored", "tunnel_refused", "ready", "off", "failed", "asleep", "keep_over", "engine_lost",
    "price", "no_guard", "no_way", "power_on", "power_off", "over_budget", "search_over", "released", "budget",
    "budget_month", "budget_hour", "budget_near", "clock_off", "low_balance", "stopped_elsewhere",
    "started_late", "stop_not_confirmed", "provider_removed", "other_owner", "port_taken", "port_free",
    "state_not_written", "state_written", "released_soon", "vanished", "machine_gone",
    "two_machines", "orphan", "orphan_ended", "token_refused", "hook_ran", "hook_failed",
};
// clang-format on

const char *event_kind_at(unsigned i)
{
    return i < ELEMENTS(known) ? known[i] : NULL;
}

bool event_is_known(const char *kind)
{
    for (size_t i = 0; i < ELEMENTS(known); i++)
        if (streq(known[i], kind))
            return true;
    return false;
}

const char *event_nearest(const char *kind)
{
    unsigned limit = 1 + (unsigned)strlen(kind) / 3, best = limit + 1;
    const char *found = NULL;

    for (size_t i = 0; i < ELEMENTS(known); i++) {
        unsigned distance = text_distance(kind, known[i], limit);

        if (distance < best) {
            best = distance;
            found = known[i];
        }
    }
    return found;
}

bool event_is_in(const char *kinds, const char *kind)
{
    for (kinds += strspn(kinds, EVENT_BETWEEN); *kinds; kinds += strspn(kinds, EVENT_BETWEEN)) {
        size_t n = strcspn(kinds, EVENT_BETWEEN);

        if ((n == strlen(kind) && strncmp(kinds, kind, n) == 0) || (n == 3 && strncmp(kinds, "all", 3) == 0))
            return true;
        kinds += n;
    }
    return false;
}

/* Those that page someone; each has its page in units/llmhostd.catalog. The ids
 * are random, and never change. */
const char *event_message_id(const char *kind)
{
    static const struct {
        const char *kind, *id;
    } paging[] = {
        {"tunnel_refused", "9e74f9c2a39049b0ac8b849b503c75f3"},
        {"failed", "bcd6aa4380d6480dbf99f9e02e203a47"},
        {"port_taken", "fc4207f9021b4c659039c098e9adfc07"},
        {"state_not_written", "c85cd250d1fe46fc8d8640fa83e600c1"},
        {"stop_not_confirmed", "e1ba02433d6c443898edfb02d81a1b7d"},
        {"no_guard", "bc2264de72bc459dad2709f60b5f7f04"},
    };

    for (size_t i = 0; i < ELEMENTS(paging); i++)
        if (streq(paging[i].kind, kind))
            return paging[i].id;
    return NULL;
}

void event_publish(enum log_level level, enum log_source source, const char *target, const char *kind,
                   const char *format, ...)
{
    char text[TEXT_BYTES_MAX];
    struct event e = {.level = level, .source = source, .target = target, .kind = kind, .text = text};
    va_list args;

    va_start(args, format);
    vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    e.at_ms = clock_wall_ms();
    log_event(level, source, target, kind, event_message_id(kind), text);
    tell(&e);
}

/* At the end: listeners hear in the order in which they came. */
void event_listen(struct event_listener *l)
{
    struct event_listener **at = &listeners;

    while (*at)
        at = &(*at)->next;
    l->next = NULL;
    *at = l;
}

void event_unlisten(struct event_listener *l)
{
    struct event_listener **at = &listeners;

    while (*at && *at != l)
        at = &(*at)->next;
    if (!*at)
        return;
    for (struct round *r = rounds; r; r = r->outer)
        if (r->next == l)
            r->next = l->next;
    *at = l->next;
}
