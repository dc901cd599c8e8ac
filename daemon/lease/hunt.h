/* Which machine is asked for next: the cards that people named, each in every region they named, in their
 * order. Pure: prices and dice are handed in.
 *
 * A round walks all of them; one that is too dear is left out, and so is one that was refused for a reason
 * that the next try would meet again. Figures of stock order nothing and skip nothing (reference/lease.md
 * §4). */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/fault.h"

#define HUNT_MAX      32 /* cards times regions */
#define HUNT_WHY_MAX  120
#define HUNT_NAME_MAX 120

enum hunt_out {
    HUNT_IN,
    HUNT_DEAR,    /* by the last known price */
    HUNT_REFUSED, /* until somebody wants it anew */
};

struct hunt_candidate {
    char gpu[40];        /* as people write it, without a count */
    char card[64];       /* as the provider writes it; "": it has no such card */
    unsigned cards;      /* of one machine */
    char region[64];     /* as the provider writes it; "": anywhere */
    int64_t price_milli; /* of an hour, all cards; 0: unknown */
    enum hunt_out out;
    unsigned tries;         /* that were refused, since hunt_begin() */
    char why[HUNT_WHY_MAX]; /* the last of them, for people */
};

struct hunt {
    struct hunt_candidate all[HUNT_MAX];
    unsigned n, at;  /* whose turn it is */
    unsigned begun;  /* searches so far */
    unsigned rounds; /* that are over, since hunt_begin() */
    bool is_within;  /* the last try was not the last of its round */
};

/* "4090D,5090x2", with cards as the number where one card is named without one, and "westDC3,beijingDC2",
 * NULL: anywhere. What goes beyond HUNT_MAX is left out. Cards and prices are the caller's to fill in. */
void hunt_read(struct hunt *h, const char *gpus, unsigned cards, const char *regions);
/* Nobody has been asked yet: refusals are forgotten, and the first is tried first. */
void hunt_begin(struct hunt *h);
/* From now on an hour may cost so much, all cards; 0: whatever it costs. One that gets cheap enough is in
 * again. */
void hunt_limit(struct hunt *h, int64_t most_milli);
/* Whose turn it is; NULL: nobody is left. Borrowed until h changes. */
const struct hunt_candidate *hunt_current(const struct hunt *h);
/* The current one was asked for, and that is what came of it. */
void hunt_refused(struct hunt *h, const struct fault *f);
/* "5090x2 in westDC3", as people would write it. */
const char *hunt_name(const struct hunt_candidate *c, char out[static HUNT_NAME_MAX]);
/* From the last refusal to the next try: short within a round, longer after many rounds. jitter: any number.
 */
uint64_t hunt_wait_ms(const struct hunt *h, uint32_t jitter);

/* ---- how soon one account is asked again ---- */

/* All searches at one account share it: between any two calls that cost money lie STEP_MS (2 s), whoever
 * makes them. Who waits claims an instant; who forgets to come leaves it empty. */
#define PACE_MAX 64
struct pace {
    struct pace_claim {
        const void *who;
        uint64_t due;
    } all[PACE_MAX];
    unsigned n;
    uint64_t last_due; /* of the last call; 0: none */
};
/* When the next call of who may be made: at due, or as soon after it as the others let it. One claim each. */
uint64_t pace_claim(struct pace *p, const void *who, uint64_t due, uint64_t now);
/* It is made. */
void pace_called(struct pace *p, const void *who, uint64_t now);
