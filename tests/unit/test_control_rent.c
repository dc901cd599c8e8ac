/* links: control
 * wraps: rental_find rental_at keeper_state rented_is_anothers rented_stop_by_guard shape_ask
 *
 * The verbs of machines that cost money, as callers meet them: one that is wanted, one that is
 * switched off and confirmed, or not, what is told of it, and the end of it. */
#include "deployment/deployment_private.h"
#include "proto/text.h"
#include <sqlite3.h>

#include "tests/unit/control_rent_world.h"

TestSuite(control_rent, .init = begin, .fini = world_end, .timeout = 60);

/* ---- a machine ---- */

Test(control_rent, machine_is_switched_on_for_its_model)
{
    begin_machine();

    _cleanup_json_ struct json *v = answers("Status", "{}");
    const struct json *i = first(v, "instances"), *rental = json_get(i, "rental");

    cr_assert_eq(at.n_created, 1);
    cr_assert_str_eq(json_get_text(i, "state"), "running");
    cr_assert(json_get_bool(i, "rented", false));
    cr_assert_str_eq(json_get_text(rental, "goal"), "on");
    cr_assert_str_eq(json_get_text(rental, "id"), "pro-1");
    cr_assert_eq(json_get_int(json_get(rental, "rate"), "milli", 0), 1880);
    cr_assert_not(json_get_bool(json_get(rental, "rate"), "estimate", true));
    cr_assert_eq(json_get_int(first(v, "accounts"), "instances", 0), 1);
}

/* Asked for twice it is not rented twice; another model has a machine of its own while that one is up. */
Test(control_rent, one_model_of_one_card_is_one_machine)
{
    const char *again = "{\"model\":\"ollama:m\",\"gpu\":\"4090D\",\"anyway\":true,\"wait\":false}";
    const char *other = "{\"model\":\"ollama:n\",\"gpu\":\"4090D\",\"anyway\":true,\"wait\":false}";

    begin_machine();
    json_free(answers("Up", again));
    cr_assert_null(manager_lease_at(w.manager, 1), "the same machine");
    json_free(answers("Up", other));
    cr_assert_not_null(manager_find_lease(w.manager, "4090d"), "named after its card");
    deployment_want(manager_find_deployment(w.manager, "ollama:n"), GOAL_OFF, true);
    json_free(answers("Up", other));
    cr_assert_null(manager_lease_at(w.manager, 2), "the one it was on");
}

/* A guard goes along with what was asked: none is missing before it is on. */
Test(control_rent, what_is_only_asked_for_has_a_guard_that_is_to_come)
{
    begin_machine();
    json_free(answers("Down", "{\"target\":\"box\"}"));
    at.loses_starts = true;
    json_free(answers("Up", "{\"model\":\"ollama:m\",\"wait\":false}"));
    box_gets(LIFE_STARTING);

    _cleanup_json_ struct json *status = answers("Status", "{}");
    _cleanup_json_ struct json *why = answers("Why", "{\"targets\":[\"box\"]}");
    const struct json *box = first(status, "instances"), *rental = json_get(box, "rental");

    cr_assert_str_eq(json_get_text(box, "state"), "starting");
    cr_assert_str_eq(json_get_text(json_get(rental, "guard"), "state"), "to_come");
    cr_assert_str_eq(json_get_text(first(first(why, "lines"), "causes"), "cause"), "switching_on");
}

Test(control_rent, down_of_the_last_model_ends_with_the_confirmed_stop)
{
    begin_machine();
    say(&w.caller, MORE("Down", "{\"target\":\"ollama:m\"}"));

    bool confirmed = false;
    const struct json *p;

    for (;;) {
        _cleanup_json_ struct json *v = hear(&w.caller);

        p = json_get(v, "parameters");
        cr_assert_null(json_get_text(v, "error"), "%s", json_get_text(p, "message"));
        if (json_get_bool(p, "done", false)) {
            cr_assert_str_eq(json_get_text(json_get(p, "instance"), "state"), "stopped");
            cr_assert_not_null(json_get(p, "spent"));
            break;
        }
        confirmed |= streq(json_get_text(json_get(p, "progress"), "stage"), "confirmed");
    }
    cr_assert(confirmed);
    cr_assert_eq(at.machine.power, INSTANCE_OFF);
    json_free(answers("Wait", "{\"target\":\"box\",\"until\":\"confirmed\"}"));
}

