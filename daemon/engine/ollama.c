/* ollama: one server for all models of a machine; models come by its own pull (ollama_pull.c).
 *
 * Facts about its HTTP API, streams and errors: observed with 0.11.4 and 0.32.15 (2026-11-20). */
#include <errno.h>
#include <inttypes.h>

#include "engine/fit.h"
#include "engine/install.h"
#include "engine/ollama_private.h"
#include "engine/reason.h"
#include "proto/json.h"
#include "proto/mem.h"
#include "proto/text.h"

extern const struct engine_ops engine_ollama;

#define USUAL                                                                                                \
    "/usr/local/bin/ollama /usr/bin/ollama /opt/ollama/bin/ollama ~/.local/bin/ollama ~/ollama/bin/ollama "  \
    "BASE/ollama/bin/ollama /root/autodl-tmp/ollama/bin/ollama"

/* Its own limit is 15 min without progress (OLLAMA_LOAD_TIMEOUT); ours only catches a server that forgot us. */
#define LOAD_MS (30 * 60 * 1000)

struct ollama *ollama_of(void *server)
{
    return CONTAINER_OF(server, struct ollama, server);
}

static struct engine *ollama_new(void)
{
    struct ollama *o = xnew(struct ollama);

    ollama_pull_init(&o->pull);
    o->shape.token_bytes = -1;
    return &o->engine;
}

static void ollama_free(struct engine *e)
{
    struct ollama *o = CONTAINER_OF(e, struct ollama, engine);

    if (o->server.place)
        server_done(&o->server);
    json_free(o->shown);
    free(o->version);
    free(o->ours);
    ollama_pull_done(&o->pull);
    fetch_done(&o->fetch);
    free(o->pulled);
    free(o);
}

struct ollama *ollama_begin(struct engine *e, struct engine_reply to)
{
    struct ollama *o = CONTAINER_OF(e, struct ollama, engine);

    if (!o->server.place) {
        server_init(&o->server, e, "ollama");
        fetch_init(&o->fetch, e->host, o->server.name);
    }
    server_begin(&o->server, to);
    return o;
}

static int ollama_check(const char *model, const char **ret_why)
{
    if (model[0] == '/') {
        *ret_why = "ollama knows models by name, not by file";
        return -EINVAL;
    }
    return 0;
}

char *ollama_body(const struct ollama *o, const char *key, struct json *value)
{
    _cleanup_json_ struct json *v = json_object();
    struct buf text;

    json_put_string(v, "model", o->engine.model);
    if (key)
        json_put(v, key, value);
    buf_init(&text, 4096);
    json_write(v, &text);
    return buf_take(&text);
}

const char *ollama_text(const struct http_answer *a)
{
    return a->body.data ? a->body.data : "";
}

void ollama_answer_fault(struct fault *f, const char *what, struct http_answer *a)
{
    _cleanup_free_ char *words = ollama_read_error(ollama_text(a), a->body.len);
    char status[32];

    snprintf(status, sizeof status, "HTTP status %d", a->status);
    server_explain(f, what, words ? words : status);
    if (a->status == 503 && !strcmp(f->code, "engine_failed"))
        fault_code(f, FAULT_TRANSIENT, "busy", "%s: the server is busy", what);
}

/* ---- find ---- */

static void find_found(struct ollama *o)
{
    const struct place_facts *p = place_facts(o->server.place);

    free(o->version);
    o->version = server_version(p->version);
    server_end_found(&o->server, o->version);
}

static void on_found_again(void *ctx, const struct fault *f)
{
    struct ollama *o = ollama_of(ctx);
    struct fault missing;

    if (!f && !place_facts(o->server.place)->program) {
        fault_code(&missing, FAULT_GONE, "engine_missing", "ollama was installed on %s, and is gone again", o->engine.instance);
        f = &missing;
    }
    if (f) {
        server_end(&o->server, false, f);
        return;
    }
    server_read_place(&o->server);
    find_found(o);
}

static void find_program(struct ollama *o, place_done_fn done)
{
    place_find(o->server.place, o->server.name, "ollama", USUAL, o->engine.path, o->engine.arguments,
               &o->server.op, done, &o->server);
}

/* An older one of ours serves where a newer one cannot be had. */
static void on_installed(void *ctx, bool again, const struct fault *f)
{
    struct ollama *o = ollama_of(ctx);

    if (again || (f && (fault_may_pass(f) || !o->engine.facts.path)))
        server_end(&o->server, again, f);
    else
        find_program(o, on_found_again);
}

