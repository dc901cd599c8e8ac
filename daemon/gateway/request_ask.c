/* What a request asks for: its head against who may ask what, its body for the model's name, and the answers
 * that need no engine. Whatever is refused here has neither woken nor counted anything. */
#include <errno.h>
#include <string.h>

#include "base/log.h"
#include "engine/engine.h"
#include "gateway/body.h"
#include "gateway/gateway_private.h"
#include "gateway/http1.h"
#include "gateway/keys.h"
#include "gateway/request_private.h"
#include "proto/buf.h"
#include "proto/json.h"
#include "proto/text.h"

#define MAX_WAIT_DIGITS 9

/* ---- the head ---- */

static bool request_may_ask(struct request *r)
{
    const struct route_access *access = &r->gateway->access;
    const char *origin = http1_field(r->head, "Origin");
    _cleanup_free_ char *why = NULL;

    if (route_refuses_host(access, r->head, &why)) {
        request_refuse(r, 403, "host_not_allowed", "%s", why);
        return false;
    }
    if (http1_count_fields(r->head, "Origin") > 1) {
        request_refuse(r, 400, "bad_request", "Origin is there twice");
        return false;
    }
    if (origin && !route_allows_origin(access, origin)) {
        request_refuse(
            r, 403, "origin_not_allowed",
            "pages from %.80s may not ask here; [gateway] allow_origin= in llmhostd.conf lists those "
            "that may",
            origin);
        return false;
    }
    r->origin = origin;
    return true;
}

/* Where none is needed one still tells who asks; a preflight never carries any. */
static bool request_has_key(struct request *r)
{
    const char *name = keys_find(r->gateway->keys, r->head);

    if (name)
        snprintf(r->from, sizeof(r->from), "%s", name);
    if (name || !gateway_needs_key(r->gateway) || r->route.kind == ROUTE_PREFLIGHT)
        return true;
    request_refuse_with(r, 401, "invalid_api_key", "WWW-Authenticate: Bearer\r\n",
                        "an API key is needed here, as Authorization: Bearer KEY, and the one that came, if "
                        "any, is not known; `llmhostctl key add NAME` makes one");
    return false;
}

static bool request_take_wait(struct request *r)
{
    const char *text = http1_field(r->head, "X-LLMHost-Max-Wait");
    size_t n = text ? strlen(text) : 0;

    if (!text)
        return true;
    if (n == 0 || n > MAX_WAIT_DIGITS || strspn(text, "0123456789") != n) {
        request_refuse(r, 400, "bad_request", "X-LLMHost-Max-Wait is not a number of seconds");
        return false;
    }
    r->wait_ms = MIN(r->wait_ms, strtoull(text, NULL, 10) * 1000);
    r->may_beat = false; /* who sets a limit wants the true status */
    return true;
}

static bool request_has_place(struct request *r)
{
    char fields[64];

    if (r->route.kind == ROUTE_FORBIDDEN) {
        request_refuse(r, 403, "forbidden", "%.*s: not through llmhost", (int)strcspn(r->route.path, "?"),
                       r->route.path);
    } else if (r->route.kind == ROUTE_BAD_METHOD) {
        snprintf(fields, sizeof(fields), "Allow: %s\r\n", r->route.allow);
        request_refuse_with(r, 405, "method_not_allowed", fields, "that method does not go with that path");
    } else if (r->route.kind == ROUTE_UNKNOWN) {
        request_refuse(r, 404, "not_found", "nothing is at %.200s", r->head->target);
    } else if (r->head->framing == HTTP1_LENGTH && r->head->length_bytes > BODY_BYTES_MAX) {
        request_refuse(r, 413, "body_too_large", "bodies may have 64 MiB");
    }
    return r->step != REQUEST_OVER;
}

static bool route_reads_body(const struct route *route)
{
    return route->kind == ROUTE_ENGINE || route->kind == ROUTE_SHOW || route->kind == ROUTE_PULL;
}

static const char *const members[] = {"model", "name", "stream", "keep_alive", "prompt", "messages"};

bool request_begin(struct request *r)
{
    if (!request_may_ask(r) || !request_has_key(r) || !request_take_wait(r) || !request_has_place(r))
        return false;
    if (!route_reads_body(&r->route))
        return true;
    r->body = body_new(&r->gateway->budget);
    r->scan = json_scan_new(members, ELEMENTS(members));
    if (!r->scan)
        abort();
    return true;
}

/* ---- the body ---- */

