/* Work for later in the same turn of the loop: so no event arrives inside another.
 *
 * Work queued from a timer, an I/O callback, an async or a close callback runs before the loop polls again; work queued by
 * work runs in the same pass, after what was queued before it. */
#pragma once

#include "base/list.h"

struct loop;

/* Lives inside its object; fn runs once for any number of runq_add() before it ran. */
struct work {
    struct list node;
    void (*fn)(void *ctx);
    void *ctx;
};

void work_init(struct work *w, void (*fn)(void *ctx), void *ctx);
void runq_add(struct loop *l, struct work *w);
/* The owner goes: the work will not run. Takes work that is not queued. */
void runq_drop(struct work *w);
