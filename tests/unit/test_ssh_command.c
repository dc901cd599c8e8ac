/* The module itself, over an allocator that fails on demand: at the call that makes allocations_left
 * negative. */
#include <criterion/criterion.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static long allocations_left = LONG_MAX;

static char *test_strdup(const char *text)
{
    return --allocations_left < 0 ? NULL : strdup(text);
}

#include "proto/mem.h"

#undef strdup
#define strdup test_strdup
#include "proto/ssh_command.c"
#include "proto/ssh_part.c"
#undef strdup

static struct ssh_command parsed(const char *text)
{
    struct ssh_command c = {0};
    char *why = NULL;
    int r = ssh_command_parse(text, &c, &why);

    cr_assert_eq(r, 0, "%s: %s", text, why ? why : "");
    cr_assert_null(why);
    return c;
}

static void assert_command(const char *text, const char *user, const char *host, uint16_t port,
                           const char *left_out)
{
    struct ssh_command c = parsed(text);

    cr_assert_eq(!c.user, !user, "%s", text);
    if (user)
        cr_assert_str_eq(c.user, user, "%s", text);
    cr_assert_str_eq(c.host, host, "%s", text);
    cr_assert_eq(c.port, port, "%s", text);
    cr_assert_eq(!c.left_out, !left_out, "%s", text);
    if (left_out)
        cr_assert_str_eq(c.left_out, left_out, "%s", text);
    ssh_command_done(&c);
    cr_assert_null(c.host);
}

static void assert_refused(const char *text, const char *in_why)
{
    struct ssh_command c = {.host = (char *)"kept"};
    char *why = NULL;

    cr_assert_eq(ssh_command_parse(text, &c, &why), -EINVAL, "%s", text);
    cr_assert_not_null(why, "%s", text);
    cr_assert_not_null(strstr(why, in_why), "%s: %s", text, why);
    cr_assert_str_eq(c.host, "kept");
    free(why);
    cr_assert_eq(ssh_command_parse(text, &c, NULL), -EINVAL);
}

static void assert_forward(const char *text, const char *listen_ip, uint16_t listen_port, const char *host,
                           uint16_t port)
{
    struct ssh_forward f = {0};
    char *why = NULL;

    cr_assert_eq(ssh_forward_parse(text, &f, &why), 0, "%s: %s", text, why ? why : "");
    cr_assert_str_eq(f.listen_ip, listen_ip);
    cr_assert_eq(f.listen_port, listen_port);
    cr_assert_str_eq(f.host, host);
    cr_assert_eq(f.port, port);
    ssh_forward_done(&f);
    cr_assert_null(f.host);
}

static void assert_forward_refused(const char *text, const char *in_why)
{
    struct ssh_forward f = {.port = 77};
    char *why = NULL;

    cr_assert_eq(ssh_forward_parse(text, &f, &why), -EINVAL, "%s", text);
    cr_assert_not_null(strstr(why, in_why), "%s: %s", text, why);
    cr_assert_eq(f.port, 77);
    free(why);
    cr_assert_eq(ssh_forward_parse(text, &f, NULL), -EINVAL);
}

Test(ssh_command, reads_what_rental_companies_print)
{
    assert_command("ssh -p 46464 root@connect.nmb1.seetacloud.com", "root", "connect.nmb1.seetacloud.com",
                   46464, NULL);
    assert_command("ssh -CNg -L 6006:127.0.0.1:6006 root@connect.nmb1.seetacloud.com -p 46464", "root",
                   "connect.nmb1.seetacloud.com", 46464, "-C -N -g");
    assert_command("ssh root@203.0.113.9 -p 2201 -i ~/.ssh/id_ed25519", "root", "203.0.113.9", 2201, NULL);
    assert_command("ssh -p 12345 root@ssh5.example.org -L 8080:localhost:8080", "root", "ssh5.example.org",
                   12345, NULL);
    assert_command("root@connect.nmb1.seetacloud.com", "root", "connect.nmb1.seetacloud.com", 22, NULL);
    assert_command("-p 46464 root@box", "root", "box", 46464, NULL);
}

