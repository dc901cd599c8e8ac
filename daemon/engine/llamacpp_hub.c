/* What llama-server downloads by itself when it starts (-hf): how much that is, how far it is, and why it
 * failed. The hub is asked by the machine before the server is; what it says decides nothing but whether
 * there is room, for the server may have the files already.
 *
 * Which files, their names in the cache, and what is asked of the hub: common/download.cpp and hf-cache.cpp
 * at 0.7.0. */
#include <errno.h>

#include "base/clock.h"
#include "engine/llamacpp_private.h"
#include "proto/mem.h"
#include "proto/text.h"

#define CACHE "@BASE@/llama.cpp/models"
#define HUB   "https://huggingface.co"

struct llamacpp *llamacpp_of(void *server)
{
    return CONTAINER_OF(server, struct llamacpp, server);
}

bool llamacpp_is_file(const char *model)
{
    return model[0] == '/';
}

/* A host's name has a dot or a port, a user's has no slash behind its repository. */
const char *llamacpp_repository(const char *model)
{
    const char *slash = strchr(model, '/');
    size_t n = slash ? (size_t)(slash - model) : 0;

    return n && strchr(slash + 1, '/') && memchr(model, '.', n) ? slash + 1 : model;
}

/* "USER/REPOSITORY" of what is asked for; caller frees. */
static char *repository_without_tag(const char *model)
{
    const char *name = llamacpp_repository(model);

    return strndup(name, strcspn(name, ":"));
}

static const char *tag_of(const char *model)
{
    const char *colon = strchr(llamacpp_repository(model), ':');

    return colon && colon[1] ? colon + 1 : NULL;
}

/* Caller frees; NULL: the usual one. */
static char *other_hub(const struct engine *e)
{
    const char *model = e->model, *name = llamacpp_repository(model), *mirror = e->model_mirror;

    if (name != model)
        return xasprintf("https://%.*s", (int)(name - model - 1), model);
    return mirror ? strndup(mirror, strlen(mirror) - (mirror[strlen(mirror) - 1] == '/')) : NULL;
}

void llamacpp_environment(const struct llamacpp *c, struct buf *out)
{
    _cleanup_free_ char *hub = other_hub(&c->engine);

    buf_add_text(out, "LLAMA_CACHE='" CACHE "'");
    if (hub) {
        buf_add_text(out, " MODEL_ENDPOINT=");
        shell_quote(out, hub);
    }
}

/* "models--USER--REPOSITORY", its folder in the cache; caller frees. */
static char *folder_of(const char *model)
{
    _cleanup_free_ char *name = repository_without_tag(model);
    size_t n = strcspn(name, "/");

    return xasprintf("models--%.*s--%s", (int)n, name, name + n + (name[n] != '\0'));
}

/* ---- before it ---- */

struct names {
    char text[64][300];
    const char *list[65];
};

static const char *const *name_blobs(const struct llamacpp *c, struct names *n)
{
    _cleanup_free_ char *folder = folder_of(c->engine.model);

    for (unsigned i = 0; i < c->hub.n; i++) {
        snprintf(n->text[i], sizeof n->text[i], "%.200s/blobs/%s", folder, c->hub.blobs[i]);
        n->list[i] = n->text[i];
    }
    n->list[c->hub.n] = NULL;
    return n->list;
}

/* Hugging Face answers 401 to those it does not know also where there is no such repository. */
static void judge_hub(struct llamacpp *c)
{
    const char *model = c->engine.model, *body = c->fetch.body ? c->fetch.body : "";
    struct fault *f = &c->hub_fault;
    int status = c->fetch.status, r = 0;

    if (c->fetch.is_late)
        fault_code(f, FAULT_TRANSIENT, "registry_unreachable",
                   "%s cannot be fetched: the hub does not answer %s", model, c->engine.instance);
    else if (status == 401 || status == 403)
        fault_code(f, FAULT_DENIED, "login_needed",
                   "%s cannot be fetched: the hub lets only some accounts have it, or there is no such "
                   "repository: %.200s",
                   model, body);
    else if (status == 404)
        fault_code(f, FAULT_GONE, "model_unknown", "%s cannot be fetched: the hub has no such repository",
                   model);
    else if (status == 429)
        fault_code(f, FAULT_TRANSIENT, "registry_busy",
                   "%s cannot be fetched: the hub asks for fewer requests: 429", model);
    else if (status >= 500)
        fault_code(f, FAULT_TRANSIENT, "registry_failed", "%s cannot be fetched: the hub fails: %d", model,
                   status);
    else if (status == 200)
        r = hub_read_tree(body, strlen(body), tag_of(model), &c->hub);
    if (r == -ENOENT)
        fault_code(f, FAULT_GONE, "tag_unknown",
                   "%s cannot be fetched: the repository is there, but no file in it has that tag", model);
}