/* What was asked may come yet: until it cannot, the call waits, and says so. */
Test(control_rent, down_says_why_an_off_is_not_believed_and_until_when)
{
    struct caller_end waits;

    begin_machine();
    json_free(answers("Down", "{\"target\":\"box\"}"));
    at.loses_starts = true;
    json_free(answers("Up", "{\"model\":\"ollama:m\",\"wait\":false}"));
    box_gets(LIFE_STARTING);
    time_passes(10000);
    caller_comes(&waits);
    say(&waits, MORE("Down", "{\"target\":\"box\"}"));
    box_gets(LIFE_STOPPING);
    time_passes(6000);

    _cleanup_json_ struct json *status = answers("Status", "{}");
    _cleanup_json_ struct json *why = answers("Why", "{\"targets\":[\"box\"]}");
    const struct json *rental = json_get(first(status, "instances"), "rental");
    const struct json *causes = json_get(first(why, "lines"), "causes");
    bool is_cause = false;
    unsigned told = 0;

    cr_assert_gt(json_get_int(rental, "doubted_until_at_ms", 0), clock_wall_ms());
    for (size_t i = 0; i < json_count(causes); i++)
        is_cause |= streq(json_get_text(json_at(causes, i), "cause"), "doubted");
    cr_assert(is_cause);
    for (bool done = false; !done;) {
        for (unsigned i = 0; i < 100 && !has_message(&waits); i++)
            time_passes(2000);

        _cleanup_json_ struct json *v = hear(&waits);
        const struct json *p = json_get(v, "parameters");
        const char *text = json_get_text(json_get(p, "progress"), "text");

        cr_assert_null(json_get_text(v, "error"), "%s", json_get_text(p, "message"));
        told += text && strncmp(text, "AutoDL may still act on a power-on asked ", 41) == 0 &&
                strstr(text, " ago; confirmed by ");
        done = json_get_bool(p, "done", false);
    }
    cr_assert_eq(told, 1);
    cr_assert_eq(box_state(), LIFE_STOPPED);
    cr_assert_eq(at.n_started, 1);
    caller_leaves(&waits);
}

Test(control_rent, stop_that_is_ignored_is_told_and_goes_on)
{
    begin_machine();
    at.ignores_stops = true;
    say(&w.caller, CALL("Down", "{\"target\":\"box\"}"));
    box_gets(LIFE_STOPPING);
    for (unsigned i = 0; i < 200 && !has_message(&w.caller); i++)
        time_passes(2000);

    _cleanup_json_ struct json *v = hear(&w.caller);
    const struct json *p = json_get(v, "parameters");

    cr_assert_str_eq(json_get_text(v, "error"), "io.llmhost.StopNotConfirmed");
    cr_assert_str_eq(json_get_text(p, "target"), "box");
    cr_assert_not_null(strstr(json_get_text(p, "message"), "1.88/h"), "%s", json_get_text(p, "message"));
    cr_assert_not_null(strstr(json_get_text(p, "why"), "\"running\""), "%s", json_get_text(p, "why"));
    cr_assert_not_null(strstr(json_get_text(p, "why"), "https://console.example/"));

    _cleanup_json_ struct json *status = answers("Status", "{}");

    const struct json *trouble = json_get(first(status, "instances"), "trouble");

    cr_assert_str_eq(json_get_text(trouble, "code"), "stop_not_confirmed");
    cr_assert_eq(json_get_int(trouble, "exit", 0), EXIT_NOT_CONFIRMED);

    _cleanup_json_ struct json *why = answers("Why", "{\"targets\":[\"box\"]}");
    const struct json *causes = json_get(first(why, "lines"), "causes");

    cr_assert_str_eq(json_get_text(first(why, "lines"), "verdict"), "stops");
    for (size_t i = 0; i < json_count(causes); i++)
        cr_assert_str_neq(json_get_text(json_at(causes, i), "cause"), "stopping",
                          "that is said by the trouble");
    refuses(CALL("Wait", "{\"target\":\"box\",\"until\":\"confirmed\",\"timeout_ms\":1}"),
            "io.llmhost.StopNotConfirmed", "target", "box");
    at.ignores_stops = false;
    box_gets(LIFE_STOPPED);
}

/* What bills on is named with its price, and what waits for its end: its model's is not that. */
Test(control_rent, down_that_takes_too_long_says_what_bills_on)
{
    begin_machine();
    at.ignores_stops = true;
    say(&w.caller, CALL("Down", "{\"target\":\"ollama:m\",\"timeout_ms\":20000}"));
    box_gets(LIFE_STOPPING);
    for (unsigned i = 0; i < 20 && !has_message(&w.caller); i++)
        time_passes(2000);

    _cleanup_json_ struct json *v = hear(&w.caller);
    const struct json *p = json_get(v, "parameters");

    cr_assert_str_eq(json_get_text(v, "error"), "io.llmhost.TimedOut");
    cr_assert_str_eq(json_get_text(p, "message"),
                     "box is not confirmed off after 20s: AutoDL still says \"running\"");
    cr_assert_str_eq(json_get_text(p, "why"), "box is on at ¥1.88/h, and no guard of it is known; it is asked "
                                              "again and again");
    cr_assert_str_eq(json_text(first(p, "next")), "llmhostctl wait box --for=confirmed");

    _cleanup_json_ struct json *off = answers("Wait", "{\"target\":\"ollama:m\",\"until\":\"stopped\"}");

    cr_assert_str_eq(json_get_text(json_get(off, "instance"), "name"), "box");
    at.ignores_stops = false;
    box_gets(LIFE_STOPPED);
    off = json_free(off);
    off = answers("Wait", "{\"target\":\"ollama:m\",\"until\":\"stopped\"}");
    cr_assert_null(json_get(off, "instance"), "it is off, like its model");
}

