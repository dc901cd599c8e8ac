/* Owns every object: instances with their sessions, deployments, forwards. Restores them at start, changes them by verbs, tells
 * others of each change, ends everything in order. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/fault.h"
#include "base/op.h"
#include "deployment/deployment.h"

struct account;
struct http;
struct instance_seen;
struct lease;
struct money_limits;
struct loop;
struct manager;
struct resolver;
struct secrets;
struct settings;
struct store;
struct turns;

/* ---- looking ---- */

/* By the name applications use: the id ("deepseek-r1:7b"), the id without ":latest", the whole name
 * ("ollama:deepseek-r1:7b") or an alias. Of several, on as many instances or of as many engines, the one a request had best be sent to: ready and
 * within reach, not one that just failed a request, with the fewest of them; else the one that is likely to be ready soonest, so that of
 * several that sleep one is woken. NULL: none. */
struct deployment *manager_find_id(struct manager *m, const char *id);
/* Another one of its name that would answer sooner than this one, for a request that has reached no engine; NULL: none. */
struct deployment *manager_find_sooner(struct manager *m, struct deployment *than);
/* Is there another one of its name at all? */
bool manager_has_other(struct manager *m, const struct deployment *d);
/* In order of their names, those of one name in that of their instances; NULL beyond the last. */
struct deployment *manager_deployment_at(struct manager *m, unsigned i);
/* Each name once: the one manager_find_deployment() finds. */
struct deployment *manager_model_at(struct manager *m, unsigned i);

/* Told after each change of a deployment or an instance, from the run queue. gone: it is about to be freed. */
struct manager_listener {
    void (*deployment)(void *ctx, struct deployment *d, bool gone);     /* may be NULL */
    void (*lease)(void *ctx, struct lease *l, bool gone);               /* may be NULL */
    void *ctx;
    struct manager_listener *next;
};
void manager_listen(struct manager *m, struct manager_listener *l);
void manager_unlisten(struct manager *m, struct manager_listener *l);

/* ---- beginning and end ---- */

/* Borrowed for the life of the manager. */
struct manager_context {
    struct loop *loop;
    struct store *store;
    struct secrets *secrets;
    struct http *http;
    struct resolver *resolver;
    const struct settings *settings;
    const char *socket_directory;       /* for Unix sockets to engines; ours alone */
    const char *state_directory;        /* its cache/ keeps archives of engines */
    struct turns *turns;                /* to log in; NULL: whenever it likes */
    bool is_system;                     /* we are a service of the machine and nobody's: no ssh-agent is ours to ask */
};

/* Restores everything from the store. 0 or -errno with *f. */
int manager_new(const struct manager_context *context, struct manager **ret, struct fault *f);
/* Engines go on running: the next daemon finds them. */
struct manager *manager_free(struct manager *m);

/* ---- instances ---- */

struct lease *manager_find_lease(struct manager *m, const char *name);      /* NULL: none */
struct lease *manager_lease_at(struct manager *m, unsigned i);              /* in order of their names */

/* Borrowed for the call; texts may be NULL. */
struct manager_new_instance {
    const char *name;
    const char *provider;               /* NULL: "ssh" */
    const char *command, *host, *user;
    uint16_t port;
    const char *password, *key, *passphrase;
    bool install_key;
    const char *agent;                  /* the socket of an ssh-agent; of a change, "": none from now on */
    const char *jump, *proxy_command;   /* as after ssh -J and -o ProxyCommand=; "none" */
    const char *accept_new_host_key;    /* of a change: "SHA256:…" */
    const char *stop;                   /* "shutdown": it bills, and its guard switches it off; "never"; NULL: never, or as it is */
    /* The login waits for somebody: what for, so that it can be done. From the run queue; ctx is that of done(). May be NULL. */
    void (*waits)(void *ctx, const char *text);
};
/* done(): l is kept and durable, notes (lines, "" when none) say what was left out; or a fault, and nothing was kept.
 * Codes: bad_name, bad_command, exists, unknown_provider, bad_key, and those of ssh/conn.h. An op. */
typedef void (*manager_added_fn)(void *ctx, struct lease *l, const char *notes, const struct fault *f);
void manager_add_instance(struct manager *m, const struct manager_new_instance *w, struct op **slot, manager_added_fn done,
                          void *ctx);
/* The same for an instance there is, which goes on as it was until the trial went well; provider is not looked at, and what is NULL or 0
 * stays. Its connection ends when it leads elsewhere now. Codes: not_found, in_trial, bad_command, bad_key, host_key, and those of
 * ssh/conn.h. */
void manager_change_instance(struct manager *m, const struct manager_new_instance *w, struct op **slot, manager_added_fn done,
                             void *ctx);
