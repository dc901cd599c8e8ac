/* What manager_power.c, for machines that are rented, and manager_boxed.c, for those that are switched off from inside, share: how long a machine is
 * to be on is judged from the same facts by the same rule (policy/stay.h). How it goes on and off is each one's own. */
#pragma once

#include "manager_private.h"
#include "policy/stay.h"

struct rented;

#define AWAY_MS    STAY_DRAIN_MS /* so long a machine that goes off is waited for where it cannot be reached */
#define UNHEARD_MS (60 * 1000) /* after our start, so long for its guard to tell of holds */
#define LOOK_MS    (60 * 1000) /* at what has no news of its own: bytes of forwards */

struct power {
    struct manager *manager;
    struct lease *lease;
    struct rented *rented; /* NULL: it is switched off from inside */
    struct timer *timer;
    bool asked_on; /* its goal is on, by us: when it is off, it went off by itself */
    bool restored; /* and its guard has not told yet of holds */
    uint64_t born_due;
    bool is_unused;                /* by anybody since then; it was on before, and the last use was so long before */
    uint64_t unused_before_ms;
    uint64_t on_due;              /* since when it is on; 0: it is not */
    uint64_t foreign_due;         /* when somebody else switched it off; 0: never */
    uint64_t money_due;           /* since when a limit is reached; 0: none is */
    bool money_told;              /* of one that is not ours to stop for it */
    bool was_reachable;           /* since it is on */
    uint64_t lost_due, doubt_due; /* since when it runs and cannot be reached; the next look. 0: it can */
    uint64_t away_due;            /* since when it is to go off and cannot be reached; 0: not so */
    uint64_t leave_due;           /* since when its models are to leave it; 0: they are not */
    uint64_t hold_until_due, held_due; /* `keep INSTANCE`: until when; the last one's beginning */
    bool hold_is_over;                 /* by a word, whatever its guard has not been told yet */
    bool has_keep_money;               /* a keep's whole cost may be reserved */
    uint64_t quiet_bytes, quiet_due;   /* of its forwards; when they last grew */
    unsigned cycle;                    /* of one that is switched off from inside: of which power-on all this is */
    bool was_used, was_off;            /* a model was wanted on it in this power-on; its models know that it is off */
    struct op *by_guard; /* it is told to stop the machine, where the provider cannot be reached */
    struct stay stay;
};

bool power_has_wish(const struct power *p); /* a model on it is on its way to memory */
struct stay_facts power_facts(const struct power *p, uint64_t now);
struct stay_rule power_rule(const struct power *p);
void power_note_forwards(struct power *p, uint64_t now);
void power_stay(struct power *p); /* does what p->stay says */
void power_lose_servers(const struct power *p, const char *why); /* models on it are in no memory any more; those that are wanted wait */
void power_leave_waiting(const struct power *p); /* those that only requests wanted which have all gone */

void power_off(struct power *p, const char *why);

/* manager_boxed.c */
void power_press_boxed(struct power *p); /* `down INSTANCE` */
void power_judge_boxed(struct power *p);
