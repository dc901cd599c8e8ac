/* What keeps an application, and the proxies before it, waiting while nothing can be said yet: when to send which bytes that
 * mean nothing. Pure. What each client takes for nothing, and how long it waits: docs of the clients, seen 2026-11-21. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "gateway/route.h"

#define BEAT_MS        10000    /* between two of them */
#define BEAT_STREAM_MS 5000     /* to the first in a stream: what fails before gets its true status */
#define BEAT_WHOLE_MS  45000    /* to the first in a document: nginx gives up after 60 s, Node after 300 s */

struct beats {
    const char *type;           /* Content-Type of the head in front of them; NULL: none may be sent */
    const char *bytes;          /* of one beat; NULL: a line of /api/pull that names the state */
    bool streams;               /* the answer is a stream: its pieces are read as they come */
};

/* stream: "stream" of the body, 1, 0, or -1 where it is not there. */
struct beats beats_for(const struct route *r, int stream);
static inline uint64_t beats_first_ms(const struct beats *b)
{
    return b->streams ? BEAT_STREAM_MS : BEAT_WHOLE_MS;
}
