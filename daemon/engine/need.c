/* First what the registry says it is made of, then how much of that is there and how much room: as before a
 * pull. */
#include "engine/need.h"

#include <string.h>

#include "base/op.h"
#include "engine/fetch.h"
#include "proto/mem.h"

struct need_step {
    struct op op;
    struct op *inner;
    const struct engine_hub *hub;
    char *model;
    struct fetch fetch;
    struct engine_manifest manifest;
    struct engine_need *ret;
    void (*done)(void *ctx);
    void *ctx;
};

static void need_free(struct need_step *s)
{
    op_cancel(&s->inner);
    fetch_done(&s->fetch);
    free(s->model);
    free(s);
}

static void need_cancel(struct op *op)
{
    need_free(CONTAINER_OF(op, struct need_step, op));
}

static void need_end(struct need_step *s)
{
    void (*done)(void *) = s->done;
    void *ctx = s->ctx;

    op_end(&s->op);
    need_free(s);
    done(ctx);
}

static void on_room(void *ctx, const struct fault *f)
{
    struct need_step *s = ctx;

    if (!f) {
        s->ret->bytes = s->manifest.bytes;
        s->ret->have_bytes = s->fetch.have_bytes;
        s->ret->free_bytes = s->fetch.free_bytes;
        snprintf(s->ret->models, sizeof s->ret->models, "%s", s->fetch.models ? s->fetch.models : "");
    }
    need_end(s);
}

static void on_manifest(void *ctx, const struct fault *f)
{
    struct need_step *s = ctx;
    const char *names[ENGINE_FILES_MAX + 1] = {};
    const char *body = s->fetch.body;

    if (f || s->fetch.status != 200 || !body ||
        s->hub->read(s->model, body, strlen(body), &s->manifest) < 0) {
        need_end(s);
        return;
    }
    for (unsigned i = 0; i < s->manifest.n; i++)
        names[i] = s->manifest.names[i];
    fetch_room(&s->fetch, s->hub->directory, names, &s->inner, on_room, s);
}

bool need_ask(const struct engine *e, struct engine_need *ret, struct op **slot, void (*done)(void *ctx),
              void *ctx)
{
    const struct engine_hub *hub = e->ops->hub;
    _cleanup_free_ char *url = hub ? hub->url(e) : NULL;

    if (!url)
        return false;
    struct need_step *s = xnew(struct need_step);

    *ret = (struct engine_need){.bytes = -1, .have_bytes = -1, .free_bytes = -1};
    s->hub = hub;
    s->model = xstrdup(e->model);
    s->ret = ret;
    s->done = done;
    s->ctx = ctx;
    fetch_init(&s->fetch, e->host, e->ops->name);
    op_begin(&s->op, slot, need_cancel);
    fetch_ask(&s->fetch, url, hub->accept, &s->inner, on_manifest, s);
    return true;
}
