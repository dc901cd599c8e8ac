/* The half of a lease that bills and has no account here: a machine rented by hand, which is switched off from inside, by its guard. Nobody can be
 * asked whether it is off, and nobody but a person switches it on. So what is said of it is what is seen from here:
 *
 *     unknown → on                        (it is reached)
 *     on → stopping → off                 (its guard took it that it is to stop the machine; then the machine went away)
 *     on → off                            (it cannot be reached, and its guard was to stop it by now: nobody renewed)
 *     off → on                            (it is reached, and its guard is of another power-on)
 *     off → stopping                      (it is reached, and is the one that was told to stop: that is an alarm, and it is told again)
 *
 * What a person does not say twice is in the database, for the daemon that comes after this one: that it was to stop, when, and in which power-on;
 * until when its guard lets it run; what it was let go without; when it was used last.
 *
 * Its guard is there before anything is started on it: put there after each login, read back, renewed while the way is open. Whether that guard
 * can end it is known once it was told to, went away and stayed away: by a drill, or because it was to stop. That the bill ended is not known. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/fault.h"

struct boxed;
struct boxed_record;
struct host;
struct keeper;
struct loop;
struct settings;
struct store;

enum boxed_state {
    BOXED_UNKNOWN,                  /* not reached since this daemon started */
    BOXED_ON,                       /* also while the way to it is lost, and its guard is not due */
    BOXED_STOPPING,                 /* to be stopped, or its guard was told so, and it was not seen to go */
    BOXED_OFF,                      /* as far as can be seen from here */
};

/* Borrowed for its life. */
struct boxed_context {
    struct loop *loop;
    struct store *store;
    const struct settings *settings;    /* [guard] */
    const char *name;                   /* of the lease */
    struct host *host;                  /* what the session leads to */
    /* From the run queue: anything that people or the manager may see. */
    void (*changed)(void *ctx);
    void *ctx;
};

/* record: as a daemon before this one left it; NULL: nothing is known. Its instance is in the database. */
struct boxed *boxed_new(const struct boxed_context *context, const struct boxed_record *record);
/* The guard goes on until its lease is over. */
struct boxed *boxed_free(struct boxed *b);

/* Told by the lease after each change of its session. */
enum boxed_way {
    BOXED_WAY_NONE,                 /* being tried, or not to be had for another reason */
    BOXED_WAY_NOBODY,               /* tried, and the machine is not there */
    BOXED_WAY_UP,
};
void boxed_on_session(struct boxed *b, enum boxed_way way);
/* Its guard is told to stop it, as soon as it is reached and again until it is gone. Not where the guard is another llmhostd's. */
void boxed_stop(struct boxed *b);
/* Likewise, and if another power-on answers within BOXED_AWAY_MS of its going, it came back by itself: nobody else switches it on meanwhile. */
void boxed_drill(struct boxed *b);
/* That is taken back. False: it was not to be stopped, or its guard was told already. */
bool boxed_stay(struct boxed *b);
/* As of rented.h. */
void boxed_hold(struct boxed *b, uint64_t for_ms);
void boxed_take(struct boxed *b);
void boxed_allow(struct boxed *b, bool no_guard);
/* The last use of it in this power-on, which max_up counts from, by the loop's clock; written down by the machine's own, once that was read: what is
 * between two daemons counts, whatever this computer's clocks do meanwhile. */
void boxed_note_used(struct boxed *b, uint64_t used_due);
/* How long ago that was, also as the daemon before this one wrote it; false: nobody knows. */
bool boxed_unused_ms(const struct boxed *b, uint64_t now, uint64_t *ret_ms);

enum boxed_state boxed_state(const struct boxed *b);
const char *boxed_state_name(enum boxed_state s);   /* Instance.state of the contract: "unknown" "running" "stopping" "stopped?" */
bool boxed_is_guarded(const struct boxed *b);       /* read back since the last login; or let go without */
bool boxed_is_anothers(const struct boxed *b);
const struct keeper *boxed_keeper(const struct boxed *b);

/* What became of it when its guard was told to switch it off. */
enum boxed_trial {
    BOXED_UNTRIED,
    BOXED_WENT,                     /* it went away at once, and stayed away for BOXED_AWAY_MS */
    BOXED_STAYED,                   /* it was still there when its guard had tried all its ways */
    BOXED_CAME_BACK,                /* it went away in a drill, and was there again */
};
#define BOXED_AWAY_MS 45000u        /* three tries of the session: nobody answers, and nothing started it anew */

struct boxed_figures {
    int64_t since_at_ms;            /* in this state */
    int64_t stop_asked_at_ms;       /* when it was to be stopped, in this power-on; 0: never */
    unsigned cycles;                /* counts its power-ons, as far as they were seen */
    bool told;                      /* its guard was told to stop it; false: nobody renewed */
    int64_t acts_at_ms;             /* its guard stops it then, unless somebody renews; also as the daemon before this one read it; 0: unknown */
    enum boxed_trial trial;         /* the last one */
    int64_t tried_at_ms;            /* 0: never */
};
const char *boxed_trial_name(enum boxed_trial t);   /* InBox.trial of the contract: "untried" "went" "stayed" "came_back" */
void boxed_figures(const struct boxed *b, struct boxed_figures *ret);
/* "stop_not_confirmed"; or its guard's; or "guard_failed", by its last trial; kind FAULT_NONE: nothing of the kind. */
const struct fault *boxed_trouble(const struct boxed *b);
