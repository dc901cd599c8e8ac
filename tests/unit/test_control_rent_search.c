/* links: control
 * wraps: rental_find rental_at keeper_state rented_is_anothers rented_stop_by_guard shape_ask
 *
 * A machine that is wanted and not to be had, as callers meet it, and what a search leaves. */
#include <sqlite3.h>

#include "tests/unit/control_rent_world.h"

TestSuite(control_rent_search, .init = begin, .fini = world_end, .timeout = 60);

/* Until the next try is so far away. */
static bool search_rests(int64_t ms)
{
    struct rented_figures n;

    for (unsigned i = 0; i < 60; i++) {
        rented_figures(lease_rented(box()), &n);
        if (box_state() == LIFE_WAITING && n.next_at_ms - clock_wall_ms() > ms)
            return true;
        time_passes(1000);
    }
    return false;
}

Test(control_rent_search, time_without_a_card_ends_with_no_capacity)
{
    begin_account();
    at.has_card = false;
    say(&w.caller, CALL("Up", "{\"model\":\"ollama:m\",\"gpu\":\"4090D\",\"on\":\"box\",\"anyway\":true}"));
    box_gets(LIFE_WAITING);
    for (unsigned i = 0; i < 50; i++)
        time_passes(2000);
    cr_assert(is_silent(&w.caller), "no card is no error while it is looked for");

    /* In the middle of a try nobody knows. */
    caller_leaves(&w.caller);
    caller_comes(&w.caller);
    cr_assert(search_rests(20000));
    say(&w.caller, CALL("Up", "{\"model\":\"ollama:m\",\"gpu\":\"4090D\",\"on\":\"box\",\"anyway\":true,"
                              "\"timeout_ms\":10000}"));
    for (unsigned i = 0; i < 20 && !has_message(&w.caller); i++)
        time_passes(1000);

    _cleanup_json_ struct json *v = hear(&w.caller);
    const struct json *p = json_get(v, "parameters");

    cr_assert_str_eq(json_get_text(v, "error"), "io.llmhost.NoCapacity", "%s: %s", json_get_text(p, "code"),
                     json_get_text(p, "why"));
    cr_assert_not_null(strstr(json_get_text(p, "why"), "the search goes on"));
    cr_assert_not_null(strstr(json_text(json_at(json_get(p, "next"), 1)), "llmhostctl down ollama:m"));
    cr_assert_eq(box_state(), LIFE_WAITING);
}

/* Round after round; how the search goes on is what its stage says. */
Test(control_rent_search, each_card_that_is_asked_for_in_vain_is_told_once)
{
    struct buf refused;
    bool waits = false;

    buf_init(&refused, 4096);
    begin_account();
    at.has_card = false;
    say(&w.caller, MORE("Up", "{\"model\":\"ollama:m\",\"gpu\":\"4090D,4090Dx2\",\"on\":\"box\","
                              "\"anyway\":true,\"timeout_ms\":200000}"));
    for (bool over = false; !over;) {
        for (unsigned i = 0; i < 150 && !has_message(&w.caller); i++)
            time_passes(2000);

        _cleanup_json_ struct json *v = hear(&w.caller);
        const struct json *progress = json_get(json_get(v, "parameters"), "progress");
        const char *text = json_get_text(progress, "text");

        over = json_get_text(v, "error") != NULL;
        if (!progress)
            continue;
        cr_assert_str_eq(json_get_text(progress, "stage"), "capacity");
        cr_assert_str_eq(json_get_text(progress, "instance"), "box");
        if (streq(json_get_text(progress, "state"), "refused"))
            buf_addf(&refused, "%s; ", text);
        waits |= strncmp(text, "none free, try 4, until ", 24) == 0 &&
                 json_get_int(progress, "next_at_ms", 0) > clock_wall_ms();
    }
    cr_assert_str_eq(buf_text(&refused), "4090D: no free card; 4090Dx2: no free card; ");
    cr_assert(waits);
    buf_done(&refused);
}

/* The text of that stage in that state, whatever is told before it; "": it has none. Caller frees. */
static char *told_of(const char *stage, const char *state)
{
    for (unsigned i = 0; i < 200; i++) {
        time_passes(250);
        loop_turns(w.loop, 20);
        while (has_message(&w.caller)) {
            _cleanup_json_ struct json *v = hear(&w.caller);
            const struct json *progress = json_get(json_get(v, "parameters"), "progress");

            cr_assert_null(json_get_text(v, "error"));
            if (progress && streq(json_get_text(progress, "stage"), stage) &&
                streq(json_get_text(progress, "state"), state) && *json_get_text(progress, "text"))
                return xstrdup(json_get_text(progress, "text"));
        }
    }
    return NULL;
}

/* Who waits knows what it may come to, and which one it is as soon as that bills. */
Test(control_rent_search, all_cards_are_announced_and_what_comes_is_named)
{
    begin_account();
    say(&w.caller, MORE("Up", "{\"model\":\"ollama:m\",\"gpu\":\"4090D,4090Dx2\",\"region\":\"beijingDC2\","
                              "\"max_price_milli\":4000,\"anyway\":true}"));
    _cleanup_json_ struct json *v = hear(&w.caller);
    const struct json *rental = json_get(json_get(json_get(v, "parameters"), "instance"), "rental");

    cr_assert_eq(json_count(json_get(rental, "candidates")), 2);
    cr_assert_eq(json_get_int(json_get(rental, "search_max_price"), "milli", 0), 4000);
    _cleanup_free_ char *text = told_of("capacity", "done");

    cr_assert_str_eq(text, "4090D in beijingDC2, ¥1.88/h~");
}

Test(control_rent_search, machine_that_is_woken_is_named_with_its_price)
{
    begin_machine();
    json_free(answers("Down", "{\"target\":\"box\"}"));
    at.loses_starts = true;
    say(&w.caller, MORE("Up", "{\"model\":\"ollama:m\"}"));
    _cleanup_free_ char *text = told_of("power_on", "running");

    cr_assert_str_eq(text, "box: 4090D, ¥1.88/h");
}

/* ---- the end of a search ---- */

#define SEARCH                                                                                               \
    "{\"model\":\"ollama:m\",\"gpu\":\"4090D,5090\",\"max_price_milli\":9000,\"anyway\":true,\"wait\":false}"

static const struct rental_record *record_of(const char *name)
{
    struct lease *l = manager_find_lease(w.manager, name);

    return l ? rented_record(lease_rented(l)) : NULL;
}

static void daemon_is_started_again(void)
{
    daemon_ends();
    daemon_begins();
    caller_leaves(&w.caller);
    caller_comes(&w.caller);
}

static void search_until_refused(unsigned n_asked)
{
    json_free(answers("Up", SEARCH));
    for (unsigned i = 0; i < 200 && at.n_asked < n_asked; i++) {
        loop_turns(w.loop, 20);
        time_passes(500);
    }
    cr_assert_geq(at.n_asked, n_asked);
    loop_turns(w.loop, 20);
}

static void begin_search(void)
{
    begin_account();
    at.has_card = false;
    search_until_refused(2);
    cr_assert(record_of("rented")->never_made && record_of("rented")->by_search);
    cr_assert_str_eq(record_of("rented")->card, "spec-5090", "the second was tried");
}

