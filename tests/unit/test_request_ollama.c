/* links: gateway
 *
 * What the gateway answers of ollama's own ways instead of passing it on, or before it does. */
#include "tests/unit/request_world.h"

TestSuite(request_ollama, .init = world_open, .fini = world_close);

Test(request_ollama, stop_of_a_model_that_is_off_is_answered_without_waking_it)
{
    static const struct {
        const char *path, *body;
        const char *says;
    } rows[] = {
        {"/api/generate", "{\"model\":\"nomic-embed-text\",\"prompt\":\"\",\"keep_alive\":\"0s\"}",
         "\"response\":\"\""},
        {"/api/generate", "{\"model\":\"nomic-embed-text\",\"keep_alive\":0}", "\"response\":\"\""},
        {"/api/generate", "{\"model\":\"nomic-embed-text\",\"keep_alive\":\"0m0s\",\"prompt\":null}",
         "\"response\":\"\""},
        {"/api/chat", "{\"model\":\"nomic-embed-text\",\"messages\":[],\"keep_alive\":0}",
         "\"message\":{\"role\":\"assistant\",\"content\":\"\"}"},
    };

    for (size_t i = 0; i < ELEMENTS(rows); i++) {
        _cleanup_free_ char *answer = post(rows[i].path, rows[i].body);

        cr_assert_eq(status_of(answer), 200);
        cr_assert(strstr(answer, "\"done\":true,\"done_reason\":\"unload\""), "%s", answer);
        cr_assert(strstr(answer, rows[i].says), "%s", answer);
        cr_assert(strstr(answer, "\"model\":\"nomic-embed-text\""));
    }
    cr_assert_eq(world.embed.begun + world.embed.held_ever, 0);
}

Test(request_ollama, stop_of_a_loaded_model_puts_it_to_sleep)
{
    _cleanup_free_ char *answer =
        post("/api/generate", "{\"model\":\"deepseek-r1:7b\",\"prompt\":\"\",\"keep_alive\":\"0s\"}");

    cr_assert(strstr(answer, "\"done\":true,\"done_reason\":\"unload\""), "%s", answer);
    cr_assert_eq((int)world.deepseek.state, DEPLOYMENT_ASLEEP);
    cr_assert_eq(world.deepseek.begun + world.deepseek.held_ever, 0);
}

Test(request_ollama, everything_else_with_keep_alive_goes_to_the_engine)
{
    static const char *const bodies[] = {
        "{\"model\":\"deepseek-r1:7b\",\"prompt\":\"x\",\"keep_alive\":0}",
        "{\"model\":\"deepseek-r1:7b\",\"prompt\":\"\",\"keep_alive\":0.5}",
        "{\"model\":\"deepseek-r1:7b\",\"prompt\":\"\",\"keep_alive\":\"10m\"}",
        "{\"model\":\"deepseek-r1:7b\",\"prompt\":\"\"}",
    };
    struct app *a = app_new();

    for (size_t i = 0; i < ELEMENTS(bodies); i++) {
        app_post(a, "/api/generate", bodies[i]);
        engine_gets(0, bodies[i]);
        link_say(0, OK);
        app_wants(a, "\r\n\r\nok");
        app_forget(a);
    }
    cr_assert_eq(world.deepseek.begun, (int)ELEMENTS(bodies));
    app_free(a);
}

Test(request_ollama, a_pull_of_a_known_model_waits_until_it_is_ready)
{
    struct app *a = app_new();
    bool whole;
    char *got;

    world.deepseek.state = DEPLOYMENT_FETCHING;
    app_post(a, "/api/pull",
             "{\"model\":\"\",\"username\":\"\",\"password\":\"\",\"name\":\"deepseek-r1:7b\"}");
    cr_assert(LOOP_UNTIL(world.loop, world.deepseek.held == 1));
    world_tell(&world.deepseek);
    app_wants(a, "{\"status\":\"llmhost fetching\"}\n");
    world_state(&world.deepseek, DEPLOYMENT_LOADING);
    app_wants(a, "{\"status\":\"llmhost loading\"}\n");
    world_state(&world.deepseek, DEPLOYMENT_READY);
    app_wants(a, "0\r\n\r\n");
    got = unchunked(app_got(a), &whole);
    cr_assert(whole);
    cr_assert(strstr(got, "{\"status\":\"success\"}\n"));
    cr_assert_eq(strlen(strstr(got, "{\"status\":\"success\"}\n")), 21);
    cr_assert(app_has(a, "Content-Type: application/x-ndjson\r\n"));
    cr_assert(app_has(a, "X-Accel-Buffering: no\r\n"));
    free(got);
    app_free(a);
}

