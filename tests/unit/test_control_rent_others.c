/* links: control
 * wraps: rental_find rental_at keeper_state rented_is_anothers rented_stop_by_guard shape_ask
 *
 * Machines that somebody else made, and those that nothing here knows, as callers meet them. */
#include "tests/unit/control_rent_world.h"

TestSuite(control_rent_others, .init = begin, .fini = world_end, .timeout = 60);

/* ---- machines that somebody else made ---- */

#define ADOPT "{\"name\":\"box\",\"provider\":\"autodl\",\"id\":\"pro-9\"}"

static void begin_foreign(enum instance_power power)
{
    begin_account();
    at.machine = (struct instance_seen){.id = "pro-9",
                                        .name = "by-hand",
                                        .power = power,
                                        .word = "shutdown",
                                        .gpu = "5090",
                                        .cards = 2,
                                        .started_at_ms = clock_wall_ms() / 1000 * 1000};
}

Test(control_rent_others, machine_there_is_becomes_an_instance_by_its_id)
{
    begin_foreign(INSTANCE_OFF);

    _cleanup_json_ struct json *before = answers("InstanceList", "{\"at\":\"autodl\"}");
    _cleanup_json_ struct json *added = answers("InstanceAdd", ADOPT);
    _cleanup_json_ struct json *after = answers("InstanceList", "{\"at\":\"autodl\"}");
    const struct json *rental = json_get(json_get(added, "instance"), "rental");

    cr_assert_str_eq(json_get_text(first(before, "machines"), "id"), "pro-9");
    cr_assert_null(json_get_text(first(before, "machines"), "instance"));
    cr_assert_str_eq(json_get_text(first(after, "machines"), "instance"), "box");
    cr_assert_str_eq(json_get_text(rental, "gpu"), "5090");
    cr_assert_eq(json_get_int(rental, "cards", 0), 2);
    cr_assert(json_get_bool(rental, "adopted", false));
    box_gets(LIFE_STOPPED);
    cr_assert_eq(at.n_started + at.n_stopped + at.n_created, 0, "neither on nor off");
    refuses(CALL("InstanceAdd", ADOPT), "io.llmhost.Conflict", "code", "exists");
    refuses(CALL("InstanceAdd", "{\"name\":\"other\",\"provider\":\"autodl\",\"id\":\"pro-9\"}"),
            "io.llmhost.Conflict", "code", "is_instance");
    json_free(answers("Up", "{\"model\":\"ollama:m\",\"on\":\"box\",\"max_price_milli\":2000,\"wait\":false}"));
    box_gets(LIFE_RUNNING);
    cr_assert_eq(at.n_started, 1);
    refuses(CALL("InstanceRemove", "{\"name\":\"box\"}"), "io.llmhost.Conflict", "code", "not_off");
    json_free(answers("Down", "{\"target\":\"box\"}"));

    _cleanup_json_ struct json *removed = answers("InstanceRemove", "{\"name\":\"box\"}");

    cr_assert_eq(json_count(json_get(removed, "notes")), 1, "it goes on existing");
    cr_assert_null(box());
    cr_assert_str_eq(at.machine.id, "pro-9");
    cr_assert_eq(at.n_created, 0);
}

/* ---- a price that nobody knows ---- */

static void next_is(const char *call, const char *command)
{
    _cleanup_json_ struct json *v = NULL;

    say(&w.caller, call);
    v = hear(&w.caller);
    const struct json *p = json_get(v, "parameters");

    cr_assert_str_eq(json_get_text(p, "code"), "price_unknown", "%s: %s", call, json_get_text(p, "message"));
    cr_assert_str_eq(json_text(first(p, "next")), command);
}

