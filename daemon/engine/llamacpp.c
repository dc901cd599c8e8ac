/* llama.cpp's llama-server: one server per model; it downloads (-hf) and loads by itself when it starts.
 *
 * Facts: observed with llama-server 0.7.0, build 11669 (2026-11-20). While it downloads, its port refuses;
 * while it loads, /health is 503; then 200. */
#include <ctype.h>
#include <errno.h>

#include "engine/llamacpp_private.h"
#include "proto/json.h"
#include "proto/mem.h"
#include "proto/text.h"

extern const struct engine_ops engine_llamacpp;

#define USUAL                                                                                                \
    "/usr/local/bin/llama-server /usr/bin/llama-server /opt/llama.cpp/llama-server "                         \
    "/opt/llama.cpp/build/bin/llama-server ~/llama.cpp/build/bin/llama-server ~/.local/bin/llama-server "    \
    "BASE/llama.cpp/bin/llama-server /root/autodl-tmp/llama.cpp/build/bin/llama-server"

static int llamacpp_check(const char *model, const char **ret_why)
{
    size_t n = strlen(model);
    const char *slash;

    if (llamacpp_is_file(model)) {
        *ret_why = "a file must end in .gguf";
        return n > 6 && streq(model + n - 5, ".gguf") ? 0 : -EINVAL;
    }
    *ret_why = "write [HOST/]USER/REPOSITORY[:QUANT] of a GGUF repository, or the path of a .gguf file on "
               "the machine";
    model = llamacpp_repository(model);
    slash = strchr(model, '/');
    return slash && slash != model && slash[1] && slash[1] != ':' && !strchr(slash + 1, '/') ? 0 : -EINVAL;
}

/* What the daemon decides itself. In the spellings of common/arg.cpp at 0.7.0, which takes _ for - in the
 * long ones. */
static const struct {
    const char *names, *why;
} owned[] = {
    {" -m --model -mu --model-url -hf -hfr --hf-repo -hff --hf-file -dr --docker-repo --models-dir "
     "--models-preset ",
     "which model it is, the name after up says"},
    {" -a --alias ", "applications call it as up does"},
    {" --host --port --reuse-port --api-prefix ", "llmhost chooses where it listens and reaches it there"},
    {" --api-key --api-key-file --ssl-key-file --ssl-cert-file ",
     "it is reached through the tunnel alone, by requests that carry no key of its own"},
    {" --log-disable --log-file ", "llmhostctl logs, and the reason when it ends, are read from its log"},
};

static int llamacpp_check_argument(const char *argument, const char **ret_why)
{
    char word[40];
    int n = snprintf(word, sizeof word, " %.*s ", (int)strcspn(argument, "="), argument);

    if (argument[0] != '-' || n < 4 || n >= (int)sizeof word)
        return 0;
    for (char *p = word + 2; *p; p++)
        if (*p == '_')
            *p = '-';
    for (size_t i = 0; i < ELEMENTS(owned); i++)
        if (strstr(owned[i].names, word)) {
            *ret_why = owned[i].why;
            return -EINVAL;
        }
    return 0;
}

static struct engine *llamacpp_new(void)
{
    struct llamacpp *c = xnew(struct llamacpp);

    return &c->engine;
}

static void llamacpp_free(struct engine *e)
{
    struct llamacpp *c = CONTAINER_OF(e, struct llamacpp, engine);

    if (c->server.place)
        server_done(&c->server);
    json_free(c->shown);
    free(c->version);
    fetch_done(&c->fetch);
    free(c);
}

/* A name for the files on the machine: readable, and different for different models. */
static char *server_name(const char *model)
{
    unsigned long hash = 5381;
    char *name, *p;

    for (const char *m = model; *m; m++)
        hash = (hash * 33 + (unsigned char)*m) & 0xffffffff;
    name = xasprintf("llama.cpp-%.60s-%08lx", model, hash);
    for (p = name; *p; p++)
        if (!isalnum((unsigned char)*p) && *p != '.' && *p != '-')
            *p = '-';
    return name;
}

static struct llamacpp *llamacpp_begin(struct engine *e, struct engine_reply to)
{
    struct llamacpp *c = CONTAINER_OF(e, struct llamacpp, engine);

