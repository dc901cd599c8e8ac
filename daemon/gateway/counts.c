/* An array in the order of first use: there are a few models and a few clients of each, and only requests of
 * models come here. */
#include "gateway/counts.h"

#include "base/timer.h"
#include "proto/mem.h"
#include "store/store.h"

struct counts {
    struct store *store;
    struct timer *flush; /* armed: something is to be written */
    struct count **at;
    unsigned n, size;
};

/* ---- the entries ---- */

static struct count *find(const struct counts *c, const char *model, const char *client)
{
    for (unsigned i = 0; i < c->n; i++)
        if (streq(c->at[i]->client, client) && streq(c->at[i]->model, model))
            return c->at[i];
    return NULL;
}

static struct count *make(struct counts *c, const char *model, const char *client)
{
    struct count *one = xnew(struct count);

    one->model = xstrdup(model);
    one->client = xstrdup(client);
    if (c->n == c->size) {
        c->size = c->size ? 2 * c->size : 16;
        c->at = reallocarray(c->at, c->size, sizeof(struct count *));
        if (!c->at)
            abort();
    }
    c->at[c->n++] = one;
    return one;
}

static struct count *count_free(struct count *one)
{
    free(one->model);
    free(one->client);
    free(one);
    return NULL;
}

/* Names are the applications' own word, so there could be any number of them. */
static struct count *find_or_make(struct counts *c, const char *model, const char *client)
{
    struct count *one = find(c, model, client);
    unsigned clients = 0;

    if (one)
        return one;
    for (unsigned i = 0; i < c->n; i++)
        clients += streq(c->at[i]->model, model);
    if (clients < COUNTS_CLIENTS_MAX)
        return make(c, model, client);
    one = find(c, model, COUNTS_OTHERS);
    return one ? one : make(c, model, COUNTS_OTHERS);
}

/* ---- on disk ---- */

static void put(struct counts *c, struct count *one)
{
    _cleanup_free_ char *first = histogram_text(&one->first), *total = histogram_text(&one->total);

    store_put_count(c->store, &(struct count_record){
                                  .model = one->model,
                                  .client = one->client,
                                  .requests = (int64_t)one->requests,
                                  .errors = (int64_t)one->errors,
                                  .prompt_tokens = (int64_t)one->prompt_tokens,
                                  .answer_tokens = (int64_t)one->answer_tokens,
                                  .request_bytes = (int64_t)one->request_bytes,
                                  .answer_bytes = (int64_t)one->answer_bytes,
                                  .first = first,
                                  .total = total,
                              });
    one->is_dirty = false;
}

static void flush(void *ctx)
{
    struct counts *c = ctx;

    for (unsigned i = 0; i < c->n; i++)
        if (c->at[i]->is_dirty)
            put(c, c->at[i]);
}

static void on_record(void *ctx, const struct count_record *r)
{
    struct count *one = make(ctx, r->model, r->client);

    one->requests = (uint64_t)r->requests;
    one->errors = (uint64_t)r->errors;
    one->prompt_tokens = (uint64_t)r->prompt_tokens;
    one->answer_tokens = (uint64_t)r->answer_tokens;
    one->request_bytes = (uint64_t)r->request_bytes;
    one->answer_bytes = (uint64_t)r->answer_bytes;
    histogram_parse(&one->first, r->first); /* one that makes no sense begins anew */
    histogram_parse(&one->total, r->total);
}

/* ---- for others ---- */

int counts_new(struct loop *l, struct store *s, struct counts **ret, struct fault *f)
{
    struct counts *c = xnew(struct counts);
    int r = s ? store_load_counts(s, on_record, c, f) : 0;

    if (r < 0) {
        counts_free(c);
        return r;
    }
    c->store = s;
    if (s)
        c->flush = timer_new(l, flush, c);
    *ret = c;
    return 0;
}

struct counts *counts_free(struct counts *c)
{
    if (!c)
        return NULL;
    if (c->store)
        flush(c);
    c->flush = timer_free(c->flush);
    for (unsigned i = 0; i < c->n; i++)
        count_free(c->at[i]);
    free(c->at);
    free(c);
    return NULL;
}

void counts_add(struct counts *c, const struct count_sample *s)
{
    struct count *one = find_or_make(c, s->model, s->client);

    one->requests++;
    one->errors += s->failed;
    one->prompt_tokens += s->prompt_tokens;
    one->answer_tokens += s->answer_tokens;
    one->request_bytes += s->request_bytes;
    one->answer_bytes += s->answer_bytes;
    if (s->answered)
        histogram_add(&one->first, s->first_ms);
    histogram_add(&one->total, s->total_ms);
    one->is_dirty = true;
    if (c->flush && !timer_is_armed(c->flush))
        timer_arm(c->flush, COUNTS_FLUSH_MS);
}

void counts_forget(struct counts *c, const char *model)
{
    unsigned kept = 0;

    for (unsigned i = 0; i < c->n; i++) {
        if (streq(c->at[i]->model, model))
            count_free(c->at[i]);
        else
            c->at[kept++] = c->at[i];
    }
    if (kept < c->n && c->store)
        store_remove_counts(c->store, model);
    c->n = kept;
}

const struct count *counts_at(const struct counts *c, unsigned i)
{
    return i < c->n ? c->at[i] : NULL;
}

void counts_of_model(const struct counts *c, const char *model, struct count *ret)
{
    *ret = (struct count){0};
    for (unsigned i = 0; i < c->n; i++) {
        const struct count *one = c->at[i];

        if (!streq(one->model, model))
            continue;
        ret->requests += one->requests;
        ret->errors += one->errors;
        ret->prompt_tokens += one->prompt_tokens;
        ret->answer_tokens += one->answer_tokens;
        ret->request_bytes += one->request_bytes;
        ret->answer_bytes += one->answer_bytes;
        histogram_merge(&ret->first, &one->first);
        histogram_merge(&ret->total, &one->total);
    }
}