/* Only how it is switched off from inside: stop as above. 0 or -EINVAL: *f, codes: bad_stop, stop_ends_no_bill. The ticket says when it is durable. */
int manager_set_stop(struct manager *m, struct lease *l, const char *stop, uint64_t *ret_ticket, struct fault *f);
/* With its forwards, models that are off, and secrets; our key line on the machine goes too when it can be reached now. Done when it is
 * durable; until then nothing is placed there. Codes: "in_use" (a model on it is wanted), "being_removed". */
void manager_remove_instance(struct manager *m, struct lease *l, struct op **slot, op_done_fn done, void *ctx);

/* ---- machines that are rented ---- */

/* In order of their names; NULL beyond the last. */
struct account *manager_account_at(struct manager *m, unsigned i);
/* Those that were removed and are not there again, with their books, in no order. */
struct account *manager_gone_account_at(struct manager *m, unsigned i);
struct account *manager_find_account(struct manager *m, const char *provider);      /* NULL: none */
/* Whom a machine is rented from: the account named, or the only one there is that makes machines. NULL: none, or several. */
struct account *manager_rental_account(struct manager *m, const char *provider);
/* Why nothing can be asked there: no account ("no_provider"; NULL: none at all), or nobody of that name rents out ("unknown_provider"). -EINVAL. */
int manager_refuse_account(const char *provider, struct fault *f);
/* Puts the token there, asks for the balance with it, and only then keeps the account. base_url NULL: the provider's own. For one that is there, the
 * token, the URL and the limits are other ones from now on: what is NULL stays. done() as of manager_add_instance(), codes: unknown_provider, and the
 * provider's (token_refused …); in_trial while another one is under way. What is refused leaves all as it was. An op. */
struct manager_new_account {
    const char *provider, *base_url, *token;
    const struct money_limits *limits;
};
typedef void (*manager_account_fn)(void *ctx, struct account *a, int64_t balance_milli, const struct fault *f);
void manager_put_account(struct manager *m, const struct manager_new_account *w, struct op **slot, manager_account_fn done, void *ctx);
/* Refused while it has machines ("in_use"), while one that nothing here knows bills there or is being ended ("has_orphan"), and while another token of it is tried ("in_trial"). */
void manager_remove_account(struct manager *m, struct account *a, struct op **slot, op_done_fn done, void *ctx);

/* ---- machines that nothing here knows ---- */

/* It was rented from here, or by one that works with a copy of our database, and no instance knows it. Nobody touches it without a word. */
bool manager_is_orphan(struct manager *m, const struct instance_seen *seen);
/* As of the last list of its account that had it. */
struct orphan_view {
    const struct account *account;
    const struct instance_seen *seen;   /* until the next list */
    int64_t seen_at_ms;
    int64_t missing_at_ms;              /* the lists leave it out since then, and it billed; 0: they do not */
    int64_t stop_asked_at_ms;           /* manager_end_orphan() did; 0: nobody */
};
bool manager_orphan_at(struct manager *m, unsigned i, struct orphan_view *ret);     /* in order of their ids; false beyond the last */

/* Switches it off, or gives back one that is off, and is done when its company says so: NULL. One that lists leave out is not off; it is given back when
 * its company took the release, and no_such_machine when it says so, or is left out for 10 min. It goes on when the op is cancelled. Codes: no_provider,
 * no_such_machine, is_instance, not_ours, not_off, by_hand, stop_not_confirmed (it goes on; for ever), and the provider's. An op. */
struct orphan_end {
    const char *provider, *id;
    bool release;
    void (*said)(void *ctx, const char *word);  /* its company's word for its state, whenever it is another; ctx is that of done(). May be NULL */
};
void manager_end_orphan(struct manager *m, const struct orphan_end *w, struct op **slot, op_done_fn done, void *ctx);

/* What `up --gpu` asks for; texts borrowed for the call, may be NULL. */
struct manager_rent {
    const char *provider;               /* NULL: the only account there is */
    const char *name;                   /* of the instance; NULL: one of that card is used again, if it has the model or nothing on it is up, else a new name ("4090d") */
    const char *model;                  /* what it is for, by its whole name */
    const char *gpu;                    /* "4090D", or several in the order of preference: "4090D,5090"; "4090Dx2": two of them */
    const char *image, *region;
    unsigned disk_gb;                   /* beside the system's own; 0: none */
    int64_t max_price_milli;            /* of an hour; 0: none */
    bool over_budget;                   /* the account's own limit of it does not count */
    bool anew;                          /* none that there is */
};
/* The instance for it: one there is, else made (not switched on: that is what a model on it does). 0, or -EINVAL: *f, codes: no_provider,
 * which_provider, no_such_card, no_such_image, no_such_region, price (dearer than --max-price, or than the account's limit), bad_name, exists. check: nothing is made,
 * and *ret may be NULL. *ret_ticket: when it is durable; 0: it was there. */
