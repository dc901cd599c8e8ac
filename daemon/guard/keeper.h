/* Keeps the guard of one machine: puts it there as soon as the machine can be reached, reads it back, renews its lease every minute, and knows what
 * protects the machine while nobody can. A life (keeper.c): it works while it is told that the way is open.
 *
 *     away → asking → kept                      (a guard is there already: its sequence is gone on from)
 *     away → asking → installing → kept         (none is)
 *     kept: renewed every 60 s. An answer that does not come leaves it kept, with a fault, and is asked for again after 2 s, doubling to 20 s
 *     kept → installing: it was killed.   kept → asking: it acts ("guard_acts")
 *     asking, kept → refused: another llmhostd owns it. It is read every 60 s, and neither renewed nor put there again until keeper_take()
 *     asking, installing → useless: it could not stop the machine (no root, no sudo), or cannot be written there
 *     away whenever the way closes: what is known stays shown, by our clocks
 *
 * The first request over a way only reads: what cannot be asked is not renewed, and its end is shown. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/fault.h"
#include "base/op.h"
#include "guard/guard.h"

struct host;
struct keeper;
struct loop;

enum keeper_state {
    KEEPER_AWAY,            /* not told that the way is open */
    KEEPER_ASKING,          /* nothing known since the way opened */
    KEEPER_INSTALLING,
    KEEPER_KEPT,            /* read back since the way opened; the last answer was "taken" */
    KEEPER_REFUSED,         /* another owner's */
    KEEPER_USELESS,         /* there can be none that counts; keeper_fault() says why; tried again every 5 min */
};

struct keeper_context {
    struct loop *loop;
    struct host *host;                  /* borrowed */
    const char *name;                   /* of the machine, for the log; borrowed */
    const char *owner;                  /* our short id; borrowed */
    uint32_t lease_s, first_s;          /* [guard] lease, first; renewed every minute, or three times in a shorter lease */
    uint64_t seq;                       /* as of the database: the next request is higher than this, and than what is read */
    /* The sequence went on: to the database, before the request is sent; nobody waits for it. */
    void (*seq_used)(void *ctx, uint64_t seq);
    /* From the run queue, after the state or what is known changed. */
    void (*changed)(void *ctx);
    void *ctx;
};

struct keeper *keeper_new(const struct keeper_context *context);
struct keeper *keeper_free(struct keeper *k);
/* The way is open (asks at once), or closed (what is asked is cancelled). */
void keeper_way(struct keeper *k, bool open);
/* A power cycle: what is known of the guard is of another boot. */
void keeper_forget(struct keeper *k);
/* It is to stay up for so long without renewals, from now on; 0: no longer. Sent with the next request, which is made at once. */
void keeper_hold(struct keeper *k, uint32_t hold_s);
/* Ownership moves to us with the next request. */
void keeper_take(struct keeper *k);
/* Tells the guard to stop the machine now; one that is missing is put there for it. An op: done when it has taken that (NULL), or why not:
 * "unreachable", "other_owner", "no_guard"; FAULT_UNCERTAIN where it was sent and no answer came: it may stop all the same, else it was not told. One at a time. It is not repeated. */
void keeper_stop_now(struct keeper *k, struct op **slot, op_done_fn done, void *ctx);

enum keeper_state keeper_state(const struct keeper *k);
const char *keeper_state_name(enum keeper_state s);         /* Guard.state of the contract: "away" "asking" "installing" "kept" "refused" "useless" */
struct keeper_figures {
    int64_t read_at_ms;             /* the last answer of a living guard; 0: none in this power-on */
    int64_t acts_at_ms;             /* it stops the machine then, if nobody renews: wall clock, as of that answer; 0: unknown */
    int64_t hold_until_at_ms;       /* 0: no hold */
    char owner[GUARD_OWNER_MAX + 1];    /* "": unknown */
    int64_t owner_heard_at_ms;      /* its last request; 0: unknown */
    char ways[64];                  /* how it would stop the machine */
    uint64_t typed_due;             /* when somebody typed into a terminal there last, by the loop's clock; 0: unknown */
    char cycle[64];                 /* of which power-on of the machine that was; "": unknown */
    uint64_t box_due;               /* box_s was read then, of the machine's own clock: nobody sets that one, and it goes on while we are away; 0: never */
    int64_t box_s;
    uint64_t shared_due;            /* another llmhostd with our id (a copy of our database) had renewed it too, noticed then by the loop's clock; 0: never */
};
void keeper_figures(const struct keeper *k, struct keeper_figures *ret);
/* Of KEEPER_REFUSED ("other_owner"), KEEPER_USELESS ("no_guard": with the reason), of a guard that acts ("guard_acts"), or of the last thing that
 * went wrong; kind FAULT_NONE: all is well. */
const struct fault *keeper_fault(const struct keeper *k);