static void on_install_progress(void *ctx, const struct engine_progress *p)
{
    struct ollama *o = ollama_of(ctx);

    server_progress(&o->server, p->bytes, p->bytes_total, "%s", p->text);
}

static void install(struct ollama *o)
{
    const struct engine_reply to = {
        .slot = &o->server.op, .done = on_installed, .progress = on_install_progress, .ctx = &o->server};

    install_step(o->engine.install, o->ours, to);
}

/* "0.32.9" out of "…/engines/ollama-0.32.9/bin/ollama"; NULL: not put there by us. Caller frees. */
static char *version_of_ours(const char *program)
{
    static const char mark[] = "/engines/ollama-";
    const char *at = program ? strstr(program, mark) : NULL;

    return at ? strndup(at + strlen(mark), strcspn(at + strlen(mark), "/")) : NULL;
}

/* One of somebody else's is used as it is; ours are replaced when they are not what is wanted and none runs. */
static void on_found(void *ctx, const struct fault *f)
{
    struct ollama *o = ollama_of(ctx);
    const struct place_facts *p = place_facts(o->server.place);
    struct fault unfit;

    if (!f && p->is_ascend) { /* one that is there would hang on the processor */
        fit_judge(&(struct gpu_facts){.kind = GPU_ASCEND}, "ollama", NULL, o->engine.instance, &unfit);
        f = &unfit;
    }
    if (!server_found(&o->server, f, "ollama"))
        return;
    free(o->ours);
    o->ours = version_of_ours(p->program);
    if (!p->program || (o->ours && p->pid < 0 && !o->engine.path && !install_is_current(o->engine.install, o->ours))) {
        install(o);
    } else {
        find_found(o);
    }
}

static void ollama_find(struct engine *e, struct engine_reply to)
{
    struct ollama *o = ollama_begin(e, to);

    o->launched = false;
    if (install_is_under_way(e->install))
        install(o);
    else
        find_program(o, on_found);
}

/* ---- start ---- */

static void launch(struct ollama *o);

static void on_start_judged(void *ctx, const struct fault *f)
{
    struct ollama *o = ollama_of(ctx);
    struct fault dead;

    if (f)
        server_end(&o->server, false, f);
    else if (server_judge(&o->server, &dead) == 0)
        server_end(&o->server, true, NULL);
    else if (!o->launched)
        ollama_choose_context(o, launch);       /* it was on its way out when it was found */
    else
        server_end(&o->server, false, &dead);
}

static void on_version(void *ctx, struct http_answer *a, const struct fault *f)
{
    struct ollama *o = ollama_of(ctx);
    struct fault forbidden;

    if (f && server_is_forbidden(&o->server, &forbidden)) {
        server_end(&o->server, false, &forbidden);
        return;
    }
    if (f || a->status != 200) {
        server_look(&o->server, on_start_judged);       /* not yet, or dead? */
        return;
    }
    char *version = ollama_read_version(ollama_text(a), a->body.len);

    if (version) {
        free(o->version);
        o->engine.facts.version = o->version = version;
    }
    server_end(&o->server, false, NULL);
}

static void on_started(void *ctx, const struct fault *f)
{
    struct ollama *o = ollama_of(ctx);
    struct fault dead;

    if (f) {
        server_end(&o->server, false, f);
        return;
    }
    if (server_judge(&o->server, &dead) < 0) {
        server_end(&o->server, false, &dead);
        return;
    }
    server_get(&o->server, "/api/version", ASK_MS, on_version);
}

/* Its variables (envconfig/config.go, 0.11 to 0.32): models on the data disk, kept partial downloads, a context that does not depend
 * on the card, no calls home, and a model that stays loaded until we say otherwise. */
static void start_environment(const struct ollama *o, struct buf *out)
{
    const struct place_facts *p = place_facts(o->server.place);
    bool own_disk = p->base && !strstr(p->base, "/.llmhost");

    buf_add_text(out, "OLLAMA_HOST=127.0.0.1:@PORT@ OLLAMA_KEEP_ALIVE=-1 OLLAMA_MAX_LOADED_MODELS=1000 OLLAMA_LOAD_TIMEOUT=15m OLLAMA_NOPRUNE=1 OLLAMA_NO_CLOUD=1 "
                      "GIN_MODE=release NO_PROXY=127.0.0.1,localhost ");
    buf_addf(out, "OLLAMA_CONTEXT_LENGTH=%" PRId64 " OLLAMA_MODELS=", o->context);
    if (p->models && !own_disk)
        shell_quote(out, p->models);        /* no data disk, and models are there already: not twice */
    else
        buf_add_text(out, "'@BASE@/ollama/models'");
}

