/* How ollama gets a model. Before its own pull the registry is asked for the manifest, by the machine itself:
 * so the whole size is known, and whether there is room for it. What the registry says there decides nothing
 * else: the pull finds out by itself, and its words count.
 *
 * How a pull goes, and what it leaves on the disk: server/download.go and images.go, 0.11.4 to 0.32.15. */
#include <ctype.h>
#include <errno.h>

#include "base/clock.h"
#include "engine/ollama_private.h"
#include "proto/json.h"
#include "proto/mem.h"

/* A stream that says nothing at all: verifying a large model on a slow disk is silent for minutes. */
#define QUIET_MS (20 * 60 * 1000)
/* An ollama whose client is gone gives its download up and notes how far it was. Asked again before, it goes
 * on from what it noted the last time, which may be nothing (0.11.4 and 0.32.15, observed 2026-11-27). */
#define GIVEN_UP_MS 2000
#define OURS        "@BASE@/ollama/models"
#define MANIFESTS   "application/vnd.docker.distribution.manifest.v2+json"

/* The names of what the pull brings, one for each layer, as the script wants them. */
struct names {
    char text[OLLAMA_LAYERS_MAX][112];
    const char *list[OLLAMA_LAYERS_MAX + 1];
};

static const char *const *name_layers(const struct ollama_pull *p, const char *before, const char *after,
                                      struct names *n)
{
    unsigned count = 0;

    for (unsigned i = 0; i < p->n_layers; i++) {
        const char *hex = p->layers[i].digest;

        if (strncmp(hex, "sha256:", 7) != 0 || strlen(hex) != 71)
            continue;
        snprintf(n->text[count], sizeof n->text[count], "%s%.64s%s", before, hex + 7, after);
        n->list[count] = n->text[count];
        count++;
    }
    n->list[count] = NULL;
    return n->list;
}

/* ---- what an end means ---- */

/* "401" out of "pull model manifest: 401: {…}", "503: upstream": the status the registry answered with; 0:
 * none is told. */
static int status_in(const char *words)
{
    static const char in_front[] = "pull model manifest: ";

    if (strncmp(words, in_front, strlen(in_front)) == 0)
        words += strlen(in_front);
    for (unsigned i = 0; i < 3; i++)
        if (!isdigit((unsigned char)words[i]))
            return 0;
    return words[3] == ':' || !words[3] ? atoi(words) : 0;
}

/* How ollama tells of a 401 depends on the challenge that came with it: none at all gives "unsupported
 * protocol scheme", one of another host "realm host". */
static bool wants_login(int status, const char *words)
{
    return status == 401 || status == 403 || strcasestr(words, "unauthorized") ||
           strcasestr(words, "realm host") || strstr(words, "unsupported protocol scheme \"\"");
}

static void explain_pull(const struct ollama *o, const char *words, struct fault *f)
{
    int status = status_in(words);
    const char *model = o->pulled, *at = o->by_mirror ? "the mirror" : "the registry";

    if (wants_login(status, words))
        fault_code(
            f, FAULT_DENIED, "login_needed",
            "%s cannot be fetched: %s lets only some accounts have it, or there is no such model: %.200s",
            model, at, words);
    else if (status == 400 &&
             strstr(words, "tag is not")) /* Hugging Face, of a quantisation it does not have */
        fault_code(f, FAULT_GONE, "tag_unknown", "%s cannot be fetched: %.250s", model, words);
    else if (status == 404 || strstr(words, "file does not exist"))
        fault_code(f, FAULT_GONE, "model_unknown", "%s cannot be fetched: %s does not have it", model, at);
    else if (status == 429)
        fault_code(f, FAULT_TRANSIENT, "registry_busy",
                   "%s cannot be fetched: %s asks for fewer requests: %.200s", model, at, words);
    else if (strstr(words, "context canceled")) /* we joined a download that was just being given up */
        fault_code(f, FAULT_TRANSIENT, "lost", "%s cannot be fetched: the download was given up", model);
    else if (status >= 500)
        fault_code(f, FAULT_TRANSIENT, "registry_failed", "%s cannot be fetched: %s fails: %.200s", model, at,
                   words);
    else {
        _cleanup_free_ char *what = xasprintf("%s cannot be fetched", model);

        server_explain(f, what, words);
        if (streq(f->code, "model_unknown")) /* a file of the download, removed under it */
            fault_code(f, FAULT_TRANSIENT, "lost", "%s: %.250s", what, words);
    }
}

