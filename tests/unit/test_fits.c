/* The formula against what people saw (reference/lease.md §5), and its three answers. */
#include <criterion/criterion.h>

#include "policy/fits.h"
#include "proto/mem.h"

#define GIB (1ll << 30)
#define KIB 1024ll

static const struct seen {
    const char *name;
    double weights;    /* GB */
    int64_t token_kib; /* layers × KV heads × 2 × 128 × 2 bytes */
    int64_t context, context_max;
    double formula;    /* GB */
    int64_t in_24_gib; /* the longest context, of 1024 tokens; 0: none; its own limit: -1 */
} table[] = {
    {"deepseek-r1:1.5b", 1.1, 28, 8192, 131072, 2.4, -1},
    {"deepseek-r1:7b", 4.68, 56, 8192, 131072, 6.3, -1},
    {"deepseek-r1:14b", 8.99, 192, 8192, 131072, 11.9, 73},
    {"deepseek-r1:32b", 19.9, 256, 8192, 131072, 23.5, 13},
    {"deepseek-r1:70b", 42.5, 320, 8192, 131072, 47.1, 0},
    {"qwen3:4b", 2.6, 144, 4096, 40960, 4.3, -1},
    {"qwen3:8b", 5.2, 144, 4096, 40960, 7.0, -1},
    {"qwen3:32b", 20.2, 256, 32768, 40960, 30.3, 12},
};

static struct fits_model model_of(const struct seen *s)
{
    return (struct fits_model){.weights_bytes = (int64_t)(s->weights * 1e9),
                               .token_bytes = s->token_kib * KIB,
                               .context_max = s->context_max};
}

static const struct fits_cards one_24 = {.n = 1, .bytes = 24 * GIB}, one_48 = {.n = 1, .bytes = 48 * GIB};

Test(fits, the_formula_is_that_of_the_table)
{
    for (unsigned i = 0; i < ELEMENTS(table); i++) {
        struct fits_model m = model_of(&table[i]);
        double gb = (double)fits_needs(&m, table[i].context) / 1e9;

        cr_assert(gb > table[i].formula - 0.06 && gb < table[i].formula + 0.06, "%s: %.2f", table[i].name,
                  gb);
    }
}

Test(fits, the_longest_context_in_24_gib_is_that_of_the_table)
{
    for (unsigned i = 0; i < ELEMENTS(table); i++) {
        struct fits_model m = model_of(&table[i]);
        struct fits f = fits_judge(&m, &one_24, 0);

        if (table[i].in_24_gib < 0)
            cr_assert_eq(f.context, table[i].context_max, "%s: %lld", table[i].name, (long long)f.context);
        else
            cr_assert_eq(f.context / 1024, table[i].in_24_gib, "%s: %lld", table[i].name,
                         (long long)f.context);
        cr_assert_eq(f.verdict, table[i].in_24_gib ? FITS_YES : FITS_NO, "%s", table[i].name);
    }
    struct fits_model m = model_of(&table[4]);

    cr_assert_eq(fits_judge(&m, &one_48, 0).context / 1024, 16, "deepseek-r1:70b on 48 GiB");
}

/* One byte decides. */
Test(fits, each_answer_begins_where_the_one_before_ends)
{
    struct fits_model m = {.token_bytes = 256 * KIB, .context_max = 131072};
    int64_t usable = fits_usable(&one_24), tokens = 4096 * 256 * KIB;

    m.weights_bytes = (usable - tokens - GIB) * 50 / 51;
    while (fits_needs(&m, 4096) <= usable)
        m.weights_bytes++;
    cr_assert_eq(fits_judge(&m, &one_24, 0).verdict, FITS_TIGHT);
    cr_assert_eq(fits_judge(&m, &one_24, 0).context, 0);
    m.weights_bytes -= 1;
    cr_assert_eq(fits_judge(&m, &one_24, 0).verdict, FITS_YES);
    cr_assert_geq(fits_judge(&m, &one_24, 0).context, 4096);
    m.weights_bytes = usable - tokens;
    cr_assert_eq(fits_judge(&m, &one_24, 0).verdict, FITS_TIGHT, "the engine is to say");
    m.weights_bytes += 1;
    cr_assert_eq(fits_judge(&m, &one_24, 0).verdict, FITS_NO);
}

