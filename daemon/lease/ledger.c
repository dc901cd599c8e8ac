/* A cycle is the time from a power-on to the off after it: one interval, or several where the price changed
 * in between, each of which begins where the one before ended with the basis "price". A start that the
 * provider stamps is the name of its cycle. All that is read is held against the newest cycle that is known:
 *
 *   the same start      it goes on; with a stop behind it, it is over, to the second
 *   another, later      the old one ended unseen, where it was last seen, as a guess
 *   an older one        a stamp that is not yet of this boot: as if there were none
 *
 * An interval begins as well as it can be known and is corrected when the stamp comes. The database refuses
 * what would be wrong all the same. */
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "lease/ledger_private.h"
#include "proto/mem.h"

#define PUT_EVERY_MS 60000 /* of what only went on */

struct ledger *ledger_new(struct store *s, const char *provider, const char *unit, int64_t day_offset_ms)
{
    struct ledger *g = xnew(struct ledger);

    g->store = s;
    g->provider = provider;
    g->unit = unit;
    g->day_offset_ms = day_offset_ms;
    return g;
}

static void row_free(struct row *w)
{
    free(w->r.instance);
    free(w->r.machine);
    free(w->r.intent);
    free(w);
}

struct ledger *ledger_free(struct ledger *g)
{
    if (!g)
        return NULL;
    for (unsigned i = 0; i < g->n_rows; i++)
        row_free(g->rows[i]);
    free(g->rows);
    free(g);
    return NULL;
}

/* ---- rows ---- */

/* The words of the schema, as text that stays. */
static char *word(const char *text)
{
    static char *const words[] = {"compute", "disk",  "prepaid",  "stamp", "seen", "asked",
                                  "price",   "guess", "snapshot", "list",  "user", "unknown"};

    for (size_t i = 0; text && i < ELEMENTS(words); i++)
        if (streq(words[i], text))
            return words[i];
    return NULL;
}

static bool is_stamped(const char *basis)
{
    return basis && streq(basis, "stamp");
}

static void sort_row(struct ledger *g, unsigned i)
{
    for (; i > 0 && g->rows[i - 1]->r.from_at_ms > g->rows[i]->r.from_at_ms; i--) {
        struct row *later = g->rows[i - 1];

        g->rows[i - 1] = g->rows[i];
        g->rows[i] = later;
    }
}

static void sort_rows(struct ledger *g)
{
    for (unsigned i = 1; i < g->n_rows; i++)
        sort_row(g, i);
}

static void grow(struct ledger *g)
{
    struct row **larger = xalloc((2 * g->max_rows + 16) * sizeof(*larger));

    if (g->n_rows > 0)
        memcpy(larger, g->rows, g->n_rows * sizeof(*larger));
    free(g->rows);
    g->rows = larger;
    g->max_rows = 2 * g->max_rows + 16;
}

struct row *ledger_add(struct ledger *g, const struct spent_record *r)
{
    struct row *w = xnew(struct row);

    w->r = *r;
    w->r.provider = (char *)g->provider;
    w->r.unit = (char *)g->unit;
    w->r.instance = xstrdup(r->instance);
    w->r.machine = xstrdup(r->machine);
    w->r.intent = xstrdup(r->intent);
    w->r.kind = word(r->kind);
    w->r.from_basis = word(r->from_basis);
    w->r.to_basis = word(r->to_basis);
    w->r.rate_basis = word(r->rate_basis);
    if (g->n_rows == g->max_rows)
        grow(g);
    g->rows[g->n_rows++] = w;
    sort_row(g, g->n_rows - 1);
    return w;
}

void ledger_restore(struct ledger *g, const struct spent_record *r)
{
    struct row *w = ledger_add(g, r);

    w->put_at_ms = r->seen_at_ms;
}

const struct spent_record *ledger_row_at(const struct ledger *g, unsigned i)
{
    return i < g->n_rows ? &g->rows[i]->r : NULL;
}

struct row *ledger_newest(const struct ledger *g, const char *instance, const char *kind,
                          const struct row *before)
{
    bool passed = !before;

    for (unsigned i = g->n_rows; i > 0; i--) {
        struct row *w = g->rows[i - 1];

        if (passed && streq(w->r.instance, instance) && streq(w->r.kind, kind))
            return w;
        passed = passed || w == before;
    }
    return NULL;
}