Test(ssh_command, keeps_forwards_and_the_key_file)
{
    struct ssh_command c =
        parsed("ssh -L6006:127.0.0.1:6006 -NL 127.0.0.1:7000:db:5432 -i'~/my keys/id' root@box -L 8888");

    cr_assert_eq(c.n_forwards, 3);
    cr_assert_eq(c.forwards[0].listen_port, 6006);
    cr_assert_str_eq(c.forwards[1].host, "db");
    cr_assert_eq(c.forwards[1].port, 5432);
    cr_assert_eq(c.forwards[2].port, 8888);
    cr_assert_str_eq(c.identity_file, "~/my keys/id");
    cr_assert_str_eq(c.left_out, "-N");
    ssh_command_done(&c);
}

Test(ssh_command, takes_options_in_every_form_and_place)
{
    assert_command("ssh -p46464 box", NULL, "box", 46464, NULL);
    assert_command("ssh box -p46464", NULL, "box", 46464, NULL);
    assert_command("ssh -CNp46464 box", NULL, "box", 46464, "-C -N");
    assert_command("ssh -CNp 46464 box -vvv -tt", NULL, "box", 46464, "-C -N -v -t");
    assert_command("ssh -C -N -g -f -n -q -T -t -v box", NULL, "box", 22, "-C -N -g -f -n -q -T -t -v");
    assert_command("ssh -CNgfnqTtv box", NULL, "box", 22, "-C -N -g -f -n -q -T -t -v");
    assert_command("ssh -l root box", "root", "box", 22, NULL);
    assert_command("ssh -lroot root@box", "root", "box", 22, NULL);
    assert_command("ssh -p 22 -p 22 box", NULL, "box", 22, NULL);
    assert_command("ssh -- root@box", "root", "box", 22, NULL);
    assert_command("ssh ssh", NULL, "ssh", 22, NULL);
    assert_command("  ssh   box  ", NULL, "box", 22, NULL);
}

Test(ssh_command, reads_words_as_a_shell_does)
{
    assert_command("'ssh' \"-p\" '46'\"46\"4 ro\\ot@'box'", "root", "box", 46464, NULL);
    struct ssh_command c = parsed("ssh -i \"a\\\"b\\$c\\d$HOME\" box");

    cr_assert_str_eq(c.identity_file, "a\"b$c\\d$HOME");
    ssh_command_done(&c);
    c = parsed("ssh -i '\\'\\ \\'\\;'$(id)' box");
    cr_assert_str_eq(c.identity_file, "\\ ';$(id)");
    ssh_command_done(&c);
    assert_refused("ssh 'box", "quote");
    assert_refused("ssh \"box", "quote");
    assert_refused("ssh \"box\\", "quote");
    assert_refused("ssh box\\", "backslash");
}

Test(ssh_command, knows_hosts)
{
    static const char *const good[] = {"a",   "a.b.",        "1a.b2",        "under_score.x", "127.0.0.1",
                                       "::1", "2001:db8::1", "fe80::1%eth0", "a-b.c",         "box1"};
    static const char *const bad[] = {
        "",      ".a",  "a..b", "-a.b x",    "a.-b", "1.2.3",    "1.2.3.256",
        "12345", "a/b", "a:22", "[::1",      "::1]", "fe80::1%", "fe80::1%a/b",
        ":",     "a%b", "[a]",  "ssh://box", "a,b",  "1.2.3.4.",
    };
    char text[400], label[300];

    for (size_t i = 0; i < ELEMENTS(good); i++) {
        snprintf(text, sizeof(text), "ssh root@%s", good[i]);
        assert_command(text, "root", good[i], 22, NULL);
    }
    assert_command("ssh [2001:db8::1]", NULL, "2001:db8::1", 22, NULL);
    for (size_t i = 0; i < ELEMENTS(bad); i++) {
        snprintf(text, sizeof(text), "ssh root@%s", bad[i]);
        assert_refused(text, "host");
    }
    assert_refused("ssh root@a:22", "-p");
    memset(label, 'a', sizeof(label));
    label[64] = '\0';
    assert_refused(label, "host");
    label[63] = '\0';
    assert_command(label, NULL, label, 22, NULL);
    for (int i = 0; i < 254; i++)
        label[i] = i % 2 ? '.' : 'a';
    label[254] = '\0';
    assert_refused(label, "host");
}

