/* links: control
 *
 * The control socket as callers meet it: messages whole and broken, calls that fit the contract and calls
 * that do not, callers who leave, and callers who do not read. */
#include "tests/unit/control_world.h"

#include "proto/varlink_contract.h"

TestSuite(control, .init = world_begin, .fini = world_end, .timeout = 60);

#define STATUS "{\"method\":\"io.llmhost.Status\"}"
#define LIST   "{\"method\":\"io.llmhost.InstanceList\",\"parameters\":{}}"
#define INFO   "{\"method\":\"org.varlink.service.GetInfo\"}"

static void is_well(void)
{
    _cleanup_json_ struct json *v = answers("Status", "{}");

    cr_assert_eq(json_get_int(json_get(v, "daemon"), "pid", 0), getpid());
}

/* ---- the service interface ---- */

Test(control, tells_who_it_is)
{
    _cleanup_json_ struct json *v = ask(INFO);
    const struct json *p = json_get(v, "parameters"), *interfaces = json_get(p, "interfaces");

    cr_assert_str_eq(json_get_text(p, "product"), "llmhostd");
    cr_assert_str_eq(json_get_text(p, "version"), LLMHOST_VERSION);
    cr_assert_eq(json_count(interfaces), 2);
    cr_assert_str_eq(json_text(json_at(interfaces, 1)), "io.llmhost");
}

static void describes_as_in(const char *interface, const char *file)
{
    _cleanup_free_ char *message =
        xasprintf("{\"method\":\"org.varlink.service.GetInterfaceDescription\",\"parameters\":"
                  "{\"interface\":\"%s\"}}",
                  interface);
    static char text[1 << 16];
    _cleanup_json_ struct json *v = ask(message);
    FILE *f = fopen(file, "r");

    cr_assert_not_null(f);
    text[fread(text, 1, sizeof text - 1, f)] = '\0';
    fclose(f);
    cr_assert_str_eq(json_get_text(json_get(v, "parameters"), "description"), text);
}

Test(control, its_description_is_the_file_of_the_sources)
{
    describes_as_in("io.llmhost", SOURCE_DIR "/proto/io.llmhost.varlink");
    describes_as_in("org.varlink.service", SOURCE_DIR "/proto/org.varlink.service.varlink");
}

Test(control, what_is_not_there_is_refused_by_name)
{
    refuses("{\"method\":\"io.llmhost.Fly\"}", "org.varlink.service.MethodNotFound", "method",
            "io.llmhost.Fly");
    refuses("{\"method\":\"io.llmhost.\"}", "org.varlink.service.MethodNotFound", "method", "io.llmhost.");
    refuses("{\"method\":\"org.varlink.service.Fly\"}", "org.varlink.service.MethodNotFound", "method",
            "org.varlink.service.Fly");
    refuses("{\"method\":\"org.example.Fly\"}", "org.varlink.service.InterfaceNotFound", "interface",
            "org.example");
    refuses("{\"method\":\"io.llmhost.more.Fly\"}", "org.varlink.service.InterfaceNotFound", "interface",
            "io.llmhost.more");
    refuses("{\"method\":\"Status\"}", "org.varlink.service.InterfaceNotFound", "interface", "");
    refuses(
        "{\"method\":\"org.varlink.service.GetInterfaceDescription\",\"parameters\":{\"interface\":\"a.b\"}}",
        "org.varlink.service.InterfaceNotFound", "interface", "a.b");
    refuses("{\"method\":\"org.varlink.service.GetInterfaceDescription\"}",
            "org.varlink.service.InvalidParameter", "parameter", "interface");
    refuses("{\"method\":\"org.varlink.service.GetInfo\",\"parameters\":{\"x\":1}}",
            "org.varlink.service.InvalidParameter", "parameter", "x");
    is_well();
}

/* ---- every call against the contract ---- */

static const char *wrong_value(const struct varlink_type *t)
{
    switch (t->kind) {
    case VARLINK_STRING:
    case VARLINK_ENUM: return "5";
    case VARLINK_BOOL:
    case VARLINK_INT:
    case VARLINK_FLOAT:
    case VARLINK_ARRAY: return "\"text\"";
    case VARLINK_MAP: return "[]";
    case VARLINK_STRUCT:
    case VARLINK_NAMED: return "\"secret\"";
    case VARLINK_OBJECT: break;
    }
    return NULL;
}