Test(control_rent_others, card_without_a_price_is_not_rented_without_a_limit)
{
    const char *dear = "{\"model\":\"ollama:m\",\"gpu\":\"5090\",\"anyway\":true,\"wait\":false}";
    const char *limited = "{\"model\":\"ollama:m\",\"gpu\":\"5090\",\"anyway\":true,\"wait\":false,"
                          "\"max_price_milli\":3000}";

    begin_account();
    at.card = "spec-5090";
    next_is(CALL("Up", "{\"model\":\"llama.cpp:/m.gguf\",\"gpu\":\"4090D,5090\",\"on\":\"box\",\"anyway\":true,"
                       "\"arguments\":[\"-c\",\"16 384\"],\"over_budget\":true}"),
            "llmhostctl up llama.cpp:/m.gguf --gpu=4090D,5090 --on=box --anyway --over-budget "
            "--max-price=AMOUNT -- -c '16 384'");
    cr_assert_null(manager_lease_at(w.manager, 0), "nothing was made");
    json_free(answers("ProviderSet", "{\"provider\":\"autodl\",\"price_milli\":4000}"));
    refuses(CALL("Up", "{\"model\":\"ollama:m\",\"gpu\":\"5090x2\",\"anyway\":true,\"over_budget\":true}"),
            "io.llmhost.Usage", "code", "price_unknown");
    json_free(answers("Up", dear));
    cr_assert_not_null(manager_find_lease(w.manager, "5090"), "the limit of the account holds for it");
    json_free(answers("ProviderSet", "{\"provider\":\"autodl\",\"price_milli\":0}"));
    json_free(answers("Up", limited));
}

Test(control_rent_others, machine_without_a_price_is_not_woken_without_a_limit)
{
    begin_foreign(INSTANCE_OFF);
    json_free(answers("InstanceAdd", ADOPT));
    box_gets(LIFE_STOPPED);
    next_is(CALL("Up", "{\"model\":\"ollama:m\"}"), "llmhostctl up ollama:m --on=box --max-price=AMOUNT");
    next_is(CALL("Up", "{\"model\":\"ollama:m\",\"on\":\"box\"}"),
            "llmhostctl up ollama:m --on=box --max-price=AMOUNT");
    next_is(CALL("Up", "{\"model\":\"ollama:m\",\"gpu\":\"4090D\",\"or_on\":\"box\",\"anyway\":true}"),
            "llmhostctl up ollama:m --gpu=4090D --anyway --or=box --max-price=AMOUNT");
    cr_assert_eq(at.n_started, 0);
    refuses(CALL("Up", "{\"model\":\"ollama:m\",\"gpu\":\"4090D\",\"or_on\":\"box\",\"anyway\":true,"
                       "\"over_budget\":true}"),
            "io.llmhost.Usage", "code", "price_unknown");
    json_free(answers("Up", "{\"model\":\"ollama:m\",\"on\":\"box\",\"max_price_milli\":2000,\"wait\":false}"));
    box_gets(LIFE_RUNNING);
    time_passes(10000); /* its price is read */
    json_free(answers("Down", "{\"target\":\"box\"}"));
    box_gets(LIFE_STOPPED);
    json_free(answers("Up", "{\"model\":\"ollama:m\",\"on\":\"box\",\"wait\":false}"));
    box_gets(LIFE_RUNNING);
    json_free(answers("Down", "{\"target\":\"box\"}"));
    box_gets(LIFE_STOPPED);
    refuses(CALL("Up", "{\"model\":\"ollama:m\",\"on\":\"box\",\"max_price_milli\":1000}"),
            "io.llmhost.Refused", "code", "price");
}

Test(control_rent_others, limit_is_one_for_all_that_are_tried)
{
    begin_foreign(INSTANCE_OFF);
    json_free(answers("InstanceAdd", ADOPT));
    box_gets(LIFE_STOPPED);
    at.has_card = false;
    json_free(answers("Up", "{\"model\":\"ollama:m\",\"gpu\":\"4090D\",\"or_on\":\"box\",\"anyway\":true,"
                            "\"max_price_milli\":2000,\"wait\":false}"));
    cr_assert_eq(rented_record(lease_rented(box()))->max_price_milli, 2000);
}

/* It came to that in the last cycle, or the list of machines says so. */
Test(control_rent_others, machine_whose_list_tells_a_price_is_woken)
{
    begin_foreign(INSTANCE_OFF);
    at.machine.price_milli = 1880;
    json_free(answers("InstanceAdd", ADOPT));
    box_gets(LIFE_STOPPED);
    json_free(answers("Up", "{\"model\":\"ollama:m\",\"on\":\"box\",\"wait\":false}"));
    box_gets(LIFE_RUNNING);
}