static void on_room(void *ctx, const struct fault *f)
{
    struct llamacpp *c = llamacpp_of(ctx);
    int64_t bytes = c->hub.bytes - MAX(c->fetch.have_bytes, 0);
    struct fault full;

    if (f)
        server_end(&c->server, false, f);
    else if (fetch_judge_room(&c->fetch, c->engine.model, c->engine.instance, bytes, &full) < 0)
        server_end(&c->server, false, &full);
    else
        c->on_hub(c);
}

static void on_tree(void *ctx, const struct fault *f)
{
    struct llamacpp *c = llamacpp_of(ctx);
    struct names n;

    if (f) {
        server_end(&c->server, false, f);
        return;
    }
    judge_hub(c);
    if (c->hub.n)
        fetch_room(&c->fetch, CACHE, name_blobs(c, &n), &c->server.op, on_room, &c->server);
    else
        c->on_hub(c);
}

static char *tree_url(const struct engine *e)
{
    _cleanup_free_ char *hub = other_hub(e), *name = repository_without_tag(e->model);

    return llamacpp_is_file(e->model)
               ? NULL
               : xasprintf("%s/api/models/%s/tree/main?recursive=true", hub ? hub : HUB, name);
}

static int read_tree(const char *model, const char *text, size_t n, struct engine_manifest *ret)
{
    _cleanup_free_ char *folder = folder_of(model);
    struct hub_files files = {};
    int r = hub_read_tree(text, n, tag_of(model), &files);

    ret->bytes = files.bytes;
    ret->n = r < 0 ? 0 : files.n;
    for (unsigned i = 0; i < ret->n; i++)
        snprintf(ret->names[i], sizeof ret->names[i], "%.200s/blobs/%s", folder, files.blobs[i]);
    return r;
}

static int weigh(const struct engine *e, const char *text, size_t n, struct engine_weights *ret)
{
    _cleanup_free_ char *hub = other_hub(e), *name = repository_without_tag(e->model);
    struct hub_files files;
    int r = hub_read_tree(text, n, tag_of(e->model), &files);

    if (r < 0)
        return r;
    *ret = (struct engine_weights){.bytes = files.bytes, .download_bytes = files.bytes};
    if (*files.first)
        ret->url = xasprintf("%s/%s/resolve/main/%s", hub ? hub : HUB, name, files.first);
    return 0;
}

const struct engine_hub llamacpp_hub = {.accept = "application/json",
                                        .directory = CACHE,
                                        .url = tree_url,
                                        .read = read_tree,
                                        .weigh = weigh};

void llamacpp_ask_hub(struct llamacpp *c, void (*done)(struct llamacpp *c))
{
    _cleanup_free_ char *url = tree_url(&c->engine);

    c->on_hub = done;
    c->hub = (struct hub_files){};
    c->hub_fault = (struct fault){};
    c->grown_due = 0;
    fetch_ask(&c->fetch, url, "application/json", &c->server.op, on_tree, &c->server);
}

/* ---- while it goes on ---- */

/* Killed in the middle of a download, by a machine that wants its memory or goes down: its next start goes on
 * with it. */
static bool was_killed(const struct llamacpp *c, const struct fault *dead)
{
    return streq(dead->code, "engine_exited") && !place_facts(c->server.place)->last_line && c->grown_due &&
           c->grown_bytes < c->hub.bytes;
}

