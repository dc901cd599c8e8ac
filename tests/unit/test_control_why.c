/* links: control
 *
 * Ps, Why and Doctor as scripts see them: what is in memory, what keeps it there or not, and what is wrong. */
#include "deployment/deployment_private.h"
#include "tests/unit/control_world.h"

TestSuite(control_why, .init = world_begin, .fini = world_end, .timeout = 60);

#define ALL  "{}"
#define TINY "{\"model\":\"ollama:tiny\",\"wait\":false}"

static void add_local(void)
{
    json_free(answers("InstanceAdd", "{\"name\":\"here\",\"provider\":\"local\"}"));
}

/* There is no ollama: it ends in failure. */
static struct deployment *add_failed_model(void)
{
    struct deployment *d;

    json_free(answers("Up", TINY));
    d = manager_find_deployment(w.manager, "ollama:tiny");
    cr_assert(LOOP_UNTIL(w.loop, deployment_state(d) == DEPLOYMENT_FAILED));
    return d;
}

/* An instance whose port nobody listens at, from an earlier life. */
static void add_unreachable(void)
{
    const struct instance_record r = {
        .name = "gone", .provider = "ssh", .host = "127.0.0.1", .port = free_port(), .user = "root"};

    store_put_instance(w.store, &r);
    caller_leaves(&w.caller);
    daemon_ends();
    loop_turns(w.loop, 5);
    daemon_begins();
    caller_comes(&w.caller);
}

/* The member of list whose key is text; it must be there. */
static const struct json *member(const struct json *list, const char *key, const char *text)
{
    for (size_t i = 0; i < json_count(list); i++)
        if (streq(json_get_text(json_at(list, i), key) ?: "", text))
            return json_at(list, i);
    cr_assert_fail("no %s among %zu", text, json_count(list));
    return NULL;
}

static const struct json *line_of(const struct json *reply, const char *target)
{
    return member(json_get(reply, "lines"), "target", target);
}

static void verdict_is(const struct json *line, const char *verdict)
{
    cr_assert_str_eq(json_get_text(line, "verdict"), verdict);
}

static const struct json *cause_of(const struct json *line, const char *cause)
{
    return member(json_get(line, "causes"), "cause", cause);
}

/* ---- Ps ---- */

Test(control_why, ps_shows_what_is_in_memory)
{
    add_local();
    struct deployment *d = add_failed_model();
    _cleanup_json_ struct json *failed = answers("Ps", ALL), *all = answers("Ps", "{\"all\":true}");

    cr_assert_eq(json_count(json_get(failed, "models")), 0);
    cr_assert_eq(json_count(json_get(all, "models")), 1);
    d->state = DEPLOYMENT_READY;
    _cleanup_json_ struct json *ready = answers("Ps", ALL), *there = answers("Ps", "{\"targets\":[\"here\"]}");
    d->state = DEPLOYMENT_DRAINING;
    _cleanup_json_ struct json *draining = answers("Ps", "{\"targets\":[\"ollama:*\"]}");

    d->state = DEPLOYMENT_FAILED;
    cr_assert_eq(json_count(json_get(ready, "models")), 1);
    cr_assert_eq(json_count(json_get(there, "models")), 1);
    cr_assert_eq(json_count(json_get(draining, "models")), 1);
}

Test(control_why, a_target_that_is_not_there_is_named_with_the_near_one)
{
    add_local();
    add_failed_model();
    refuses("{\"method\":\"io.llmhost.Ps\",\"parameters\":{\"targets\":[\"ollama:tin\"]}}", "io.llmhost.NotFound", "why",
            "close: ollama:tiny");
    refuses("{\"method\":\"io.llmhost.Why\",\"parameters\":{\"targets\":[\"her\"]}}", "io.llmhost.NotFound", "why",
            "close: here");
}

/* ---- Why ---- */

Test(control_why, nothing_there_has_no_lines)
{
    _cleanup_json_ struct json *v = answers("Why", ALL);

    cr_assert_eq(json_count(json_get(v, "lines")), 0);
    cr_assert_eq(json_count(json_get(v, "not_counted")), 0);
}

Test(control_why, a_machine_that_is_not_rented_is_awake_for_that)
{
    add_local();
    _cleanup_json_ struct json *v = answers("Why", ALL);

    verdict_is(line_of(v, "here"), "awake");
    cause_of(line_of(v, "here"), "not_rented");
}

