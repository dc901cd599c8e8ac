/* How long a context ollama's server is started with. Its own default grows with the card, 256 k from 48 GiB
 * on, and a model that fits the card by itself spills to the processor (reference/lease.md §5). So it is as
 * long as fits, up to a usual length, where the memory of the cards and the shape of the model are known;
 * else what every card holds.
 *
 * The server is one for all models of a machine: the one that it is started for decides. */
#include "base/clock.h"
#include "engine/ollama_private.h"
#include "engine/shape.h"
#include "proto/mem.h"

#define CONTEXT_ELSE 8192
#define ASK_AGAIN_MS (60 * 60 * 1000) /* a registry that does not answer costs seconds of each start */

static struct fits_cards free_cards(const struct gpu_facts *g)
{
    int64_t total = gpu_total_bytes(g), used = gpu_used_bytes(g);
    struct fits_cards none = {0};

    if (g->kind != GPU_NVIDIA || !g->n || g->trouble || total < 0 || used < 0 || used > total)
        return none;
    return (struct fits_cards){.n = g->n, .bytes = (total - used) / g->n};
}

static void choose(struct ollama *o)
{
    struct fits_cards cards = free_cards(&o->engine.facts.gpu);
    int64_t context = fits_context(&o->shape, &cards);

    o->context = context > 0 ? context : CONTEXT_ELSE;
    o->on_context(o);
}

static void on_shape(void *ctx, const struct shape *shape, const struct fault *f)
{
    struct ollama *o = ollama_of(ctx);

    (void)f; /* a pull will tell, if it matters */
    o->shape = shape->fits;
    o->shape_due = clock_now_ms() + ASK_AGAIN_MS;
    choose(o);
}

static void on_start_cards(void *ctx)
{
    struct ollama *o = ollama_of(ctx);
    struct engine *e = &o->engine;
    const struct shape_context context = {
        .loop = e->loop, .http = e->http, .resolver = e->resolver, .model_mirror = e->model_mirror};
    _cleanup_free_ char *model = xasprintf("ollama:%s", e->model);

    if (!free_cards(&e->facts.gpu).n || o->shape.token_bytes >= 0 || clock_now_ms() < o->shape_due) {
        choose(o);
        return;
    }
    server_progress(&o->server, -1, -1, "asking what %s takes", e->model);
    shape_ask(&context, model, &o->server.op, on_shape, &o->server);
}

void ollama_choose_context(struct ollama *o, void (*done)(struct ollama *o))
{
    o->on_context = done;
    server_ask_cards(&o->server, on_start_cards);
}