Test(fits, a_context_somebody_wants_is_judged_as_it_is)
{
    struct fits_model m = model_of(&table[7]);

    cr_assert_eq(fits_judge(&m, &one_24, 8192).verdict, FITS_YES);
    cr_assert_eq(fits_judge(&m, &one_24, 16384).verdict, FITS_TIGHT);
    cr_assert_eq(fits_judge(&m, &one_24, 32768).verdict, FITS_NO);
    cr_assert_eq(fits_judge(&m, &one_48, 32768).verdict, FITS_YES);
    cr_assert_eq(fits_judge(&m, &one_24, 32768).context / 1024, 12, "and what would fit is told");
}

Test(fits, cards_of_one_machine_are_added_and_each_costs_something)
{
    struct fits_model m = model_of(&table[4]);
    const struct fits_cards two = {.n = 2, .bytes = 24 * GIB}, three = {.n = 3, .bytes = 24 * GIB};

    cr_assert_eq(fits_usable(&two), 2 * 24 * GIB / 100 * 97 - GIB);
    cr_assert_eq(fits_judge(&m, &two, 0).verdict, FITS_YES);
    cr_assert_lt(fits_judge(&m, &two, 0).context, fits_judge(&m, &one_48, 0).context);
    cr_assert_gt(fits_judge(&m, &three, 0).context, 65536);
}

/* Layers with a window hold no more than it: gemma3:27b has 10 of 62 that see everything. */
Test(fits, a_window_bounds_what_its_layers_hold)
{
    struct fits_model m = {.weights_bytes = 17400000000,
                           .token_bytes = 10 * 16 * 256 * 2 * KIB / 1024 * 2,
                           .window_token_bytes = 52 * 16 * 256 * 2 * KIB / 1024 * 2,
                           .window = 1024,
                           .context_max = 131072};
    struct fits f = fits_judge(&m, &one_24, 0);

    cr_assert_eq(fits_needs(&m, 8192) - fits_needs(&m, 4096), 4096 * m.token_bytes);
    cr_assert_eq(fits_needs(&m, 512) - fits_needs(&m, 0), 512 * (m.token_bytes + m.window_token_bytes));
    cr_assert_eq(f.verdict, FITS_YES);
    cr_assert_leq(fits_needs(&m, f.context), fits_usable(&one_24));
    cr_assert_gt(fits_needs(&m, f.context + 1), fits_usable(&one_24));
    m.window = 1 << 20; /* a window that is never full */
    f = fits_judge(&m, &one_24, 0);
    cr_assert_leq(fits_needs(&m, f.context), fits_usable(&one_24));
    cr_assert_gt(fits_needs(&m, f.context + 1), fits_usable(&one_24));
}

Test(fits, what_is_not_known_is_no_answer)
{
    struct fits_model m = model_of(&table[3]), nothing = {.weights_bytes = -1, .token_bytes = -1};
    struct fits_model shapeless = {.weights_bytes = m.weights_bytes, .token_bytes = -1};
    const struct fits_cards none = {0}, unknown = {.n = 1};

    cr_assert_eq(fits_judge(&nothing, &one_24, 0).verdict, FITS_UNKNOWN);
    cr_assert_eq(fits_judge(&nothing, &one_24, 0).needs_bytes, -1);
    cr_assert_eq(fits_judge(&m, &none, 0).verdict, FITS_UNKNOWN);
    cr_assert_eq(fits_judge(&m, &unknown, 0).verdict, FITS_UNKNOWN);
    cr_assert_gt(fits_judge(&m, &none, 0).needs_bytes, m.weights_bytes);
    cr_assert_eq(fits_judge(&shapeless, &one_24, 0).verdict, FITS_UNKNOWN);
    shapeless.weights_bytes = 42500000000;
    cr_assert_eq(fits_judge(&shapeless, &one_24, 0).verdict, FITS_NO, "the weights alone are too much");
}