Test(ssh_command, knows_users)
{
    assert_command("ssh dsw-user.1_@box", "dsw-user.1_", "box", 22, NULL);
    assert_command("ssh me@company@box", "me@company", "box", 22, NULL);
    assert_refused("ssh @box", "user");
    assert_refused("ssh '-x@box'", "understood");
    assert_refused("ssh -- -x@box", "user");
    assert_refused("ssh -l -x box", "user");
    assert_refused("ssh 'a b@box'", "user");
    assert_refused("ssh 'a;b@box'", "user");
    assert_refused("ssh '$(x)@box'", "user");
    assert_refused("ssh -l '' box", "user");
    assert_refused("ssh -l root admin@box", "another user (root)");
    assert_refused("ssh -l \xc3\xa4 box", "user");
}

Test(ssh_command, knows_ports)
{
    assert_command("ssh -p 1 box", NULL, "box", 1, NULL);
    assert_command("ssh -p 65535 box", NULL, "box", 65535, NULL);
    assert_refused("ssh -p 0 box", "-p 0");
    assert_refused("ssh -p 65536 box", "-p 65536");
    assert_refused("ssh -p -1 box", "-p -1");
    assert_refused("ssh -p ssh box", "-p ssh");
    assert_refused("ssh -p 22x box", "-p 22x");
    assert_refused("ssh -p '' box", "-p");
    assert_refused("ssh -p ' 22' box", "-p");
    assert_refused("ssh -p 4294967318 box", "-p");
    assert_refused("ssh box -p", "-p: its value is missing");
    assert_refused("ssh -p 22 -p 23 box", "-p 23");
}

Test(ssh_command, names_each_option_it_does_not_take)
{
    static const char known[] = "CNgfnqTtvpliLJo";
    static const char *const others[] = {"-F", "-D", "-R", "-W", "-4", "-6", "-A", "-X",
                                         "-Y", "-b", "-w", "-S", "-O", "-E", "-Z"};
    char text[100], option[8];

    for (size_t i = 0; i < ELEMENTS(others); i++) {
        snprintf(text, sizeof(text), "ssh %s x root@box", others[i]);
        assert_refused(text, others[i]);
        snprintf(text, sizeof(text), "ssh root@box %sx", others[i]);
        assert_refused(text, others[i]);
        snprintf(text, sizeof(text), "ssh -CN%s root@box", others[i] + 1);
        assert_refused(text, others[i]);
    }
    for (int c = '!'; c <= '~'; c++) {
        if (strchr(known, c) || strchr("-;&|<>()`'\"\\", c))
            continue;
        snprintf(option, sizeof(option), "-%c:", c);
        snprintf(text, sizeof(text), "ssh -%c box", c);
        assert_refused(text, option);
    }
    assert_refused("ssh --version", "--version");
    assert_refused("ssh -C- box", "-C-");
}

static void assert_proxy(const char *text, const char *proxy)
{
    struct ssh_command c = parsed(text);

    cr_assert_str_eq(c.proxy, proxy, "%s", text);
    cr_assert_str_eq(c.host, "box");
    ssh_command_done(&c);
}

Test(ssh_command, a_way_to_the_host_is_taken)
{
    assert_proxy("ssh -J ops@bastion:2200,gate root@box", "ProxyJump ops@bastion:2200,gate");
    assert_proxy("ssh root@box -Jbastion", "ProxyJump bastion");
    assert_proxy("ssh -CNJ bastion root@box", "ProxyJump bastion");
    assert_proxy("ssh -o ProxyJump=bastion root@box", "ProxyJump bastion");
    assert_proxy("ssh -J bastion -oproxyjump=bastion root@box", "ProxyJump bastion");
    assert_proxy("ssh -o ProxyCommand='nc -X 5 -x \"127.0.0.1:1080\" %h %p' root@box",
                 "ProxyCommand nc -X 5 -x \"127.0.0.1:1080\" %h %p");
    assert_proxy("ssh -o 'ProxyCommand nc %h %p' root@box", "ProxyCommand nc %h %p");
    assert_proxy("ssh -o 'ProxyCommand = A=b run = %h ' root@box", "ProxyCommand A=b run = %h");
    assert_proxy("ssh -o ProxyCommand=none root@box", "");
    assert_refused("ssh -J a -J b box", "-J one way");
    assert_refused("ssh -J a -o ProxyCommand=b box", "-o ProxyCommand: one way");
    assert_refused("ssh -J none -J b box", "one way");
    assert_refused("ssh -J a@b:0 box", "-J \"0\" is not a port");
    assert_refused("ssh box -J", "-J: its value is missing");
    assert_refused("ssh -o 'ProxyCommand nc %k' box", "-o ProxyCommand: %k");
    assert_refused("ssh -o ProxyCommand= box", "-o ProxyCommand: its value is missing");
}

