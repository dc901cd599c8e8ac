/* Reading of accounts, of what was spent and of machines nobody knows, and the sentence of a reservation that
 * was refused. */
#include "base/fault.h"
#include "proto/text.h"
#include "store/database.h"

struct load_accounts {
    void (*account)(void *ctx, const struct account_record *r);
    void *ctx;
};

static void see_account(sqlite3_stmt *row, void *to)
{
    struct load_accounts *load = to;
    struct account_record r = {
        .provider = database_text_at(row, 0),
        .base_url = database_text_at(row, 1),
        .limits = {.day_milli = sqlite3_column_int64(row, 2),
                   .month_milli = sqlite3_column_int64(row, 3),
                   .price_milli = sqlite3_column_int64(row, 4),
                   .floor_milli = sqlite3_column_int64(row, 5)},
        .added_at_ms = sqlite3_column_int64(row, 6),
    };

    load->account(load->ctx, &r);
}

int database_load_accounts(struct database *d, void (*account)(void *ctx, const struct account_record *r),
                           void *ctx, struct fault *f)
{
    struct load_accounts load = {.account = account, .ctx = ctx};

    return database_each_row(d,
                             "SELECT provider, base_url, day_milli, month_milli, price_milli, floor_milli, "
                             "added_at_ms FROM account ORDER BY added_at_ms, provider",
                             see_account, &load, f);
}

struct load_spent {
    void (*spent)(void *ctx, const struct spent_record *r);
    void *ctx;
};

static void see_spent(sqlite3_stmt *row, void *to)
{
    struct load_spent *load = to;
    struct spent_record r = {
        .provider = database_text_at(row, 0),
        .instance = database_text_at(row, 1),
        .kind = database_text_at(row, 2),
        .intent = database_text_at(row, 3),
        .from_at_ms = sqlite3_column_int64(row, 4),
        .from_basis = database_text_at(row, 5),
        .to_at_ms = sqlite3_column_int64(row, 6),
        .to_basis = database_text_at(row, 7),
        .seen_at_ms = sqlite3_column_int64(row, 8),
        .rate_milli = sqlite3_column_type(row, 9) == SQLITE_NULL ? -1 : sqlite3_column_int64(row, 9),
        .rate_basis = database_text_at(row, 10),
        .unit = database_text_at(row, 11),
        .lump_milli = sqlite3_column_int64(row, 12),
        .no_card = sqlite3_column_int(row, 13) != 0,
        .machine = database_text_at(row, 14),
    };

    load->spent(load->ctx, &r);
}

int database_load_spent(struct database *d, int64_t now_ms, int64_t for_ms,
                        void (*spent)(void *ctx, const struct spent_record *r), void *ctx, struct fault *f)
{
    struct load_spent load = {.spent = spent, .ctx = ctx};
    _cleanup_free_ char *sql = xasprintf(
        "SELECT s.provider, s.instance, s.kind, i.name, s.from_at_ms, s.from_basis, s.to_at_ms, s.to_basis,"
        " s.seen_at_ms, s.rate_milli, s.rate_basis, s.unit, s.lump_milli, s.no_card, s.machine"
        " FROM spent s LEFT JOIN intent i ON i.id = s.intent"
        " WHERE s.to_at_ms IS NULL OR s.to_at_ms > min(%lld, (SELECT max(seen_at_ms) FROM spent)) - %lld"
        " ORDER BY s.from_at_ms, s.id",
        (long long)now_ms, (long long)for_ms);

    return database_each_row(d, sql, see_spent, &load, f);
}

struct load_reserved {
    void (*reserved)(void *ctx, const struct intent_record *r);
    void *ctx;
};

static void see_reserved(sqlite3_stmt *row, void *to)
{
    struct load_reserved *load = to;
    const struct intent_record r = {
        .name = database_text_at(row, 0),
        .kind = database_text_at(row, 1),
        .provider = database_text_at(row, 2),
        .instance = database_text_at(row, 3),
        .unit = database_text_at(row, 4),
        .day = database_text_at(row, 5),
        .at_ms = sqlite3_column_int64(row, 6),
        .reserved_milli = sqlite3_column_int64(row, 7),
        .kept_ms = sqlite3_column_int64(row, 8),
    };

    load->reserved(load->ctx, &r);
}

int database_load_reserved(struct database *d, void (*reserved)(void *ctx, const struct intent_record *r),
                           void *ctx, struct fault *f)
{
    struct load_reserved load = {.reserved = reserved, .ctx = ctx};

    return database_each_row(d,
                             "SELECT name, kind, provider, instance, unit, day, at_ms, reserved_milli, "
                             "outcome IS 'kept' FROM intent WHERE resolved_at_ms IS NULL OR held ORDER BY id",
                             see_reserved, &load, f);
}

struct load_orphans {
    void (*orphan)(void *ctx, const struct orphan_record *r);
    void *ctx;
};