/* Ollama's own default would be 32 k or 256 k on a large card, and spill (reference/lease.md §5). */
Test(fits, the_context_of_an_engine_is_what_fits_up_to_the_usual)
{
    static const struct {
        unsigned row;
        const struct fits_cards *cards;
        int64_t least, most;
    } rows[] = {
        {1, &one_24, 32768, 32768}, /* deepseek-r1:7b could have 131072 */
        {3, &one_24, 13 * 1024, 14 * 1024},
        {3, &one_48, 32768, 32768},
        {4, &one_24, 4096, 4096}, /* does not fit at all: as little of it as can be beside the card */
    };

    for (unsigned i = 0; i < ELEMENTS(rows); i++) {
        struct fits_model m = model_of(&table[rows[i].row]);
        int64_t context = fits_context(&m, rows[i].cards);

        cr_assert(context >= rows[i].least && context <= rows[i].most, "%u: %lld", i, (long long)context);
    }
    struct fits_model m = model_of(&table[0]), nothing = {.weights_bytes = -1, .token_bytes = -1};
    const struct fits_cards none = {0};

    m.context_max = 2048;
    cr_assert_eq(fits_context(&m, &one_24), 2048);
    cr_assert_eq(fits_context(&m, &none), 0);
    cr_assert_eq(fits_context(&nothing, &one_24), 0);
    m = model_of(&table[4]);
    m.context_max = 0; /* what it was made for is not known */
    cr_assert_eq(fits_context(&m, &one_24), FITS_CONTEXT_LEAST);
    cr_assert_eq(fits_judge(&m, &one_24, 0).needs_bytes, fits_needs(&m, FITS_CONTEXT_LEAST));
}

Test(fits, numbers_from_outside_never_overflow)
{
    static const int64_t odd[] = {INT64_MIN, -1, 0, 1, 1ll << 20, 1ll << 40, INT64_MAX / 2, INT64_MAX};

    for (unsigned a = 0; a < ELEMENTS(odd); a++)
        for (unsigned b = 0; b < ELEMENTS(odd); b++)
            for (unsigned c = 0; c < ELEMENTS(odd); c++) {
                struct fits_model m = {.weights_bytes = odd[a],
                                       .token_bytes = odd[b],
                                       .window_token_bytes = odd[c],
                                       .window = odd[b],
                                       .context_max = odd[c]};
                struct fits_cards cards = {.n = 1 + c * 100, .bytes = odd[b]};
                struct fits f = fits_judge(&m, &cards, odd[c]);

                cr_assert_geq(f.context, 0);
                cr_assert_geq(fits_context(&m, &cards), 0);
                cr_assert_not_null(fits_verdict_name(f.verdict));
            }
}

/* A model that leaves so many bytes of the cards to its context. */
static struct fits_model model_that_leaves(int64_t bytes, const struct fits_cards *cards)
{
    struct fits_model m = {.weights_bytes = (fits_usable(cards) - GIB - bytes) * 50 / 51 - 50};

    cr_assert_gt(fits_needs(&m, 0), 0);
    while (fits_needs(&m, 0) < fits_usable(cards) - bytes)
        m.weights_bytes++;
    return m;
}

Test(fits, the_longest_context_is_counted_to_the_token)
{
    static const struct {
        int64_t token_bytes, window_token_bytes, window, context_max, left, context;
        const char *what;
    } rows[] = {
        {1, 0, 0, 0, 10000, 10000, "all of it sees all"},
        {1, 1, 1 << 27, 0, 10000, 5000, "a window that is never full"},
        {1, 10, 5000, 0, 5000 * 11 - 1, 4999, "one byte less than a full window"},
        {1, 10, 5000, 0, 5000 * 11 + 5, 5005, "a full window, and five tokens more"},
        {0, 1, 5000, 0, 10000, 1 << 28, "all of it within the window"},
        {0, 0, 5000, 0, 10000, 1 << 28, "a context that takes nothing"},
        {1, 0, 0, 7000, 10000, 7000, "what it was made for"},
        {1, 0, 0, 1, 10000, 1, "made for one token"},
        {1, 0, 0, 0, 4096, 4096, "the least"},
        {1, 0, 0, 0, 4095, 0, "less than the least"},
        {1, 0, 0, 2048, 2048, 2048, "made for less than the least"},
    };

    for (unsigned i = 0; i < ELEMENTS(rows); i++) {
        struct fits_model m = model_that_leaves(rows[i].left, &one_24);

        cr_assert_eq(fits_needs(&m, 0), fits_usable(&one_24) - rows[i].left, "%s", rows[i].what);
        m.token_bytes = rows[i].token_bytes;
        m.window_token_bytes = rows[i].window_token_bytes;
        m.window = rows[i].window;
        m.context_max = rows[i].context_max;
        cr_assert_eq(fits_judge(&m, &one_24, 0).context, rows[i].context, "%s: %lld", rows[i].what,
                     (long long)fits_judge(&m, &one_24, 0).context);
    }
}

