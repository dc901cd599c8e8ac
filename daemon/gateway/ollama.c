/* Ollama's side. Its clients are particular: a digest shorter than 12 characters makes the command line
 * panic, a list that is null or missing breaks the Python library (versions 0.11.4 and 0.32.15 of the
 * program, 0.6.3 of the library, observed 2026-11-21). So whatever an engine told us is completed before it
 * is shown. */
#include <ctype.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "engine/engine.h"
#include "gateway/dialect.h"
#include "manager.h"
#include "proto/buf.h"
#include "proto/json.h"
#include "proto/text.h"

#define DIGEST_CHARS_MIN 12
/* `ollama ps` shows "Forever" from a hundred years on. */
#define FOREVER_MS (200ll * 365 * 86400 * 1000)
#define NO_DIGEST  "0000000000000000000000000000000000000000000000000000000000000000"

int ollama_error(struct buf *out, const char *text)
{
    _cleanup_json_ struct json *root = json_object();

    json_put_string(root, "error", text);
    return json_write(root, out);
}

int ollama_status(struct buf *out, const char *status)
{
    _cleanup_json_ struct json *root = json_object();
    int r;

    json_put_string(root, "status", status);
    r = json_write(root, out);
    return r < 0 ? r : buf_add_text(out, "\n");
}

int dialect_error(enum dialect d, struct buf *out, unsigned status, const char *code, const char *text)
{
    return d == DIALECT_OLLAMA ? ollama_error(out, text) : openai_error(out, status, code, text);
}

/* ---- what a name says ---- */

/* "deepseek-r1:7b-q4" -> "7B"; "" when the tag does not begin with a size. */
static void parameter_size(const char *id, char out[static 16])
{
    const char *tag = strrchr(id, ':');
    size_t n = tag ? strspn(tag + 1, "0123456789.") : 0;

    *out = '\0';
    if (n > 0 && n < 8 && (tag[1 + n] == 'b' || tag[1 + n] == 'm') && !isalnum((unsigned char)tag[2 + n]))
        snprintf(out, 16, "%.*s%c", (int)n, tag + 1, toupper((unsigned char)tag[1 + n]));
}

static struct json *guessed_details(const char *id)
{
    struct json *details = json_object(), *families = json_array();
    char size[16];

    parameter_size(id, size);
    json_put_string(details, "parent_model", "");
    json_put_string(details, "format", "gguf");
    json_put_string(details, "family", "");
    json_put(details, "families", families);
    json_put_string(details, "parameter_size", size);
    json_put_string(details, "quantization_level", "");
    return details;
}

/* ---- what the engine told us, made whole ---- */

static void want_type(struct json *object, const char *key, enum json_type type, struct json *otherwise)
{
    const struct json *v = json_get(object, key);

    if (v && json_type(v) == type)
        json_free(otherwise);
    else
        json_put(object, key, otherwise);
}

static struct json *details_of(const struct json *engines, const char *id)
{
    struct json *details = json_type(engines) == JSON_OBJECT ? json_copy(engines) : NULL;

    if (!details)
        return guessed_details(id);
    want_type(details, "families", JSON_ARRAY, json_array());
    return details;
}

/* A NULL is of type JSON_NULL to json_type(). */
static struct json *copy_of_object(const struct json *v)
{
    return json_type(v) == JSON_OBJECT ? json_copy(v) : json_object();
}

static bool speaks_ollama(const struct deployment *d)
{
    return deployment_engine(d)->dialects & ENGINE_OLLAMA;
}

/* Common to the entries of /api/tags and /api/ps. */
static struct json *entry_of(const struct deployment *d, const char *name)
{
    const struct json *tag = json_get(deployment_shown(d), "tag");
    const char *digest = json_get_text(tag, "digest"), *id = deployment_id(d);
    int64_t size = json_get_int(tag, "size", -1);
    struct json *entry = json_object();

    if (size < 0)
        size = deployment_facts(d)->size_bytes;
    json_put_string(entry, "name", name);
    json_put_string(entry, "model", name);
    json_put_int(entry, "size", MAX(size, (int64_t)0));
    json_put_string(entry, "digest", digest && strlen(digest) >= DIGEST_CHARS_MIN ? digest : NO_DIGEST);
    json_put(entry, "details", details_of(json_get(tag, "details"), id));
    return entry;
}

static void put_time(struct json *object, const char *key, int64_t at_ms)
{
    char text[TEXT_SHORT_MAX];

    json_put_string(object, key, rfc3339_format(text, at_ms));
}

