/* How ollama gets a model: its own pull, watched line by line. */
#include "base/clock.h"
#include "engine/ollama_private.h"
#include "proto/json.h"
#include "proto/mem.h"

/* A download that has not grown for so long is asked for anew: a new pull gets a fresh address and goes on
 * where it was. */
#define STALL_MS (120 * 1000)
/* A stream that says nothing at all: verifying a large model on a slow disk is silent for minutes. */
#define QUIET_MS (20 * 60 * 1000)

/* At most ten times a second. */
static void pull_tell(struct ollama *o, int64_t bytes_before)
{
    const struct ollama_pull *p = &o->pull;
    uint64_t now = clock_now_ms();

    if (p->bytes > bytes_before || p->is_step) /* in another step no bytes are due */
        o->grown_due = now;
    if (now - o->told_due < 100)
        return;
    o->told_due = now;
    if (p->bytes_total)
        server_progress(&o->server, p->bytes, p->bytes_total, "%s",
                        strncmp(p->status, "pulling ", 8) == 0 ? "downloading" : p->status);
    else
        server_progress(&o->server, -1, -1, "%s", p->status);
}

static void pull_stalled(struct ollama *o)
{
    struct fault f;

    op_cancel(&o->server.op);
    fault_code(&f, FAULT_TRANSIENT, "stalled", "the download of %s has not grown for %d s", o->engine.model,
               STALL_MS / 1000);
    server_end(&o->server, false, &f);
}

static void pull_read(struct ollama *o, bool is_end)
{
    for (int64_t before = o->pull.bytes; ollama_pull_next(&o->pull, is_end); before = o->pull.bytes)
        pull_tell(o, before);
}

static void on_pull_data(void *ctx, const char *data, size_t n)
{
    struct ollama *o = ollama_of(ctx);

    ollama_pull_add(&o->pull, data, n);
    pull_read(o, false);
    if (o->pull.bytes && clock_now_ms() - o->grown_due > STALL_MS)
        pull_stalled(o);
}

static void on_pulled(void *ctx, struct http_answer *a, const struct fault *f)
{
    struct ollama *o = ollama_of(ctx);
    _cleanup_free_ char *what = xasprintf("%s cannot be fetched", o->engine.model);
    struct fault fault;

    pull_read(o, true);
    if (f) {
        server_end(&o->server, false, f);
        return;
    }
    if (o->pull.success) {
        server_progress(&o->server, o->pull.bytes, o->pull.bytes, "fetched");
        server_end(&o->server, false, NULL);
        return;
    }
    if (o->pull.error)
        server_explain(&fault, what, o->pull.error);
    else if (a->status != 200)
        ollama_answer_fault(&fault, what, a);
    else
        fault_code(&fault, FAULT_TRANSIENT, "lost", "%s: the download broke off", what);
    server_end(&o->server, false, &fault);
}

static void pull_begin(struct ollama *o)
{
    _cleanup_free_ char *body = ollama_body(o, "stream", json_bool(true));

    ollama_pull_done(&o->pull);
    ollama_pull_init(&o->pull);
    o->told_due = 0;
    o->grown_due = clock_now_ms();
    server_progress(&o->server, -1, -1, "asking for %s", o->engine.model);
    server_post(&o->server, "/api/pull", body, UINT64_MAX, QUIET_MS, on_pull_data, on_pulled);
}

static void on_tags_before_pull(void *ctx, struct http_answer *a, const struct fault *f)
{
    struct ollama *o = ollama_of(ctx);

    if (f) {
        server_end(&o->server, false, f);
        return;
    }
    if (a->status != 200) {
        struct fault fault;

        ollama_answer_fault(&fault, "the list of models cannot be read", a);
        server_end(&o->server, false, &fault);
        return;
    }
    _cleanup_json_ struct json *entry = ollama_read_entry(ollama_text(a), a->body.len, o->engine.model);

    if (!entry) {
        pull_begin(o);
        return;
    }
    server_progress(&o->server, -1, -1, "already on the disk");
    server_end(&o->server, false, NULL);
}

void ollama_fetch(struct engine *e, struct engine_reply to)
{
    struct ollama *o = ollama_begin(e, to);

    server_get(&o->server, "/api/tags", ASK_MS, on_tags_before_pull);
}
