/* Steps, quantiles, and the text that is kept. */
#include "gateway/histogram.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <string.h>

#include "proto/mem.h"

Test(histogram, bounds_grow_and_hold_what_people_ask_for)
{
    static const uint64_t wanted[] = {10, 25, 50, 100, 250, 500, 1000, 2500, 1000000};
    unsigned found = 0;

    for (unsigned i = 0; i < HISTOGRAM_BOUNDS; i++) {
        cr_assert(i == 0 || histogram_bound_ms(i) > histogram_bound_ms(i - 1), "%u", i);
        for (size_t k = 0; k < ELEMENTS(wanted); k++)
            found += histogram_bound_ms(i) == wanted[k];
    }
    cr_assert_eq(found, ELEMENTS(wanted));
    cr_assert_eq(histogram_bound_ms(HISTOGRAM_BOUNDS - 1), 1000000);
}

Test(histogram, a_bound_belongs_to_its_step)
{
    struct histogram h = {0};

    histogram_add(&h, 10);
    histogram_add(&h, 11);
    histogram_add(&h, 0);
    histogram_add(&h, 2000000);
    cr_assert_eq(h.n[0], 2);
    cr_assert_eq(h.n[1], 1);
    cr_assert_eq(h.n[HISTOGRAM_BOUNDS], 1);
    cr_assert_eq(h.sum_ms, 2000021);
    cr_assert_eq(histogram_count(&h), 4);
}

Test(histogram, quantiles_are_right_to_a_step)
{
    struct histogram h = {0};

    cr_assert_eq(histogram_quantile_ms(&h, 0.5), 0);
    for (uint64_t ms = 1; ms <= 10000; ms++)
        histogram_add(&h, ms);
    for (unsigned percent = 5; percent < 100; percent += 5) {
        double is = (double)histogram_quantile_ms(&h, percent / 100.0), should = percent * 100.0;

        cr_assert(is > should * 0.95 && is < should * 1.05, "%u %%: %.0f", percent, is);
    }
}

Test(histogram, what_is_longer_than_all_bounds_is_the_last_bound)
{
    struct histogram h = {0};

    histogram_add(&h, 5000000);
    cr_assert_eq(histogram_quantile_ms(&h, 0.95), 1000000);
}

Test(histogram, its_text_brings_it_back)
{
    struct histogram h = {0}, again;
    _cleanup_free_ char *text = NULL;

    for (uint64_t ms = 1; ms < 3000000; ms = ms * 3 + 1)
        histogram_add(&h, ms);
    text = histogram_text(&h);
    cr_assert_eq(histogram_parse(&again, text), 0, "%s", text);
    cr_assert_eq(memcmp(&h, &again, sizeof(h)), 0, "%s", text);
    cr_assert_eq(histogram_parse(&again, NULL), 0);
    cr_assert_eq(histogram_count(&again), 0);
}

Test(histogram, a_text_that_makes_no_sense_is_an_empty_one)
{
    static const char *const texts[] = {"", "x", "5 3", "5 52:1", "5 1:2 x", "5 1:2 3:"};

    for (size_t i = 0; i < ELEMENTS(texts); i++) {
        struct histogram h;

        cr_assert_eq(histogram_parse(&h, texts[i]), -EINVAL, "%s", texts[i]);
        cr_assert_eq(histogram_count(&h) + h.sum_ms, 0, "%s", texts[i]);
    }
}
