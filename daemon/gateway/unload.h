/* Asks an ollama to take its model out of memory: the cure for one that answers nothing more after a client of it went away in the
 * middle of an answer (0.11.4 and 0.32.15, observed 2026-11-21). The next request loads it again. */
#pragma once

#include "base/op.h"

#define UNLOAD_MS 30000 /* for all of it */

struct deployment;
struct loop;

/* One op: NULL once it said so, else the fault. Borrows both. */
void unload_begin(struct loop *l, struct deployment *d, struct op **slot, op_done_fn done, void *ctx);
