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
    for (unsigned i = 0; i < 3; i++)
        deployment_request_begin(d);
    deployment_request_held(d, 1);
    _cleanup_json_ struct json *v = answers("Why", ALL);

    d->goal = GOAL_OFF;
    d->state = DEPLOYMENT_DRAINING;
    _cleanup_json_ struct json *draining = answers("Why", ALL);

    deployment_request_held(d, -1);
    d->state = DEPLOYMENT_FAILED;
    for (unsigned i = 0; i < 3; i++)
        deployment_request_end(d);
    const struct json *line = line_of(v, "ollama:tiny");

    verdict_is(line, "awake");
    cr_assert_eq(json_get_int(cause_of(line, "request"), "count", 0), 2);
    cr_assert_eq(json_get_int(cause_of(line, "held_request"), "count", 0), 1);
    cause_of(line, "stays_up");
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