static void launch(struct ollama *o)
{
    struct buf environment, command;

    o->launched = true;
    buf_init(&environment, 4096);
    buf_init(&command, 4096);
    start_environment(o, &environment);
    shell_quote(&command, o->engine.facts.path);
    buf_add_text(&command, " serve");
    place_start(o->server.place, o->server.name, buf_text(&environment), buf_text(&command),
                o->engine.arguments, o->engine.hung_pid, &o->server.op, on_started, &o->server);
    buf_done(&environment);
    buf_done(&command);
}

static void ollama_start(struct engine *e, struct engine_reply to)
{
    struct ollama *o = ollama_begin(e, to);

    if (e->facts.pid > 0 && e->facts.port && e->facts.pid != e->hung_pid)
        server_get(&o->server, "/api/version", ASK_MS, on_version);
    else
        ollama_choose_context(o, launch);
}

/* ---- prepare ---- */

static void on_prepare_cards(void *ctx)
{
    struct ollama *o = ollama_of(ctx);

    server_note_cards(&o->server);
    server_end(&o->server, false, NULL);
}

static void on_prepare_tags(void *ctx, struct http_answer *a, const struct fault *f)
{
    struct ollama *o = ollama_of(ctx);
    _cleanup_json_ struct json *m = f ? NULL : ollama_read_entry(ollama_text(a), a->body.len, o->engine.model);

    o->engine.facts.load_bytes = json_get_int(m, "size", -1);
    server_ask_cards(&o->server, on_prepare_cards);
}

static void on_prepare_loaded(void *ctx)
{
    struct ollama *o = ollama_of(ctx);

    server_end(&o->server, false, NULL);
}

/* The memory of a model that is loaded already is in the figures before: what was measured when it was loaded stays true. What cards
 * there are, and whether they work, is asked all the same. */
static void on_prepare_ps(void *ctx, struct http_answer *a, const struct fault *f)
{
    struct ollama *o = ollama_of(ctx);
    _cleanup_json_ struct json *m = f ? NULL : ollama_read_entry(ollama_text(a), a->body.len, o->engine.model);

    if (!m) {
        server_get(&o->server, "/api/tags", ASK_MS, on_prepare_tags);
        return;
    }
    o->server.gpu_before = -1;
    o->engine.facts.load_bytes = 0;
    server_ask_cards(&o->server, on_prepare_loaded);
}

static void ollama_prepare(struct engine *e, struct engine_reply to)
{
    struct ollama *o = ollama_begin(e, to);

    server_get(&o->server, "/api/ps", ASK_MS, on_prepare_ps);
}

/* ---- load ---- */

static void put_answer(struct ollama *o, const char *key, struct http_answer *a)
{
    struct json *v = NULL;

    if (a && a->status == 200 && json_parse(ollama_text(a), a->body.len, &v) == 0)
        json_put(o->shown, key, v);
}

/* The numbers of /api/ps; before 0.30 they are the engine's plan, from 0.30 on what its runner reports. */
static bool read_ps(struct ollama *o, struct http_answer *a)
{
    struct engine_facts *f = &o->engine.facts;

    if (a->status != 200)
        return false;
    _cleanup_json_ struct json *m = ollama_read_entry(ollama_text(a), a->body.len, o->engine.model);

    if (!m)
        return false;
    f->size_bytes = json_get_int(m, "size", -1);
    f->size_vram_bytes = json_get_int(m, "size_vram", -1);
    f->context = json_get_int(m, "context_length", -1);
    return true;
}

static void load_end(void *ctx)
{
    struct ollama *o = ollama_of(ctx);

    server_judge_cards(&o->server);
    json_put_string(o->shown, "version", o->version);
    o->engine.facts.shown = o->shown;
    server_tell_loaded(&o->server);
    server_end(&o->server, false, NULL);
}

static void on_loaded_ps(void *ctx, struct http_answer *a, const struct fault *f)
{
    struct ollama *o = ollama_of(ctx);

    if (!f)
        read_ps(o, a);
    if (o->server.gpu_before >= 0)
        server_ask_cards(&o->server, load_end);
    else
        load_end(&o->server);
}

