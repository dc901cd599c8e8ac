/* What must survive: goals, instances, pinned host keys, forwards, events, usual durations. SQLite (WAL, synchronous=FULL) on a thread
 * of its own; SQL stays in this folder.
 *
 * A change is queued and gives a ticket. All changes of one turn of the loop are one transaction, begun when the turn ends. A change
 * that breaks a constraint fails alone; a batch that cannot be written stays queued and is tried again, the newest value per record,
 * events dropped first; its waiters get the fault at once. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/op.h"

struct event;
struct fault;
struct loop;
struct store;

typedef uint64_t store_ticket;

/* Opens or makes directory/llmhost.db, migrates it forward in one transaction, starts the thread. Blocks: before the loop runs.
 * 0 or -errno: *f says what is wrong with which file and what to do (damaged, from a newer version, not ours). On a full or
 * read-only disk what is there is read, and the store is stuck from the start, until it can be written. */
int store_open(struct loop *l, const char *directory, struct store **ret, struct fault *f);
/* What to type when store_open() failed with the code "store_damaged": two commands, a line each, that keep the files and save what can
 * be read. Caller frees. */
char *store_rescue(const char *directory);
/* Writes what is queued (bounded by 5 s), ends the thread. Who still waits is cancelled: done() does not run. Not from inside a
 * done(). */
struct store *store_close(struct store *s);

/* done() when the change is on disk (NULL) or could not be written (fault; it may still be written later). A ticket may be waited
 * for at any time later, also again after a fault; 0 is a change that was not needed. */
void store_after(struct store *s, store_ticket t, struct op **slot, op_done_fn done, void *ctx);
/* done() at once with NULL while all is well; else after a try to write (one a second at most) with what became of it. For those who
 * begin nothing that cannot be kept. */
void store_ready(struct store *s, struct op **slot, op_done_fn done, void *ctx);
/* How old the oldest change is that could not be written yet, or is being written for more than 5 s; 0: none; and why. */
uint64_t store_stuck_ms(const struct store *s, const struct fault **ret_fault);
/* Eight letters and digits made at first start: who we are to others. */
const char *store_daemon_id(const struct store *s);

/* ---- records: written whole, read once at start ---- */

#define RENTAL_HOLD_OVER 1 /* a `keep` was taken back by a word: what its guard says of one is old, until it has heard of that */

