/* Who may ask, what is refused, what is answered without any engine, and what bounds it all. The door itself:
 * test_gateway_door.c. */
#include "gateway/client.h"
#include "gateway/gateway.h"

#include "proto/text.h"
#include "tests/fixture/gateway_world.h"

TestSuite(gateway, .init = world_open, .fini = world_close);

#define CHAT "/v1/chat/completions"

/* ---- refusals ---- */

struct asked {
    const char *text;
    unsigned status;
    const char *says; /* NULL: anything */
};

static void check_rows(const struct asked *rows, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        _cleanup_free_ char *answer = ask(rows[i].text);

        cr_assert_eq(status_of(answer), rows[i].status, "%s\n---\n%s", rows[i].text, answer);
        if (rows[i].says)
            cr_assert(strstr(answer, rows[i].says), "no %s in %s", rows[i].says, answer);
    }
    cr_assert_eq(world.deepseek.begun + world.qwen.begun + world.embed.begun, 0,
                 "a refusal counted as a request");
    cr_assert_eq(world.deepseek.held_ever, 0);
}

#define GET(path)    "GET " path " HTTP/1.1\r\nHost: localhost\r\n\r\n"
#define HOST(name)   "GET /v1/models HTTP/1.1\r\nHost: " name "\r\n\r\n"
#define POST(fields) "POST " CHAT " HTTP/1.1\r\nHost: localhost\r\n" fields

Test(gateway, smuggling_is_refused_and_the_connection_closed)
{
    static const struct asked rows[] = {
        {POST("Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n{}"), 400, "Connection: close"},
        {POST("Content-Length: 2\r\nContent-Length: 2\r\n\r\n{}"), 400, "Connection: close"},
        {POST("Content-Length: +2\r\n\r\n{}"), 400, "Connection: close"},
        {POST("Transfer-Encoding: gzip\r\n\r\n"), 400, "Connection: close"},
        {POST("Content-Length : 2\r\n\r\n{}"), 400, "Connection: close"},
        {POST("X: a\r\n b\r\nContent-Length: 2\r\n\r\n{}"), 400, "Connection: close"},
        {"GET / HTTP/1.1\nHost: localhost\n\n", 400, "Connection: close"},
        {"GET / HTTP/2.0\r\nHost: localhost\r\n\r\n", 505, "Connection: close"},
        {"TRACE / HTTP/1.1\r\nHost: localhost\r\n\r\n", 501, "Connection: close"},
        {"GET / HTTP/1.1\r\n\r\n", 400, "Host"},
        {POST("Transfer-Encoding: chunked\r\n\r\nzz\r\n"), 400, "Connection: close"},
        {POST("Content-Length: 99999999999999999999\r\n\r\n"), 413, "Connection: close"},
        {POST("Content-Length: 67108865\r\n\r\n"), 413, "64 MiB"},
        {POST("Content-Length: 67108865\r\nExpect: 100-continue\r\n\r\n"), 413, "64 MiB"},
    };

    check_rows(rows, ELEMENTS(rows));
}

Test(gateway, what_follows_a_refused_head_is_never_a_request)
{
    struct app *a = app_new();

    app_say(a, POST("Content-Length: 2\r\nContent-Length: 30\r\n\r\n{}GET /api/version HTTP/1.1\r\nHost: "
                    "localhost\r\n\r\n"));
    cr_assert(LOOP_UNTIL(world.loop, app_is_over(a)));
    cr_assert_not(strstr(app_got(a), "version"));
    cr_assert_null(strstr(app_got(a) + 1, "HTTP/1.1"));
    app_free(a);
}

Test(gateway, a_head_that_is_too_large_is_431)
{
    struct app *a = app_new();
    char line[1024];

    memset(line, 'x', sizeof(line) - 1);
    line[sizeof(line) - 1] = '\0';
    app_say(a, "GET / HTTP/1.1\r\nHost: localhost\r\nX: ");
    for (int i = 0; i < 34; i++)
        app_say(a, line);
    app_wants(a, "HTTP/1.1 431 ");
    app_free(a);
}

