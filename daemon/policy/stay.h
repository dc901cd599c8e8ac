/* How long a rented machine stays on. Pure: facts and the time are handed in. Instants are of the loop's clock, 0: never.
 *
 * It is on while a model on it is wanted in memory or on its way there, and stop_ms after the last use; at least min_up_ms after it came up; for
 * failed_hold_ms after a model failed, so that somebody can look. It goes off although a model is in use when max_up_ms have passed since the last
 * `up`, `keep` or request; a limit of money drains for 2 min, then stops. What is no request of a model (a forward, a login, a card that computes) keeps it up for
 * quiet_hold_ms after the last request or command at most. What is unknown is a reason to stay only until then. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#define STAY_NEVER      UINT64_MAX
#define STAY_DRAIN_MS   (2 * 60 * 1000)

struct stay_rule {
    uint64_t stop_ms, min_up_ms, max_up_ms, quiet_hold_ms, failed_hold_ms;      /* [idle]; stop_ms 0: it is never stopped for being idle */
};

struct stay_facts {
    bool wanted;                /* a model on it is on its way to memory, or has requests, or is kept */
    bool in_memory;             /* a model on it is ready or draining */
    bool any_goal;              /* a model on it is wanted at all (on_demand, on); false: `down` */
    bool asleep_by_word;        /* all that are wanted were put to sleep by somebody (`sleep`): no reason to wait */
    uint64_t prepaid_until_due; /* its time is paid for until then, and idle stops nothing; 0: it is billed */
    uint64_t on_due;            /* since when it is on */
    uint64_t used_due;          /* the end of the last request, `up`, `keep` */
    uint64_t begun_due;         /* this daemon's start, if there was none since, and it was on then; 0: not so */
    uint64_t before_ms;         /* the last one was so long before that */
    uint64_t failed_due;        /* a model failed then, and none is wanted otherwise; 0: no */
    uint64_t quiet_due;         /* the last sign of other use: bytes of a forward, of a login, a card that computes; 0: none */
    uint64_t hold_until_due;    /* `keep INSTANCE`; 0: none */
    uint64_t money_due;         /* since when a limit is reached; 0: none is */
};

enum stay_verdict {
    STAY_ON,
    STAY_DRAIN,                 /* models are to sleep now, then it goes off */
    STAY_OFF,
};
enum stay_reason {              /* why it is on, or why it goes off: Cause.cause of the contract */
    STAY_REQUESTS,              /* "in_use" */
    STAY_KEPT,                  /* "kept" */
    STAY_MINIMUM_UP,            /* "minimum_up" */
    STAY_IDLE,                  /* "idle" */
    STAY_FAILED_HOLD,           /* "failed_hold" */
    STAY_QUIET_USE,             /* "quiet_use" */
    STAY_MAX_UP,                /* "max_up" */
    STAY_MONEY,                 /* "budget" */
    STAY_UNWANTED,              /* "stopped_by_user" */
    STAY_SLEEPS,                /* "asleep" */
    STAY_PREPAID,               /* "prepaid" */
};
struct stay {
    enum stay_verdict verdict;
    enum stay_reason reason;
    uint64_t until_due;         /* when this verdict may change by time alone; STAY_NEVER */
};
struct stay stay_judge(const struct stay_rule *rule, const struct stay_facts *facts, uint64_t now);
uint64_t stay_max_due(const struct stay_rule *rule, const struct stay_facts *facts);  /* when max_up is over */
const char *stay_reason_name(enum stay_reason r);