/* Of a machine that is rented, beside its instance_record. The words of state and goal are those of lease/life.h. */
struct rental_record {
    char *state, *goal, *id;        /* id: the provider's; NULL: none known */
    unsigned made;
    int64_t asked_at_ms;            /* by the provider's clock */
    bool create_open, ours, was_on;
    char *card, *image, *region;    /* as the provider writes them; region NULL: any */
    char *gpu;                      /* the card as people write it */
    unsigned cards, disk_gb;
    int64_t max_price_milli;        /* 0: none */
    int64_t rate_milli;             /* of an hour, as last read; 0: never */
    uint64_t guard_seq;
    int64_t stopped_at_ms;          /* its last confirmed stop; 0: none yet */
    int64_t prepaid_until_at_ms;    /* 0: it is billed by time */
    int64_t drilled_at_ms;          /* when its guard's way of stopping was proved to end the bill; 0: unproved */
    bool over_budget, no_guard;     /* what it was let go without, as long as the wish lasts that this was said with */
    bool adopted;                   /* somebody else made it: it has no name of ours */
    bool no_card;                   /* wanted on without its card, where the provider has that: slow and cheap, for its files */
    int64_t used_at_ms;             /* the last use or word that max_up counts from; 0: none yet */
    int64_t search_until_at_ms;     /* a card is looked for until then; 0: no search is on */
    int64_t made_at_ms;             /* since when it is ours, made or adopted, by the clock of its account; 0: by an older version */
    int64_t hold_until_at_ms;       /* `keep` of the machine itself, as long as the wish lasts that it was said with; 0: none; RENTAL_HOLD_OVER. Its guard has it too, once it was reached */
    bool acted;                     /* that call has acted: nothing of it can come any more */
    bool never_made;                /* there was no machine of it so far, and each call for one was refused; false: there was, or may have been */
    bool never_seen;                /* likewise, but a call for one may have got no answer: also where it is never_made */
    bool by_search;                 /* a search gave it its name, and nobody said anything about it by that name */
    int64_t wanted_at_ms;           /* when it was wanted on last; 0: never, or by an older version */
};
/* Of a host whose stop is "shutdown", beside its instance_record: what lease/boxed.h saw and said of it last, in its words. */
struct boxed_record {
    char *state, *cycle;            /* cycle: of which power-on the rest is; "": not read yet */
    int64_t since_at_ms;
    int64_t stop_asked_at_ms;       /* 0: it is not to stop */
    bool told, no_guard;
    int64_t acts_at_ms;             /* its guard stops it then, unless somebody renews; 0: unknown */
    char *trial;                    /* what became of it when its guard was told last */
    int64_t tried_at_ms;            /* 0: never */
    int64_t used_s;                 /* its last use in that power-on, by its own clock (/proc/uptime); -1: unknown */
};
struct instance_record {
    char *name, *provider;          /* "ssh", "local", "autodl" */
    char *host, *user;              /* NULL for local */
    uint16_t port;
    bool install_key;
    char *agent;                    /* the socket of an ssh-agent, NULL: none */
    char *proxy;                    /* as of proto/ssh_proxy.h, NULL: a TCP connection */
    int64_t added_at_ms;
    uint8_t *host_key;              /* pinned blob, NULL: none */
    size_t n_host_key;
    int64_t host_key_at_ms;
    char *stop;                     /* how a host that bills and has no account here is switched off: "shutdown", by its guard; NULL: never */
    struct rental_record *rental;   /* NULL: not rented */
    struct boxed_record *boxed;     /* NULL: nothing is known */
};
struct deployment_record {
    char *name;                     /* "ollama:deepseek-r1:7b" */
    char *instance;
    char *goal;                     /* "on_demand", "on", "off" */
    int64_t goal_at_ms;
    bool touched;                   /* a server of ours may run on the machine: what is not wanted must still be stopped */
    char *shown;                    /* the engine's description of the model at its last load (JSON), NULL: none */
    int64_t requests, last_used_at_ms;
    char *arguments;                /* of its server, a JSON array of strings; NULL: none */
    char *asleep;                   /* why it sleeps, or is on its way there; of one that is off by nobody's word "CODE: TEXT"; NULL: neither */
    int64_t asleep_at_ms;           /* since when; 0: not yet */
    int64_t keep_until_at_ms;       /* of the goal "on", else 0 */
};
struct forward_record {
    char *instance, *listen_ip, *address;
    uint16_t listen_port, port;
};

/* Puts insert or replace, and copy. A deployment or forward of an instance that is not there is refused with FAULT_GONE. */
store_ticket store_put_instance(struct store *s, const struct instance_record *r);
store_ticket store_remove_instance(struct store *s, const char *name);                       /* with its forwards and deployments */
/* Of an instance that is there; store_put_instance() does not look at its rental. */
store_ticket store_put_rental(struct store *s, const char *instance, const struct rental_record *r);
store_ticket store_put_boxed(struct store *s, const char *instance, const struct boxed_record *r);      /* likewise */
store_ticket store_put_deployment(struct store *s, const struct deployment_record *r);
store_ticket store_remove_deployment(struct store *s, const char *name, const char *instance);
store_ticket store_put_forward(struct store *s, const struct forward_record *r);
store_ticket store_remove_forward(struct store *s, const char *listen_ip, uint16_t listen_port);

/* Everything, once, before the loop runs. Pointers last for the call. */
struct store_readers {
    void (*instance)(void *ctx, const struct instance_record *r);
    void (*deployment)(void *ctx, const struct deployment_record *r);
    void (*forward)(void *ctx, const struct forward_record *r);
};
int store_load(struct store *s, const struct store_readers *readers, void *ctx, struct fault *f);