Test(control_why, a_failure_tells_its_sentence_and_down_ends_it)
{
    add_local();
    struct deployment *d = add_failed_model();
    _cleanup_json_ struct json *failed = answers("Why", "{\"targets\":[\"ollama:tiny\"]}");

    cr_assert_eq(json_count(json_get(failed, "lines")), 1, "the model alone");
    verdict_is(line_of(failed, "ollama:tiny"), "failed");
    cr_assert_str_eq(json_get_text(cause_of(line_of(failed, "ollama:tiny"), "failure"), "text"), deployment_fault(d)->text);
    json_free(answers("Down", "{\"target\":\"ollama:tiny\"}"));
    _cleanup_json_ struct json *off = answers("Why", "{\"targets\":[\"here\"]}");

    cr_assert_eq(json_count(json_get(off, "lines")), 2, "the instance and what is on it");
    verdict_is(line_of(off, "ollama:tiny"), "off");
    cr_assert_gt(json_get_int(cause_of(line_of(off, "ollama:tiny"), "stopped_by_user"), "since_at_ms", 0), 0);
}

Test(control_why, requests_keep_a_model_awake_and_are_counted)
{
    add_local();
    struct deployment *d = add_failed_model();

    d->state = DEPLOYMENT_READY;
    d->fault = (struct fault){};
    struct deployment_use uses[3];

    for (unsigned i = 0; i < 3; i++)
        deployment_request_begin(d, &uses[i]);
    deployment_request_held(d, &uses[1], true);
    _cleanup_json_ struct json *v = answers("Why", ALL);

    d->goal = GOAL_OFF;
    d->state = DEPLOYMENT_DRAINING;
    _cleanup_json_ struct json *draining = answers("Why", ALL);

    deployment_request_held(d, &uses[1], false);
    d->state = DEPLOYMENT_FAILED;
    for (unsigned i = 0; i < 3; i++)
        deployment_request_end(d, &uses[i]);
    const struct json *line = line_of(v, "ollama:tiny");

    verdict_is(line, "awake");
    cr_assert_eq(json_get_int(cause_of(line, "request"), "count", 0), 2);
    cr_assert_eq(json_get_int(cause_of(line, "held_request"), "count", 0), 1);
    cr_assert_gt(json_get_int(cause_of(line, "minimum_up"), "until_at_ms", 0), 0);
    verdict_is(line_of(draining, "ollama:tiny"), "awake");
    cr_assert_eq(json_get_int(cause_of(line_of(draining, "ollama:tiny"), "draining"), "count", 0), 2);
    cause_of(line_of(draining, "ollama:tiny"), "stopped_by_user");
}

Test(control_why, a_machine_that_is_not_reached_is_down_with_all_that_is_wanted_there)
{
    add_unreachable();
    struct lease *l = manager_find_lease(w.manager, "gone");

    cr_assert(LOOP_UNTIL(w.loop, session_fault(lease_session(l))->kind != FAULT_NONE));
    json_free(answers("Up", TINY));
    loop_turns(w.loop, 5);
    _cleanup_json_ struct json *v = answers("Why", ALL);

    verdict_is(line_of(v, "gone"), "down");
    cr_assert(strstr(json_get_text(cause_of(line_of(v, "gone"), "tunnel_down"), "text"), "127.0.0.1"));
    verdict_is(line_of(v, "ollama:tiny"), "down");
    cause_of(line_of(v, "ollama:tiny"), "tunnel_down");
}

/* ---- Doctor ---- */

static const struct json *check_of(const struct json *reply, const char *id)
{
    return member(json_get(reply, "checks"), "id", id);
}

static void level_is(const struct json *check, const char *level)
{
    cr_assert_str_eq(json_get_text(check, "level"), level, "%s", json_get_text(check, "message"));
}

static void says(const struct json *check, const char *words)
{
    cr_assert(strstr(json_get_text(check, "message"), words), "%s", json_get_text(check, "message"));
}

static bool has_check(const struct json *reply, const char *id)
{
    const struct json *list = json_get(reply, "checks");

    for (size_t i = 0; i < json_count(list); i++)
        if (streq(json_get_text(json_at(list, i), "id"), id))
            return true;
    return false;
}

