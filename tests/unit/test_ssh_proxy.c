#include "proto/ssh_proxy.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <stdlib.h>

#include "proto/mem.h"

/* What a value becomes for root@box:2222, or the reason why not. Caller frees. */
static char *made(const char *option, const char *value)
{
    char *line = NULL, *text = NULL, *why = NULL;

    if (ssh_proxy_read(option, value, &line, &why) < 0) {
        cr_assert_not_null(why);
        cr_assert_null(line);
        return why;
    }
    if (ssh_proxy_command(line, "box", 2222, "root", &text, &why) < 0)
        text = why;
    free(line);
    return text;
}

static void expect(const char *option, const char *value, const char *expected)
{
    _cleanup_free_ char *text = made(option, value);

    cr_assert_str_eq(text, expected);
}

static void expect_refused(const char *option, const char *value, const char *word)
{
    _cleanup_free_ char *line = NULL, *why = NULL;

    cr_assert_eq(ssh_proxy_read(option, value, &line, &why), -EINVAL, "%s", value);
    cr_assert_null(line);
    cr_assert_not_null(strstr(why, word), "%s: %s", value, why);
}

Test(ssh_proxy, a_jump_is_what_ssh_makes_of_it_and_asks_nobody)
{
    expect("ProxyJump", "bastion", "ssh -o BatchMode=yes -W '[box]:2222' -- bastion");
    expect("ProxyJump", "ops@bastion.example:2200",
           "ssh -o BatchMode=yes -l ops -p 2200 -W '[box]:2222' -- bastion.example");
    expect("ProxyJump", "me@[fe80::1%eth0]:22",
           "ssh -o BatchMode=yes -l me -p 22 -W '[box]:2222' -- fe80::1%eth0");
    expect("ProxyJump", "a,b@c:1,d@[::1]", "ssh -o BatchMode=yes -J 'a,b@c:1' -l d -W '[box]:2222' -- ::1");
}

Test(ssh_proxy, what_is_no_jump_is_named)
{
    expect_refused("ProxyJump", "", "missing");
    expect_refused("ProxyJump", "bastion,", "\"\" is not a host");
    expect_refused("ProxyJump", "bastion:0", "\"0\" is not a port");
    expect_refused("ProxyJump", "ssh://bastion", "port");
    expect_refused("ProxyJump", "::1", "brackets");
    expect_refused("ProxyJump", "-oProxyCommand=x", "not a host");
    expect_refused("ProxyJump", "-x@bastion", "not a user");
    expect_refused("ProxyJump", "=x@bastion", "not a user");
    expect_refused("ProxyJump", "$USER@bastion", "not a user");
    expect_refused("ProxyJump", "a@bastion;id", "not a host");
    expect_refused("ProxyJump", "bastion\nProxyCommand", "control character");
}

Test(ssh_proxy, a_command_has_its_tokens_replaced)
{
    expect("ProxyCommand", "nc -X 5 -x 127.0.0.1:1080 %h %p", "nc -X 5 -x 127.0.0.1:1080 box 2222");
    expect("ProxyCommand", "ssh -W [%n]:%p %r@gate 100%%", "ssh -W [box]:2222 root@gate 100%");
    expect("ProxyCommand", "a | b", "a | b");
    expect_refused("ProxyCommand", "nc %k %p", "%k");
    expect_refused("ProxyCommand", "nc %", "only %h");
    expect_refused("ProxyCommand", "", "missing");
    expect_refused("ProxyCommand", "nc\t%h", "control character");
}

Test(ssh_proxy, none_is_none)
{
    static const char *const options[] = {"ProxyJump", "ProxyCommand"};

    for (size_t i = 0; i < ELEMENTS(options); i++) {
        _cleanup_free_ char *line = NULL;

        cr_assert_eq(ssh_proxy_read(options[i], "none", &line, NULL), 0);
        cr_assert_str_eq(line, "");
    }
}

/* A host or user may come from somebody else's page: it is a word of the command, or nothing. */
Test(ssh_proxy, names_cannot_bring_commands_along)
{
    static const char *const names[] = {"",    "-v",    "a b",   "a;id", "$(id)", "`id`",     "a'b",  "a\"b",
                                        "a|b", "a>b",   "$HOME", "a*",   "a?",    "[a]",      "a\\b", "a\nb",
                                        "a&b", "~root", "{a,b}", "a#b",  "!a",    "a\xc3\xa9"};
    static const char *const lines[] = {"ProxyCommand nc %h %p", "ProxyJump bastion", "ProxyCommand nc %n",
                                        "ProxyCommand x %r"};

    for (size_t i = 0; i < ELEMENTS(names); i++)
        for (size_t j = 0; j < ELEMENTS(lines); j++) {
            _cleanup_free_ char *text = NULL, *why = NULL;
            bool is_user = j == 3;

            cr_assert_eq(ssh_proxy_command(lines[j], is_user ? "box" : names[i], 22,
                                           is_user ? names[i] : "root", &text, &why),
                         -EINVAL, "%s: %s", lines[j], names[i]);
            cr_assert_null(text);
            cr_assert_not_null(strstr(why, "plain word"), "%s", why);
        }
}

Test(ssh_proxy, a_name_the_command_does_not_use_may_be_any)
{
    _cleanup_free_ char *text = NULL;

    cr_assert_eq(ssh_proxy_command("ProxyCommand dsw-client", "a b", 22, "$x", &text, NULL), 0);
    cr_assert_str_eq(text, "dsw-client");
}

Test(ssh_proxy, has_a_bound)
{
    _cleanup_free_ char *longest = xalloc(SSH_PROXY_BYTES_MAX + 2), *host = xalloc(2000), *text = NULL,
                        *why = NULL;

    memset(longest, 'x', SSH_PROXY_BYTES_MAX + 1);
    expect_refused("ProxyCommand", longest, "longer");
    memset(host, 'h', 1999);
    cr_assert_eq(ssh_proxy_command("ProxyCommand %h%h%h%h%h%h%h%h%h", host, 1, "u", &text, &why), -EINVAL);
    cr_assert_not_null(strstr(why, "longer"));
}

Test(ssh_proxy, a_command_is_not_shown_and_a_jump_is)
{
    cr_assert_str_eq(ssh_proxy_via("ProxyCommand sshpass -p secret ssh -W %h:%p gate"), "a proxy command");
    cr_assert_str_eq(ssh_proxy_via("ProxyJump ops@bastion,gate"), "ops@bastion,gate");
    cr_assert_str_eq(ssh_proxy_option("ProxyJump a"), "ProxyJump");
    cr_assert_str_eq(ssh_proxy_value("ProxyCommand  nc"), " nc");
}
