/* What the files of the manager share. */
#pragma once

#include "base/list.h"
#include "base/runq.h"
#include "manager.h"
#include "store/store.h"

struct timer;

struct power;

struct managed_lease {
    struct list node;
    struct lease *lease;
    struct power *power;                /* of one that is rented, or switched off from inside, else NULL */
    bool never_made;                    /* refused before anything of it was: see manager_forget_never_made() */
    uint64_t given_up_due;              /* a search left it, and it is forgotten then; 0: it is of use */
};

struct managed_deployment {
    struct list node;
    struct deployment *deployment;
};

struct managed_forward;

struct manager {
    struct manager_context context;
    struct list leases, deployments;    /* in order of their names */
    struct list forwards, trials, removals, aliases, puts, keeps;
    struct list choices;                /* models that are wanted on whichever comes first */
    struct list accounts, releases, adoptions;
    struct list orphans, orphan_ends;
    struct list gone_accounts;          /* removed: questions that are on their way still work with them, and what they spent counts */
    struct work forget;                 /* those that were given back, or that a search has left */
    struct timer *forget_timer;
    struct manager_listener *listeners;
    struct clock_watch *clock_watch;
    struct network_watch *network_watch;        /* NULL: no news of it can be had */
};

/* manager.c */
struct lease *manager_make_lease(struct manager *m, const struct instance_record *r, bool stored);
void manager_insert_lease(struct manager *m, struct lease *l);
void manager_tell_lease(struct manager *m, struct lease *l, bool gone);
void manager_look_at_lease(struct manager *m, struct lease *l);         /* it changed: whoever it concerns looks */
void manager_drop_deployments(struct manager *m, struct lease *l);      /* all of l's, also from the database */
void manager_drop_lease(struct manager *m, struct lease *l);

bool id_matches(const char *id, const char *asked);     /* "qwen3" is "qwen3:latest" and the other way round */

/* manager_names.c */
void aliases_restore(void *ctx, const char *name, const char *model);
void aliases_drop(struct manager *m);
/* What would have the name of one: 0, or -EINVAL with f, code name_is_alias. */
int aliases_refuse_instance(struct manager *m, const char *name, struct fault *f);
int aliases_refuse_model(struct manager *m, const char *model, struct fault *f);

/* manager_room.c: for deployments */
bool manager_find_room(void *ctx, struct deployment *asking, bool *crowded, char ret_text[static DEPLOYMENT_TEXT_MAX]);
bool manager_has_neighbours(void *ctx, const struct deployment *asking);

/* manager_instance.c */
void trials_lease_changed(struct manager *m, struct lease *l);
void trials_drop(struct manager *m);
bool trials_have(struct manager *m, const char *name);
bool instances_have(struct manager *m, const char *name);       /* also one that is on its way to be one, or to be none */
/* A new instance cannot have that name: 0, or -EINVAL with f, codes bad_name, name_is_alias, exists. */
int instances_refuse_name(struct manager *m, const char *name, struct fault *f);
void manager_forget_instance(struct manager *m, struct lease *l);      /* everything of it that is ours, here; the disk is told by the caller */

/* manager_remove.c */
bool removals_have(struct manager *m, const char *name);

/* manager_power.c; what its files share is in manager_power.h */
struct power *power_new(struct manager *m, struct lease *l);            /* NULL: it is nobody's to switch */
struct power *power_free(struct power *p);
/* It changed, or a model on it did. */
void powers_lease_changed(struct manager *m, struct lease *l);
void powers_account_changed(struct manager *m, struct account *a);
void powers_limits_set(struct manager *m, const struct account *a, const struct money_limits *before);  /* they are others than before */
void powers_restored(struct manager *m);
void powers_doubt(struct manager *m);                                   /* what is known of them may be old */

/* manager_keep.c */
struct keep_wish {
    int64_t rate_milli;                 /* of an hour; 0: unknown */
    uint64_t for_ms;
};
void keeps_reserve(struct manager *m, const struct lease *l, const struct keep_wish *w, struct op **slot, op_done_fn done, void *ctx);
bool keeps_have(struct manager *m, const char *instance);               /* one is on its way to the database */

/* manager_account.c */
int accounts_load(struct manager *m, struct fault *f);                  /* before the instances: with their ledgers */
void accounts_drop(struct manager *m);                                  /* after the instances */

/* manager_choice.c */
#define MANAGER_SEARCH_MS (2 * 3600 * 1000) /* for a card, unless `up` says otherwise; one by requests ends with the last of them */
void choices_restore(void *ctx, const struct choice_record *r);
void choices_changed(struct manager *m);                                /* a deployment or an instance did; before others hear of it */
void choices_drop(struct manager *m);
bool choices_have(struct manager *m, const struct lease *l);            /* it is one of those that a model is wanted on */

/* manager_rent.c */
void releases_forget(void *ctx);
void releases_drop(struct manager *m);

/* manager_adopt.c */
bool adoptions_have(struct manager *m, const char *name);
void adoptions_drop(struct manager *m);

/* manager_orphan.c; what its files share is in manager_orphan.h */
void orphans_restore(void *ctx, const struct orphan_record *r);
void orphans_listed(struct manager *m, struct account *a, const struct instance_seen *seen, unsigned n);
/* A rented machine cannot be the instance of that name: an orphan bears it, and would be taken for its own. 0, or -EINVAL with f, code is_orphan. */
int orphans_refuse_name(struct manager *m, const char *name, struct fault *f);
bool orphans_have_name(struct manager *m, const char *provider, const char *name);    /* of a machine: DAEMON-INSTANCE-NUMBER */
/* Its account cannot be removed: one bills there, or is being ended. 0, or -EINVAL with f, code has_orphan. */
int orphans_refuse_leave(struct manager *m, const char *provider, struct fault *f);
void orphans_leave(struct manager *m, const char *provider);            /* its account was removed */
void orphans_drop(struct manager *m);

/* manager_forward.c */
void forwards_restore(struct manager *m, const struct forward_record *r);
void forwards_drop(struct manager *m, struct lease *l);     /* NULL: all */
bool forwards_have(struct manager *m, const struct lease *l);
uint64_t forwards_bytes(struct manager *m, const struct lease *l);      /* that went through those of l; another number is news */
