/* What the machines of one account cost: intervals of time at one rate, from what was read to what was
 * confirmed. In memory are those of this month and of the one before; the database has all of them, and
 * forbids two at once (reference/lease.md §3).
 *
 * Sums are made when they are asked for, never kept. A sum is exact in thousandths, or says that it is an
 * estimate, or that a rate in it is unknown: an unknown one is never counted as 0. Days are the provider's.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "provider/rental.h"
#include "store/store.h"

struct ledger;

/* By how much the provider's clock may differ from the one that instants are handed in by. */
#define LEDGER_SKEW_MS 60000

/* What a closed interval of a machine costs at least, where it costs at all. */
#define LEDGER_MINIMUM_MILLI 10

/* unit and day_offset_ms: of the provider (rental.h). Texts borrowed for the life. */
struct ledger *ledger_new(struct store *s, const char *provider, const char *unit, int64_t day_offset_ms);
struct ledger *ledger_free(struct ledger *g);
/* One that the database has, once, before anything is read. */
void ledger_restore(struct ledger *g, const struct spent_record *r);

/* What was read of a machine, each time it is read. */
struct ledger_reading {
    const char *instance; /* our name for it */
    const char *machine;  /* the provider's */
    enum instance_power power;
    bool off_counts;      /* power is INSTANCE_OFF, and it can be believed (life.h) */
    /* The bill's own stamps, 0: none; during a boot they are those of the boot before. */
    int64_t started_at_ms, stopped_at_ms;
    int64_t asked_at_ms;         /* of our call that switched it on, 0: not by us */
    const char *intent;          /* that call's name in the database; NULL: not by us */
    int64_t rate_milli;          /* of an hour, as read in this cycle; 0: not read */
    int64_t list_rate_milli;     /* of an hour, from the price list; 0: unknown */
    int64_t prepaid_until_at_ms; /* its time is paid for until then, as the list has it; 0: billed by time */
    int64_t disk_day_milli;      /* its disk, of a day, on or off; 0: nothing */
    int64_t known_at_ms;         /* it is an instance of ours since then */
    bool is_adopted;             /* somebody else had made it */
    bool no_card;                /* it is on without its card */
};
/* Opens, corrects and closes intervals, here and in the database. Closing by the provider's stamp is exact;
 * until there is one, and where none comes, the end is "seen". One that is on its way from on to off, or
 * back, changes nothing to its time. A rental in advance is a row of its own, kind "prepaid", as long as it
 * is said; so is each of the provider's days of a disk, kind "disk", when the day is over. */
void ledger_read(struct ledger *g, const struct ledger_reading *r, int64_t now_ms);
/* It is gone (released, vanished): what is open ends as a guess, at the last time it was seen. */
void ledger_gone(struct ledger *g, const char *instance, int64_t now_ms);

/* What that interval has cost up to an instant, to the nearest thousandth; behind its end at least the minimum. */
int64_t ledger_cost(const struct spent_record *r, int64_t at_ms);
/* Its rate was read of the machine, or a person's word; else it is the price list's, or nobody's. */
bool ledger_is_rate_known(const struct spent_record *r);

/* Nobody knows what it costs: its rate, or what was paid for it as a whole. */
bool ledger_is_unknown(const struct spent_record *r);

struct ledger_sum {
    int64_t milli;
    bool estimate; /* something in it is not the provider's own word: "~" */
    bool unknown;  /* a rate in it is unknown: "?" */
};
/* What [from, to) cost; of what still runs up to to_at_ms, so hand in now and not the end of a day to come.
 * instance NULL: all. */
struct ledger_sum ledger_sum(const struct ledger *g, const char *instance, int64_t from_at_ms,
                             int64_t to_at_ms);
/* The same of one machine alone, among those that had that name one after the other. machine: the provider's id; NULL: of those whose id is not in
 * the books. */
struct ledger_sum ledger_sum_of(const struct ledger *g, const char *instance, const char *machine,
                                int64_t from_at_ms, int64_t to_at_ms);
bool ledger_is_of(const struct spent_record *r, const char *instance, const char *machine);
int64_t ledger_day_begins(const struct ledger *g, int64_t now_ms);
int64_t ledger_month_begins(const struct ledger *g, int64_t now_ms);
/* "2026-11-27", of the provider's day. */
const char *ledger_day_format(const struct ledger *g, int64_t now_ms, char out[static 12]);
/* What runs now costs so much an hour; as a sum of rates. */
struct ledger_sum ledger_rate(const struct ledger *g, const char *instance);
struct ledger_sum ledger_rate_of(const struct ledger *g, const char *instance, const char *machine);
/* The intervals in memory, oldest first; NULL beyond the last. Until the next reading. */
const struct spent_record *ledger_row_at(const struct ledger *g, unsigned i);