    if (!c->server.place) {
        _cleanup_free_ char *name = server_name(e->model);

        server_init(&c->server, e, name);
        fetch_init(&c->fetch, e->host, c->server.name);
    }
    server_begin(&c->server, to);
    return c;
}

/* ---- find, prepare and start ---- */

static void on_found(void *ctx, const struct fault *f)
{
    struct llamacpp *c = llamacpp_of(ctx);
    const struct place_facts *p = place_facts(c->server.place);
    struct fault missing;

    if (!server_found(&c->server, f, "llama-server"))
        return;
    if (!p->program) {
        fault_code(&missing, FAULT_GONE, "engine_missing",
                   "llama-server is not installed on %s: not in PATH, not in the usual places; build it "
                   "there, or set "
                   "[engine.llama.cpp] path=",
                   c->engine.instance);
        server_end(&c->server, false, &missing);
        return;
    }
    free(c->version);
    c->version = server_version(p->version);
    server_end_found(&c->server, c->version);
}

static void llamacpp_find(struct engine *e, struct engine_reply to)
{
    struct llamacpp *c = llamacpp_begin(e, to);

    c->launched = false;
    c->hub_fault = (struct fault){}; /* of an earlier attempt, as is the clock */
    c->grown_due = 0;
    place_find(c->server.place, c->server.name, "llama-server", USUAL, e->path, e->arguments, &c->server.op,
               on_found, &c->server);
}

/* The server loads while it starts: what that takes is asked before. */
static void on_prepare_cards(void *ctx)
{
    struct llamacpp *c = llamacpp_of(ctx);

    server_note_cards(&c->server);
    server_end(&c->server, false, NULL);
}

static void on_file_size(void *ctx, struct run_result *result, const struct fault *f)
{
    struct llamacpp *c = llamacpp_of(ctx);
    int64_t bytes = f ? 0 : strtoll(buf_text(&result->out), NULL, 10);

    if (bytes > 0)
        c->engine.facts.load_bytes = bytes;
    server_ask_cards(&c->server, on_prepare_cards);
}

static void on_hub(struct llamacpp *c)
{
    if (c->hub.bytes > 0)
        c->engine.facts.load_bytes = c->hub.bytes;
    server_ask_cards(&c->server, on_prepare_cards);
}

/* Of a repository the hub says it, where it can be asked: which file it will be the server finds out by
 * itself. */
static void ask_size(struct llamacpp *c)
{
    struct buf script;

    c->engine.facts.load_bytes = c->engine.facts.size_bytes;
    if (c->engine.facts.size_bytes > 0) {
        server_ask_cards(&c->server, on_prepare_cards);
        return;
    }
    if (!llamacpp_is_file(c->engine.model)) {
        llamacpp_ask_hub(c, on_hub);
        return;
    }
    buf_init(&script, 4096);
    buf_add_text(&script, "stat -L -c %s ");
    shell_quote(&script, c->engine.model);

    const struct run_spec spec = {.script = buf_text(&script), .timeout_ms = 10000};

    host_run(c->engine.host, &spec, &c->server.op, on_file_size, &c->server);
    buf_done(&script);
}

static void on_running_looked(void *ctx, const struct fault *f)
{
    struct llamacpp *c = llamacpp_of(ctx);

    if (!f)
        server_read_place(&c->server);
    if (f || c->engine.facts.pid > 0)
        server_end(&c->server, false, f);
    else
        ask_size(c); /* it was on its way out when it was found */
}

static void on_other_stopped(void *ctx, const struct fault *f)
{
    struct llamacpp *c = llamacpp_of(ctx);
    struct fault foreign;

    if (f) {
        server_end(&c->server, false, f);
        return;
    }
    server_read_place(&c->server);
    if (c->engine.facts.foreign) {
        fault_code(&foreign, FAULT_GONE, "in_foreign_use",
                   "another llmhostd (%s) runs llama-server for %s on %s, with other arguments: it is not "
                   "stopped from here",
                   place_facts(c->server.place)->foreign, c->engine.model, c->engine.instance);
        server_end(&c->server, false, &foreign);
        return;
    }
    ask_size(c);
}

/* One that was started with other arguments ends first: its memory must not count as taken by somebody else.
 */
