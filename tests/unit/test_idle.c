#include <criterion/criterion.h>

#include "policy/idle.h"

#define MIN_MS 60000ull

static const struct idle_rule rule = {.unload_ms = 5 * MIN_MS, .min_up_ms = 10 * MIN_MS};

Test(idle, sleeps_after_the_last_request)
{
    const struct idle_facts facts = {.ready_due = 1, .used_due = 100 * MIN_MS};

    cr_assert_eq(idle_sleep_due(&rule, &facts), 105 * MIN_MS);
}

Test(idle, one_that_nobody_asked_since_it_is_ready_sleeps_too)
{
    const struct idle_rule short_min_up = {.unload_ms = 5 * MIN_MS, .min_up_ms = 0};
    const struct idle_facts facts = {.ready_due = 100 * MIN_MS, .used_due = 3};

    cr_assert_eq(idle_sleep_due(&short_min_up, &facts), 105 * MIN_MS);
}

Test(idle, not_before_the_minimum_up_time)
{
    const struct idle_facts facts = {.ready_due = 100 * MIN_MS, .used_due = 101 * MIN_MS};

    cr_assert_eq(idle_sleep_due(&rule, &facts), 110 * MIN_MS);
}

Test(idle, never_by_itself)
{
    const struct idle_rule never = {.min_up_ms = MIN_MS};
    const struct idle_facts facts = {.ready_due = 1, .used_due = 2, .flaps = 3};

    cr_assert_eq(idle_sleep_due(&never, &facts), IDLE_NEVER);
}

Test(idle, each_flap_doubles_up_to_eightfold)
{
    static const unsigned minutes[] = {5, 10, 20, 40, 40, 40};

    for (unsigned flaps = 0; flaps < 6; flaps++) {
        const struct idle_facts facts = {.ready_due = 1, .used_due = 100 * MIN_MS, .flaps = flaps};

        cr_assert_eq(idle_sleep_due(&rule, &facts), (100 + minutes[flaps]) * MIN_MS);
    }
}

Test(idle, a_wake_is_a_flap_when_it_slept_for_less_than_it_was_idle_before)
{
    cr_assert_eq(idle_flaps(&rule, 0, 0), 1);
    cr_assert_eq(idle_flaps(&rule, 2, 5 * MIN_MS - 1), 3);
    cr_assert_eq(idle_flaps(&rule, 2, 5 * MIN_MS), 0);
}
