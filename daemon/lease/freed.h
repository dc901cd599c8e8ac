/* The guard of a machine that is no longer to be switched off from inside (`--stop=never`): it lives on there and would switch the machine off once
 * more, when its lease is over. It is ended as soon as the machine is reached; the last one who can is whoever reaches it. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/op.h"

struct freed;
struct host;
struct loop;

/* Borrowed for its life. */
struct freed_context {
    struct loop *loop;
    const char *name;           /* of the lease, for the log */
    const char *owner;          /* our short id */
    struct host *host;
    int64_t acts_at_ms;         /* it acts then, as far as is known; 0: unknown */
    /* It is ended, or was never ours. From the loop; freed_free() may be called by it. */
    void (*over)(void *ctx);
    void *ctx;
};

struct freed *freed_new(const struct freed_context *context);
struct freed *freed_free(struct freed *f);
/* Is the session up? Tried at each login, and again while it stays up. */
void freed_on_session(struct freed *f, bool up);
int64_t freed_acts_at_ms(const struct freed *f);
/* Done when the try that is under way is over (NULL: it is ended), when the session is lost, or why there is none. An op; one at a time. */
void freed_wait(struct freed *f, struct op **slot, op_done_fn done, void *ctx);
