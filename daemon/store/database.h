/* Private to store/. The database file: opening, judging and migrating it, writing changes, reading rows. Used by one thread at a
 * time. Everything here blocks. */
#pragma once

#include <sqlite3.h>

#include "store/change.h"

struct database {
    char *path;
    sqlite3 *sql;
    int lock;                                   /* descriptor of the locked directory */
    bool read_only;                             /* could be read, but not opened for writing */
    sqlite3_stmt *statements[CHANGE_KINDS];     /* made when first needed */
    unsigned events_since_prune;
    char daemon_id[9];
};

#define DATABASE_EVENTS_MAX 100000

/* As store_open(). When it is read_only afterwards, f says why. */
int database_open(const char *directory, struct database **ret, struct fault *f);
/* Again, for writing. < 0: read_only still; or, when it cannot even be read any more, of no use until it is opened again. */
int database_reopen(struct database *d, struct fault *f);
struct database *database_free(struct database *d);

/* From whatever version it has to the newest of schema, in one transaction. -ENOTSUP: it is newer; -EBADMSG: not ours. */
int database_migrate(struct database *d, const char *schema, struct fault *f);

/* Says in f what an error code of SQLite means; returns f's negative errno. */
int database_fault(struct database *d, int code, struct fault *f);
/* The same for an errno from before SQLite had a say. */
int database_fault_errno(const char *path, int error, struct fault *f);

/* All in one transaction: 0, or < 0 and nothing was written. A change that breaks a constraint alone gets its fault and the
 * others are written. */
int database_write(struct database *d, struct list *changes, struct fault *f);

int database_load(struct database *d, const struct store_readers *readers, void *ctx, struct fault *f);
int database_load_durations(struct database *d, void (*duration)(void *ctx, const char *what, const char *last), void *ctx,
                            struct fault *f);

int database_load_counts(struct database *d, void (*count)(void *ctx, const struct count_record *r), void *ctx, struct fault *f);

int database_load_choices(struct database *d, void (*choice)(void *ctx, const struct choice_record *r), void *ctx, struct fault *f);
int database_load_aliases(struct database *d, void (*alias)(void *ctx, const char *name, const char *model), void *ctx, struct fault *f);
int database_load_keys(struct database *d, void (*key)(void *ctx, const struct key_record *r), void *ctx, struct fault *f);

/* rows_money.c */
int database_load_accounts(struct database *d, void (*account)(void *ctx, const struct account_record *r), void *ctx, struct fault *f);
int database_load_orphans(struct database *d, void (*orphan)(void *ctx, const struct orphan_record *r), void *ctx, struct fault *f);
int database_load_reserved(struct database *d, void (*reserved)(void *ctx, const struct intent_record *r), void *ctx, struct fault *f);
int database_load_spent(struct database *d, int64_t now_ms, int64_t for_ms, void (*spent)(void *ctx, const struct spent_record *r), void *ctx,
                        struct fault *f);
/* Why the limits of c, a CHANGE_RESERVE, have no room for it: with figures, as of this transaction. */
void database_refuse_reservation(struct database *d, struct change *c);

/* Hands each row to see(). */
int database_each_row(struct database *d, const char *sql, void (*see)(sqlite3_stmt *row, void *to), void *to, struct fault *f);
/* Binds c's values to ?1, ?2 …; a code of SQLite. */
int database_bind(sqlite3_stmt *statement, const struct change *c);
/* Text that lasts until the next step; not const, as the readers' records are, who do not change it. */
char *database_text_at(sqlite3_stmt *row, int column);

struct database_events {
    const char *target;
    int64_t since_at_ms;
    unsigned lines;
    struct event_row *rows;     /* oldest first */
    unsigned n;
    uint64_t older;
};
/* Fills rows, n and older. */
int database_read_events(struct database *d, struct database_events *e, struct fault *f);
void database_events_done(struct database_events *e);