int ollama_download(struct buf *out, const struct deployment *d, int64_t bytes, int64_t bytes_total)
{
    _cleanup_json_ struct json *root = json_object();
    const char *digest = json_get_text(json_get(deployment_shown(d), "tag"), "digest");
    char text[128];
    int r;

    snprintf(text, sizeof(text), "pulling %s", deployment_id(d));
    json_put_string(root, "status", text);
    snprintf(text, sizeof(text), "sha256:%s",
             digest && strlen(digest) >= DIGEST_CHARS_MIN ? digest : NO_DIGEST);
    json_put_string(root, "digest", text);
    json_put_int(root, "total", bytes_total);
    json_put_int(root, "completed", bytes);
    r = json_write(root, out);
    return r < 0 ? r : buf_add_text(out, "\n");
}

/* ---- lists ---- */

static int write_list(struct json *models, struct buf *out)
{
    _cleanup_json_ struct json *root = json_object();

    json_put(root, "models", models);
    return json_write(root, out);
}

static void add_tag(struct json *models, const struct deployment *d, const char *name, int64_t started_at_ms)
{
    const char *modified = json_get_text(json_get(deployment_shown(d), "tag"), "modified_at");
    struct json *entry;

    if (!speaks_ollama(d))
        return; /* nobody could ask it in this dialect */
    entry = entry_of(d, name);
    if (modified)
        json_put_string(entry, "modified_at", modified);
    else
        put_time(entry, "modified_at", started_at_ms);
    json_append(models, entry);
}

int ollama_tags(struct manager *m, int64_t started_at_ms, struct buf *out)
{
    struct json *models = json_array();
    const struct alias *a;
    struct deployment *d;

    for (unsigned i = 0; (d = manager_model_at(m, i)); i++)
        add_tag(models, d, deployment_id(d), started_at_ms);
    for (unsigned i = 0; (a = manager_alias_at(m, i)); i++)
        if ((d = manager_find_id(m, a->name)))
            add_tag(models, d, a->name, started_at_ms);
    return write_list(models, out);
}

/* When it is taken out of memory, if nobody asks before. */
static int64_t expires_at_ms(const struct deployment *d)
{
    struct deployment_figures n;

    deployment_figures(d, &n);
    if (n.keep_until_at_ms || n.sleeps_at_ms)
        return n.keep_until_at_ms ? n.keep_until_at_ms : n.sleeps_at_ms;
    return clock_wall_ms() + (n.unload_ms ? (int64_t)n.unload_ms : FOREVER_MS);
}

int ollama_ps(struct manager *m, struct buf *out)
{
    struct json *models = json_array();
    struct deployment *d;

    for (unsigned i = 0; (d = manager_model_at(m, i)); i++) {
        const struct engine_facts *facts = deployment_facts(d);
        struct json *entry;

        if (!speaks_ollama(d) || deployment_state(d) != DEPLOYMENT_READY)
            continue;
        entry = entry_of(d, deployment_id(d));
        if (facts->size_bytes >= 0) /* in memory it is larger than on disk */
            json_put_int(entry, "size", facts->size_bytes);
        put_time(entry, "expires_at", expires_at_ms(d));
        json_put_int(entry, "size_vram", MAX(facts->size_vram_bytes, (int64_t)0));
        json_put_int(entry, "context_length", MAX(facts->context, (int64_t)0));
        json_append(models, entry);
    }
    return write_list(models, out);
}

/* That of an engine that runs, else of the first one that ever did, else ours: any text is shown as it is. */
int ollama_version(struct manager *m, struct buf *out)
{
    _cleanup_json_ struct json *root = json_object();
    const char *version = NULL;
    struct deployment *d;

    for (unsigned i = 0; (d = manager_deployment_at(m, i)); i++) {
        const char *its = json_get_text(deployment_shown(d), "version");

        if (!speaks_ollama(d) || !its)
            continue;
        if (!version || deployment_state(d) == DEPLOYMENT_READY)
            version = its;
    }
    json_put_string(root, "version", version ? version : LLMHOST_VERSION);
    return json_write(root, out);
}

int ollama_show(const struct deployment *d, struct buf *out)
{
    const struct json *shown = json_get(deployment_shown(d), "show");
    _cleanup_json_ struct json *root = copy_of_object(shown);
    struct json *capabilities = json_array();

    json_append_string(capabilities, "completion");
    want_type(root, "capabilities", JSON_ARRAY, capabilities);
    want_type(root, "model_info", JSON_OBJECT, json_object());
    json_put(root, "details", details_of(json_get(shown, "details"), deployment_id(d)));
    return json_write(root, out);
}

int ollama_unloaded(const char *model, bool chat, struct buf *out)
{
    _cleanup_json_ struct json *root = json_object();

    json_put_string(root, "model", model);
    put_time(root, "created_at", clock_wall_ms());
    if (chat) {
        struct json *message = json_object();

        json_put_string(message, "role", "assistant");
        json_put_string(message, "content", "");
        json_put(root, "message", message);
    } else {
        json_put_string(root, "response", "");
    }
    json_put_bool(root, "done", true);
    json_put_string(root, "done_reason", "unload");
    return json_write(root, out);
}