Test(ssh_command, options_of_a_configuration_say_where_to_as_well)
{
    struct ssh_command c = parsed("ssh -o HostName=10.0.0.1 -o 'Port = 2200' -oUser=root -o "
                                  "'identityfile \"~/a key\"' gpu-box");

    cr_assert_str_eq(c.host, "10.0.0.1");
    cr_assert_str_eq(c.user, "root");
    cr_assert_str_eq(c.identity_file, "~/a key");
    cr_assert_eq(c.port, 2200);
    cr_assert_null(c.left_out);
    cr_assert_null(c.proxy);
    ssh_command_done(&c);
    assert_refused("ssh -o Port=22 -p 23 box", "-p 23: another port");
    assert_refused("ssh -o Port=x box", "-o Port: x: not a port");
    assert_refused("ssh -o User=me root@box", "another user (me)");
    assert_refused("ssh -o HostName=%h.example box", "-o HostName: \"%h.example\"");
    assert_refused("ssh -o HostName=a -o HostName=b box", "another host name (a)");
    assert_refused("ssh -o HostName=a", "host is missing");
}

Test(ssh_command, options_that_change_nothing_are_left_out_by_name)
{
    assert_command("ssh -o ServerAliveInterval=30 -N -o StrictHostKeyChecking=no -o 'serveraliveinterval 60' "
                   "root@box -oUserKnownHostsFile=/dev/null",
                   "root", "box", 22,
                   "-o ServerAliveInterval -N -o StrictHostKeyChecking -o UserKnownHostsFile");
    assert_command("ssh -o ControlPath=x -o ControlPersist=x -o ControlMaster=no root@box", "root", "box", 22,
                   "-o ControlPath -o ControlPersist -o ControlMaster");
    assert_refused("ssh -o Compression= box", "-o Compression: its value is missing");
    assert_refused("ssh -o Compression box", "-o Compression: its value is missing");
}

Test(ssh_command, names_each_setting_it_does_not_know)
{
    static const char *const others[] = {"Ciphers=x",     "RemoteForward=1", "Tunnel yes", "ForwardAgent=yes",
                                         "BindAddress=x", "Nonsense",        "=",          ""};
    char text[100];

    for (size_t i = 0; i < ELEMENTS(others); i++) {
        snprintf(text, sizeof(text), "ssh -o '%s' root@box", others[i]);
        assert_refused(text, "not understood here");
    }
    assert_refused("ssh -o Ciphers=aes root@box", "-o Ciphers: not understood here");
    assert_refused("ssh root@box -o", "-o: its value is missing");
}

Test(ssh_command, refuses_whatever_else_stands_there)
{
    assert_refused("", "host is missing");
    assert_refused("   ", "host is missing");
    assert_refused("ssh", "host is missing");
    assert_refused("ssh -p 22", "host is missing");
    assert_refused("ssh -", "host");
    assert_refused("ssh root@box nvidia-smi", "nvidia-smi: a command");
    assert_refused("ssh root@box -p 22 rm -rf /", "rm: a command");
    assert_refused("ssh root@box -- ls", "ls: a command");
    assert_refused("ssh root@box; reboot", "\";\"");
    assert_refused("ssh root@box && reboot", "\"&\"");
    assert_refused("ssh root@box | cat", "\"|\"");
    assert_refused("ssh root@box > file", "\">\"");
    assert_refused("ssh root@$(id)", "\"(\"");
    assert_refused("ssh root@`id`", "\"`\"");
    assert_refused("ssh \xe2\x80\x93p 22 root@box", "ASCII");
    assert_refused("ssh root\xef\xbc\xa0"
                   "box",
                   "ASCII");
    assert_refused("ssh -i '' box", "-i");
    assert_refused("ssh -i a -i b box", "-i b");
    assert_refused("ssh box -L", "-L: its value is missing");
    assert_refused("ssh box -L x", "-L x");
}

Test(ssh_command, refuses_control_characters)
{
    assert_refused("ssh root@box\n", "byte 13");
    assert_refused("ssh\troot@box", "control");
    assert_refused("ssh root@box\r", "control");
    assert_refused("ssh '\x1b[2J'@box", "control");
    assert_refused("ssh root@box\x7f", "control");
}

