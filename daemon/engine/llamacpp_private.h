/* What llamacpp.c and llamacpp_hub.c share. */
#pragma once

#include "engine/answer.h"
#include "engine/fetch.h"
#include "engine/server.h"

#define ASK_MS 5000

struct llamacpp {
    struct engine engine;
    struct server server;
    struct json *shown;
    char *version;
    bool launched;                  /* by us, since find: what was found dead is started anew, what we started is not */
    struct fetch fetch;
    struct hub_files hub;           /* what its server will fetch; n 0: unknown */
    struct fault hub_fault;         /* what the hub said otherwise: it explains why the server ends */
    void (*on_hub)(struct llamacpp *c);
    uint64_t grown_due;             /* of the download */
    int64_t grown_bytes;
};

struct llamacpp *llamacpp_of(void *server);

/* llamacpp_hub.c. A NAME is a path, or [HOST/]USER/REPOSITORY[:QUANT]. */
bool llamacpp_is_file(const char *model);
/* Without its HOST. */
const char *llamacpp_repository(const char *model);
/* For its server: where its cache is, and which hub it asks. */
void llamacpp_environment(const struct llamacpp *c, struct buf *out);
/* Asks how large it is; the step ends when there is no room for it, else done is called. */
void llamacpp_ask_hub(struct llamacpp *c, void (*done)(struct llamacpp *c));
extern const struct engine_hub llamacpp_hub;
/* While nobody answers: tells how far the download is; the step ends. */
void llamacpp_watch(struct llamacpp *c);
void llamacpp_on_waiting(void *ctx, const struct fault *f);
/* The step ends: its server did. */
void llamacpp_end_dead(struct llamacpp *c, struct fault *dead);
/* Parts nobody will go on with. */
void llamacpp_clean(struct llamacpp *c, fetch_done_fn done);