Test(gateway, only_names_that_cannot_be_rebound_may_be_used)
{
    static const struct asked rows[] = {
        {HOST("localhost"), 200, NULL},
        {HOST("LocalHost:11434"), 200, NULL},
        {HOST("127.0.0.1:11434"), 200, NULL},
        {HOST("0.0.0.0:11434"), 200, NULL},
        {HOST("192.168.1.20"), 200, NULL},
        {HOST("[::1]:11434"), 200, NULL},
        {HOST("[fe80::1]"), 200, NULL},
        {HOST("gpu.lan"), 200, NULL},
        {HOST("GPU.lan:80"), 200, NULL},
        {HOST("box"), 200, NULL},
        {HOST("evil.example"), 403, "'evil.example'"},
        {HOST("evil.example:80"), 403, "allow_host="},
        {HOST("llmhost_upstream"), 403, "proxy_set_header Host localhost;"},
        {HOST("localhost.evil.example"), 403, NULL},
        {HOST("gpu.lan.evil.example"), 403, NULL},
        {HOST("127.0.0.1.evil.example"), 403, NULL},
        {HOST("127.0.0.1:x"), 403, NULL},
        {HOST("localhost:11434:1"), 403, NULL},
        {HOST("[::1"), 403, NULL},
        {HOST("[localhost]"), 403, NULL},
        {HOST("::1"), 403, NULL},
        {HOST("user@localhost"), 403, NULL},
        {HOST(""), 403, NULL},
        {"GET http://localhost/v1/models HTTP/1.1\r\nHost: localhost\r\n\r\n", 200, NULL},
        {"GET http://evil.example/v1/models HTTP/1.1\r\nHost: localhost\r\n\r\n", 403, "'evil.example'"},
        {"GET http://localhost/v1/models HTTP/1.1\r\nHost: evil.example\r\n\r\n", 403, NULL},
    };

    check_rows(rows, ELEMENTS(rows));
}

Test(gateway, pages_of_other_origins_may_not_ask)
{
#define ORIGIN(o) "POST " CHAT " HTTP/1.1\r\nHost: localhost\r\nOrigin: " o "\r\nContent-Length: 2\r\n\r\n{}"
    static const struct asked rows[] = {
        {ORIGIN("https://evil.example"), 403,
         "https://evil.example may not ask here; [gateway] allow_origin="},
        {ORIGIN("null"), 403, NULL},
        {ORIGIN("http://localhost:11434"), 403, NULL},
        {ORIGIN("https://chat.example.evil"), 403, NULL},
        {ORIGIN("https://chat.example"), 400,
         "Access-Control-Allow-Origin: https://chat.example\r\nVary: Origin\r\n"},
        {"GET /api/tags HTTP/1.1\r\nHost: localhost\r\nOrigin: https://evil.example\r\n\r\n", 403, NULL},
        {"GET / HTTP/1.1\r\nHost: localhost\r\nOrigin: https://chat.example\r\nOrigin: https://a\r\n\r\n",
         400, NULL},
    };

    check_rows(rows, ELEMENTS(rows));
}

Test(gateway, a_preflight_is_answered_for_listed_origins_and_counts_for_nothing)
{
    _cleanup_free_ char *good =
        ask("OPTIONS " CHAT " HTTP/1.1\r\nHost: localhost\r\nOrigin: https://chat.example\r\n"
            "Access-Control-Request-Method: POST\r\n"
            "Access-Control-Request-Headers: content-type,authorization\r\n\r\n");
    _cleanup_free_ char *bad =
        ask("OPTIONS " CHAT " HTTP/1.1\r\nHost: localhost\r\nOrigin: https://evil.example\r\n\r\n");
    _cleanup_free_ char *plain = ask("OPTIONS * HTTP/1.1\r\nHost: localhost\r\n\r\n");

    cr_assert_eq(status_of(good), 204);
    cr_assert(strstr(good, "Access-Control-Allow-Origin: https://chat.example\r\n"));
    cr_assert(strstr(good, "Access-Control-Allow-Headers: content-type,authorization\r\n"));
    cr_assert(strstr(good, "Access-Control-Allow-Methods: GET, HEAD, POST"));
    cr_assert_eq(status_of(bad), 403);
    cr_assert_not(strstr(bad, "Access-Control-Allow"));
    cr_assert_eq(status_of(plain), 204);
    cr_assert_not(strstr(plain, "Access-Control-Allow"));
    cr_assert_eq(world.deepseek.begun, 0);
}

