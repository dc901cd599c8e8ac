/* The guard: a loop of shell on the box (guard.sh) that switches it off when nobody renews, without us, this host or a network. Here: how it
 * is put there, asked and read. The protocol: reference/lease.md, section 1.
 *
 * It is the only judge: a renewal is a request, and "taken" was written by the living guard, so the answer to a request is the read-back
 * as well. Whoever cannot ask does not know, and must not think that it guards.
 *
 * All of it belongs to whoever holds the machine: sequences (each request one higher; after a restart of ours read first, and go on from
 * there), when to renew, and what to do where there is no guard. Nothing here is repeated or timed. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/fault.h"
#include "guard/record.h"
#include "session/host.h"

#define GUARD_LEASE_S_MAX    1800
#define GUARD_HOLD_S_MAX     (7 * 24 * 3600)
#define GUARD_SEQ_MAX        999999999999u  /* twelve digits, as guard.sh takes them */
#define GUARD_HOLD_UNCHANGED UINT32_MAX

/* One that cannot be is a bug of the caller's: we abort. */
struct guard_request {
    const char *owner;      /* our short id, a guard_owner_is_good(); borrowed for the call */
    uint64_t seq;           /* higher than any before */
    uint32_t lease_s;       /* from now on; 0: stop now */
    uint32_t hold_s;        /* it stays up until then without renewals; 0: none; GUARD_HOLD_UNCHANGED: hands on the one there is */
    uint32_t hold_pid;      /* its process on the box: gone, the hold lasts 5 min more; 0: none */
    bool take;              /* also from another owner */
};

enum guard_verdict {
    GUARD_TAKEN,        /* the guard lives and has taken it (of a read: it lives) */
    GUARD_REFUSED,      /* it lives and has not: report.record.refused, or it is acting already */
    GUARD_MISSING,      /* no guard lives there: install it, with the same sequence */
    GUARD_UNWRITABLE,   /* the request could not be written, or the guard not be put anywhere */
    GUARD_UNREADABLE,   /* half a line: ask again */
    GUARD_DOES_NOT_COUNT,       /* neither root nor sudo without a password: it could not stop this machine, and was not put there */
};

struct guard_answer {
    enum guard_verdict verdict;
    enum guard_reason reason;   /* of GUARD_REFUSED */
    struct guard_report report;
    int64_t left_s;             /* until it acts, when it was read; only with report.has_record, and 0 when it acts */
};

/* answer lasts for the call. f: what host_run() could not do (FAULT_UNCERTAIN: it may have been taken), FAULT_TRANSIENT for an answer without
 * its end, FAULT_INVALID and no_shell for an account that does not run what it is asked to. */
typedef void (*guard_done_fn)(void *ctx, const struct guard_answer *answer, const struct fault *f);

/* Ops. Puts guard.sh into the place it had, /dev/shm, /run or the home; starts it (one that is there is inherited and replaced) with first_s
 * until somebody is heard, and asks. Where the second dog would not understand this guard it is ended. */
void guard_install(struct host *h, uint32_t first_s, const struct guard_request *q, struct op **slot, guard_done_fn done, void *ctx);
void guard_ask(struct host *h, const struct guard_request *q, struct op **slot, guard_done_fn done, void *ctx);
void guard_read(struct host *h, struct op **slot, guard_done_fn done, void *ctx);

/* Ends it, its files and the second dog: nothing there switches the machine off any more. GUARD_MISSING: none lives there; GUARD_REFUSED: it is
 * another owner's, or acts already (GUARD_REASON_LATE). owner is borrowed for the call. */
void guard_release(struct host *h, const char *owner, struct op **slot, guard_done_fn done, void *ctx);

const char *guard_verdict_name(enum guard_verdict v);   /* "taken", "refused", … */
const char *guard_reason_name(enum guard_reason r);     /* "late", "owner", … */

/* The second dog, one line for a POSIX shell that travels with the power-on: ends the box after first_s, or 60 s after the guard in /dev/shm
 * should have. */
#define GUARD_DOG_BYTES_MAX 500         /* as long as AutoDL's start_command may be; its true limit is unknown (reference/lease.md §1.7) */
const char *guard_dog_format(char out[static GUARD_DOG_BYTES_MAX + 1], uint32_t first_s);
