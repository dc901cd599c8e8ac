/* links: control
 *
 * Up and Down beside the road itself: what they tell, and what is known afterwards. */
#include <fcntl.h>
#include <time.h>

#include "deployment/deployment_private.h"
#include "tests/unit/control_world.h"

TestSuite(control_model, .init = world_begin, .fini = world_end, .timeout = 60);

/* There is no ollama here, so it fails at once. */
static struct deployment *add_failed_model(const char *name)
{
    _cleanup_free_ char *parameters = xasprintf("{\"model\":\"%s\",\"wait\":false}", name);
    struct deployment *d;

    json_free(answers("Up", parameters));
    d = manager_find_deployment(w.manager, name);
    cr_assert(LOOP_UNTIL(w.loop, deployment_state(d) == DEPLOYMENT_FAILED));
    return d;
}

static void add_local(void)
{
    json_free(answers("InstanceAdd", "{\"name\":\"here\",\"provider\":\"local\"}"));
}

static size_t count_models(void)
{
    _cleanup_json_ struct json *v = answers("Status", "{}");

    return json_count(json_get(v, "models"));
}

static void daemon_starts_anew(void)
{
    caller_leaves(&w.caller);
    daemon_ends();
    loop_turns(w.loop, 5);
    daemon_begins();
    caller_comes(&w.caller);
}

Test(control_model, a_model_that_is_off_is_known_until_it_is_forgotten)
{
    add_local();
    add_failed_model("ollama:tinny");
    json_free(answers("Down", "{\"target\":\"ollama:tinny\"}"));
    cr_assert_eq(count_models(), 1);
    _cleanup_json_ struct json *v = answers("Down", "{\"target\":\"ollama:tinny\",\"forget\":true}");

    cr_assert(json_get_bool(v, "done", false));
    cr_assert_null(json_get(v, "model"), "it is no more");
    cr_assert_eq(count_models(), 0);
    refuses("{\"method\":\"io.llmhost.Down\",\"parameters\":{\"target\":\"ollama:tinny\",\"forget\":true}}", "io.llmhost.NotFound", "code",
            "not_found");
    daemon_starts_anew();
    cr_assert_eq(count_models(), 0, "nor does the disk know it");
}

static void assert_arguments(const char *expected)
{
    _cleanup_json_ struct json *v = answers("Status", "{\"targets\":[\"llama.cpp:/nowhere.gguf\"]}");
    const struct json *arguments = json_get(json_at(json_get(v, "models"), 0), "arguments");
    struct buf text;

    buf_init(&text, 4096);
    if (arguments)
        json_write(arguments, &text);
    cr_assert_str_eq(buf_text(&text), expected);
    buf_done(&text);
}

static void up_with(const char *arguments)
{
    _cleanup_free_ char *parameters = xasprintf("{\"model\":\"llama.cpp:/nowhere.gguf\",\"wait\":false%s%s}",
                                                *arguments ? ",\"arguments\":" : "", arguments);

    json_free(answers("Up", parameters));
}

Test(control_model, arguments_stay_with_the_model_until_others_come)
{
    add_local();
    up_with("[\"-c\",\"4096\"]");
    assert_arguments("[\"-c\",\"4096\"]");
    up_with("");
    assert_arguments("[\"-c\",\"4096\"]");
    json_free(answers("Down", "{\"target\":\"llama.cpp:*\"}"));
    daemon_starts_anew();
    assert_arguments("[\"-c\",\"4096\"]");
    up_with("[\"two\\nlines\"]");
    assert_arguments("[\"two\\nlines\"]");
    up_with("[]");
    assert_arguments("");
    daemon_starts_anew();
    assert_arguments("");
}

static bool see_line(void *ctx, const struct log_entry *e)
{
    buf_addf(ctx, "%s\n", e->text);
    return true;
}

Test(control_model, arguments_that_hold_a_secret_are_neither_shown_nor_logged)
{
    struct buf lines;

    buf_init(&lines, 1024 * 1024);
    add_local();
    log_open(LOG_LEVEL_DEBUG);
    up_with("[\"-c\",\"512\",\"--hf-token\",\"hunter2\",\"--hf_token=hunter2\"]");
    log_read(0, see_line, &lines);
    log_open(LOG_LEVEL_ERR);
    cr_assert_not_null(strstr(buf_text(&lines), "\"--hf-token\",\"<secret>\""), "%s", buf_text(&lines));
    cr_assert_null(strstr(buf_text(&lines), "hunter2"));
    assert_arguments("[\"-c\",\"512\",\"--hf-token\",\"<secret>\",\"--hf_token=<secret>\"]");
    buf_done(&lines);
}