/* Before that goes off, too. */
Test(control_rent, down_that_takes_too_long_while_requests_are_open_says_what_it_costs)
{
    struct deployment_use use;

    begin_machine();
    struct deployment *d = manager_find_deployment(w.manager, "ollama:m");

    deployment_enter(d, DEPLOYMENT_READY, "ready", NULL);
    deployment_request_begin(d, &use);
    refuses(CALL("Down", "{\"target\":\"ollama:m\",\"timeout_ms\":1}"), "io.llmhost.TimedOut", "why",
            "the work goes on; until then box is on at ¥1.88/h, and no guard of it is known");
    deployment_request_end(d, &use);
}

Test(control_rent, sleep_of_the_last_model_stops_the_machine)
{
    begin_machine();
    json_free(answers("Sleep", "{\"target\":\"ollama:m\"}"));
    cr_assert_eq(box_state(), LIFE_STOPPED);
    cr_assert_eq(at.machine.power, INSTANCE_OFF);
}

/* The model did not come, and the machine goes on billing: nothing else would say so. */
Test(control_rent, up_that_fails_tells_of_the_machine_that_stays_on)
{
    struct fault f;

    begin_machine();
    say(&w.caller, CALL("Up", "{\"model\":\"ollama:m\"}"));
    loop_turns(w.loop, 20);
    fault_code(&f, FAULT_EXHAUSTED, "engine_missing", "ollama cannot be fetched");
    deployment_enter(manager_find_deployment(w.manager, "ollama:m"), DEPLOYMENT_FAILED, "failed", &f);
    loop_turns(w.loop, 20);

    _cleanup_json_ struct json *v = hear(&w.caller);
    const struct json *said = json_get(v, "parameters"), *next = json_get(said, "next");
    const char *why = json_get_text(said, "why");

    cr_assert_str_eq(json_get_text(said, "message"), "ollama cannot be fetched");
    cr_assert(why && strncmp(why, "box stays on at ¥1.88/h until ", 31) == 0, "%s", why);
    cr_assert_str_eq(json_text(json_at(next, json_count(next) - 1)), "llmhostctl down box");
}

/* A down of the machine would end that one too. */
Test(control_rent, up_that_fails_beside_a_model_that_is_wanted_proposes_no_end_of_the_machine)
{
    struct fault f;

    begin_machine();
    json_free(answers("Up", "{\"model\":\"ollama:n\",\"on\":\"box\",\"wait\":false}"));
    say(&w.caller, CALL("Up", "{\"model\":\"ollama:m\"}"));
    loop_turns(w.loop, 20);
    fault_code(&f, FAULT_EXHAUSTED, "engine_missing", "ollama cannot be fetched");
    deployment_enter(manager_find_deployment(w.manager, "ollama:m"), DEPLOYMENT_FAILED, "failed", &f);
    loop_turns(w.loop, 20);

    _cleanup_json_ struct json *v = hear(&w.caller);
    const struct json *said = json_get(v, "parameters"), *next = json_get(said, "next");
    const char *why = json_get_text(said, "why");

    cr_assert(why && strstr(why, "box stays on at ¥1.88/h") && strstr(why, ", and ollama:n is wanted on it"),
              "%s", why);
    for (size_t i = 0; i < json_count(next); i++)
        cr_assert_null(strstr(json_text(json_at(next, i)), "down box"), "%s", json_text(json_at(next, i)));
}

/* That its card holds it was seen. */
Test(control_rent, up_of_a_model_that_is_ready_doubts_no_card)
{
    begin_machine();
    refuses(CALL("Up", "{\"model\":\"ollama:m\",\"gpu\":\"4090D\",\"wait\":false}"), "io.llmhost.Refused", "code",
            "does_not_fit");
    manager_find_deployment(w.manager, "ollama:m")->state = DEPLOYMENT_READY;

    _cleanup_json_ struct json *ready =
        answers("Up", "{\"model\":\"ollama:m\",\"gpu\":\"4090D\",\"wait\":false}");

    cr_assert_null(json_get(ready, "notes"));
}

static void down_tells_of_no_engine(void)
{
    say(&w.caller, MORE("Down", "{\"target\":\"ollama:m\"}"));
    for (bool done = false; !done;) {
        _cleanup_json_ struct json *v = hear(&w.caller);
        const struct json *p = json_get(v, "parameters");
        const char *stage = json_get_text(json_get(p, "progress"), "stage");

        cr_assert_null(json_get_text(v, "error"));
        cr_assert(!stage || !streq(stage, "engine"), "none ran");
        done = json_get_bool(p, "done", false);
    }
}

/* Nobody was let in so far. */
Test(control_rent, down_of_a_model_that_waits_for_its_machine_stops_no_engine)
{
    begin_machine();
    cr_assert_eq(deployment_state(manager_find_deployment(w.manager, "ollama:m")), DEPLOYMENT_CONNECTING);
    down_tells_of_no_engine();
}

/* As too dear, say. */
Test(control_rent, down_of_a_model_whose_machine_was_given_up_stops_no_engine)
{
    struct fault f;

    begin_machine();
    fault_code(&f, FAULT_DENIED, "price", "it costs more than was allowed");
    deployment_give_up(manager_find_deployment(w.manager, "ollama:m"), &f);
    cr_assert_eq(deployment_state(manager_find_deployment(w.manager, "ollama:m")), DEPLOYMENT_FAILED);
    down_tells_of_no_engine();
}