/* Another place may have what this one has not, or does not give. */
static bool mirror_failed(const struct fault *f)
{
    static const char *const codes[] = {
        "registry_unreachable", "registry_failed", "registry_busy", "login_needed",
        "model_unknown",        "tag_unknown",     "stalled"};

    for (size_t i = 0; i < ELEMENTS(codes); i++)
        if (streq(f->code, codes[i]))
            return true;
    return false;
}

/* ---- after it: which of two is unknown, what else is damaged ---- */

static void fetch_begin(struct ollama *o, bool by_mirror);

static void end_failed(struct ollama *o)
{
    server_end(&o->server, false, &o->failed);
}

static void on_other_tag(void *ctx, const struct fault *f)
{
    struct ollama *o = ollama_of(ctx);

    if (!f && o->fetch.status == 200)
        fault_code(&o->failed, FAULT_GONE, "tag_unknown",
                   "%s cannot be fetched: the registry has the model, but not with the tag %.100s",
                   o->engine.model, ollama_tag(o->engine.model));
    end_failed(o);
}

static void on_damage_checked(void *ctx, const struct fault *f)
{
    (void)f; /* the pull is repeated, and with it this */
    end_failed(ollama_of(ctx));
}

static void pull_failed(struct ollama *o, const struct fault *f)
{
    struct names n;

    o->failed = *f;
    if (o->by_mirror && mirror_failed(f)) {
        server_progress(&o->server, -1, -1, "not from the mirror (%.100s)", f->code);
        fetch_begin(o, false);
    } else if (streq(f->code, "model_unknown") && strcasecmp(ollama_tag(o->engine.model), "latest") != 0) {
        _cleanup_free_ char *url = ollama_manifest_url(o->engine.model, "latest");

        fetch_ask(&o->fetch, url, MANIFESTS, &o->server.op, on_other_tag, &o->server);
    } else if (streq(f->code, "digest_mismatch")) {
        server_progress(&o->server, -1, -1, "looking what else came damaged");
        fetch_check(&o->fetch, OURS, name_layers(&o->pull, "", "", &n), &o->server.op, on_damage_checked,
                    &o->server);
    } else {
        end_failed(o);
    }
}

/* ---- the name of the mirror becomes the one that was asked for ---- */

static void pull_succeeded(struct ollama *o)
{
    server_progress(&o->server, o->pull.bytes, o->pull.bytes, "fetched");
    server_end(&o->server, false, NULL);
}

/* Both names lead to the same files: one that stays would only be in the way. */
static void on_mirror_name_gone(void *ctx, struct http_answer *a, const struct fault *f)
{
    (void)a, (void)f;
    pull_succeeded(ollama_of(ctx));
}

static void on_copied(void *ctx, struct http_answer *a, const struct fault *f)
{
    struct ollama *o = ollama_of(ctx);
    struct fault fault;

    if (f) {
        server_end(&o->server, false, f);
        return;
    }
    if (a->status != 200) {
        ollama_answer_fault(&fault, "what came from the mirror cannot be given its name", a);
        server_end(&o->server, false, &fault);
        return;
    }
    _cleanup_json_ struct json *v = json_object();
    struct buf body;

    json_put_string(v, "model", o->pulled);
    buf_init(&body, 4096);
    json_write(v, &body);
    server_delete(&o->server, "/api/delete", buf_text(&body), ASK_MS, on_mirror_name_gone);
    buf_done(&body);
}

