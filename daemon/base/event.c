/* The listeners are a plain list. Who is being told may leave, and so may the one who would be next: each
 * round of telling keeps its next listener where event_unlisten() can find it. */
#include "base/event.h"

#include <stdarg.h>
#include <stdio.h>

#include "base/clock.h"
#include "proto/mem.h"

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
    log_line(level, source, target, "%s", text);
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
