/* links: control
 *
 * Up and Down beside the road itself: what they tell, and what is known afterwards. */
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