/* The last reply of a Down with "more"; no stage of it is about an engine. */
static struct json *down_of_search(const char *target)
{
    _cleanup_free_ char *down = xasprintf(MORE("Down", "{\"target\":\"%s\"}"), target);

    say(&w.caller, down);
    for (;;) {
        struct json *v = hear(&w.caller);
        const struct json *p = json_get(v, "parameters");
        const char *stage = json_get_text(json_get(p, "progress"), "stage");

        cr_assert_null(json_get_text(v, "error"), "%s", json_get_text(p, "message"));
        cr_assert(!stage || !streq(stage, "engine"), "none ran");
        if (json_get_bool(p, "done", false))
            return v;
        json_free(v);
    }
}

Test(control_rent_search, down_of_a_search_over_several_says_that_nothing_was_on_and_leaves_nothing)
{
    begin_search();

    _cleanup_json_ struct json *v = down_of_search("ollama:m");
    const struct json *search = json_get(json_get(v, "parameters"), "search");

    cr_assert_eq(json_type(search), JSON_OBJECT);
    cr_assert_not(json_get_bool(search, "powered", true));
    cr_assert_str_eq(json_get_text(search, "gpu"), "4090D,5090");
    cr_assert_eq(json_get_int(search, "max_price_milli", 0), record_of("rented")->max_price_milli);
    cr_assert_null(json_get_text(search, "region"), "nobody said a word of it");
    cr_assert_null(json_get_text(search, "image"));
    cr_assert_null(json_get(search, "disk_gb"));
    cr_assert_null(json_get_text(search, "provider"), "there is one account");
    cr_assert_not_null(record_of("rented"), "whoever ended it is told first");
    time_passes(2000);
    loop_turns(w.loop, 20);
    cr_assert_null(manager_lease_at(w.manager, 0));
    cr_assert_null(manager_deployment_at(w.manager, 0));
    cr_assert_eq(at.n_created, 0);
}

Test(control_rent_search, down_of_a_search_says_all_that_it_was_looked_for_with)
{
    begin_account();
    at.has_card = false;
    json_free(answers("Up", "{\"model\":\"ollama:m\",\"gpu\":\"4090D,4090Dx2\",\"anyway\":true,\"wait\":false,"
                            "\"region\":\"beijingDC2,westDC3\",\"image\":\"image-2\",\"disk_gb\":100}"));
    time_passes(3000);
    _cleanup_json_ struct json *v = down_of_search("ollama:m");
    const struct json *search = json_get(json_get(v, "parameters"), "search");

    cr_assert_str_eq(json_get_text(search, "gpu"), "4090D,4090Dx2");
    cr_assert_str_eq(json_get_text(search, "region"), "beijingDC2,westDC3");
    cr_assert_str_eq(json_get_text(search, "image"), "image-2");
    cr_assert_eq(json_get_int(search, "disk_gb", 0), 100);
}

static const struct json *cause_of(const struct json *line, const char *cause)
{
    const struct json *causes = json_get(line, "causes"), *found = NULL;

    for (size_t i = 0; i < json_count(causes); i++)
        if (streq(json_get_text(json_at(causes, i), "cause"), cause))
            found = json_at(causes, i);
    return found;
}

Test(control_rent_search, why_tells_of_a_search_since_when_what_was_answered_and_what_is_next)
{
    begin_search();

    _cleanup_json_ struct json *v = answers("Why", "{}");
    const struct json *lines = json_get(v, "lines"), *model = json_at(lines, 1);

    cr_assert_eq(json_count(lines), 2);
    cr_assert_str_eq(json_get_text(first(v, "lines"), "target"), "rented");
    cr_assert_str_eq(json_get_text(model, "target"), "ollama:m");
    for (unsigned i = 0; i < 2; i++) {
        cr_assert_str_eq(json_get_text(json_at(lines, i), "verdict"), "search");
        cr_assert(json_get_int(cause_of(json_at(lines, i), "searched"), "since_at_ms", 0));
        cr_assert_str_eq(json_get_text(cause_of(json_at(lines, i), "answered"), "text"),
                         "5090: no free card");
        cr_assert_str_eq(json_get_text(cause_of(json_at(lines, i), "next_try"), "text"), "4090D");
        cr_assert(json_get_int(cause_of(json_at(lines, i), "next_try"), "until_at_ms", 0));
        cr_assert(json_get_int(cause_of(json_at(lines, i), "search_ends"), "until_at_ms", 0));
        cr_assert_null(cause_of(json_at(lines, i), "stopped_by_user"));
    }
}

/* Two that were named, for which there was no card. */
static void begin_two(void)
{
    begin_account();
    at.has_card = false;
    json_free(answers("Up", "{\"model\":\"ollama:m\",\"gpu\":\"4090D\",\"on\":\"one\",\"anyway\":true,"
                            "\"wait\":false}"));
    json_free(answers("Down", "{\"target\":\"ollama:m\"}"));
    json_free(answers("Up", "{\"model\":\"ollama:n\",\"gpu\":\"5090\",\"on\":\"two\",\"anyway\":true,"
                            "\"max_price_milli\":9000,\"wait\":false}"));
    json_free(answers("Down", "{\"target\":\"ollama:n\",\"forget\":true}"));
    json_free(answers("Up", "{\"model\":\"ollama:m\",\"on\":\"one\",\"or_on\":\"two\",\"wait\":false}"));
}

static const struct deployment *m_on(const char *name)
{
    return manager_find_on(w.manager, "ollama:m", name);
}

Test(control_rent_search, one_whose_turn_is_over_was_not_stopped_by_anybody)
{
    struct fault off;

    begin_two();
    for (unsigned i = 0; i < 200 && deployment_goal(m_on("two")) == GOAL_OFF; i++)
        time_passes(500);
    cr_assert_neq(deployment_goal(m_on("two")), GOAL_OFF);

    _cleanup_json_ struct json *v = answers("Why", "{\"targets\":[\"ollama:m\"]}");

    cr_assert_eq(json_count(json_get(v, "lines")), 1, "one line for all of them");
    cr_assert_str_eq(json_get_text(first(v, "lines"), "verdict"), "search");
    cr_assert_str_eq(json_get_text(cause_of(first(v, "lines"), "answered"), "text"),
                     "one: no free card");
    deployment_describe_off(m_on("one"), &off);
    cr_assert_str_eq(off.code, "passed_over");
    cr_assert_not_null(strstr(off.text, "nothing came of one"), "%s", off.text);

    _cleanup_json_ struct json *over = down_of_search("ollama:m");
    const struct json *search = json_get(json_get(over, "parameters"), "search");

    cr_assert_eq(json_type(search), JSON_OBJECT);
    cr_assert_not(json_get_bool(search, "powered", true));
    cr_assert_null(json_get_text(search, "gpu"), "both stay, as somebody named them");
    deployment_describe_off(m_on("one"), &off);
    cr_assert_str_eq(off.code, "stopped_by_user", "now it was");

    _cleanup_json_ struct json *why = answers("Why", "{\"targets\":[\"one\"]}");

    cr_assert_not_null(cause_of(first(why, "lines"), "never_made"));
}

