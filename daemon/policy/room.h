/* Who makes room in a machine's memory for a model that is to be loaded. Pure: the facts are handed in.
 *
 * What fits is loaded. For what does not, the idle model that was used longest ago is unloaded, one after the
 * other, until it fits or no idle one is left. None is unloaded in vain: while those that are busy hold so
 * much that it would not be enough, it waits for them. Where a machine does not tell its memory the engine is
 * the judge: what it calls too much asks for one model less. */
#pragma once

#include <stdint.h>

enum room_verdict {
    ROOM_ENOUGH, /* load it: it fits, or there is nobody to ask */
    ROOM_UNLOAD, /* this one first */
    ROOM_WAIT,   /* for this one */
};

struct room_holder {
    enum {
        ROOM_IDLE,
        ROOM_BUSY,     /* requests are open */
        ROOM_CHANGING, /* it is being loaded or unloaded: soon it is known what it takes */
    } how;
    int64_t used_at_ms; /* the last time, at least since it is loaded */
    int64_t bytes;      /* of its memory; -1: unknown */
};

/* How much is lacking; 0 or less: nothing, or it cannot be known. model_bytes: as its files have it, 0: it is
 * loaded already; -1: unknown, both. reserved_bytes: of what is free, by those that are being loaded. */
int64_t room_missing(int64_t model_bytes, int64_t free_bytes, int64_t reserved_bytes);
/* ret_which: of the n holders; left alone with ROOM_ENOUGH. */
enum room_verdict room_judge(int64_t missing_bytes, const struct room_holder *holders, unsigned n,
                             unsigned *ret_which);
