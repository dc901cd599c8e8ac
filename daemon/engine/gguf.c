/* One pair after the other: the names that matter are those of the model's own kind ("llama.block_count" of a
 * llama), the values of all others are stepped over. */
#include "engine/gguf.h"

#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include "proto/mem.h"

#define LAYERS_MAX 1024
#define VALUE_MAX  (1 << 20) /* of any count of heads, or size of one */

/* Types of values. */
enum { U8, I8, U16, I16, U32, I32, F32, BOOL, STRING, ARRAY, U64, I64, F64 };

struct reader {
    const uint8_t *at;
    size_t left;
};

struct text {
    const char *at;
    size_t n;
};

/* A number, or one for each layer. */
struct number {
    unsigned n; /* 0: not there; 1: the same for all */
    int64_t of[LAYERS_MAX];
};

struct head {
    struct text kind; /* "llama": in front of the model's own names */
    struct number layers, context, embedding, heads, kv_heads, key, value, window, pattern, full_interval;
    bool is_other; /* its keys and values are not stored as we count them */
    bool has_state;
};

/* ---- values ---- */

static int take(struct reader *r, size_t n, const uint8_t **ret)
{
    if (n > r->left)
        return -EAGAIN;
    *ret = r->at;
    r->at += n;
    r->left -= n;
    return 0;
}

/* Little-endian, of 1 to 8 bytes. */
static int take_uint(struct reader *r, size_t n, uint64_t *ret)
{
    const uint8_t *at;
    uint64_t v = 0;

    if (take(r, n, &at) < 0)
        return -EAGAIN;
    for (size_t i = n; i > 0; i--)
        v = v << 8 | at[i - 1];
    *ret = v;
    return 0;
}

static int take_text(struct reader *r, struct text *ret)
{
    const uint8_t *at;
    uint64_t n;

    if (take_uint(r, 8, &n) < 0 || n > r->left)
        return -EAGAIN;
    take(r, (size_t)n, &at);
    *ret = (struct text){(const char *)at, (size_t)n};
    return 0;
}

/* 0: of no fixed size. */
static size_t size_of(uint64_t type)
{
    static const uint8_t sizes[] = {1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8};

    return type < ELEMENTS(sizes) ? sizes[type] : 0;
}

static bool is_whole(uint64_t type)
{
    return size_of(type) && type != F32 && type != F64;
}

/* A whole number of any type; what is too large for us is none (-1). */
static int64_t to_number(uint64_t type, uint64_t v)
{
    bool is_negative = (type == I8 && v >> 7) || (type == I16 && v >> 15) || (type == I32 && v >> 31) ||
                       (type == I64 && v >> 63);

    return is_negative || v > (uint64_t)INT32_MAX ? -1 : (int64_t)v;
}

/* to NULL: stepped over. */
static int take_array(struct reader *r, struct number *to)
{
    uint64_t type, n, v;
    struct text text;
    const uint8_t *at;

    if (take_uint(r, 4, &type) < 0 || take_uint(r, 8, &n) < 0)
        return -EAGAIN;
    if (type == STRING) {
        for (; n > 0; n--)
            if (take_text(r, &text) < 0)
                return -EAGAIN;
        return 0;
    }
    if (!size_of(type))
        return -EBADMSG; /* arrays of arrays: nobody writes them */
    if (n > r->left / size_of(type))
        return -EAGAIN;
    if (!to || !is_whole(type) || n > LAYERS_MAX)
        return take(r, (size_t)n * size_of(type), &at);
    to->n = (unsigned)n;
    for (unsigned i = 0; i < n; i++) {
        take_uint(r, size_of(type), &v);
        to->of[i] = to_number(type, v);
    }
    return 0;
}

static int take_value(struct reader *r, uint64_t type, struct number *to)
{
    struct text text;
    uint64_t v;

    if (type == ARRAY)
        return take_array(r, to);
    if (type == STRING)
        return take_text(r, &text);
    if (!size_of(type))
        return -EBADMSG;
    if (take_uint(r, size_of(type), &v) < 0)
        return -EAGAIN;
    if (to && is_whole(type)) {
        to->n = 1;
        to->of[0] = to_number(type, v);
    }
    return 0;
}

/* ---- names ---- */

static bool text_is(struct text t, const char *word)
{
    return t.n == strlen(word) && memcmp(t.at, word, t.n) == 0;
}

static bool text_begins(struct text t, const char *word)
{
    return t.n >= strlen(word) && memcmp(t.at, word, strlen(word)) == 0;
}

/* Where the value of this name goes; NULL: nowhere. */
static struct number *place_of(struct head *h, struct text name)
{
    const struct {
        const char *word;
        struct number *to;
    } places[] = {
        {"block_count", &h->layers},
        {"context_length", &h->context},
        {"embedding_length", &h->embedding},
        {"attention.head_count", &h->heads},
        {"attention.head_count_kv", &h->kv_heads},
        {"attention.key_length", &h->key},
        {"attention.value_length", &h->value},
        {"attention.sliding_window", &h->window},
        {"attention.sliding_window_pattern", &h->pattern},
        {"full_attention_interval", &h->full_interval},
    };
    size_t n = h->kind.n;

