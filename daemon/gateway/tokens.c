/* A few states over the bytes. Text of a model cannot be taken for a key: within a JSON string a quotation
 * mark has a backslash in front of it, so the closing one of a key never follows the word at once. */
#include "gateway/tokens.h"

#include <string.h>

#include "proto/mem.h"

#define DIGITS_MAX 15

/* reference: OpenAI's "usage" of completions, chats, embeddings and responses; Ollama's docs/api.md,
 * "generate a completion". */
static const struct {
    const char *word;
    size_t place;
} keys[] = {
    {"prompt_tokens", offsetof(struct tokens, prompt)},
    {"completion_tokens", offsetof(struct tokens, answer)},
    {"prompt_eval_count", offsetof(struct tokens, prompt)},
    {"eval_count", offsetof(struct tokens, answer)},
    {"input_tokens", offsetof(struct tokens, prompt)},
    {"output_tokens", offsetof(struct tokens, answer)},
};

/* A quotation mark ends the word; or begins one, if the word is none of ours. */
static void end_word(struct tokens *t)
{
    t->step = TOKENS_WORD;
    for (size_t i = 0; i < ELEMENTS(keys); i++) {
        if (strlen(keys[i].word) == t->n_word && memcmp(keys[i].word, t->word, t->n_word) == 0) {
            t->found = (int64_t *)((char *)t + keys[i].place);
            t->step = TOKENS_COLON;
        }
    }
    t->n_word = 0;
}

static void take_word(struct tokens *t, char c)
{
    if (c == '"')
        end_word(t);
    else if (t->n_word < TOKENS_WORD_MAX && ((c >= 'a' && c <= 'z') || c == '_'))
        t->word[t->n_word++] = c;
    else
        t->step = TOKENS_OUTSIDE;
}

static void take_colon(struct tokens *t, char c)
{
    if (c == ':') {
        t->step = TOKENS_NUMBER;
        t->number = 0;
        t->n_digits = 0;
    } else if (c != ' ') {
        t->step = TOKENS_OUTSIDE;
    }
}

static void take_number(struct tokens *t, char c)
{
    if (c >= '0' && c <= '9' && t->n_digits < DIGITS_MAX) {
        t->number = 10 * t->number + (c - '0');
        t->n_digits++;
    } else if (c != ' ' || t->n_digits) {
        if (t->n_digits && (c == ',' || c == '}' || c == ' ' || c == '\r' || c == '\n'))
            *t->found = t->number;
        t->step = TOKENS_OUTSIDE;
    }
}

void tokens_pass(struct tokens *t, const char *data, size_t n)
{
    const char *end = data + n;

    for (const char *p = data; p < end; p++) {
        switch (t->step) {
        case TOKENS_OUTSIDE:
            p = memchr(p, '"', (size_t)(end - p));
            if (!p)
                return;
            t->step = TOKENS_WORD;
            t->n_word = 0;
            break;
        case TOKENS_WORD: take_word(t, *p); break;
        case TOKENS_COLON: take_colon(t, *p); break;
        case TOKENS_NUMBER: take_number(t, *p); break;
        }
    }
}
