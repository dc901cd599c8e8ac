/* Instants are added up from facts; the caller holds them against the time. */
#include "policy/idle.h"

#include "proto/mem.h"

uint64_t idle_unload_ms(const struct idle_rule *rule, const struct idle_facts *facts)
{
    return rule->unload_ms << MIN(facts->flaps, IDLE_DOUBLINGS_MAX);
}

uint64_t idle_sleep_due(const struct idle_rule *rule, const struct idle_facts *facts)
{
    if (!rule->unload_ms)
        return IDLE_NEVER;
    return MAX(MAX(facts->used_due, facts->ready_due) + idle_unload_ms(rule, facts),
               facts->ready_due + rule->min_up_ms);
}

unsigned idle_flaps(const struct idle_rule *rule, unsigned flaps, uint64_t slept_ms)
{
    return slept_ms < rule->unload_ms ? flaps + 1 : 0;
}
