/* links: control
 *
 * A model on several instances: which one a request is sent to, and Up, Down, Sleep and Keep for several at
 * once. */
#include "deployment/deployment_private.h"
#include "tests/unit/control_world.h"

#define TINY "ollama:tiny"

static void begin_with_three(void)
{
    world_begin();
    json_free(answers("InstanceAdd", "{\"name\":\"a\",\"provider\":\"local\"}"));
    json_free(answers("InstanceAdd", "{\"name\":\"b\",\"provider\":\"local\"}"));
    json_free(answers("InstanceAdd", "{\"name\":\"c\",\"provider\":\"local\"}"));
}

TestSuite(control_several, .init = begin_with_three, .fini = world_end, .timeout = 60);

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

static struct deployment *on(const char *instance)
{
    return manager_find_on(w.manager, TINY, instance);
}

/* There is no ollama here, so each fails at once. */
static void up_on(const char *list)
{
    _cleanup_free_ char *parameters =
        xasprintf("{\"model\":\"" TINY "\",\"on\":\"%s\",\"wait\":false}", list);

    json_free(answers("Up", parameters));
}

/* ---- which one ---- */

static void set(const char *instance, enum deployment_state state, unsigned in_flight)
{
    struct deployment *d = on(instance);

    d->state = state;
    d->goal = GOAL_ON_DEMAND;
    d->in_flight = in_flight;
    d->held = 0;
    d->shunned_due = 0;
}

static void was_ready_before(const char *instance)
{
    _cleanup_free_ char *what = xasprintf("up " TINY " %s", instance);

    store_put_duration(w.store, what, 5000);
}

static const char *best(void)
{
    return lease_name(deployment_lease(manager_find_id(w.manager, "tiny")));
}

/* Where a request that waits for that one goes. */
static const char *from(const char *instance)
{
    struct deployment *d = manager_find_sooner(w.manager, on(instance));

    return d ? lease_name(deployment_lease(d)) : "(stays)";
}

static void three_that_failed(void)
{
    up_on("a,b,c");
    cr_assert(LOOP_UNTIL(w.loop, deployment_state(on("a")) == DEPLOYMENT_FAILED &&
                                     deployment_state(on("b")) == DEPLOYMENT_FAILED &&
                                     deployment_state(on("c")) == DEPLOYMENT_FAILED));
    was_ready_before("a");
    was_ready_before("b");
    was_ready_before("c");
}

/* Nothing of it runs: they end as they began. */
static void end_of_three(void)
{
    set("a", DEPLOYMENT_FAILED, 0);
    set("b", DEPLOYMENT_FAILED, 0);
    set("c", DEPLOYMENT_FAILED, 0);
}

Test(control_several, of_those_that_are_ready_the_least_busy_and_a_request_that_waits_stays)
{
    three_that_failed();
    set("a", DEPLOYMENT_READY, 2);
    set("b", DEPLOYMENT_READY, 1);
    set("c", DEPLOYMENT_LOADING, 0);
    cr_assert_str_eq(best(), "b");
    cr_assert_str_eq(from("a"), "(stays)", "that another is less busy is no reason");
    cr_assert_str_eq(from("c"), "b");
    set("b", DEPLOYMENT_READY, 2);
    cr_assert_str_eq(best(), "a", "the first of equals");
    end_of_three();
}

Test(control_several, one_that_just_failed_a_request_comes_last_for_a_while)
{
    three_that_failed();
    set("a", DEPLOYMENT_READY, 0);
    set("b", DEPLOYMENT_READY, 7);
    deployment_served(on("a"), false);
    cr_assert_str_eq(best(), "b");
    cr_assert_str_eq(from("a"), "b");
    set("b", DEPLOYMENT_LOADING, 0);
    cr_assert_str_eq(best(), "a", "better than one that is not ready");
    set("b", DEPLOYMENT_READY, 7);
    deployment_served(on("b"), false);
    cr_assert_str_eq(best(), "a", "all of them did");
    cr_assert_str_eq(from("a"), "(stays)");
    deployment_served(on("b"), true);
    cr_assert_str_eq(best(), "b");
    on("a")->shunned_due = clock_now_ms();
    cr_assert_str_eq(best(), "a", "that is over");
    end_of_three();
}