Test(fits, what_was_made_for_less_than_the_least_is_asked_for_no_more)
{
    struct fits_model m = model_of(&table[4]);

    for (m.context_max = 1; m.context_max < 4096; m.context_max += 2047) {
        cr_assert_eq(fits_judge(&m, &one_24, 0).needs_bytes, fits_needs(&m, m.context_max));
        cr_assert_eq(fits_context(&m, &one_24), m.context_max, "too large, and so as short as can be");
    }
    m = model_that_leaves(4095, &one_24);
    m.token_bytes = 1;
    cr_assert_eq(fits_judge(&m, &one_24, 1).verdict, FITS_YES);
    cr_assert_eq(fits_context(&m, &one_24), FITS_CONTEXT_LEAST, "one token would fit, and is of no use");
}

Test(fits, a_tenth_may_be_lacking_and_no_byte_more)
{
    const struct fits_cards small = {.n = 1, .bytes = 8 * GIB};
    int64_t usable = fits_usable(&small);
    struct fits_model m = model_that_leaves(-(usable / 10), &small);

    cr_assert_eq(fits_needs(&m, 0), usable + usable / 10);
    cr_assert_eq(fits_judge(&m, &small, 0).verdict, FITS_TIGHT);
    m.weights_bytes++;
    cr_assert_eq(fits_judge(&m, &small, 0).verdict, FITS_NO);
    m.token_bytes = -1;
    m.weights_bytes = usable;
    cr_assert_eq(fits_judge(&m, &small, 0).verdict, FITS_UNKNOWN, "of an unknown shape");
    m.weights_bytes++;
    cr_assert_eq(fits_judge(&m, &small, 0).verdict, FITS_NO);
}

/* 8 PiB of anything, 32 MiB for a token, 2^28 tokens; a thousand cards of 8 TiB each. */
Test(fits, what_is_larger_than_any_memory_is_not_believed)
{
    const int64_t bytes_max = (1ll << 53) - 1, token_max = (1ll << 25) - 1, tokens_max = 1ll << 28;
    const struct {
        struct fits_model sane, odd;
    } rows[] = {
        {{.weights_bytes = 1}, {.weights_bytes = 0}},
        {{.weights_bytes = bytes_max - 1}, {.weights_bytes = bytes_max}},
        {{.weights_bytes = 1, .token_bytes = token_max - 1}, {.weights_bytes = 1, .token_bytes = token_max}},
        {{.weights_bytes = 1}, {.weights_bytes = 1, .token_bytes = -1}},
        {{.weights_bytes = 1, .window_token_bytes = token_max - 1},
         {.weights_bytes = 1, .window_token_bytes = token_max}},
        {{.weights_bytes = 1}, {.weights_bytes = 1, .window_token_bytes = -1}},
        {{.weights_bytes = 1, .window = tokens_max - 1}, {.weights_bytes = 1, .window = tokens_max}},
        {{.weights_bytes = 1}, {.weights_bytes = 1, .window = -1}},
    };

    for (unsigned i = 0; i < ELEMENTS(rows); i++) {
        cr_assert_gt(fits_needs(&rows[i].sane, 4096), 0, "row %u", i);
        cr_assert_eq(fits_needs(&rows[i].odd, 4096), -1, "row %u", i);
    }
    cr_assert_gt(fits_needs(&rows[0].sane, tokens_max), 0);
    cr_assert_eq(fits_needs(&rows[0].sane, tokens_max + 1), -1);
    cr_assert_gt(fits_needs(&rows[0].sane, 0), 0);
    cr_assert_eq(fits_needs(&rows[0].sane, -1), -1);
    cr_assert_eq(fits_usable(&(struct fits_cards){.n = 1, .bytes = 1}), 1, "known, and next to nothing");
    cr_assert_gt(fits_usable(&(struct fits_cards){.n = 1024, .bytes = bytes_max / 1024 - 1}), 0);
    cr_assert_eq(fits_usable(&(struct fits_cards){.n = 1025, .bytes = GIB}), 0);
    cr_assert_eq(fits_usable(&(struct fits_cards){.n = 1, .bytes = bytes_max / 1024}), 0);
}