Test(control_rent_others, machine_that_cannot_be_adopted_is_told_why)
{
    refuses(CALL("InstanceList", "{\"at\":\"autodl\"}"), "io.llmhost.NotFound", "code", "no_provider");
    refuses(CALL("InstanceAdd", ADOPT), "io.llmhost.NotFound", "code", "no_provider");
    begin_foreign(INSTANCE_OFF);
    refuses(CALL("InstanceAdd", "{\"name\":\"box\",\"provider\":\"autodl\",\"id\":\"pro-8\"}"),
            "io.llmhost.NotFound", "code", "no_such_machine");
    refuses(CALL("InstanceAdd", "{\"name\":\"box\",\"provider\":\"autodl\"}"), "io.llmhost.NotFound", "code",
            "no_such_machine");
    refuses(CALL("InstanceAdd", "{\"name\":\"B\",\"provider\":\"autodl\",\"id\":\"pro-9\"}"),
            "io.llmhost.Usage", "code", "bad_name");
    refuses(CALL("InstanceAdd", "{\"name\":\"box\",\"id\":\"pro-9\"}"), "io.llmhost.Usage", "code",
            "bad_command");
    refuses(CALL("InstanceAdd",
                 "{\"name\":\"box\",\"provider\":\"autodl\",\"id\":\"pro-9\",\"command\":\"ssh x@y\"}"),
            "io.llmhost.Usage", "code", "bad_command");
    snprintf(at.machine.name, sizeof at.machine.name, "%s-lost-1", store_daemon_id(w.store));
    refuses(CALL("InstanceAdd", ADOPT), "io.llmhost.Conflict", "code", "is_orphan");
    cr_assert_null(box());
}

Test(control_rent_others, machine_that_runs_by_others_goes_on_without_an_end)
{
    begin_foreign(INSTANCE_ON);
    json_free(answers("InstanceAdd", ADOPT));
    box_gets(LIFE_RUNNING);
    loop_advance(w.loop, 24 * 3600 * 1000);
    box_gets(LIFE_RUNNING);
    cr_assert_eq(at.n_stopped, 0);

    _cleanup_json_ struct json *v = answers("InstanceShow", "{\"name\":\"box\"}");
    const struct json *rental = json_get(json_get(v, "instance"), "rental");

    cr_assert_str_eq(json_get_text(rental, "stays"), "not_by_us");
    cr_assert_str_eq(json_get_text(json_get(rental, "guard"), "state"), "not_ours");
    json_free(answers("InstanceRemove", "{\"name\":\"box\"}"));
    cr_assert_eq(at.machine.power, INSTANCE_ON);
}

/* ---- machines that nothing here knows ---- */

static void begin_orphan(enum instance_power power)
{
    begin_foreign(power);
    snprintf(at.machine.name, sizeof at.machine.name, "%s-lost-1", store_daemon_id(w.store));
    strcpy(at.machine.word, power == INSTANCE_OFF ? "shutdown" : "running");
    json_free(answers("InstanceList", "{\"at\":\"autodl\"}"));
}

static bool command_is(const struct json *trouble, const char *command)
{
    return streq(json_text(first(trouble, "next")), command);
}

static unsigned events_of(const char *kind)
{
    _cleanup_json_ struct json *v = answers("Logs", "{\"events\":true}");
    unsigned n = 0;

    for (size_t i = 0; i < json_count(json_get(v, "lines")); i++)
        n += streq(json_get_text(json_at(json_get(v, "lines"), i), "kind"), kind);
    return n;
}

/* The answer to what was said, which takes its time. */
static struct json *hear_in_time(void)
{
    for (unsigned i = 0; i < 200 && !has_message(&w.caller); i++)
        time_passes(2000);
    return hear(&w.caller);
}