bool request_body(struct request *r, const char *data, size_t n)
{
    int e;

    if (!r->body)
        return true; /* nobody reads it */
    if (r->scan_error == 0)
        r->scan_error = json_scan_feed(r->scan, data, n);
    e = body_add(r->body, data, n);
    if (e == 0)
        return true;
    if (e == -EFBIG)
        request_refuse(r, 413, "body_too_large", "bodies may have 64 MiB");
    else if (e == -EDQUOT)
        request_refuse(r, 503, "busy",
                       "the bodies of all requests together are larger than 512 MiB; try again");
    else if (e == -ENOSPC)
        request_refuse(r, 507, "spool_full",
                       "there is no room on this host's disk to keep a body of this size while it comes in");
    else
        request_refuse(r, 503, "spool_failed", "the body could not be kept: %s", strerror(-e));
    return false;
}

void request_body_broken(struct request *r, const struct http1_refusal *why)
{
    if (r->step != REQUEST_OVER)
        request_refuse(r, why->status, why->status == 503 ? "internal" : "bad_request", "%s", why->text);
}

static bool member_is(struct request *r, const char *key, struct json_member *ret)
{
    json_scan_member(r->scan, key, ret);
    return ret->found && ret->type != JSON_NULL;
}

/* A name, or NULL: none or an empty one. -EINVAL: answered. */
static int request_take_text(struct request *r, const char *key, struct json_member *ret)
{
    if (!member_is(r, key, ret)) {
        ret->text = NULL;
        return 0;
    }
    if (ret->type != JSON_STRING || !ret->text || strlen(ret->text) != ret->count) {
        request_refuse(r, 400, "bad_request", "\"%s\" is not a name", key);
        return -EINVAL;
    }
    if (ret->count == 0)
        ret->text = NULL;
    return 0;
}

/* "model", or in Ollama's dialect "name", whichever is not empty. NULL: answered. */
static const char *request_take_name(struct request *r, struct json_member *model, struct json_member *name)
{
    *name = (struct json_member){0};
    if (request_take_text(r, "model", model) < 0)
        return NULL;
    if (r->route.dialect == DIALECT_OLLAMA && request_take_text(r, "name", name) < 0)
        return NULL;
    if (model->text && name->text && !streq(model->text, name->text)) {
        request_refuse(r, 400, "bad_request", "\"model\" and \"name\" are not the same");
        return NULL;
    }
    if (!model->text && !name->text) {
        request_refuse(r, 400, "bad_request", "\"model\" is missing");
        return NULL;
    }
    return model->text ? model->text : name->text;
}

static bool request_scan_is_good(struct request *r)
{
    int e = r->scan_error ? r->scan_error : json_scan_end(r->scan);

    if (e == -EEXIST)
        request_refuse(r, 400, "bad_request",
                       "\"model\", or another member that decides where this goes, is there twice");
    else if (e == -E2BIG)
        request_refuse(r, 400, "bad_request", "the body is nested too deeply");
    else if (e < 0)
        request_refuse(r, 400, "bad_request", "the body is not a JSON object");
    return e == 0;
}

/* and_model: an engine reads "model" only, and it is not there. */
static int replace_name(struct request *r, const struct json_member *m, const char *id, bool and_model)
{
    _cleanup_json_ struct json *value = json_string(id);
    struct buf text;
    int e;

    if (!and_model && m->text && streq(m->text, id))
        return 0;
    buf_init(&text, ANSWER_BYTES_MAX);
    e = json_write(value, &text);
    if (e == 0 && and_model) {
        buf_add_text(&text, ",\"model\":");
        e = json_write(value, &text);
    }
    if (e == 0)
        body_replace(r->body, m->from_bytes, m->to_bytes, text.data, text.len);
    buf_done(&text);
    return e;
}

/* An alias, a shorter form or an empty text is replaced by what the engine calls it, in the order of the
 * document. */
static void request_replace_names(struct request *r, const struct json_member *model,
                                  const struct json_member *name)
{
    const char *id = deployment_id(r->deployment);
    bool has_text = model->found && model->type == JSON_STRING;
    bool model_first = has_text && (!name->text || model->from_bytes < name->from_bytes);
    int e = 0;

    if (model_first)
        e = replace_name(r, model, id, false);
    if (e == 0 && name->text)
        e = replace_name(r, name, id, !model->found);
    if (e == 0 && has_text && !model_first)
        e = replace_name(r, model, id, false);
    if (e < 0)
        abort(); /* a name of ours that cannot be written */
}

/* ---- what it asks for ---- */

