/* What a provider that rents machines out can be asked. A driver translates: it arms no timer, repeats nothing, decides nothing.
 * The providers that rent nothing have no rental (provider.h). */
#pragma once

#include <stdbool.h>
#include <stdint.h>

struct fault;
struct op;
struct rental;          /* an account at a provider, with its token: the driver's own */

#define INSTANCE_ID_MAX   64
#define INSTANCE_NAME_MAX 64
#define INSTANCE_WORD_MAX 32

enum instance_power {
    INSTANCE_OFF,           /* and nothing but disks is billed */
    INSTANCE_ON,
    INSTANCE_CHANGING,      /* on its way from one to the other; every word we do not know */
};

/* One machine, as the provider describes it. */
struct instance_seen {
    char id[INSTANCE_ID_MAX];
    char name[INSTANCE_NAME_MAX];       /* the one it was made with */
    enum instance_power power;
    char word[INSTANCE_WORD_MAX];       /* the provider's own for it, for people */
    /* The bill's own stamps, 0: none. During a boot they are still those of the boot before (reference/lease.md §3). */
    int64_t started_at_ms, stopped_at_ms;
};

/* What to make. Texts are borrowed for the call. */
struct instance_wish {
    const char *name;
    const char *card, *image, *region;  /* as the provider writes them; region NULL: any */
    unsigned cards, disk_gb;
    const char *start_command;          /* run at each power-on */
};

typedef void (*rental_list_fn)(void *ctx, const struct instance_seen *seen, unsigned n, const struct fault *f);
typedef void (*rental_made_fn)(void *ctx, const char *id, const struct fault *f);
typedef void (*rental_done_fn)(void *ctx, const struct fault *f);

/* Each is an op (base/op.h). A fault FAULT_UNCERTAIN means: asked, no answer; it may have happened. FAULT_EXHAUSTED: no card of
 * this kind, or no money. The code "already" means that it is so, or on its way there; "not_off": it must be off for that. */
struct rental_ops {
    uint64_t start_ms;          /* a call that was asked longer ago than this has taken effect, or never will */
    uint64_t stop_alarm_ms;     /* a stop that takes longer is one to shout about */
    /* All machines of the account, every page read; or a fault. */
    void (*list)(struct rental *r, struct op **slot, rental_list_fn done, void *ctx);
    /* Makes one and switches it on. */
    void (*create)(struct rental *r, const struct instance_wish *w, struct op **slot, rental_made_fn done, void *ctx);
    void (*start)(struct rental *r, const char *id, struct op **slot, rental_done_fn done, void *ctx);
    void (*stop)(struct rental *r, const char *id, struct op **slot, rental_done_fn done, void *ctx);
    /* With all its data, for ever. */
    void (*release)(struct rental *r, const char *id, struct op **slot, rental_done_fn done, void *ctx);
};