Test(control_rent_others, machine_that_nothing_knows_is_shown_until_a_word_ends_it)
{
    begin_orphan(INSTANCE_ON);
    time_passes(3600 * 1000);

    _cleanup_json_ struct json *v = answers("Status", "{}");
    const struct json *orphan = first(v, "orphans"), *trouble = first(v, "trouble");

    cr_assert_str_eq(json_get_text(orphan, "id"), "pro-9");
    cr_assert_eq(json_get_int(orphan, "since_at_ms", 0), at.machine.started_at_ms);
    cr_assert(json_get_bool(orphan, "orphan", false));
    cr_assert_str_eq(json_get_text(trouble, "code"), "orphan");
    cr_assert_str_eq(json_get_text(trouble, "target"), "pro-9");
    cr_assert_eq(json_get_int(trouble, "exit", 0), EXIT_NOT_CONFIRMED);
    cr_assert(command_is(trouble, "llmhostctl down --at autodl pro-9"));
    cr_assert_eq(events_of("orphan"), 1);
    cr_assert_eq(at.n_stopped + at.n_released, 0, "nobody touches it");

    _cleanup_json_ struct json *down = answers("Down", "{\"target\":\"pro-9\",\"at\":\"autodl\"}");

    cr_assert_str_eq(json_get_text(json_get(down, "machine"), "power"), "off");
    cr_assert_eq(at.n_stopped, 1);

    _cleanup_json_ struct json *off = answers("Status", "{\"targets\":[]}");

    cr_assert(command_is(first(off, "trouble"), "llmhostctl release --at autodl pro-9"));
    cr_assert_eq(events_of("orphan_ended"), 1);
    refuses(CALL("Release", "{\"instance\":\"pro-9\",\"confirm\":\"yes\",\"at\":\"autodl\"}"),
            "io.llmhost.Usage", "code", "not_confirmed");
    say(&w.caller, CALL("Release", "{\"instance\":\"pro-9\",\"confirm\":\"pro-9\",\"at\":\"autodl\"}"));

    _cleanup_json_ struct json *released = hear_in_time();
    _cleanup_json_ struct json *after = answers("Status", "{}");

    cr_assert_null(json_get_text(released, "error"));
    cr_assert_eq(at.n_released, 1);
    cr_assert_eq(json_count(json_get(after, "orphans")) + json_count(json_get(after, "trouble")), 0);
}

Test(control_rent_others, machine_that_nothing_knows_is_found_at_the_start_whatever_runs)
{
    begin_orphan(INSTANCE_ON);
    say(&w.caller, CALL("Down", "{\"target\":\"pro-9\",\"at\":\"autodl\"}"));
    at.ignores_stops = true;
    loop_turns(w.loop, 20);
    daemon_ends(); /* the word went with it */
    daemon_begins();
    caller_leaves(&w.caller);
    caller_comes(&w.caller);
    loop_advance(w.loop, 1);
    loop_turns(w.loop, 20);

    _cleanup_json_ struct json *v = answers("Status", "{}");

    cr_assert_str_eq(json_get_text(first(v, "orphans"), "id"), "pro-9");
    cr_assert_eq(json_get_int(first(v, "orphans"), "stop_asked_at_ms", 0), 0);
}

Test(control_rent_others, stop_of_a_machine_that_nothing_knows_is_asked_for_ever)
{
    begin_orphan(INSTANCE_ON);
    at.ignores_stops = true;
    say(&w.caller, CALL("Down", "{\"target\":\"pro-9\",\"at\":\"autodl\"}"));

    _cleanup_json_ struct json *v = hear_in_time();

    cr_assert_str_eq(json_get_text(v, "error"), "io.llmhost.StopNotConfirmed");

    unsigned asked = at.n_stopped;

    cr_assert_gt(asked, 1);
    for (unsigned i = 0; i < 100; i++)
        time_passes(2000);
    cr_assert_gt(at.n_stopped, asked);

    _cleanup_json_ struct json *status = answers("Status", "{}");

    cr_assert_neq(json_get_int(first(status, "orphans"), "stop_asked_at_ms", 0), 0);
    at.ignores_stops = false;
    for (unsigned i = 0; i < 100 && at.machine.power != INSTANCE_OFF; i++)
        time_passes(2000);
    time_passes(2000);
    cr_assert_eq(events_of("orphan_ended"), 1);
}

static void minutes_pass(unsigned n)
{
    for (unsigned i = 0; i < n; i++)
        time_passes(60000);
}

static const char down_lost[] = CALL("Down", "{\"target\":\"pro-9\",\"at\":\"autodl\"}");

