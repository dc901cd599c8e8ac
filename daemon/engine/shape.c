/* Two questions: the list of files, then the head of the first one, and once more for more of it where the
 * first 64 KiB did not do. Each may be sent on to another host, as registries keep their files elsewhere. */
#include "engine/shape.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/fault.h"
#include "base/op.h"
#include "base/resolve.h"
#include "base/settings.h"
#include "engine/engine.h"
#include "engine/gguf.h"
#include "http/http.h"
#include "proto/mem.h"
#include "proto/text.h"

#define ASK_MS        8000
#define REDIRECTS_MAX 3

/* ---- models that our documents name ---- */

/* weights: of the registry, read 2026-10. layers × KV heads × head size, twice, of 2 bytes:
 * reference/lease.md §5; the others by the config.json of their makers. */
#define TOKEN(layers, heads, size) ((int64_t)(layers) * (heads) * (size)*2 * 2)

static const struct {
    const char *model;
    struct fits_model fits;
} known[] = {
    {"deepseek-r1:1.5b", {1100000000, TOKEN(28, 2, 128), 0, 0, 131072}},
    {"deepseek-r1:7b", {4680000000, TOKEN(28, 4, 128), 0, 0, 131072}},
    {"deepseek-r1:8b", {5200000000, TOKEN(36, 8, 128), 0, 0, 131072}},
    {"deepseek-r1:14b", {8990000000, TOKEN(48, 8, 128), 0, 0, 131072}},
    {"deepseek-r1:32b", {19900000000, TOKEN(64, 8, 128), 0, 0, 131072}},
    {"deepseek-r1:70b", {42500000000, TOKEN(80, 8, 128), 0, 0, 131072}},
    {"qwen3:4b", {2600000000, TOKEN(36, 8, 128), 0, 0, 40960}},
    {"qwen3:8b", {5200000000, TOKEN(36, 8, 128), 0, 0, 40960}},
    {"qwen3:14b", {9300000000, TOKEN(40, 8, 128), 0, 0, 40960}},
    {"qwen3:32b", {20200000000, TOKEN(64, 8, 128), 0, 0, 40960}},
    {"gemma3:27b", {17400000000, TOKEN(10, 16, 128), TOKEN(52, 16, 128), 1024, 131072}},
};

static void look_up(const struct model_name *name, struct shape *ret)
{
    for (size_t i = 0; streq(name->engine, "ollama") && i < ELEMENTS(known); i++)
        if (model_same(known[i].model, name->rest))
            *ret = (struct shape){.fits = known[i].fits,
                                  .download_bytes = known[i].fits.weights_bytes,
                                  .is_from_table = true};
}

/* ---- one question, wherever it leads ---- */

struct shape_step {
    struct op op;
    struct op *inner;
    struct shape_context context;
    struct model_name name;
    const struct engine_hub *hub;
    struct engine engine; /* as much of one as the hub needs */
    struct engine_weights weights;
    struct shape shape;
    char *url, *origin; /* what is asked now */
    const char *accept, *range;
    unsigned redirects;
    http_done_fn answered;
    shape_done_fn done;
    void *ctx;
};

static void step_free(struct shape_step *s)
{
    op_cancel(&s->inner);
    free(s->engine.model_mirror);
    free(s->weights.url);
    free(s->url);
    free(s->origin);
    free(s);
}

static void step_cancel(struct op *op)
{
    step_free(CONTAINER_OF(op, struct shape_step, op));
}

/* Known numbers stand in for what nobody told. */
static void step_end(struct shape_step *s, const struct fault *f)
{
    struct shape shape = s->shape;
    shape_done_fn done = s->done;
    struct fault fault = f ? *f : (struct fault){0};
    void *ctx = s->ctx;

    if (shape.fits.weights_bytes < 0)
        look_up(&s->name, &shape);
    op_end(&s->op);
    step_free(s);
    done(ctx, &shape, f ? &fault : NULL);
}

static void step_fail(struct shape_step *s, enum fault_kind kind, const char *code, const char *why)
{
    struct fault f;

    fault_code(&f, kind, code, "how large %s is cannot be asked: %.200s", s->name.rest, why);
    step_end(s, &f);
}

static void on_resolved(void *ctx, const struct addresses *found, const struct fault *f)
{
    struct shape_step *s = ctx;

    if (f) {
        step_fail(s, FAULT_TRANSIENT, "registry_unreachable", f->text);
        return;
    }
    http_start(s->context.http,
               &(struct http_request){.method = "GET",
                                      .origin = s->origin,
                                      .addresses = found,
                                      .path = s->url + strlen(s->origin),
                                      .accept = s->accept,
                                      .range = s->range,
                                      .timeout_ms = ASK_MS},
               &s->inner, s->answered, s);
}

/* s->url, which is "https://HOST[:PORT]/…". */
static void step_go(struct shape_step *s)
{
    size_t n_scheme = strlen("https://"), n = n_scheme + strcspn(s->url + n_scheme, "/?#");
    char *host, *port;

    if (strncmp(s->url, "https://", n_scheme) != 0 || s->url[n] != '/') {
        step_fail(s, FAULT_INVALID, "registry_failed", "it leads to an address that is not https://");
        return;
    }
    free(s->origin);
    s->origin = strndup(s->url, n);
    host = strdupa(s->origin + n_scheme);
    port = strchr(host, ':');
    if (port)
        *port++ = '\0';
    resolve(s->context.resolver, host, port ? (uint16_t)strtoul(port, NULL, 10) : 443, &s->inner, on_resolved,
            s);
}

