/* A call that goes on: it follows models, and the ways to them, until there is something to say for the last time. What it follows
 * goes on without it: a caller who leaves changes nothing. */
#pragma once

#include "base/runq.h"
#include "control/methods.h"
#include "control/up_rent.h"
#include "control/up_search.h"
#include "deployment/deployment.h"
#include "manager.h"
#include "store/store.h"

struct json;
struct timer;

/* What Up has told of one of its models. */
struct follow_told {
    unsigned stages[STAGE_COUNT], tries;
    bool runs[STAGE_COUNT]; /* that one runs was the last that was told of it */
    unsigned searches;      /* for a card, of before this call */
    uint32_t refused;       /* of this one: those whose refusal was told, by their place in it */
    char search[SEARCH_TEXT_MAX]; /* what was looked for, when it waited last */
    unsigned streams, restart; /* how many were waited for, in which state + 1 */
    char room[DEPLOYMENT_TEXT_MAX];
    bool away;
    bool was_off, was_ready; /* nobody wanted it before; it got there */
    bool has_no_engine;      /* Down, Sleep: none can run, its machine is off or still looked for */
};

/* A rented machine of which the call says how it goes off (machines.h). */
struct follow_machine {
    struct lease *lease; /* NULL once it is gone */
    char told[40];       /* the last word of its provider that was told; "": none */
    bool was_looked_for; /* it waited for a card, or was asked for one, when it was added; or it was one of several */
    int64_t since_due;   /* when that search began, as clock_past_due() */
    bool stays, is_over; /* something keeps it on; its end was told, or it was off from the beginning */
    bool was_off;        /* the latter */
};

/* Where an Up had its model from, which was off there; instance NULL: it did not move. */
struct up_moved {
    char *instance;
    struct json *arguments; /* NULL: none */
};

struct follow {
    struct call *call;
    struct manager_listener listener;
    struct work look;
    struct timer *timer;
    struct deployment **models; /* an element is NULL once its deployment is gone */
    struct follow_told *told;   /* of each of them */
    unsigned n_models;
    struct follow_machine *machines;
    unsigned n_machines;
    unsigned n_paid; /* Keep: the money of so many of them was asked for */
    int64_t keep_until_at_ms;
    const char *end; /* Down, Sleep, Wait: what it waits for, "off"; NULL: until it is there */
    bool any;       /* Up: on whichever comes first */
    bool needs_end; /* Wait: whatever keeps them on; it waits on for a stop that takes long */
    bool tells_end; /* Down and Sleep, with "more" */
    bool was_searched; /* Down: it was looked for on several, */
    int64_t searched_due; /* since then, as clock_past_due() */
    uint64_t begun_due;
    unsigned told_streams, told_off; /* Down: of all together */
    bool told_away;
    store_ticket ticket; /* of the goal */
    char *changed;       /* Up: what it made of a search that ran; until it is told */
    char *second;        /* Up: what is on already beside what it rents; likewise */
    struct up_moved moved; /* Up */
    bool named_dear;     /* Up: what is too dear was told */
    bool made;           /* Up: the instance is one because of this call */
    const char *note;    /* Up: for the first reply, NULL: none */
    char fit[FIT_NOTE_MAX]; /* likewise, whether the card holds the model; "": it does */
    /* Looks at what it follows; answers the call when there is something to say for the last time. */
    void (*fn)(struct follow *w);
};

/* From now on fn() looks after each change, until the call is over; not before c->op is done: nothing is told before the goal is on
 * disk. The call owns it. timeout_ms of the parameters ends the waiting, not the work. */
struct follow *follow_new(struct call *c, void (*fn)(struct follow *w));
void follow_add(struct follow *w, struct deployment *d);
/* All models that target and the parameter "on" mean. False: one of the instances named does not have it; the call was answered. */
bool follow_add_target(struct follow *w, const char *target);
/* Likewise those of them that are wanted: what is off stays off until up. False: there is nothing else, and the call was answered. */
bool follow_add_wanted(struct follow *w, const char *target);
/* A limit of no time, or less, is none at all: it is not taken as "for ever". True: the call was answered. */
bool follow_timeout_is_wrong(struct call *c);
/* Answers: the model was removed meanwhile. */
void follow_gone(struct follow *w);
/* A server that runs behind a tunnel that is down answers nobody. False also when the call is over, because nobody is let in. */
bool follow_may_ask(struct follow *w, const struct deployment *d);
/* The contract's Progress, of what is no stage of the way up; the caller puts it into a reply. */
struct json *follow_progress(const char *stage, const char *state, const char *text, uint64_t took_ms);