static void copy_from_mirror(struct ollama *o)
{
    _cleanup_json_ struct json *v = json_object();
    struct buf body;

    json_put_string(v, "source", o->pulled);
    json_put_string(v, "destination", o->engine.model);
    buf_init(&body, 4096);
    json_write(v, &body);
    server_post(&o->server, "/api/copy", buf_text(&body), ASK_MS, 0, NULL, on_copied);
    buf_done(&body);
}

/* ---- the pull ---- */

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

static void pull_read(struct ollama *o, bool is_end)
{
    for (int64_t before = o->pull.bytes; ollama_pull_next(&o->pull, is_end); before = o->pull.bytes)
        pull_tell(o, before);
}

/* Where the manifest could not be asked for, sizes are told as layers begin. */
static bool has_room(const struct ollama *o, struct fault *f)
{
    return o->is_sized || fetch_judge_room(&o->fetch, o->engine.model, o->engine.instance,
                                           o->pull.bytes_total - o->pull.bytes, f) == 0;
}

static bool has_stalled(const struct ollama *o)
{
    return o->engine.stall_ms && !o->pull.is_step && clock_now_ms() - o->grown_due > o->engine.stall_ms;
}

static void on_pull_data(void *ctx, const char *data, size_t n)
{
    struct ollama *o = ollama_of(ctx);
    struct fault f;

    ollama_pull_add(&o->pull, data, n);
    pull_read(o, false);
    if (has_room(o, &f)) {
        if (!has_stalled(o))
            return;
        fault_code(&f, FAULT_TRANSIENT, "stalled", "the download of %s has not grown for %d s",
                   o->engine.model, (int)(o->engine.stall_ms / 1000));
    }
    op_cancel(&o->server.op);
    o->lost_due = clock_now_ms();
    pull_failed(o, &f);
}

static void on_pulled(void *ctx, struct http_answer *a, const struct fault *f)
{
    struct ollama *o = ollama_of(ctx);
    _cleanup_free_ char *what = xasprintf("%s cannot be fetched", o->pulled);
    struct fault fault;

    pull_read(o, true);
    if (f) {
        o->lost_due = clock_now_ms();
        server_end(&o->server, false, f);
        return;
    }
    if (o->pull.success) {
        if (o->by_mirror)
            copy_from_mirror(o);
        else
            pull_succeeded(o);
        return;
    }
    if (o->pull.error)
        explain_pull(o, o->pull.error, &fault);
    else if (a->status != 200)
        ollama_answer_fault(&fault, what, a);
    else
        fault_code(&fault, FAULT_TRANSIENT, "lost", "%s: the download broke off", what);
    pull_failed(o, &fault);
}

static void pull_begin(struct ollama *o)
{
    _cleanup_json_ struct json *v = json_object();
    struct buf body;

    o->told_due = 0;
    o->grown_due = clock_now_ms();
    json_put_string(v, "model", o->pulled);
    json_put_bool(v, "stream", true);
    buf_init(&body, 4096);
    json_write(v, &body);
    server_post(&o->server, "/api/pull", buf_text(&body), UINT64_MAX, QUIET_MS, on_pull_data, on_pulled);
    buf_done(&body);
}

/* ---- before it: how large, and is there room ---- */

static void on_room(void *ctx, const struct fault *f)
{
    struct ollama *o = ollama_of(ctx);
    int64_t bytes = o->pull.bytes_total - MAX(o->fetch.have_bytes, 0);
    struct fault full;

    if (f)
        server_end(&o->server, false, f);
    else if (fetch_judge_room(&o->fetch, o->engine.model, o->engine.instance, bytes, &full) < 0)
        server_end(&o->server, false, &full);
    else
        pull_begin(o);
}

