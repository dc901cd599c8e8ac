/* How many tokens an answer says it took, found while it passes: nothing of it is kept. Streams say it in their last events, documents
 * anywhere; what is said last counts. Known words: OpenAI's usage, also that of /v1/responses, and Ollama's eval counts. */
#pragma once

#include <stddef.h>
#include <stdint.h>

#define TOKENS_WORD_MAX 20

struct tokens {                     /* all zero: nothing has passed */
    int64_t prompt, answer;         /* what was found, 0: nothing was said */
    enum {
        TOKENS_OUTSIDE,             /* no key of ours is near */
        TOKENS_WORD,                /* behind a quotation mark */
        TOKENS_COLON,               /* behind a key of ours */
        TOKENS_NUMBER,
    } step;
    char word[TOKENS_WORD_MAX];
    unsigned n_word, n_digits;
    int64_t *found;                 /* whose number it is */
    int64_t number;
};

void tokens_pass(struct tokens *t, const char *data, size_t n);