/* Between two turns: the one that came would seem to have been wanted before the search began. */
static void second_comes_after_the_clock_was_set(int64_t ms)
{
    begin_two();
    loop_clock_is_set(ms);
    at.ahead_ms = -ms;
    time_passes(30000);
    for (unsigned i = 0; i < 200 && deployment_goal(m_on("two")) == GOAL_OFF; i++)
        time_passes(500);
    for (unsigned i = 0; i < 200 && !at.n_created; i++) {
        at.has_card = deployment_goal(m_on("two")) != GOAL_OFF; /* the other one gets none */
        loop_turns(w.loop, 20);
        time_passes(500);
    }
    cr_assert_eq(at.n_created, 1);
    loop_turns(w.loop, 20);
    time_passes(60000);
}

static void down_tells_of_the_second(void)
{
    _cleanup_json_ struct json *v = NULL;
    const struct json *search;

    say(&w.caller, MORE("Down", "{\"target\":\"ollama:m\"}"));
    for (bool done = false; !done; done = json_get_bool(json_get(v, "parameters"), "done", false)) {
        for (unsigned i = 0; i < 200 && !has_message(&w.caller); i++)
            time_passes(1000);
        json_free(v);
        v = hear(&w.caller);
        cr_assert_null(json_get_text(v, "error"), "%s",
                       json_get_text(json_get(v, "parameters"), "message"));
    }
    search = json_get(json_get(v, "parameters"), "search");
    cr_assert_eq(json_type(search), JSON_OBJECT);
    cr_assert(json_get_bool(search, "powered", false));
    cr_assert_eq(json_count(json_get(search, "instances")), 1);
    cr_assert_str_eq(json_text(json_at(json_get(search, "instances"), 0)), "two");
    cr_assert_geq(json_get_int(search, "powered_ms", 0), 60000);
    cr_assert_gt(json_get_int(json_get(search, "amount"), "milli", 0), 0);
}

Test(control_rent_search, clock_that_is_set_back_hides_none_that_was_on)
{
    second_comes_after_the_clock_was_set(-3600000);
    down_tells_of_the_second();
}

Test(control_rent_search, nor_one_that_is_set_on)
{
    second_comes_after_the_clock_was_set(3600000);
    down_tells_of_the_second();
}

Test(control_rent_search, nor_from_the_daemon_after_that)
{
    second_comes_after_the_clock_was_set(-3600000);
    daemon_is_started_again();
    for (unsigned i = 0; i < 5; i++)
        time_passes(2000);
    down_tells_of_the_second();
}

Test(control_rent_search, next_search_has_the_name_of_the_one_that_was_given_up)
{
    begin_search();
    json_free(answers("Down", "{\"target\":\"ollama:m\"}"));
    json_free(answers("Up", "{\"model\":\"ollama:n\",\"gpu\":\"4090D,4090Dx2\",\"max_price_milli\":1990,"
                            "\"anyway\":true,\"wait\":false}"));
    time_passes(5000);
    loop_turns(w.loop, 20);
    cr_assert_null(manager_lease_at(w.manager, 1), "no rented-2");
    cr_assert_str_eq(record_of("rented")->gpu, "4090D,4090Dx2", "and looks for what is wanted now");
    cr_assert_str_eq(record_of("rented")->card, "spec-4090d");
    cr_assert_eq(record_of("rented")->max_price_milli, 1990);
}

Test(control_rent_search, what_a_search_left_is_forgotten_by_the_next_daemon_too)
{
    begin_search();
    deployment_want(manager_find_deployment(w.manager, "ollama:m"), GOAL_OFF, true);
    time_passes(0);
    daemon_is_started_again();
    for (unsigned i = 0; i < 100 && manager_lease_at(w.manager, 0); i++)
        time_passes(2000);
    cr_assert_null(manager_lease_at(w.manager, 0));
}

Test(control_rent_search, one_that_somebody_named_outlasts_its_search)
{
    begin_account();
    at.has_card = false;
    json_free(answers("Up", UP));
    box_gets(LIFE_WAITING);
    json_free(answers("Down", "{\"target\":\"ollama:m\"}"));
    time_passes(5000);
    loop_turns(w.loop, 20);
    cr_assert_not_null(box());

    _cleanup_json_ struct json *v = answers("Release", "{\"instance\":\"box\",\"confirm\":\"box\"}");

    cr_assert(json_get_bool(v, "never_made", false));
    cr_assert_null(json_get(v, "spent"));
    cr_assert_null(box());
}

/* Nobody heard what became of it: it may be there, and come late. The first call got no answer, and as many as are asked after it a plain no. */
static void lose_a_create(unsigned n_after)
{
    begin_search();
    at.loses_create = true;
    for (unsigned i = 0, n = at.n_asked; i < 100 && at.n_asked == n; i++)
        time_passes(2000);
    loop_turns(w.loop, 20);
    at.loses_create = false;
    for (unsigned i = 0, n = at.n_asked; i < 400 && at.n_asked < n + n_after; i++) {
        loop_turns(w.loop, 20);
        time_passes(2000);
    }
    loop_turns(w.loop, 20);
}

static void down_is_unsure(const char *name)
{
    say(&w.caller, MORE("Down", "{\"target\":\"ollama:m\"}"));
    for (unsigned i = 0; i < 200; i++) {
        loop_turns(w.loop, 20);
        time_passes(5000);
    }
    for (;;) {
        _cleanup_json_ struct json *v = hear(&w.caller);
        const struct json *p = json_get(v, "parameters"), *search = json_get(p, "search");
        const char *stage = json_get_text(json_get(p, "progress"), "stage");

        cr_assert_null(json_get_text(v, "error"), "%s", json_get_text(p, "message"));
        cr_assert(!stage || !streq(stage, "confirmed"), "nobody confirmed anything");
        cr_assert(!stage || !streq(stage, "engine"), "none was ever there");
        if (!json_get_bool(p, "done", false))
            continue;
        cr_assert_not(json_get_bool(search, "powered", true));
        cr_assert_str_eq(json_text(json_at(json_get(search, "unsure"), 0)), name);
        cr_assert_null(json_get_text(search, "gpu"), "it stays, to be looked for");
        return;
    }
}

Test(control_rent_search, down_of_a_search_promises_nothing_of_a_call_that_got_no_answer)
{
    lose_a_create(0);
    down_is_unsure("rented");
}

Test(control_rent_search, nor_when_it_was_the_only_one)
{
    lose_the_only_create();
    down_is_unsure("4090d");
}

Test(control_rent_search, what_may_still_come_is_not_forgotten_by_release)
{
    lose_a_create(0);
    down_is_unsure("rented");
    refuses(CALL("Release", "{\"instance\":\"rented\",\"confirm\":\"rented\"}"), "io.llmhost.Conflict", "code",
            "in_doubt");
    cr_assert_not_null(manager_find_lease(w.manager, "rented"));
    time_passes(24 * 3600 * 1000);
    loop_turns(w.loop, 20);
    json_free(answers("Release", "{\"instance\":\"rented\",\"confirm\":\"rented\"}"));
    cr_assert_null(manager_find_lease(w.manager, "rented"));
}