Test(control_rent_others, what_lists_leave_out_is_not_off)
{
    begin_orphan(INSTANCE_ON);
    at.ignores_stops = at.hides = true;
    say(&w.caller, down_lost);

    _cleanup_json_ struct json *v = hear_in_time();
    _cleanup_json_ struct json *status = answers("Status", "{}");

    cr_assert_str_eq(json_get_text(v, "error"), "io.llmhost.StopNotConfirmed");
    cr_assert_gt(at.n_stopped, 1);
    cr_assert_eq(events_of("orphan_ended"), 0);
    cr_assert_str_eq(json_get_text(first(status, "orphans"), "power"), "on");
    cr_assert_neq(json_get_int(first(status, "orphans"), "missing_at_ms", 0), 0);
    at.ignores_stops = at.hides = false;
    minutes_pass(4);
    cr_assert_eq(at.machine.power, INSTANCE_OFF);
    cr_assert_eq(events_of("orphan_ended"), 1);
}

Test(control_rent_others, machine_that_bills_is_looked_for_while_lists_leave_it_out)
{
    begin_orphan(INSTANCE_ON);
    at.hides = true;
    minutes_pass(5);

    _cleanup_json_ struct json *missing = answers("Status", "{}");

    cr_assert_neq(json_get_int(first(missing, "orphans"), "missing_at_ms", 0), 0);
    at.hides = false;
    minutes_pass(2);

    _cleanup_json_ struct json *back = answers("Status", "{}");

    cr_assert_eq(json_get_int(first(back, "orphans"), "missing_at_ms", 0), 0);
    cr_assert_eq(events_of("orphan"), 1);
    at.hides = true;
    minutes_pass(15);

    _cleanup_json_ struct json *gone = answers("Status", "{}");

    cr_assert_eq(json_count(json_get(gone, "orphans")), 0);
    cr_assert_eq(events_of("orphan_ended"), 1);
}

static void begin_anew(void)
{
    daemon_ends();
    daemon_begins();
    caller_leaves(&w.caller);
    caller_comes(&w.caller);
    loop_advance(w.loop, 1);
    loop_turns(w.loop, 20);
}

Test(control_rent_others, machine_that_bills_is_known_after_a_start_while_lists_leave_it_out)
{
    begin_orphan(INSTANCE_ON);
    at.hides = true;
    begin_anew();
    minutes_pass(2);

    _cleanup_json_ struct json *v = answers("Status", "{}");
    const struct json *orphan = first(v, "orphans");
    int64_t missing_at_ms = json_get_int(orphan, "missing_at_ms", 0);

    cr_assert_str_eq(json_get_text(orphan, "id"), "pro-9");
    cr_assert_str_eq(json_get_text(orphan, "power"), "on");
    cr_assert_eq(json_get_int(orphan, "since_at_ms", 0), at.machine.started_at_ms);
    cr_assert_neq(missing_at_ms, 0);
    cr_assert_eq(events_of("orphan"), 1, "that is no news");
    begin_anew();

    _cleanup_json_ struct json *again = answers("Status", "{}");

    cr_assert_eq(json_get_int(first(again, "orphans"), "missing_at_ms", 0), missing_at_ms);
    minutes_pass(15);
    cr_assert_eq(events_of("orphan_ended"), 1);
    begin_anew();

    _cleanup_json_ struct json *gone = answers("Status", "{}");

    cr_assert_eq(json_count(json_get(gone, "orphans")), 0);
}

Test(control_rent_others, machine_that_nothing_knows_and_is_off_is_not_remembered)
{
    begin_orphan(INSTANCE_ON);
    json_free(answers("Down", "{\"target\":\"pro-9\",\"at\":\"autodl\"}"));
    at.hides = true;
    begin_anew();

    _cleanup_json_ struct json *v = answers("Status", "{}");

    cr_assert_eq(json_count(json_get(v, "orphans")), 0);
}

Test(control_rent_others, what_bills_by_nobodys_account_is_in_cost)
{
    begin_orphan(INSTANCE_ON);

    _cleanup_json_ struct json *v = answers("Cost", "{}");

    cr_assert_str_eq(json_get_text(first(v, "orphans"), "id"), "pro-9");
    cr_assert_eq(json_count(json_get(v, "lines")), 0);
    cr_assert_eq(json_count(json_get(v, "unpriced")), 0);
    json_free(answers("Down", "{\"target\":\"pro-9\",\"at\":\"autodl\"}"));

    _cleanup_json_ struct json *off = answers("Cost", "{}");

    cr_assert_eq(json_count(json_get(off, "orphans")), 0);
}