static void request_unknown_model(struct request *r, const char *name)
{
    struct buf text, body;
    bool lines = r->route.kind == ROUTE_PULL && r->streams;

    buf_init(&text, ANSWER_BYTES_MAX);
    buf_init(&body, ANSWER_BYTES_MAX);
    buf_addf(&text, "model '%s' not found", name);
    route_explain_unknown(r->gateway->manager, name, &text);
    dialect_error(r->route.dialect, &body, 404, "model_not_found", buf_text(&text));
    if (lines) { /* as ollama itself: the failure of a pull is its last line */
        buf_add_text(&body, "\n");
        request_reply(r, 200, "application/x-ndjson", &body, NULL);
    } else {
        request_reply(r, 404, "application/json", &body, NULL);
    }
    buf_done(&text);
    buf_done(&body);
}

/* The path that does the same in the other dialect. */
static const char *other_path(const struct route *route)
{
    static const char *const pairs[][2] = {
        {"chat", "/v1/chat/completions"},
        {"generate", "/v1/completions"},
        {"embed", "/v1/embeddings"},
        {"embeddings", "/v1/embeddings"},
    };

    for (size_t i = 0; i < ELEMENTS(pairs); i++)
        if (streq(route->word, pairs[i][0]))
            return pairs[i][1];
    return "/v1";
}

static bool request_is_understood(struct request *r, const struct deployment *d)
{
    const struct engine_ops *engine = deployment_engine(d);

    if (r->route.dialect == DIALECT_OLLAMA && !(engine->dialects & ENGINE_OLLAMA)) {
        request_refuse(r, 400, "wrong_dialect", "%s runs on %s, which does not speak /api; use %s",
                       deployment_id(d), engine->name, other_path(&r->route));
        return false;
    }
    if (r->route.dialect == DIALECT_OPENAI && !(engine->dialects & ENGINE_OPENAI)) {
        request_refuse(r, 400, "wrong_dialect", "%s runs on %s, which does not speak /v1; use /api",
                       deployment_id(d), engine->name);
        return false;
    }
    return true;
}

/* "0", "0s", "0m0s", 0: but not 0.5. */
static bool is_zero(const struct json_member *m)
{
    uint64_t ms;

    if (m->type == JSON_STRING)
        return m->text && duration_parse(m->text, &ms) == 0 && ms == 0;
    return m->type == JSON_INT && m->number == 0;
}

/* `ollama stop`: keep_alive 0 with nothing to say. */
static bool request_is_unload(struct request *r)
{
    bool chat = streq(r->route.word, "chat");
    struct json_member keep_alive, input;

    if (r->route.dialect != DIALECT_OLLAMA || (!chat && !streq(r->route.word, "generate")))
        return false;
    return member_is(r, "keep_alive", &keep_alive) && is_zero(&keep_alive) &&
           (!member_is(r, chat ? "messages" : "prompt", &input) || input.count == 0);
}

/* It falls asleep meanwhile, on every instance: nobody waits for that, and nobody is woken for it. */
static void request_unload(struct request *r, const struct deployment *asked, const char *name)
{
    struct deployment *d;
    struct buf body;
    int e;

    for (unsigned i = 0; (d = manager_deployment_at(r->gateway->manager, i)); i++)
        if (streq(deployment_name(d), deployment_name(asked)))
            deployment_sleep(d, false, DEPLOYMENT_SLEEP_REQUEST);
    buf_init(&body, ANSWER_BYTES_MAX);
    e = ollama_unloaded(name, streq(r->route.word, "chat"), &body);
    request_reply_made(r, "application/json; charset=utf-8", e, &body);
    buf_done(&body);
}

/* Who pulls a model says that it is wanted, so for one that was switched off it is an `up`. Every other
 * request of it is refused. */
static void request_bring_up(struct request *r, struct deployment *d)
{
    log_notice(deployment_name(d), "up by a pull, by %s", r->from);
    deployment_want(d, GOAL_ON_DEMAND, false);
}

static void request_show(struct request *r, const struct deployment *d)
{
    struct buf body;
    int e;

    if (!request_is_understood(r, d))
        return;
    buf_init(&body, ANSWER_BYTES_MAX);
    e = ollama_show(d, &body);
    request_reply_made(r, "application/json; charset=utf-8", e, &body);
    buf_done(&body);
}