Test(gateway, paths_and_methods_have_their_places)
{
    static const struct asked rows[] = {
        {GET("/nothing"), 404, "\"error\":{"},
        {GET("/v1/"), 404, NULL},
        {GET("/v1/chat/completions"), 405, "Allow: POST"},
        {GET("/api/chat"), 405, "{\"error\":\""},
        {POST("Content-Length: 0\r\n\r\n"), 400, "JSON"},
        {"POST /api/tags HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n", 405, "Allow: GET, HEAD"},
        {"POST /health HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n", 405, NULL},
        {"POST /api//chat HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n", 404, NULL},
        {"POST /api/../api/create HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n", 404, NULL},
        {"POST /api/%63reate HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n", 404, NULL},
        {"POST /api/create HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n", 403,
         "not through llmhost\"}"},
        {"DELETE /api/delete HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n", 403,
         "not through llmhost"},
        {"POST /api/copy HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n", 403,
         "not through llmhost"},
        {"POST /api/push HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n", 403,
         "not through llmhost"},
        {"POST /api/blobs/sha256:00 HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\n\r\n", 403,
         "not through llmhost"},
        {"HEAD /api/blobs/sha256:00 HTTP/1.1\r\nHost: localhost\r\n\r\n", 403, NULL},
        {"PUT / HTTP/1.1\r\nHost: localhost\r\n\r\n", 405, NULL},
    };

    check_rows(rows, ELEMENTS(rows));
}

/* ---- bodies that lead nowhere ---- */

struct body_row {
    const char *path, *body;
    unsigned status;
    const char *says;
};

Test(gateway, a_body_must_name_one_model_that_is_known)
{
    static const struct body_row rows[] = {
        {CHAT, "{}", 400, "\\\"model\\\" is missing"},
        {CHAT, "", 400, "not a JSON object"},
        {CHAT, "[]", 400, "not a JSON object"},
        {CHAT, "{\"model\":\"a\"", 400, "not a JSON object"},
        {CHAT, "{\"model\":\"a\"} x", 400, "not a JSON object"},
        {CHAT, "{\"model\":\"deepseek-r1:7b\",\"model\":\"b\"}", 400, "twice"},
        {CHAT, "{\"model\":\"a\",\"mod\\u0065l\":\"b\"}", 400, "twice"},
        {CHAT, "{\"model\":7}", 400, "not a name"},
        {CHAT, "{\"model\":\"\"}", 400, "missing"},
        {CHAT, "{\"model\":null}", 400, "missing"},
        {CHAT, "{\"model\":\"deepseek-r1:7b\\u0000x\"}", 400, "not a name"},
        {CHAT, "{\"messages\":[{\"model\":\"deepseek-r1:7b\"}]}", 400, "missing"},
        {CHAT, "{\"name\":\"deepseek-r1:7b\"}", 400, "missing"},
        {CHAT, "{\"model\":\"nosuch\"}", 404, "model 'nosuch' not found"},
        {CHAT, "{\"model\":\"deepsek-r1:7b\"}", 404, "did you mean deepseek-r1:7b?"},
        {"/api/chat", "{\"model\":\"deepseek-r1:8b\"}", 404,
         "{\"error\":\"model 'deepseek-r1:8b' not found; did you mean deepseek-r1:7b?"},
        {"/api/chat", "{\"model\":\"a\",\"name\":\"b\"}", 400, "not the same"},
        {"/api/chat", "{\"name\":\"\",\"model\":\"\"}", 400, "missing"},
        {"/api/chat", "{\"model\":\"Qwen/Qwen3-4B-GGUF:Q4_K_M\"}", 400, "/v1/chat/completions\"}"},
        {"/api/generate", "{\"model\":\"Qwen/Qwen3-4B-GGUF:Q4_K_M\"}", 400, "/v1/completions\"}"},
        {"/api/embed", "{\"model\":\"Qwen/Qwen3-4B-GGUF:Q4_K_M\"}", 400, "/v1/embeddings\"}"},
        {"/api/show", "{\"model\":\"nosuch\"}", 404, "{\"error\":\"model 'nosuch' not found"},
    };

    for (size_t i = 0; i < ELEMENTS(rows); i++) {
        _cleanup_free_ char *answer = post(rows[i].path, rows[i].body);

        cr_assert_eq(status_of(answer), rows[i].status, "%s %s\n---\n%s", rows[i].path, rows[i].body, answer);
        cr_assert(strstr(answer, rows[i].says), "no %s in %s", rows[i].says, answer);
        cr_assert_not(strstr(answer, "Connection: close"), "%s", answer);
    }
    cr_assert_eq(world.deepseek.begun + world.qwen.begun, 0);
}

