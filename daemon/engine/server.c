/* Steps are ops around a place step or a request; the driver strings them together. */
#include "engine/server.h"

#include <ctype.h>
#include <errno.h>
#include <signal.h>
#include <stdarg.h>

#include "engine/machine.h"
#include "engine/reason.h"
#include "proto/mem.h"
#include "proto/text.h"
#include "session/forward.h"

void server_init(struct server *s, struct engine *e, const char *name)
{
    s->engine = e;
    s->place = place_new(e->host, e->owner);
    s->beside = place_new(e->host, e->owner);
    s->name = xstrdup(name);
    s->gpu_before = -1;
}

void server_done(struct server *s)
{
    op_cancel(&s->op);
    forward_free(s->forward);
    place_free(s->place);
    place_free(s->beside);
    free(s->name);
    free(s->socket);
    free(s->path);
    free(s->log);
}

static void server_cancel(struct op *op)
{
    struct server *s = CONTAINER_OF(op, struct server, step);

    op_cancel(&s->op);
}

void server_begin(struct server *s, struct engine_reply to)
{
    s->to = to;
    op_begin(&s->step, to.slot, server_cancel);
}

void server_end(struct server *s, bool again, const struct fault *f)
{
    struct engine_reply to = s->to;

    op_end(&s->step);
    to.done(to.ctx, again, f);
}

void server_progress(struct server *s, int64_t bytes, int64_t bytes_total, const char *format, ...)
{
    char text[160];
    va_list args;

    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    const struct engine_progress p = {.text = *text ? text : NULL, .bytes = bytes, .bytes_total = bytes_total};

    s->to.progress(s->to.ctx, &p);
}

/* The socket for our own calls leads to the port the server has now. */
static void server_open_socket(struct server *s)
{
    static unsigned number;
    const struct place_facts *f = place_facts(s->place);

    if (f->port == s->port && (s->forward || !f->port))
        return;
    s->forward = forward_free(s->forward);
    s->port = f->port;
    free(s->socket);
    s->socket = NULL;
    if (!s->port)
        return;
    s->socket = xasprintf("%s/%u", s->engine->socket_directory, ++number);
    if (forward_new_unix(s->engine->loop, s->engine->host, s->socket, "127.0.0.1", s->port, &s->forward) < 0) {
        s->port = 0;            /* requests report it: nobody listens there */
        s->forward = NULL;
    }
}

void server_read_place(struct server *s)
{
    const struct place_facts *f = place_facts(s->place);
    struct engine_facts *e = &s->engine->facts;

    free(s->path);
    free(s->log);
    e->path = s->path = xstrdup(f->program);
    e->unverified = f->unverified;
    e->log = s->log = xstrdup(f->log);
    e->pid = f->pid;
    e->port = f->port;
    e->foreign = f->foreign != NULL;
    server_open_socket(s);
}

bool server_found(struct server *s, const struct fault *f, const char *program)
{
    const struct engine *e = s->engine;
    struct fault missing;

    if (f) {
        server_end(s, false, f);
        return false;
    }
    server_read_place(s);
    if (place_facts(s->place)->program || !e->path)
        return true;
    fault_code(&missing, FAULT_GONE, "engine_missing", "%s is not at %.200s on %s ([engine.%s] path=)", program, e->path,
               e->instance, e->ops->name);
    server_end(s, false, &missing);
    return false;
}

void server_end_found(struct server *s, const char *version)
{
    s->engine->facts.version = version;
    server_progress(s, -1, -1, "%s %s%s%s", s->engine->ops->name, version ? version : place_facts(s->place)->program,
                    s->engine->facts.unverified ? ", not verified" : "",
                    s->engine->facts.foreign ? ", which another llmhostd started" : "");
    server_end(s, false, NULL);
}

static void server_request(struct server *s, struct http_request *rq, http_done_fn done)
{
    rq->unix_socket = s->socket ? s->socket : "/nonexistent";
    http_start(s->engine->http, rq, &s->op, done, s);
}

void server_get(struct server *s, const char *path, uint64_t timeout_ms, http_done_fn done)
{
    struct http_request rq = {.method = "GET", .path = path, .timeout_ms = timeout_ms};

    server_request(s, &rq, done);
}

void server_post(struct server *s, const char *path, const char *body, uint64_t timeout_ms, uint64_t quiet_ms,
                 void (*on_data)(void *, const char *, size_t), http_done_fn done)
{
    struct http_request rq = {
        .method = "POST", .path = path, .body = body, .n_body = strlen(body), .timeout_ms = timeout_ms, .quiet_ms = quiet_ms,
        .on_data = on_data};

    server_request(s, &rq, done);
}