Test(control_rent_others, stop_is_not_confirmed_by_one_that_does_not_answer)
{
    begin_orphan(INSTANCE_ON);
    at.ignores_stops = true;
    say(&w.caller, down_lost);
    loop_turns(w.loop, 40);
    at.is_down = true;

    _cleanup_json_ struct json *v = hear_in_time();

    cr_assert_str_eq(json_get_text(v, "error"), "io.llmhost.StopNotConfirmed");
    at.is_down = at.ignores_stops = false;

    unsigned asked = at.n_stopped;

    say(&w.caller, down_lost); /* once more: at once */
    loop_turns(w.loop, 40);
    cr_assert_gt(at.n_stopped, asked);

    _cleanup_json_ struct json *again = hear(&w.caller);

    cr_assert_null(json_get_text(again, "error"));
}

Test(control_rent_others, what_is_deleted_slowly_calls_nobody)
{
    begin_orphan(INSTANCE_OFF);
    at.keeps_released = true;
    say(&w.caller, CALL("Release", "{\"instance\":\"pro-9\",\"confirm\":\"pro-9\",\"at\":\"autodl\"}"));
    minutes_pass(10);
    at.keeps_released = false;

    _cleanup_json_ struct json *v = hear_in_time();

    cr_assert_null(json_get_text(v, "error"));
    cr_assert_eq(events_of("stop_not_confirmed"), 0);
    cr_assert_eq(events_of("orphan_ended"), 1);
}

Test(control_rent_others, account_stays_while_one_that_nothing_knows_bills_there)
{
    begin_orphan(INSTANCE_ON);
    refuses(CALL("ProviderRemove", "{\"provider\":\"autodl\"}"), "io.llmhost.Conflict", "code", "has_orphan");
    at.ignores_stops = true;
    say(&w.caller, down_lost);
    json_free(hear_in_time());
    refuses(CALL("ProviderRemove", "{\"provider\":\"autodl\"}"), "io.llmhost.Conflict", "code", "has_orphan");
    at.ignores_stops = false;
    minutes_pass(4);
    json_free(answers("ProviderRemove", "{\"provider\":\"autodl\"}"));
}

Test(control_rent_others, machines_are_looked_at_when_an_account_or_a_token_is_put_there)
{
    begin_orphan(INSTANCE_OFF);
    json_free(answers("ProviderRemove", "{\"provider\":\"autodl\"}"));
    begin_account();
    time_passes(1000);

    _cleanup_json_ struct json *added = answers("Status", "{}");

    cr_assert_str_eq(json_get_text(first(added, "orphans"), "id"), "pro-9");
    secrets_put(w.secrets, "autodl", "token", "worn out");
    daemon_ends();
    daemon_begins();
    caller_leaves(&w.caller);
    caller_comes(&w.caller);
    minutes_pass(3);

    _cleanup_json_ struct json *refused = answers("Status", "{}");

    cr_assert_eq(json_count(json_get(refused, "orphans")), 0);
    json_free(answers("ProviderSet", "{\"provider\":\"autodl\",\"token\":{\"text\":\"right\"}}"));
    time_passes(1000);

    _cleanup_json_ struct json *renewed = answers("Status", "{}");

    cr_assert_str_eq(json_get_text(first(renewed, "orphans"), "id"), "pro-9");
}

/* What it would be called may be the name of a machine that nothing knows. */
Test(control_rent_others, no_name_is_given_before_a_list_was_read)
{
    begin_foreign(INSTANCE_ON);
    snprintf(at.machine.name, sizeof at.machine.name, "%s-box-1", store_daemon_id(w.store));
    at.is_down = true;
    json_free(answers("ProviderSet", "{\"provider\":\"autodl\",\"token\":{\"text\":\"right\"}}"));
    refuses(CALL("Up", UP), "io.llmhost.Failed", "code", "provider_unreachable");
    cr_assert_null(box());
    at.is_down = false;
    refuses(CALL("Up", UP), "io.llmhost.Conflict", "code", "is_orphan");
    cr_assert_null(box());
    minutes_pass(5);
    cr_assert_eq(at.n_stopped + at.n_created, 0);
    cr_assert_eq(at.machine.power, INSTANCE_ON);
}