int manager_rent(struct manager *m, const struct manager_rent *w, bool check, struct lease **ret, uint64_t *ret_ticket, struct fault *f);
/* False: a list has to be read before a new one is made ("not_listed"): its name could be that of a machine which nothing here knows. */
bool manager_may_name(struct manager *m, const char *provider);
/* A search called it after a card, and was changed: it has another one, or comes to have it. */
bool manager_is_misnamed(const struct lease *l);
/* The instance that a machine of that account is, or that it was made for; NULL: none. */
struct lease *manager_find_machine(struct manager *m, const struct account *a, const struct instance_seen *seen);
/* A machine that somebody else made becomes an instance, neither switched on nor off by that. done() as of manager_add_instance(); codes: bad_name, exists,
 * no_provider, no_such_machine (with what there is), is_instance, and the provider's. An op. */
struct manager_adopt {
    const char *name, *provider, *id;
};
void manager_adopt(struct manager *m, const struct manager_adopt *w, struct op **slot, manager_added_fn done, void *ctx);
/* Gives it back with its data. Refused while it is not off (code "not_off"), or a model on it is wanted ("in_use"). Done when it is gone from the
 * provider's list; it is no instance of ours any more then. An op. */
void manager_release(struct manager *m, struct lease *l, struct op **slot, op_done_fn done, void *ctx);
/* It was made an instance by a wish that was refused: it is none any more, nor are the models on it. Does nothing where a machine of it is, or may be. */
void manager_forget_never_made(struct manager *m, struct lease *l);
/* What keeps it on, or why it goes off, and when that changes; *ret_at_ms wall clock, 0: by time alone never. NULL: it is off, or
 * a card is still looked for. A stay_reason_name(). */
const char *manager_stay(struct manager *m, const struct lease *l, int64_t *ret_at_ms);
/* What uses it without asking a model, each with its age: "a login was typed into 3m ago"; "": nothing is known to, or not lately enough to keep it on. */
#define QUIET_TEXT_MAX 160
const char *manager_quiet_text(struct manager *m, const struct lease *l, char out[static QUIET_TEXT_MAX]);
/* `down INSTANCE --now` of one that is already unwanted: asks for the stop once more, at once. Of one that is switched off from inside: its guard is
 * told, now. */
void manager_press(struct manager *m, struct lease *l);
/* What it costs that l, which is rented, stays on until then, besides what it is kept for already, is reserved: done with NULL, or why not (codes: budget,
 * low_balance, the store's). of: the model whose keep it is to be, in place of the one it has; NULL: the machine's own. Nothing is kept by it; where
 * nothing is, it is given back by itself. An op. */
void manager_reserve_keep(struct manager *m, struct lease *l, const struct deployment *of, int64_t until_at_ms, struct op **slot, op_done_fn done, void *ctx);
/* How long l, which is rented, could be kept by those limits: done with a fault of code budget, of which store_keep_fits_ms() knows it, or another; NULL: they end nothing.
 * Nothing is reserved. An op. */
void manager_ask_keep(struct manager *m, struct lease *l, struct op **slot, op_done_fn done, void *ctx);
/* `keep INSTANCE`: its models may sleep, it stays on; 0: that is over. The guard has it too. A store_ticket. */
uint64_t manager_keep_instance(struct manager *m, struct lease *l, int64_t until_at_ms);
/* One that is off is switched on without its card until then, whatever its models do; one of them that is wanted meanwhile ends it, and has it switched off
 * and on again. The power-on reserves what all of it costs: where that is refused the wish is over, and the trouble of the machine says why. Its provider has that (rental_ops.has_no_card). A store_ticket. */
uint64_t manager_keep_without_card(struct manager *m, struct lease *l, int64_t until_at_ms);

/* ---- models ---- */

/* The deployment of that name, made when it is new, with these arguments (an array of strings; NULL: those it has). on NULL: where it is
 * wanted, else where it is, else the only instance. It may be wanted on several; one that is off moves. 0 or -EINVAL: *f, codes: bad_model,
 * unknown_engine, bad_arguments, no_instance, which_instance, no_such_instance, being_removed, name_is_alias. */
int manager_place(struct manager *m, const char *model, const char *on, const struct json *arguments, struct deployment **ret,
                  struct fault *f);