/* The one before w of the same machine's time; of w NULL: the newest. NULL: none. */
static struct row *row_before(const struct ledger *g, const char *instance, const struct row *w)
{
    return ledger_newest(g, instance, "compute", w);
}

/* The first of w's cycle. */
static struct row *cycle_of(const struct ledger *g, struct row *w)
{
    for (;;) {
        struct row *before = row_before(g, w->r.instance, w);

        if (!before || !before->r.to_basis || !streq(before->r.to_basis, "price"))
            return w;
        w = before;
    }
}

/* But for the newest of a machine and kind: what is read is held against it. */
static void drop_old_rows(struct ledger *g, int64_t now_ms)
{
    int64_t before_ms = ledger_month_begins(g, ledger_month_begins(g, now_ms) - 1);
    unsigned kept = 0;

    for (unsigned i = 0; i < g->n_rows; i++) {
        struct row *w = g->rows[i];

        if (!w->r.to_at_ms || w->r.to_at_ms > before_ms ||
            w == ledger_newest(g, w->r.instance, w->r.kind, NULL))
            g->rows[kept++] = w;
        else
            row_free(w);
    }
    g->n_rows = kept;
}

void ledger_put(struct ledger *g, struct row *w, int64_t now_ms)
{
    w->put_at_ms = now_ms;
    store_put_spent(g->store, &w->r);
}

void ledger_remove(struct ledger *g, struct row *w)
{
    unsigned i = 0;

    store_remove_spent(g->store, &w->r);
    while (g->rows[i] != w)
        i++;
    g->n_rows--;
    memmove(&g->rows[i], &g->rows[i + 1], (g->n_rows - i) * sizeof *g->rows);
    row_free(w);
}

void ledger_end(struct ledger *g, struct row *w, int64_t at_ms, const char *basis, int64_t now_ms)
{
    w->r.to_at_ms = MAX(at_ms, w->r.from_at_ms);
    w->r.to_basis = word(basis);
    ledger_put(g, w, now_ms);
}

/* What ended at an instant that was not the provider's gives way to a start that is. */
static void make_room(struct ledger *g, struct row *before, int64_t from_at_ms, int64_t now_ms)
{
    if (before && before->r.to_at_ms > from_at_ms && !is_stamped(before->r.to_basis))
        ledger_end(g, before, from_at_ms, before->r.to_basis, now_ms);
}

static void move_row(struct ledger *g, struct row *w, int64_t from_at_ms, int64_t now_ms)
{
    make_room(g, row_before(g, w->r.instance, w), from_at_ms, now_ms);
    if (w->r.from_at_ms != from_at_ms)
        store_move_spent(g->store, &w->r, from_at_ms);
    w->r.from_at_ms = from_at_ms;
    w->r.from_basis = word("stamp");
    ledger_put(g, w, now_ms);
    sort_rows(g);
}

/* ---- rates ---- */

static void set_rate(struct row *w, int64_t milli, const char *basis)
{
    w->r.rate_milli = milli;
    w->r.rate_basis = word(basis);
}

/* It is paid for already, and its time costs nothing. */
static bool is_prepaid(const struct ledger_reading *r, int64_t now_ms)
{
    return r->prepaid_until_at_ms > now_ms;
}

static bool was_prepaid(const struct row *w)
{
    return w->r.rate_milli == 0 && streq(w->r.rate_basis, "user");
}

/* Of a cycle that runs: what was read in it; else the list's. */
static void first_rate(struct row *w, const struct ledger_reading *r, int64_t now_ms)
{
    if (is_prepaid(r, now_ms))
        set_rate(w, 0, "user");
    else if (r->rate_milli > 0)
        set_rate(w, r->rate_milli, "snapshot");
    else if (r->list_rate_milli > 0)
        set_rate(w, r->list_rate_milli, "list");
    else
        set_rate(w, -1, "unknown");
}

