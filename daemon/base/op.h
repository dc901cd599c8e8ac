/* One asynchronous request in flight.
 *
 * Starting never fails: a request that cannot even begin reports its fault from the loop.
 * done() runs exactly once, from the loop, never from inside the call that started it, and not at all after op_cancel().
 * While it is in flight *slot points at it; *slot is cleared before done() runs. So "x->op is set" means "still waiting", always.
 *
 * op_cancel() ends our listening, not their doing: what was asked may still happen. */
#pragma once

#include "base/runq.h"

struct fault;
struct loop;

/* Embedded by every kind of request. The kind frees itself in cancel(), without calling done(). */
struct op {
    struct op **slot;
    void (*cancel)(struct op *op);
};

/* For the makers of requests. *slot must be NULL: one request per slot. */
void op_begin(struct op *op, struct op **slot, void (*cancel)(struct op *op));
/* Over: clears the slot. Call just before done(). */
void op_end(struct op *op);

/* For the owners. Takes an empty slot. */
void op_cancel(struct op **slot);

/* The plain kind: something that only says it is over, with NULL or a fault. */
typedef void (*op_done_fn)(void *ctx, const struct fault *f);
/* Reports f (copied; NULL: success) from the loop, later in this turn. */
void op_finish_later(struct loop *l, struct op **slot, const struct fault *f, op_done_fn done, void *ctx);