Test(ssh_command, is_bounded)
{
    char text[5000];
    struct ssh_command c;

    memset(text, 'a', sizeof(text));
    text[4097] = '\0';
    assert_refused(text, "4096");
    text[4096] = '\0';
    assert_refused(text, "host");
    memcpy(text, "ssh box -i ", 11);
    c = parsed(text);
    cr_assert_eq(strlen(c.identity_file), 4085);
    ssh_command_done(&c);

    strcpy(text, "ssh box");
    for (int i = 0; i < SSH_FORWARDS_MAX; i++)
        strcat(text, " -L 6006");
    c = parsed(text);
    cr_assert_eq(c.n_forwards, SSH_FORWARDS_MAX);
    ssh_command_done(&c);
    strcat(text, " -L 7000");
    assert_refused(text, "more than 16");
}

Test(ssh_forward, reads_every_form)
{
    assert_forward("6006", "127.0.0.1", 6006, "127.0.0.1", 6006);
    assert_forward("192.0.2.1:6006", "192.0.2.1", 6006, "127.0.0.1", 6006);
    assert_forward("6006:127.0.0.1:7007", "127.0.0.1", 6006, "127.0.0.1", 7007);
    assert_forward("0.0.0.0:6006:db.inner:7007", "0.0.0.0", 6006, "db.inner", 7007);
    assert_forward("localhost:6006:localhost:7007", "127.0.0.1", 6006, "localhost", 7007);
    assert_forward("*:6006:localhost:7007", "0.0.0.0", 6006, "localhost", 7007);
    assert_forward("[::1]:6006:[2001:db8::1]:7007", "::1", 6006, "2001:db8::1", 7007);
    assert_forward("6006:[::1]:7007", "127.0.0.1", 6006, "::1", 7007);
    assert_forward("[::1]:6006", "::1", 6006, "127.0.0.1", 6006);
    assert_forward("1:a:65535", "127.0.0.1", 1, "a", 65535);
}

Test(ssh_forward, refuses_everything_else_and_says_why)
{
    assert_forward_refused("", "port");
    assert_forward_refused("0", "port");
    assert_forward_refused("65536", "port");
    assert_forward_refused("x", "port");
    assert_forward_refused(" 6006", "port");
    assert_forward_refused("6006:", "6006 is not an IP");
    assert_forward_refused("6006:7007", "6006 is not an IP");
    assert_forward_refused(":6006", "nothing is not an IP");
    assert_forward_refused("box:6006:a:1", "box is not an IP");
    assert_forward_refused("6006::7007", "\"\" is not a host");
    assert_forward_refused("6006:a b:7007", "\"a b\" is not a host");
    assert_forward_refused("6006:/tmp/socket:1", "host");
    assert_forward_refused("6006:a:0", "\"0\" is not a port");
    assert_forward_refused("6006:a:", "\"\" is not a port");
    assert_forward_refused("::1:6006:a:1", "IPv6 in brackets");
    assert_forward_refused("6006:::1:7007", "IPv6 in brackets");
    assert_forward_refused("[::1:6006:a:1", "");
    assert_forward_refused("[1.2.3.4]:6006", "IP address");
    assert_forward_refused("1:2:3:4:5", "[LISTEN_IP:]PORT");
    assert_forward_refused("6006:a\nb:1", "host");
}

Test(ssh_forward, is_bounded)
{
    char text[5000];

    memset(text, ':', sizeof(text));
    text[4999] = '\0';
    assert_forward_refused(text, "4096");
    text[4000] = '\0';
    assert_forward_refused(text, "[LISTEN_IP:]PORT");
}

Test(ssh_command, survives_missing_memory_at_any_point)
{
    struct ssh_command c = {0};
    char *why = NULL;
    long k = 0;
    int r;

    do {
        allocations_left = k++;
        r = ssh_command_parse("ssh -CNg -l root -L 6006:127.0.0.1:6006 -L 7007 -i key -J a@b -o LogLevel=x "
                              "-oHostName=c root@box -p 46464",
                              &c, &why);
        cr_assert(r == 0 || r == -ENOMEM);
        cr_assert_null(why);
    } while (r < 0);
    cr_assert_gt(k, 8);
    ssh_command_done(&c);
}
