/* What a provider that rents machines out can be asked. A driver translates: it arms no timer, repeats nothing, decides nothing.
 * The providers that rent nothing have no rental (provider.h). */
#pragma once

#include <stdbool.h>
#include <stdint.h>

struct buf;
struct fault;
struct http;
struct op;
struct rental;          /* an account at a provider: the driver's own */
struct resolver;
struct secrets;

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
    /* What else the list tells; 0 and "": nothing. */
    char gpu[INSTANCE_WORD_MAX];        /* as people write it */
    unsigned cards;
    bool no_card;                       /* it is on without its card */
    int64_t price_milli;                /* of an hour, all cards; thousandths */
    int64_t prepaid_until_at_ms;        /* rented by the day or longer, until then */
    int64_t off_at_ms;                  /* the provider itself switches it off then */
    unsigned disk_gb;                   /* beside the system's own */
    char region[48];                    /* where it stands: a word that find_region knows, or none of its */
};

/* A saved system disk, from which machines can be made. */
struct rental_image {
    char id[INSTANCE_ID_MAX], name[INSTANCE_NAME_MAX], word[INSTANCE_WORD_MAX];     /* word: the provider's own for its state */
    bool ready;                         /* it can be used */
    int64_t bytes, made_at_ms;          /* 0: not told */
};

/* How a machine is switched on. Texts are borrowed for the call. */
struct instance_start {
    const char *start_command;          /* takes the place of the one before; NULL: none */
    uint64_t first_ms;                  /* where commands cannot be given: the provider switches it off by itself after so long (set_timer); 0: never */
    bool no_card;
};

/* What to make. Texts are borrowed for the call. */
struct instance_wish {
    const char *name;
    const char *card, *image, *region;  /* as the provider writes them; region NULL: any */
    unsigned cards, disk_gb;
    struct instance_start start;        /* now, and at each power-on later */
};

/* One kind of card that can be asked for. Texts last as long as the account. */
struct rental_offer {
    const char *gpu;            /* as people write it: "4090D" */
    const char *card;           /* as the provider does */
    unsigned memory_gib;
    int64_t price_milli;        /* of an hour and card, thousandths; 0: unknown */
    const char *price_day;      /* "2026-09-01": when that was the price; NULL: unknown */
    int stock;                  /* free ones, as the provider says, which decides nothing; -1: not told */
    bool unofficial;            /* by an API that its owner does not document */
};

/* The way in as of this power-on. */
struct instance_way {
    char host[256];             /* "": not there yet, though the machine may be on */
    uint16_t port;
    char password[128];         /* a secret: wiped after done() */
    int64_t price_milli;        /* of an hour, thousandths of the provider's unit; 0: not there yet */
};

/* What an account works with; borrowed. */
struct rental_context {
    struct http *http;
    struct resolver *resolver;
    struct secrets *secrets;    /* its token is PROVIDER.token */
    const char *base_url;       /* NULL: the provider's own */
    /* The time by its own clock, just now, as its answers say it; before what was asked is done. May be NULL. */
    void (*heard)(void *ctx, int64_t their_at_ms);
    /* Now, by the provider's clock, from which its instants count. NULL: this computer's is as good. */
    int64_t (*now_ms)(void *ctx);
    /* A call was refused, which its done() hears of besides; from the loop. NULL: nobody wants to know. */
    void (*refused)(void *ctx, const struct fault *f);
    void *ctx;
};

typedef void (*rental_list_fn)(void *ctx, const struct instance_seen *seen, unsigned n, const struct fault *f);
typedef void (*rental_made_fn)(void *ctx, const char *id, const struct fault *f);
typedef void (*rental_done_fn)(void *ctx, const struct fault *f);
typedef void (*rental_way_fn)(void *ctx, const struct instance_way *way, const struct fault *f);
typedef void (*rental_offers_fn)(void *ctx, const struct rental_offer *offers, unsigned n, const struct fault *f);
typedef void (*rental_images_fn)(void *ctx, const struct rental_image *images, unsigned n, const struct fault *f);
typedef void (*rental_money_fn)(void *ctx, int64_t milli, const struct fault *f);

