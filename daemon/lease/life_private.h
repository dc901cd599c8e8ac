/* What life.c and life_fsm.c share. */
#pragma once

#include "base/fault.h"
#include "base/runq.h"
#include "lease/life.h"

struct timer;

enum life_event {
    LIFE_EV_GOAL,       /* somebody wants something else; also asked once more after each change of state */
    LIFE_EV_STORED,     /* the intent is on disk */
    LIFE_EV_UNSTORED,   /* it is not, or its money was refused */
    LIFE_EV_MADE,       /* the answer of create: the id of what already bills */
    LIFE_EV_DONE,       /* the answer of start, stop, release: they were heard; nothing more */
    LIFE_EV_FAULT,      /* a call's */
    LIFE_EV_SEEN,       /* the list was read, all of it: seen says what it told of ours */
    LIFE_EV_BLIND,      /* it could not be read */
    LIFE_EV_TIMER,
    LIFE_EV_COUNT,
};

/* KEEP; ENTER a state; WATCH: enter it, its call having been made already; DO what the state is for; LOOK at the list. */
struct life_move {
    enum life_state state;
    enum { LIFE_KEEP, LIFE_ENTER, LIFE_WATCH, LIFE_DO, LIFE_LOOK } how;
};

enum life_seen {
    SEEN_NONE,
    SEEN_OFF,
    SEEN_ON,
    SEEN_CHANGING,
};

/* What begins anew with each state. */
struct life_here {
    bool asked;             /* the state's call has left us */
    bool turn;              /* every second timer of a stop asks again */
    bool seen_not_on;       /* since we are stopping: on again means that the stop was ignored */
    bool stop_told;         /* people know that this stop takes too long */
    unsigned looks;
    uint64_t entered_due;
};

/* What an event means depends on the time and on what was heard before it: as of the event, by life_note_facts(). */
struct life_facts {
    bool off_counts;        /* our last call has acted, or cannot act any more */
    bool none_counts;       /* not seen in two whole lists, no create of ours can still act, and it does not answer */
    bool is_missing;        /* likewise, but it may bill all the same: somebody else made it, and nobody said that it is off */
    bool came_up;           /* it was on since our last call, as its stamps say, however short that was */
    bool is_taken;          /* the name of the next one is that of a machine which is not known here */
    bool late;              /* the state has lasted longer than it may */
    bool hopeless;          /* too many boots failed in a short time */
};

struct life {
    struct life_context context;
    struct life_record record;          /* state and goal are in it */

    /* What life_next() reads besides, and nothing else. */
    struct life_here here;
    struct life_facts facts;
    enum life_seen seen;

    /* What lists and answers have told. */
    struct {
        unsigned n;                     /* whole lists without it, in a row */
        uint64_t from_due;              /* the first of them */
    } none;
    struct {
        int64_t at_ms;                  /* the provider's stamp, as of the last list */
        int64_t before_ms;              /* likewise, of before our last call */
    } started;
    bool is_gone;                       /* it was believed to be no more, or there is none of its id, and it was not seen since */
    bool is_given_back;                 /* the release was heard, or there is none of its id */
    bool came_late;                     /* it came on when nobody waited for our call any more, and is taken for its doing */
    bool is_blind;                      /* the list was refused (a token), which is what fault says */
    struct fault fault;

    struct {                            /* boots that ended in off */
        unsigned n_failed;
        uint64_t from_due;              /* the first of them */
    } boots;
    struct {                            /* of our last call that makes or switches on, by a clock that nobody sets */
        uint64_t asked_due;             /* record.asked_at_ms; 0: asked by a daemon before this one, or never */
        uint64_t heard_due;             /* of such a call: it was heard_ms old then, by the provider's clock; 0: that was not heard yet */
        uint64_t heard_ms;
        uint64_t born_due;              /* of this life: such a call is at least as old */
    } age;

    struct op *call;                    /* the intent's way to the disk, or the call itself */
    struct op *look;                    /* the list */
    struct op *spare;                   /* the stop of a machine too many */
    struct timer *timer;
    struct work changed;
    char named[INSTANCE_NAME_MAX];      /* the one being made */
};

/* Pure: no I/O, no clock, no log. f: of UNSTORED, FAULT and BLIND. */
struct life_move life_next(const struct life *l, enum life_event ev, const struct fault *f);
const char *life_event_name(enum life_event ev);
/* The only door. */
void life_event(struct life *l, enum life_event ev, const struct fault *f);

static inline int64_t life_their_now_ms(const struct life *l)
{
    return l->context.their_now_ms ? l->context.their_now_ms(l->context.ctx) : 0;
}

/* So many boots that end in off within that time end the wish. */
#define LIFE_BOOTS_MAX       3
#define LIFE_BOOTS_WITHIN_MS (30 * 60000u)

/* life.c, for the life: */
void life_on_kept(void *ctx, const struct fault *f);
void life_on_timer(void *ctx);
void life_on_changed(void *ctx);
void life_act(struct life *l);          /* what the state is for */
void life_look(struct life *l);         /* does nothing while a read is in flight */
void life_rearm(struct life *l);        /* the timer of the state */
void life_note_facts(struct life *l);   /* those that depend on the time */
