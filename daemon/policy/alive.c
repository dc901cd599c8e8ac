/* Where CPU time is unknown it is busy: a wrong restart costs what was asked of it, a wrong patience a few minutes. */
#include "policy/alive.h"

uint64_t alive_delay_ms(unsigned deaths)
{
    return deaths < 2 ? 0 : UINT64_C(1000) << (deaths < ALIVE_DEATHS_MAX ? deaths - 2 : ALIVE_DEATHS_MAX - 2);
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