/* Of what must be there. A named type is a secret. */
static const char *right_value(const struct varlink_type *t)
{
    return t->kind == VARLINK_STRING ? "\"x\"" : t->kind == VARLINK_NAMED ? "{\"text\":\"x\"}" : NULL;
}

/* {"method":…} with every parameter that must be there, but for one that is left out or wrong. */
static char *spoilt_call(const char *method, const struct varlink_type *in, const char *left_out,
                         const char *wrong)
{
    struct buf text;
    const char *comma = "";

    buf_init(&text, 65536);
    buf_addf(&text, "{\"method\":\"io.llmhost.%s\",\"parameters\":{", method);
    for (const struct varlink_field *f = in->fields; f; f = f->next) {
        bool is_wrong = wrong && streq(f->name, wrong);

        if ((f->type->maybe && !is_wrong) || (left_out && streq(f->name, left_out)))
            continue;
        const char *value = is_wrong ? wrong_value(f->type) : right_value(f->type);

        cr_assert_not_null(value, "%s.%s: the test has no value for it", method, f->name);
        buf_addf(&text, "%s\"%s\":%s", comma, f->name, value);
        comma = ",";
    }
    if (wrong && streq(wrong, "unheard_of"))
        buf_addf(&text, "%s\"unheard_of\":1", comma);
    buf_add_text(&text, "}}");
    return buf_take(&text);
}

static void refuses_spoilt(const char *method, const struct varlink_type *in, const char *left_out,
                           const char *wrong)
{
    _cleanup_free_ char *call = spoilt_call(method, in, left_out, wrong);

    refuses(call, "org.varlink.service.InvalidParameter", "parameter", left_out ? left_out : wrong);
}

Test(control, every_parameter_of_every_method_is_looked_at)
{
    const char *name;
    unsigned n = 0;

    for (size_t i = 0; (name = varlink_contract_method(w.contract, i)); i++) {
        const char *dot = strrchr(name, '.'), *method = dot ? dot + 1 : name;
        const struct varlink_type *in = varlink_contract_find(w.contract, DECL_METHOD, method)->in;

        refuses_spoilt(method, in, NULL, "unheard_of");
        for (const struct varlink_field *f = in->fields; f; f = f->next) {
            if (!f->type->maybe)
                refuses_spoilt(method, in, f->name, NULL);
            refuses_spoilt(method, in, NULL, f->name);
            n++;
        }
    }
    cr_assert_gt(n, 30);
    is_well();
}

Test(control, values_out_of_their_range_are_refused_by_name)
{
    static const struct {
        const char *method, *parameters, *wrong;
    } calls[] = {
        {"Up", "{\"model\":\"ollama:x\",\"timeout_ms\":0}", "timeout_ms"},
        {"Down", "{\"target\":\"*\",\"timeout_ms\":-1}", "timeout_ms"},
        {"Wait", "{\"target\":\"*\",\"timeout_ms\":0}", "timeout_ms"},
        {"Wait", "{\"target\":\"*\",\"until\":\"dawn\"}", "until"},
        {"Logs", "{\"sources\":[\"daemon\",\"gossip\"]}", "sources"},
        {"Logs", "{\"lines\":0}", "lines"},
        {"Logs", "{\"lines\":10001}", "lines"},
    };

    for (size_t i = 0; i < ELEMENTS(calls); i++) {
        _cleanup_free_ char *call = xasprintf("{\"method\":\"io.llmhost.%s\",\"parameters\":%s}",
                                              calls[i].method, calls[i].parameters);

        refuses(call, "org.varlink.service.InvalidParameter", "parameter", calls[i].wrong);
    }
    is_well();
}

Test(control, every_method_of_the_contract_is_there)
{
    const char *name;

    for (size_t i = 0; (name = varlink_contract_method(w.contract, i)); i++) {
        const char *dot = strrchr(name, '.'), *method = dot ? dot + 1 : name;
        _cleanup_free_ char *call =
            spoilt_call(method, varlink_contract_find(w.contract, DECL_METHOD, method)->in, NULL, NULL);
        _cleanup_json_ struct json *v = ask(call);
        _cleanup_free_ char *where = NULL;
        const char *error = json_get_text(v, "error");

        if (!error)
            cr_assert_eq(varlink_check_reply(w.contract, method, json_get(v, "parameters"), &where), 0,
                         "%s: %s", method, where);
        else if (strncmp(error, "io.llmhost.", 11) == 0)
            cr_assert_eq(varlink_check_error(w.contract, error, json_get(v, "parameters"), &where), 0,
                         "%s: %s", method, where);
        else
            cr_assert_str_eq(error, "org.varlink.service.ExpectedMore", "%s", method);
    }
}