Test(gateway, errors_have_the_shape_of_their_dialect)
{
    _cleanup_free_ char *openai = post(CHAT, "{\"model\":\"nosuch\"}"),
                        *ollama = post("/api/chat", "{\"model\":\"nosuch\"}");
    _cleanup_json_ struct json *a = json_of(openai), *b = json_of(ollama);
    const struct json *error = json_get(a, "error");

    cr_assert_eq(json_count(error), 4);
    cr_assert_str_eq(json_get_text(error, "type"), "not_found_error");
    cr_assert_str_eq(json_get_text(error, "code"), "model_not_found");
    cr_assert_eq(json_type(json_get(error, "param")), JSON_NULL);
    cr_assert(json_get(error, "param"));
    cr_assert_eq(json_type(json_get(b, "error")), JSON_STRING);
}

/* ---- lists ---- */

static void shown(struct deployment *d, const char *text)
{
    cr_assert_eq(json_parse(text, strlen(text), &d->shown), 0);
}

Test(gateway, the_root_says_that_ollama_is_running)
{
    _cleanup_free_ char *answer = get("/"), *head = ask("HEAD / HTTP/1.1\r\nHost: localhost\r\n\r\n");

    cr_assert_eq(status_of(answer), 200);
    cr_assert_str_eq(body_of(answer), "Ollama is running");
    cr_assert_eq(status_of(head), 200);
    cr_assert_str_eq(body_of(head), "");
    cr_assert(strstr(head, "Content-Length: 17\r\n"));
}

Test(gateway, v1_models_lists_all_awake_or_not)
{
    _cleanup_free_ char *answer = get("/v1/models");
    _cleanup_json_ struct json *list = json_of(answer);
    const struct json *data = json_get(list, "data");

    cr_assert_str_eq(json_get_text(list, "object"), "list");
    cr_assert_eq(json_count(data), 3);
    cr_assert_str_eq(json_get_text(json_at(data, 0), "id"), "deepseek-r1:7b");
    cr_assert_str_eq(json_get_text(json_at(data, 0), "object"), "model");
    cr_assert_str_eq(json_get_text(json_at(data, 0), "owned_by"), "library");
    cr_assert_gt(json_get_int(json_at(data, 0), "created", 0), 1500000000);
    cr_assert_str_eq(json_get_text(json_at(data, 1), "owned_by"), "llama.cpp");
    cr_assert_str_eq(json_get_text(json_at(data, 2), "id"), "nomic-embed-text:latest");
}

static void check_entry(const struct json *entry)
{
    cr_assert_str_eq(json_get_text(entry, "name"), json_get_text(entry, "model"));
    cr_assert_geq(strlen(json_get_text(entry, "digest")), 12);
    cr_assert_geq(json_get_int(entry, "size", -1), 0);
    cr_assert_eq(json_type(json_get(entry, "details")), JSON_OBJECT);
    cr_assert_eq(json_type(json_get(json_get(entry, "details"), "families")), JSON_ARRAY);
}

/* The world's manager has them as its own has. */
static void two_aliases(void)
{
    world.manager.aliases[0] = (struct alias){"r1", "ollama:deepseek-r1:7b"};
    world.manager.aliases[1] = (struct alias){"small", "llama.cpp:gone"};
}