static void llamacpp_prepare(struct engine *e, struct engine_reply to)
{
    struct llamacpp *c = llamacpp_begin(e, to);

    if (place_facts(c->server.place)->other) {
        place_stop(c->server.place, c->server.name, &c->server.op, on_other_stopped, &c->server);
    } else if (e->facts.pid > 0) {
        e->facts.load_bytes = 0;
        server_look(&c->server, on_running_looked);
    } else {
        ask_size(c);
    }
}

static void launch(struct llamacpp *c);

static void on_started(void *ctx, const struct fault *f)
{
    struct llamacpp *c = llamacpp_of(ctx);
    struct fault dead;

    if (f)
        server_end(&c->server, false, f);
    else if (server_judge(&c->server, &dead) == 0)
        server_end(&c->server, false, NULL);
    else if (!c->launched)
        launch(c); /* it was on its way out when it was found */
    else
        llamacpp_end_dead(c, &dead);
}

static void launch(struct llamacpp *c)
{
    const struct engine *e = &c->engine;
    struct buf command, environment;

    c->launched = true;
    buf_init(&command, 4096);
    buf_init(&environment, 4096);
    llamacpp_environment(c, &environment);
    shell_quote(&command, e->facts.path);
    buf_add_text(&command, llamacpp_is_file(e->model) ? " -m " : " -hf ");
    shell_quote(&command, llamacpp_repository(e->model));
    buf_add_text(&command, " --alias ");
    shell_quote(&command, e->model);
    /* People's arguments come behind these, and the last one counts. -ngl 99 puts every layer on the card
     * with old and new builds alike; -lv 4 keeps the lines that say where the layers went. */
    buf_add_text(&command, " --host 127.0.0.1 --port @PORT@ -ngl 99 -c 8192 --metrics --no-webui -lv 4");
    place_start(c->server.place, c->server.name, buf_text(&environment), buf_text(&command), e->arguments,
                e->hung_pid, &c->server.op, on_started, &c->server);
    buf_done(&command);
    buf_done(&environment);
}

static void llamacpp_start(struct engine *e, struct engine_reply to)
{
    struct llamacpp *c = llamacpp_begin(e, to);

    if (e->facts.pid > 0 && e->facts.port && e->facts.pid != e->hung_pid)
        server_look(&c->server, on_started);
    else
        launch(c);
}

/* ---- fetch and load: the server does both, we watch ---- */

static void on_fetch_health(void *ctx, struct http_answer *a, const struct fault *f)
{
    struct llamacpp *c = llamacpp_of(ctx);
    struct fault forbidden;

    if (f && server_is_forbidden(&c->server, &forbidden)) {
        server_end(&c->server, false, &forbidden);
        return;
    }
    if (f || (a->status != 200 && a->status != 503)) {
        llamacpp_watch(c); /* nobody answers yet: it downloads, or it is dead */
        return;
    }
    server_progress(&c->server, -1, -1,
                    llamacpp_is_file(c->engine.model) ? "already on the disk" : "on the disk");
    server_end(&c->server, false, NULL);
}

static void llamacpp_fetch(struct engine *e, struct engine_reply to)
{
    struct llamacpp *c = llamacpp_begin(e, to);

    server_get(&c->server, "/health", ASK_MS, on_fetch_health);
}

static void load_end(void *ctx)
{
    struct llamacpp *c = llamacpp_of(ctx);

    server_judge_cards(&c->server);
    server_tell_loaded(&c->server);
    server_end(&c->server, false, NULL);
}

/* Of the layers it speaks; how large each is, it does not say. */
static void on_layers(void *ctx, const struct fault *f)
{
    struct llamacpp *c = llamacpp_of(ctx);
    const struct place_facts *p = place_facts(c->server.place);
    struct engine_facts *facts = &c->engine.facts;

    facts->size_vram_bytes = -1;
    if (!f && p->layers > 0 && facts->size_bytes > 0)
        facts->size_vram_bytes =
            (int64_t)((double)facts->size_bytes * (double)p->layers_on_gpu / (double)p->layers);
    if (c->server.gpu_before >= 0)
        server_ask_cards(&c->server, load_end);
    else
        load_end(&c->server);
}