Test(control_model, arguments_that_are_refused_change_nothing)
{
    add_local();
    refuses("{\"method\":\"io.llmhost.Up\",\"parameters\":{\"model\":\"llama.cpp:/"
            "nowhere.gguf\",\"arguments\":[\"--port\",\"1\"]}}",
            "io.llmhost.Usage", "code", "bad_arguments");
    refuses("{\"method\":\"io.llmhost.Up\",\"parameters\":{\"model\":\"llama.cpp:/"
            "nowhere.gguf\",\"arguments\":[\"--api-key=hunter2\"]}}",
            "io.llmhost.Usage", "message",
            "the argument --api-key was not taken: it is reached through the tunnel alone, by requests that carry no key "
            "of its own");
    refuses("{\"method\":\"io.llmhost.Up\",\"parameters\":{\"model\":\"ollama:tiny\",\"arguments\":[\"-c\","
            "\"1\"]}}",
            "io.llmhost.Usage", "code", "bad_arguments");
    cr_assert_eq(count_models(), 0);
    json_free(answers("Up", "{\"model\":\"ollama:tiny\",\"wait\":false,\"arguments\":[]}"));
    cr_assert_eq(count_models(), 1, "none at all are no mistake");
}

Test(control_model, forgetting_stops_first_and_takes_all_that_are_meant)
{
    add_local();
    add_failed_model("ollama:tiny");
    add_failed_model("ollama:tinny");
    add_failed_model("llama.cpp:/nowhere.gguf");
    json_free(answers("Down", "{\"target\":\"ollama:*\",\"forget\":true}"));
    cr_assert_eq(count_models(), 1);
    json_free(answers("Down", "{\"target\":\"here\",\"forget\":true}"));
    cr_assert_eq(count_models(), 0);
    add_failed_model("ollama:tiny");
    cr_assert_eq(count_models(), 1, "it may be asked for again");
}

Test(control_model, a_name_nobody_has_is_forgotten_by_the_command_that_is_shown)
{
    add_local();
    struct deployment *d = add_failed_model("ollama:tinny");

    fault_code(&d->fault, FAULT_GONE, "model_unknown", "no such model");
    _cleanup_json_ struct json *v = answers("Status", "{}");
    const struct json *next = json_get(json_at(json_get(v, "trouble"), 0), "next");

    cr_assert_str_eq(json_text(json_at(next, json_count(next) - 1)), "llmhostctl down ollama:tinny --forget");
}

static size_t count_trouble(const char *parameters)
{
    _cleanup_json_ struct json *v = answers("Status", parameters);

    return json_count(json_get(v, "trouble"));
}

Test(control_model, who_asks_about_one_is_told_its_trouble_alone)
{
    add_local();
    json_free(answers("InstanceAdd", "{\"name\":\"there\",\"provider\":\"local\"}"));
    json_free(answers("Up", "{\"model\":\"ollama:tiny\",\"on\":\"here\",\"wait\":false}"));
    json_free(answers("Up", "{\"model\":\"llama.cpp:/nowhere.gguf\",\"on\":\"there\",\"wait\":false}"));
    cr_assert(LOOP_UNTIL(w.loop, count_trouble("{}") == 2));
    cr_assert_eq(count_trouble("{\"targets\":[\"ollama:tiny\"]}"), 1);
    cr_assert_eq(count_trouble("{\"targets\":[\"there\"]}"), 1);
    cr_assert_eq(count_trouble("{\"targets\":[\"here\",\"llama.cpp:*\"]}"), 2);
}

static int64_t off_since(void)
{
    _cleanup_json_ struct json *v = answers("Status", "{}");

    return json_get_int(json_at(json_get(v, "models"), 0), "since_at_ms", 0);
}

Test(control_model, what_is_off_is_off_since_it_was_switched_off_also_after_a_restart)
{
    char since[80];
    time_t then;
    int64_t before;
    struct tm tm;

    add_local();
    add_failed_model("ollama:tiny");
    json_free(answers("Down", "{\"target\":\"ollama:tiny\"}"));
    before = off_since();
    daemon_starts_anew();
    cr_assert_leq(off_since(), before);
    cr_assert_gt(off_since(), 0);
    then = (time_t)(off_since() / 1000);
    strftime(since, sizeof since, "ollama:tiny is off since %H:%M (llmhostctl down)", localtime_r(&then, &tm));
    refuses("{\"method\":\"io.llmhost.Wait\",\"parameters\":{\"target\":\"ollama:tiny\"}}", "io.llmhost.NotRunning", "message", since);
}

/* ---- a person's service ---- */

static void become_a_persons_service(void)
{
    snprintf(w.linger, sizeof w.linger, "%s/linger", w.directory);
    daemon_starts_anew();
    add_local();
}

static void enable_linger(void)
{
    int fd = open(w.linger, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);

    cr_assert_geq(fd, 0);
    close(fd);
}

/* "ok", "warn", or NULL: not asked about. */
static const char *linger_level(char level[static 8], const char **ret_next)
{
    static char next[64];
    _cleanup_json_ struct json *v = answers("Doctor", "{}");
    const struct json *checks = json_get(v, "checks");

    for (size_t i = 0; i < json_count(checks); i++)
        if (streq(json_get_text(json_at(checks, i), "id"), "daemon.linger")) {
            const char *command = json_text(json_at(json_get(json_at(checks, i), "next"), 0));

            snprintf(next, sizeof next, "%s", command ? command : "");
            snprintf(level, 8, "%s", json_get_text(json_at(checks, i), "level"));
            *ret_next = next;
            return level;
        }
    return NULL;
}