Test(gateway, lists_have_aliases_of_what_is_known_behind_the_others)
{
    _cleanup_free_ char *models = NULL, *tags = NULL, *ps = NULL;

    two_aliases();
    models = get("/v1/models");
    tags = get("/api/tags");
    ps = get("/api/ps");
    _cleanup_json_ struct json *openai = json_of(models), *ollama = json_of(tags);
    const struct json *data = json_get(openai, "data"), *entries = json_get(ollama, "models");

    cr_assert_eq(json_count(data), 4);
    cr_assert_str_eq(json_get_text(json_at(data, 3), "id"), "r1");
    cr_assert_str_eq(json_get_text(json_at(data, 3), "owned_by"), "library");
    cr_assert_eq(json_count(entries), 3);
    check_entry(json_at(entries, 2));
    cr_assert_str_eq(json_get_text(json_at(entries, 2), "name"), "r1");
    cr_assert_str_eq(json_get_text(json_get(json_at(entries, 2), "details"), "parameter_size"), "7B");
    cr_assert_null(strstr(ps, "r1\""), "what is in memory is there once");
}

Test(gateway, an_alias_is_shown_and_one_of_a_forgotten_model_explained)
{
    static const struct asked rows[] = {
        {GET("/v1/models/r1"), 200, "\"id\":\"r1\""},
        {GET("/v1/models/r2"), 404, "did you mean r1?"},
        {GET("/v1/models/small"), 404,
         "it is short for llama.cpp:gone, which was forgotten; `llmhostctl up small`"},
    };
    _cleanup_free_ char *show = NULL;

    two_aliases();
    check_rows(rows, ELEMENTS(rows));
    show = post("/api/show", "{\"model\":\"r1\"}");
    cr_assert_eq(status_of(show), 200);
    cr_assert(strstr(show, "\"parameter_size\":\"7B\""), "%s", show);
}

Test(gateway, lists_are_arrays_when_there_is_nothing_to_list)
{
    _cleanup_free_ char *models = NULL, *tags = NULL, *ps = NULL;

    world.manager.n = 0;
    models = get("/v1/models");
    tags = get("/api/tags");
    ps = get("/api/ps");
    world.manager.n = 3;
    cr_assert_str_eq(body_of(models), "{\"object\":\"list\",\"data\":[]}");
    cr_assert_str_eq(body_of(tags), "{\"models\":[]}");
    cr_assert_str_eq(body_of(ps), "{\"models\":[]}");
}

Test(gateway, one_model_is_shown_by_its_id_escaped_or_not)
{
    static const struct asked rows[] = {
        {GET("/v1/models/deepseek-r1:7b"), 200, "\"id\":\"deepseek-r1:7b\""},
        {GET("/v1/models/deepseek-r1%3A7b"), 200, "\"id\":\"deepseek-r1:7b\""},
        {GET("/v1/models/Qwen/Qwen3-4B-GGUF:Q4_K_M"), 200, "\"id\":\"Qwen/"},
        {GET("/v1/models/Qwen%2fQwen3-4B-GGUF%3AQ4_K_M?x=1"), 200, "\"id\":\"Qwen/"},
        {GET("/v1/models/nosuch"), 404, "model_not_found"},
        {GET("/v1/models/a%"), 400, NULL},
        {GET("/v1/models/a%4"), 400, NULL},
        {GET("/v1/models/a%zz"), 400, NULL},
        {GET("/v1/models/a%00"), 400, NULL},
    };

    check_rows(rows, ELEMENTS(rows));
}

Test(gateway, api_tags_is_complete_before_the_first_load)
{
    _cleanup_free_ char *answer = get("/api/tags");
    _cleanup_json_ struct json *list = json_of(answer);
    const struct json *models = json_get(list, "models");

    cr_assert_eq(json_count(models), 2, "what speaks no Ollama cannot be asked by it");
    for (size_t i = 0; i < json_count(models); i++) {
        int64_t at_ms;

        check_entry(json_at(models, i));
        cr_assert_eq(rfc3339_parse(json_get_text(json_at(models, i), "modified_at"), &at_ms), 0);
    }
    cr_assert_str_eq(json_get_text(json_get(json_at(models, 0), "details"), "parameter_size"), "7B");
}

