/* What of a request is counted, who asked, and what Prometheus reads of it.
 * links: gateway */
#include "gateway/counts.h"
#include "gateway/http1.h"
#include "gateway/route.h"

#include "tests/unit/request_world.h"

TestSuite(metrics, .init = world_open, .fini = world_close);

static void app_post_as(struct app *a, const char *path, const char *agent)
{
    _cleanup_free_ char *text = xasprintf("POST %s HTTP/1.1\r\nHost: localhost\r\nUser-Agent: %s\r\n"
                                          "Content-Length: %zu\r\n\r\n%s",
                                          path, agent, strlen(MODEL), MODEL);

    cr_assert(app_say(a, text));
}

static void wants_line(const char *text, const char *line)
{
    _cleanup_free_ char *whole = xasprintf("\n%s\n", line);

    cr_assert(strstr(text, whole), "no %s in:\n%s", line, text);
}

#define NAMES "{model=\"ollama:deepseek-r1:7b\",client=\"ollama-python\"}"

Test(metrics, a_streamed_answer_is_counted_with_its_tokens)
{
    struct app *a = app_new();
    _cleanup_free_ char *text = NULL;

    app_post_as(a, "/api/chat", "ollama-python/0.6.3 (x86_64 linux) Python/3.11");
    engine_gets(0, MODEL);
    link_say(0, LINES_HEAD "f\r\n{\"done\":false}\n\r\n"
                           "23\r\n{\"done\":true,\"prompt_eval_count\":26\r\n"
                           "13\r\n,\"eval_count\":298}\n\r\n0\r\n\r\n");
    app_wants(a, "0\r\n\r\n");
    text = get("/metrics");
    cr_assert_eq(status_of(text), 200);
    cr_assert(strstr(text, "Content-Type: text/plain; version=0.0.4; charset=utf-8\r\n"));
    wants_line(text, "# TYPE llmhost_requests_total counter");
    wants_line(text, "llmhost_requests_total" NAMES " 1");
    wants_line(text, "llmhost_request_errors_total" NAMES " 0");
    wants_line(text, "llmhost_prompt_tokens_total" NAMES " 26");
    wants_line(text, "llmhost_answer_tokens_total" NAMES " 298");
    wants_line(text, "llmhost_request_bytes_total" NAMES " 26");
    wants_line(text, "llmhost_answer_bytes_total" NAMES " 69");
    wants_line(text, "# TYPE llmhost_first_token_seconds histogram");
    cr_assert(strstr(text, "llmhost_first_token_seconds_bucket{model=\"ollama:deepseek-r1:7b\",client="
                           "\"ollama-python\",le=\"+Inf\"} 1\n"));
    cr_assert(strstr(text, "le=\"0.25\"} "));
    wants_line(text, "llmhost_request_seconds_count" NAMES " 1");
    wants_line(text, "llmhost_model_ready{model=\"ollama:deepseek-r1:7b\"} 1");
    wants_line(text, "llmhost_model_ready{model=\"ollama:nomic-embed-text:latest\"} 0");
    app_free(a);
}

Test(metrics, an_answer_that_breaks_off_is_an_error_and_one_who_leaves_is_none)
{
    struct app *a = app_new(), *b = app_new();
    struct count n;

    app_post(a, CHAT, MODEL);
    engine_gets(0, MODEL);
    link_say(0, STREAM_HEAD "9\r\ndata: {}\n\r\n");
    app_wants(a, "data: {}");
    link_break(0);
    app_wants(a, "0\r\n\r\n");
    gateway_counts_of(world.gateway, "ollama:deepseek-r1:7b", &n);
    cr_assert_eq(n.requests, 1);
    cr_assert_eq(n.errors, 1);
    app_post(b, CHAT, MODEL);
    engine_gets(1, MODEL);
    app_leave(b);
    cr_assert(LOOP_UNTIL(world.loop, ({
                             gateway_counts_of(world.gateway, "ollama:deepseek-r1:7b", &n);
                             n.requests == 2;
                         })));
    cr_assert_eq(n.errors, 1);
    app_free(a);
    app_free(b);
}

Test(metrics, reading_them_is_no_use_of_a_model_and_follows_the_rules_of_the_door)
{
    static const struct {
        const char *text;
        unsigned status;
    } rows[] = {
        {"GET /metrics HTTP/1.1\r\nHost: evil.example\r\n\r\n", 403},
        {"GET /metrics HTTP/1.1\r\nHost: localhost\r\nOrigin: https://evil.example\r\n\r\n", 403},
        {"POST /metrics HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n", 405},
        {"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n", 200},
    };

    for (size_t i = 0; i < ELEMENTS(rows); i++) {
        _cleanup_free_ char *answer = ask(rows[i].text);

        cr_assert_eq(status_of(answer), rows[i].status, "%s", answer);
    }
    for (unsigned i = 0; i < world.manager.n; i++)
        cr_assert_eq(world.manager.at[i]->begun, 0);
}

Test(metrics, names_are_escaped)
{
    _cleanup_free_ char *text = NULL;

    world.deepseek.name = "ollama:a\"b\\c\nd";
    text = get("/metrics");
    cr_assert(strstr(text, "llmhost_model_ready{model=\"ollama:a\\\"b\\\\c\\nd\"} 1\n"), "%s", text);
}

Test(metrics, a_model_that_is_forgotten_leaves_its_counts_behind)
{
    struct app *a = sent_on_fresh(CHAT);
    struct count n;

    link_say(0, OK);
    app_wants(a, "\r\n\r\nok");
    gateway_counts_of(world.gateway, "ollama:deepseek-r1:7b", &n);
    cr_assert_eq(n.requests, 1);
    world.manager.listener->deployment(world.manager.listener->ctx, &world.deepseek, true);
    gateway_counts_of(world.gateway, "ollama:deepseek-r1:7b", &n);
    cr_assert_eq(n.requests, 0);
    app_free(a);
}

struct agent {
    const char *agent, *client;
};

Test(metrics, clients_are_known_by_their_programs_name)
{
    static const struct agent rows[] = {
        {"curl/7.88.1", "curl"},
        {"OpenAI/Python 2.54.0", "openai/python"},
        {"ollama/0.11.4 (amd64 linux) Go/go1.24.0", "ollama"},
        {"Python/3.11 aiohttp/3.9", "python"},
        {"Mozilla/5.0 (X11; Linux x86_64)", "mozilla"},
        {"a\"b", "a"},
        {"\xc3\xa4", "local"},
        {"", "local"},
        {"0123456789012345678901234567890123456789", "01234567890123456789012345678901"},
    };

    for (size_t i = 0; i < ELEMENTS(rows); i++) {
        struct http1_field field = {"User-Agent", rows[i].agent};
        struct http1_head head = {.fields = &field, .n_fields = 1};
        char client[ROUTE_CLIENT_MAX];

        route_take_client(&head, client);
        cr_assert_str_eq(client, rows[i].client);
    }
}