/* ---- accounts at those who rent machines out, and their money. Thousandths of unit ---- */
struct money_limits {
    int64_t day_milli, month_milli;     /* 0: none */
    int64_t price_milli;                /* of an hour: nothing dearer is rented; 0: none */
    int64_t floor_milli;                /* of the balance */
};
struct account_record {
    char *provider, *base_url;          /* base_url NULL: the provider's own */
    struct money_limits limits;
    int64_t added_at_ms;
};
store_ticket store_put_account(struct store *s, const struct account_record *r);
store_ticket store_remove_account(struct store *s, const char *provider);
/* As store_load(). */
int store_load_accounts(struct store *s, void (*account)(void *ctx, const struct account_record *r), void *ctx, struct fault *f);

/* A machine that bills, has a name of ours, and that no instance knows: as the list of its account had it last. */
struct orphan_record {
    char *provider, *id, *name;
    char *word, *gpu;                   /* as of struct instance_seen */
    unsigned cards;
    int64_t price_milli;
    bool no_card;
    int64_t started_at_ms;
    int64_t seen_at_ms;
    int64_t missing_at_ms;              /* the lists leave it out since then; 0: they do not */
};
store_ticket store_put_orphan(struct store *s, const struct orphan_record *r);
store_ticket store_remove_orphan(struct store *s, const char *provider, const char *id);
/* As store_load(). */
int store_load_orphans(struct store *s, void (*orphan)(void *ctx, const struct orphan_record *r), void *ctx, struct fault *f);

/* What is about to cost money (reference/lease.md §3): durable before it is asked. */
struct intent_record {
    char *name;                         /* unique for ever: "DAEMON-INSTANCE-3", or for a power-on with a running number behind it */
    char *kind;                         /* "create", "power_on" */
    char *provider, *instance, *unit, *day;     /* day: the provider's, "2026-11-27" */
    int64_t at_ms, reserved_milli;
    int64_t kept_ms;                    /* of a `keep`: its length; it is held at once, in place of one of the same name. 0: of a call */
};
/* Those whose money is held, as store_load(); kept_ms: of a keep 1. */
int store_load_reserved(struct store *s, void (*reserved)(void *ctx, const struct intent_record *r), void *ctx, struct fault *f);
/* In one statement: is there so much left of the limits, what other open intents reserve taken off; then it is written. spent_*: what the ledger says.
 * reserved_milli < 0: the whole rest. An op: NULL when it is durable; FAULT_EXHAUSTED "budget" (a day's) or "budget_month"; or what a ticket is answered with, and then
 * there is no reservation, also not later. */
void store_reserve(struct store *s, const struct intent_record *r, const struct money_limits *limits, int64_t spent_day_milli,
                   int64_t spent_month_milli, struct op **slot, op_done_fn done, void *ctx);
/* Of such a fault: a keep of so long would not be refused; 0: it is about no keep, or none would be taken. */
int64_t store_keep_fits_ms(const struct fault *f);
/* held: its money stays reserved until store_release_intents() of its instance. */
store_ticket store_resolve_intent(struct store *s, const char *name, const char *outcome, int64_t at_ms, bool held);
/* The interval is closed: what it really cost counts from now on. */
/* keeps: those of keeps as well, which outlast a power-on. */
store_ticket store_release_intents(struct store *s, const char *provider, const char *instance, bool keeps);

/* An interval of the ledger. One row for each (provider, instance, kind, from_at_ms): put again as it grows. The database refuses two open ones, an
 * overlap, and any change of one that was closed by a stamp. */
