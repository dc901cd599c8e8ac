/* An ollama that an application left in the middle of an answer may answer no further request of that model:
 * it takes them and is silent, until the model is unloaded (0.11.4 and 0.32.15, observed 2026-11-21). So when
 * there was such a leaving and no byte since, a request that is alone there and has heard nothing for a while
 * takes its connection back, has the model unloaded, and is sent again: nobody worked on it. */
#include "base/clock.h"
#include "base/log.h"
#include "engine/engine.h"
#include "gateway/gateway_private.h"
#include "gateway/pool.h"
#include "gateway/request_private.h"
#include "gateway/unload.h"
#include "gateway/upstream.h"

#define SILENT_MS 30000

static struct pool *pool_of(const struct request *r)
{
    return gateway_pool(r->gateway, r->deployment);
}

static bool may_stick(const struct request *r)
{
    return deployment_engine(r->deployment)->dialects & ENGINE_OLLAMA;
}

void request_tell_abandoned(struct request *r)
{
    if (r->upstream && may_stick(r))
        pool_set_abandoned(pool_of(r), true);
}

void request_watch(struct request *r)
{
    r->silent_due = may_stick(r) && !r->cured ? clock_now_ms() + SILENT_MS : 0;
}

static void on_cured(void *ctx, const struct fault *f)
{
    struct request *r = ctx;

    if (f)
        log_line(LOG_LEVEL_WARNING, LOG_REQUEST, deployment_name(r->deployment), "%04x %s", r->id & 0xffff,
                 f->text);
    r->fresh = true;
    r->limit_due = MAX(r->limit_due, clock_now_ms() + REQUEST_DIAL_MS);
    request_hold(r);
}

static void request_cure(struct request *r)
{
    log_line(LOG_LEVEL_WARNING, LOG_REQUEST, deployment_name(r->deployment),
             "%04x no byte for %d s after an answer that was left: unloading the model, then asking again",
             r->id & 0xffff, SILENT_MS / 1000);
    r->upstream = upstream_free(r->upstream, true);
    request_set_waiting(r, false);
    r->step = REQUEST_CURING;
    r->silent_due = 0;
    r->cured = r->was_held = true; /* what it waits now is not the engine's work */
    pool_set_abandoned(pool_of(r), true); /* until it is heard: this one may leave before */
    unload_begin(r->gateway->loop, r->deployment, &r->op, on_cured, r);
}

/* With another request there it may simply be busy. */
void request_judge_silence(struct request *r)
{
    uint64_t now = clock_now_ms(), left_due = pool_abandoned_due(pool_of(r));
    struct deployment_figures figures;

    deployment_figures(r->deployment, &figures);
    if (!left_due || figures.open > 1 || !upstream_is_sent(r->upstream))
        r->silent_due = now + SILENT_MS;
    else if (now < left_due + SILENT_MS)
        r->silent_due = left_due + SILENT_MS;
    else
        request_cure(r);
}