Test(control_rent_search, nor_behind_a_restart_and_its_machine_says_that_it_is_unsure)
{
    lose_the_only_create();
    daemon_is_started_again();

    _cleanup_json_ struct json *v = answers("InstanceShow", "{\"name\":\"4090d\"}");

    cr_assert(json_get_bool(json_get(json_get(v, "instance"), "rental"), "unsure", false));
    down_is_unsure("4090d");
}

/* In the time in which that call may still act. */
Test(control_rent_search, what_is_off_in_doubt_is_neither_awake_nor_waking)
{
    bool doubted = false;

    lose_the_only_create();
    daemon_is_started_again();
    deployment_want(manager_find_deployment(w.manager, "ollama:m"), GOAL_OFF, true);
    for (unsigned i = 0; i < 200; i++) {
        loop_turns(w.loop, 20);
        time_passes(500);
        _cleanup_json_ struct json *now = answers("Status", "{}"), *why = answers("Why", "{}");
        const struct json *rental = json_get(json_at(json_get(now, "instances"), 0), "rental");

        if (!json_get_int(rental, "doubted_until_at_ms", 0) || streq(json_get_text(rental, "goal"), "on"))
            continue;
        doubted = true;
        cr_assert_str_eq(json_get_text(json_at(json_get(now, "models"), 0), "state"), "off");
        for (size_t k = 0; k < json_count(json_get(why, "lines")); k++)
            cr_assert_str_eq(json_get_text(json_at(json_get(why, "lines"), k), "verdict"), "off");
    }
    cr_assert(doubted);
}

/* Two clocks were read for it: a second more or less is the same. */
static bool says_when(const char *text, int64_t at_ms)
{
    char by[40];
    struct tm tm;

    for (int64_t ms = at_ms - 1000; ms <= at_ms + 1000; ms += 1000) {
        strftime(by, sizeof by, " ago; confirmed by %H:%M:%S", localtime_r(&(time_t){(ms + 999) / 1000}, &tm));
        if (strstr(text, by))
            return true;
    }
    return false;
}

/* Who waits is told so while the model is not off yet, which it is when that call cannot act any more. */
Test(control_rent_search, down_says_early_until_when_a_call_without_an_answer_may_still_act)
{
    struct caller_end waits;

    lose_the_only_create();
    daemon_is_started_again();
    caller_comes(&waits);
    say(&waits, MORE("Down", "{\"target\":\"ollama:m\"}"));
    for (unsigned i = 0; i < 20 && !has_message(&waits); i++) {
        loop_turns(w.loop, 20);
        time_passes(500);
    }

    _cleanup_json_ struct json *v = hear(&waits), *now = answers("InstanceShow", "{\"name\":\"4090d\"}");
    const struct json *progress = json_get(json_get(v, "parameters"), "progress");
    const struct json *rental = json_get(json_get(now, "instance"), "rental");
    const char *text = json_get_text(progress, "text");

    cr_assert_str_eq(json_get_text(progress, "stage"), "power_off");
    cr_assert(text && strncmp(text, "AutoDL may still act on a power-on asked ", 41) == 0, "%s", text);
    cr_assert(says_when(text, json_get_int(rental, "doubted_until_at_ms", 0)), "%s", text);
    cr_assert_neq(deployment_state(manager_find_deployment(w.manager, "ollama:m")), DEPLOYMENT_OFF);
    caller_leaves(&waits);
}

Test(control_rent_search, nor_when_the_calls_after_it_were_refused)
{
    lose_a_create(2);
    down_is_unsure("rented");
}

/* A call that got no answer, and then one for which there is no money: nothing says that the first came to
 * nothing. */
Test(control_rent_search, end_of_up_forgets_none_that_may_have_been_made)
{
    struct caller_end other;

    begin_account();
    at.has_card = false;
    at.loses_create = true;
    say(&w.caller, CALL("Up", "{\"model\":\"ollama:m\",\"gpu\":\"4090D\",\"anyway\":true}"));
    for (unsigned i = 0; i < 100 && !at.n_asked; i++) {
        loop_turns(w.loop, 20);
        time_passes(500);
    }
    cr_assert_eq(at.n_asked, 1);
    caller_comes(&other);
    say(&other, CALL("ProviderSet", "{\"provider\":\"autodl\",\"day_milli\":1}"));
    json_free(hear(&other));
    for (unsigned i = 0; i < 400 && is_silent(&w.caller); i++) {
        loop_turns(w.loop, 20);
        time_passes(2000);
    }
    _cleanup_json_ struct json *v = hear(&w.caller);

    cr_assert_str_eq(json_get_text(json_get(v, "parameters"), "code"), "budget");
    cr_assert_eq(at.n_asked, 1);
    time_passes(5000);
    loop_turns(w.loop, 20);
    cr_assert_not_null(record_of("4090d"));
    cr_assert_not(record_of("4090d")->never_made);
    caller_leaves(&other);
}

Test(control_rent_search, one_that_may_have_been_made_is_never_forgotten)
{
    begin_search();
    at.loses_create = true;
    for (unsigned i = 0, n = at.n_asked; i < 100 && at.n_asked == n; i++)
        time_passes(2000);
    loop_turns(w.loop, 20);
    cr_assert_not(record_of("rented")->never_made);
    deployment_want(manager_find_deployment(w.manager, "ollama:m"), GOAL_OFF, true);
    for (unsigned i = 0; i < 300; i++)
        time_passes(5000);
    loop_turns(w.loop, 20);
    cr_assert_not_null(record_of("rented"));
    cr_assert_eq(life_state(rented_life(lease_rented(manager_lease_at(w.manager, 0)))), LIFE_ABSENT);
}

/* What was lost may come all the same; what is looked for meanwhile is what was said last. */
Test(control_rent_search, one_whose_call_got_no_answer_looks_for_what_is_said_later)
{
    lose_the_only_create();
    at.loses_create = false;
    for (unsigned i = 0; i < 400 && life_state(rented_life(lease_rented(manager_lease_at(w.manager, 0)))) !=
                                        LIFE_WAITING; i++) {
        loop_turns(w.loop, 20);
        time_passes(500);
    }
    cr_assert_not(record_of("4090d")->never_made);
    json_free(answers("Up", SEARCH));
    cr_assert_null(manager_lease_at(w.manager, 1));
    cr_assert_str_eq(record_of("4090d")->gpu, "4090D,5090");
    cr_assert_eq(record_of("4090d")->max_price_milli, 9000);
    cr_assert_not(record_of("4090d")->never_made, "the lost one may come");
}

/* Its limit is what it may cost. */
Test(control_rent_search, one_whose_price_nobody_knows_is_paid_for_by_its_limit)
{
    begin_account();
    json_free(answers("ProviderSet", "{\"provider\":\"autodl\",\"day_milli\":50}"));
    say(&w.caller, CALL("Up", "{\"model\":\"ollama:m\",\"gpu\":\"5090\",\"max_price_milli\":9000,\"anyway\":true}"));
    for (unsigned i = 0; i < 100 && is_silent(&w.caller); i++) {
        loop_turns(w.loop, 20);
        time_passes(500);
    }
    _cleanup_json_ struct json *v = hear(&w.caller);

    cr_assert_str_eq(json_get_text(json_get(v, "parameters"), "code"), "budget");
    cr_assert_eq(at.n_asked, 0);
}

