/* Connections to the engine of one deployment. Those that are open and idle, so that a request after a pause pays for no channel: at
 * least one is kept while the model is ready; engines close idle ones (llama-server after 5 s, observed 2026-11-20), which are
 * then replaced as long as somebody asked lately. And those that requests wait for, which get them in order of their arrival, whoever's
 * connection came first. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/list.h"
#include "base/op.h"

struct deployment;
struct loop;
struct pool;
struct stream;

#define POOL_IDLE_MAX       64
#define POOL_LATELY_MS      (10 * 60 * 1000)    /* how long after a request ended ones are replaced */
#define POOL_SURPLUS_MS     (60 * 1000)         /* how long more than one idle connection are kept */
#define POOL_REDIAL_MIN_MS  1000
#define POOL_REDIAL_MAX_MS  30000

/* Borrows both. */
struct pool *pool_new(struct loop *l, struct deployment *d);
struct pool *pool_free(struct pool *p);
struct deployment *pool_deployment(const struct pool *p);
/* For whoever keeps several. */
struct list *pool_node(struct pool *p);
struct pool *pool_of_node(struct list *node);

/* The deployment may be another now: ready or not, its server a new one. */
void pool_look(struct pool *p);
/* Could pool_take() give one? */
bool pool_has_idle(struct pool *p);
/* An idle connection, the one used last; NULL: none. The caller owns it. Counts as a request. */
struct stream *pool_take(struct pool *p);
/* A connection for the request of that turn (the lower the earlier), an idle one or a new one; fresh: only a new one. An op:
 * done() takes s->stream, or s is NULL and f says why. */
struct pool_stream {
    struct stream *stream;
    unsigned number; /* of the server, for pool_put() */
    bool is_reused;
};
typedef void (*pool_done_fn)(void *ctx, const struct pool_stream *s, const struct fault *f);
void pool_want(struct pool *p, uint64_t turn, bool fresh, struct op **slot, pool_done_fn done, void *ctx);
/* Somebody left in the middle of an answer (true); the engine answered since (false). When it was, 0: it was not. */
void pool_set_abandoned(struct pool *p, bool abandoned);
uint64_t pool_abandoned_due(const struct pool *p);
/* Takes a connection whose last answer is complete. number: deployment_server_number() when it was made or taken. */
void pool_put(struct pool *p, struct stream *s, unsigned number);