/* Of one that was found when it was over: nobody read the price in it. */
static void late_rate(struct row *w, const struct ledger_reading *r, const struct row *before)
{
    if (is_prepaid(r, r->stopped_at_ms))
        set_rate(w, 0, "user");
    else if (r->rate_milli > 0 || r->list_rate_milli > 0)
        set_rate(w, r->rate_milli > 0 ? r->rate_milli : r->list_rate_milli, "list");
    else if (before && before->r.rate_milli > 0)
        set_rate(w, before->r.rate_milli, "list");
    else
        set_rate(w, -1, "unknown");
}

/* ---- reading ---- */

/* By us is what our call began, and nothing that began again after it. */
static bool is_by_us(const struct ledger_reading *r, const struct row *last, int64_t from_at_ms)
{
    if (!r->intent || r->asked_at_ms == 0 || from_at_ms < r->asked_at_ms - LEDGER_SKEW_MS)
        return false;
    return !last || !last->r.intent || !streq(last->r.intent, r->intent);
}

static struct row *begin(struct ledger *g, const struct ledger_reading *r, int64_t from_at_ms,
                         const char *basis, int64_t seen_at_ms)
{
    struct spent_record new = {
        .instance = (char *)r->instance,
        .machine = (char *)r->machine,
        .kind = "compute",
        .intent = is_by_us(r, row_before(g, r->instance, NULL), from_at_ms) ? (char *)r->intent : NULL,
        .from_at_ms = from_at_ms,
        .from_basis = (char *)basis,
        .seen_at_ms = seen_at_ms,
        .rate_milli = -1,
        .rate_basis = "unknown",
        .no_card = r->no_card,
    };

    return ledger_add(g, &new);
}

/* Where w's cycle begins is not the provider's word yet, and this may be it. */
static bool may_begin_at(const struct ledger *g, struct row *w, int64_t started_at_ms)
{
    struct row *first = cycle_of(g, w), *before = row_before(g, w->r.instance, first);

    if (is_stamped(first->r.from_basis) || started_at_ms > first->r.seen_at_ms + LEDGER_SKEW_MS)
        return false;
    if (first->r.to_at_ms && started_at_ms > first->r.to_at_ms)
        return false;
    if (!before)
        return true;
    return started_at_ms > cycle_of(g, before)->r.from_at_ms &&
           (!is_stamped(before->r.to_basis) || started_at_ms >= before->r.to_at_ms);
}

static bool is_start_of(const struct ledger *g, struct row *w, int64_t started_at_ms)
{
    return cycle_of(g, w)->r.from_at_ms == started_at_ms;
}

/* A start behind everything that is known. */
static bool is_later(const struct row *last, int64_t started_at_ms)
{
    if (!last)
        return true;
    if (started_at_ms <= last->r.from_at_ms)
        return false;
    return !is_stamped(last->r.to_basis) || started_at_ms >= last->r.to_at_ms;
}

/* Nobody saw it end. The list keeps the last stop only: if it fits, it is likely this one's. */
static void end_unseen(struct ledger *g, struct row *w, const struct ledger_reading *r, int64_t now_ms)
{
    int64_t at_ms = w->r.seen_at_ms;

    if (r->stopped_at_ms >= at_ms && r->stopped_at_ms <= r->started_at_ms)
        at_ms = r->stopped_at_ms;
    ledger_end(g, w, at_ms, "guess", now_ms);
}

static void begin_seen(struct ledger *g, const struct ledger_reading *r, struct row *last,
                       int64_t started_at_ms, int64_t now_ms)
{
    int64_t free_from_ms = last ? last->r.to_at_ms : 0, from_at_ms = MAX(now_ms, free_from_ms);
    const char *basis = "seen";

    if (started_at_ms > 0) {
        make_room(g, last, started_at_ms, now_ms);
        from_at_ms = started_at_ms;
        basis = "stamp";
    } else if (r->asked_at_ms > 0 && r->asked_at_ms >= free_from_ms) {
        from_at_ms = r->asked_at_ms;
        basis = "asked";
    }
    struct row *w = begin(g, r, from_at_ms, basis, now_ms);

    first_rate(w, r, now_ms);
    ledger_put(g, w, now_ms);
}

