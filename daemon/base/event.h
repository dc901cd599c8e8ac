/* Events: changes that people want to know of later ("ready", "tunnel_restored"). Published by the object that knows the story,
 * heard by Watch, the database and hooks; each is also a line of the log. */
#pragma once

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

void event_publish(enum log_level level, enum log_source source, const char *target, const char *kind, const char *format, ...)
    __attribute__((format(printf, 5, 6)));
const char *event_message_id(const char *kind);     /* of its page in the journal's catalog; NULL: it has none */
void event_listen(struct event_listener *l);
void event_unlisten(struct event_listener *l);