static void see_orphan(sqlite3_stmt *row, void *to)
{
    struct load_orphans *load = to;
    const struct orphan_record r = {
        .provider = database_text_at(row, 0),
        .id = database_text_at(row, 1),
        .name = database_text_at(row, 2),
        .word = database_text_at(row, 3),
        .gpu = database_text_at(row, 4),
        .cards = (unsigned)sqlite3_column_int64(row, 5),
        .price_milli = sqlite3_column_int64(row, 6),
        .no_card = sqlite3_column_int(row, 7) != 0,
        .started_at_ms = sqlite3_column_int64(row, 8),
        .seen_at_ms = sqlite3_column_int64(row, 9),
        .missing_at_ms = sqlite3_column_int64(row, 10),
    };

    load->orphan(load->ctx, &r);
}

int database_load_orphans(struct database *d, void (*orphan)(void *ctx, const struct orphan_record *r),
                          void *ctx, struct fault *f)
{
    struct load_orphans load = {.orphan = orphan, .ctx = ctx};

    return database_each_row(d,
                             "SELECT provider, id, name, word, gpu, cards, price_milli, no_card, "
                             "started_at_ms, seen_at_ms, missing_at_ms FROM orphan ORDER BY provider, id",
                             see_orphan, &load, f);
}

/* ---- no room for a reservation ---- */

static int64_t reserved_by_others(struct database *d, const struct change *c)
{
    sqlite3_stmt *statement = NULL;
    int64_t milli = 0;

    /* All of c's values are bound, so all have to be named. */
    if (sqlite3_prepare_v2(d->sql, SQL_RESERVED " AND ?13 IS NOT NULL", -1, &statement, NULL) == SQLITE_OK &&
        database_bind(statement, c) == SQLITE_OK && sqlite3_step(statement) == SQLITE_ROW)
        milli = sqlite3_column_int64(statement, 0);
    sqlite3_finalize(statement);
    return milli;
}

/* Beside its time a keep takes what an interval costs at least, and is rounded up. */
#define KEEP_MORE_MILLI 11
#define FITS            "the longest that fits is " /* and nothing behind the time */

/* A keep is of a machine that runs: how long it may be instead. */
static void refuse_keep(struct change *c, const char *code, int64_t left_milli, const char *sums)
{
    const char *unit = c->values[4].data, *instance = c->values[3].data;
    int64_t needs = c->values[7].number, kept_ms = c->values[12].number;
    char left[TEXT_SHORT_MAX], all[TEXT_SHORT_MAX], length[TEXT_SHORT_MAX], fits[TEXT_SHORT_MAX];
    int64_t fits_min =
        needs > 0 ? (int64_t)((double)kept_ms * (double)(left_milli - KEEP_MORE_MILLI) / (double)needs) / 60000 : 0;

    duration_format(length, (uint64_t)kept_ms, false);
    duration_format(fits, (uint64_t)MAX(fits_min, (int64_t)0) * 60000, false);
    if (needs < 0)
        snprintf(all, sizeof all, "all of it");
    else
        money_format(all, needs, unit);
    fault_code(c->fault, FAULT_EXHAUSTED, code, "%s: %s are left, and %s for %s takes %s; %s%s", sums,
               money_format(left, MAX(left_milli, (int64_t)0), unit), instance, length, all,
               fits_min > 0 ? FITS : "no keep fits", fits_min > 0 ? fits : "");
}

int64_t store_keep_fits_ms(const struct fault *f)
{
    bool is_budget = streq(f->code, "budget") || streq(f->code, "budget_month");
    const char *fits = is_budget ? strstr(f->text, FITS) : NULL;
    uint64_t ms;

    return fits && duration_parse(fits + strlen(FITS), &ms) == 0 ? (int64_t)ms : 0;
}

void database_refuse_reservation(struct database *d, struct change *c)
{
    const char *unit = c->values[4].data;
    int64_t needs = c->values[7].number, reserved = reserved_by_others(d, c);
    int64_t day_limit = c->values[8].number, day_spent = c->values[10].number;
    bool day = day_limit > 0 && (needs < 0 ? 1 : needs) > day_limit - day_spent - reserved;
    const char *code = day ? "budget" : "budget_month";
    int64_t all_milli = day ? day_limit : c->values[9].number,
            spent_milli = day ? day_spent : c->values[11].number;
    char limit[TEXT_SHORT_MAX], spent[TEXT_SHORT_MAX], held[TEXT_SHORT_MAX], all[TEXT_SHORT_MAX];
    _cleanup_free_ char *sums =
        xasprintf("of %s for a %s at %s %s are spent and %s reserved", money_format(limit, all_milli, unit),
                  day ? "day" : "month", (const char *)c->values[2].data,
                  money_format(spent, spent_milli, unit), money_format(held, reserved, unit));

    c->fault = xnew(struct fault);
    if (c->values[12].number > 0)
        refuse_keep(c, code, all_milli - spent_milli - reserved, sums);
    else
        fault_code(c->fault, FAULT_EXHAUSTED, code, "%s, and %s needs %s at least before it is off again", sums,
                   c->values[3].data ? (const char *)c->values[3].data : "this",
                   needs < 0 ? "all that is left, its price being unknown," : money_format(all, needs, unit));
}