Test(control_several, of_those_that_sleep_one_is_woken)
{
    three_that_failed();
    set("a", DEPLOYMENT_ASLEEP, 0);
    set("b", DEPLOYMENT_ASLEEP, 0);
    cr_assert_str_eq(best(), "a");
    on("a")->in_flight = on("a")->held = 5; /* they came in this very moment: it does not wake yet */
    cr_assert_str_eq(best(), "a");
    cr_assert_str_eq(from("a"), "(stays)");
    set("a", DEPLOYMENT_CONNECTING, 9);
    cr_assert_str_eq(best(), "a", "it is on its way");
    set("a", DEPLOYMENT_DRAINING, 1);
    cr_assert_str_eq(best(), "b");
    set("a", DEPLOYMENT_FETCHING, 1);
    cr_assert_str_eq(best(), "a");
    end_of_three();
}

Test(control_several, one_that_comes_up_for_the_first_time_may_take_an_hour)
{
    up_on("a,b");
    cr_assert(LOOP_UNTIL(w.loop, deployment_state(on("a")) == DEPLOYMENT_FAILED &&
                                     deployment_state(on("b")) == DEPLOYMENT_FAILED));
    was_ready_before("b");
    set("a", DEPLOYMENT_FETCHING, 0);
    set("b", DEPLOYMENT_ASLEEP, 0);
    cr_assert_str_eq(best(), "b");
    cr_assert_str_eq(from("a"), "b");
    set("a", DEPLOYMENT_FAILED, 0);
    set("b", DEPLOYMENT_FAILED, 0);
}

Test(control_several, what_is_off_or_has_failed_is_asked_by_nobody)
{
    three_that_failed();
    set("a", DEPLOYMENT_READY, 0);
    on("a")->goal = GOAL_OFF;
    set("c", DEPLOYMENT_ASLEEP, 0);
    cr_assert_str_eq(best(), "c");
    cr_assert_str_eq(from("a"), "c");
    cr_assert_str_eq(from("b"), "c");
    on("c")->goal = GOAL_OFF;
    cr_assert_str_eq(best(), "b", "its reason is told");
    cr_assert_str_eq(from("b"), "(stays)");
    end_of_three();
}

Test(control_several, a_request_that_moved_was_never_there)
{
    struct deployment_figures n;
    struct deployment_use use, later;
    struct deployment *d;
    int64_t requests, begun_at_ms;

    three_that_failed();
    set("a", DEPLOYMENT_LOADING, 0);
    d = on("a");
    requests = d->requests;
    deployment_request_begin(d, &use);
    use.begun_at_ms = begun_at_ms = 1000000;
    deployment_request_held(d, &use, true);
    deployment_request_held(d, &use, false);
    deployment_request_begin(on("b"), &later);
    deployment_request_moved(d, on("b"), &use);
    deployment_figures(d, &n);
    cr_assert_eq(n.open + n.held, 0);
    cr_assert_eq(n.requests, requests);
    deployment_figures(on("b"), &n);
    cr_assert_eq(n.open, 2);
    cr_assert_eq(n.open_since_at_ms, begun_at_ms, "it brings its age along");
    deployment_request_end(on("b"), &use);
    deployment_request_end(on("b"), &later);
    end_of_three();
}

/* ---- several in one call ---- */

Test(control_several, up_is_for_all_that_are_named_each_once)
{
    up_on("c,a,c");
    assert_places("a:on_demand c:on_demand ");
    json_free(answers("Down", "{\"target\":\"" TINY "\",\"on\":\"a,c\"}"));
    assert_places("a:off c:off ");
    up_on("b,c");
    assert_places("a:off b:on_demand c:on_demand ");
}

