/* When a model that nobody uses is put to sleep. Pure: the time is handed in.
 *
 * It sleeps once there was no request for unload_ms, counted from the last byte of the last one, and not before it was ready for
 * min_up_ms. One that is woken sooner after it fell asleep than it had been idle for flaps: it costs a load each time and saves
 * nothing. Each such wake in a row doubles the time, up to eightfold; one that sleeps through begins anew. */
#pragma once

#include <stdint.h>

#define IDLE_NEVER         UINT64_MAX
#define IDLE_DOUBLINGS_MAX 3u

struct idle_rule {
    uint64_t unload_ms;             /* [idle] unload; 0: it never sleeps by itself */
    uint64_t min_up_ms;             /* [idle] min_up */
};

struct idle_facts {
    uint64_t ready_due;             /* since when requests are answered */
    uint64_t used_due;              /* the end of the last request; 0: none since the daemon started */
    unsigned flaps;                 /* in a row */
};

/* How long without a request, as things are. */
uint64_t idle_unload_ms(const struct idle_rule *rule, const struct idle_facts *facts);
/* The instant at which it sleeps unless somebody asks before; IDLE_NEVER. */
uint64_t idle_sleep_due(const struct idle_rule *rule, const struct idle_facts *facts);
/* The count of flaps after a request woke one that slept for slept_ms. */
unsigned idle_flaps(const struct idle_rule *rule, unsigned flaps, uint64_t slept_ms);
