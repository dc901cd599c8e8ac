/* The ration is a ring of the last six instants at which a login began: the seventh must wait until the
 * oldest is an hour old. */
#include "policy/retry.h"

#include "proto/mem.h"

#define HOUR_MS (60u * 60u * 1000u)

uint64_t retry_delay_ms(unsigned tries, uint32_t jitter)
{
    uint64_t delay_ms = RETRY_FIRST_MS;

    if (tries == 0)
        return 0;
    for (unsigned i = 1; i < tries && delay_ms < RETRY_MOST_MS; i++)
        delay_ms *= 2;
    delay_ms = MIN(delay_ms, (uint64_t)RETRY_MOST_MS);
    return delay_ms - jitter % (delay_ms / 4 + 1);
}

void retry_login_begins(struct retry_logins *r, uint64_t now)
{
    if (!r->refused)
        return;
    r->begun_due[r->next] = MAX(now, 1u);
    r->next = (r->next + 1) % RETRY_LOGINS_PER_HOUR;
}

void retry_login_refused(struct retry_logins *r)
{
    r->refused = true;
}

void retry_login_accepted(struct retry_logins *r)
{
    *r = (struct retry_logins){0};
}

uint64_t retry_login_wait_ms(const struct retry_logins *r, uint64_t now)
{
    uint64_t oldest = r->begun_due[r->next], until_due = oldest ? oldest + HOUR_MS : 0;

    return until_due - MIN(now, until_due);
}
