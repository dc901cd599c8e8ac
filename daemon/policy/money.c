/* One row for each code. A new one gets its row here, and its words in explain.c. */
#include "policy/money.h"

#include "base/fault.h"
#include "proto/mem.h"
#include "store/store.h"

enum {
    ACCOUNT = 1,
    ENDS_SEARCH = 2,
    OVERRULED = 4,
    WARNING = 8,
};

// clang-format off
static const struct {
    const char *code;
    unsigned is;
} table[] = {
    {"budget",               ACCOUNT | ENDS_SEARCH | OVERRULED},
    {"budget_month",         ACCOUNT | ENDS_SEARCH | OVERRULED},
    {"budget_hour",          ACCOUNT | ENDS_SEARCH | OVERRULED}, /* the account's price of an hour */
    {"low_balance",          ACCOUNT | ENDS_SEARCH | OVERRULED},
    {"in_arrears",           ACCOUNT | ENDS_SEARCH},        /* the company's own limit: no word of ours helps */
    {"price",                ENDS_SEARCH},                  /* of this machine alone: another may be cheaper */
    {"budget_near",          ACCOUNT | WARNING},
    {"clock_off",            ACCOUNT | WARNING},
    {"token_refused",        ACCOUNT},
    {"not_verified",         ACCOUNT},
    {"no_permission",        ACCOUNT},
    {"certificate",          ACCOUNT},
    {"provider_unreachable", ACCOUNT},
};
// clang-format on

static bool is(const struct fault *f, unsigned what)
{
    for (size_t i = 0; i < ELEMENTS(table); i++)
        if (streq(table[i].code, f->code))
            return table[i].is & what;
    return false;
}

bool money_is_of_account(const struct fault *f)
{
    return is(f, ACCOUNT);
}

bool money_ends_search(const struct fault *f)
{
    return is(f, ENDS_SEARCH);
}

bool money_may_be_overruled(const struct fault *f)
{
    return is(f, OVERRULED);
}

bool money_is_warning(const struct fault *f)
{
    return is(f, WARNING);
}

/* 0: none. */
static bool is_lower(int64_t limit_milli, int64_t before_milli)
{
    return limit_milli && (!before_milli || limit_milli < before_milli);
}

bool money_is_price_tighter(const struct money_limits *now, const struct money_limits *before)
{
    return is_lower(now->price_milli, before->price_milli);
}

bool money_is_tighter(const struct money_limits *now, const struct money_limits *before)
{
    return is_lower(now->day_milli, before->day_milli) || is_lower(now->month_milli, before->month_milli) ||
           now->floor_milli > before->floor_milli || money_is_price_tighter(now, before);
}