/* The model has no fault of its own: a limit of the account ends it. */
Test(control_rent, up_that_a_limit_ends_proposes_another_limit_of_the_account)
{
    begin_machine();
    say(&w.caller, CALL("Up", "{\"model\":\"ollama:m\",\"on\":\"box\"}"));
    loop_turns(w.loop, 20);
    at.balance_milli = 500;
    struct caller_end other;

    caller_comes(&other);
    say(&other, CALL("Doctor", "{}")); /* reads it */
    json_free(hear(&other));
    for (unsigned i = 0; i < 100 && is_silent(&w.caller); i++)
        time_passes(2000);

    _cleanup_json_ struct json *v = hear(&w.caller);
    const struct json *said = json_get(v, "parameters"), *next = json_get(said, "next");

    cr_assert_str_eq(json_get_text(said, "code"), "low_balance");
    cr_assert_eq(json_count(next), 3);
    cr_assert_str_eq(json_text(json_at(next, 1)), "llmhostctl provider set autodl --balance-floor=AMOUNT");
    cr_assert_str_eq(json_text(json_at(next, 2)), "llmhostctl up ollama:m --over-budget");
    caller_leaves(&other);
}

Test(control_rent, keep_of_a_machine_tells_its_cost)
{
    begin_machine();

    _cleanup_json_ struct json *v = answers("Keep", "{\"target\":\"box\",\"for_ms\":7200000}");

    cr_assert_eq(json_get_int(json_get(v, "cost"), "milli", 0), 2 * 1880);
    cr_assert_str_eq(json_get_text(json_get(v, "instance"), "name"), "box");
    refuses(CALL("Keep", "{\"target\":\"box\",\"for_ms\":700000000}"), "io.llmhost.Usage", "code",
            "bad_time");
    refuses(CALL("Keep", "{\"target\":\"box\",\"for_ms\":8553600000}"), "io.llmhost.Usage", "message",
            "a keep of a rented machine lasts at most 7 days");
    json_free(answers("Down", "{\"target\":\"box\"}"));
    cr_assert_eq(box_state(), LIFE_STOPPED, "down ends the keep");
    refuses(CALL("Keep", "{\"target\":\"box\",\"for_ms\":7200000}"), "io.llmhost.NotRunning", "code",
            "not_running");
}

/* The first command that is proposed is one that is taken. */
static void keep_takes_what_is_proposed(const char *target, int64_t for_ms)
{
    _cleanup_free_ char *keep =
        xasprintf(CALL("Keep", "{\"target\":\"%s\",\"for_ms\":%lld}"), target, (long long)for_ms);
    _cleanup_free_ char *begins = xasprintf("llmhostctl keep %s ", target);
    _cleanup_json_ struct json *v = ask(keep);
    const char *next = json_text(json_at(json_get(json_get(v, "parameters"), "next"), 0));
    uint64_t ms = 0;

    cr_assert_not_null(json_get_text(v, "error"));
    cr_assert(next && strncmp(next, begins, strlen(begins)) == 0, "%s", next);
    cr_assert_eq(duration_parse(next + strlen(begins), &ms), 0, "%s", next);
    cr_assert(ms > 3600000 && (int64_t)ms < for_ms, "%s", next);

    _cleanup_free_ char *less = xasprintf("{\"target\":\"%s\",\"for_ms\":%llu}", target, (unsigned long long)ms);

    json_free(answers("Keep", less));
}

Test(control_rent, keep_that_a_limit_forbids_proposes_one_that_it_allows)
{
    begin_machine();
    json_free(answers("ProviderSet", "{\"provider\":\"autodl\",\"day_milli\":0}"));
    keep_takes_what_is_proposed("box", 200 * 3600000ll); /* of 7 days, there is none of money */
    json_free(answers("Keep", "{\"target\":\"box\"}"));
    json_free(answers("ProviderSet", "{\"provider\":\"autodl\",\"day_milli\":20000}"));
    keep_takes_what_is_proposed("box", 200 * 3600000ll); /* of both */
    keep_takes_what_is_proposed("box", 100 * 3600000ll);
    json_free(answers("Keep", "{\"target\":\"box\"}"));
    keep_takes_what_is_proposed("ollama:m", 100 * 3600000ll);
    refuses(CALL("Keep", "{\"target\":\"box\",\"for_ms\":720000000}"), "io.llmhost.Usage", "code", "bad_time");
}

/* Else it bills on unseen. */
Test(control_rent, down_of_a_model_tells_of_the_machine_that_is_kept)
{
    begin_machine();
    json_free(answers("Keep", "{\"target\":\"box\",\"for_ms\":7200000}"));

    _cleanup_json_ struct json *v = answers("Down", "{\"target\":\"ollama:m\"}");
    const struct json *stays = first(v, "stay"), *rental = json_get(stays, "rental");

    cr_assert_str_eq(json_get_text(stays, "name"), "box");
    cr_assert_str_eq(json_get_text(rental, "stays"), "kept");
    cr_assert_gt(json_get_int(rental, "until_at_ms", 0), clock_wall_ms());

    _cleanup_json_ struct json *off = answers("Down", "{\"target\":\"box\"}");

    cr_assert_null(json_get(off, "stay"));
}

