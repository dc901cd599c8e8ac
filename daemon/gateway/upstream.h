/* One request to an engine over one connection, and its answer: bytes out, events back. What it means is request.c's affair. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct body;
struct http1_head;
struct loop;
struct stream;
struct upstream;

struct upstream_events {
    /* The answer's head, once; 1xx are skipped before. Lasts until the upstream is freed. */
    void (*head)(void *ctx, const struct http1_head *head);
    void (*data)(void *ctx, const char *data, size_t n);
    /* Over, in one of two ways, and nothing comes after it: free the upstream. From inside end() that is a must, from inside lost()
     * allowed. */
    void (*end)(void *ctx);
    /* error: 0 the engine closed the connection, -EPROTO its answer makes no sense, or what the stream said. */
    void (*lost)(void *ctx, int error);
    void *ctx;
};

/* Takes s and head (bytes as they go out, malloc); borrows body (NULL: none) until upstream_is_sent().
 * Begins at once; events come from the loop. */
struct upstream *upstream_new(struct stream *s, char *head, size_t n_head, const struct body *body,
                              const struct upstream_events *events);
/* reset: the engine should see that nobody listens any more. */
struct upstream *upstream_free(struct upstream *u, bool reset);
/* After end(): the connection for another request, NULL when it is of no more use. */
struct stream *upstream_take_stream(struct upstream *u);

/* While paused nothing is read, so the engine's sending stops in the end. May be called from data(). */
void upstream_pause(struct upstream *u, bool paused);

uint64_t upstream_sent_bytes(const struct upstream *u);         /* of head and body */
bool upstream_is_sent(const struct upstream *u);                /* all of it */
uint64_t upstream_progress_due(const struct upstream *u);       /* clock_now_ms() when the last byte was taken */
uint64_t upstream_answer_bytes(const struct upstream *u);       /* seen of the answer, head included */
/* Is it a descriptor of this machine, and no channel? Their ways of breaking differ. */
bool upstream_is_local(const struct upstream *u);