/* A database that is older than its machines: the second one of that instance is there already. */
Test(control_rent_others, no_machine_has_the_name_of_one_that_nothing_here_knows)
{
    begin_machine();
    json_free(answers("Down", "{\"target\":\"ollama:m\"}"));
    at.machine = (struct instance_seen){.id = "pro-9", .power = INSTANCE_ON, .word = "running"};
    snprintf(at.machine.name, sizeof at.machine.name, "%s-box-2", store_daemon_id(w.store));
    box_gets(LIFE_ABSENT);

    unsigned n_stopped = at.n_stopped;

    json_free(answers("Up", UP));
    box_gets(LIFE_WAITING);
    cr_assert_str_eq(rented_trouble(lease_rented(box()))->code, "is_orphan");
    minutes_pass(5);
    cr_assert_eq(at.n_created, 1);
    cr_assert_eq(at.n_stopped, n_stopped);
    cr_assert_str_eq(at.machine.id, "pro-9");
    cr_assert_eq(box_state(), LIFE_WAITING);
    at.machine.power = INSTANCE_OFF;
    minutes_pass(2);
    cr_assert_eq(at.n_created, 1, "off, and there");
    at.machine = (struct instance_seen){0};
    box_gets(LIFE_RUNNING);
    cr_assert_eq(at.n_created, 2);
}

Test(control_rent_others, only_what_nothing_knows_is_ended_by_its_id)
{
    const char *down = CALL("Down", "{\"target\":\"pro-9\",\"at\":\"autodl\"}");

    refuses(down, "io.llmhost.NotFound", "code", "no_provider");
    begin_foreign(INSTANCE_ON);
    refuses(down, "io.llmhost.Conflict", "code", "not_ours");
    strcpy(at.machine.name, "0a1b2c3d-4090d-1"); /* another one's */
    refuses(down, "io.llmhost.Conflict", "code", "not_ours");
    refuses(CALL("Down", "{\"target\":\"pro-8\",\"at\":\"autodl\"}"), "io.llmhost.NotFound", "code",
            "no_such_machine");
    json_free(answers("InstanceAdd", ADOPT));
    refuses(down, "io.llmhost.Conflict", "code", "is_instance");
    json_free(answers("InstanceRemove", "{\"name\":\"box\"}"));
    snprintf(at.machine.name, sizeof at.machine.name, "%s-lost-1", store_daemon_id(w.store));
    refuses(CALL("Release", "{\"instance\":\"pro-9\",\"confirm\":\"pro-9\",\"at\":\"autodl\"}"),
            "io.llmhost.Conflict", "code", "not_off");
    refuses(CALL("Down", "{\"target\":\"pro-9\",\"at\":\"autodl\",\"now\":true}"), "io.llmhost.Usage", "code",
            "bad_arguments");
    cr_assert_eq(at.n_stopped + at.n_released, 0);
}

Test(control_rent_others, machine_of_ours_is_no_orphan)
{
    begin_machine();
    json_free(answers("InstanceList", "{\"at\":\"autodl\"}"));

    _cleanup_json_ struct json *v = answers("Status", "{}");

    cr_assert_eq(json_count(json_get(v, "orphans")), 0);
    cr_assert_eq(events_of("orphan"), 0);
}

Test(control_rent_others, token_that_is_refused_is_told_at_the_start_once)
{
    begin_account();
    secrets_put(w.secrets, "autodl", "token", "worn out");
    daemon_ends();
    daemon_begins();
    caller_leaves(&w.caller);
    caller_comes(&w.caller);
    for (unsigned i = 0; i < 20; i++)
        time_passes(60000);
    cr_assert_eq(events_of("token_refused"), 1);

    _cleanup_json_ struct json *v = answers("Status", "{}");

    cr_assert_str_eq(json_get_text(first(v, "trouble"), "code"), "token_refused");
}
