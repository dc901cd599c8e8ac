/* links: policy
 *
 * When a server is started again, and what tells a hung one from a busy one. */
#include "policy/alive.h"

#include <criterion/criterion.h>

#include "proto/mem.h"

Test(alive, the_first_death_is_mended_at_once_and_each_further_one_later)
{
    static const uint64_t delays_ms[] = {0, 0, 1000, 2000, 4000};

    for (unsigned deaths = 0; deaths < ELEMENTS(delays_ms); deaths++)
        cr_assert_eq(alive_delay_ms(deaths), delays_ms[deaths], "death %u", deaths);
    cr_assert_eq(alive_delay_ms(1000), 8000u);
}

Test(alive, a_hung_server_is_told_from_a_busy_one)
{
    enum { S = 1000, MIN = 60 * S };
    static const struct {
        struct alive_facts facts;
        bool hung;
        const char *what;
    } rows[] = {
        {{29 * S, 10 * S, 0, false}, false, "not for long enough"},
        {{30 * S, 10 * S, 0, false}, true, "silent, and does nothing"},
        {{30 * S, 10 * S, 0, true}, true, "the same with a request"},
        {{30 * S, 0, 0, true}, false, "one look tells nothing of what it does"},
        {{30 * S, 10 * S, 990, true}, true, "the timers of a runtime are no work"},
        {{30 * S, 10 * S, 1000, true}, false, "a tenth of a processor is work"},
        {{30 * S, 10 * S, 160 * S, false}, false, "many processors"},
        {{5 * MIN - 1, 10 * S, 10 * S, false},
         false,
         "it may be loading what somebody asked for on the machine itself"},
        {{5 * MIN, 10 * S, 10 * S, false}, true, "it runs in circles, for nobody"},
        {{600 * MIN, 10 * S, 10 * S, true}, false, "a long prompt"},
        {{600 * MIN, 10 * S, -1, true}, false, "unknown, and somebody waits for it"},
        {{5 * MIN, 10 * S, -1, false}, true, "unknown, and nobody does"},
    };

    for (size_t i = 0; i < ELEMENTS(rows); i++)
        cr_assert_eq(alive_is_hung(&rows[i].facts), rows[i].hung, "%s", rows[i].what);
}

/* Looks five seconds apart, at a load that began at 0. */
struct look {
    int64_t computed_ms, moved_bytes;
    bool stopped;
};

static uint64_t hangs_after_ms(struct look (*at)(unsigned i), unsigned looks)
{
    struct alive_load l;

    alive_load_begins(&l, 1000000);
    for (unsigned i = 1; i <= looks; i++) {
        struct look now = at(i);

        if (alive_load_hangs(&l, 1000000 + i * 5000, now.computed_ms, now.moved_bytes, now.stopped))
            return i * 5000;
    }
    return 0;
}

static struct look stopped(unsigned i)
{
    (void)i;
    return (struct look){700, 5 << 20, true};
}

static struct look stopped_later(unsigned i)
{
    return (struct look){MIN(i, 4u) * 5000, MIN(i, 4u) << 30, i > 4};
}

static struct look stopped_and_woken(unsigned i)
{
    return (struct look){i * 5000, 0, i % 2};
}

static struct look reads_slowly(unsigned i)
{
    return (struct look){0, (int64_t)i << 20, false};
}

static struct look gives_back(unsigned i)
{
    return (struct look){0, (int64_t)(1000 - i) << 20, false};
}

static struct look computes_alone(unsigned i)
{
    return (struct look){i * 500, 77, false};
}

static struct look does_nothing(unsigned i)
{
    return (struct look){i * 499, (5 << 20) + i, false};
}

static struct look begins_nothing(unsigned i)
{
    (void)i;
    return (struct look){0, 0, false};
}

static struct look counts_anew(unsigned i)
{
    return (struct look){1000 - i, 5 << 20, false};
}

static struct look unknown(unsigned i)
{
    return (struct look){i % 2 ? -1 : 100, i % 2 ? 100 : -1, false};
}

Test(alive, a_load_that_hangs_is_told_from_one_that_takes_long)
{
    cr_assert_eq(hangs_after_ms(stopped, 500), 10000);
    cr_assert_eq(hangs_after_ms(stopped_later, 500), 30000, "10 s after it was last seen to work");
    cr_assert_eq(hangs_after_ms(stopped_and_woken, 500), 0);
    cr_assert_eq(hangs_after_ms(reads_slowly, 500), 0, "a slow disk");
    cr_assert_eq(hangs_after_ms(gives_back, 500), 0, "memory that is given back");
    cr_assert_eq(hangs_after_ms(computes_alone, 500), 0, "kernels are compiled for a card");
    cr_assert_eq(hangs_after_ms(does_nothing, 500), 305000, "the first look tells nothing");
    cr_assert_eq(hangs_after_ms(begins_nothing, 500), 305000, "no work and no bytes are known, and nothing");
    cr_assert_eq(hangs_after_ms(counts_anew, 500), 0, "what it did since is unknown");
    cr_assert_eq(hangs_after_ms(unknown, 500), 0);
}

/* Not a tick of the processor is known to be nothing, and not unknown. */
Test(alive, a_load_that_does_nothing_at_all_hangs)
{
    struct alive_load l;

    alive_load_begins(&l, 1000);
    cr_assert_not(alive_load_hangs(&l, 2000, 500, 10, false), "the first look has nothing to compare with");
    cr_assert_not(alive_load_hangs(&l, 2000 + ALIVE_STUCK_MS - 1, 500, 10, false));
    cr_assert(alive_load_hangs(&l, 2000 + ALIVE_STUCK_MS, 500, 10, false));
}