static void on_loaded_tags(void *ctx, struct http_answer *a, const struct fault *f)
{
    struct ollama *o = ollama_of(ctx);
    struct json *entry = f ? NULL : ollama_read_entry(ollama_text(a), a->body.len, o->engine.model);

    if (entry)
        json_put(o->shown, "tag", entry);
    server_get(&o->server, "/api/ps", ASK_MS, on_loaded_ps);
}

static void on_loaded_show(void *ctx, struct http_answer *a, const struct fault *f)
{
    struct ollama *o = ollama_of(ctx);

    if (!f)
        put_answer(o, "show", a);
    server_get(&o->server, "/api/tags", ASK_MS, on_loaded_tags);
}

static void on_load_judged(void *ctx, const struct fault *f)
{
    struct ollama *o = ollama_of(ctx);
    struct fault dead;

    if (f) {
        server_end(&o->server, false, f);
    } else if (server_judge(&o->server, &dead) < 0) {
        server_end(&o->server, false, &dead);
    } else {
        fault_code(&dead, FAULT_TRANSIENT, "lost", "the connection to ollama broke while %s loaded", o->engine.model);
        server_end(&o->server, false, &dead);
    }
}

static void on_loaded(void *ctx, struct http_answer *a, const struct fault *f);

/* A runner was killed, and the server tells of it: was it for want of memory? */
static void on_runner_judged(void *ctx, const struct fault *f)
{
    struct ollama *o = ollama_of(ctx);
    struct fault refused = o->refused;

    if (!f)
        reason_of_kills(&refused, place_facts(o->server.place)->kills, place_facts(o->server.place)->limit_bytes);
    server_end(&o->server, false, &refused);
}

/* A model that only embeds is loaded by an empty embedding. */
static bool load_otherwise(struct ollama *o, struct http_answer *a)
{
    if (o->embeds || a->status != 400 || !memmem(ollama_text(a), a->body.len, "does not support generate", 25))
        return false;
    _cleanup_free_ char *body = ollama_body(o, "keep_alive", json_int(-1));

    o->embeds = true;
    server_post(&o->server, "/api/embed", body, LOAD_MS, 0, NULL, on_loaded);
    return true;
}

static void on_loaded(void *ctx, struct http_answer *a, const struct fault *f)
{
    struct ollama *o = ollama_of(ctx);
    _cleanup_free_ char *what = xasprintf("%s cannot be loaded", o->engine.model);
    struct fault fault;

    if (f) {
        server_look(&o->server, on_load_judged);
        return;
    }
    if (a->status != 200) {
        if (load_otherwise(o, a))
            return;
        ollama_answer_fault(&fault, what, a);
        if (a->status == 404)
            fault.kind = FAULT_TRANSIENT;       /* it was there a moment ago: somebody removed it, so it is fetched again */
        o->refused = fault;
        if (streq(fault.code, "engine_crashed"))
            server_look(&o->server, on_runner_judged);
        else
            server_end(&o->server, false, &fault);
        return;
    }
    _cleanup_free_ char *body = ollama_body(o, NULL, NULL);

    o->engine.facts.shown = NULL;
    json_free(o->shown);
    o->shown = json_object();
    server_post(&o->server, "/api/show", body, ASK_MS, 0, NULL, on_loaded_show);
}

static void ollama_load(struct engine *e, struct engine_reply to)
{
    struct ollama *o = ollama_begin(e, to);
    _cleanup_free_ char *body = ollama_body(o, "keep_alive", json_int(-1));

    o->embeds = false;
    server_progress(&o->server, -1, -1, "loading");
    server_post(&o->server, "/api/generate", body, LOAD_MS, 0, NULL, on_loaded);
}


/* ---- probe, unload, stop ---- */

static void on_probe_judged(void *ctx, const struct fault *f)
{
    struct ollama *o = ollama_of(ctx);
    struct fault fault;

    if (f) {
        server_end(&o->server, false, f);
        return;
    }
    if (server_judge(&o->server, &fault) == 0)
        server_fault_silent(&o->server, "ollama", &fault);
    server_end(&o->server, false, &fault);
}

static void on_probe_version(void *ctx, struct http_answer *a, const struct fault *f)
{
    struct ollama *o = ollama_of(ctx);

    if (f || a->status != 200)
        server_look(&o->server, on_probe_judged);
    else
        server_end(&o->server, false, NULL);
}

