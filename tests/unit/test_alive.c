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
        {{5 * MIN - 1, 10 * S, 10 * S, false}, false, "it may be loading what somebody asked for on the machine itself"},
        {{5 * MIN, 10 * S, 10 * S, false}, true, "it runs in circles, for nobody"},
        {{600 * MIN, 10 * S, 10 * S, true}, false, "a long prompt"},
        {{600 * MIN, 10 * S, -1, true}, false, "unknown, and somebody waits for it"},
        {{5 * MIN, 10 * S, -1, false}, true, "unknown, and nobody does"},
    };

    for (size_t i = 0; i < ELEMENTS(rows); i++)
        cr_assert_eq(alive_is_hung(&rows[i].facts), rows[i].hung, "%s", rows[i].what);
}
