/* Where CPU time is unknown it is busy: a wrong restart costs what was asked of it, a wrong patience a few
 * minutes. */
#include "policy/alive.h"

#include <stdlib.h>

#include "proto/mem.h"

uint64_t alive_delay_ms(unsigned deaths)
{
    return deaths < 2 ? 0 : UINT64_C(1000) << (MIN(deaths, (unsigned)ALIVE_DEATHS_MAX) - 2);
}

static bool computes(const struct alive_facts *f)
{
    return f->computed_ms < 0 || (uint64_t)f->computed_ms * ALIVE_WORKS_ONE_IN >= f->between_ms;
}

bool alive_is_hung(const struct alive_facts *f)
{
    if (f->silent_ms < ALIVE_SILENT_MS || !f->between_ms)
        return false;
    return !computes(f) || (!f->asked && f->silent_ms >= ALIVE_SPINNING_MS);
}

void alive_load_begins(struct alive_load *l, uint64_t now)
{
    *l = (struct alive_load){.worked_due = now};
}

static bool load_works(const struct alive_load *l, uint64_t now, int64_t computed_ms, int64_t moved_bytes)
{
    const struct alive_facts f = {
        .between_ms = now - l->looked_due,
        .computed_ms = computed_ms >= l->computed_ms ? computed_ms - l->computed_ms : -1,
    };

    return !l->looked_due || computed_ms < 0 || moved_bytes < 0 || computes(&f) ||
           llabs(moved_bytes - l->moved_bytes) >= ALIVE_MOVES_BYTES;
}

bool alive_load_hangs(struct alive_load *l, uint64_t now, int64_t computed_ms, int64_t moved_bytes,
                      bool stopped)
{
    if (!stopped && load_works(l, now, computed_ms, moved_bytes))
        l->worked_due = now;
    l->looked_due = now;
    l->computed_ms = computed_ms;
    l->moved_bytes = moved_bytes;
    return now - l->worked_due >= (stopped ? ALIVE_STOPPED_MS : ALIVE_STUCK_MS);
}
