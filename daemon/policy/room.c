/* A model takes its files' size, and beyond it room for the context and the working memory of its engine. */
#include "policy/room.h"

#include <stdbool.h>

#define SPARE_BYTES (256ll * 1024 * 1024)

int64_t room_missing(int64_t model_bytes, int64_t free_bytes, int64_t reserved_bytes)
{
    if (model_bytes <= 0 || free_bytes < 0)
        return 0;
    return model_bytes + model_bytes / 10 + SPARE_BYTES - free_bytes + reserved_bytes;
}

/* The first that stands in the way, -1: none does. */
static int find(const struct room_holder *holders, unsigned n, int how)
{
    for (unsigned i = 0; i < n; i++)
        if ((int)holders[i].how == how)
            return (int)i;
    return -1;
}

static int oldest_idle(const struct room_holder *holders, unsigned n)
{
    int oldest = -1;

    for (unsigned i = 0; i < n; i++)
        if (holders[i].how == ROOM_IDLE && (oldest < 0 || holders[i].used_at_ms < holders[oldest].used_at_ms))
            oldest = (int)i;
    return oldest;
}

/* As far as it is known: those of unknown size may be large enough. */
static bool idle_ones_can_be_enough(int64_t missing_bytes, const struct room_holder *holders, unsigned n)
{
    int64_t sum = 0;

    for (unsigned i = 0; i < n; i++) {
        if (holders[i].how != ROOM_IDLE)
            continue;
        if (holders[i].bytes < 0)
            return true;
        sum += holders[i].bytes;
    }
    return sum >= missing_bytes;
}

enum room_verdict room_judge(int64_t missing_bytes, const struct room_holder *holders, unsigned n,
                             unsigned *ret_which)
{
    int changing = find(holders, n, ROOM_CHANGING), busy = find(holders, n, ROOM_BUSY);
    int idle = oldest_idle(holders, n);

    if (missing_bytes <= 0 || n == 0)
        return ROOM_ENOUGH;
    if (changing >= 0) {
        *ret_which = (unsigned)changing;
        return ROOM_WAIT;
    }
    if (busy >= 0 && (idle < 0 || !idle_ones_can_be_enough(missing_bytes, holders, n))) {
        *ret_which = (unsigned)busy;
        return ROOM_WAIT;
    }
    *ret_which = (unsigned)idle;
    return ROOM_UNLOAD;
}
