/* links: control
 *
 * Short names of models, and names that differ and mean one: set, refused, kept, and read in one place. */
#include "deployment/deployment_private.h"
#include "tests/unit/control_world.h"

#define R1 "ollama:deepseek-r1:7b"

/* There is no ollama here, so that what is brought up is known, and nothing more. */
static void begin(void)
{
    world_begin();
    json_free(answers("InstanceAdd", "{\"name\":\"here\",\"provider\":\"local\"}"));
    json_free(answers("Up", "{\"model\":\"" R1 "\",\"wait\":false}"));
    json_free(answers("Up", "{\"model\":\"ollama:phi4\",\"wait\":false}"));
}

TestSuite(alias, .init = begin, .fini = world_end, .timeout = 60);

static void set(const char *name, const char *model)
{
    _cleanup_free_ char *parameters = xasprintf("{\"name\":\"%s\",\"stands_for\":\"%s\"}", name, model);

    json_free(answers("AliasSet", parameters));
}

static void set_fails(const char *name, const char *model, const char *error, const char *code)
{
    _cleanup_free_ char *call = xasprintf("{\"method\":\"io.llmhost.AliasSet\",\"parameters\":"
                                          "{\"name\":\"%s\",\"stands_for\":\"%s\"}}",
                                          name, model);

    refuses(call, error, "code", code);
}

/* "gpt-4o=ollama:phi4 r1=…" */
static void assert_list(const char *expected)
{
    _cleanup_json_ struct json *v = answers("AliasList", "{}");
    const struct json *list = json_get(v, "aliases");
    struct buf text;

    buf_init(&text, 4096);
    for (size_t i = 0; i < json_count(list); i++)
        buf_addf(&text, "%s%s=%s", i ? " " : "", json_get_text(json_at(list, i), "name"),
                 json_get_text(json_at(list, i), "model"));
    cr_assert_str_eq(buf_text(&text), expected);
    buf_done(&text);
}

/* The one model that Status shows when it is asked for target. */
static void assert_means(const char *target, const char *model)
{
    _cleanup_free_ char *parameters = xasprintf("{\"targets\":[\"%s\"]}", target);
    _cleanup_json_ struct json *v = answers("Status", parameters);
    const struct json *models = json_get(v, "models");

    cr_assert_eq(json_count(models), 1, "%s", target);
    cr_assert_str_eq(json_get_text(json_at(models, 0), "name"), model);
}

static void daemon_starts_anew(void)
{
    caller_leaves(&w.caller);
    daemon_ends();
    loop_turns(w.loop, 5);
    daemon_begins();
    caller_comes(&w.caller);
}

Test(alias, means_its_model_wherever_one_is_named)
{
    set("r1", R1);
    assert_means("r1", R1);
    assert_means("r1:latest", R1);
    json_free(answers("Up", "{\"model\":\"r1\",\"wait\":false}"));
    json_free(answers("Ps", "{\"targets\":[\"r1\"],\"all\":true}"));
    json_free(answers("Why", "{\"targets\":[\"r1\"]}"));
    json_free(answers("Logs", "{\"target\":\"r1\"}"));
    json_free(answers("Down", "{\"target\":\"r1\"}"));
    cr_assert_eq(deployment_goal(manager_find_deployment(w.manager, R1)), GOAL_OFF);
    cr_assert_eq(manager_find_id(w.manager, "r1"), manager_find_deployment(w.manager, R1),
                 "applications too");
    cr_assert_eq(manager_find_id(w.manager, "r1:latest"), manager_find_deployment(w.manager, R1));
}

Test(alias, is_listed_changed_removed_and_kept)
{
    assert_list("");
    set("r1", "deepseek-r1:7b");
    set("gpt-4o", R1);
    assert_list("gpt-4o=" R1 " r1=" R1);
    set("gpt-4o", "phi4");
    daemon_starts_anew();
    assert_list("gpt-4o=ollama:phi4 r1=" R1);
    json_free(answers("AliasRemove", "{\"name\":\"r1\"}"));
    refuses("{\"method\":\"io.llmhost.AliasRemove\",\"parameters\":{\"name\":\"r1\"}}", "io.llmhost.NotFound",
            "code", "not_found");
    refuses("{\"method\":\"io.llmhost.Up\",\"parameters\":{\"model\":\"r1\"}}", "io.llmhost.Usage", "code",
            "bad_model");
    daemon_starts_anew();
    assert_list("gpt-4o=ollama:phi4");
}

