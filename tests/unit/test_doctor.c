/* links: control
 *
 * The checks of the doctor that need a world hard to make: an unset clock, a full disk, a machine that refuses forwards or our key. */
#include <criterion/criterion.h>

#include "control/methods_doctor.c"

#include "deployment/deployment_private.h"

static struct json *list;

static void begin(void)
{
    list = json_array();
}

static void end(void)
{
    json_free(list);
}

TestSuite(doctor, .init = begin, .fini = end);

static void last_is(const char *id, const char *level, const char *words)
{
    const struct json *check = json_at(list, json_count(list) - 1);

    cr_assert_str_eq(json_get_text(check, "id"), id);
    cr_assert_str_eq(json_get_text(check, "level"), level);
    cr_assert(strstr(json_get_text(check, "message"), words), "%s", json_get_text(check, "message"));
}

Test(doctor, a_clock_before_2020_was_never_set)
{
    check_clock(list, 86400000);
    last_is("daemon.clock", "fail", "1970-01-0");
    cr_assert_eq(json_count(json_get(json_at(list, 0), "next")), 1);
    cr_assert_not(is_healthy(list));
    check_clock(list, 1577836800000 - 1);
    last_is("daemon.clock", "fail", "20");
    check_clock(list, 1577836800000);
    last_is("daemon.clock", "ok", "20");
}

Test(doctor, little_room_for_the_database_is_a_warning)
{
    check_space(list, "/var/lib/llmhost", SPACE_LEAST_BYTES - 1);
    last_is("store.space", "warn", "/var/lib/llmhost");
    cr_assert(is_healthy(list));
    check_space(list, "/var/lib/llmhost", SPACE_LEAST_BYTES);
    last_is("store.space", "ok", "100 MB");
}

Test(doctor, only_a_password_where_our_key_should_be_is_worth_a_warning)
{
    static const struct {
        const char *method;
        bool install_key, later, warns;
    } rows[] = {
        {"password", true, true, true},           {"keyboard-interactive", true, true, true},
        {"password", true, false, false},         {"password", false, true, false},
        {"own key", true, true, false},           {"key", true, true, false},
        {"none", true, true, false},
    };

    for (unsigned i = 0; i < ELEMENTS(rows); i++) {
        const struct instance_record r = {
            .name = "gpu1", .provider = "local", .install_key = rows[i].install_key, .host_key_at_ms = 1000000};
        const struct lease_context context = {};
        const struct session_figures n = {.method = rows[i].method,
                                          .since_at_ms = r.host_key_at_ms + (rows[i].later ? FIRST_LOGIN_MS + 1 : 300)};
        struct lease *l = lease_new(&context, &r, false);
        size_t before = json_count(list);

        check_login(l, &n, list);
        lease_free(l);
        cr_assert_eq(json_count(list) - before, rows[i].warns ? 2 : 1, "%u", i);
        if (rows[i].warns)
            last_is("ssh.own_key", "warn", "the password is used at each login");
        else
            last_is("ssh.session", "ok", rows[i].method);
    }
}
