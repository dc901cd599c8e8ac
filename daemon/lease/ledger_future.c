/* Intervals that a clock that was wrong has put into the future: they would cost nothing until then, and
 * stand in the way of what begins now. Nothing of a machine's time is lost by it: it was as long as it was,
 * up to now, as a guess. Days of a disk that are not over were not charged. What the provider stamped stays.
 */
#include "lease/ledger_private.h"
#include "proto/mem.h"

static bool is_time(const struct row *w)
{
    return streq(w->r.kind, "compute");
}

/* A rental in advance may begin where the one before it ends. */
static bool is_ahead(const struct row *w, int64_t now_ms)
{
    int64_t latest_ms = now_ms + LEDGER_SKEW_MS;

    if (streq(w->r.kind, "disk"))
        return w->r.to_at_ms > latest_ms;
    return is_time(w) && w->r.from_at_ms > latest_ms && !streq(w->r.from_basis, "stamp");
}

/* It began in time: only its end, or when it was seen last, is ahead. */
static void cut_back(struct ledger *g, struct row *w, int64_t now_ms)
{
    if (!is_time(w) || w->r.from_at_ms > now_ms)
        return;
    w->r.seen_at_ms = MIN(w->r.seen_at_ms, now_ms);
    if (w->r.to_at_ms > now_ms + LEDGER_SKEW_MS && !streq(w->r.to_basis, "stamp"))
        ledger_end(g, w, now_ms, "guess", now_ms);
}

/* As long as it was, to end at *end_ms, which is then where the one before it has to end. */
static void add_back(struct ledger *g, struct spent_record *r, int64_t *end_ms, int64_t now_ms)
{
    const struct row *before = ledger_newest(g, r->instance, "compute", NULL);
    int64_t span_ms = MAX((r->to_at_ms ? r->to_at_ms : r->seen_at_ms) - r->from_at_ms, (int64_t)0);

    while (before && before->r.from_at_ms >= *end_ms)
        before = ledger_newest(g, r->instance, "compute", before);
    int64_t free_from_ms = !before ? 0 : before->r.to_at_ms ? before->r.to_at_ms : *end_ms;

    r->from_at_ms = MAX(*end_ms - span_ms, free_from_ms);
    r->seen_at_ms = MAX(*end_ms, r->from_at_ms);
    if (r->to_at_ms) {
        r->to_at_ms = r->seen_at_ms;
        r->to_basis = "guess";
    }
    *end_ms = r->from_at_ms;
    ledger_put(g, ledger_add(g, r), now_ms);
}

void ledger_bring_back(struct ledger *g, const char *instance, int64_t now_ms)
{
    struct spent_record *times = xalloc((g->n_rows + 1) * sizeof *times);
    int64_t end_ms = now_ms;
    unsigned n = 0;

    for (unsigned i = 0; i < g->n_rows;) {
        struct row *w = g->rows[i];

        if (!streq(w->r.instance, instance) || !is_ahead(w, now_ms)) {
            if (streq(w->r.instance, instance))
                cut_back(g, w, now_ms);
            i++;
            continue;
        }
        if (is_time(w)) {
            times[n] = w->r;
            times[n].instance = xstrdup(w->r.instance);
            times[n].machine = xstrdup(w->r.machine);
            times[n++].intent = xstrdup(w->r.intent);
        }
        ledger_remove(g, w);
    }
    while (n-- > 0) { /* the last first; all are gone from where they were */
        add_back(g, &times[n], &end_ms, now_ms);
        free(times[n].instance);
        free(times[n].machine);
        free(times[n].intent);
    }
    free(times);
}