struct spent_record {
    char *provider, *instance, *kind;   /* "compute", "disk", "prepaid" */
    char *machine;                      /* the provider's id of it; NULL: not known (an older version's) */
    char *intent;                       /* NULL: not by us */
    int64_t from_at_ms, to_at_ms;       /* to 0: open */
    char *from_basis, *to_basis;        /* "stamp" "seen" "asked"; "stamp" "seen" "price" "guess", NULL while it is open */
    int64_t seen_at_ms;                 /* last read as billing */
    int64_t rate_milli;                 /* of an hour; -1: unknown */
    char *rate_basis, *unit;            /* "snapshot" "list" "user" "unknown" */
    int64_t lump_milli;                 /* of kinds "prepaid" and "disk": the whole; 0: unknown, and of "compute" */
    bool no_card;                       /* of kind "compute": it was on without its card */
};
store_ticket store_put_spent(struct store *s, const struct spent_record *r);
/* The one that begins at r->from_at_ms begins at from_at_ms: the provider's stamp came later than the interval. */
store_ticket store_move_spent(struct store *s, const struct spent_record *r, int64_t from_at_ms);
store_ticket store_remove_spent(struct store *s, const struct spent_record *r);
/* As store_load(): those that ended at most for_ms before now_ms, or before the newest where the clock was set ahead since; and the open ones; in
 * order of their beginning. */
int store_load_spent(struct store *s, int64_t now_ms, int64_t for_ms, void (*spent)(void *ctx, const struct spent_record *r), void *ctx,
                     struct fault *f);

/* ---- short names of models ---- */
store_ticket store_put_alias(struct store *s, const char *name, const char *model);
store_ticket store_remove_alias(struct store *s, const char *name);
/* As store_load(), in order of their names. */
int store_load_aliases(struct store *s, void (*alias)(void *ctx, const char *name, const char *model), void *ctx, struct fault *f);

/* ---- models that are wanted on whichever of several instances comes first ---- */
struct choice_record {
    char *model;
    char *places;                   /* names of instances in the order of their turns, with commas between; "+": one that is made when it is its turn, */
    char *provider, *gpu, *image, *region;          /* like this; gpu NULL: none is */
    unsigned disk_gb;
    int64_t max_price_milli;
    bool over_budget;
    unsigned turn;                  /* which place, from 0 */
    int64_t until_at_ms, begun_at_ms;               /* begun: 0, by an older version */
};
store_ticket store_put_choice(struct store *s, const struct choice_record *r);
store_ticket store_remove_choice(struct store *s, const char *model);
/* As store_load(). */
int store_load_choices(struct store *s, void (*choice)(void *ctx, const struct choice_record *r), void *ctx, struct fault *f);

/* ---- what was asked of a model, by whom ---- */
struct count_record {
    char *model, *client;
    int64_t requests, errors, prompt_tokens, answer_tokens, request_bytes, answer_bytes;
    char *first, *total;            /* as gateway/histogram.h writes them */
};
store_ticket store_put_count(struct store *s, const struct count_record *r);
store_ticket store_remove_counts(struct store *s, const char *model);
/* As store_load(). */
int store_load_counts(struct store *s, void (*count)(void *ctx, const struct count_record *r), void *ctx, struct fault *f);

/* ---- the API keys of applications: what is kept of them ---- */
#define STORE_KEY_HASH_BYTES 32
struct key_record {
    char *name;
    uint8_t hash[STORE_KEY_HASH_BYTES];
    int64_t made_at_ms;
};
store_ticket store_put_key(struct store *s, const struct key_record *r);
store_ticket store_remove_key(struct store *s, const char *name);
/* As store_load(), oldest first. */
int store_load_keys(struct store *s, void (*key)(void *ctx, const struct key_record *r), void *ctx, struct fault *f);

/* ---- events ---- */
void store_put_event(struct store *s, const struct event *e);           /* the newest 100,000 are kept */
/* The newest lines (at most 10,000), oldest first; older: how many more match. target NULL: all; since_at_ms 0: no bound. An op;
 * rows last for the call. What was put before is seen. */
struct event_row {
    int64_t at_ms;
    char *level, *source, *target, *kind, *text;
};
typedef void (*store_events_fn)(void *ctx, const struct event_row *rows, unsigned n, uint64_t older, const struct fault *f);
void store_read_events(struct store *s, const char *target, int64_t since_at_ms, unsigned lines, struct op **slot,
                       store_events_fn done, void *ctx);

/* ---- how long things usually take: the median of the last 15 ---- */
/* what: "STAGE MODEL INSTANCE" */
void store_put_duration(struct store *s, const char *what, uint64_t ms);
/* From memory. 0: never seen. */
uint64_t store_usual_ms(const struct store *s, const char *what);
