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
 * CPU time is that of the server and all it started, so a runner that evaluates a long prompt speaks for its server.
 *
 * One that loads a model says nothing until that is done, and may wait for a slow disk rather than compute: what it has read, and how
 * much memory it has, are signs of life as well. It hangs when it was stopped (SIGSTOP) for 10 s, or without any such sign for 5 min. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#define ALIVE_DEATHS_MAX   5
#define ALIVE_WINDOW_MS    (10 * 60 * 1000)
#define ALIVE_SILENT_MS    (30 * 1000)
#define ALIVE_SPINNING_MS  (5 * 60 * 1000)
#define ALIVE_WORKS_ONE_IN 10
#define ALIVE_STOPPED_MS   (10 * 1000)
#define ALIVE_STUCK_MS     (5 * 60 * 1000)
#define ALIVE_MOVES_BYTES  (1 << 20)

/* How long to wait before it is started again; deaths: within the window, this one included. */
uint64_t alive_delay_ms(unsigned deaths);

struct alive_facts {
    uint64_t silent_ms;     /* since its last sign of life */
    uint64_t between_ms;    /* between the last two looks since then; 0: there was one at most */
    int64_t computed_ms;    /* CPU time it used between them; -1: unknown */
    bool asked;             /* requests are open */
};
bool alive_is_hung(const struct alive_facts *f);

/* What is remembered of a load from look to look. */
struct alive_load {
    uint64_t worked_due, looked_due; /* looked_due 0: no look yet */
    int64_t computed_ms, moved_bytes;
};
void alive_load_begins(struct alive_load *l, uint64_t now);
/* As of a look: CPU time, bytes read and memory taken, all in all; -1: unknown, which is a sign of life. */
bool alive_load_hangs(struct alive_load *l, uint64_t now, int64_t computed_ms, int64_t moved_bytes, bool stopped);
