/* Who has a key, what is kept of it, and what a request without one gets.
 * links: gateway */
#include "gateway/keys.h"


#include "base/clock.h"
#include "gateway/gateway_private.h"
#include "gateway/http1.h"
#include "tests/unit/request_world.h"

/* ---- the list ---- */

static struct keys *keys;

static void keys_setup(void)
{
    struct fault f = {0};

    cr_assert_eq(keys_new(NULL, &keys, &f), 0);
}

static void keys_teardown(void)
{
    keys = keys_free(keys);
}

TestSuite(keys, .init = keys_setup, .fini = keys_teardown);

static char *make(struct keys *k, const char *name)
{
    store_ticket t;
    char *text = NULL;

    cr_assert_eq(keys_make(k, name, &text, &t), 0, "%s", name);
    return text;
}

/* Whose is what stands in these fields? */
static const char *find(const char *name, const char *value)
{
    struct http1_field field = {name, value};

    return keys_find(keys, &(struct http1_head){.fields = &field, .n_fields = 1});
}

Test(keys, one_that_was_made_opens_and_any_other_does_not)
{
    _cleanup_free_ char *web = make(keys, "web"), *phone = make(keys, "phone"),
                        *longer = xasprintf("%sx", web), *bearer = xasprintf("Bearer %s", web),
                        *small = xasprintf("bearer  %s", phone), *basic = xasprintf("Basic %s", web);

    cr_assert_str_neq(web, phone);
    cr_assert_geq(strlen(web), 43, "256 bits: %s", web);
    cr_assert_str_eq(find("Authorization", bearer), "web");
    cr_assert_str_eq(find("authorization", small), "phone");
    cr_assert_str_eq(find("X-Api-Key", web), "web");
    cr_assert_str_eq(find("api-key", phone), "phone");
    cr_assert_null(find("Authorization", web), "without its scheme");
    cr_assert_null(find("Authorization", basic));
    cr_assert_null(find("X-Api-Key", longer));
    web[strlen(web) - 1] ^= 1;
    cr_assert_null(find("X-Api-Key", web));
    cr_assert_null(find("X-Api-Key", ""));
    cr_assert_null(find("Cookie", phone));
}

Test(keys, a_name_is_had_by_one_and_must_be_one)
{
    static const char *const bad[] = {"", "a b", "a:b", "-x", "ä", "abcdefghijklmnopqrstuvwxyz0123456"};
    _cleanup_free_ char *web = make(keys, "web"), *text = NULL;
    store_ticket t;

    cr_assert_eq(keys_make(keys, "web", &text, &t), -EEXIST);
    for (size_t i = 0; i < ELEMENTS(bad); i++)
        cr_assert_eq(keys_make(keys, bad[i], &text, &t), -EINVAL, "%s", bad[i]);
    cr_assert_null(text);
}

Test(keys, one_that_was_removed_opens_nothing_and_the_others_go_on)
{
    _cleanup_free_ char *a = make(keys, "a"), *b = make(keys, "b"), *c = make(keys, "c");
    store_ticket t;

    cr_assert_eq(keys_remove(keys, "b", &t), 0);
    cr_assert_eq(keys_remove(keys, "b", &t), -ENOENT);
    cr_assert_null(find("X-Api-Key", b));
    cr_assert_str_eq(find("X-Api-Key", a), "a");
    cr_assert_str_eq(find("X-Api-Key", c), "c");
    cr_assert_str_eq(keys_at(keys, 1)->name, "c");
    cr_assert_null(keys_at(keys, 2));
}

/* ---- on disk ---- */

Test(keys_kept, a_restart_leaves_the_hash_and_nothing_else)
{
    char directory[] = "/tmp/test-keys-XXXXXX";
    struct loop *loop = loop_new();
    struct store *store;
    struct fault f = {0};

    cr_assert_not_null(mkdtemp(directory));
    cr_assert_eq(store_open(loop, directory, &store, &f), 0, "%s", f.text);
    cr_assert_eq(keys_new(store, &keys, &f), 0);

    _cleanup_free_ char *web = make(keys, "web"), *gone = make(keys, "gone"),
                        *remove = xasprintf("rm -r %s", directory),
                        *search = xasprintf("grep -rqaF '%s' %s", web + strlen("llmhost-"), directory);
    store_ticket t;

    cr_assert_eq(keys_remove(keys, "gone", &t), 0);
    keys_free(keys);
    store_close(store);
    cr_assert_neq(system(search), 0, "the key itself is in the database");
    cr_assert_eq(store_open(loop, directory, &store, &f), 0, "%s", f.text);
    cr_assert_eq(keys_new(store, &keys, &f), 0);
    cr_assert_str_eq(find("X-Api-Key", web), "web");
    cr_assert_null(find("X-Api-Key", gone));
    keys = keys_free(keys);
    store_close(store);
    loop_free_dry(loop);
    cr_assert_eq(system(remove), 0);
}

/* ---- the door ---- */

static void world_open_wide(void)
{
    world_open_with("[gateway]\nlisten=0.0.0.0:0\nallow_origin=https://chat.example\n");
}

TestSuite(keys_needed, .init = world_open_wide, .fini = world_close);
TestSuite(keys_optional, .init = world_open, .fini = world_close);

