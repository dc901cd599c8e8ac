/* When a lost or refused way to a machine is tried again. Pure: the time and the dice are handed in.
 *
 * A loss is answered at once, then after 0.2 s, doubling to 15 s, for ever: a machine that comes back after a
 * night must be reached within seconds. A refusal is different: each further login is a line in somebody's
 * log and, at some providers, a step towards being locked out, so logins are rationed from the first refusal
 * to the next good login. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#define RETRY_FIRST_MS        200u
#define RETRY_MOST_MS         15000u
#define RETRY_LOGINS_PER_HOUR 6u

/* How long to wait after tries failed ones in a row; 0 tries: nothing. jitter: any number; takes up to a
 * quarter away, so that many sessions that lost the same gateway do not come back in step. */
uint64_t retry_delay_ms(unsigned tries, uint32_t jitter);

/* The logins at one host since it refused us. Zeroed: never refused. */
struct retry_logins {
    bool refused;
    unsigned next;                             /* ring: the place of the next one, which holds the oldest */
    uint64_t begun_due[RETRY_LOGINS_PER_HOUR]; /* 0: never */
};

void retry_login_begins(struct retry_logins *r, uint64_t now);
void retry_login_refused(struct retry_logins *r);
void retry_login_accepted(struct retry_logins *r);
/* 0: a login may begin now; otherwise how long until one may. */
uint64_t retry_login_wait_ms(const struct retry_logins *r, uint64_t now);