static void on_manifest(void *ctx, const struct fault *f)
{
    struct ollama *o = ollama_of(ctx);
    const char *body = o->fetch.body ? o->fetch.body : "";
    struct names n;
    struct fault late;

    if (f) {
        server_end(&o->server, false, f);
        return;
    }
    /* The pull would wait for ever, and say nothing. */
    if (o->fetch.is_late) {
        fault_code(&late, FAULT_TRANSIENT, "registry_unreachable",
                   "%s cannot be fetched: %s does not answer %s", o->pulled,
                   o->by_mirror ? "the mirror" : "the registry", o->engine.instance);
        pull_failed(o, &late);
        return;
    }
    o->is_sized = o->fetch.status == 200 && ollama_pull_expect(&o->pull, body, strlen(body)) >= 0;
    fetch_room(&o->fetch, OURS, name_layers(&o->pull, "blobs/sha256-", "", &n), &o->server.op, on_room,
               &o->server);
}

/* "https://mirror.example.org/" is the host of a name. Caller frees; NULL: there is no mirror of this model.
 */
static char *name_at_mirror(const struct engine *e)
{
    const char *host = e->model_mirror ? strstr(e->model_mirror, "://") : NULL;
    _cleanup_free_ char *name = host ? strndup(host + 3, strcspn(host + 3, "/")) : NULL;

    return name ? ollama_mirrored_name(e->model, name) : NULL;
}

static void fetch_begin(struct ollama *o, bool by_mirror)
{
    char *name = by_mirror ? name_at_mirror(&o->engine) : NULL;

    o->by_mirror = name;
    free(o->pulled);
    o->pulled = name ? name : xstrdup(o->engine.model);
    _cleanup_free_ char *url = ollama_manifest_url(o->pulled, NULL);

    ollama_pull_done(&o->pull);
    ollama_pull_init(&o->pull);
    server_progress(&o->server, -1, -1, "asking for %s", o->pulled);
    fetch_ask(&o->fetch, url, MANIFESTS, &o->server.op, on_manifest, &o->server);
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

    if (!entry && o->lost_due && clock_now_ms() < o->lost_due + GIVEN_UP_MS) {
        server_end(&o->server, true, NULL);
        return;
    }
    if (!entry) {
        fetch_begin(o, true);
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

/* ---- before anything is done ---- */

static char *manifest_url(const struct engine *e)
{
    _cleanup_free_ char *name = name_at_mirror(e);

    return ollama_manifest_url(name ? name : e->model, NULL);
}

static int read_manifest(const char *model, const char *text, size_t n, struct engine_manifest *ret)
{
    struct ollama_pull p;

    (void)model;
    ollama_pull_init(&p);
    ret->bytes = ollama_pull_expect(&p, text, n);
    ret->n = p.n_layers;
    for (unsigned i = 0; i < p.n_layers; i++) {
        const char *colon = strchr(p.layers[i].digest, ':');

        snprintf(ret->names[i], sizeof ret->names[i], "blobs/sha256-%s", colon ? colon + 1 : "none");
    }
    ollama_pull_done(&p);
    return ret->bytes < 0 ? -EBADMSG : 0;
}

static int weigh(const struct engine *e, const char *text, size_t n, struct engine_weights *ret)
{
    _cleanup_free_ char *url = manifest_url(e);
    struct ollama_weights w;
    int r = ollama_read_weights(text, n, &w);

    if (r < 0)
        return r;
    *ret = (struct engine_weights){
        .bytes = w.bytes,
        .download_bytes = w.download_bytes,
        .url = xasprintf("%.*s/blobs/%s", (int)(strstr(url, "/manifests/") - url), url, w.digest)};
    return 0;
}

const struct engine_hub ollama_hub = {.accept = MANIFESTS,
                                      .directory = OURS,
                                      .url = manifest_url,
                                      .read = read_manifest,
                                      .weigh = weigh};

/* ---- when it is wanted no more ---- */

void ollama_clean(struct ollama *o, bool is_gone, fetch_done_fn done)
{
    static const char *const all[] = {"blobs/sha256-*-partial*", NULL};
    const char *models = o->fetch.models ? o->fetch.models : OURS;
    bool is_ours = strstr(models, "llmhost/") || strstr(models, OURS);
    struct names n;
    const char *const *names =
        is_gone && is_ours ? all : name_layers(&o->pull, "blobs/sha256-", "-partial*", &n);

    fetch_clean(&o->fetch, models, names, &o->server.op, done, &o->server);
}