/* Its program draws a bar for each digest, and panics on one that is short. */
Test(request_ollama, a_pull_tells_of_bytes_as_ollama_does)
{
    struct app *a = app_new();

    world.deepseek.state = DEPLOYMENT_FETCHING;
    app_post(a, "/api/pull", MODEL);
    cr_assert(LOOP_UNTIL(world.loop, world.deepseek.held == 1));
    world_tell(&world.deepseek);
    app_wants(a, "{\"status\":\"llmhost fetching\"}\n");
    world.deepseek.fetch =
        (struct stage_view){.state = STAGE_RUNNING, .bytes = 10, .bytes_total = -1, .changes = 1};
    world_tell(&world.deepseek);
    world.deepseek.fetch =
        (struct stage_view){.state = STAGE_RUNNING, .bytes = 10, .bytes_total = 40, .changes = 2};
    world_tell(&world.deepseek);
    world_tell(&world.deepseek);
    app_wants(a, "{\"status\":\"pulling "
                 "deepseek-r1:7b\",\"digest\":\"sha256:00000000000000000000000000000000000000000000"
                 "00000000000000000000\",\"total\":40,\"completed\":10}\n");
    cr_assert_not(strstr(strstr(app_got(a), "completed") + 1, "completed"), "said once");
    world.deepseek.fetch.state = STAGE_DONE;
    world_state(&world.deepseek, DEPLOYMENT_READY);
    app_wants(a, "{\"status\":\"success\"}\n");
    app_free(a);
}

Test(request_ollama, a_pull_that_fails_late_ends_with_an_error_line)
{
    struct app *a = app_new();

    world.deepseek.state = DEPLOYMENT_FETCHING;
    app_post(a, "/api/pull", MODEL);
    cr_assert(LOOP_UNTIL(world.loop, world.deepseek.held == 1));
    world_tell(&world.deepseek);
    app_wants(a, "fetching");
    fault_code(&world.deepseek.hold_fault, FAULT_EXHAUSTED, "disk_full", "4 GB are missing");
    world_settle(&world.deepseek);
    app_wants(a, "{\"error\":\"deepseek-r1:7b: 4 GB are missing\"}\n");
    app_wants(a, "0\r\n\r\n");
    app_free(a);
}

Test(request_ollama, a_pull_that_does_not_stream_gets_one_document)
{
    _cleanup_free_ char *answer = post("/api/pull", "{\"model\":\"deepseek-r1:7b\",\"stream\":false}");

    cr_assert_eq(status_of(answer), 200);
    cr_assert_str_eq(body_of(answer), "{\"status\":\"success\"}\n");
}

Test(request_ollama, a_pull_of_a_model_that_is_off_is_an_up)
{
    struct app *a = app_new();

    world.deepseek.state = DEPLOYMENT_OFF;
    world.deepseek.goal = GOAL_OFF;
    app_post(a, "/api/pull", MODEL);
    cr_assert(LOOP_UNTIL(world.loop, world.deepseek.held == 1));
    cr_assert_eq(world.deepseek.goal, GOAL_ON_DEMAND);
    world_state(&world.deepseek, DEPLOYMENT_READY);
    app_wants(a, "{\"status\":\"success\"}\n");
    app_free(a);
}

/* It is the daemon that answers it: the engine need not speak that dialect. */
Test(request_ollama, a_pull_of_a_model_of_another_engine_is_an_up_too)
{
    _cleanup_free_ char *answer =
        post("/api/pull", "{\"model\":\"Qwen/Qwen3-4B-GGUF:Q4_K_M\",\"stream\":false}");

    cr_assert_eq(status_of(answer), 200);
    cr_assert_str_eq(body_of(answer), "{\"status\":\"success\"}\n");
}

Test(request_ollama, a_pull_of_an_unknown_model_rents_nothing)
{
    _cleanup_free_ char *lines = post("/api/pull", "{\"name\":\"deepseek-r1:14b\",\"model\":\"\"}"),
                        *one = NULL;
    const char *body = body_of(lines);

    cr_assert_eq(status_of(lines), 200);
    cr_assert_eq(strncmp(body, "{\"error\":\"", 10), 0);
    cr_assert_eq(strchr(body, '\n'), body + strlen(body) - 1, "one line");
    cr_assert(strstr(body, "deepseek-r1:7b"));
    cr_assert(strstr(body, "llmhostctl up ollama:deepseek-r1:14b"));
    one = post("/api/pull", "{\"model\":\"x; rm -rf /\",\"stream\":false}");
    cr_assert_eq(status_of(one), 404);
    cr_assert_not(strstr(one, "llmhostctl up"));
}
