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
    lose_the_only_create();
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

    _cleanup_json_ struct json *status = answers("Status", "{}"), *why = answers("Why", "{\"targets\":[\"box\"]}");

    cr_assert_str_eq(json_get_text(first(status, "instances"), "state"), "unknown");
    cr_assert_str_eq(json_get_text(json_get(first(status, "instances"), "rental"), "was"), "stopped");
    cr_assert_str_eq(json_get_text(first(why, "lines"), "verdict"), "off");
    cr_assert_str_eq(json_get_text(json_at(json_get(first(why, "lines"), "causes"), 1), "cause"), "was_off");
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

/* ---- a name that is given again ---- */

static int64_t milli_of(const struct json *line, const char *key)
{
    return json_get_int(json_get(line, key), "milli", -1);
}

static void machine_comes(unsigned minutes)
{
    json_free(answers("Up", UP));
    box_gets(LIFE_RUNNING);
    for (unsigned i = 0; i < minutes; i++)
        time_passes(60000);
    json_free(answers("Down", "{\"target\":\"box\"}"));
}

/* What its last bill says. */
static int64_t machine_goes(void)
{
    json_free(answers("Down", "{\"target\":\"ollama:m\",\"forget\":true}"));
    _cleanup_json_ struct json *v = answers("Release", "{\"instance\":\"box\",\"confirm\":\"box\"}");

    cr_assert_null(box());
    return milli_of(v, "spent");
}

static void bills_are(const int64_t milli[static 3], bool last_is_there)
{
    _cleanup_json_ struct json *v = answers("Cost", "{\"since_at_ms\":1}");
    const struct json *lines = json_get(v, "lines");
    unsigned seen = 0;

    cr_assert_eq(json_count(lines), 3);
    for (size_t i = 0; i < 3; i++) {
        const struct json *line = json_at(lines, i);
        const char *id = json_get_text(line, "id");
        bool is_last = streq(id, "pro-3");

        cr_assert_str_eq(json_get_text(line, "instance"), "box");
        cr_assert_eq(milli_of(line, "month"), milli[id[4] - '1'], "%s: %lld", id,
                     (long long)milli_of(line, "month"));
        cr_assert_eq(json_get_bool(line, "earlier", false), !is_last);
        cr_assert_str_eq(json_get_text(line, "state"), is_last && last_is_there ? "stopped" : "released");
        cr_assert_eq(json_get_int(line, "was_on_at_ms", 0) != 0, !is_last || !last_is_there);
        seen |= 1u << (id[4] - '1');
    }
    cr_assert_eq(seen, 7);
    cr_assert_eq(json_get_int(first(v, "total"), "milli", 0), milli[0] + milli[1] + milli[2], "none is lost");
    cr_assert_eq(milli_of(first(v, "accounts"), "month"), milli[0] + milli[1] + milli[2]);
    cr_assert_str_eq(json_get_text(first(v, "rows"), "id"), "pro-1");
}

Test(control_rent_cost, each_machine_that_had_a_name_has_its_own_bill)
{
    int64_t milli[3];

    begin_account();
    machine_comes(10);
    milli[0] = machine_goes();
    machine_comes(3);
    milli[1] = machine_goes();
    cr_assert_gt(milli[1], 0);
    cr_assert_gt(milli[0], milli[1]);
    machine_comes(1);

    _cleanup_json_ struct json *v = answers("Status", "{}");

    milli[2] = milli_of(json_get(first(v, "instances"), "rental"), "today");
    cr_assert(0 < milli[2] && milli[2] < milli[1]);
    bills_are(milli, true);
    daemon_is_started_again();
    box_gets(LIFE_STOPPED);
    bills_are(milli, true);
    cr_assert_eq(machine_goes(), milli[2]);
    bills_are(milli, false);
}
