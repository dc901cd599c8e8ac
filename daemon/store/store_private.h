/* Private to store/. What put.c needs of store.c. */
#pragma once

#include "store/store.h"

struct change;

/* Takes c, to be written with all that is queued in this turn of the loop. Its ticket. */
store_ticket store_queue(struct store *s, struct change *c);