/* Takes url. */
static void step_ask(struct shape_step *s, char *url, const char *accept, const char *range,
                     http_done_fn answered)
{
    free(s->url);
    s->url = url;
    s->accept = accept;
    s->range = range;
    s->redirects = 0;
    s->answered = answered;
    step_go(s);
}

/* True: it is sent on, or over; else the answer is one. */
static bool step_moves_on(struct shape_step *s, const struct http_answer *a, const struct fault *f)
{
    if (f) {
        step_fail(s, FAULT_TRANSIENT, "registry_unreachable", f->text);
        return true;
    }
    if (!a->redirect || s->redirects == REDIRECTS_MAX)
        return false;
    s->redirects++;
    free(s->url);
    s->url = xstrdup(a->redirect);
    step_go(s);
    return true;
}

/* ---- the head of the file ---- */

static void on_more(void *ctx, struct http_answer *a, const struct fault *f)
{
    struct shape_step *s = ctx;
    struct fits_model m;

    if (step_moves_on(s, a, f))
        return;
    if (a->status / 100 == 2 && gguf_read_shape(a->body.data, a->body.len, &m) == 0) {
        m.weights_bytes = s->shape.fits.weights_bytes;
        s->shape.fits = m;
    }
    step_end(s, NULL);
}

static void on_first(void *ctx, struct http_answer *a, const struct fault *f)
{
    struct shape_step *s = ctx;
    struct fits_model m;

    if (!f && a->status == 206 && gguf_read_shape(a->body.data, a->body.len, &m) == -EAGAIN)
        step_ask(s, xstrdup(s->weights.url), NULL, "bytes=0-1048575", on_more);
    else
        on_more(ctx, a, f);
}

/* ---- the list of files ---- */

static void judge_list(struct shape_step *s, const struct http_answer *a)
{
    char status[32];
    int r = a->status == 200
                ? s->hub->weigh(&s->engine, a->body.data ? a->body.data : "", a->body.len, &s->weights)
                : -EBADMSG;

    snprintf(status, sizeof status, "its registry answers %d", a->status);
    if (r == 0) {
        s->shape.fits.weights_bytes = s->weights.bytes;
        s->shape.download_bytes = s->weights.download_bytes;
        if (s->weights.url)
            step_ask(s, xstrdup(s->weights.url), NULL, "bytes=0-65535", on_first);
        else
            step_end(s, NULL);
    } else if (r == -ENOENT) {
        step_fail(s, FAULT_GONE, "tag_unknown", "the repository is there, but no file in it has that tag");
    } else if (a->status == 404) {
        step_fail(s, FAULT_GONE, "model_unknown", "the registry has no such model");
    } else if (a->status == 401 || a->status == 403) {
        step_fail(s, FAULT_DENIED, "login_needed",
                  "the registry lets only some accounts have it, or has no such model");
    } else {
        step_fail(s, FAULT_TRANSIENT, "registry_failed",
                  a->status == 200 ? "its registry answers with something else" : status);
    }
}

static void on_list(void *ctx, struct http_answer *a, const struct fault *f)
{
    struct shape_step *s = ctx;

    if (!step_moves_on(s, a, f))
        judge_list(s, a);
}

/* ---- the question ---- */

static void on_nothing_to_ask(void *ctx, const struct fault *f)
{
    step_end(ctx, f);
}

/* NULL: there is nobody to ask. Caller frees. */
static char *list_url(struct shape_step *s)
{
    const struct engine_ops *ops = engine_find_ops(s->name.engine);
    _cleanup_free_ char *section = xasprintf("engine.%s", s->name.engine);

    s->hub = ops ? ops->hub : NULL;
    if (!s->hub || !s->context.resolver)
        return NULL;
    const char *mirror = s->context.settings ? settings_text(s->context.settings, section, "model_mirror")
                                             : s->context.model_mirror;

    s->engine.ops = ops;
    s->engine.model = s->name.rest;
    s->engine.model_mirror = mirror && *mirror ? xstrdup(mirror) : NULL;
    return s->hub->url(&s->engine);
}

void shape_ask(const struct shape_context *context, const char *model, struct op **slot, shape_done_fn done,
               void *ctx)
{
    struct shape_step *s = xnew(struct shape_step);
    const char *why;

    s->context = *context;
    s->shape = (struct shape){.fits = {.weights_bytes = -1, .token_bytes = -1}, .download_bytes = -1};
    s->done = done;
    s->ctx = ctx;
    op_begin(&s->op, slot, step_cancel);
    char *url = model_name_parse(model, &s->name, &why) == 0 ? list_url(s) : NULL;

    if (url)
        step_ask(s, url, s->hub->accept, NULL, on_list);
    else
        op_finish_later(context->loop, &s->inner, NULL, on_nothing_to_ask, s);
}