/* A request wakes it, `up` does; who says only how long it is to stay did not ask for a bill. */
Test(control_rent, keep_of_a_model_switches_no_machine_on)
{
    begin_machine();
    json_free(answers("Sleep", "{\"target\":\"ollama:m\"}"));
    cr_assert_eq(box_state(), LIFE_STOPPED);
    refuses(CALL("Keep", "{\"target\":\"ollama:m\",\"for_ms\":3600000}"), "io.llmhost.NotRunning", "message",
            "ollama:m sleeps, and box is not on: there is nothing to keep");
    cr_assert_eq(box_state(), LIFE_STOPPED);
    json_free(answers("Keep", "{\"target\":\"ollama:m\"}"));
}

Test(control_rent, end_of_a_machines_keep_tells_of_the_model_that_is_kept)
{
    begin_machine();
    json_free(answers("Keep", "{\"target\":\"ollama:m\",\"for_ms\":7200000}"));

    _cleanup_json_ struct json *v = answers("Keep", "{\"target\":\"box\"}");

    cr_assert_str_eq(json_get_text(first(v, "models"), "name"), "ollama:m");
    json_free(answers("Keep", "{\"target\":\"ollama:m\"}"));

    _cleanup_json_ struct json *over = answers("Keep", "{\"target\":\"box\"}");

    cr_assert_eq(json_count(json_get(over, "models")), 0);
}

Test(control_rent, end_of_a_models_keep_tells_of_the_machine_that_is_kept)
{
    begin_machine();
    json_free(answers("Keep", "{\"target\":\"ollama:m\",\"for_ms\":3600000}"));

    _cleanup_json_ struct json *alone = answers("Keep", "{\"target\":\"ollama:m\"}");

    cr_assert_null(json_get(alone, "stay"));
    json_free(answers("Keep", "{\"target\":\"ollama:m\",\"for_ms\":3600000}"));
    json_free(answers("Keep", "{\"target\":\"box\",\"for_ms\":7200000}"));

    _cleanup_json_ struct json *v = answers("Keep", "{\"target\":\"ollama:m\"}");
    const struct json *rental = json_get(first(v, "stay"), "rental");

    cr_assert_str_eq(json_get_text(first(v, "stay"), "name"), "box");
    cr_assert_str_eq(json_get_text(rental, "stays"), "kept");
    cr_assert_gt(json_get_int(rental, "until_at_ms", 0), clock_wall_ms() + 3600000);

    _cleanup_json_ struct json *over = answers("Keep", "{\"target\":\"box\"}");

    cr_assert_null(json_get(over, "stay"));
}

static bool is_on_disk(const char *instance)
{
    _cleanup_free_ char *database = xasprintf("%s/llmhost.db", w.directory);
    sqlite3 *sql;
    sqlite3_stmt *row;

    cr_assert_eq(sqlite3_open_v2(database, &sql, SQLITE_OPEN_READONLY, NULL), SQLITE_OK);
    cr_assert_eq(sqlite3_prepare_v2(sql, "SELECT 1 FROM instance WHERE name = ?", -1, &row, NULL), SQLITE_OK);
    cr_assert_eq(sqlite3_bind_text(row, 1, instance, -1, SQLITE_STATIC), SQLITE_OK);
    int r = sqlite3_step(row);

    cr_assert(r == SQLITE_ROW || r == SQLITE_DONE);
    sqlite3_finalize(row);
    sqlite3_close(sql);
    return r == SQLITE_ROW;
}

Test(control_rent, machine_is_given_back_only_by_its_name_and_when_it_is_off)
{
    begin_machine();
    refuses(CALL("Release", "{\"instance\":\"box\",\"confirm\":\"no\"}"), "io.llmhost.Usage", "code",
            "not_confirmed");
    refuses(CALL("InstanceRemove", "{\"name\":\"box\"}"), "io.llmhost.Conflict", "code", "is_rented");
    refuses(CALL("Release", "{\"instance\":\"box\",\"confirm\":\"box\"}"), "io.llmhost.Conflict", "target",
            "box");
    json_free(answers("Down", "{\"target\":\"box\"}"));
    refuses(CALL("InstanceRemove", "{\"name\":\"box\"}"), "io.llmhost.Conflict", "code", "is_rented");
    say(&w.caller, CALL("Release", "{\"instance\":\"box\",\"confirm\":\"box\"}"));
    for (unsigned i = 0; i < 200 && !has_message(&w.caller); i++)
        time_passes(2000);

    _cleanup_json_ struct json *v = hear(&w.caller);

    cr_assert_null(json_get_text(v, "error"), "%s", json_get_text(json_get(v, "parameters"), "message"));
    cr_assert_geq(at.n_released, 1);
    cr_assert_null(box());
    cr_assert_not(is_on_disk("box"), "no daemon after this one asks for it");
}

