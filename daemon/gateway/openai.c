/* OpenAI's side: https://platform.openai.com/docs/api-reference/models and the error object its libraries
 * read. */
#include "engine/engine.h"
#include "gateway/dialect.h"
#include "manager.h"
#include "proto/buf.h"
#include "proto/json.h"
#include "proto/text.h"

static const char *error_type(unsigned status, const char *code)
{
    switch (status) {
    case 400:
    case 401:
    case 413:
    case 431: return "invalid_request_error";
    case 403: return "permission_error";
    case 404: return "not_found_error";
    }
    return code;
}

int openai_error(struct buf *out, unsigned status, const char *code, const char *text)
{
    _cleanup_json_ struct json *root = json_object();
    struct json *error = json_object();

    json_put_string(error, "message", text);
    json_put_string(error, "type", error_type(status, code));
    json_put(error, "param", json_null());
    json_put_string(error, "code", code);
    json_put(root, "error", error);
    return json_write(root, out);
}

/* The engine knows when its file was made; before the first load nobody does. */
static int64_t created(const struct deployment *d, int64_t started_at_ms)
{
    const struct json *shown = deployment_shown(d);
    const char *modified = json_get_text(json_get(shown, "tag"), "modified_at");
    int64_t at_ms;

    if (modified && rfc3339_parse(modified, &at_ms) == 0)
        return at_ms / 1000;
    return json_get_int(json_get(shown, "model"), "created", started_at_ms / 1000);
}

static struct json *model(const struct deployment *d, const char *name, int64_t started_at_ms)
{
    struct json *entry = json_object();

    json_put_string(entry, "id", name);
    json_put_string(entry, "object", "model");
    json_put_int(entry, "created", created(d, started_at_ms));
    json_put_string(entry, "owned_by",
                    deployment_engine(d)->dialects & ENGINE_OLLAMA ? "library" : deployment_engine(d)->name);
    return entry;
}

int openai_models(struct manager *m, int64_t started_at_ms, struct buf *out)
{
    _cleanup_json_ struct json *root = json_object();
    struct json *data = json_array();
    const struct alias *a;
    struct deployment *d;

    for (unsigned i = 0; (d = manager_model_at(m, i)); i++)
        json_append(data, model(d, deployment_id(d), started_at_ms));
    for (unsigned i = 0; (a = manager_alias_at(m, i)); i++)
        if ((d = manager_find_id(m, a->name)))
            json_append(data, model(d, a->name, started_at_ms));
    json_put_string(root, "object", "list");
    json_put(root, "data", data);
    return json_write(root, out);
}

int openai_model(const struct deployment *d, const char *name, int64_t started_at_ms, struct buf *out)
{
    _cleanup_json_ struct json *root = model(d, name, started_at_ms);

    return json_write(root, out);
}