/* ---- messages ---- */

Test(control, a_message_may_come_in_pieces)
{
    static const char call[] = STATUS;

    for (size_t i = 0; i < sizeof call; i++) {
        say_bytes(&w.caller, &call[i], 1);
        loop_turns(w.loop, 2);
    }
    _cleanup_json_ struct json *v = hear(&w.caller);

    cr_assert_null(json_get(v, "error"));
}

Test(control, several_calls_in_one_write_are_answered_in_their_order)
{
    static const char calls[] = INFO "\0" LIST "\0{\"method\":\"io.llmhost.Fly\"}\0" STATUS "\0"
                                     "{\"method\":\"io.llmhost.ForwardList\"}\0" INFO;
    static const char *const keys[] = {"product", "instances", "method", "models", "forwards", "product"};

    say_bytes(&w.caller, calls, sizeof calls);
    for (unsigned i = 0; i < ELEMENTS(keys); i++) {
        _cleanup_json_ struct json *v = hear(&w.caller);

        cr_assert_not_null(json_get(json_get(v, "parameters"), keys[i]), "%u: no %s", i, keys[i]);
    }
    cr_assert(is_silent(&w.caller));
}

Test(control, a_long_call_holds_up_those_behind_it_and_nobody_else)
{
    struct caller_end other;

    json_free(answers("InstanceAdd", "{\"name\":\"here\",\"provider\":\"local\"}"));
    say(&w.caller, "{\"method\":\"io.llmhost.Watch\",\"more\":true}");
    json_free(hear(&w.caller));
    say(&w.caller, INFO);
    cr_assert(is_silent(&w.caller));
    caller_comes(&other);
    say(&other, INFO);
    json_free(hear(&other));
    caller_leaves(&other);
}

Test(control, garbage_ends_the_connection_and_nothing_else)
{
    static const char *const garbage[] = {
        "",
        "x",
        "{}",
        "[]",
        "null",
        "{\"method\":5}",
        "{\"method\":\"\"}",
        "{\"method\":\"io.llmhost.Status\"",
        "{\"method\":\"io.llmhost.Status\"}}",
        "{\"method\":\"io.llmhost.Status\",\"method\":\"io.llmhost.Status\"}",
        "{\"method\":\"io.llmhost.Status\",\"parameters\":[]}",
        "{\"method\":\"io.llmhost.Status\",\"more\":1}",
        "{\"method\":\"io.llmhost.Status\",\"upgrade\":\"x\"}",
        "{\"method\":\"io.llmhost.Status\xff\"}",
        "GET / HTTP/1.1\r\nHost: x\r\n\r\n",
    };

    for (unsigned i = 0; i < ELEMENTS(garbage); i++) {
        struct caller_end c;

        caller_comes(&c);
        say(&c, garbage[i]);
        cr_assert_null(hear(&c), "%s", garbage[i]);
        caller_leaves(&c);
    }
    is_well();
}

Test(control, nesting_without_end_and_messages_without_end_are_garbage)
{
    static char text[(1 << 20) + 40000];
    struct caller_end c;

    caller_comes(&c);
    memset(text, '[', 5000);
    say(&c, text);
    cr_assert_null(hear(&c));
    caller_leaves(&c);
    memset(text, ' ', sizeof text);
    caller_comes(&c);
    say_bytes(&c, text, sizeof text);
    cr_assert_null(hear(&c));
    caller_leaves(&c);
    is_well();
}

Test(control, bytes_at_random_do_no_harm)
{
    uint32_t seed = 1;

    for (unsigned i = 0; i < 300; i++) {
        struct caller_end c;
        char bytes[300];

        strcpy(bytes, "{\"method\":\"io.llmhost.Logs\",\"parameters\":{\"target\":\"x\",\"lines\":3,"
                      "\"sources\":[\"a\"]},\"more\":true}");
        size_t n = strlen(bytes) + 1;

        for (unsigned k = 0; k < 3; k++) {
            seed = seed * 1664525u + 1013904223u;
            bytes[(seed >> 8) % (n - 1)] = (char)(seed >> 24);
        }
        caller_comes(&c);
        say_bytes(&c, bytes, n);
        json_free(hear(&c)); /* an answer, an error, or the end */
        caller_leaves(&c);
    }
    is_well();
}