/* It was taken for over and runs on: no start since, neither stamped nor asked for. */
static bool runs_on(const struct ledger *g, struct row *last, const struct ledger_reading *r)
{
    return last && !is_stamped(last->r.to_basis) && r->asked_at_ms <= last->r.to_at_ms &&
           r->stopped_at_ms < r->started_at_ms && is_start_of(g, last, r->started_at_ms);
}

/* A new price: whether the bill follows, and since when, is not known. What was prepaid is billed by time
 * from its end. */
static int64_t changed_at(const struct ledger *g, const struct row *w, int64_t now_ms)
{
    const struct row *paid = ledger_newest(g, w->r.instance, "prepaid", NULL);

    if (!was_prepaid(w) || !paid || paid->r.to_at_ms <= w->r.from_at_ms)
        return now_ms;
    return MIN(paid->r.to_at_ms, now_ms);
}

static struct row *split(struct ledger *g, struct row *w, const struct ledger_reading *r, int64_t now_ms)
{
    ledger_end(g, w, changed_at(g, w, now_ms), "price", now_ms);
    struct row *next = begin(g, r, w->r.to_at_ms, "seen", now_ms);

    free(next->r.intent);
    next->r.intent = xstrdup(w->r.intent);
    first_rate(next, r, now_ms);
    ledger_put(g, next, now_ms);
    return next;
}

/* Its time was paid for until an instant that has passed meanwhile. */
static void end_prepaid(struct ledger *g, const struct ledger_reading *r, int64_t now_ms)
{
    struct row *last = row_before(g, r->instance, NULL);

    if (!last || last->r.to_at_ms || !was_prepaid(last) || is_prepaid(r, now_ms))
        return;
    if (r->power == INSTANCE_OFF && r->stopped_at_ms > last->r.from_at_ms)
        now_ms = MIN(now_ms, r->stopped_at_ms);
    if (changed_at(g, last, now_ms) < now_ms)
        split(g, last, r, now_ms);
}

static bool has_other_rate(const struct row *w, const struct ledger_reading *r, int64_t now_ms)
{
    if (was_prepaid(w) || is_prepaid(r, now_ms))
        return was_prepaid(w) != is_prepaid(r, now_ms);
    return r->rate_milli > 0 && r->rate_milli != w->r.rate_milli;
}

static void go_on(struct ledger *g, struct row *w, const struct ledger_reading *r, int64_t now_ms)
{
    bool is_read = ledger_is_rate_known(&w->r), is_news = false;

    if (is_read && has_other_rate(w, r, now_ms) && now_ms > w->r.from_at_ms) {
        w = split(g, w, r, now_ms);
    } else if (!is_read && (is_prepaid(r, now_ms) || r->rate_milli > 0 ||
                            (w->r.rate_milli < 0 && r->list_rate_milli > 0))) {
        first_rate(w, r, now_ms);
        is_news = true;
    }
    w->r.seen_at_ms = MAX(now_ms, w->r.seen_at_ms);
    if (is_news || now_ms - w->put_at_ms >= PUT_EVERY_MS || now_ms < w->put_at_ms)
        ledger_put(g, w, now_ms);
}

static void read_on(struct ledger *g, const struct ledger_reading *r, int64_t now_ms)
{
    struct row *last = row_before(g, r->instance, NULL);
    /* With a stop behind it a start is of a cycle that is over. */
    int64_t started_at_ms = r->stopped_at_ms > r->started_at_ms ? 0 : r->started_at_ms;

    if (runs_on(g, last, r)) {
        last->r.to_at_ms = 0;
        last->r.to_basis = NULL;
        ledger_put(g, last, now_ms);
    }
    if (!last || last->r.to_at_ms) {
        begin_seen(g, r, last, is_later(last, started_at_ms) ? started_at_ms : 0, now_ms);
        return;
    }
    if (started_at_ms > 0 && may_begin_at(g, last, started_at_ms)) {
        move_row(g, cycle_of(g, last), started_at_ms, now_ms);
    } else if (started_at_ms > 0 && is_later(last, started_at_ms)) {
        end_unseen(g, last, r, now_ms);
        begin_seen(g, r, last, started_at_ms, now_ms);
        return;
    }
    go_on(g, last, r, now_ms);
}

