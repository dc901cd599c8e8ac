#include <criterion/criterion.h>

#include "base/fault.h"
#include "policy/money.h"
#include "store/store.h"

static struct fault of(const char *code)
{
    struct fault f = {};

    fault_code(&f, FAULT_EXHAUSTED, code, "a sentence");
    return f;
}

static const struct row {
    const char *code;
    bool of_account, ends_search, may_be_overruled, is_warning;
} rows[] = {
    {"budget", true, true, true, false},
    {"budget_month", true, true, true, false},
    {"budget_hour", true, true, true, false},
    {"low_balance", true, true, true, false},
    {"in_arrears", true, true, false, false},
    {"price", false, true, false, false},
    {"budget_near", true, false, false, true},
    {"clock_off", true, false, false, true},
    {"token_refused", true, false, false, false},
    {"not_verified", true, false, false, false},
    {"no_permission", true, false, false, false},
    {"certificate", true, false, false, false},
    {"provider_unreachable", true, false, false, false},
    {"no_capacity", false, false, false, false},
    {"no_guard", false, false, false, false},
    {"budget_", false, false, false, false},
    {"", false, false, false, false},
};

Test(money, each_code_means_the_same_to_all_who_ask)
{
    for (const struct row *r = rows; r < rows + sizeof rows / sizeof *rows; r++) {
        struct fault f = of(r->code);

        cr_expect_eq(money_is_of_account(&f), r->of_account, "%s", r->code);
        cr_expect_eq(money_ends_search(&f), r->ends_search, "%s", r->code);
        cr_expect_eq(money_may_be_overruled(&f), r->may_be_overruled, "%s", r->code);
        cr_expect_eq(money_is_warning(&f), r->is_warning, "%s", r->code);
    }
}

Test(money, what_is_no_fault_is_nothing)
{
    struct fault none = {};

    cr_assert(!money_is_of_account(&none) && !money_ends_search(&none) && !money_may_be_overruled(&none) &&
              !money_is_warning(&none));
}

Test(money, a_limit_is_tighter_where_it_leaves_less_room_and_0_is_none)
{
    const struct money_limits before = {.day_milli = 5000, .price_milli = 2000, .floor_milli = 1000};
    struct money_limits now = before;

    cr_assert_not(money_is_tighter(&now, &before));
    now = (struct money_limits){.day_milli = 5001, .price_milli = 2001, .floor_milli = 999};
    cr_assert_not(money_is_tighter(&now, &before));
    now = (struct money_limits){};
    cr_assert_not(money_is_tighter(&now, &before), "there is none any more");
    now = before;
    now.day_milli = 4999;
    cr_assert(money_is_tighter(&now, &before) && !money_is_price_tighter(&now, &before));
    now = before;
    now.month_milli = 900000;
    cr_assert(money_is_tighter(&now, &before), "there was none");
    now = before;
    now.floor_milli = 1001;
    cr_assert(money_is_tighter(&now, &before));
    now = before;
    now.price_milli = 1999;
    cr_assert(money_is_tighter(&now, &before) && money_is_price_tighter(&now, &before));
}
