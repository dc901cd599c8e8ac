/* What intervals cost. An interval has a cost up to each instant of it, and what it cost in between is the
 * difference: so days add up to the whole, whatever is rounded. */
#include "lease/ledger_private.h"
#include "proto/mem.h"

/* Paid as a whole, whatever it is used for. */
static bool is_lump(const struct spent_record *r)
{
    return !streq(r->kind, "compute");
}

int64_t ledger_cost(const struct spent_record *r, int64_t t_ms)
{
    bool over = r->to_at_ms && t_ms >= r->to_at_ms;
    int64_t span_ms = (over ? r->to_at_ms : t_ms) - r->from_at_ms;

    if (t_ms <= r->from_at_ms)
        return 0;
    if (is_lump(r)) {
        int64_t whole_ms = r->to_at_ms - r->from_at_ms;

        return over || whole_ms <= 0 ? r->lump_milli
                                     : r->lump_milli * (span_ms / 1000) / (whole_ms / 1000 + 1);
    }
    if (r->rate_milli <= 0)
        return 0;
    int64_t milli =
        r->rate_milli * (span_ms / HOUR_MS) + (r->rate_milli * (span_ms % HOUR_MS) + HOUR_MS / 2) / HOUR_MS;

    return over ? MAX(milli, LEDGER_MINIMUM_MILLI) : milli;
}

bool ledger_is_rate_known(const struct spent_record *r)
{
    return streq(r->rate_basis, "snapshot") || streq(r->rate_basis, "user");
}

bool ledger_is_unknown(const struct spent_record *r)
{
    return is_lump(r) ? r->lump_milli == 0 : r->rate_milli < 0;
}

static bool is_estimate(const struct spent_record *r)
{
    return !streq(r->from_basis, "stamp") || !r->to_basis || !streq(r->to_basis, "stamp") ||
           !ledger_is_rate_known(r);
}

/* One that began and ended at one instant is of that instant. */
static bool is_within(const struct spent_record *r, int64_t from_at_ms, int64_t to_at_ms)
{
    if (r->from_at_ms >= to_at_ms)
        return false;
    return !r->to_at_ms || r->to_at_ms > from_at_ms ||
           (r->to_at_ms == r->from_at_ms && r->from_at_ms == from_at_ms);
}

bool ledger_is_of(const struct spent_record *r, const char *instance, const char *machine)
{
    return streq(r->instance, instance) && (r->machine && machine ? streq(r->machine, machine) : !r->machine && !machine);
}

static void add_cost(struct ledger_sum *sum, const struct spent_record *r, int64_t from_at_ms, int64_t to_at_ms)
{
    int64_t milli = ledger_cost(r, to_at_ms) - ledger_cost(r, from_at_ms);

    if (!is_within(r, from_at_ms, to_at_ms))
        return;
    sum->milli += milli;
    sum->estimate = sum->estimate || (milli > 0 && is_estimate(r));
    sum->unknown = sum->unknown || ledger_is_unknown(r);
}

struct ledger_sum ledger_sum(const struct ledger *g, const char *instance, int64_t from_at_ms,
                             int64_t to_at_ms)
{
    const struct spent_record *r;
    struct ledger_sum sum = {0};

    for (unsigned i = 0; (r = ledger_row_at(g, i)); i++)
        if (!instance || streq(r->instance, instance))
            add_cost(&sum, r, from_at_ms, to_at_ms);
    return sum;
}

struct ledger_sum ledger_sum_of(const struct ledger *g, const char *instance, const char *machine,
                                int64_t from_at_ms, int64_t to_at_ms)
{
    const struct spent_record *r;
    struct ledger_sum sum = {0};

    for (unsigned i = 0; (r = ledger_row_at(g, i)); i++)
        if (ledger_is_of(r, instance, machine))
            add_cost(&sum, r, from_at_ms, to_at_ms);
    return sum;
}

static void add_rate(struct ledger_sum *sum, const struct spent_record *r)
{
    if (r->to_at_ms)
        return;
    sum->milli += MAX(r->rate_milli, 0);
    sum->estimate = sum->estimate || !ledger_is_rate_known(r);
    sum->unknown = sum->unknown || r->rate_milli < 0;
}

struct ledger_sum ledger_rate(const struct ledger *g, const char *instance)
{
    const struct spent_record *r;
    struct ledger_sum sum = {0};

    for (unsigned i = 0; (r = ledger_row_at(g, i)); i++)
        if (!instance || streq(r->instance, instance))
            add_rate(&sum, r);
    return sum;
}

struct ledger_sum ledger_rate_of(const struct ledger *g, const char *instance, const char *machine)
{
    const struct spent_record *r;
    struct ledger_sum sum = {0};

    for (unsigned i = 0; (r = ledger_row_at(g, i)); i++)
        if (ledger_is_of(r, instance, machine))
            add_rate(&sum, r);
    return sum;
}
