/* Whether a model that is not on a machine's disk yet would fit there: the machine asks the registry, beside whatever its deployment does,
 * and nothing changes. For people who want to know before a pull begins. */
#pragma once

#include "engine/engine.h"

struct engine_need {
    int64_t bytes, have_bytes, free_bytes;      /* of the model, of it there, free for it; -1: unknown */
    char models[200];                           /* the directory */
};

/* An op; *ret is filled before done(). False: there is nothing to ask (a file on the machine), and nothing begins. e may go meanwhile. */
bool need_ask(const struct engine *e, struct engine_need *ret, struct op **slot, void (*done)(void *ctx), void *ctx);
