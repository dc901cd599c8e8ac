/* What applications asked of which model: requests, errors, tokens, bytes and times, per model and client. Kept in the database: written
 * 30 s after a change and at the end, so that a kill loses 30 s at most. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "gateway/histogram.h"

struct counts;
struct fault;
struct loop;
struct store;

#define COUNTS_FLUSH_MS    30000
#define COUNTS_CLIENTS_MAX 16           /* with a name of their own, per model; more are counted together */
#define COUNTS_OTHERS      "other"

struct count {
    char *model, *client;
    uint64_t requests, errors;          /* errors: answered with 400 and more, or not to the end */
    uint64_t prompt_tokens, answer_tokens;
    uint64_t request_bytes, answer_bytes;
    struct histogram first, total;      /* to the first byte of the engine's answer, to the last */
    bool is_dirty;
};

/* One request that is over. */
struct count_sample {
    const char *model, *client;
    bool failed, answered;              /* answered: the engine began to, after first_ms */
    uint64_t first_ms, total_ms, request_bytes, answer_bytes, prompt_tokens, answer_tokens;
};

/* Reads what was kept, before the loop runs. s may be NULL: nothing is. 0, or < 0: *f says why it cannot be read. */
int counts_new(struct loop *l, struct store *s, struct counts **ret, struct fault *f);
/* Hands the rest to the store. */
struct counts *counts_free(struct counts *c);
void counts_add(struct counts *c, const struct count_sample *one);
/* The model is no more. */
void counts_forget(struct counts *c, const char *model);

/* One after the other; NULL beyond the last. */
const struct count *counts_at(const struct counts *c, unsigned i);
/* All clients of a model together; its names are not set. */
void counts_of_model(const struct counts *c, const char *model, struct count *ret);