/* ---- oneway and more ---- */

Test(control, a_oneway_call_is_done_and_not_answered)
{
    say(&w.caller, "{\"method\":\"io.llmhost.InstanceAdd\",\"parameters\":{\"name\":\"here\",\"provider\":"
                   "\"local\"},\"oneway\":true}");
    say(&w.caller, "{\"method\":\"io.llmhost.Fly\",\"oneway\":true}");
    say(&w.caller, "{\"method\":\"io.llmhost.Up\",\"oneway\":true}");
    say(&w.caller, "{\"method\":\"io.llmhost.Wait\",\"parameters\":{\"target\":\"nosuch\"},\"oneway\":true}");
    say(&w.caller, "{\"method\":\"org.example.Fly\",\"oneway\":true}");
    say(&w.caller, "{\"method\":\"org.varlink.service.GetInfo\",\"oneway\":true}");
    _cleanup_json_ struct json *v = answers("InstanceList", "{}");

    cr_assert_eq(json_count(json_get(v, "instances")), 1);
    cr_assert(is_silent(&w.caller));
}

Test(control, more_for_a_method_that_has_no_more_is_one_reply)
{
    _cleanup_json_ struct json *v = ask("{\"method\":\"io.llmhost.InstanceList\",\"more\":true}");

    cr_assert_not(json_get_bool(v, "continues", false));
    cr_assert(is_silent(&w.caller));
}

Test(control, what_needs_more_says_so)
{
    refuses("{\"method\":\"io.llmhost.Watch\"}", "org.varlink.service.ExpectedMore", "parameter", "(none)");
    refuses("{\"method\":\"io.llmhost.Logs\",\"parameters\":{\"follow\":true}}",
            "org.varlink.service.ExpectedMore", "parameter", "(none)");
}

/* ---- Watch ---- */

Test(control, the_first_reply_of_watch_is_the_whole_status_and_changes_follow)
{
    struct caller_end c;

    json_free(answers("InstanceAdd", "{\"name\":\"here\",\"provider\":\"local\"}"));
    caller_comes(&c);
    say(&c, "{\"method\":\"io.llmhost.Watch\",\"parameters\":{},\"more\":true}");
    _cleanup_json_ struct json *first = hear(&c);
    const struct json *p = json_get(first, "parameters");

    cr_assert(json_get_bool(first, "continues", false));
    cr_assert_not_null(json_get(p, "daemon"));
    cr_assert_eq(json_count(json_get(p, "instances")), 1);
    cr_assert_not_null(json_get(p, "models"));
    cr_assert_not_null(json_get(p, "trouble"));
    json_free(answers("Up", "{\"model\":\"ollama:tiny\",\"wait\":false}"));
    bool told_model = false;

    for (unsigned i = 0; i < 200 && !told_model; i++) {
        _cleanup_json_ struct json *v = hear(&c);

        cr_assert(json_get_bool(v, "continues", false));
        cr_assert_null(json_get(json_get(v, "parameters"), "daemon"));
        told_model =
            streq(json_get_text(json_get(json_get(v, "parameters"), "model"), "state") ?: "", "failed");
    }
    cr_assert(told_model);
    caller_leaves(&c);
    is_well();
}

Test(control, watch_of_one_target_hears_of_nothing_else)
{
    struct caller_end c;

    json_free(answers("InstanceAdd", "{\"name\":\"here\",\"provider\":\"local\"}"));
    json_free(answers("InstanceAdd", "{\"name\":\"there\",\"provider\":\"local\"}"));
    caller_comes(&c);
    say(&c, "{\"method\":\"io.llmhost.Watch\",\"parameters\":{\"targets\":[\"there\"]},\"more\":true}");
    _cleanup_json_ struct json *first = hear(&c);

    cr_assert_eq(json_count(json_get(json_get(first, "parameters"), "instances")), 1);
    event_publish(LOG_LEVEL_NOTICE, LOG_DAEMON, "here", "test", "not for you");
    event_publish(LOG_LEVEL_NOTICE, LOG_DAEMON, "there", "test", "for you");
    _cleanup_json_ struct json *second = hear(&c);

    cr_assert_str_eq(json_get_text(json_get(json_get(second, "parameters"), "event"), "text"), "for you");
    cr_assert(is_silent(&c));
    caller_leaves(&c);
}

