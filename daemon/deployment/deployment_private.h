/* What the files of a deployment share. */
#pragma once

#include "base/list.h"
#include "base/runq.h"
#include "deployment/deployment.h"
#include "engine/engine.h"
#include "policy/alive.h"

struct timer;

enum deployment_event {
    DEPLOYMENT_EV_GOAL,         /* somebody wants something else, or the same once more */
    DEPLOYMENT_EV_WAY,          /* look at the way to the machine: open, closed or refused */
    DEPLOYMENT_EV_ANSWER,       /* the driver is done with what this state is for */
    DEPLOYMENT_EV_AGAIN,        /* the driver says: not yet */
    DEPLOYMENT_EV_FAULT,
    DEPLOYMENT_EV_TIMER,
    DEPLOYMENT_EV_EMPTY,        /* the last open request ended */
    DEPLOYMENT_EV_COUNT,
};

/* What to do next: KEEP; ENTER a state (also the same one, anew); DO what the state is for; WAIT a moment, then TIMER. */
struct deployment_move {
    enum deployment_state state;
    enum { KEEP, ENTER, DO, WAIT } how;
};

/* Faults in a row, without a step forward, before we give up on a machine that can be reached. */
#define DEPLOYMENT_ATTEMPTS_MAX 5
/* Probes that failed, although the server lives, before everything is looked at anew. */
#define DEPLOYMENT_MISSES_MAX 3

struct stage_record {
    struct stage_view view;
    uint64_t begun_due;             /* clock_now_ms() when it began */
    uint64_t rate_from_due;         /* the rate is taken over the last seconds */
    int64_t rate_from_bytes;
    int64_t highest_bytes;          /* a download that is asked for anew counts from the beginning again; -1: none yet */
};

struct deployment {
    struct deployment_context context;
    struct lease *lease;
    char *name;
    const char *id;                 /* within name */
    struct engine *engine;
    struct json *arguments;         /* of its server, NULL: none */
    struct json *shown;             /* the engine's description, of an earlier life or a copy of the last load's */

    /* What deployment_next() reads. */
    enum deployment_state state;
    enum deployment_goal goal;
    bool reachable, refused;        /* the way to the machine, as of the event */
    bool lost;                      /* the way was away since the state began: a fault says nothing about the engine */
    bool late;                      /* the state has lasted longer than it may, as of the event */
    bool cut;                       /* open requests are not waited for */
    bool own_server;                /* its memory is taken when the server starts, not when the model is loaded */
    bool sleeps;                    /* it is on its way there, and room says why */
    bool crowded;                   /* the engine said that there is no room, and others have some of it */
    bool roomy;                     /* there is, as of the event */
    bool stale;                     /* its server has other arguments than it should have */
    bool touched;                   /* a server of ours may run there; in the database */
    bool way_failed;                /* the failure was the way's: an open way mends it */
    bool hung;                      /* it lives and has answered nobody for too long, as of the event (policy/alive.h) */
    bool replaced;                  /* a server that did not get there in time was started anew, once */
    unsigned in_flight, held;       /* held: of those in flight, they have not gone out */
    unsigned attempts, misses;
    unsigned deaths;                /* of a server that was ready, within ALIVE_WINDOW_MS */

    uint64_t entered_due, deaths_from_due;
    struct fault death;             /* the last one, and when it was */
    int64_t death_at_ms;
    /* For hung: its last sign of life; when a look told last what it had computed, and for how long by then. */
    uint64_t alive_due, looked_due;
    int64_t computed_ms;
    int64_t entered_at_ms;
    struct op *op;                  /* what the driver was asked, while it is */
    struct op *watch_op;            /* the look beside it */
    struct timer *timer, *sleep_timer, *watch_timer;
    struct alive_load load;
    struct work changed, look;
    struct list holds, judges;
    struct list open, waiting;      /* struct deployment_use: those in flight that are not held; those that are */
    struct fault fault;
    char room[DEPLOYMENT_TEXT_MAX]; /* deployment_room_text() */
    int64_t looked_at_ms;

    unsigned server_number;
    uint64_t used_due;              /* the end of the last request */
    uint64_t touched_due;           /* the last request's arrival or end, `up`, `keep`, its getting ready */
    uint64_t asked_due;             /* the last of these but for getting ready */
    uint64_t shunned_due;           /* until then others of its name are asked first */
    unsigned flaps;
    bool dozed;                     /* it fell asleep by itself, because nobody asked */
    bool woken;                     /* its way up was begun by a request, not by a word */
    char ended[DEPLOYMENT_TEXT_MAX];        /* "CODE: TEXT", why it is off, where that was nobody's `down`; in the database */
    int64_t keep_until_at_ms;
    int64_t goal_at_ms, requests, last_used_at_ms;
    uint64_t wanted_due, took_ms;
    struct stage_record stages[STAGE_COUNT];
};

/* Pure: no I/O, no clock, no log. */
struct deployment_move deployment_next(const struct deployment *d, enum deployment_event ev, const struct fault *f);
const char *deployment_event_name(enum deployment_event ev);
/* Requests a stop has to wait for. */
static inline unsigned deployment_open(const struct deployment *d)
{
    return d->goal == GOAL_OFF ? d->in_flight : d->in_flight - d->held;
}

/* The only place that writes d->state; for those whom no event tells, as that the machine is off. */
void deployment_enter(struct deployment *d, enum deployment_state next, const char *why, const struct fault *f);
/* The only door. */
void deployment_event(struct deployment *d, enum deployment_event ev, const struct fault *f);

/* deployment.c, for the life: */
/* Why its machine lets nobody in; NULL: it does, or is rented and not on: then the manager says what becomes of it. */
const struct fault *deployment_refusal(const struct deployment *d);
uint64_t deployment_write(struct deployment *d);       /* its record to the database; a store_ticket */
void deployment_answer_holds(struct deployment *d);
/* f: why the server died, NULL: it did not, or nobody can tell. alive: a look has just found it so; whoever asked after that look
 * began is told by the next one, which comes at once. */
void deployment_answer_judges(struct deployment *d, const struct fault *f, bool alive);
void deployment_find_room(struct deployment *d);
struct engine_reply deployment_reply(struct deployment *d);

/* deployment_sleep.c: */
/* Somebody waits for one that is asleep. */
void deployment_wake(struct deployment *d);
/* It is to sleep, and not on its way yet. */
bool deployment_is_to_sleep(const struct deployment *d);
/* Whenever what sleep depends on has changed: state, goal, requests. */
void deployment_arm_sleep(struct deployment *d);
int64_t deployment_sleeps_at_ms(const struct deployment *d);
uint64_t deployment_unload_ms(const struct deployment *d);
void deployment_on_sleep_timer(void *ctx);

/* deployment_stages.c: */
void deployment_stages_reset(struct deployment *d);
void deployment_enter_stage(struct deployment *d, enum deployment_state was);
/* Whenever the way to its machine may have changed. */
/* When the wait for its card was over; 0: there was none. How long that takes says nothing of the next time. */
uint64_t deployment_searched_due(const struct deployment *d);
void deployment_stages_of_way(struct deployment *d);

/* deployment_watch.c: */
/* Whenever a state begins. */
void deployment_watch(struct deployment *d);
void deployment_on_watch_timer(void *ctx);