/* The word comes while it is asked for, and a plain no after it. */
Test(control_rent_search, what_is_refused_after_the_word_was_not_made_either)
{
    begin_search();
    for (unsigned i = 0; i < 100 && life_state(rented_life(lease_rented(manager_lease_at(w.manager, 0)))) !=
                                        LIFE_CREATING; i++)
        time_passes(500);
    deployment_want(manager_find_deployment(w.manager, "ollama:m"), GOAL_OFF, true);
    for (unsigned i = 0; i < 20 && manager_lease_at(w.manager, 0); i++)
        time_passes(500);
    cr_assert_null(manager_lease_at(w.manager, 0));
}

/* ---- which one is taken ---- */

/* A machine with a 4090D that is off, in the west; and one of a 5090 that was looked for in vain. */
static void begin_off(void)
{
    begin_account();
    at.has_card = false;
    json_free(answers("Up", "{\"model\":\"ollama:n\",\"gpu\":\"5090\",\"on\":\"two\",\"anyway\":true,"
                            "\"max_price_milli\":9000,\"wait\":false}"));
    json_free(answers("Down", "{\"target\":\"ollama:n\"}"));
    at.has_card = true;
    json_free(answers("Up", UP));
    snprintf(at.machine.region, sizeof at.machine.region, "the west");
    box_gets(LIFE_RUNNING);
    json_free(answers("Down", "{\"target\":\"ollama:m\"}"));
    box_gets(LIFE_STOPPED);
}

static const char *taken_for_n(const char *more)
{
    _cleanup_free_ char *up = xasprintf("{\"model\":\"ollama:n\",\"anyway\":true,\"wait\":false,%s}", more);
    struct deployment *d;

    json_free(answers("Up", up));
    for (unsigned i = 0; (d = manager_deployment_at(w.manager, i)); i++)
        if (streq(deployment_name(d), "ollama:n") && deployment_goal(d) != GOAL_OFF)
            return lease_name(deployment_lease(d));
    return NULL;
}

Test(control_rent_search, machine_that_is_off_comes_before_one_that_is_to_be)
{
    begin_off();
    cr_assert_str_eq(taken_for_n("\"gpu\":\"5090,4090D\",\"max_price_milli\":9000,"
                                 "\"region\":\"westDC3,beijingDC2\""),
                     "box");
}

Test(control_rent_search, machine_that_is_off_elsewhere_is_not_taken)
{
    begin_off();
    cr_assert_str_eq(taken_for_n("\"gpu\":\"4090D\",\"region\":\"beijingDC2\""), "4090d");
    cr_assert_eq(box_state(), LIFE_STOPPED);
}

Test(control_rent_search, card_that_is_too_dear_is_named_whatever_is_taken)
{
    begin_off();

    _cleanup_json_ struct json *v = answers("Up", "{\"model\":\"ollama:m\",\"gpu\":\"4090Dx2,4090D\","
                                                  "\"max_price_milli\":2000,\"anyway\":true,\"wait\":false}");

    cr_assert_eq(json_count(json_get(v, "notes")), 1);
    cr_assert_not_null(strstr(json_text(first(v, "notes")), "4090Dx2 is left out"));
}

/* ---- a running one is changed ---- */

static enum life_state search_state(void)
{
    return life_state(rented_life(lease_rented(manager_lease_at(w.manager, 0))));
}

static void search_gets(enum life_state s)
{
    for (unsigned i = 0; i < 100 && search_state() != s; i++)
        time_passes(500);
    cr_assert_eq(search_state(), s, "%s", life_state_name(search_state()));
}

/* Once; the call may have come and gone between two looks at its state. */
static void search_is_refused(void)
{
    for (unsigned i = 0; i < 100 && !at.n_asked; i++)
        time_passes(500);
    cr_assert_geq(at.n_asked, 1);
    search_gets(LIFE_WAITING);
}

Test(control_rent_search, same_word_with_other_cards_changes_the_search_that_runs)
{
    int64_t until_at_ms = clock_wall_ms() + 3600000;
    _cleanup_free_ char *wider =
        xasprintf("{\"model\":\"ollama:m\",\"gpu\":\"4090D,5090\",\"max_price_milli\":6000,"
                  "\"anyway\":true,\"wait\":false,\"search_until_at_ms\":%lld}",
                  (long long)until_at_ms);

    begin_account();
    at.has_card = false;
    json_free(answers("Up", "{\"model\":\"ollama:m\",\"gpu\":\"4090D\",\"anyway\":true,\"wait\":false}"));
    search_gets(LIFE_CREATING);

    _cleanup_free_ char *up = xasprintf(CALL("Up", "%s"), wider);

    say(&w.caller, up);
    cr_assert_str_eq(record_of("4090d")->gpu, "4090D", "a call is under way");
    search_gets(LIFE_WAITING);
    for (unsigned i = 0; i < 20 && !has_message(&w.caller); i++)
        time_passes(100);
    cr_assert_eq(search_state(), LIFE_WAITING, "its answer was waited for");
    json_free(hear(&w.caller));
    cr_assert_null(manager_lease_at(w.manager, 1), "not another one");
    cr_assert_str_eq(record_of("4090d")->gpu, "4090D,5090");
    cr_assert_eq(record_of("4090d")->max_price_milli, 6000);
    cr_assert_eq(record_of("4090d")->search_until_at_ms, until_at_ms);
    for (unsigned i = 0; i < 200 && !streq(record_of("4090d")->card, "spec-5090"); i++) {
        loop_turns(w.loop, 20);
        time_passes(500);
    }
    cr_assert_str_eq(record_of("4090d")->card, "spec-5090", "it is asked for");

    _cleanup_json_ struct json *why = answers("Why", "{}");
    const struct json *lines = json_get(why, "lines");

    cr_assert(manager_is_misnamed(manager_find_lease(w.manager, "4090d")));
    for (size_t i = 0; i < json_count(lines); i++) {
        cr_assert_str_eq(json_get_text(cause_of(json_at(lines, i), "searched"), "text"),
                         "4090D or 5090, at most ¥6.00/h");
        cr_assert_eq(json_get_int(cause_of(json_at(lines, i), "searched"), "since_at_ms", 0),
                     record_of("4090d")->wanted_at_ms);
        cr_assert_eq(json_get_int(cause_of(json_at(lines, i), "search_ends"), "until_at_ms", 0), until_at_ms);
    }
}

/* ---- one search for a model ---- */

/* The notes of the answer to that Up, one behind the other. */
static void up_notes(const char *parameters, struct buf *out)
{
    _cleanup_json_ struct json *v = answers("Up", parameters);
    const struct json *notes = json_get(v, "notes");

    for (size_t i = 0; i < json_count(notes); i++)
        buf_addf(out, "%s;", json_text(json_at(notes, i)));
}

/* box is there, off, and the card it had is taken by others. */
static void begin_waiting_machine(void)
{
    begin_machine();
    json_free(answers("Down", "{\"target\":\"box\"}"));
    at.has_card = false;
    at.host_is_full = true;
    json_free(answers("Up", "{\"model\":\"ollama:m\",\"wait\":false,\"max_price_milli\":5000}"));
    box_gets(LIFE_WAITING);
}