/* In the company's console, say: what its trouble proposes forgets it. */
Test(control_rent, one_that_vanished_is_forgotten_by_a_release)
{
    begin_machine();
    *at.machine.id = '\0';
    for (unsigned i = 0; i < 200 && box_state() != LIFE_ABSENT; i++)
        time_passes(2000);
    loop_turns(w.loop, 20);

    _cleanup_json_ struct json *v = answers("Status", "{}");
    const struct json *trouble = json_get(first(v, "instances"), "trouble");

    cr_assert_str_eq(json_get_text(trouble, "code"), "vanished");
    cr_assert_str_eq(json_text(json_at(json_get(trouble, "next"), 1)), "llmhostctl release box");
    json_free(answers("Release", "{\"instance\":\"box\",\"confirm\":\"box\"}"));
    cr_assert_null(box());
}

static int64_t spent_today(void)
{
    _cleanup_json_ struct json *v = answers("ProviderList", "{}");

    return json_get_int(json_get(first(v, "accounts"), "today"), "milli", -1);
}

/* A limit of a day is not got round by removing the account. */
Test(control_rent, what_a_removed_account_spent_counts_when_it_is_back)
{
    begin_machine();
    loop_advance(w.loop, 60000);
    json_free(answers("Down", "{\"target\":\"box\"}"));
    say(&w.caller, CALL("Release", "{\"instance\":\"box\",\"confirm\":\"box\"}"));
    for (unsigned i = 0; i < 200 && !has_message(&w.caller); i++)
        time_passes(2000);
    json_free(hear(&w.caller));

    int64_t spent = spent_today();

    cr_assert_gt(spent, 0);

    _cleanup_json_ struct json *removed = answers("ProviderRemove", "{\"provider\":\"autodl\"}"),
                               *cost = answers("Cost", "{}");
    const struct json *gone = first(cost, "removed");

    cr_assert_eq(json_get_int(json_get(json_get(removed, "removed"), "today"), "milli", 0), spent);
    cr_assert_eq(json_count(json_get(cost, "accounts")), 0);
    cr_assert_eq(json_get_int(json_get(gone, "today"), "milli", 0), spent, "what is spent stays spent");
    cr_assert_eq(json_get_int(json_get(first(cost, "lines"), "today"), "milli", 0), spent);
    cr_assert_eq(json_get_int(first(cost, "total"), "milli", 0), spent);
    begin_account();
    cr_assert_eq(spent_today(), spent);
    json_free(answers("ProviderRemove", "{\"provider\":\"autodl\"}"));
    caller_leaves(&w.caller);
    daemon_ends();
    daemon_begins();
    caller_comes(&w.caller);
    begin_account();
    cr_assert_eq(spent_today(), spent, "after a start in between");
}

Test(control_rent, cost_has_what_runs_and_what_ran)
{
    begin_machine();
    loop_advance(w.loop, 60000);

    _cleanup_json_ struct json *v = answers("Cost", "{\"since_at_ms\":0}");
    const struct json *line = first(v, "lines"), *row = first(v, "rows");

    cr_assert_str_eq(json_get_text(line, "instance"), "box");
    cr_assert_eq(json_get_int(json_get(line, "now"), "milli", 0), 1880);
    cr_assert_str_eq(json_get_text(row, "kind"), "compute");
    cr_assert(json_get_bool(row, "by_us", false));
    cr_assert_null(json_get(row, "to_at_ms"));
    cr_assert_gt(json_get_int(json_get(row, "amount"), "milli", 0), 0);
    cr_assert_eq(json_count(json_get(v, "total")), 1);
}

Test(control_rent, why_tells_what_keeps_it_on_and_that_it_is_off)
{
    begin_machine();

    _cleanup_json_ struct json *on = answers("Why", "{\"targets\":[\"box\"]}");

    cr_assert_str_eq(json_get_text(first(on, "lines"), "verdict"), "awake");
    json_free(answers("Down", "{\"target\":\"box\"}"));

    _cleanup_json_ struct json *off = answers("Why", "{\"targets\":[\"box\"]}");

    cr_assert_str_eq(json_get_text(first(off, "lines"), "verdict"), "off");
    cr_assert_str_eq(json_get_text(first(first(off, "lines"), "causes"), "cause"), "machine_off");
}

Test(control_rent, doctor_asks_the_account_and_says_what_is_unproved)
{
    begin_machine();
    refuses(CALL("Doctor", "{\"target\":\"box\",\"drill\":true}"), "io.llmhost.Conflict", "code", "in_use");
    at.balance_milli = 500;

    _cleanup_json_ struct json *v = answers("Doctor", "{}");
    const struct json *checks = json_get(v, "checks");
    unsigned seen = 0;

    for (size_t i = 0; i < json_count(checks); i++) {
        const char *id = json_get_text(json_at(checks, i), "id"),
                   *level = json_get_text(json_at(checks, i), "level");

        seen += streq(id, "account.token") && streq(level, "ok");
        seen += streq(id, "account.balance") && streq(level, "fail");
        seen += streq(id, "rented.proof") && streq(level, "warn");
    }
    cr_assert_eq(seen, 3);
}

