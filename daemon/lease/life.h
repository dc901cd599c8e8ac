/* The life of a rented machine: made, switched on, seen, switched off, given back. It is what no error, crash
 * or lost answer may turn into two machines that bill, or into a "stopped" that is not true
 * (reference/lease.md §2, whose table and whose findings in 30,000 simulated stories this is). test_life.c is
 * that simulation of the code itself.
 *
 * People set the goal, the machine owns the state. What costs money is asked only after its intent is on
 * disk. A restored life is unknown: it looks before it acts. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/op.h"
#include "provider/rental.h"

struct fault;
struct life;
struct loop;

enum life_goal {
    LIFE_GOAL_OFF,
    LIFE_GOAL_ON,
    LIFE_GOAL_RELEASE, /* given back with its data: only by an explicit word */
};

enum life_state {
    LIFE_UNKNOWN, /* after each start of the daemon, and whenever an answer is missing: look, then act */
    LIFE_ABSENT,  /* there is none */
    LIFE_WAITING, /* wanted: for a card, for money, for the disk */
    LIFE_CREATING,
    LIFE_STARTING,
    LIFE_RUNNING,
    LIFE_STOPPING,
    LIFE_STOPPED, /* the provider says so, and it can be believed */
    LIFE_RELEASING,
    LIFE_RELEASED,
};

/* What survives. */
struct life_record {
    enum life_state state; /* a memory, for people and for was_on: what is true is read anew */
    enum life_goal goal;
    char id[INSTANCE_ID_MAX]; /* "": none known */
    /* Machines are named PREFIX-1, PREFIX-2 … and whatever has such a name up to this number is ours, however
     * late it appears. */
    unsigned made;
    int64_t asked_at_ms; /* the last call that makes or switches on, by the provider's clock; 0: never */
    bool create_open;    /* that call made one, and it was neither answered nor seen */
    bool ours;           /* switched on by us; false: by somebody else */
    bool was_on;         /* it came up since that call: an off that is not ours was somebody's */
    bool adopted;        /* somebody else made it: it is the one of that id, whatever its name; none is ever made in its place */
    bool acted;          /* that call has acted: it was seen on since, or on its way */
};

/* What a life works with; borrowed for its life. */
struct life_context {
    struct loop *loop;
    const char *name;   /* of the lease, for the log */
    const char *prefix; /* of its machines' names: the daemon's id and the lease's name */
    const struct rental_ops *ops;
    struct rental *rental;
    const struct instance_wish *wish; /* name is ours to fill */
    uint64_t settle_ms;     /* a call that was asked longer ago than this has taken effect, or never will: a bet (reference/lease.md §2) */
    uint64_t stop_alarm_ms; /* a stop that takes longer is one to shout about */
    /* To the database, the newest value is what counts; then() is an op that ends when it is there. money:
     * with a reservation of what the call costs, which may be refused (FAULT_EXHAUSTED, code "budget"). */
    void (*keep)(void *ctx, const struct life_record *r);
    void (*keep_then)(void *ctx, const struct life_record *r, bool money, struct op **slot, op_done_fn done,
                      void *done_ctx);
    /* Machines were seen, after each look: for the ledger and the address. The first is the one this life is about, the others are spare: also
     * of our names, and nobody wants them. As keep(), from inside an event: it frees nothing. */
    void (*seen)(void *ctx, const struct instance_seen *m, const struct instance_seen *spare, unsigned n_spare);
    /* All machines there are, at each look, before any of the others hears of it. NULL: nobody wants to know. */
    void (*listed)(void *ctx, const struct instance_seen *seen, unsigned n);
    /* How long it waits, in LIFE_WAITING, until it asks again. */
    uint64_t (*wait_ms)(void *ctx);
    /* We are in it just now: whatever the list leaves out, it is there. NULL: nobody can be. */
    bool (*answers)(void *ctx);
    /* Now, by the provider's clock, which is what tells the age of a call that a daemon before this one made; 0: it has not told the time since this
     * daemon began. NULL: it never does. */
    int64_t (*their_now_ms)(void *ctx);
    /* A machine that nothing here knows bears that name, or may: none is made with it. NULL: none does. */
    bool (*is_taken)(void *ctx, const char *name);
    /* From the run queue, after the state changed. */
    void (*changed)(void *ctx, struct life *l);
    void *ctx;
};

/* record NULL: a new one, absent and off. */
struct life *life_new(const struct life_context *context, const struct life_record *record);
/* Ends our listening; what was asked may still happen, and the next life finds it. */
struct life *life_free(struct life *l);

/* A person's word, or a request's: not for what was restored. It is on its way to the disk when this returns (keep()). */
void life_want(struct life *l, enum life_goal goal);
/* What it waits for is another thing from now on, or another answer is likely: the next try is now. */
void life_try_now(struct life *l);
/* It is somebody else's to switch off: not wanted on by us any more, and let alone. */
void life_leave(struct life *l);
/* Whatever we know may be old: after a sleep of this computer, and when the account's token changed. */
void life_doubt(struct life *l);

/* Is that machine this one, or of our names? */
bool life_has(const struct life *l, const struct instance_seen *m);

enum life_state life_state(const struct life *l);
enum life_goal life_goal(const struct life *l);
const struct life_record *life_record(const struct life *l);
/* The call that makes or switches on, or its way to the disk, is under way: nobody has said yes to it so far. */
bool life_is_asking(const struct life *l);
/* No machine of it is known, and none can come of what was asked: as the record has it, also before the first look. */
bool life_is_none(const struct life *l);
const char *life_state_name(enum life_state s);
const char *life_goal_name(enum life_goal g);
/* Nothing of it is on, and no call under way can switch it on. */
static inline bool life_is_at_rest(enum life_state s)
{
    return s == LIFE_STOPPED || s == LIFE_ABSENT || s == LIFE_RELEASED;
}
/* Why it is not where it should be, or is where nobody wanted it; kind FAULT_NONE: nothing of the kind.
 * Codes: "no_capacity", "budget", "disk", "boot_failed", "vanished", "stopped_elsewhere",
 * "started_elsewhere", "started_late", "stop_not_confirmed", "two_machines",
 * "is_orphan", or the driver's. */
const struct fault *life_trouble(const struct life *l);
/* When that last call was made, by this computer's clock as it is now; 0: never, or it came to nothing. */
int64_t life_asked_at_ms(const struct life *l);
/* It is seen to be off, and that is not believed yet: a call of ours may still act, until then; wall clock. 0: nothing of the kind. */
int64_t life_doubted_until_at_ms(const struct life *l);
/* Somebody else made it, it was on or on its way there when it was seen last, and now the list leaves it out: nobody knows whether it bills. It is
 * looked for on, and told to stop by its id, until the provider lists it or says that there is none. Not believed gone, as one of ours would be: that
 * one is found by its name whenever it appears. As of the last event. */
bool life_is_missing(const struct life *l);
/* When the next look or try comes, wall clock; 0: none is due. */
int64_t life_next_at_ms(const struct life *l);