Test(gateway, api_tags_shows_what_the_engine_said_and_mends_it)
{
    _cleanup_free_ char *answer = NULL;
    _cleanup_json_ struct json *list = NULL;
    const struct json *entry;

    shown(&world.deepseek,
          "{\"tag\":{\"name\":\"x\",\"modified_at\":\"2026-11-20T20:57:55.377963588Z\",\"size\":475018,"
          "\"digest\":\"0db44091aabbccddeeff\",\"details\":{\"family\":\"qwen2\",\"families\":null}}}");
    shown(&world.embed, "{\"tag\":{\"digest\":\"0db4\",\"details\":7}}");
    answer = get("/api/tags");
    list = json_of(answer);
    entry = json_at(json_get(list, "models"), 0);
    check_entry(entry);
    cr_assert_str_eq(json_get_text(entry, "name"), "deepseek-r1:7b");
    cr_assert_str_eq(json_get_text(entry, "modified_at"), "2026-11-20T20:57:55.377963588Z");
    cr_assert_str_eq(json_get_text(entry, "digest"), "0db44091aabbccddeeff");
    cr_assert_eq(json_get_int(entry, "size", 0), 475018);
    cr_assert_str_eq(json_get_text(json_get(entry, "details"), "family"), "qwen2");
    check_entry(json_at(json_get(list, "models"), 1));
}

Test(gateway, api_ps_lists_what_is_loaded)
{
    _cleanup_free_ char *answer = NULL;
    _cleanup_json_ struct json *list = NULL;
    const struct json *entry;
    int64_t at_ms;

    world.deepseek.facts.size_bytes = 1000;
    world.deepseek.facts.size_vram_bytes = 900;
    world.deepseek.facts.context = 4096;
    answer = get("/api/ps");
    list = json_of(answer);
    cr_assert_eq(json_count(json_get(list, "models")), 1);
    entry = json_at(json_get(list, "models"), 0);
    check_entry(entry);
    cr_assert_eq(json_get_int(entry, "size", 0), 1000);
    cr_assert_eq(json_get_int(entry, "size_vram", 0), 900);
    cr_assert_eq(json_get_int(entry, "context_length", 0), 4096);
    cr_assert_eq(rfc3339_parse(json_get_text(entry, "expires_at"), &at_ms), 0);
    cr_assert_gt(at_ms, clock_wall_ms());
}

Test(gateway, api_version_is_the_engines)
{
    _cleanup_free_ char *ours = get("/api/version"), *engines = NULL;

    shown(&world.deepseek, "{\"version\":\"0.32.15\"}");
    engines = get("/api/version");
    cr_assert_str_eq(body_of(ours), "{\"version\":\"" LLMHOST_VERSION "\"}");
    cr_assert_str_eq(body_of(engines), "{\"version\":\"0.32.15\"}");
}

Test(gateway, api_show_never_wakes_anybody)
{
    _cleanup_free_ char *before = post("/api/show", "{\"name\":\"nomic-embed-text\",\"model\":\"\"}"),
                        *after = NULL;
    _cleanup_json_ struct json *minimal = json_of(before), *stored = NULL;

    cr_assert_eq(status_of(before), 200);
    cr_assert_eq(json_type(json_get(minimal, "model_info")), JSON_OBJECT);
    cr_assert_eq(json_type(json_get(minimal, "details")), JSON_OBJECT);
    cr_assert_str_eq(json_text(json_at(json_get(minimal, "capabilities"), 0)), "completion");
    shown(&world.embed,
          "{\"show\":{\"license\":\"MIT\",\"model_info\":{\"a.b\":1},\"capabilities\":[\"embedding\"],"
          "\"details\":{\"families\":[\"bert\"]}}}");
    after = post("/api/show", "{\"model\":\"nomic-embed-text:latest\",\"name\":\"nomic-embed-text:latest\"}");
    stored = json_of(after);
    cr_assert_eq(json_count(json_get(stored, "capabilities")), 1);
    cr_assert_str_eq(json_text(json_at(json_get(stored, "capabilities"), 0)), "embedding");
    cr_assert_str_eq(json_get_text(stored, "license"), "MIT");
    cr_assert_eq(world.embed.begun + world.embed.held_ever + world.embed.dialed, 0);
}

Test(gateway, health_is_ours)
{
    _cleanup_free_ char *answer = get("/health");

    cr_assert_eq(status_of(answer), 200);
    cr_assert_str_eq(body_of(answer), "{\"status\":\"ok\"}");
}

