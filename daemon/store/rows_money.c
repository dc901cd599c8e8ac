/* Reading of accounts and of what was spent, and the sentence of a reservation that was refused. */
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
    };

    load->spent(load->ctx, &r);
}

int database_load_spent(struct database *d, int64_t from_at_ms,
                        void (*spent)(void *ctx, const struct spent_record *r), void *ctx, struct fault *f)
{
    struct load_spent load = {.spent = spent, .ctx = ctx};
    _cleanup_free_ char *sql = xasprintf(
        "SELECT s.provider, s.instance, s.kind, i.name, s.from_at_ms, s.from_basis, s.to_at_ms, s.to_basis,"
        " s.seen_at_ms, s.rate_milli, s.rate_basis, s.unit, s.lump_milli, s.no_card"
        " FROM spent s LEFT JOIN intent i ON i.id = s.intent"
        " WHERE s.to_at_ms IS NULL OR s.to_at_ms > %lld"
        " ORDER BY s.from_at_ms, s.id",
        (long long)from_at_ms);

    return database_each_row(d, sql, see_spent, &load, f);
}

/* ---- no room for a reservation ---- */

static int64_t reserved_by_others(struct database *d, const struct change *c)
{
    sqlite3_stmt *statement = NULL;
    int64_t milli = 0;

    /* All of c's values are bound, so all have to be named. */
    if (sqlite3_prepare_v2(d->sql, SQL_RESERVED " AND ?12 IS NOT NULL", -1, &statement, NULL) == SQLITE_OK &&
        database_bind(statement, c) == SQLITE_OK && sqlite3_step(statement) == SQLITE_ROW)
        milli = sqlite3_column_int64(statement, 0);
    sqlite3_finalize(statement);
    return milli;
}

void database_refuse_reservation(struct database *d, struct change *c)
{
    const char *unit = c->values[4].data;
    int64_t needs = c->values[7].number, reserved = reserved_by_others(d, c);
    int64_t day_limit = c->values[8].number, day_spent = c->values[10].number;
    bool day = day_limit > 0 && (needs < 0 ? 1 : needs) > day_limit - day_spent - reserved;
    char limit[TEXT_SHORT_MAX], spent[TEXT_SHORT_MAX], held[TEXT_SHORT_MAX], all[TEXT_SHORT_MAX];

    money_format(limit, day ? day_limit : c->values[9].number, unit);
    money_format(spent, day ? day_spent : c->values[11].number, unit);
    money_format(held, reserved, unit);
    money_format(all, needs, unit);
    c->fault = xnew(struct fault);
    fault_code(c->fault, FAULT_EXHAUSTED, "budget",
               "of %s for a %s %s are spent and %s reserved, and %s needs %s at least", limit,
               day ? "day" : "month", spent, held, c->values[3].data ? c->values[3].data : "this",
               needs < 0 ? "all that is left, its price being unknown," : all);
}
