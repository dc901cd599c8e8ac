/* Events: changes that people want to know of later ("ready", "tunnel_restored"). Published by the object that knows the story,
 * heard by Watch, the database and hooks; each is also a line of the log. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/log.h"

struct event {
    int64_t at_ms;
    enum log_level level;
    enum log_source source;
    const char *target;     /* model or instance, NULL: the daemon */
    const char *kind;       /* snake_case word, documented in llmhostd(8) */
    const char *text;
};

struct event_listener {
    void (*heard)(void *ctx, const struct event *e);        /* from inside event_publish(): queue work and return */
    void *ctx;
    struct event_listener *next;
};

/* Those that cost somebody money, work or data while nobody looks: what [hook.NAME] runs for unless it says otherwise. */
#define EVENT_KINDS_PAGING                                                                                                       \
    "stop_not_confirmed, no_guard, two_machines, orphan, over_budget, budget, budget_month, low_balance, released_soon, vanished, token_refused, "     \
    "tunnel_refused, failed, state_not_written"
#define EVENT_BETWEEN " \t," /* between kinds in a list of them */

void event_publish(enum log_level level, enum log_source source, const char *target, const char *kind, const char *format, ...)
    __attribute__((format(printf, 5, 6)));
const char *event_message_id(const char *kind);     /* of its page in the journal's catalog; NULL: it has none */
const char *event_kind_at(unsigned i);      /* all there are; NULL beyond the last */
bool event_is_known(const char *kind);
const char *event_nearest(const char *kind);        /* the known one that looks most like it; NULL: none does */
bool event_is_in(const char *kinds, const char *kind);      /* kinds: a list as above, or "all" */
void event_listen(struct event_listener *l);
void event_unlisten(struct event_listener *l);
