/* What the guard on a box has written down, and what box.sh says about it. Pure: bytes in, facts out; any bytes may come, from a machine that
 * others use. The protocol: reference/lease.md, section 1; guard.sh writes these lines.
 *
 * Seconds here are the box's own (/proc/uptime) and never compared with ours: only their differences mean anything. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define GUARD_OWNER_MAX  32
#define GUARD_NOBODY     "-"
#define GUARD_BEAT_S_MAX 45     /* a living guard at its period of 20 s is never older */

enum guard_state { GUARD_STATE_FIRST, GUARD_STATE_LEASE, GUARD_STATE_ACTING };
enum guard_reason { GUARD_REASON_OK, GUARD_REASON_LATE, GUARD_REASON_OWNER, GUARD_REASON_SEQ, GUARD_REASON_RANGE, GUARD_REASON_BOOT };
enum guard_power {      /* as whom it can stop its box */
    GUARD_POWER_NONE,    /* neither root nor sudo */
    GUARD_POWER_SUDO,
    GUARD_POWER_ROOT,
};

struct guard_record {
    char boot[40];
    int64_t init, pid, born;
    int64_t beat_s;
    char owner[GUARD_OWNER_MAX + 1];    /* GUARD_NOBODY: nobody asked yet */
    int64_t seq;
    int64_t lease_s, hold_s;            /* it acts when both are over */
    int64_t hold_pid, hold_born;
    enum guard_state state;
    int64_t tries;                      /* to stop */
    int64_t taken_s;                    /* when the last request was taken: the last sign of its owner */
    enum guard_power power;
    char ways[64];                      /* what it will call in turn, those that are there: "/usr/bin/shutdown,shutdown,kill" */
    enum guard_reason refused;          /* GUARD_REASON_OK: the last request was taken, or there was none */
    char refused_owner[GUARD_OWNER_MAX + 1];
    int64_t refused_seq;
};

/* Can be the owner of a guard: 1 to 32 letters, digits, - _ . and not GUARD_NOBODY. */
bool guard_owner_is_good(const char *owner);
/* One line. 0, -EAGAIN: half a line (look again), -EBADMSG: no record. */
int guard_record_read(const char *text, size_t n, struct guard_record *ret);
static inline int64_t guard_record_end_s(const struct guard_record *r)
{
    return r->lease_s > r->hold_s ? r->lease_s : r->hold_s;
}

/* What guard.sh ended with. */
enum guard_said { GUARD_SAID_YES, GUARD_SAID_NO, GUARD_SAID_NONE, GUARD_SAID_UNWRITABLE };

struct guard_report {
    char folder[256];           /* where it lies; "" where there is none */
    enum guard_said said;
    enum guard_power power;     /* of the account, as the installer tried it; GUARD_POWER_ROOT where it did not */
    bool has_record;
    struct guard_record record;
    bool is_half;               /* there is a line, and its end is missing */
    int64_t now_s;              /* when it was read; -1: unknown */
    int64_t typed_s;            /* so long ago somebody typed into a terminal there; -1: unknown */
};

/* All that box.sh wrote. 0, -EAGAIN: not to the end, -EBADMSG: not of ours. */
int guard_report_read(const char *text, size_t n, struct guard_report *ret);
/* The guard of this report lives: it says so, and its last beat is young. */
bool guard_report_is_alive(const struct guard_report *r);