Test(control_rent, one_of_others_beyond_the_money_is_trouble_and_runs_on)
{
    begin_machine();
    json_free(answers("Down", "{\"target\":\"box\"}"));
    box_gets(LIFE_STOPPED);
    at.balance_milli = 500;
    json_free(answers("Doctor", "{}")); /* reads it */
    at.machine.power = INSTANCE_ON;
    box_gets(LIFE_RUNNING);
    at.n_stopped = 0;
    time_passes(600000);

    _cleanup_json_ struct json *v = answers("Status", "{}");
    struct buf text;

    buf_init(&text, 1 << 20);
    cr_assert_eq(json_write(v, &text), 0);
    cr_assert_not_null(strstr(buf_text(&text), "\"over_budget\""), "%s", buf_text(&text));
    cr_assert_not_null(strstr(buf_text(&text), "llmhostctl down box"), "%s", buf_text(&text));
    buf_done(&text);
    cr_assert_eq(box_state(), LIFE_RUNNING);
    cr_assert_eq(at.n_stopped, 0);
}

Test(control_rent, one_that_another_llmhostd_keeps_is_not_ours_to_stop_or_keep)
{
    begin_machine();
    at.is_anothers = true;
    refuses(CALL("Down", "{\"target\":\"box\"}"), "io.llmhost.Conflict", "code", "other_owner");
    refuses(CALL("Keep", "{\"target\":\"box\",\"for_ms\":3600000}"), "io.llmhost.Conflict", "code",
            "other_owner");
    cr_assert_eq(at.n_stopped, 0);
    json_free(answers("Down", "{\"target\":\"ollama:m\"}")); /* the model is ours */
    at.is_anothers = false;
    json_free(answers("Down", "{\"target\":\"box\"}"));
    cr_assert_gt(at.n_stopped, 0);
}

/* On, and its model sleeps. */
static void begin_drill(bool guard_stops)
{
    begin_machine();
    json_free(answers("Keep", "{\"target\":\"box\",\"for_ms\":3600000}"));
    json_free(answers("Sleep", "{\"target\":\"ollama:m\"}"));
    refuses(CALL("Doctor", "{\"target\":\"box\",\"drill\":true}"), "io.llmhost.Refused", "code", "no_guard");
    cr_assert_eq(box_state(), LIFE_RUNNING, "it is kept");
    at.guard_is_kept = true;
    at.guard_stops = guard_stops;
    say(&w.caller, CALL("Doctor", "{\"target\":\"box\",\"drill\":true}"));
}

static void drill_ends(bool healthy)
{
    for (unsigned i = 0; i < 200 && !has_message(&w.caller); i++)
        time_passes(2000);

    _cleanup_json_ struct json *v = hear(&w.caller);
    const struct json *p = json_get(v, "parameters");

    cr_assert_null(json_get_text(v, "error"), "%s", json_get_text(p, "message"));
    cr_assert_eq(json_get_bool(p, "healthy", !healthy), healthy);
    cr_assert_str_eq(json_get_text(first(p, "checks"), "id"), "rented.proof");
    cr_assert_str_eq(json_get_text(first(p, "checks"), "level"), healthy ? "ok" : "fail");
}

Test(control_rent, drill_ends_when_the_provider_says_off)
{
    begin_drill(true);
    drill_ends(true);
    cr_assert_eq(box_state(), LIFE_STOPPED);
    cr_assert_eq(at.n_stopped, 0, "nobody but the guard was asked to");
}

Test(control_rent, drill_of_a_machine_that_is_off_says_how_it_comes_on)
{
    begin_machine();
    json_free(answers("Down", "{\"target\":\"box\"}"));
    box_gets(LIFE_STOPPED);

    _cleanup_json_ struct json *v = ask(CALL("Doctor", "{\"target\":\"box\",\"drill\":true}"));
    const struct json *said = json_get(v, "parameters"), *next = json_get(said, "next");

    cr_assert_str_eq(json_get_text(said, "code"), "not_running");
    cr_assert_str_eq(json_text(json_at(next, 0)), "llmhostctl up ollama:m --on box");
    cr_assert_str_eq(json_text(json_at(next, 1)), "llmhostctl doctor box");
}

Test(control_rent, drill_of_a_guard_whose_answer_is_lost_waits_for_the_provider)
{
    at.guard_fault = FAULT_UNCERTAIN;
    begin_drill(true);
    drill_ends(true);
}

Test(control_rent, drill_of_a_guard_that_was_never_asked_says_nothing_of_the_bill)
{
    at.guard_fault = FAULT_TRANSIENT;
    begin_drill(false);
    loop_turns(w.loop, 20);

    _cleanup_json_ struct json *v = hear(&w.caller);

    cr_assert_not_null(json_get_text(v, "error"));
    cr_assert_str_eq(json_get_text(json_get(v, "parameters"), "code"), "unreachable");
    for (unsigned i = 0; i < 60; i++)
        time_passes(10000);
    cr_assert_eq(box_state(), LIFE_RUNNING);
    cr_assert_eq(at.n_stopped, 0);
}

Test(control_rent, drill_of_a_guard_that_ends_no_bill_is_told_and_the_provider_stops_it)
{
    begin_drill(false);
    drill_ends(false);
    box_gets(LIFE_STOPPED);
    cr_assert_geq(at.n_stopped, 1);
}

