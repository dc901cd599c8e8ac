/* A model on its way onto a machine's disk, as far as the machine itself can tell: what a registry says of it, whether there is room, and
 * what a download that ended left behind. One script (fetch.sh behind machine.sh), a verb for each; like a driver it repeats nothing. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/fault.h"
#include "session/host.h"

struct fetch {
    struct host *host;          /* borrowed */
    const char *server;         /* as in place.h; borrowed */
    /* The last answers. Numbers are -1 when unknown. */
    char *body;                 /* of ask, in one line, any bytes; NULL: none */
    int status;                 /* of ask: the HTTP status, 0: no answer */
    bool is_late;               /* of ask: nobody answered within 20 s */
    bool has_tool;              /* of ask: there is a curl or wget to ask with */
    int64_t free_bytes, have_bytes; /* of room */
    char *models;               /* of room: the directory */
    unsigned removed;           /* of check and clean: files */
    void (*done)(void *ctx, const struct fault *f);
    void *ctx;
};

typedef void (*fetch_done_fn)(void *ctx, const struct fault *f);

void fetch_init(struct fetch *f, struct host *host, const char *server);
void fetch_done(struct fetch *f);                   /* no step may be in flight */

/* Each is an op. names: NULL-terminated, copied. directory: where models lie, in which @BASE@ stands for our directory; a server of ours
 * that runs says where by its OLLAMA_MODELS. */
void fetch_ask(struct fetch *f, const char *url, const char *accept, struct op **slot, fetch_done_fn done, void *ctx);
/* have_bytes: of the files of these names, whole or in part. Parts no download can go on with are removed. */
void fetch_room(struct fetch *f, const char *directory, const char *const *names, struct op **slot, fetch_done_fn done, void *ctx);
/* Blobs by their SHA-256: those that hold something else are removed. Reads them all: minutes for a large model. */
void fetch_check(struct fetch *f, const char *directory, const char *const *names, struct op **slot, fetch_done_fn done, void *ctx);
/* Removes what these patterns match and nobody has open. */
void fetch_clean(struct fetch *f, const char *directory, const char *const *names, struct op **slot, fetch_done_fn done, void *ctx);

/* What fetch_room() says against what is to come, -1: unknown. -ENOSPC: *fault is disk_full. */
int fetch_judge_room(const struct fetch *f, const char *model, const char *instance, int64_t bytes, struct fault *fault);
