/* What the files of the ledger share. ledger.c: time of machines; ledger_lump.c: what is paid as a whole;
 * ledger_sum.c: what it comes to. */
#pragma once

#include "lease/ledger.h"

#define HOUR_MS 3600000ll
#define DAY_MS  (24 * HOUR_MS)

/* instance, machine and intent are its own; provider and unit are the ledger's, the other texts words that stay. */
struct row {
    struct spent_record r;
    int64_t put_at_ms; /* when it was last put into the database */
};

struct ledger {
    struct store *store;
    const char *provider, *unit;
    int64_t day_offset_ms;
    struct row **rows; /* by their beginning */
    unsigned n_rows, max_rows;
};

/* ledger.c. A copy of r, in memory alone until it is put; provider and unit are the ledger's. */
struct row *ledger_add(struct ledger *g, const struct spent_record *r);
void ledger_put(struct ledger *g, struct row *w, int64_t now_ms);
/* Out of memory and of the database. */
void ledger_remove(struct ledger *g, struct row *w);
/* Not before it began. */
void ledger_end(struct ledger *g, struct row *w, int64_t at_ms, const char *basis, int64_t now_ms);
/* Of that machine and kind; before: the one before that. NULL: none. */
struct row *ledger_newest(const struct ledger *g, const char *instance, const char *kind,
                          const struct row *before);

/* ledger_future.c: part of ledger_read(). What a clock that was wrong has put into the future is brought back. */
void ledger_bring_back(struct ledger *g, const char *instance, int64_t now_ms);

/* ledger_lump.c: parts of ledger_read(). */
void ledger_read_prepaid(struct ledger *g, const struct ledger_reading *r, int64_t now_ms);
void ledger_read_disk(struct ledger *g, const struct ledger_reading *r, int64_t now_ms);
