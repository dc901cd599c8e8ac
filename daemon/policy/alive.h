/* When a model server that died is started again, and when one that is silent counts as hung. Pure: figures are handed in.
 *
 * A server that dies is started again at once, after another death within ten minutes in 1 s, then 2 s, then 4 s. The fifth is the last:
 * it would die again, and each load costs the machine minutes.
 *
 * A hung one takes connections and answers nobody; a busy one answers late, or sends an answer to somebody else, or computes. The
 * sign of life is any answer to a question of ours, however late, or any byte of an answer to an application. Without one
 *     for 30 s, and computing less than a tenth of one processor between two looks: it hangs, requests or not;
 *     for 5 min, and nobody has a request open: it hangs although it computes;
 *     for however long, with a request open and computing: it is busy, and never started anew.
 * CPU time is that of the server and all it started, so a runner that evaluates a long prompt speaks for its server. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#define ALIVE_DEATHS_MAX   5
#define ALIVE_WINDOW_MS    (10 * 60 * 1000)
#define ALIVE_SILENT_MS    (30 * 1000)
#define ALIVE_SPINNING_MS  (5 * 60 * 1000)
#define ALIVE_WORKS_ONE_IN 10

/* How long to wait before it is started again; deaths: within the window, this one included. */
uint64_t alive_delay_ms(unsigned deaths);

struct alive_facts {
    uint64_t silent_ms;     /* since its last sign of life */
    uint64_t between_ms;    /* between the last two looks since then; 0: there was one at most */
    int64_t computed_ms;    /* CPU time it used between them; -1: unknown */
    bool asked;             /* requests are open */
};
bool alive_is_hung(const struct alive_facts *f);