Test(control, one_who_does_not_read_is_dropped_with_an_error_after_1_MiB)
{
    static char long_text[1000];
    _cleanup_json_ struct json *last = NULL, *v;
    struct caller_end c;
    unsigned n = 0;

    memset(long_text, 'x', sizeof long_text - 1);
    caller_comes(&c);
    say(&c, "{\"method\":\"io.llmhost.Watch\",\"more\":true}");
    loop_turns(w.loop, 5);
    for (unsigned i = 0; i < 8000; i++) {
        event_publish(LOG_LEVEL_DEBUG, LOG_DAEMON, NULL, "test", "%s", long_text);
        if (i % 20 == 0)
            loop_turns(w.loop, 1);
    }
    loop_turns(w.loop, 3);
    is_well();
    for (v = hear(&c); v; v = hear(&c)) {
        json_free(last);
        last = v;
        n++;
        if (json_get(v, "error"))
            break;
    }
    cr_assert_str_eq(json_get_text(last, "error"), "io.llmhost.Failed");
    cr_assert_str_eq(json_get_text(json_get(last, "parameters"), "code"), "slow_reader");
    cr_assert_gt(n, 500);
    cr_assert_lt(n, 7000);
    v = NULL;
    caller_leaves(&c);
}

Test(control, answers_that_nobody_takes_hold_up_later_calls_and_lose_none)
{
    static const char call[] = "{\"method\":\"org.varlink.service.GetInterfaceDescription\",\"parameters\":"
                               "{\"interface\":\"io.llmhost\"}}";
    struct caller_end c;

    caller_comes(&c);
    for (unsigned i = 0; i < 1000; i++) /* several MiB of answers */
        say(&c, i % 2 ? call : STATUS);
    loop_turns(w.loop, 100);
    is_well();
    for (unsigned i = 0; i < 1000; i++) {
        _cleanup_json_ struct json *v = hear(&c);

        cr_assert_not_null(json_get(json_get(v, "parameters"), i % 2 ? "description" : "daemon"), "answer %u",
                           i);
    }
    cr_assert(is_silent(&c));
    caller_leaves(&c);
}

Test(control, a_flood_of_calls_takes_turns_with_everybody_else)
{
    static const char oneway[] = "{\"method\":\"io.llmhost.Status\",\"oneway\":true}";
    struct caller_end c;

    caller_comes(&c);
    for (unsigned i = 0; i < 2000; i++)
        say(&c, oneway);
    say(&c, LIST);
    is_well();
    cr_assert(!has_message(&c), "all of the flood came first");
    json_free(hear(&c));
    caller_leaves(&c);
}

Test(control, a_forward_that_others_can_reach_says_so)
{
    static const struct {
        const char *ip;
        bool noted;
    } forwards[] = {{"127.0.0.1", false}, {"0.0.0.0", true}, {"*", true}, {"[::1]", false}};
    char parameters[100];

    json_free(answers("InstanceAdd", "{\"name\":\"here\",\"provider\":\"local\"}"));
    for (unsigned i = 0; i < ELEMENTS(forwards); i++) {
        snprintf(parameters, sizeof parameters, "{\"instance\":\"here\",\"spec\":\"%s:%u:127.0.0.1:9\"}",
                 forwards[i].ip, free_port());
        _cleanup_json_ struct json *v = answers("ForwardAdd", parameters);
        const char *note = json_text(json_at(json_get(v, "notes"), 0));

        cr_assert_eq(note != NULL, forwards[i].noted, "%s", forwards[i].ip);
        if (note)
            cr_assert(strstr(note, "0.0.0.0:") && strstr(note, "on here"), "%s", note);
    }
}

/* ---- callers who leave ---- */

