/* Lines for people: to the journal or stderr (outlet.h) and into a ring of 4 MiB that `llmhostctl logs` reads. One line per event, with
 * the object's name in front. Tokens, keys and request bodies never come here, at any level. Of the loop's thread alone; before
 * log_open() lines go to stderr only. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum log_level { LOG_LEVEL_ERR = 3, LOG_LEVEL_WARNING = 4, LOG_LEVEL_NOTICE = 5, LOG_LEVEL_INFO = 6, LOG_LEVEL_DEBUG = 7 };

/* Who speaks; shown in its own column. */
enum log_source { LOG_DAEMON, LOG_SESSION, LOG_ENGINE, LOG_REQUEST, LOG_PROVIDER };

void log_open(enum log_level most);         /* what is above goes nowhere; journal when stderr is one, else plain text */
bool log_wants(enum log_level level);       /* whether it would go anywhere: before costly words are made */
void log_close(void);                       /* frees the ring */

/* target: the model or instance the line is about, NULL: none. */
void log_line(enum log_level level, enum log_source source, const char *target, const char *format, ...)
    __attribute__((format(printf, 4, 5)));
/* Shorter, for the daemon's own lines. */
#define log_err(target, ...)     log_line(LOG_LEVEL_ERR, LOG_DAEMON, target, __VA_ARGS__)
#define log_warning(target, ...) log_line(LOG_LEVEL_WARNING, LOG_DAEMON, target, __VA_ARGS__)
#define log_notice(target, ...)  log_line(LOG_LEVEL_NOTICE, LOG_DAEMON, target, __VA_ARGS__)
#define log_info(target, ...)    log_line(LOG_LEVEL_INFO, LOG_DAEMON, target, __VA_ARGS__)
#define log_debug(target, ...)   log_line(LOG_LEVEL_DEBUG, LOG_DAEMON, target, __VA_ARGS__)

/* A line that is an event: the journal learns its kind, and which page of its catalog explains it (NULL: none). */
void log_event(enum log_level level, enum log_source source, const char *target, const char *event, const char *message_id,
               const char *text);

struct log_entry {
    uint64_t number;        /* counts all lines ever written */
    int64_t at_ms;
    enum log_level level;
    enum log_source source;
    const char *target;     /* "" when none */
    const char *text;
    const char *event, *message_id;     /* as given to log_event(), not kept in the ring */
};

/* The ring, oldest first: calls see() for each line with a number >= from until it returns false. Pointers last for the call. */
void log_read(uint64_t from, bool (*see)(void *ctx, const struct log_entry *e), void *ctx);
uint64_t log_next_number(void);
const char *log_source_name(enum log_source s);
const char *log_level_name(enum log_level l);

/* Followers: told after each line, from log_line() itself; they queue work and return. */
struct log_follower {
    void (*added)(void *ctx);
    void *ctx;
    struct log_follower *next;
};
void log_follow(struct log_follower *f);
void log_unfollow(struct log_follower *f);
