/* What a model is like before any machine has it: how large it is, and what a token of its context takes. For those who are about to pay
 * for a card.
 *
 * Its registry is asked by this computer: for the list of the model's files, then for the first bytes of the first one, where GGUF has the
 * numbers (reference/lease.md §5). Where it does not answer, a small table has the models that our documents name. A name tells nothing. */
#pragma once

#include <stdint.h>

#include "policy/fits.h"

struct fault;
struct http;
struct op;
struct resolver;
struct settings;

/* Borrowed until done(). */
struct shape_context {
    struct http *http;
    struct resolver *resolver;
    const struct settings *settings;    /* [engine.NAME] model_mirror= is asked where there is one */
};

struct shape {
    struct fits_model fits;     /* its parts that are not known say so */
    int64_t download_bytes;     /* of all that is fetched; -1: unknown */
};

/* An op of at most a minute or so. model: with its engine, "ollama:deepseek-r1:7b". What is not known stays unknown in *shape, which is never
 * NULL; f then says why, or is NULL (a file on the machine, a kind of model that nobody can compute). codes: model_unknown (the registry
 * answered, and has no such model), registry_unreachable, registry_failed. With f, *shape may still be what the table knows. */
typedef void (*shape_done_fn)(void *ctx, const struct shape *shape, const struct fault *f);
void shape_ask(const struct shape_context *context, const char *model, struct op **slot, shape_done_fn done, void *ctx);
