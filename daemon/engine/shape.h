/* What a model is like before any machine has it: how large it is, and what a token of its context takes. For those who are about to pay
 * for a card.
 *
 * Its registry is asked by this computer: for the list of the model's files, then for the first bytes of the first one, where GGUF has the
 * numbers (reference/lease.md §5). Where it does not answer, a small table has the models that our documents name. A name tells nothing. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "policy/fits.h"

struct fault;
struct http;
struct loop;
struct op;
struct resolver;
struct settings;

/* Borrowed until done(). */
struct shape_context {
    struct loop *loop;
    struct http *http;
    struct resolver *resolver;          /* NULL: nobody is asked, and the table has to do */
    const struct settings *settings;    /* [engine.NAME] model_mirror= is asked where there is one; NULL: model_mirror is */
    const char *model_mirror;           /* copied; NULL: none */
};

struct shape {
    struct fits_model fits;     /* its parts that are not known say so */
    int64_t download_bytes;     /* of all that is fetched; -1: unknown */
    bool is_from_table;         /* nobody was asked, or nobody told: the table has it */
};

/* An op; each question waits for 8 s at most. model: with its engine, "ollama:deepseek-r1:7b". *shape is never NULL; what is not known says so in it. f: why
 * the registry did not tell (then *shape may still be what the table knows); NULL with a shape that is not known: nobody can tell (a file on the
 * machine, a kind of model that nobody can compute). codes: model_unknown, tag_unknown (the registry answered, and has no such thing),
 * login_needed, registry_unreachable, registry_failed. */
typedef void (*shape_done_fn)(void *ctx, const struct shape *shape, const struct fault *f);
void shape_ask(const struct shape_context *context, const char *model, struct op **slot, shape_done_fn done, void *ctx);
