/* Connections whose way is a command of the user's. links: ssh */
#include <dirent.h>
#include <fcntl.h>
#include <sys/syscall.h>

#include "tests/fixture/ssh_client.h"

static void begin(struct client *c, const struct sshd_fixture *s, const char *proxy)
{
    c->proxy = proxy;
    client_begin(c, s);
}

/* To no server: what it says is in c->fault. */
static void expect_fault(struct client *c, const char *proxy, const char *word, const char *code,
                         enum fault_kind kind)
{
    c->proxy = proxy;
    client_open(c);
    client_connect(c, "box", 22, "me");
    expect_down(c, code, kind);
    cr_assert_not_null(strstr(c->fault.text, word), "%s", c->fault.text);
}

static void expect_end(struct client *c, const char *proxy, const char *word)
{
    expect_fault(c, proxy, word, "unreachable", FAULT_TRANSIENT);
}

static void ends_with(const char *proxy, const char *text)
{
    struct client c = {0};

    expect_end(&c, proxy, text);
    cr_assert_str_eq(c.fault.text, text);
    cr_assert_eq(c.n_secrets, 0);
    client_close(&c);
}

/* The number behind the last colon. */
static pid_t pid_in(const struct client *c)
{
    return atoi(strrchr(c->fault.text, ':') + 2);
}

static bool is_gone(pid_t pid)
{
    return kill(pid, 0) < 0 && errno == ESRCH;
}

static unsigned descriptors(void)
{
    DIR *folder = opendir("/proc/self/fd");
    unsigned n = 0;

    while (readdir(folder))
        n++;
    closedir(folder);
    return n;
}

Test(proxy, logs_in_through_a_command)
{
    struct sshd_fixture *s = sshd_fixture_new(NULL);
    struct client c = {.proxy = "ProxyCommand socat - TCP:%h:%p"};
    unsigned before;

    REQUIRE_SSHD(s);
    client_login(&c, s);
    cr_assert_str_eq(c.method, "own key");
    cr_assert_str_eq(c.shown.algorithm, "ssh-ed25519", "the server's, whoever stands between");
    cr_assert_not_null(strstr(ssh_conn_peer(c.conn), "through a proxy command"), "%s", ssh_conn_peer(c.conn));
    cr_assert(LOOP_UNTIL(c.loop, ssh_conn_rtt_ms(c.conn) >= 0));
    before = descriptors();
    c.conn = ssh_conn_free(c.conn);
    cr_assert(LOOP_UNTIL(c.loop, descriptors() == before - 4),
              "the socket, the pipe of errors, the lifeline, the process");
    client_close(&c);
    sshd_fixture_free(s);
}

Test(proxy, what_it_complains_of_is_the_reason)
{
    ends_with("ProxyCommand sh -c 'echo first >&2; echo no way there. >&2; exit 3'",
              "the proxy command ended with status 3: no way there");
    ends_with("ProxyCommand sh -c 'printf \"no\\033[1mn\\r\\n\\nstdio forwarding failed\\n\" >&2; exit 255'",
              "the proxy command ended with status 255: no[1mn");
    ends_with("ProxyCommand sh -c 'printf half >&2'", "the proxy command ended with status 0: half");
    ends_with("ProxyCommand sh -c 'kill -9 $$'", "the proxy command was killed by signal 9");
}

/* Words of OpenSSH 9.2, observed 2026-11-27: sshconnect2.c, sshconnect.c, packet.c. */
Test(proxy, a_login_that_is_refused_on_the_way_is_no_trouble_of_the_network)
{
    static const struct {
        const char *proxy, *code;
        bool refused;
    } rows[] = {
        {"sh -c 'echo \"ops@bastion: Permission denied (publickey,password).\" >&2; exit 255'",
         "jump_refused", true},
        {"sh -c 'printf \"Received disconnect from 10.0.0.1 port 22:2: Too many authentication failures\\r\\n"
         "Disconnected from 10.0.0.1 port 22\\r\\n\" >&2; exit 255'",
         "jump_refused", true},
        {"sh -c 'printf \"Host key verification failed.\\r\\nConnection closed by UNKNOWN port 65535\\r\\n\" "
         ">&2; exit 255'",
         "jump_host_key", true},
        {"sh -c 'echo \"/usr/bin/nc: Permission denied\" >&2; exit 255'", "unreachable", false},
        {"sh -c 'echo \"ssh: connect to host bastion port 22: Connection refused\" >&2; exit 255'",
         "unreachable", false},
    };

    for (size_t i = 0; i < ELEMENTS(rows); i++) {
        _cleanup_free_ char *proxy = xasprintf("ProxyCommand %s", rows[i].proxy);
        struct client c = {0};

        expect_fault(&c, proxy, "the proxy command ended with status 255: ", rows[i].code,
                     rows[i].refused ? FAULT_DENIED : FAULT_TRANSIENT);
        client_close(&c);
    }
}

