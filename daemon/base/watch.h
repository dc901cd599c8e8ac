/* Readiness of one file descriptor. */
#pragma once

#include <stdbool.h>

struct loop;
struct watch;

enum watch_events { WATCH_IN = 1, WATCH_OUT = 2 };

/* Borrows fd, which must be non-blocking. ready() gets what is ready of what is wanted; an error or hang-up counts as both, for
 * read() or write() to tell. Starts with nothing wanted. */
struct watch *watch_new(struct loop *l, int fd, void (*ready)(void *ctx, unsigned events), void *ctx);
/* Level-triggered: ready() comes again each turn as long as it is so. */
void watch_want(struct watch *w, unsigned events);
/* After this returns ready() will not run. fd is closed (when close_fd) as soon as the loop has let go of it. */
struct watch *watch_free(struct watch *w, bool close_fd);
