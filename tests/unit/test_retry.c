#include <criterion/criterion.h>

#include "policy/retry.h"

#define HOUR_MS (60ull * 60 * 1000)

Test(retry, first_try_after_a_loss_waits_for_nothing)
{
    cr_assert_eq(retry_delay_ms(0, 0), 0);
    cr_assert_eq(retry_delay_ms(0, UINT32_MAX), 0);
}

Test(retry, doubles_from_a_fifth_of_a_second_to_fifteen)
{
    static const unsigned expected[] = {0, 200, 400, 800, 1600, 3200, 6400, 12800, 15000, 15000};

    for (unsigned i = 0; i < sizeof(expected) / sizeof(*expected); i++)
        cr_assert_eq(retry_delay_ms(i, 0), expected[i], "after %u tries: %lu", i,
                     (unsigned long)retry_delay_ms(i, 0));
    cr_assert_eq(retry_delay_ms(UINT32_MAX, 0), 15000);
}

Test(retry, jitter_takes_at_most_a_quarter_and_never_adds)
{
    uint32_t dice = 1;
    uint64_t least = UINT64_MAX, most = 0;

    for (int i = 0; i < 100000; i++) {
        dice = dice * 1664525u + 1013904223u;
        for (unsigned tries = 1; tries < 12; tries++) {
            uint64_t plain = retry_delay_ms(tries, 0), got = retry_delay_ms(tries, dice);

            cr_assert(got <= plain && got >= plain - plain / 4);
        }
        least = retry_delay_ms(20, dice) < least ? retry_delay_ms(20, dice) : least;
        most = retry_delay_ms(20, dice) > most ? retry_delay_ms(20, dice) : most;
    }
    cr_assert_lt(least, 11300, "the dice must matter: %lu", (unsigned long)least);
    cr_assert_gt(most, 14950);
}

Test(retry, ten_hours_of_tries_are_never_more_than_fifteen_seconds_apart)
{
    uint64_t now = 0;
    uint32_t dice = 7;
    unsigned tries = 0;

    while (now < 10 * HOUR_MS) {
        dice = dice * 1664525u + 1013904223u;
        uint64_t delay_ms = retry_delay_ms(tries++, dice);

        cr_assert_leq(delay_ms, 15000);
        now += delay_ms;
    }
    cr_assert(tries > 10 * HOUR_MS / 15000 && tries < 10 * HOUR_MS / 11000, "%u tries", tries);
}

Test(retry, logins_are_free_until_one_was_refused)
{
    struct retry_logins r = {0};

    for (uint64_t now = 0; now < 1000; now++) {
        cr_assert_eq(retry_login_wait_ms(&r, now), 0);
        retry_login_begins(&r, now);
    }
}

Test(retry, six_logins_an_hour_after_a_refusal)
{
    struct retry_logins r = {0};
    uint64_t now = 5000;

    retry_login_refused(&r);
    for (int i = 0; i < 6; i++, now += 1000) {
        cr_assert_eq(retry_login_wait_ms(&r, now), 0);
        retry_login_begins(&r, now);
    }
    cr_assert_eq(now, 11000);
    cr_assert_eq(retry_login_wait_ms(&r, now), HOUR_MS - 6000);
    cr_assert_eq(retry_login_wait_ms(&r, 5000 + HOUR_MS - 1), 1);
    cr_assert_eq(retry_login_wait_ms(&r, 5000 + HOUR_MS), 0);
    retry_login_begins(&r, 5000 + HOUR_MS);
    cr_assert_eq(retry_login_wait_ms(&r, 5000 + HOUR_MS), 1000, "the second oldest is next");
}

/* 0 is "never" in the ring. */
Test(retry, a_login_at_the_beginning_of_time_counts)
{
    struct retry_logins r = {0};

    retry_login_refused(&r);
    for (int i = 0; i < 6; i++)
        retry_login_begins(&r, 0);
    cr_assert_eq(retry_login_wait_ms(&r, 1), HOUR_MS);
}

Test(retry, no_hour_ever_sees_a_seventh_login)
{
    struct retry_logins r = {0};
    static uint64_t at[4096];
    unsigned n = 0;
    uint32_t dice = 3;

    retry_login_refused(&r);
    for (uint64_t now = 1; now < 100 * HOUR_MS; now += (dice >> 8) % 400000) {
        dice = dice * 1664525u + 1013904223u;
        if (retry_login_wait_ms(&r, now) > 0)
            continue;
        retry_login_begins(&r, now);
        at[n++] = now;
        cr_assert(n <= 6 || now - at[n - 7] >= HOUR_MS);
    }
    cr_assert_gt(n, 500, "and nearly all of them are used: %u", n);
}

Test(retry, a_good_login_forgets_the_refusal)
{
    struct retry_logins r = {0};

    retry_login_refused(&r);
    for (uint64_t now = 1; now <= 6; now++)
        retry_login_begins(&r, now);
    cr_assert_gt(retry_login_wait_ms(&r, 10), 0);
    retry_login_accepted(&r);
    cr_assert_eq(retry_login_wait_ms(&r, 10), 0);
    for (uint64_t now = 10; now < 20; now++)
        retry_login_begins(&r, now);
    cr_assert_eq(retry_login_wait_ms(&r, 20), 0);
}