Test(control_why, the_doctor_of_a_fresh_daemon_finds_nothing_wrong)
{
    _cleanup_json_ struct json *v = answers("Doctor", ALL);

    cr_assert(json_get_bool(v, "healthy", false));
    level_is(check_of(v, "daemon.running"), "ok");
    says(check_of(v, "daemon.running"), "0600");
    level_is(check_of(v, "daemon.clock"), "ok");
    level_is(check_of(v, "gateway.port"), "ok");
    level_is(check_of(v, "store.writable"), "ok");
    says(check_of(v, "store.space"), w.directory);
    says(check_of(v, "ssh.library"), "libssh2 1.");
}

Test(control_why, the_doctor_names_the_engine_that_is_missing_once_and_on_its_machine)
{
    add_local();
    add_failed_model();
    _cleanup_json_ struct json *v = answers("Doctor", "{\"target\":\"ollama:tiny\"}");

    cr_assert_not(json_get_bool(v, "healthy", true));
    level_is(check_of(v, "engine.found"), "fail");
    says(check_of(v, "engine.found"), "/nowhere/ollama");
    cr_assert_str_eq(json_get_text(check_of(v, "engine.found"), "target"), "here");
    cr_assert_not(has_check(v, "model.state"));
    cr_assert_not(has_check(v, "daemon.running"), "it was asked about one model");
}

Test(control_why, what_is_not_wanted_needs_no_engine)
{
    add_local();
    add_failed_model();
    json_free(answers("Down", "{\"target\":\"ollama:tiny\"}"));
    _cleanup_json_ struct json *v = answers("Doctor", ALL);

    cr_assert(json_get_bool(v, "healthy", false));
    cr_assert_not(has_check(v, "engine.found"));
}

Test(control_why, the_doctor_shows_the_engine_that_was_found_and_what_runs_on_the_processor)
{
    add_local();
    struct deployment *d = add_failed_model();
    const struct engine_facts before = d->engine->facts;

    d->state = DEPLOYMENT_READY;
    d->fault = (struct fault){};
    d->engine->facts.path = "/usr/bin/ollama";
    d->engine->facts.version = "0.12.3";
    d->engine->facts.size_bytes = 19000000000;
    d->engine->facts.size_vram_bytes = 11210000000;
    _cleanup_json_ struct json *partly = answers("Doctor", ALL);

    d->engine->facts.size_vram_bytes = 0;
    _cleanup_json_ struct json *none = answers("Doctor", ALL);

    d->engine->facts.size_vram_bytes = 19000000000;
    _cleanup_json_ struct json *all = answers("Doctor", ALL);

    d->engine->facts.size_vram_bytes = -1;
    _cleanup_json_ struct json *unknown = answers("Doctor", ALL);

    d->engine->facts = before;
    d->state = DEPLOYMENT_FAILED;
    says(check_of(partly, "engine.found"), "ollama 0.12.3 at /usr/bin/ollama");
    level_is(check_of(partly, "model.memory"), "warn");
    says(check_of(partly, "model.memory"), "41%");
    cr_assert(json_get_bool(partly, "healthy", false), "a warning is no illness");
    level_is(check_of(none, "model.memory"), "warn");
    level_is(check_of(all, "model.memory"), "ok");
    cr_assert_not(has_check(unknown, "model.memory"));
}

Test(control_why, the_doctor_says_which_machine_is_not_reached_and_why)
{
    add_unreachable();
    struct lease *l = manager_find_lease(w.manager, "gone");

    cr_assert(LOOP_UNTIL(w.loop, session_fault(lease_session(l))->kind != FAULT_NONE));
    _cleanup_json_ struct json *v = answers("Doctor", "{\"target\":\"gone\"}");

    level_is(check_of(v, "ssh.session"), "fail");
    says(check_of(v, "ssh.session"), "127.0.0.1");
    cr_assert_not(has_check(v, "ssh.forwards"), "nothing is known of them");
}

/* What the machine forbids is said of the machine, not of each model on it. */
Test(control_why, forwards_that_are_forbidden_are_the_machines_fault)
{
    add_unreachable();
    json_free(answers("Up", TINY));
    struct deployment *d = manager_find_deployment(w.manager, "ollama:tiny");

    fault_code(&d->fault, FAULT_DENIED, "forwarding_forbidden", "gone lets nobody through to its ports");
    _cleanup_json_ struct json *v = answers("Doctor", ALL);

    level_is(check_of(v, "ssh.forwards"), "fail");
    says(check_of(v, "ssh.forwards"), "lets nobody through");
    cr_assert_str_eq(json_get_text(check_of(v, "ssh.forwards"), "target"), "gone");
    cr_assert_not(has_check(v, "model.state"));
}