/* As printf … | nc -U does. */
Test(control, whoever_has_said_all_is_answered_to_the_end)
{
    struct caller_end c;

    json_free(answers("InstanceAdd", "{\"name\":\"here\",\"provider\":\"local\"}"));
    caller_comes(&c);
    for (unsigned i = 0; i < 3; i++)
        say(&c, "{\"method\":\"io.llmhost.Status\"}");
    say(&c, "{\"method\":\"io.llmhost.Up\",\"parameters\":{\"model\":\"ollama:tiny\"},\"more\":true}");
    shutdown(c.fd, SHUT_WR);
    for (unsigned i = 0; i < 3; i++) {
        _cleanup_json_ struct json *v = hear(&c);

        cr_assert_not_null(json_get(v, "parameters"), "reply %u", i);
    }
    for (bool last = false; !last;) {
        _cleanup_json_ struct json *v = hear(&c);

        cr_assert_not_null(v, "no last reply");
        last = !json_get_bool(v, "continues", false);
        cr_assert(!last || json_get_text(v, "error"), "there is no such engine here");
    }
    cr_assert_null(hear(&c), "and then it ends");
    caller_leaves(&c);
    is_well();
}

Test(control, whoever_has_said_half_a_word_and_no_more_is_let_go)
{
    struct caller_end c;

    caller_comes(&c);
    say_bytes(&c, "{\"method\":", 10);
    shutdown(c.fd, SHUT_WR);
    cr_assert_null(hear(&c));
    caller_leaves(&c);
    caller_comes(&c);
    shutdown(c.fd, SHUT_WR);
    cr_assert_null(hear(&c));
    caller_leaves(&c);
    caller_comes(&c);
    say(&c, "{\"method\":\"io.llmhost.Watch\",\"more\":true}");
    shutdown(c.fd, SHUT_WR);
    json_free(hear(&c));
    caller_leaves(&c);
    json_free(answers("InstanceAdd", "{\"name\":\"here\",\"provider\":\"local\"}"));
    is_well();
}

Test(control, whoever_leaves_takes_his_call_along_and_changes_nothing)
{
    static const char *const calls[] = {
        "{\"method\":\"io.llmhost.Watch\",\"more\":true}",
        "{\"method\":\"io.llmhost.Logs\",\"parameters\":{\"follow\":true},\"more\":true}",
        "{\"method\":\"io.llmhost.Up\",\"parameters\":{\"model\":\"ollama:tiny\"},\"more\":true}",
        "{\"method\":\"io.llmhost.Up\",\"parameters\":{\"model\":\"ollama:tiny\"}}",
        "{\"method\":\"io.llmhost.Wait\",\"parameters\":{\"target\":\"ollama:tiny\",\"until\":\"stopped\"}}",
        "{\"method\":\"io.llmhost.Down\",\"parameters\":{\"target\":\"ollama:tiny\"},\"more\":true}",
        "{\"method\":\"io.llmhost.Logs\"}",
        "{\"method\":\"io.llmhost.InstanceAdd\",\"parameters\":{\"name\":\"other\",\"provider\":\"local\"}}",
        "{\"method\":\"io.llmhost.InstanceRemove\",\"parameters\":{\"name\":\"other\"}}",
    };

    json_free(answers("InstanceAdd", "{\"name\":\"here\",\"provider\":\"local\"}"));
    json_free(answers("Up", "{\"model\":\"ollama:tiny\",\"wait\":false}"));
    for (unsigned i = 0; i < ELEMENTS(calls); i++)
        for (unsigned turns = 0; turns < 12; turns++) {
            struct caller_end c;

            caller_comes(&c);
            say(&c, calls[i]);
            loop_turns(w.loop, turns);
            caller_leaves(&c);
            loop_turns(w.loop, 2);
        }
    is_well();
}

Test(control, an_instance_whose_caller_left_before_it_was_tried_is_not_kept)
{
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    _cleanup_close_ int silent = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    socklen_t n = sizeof at;
    struct caller_end c;
    char call[400];

    cr_assert_eq(bind(silent, (struct sockaddr *)&at, n), 0);
    cr_assert_eq(listen(silent, 8), 0);
    cr_assert_eq(getsockname(silent, (struct sockaddr *)&at, &n), 0);
    snprintf(call, sizeof call,
             "{\"method\":\"io.llmhost.InstanceAdd\",\"parameters\":{\"name\":\"gpu1\",\"command\":\"ssh -p "
             "%u root@127.0.0.1\","
             "\"password\":{\"text\":\"geheim\"}}}",
             ntohs(at.sin_port));
    caller_comes(&c);
    say(&c, call);
    cr_assert(is_silent(&c));
    caller_leaves(&c);
    loop_turns(w.loop, 20);
    _cleanup_json_ struct json *v = answers("InstanceList", "{}");

    cr_assert_eq(json_count(json_get(v, "instances")), 0);
    _cleanup_free_ char *secret = xasprintf("%s/secrets/gpu1.password", w.directory);

    cr_assert_eq(access(secret, F_OK), -1, "its secret is gone, too");
}