/* A whole cycle between two readings. */
static void add_unseen(struct ledger *g, const struct ledger_reading *r, struct row *last, int64_t now_ms)
{
    make_room(g, last, r->started_at_ms, now_ms);
    struct row *w = begin(g, r, r->started_at_ms, "stamp", r->stopped_at_ms);

    late_rate(w, r, last);
    ledger_end(g, w, r->stopped_at_ms, "stamp", now_ms);
}

/* A machine that nothing is known of: the stamps are of before it was ours, unless we asked. */
static bool is_of_our_time(const struct ledger_reading *r, const struct row *last)
{
    return last || (r->asked_at_ms > 0 && r->stopped_at_ms >= r->asked_at_ms - LEDGER_SKEW_MS);
}

static void read_off(struct ledger *g, const struct ledger_reading *r, int64_t now_ms)
{
    struct row *last = row_before(g, r->instance, NULL);
    int64_t started_at_ms = r->started_at_ms, stopped_at_ms = r->stopped_at_ms;
    bool has_pair = started_at_ms > 0 && stopped_at_ms >= started_at_ms;
    bool is_open = last && !last->r.to_at_ms, is_exact = last && is_stamped(last->r.to_basis);

    if (has_pair && last && !is_exact && stopped_at_ms >= last->r.from_at_ms &&
        may_begin_at(g, last, started_at_ms))
        move_row(g, cycle_of(g, last), started_at_ms, now_ms);
    if (has_pair && last && !is_exact && stopped_at_ms >= last->r.from_at_ms &&
        is_start_of(g, last, started_at_ms)) {
        ledger_end(g, last, stopped_at_ms, "stamp", now_ms);
    } else if (has_pair && is_later(last, started_at_ms) && is_of_our_time(r, last)) {
        if (is_open)
            ledger_end(g, last, last->r.seen_at_ms, "guess", now_ms);
        add_unseen(g, r, last, now_ms);
    } else if (is_open) {
        ledger_end(g, last, now_ms, "seen", now_ms); /* the stamp may still come */
    }
}

void ledger_read(struct ledger *g, const struct ledger_reading *r, int64_t now_ms)
{
    drop_old_rows(g, now_ms);
    ledger_bring_back(g, r->instance, now_ms);
    ledger_read_prepaid(g, r, now_ms);
    if (r->power == INSTANCE_ON || (r->power == INSTANCE_OFF && r->off_counts))
        end_prepaid(g, r, now_ms);
    if (r->power == INSTANCE_ON)
        read_on(g, r, now_ms);
    else if (r->power == INSTANCE_OFF && r->off_counts)
        read_off(g, r, now_ms);
    ledger_read_disk(g, r, now_ms);
}

void ledger_gone(struct ledger *g, const char *instance, int64_t now_ms)
{
    struct row *last = row_before(g, instance, NULL);

    if (last && !last->r.to_at_ms)
        ledger_end(g, last, last->r.seen_at_ms, "guess", now_ms);
}

/* ---- the provider's days ---- */

static struct tm day_of(const struct ledger *g, int64_t now_ms)
{
    time_t t = (time_t)((now_ms + g->day_offset_ms) / 1000);
    struct tm day;

    gmtime_r(&t, &day);
    return day;
}

static int64_t begin_of(const struct ledger *g, struct tm day)
{
    day.tm_hour = day.tm_min = day.tm_sec = 0;
    return (int64_t)timegm(&day) * 1000 - g->day_offset_ms;
}

int64_t ledger_day_begins(const struct ledger *g, int64_t now_ms)
{
    return begin_of(g, day_of(g, now_ms));
}

int64_t ledger_month_begins(const struct ledger *g, int64_t now_ms)
{
    struct tm day = day_of(g, now_ms);

    day.tm_mday = 1;
    return begin_of(g, day);
}

const char *ledger_day_format(const struct ledger *g, int64_t now_ms, char out[static 12])
{
    struct tm day = day_of(g, now_ms);

    strftime(out, 12, "%Y-%m-%d", &day);
    return out;
}
