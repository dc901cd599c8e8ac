/* links: control
 * wraps: rental_find rental_at keeper_state rented_is_anothers rented_stop_by_guard shape_ask
 *
 * What machines cost, as `cost` and the last bills tell it, through the control socket. */
#include "tests/unit/control_rent_world.h"

TestSuite(control_rent_cost, .init = begin, .fini = world_end, .timeout = 60);

static void daemon_is_started_again(void)
{
    daemon_ends();
    daemon_begins();
    caller_leaves(&w.caller);
    caller_comes(&w.caller);
}

static bool is_unknown(const struct json *v, const char *key)
{
    cr_assert_eq(json_type(json_get(v, key)), JSON_OBJECT, "%s", key);
    return json_get_bool(json_get(v, key), "unknown", false);
}

/* Of the one machine there is, of its account, and of all. */
static void cost_is_unknown(const char *why, bool so_far)
{
    _cleanup_json_ struct json *v = answers("Cost", "{}"), *status = answers("Status", "{}");
    const struct json *line = first(v, "lines"), *account = first(v, "accounts");

    cr_assert_null(json_get(line, "now"));
    cr_assert_str_eq(json_get_text(line, "now_unknown"), why);
    cr_assert_eq(is_unknown(line, "today"), so_far);
    cr_assert_eq(is_unknown(line, "month"), so_far);
    cr_assert(is_unknown(account, "rate"));
    cr_assert_eq(is_unknown(account, "today"), so_far);
    cr_assert_eq(is_unknown(account, "month"), so_far);
    cr_assert_eq(json_get_bool(first(v, "total"), "unknown", !so_far), so_far);
    cr_assert_eq(is_unknown(json_get(first(status, "instances"), "rental"), "today"), so_far);
}

static void cost_is_known(int64_t milli, bool estimate)
{
    _cleanup_json_ struct json *v = answers("Cost", "{}");
    const struct json *line = first(v, "lines"), *account = first(v, "accounts"), *now = json_get(line, "now");

    cr_assert_null(json_get(line, "now_unknown"), "%s", json_get_text(line, "now_unknown"));
    cr_assert_eq(json_get_int(now, "milli", -1), milli);
    cr_assert_eq(json_get_bool(now, "estimate", !estimate), estimate);
    cr_assert_not(is_unknown(line, "now") || is_unknown(line, "today") || is_unknown(line, "month"));
    cr_assert_not(is_unknown(account, "rate") || is_unknown(account, "today"));
    cr_assert_eq(json_get_int(json_get(account, "rate"), "milli", -1), milli);
    cr_assert_not(json_get_bool(first(v, "total"), "unknown", true));
}

/* ---- an unknown is never 0 ---- */

Test(control_rent_cost, while_a_create_has_no_answer_nobody_knows_it)
{
    begin_account();
    at.has_card = false;
    at.loses_create = true;
    json_free(answers("Up", "{\"model\":\"ollama:m\",\"gpu\":\"4090D\",\"anyway\":true,\"wait\":false}"));
    for (unsigned i = 0; i < 100 && !at.n_asked; i++) {
        loop_turns(w.loop, 20);
        time_passes(500);
    }
    loop_turns(w.loop, 20);
    cost_is_unknown("AutoDL has not answered the call that makes it", true);
    daemon_is_started_again();
    cost_is_unknown("AutoDL has not answered the call that makes it", true);
    deployment_want(manager_find_deployment(w.manager, "ollama:m"), GOAL_OFF, true);
    for (unsigned i = 0; i < 300; i++)
        time_passes(5000);
    loop_turns(w.loop, 20);
    cost_is_known(0, false);
}

/* That it comes is sure then; since when it bills is not. */
Test(control_rent_cost, one_that_was_let_go_is_an_estimate_until_it_is_seen_on)
{
    begin_machine();
    json_free(answers("Down", "{\"target\":\"box\"}"));
    cost_is_known(0, false);
    at.loses_starts = true;
    json_free(answers("Up", "{\"model\":\"ollama:m\",\"wait\":false}"));
    box_gets(LIFE_STARTING);
    time_passes(6000);
    cost_is_known(1880, true);
    deployment_want(manager_find_deployment(w.manager, "ollama:m"), GOAL_OFF, true);
    box_gets(LIFE_STOPPING);
    time_passes(6000);

    _cleanup_json_ struct json *v = answers("Cost", "{}");

    cr_assert_null(json_get(first(v, "lines"), "now"));
    cr_assert_eq(strncmp(json_get_text(first(v, "lines"), "now_unknown"), "AutoDL may still act on a power-on asked ", 41), 0);
    box_gets(LIFE_STOPPED);
    cost_is_known(0, false);
}

Test(control_rent_cost, one_that_was_off_is_unknown_until_it_is_read_again)
{
    begin_machine();
    json_free(answers("Down", "{\"target\":\"box\"}"));
    at.is_down = true;
    daemon_is_started_again();
    time_passes(1000);
    cost_is_unknown("AutoDL was not read yet", false);
    at.is_down = false;
    box_gets(LIFE_STOPPED);
    cost_is_known(0, false);
}

/* It was on when it was seen last: so much it costs, unless somebody has switched it off since. */
Test(control_rent_cost, one_that_was_on_costs_what_it_did)
{
    begin_machine();
    at.is_down = true;
    daemon_is_started_again();
    time_passes(1000);
    cost_is_known(1880, false);
}