/* ---- connections ---- */

Test(gateway, requests_in_a_pipeline_are_answered_in_their_order)
{
    struct app *a = app_new();
    const char *got, *second;

    app_say(a, GET("/api/version") GET("/")
                   GET("/v1/models") "GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    cr_assert(LOOP_UNTIL(world.loop, app_is_over(a)));
    got = app_got(a);
    second = strstr(got, "Ollama is running");
    cr_assert(strstr(got, "\"version\"") && strstr(got, "\"version\"") < second);
    cr_assert(strstr(second, "\"object\":\"list\""));
    cr_assert(strstr(strstr(second, "\"object\":\"list\""), "\"status\":\"ok\""));
    cr_assert_not(a->reset);
    app_free(a);
}

Test(gateway, a_request_may_come_byte_by_byte)
{
    const char *text = "POST /api/show HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
                       "b\r\n{\"model\":\"n\r\n10\r\nomic-embed-text\"\r\n1\r\n}\r\n0\r\n\r\n";
    struct app *a = app_new();

    for (const char *p = text; *p; p++)
        app_say_n(a, p, 1);
    app_wants(a, "model_info");
    app_forget(a);
    app_say(a, GET("/"));
    app_wants(a, "Ollama is running");
    app_free(a);
}

Test(gateway, http_1_0_is_served_and_closed)
{
    struct app *a = app_new();

    app_say(a, "GET /v1/models HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
    cr_assert(LOOP_UNTIL(world.loop, app_is_over(a)));
    cr_assert(strstr(app_got(a), "HTTP/1.1 200 OK\r\n"));
    cr_assert(strstr(app_got(a), "Connection: close\r\n"));
    cr_assert(strstr(app_got(a), "\"object\":\"list\""));
    app_free(a);
}

Test(gateway, expect_is_answered_before_the_body_comes)
{
    struct app *a = app_new();

    app_say(
        a,
        "POST /api/show HTTP/1.1\r\nHost: localhost\r\nContent-Length: 27\r\nExpect: 100-continue\r\n\r\n");
    app_wants(a, "HTTP/1.1 100 Continue\r\n\r\n");
    app_forget(a);
    app_say(a, "{\"model\": \"deepseek-r1:7b\"}");
    app_wants(a, "HTTP/1.1 200 OK\r\n");
    app_free(a);
}

Test(gateway, a_refused_expectation_gets_no_go_ahead)
{
    _cleanup_free_ char *answer = ask("POST /api/create HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n"
                                      "Expect: 100-continue\r\n\r\n");

    cr_assert_eq(status_of(answer), 403);
    cr_assert(strstr(answer, "Connection: close"));
}

Test(gateway, a_head_that_does_not_come_is_not_waited_for)
{
    struct app *silent = app_new(), *slow = app_new(), *idle = app_new();

    app_say(slow, "GET / HTTP/1.1\r\n");
    app_say(idle, GET("/"));
    app_wants(idle, "running");
    loop_advance(world.loop, 20000);
    app_say(slow, "Host: loc");
    loop_advance(world.loop, 9000);
    cr_assert_not(app_is_over(slow));
    loop_advance(world.loop, 2000);
    cr_assert(LOOP_UNTIL(world.loop, app_is_over(slow) && app_is_over(silent)));
    cr_assert_not(app_is_over(idle));
    loop_advance(world.loop, 180000);
    cr_assert(LOOP_UNTIL(world.loop, app_is_over(idle)));
    app_free(silent);
    app_free(slow);
    app_free(idle);
}

Test(gateway, a_body_that_stands_still_is_not_waited_for)
{
    static char piece[CLIENT_BODY_MIN];
    struct app *a = app_new();

    memset(piece, ' ', sizeof(piece));
    app_say(a, POST("Content-Length: 1000000\r\n\r\n{"));
    loop_turns(world.loop, 5);
    for (int i = 0; i < 4; i++) {
        loop_advance(world.loop, 50000);
        app_say_n(a, piece, sizeof(piece));
        loop_turns(world.loop, 5);
        cr_assert_not(app_is_over(a), "slow, and it gets there");
    }
    loop_advance(world.loop, 61000);
    cr_assert(LOOP_UNTIL(world.loop, app_is_over(a)));
    app_free(a);
}

Test(gateway, a_body_that_trickles_is_not_waited_for)
{
    struct app *a = app_new();
    unsigned seconds = 0;

    app_say(a, POST("Content-Length: 1000000\r\n\r\n{"));
    loop_turns(world.loop, 5);
    while (!app_is_over(a) && seconds < 600) {
        loop_advance(world.loop, 2000);
        seconds += 2;
        app_say(a, " ");
        loop_turns(world.loop, 5);
    }
    cr_assert_leq(seconds, 64u, "%u s", seconds);
    cr_assert_geq(seconds, 58u, "%u s", seconds);
    app_free(a);
}

/* Connected, and known to the gateway. */
static struct app *app_there(void)
{
    uint64_t before = world.gateway->figures.connections;
    struct app *a = app_new();

    cr_assert(LOOP_UNTIL(world.loop, world.gateway->figures.connections > before));
    return a;
}

static struct app *app_half(void)
{
    struct app *a = app_there();

    cr_assert(app_say(a, "GET / HTTP/1.1\r\n"));
    loop_turns(world.loop, 3);
    return a;
}

Test(gateway, a_full_house_closes_who_had_no_answer_for_longest)
{
    struct app *regular = app_there(), *half = app_half(), *silent = app_there(), *late, *later;

    world.gateway->clients_max = 4;
    app_say(regular, GET("/"));
    app_wants(regular, "running");
    late = app_there();
    cr_assert(LOOP_UNTIL(world.loop, app_is_over(half)), "half a head is no request");
    cr_assert_not(app_is_over(silent));
    app_say(late, GET("/"));
    app_wants(late, "running");
    later = app_there();
    cr_assert(LOOP_UNTIL(world.loop, app_is_over(silent)));
    cr_assert_not(app_is_over(regular), "it had an answer after they came");
    cr_assert_not(app_is_over(late));
    app_free(later);
    app_free(late);
    app_free(silent);
    app_free(half);
    app_free(regular);
}

Test(gateway, a_full_house_of_those_who_are_served_lets_nobody_in_until_one_leaves)
{
    struct app *busy[4], *late;

    world.gateway->clients_max = 4;
    for (int i = 0; i < 4; i++) {
        busy[i] = app_new();
        app_say(busy[i], "POST /api/chat HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\n{");
        loop_turns(world.loop, 3);
    }
    cr_assert(LOOP_UNTIL(world.loop, world.gateway->is_full));
    late = app_new();
    app_say(late, GET("/"));
    loop_turns(world.loop, 20);
    cr_assert_lt(world.gateway->figures.open, 5);
    app_leave(busy[0]);
    app_wants(late, "running");
    for (int i = 0; i < 4; i++)
        app_free(busy[i]);
    app_free(late);
}

Test(gateway, figures_count)
{
    struct gateway_figures f;
    _cleanup_free_ char *one = get("/"), *two = get("/nothing");

    loop_turns(world.loop, 5);
    gateway_figures(world.gateway, &f);
    cr_assert_eq(f.connections, 2);
    cr_assert_eq(f.requests, 2);
    cr_assert_eq(f.refused, 1);
    cr_assert_eq(f.open, 0);
}

static uint64_t looks_at(const char *what)
{
    const char *name;
    uint64_t count;

    for (unsigned i = 0; (name = gateway_look_at(world.gateway, i, &count)); i++)
        if (strcmp(name, what) == 0)
            return count;
    cr_assert_fail("%s is not counted", what);
    return 0;
}

Test(gateway, what_only_looks_is_counted_by_its_path)
{
    _cleanup_free_ char *one = get("/api/tags"), *two = get("/api/tags?x=1"), *three = get("/v1/models"),
                        *four = get("/health"), *none = get("/api/create");

    cr_assert_eq(looks_at("GET /api/tags"), 2);
    cr_assert_eq(looks_at("GET /v1/models"), 1);
    cr_assert_eq(looks_at("GET /health"), 1);
    cr_assert_eq(looks_at("GET /"), 0);
    cr_assert_eq(looks_at("POST /api/show"), 0);
}