/* Each is an op (base/op.h); what it hands over lasts for the call, and is NULL with a fault. FAULT_EXHAUSTED, FAULT_DENIED and
 * FAULT_INVALID promise that nothing happened. A fault FAULT_UNCERTAIN means: asked, no answer; it may have happened. FAULT_EXHAUSTED: no card of
 * this kind, or no money. The code "already" means that it is so, or on its way there; "not_off": it must be off for that. */
struct rental_ops {
    const char *name;           /* as in Instance.provider */
    const char *title;          /* for people: "AutoDL" */
    const char *unit;           /* of its money: "CNY" */
    bool unofficial;            /* by an API that its owner does not document, with a token that is the whole account */
    unsigned cards_max;         /* that one machine may have; 0: it says so itself */
    bool has_no_card;           /* a machine can be on without its card, */
    int64_t no_card_milli;      /* for so much an hour by the price list */
    int64_t day_offset_ms;      /* its days begin so much before those of UTC */
    uint64_t released_after_ms; /* a machine that stays off for so long is given back with its data; 0: never */
    const char *console_url;    /* where a person can look and press buttons */
    struct rental *(*open)(const struct rental_context *context);
    struct rental *(*close)(struct rental *r);      /* what is in flight must have been cancelled */
    /* From now on it is asked there; NULL: at the provider's own. What is in flight stays where it is. */
    void (*move)(struct rental *r, const char *base_url);
    /* All machines of the account, every page read; or a fault. */
    void (*list)(struct rental *r, struct op **slot, rental_list_fn done, void *ctx);
    /* Makes one and switches it on. NULL: machines are made and given back by hand, at console_url. */
    void (*create)(struct rental *r, const struct instance_wish *w, struct op **slot, rental_made_fn done, void *ctx);
    void (*start)(struct rental *r, const char *id, const struct instance_start *s, struct op **slot, rental_done_fn done, void *ctx);
    void (*stop)(struct rental *r, const char *id, struct op **slot, rental_done_fn done, void *ctx);
    /* From now on the provider itself switches it off at that time, 0: never. NULL: it has no such timer. instance_seen.off_at_ms reads it back. */
    void (*set_timer)(struct rental *r, const char *id, int64_t off_at_ms, struct op **slot, rental_done_fn done, void *ctx);
    /* With all its data, for ever. NULL as create. */
    void (*release)(struct rental *r, const char *id, struct op **slot, rental_done_fn done, void *ctx);
    void (*reach)(struct rental *r, const char *id, struct op **slot, rental_way_fn done, void *ctx);
    /* What could be rented, with what is free just now. */
    void (*offers)(struct rental *r, struct op **slot, rental_offers_fn done, void *ctx);
    /* One of them by the name people use, from memory; stock is -1. -ENOENT: *ret_why (caller frees) says what there is instead, and the other
     * ways to such a card. */
    int (*find_card)(struct rental *r, const char *gpu, struct rental_offer *ret, char **ret_why);
    /* An image by its name or the provider's own word, a region likewise: what the wish is to say (name itself, or a text that lasts as long as the
     * account), or -ENOENT as above. NULL asks for the usual; a region of NULL is any. */
    int (*find_image)(struct rental *r, const char *name, const char **ret_image, char **ret_why);
    int (*find_region)(struct rental *r, const char *name, const char **ret_region, char **ret_why);
    /* What so much disk beside the system's own costs for each of its days, on or off, by a list; 0: nothing. NULL: nobody knows. */
    int64_t (*disk_day_milli)(struct rental *r, unsigned disk_gb);
    /* The disk of a machine that is off, as an image of that name, which is ready some time later; and all there are. NULL: there is no such thing. */
    void (*save_image)(struct rental *r, const char *id, const char *name, struct op **slot, rental_made_fn done, void *ctx);
    void (*images)(struct rental *r, struct op **slot, rental_images_fn done, void *ctx);
    /* What can be spent, in thousandths; also how a token is tried. NULL: it does not tell, and a token is tried with the list. */
    void (*balance)(struct rental *r, struct op **slot, rental_money_fn done, void *ctx);
};

/* NULL: none such. */
const struct rental_ops *rental_find(const char *name);
/* "4090Dx2" is two of "4090D": how many, cut off from gpu; 0: it names no number from 1 to RENTAL_CARDS_MAX, and stays as it is. */
unsigned rental_cut_count(char *gpu);
#define RENTAL_CARDS_MAX 16
/* NULL beyond the last. */
const struct rental_ops *rental_at(unsigned i);