Test(control_several, one_that_is_off_moves_unless_it_is_where_it_is_wanted)
{
    up_on("c");
    json_free(answers("Down", "{\"target\":\"" TINY "\"}"));
    up_on("a,c");
    assert_places("a:on_demand c:on_demand ");
    json_free(answers("Down", "{\"target\":\"" TINY "\",\"forget\":true}"));
    up_on("b");
    json_free(answers("Down", "{\"target\":\"" TINY "\"}"));
    up_on("a,c");
    assert_places("a:on_demand c:on_demand ");
}

Test(control_several, up_changes_nothing_when_one_of_them_cannot_be_meant)
{
    refuses("{\"method\":\"io.llmhost.Up\",\"parameters\":{\"model\":\"" TINY "\",\"on\":\"a,nowhere\"}}",
            "io.llmhost.NotFound", "code", "no_such_instance");
    refuses("{\"method\":\"io.llmhost.Up\",\"parameters\":{\"model\":\"" TINY "\",\"on\":\"a,\"}}",
            "io.llmhost.NotFound", "code", "no_such_instance");
    refuses("{\"method\":\"io.llmhost.Up\",\"parameters\":{\"model\":\"" TINY "\",\"on\":\"\"}}",
            "io.llmhost.NotFound", "code", "no_such_instance");
    refuses("{\"method\":\"io.llmhost.Up\",\"parameters\":{\"model\":\"tiny\",\"on\":\"a,b\"}}",
            "io.llmhost.Usage", "code", "bad_model");
    assert_places("");
}

Test(control_several, down_changes_nothing_when_it_is_not_on_one_of_them)
{
    up_on("a,b");
    refuses("{\"method\":\"io.llmhost.Down\",\"parameters\":{\"target\":\"" TINY "\",\"on\":\"a,c\"}}",
            "io.llmhost.NotFound", "message", TINY " is not on c");
    refuses("{\"method\":\"io.llmhost.Sleep\",\"parameters\":{\"target\":\"" TINY "\",\"on\":\"c\"}}",
            "io.llmhost.NotFound", "message", TINY " is not on c");
    assert_places("a:on_demand b:on_demand ");
    json_free(answers("Keep", "{\"target\":\"" TINY "\",\"on\":\"b\",\"for_ms\":60000}"));
    assert_places("a:on_demand b:on ");
    json_free(answers("Keep", "{\"target\":\"" TINY "\",\"for_ms\":60000}"));
    assert_places("a:on b:on ");
    json_free(answers("Down", "{\"target\":\"" TINY "\"}"));
    assert_places("a:off b:off ");
}

/* What is waited for is what is wanted; off elsewhere says nothing of it. */
Test(control_several, wait_is_about_what_is_wanted)
{
    three_that_failed();
    on("a")->goal = GOAL_OFF;
    on("a")->state = DEPLOYMENT_OFF;
    set("b", DEPLOYMENT_LOADING, 0);
    set("c", DEPLOYMENT_LOADING, 0);
    refuses("{\"method\":\"io.llmhost.Wait\",\"parameters\":{\"target\":\"" TINY "\",\"timeout_ms\":50}}",
            "io.llmhost.TimedOut", "target", TINY);
    set("b", DEPLOYMENT_ASLEEP, 0);
    set("c", DEPLOYMENT_ASLEEP, 0);
    json_free(answers("Wait", "{\"target\":\"" TINY "\"}"));
    end_of_three();
}

Test(control_several, what_is_off_everywhere_is_no_instance)
{
    three_that_failed();
    json_free(answers("Down", "{\"target\":\"" TINY "\"}"));
    refuses("{\"method\":\"io.llmhost.Sleep\",\"parameters\":{\"target\":\"" TINY "\"}}",
            "io.llmhost.NotRunning", "code", "stopped_by_user");
    refuses("{\"method\":\"io.llmhost.Wait\",\"parameters\":{\"target\":\"" TINY "\"}}",
            "io.llmhost.NotRunning", "code", "stopped_by_user");
}

/* Nobody switches such a host off from here: the answer says which it is. */
Test(control_several, down_of_a_host_that_is_not_rented_names_it)
{
    three_that_failed();

    _cleanup_json_ struct json *v = answers("Down", "{\"target\":\"a\"}");
    const struct json *host = json_get(v, "instance");

    cr_assert_str_eq(json_get_text(host, "name"), "a");
    cr_assert_not(json_get_bool(host, "rented", false));
}

