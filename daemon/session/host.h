/* What can be done on a machine once we are in: run a command, dial a port, put a file. Over SSH, or on this very host.
 *
 * All requests wait while the way to the machine is down, for as long as their owner likes: cancel, or bound them with a timer. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/run.h"
#include "base/stream.h"

struct fault;
struct host;
struct loop;
struct op;
struct session;

enum host_traffic { HOST_STREAM, HOST_BULK };

typedef void (*host_dial_fn)(void *ctx, struct stream *s, const struct fault *f);      /* takes s */

struct host_ops {
    const char *name;       /* "ssh", "local" */
    void (*dial)(struct host *h, const char *address, uint16_t port, enum host_traffic kind, struct op **slot, host_dial_fn done,
                 void *ctx);
    void (*run)(struct host *h, const struct run_spec *spec, struct op **slot, run_done_fn done, void *ctx);
    void (*waiting)(struct host *h, int change);
    bool (*is_reachable)(const struct host *h);
    struct host *(*free)(struct host *h);
};

struct host {
    const struct host_ops *ops;
};

struct host *host_local_new(struct loop *l);
struct host *host_ssh_new(struct session *s);           /* borrows the session */
static inline struct host *host_free(struct host *h)
{
    return h ? h->ops->free(h) : NULL;
}

/* address: as the machine resolves it, "127.0.0.1" mostly. Fault codes as ssh_dial(). */
static inline void host_dial(struct host *h, const char *address, uint16_t port, enum host_traffic kind, struct op **slot,
                             host_dial_fn done, void *ctx)
{
    h->ops->dial(h, address, port, kind, slot, done, ctx);
}
static inline void host_run(struct host *h, const struct run_spec *spec, struct op **slot, run_done_fn done, void *ctx)
{
    h->ops->run(h, spec, slot, done, ctx);
}
/* A request of ours waits for bytes from the machine (+1), or no longer does (-1): how soon a dead peer is noticed. */
static inline void host_waiting(struct host *h, int change)
{
    h->ops->waiting(h, change);
}
/* Reachable just now; a dial that starts now is not held. */
static inline bool host_is_reachable(const struct host *h)
{
    return h->ops->is_reachable(h);
}

/* Writes a file (mode 0600 or 0700) beside its name and moves it there, so that it is never half written. The
 * folder must exist; "~/" in front is the user's home. FAULT_EXHAUSTED: the disk is full. Over host_run(). */
void host_put(struct host *h, const char *path, unsigned mode, const void *data, size_t n, struct op **slot,
              void (*done)(void *ctx, const struct fault *f), void *ctx);