Test(control_rent, file_of_guards_has_what_is_on)
{
    _cleanup_free_ char *path = xasprintf("%s/guards", w.directory);
    char line[200] = "";
    FILE *f;

    begin_machine();
    loop_turns(w.loop, 20);
    f = fopen(path, "r");
    cr_assert_not_null(f);
    cr_assert_not_null(fgets(line, sizeof line, f));
    fclose(f);
    cr_assert_str_eq(line, "box running 0 1880 CNY\n");
    json_free(answers("Down", "{\"target\":\"box\"}"));
    loop_turns(w.loop, 20);
    f = fopen(path, "r");
    cr_assert_not_null(f);
    cr_assert_null(fgets(line, sizeof line, f), "%s", line);
    fclose(f);
}

Test(control_rent, instance_tells_what_was_asked_for)
{
    begin_machine();

    _cleanup_json_ struct json *v = answers("InstanceShow", "{\"name\":\"box\"}");
    const struct json *s = json_get(v, "settings");

    cr_assert_str_eq(json_get_text(s, "gpu"), "4090D");
    cr_assert_str_eq(json_get_text(s, "cards"), "1");
    cr_assert_str_eq(json_get_text(json_get(json_get(v, "instance"), "rental"), "gpu"), "4090D");
}

/* ---- on without a card ---- */

#define WITHOUT "{\"target\":\"box\",\"for_ms\":3600000,\"no_card\":true}"

Test(control_rent, machine_is_on_without_its_card_for_so_long)
{
    begin_machine();
    fake.has_no_card = true;
    refuses(CALL("Keep", WITHOUT), "io.llmhost.Conflict", "code", "not_off");
    json_free(answers("Down", "{\"target\":\"box\"}"));
    fake.has_no_card = false;
    refuses(CALL("Keep", WITHOUT), "io.llmhost.Usage", "code", "has_no_card");
    fake.has_no_card = true;
    refuses(CALL("Keep", "{\"target\":\"box\",\"no_card\":true}"), "io.llmhost.Usage", "code", "bad_time");

    _cleanup_json_ struct json *v = answers("Keep", WITHOUT);
    const struct json *rental = json_get(json_get(v, "instance"), "rental");

    cr_assert_eq(json_get_int(json_get(v, "cost"), "milli", 0), 100, "an hour of it");
    cr_assert(json_get_bool(rental, "no_card", false));
    cr_assert_str_eq(json_get_text(rental, "stays"), "no_card");
    box_gets(LIFE_RUNNING);
    cr_assert(at.machine.no_card);
    loop_advance(w.loop, 1800000);
    box_gets(LIFE_RUNNING);
    loop_advance(w.loop, 1900000);
    box_gets(LIFE_STOPPED);
    cr_assert_not(rented_record(lease_rented(box()))->no_card, "over with that wish");

    _cleanup_json_ struct json *cost = answers("Cost", "{\"since_at_ms\":1}");
    const struct json *rows = json_get(cost, "rows"), *row = json_at(rows, json_count(rows) - 1);

    cr_assert(json_get_bool(row, "no_card", false));
    cr_assert_eq(json_get_int(row, "rate_milli", 0), 100);
    cr_assert_str_eq(json_get_text(row, "rate_basis"), "list");
}

/* What the power-on is refused is the answer, and stays on the screen. */
Test(control_rent, machine_without_its_card_is_not_kept_without_the_money_for_it)
{
    begin_machine();
    fake.has_no_card = true;
    json_free(answers("Down", "{\"target\":\"box\"}"));
    json_free(answers("ProviderSet", "{\"provider\":\"autodl\",\"day_milli\":50}"));

    unsigned n_started = at.n_started;

    refuses(CALL("Keep", WITHOUT), "io.llmhost.Refused", "code", "budget");
    cr_assert_eq(at.n_started, n_started);

    _cleanup_json_ struct json *v = answers("InstanceShow", "{\"name\":\"box\"}");

    cr_assert_str_eq(json_get_text(json_get(json_get(v, "instance"), "trouble"), "code"), "budget");
    json_free(answers("ProviderSet", "{\"provider\":\"autodl\",\"day_milli\":0}"));
    json_free(answers("Keep", WITHOUT));
    box_gets(LIFE_RUNNING);
}

/* No model runs without a card. */
Test(control_rent, model_that_is_wanted_has_the_machine_off_and_on_with_its_card)
{
    begin_machine();
    fake.has_no_card = true;
    json_free(answers("Down", "{\"target\":\"box\"}"));
    json_free(answers("Keep", WITHOUT));
    box_gets(LIFE_RUNNING);
    cr_assert(at.machine.no_card);

    unsigned n_stopped = at.n_stopped, n_started = at.n_started;

    json_free(answers("Up", "{\"model\":\"ollama:m\",\"on\":\"box\",\"wait\":false}"));
    for (unsigned i = 0; i < 20 && at.n_started == n_started; i++)
        time_passes(2000);
    box_gets(LIFE_RUNNING);
    cr_assert_eq(at.n_started, n_started + 1);
    cr_assert_gt(at.n_stopped, n_stopped);
    cr_assert_not(at.machine.no_card);
    loop_advance(w.loop, 4000000);
    cr_assert_eq(box_state(), LIFE_RUNNING, "that keep is over, and the model is wanted");
}