Test(control_several, all_that_are_ready_are_told_at_once)
{
    three_that_failed();
    set("a", DEPLOYMENT_READY, 0);
    set("b", DEPLOYMENT_READY, 0);
    _cleanup_json_ struct json *v = answers("Up", "{\"model\":\"" TINY "\",\"on\":\"a,b\"}");
    const struct json *models = json_get(v, "models");

    cr_assert_eq(json_count(models), 2);
    cr_assert_str_eq(json_get_text(json_at(models, 1), "instance"), "b");
    cr_assert_str_eq(json_get_text(json_get(v, "model"), "instance"), "a");
    end_of_three();
}

Test(control_several, a_half_failure_says_who_is_there_and_why_who_is_not)
{
    three_that_failed();
    set("a", DEPLOYMENT_READY, 0);
    _cleanup_json_ struct json *v =
        ask("{\"method\":\"io.llmhost.Up\",\"parameters\":{\"model\":\"" TINY "\",\"on\":\"a,b,c\"}}");
    const struct json *said = json_get(v, "parameters");

    cr_assert_str_eq(json_get_text(v, "error"), "io.llmhost.EngineFailed");
    cr_assert_str_eq(json_get_text(said, "code"), "engine_missing");
    cr_assert_str_eq(json_get_text(said, "message"), TINY " is ready on a, but not on b, c");
    cr_assert(strstr(json_get_text(said, "why"), "b: "), "%s", json_get_text(said, "why"));
    cr_assert(strstr(json_get_text(said, "why"), "; c: "), "%s", json_get_text(said, "why"));
    cr_assert(json_count(json_get(said, "next")) > 0);
    end_of_three();
}

Test(control_several, progress_says_on_which_of_them)
{
    bool of_a = false, of_b = false;

    say(&w.caller, "{\"method\":\"io.llmhost.Up\",\"parameters\":{\"model\":\"" TINY
                   "\",\"on\":\"a,b\"},\"more\":true}");
    for (;;) {
        _cleanup_json_ struct json *v = hear(&w.caller);
        const struct json *said = json_get(v, "parameters"), *progress = json_get(said, "progress");
        _cleanup_free_ char *where = NULL;

        if (json_get_text(v, "error")) {
            cr_assert_str_eq(json_get_text(said, "message"), TINY " is ready on none of a, b");
            break;
        }
        cr_assert_eq(varlink_check_reply(w.contract, "Up", said, &where), 0, "%s", where);
        cr_assert(progress || json_count(json_get(said, "models")) == 2);
        if (progress) {
            of_a |= streq(json_get_text(progress, "instance"), "a");
            of_b |= streq(json_get_text(progress, "instance"), "b");
        }
    }
    cr_assert(of_a && of_b);
}

/* What is no stage is a Progress of the contract like the others. */
Test(control_several, a_server_that_must_end_first_and_who_makes_room_are_told)
{
    three_that_failed();
    set("a", DEPLOYMENT_DRAINING, 1);
    on("a")->stale = true;
    set("b", DEPLOYMENT_PLACING, 0);
    snprintf(on("b")->room, sizeof on("b")->room, "ollama:other sleeps for it");
    bool waits = false, room = false;

    say(&w.caller, "{\"method\":\"io.llmhost.Up\",\"parameters\":{\"model\":\"" TINY
                   "\",\"on\":\"a,b\",\"timeout_ms\":300},\"more\":true}");
    for (;;) {
        _cleanup_json_ struct json *v = hear(&w.caller);
        const char *text = json_get_text(json_get(json_get(v, "parameters"), "progress"), "text");

        if (json_get_text(v, "error"))
            break;
        waits |= text && streq(text, "waits for 1 open request, to begin anew");
        room |= text && streq(text, "ollama:other sleeps for it");
    }
    cr_assert(waits);
    cr_assert(room);
    end_of_three();
}