Test(control, five_hundred_idle_callers_keep_nobody_from_asking)
{
    static struct caller_end many[500];
    struct rlimit most;

    cr_assert_eq(getrlimit(RLIMIT_NOFILE, &most), 0);
    most.rlim_cur = most.rlim_max;
    cr_assert_eq(setrlimit(RLIMIT_NOFILE, &most), 0);
    if (most.rlim_cur < 1100)
        cr_skip_test("too few descriptors");
    for (unsigned i = 0; i < ELEMENTS(many); i++) {
        caller_comes(&many[i]);
        loop_turns(w.loop, 1);
    }
    say(&many[7], INFO);
    json_free(hear(&many[7]));
    is_well();
    for (unsigned i = 0; i < ELEMENTS(many); i++)
        caller_leaves(&many[i]);
    is_well();
}

Test(control, calls_in_flight_are_cut_when_the_daemon_ends)
{
    json_free(answers("InstanceAdd", "{\"name\":\"here\",\"provider\":\"local\"}"));
    say(&w.caller, "{\"method\":\"io.llmhost.Up\",\"parameters\":{\"model\":\"ollama:tiny\"},\"more\":true}");
    loop_turns(w.loop, 4);
    daemon_ends();
    cr_assert(LOOP_UNTIL(w.loop, (has_message(&w.caller), w.caller.ended)));
    daemon_begins();
}

Test(control, a_passed_socket_is_served_and_left_where_it_is)
{
    struct sockaddr_un at = {.sun_family = AF_UNIX};
    struct control_context cc = {
        .loop = w.loop, .manager = w.manager, .state_directory = w.directory, .socket_path = at.sun_path};
    struct control *second = NULL;
    struct fault f = {};
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0), others = fcntl(fd, F_DUPFD_CLOEXEC, 0);
    _cleanup_close_ int early = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0),
                        late = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    static const char question[] = "{\"method\":\"org.varlink.service.GetInfo\"}";
    char answer[16];

    snprintf(at.sun_path, sizeof at.sun_path, "%s/passed", w.directory);
    cr_assert_eq(bind(fd, (struct sockaddr *)&at, sizeof at), 0);
    cr_assert_eq(listen(fd, 5), 0);
    cc.passed_fd = fd;
    cr_assert_eq(control_new(&cc, &second, &f), 0, "%s", f.text);
    cr_assert_eq(connect(early, (struct sockaddr *)&at, sizeof at), 0);
    cr_assert_eq(send(early, question, sizeof question, 0), (ssize_t)sizeof question);
    cr_assert(LOOP_UNTIL(w.loop, recv(early, answer, sizeof answer, MSG_DONTWAIT) > 0));
    control_close_door(second);
    cr_assert_eq(connect(late, (struct sockaddr *)&at, sizeof at), 0, "it waits");
    loop_turns(w.loop, 5);
    control_free(second);
    loop_turns(w.loop, 3);
    cr_assert_geq(accept(others, NULL, NULL), 0, "for somebody else");
    cr_assert_eq(unlink(at.sun_path), 0, "the file is not ours to remove");
    close(others);
}

Test(control, a_passed_socket_that_cannot_tell_who_calls_is_refused)
{
    struct control_context cc = {.loop = w.loop, .socket_path = w.socket};
    struct control *second = NULL;
    struct fault f = {};
    _cleanup_close_ int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    cr_assert_eq(listen(fd, 5), 0);
    cc.passed_fd = fd;
    cr_assert_eq(control_new(&cc, &second, &f), -EINVAL);
    cr_assert(strstr(f.text, "Unix"), "%s", f.text);
}

Test(control, a_second_daemon_is_told_that_the_socket_is_taken)
{
    const struct control_context cc = {.loop = w.loop, .socket_path = w.socket, .socket_mode = 0600};
    struct control *second = NULL;
    struct fault f = {};

    cr_assert_eq(control_new(&cc, &second, &f), -EADDRINUSE);
    cr_assert_not_null(strstr(f.text, w.socket));
    is_well();
}