static void on_models(void *ctx, struct http_answer *a, const struct fault *f)
{
    struct llamacpp *c = llamacpp_of(ctx);
    struct engine_facts *facts = &c->engine.facts;
    bool answered = !f && a->status == 200 && a->body.len;
    struct json *m = answered ? llamacpp_read_model(a->body.data, a->body.len) : NULL;
    const struct json *meta = json_get(m, "meta");

    facts->shown = NULL;
    json_free(c->shown);
    c->shown = json_object();
    if (m)
        json_put(c->shown, "model", m);
    json_put_string(c->shown, "version", c->version);
    facts->shown = c->shown;
    facts->size_bytes = json_get_int(meta, "size", -1);
    facts->context = json_get_int(meta, "n_ctx", -1);
    server_look(&c->server, on_layers);
}

static void on_load_health(void *ctx, struct http_answer *a, const struct fault *f)
{
    struct llamacpp *c = llamacpp_of(ctx);

    if (f || (a->status != 200 && a->status != 503))
        server_look(&c->server, llamacpp_on_waiting);
    else if (a->status == 503)
        server_end(&c->server, true, NULL);
    else
        server_get(&c->server, "/v1/models", ASK_MS, on_models);
}

static void llamacpp_load(struct engine *e, struct engine_reply to)
{
    struct llamacpp *c = llamacpp_begin(e, to);

    server_progress(&c->server, -1, -1, "loading");
    server_get(&c->server, "/health", ASK_MS, on_load_health);
}

/* ---- probe and stop ---- */

static void on_probe_judged(void *ctx, const struct fault *f)
{
    struct llamacpp *c = llamacpp_of(ctx);
    struct fault fault;

    if (f) {
        server_end(&c->server, false, f);
        return;
    }
    if (server_judge(&c->server, &fault) == 0)
        server_fault_silent(&c->server, "llama-server", &fault);
    server_end(&c->server, false, &fault);
}

static void on_probe(void *ctx, struct http_answer *a, const struct fault *f)
{
    struct llamacpp *c = llamacpp_of(ctx);

    if (f || a->status != 200)
        server_look(&c->server, on_probe_judged);
    else
        server_end(&c->server, false, NULL);
}

static void on_probe_looked(void *ctx, const struct fault *f)
{
    struct llamacpp *c = llamacpp_of(ctx);
    struct fault dead;

    c->engine.suspect = f != NULL;
    if (f)
        server_end(&c->server, false, f);
    else if (server_judge(&c->server, &dead) < 0)
        server_end(&c->server, false, &dead);
    else
        server_get(&c->server, "/health", c->engine.patience_ms, on_probe);
}

/* Somebody else's server may have the port by now, and answer. /health is no task: it neither wakes nor
 * delays anything (unlike /slots). */
static void llamacpp_probe(struct engine *e, struct engine_reply to)
{
    struct llamacpp *c = llamacpp_begin(e, to);

    if (e->suspect)
        server_look(&c->server, on_probe_looked);
    else
        server_get(&c->server, "/health", c->engine.patience_ms, on_probe);
}

static void on_cleaned(void *ctx, const struct fault *f)
{
    server_end(&llamacpp_of(ctx)->server, false, f);
}

static void on_stopped(void *ctx, const struct fault *f)
{
    struct llamacpp *c = llamacpp_of(ctx);

    if (f) {
        server_end(&c->server, false, f);
        return;
    }
    server_read_place(&c->server);
    if (c->engine.facts.foreign) /* it stays */
        server_end(&c->server, false, NULL);
    else
        llamacpp_clean(c, on_cleaned);
}

static void llamacpp_stop(struct engine *e, struct engine_reply to)
{
    struct llamacpp *c = llamacpp_begin(e, to);

    place_stop(c->server.place, c->server.name, &c->server.op, on_stopped, &c->server);
}

static void llamacpp_look(struct engine *e, struct op **slot, engine_life_fn done, void *ctx)
{
    server_look_beside(&CONTAINER_OF(e, struct llamacpp, engine)->server, slot, done, ctx);
}

const struct engine_ops engine_llamacpp = {
    .name = "llama.cpp",
    .dialects = ENGINE_OPENAI,
    .hub = &llamacpp_hub,
    .check = llamacpp_check,
    .check_argument = llamacpp_check_argument,
    .new = llamacpp_new,
    .free = llamacpp_free,
    .find = llamacpp_find,
    .prepare = llamacpp_prepare,
    .start = llamacpp_start,
    .fetch = llamacpp_fetch,
    .load = llamacpp_load,
    .probe = llamacpp_probe,
    .look = llamacpp_look,
    .unload = llamacpp_stop,
    .stop = llamacpp_stop,
};
