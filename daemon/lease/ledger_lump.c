/* What is paid as a whole: a rental in advance, of which the list tells the end and nobody the price; and a
 * disk, which is charged at the end of each of the provider's days, whether its machine was on or not
 * (reference/autodl.md §5.3). */
#include "lease/ledger_private.h"
#include "proto/mem.h"

/* Days that are made up for: longer is a clock that is wrong, and no company keeps a disk that long. */
#define DAYS_MAX 40

static void add_lump(struct ledger *g, const struct spent_record *lump, int64_t now_ms)
{
    struct spent_record r = *lump;

    r.rate_milli = -1;
    r.seen_at_ms = now_ms;
    ledger_put(g, ledger_add(g, &r), now_ms);
}

/* One that was prolonged is paid for anew. */
void ledger_read_prepaid(struct ledger *g, const struct ledger_reading *r, int64_t now_ms)
{
    struct row *last = ledger_newest(g, r->instance, "prepaid", NULL);
    int64_t until_at_ms = r->prepaid_until_at_ms;

    if (until_at_ms <= now_ms || (last && last->r.to_at_ms == until_at_ms))
        return;
    if (last && last->r.to_at_ms > until_at_ms) {
        ledger_end(g, last, until_at_ms, "seen", now_ms);
        return;
    }
    const struct spent_record lump = {
        .instance = (char *)r->instance,
        .machine = (char *)r->machine,
        .kind = "prepaid",
        .from_at_ms = MAX(last ? last->r.to_at_ms : 0, now_ms),
        .from_basis = "seen",
        .to_at_ms = until_at_ms,
        .to_basis = "seen",
        .rate_basis = "unknown",
    };

    add_lump(g, &lump, now_ms);
}

/* Since when it has its disk and that is in no row yet: since it was first on, or, of one that somebody else
 * made, since it is known. 0: it is not there yet. */
static int64_t disk_begins(const struct ledger *g, const struct ledger_reading *r)
{
    const struct row *last = ledger_newest(g, r->instance, "disk", NULL);

    if (last && last->r.to_at_ms > r->known_at_ms)
        return last->r.to_at_ms;
    if (r->is_adopted)
        return r->known_at_ms;
    for (unsigned i = 0; i < g->n_rows; i++)
        if (streq(g->rows[i]->r.instance, r->instance) && streq(g->rows[i]->r.kind, "compute") &&
            g->rows[i]->r.from_at_ms >= r->known_at_ms - LEDGER_SKEW_MS)
            return g->rows[i]->r.from_at_ms;
    return 0;
}

/* A row for each day that is over. Of the days when nobody looked it is a guess that it was there, as it is
 * now. */
void ledger_read_disk(struct ledger *g, const struct ledger_reading *r, int64_t now_ms)
{
    int64_t from_at_ms = r->disk_day_milli > 0 ? disk_begins(g, r) : 0, end_at_ms;

    if (!from_at_ms)
        return;
    from_at_ms = MAX(from_at_ms, ledger_day_begins(g, now_ms - DAYS_MAX * DAY_MS));
    for (; (end_at_ms = ledger_day_begins(g, from_at_ms) + DAY_MS) <= now_ms; from_at_ms = end_at_ms) {
        const struct spent_record lump = {
            .instance = (char *)r->instance,
            .machine = (char *)r->machine,
            .kind = "disk",
            .from_at_ms = from_at_ms,
            .from_basis = "seen",
            .to_at_ms = end_at_ms,
            .to_basis = now_ms - end_at_ms < HOUR_MS ? "seen" : "guess",
            .rate_basis = "list",
            .lump_milli = r->disk_day_milli,
        };

        add_lump(g, &lump, now_ms);
    }
}