/* As with ssh, a shell is to exec it: no assignment can stand in front. */
Test(proxy, what_the_shell_complains_of_names_a_program_and_shows_nothing_else)
{
    ends_with("ProxyCommand no-such-program %h %p",
              "the proxy command ended with status 127: no-such-program: not found");
    ends_with("ProxyCommand /etc/passwd --password=x",
              "the proxy command ended with status 126: /etc/passwd: Permission denied");
    ends_with("ProxyCommand PASSWORD=secret nc %h %p",
              "the proxy command ended with status 127: the shell cannot run it");
    ends_with("ProxyCommand nc secret'", "the proxy command ended with status 2: the shell cannot run it");
}

Test(proxy, an_end_without_a_complaint_is_the_servers)
{
    struct client c = {.proxy = "ProxyCommand true"};

    client_open(&c);
    client_connect(&c, "box", 22, "me");
    expect_down(&c, "lost", FAULT_TRANSIENT);
    cr_assert_str_eq(c.fault.text, "gpu-a closed the connection during the SSH handshake");
    client_close(&c);
}

Test(proxy, its_death_is_told_although_somebody_it_left_behind_holds_its_output)
{
    struct client c = {0};
    struct pollfd left = {.events = POLLIN};

    expect_end(&c, "ProxyCommand sh -c 'sleep 1000 & echo $! >&2; exit 4'", "status 4");
    left.fd = (int)syscall(SYS_pidfd_open, pid_in(&c), 0);
    cr_assert(left.fd >= 0 || errno == ESRCH); /* it ends with the connection, which may be over by now */
    client_close(&c);
    if (left.fd < 0)
        return;
    cr_assert_eq(poll(&left, 1, 5000), 1);
    close(left.fd);
}

/* Runs until the command has made the file "said" in its folder. */
static void connect_until_said(struct client *c, const char *folder)
{
    _cleanup_free_ char *path = xasprintf("%s/said", folder);

    setenv("HOME", folder, 1);
    client_open(c);
    client_connect(c, "box", 22, "me");
    cr_assert(LOOP_UNTIL(c->loop, access(path, F_OK) == 0));
    loop_turns(c->loop, 3);
    unlink(path);
    rmdir(folder);
}

Test(proxy, one_that_brings_nothing_has_fifteen_seconds)
{
    struct client c = {.proxy = "ProxyCommand sh -c 'echo $$ >&2; echo >said; exec sleep 1000'"};
    char folder[] = "/tmp/proxy.XXXXXX";

    cr_assert_not_null(mkdtemp(folder));
    connect_until_said(&c, folder);
    loop_advance(c.loop, 13000);
    cr_assert_eq(c.n_down, 0);
    loop_advance(c.loop, 2100);
    expect_down(&c, "unreachable", FAULT_TRANSIENT);
    cr_assert_not_null(strstr(c.fault.text, "no answer through the proxy command within 15 s: "), "%s",
                       c.fault.text);
    cr_assert(LOOP_UNTIL(c.loop, is_gone(pid_in(&c))));
    client_close(&c);
}

Test(proxy, one_that_closes_its_output_and_lives_on_has_a_second)
{
    struct client c = {.proxy = "ProxyCommand sh -c 'exec >&- <&-; echo >said; exec sleep 1000'"};
    char folder[] = "/tmp/proxy.XXXXXX";

    cr_assert_not_null(mkdtemp(folder));
    connect_until_said(&c, folder);
    cr_assert_eq(c.n_down, 0);
    loop_advance(c.loop, 1100);
    expect_down(&c, "unreachable", FAULT_TRANSIENT);
    cr_assert_str_eq(c.fault.text, "the proxy command closed its output");
    client_close(&c);
}