/* Its own words are "failed to load model ''" whatever it was. */
void llamacpp_end_dead(struct llamacpp *c, struct fault *dead)
{
    static const char *const vague[] = {"model_unknown", "registry_unreachable", "engine_exited",
                                        "engine_failed"};

    for (size_t i = 0; c->hub_fault.kind && i < ELEMENTS(vague); i++)
        if (streq(dead->code, vague[i])) {
            *dead = c->hub_fault;
            break;
        }
    if (was_killed(c, dead))
        dead->kind = FAULT_TRANSIENT;
    server_end(&c->server, false, dead);
}

void llamacpp_on_waiting(void *ctx, const struct fault *f)
{
    struct llamacpp *c = llamacpp_of(ctx);
    struct fault dead;

    if (f)
        server_end(&c->server, false, f);
    else if (server_judge(&c->server, &dead) < 0)
        llamacpp_end_dead(c, &dead);
    else
        server_end(&c->server, true, NULL);
}

static void on_stalled_stopped(void *ctx, const struct fault *f)
{
    struct llamacpp *c = llamacpp_of(ctx);
    struct fault stalled;

    fault_code(&stalled, FAULT_TRANSIENT, "stalled", "the download of %s has not grown for %d s",
               c->engine.model, (int)(c->engine.stall_ms / 1000));
    server_end(&c->server, false, f ? f : &stalled);
}

/* Its next start goes on where it was. */
static bool has_stalled(struct llamacpp *c, int64_t bytes)
{
    uint64_t now = clock_now_ms();

    if (!c->grown_due || bytes > c->grown_bytes || bytes >= c->hub.bytes) {
        c->grown_due = now;
        c->grown_bytes = bytes;
    }
    return c->engine.stall_ms && now - c->grown_due > c->engine.stall_ms;
}

static void on_downloaded(void *ctx, const struct fault *f)
{
    struct llamacpp *c = llamacpp_of(ctx);
    int64_t bytes = f ? -1 : MIN(c->fetch.have_bytes, c->hub.bytes);

    if (bytes > 0)
        server_progress(&c->server, bytes, c->hub.bytes, "downloading");
    if (!f && has_stalled(c, bytes))
        place_stop(c->server.place, c->server.name, &c->server.op, on_stalled_stopped, &c->server);
    else
        server_look(&c->server, llamacpp_on_waiting);
}

/* Where the hub could not be asked: a growing file, whose whole size only the server knows. */
static void on_size(void *ctx, struct run_result *result, const struct fault *f)
{
    struct llamacpp *c = llamacpp_of(ctx);

    if (!f && result->out.len) {
        int64_t bytes = strtoll(buf_text(&result->out), NULL, 10);

        if (bytes > 0)
            server_progress(&c->server, bytes, -1, "downloading");
    }
    server_look(&c->server, llamacpp_on_waiting);
}

void llamacpp_watch(struct llamacpp *c)
{
    const struct place_facts *p = place_facts(c->server.place);
    struct buf script;
    struct names n;

    if (llamacpp_is_file(c->engine.model) || !p->base) {
        server_look(&c->server, llamacpp_on_waiting);
        return;
    }
    if (c->hub.n) {
        fetch_room(&c->fetch, CACHE, name_blobs(c, &n), &c->server.op, on_downloaded, &c->server);
        return;
    }
    buf_init(&script, 4096);
    buf_add_text(&script, "find ");
    shell_quote(&script, p->base);
    buf_add_text(&script,
                 "/llama.cpp/models -name '*.downloadInProgress' -exec stat -c %s {} + 2>/dev/null |\n"
                 "{ sum=0; while read -r n; do sum=$((sum + n)); done; echo $sum; }\n");

    const struct run_spec spec = {.script = buf_text(&script), .timeout_ms = 10000};

    host_run(c->engine.host, &spec, &c->server.op, on_size, &c->server);
    buf_done(&script);
}

/* ---- when it is wanted no more ---- */

void llamacpp_clean(struct llamacpp *c, fetch_done_fn done)
{
    _cleanup_free_ char *folder = llamacpp_is_file(c->engine.model) ? NULL : folder_of(c->engine.model);
    _cleanup_free_ char *pattern = folder ? xasprintf("%s/blobs/*.downloadInProgress", folder) : NULL;
    const char *const patterns[] = {pattern, NULL};

    fetch_clean(&c->fetch, CACHE, patterns, &c->server.op, done, &c->server);
}