/* Is that the name of a model? 0 or -EINVAL: bad_model, unknown_engine. */
int manager_check_model(const char *model, struct fault *f);
/* Where that would be; NULL: nowhere. Nothing is made. */
struct lease *manager_find_place(struct manager *m, const char *model, const char *on);
/* Would that be done? Nothing is made. */
int manager_check_place(struct manager *m, const char *model, const char *on, const struct json *arguments, struct fault *f);
/* The model is there on all of these instances, and wanted on the first: from now on it is wanted on one of them at a time, in this order and round
 * again, until one is within reach; never on the next before the machine of the one before is confirmed to be off, and never again on one that failed. A restart
 * changes nothing of it. rent: after the first of them a machine like that, which is made when it is its turn, where the first one was made and has no
 * card, or is too dear; NULL: none. until_at_ms: of the whole search, 0: as usual (2 h), or as
 * long as the first is looked for already. n: at most MANAGER_CHOICES_MAX. A choice of before of this model is over by that. */
#define MANAGER_CHOICES_MAX 8u
void manager_choose(struct manager *m, const char *model, const char *const *instances, unsigned n, const struct manager_rent *rent, int64_t until_at_ms);
/* None of them has come yet, and others are still to be tried. */
bool manager_chooses(struct manager *m, const char *model);
bool manager_chooses_on(struct manager *m, const struct deployment *d);     /* and d is one of them */
/* Since when it is wanted on one of them, of which d is one, wall clock; 0: it is not. */
int64_t manager_choice_began(struct manager *m, const struct deployment *d);
/* The same by the loop's clock, as clock_past_due(). False: it is not. */
bool manager_choice_begun(struct manager *m, const struct deployment *d, int64_t *ret_due);
int64_t manager_choice_until(struct manager *m, const char *model);  /* and how long; 0: it is not */
void manager_choice_look_until(struct manager *m, const struct deployment *d, int64_t until_at_ms); /* another end, if d is one of them */
/* Those that are tried for it, in the order of their turns; false beyond the last. */
struct choice_place {
    const char *instance;               /* NULL: one that is made when it is its turn */
    bool has_turn, is_next;             /* it is wanted on this one, or was last; that has had its turn, and this is the next one's */
};
bool manager_choice_place(struct manager *m, const char *model, unsigned i, struct choice_place *ret);
/* A word takes d away from them, before its goal is off; the choice goes on with the others, while there are any. */
void manager_choose_without(struct manager *m, const struct deployment *d);
/* Where d is one of them: it is wanted there alone from now on. */
void manager_choose_alone(struct manager *m, const struct deployment *d);
/* By the whole name; of several as manager_find_id(). NULL: none. */
struct deployment *manager_find_deployment(struct manager *m, const char *name);
struct deployment *manager_find_on(struct manager *m, const char *name, const char *instance);     /* that very one; NULL: none */
/* d is freed, as if it had never been wanted; the ticket says when the disk knows. What may still run of it is left alone. */
uint64_t manager_forget_deployment(struct manager *m, struct deployment *d);

/* ---- their names ---- */

/* What is typed is a model's alias ("r1"), or one of several names of one ("ollama:qwen3:latest" of "ollama:qwen3"): the name of the
 * deployment there is, or of the one that could be. Anything else is itself. Borrowed: until the next change of what it names, or typed. */
const char *manager_real_name(struct manager *m, const char *typed);

struct alias {
    char *name, *model;                 /* "r1" for "ollama:deepseek-r1:7b", which may have been forgotten since */
};
const struct alias *manager_alias_at(struct manager *m, unsigned i);        /* in order of their names; NULL beyond the last */
const char *manager_alias_model(struct manager *m, const char *name);       /* NULL: no alias */
/* In place of what it stood for. meant: a known model, by its whole name or its id. Codes: bad_alias, name_is_taken, alias_of_alias,
 * no_such_model, too_many_aliases. The ticket says when it is durable. */
int manager_set_alias(struct manager *m, const char *name, const char *meant, uint64_t *ret_ticket, struct fault *f);
/* -ENOENT. */
int manager_remove_alias(struct manager *m, const char *name, uint64_t *ret_ticket);

/* ---- forwards ---- */

/* Texts last as long as the forward. */
struct forward_view {
    const char *instance;
    const char *listen, *target;        /* "127.0.0.1:6006" */
    bool listening;
    unsigned connections;
    const char *reason;                 /* why it does not listen; NULL */
};
struct ssh_forward;
/* 0 or -EADDRINUSE, …: *f, code "port_taken", "forward_exists", "bad_forward". The ticket says when it is durable. */
int manager_add_forward(struct manager *m, struct lease *l, const struct ssh_forward *w, struct forward_view *ret,
                        uint64_t *ret_ticket, struct fault *f);
/* listen: "6006" or "127.0.0.1:6006". -ENOENT. */
int manager_remove_forward(struct manager *m, struct lease *l, const char *listen, uint64_t *ret_ticket);
/* l NULL: of all instances. Returns false beyond the last. */
bool manager_forward_at(struct manager *m, const struct lease *l, unsigned i, struct forward_view *ret);