/* /api/ps waits for a lock that is held while another model loads (server/sched.go); /api/version waits for nothing. */
static void on_probe(void *ctx, struct http_answer *a, const struct fault *f)
{
    struct ollama *o = ollama_of(ctx);

    if (f && f->error == -ETIMEDOUT) {
        server_get(&o->server, "/api/version", o->engine.patience_ms, on_probe_version);
        return;
    }
    if (f || a->status != 200) {
        server_look(&o->server, on_probe_judged);
        return;
    }
    server_end(&o->server, !read_ps(o, a), NULL);
}

static void on_probe_looked(void *ctx, const struct fault *f)
{
    struct ollama *o = ollama_of(ctx);
    struct fault dead;

    o->engine.suspect = f != NULL;
    if (f)
        server_end(&o->server, false, f);
    else if (server_judge(&o->server, &dead) < 0)
        server_end(&o->server, false, &dead);
    else
        server_get(&o->server, "/api/ps", ASK_MS, on_probe);
}

/* Somebody else's server may have the port by now, and answer. */
static void ollama_probe(struct engine *e, struct engine_reply to)
{
    struct ollama *o = ollama_begin(e, to);

    if (e->suspect)
        server_look(&o->server, on_probe_looked);
    else
        server_get(&o->server, "/api/ps", ASK_MS, on_probe);
}

static void on_cleaned(void *ctx, const struct fault *f)
{
    server_end(&ollama_of(ctx)->server, false, f);
}

static void on_unloaded(void *ctx, struct http_answer *a, const struct fault *f)
{
    struct ollama *o = ollama_of(ctx);

    (void)a;
    /* Nobody there to unload: it is not loaded. */
    if (f && f->error != -ECONNREFUSED)
        server_end(&o->server, false, f);
    else
        ollama_clean(o, false, on_cleaned);
}

static void unload(struct ollama *o)
{
    _cleanup_free_ char *body = ollama_body(o, "keep_alive", json_int(0));

    server_post(&o->server, "/api/generate", body, 30 * 1000, 0, NULL, on_unloaded);
}

static void on_unload_place(void *ctx, const struct fault *f)
{
    struct ollama *o = ollama_of(ctx);

    if (f) {
        server_end(&o->server, false, f);
        return;
    }
    server_read_place(&o->server);
    if (o->engine.facts.pid < 0)
        server_end(&o->server, false, NULL);
    else
        unload(o);
}

static void ollama_unload(struct engine *e, struct engine_reply to)
{
    struct ollama *o = ollama_begin(e, to);

    server_look(&o->server, on_unload_place);
}

static void on_stopped(void *ctx, const struct fault *f)
{
    struct ollama *o = ollama_of(ctx);

    if (f) {
        server_end(&o->server, false, f);
        return;
    }
    server_read_place(&o->server);
    if (o->engine.facts.foreign)        /* it stays; this model goes, once its requests are over */
        unload(o);
    else
        ollama_clean(o, true, on_cleaned);
}

/* TERM ends it within milliseconds, its runners with it. */
static void ollama_stop(struct engine *e, struct engine_reply to)
{
    struct ollama *o = ollama_begin(e, to);

    place_stop(o->server.place, o->server.name, &o->server.op, on_stopped, &o->server);
}

/* [GIN] 2026/11/27 - 12:14:10 | 200 |     142.181µs |       127.0.0.1 | GET      "/api/ps"
 * Applications never get there with these: the gateway answers them itself. */
static bool ollama_is_probe_line(const char *line)
{
    return strncmp(line, "[GIN]", 5) == 0 && (strstr(line, " \"/api/ps\"") || strstr(line, " \"/api/version\""));
}

static void ollama_look(struct engine *e, struct op **slot, engine_life_fn done, void *ctx)
{
    server_look_beside(&CONTAINER_OF(e, struct ollama, engine)->server, slot, done, ctx);
}

const struct engine_ops engine_ollama = {
    .name = "ollama",
    .dialects = ENGINE_OPENAI | ENGINE_OLLAMA,
    .shared = true,
    .installs = true,
    .hub = &ollama_hub,
    .check = ollama_check,
    .no_arguments = "one server serves all models of a machine; what one model wants stands in its requests "
                    "(\"options\": {\"num_ctx\": 16384}) or in its Modelfile",
    .new = ollama_new,
    .free = ollama_free,
    .find = ollama_find,
    .start = ollama_start,
    .fetch = ollama_fetch,
    .prepare = ollama_prepare,
    .load = ollama_load,
    .probe = ollama_probe,
    .look = ollama_look,
    .unload = ollama_unload,
    .stop = ollama_stop,
    .is_probe_line = ollama_is_probe_line,
};