Test(control_rent_search, what_was_changed_is_said_to_who_changed_it_and_to_who_waits)
{
    struct caller_end waits;
    struct rented_figures n;
    struct buf notes;
    bool told = false;

    buf_init(&notes, 4096);
    begin_account();
    at.has_card = false;
    caller_comes(&waits);
    say(&waits, MORE("Up", "{\"model\":\"ollama:m\",\"gpu\":\"4090D\",\"anyway\":true}"));
    for (unsigned i = 0; i < 40 && !manager_lease_at(w.manager, 0); i++)
        time_passes(100);
    search_is_refused();
    loop_turns(w.loop, 20);
    up_notes("{\"model\":\"ollama:m\",\"gpu\":\"4090D,5090\",\"max_price_milli\":6000,\"anyway\":true,\"wait\":false}",
             &notes);
    cr_assert_str_eq(buf_text(&notes), "the search of 4090d is changed: 4090D or 5090, at most ¥6.00/h (it was 4090D);");
    rented_figures(lease_rented(manager_lease_at(w.manager, 0)), &n);
    cr_assert_leq(n.next_at_ms, clock_wall_ms() + 1, "what is new is asked for at once, not in half a minute");
    time_passes(0);
    loop_turns(w.loop, 20);
    while (has_message(&waits)) {
        _cleanup_json_ struct json *v = hear(&waits);
        const struct json *progress = json_get(json_get(v, "parameters"), "progress");

        if (!progress || !streq(json_get_text(progress, "state"), "changed"))
            continue;
        cr_assert_str_eq(json_get_text(progress, "text"), "from now on 4090D or 5090, at most ¥6.00/h");
        cr_assert_not(told, "once");
        told = true;
    }
    cr_assert(told);
    caller_leaves(&waits);
    buf_done(&notes);
}

Test(control_rent_search, a_lower_limit_is_taken_over_while_a_machine_waits_and_none_below_its_price)
{
    struct buf notes;

    buf_init(&notes, 4096);
    begin_waiting_machine();
    up_notes("{\"model\":\"ollama:m\",\"wait\":false,\"max_price_milli\":2000}", &notes);
    cr_assert_str_eq(buf_text(&notes), "the search of box is changed: 4090D, at most ¥2.00/h (it was 4090D, at most ¥5.00/h);");
    cr_assert_eq(record_of("box")->max_price_milli, 2000);
    refuses(CALL("Up", "{\"model\":\"ollama:m\",\"wait\":false,\"max_price_milli\":1000}"), "io.llmhost.Refused", "message",
            "nothing was changed: what is looked for costs ¥1.88 an hour at least, and at most ¥1.00 is allowed");
    cr_assert_eq(record_of("box")->max_price_milli, 2000);
    cr_assert_eq(box_state(), LIFE_WAITING);
    buf_done(&notes);
}

static bool is_wanted_on_disk(const char *instance)
{
    _cleanup_free_ char *database = xasprintf("%s/llmhost.db", w.directory);
    sqlite3 *sql;
    sqlite3_stmt *row;

    cr_assert_eq(sqlite3_open_v2(database, &sql, SQLITE_OPEN_READONLY, NULL), SQLITE_OK);
    cr_assert_eq(sqlite3_prepare_v2(sql, "SELECT goal <> 'off' FROM deployment WHERE instance = ?", -1, &row, NULL), SQLITE_OK);
    cr_assert_eq(sqlite3_bind_text(row, 1, instance, -1, SQLITE_STATIC), SQLITE_OK);
    cr_assert_eq(sqlite3_step(row), SQLITE_ROW);
    bool is_wanted = sqlite3_column_int(row, 0) != 0;

    sqlite3_finalize(row);
    sqlite3_close(sql);
    return is_wanted;
}

Test(control_rent_search, another_card_is_looked_for_instead_of_a_machine_that_waits)
{
    struct fault off;
    struct buf notes;

    buf_init(&notes, 4096);
    begin_waiting_machine();
    up_notes("{\"model\":\"ollama:m\",\"gpu\":\"5090\",\"max_price_milli\":9000,\"anyway\":true,\"wait\":false}",
             &notes);
    cr_assert_str_eq(buf_text(&notes), "ollama:m waits for box (4090D, at most ¥5.00/h) no longer: what was said last counts;");
    cr_assert_eq(deployment_goal(m_on("box")), GOAL_OFF);
    cr_assert_not(is_wanted_on_disk("box"), "no daemon after this one looks for both");
    deployment_describe_off(m_on("box"), &off);
    cr_assert_not_null(strstr(off.text, ": 5090 is looked for instead, by a newer word"), "%s", off.text);
    cr_assert_neq(deployment_goal(m_on("5090")), GOAL_OFF);
    for (unsigned i = 0; i < 20; i++) {
        loop_turns(w.loop, 20);
        time_passes(500);
    }
    cr_assert_eq(box_state(), LIFE_STOPPED, "nobody waits for it any more");
    buf_done(&notes);
}

Test(control_rent_search, a_search_that_would_end_in_the_past_is_refused_and_nothing_is_made)
{
    begin_account();
    refuses(CALL("Up", "{\"model\":\"ollama:m\",\"gpu\":\"4090D\",\"anyway\":true,\"wait\":false,\"search_until_at_ms\":1}"),
            "io.llmhost.Usage", "code", "time_over");
    cr_assert_null(manager_lease_at(w.manager, 0));
    cr_assert_null(manager_deployment_at(w.manager, 0));
    cr_assert_eq(at.n_asked, 0);
}

/* Said of what bills already it would be read, and forgotten. */
Test(control_rent_search, a_limit_below_the_price_of_a_machine_that_is_on_is_refused)
{
    begin_machine();
    refuses(CALL("Up", "{\"model\":\"ollama:m\",\"wait\":false,\"max_price_milli\":1000}"), "io.llmhost.Refused", "message",
            "nothing was changed: box is switched on and costs ¥1.88 an hour, and at most ¥1.00 is allowed");
    json_free(answers("Up", "{\"model\":\"ollama:m\",\"wait\":false,\"max_price_milli\":2000}"));
    cr_assert_eq(box_state(), LIFE_RUNNING);
}

/* It keeps its name when the machine comes: what bills under it is said beside. */
Test(control_rent_search, one_that_has_the_name_of_another_card_says_which_it_has)
{
    begin_account();
    at.has_card = false;
    json_free(answers("Up", "{\"model\":\"ollama:m\",\"gpu\":\"5090\",\"max_price_milli\":9000,\"anyway\":true,\"wait\":false}"));
    search_is_refused();
    cr_assert_not(manager_is_misnamed(manager_lease_at(w.manager, 0)));
    at.has_card = true;
    at.card = "spec-4090d";
    json_free(answers("Up", "{\"model\":\"ollama:m\",\"gpu\":\"4090D\",\"anyway\":true,\"wait\":false}"));
    search_gets(LIFE_RUNNING);
    cr_assert_str_eq(record_of("5090")->gpu, "4090D");

    _cleanup_json_ struct json *cost = answers("Cost", "{}"), *why = answers("Why", "{\"targets\":[\"5090\"]}");

    cr_assert_str_eq(json_get_text(first(cost, "lines"), "gpu"), "4090D");
    cr_assert_str_eq(json_get_text(cause_of(first(why, "lines"), "misnamed"), "text"), "4090D");
}

