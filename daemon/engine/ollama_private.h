/* What ollama.c, ollama_context.c and ollama_pull.c share. */
#pragma once

#include "engine/answer.h"
#include "engine/fetch.h"
#include "engine/server.h"
#include "policy/fits.h"

#define ASK_MS 5000

struct ollama {
    struct engine engine;
    struct server server;
    struct json *shown;             /* facts.shown; under construction while load asks */
    char *version;
    char *ours;                     /* the version of the program, when it was we who put it there */
    struct ollama_pull pull;
    bool launched;                  /* by us, since find: what was found dead is started anew, what we started is not */
    struct fits_model shape;        /* of the model; token_bytes -1: not known */
    uint64_t shape_due;             /* it is not asked for again before */
    int64_t context;                /* what the server is started with */
    void (*on_context)(struct ollama *o);
    bool embeds;                    /* load has asked for an embedding instead */
    struct fault refused;           /* why the model was not loaded, while the machine is asked for more */
    uint64_t grown_due, told_due;   /* of the pull */
    uint64_t lost_due;              /* when the connection of a pull was cut; 0: never */
    struct fetch fetch;
    char *pulled;                   /* what the pull is asked for: the model, or its name at the mirror */
    bool by_mirror, is_sized;       /* is_sized: the whole size was known before */
    struct fault failed;            /* what the pull ends with once its traces are looked at */
};

struct ollama *ollama_of(void *server);
struct ollama *ollama_begin(struct engine *e, struct engine_reply to);
/* {"model":NAME, …}; caller frees. */
char *ollama_body(const struct ollama *o, const char *key, struct json *value);
const char *ollama_text(const struct http_answer *a);
/* What an error answer says, else its status. The texts are the engine's own. */
void ollama_answer_fault(struct fault *f, const char *what, struct http_answer *a);

/* ollama_context.c: o->context is as the cards and the model allow when done is called, within the step. */
void ollama_choose_context(struct ollama *o, void (*done)(struct ollama *o));

/* ollama_pull.c: engine_ops.fetch. */
extern const struct engine_hub ollama_hub;
void ollama_fetch(struct engine *e, struct engine_reply to);
/* What a download that will not be gone on with left: of this model, or, when the server is gone and nobody else wants it, of all that it
 * keeps in our directory. */
void ollama_clean(struct ollama *o, bool is_gone, fetch_done_fn done);