Test(proxy, killed_in_the_middle_it_is_a_loss_at_once)
{
    struct sshd_fixture *s = sshd_fixture_new(NULL);
    struct client c = {.proxy = "ProxyCommand sh -c 'echo $$ >pid; exec socat - TCP:%h:%p'"};
    char text[32] = "";
    FILE *f;

    REQUIRE_SSHD(s);
    setenv("HOME", sshd_fixture_directory(s), 1);
    client_login(&c, s);
    cr_assert_eq(chdir(sshd_fixture_directory(s)), 0);
    f = fopen("pid", "r");
    cr_assert(f && fgets(text, sizeof(text), f), "its folder is the user's");
    fclose(f);
    kill(atoi(text), SIGKILL);
    cr_assert(LOOP_UNTIL(c.loop, c.n_down));
    cr_assert_str_eq(c.fault.code, "lost");
    cr_assert_str_eq(c.fault.text, "the proxy command was killed by signal 9");
    client_close(&c);
    sshd_fixture_free(s);
}

Test(proxy, a_flood_of_complaints_disturbs_nobody)
{
    struct sshd_fixture *s = sshd_fixture_new(NULL);
    struct client c = {0};

    REQUIRE_SSHD(s);
    begin(&c, s, "ProxyCommand sh -c 'yes complaint >&2 & exec socat - TCP:%h:%p'");
    cr_assert(LOOP_UNTIL(c.loop, c.n_up || c.n_down));
    cr_assert_eq(c.n_up, 1, "%s", c.fault.text);
    client_close(&c);
    sshd_fixture_free(s);
}

Test(proxy, knows_nothing_of_ours_but_the_agent)
{
    int leak = open("/dev/null", O_RDONLY);

    setenv("SECRET", "do not tell", 1);
    setenv("SSH_AUTH_SOCK", "/run/mine", 1);
    ends_with("ProxyCommand sh -c 'ls -m /proc/self/fd >&2; exit 1'",
              "the proxy command ended with status 1: 0, 1, 2, 3"); /* 3 is the folder itself */
    ends_with("ProxyCommand sh -c 'echo [$SECRET] [$LLMHOST_PROXY] [$SSH_AUTH_SOCK] >&2; exit 1'",
              "the proxy command ended with status 1: [] [] [/run/mine]");
    ends_with("ProxyCommand sh -c 'ps -o args= -p $PPID,$$ | grep -c do.not.say >&2; exit 1'",
              "the proxy command ended with status 1: 1"); /* its own alone */

    struct client c = {.agent = "/run/named"};

    expect_end(&c, "ProxyCommand sh -c 'echo $SSH_AUTH_SOCK >&2; exit 1'", ": /run/named");
    client_close(&c);
    close(leak);
}

Test(proxy, a_name_that_is_more_than_a_word_starts_nothing)
{
    struct client c = {.proxy = "ProxyCommand socat - TCP:%h:22"};

    client_open(&c);
    client_connect(&c, "$(touch /tmp/no)", 22, "me");
    expect_down(&c, "bad_command", FAULT_INVALID);
    client_close(&c);
}

Test(proxy, a_jump_is_named_by_its_hosts)
{
    struct client c = {0};
    char proxy[80];

    snprintf(proxy, sizeof(proxy), "ProxyJump nobody@127.0.0.1:%u", closed_port());
    expect_end(&c, proxy, "the jump over nobody@127.0.0.1:");
    cr_assert_not_null(strstr(c.fault.text, "ended with status 255: "), "%s", c.fault.text);
    client_close(&c);
}

Test(proxy, owner_may_free_it_in_every_callback_and_at_any_turn)
{
    struct sshd_fixture *s = sshd_fixture_new(NULL);

    REQUIRE_SSHD(s);
    for (unsigned i = 0; i < 40; i++) {
        struct loop_bound bound = {0};
        struct client c = {.free_in_host_key = i == 0,
                           .free_in_up = i == 1,
                           .free_in_down = i == 2,
                           .refuse_host_key = i == 2};

        begin(&c, s, "ProxyCommand socat - TCP:%h:%p");
        if (i < 3) {
            cr_assert(LOOP_UNTIL(c.loop, !c.conn));
            loop_turns(c.loop, 5);
            cr_assert_eq(c.n_down, i == 2);
        }
        for (unsigned turn = 3; turn < i && !c.n_up; turn++)
            loop_fixture_turn(c.loop, &bound);
        client_close(&c);
    }
    sshd_fixture_free(s);
}