void server_delete(struct server *s, const char *path, const char *body, uint64_t timeout_ms, http_done_fn done)
{
    struct http_request rq = {
        .method = "DELETE", .path = path, .body = body, .n_body = strlen(body), .timeout_ms = timeout_ms};

    server_request(s, &rq, done);
}

/* ---- the cards ---- */

/* nvidia-smi takes half a second where the driver is not kept loaded, and hangs with a broken one. */
#define CARDS_MS 10000

static void on_cards(void *ctx, struct run_result *result, const struct fault *f)
{
    struct server *s = ctx;

    gpu_read(f ? "" : buf_text(&result->out), f ? 0 : result->out.len, &s->engine->facts.gpu);
    s->on_cards(s);
}

void server_ask_cards(struct server *s, void (*done)(void *ctx))
{
    const struct run_spec spec = {.script = gpu_script, .timeout_ms = CARDS_MS};

    s->on_cards = done;
    host_run(s->engine->host, &spec, &s->op, on_cards, s);
}

void server_note_cards(struct server *s)
{
    s->gpu_before = gpu_used_bytes(&s->engine->facts.gpu);
    s->engine->facts.free_bytes = gpu_free_bytes(&s->engine->facts.gpu);
    if (s->gpu_before < 0)
        s->engine->facts.measured = GPU_UNMEASURED;
}

void server_judge_cards(struct server *s)
{
    struct engine_facts *f = &s->engine->facts;

    if (s->gpu_before >= 0)
        f->measured = gpu_judge(f->size_bytes, s->gpu_before, gpu_used_bytes(&f->gpu));
    s->gpu_before = -1;
}

void server_tell_loaded(struct server *s)
{
    const struct engine_facts *f = &s->engine->facts;
    int64_t vram = MIN(f->size_vram_bytes, f->size_bytes);
    int planned = f->size_bytes > 0 && vram >= 0 ? (int)((double)vram * 100 / (double)f->size_bytes) : -1;
    char size[TEXT_SHORT_MAX];

    if (f->size_bytes <= 0) {
        server_progress(s, -1, -1, "loaded");
        return;
    }
    bytes_format(size, (uint64_t)f->size_bytes);
    if (f->measured == GPU_NOT_USED)
        server_progress(s, -1, -1, planned > 0 ? "%s, 100%% CPU although it was planned for the GPU" : "%s, 100%% CPU", size);
    else if (f->measured == GPU_WHOLE && (planned < 0 || planned == 100))
        server_progress(s, -1, -1, "%s, 100%% GPU", size);
    else if (f->measured == GPU_PART && (planned < 0 || planned == 100))
        server_progress(s, -1, -1, "%s, partly on the CPU", size);
    else if (planned < 0)
        server_progress(s, -1, -1, "%s", size);
    else if (planned == 0)
        server_progress(s, -1, -1, "%s, 100%% CPU", size);
    else if (planned == 100)
        server_progress(s, -1, -1, "%s, 100%% GPU~", size);     /* the engine's word alone */
    else
        server_progress(s, -1, -1, "%s, %d%% GPU, %d%% CPU", size, planned, 100 - planned);
}

void server_look(struct server *s, place_done_fn done)
{
    place_look(s->place, s->name, &s->op, done, s);
}

static void on_looked_beside(void *ctx, const struct fault *f)
{
    struct server *s = ctx;
    const struct place_facts *p = place_facts(s->beside);
    const struct engine_life life = {
        .pid = p->pid, .computed_ms = p->computed_ms, .moved_bytes = p->moved_bytes, .stopped = p->stopped};

    s->on_life(s->life_ctx, &life, f);
}

void server_look_beside(struct server *s, struct op **slot, engine_life_fn done, void *ctx)
{
    s->on_life = done;
    s->life_ctx = ctx;
    place_look(s->beside, s->name, slot, on_looked_beside, s);
}

/* What may go wrong on the way to a model, in words of engines. Lower case; the first that is found counts.
 * ollama at 0.32.15, llama.cpp at 0.5.0; both read or observed 2026-11. */