Test(control_rent_search, one_card_instead_of_several_is_all_that_is_looked_for)
{
    begin_search();
    search_gets(LIFE_WAITING);
    cr_assert(manager_chooses(w.manager, "ollama:m"));
    json_free(answers("Up", "{\"model\":\"ollama:m\",\"gpu\":\"4090Dx2\",\"anyway\":true,\"wait\":false}"));
    cr_assert_not(manager_chooses(w.manager, "ollama:m"), "nor one that is made later");
    cr_assert_null(manager_lease_at(w.manager, 1));
    cr_assert_str_eq(record_of("rented")->gpu, "4090Dx2");
}

/* The name is a person's, the card is not. */
Test(control_rent_search, a_search_that_has_a_name_is_changed_as_well)
{
    begin_account();
    at.has_card = false;
    json_free(answers("Up", UP));
    box_gets(LIFE_WAITING);
    json_free(answers("Up", "{\"model\":\"ollama:m\",\"gpu\":\"4090Dx2\",\"anyway\":true,\"wait\":false}"));
    cr_assert_null(manager_lease_at(w.manager, 1), "not another one");
    cr_assert_str_eq(record_of("box")->gpu, "4090Dx2");
    box_gets(LIFE_WAITING);
    json_free(answers("Up", "{\"model\":\"ollama:m\",\"on\":\"box\",\"gpu\":\"5090\",\"max_price_milli\":9000,"
                            "\"anyway\":true,\"wait\":false}"));
    cr_assert_str_eq(record_of("box")->gpu, "5090", "also by that name");
    cr_assert_not(record_of("box")->by_search);
}

Test(control_rent_search, a_search_for_another_model_is_not_changed_by_its_name)
{
    begin_account();
    at.has_card = false;
    json_free(answers("Up", UP));
    box_gets(LIFE_WAITING);
    refuses(CALL("Up", "{\"model\":\"ollama:n\",\"on\":\"box\",\"gpu\":\"5090\",\"max_price_milli\":9000,"
                       "\"anyway\":true,\"wait\":false}"),
            "io.llmhost.Conflict", "code", "exists");
    cr_assert_str_eq(record_of("box")->gpu, "4090D");
    json_free(answers("Up", "{\"model\":\"ollama:n\",\"on\":\"box\",\"wait\":false}"));
    json_free(answers("Up", "{\"model\":\"ollama:m\",\"gpu\":\"5090\",\"max_price_milli\":9000,\"anyway\":true,\"wait\":false}"));
    cr_assert_str_eq(record_of("box")->gpu, "4090D", "the other one waits for that");
    cr_assert_eq(deployment_goal(m_on("box")), GOAL_OFF);
    cr_assert_not_null(m_on("5090"));
}

/* Nobody knows when it is answered. */
Test(control_rent_search, a_call_that_is_not_answered_is_waited_for_a_while_and_the_search_stays)
{
    begin_account();
    at.has_card = false;
    at.answers_late = true;
    json_free(answers("Up", "{\"model\":\"ollama:m\",\"gpu\":\"4090D\",\"anyway\":true,\"wait\":false}"));
    search_gets(LIFE_CREATING);
    for (unsigned i = 0; i < 20 && !at.n_asked; i++)
        time_passes(100);
    say(&w.caller, CALL("Up", "{\"model\":\"ollama:m\",\"gpu\":\"5090\",\"max_price_milli\":6000,\"anyway\":true}"));
    time_passes(5000);
    cr_assert(is_silent(&w.caller));
    time_passes(11000);
    _cleanup_json_ struct json *v = hear(&w.caller);
    const struct json *p = json_get(v, "parameters");

    cr_assert_str_eq(json_get_text(p, "code"), "search_is_on");
    cr_assert_str_eq(json_text(json_at(json_get(p, "next"), 0)), "llmhostctl down ollama:m");
    cr_assert_str_eq(json_text(json_at(json_get(p, "next"), 1)),
                     "llmhostctl up ollama:m --gpu=5090 --max-price=6 --anyway");
    cr_assert_str_eq(record_of("4090d")->gpu, "4090D", "nothing was changed");
}

/* A call that makes a machine is under way, and an Up with other words waits for its answer. */
static void begin_in_call(const char *newer)
{
    begin_account();
    at.has_card = false;
    at.answers_late = true;
    json_free(answers("Up", "{\"model\":\"ollama:m\",\"gpu\":\"4090D\",\"anyway\":true,\"wait\":false}"));
    search_gets(LIFE_CREATING);
    for (unsigned i = 0; i < 20 && !at.n_asked; i++)
        time_passes(100);
    say(&w.caller, newer);
    time_passes(300);
    cr_assert(is_silent(&w.caller));
}

static struct json *hear_soon(struct caller_end *c)
{
    for (unsigned i = 0; i < 40 && !has_message(c); i++)
        time_passes(100);
    return hear(c);
}

#define NEWER CALL("Up", "{\"model\":\"ollama:m\",\"gpu\":\"5090\",\"max_price_milli\":6000,\"anyway\":true,\"wait\":false}")

/* Which was said last counts. */
Test(control_rent_search, a_down_ends_also_an_up_that_waits_to_change_the_search)
{
    struct caller_end other;

    begin_in_call(NEWER);
    caller_comes(&other);
    say(&other, CALL("Down", "{\"target\":\"ollama:m\"}"));
    time_passes(300);
    make_answers();
    _cleanup_json_ struct json *v = hear_soon(&w.caller), *down = hear_soon(&other);

    cr_assert_str_eq(json_get_text(json_get(v, "parameters"), "code"), "stopped_by_user");
    cr_assert_null(json_get(down, "error"));
    for (unsigned i = 0; i < 20; i++)
        time_passes(500);
    cr_assert_eq(at.n_asked, 1, "nothing is asked for again");
    cr_assert_null(manager_find_lease(w.manager, "5090"));
    caller_leaves(&other);
}

/* Two machines were meant by nobody. */
Test(control_rent_search, a_machine_that_came_while_an_up_waited_to_change_the_search_is_the_only_one)
{
    begin_in_call(NEWER);
    at.has_card = true;
    make_answers();
    _cleanup_json_ struct json *v = hear_soon(&w.caller);

    cr_assert_str_eq(json_get_text(json_get(v, "parameters"), "code"), "search_is_over");
    for (unsigned i = 0; i < 20; i++)
        time_passes(500);
    cr_assert_eq(at.n_asked, 1);
    cr_assert_null(manager_find_lease(w.manager, "5090"));
    search_gets(LIFE_RUNNING);
}