static char *ask_with(const char *line, const char *fields)
{
    _cleanup_free_ char *text = xasprintf("%s HTTP/1.1\r\nHost: localhost\r\n%s\r\n", line, fields);

    return ask(text);
}

Test(keys_needed, nothing_is_answered_without_one_not_even_a_list)
{
    static const char *const lines[] = {"GET /v1/models", "GET /api/tags",   "GET /metrics",
                                        "GET /health",    "HEAD /",          "POST /api/chat",
                                        "GET /nowhere",   "GET /api/version"};
    static const char *const fields[] = {"", "Authorization: Bearer sk-anything\r\n", "X-Api-Key: \r\n"};

    for (size_t i = 0; i < ELEMENTS(lines); i++) {
        for (size_t k = 0; k < ELEMENTS(fields); k++) {
            _cleanup_free_ char *answer = ask_with(lines[i], fields[k]);

            cr_assert_eq(status_of(answer), 401, "%s, %s: %s", lines[i], fields[k], answer);
            cr_assert(strstr(answer, "\r\nWWW-Authenticate: Bearer\r\n"), "%s", answer);
            cr_assert_not(strstr(answer, "sk-anything"));
        }
    }
}

Test(keys_needed, the_refusal_speaks_the_callers_dialect)
{
    _cleanup_free_ char *openai = ask_with("GET /v1/models", ""), *ollama = ask_with("GET /api/tags", "");
    _cleanup_json_ struct json *a = json_of(openai), *b = json_of(ollama);

    cr_assert_str_eq(json_get_text(json_get(a, "error"), "code"), "invalid_api_key");
    cr_assert_str_eq(json_get_text(json_get(a, "error"), "type"), "invalid_request_error");
    cr_assert(strstr(json_get_text(b, "error"), "llmhostctl key add NAME"));
}

Test(keys_needed, who_has_one_is_served_and_counted_by_its_name)
{
    _cleanup_free_ char *key = make(gateway_keys(world.gateway), "web"), *list = NULL, *metrics = NULL,
                        *text = NULL, *field = xasprintf("Authorization: Bearer %s\r\n", key);
    struct app *a = app_new();

    list = ask_with("GET /v1/models", field);
    cr_assert_eq(status_of(list), 200, "%s", list);
    text = xasprintf("POST " CHAT " HTTP/1.1\r\nHost: 127.0.0.1\r\nUser-Agent: curl/8\r\n%sContent-Length: "
                     "%zu\r\n\r\n" MODEL,
                     field, strlen(MODEL));
    cr_assert(app_say(a, text));
    cr_assert_not(strstr(engine_gets(0, MODEL), key), "the engine is told of no key");
    link_say(0, OK);
    app_wants(a, "\r\n\r\nok");
    metrics = ask_with("GET /metrics", field);
    cr_assert(strstr(metrics, "llmhost_requests_total{model=\"ollama:deepseek-r1:7b\",client=\"web\"} 1\n"),
              "%s", metrics);
    cr_assert_not(strstr(metrics, key));
    app_free(a);
}

Test(keys_needed, a_body_is_not_waited_for_without_one)
{
    struct app *a = app_new();

    cr_assert(app_say(a, "POST " CHAT " HTTP/1.1\r\nHost: localhost\r\nExpect: 100-continue\r\n"
                         "Content-Length: 60000000\r\n\r\n"));
    app_wants(a, "HTTP/1.1 401 ");
    cr_assert_not(app_has(a, "100 Continue"));
    cr_assert(LOOP_UNTIL(world.loop, app_is_over(a)));
    app_free(a);
}

Test(keys_needed, a_listed_page_may_ask_whether_it_may_ask)
{
    _cleanup_free_ char *answer = ask_with("OPTIONS /v1/chat/completions",
                                           "Origin: https://chat.example\r\nAccess-Control-Request-Method: "
                                           "POST\r\n");

    cr_assert_eq(status_of(answer), 204, "%s", answer);
}

Test(keys_needed, the_rules_of_host_and_origin_hold_all_the_same)
{
    _cleanup_free_ char *key = make(gateway_keys(world.gateway), "web");
    _cleanup_free_ char *host =
        xasprintf("GET /v1/models HTTP/1.1\r\nHost: evil.example\r\nX-Api-Key: %s\r\n\r\n", key);
    _cleanup_free_ char *origin =
        xasprintf("GET /v1/models HTTP/1.1\r\nHost: localhost\r\nOrigin: https://evil.example\r\n"
                  "X-Api-Key: %s\r\n\r\n",
                  key);
    _cleanup_free_ char *a = ask(host), *b = ask(origin);

    cr_assert_eq(status_of(a), 403, "%s", a);
    cr_assert_eq(status_of(b), 403, "%s", b);
}

Test(keys_optional, on_loopback_anything_goes_and_a_known_one_tells_who_asks)
{
    _cleanup_free_ char *key = make(gateway_keys(world.gateway), "web"),
                        *without = ask_with("GET /v1/models", ""),
                        *other = ask_with("GET /v1/models", "Authorization: Bearer ollama\r\n");
    _cleanup_free_ char *field = xasprintf("Api-Key: %s\r\n", key), *with = ask_with("GET /v1/models", field);

    cr_assert_eq(status_of(without), 200, "%s", without);
    cr_assert_eq(status_of(other), 200, "%s", other);
    cr_assert_eq(status_of(with), 200, "%s", with);
}