Test(alias, hides_nothing_and_stands_for_a_known_model_alone)
{
    set("r1", R1);
    set_fails("a:b", R1, "io.llmhost.Usage", "bad_alias");
    set_fails("-a", R1, "io.llmhost.Usage", "bad_alias");
    set_fails("", R1, "io.llmhost.Usage", "bad_alias");
    set_fails("here", R1, "io.llmhost.Conflict", "name_is_taken");
    set_fails("phi4", R1, "io.llmhost.Conflict", "name_is_taken");
    set_fails("x", "r1", "io.llmhost.Usage", "alias_of_alias");
    set_fails("r1", "r1", "io.llmhost.Usage", "alias_of_alias");
    set_fails("x", "x", "io.llmhost.Usage", "alias_of_alias");
    set_fails("x", "ollama:unheard", "io.llmhost.NotFound", "no_such_model");
    set_fails("x", "here", "io.llmhost.NotFound", "no_such_model");
    assert_list("r1=" R1);
}

Test(alias, its_name_is_nobody_elses)
{
    set("r1", R1);
    refuses("{\"method\":\"io.llmhost.InstanceAdd\",\"parameters\":{\"name\":\"r1\",\"provider\":\"local\"}}",
            "io.llmhost.Conflict", "code", "name_is_alias");
    refuses("{\"method\":\"io.llmhost.Up\",\"parameters\":{\"model\":\"ollama:r1\"}}", "io.llmhost.Conflict",
            "code", "name_is_alias");
    refuses("{\"method\":\"io.llmhost.Up\",\"parameters\":{\"model\":\"ollama:r1:latest\"}}",
            "io.llmhost.Conflict", "code", "name_is_alias");
    json_free(answers("Up", "{\"model\":\"ollama:r1:14b\",\"wait\":false}"));
    cr_assert_eq(manager_find_id(w.manager, "r1"), manager_find_deployment(w.manager, R1));
}

Test(alias, there_are_200_at_most)
{
    for (unsigned i = 0; i < 200; i++) {
        _cleanup_free_ char *name = xasprintf("a%u", i);

        set(name, R1);
    }
    set_fails("b", R1, "io.llmhost.Conflict", "too_many_aliases");
    set("a7", "ollama:phi4");
}

Test(alias, outlives_its_model_and_has_it_back)
{
    set("r1", R1);
    json_free(answers("Down", "{\"target\":\"r1\",\"forget\":true}"));
    cr_assert_null(manager_find_id(w.manager, "r1"));
    assert_list("r1=" R1);
    daemon_starts_anew();
    json_free(answers("Up", "{\"model\":\"r1\",\"wait\":false}"));
    assert_means("r1", R1);
}

/* ---- names that mean one ---- */

Test(alias, a_model_of_ollama_has_one_deployment_however_its_name_is_written)
{
    static const char *const names[] = {"ollama:phi4:latest", "ollama:Phi4", "ollama:library/phi4",
                                        "ollama:registry.ollama.ai/library/phi4:latest"};

    for (size_t i = 0; i < ELEMENTS(names); i++) {
        _cleanup_free_ char *up = xasprintf("{\"model\":\"%s\",\"wait\":false}", names[i]);

        assert_means(names[i], "ollama:phi4");
        json_free(answers("Up", up));
    }
    json_free(answers("Up", "{\"model\":\"ollama:phi4:14b\",\"wait\":false}"));
    json_free(answers("Up", "{\"model\":\"llama.cpp:A/B\",\"wait\":false}"));
    json_free(answers("Up", "{\"model\":\"llama.cpp:A/b\",\"wait\":false}"));
    _cleanup_json_ struct json *v = answers("Status", "{}");

    cr_assert_eq(json_count(json_get(v, "models")), 5, "three more, of which one of ollama");
}

Test(alias, the_first_way_to_write_a_name_stays_and_an_alias_follows_it)
{
    json_free(answers("Up", "{\"model\":\"ollama:tiny:latest\",\"wait\":false}"));
    set("t", "ollama:tiny");
    assert_list("t=ollama:tiny:latest");
    assert_means("ollama:tiny", "ollama:tiny:latest");
    json_free(answers("Down", "{\"target\":\"ollama:tiny\",\"forget\":true}"));
    json_free(answers("Up", "{\"model\":\"ollama:tiny\",\"wait\":false}"));
    assert_means("t", "ollama:tiny");
    cr_assert_eq(manager_find_id(w.manager, "t"), manager_find_deployment(w.manager, "ollama:tiny"));
}