Test(control_rent_search, of_two_that_wait_to_change_the_search_the_newer_word_counts)
{
    struct caller_end other;

    for (unsigned late_ms = 20; late_ms < 100; late_ms += 30) {
        if (late_ms == 20)
            begin_in_call(NEWER);
        else {
            at.answers_late = true;
            for (unsigned i = 0; i < 200 && !at.late; i++)
                time_passes(500);
            say(&w.caller, NEWER);
        }
        time_passes(late_ms);
        caller_comes(&other);
        say(&other, CALL("Up", "{\"model\":\"ollama:m\",\"gpu\":\"4090Dx2\",\"anyway\":true,\"wait\":false}"));
        time_passes(0);
        make_answers();
        json_free(hear_soon(&w.caller));
        json_free(hear_soon(&other));
        cr_assert_str_eq(record_of("4090d")->gpu, "4090Dx2", "%u ms", late_ms);
        caller_leaves(&other);
    }
}

/* Whoever has the turn then, or waits for it. */
Test(control_rent_search, search_over_several_ends_at_its_end)
{
    for (unsigned ms = 10000; ms < 14000; ms += 1000) {
        if (ms == 10000)
            begin_two();
        json_free(answers("Down", "{\"target\":\"ollama:m\"}"));

        int64_t until_at_ms = clock_wall_ms() + ms;
        _cleanup_free_ char *up =
            xasprintf(CALL("Up", "{\"model\":\"ollama:m\",\"on\":\"one\",\"or_on\":\"two\","
                                 "\"search_until_at_ms\":%lld}"),
                      (long long)until_at_ms);

        say(&w.caller, up);
        while (clock_wall_ms() < until_at_ms + 2000 && !has_message(&w.caller)) {
            loop_turns(w.loop, 20);
            time_passes(250);
        }
        cr_assert(has_message(&w.caller), "%u", ms);
        _cleanup_json_ struct json *v = hear(&w.caller);

        cr_assert_str_eq(json_get_text(v, "error"), "io.llmhost.NoCapacity");
        cr_assert_not_null(strstr(json_get_text(json_get(v, "parameters"), "message"), "in the time given"));
        cr_assert_geq(clock_wall_ms(), until_at_ms);
    }
}

Test(control_rent_search, down_tells_of_a_search_beside_one_that_failed_before)
{
    begin_two();
    json_free(answers("Down", "{\"target\":\"ollama:m\"}"));

    int64_t until_at_ms = clock_wall_ms() + 5000;
    _cleanup_free_ char *up = xasprintf(
        "{\"model\":\"ollama:m\",\"on\":\"one\",\"wait\":false,\"search_until_at_ms\":%lld}",
        (long long)until_at_ms);

    json_free(answers("Up", up));
    for (unsigned i = 0; i < 200 && deployment_state(m_on("one")) != DEPLOYMENT_FAILED; i++) {
        loop_turns(w.loop, 20);
        time_passes(500);
    }
    cr_assert_eq(deployment_state(m_on("one")), DEPLOYMENT_FAILED);
    json_free(answers("Up", "{\"model\":\"ollama:m\",\"on\":\"two\",\"wait\":false}"));
    for (unsigned i = 0; i < 20; i++) {
        loop_turns(w.loop, 20);
        time_passes(500);
    }
    cr_assert_not_null(m_on("one"));
    cr_assert_eq(deployment_state(m_on("one")), DEPLOYMENT_FAILED, "it is left beside");

    _cleanup_json_ struct json *v = down_of_search("ollama:m");
    const struct json *search = json_get(json_get(v, "parameters"), "search");

    cr_assert_eq(json_type(search), JSON_OBJECT);
    cr_assert_not(json_get_bool(search, "powered", true));
}

/* ---- beside what is on already ---- */

static void notes_say(const char *up, const char *what)
{
    struct buf notes;

    buf_init(&notes, 4096);
    up_notes(up, &notes);
    cr_assert_not_null(strstr(buf_text(&notes), what), "%s", buf_text(&notes));
    buf_done(&notes);
}

#define SECOND_5090 "\"gpu\":\"5090\",\"max_price_milli\":9000,\"anyway\":true"

Test(control_rent_search, a_second_machine_for_a_model_that_is_up_is_said)
{
    begin_machine();
    notes_say("{\"model\":\"ollama:m\"," SECOND_5090 ",\"wait\":false}",
              "ollama:m is already wanted on box, at ¥1.88/h; this rents a second machine beside it. the one there is: "
              "\"llmhostctl up ollama:m --on box\"; an end of the second: \"llmhostctl down ollama:m --on 5090\"");
    json_free(answers("Down", "{\"target\":\"ollama:m\",\"on\":\"5090\"}"));
    cr_assert_eq(deployment_goal(m_on("box")), GOAL_ON_DEMAND, "the first goes on");
    cr_assert_eq(box_state(), LIFE_RUNNING);
}

Test(control_rent_search, another_machine_of_a_card_that_is_on_is_said)
{
    struct buf notes;

    begin_machine();
    notes_say("{\"model\":\"ollama:n\",\"gpu\":\"4090D\",\"anyway\":true,\"wait\":false}",
              "box (4090D) is on already, at ¥1.88/h; this rents another machine. the one there is: "
              "\"llmhostctl up ollama:n --on box\"");
    buf_init(&notes, 4096);
    up_notes("{\"model\":\"ollama:o\"," SECOND_5090 ",\"wait\":false}", &notes);
    cr_assert_null(strstr(buf_text(&notes), "is on already"), "that is another card: %s", buf_text(&notes));
    buf_done(&notes);
}

/* What goes on of the first is not what is watched, or ended. */
Test(control_rent_search, an_up_for_a_second_machine_that_waited_long_enough_names_that_one)
{
    begin_machine();
    at.has_card = false;
    say(&w.caller, CALL("Up", "{\"model\":\"ollama:m\"," SECOND_5090 ",\"timeout_ms\":4000}"));
    for (unsigned i = 0; i < 40 && !has_message(&w.caller); i++)
        time_passes(500);
    _cleanup_json_ struct json *v = hear(&w.caller);
    const struct json *p = json_get(v, "parameters"), *next = json_get(p, "next");

    cr_assert_str_eq(json_text(json_at(next, 0)), "llmhostctl status 5090", "%s", json_get_text(p, "message"));
    cr_assert_str_eq(json_text(json_at(next, 1)), "llmhostctl down ollama:m --on 5090");
}

/* Nothing was rented for it: it is off where it was, as if nobody had asked. */
Test(control_rent_search, an_up_that_is_refused_leaves_the_model_where_it_was)
{
    begin_machine();
    json_free(answers("Down", "{\"target\":\"ollama:m\"}"));
    box_gets(LIFE_STOPPED);
    json_free(answers("ProviderSet", "{\"provider\":\"autodl\",\"day_milli\":50}"));
    say(&w.caller, CALL("Up", "{\"model\":\"ollama:m\",\"gpu\":\"4090Dx2\",\"anyway\":true}"));
    for (unsigned i = 0; i < 100 && !has_message(&w.caller); i++)
        time_passes(1000);
    _cleanup_json_ struct json *v = hear(&w.caller);

    cr_assert_str_eq(json_get_text(json_get(v, "parameters"), "code"), "budget");
    for (unsigned i = 0; i < 10; i++)
        time_passes(1000);
    cr_assert_null(manager_find_lease(w.manager, "4090dx2"));
    cr_assert_not_null(m_on("box"), "not forgotten");
    cr_assert_eq(deployment_goal(m_on("box")), GOAL_OFF);
}
