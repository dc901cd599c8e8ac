/* What went wrong out in the world: a kind that says what may help, an errno, a sentence for people.
 * Our own errors are plain negative errno; library codes become a fault where the library was called and travel no further. */
#pragma once

#include <stdarg.h>
#include <stdbool.h>

enum fault_kind {
    FAULT_NONE,
    FAULT_TRANSIENT,    /* network, 5xx, rate limit: later is better */
    FAULT_UNCERTAIN,    /* asked, no answer: it may have happened, look before asking again */
    FAULT_EXHAUSTED,    /* no free GPU, quota, disk or memory: waiting helps, hammering does not */
    FAULT_DENIED,       /* credentials or host key refused: only the user can help */
    FAULT_GONE,         /* what we asked about does not exist (any more) */
    FAULT_INVALID,      /* a question or an answer makes no sense: a bug, or their program changed */
};

struct fault {
    enum fault_kind kind;
    int error;          /* negative errno, or 0 */
    char code[32];      /* the stable word of errors and trouble ("host_key", "engine_missing"), "" when the kind says it all */
    char text[400];     /* one sentence without a full stop, UTF-8, no secrets */
};

/* Fills f (a NULL f is allowed) and returns a negative errno that fits: error when not 0, else one made from the kind. */
int fault_set(struct fault *f, enum fault_kind kind, int error, const char *format, ...)
    __attribute__((format(printf, 4, 5)));
/* The same with a code. */
int fault_code(struct fault *f, enum fault_kind kind, const char *code, const char *format, ...)
    __attribute__((format(printf, 4, 5)));
/* Puts "WHERE: " in front of the text. */
void fault_prefix(struct fault *f, const char *where);
/* Later may be better: nothing says that it cannot work. */
static inline bool fault_may_pass(const struct fault *f)
{
    return f->kind == FAULT_TRANSIENT || f->kind == FAULT_UNCERTAIN;
}

/* "transient", "uncertain", … */
const char *fault_kind_name(enum fault_kind kind);