Test(control_model, the_doctor_looks_whether_a_persons_service_outlives_the_login)
{
    char level[8];
    const char *next;

    cr_assert_null(linger_level(level, &next), "nobody's service needs no lingering");
    become_a_persons_service();
    cr_assert_str_eq(linger_level(level, &next), "warn");
    cr_assert_str_eq(next, "loginctl enable-linger");
    enable_linger();
    cr_assert_str_eq(linger_level(level, &next), "ok");
    cr_assert_str_eq(next, "");
}

static bool has_note(const struct json *reply)
{
    const char *note = json_text(json_at(json_get(reply, "notes"), 0));

    return note && strstr(note, "loginctl enable-linger");
}

Test(control_model, the_first_up_of_a_persons_service_says_so_once)
{
    become_a_persons_service();
    _cleanup_json_ struct json *first = answers("Up", "{\"model\":\"ollama:tiny\",\"wait\":false}");
    _cleanup_json_ struct json *again = answers("Up", "{\"model\":\"ollama:tiny\",\"wait\":false}");
    _cleanup_json_ struct json *other = answers("Up", "{\"model\":\"ollama:tinny\",\"wait\":false}");

    cr_assert(has_note(first));
    cr_assert_not(has_note(again));
    cr_assert_not(has_note(other));
    json_free(answers("Down", "{\"target\":\"here\",\"forget\":true}"));
    say(&w.caller, "{\"method\":\"io.llmhost.Up\",\"parameters\":{\"model\":\"ollama:tiny\"},\"more\":true}");
    _cleanup_json_ struct json *begun = hear(&w.caller);

    cr_assert(has_note(json_get(begun, "parameters")), "one who follows hears it before anything else");
    cr_assert(json_get_bool(begun, "continues", false));
    caller_leaves(&w.caller);
    caller_comes(&w.caller);
    json_free(answers("Down", "{\"target\":\"here\",\"forget\":true}"));
    enable_linger();
    _cleanup_json_ struct json *safe = answers("Up", "{\"model\":\"ollama:tiny\",\"wait\":false}");

    cr_assert_not(has_note(safe));
}

/* ---- on several instances ---- */

static void assert_places(const char *expected)
{
    _cleanup_json_ struct json *v = answers("Status", "{}");
    const struct json *models = json_get(v, "models");
    struct buf text;

    buf_init(&text, 4096);
    for (size_t i = 0; i < json_count(models); i++)
        buf_addf(&text, "%s:%s ", json_get_text(json_at(models, i), "instance"),
                 json_get_text(json_at(models, i), "goal"));
    cr_assert_str_eq(buf_text(&text), expected);
    buf_done(&text);
}

Test(control_model, a_model_may_be_wanted_on_several_instances)
{
    add_local();
    json_free(answers("InstanceAdd", "{\"name\":\"there\",\"provider\":\"local\"}"));
    json_free(answers("Up", "{\"model\":\"llama.cpp:/x.gguf\",\"on\":\"there\",\"wait\":false,\"arguments\":[\"-c\",\"1\"]}"));
    json_free(answers("Up", "{\"model\":\"llama.cpp:/x.gguf\",\"on\":\"here\",\"wait\":false}"));
    assert_places("here:on_demand there:on_demand ");
    cr_assert(deployment_has_arguments(manager_find_on(w.manager, "llama.cpp:/x.gguf", "here"),
                                       deployment_arguments(manager_find_on(w.manager, "llama.cpp:/x.gguf", "there"))),
              "a second one begins with those of the first");
    json_free(answers("Up", "{\"model\":\"llama.cpp:/x.gguf\",\"wait\":false}"));
    assert_places("here:on_demand there:on_demand ");
    daemon_starts_anew();
    assert_places("here:on_demand there:on_demand ");

    json_free(answers("Down", "{\"target\":\"llama.cpp:/x.gguf\",\"on\":\"here\"}"));
    assert_places("here:off there:on_demand ");
    refuses("{\"method\":\"io.llmhost.Down\",\"parameters\":{\"target\":\"llama.cpp:/x.gguf\",\"on\":\"nowhere\"}}",
            "io.llmhost.NotFound", "code", "not_found");
    json_free(answers("Down", "{\"target\":\"llama.cpp:/x.gguf\"}"));
    assert_places("here:off there:off ");
    refuses("{\"method\":\"io.llmhost.Up\",\"parameters\":{\"model\":\"llama.cpp:/x.gguf\"}}", "io.llmhost.Usage", "code",
            "which_instance");
    json_free(answers("Down", "{\"target\":\"llama.cpp:/x.gguf\",\"on\":\"there\",\"forget\":true}"));
    assert_places("here:off ");
    json_free(answers("Up", "{\"model\":\"llama.cpp:/x.gguf\",\"on\":\"there\",\"wait\":false}"));
    assert_places("there:on_demand ");
    daemon_starts_anew();
    assert_places("there:on_demand ");
}