    if (!n || name.n <= n || memcmp(name.at, h->kind.at, n) != 0 || name.at[n] != '.')
        return NULL;
    name.at += n + 1;
    name.n -= n + 1;
    h->has_state |= text_begins(name, "ssm.") || text_begins(name, "wkv.");
    h->is_other |= text_is(name, "attention.kv_lora_rank") || text_is(name, "attention.shared_kv_layers");
    for (size_t i = 0; i < ELEMENTS(places); i++)
        if (text_is(name, places[i].word))
            return places[i].to;
    return NULL;
}

/* Until all pairs are read, or those of the model itself. */
static int read_pairs(struct reader *r, uint64_t n_pairs, struct head *h)
{
    struct text name;
    uint64_t type;
    int e;

    for (; n_pairs > 0; n_pairs--) {
        if (take_text(r, &name) < 0)
            return -EAGAIN;
        if (text_begins(name, "tokenizer.") && h->layers.n && h->heads.n)
            return 0;
        if (take_uint(r, 4, &type) < 0)
            return -EAGAIN;
        if (text_is(name, "general.architecture") && type == STRING)
            e = take_text(r, &h->kind);
        else
            e = take_value(r, type, place_of(h, name));
        if (e < 0)
            return e;
    }
    return 0;
}

/* ---- what it comes to ---- */

/* -1: it does not say, or something impossible. */
static int64_t number_at(const struct number *v, unsigned layer)
{
    int64_t it = v->n == 1 ? v->of[0] : layer < v->n ? v->of[layer] : -1;

    return it > VALUE_MAX ? -1 : it;
}

/* How many layers from one that sees everything to the next, in kinds of models whose files do not say it. */
static int64_t usual_pattern(struct text kind)
{
    static const struct {
        const char *kind;
        int64_t every;
    } kinds[] = {{"gemma2", 2}, {"gemma3", 6}, {"gpt-oss", 2}, {"gptoss", 2}, {"cohere2", 4}};

    for (size_t i = 0; i < ELEMENTS(kinds); i++)
        if (text_is(kind, kinds[i].kind))
            return kinds[i].every;
    return 0;
}

/* A window that is in the file and used by no engine is not counted: only with a pattern. */
static bool has_window(const struct head *h, unsigned layer)
{
    int64_t every = h->pattern.n == 1 ? h->pattern.of[0] : usual_pattern(h->kind);

    if (number_at(&h->window, 0) <= 0)
        return false;
    if (h->pattern.n > 1)
        return number_at(&h->pattern, layer) > 0;
    return every > 0 && layer % every < every - 1;
}

static void sum_up(const struct head *h, struct fits_model *ret)
{
    int64_t layers = number_at(&h->layers, 0), heads = number_at(&h->heads, 0), all = 0, windowed = 0;
    int64_t interval = number_at(&h->full_interval, 0);
    int64_t usual = heads > 0 && h->heads.n == 1 ? number_at(&h->embedding, 0) / heads : -1;
    int64_t key = h->key.n ? number_at(&h->key, 0) : usual;
    int64_t value = h->value.n ? number_at(&h->value, 0) : usual;

    *ret = (struct fits_model){.weights_bytes = -1, .token_bytes = -1};
    ret->context_max = h->context.n ? MAX(h->context.of[0], (int64_t)0) : 0;
    if (h->is_other || layers <= 0 || layers > LAYERS_MAX || key <= 0 || value <= 0 ||
        (h->has_state && h->kv_heads.n <= 1 && interval <= 0))
        return;
    for (unsigned l = 0; l < layers; l++) {
        int64_t kv = number_at(h->kv_heads.n ? &h->kv_heads : &h->heads, l);

        if (kv < 0)
            return;
        if (h->has_state && h->kv_heads.n <= 1 && (l + 1) % interval)
            continue; /* a state that does not grow */
        if (has_window(h, l))
            windowed += kv;
        else
            all += kv;
    }
    ret->token_bytes = all * (key + value) * 2;
    ret->window_token_bytes = windowed * (key + value) * 2;
    ret->window = windowed ? number_at(&h->window, 0) : 0;
}

int gguf_read_shape(const void *data, size_t n, struct fits_model *ret)
{
    _cleanup_free_ struct head *h = xnew(struct head);
    struct reader r = {data, n};
    const uint8_t *magic;
    uint64_t version, tensors, pairs;

    if (take(&r, 4, &magic) < 0)
        return -EAGAIN;
    if (memcmp(magic, "GGUF", 4) != 0)
        return -EBADMSG;
    if (take_uint(&r, 4, &version) < 0)
        return -EAGAIN;
    if (version < 2 || version > 3) /* 1 had shorter lengths, and is gone; a big-endian file is nobody's */
        return -EBADMSG;
    if (take_uint(&r, 8, &tensors) < 0 || take_uint(&r, 8, &pairs) < 0)
        return -EAGAIN;
    int e = read_pairs(&r, pairs, h);

    if (e < 0)
        return e;
    sum_up(h, ret);
    return 0;
}