static const struct {
    const char *words, *code;
    enum fault_kind kind;
} misfortunes[] = {
    {"digest mismatch", "digest_mismatch", FAULT_TRANSIENT},
    {"invalid argument:", "bad_argument", FAULT_INVALID},
    {"error while handling argument", "bad_argument", FAULT_INVALID},
    {"file does not exist", "model_unknown", FAULT_GONE},
    {"manifest unknown", "model_unknown", FAULT_GONE},
    {"repository not found", "model_unknown", FAULT_GONE},
    {"try pulling it first", "model_unknown", FAULT_GONE},
    {"' not found", "model_unknown", FAULT_GONE},
    {"no such file", "model_unknown", FAULT_GONE},
    {"failed to load model ''", "model_unknown", FAULT_GONE},
    {"dial tcp", "registry_unreachable", FAULT_TRANSIENT},
    {"no such host", "registry_unreachable", FAULT_TRANSIENT},
    {"could not establish connection", "registry_unreachable", FAULT_TRANSIENT},
    {"x509", "registry_unreachable", FAULT_INVALID},
    {"connection refused", "registry_unreachable", FAULT_TRANSIENT},
    {"i/o timeout", "registry_unreachable", FAULT_TRANSIENT},
    {"max retries exceeded", "registry_unreachable", FAULT_TRANSIENT},
    {"connection reset", "registry_unreachable", FAULT_TRANSIENT},
    {"handshake timeout", "registry_unreachable", FAULT_TRANSIENT},
    {"deadline exceeded", "registry_unreachable", FAULT_TRANSIENT},
    {"eof", "registry_unreachable", FAULT_TRANSIENT},
};

void server_explain(struct fault *f, const char *what, const char *words)
{
    if (reason_of_words(f, what, words))
        return;
    for (size_t i = 0; i < ELEMENTS(misfortunes); i++)
        if (strcasestr(words, misfortunes[i].words)) {
            fault_code(f, misfortunes[i].kind, misfortunes[i].code, "%s: %.250s", what, words);
            return;
        }
    fault_code(f, FAULT_INVALID, "engine_failed", "%s: %.250s", what, words);
}

int server_judge(struct server *s, struct fault *f)
{
    const struct place_facts *p = place_facts(s->place);
    const char *name = s->engine->ops->name, *instance = s->engine->instance;
    const struct reason_end end = {.line = p->last_line, .last_words = p->last_words, .owner = p->owner, .status = p->ended,
                                   .kills = p->kills, .limit_bytes = p->limit_bytes};
    _cleanup_free_ char *what = NULL;
    bool was_foreign = s->engine->facts.foreign;

    server_read_place(s);
    s->engine->facts.computed_ms = p->computed_ms;
    s->engine->facts.stopped = p->stopped;
    if (p->pid > 0)
        return 0;
    if (p->restarted) {
        fault_code(f, FAULT_GONE, "machine_restarted", "%s was restarted, and %s ended with it", instance, name);
        return -ESRCH;
    }
    /* In order, or nobody wrote down how: whoever started it needs it no more. A crash says what it is. */
    if (was_foreign && (p->ended <= 0 || p->ended == 128 + SIGTERM)) {
        fault_code(f, FAULT_GONE, "engine_ended_elsewhere", "%s on %s was another llmhostd's, and has ended", name, instance);
        return -ESRCH;
    }
    what = xasprintf("%s ended on %s", name, instance);
    reason_of_end(f, what, &end);
    if (!streq(f->code, "engine_exited") || !p->last_line)
        return -ESRCH;
    server_explain(f, what, p->last_line);              /* what it was doing may say more */
    if (streq(f->code, "engine_failed") || (streq(f->code, "bad_argument") && !*s->engine->arguments))
        reason_of_end(f, what, &end);
    return -ESRCH;
}

void server_fault_silent(const struct server *s, const char *program, struct fault *f)
{
    const char *words = place_facts(s->place)->last_words;

    fault_code(f, FAULT_TRANSIENT, "no_answer", "%s runs on %s, but does not answer%s%.200s", program,
               s->engine->instance, words ? "; its log ends with: " : "", words ? words : "");
}

bool server_is_forbidden(const struct server *s, struct fault *f)
{
    const struct fault *way = s->forward ? forward_fault(s->forward) : NULL;

    if (!way || way->kind != FAULT_DENIED)
        return false;
    fault_code(f, FAULT_DENIED, "forwarding_forbidden", MACHINE_FORBIDS, s->engine->instance);
    return true;
}

char *server_version(const char *line)
{
    for (const char *p = line; p && *p; p++)
        if (isdigit((unsigned char)*p) && (p == line || !isalnum((unsigned char)p[-1])))
            return strndup(p, strspn(p, "0123456789."));
    return NULL;
}