static void request_ask_model(struct request *r)
{
    struct json_member model, name, stream;
    struct deployment *d;
    const char *asked;

    if (!request_scan_is_good(r))
        return;
    asked = request_take_name(r, &model, &name);
    if (!asked)
        return;
    r->streams = !member_is(r, "stream", &stream) || stream.type != JSON_BOOL || stream.number;
    request_plan_beats(r, stream.found && stream.type == JSON_BOOL ? (int)stream.number : -1);
    d = manager_find_id(r->gateway->manager, asked);
    if (!d) {
        request_unknown_model(r, asked);
    } else if (r->route.kind == ROUTE_SHOW) {
        request_show(r, d);
    } else if (r->route.kind == ROUTE_PULL || request_is_understood(r, d)) { /* a pull asks no engine */
        if (r->route.kind == ROUTE_ENGINE && request_is_unload(r)) {
            request_unload(r, d, asked);
            return;
        }
        if (r->route.kind == ROUTE_PULL && deployment_goal(d) == GOAL_OFF)
            request_bring_up(r, d);
        request_count(r, d);
        request_replace_names(r, &model, &name);
        r->scan = json_scan_free(r->scan);
        request_hold(r);
    }
}

/* ---- lists and the like ---- */

static void request_model(struct request *r)
{
    _cleanup_free_ char *id = route_model_id(&r->route);
    struct deployment *d = id ? manager_find_id(r->gateway->manager, id) : NULL;
    struct buf body;
    int e;

    if (!id) {
        request_refuse(r, 400, "bad_request", "the path is not well formed");
        return;
    }
    if (!d) {
        request_unknown_model(r, id);
        return;
    }
    buf_init(&body, ANSWER_BYTES_MAX);
    e = openai_model(d, manager_alias_model(r->gateway->manager, id) ? id : deployment_id(d),
                     r->gateway->started_at_ms, &body);
    request_reply_made(r, "application/json", e, &body);
    buf_done(&body);
}

static const char *list_type(enum route_kind kind)
{
    switch (kind) {
    case ROUTE_ROOT: return "text/plain; charset=utf-8";
    case ROUTE_METRICS: return "text/plain; version=0.0.4; charset=utf-8";
    default: return "application/json; charset=utf-8";
    }
}

static void request_list(struct request *r)
{
    struct gateway *g = r->gateway;
    struct buf body;
    int e = -ENOSYS;

    buf_init(&body, METRICS_BYTES_MAX);
    switch (r->route.kind) {
    case ROUTE_ROOT: e = buf_add_text(&body, "Ollama is running"); break;
    case ROUTE_HEALTH: e = buf_add_text(&body, "{\"status\":\"ok\"}"); break;
    case ROUTE_MODELS: e = openai_models(g->manager, g->started_at_ms, &body); break;
    case ROUTE_TAGS: e = ollama_tags(g->manager, g->started_at_ms, &body); break;
    case ROUTE_PS: e = ollama_ps(g->manager, &body); break;
    case ROUTE_VERSION: e = ollama_version(g->manager, &body); break;
    case ROUTE_METRICS: e = metrics_text(g, &body); break;
    default: break;
    }
    request_reply_made(r, list_type(r->route.kind), e, &body);
    buf_done(&body);
}

/* A browser asks before it asks: https://fetch.spec.whatwg.org/#cors-preflight-fetch */
static void request_preflight(struct request *r)
{
    const char *wanted = http1_field(r->head, "Access-Control-Request-Headers");
    struct buf fields;

    buf_init(&fields, 2 * HTTP1_HEAD_BYTES_MAX);
    buf_add_text(&fields, "Allow: GET, HEAD, POST, OPTIONS\r\n");
    if (r->origin) {
        buf_add_text(
            &fields,
            "Access-Control-Allow-Methods: GET, HEAD, POST, OPTIONS\r\nAccess-Control-Max-Age: 600\r\n");
        if (wanted)
            buf_addf(&fields, "Access-Control-Allow-Headers: %s\r\n", wanted);
        if (http1_field_lists(r->head, "Access-Control-Request-Private-Network", "true"))
            buf_add_text(&fields, "Access-Control-Allow-Private-Network: true\r\n");
    }
    request_reply(r, 204, NULL, NULL, buf_text(&fields));
    buf_done(&fields);
}

void request_body_over(struct request *r)
{
    if (r->route.kind < ELEMENTS(r->gateway->looks))
        r->gateway->looks[r->route.kind]++;
    if (route_reads_body(&r->route))
        request_ask_model(r);
    else if (r->route.kind == ROUTE_PREFLIGHT)
        request_preflight(r);
    else if (r->route.kind == ROUTE_MODEL)
        request_model(r);
    else
        request_list(r);
}
