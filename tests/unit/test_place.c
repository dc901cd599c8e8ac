/* links: engine
 *
 * The steps on a machine, done on this one in a home of their own, with small programs in the place of a
 * model server. `sleep` is a shorter one: what takes 10 s there takes 1 s here. */
#include <arpa/inet.h>
#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include "base/fault.h"
#include "base/loop.h"
#include "base/op.h"
#include "engine/place.h"
#include "session/host.h"
#include "tests/fixture/loop_fixture.h"

extern const char engine_place_sh[];

static struct loop *loop;
static struct host *host;
static struct place *place;
static char home[] = "/tmp/test_place.XXXXXX";
static char server[32];

struct answer {
    unsigned n;
    struct fault fault;
    struct op *op;
};
static struct answer answer;
static const char *arguments = ""; /* of find and start */

static void shell(const char *format, ...) __attribute__((format(printf, 1, 2)));
static void shell(const char *format, ...)
{
    char command[2000];
    va_list args;

    va_start(args, format);
    vsnprintf(command, sizeof command, format, args);
    va_end(args);
    cr_assert_eq(system(command), 0, "%s", command);
}

/* A program in HOME/bin. */
static void write_program(const char *name, const char *text)
{
    char path[200];

    snprintf(path, sizeof path, "%s/bin/%s", home, name);
    FILE *f = fopen(path, "w");

    cr_assert_not_null(f);
    fprintf(f, "#!/bin/sh\n%s\n", text);
    fclose(f);
    cr_assert_eq(chmod(path, 0700), 0);
}

static void setup(void)
{
    char path[300];

    cr_assert_not_null(mkdtemp(home));
    shell("mkdir -p %s/bin", home);
    setenv("HOME", home, 1);
    snprintf(path, sizeof path, "%s/bin:/usr/local/bin:/usr/bin:/bin", home);
    setenv("PATH", path, 1);
    write_program("sleep", "exec /bin/sleep 0.01");
    write_program("modeld", "[ \"$1\" = --version ] && { echo modeld version 1.2.3; exit; }\n"
                            "echo \"port $1 base $2 mark $LLMHOST_SERVER\"; exec /bin/sleep 1000");
    snprintf(server, sizeof server, "test-%d", (int)getpid());
    loop = loop_new();
    host = host_local_new(loop);
    place = place_new(host, "me");
    answer = (struct answer){};
}

static void kill_all(void)
{
    shell("for p in $(grep -lsF LLMHOST_SERVER=%s /proc/[0-9]*/environ | cut -d/ -f3); do kill -9 $p; done; "
          "true",
          home);
}

static void teardown(void)
{
    op_cancel(&answer.op);
    place_free(place);
    host_free(host);
    loop_free_dry(loop);
    kill_all();
    umount2(home, MNT_DETACH);
    shell("rm -rf %s", home);
}

TestSuite(place, .init = setup, .fini = teardown, .timeout = 100);

static void on_done(void *ctx, const struct fault *f)
{
    struct answer *a = ctx;

    cr_assert_null(a->op);
    a->n++;
    a->fault = f ? *f : (struct fault){};
}

static void wait_for(struct answer *a)
{
    for (unsigned i = 0; i < 4 && a->n == 0; i++)
        (void)LOOP_UNTIL(loop, a->n == 1);
    cr_assert_eq(a->n, 1);
    a->n = 0;
}

static const struct place_facts *find(const char *program, const char *usual, const char *path)
{
    place_find(place, server, program, usual, path, arguments, &answer.op, on_done, &answer);
    cr_assert_eq(answer.n, 0, "not from inside the call");
    wait_for(&answer);
    return place_facts(place);
}

static const struct place_facts *start(const char *command)
{
    place_start(place, server, "ONE='1 2' TWO=2", command, arguments, 0, &answer.op, on_done, &answer);
    wait_for(&answer);
    return place_facts(place);
}

static const struct place_facts *look(void)
{
    place_look(place, server, &answer.op, on_done, &answer);
    wait_for(&answer);
    return place_facts(place);
}

static void stop(void)
{
    place_stop(place, server, &answer.op, on_done, &answer);
    wait_for(&answer);
}

static void start_with(struct place *p, int64_t hung_pid)
{
    place_start(p, server, "", "modeld @PORT@", arguments, hung_pid, &answer.op, on_done, &answer);
    wait_for(&answer);
}

/* A zombie is gone, too: who reaps it is up to others. */
static bool lives(int64_t pid)
{
    char command[200];

    snprintf(command, sizeof command, "grep -q '^State:.[^ZX]' /proc/%lld/status 2>/dev/null",
             (long long)pid);
    return system(command) == 0;
}

static void all_is_well(void)
{
    cr_assert_eq(answer.fault.kind, FAULT_NONE, "%s", answer.fault.text);
}

/* Waits until the server has said something: the start does not wait for it. */
static const struct place_facts *look_until_said(const char *words)
{
    const struct place_facts *f = look();
    char command[400];

    snprintf(command, sizeof command,
             "n=0; until grep -q '%s' %s; do n=$((n+1)); [ $n -lt 900 ] || exit 1; /bin/sleep 0.01; done",
             words, f->log);
    shell("%s", command);
    return f;
}

/* ---- find ---- */

/* Another llmhostd's: the one with the id "you". */
Test(place, what_another_one_started_is_used_and_not_touched)
{
    struct place *other = place_new(host, "you");
    char file[300];

    find("modeld", "", NULL);
    start_with(place, 0);
    all_is_well();
    int64_t pid = place_facts(place)->pid;

    cr_assert_null(place_facts(place)->foreign);
    place_find(other, server, "modeld", "", NULL, arguments, &answer.op, on_done, &answer);
    wait_for(&answer);
    cr_assert_eq(place_facts(other)->pid, pid);
    cr_assert_str_eq(place_facts(other)->foreign, "me");
    start_with(other, 0);
    cr_assert_eq(place_facts(other)->pid, pid, "it runs: it is used");
    start_with(other, pid);
    cr_assert_eq(place_facts(other)->pid, pid, "although it hangs");
    place_stop(other, server, &answer.op, on_done, &answer);
    wait_for(&answer);
    all_is_well();
    cr_assert_str_eq(place_facts(other)->foreign, "me");
    cr_assert_eq(place_facts(other)->pid, pid);
    cr_assert(lives(pid));
    cr_assert_eq(look()->pid, pid);
    cr_assert_null(place_facts(place)->foreign);

    snprintf(file, sizeof file, "%s/run/%s.pid", place_facts(place)->base, server);
    shell("cut -d' ' -f1-5 %s >%s.new && mv %s.new %s", file, file, file,
          file); /* as an older llmhostd wrote it */
    place_stop(other, server, &answer.op, on_done, &answer);
    wait_for(&answer);
    all_is_well();
    cr_assert_null(place_facts(other)->foreign);
    cr_assert_not(lives(pid));
    place_free(other);
}

Test(place, finds_a_program_in_path_with_its_version_and_where_things_go)
{
    const struct place_facts *f = find("modeld", "/nowhere/modeld", NULL);
    char path[200];

    all_is_well();
    snprintf(path, sizeof path, "%s/bin/modeld", home);
    cr_assert_str_eq(f->program, path);
    cr_assert_str_eq(f->version, "modeld version 1.2.3");
    cr_assert_eq(f->pid, -1);
    cr_assert_eq(f->port, 0);
    cr_assert_null(f->last_line);
    cr_assert_null(f->models);
    cr_assert_eq(access(f->base, W_OK), 0);
    cr_assert_not_null(strstr(f->log, f->base));
}

Test(place, finds_a_program_in_the_usual_places_in_their_order)
{
    struct place_facts f;
    char path[200];

    shell("mkdir -p %s/engine/bin %s/.local/bin && mv %s/bin/modeld %s/.local/bin", home, home, home, home);
    f = *find("modeld", "/nowhere/modeld ~/bin ~/.local/bin/modeld BASE/engine/modeld", NULL);
    snprintf(path, sizeof path, "%s/.local/bin/modeld", home);
    cr_assert_str_eq(f.program, path);
    shell("mkdir -p %s/engine && mv %s/.local/bin/modeld %s/engine/modeld", f.base, home, f.base);
    f = *find("modeld", "~/.local/bin/modeld BASE/engine/modeld", NULL);
    snprintf(path, sizeof path, "%s/engine/modeld", f.base);
    cr_assert_str_eq(f.program, path);
    shell("rm -rf %s/engine", f.base);
    cr_assert_null(find("modeld", "~/.local/bin/modeld BASE/engine/modeld", NULL)->program);
    all_is_well();
}

Test(place, looks_nowhere_else_than_at_a_path_that_was_given)
{
    char path[200];

    cr_assert_null(find("modeld", "~/bin/modeld", "/nowhere/modeld")->program);
    cr_assert_null(find("modeld", "~/bin/modeld", home)->program, "a directory is no program");
    snprintf(path, sizeof path, "%s/bin/modeld", home);
    cr_assert_str_eq(find("modeld", "", "~/bin/modeld")->program, path);
    cr_assert_str_eq(find("modeld", "", path)->program, path);
}

Test(place, tells_where_models_are_already)
{
    shell("mkdir -p %s/.ollama/models/manifests", home);
    cr_assert_str_eq(find("modeld", "", NULL)->models + strlen(home), "/.ollama/models");
}

Test(place, a_version_that_is_not_text_and_one_of_many_lines)
{
    write_program("modeld",
                  "echo Warning: no server; printf 'client version is 0.11.4 \\377\\n'; echo built with x");
    cr_assert_eq(strncmp(find("modeld", "", NULL)->version, "client version is 0.11.4", 24), 0);
    all_is_well();
}

/* ---- start and look ---- */

Test(place, starts_a_server_once_and_finds_it_again)
{
    const struct place_facts *f = start("modeld @PORT@ '@BASE@'");
    int64_t pid = f->pid;
    uint16_t port = f->port;
    char line[300];

    all_is_well();
    cr_assert_gt(pid, 1);
    cr_assert_geq(port, 20000);
    cr_assert(lives(pid));
    cr_assert_eq(getpgid((pid_t)pid), pid);
    cr_assert_eq(getsid((pid_t)pid), pid);
    snprintf(line, sizeof line, "^port %u base %s mark %s/run/%s.pid$", port, f->base, f->base, server);
    look_until_said(line);
    f = start("modeld @PORT@ '@BASE@'");
    cr_assert_eq(f->pid, pid, "it runs already");
    cr_assert_eq(f->port, port);
    place_free(place);
    place = place_new(host, "me");
    f = look();
    cr_assert_eq(f->pid, pid);
    cr_assert_eq(f->port, port);
    f = find("modeld", "", NULL);
    cr_assert_eq(f->pid, pid);
    stop();
    all_is_well();
    cr_assert_not(lives(pid));
    cr_assert_eq(look()->pid, -1);
    stop();
    all_is_well();
}

Test(place, two_starts_at_once_start_one_server)
{
    struct place *others[4];
    struct answer answers[ELEMENTS(others)] = {};
    char command[300];

    for (unsigned i = 0; i < ELEMENTS(others); i++) {
        others[i] = place_new(host, "me");
        place_start(others[i], server, "", "modeld @PORT@", "", 0, &answers[i].op, on_done, &answers[i]);
    }
    for (unsigned i = 0; i < ELEMENTS(others); i++) {
        wait_for(&answers[i]);
        cr_assert_eq(answers[i].fault.kind, FAULT_NONE, "%s", answers[i].fault.text);
        cr_assert_eq(place_facts(others[i])->pid, place_facts(others[0])->pid);
    }
    snprintf(command, sizeof command, "test $(grep -lsF LLMHOST_SERVER=%s /proc/[0-9]*/environ | wc -l) = 1",
             place_facts(others[0])->base);
    shell("%s", command);
    for (unsigned i = 0; i < ELEMENTS(others); i++)
        place_free(others[i]);
    stop();
}

Test(place, a_stop_waits_for_a_start_under_way)
{
    struct place *other = place_new(host, "me");
    struct answer started = {};

    place_start(other, server, "", "modeld @PORT@", "", 0, &started.op, on_done, &started);
    (void)LOOP_UNTIL(
        loop,
        system("test -d $HOME/.llmhost/run/*.lock || ls $HOME/.llmhost/run/*.lock >/dev/null 2>&1") == 0 ||
            started.n == 1);
    stop();
    all_is_well();
    wait_for(&started);
    cr_assert_eq(look()->pid, -1);
    place_free(other);
}

Test(place, a_lock_whose_holder_was_killed_is_broken)
{
    const struct place_facts *f = look();
    char lock[300];

    snprintf(lock, sizeof lock, "%s/run/%s.lock", f->base, server);
    shell("mkdir %s && echo 1 12345 >%s/holder", lock, lock);
    cr_assert_gt(start("modeld @PORT@")->pid, 1);
    all_is_well();
    cr_assert_eq(access(lock, F_OK), -1);
    shell("mkdir %s", lock);
    stop();
    all_is_well();
}

Test(place, a_lock_whose_holder_lives_is_respected)
{
    const struct place_facts *f = look();

    shell("mkdir %s/run/%s.lock && echo %d $(sed 's/.*) //' /proc/%d/stat | cut -d' ' -f20) "
          ">%s/run/%s.lock/holder",
          f->base, server, (int)getpid(), (int)getpid(), f->base, server);
    start("modeld @PORT@");
    cr_assert_str_eq(answer.fault.code, "busy");
    cr_assert_eq(answer.fault.kind, FAULT_TRANSIENT);
    shell("rm -rf %s/run/%s.lock", f->base, server);
}

Test(place, a_pid_that_was_given_to_somebody_else_is_not_our_server)
{
    const struct place_facts *f = start("modeld @PORT@");
    int64_t ours = f->pid;
    char file[300];

    snprintf(file, sizeof file, "%s/run/%s.pid", f->base, server);
    shell("test \"$(cut -d' ' -f1,3 %s)\" = '%lld %u'", file, (long long)f->pid, f->port);
    stop();
    shell("echo %d 12345 20000 >%s", (int)getpid(), file);
    f = look();
    cr_assert_eq(f->pid, -1);
    stop();
    all_is_well();
    cr_assert_eq(access(file, F_OK), -1);
    shell("echo garbage >%s", file);
    cr_assert_eq(look()->pid, -1);
    shell("printf '%%s' '%d ' >%s", (int)getpid(), file);
    cr_assert_eq(look()->pid, -1);
    f = start("modeld @PORT@");
    cr_assert_neq(f->pid, ours);
    cr_assert_gt(f->pid, 1);
    stop();
}

Test(place, tells_why_a_server_ended)
{
    const struct place_facts *f;

    write_program(
        "modeld",
        "echo all is well; echo 'Error: listen tcp: bind: address already in use'; echo bye; exit 1");
    f = start("modeld @PORT@");
    all_is_well();
    if (f->pid > 0) /* it was seen before it ended */
        while (lives(f->pid))
            ;
    f = look();
    cr_assert_eq(f->pid, -1);
    cr_assert_str_eq(f->last_line, "Error: listen tcp: bind: address already in use");
    write_program("modeld", "printf 'a quiet end \\377\\n\\n'; exit 1");
    start("modeld @PORT@");
    look_until_said("quiet");
    while ((f = look())->pid > 0)
        ;
    cr_assert_null(f->last_line, "it does not say why");
    cr_assert_eq(strncmp(f->last_words, "a quiet end", 11), 0);
    write_program("modeld",
                  "echo time=1 level=INFO msg=\"no error\"; echo 'slot 0: memory_seq_rm [58, end)'; "
                  "echo '[GIN] 12:00 | 500 | 1ms | POST \"/api/error\"'; exit 1");
    start("modeld @PORT@");
    look_until_said("GIN");
    while ((f = look())->pid > 0)
        ;
    cr_assert_null(f->last_line, "requests and good news are no reason");
    cr_assert_str_eq(f->last_words, "slot 0: memory_seq_rm [58, end)");
}

static const struct place_facts *look_until_ended(void)
{
    const struct place_facts *f;

    while ((f = look())->pid > 0)
        ;
    return f;
}

Test(place, tells_with_what_status_a_server_ended)
{
    write_program("modeld", "echo up; exit 3");
    start("modeld @PORT@");
    cr_assert_eq(look_until_ended()->ended, 3);
    cr_assert_eq(place_facts(place)->kills, 0, "%lld", (long long)place_facts(place)->kills);
    write_program("modeld", "[ \"$1\" = --version ] || { echo up; exec /bin/sleep 1000; }");
    int64_t pid = start("modeld @PORT@")->pid;

    look_until_said("up");
    cr_assert_eq(look()->ended, -1, "it runs");
    kill((pid_t)pid, SIGILL);
    cr_assert_eq(look_until_ended()->ended, 128 + SIGILL);
    cr_assert_null(place_facts(place)->last_line, "what a shell says of it is not in the log");
    cr_assert_eq(find("modeld", "", NULL)->ended, 128 + SIGILL, "whoever asks later learns it, too");
    stop();
    cr_assert_eq(look()->ended, -1, "a server that was stopped is none that ended");
}

Test(place, tells_who_has_the_port_a_server_could_not_have)
{
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    _cleanup_close_ int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    char owner[100];

    write_program("modeld", "echo up; exec /bin/sleep 1000");
    at.sin_port = htons(start("modeld @PORT@")->port);
    cr_assert_eq(bind(fd, (struct sockaddr *)&at, sizeof at), 0);
    cr_assert_eq(listen(fd, 1), 0);
    look_until_said("up");
    shell("echo 'bind: address already in use' >>%s", place_facts(place)->log);
    kill((pid_t)place_facts(place)->pid, SIGTERM);
    snprintf(owner, sizeof owner, "test_place (pid %d)", (int)getpid());
    cr_assert_not_null(look_until_ended()->owner);
    cr_assert_str_eq(place_facts(place)->owner, owner);
}

Test(place, tells_whether_a_server_computes_and_whether_it_was_stopped)
{
    write_program("modeld", "echo up; while :; do :; done");
    int64_t pid = start("modeld @PORT@")->pid, before = look()->computed_ms;

    cr_assert_geq(before, 0);
    cr_assert_eq(place_facts(place)->kills, 0);
    for (unsigned i = 0; i < 1000 && look()->computed_ms < before + 50; i++)
        ;
    cr_assert_geq(place_facts(place)->computed_ms, before + 50);
    cr_assert(!place_facts(place)->stopped);
    kill((pid_t)pid, SIGSTOP);
    for (unsigned i = 0; i < 1000 && !look()->stopped; i++)
        ;
    cr_assert(place_facts(place)->stopped);
    before = look()->computed_ms;
    cr_assert_eq(look()->computed_ms, before);
    stop();
    all_is_well();
}

/* As after a restart of the machine: the number and the start time may be somebody else's by now. */
Test(place, nothing_of_before_a_restart_is_trusted)
{
    const struct place_facts *f;
    int64_t ours;
    char file[300];

    ours = start("modeld @PORT@")->pid;
    snprintf(file, sizeof file, "%s/run/%s.pid", place_facts(place)->base, server);
    shell("read -r p b o k rest <%s && test $k = $(cat /proc/sys/kernel/random/boot_id)/$(sed 's/.*) //' "
          "/proc/1/stat | "
          "cut -d' ' -f20)",
          file);
    shell("read -r p b o rest <%s && echo $p $b $o 0ther-b00t/1 0 >%s", file, file);
    f = look();
    cr_assert_eq(f->pid, -1);
    cr_assert(f->restarted);
    stop();
    cr_assert_not(lives(ours), "by its mark it is ours all the same");
    cr_assert(!look()->restarted, "that was seen to");
    shell("echo %d $(sed 's/.*) //' /proc/%d/stat | cut -d' ' -f20) 20000 0ther-b00t/1 0 >%s", (int)getpid(),
          (int)getpid(), file);
    cr_assert(look()->restarted);
    cr_assert_gt(start("modeld @PORT@")->pid, 1);
    cr_assert_neq(place_facts(place)->pid, getpid());
    cr_assert(!look()->restarted);
    shell("read -r p b o rest <%s && echo $p $b $o >%s", file, file);
    cr_assert_gt(look()->pid, 1, "an older llmhostd wrote no boot");
    stop();
}

Test(place, a_program_that_cannot_be_started_says_so)
{
    const struct place_facts *f = start("/nowhere/modeld @PORT@");

    while (f->pid > 0)
        f = look();
    cr_assert_not_null(f->last_line);
    cr_assert_not_null(strstr(f->last_line, "/nowhere/modeld"), "%s", f->last_line);
}

Test(place, passes_ports_by_that_somebody_listens_on)
{
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    _cleanup_close_ int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    uint16_t port = start("modeld @PORT@")->port;

    stop();
    cr_assert_eq(start("modeld @PORT@")->port, port, "the same server tends to get the same one");
    stop();
    at.sin_port = htons(port);
    cr_assert_eq(bind(fd, (struct sockaddr *)&at, sizeof at), 0);
    cr_assert_eq(listen(fd, 1), 0);
    cr_assert_gt(start("modeld @PORT@")->port, port);
    stop();
}

Test(place, words_for_the_shell_arrive_as_they_are)
{
    write_program("modeld", "printf '%s|' \"$ONE\" \"$TWO\" \"$@\" >$HOME/args; exec /bin/sleep 1000");
    start("modeld 'it'\\''s' '$HOME \"x\"' @PORT@");
    look();
    shell("n=0; until [ -s %s/args ]; do n=$((n+1)); [ $n -lt 900 ] || exit 1; /bin/sleep 0.01; done", home);
    shell("test \"$(cat %s/args)\" = '1 2|2|it'\\''s|$HOME \"x\"|%u|'", home, place_facts(place)->port);
    stop();
}

Test(place, arguments_arrive_as_they_are_and_are_known_afterwards)
{
    static const char *const one =
        "-c 4096 'it'\\''s' 'two\nlines ' '$(touch /tmp/x) `id` \\\\ @PORT@ | & ; #' '模型' ''";

    arguments = one;
    write_program("modeld",
                  "[ \"$1\" = --version ] && exit; printf '%s|' \"$@\" >$HOME/args; exec /bin/sleep 1000");
    start("modeld");
    shell("n=0; until [ -s %s/args ]; do n=$((n+1)); [ $n -lt 900 ] || exit 1; /bin/sleep 0.01; done", home);
    shell("test \"$(cat %s/args)\" = \"$(printf '%%s|' %s)\"", home, one);
    cr_assert_not(find("modeld", "", NULL)->other);
    arguments = "-c 4096";
    cr_assert(find("modeld", "", NULL)->other);
    cr_assert_not(look()->other, "only find is asked");
    arguments = "";
    cr_assert(find("modeld", "", NULL)->other);
    stop();
    cr_assert_not(find("modeld", "", NULL)->other, "none runs");
    start("modeld");
    cr_assert_not(find("modeld", "", NULL)->other);
    stop();
}

/* What an older daemon started has no such file. */
Test(place, a_server_nobody_gave_arguments_has_none)
{
    start("modeld @PORT@");
    shell("rm %s/.llmhost/run/%s.arguments", home, server);
    cr_assert_not(find("modeld", "", NULL)->other);
    arguments = "-x";
    cr_assert(find("modeld", "", NULL)->other);
    stop();
}

/* ---- stop ---- */

Test(place, a_server_that_needs_two_terms_gets_them)
{
    write_program("modeld", "trap 'n=$((n+1)); [ $n -ge 2 ] && exit 1' TERM; n=0; echo up\n"
                            "while :; do /bin/sleep 0.05; done");
    start("modeld @PORT@");
    look_until_said("up");
    stop();
    all_is_well();
    cr_assert_eq(look()->pid, -1);
}

Test(place, a_server_that_ignores_term_is_killed)
{
    int64_t pid;

    write_program("modeld", "trap '' TERM; echo up; exec /bin/sleep 1000");
    pid = start("modeld @PORT@")->pid;
    look_until_said("up");
    stop();
    all_is_well();
    cr_assert_not(lives(pid));
}

/* A runner that ignores TERM, in the group of the server or in one of its own. */
static const char with_runners[] =
    "(trap '' TERM; exec /bin/sleep 1001) & (trap '' TERM; exec setsid /bin/sleep 1002) &\n"
    "echo up; exec /bin/sleep 1000";

static void no_runner_is_left(void)
{
    shell("! grep -lsF LLMHOST_SERVER=%s /proc/[0-9]*/environ", place_facts(place)->base);
}

Test(place, what_a_stopped_server_leaves_behind_is_swept)
{
    write_program("modeld", with_runners);
    start("modeld @PORT@");
    look_until_said("up");
    stop();
    all_is_well();
    no_runner_is_left();
}

Test(place, what_a_killed_server_left_behind_is_swept_by_a_stop_and_by_a_start)
{
    const struct place_facts *f;

    write_program("modeld", with_runners);
    f = start("modeld @PORT@");
    look_until_said("up");
    cr_assert_eq(kill((pid_t)f->pid, SIGKILL), 0);
    while ((f = look())->pid > 0)
        ;
    stop();
    all_is_well();
    no_runner_is_left();
    f = start("modeld @PORT@");
    look_until_said("up");
    kill((pid_t)f->pid, SIGKILL);
    while ((f = look())->pid > 0)
        ;
    write_program("modeld", "echo second; exec /bin/sleep 1000");
    f = start("modeld @PORT@");
    look_until_said("second");
    shell("test $(grep -lsF LLMHOST_SERVER=%s /proc/[0-9]*/environ | wc -l) = 1", f->base);
    stop();
}

Test(place, a_hung_server_is_ended_by_the_next_start_and_no_other_one)
{
    const struct place_facts *f;
    int64_t pid;

    write_program("modeld", "/bin/sleep 1001 & echo up; exec /bin/sleep 1000");
    pid = start("modeld @PORT@")->pid;
    look_until_said("up");
    kill((pid_t)pid, SIGSTOP);
    place_start(place, server, "", "modeld @PORT@", "", pid + 1, &answer.op, on_done, &answer);
    wait_for(&answer);
    cr_assert_eq(place_facts(place)->pid, pid, "that one is another");
    write_program("modeld", "echo second; exec /bin/sleep 1000");
    place_start(place, server, "", "modeld @PORT@", "", pid, &answer.op, on_done, &answer);
    wait_for(&answer);
    all_is_well();
    f = place_facts(place);
    cr_assert_gt(f->pid, 1);
    cr_assert_neq(f->pid, pid);
    cr_assert_not(lives(pid));
    look_until_said("second");
    shell("test $(grep -lsF LLMHOST_SERVER=%s /proc/[0-9]*/environ | wc -l) = 1", f->base);
    stop();
}

/* ---- what may go wrong ---- */

Test(place, a_full_disk_is_said_and_leaves_nothing_behind)
{
    if (mount("none", home, "tmpfs", 0, "size=32k,nr_inodes=20") < 0)
        cr_skip_test("no right to mount");
    if (strncmp(look()->base, home, strlen(home)) != 0)
        cr_skip_test("this machine has a data disk, which is used instead");
    shell("cat /dev/zero >%s/filler 2>/dev/null; true", home);
    start("/bin/sleep 1000 @PORT@");
    cr_assert_str_eq(answer.fault.code, "disk_full", "%s: %s", answer.fault.code, answer.fault.text);
    cr_assert_eq(answer.fault.kind, FAULT_EXHAUSTED);
    shell("n=0; while grep -lsF LLMHOST_SERVER=%s /proc/[0-9]*/environ; do n=$((n+1)); [ $n -lt 100 ] || "
          "exit 1; done",
          home);
    shell("rm %s/filler && i=0; while touch %s/filler.$i; do i=$((i+1)); done 2>/dev/null; true", home, home);
    start("/bin/sleep 1000 @PORT@");
    cr_assert_str_eq(answer.fault.code, "disk_full", "no inodes: %s: %s", answer.fault.code,
                     answer.fault.text);
    shell("rm %s/filler.*", home);
    cr_assert_gt(start("/bin/sleep 1000 @PORT@")->pid, 1);
    all_is_well();
    stop();
}

Test(place, a_home_that_cannot_be_written_is_said)
{
    shell("rm -rf %s/.llmhost && : >%s/.llmhost", home, home);
    if (system("for d in /root/autodl-tmp /mnt/workspace /mnt/data /data; do [ -d $d ] && [ -w $d ] && exit "
               "1; done; true") != 0)
        cr_skip_test("this machine has a data disk, which is used instead");
    look();
    cr_assert_str_eq(answer.fault.code, "disk_full");
}

Test(place, a_shell_that_prints_a_banner_or_dies_is_no_answer)
{
    write_program("mkdir", "echo 'Welcome to gpu1'; echo 'pid='; exec /bin/mkdir \"$@\"");
    look();
    all_is_well();
    write_program("setsid", "kill -9 $PPID");
    start("modeld @PORT@");
    cr_assert(answer.fault.kind == FAULT_TRANSIENT, "%s", answer.fault.text);
}

/* As ForceCommand does: whatever is asked, something else answers. */
static void forced_run(struct host *h, const struct run_spec *spec, struct op **slot, run_done_fn done,
                       void *ctx)
{
    struct run_spec forced = *spec;

    (void)h;
    forced.script = "printf '\\n  \\nThis account=closed \\033[31m.\\nAsk root.\\n'; exit 1";
    host_run(host, &forced, slot, done, ctx);
}

Test(place, an_account_with_a_command_of_its_own_is_quoted)
{
    static const struct host_ops ops = {.run = forced_run};
    struct host other = {.ops = &ops};

    place_free(place);
    place = place_new(&other, "me");
    look();
    cr_assert_eq(answer.fault.kind, FAULT_INVALID, "%s", answer.fault.text);
    cr_assert_not_null(strstr(answer.fault.text, "it says: This account=closed "), "%s", answer.fault.text);
    cr_assert_null(strstr(answer.fault.text, "Ask root"));
    cr_assert_null(strchr(answer.fault.text, '\033'));
}

Test(place, a_step_that_is_cancelled_says_nothing)
{
    place_start(place, server, "", "modeld @PORT@", "", 0, &answer.op, on_done, &answer);
    loop_turns(loop, 3);
    op_cancel(&answer.op);
    loop_turns(loop, 20);
    cr_assert_eq(answer.n, 0);
    look();
    all_is_well();
    stop();
    place_look(place, server, &answer.op, on_done, &answer);
    op_cancel(&answer.op);
    place = place_free(place);
    loop_turns(loop, 20);
    cr_assert_eq(answer.n, 0);
}

Test(place, a_step_that_takes_too_long_is_a_fault)
{
    write_program("mkdir", "exec /bin/sleep 1000");
    place_look(place, server, &answer.op, on_done, &answer);
    loop_turns(loop, 20);
    loop_advance(loop, 39000);
    cr_assert_eq(answer.n, 0);
    loop_advance(loop, 2000);
    wait_for(&answer);
    cr_assert_eq(answer.fault.kind, FAULT_UNCERTAIN, "%s", answer.fault.text);
}

/* ---- the script under other shells ---- */

static void under(const char *sh)
{
    char path[300], command[900];

    snprintf(path, sizeof path, "%s/script", home);
    FILE *f = fopen(path, "w");

    cr_assert_not_null(f);
    fputs(engine_place_sh, f);
    fclose(f);
    snprintf(
        command, sizeof command,
        "cd %s || exit 9; step() { { printf 'set --'; printf \" '%%s'\" \"$@\"; echo; cat script; } "
        ">now; %s now >out 2>err;"
        " tail -n 1 out | grep -qx ok=1 && ! [ -s err ]; };"
        "step find %s me modeld '' '' && grep -qx program=%s/bin/modeld out && grep -q 1.2.3 out || exit 1;"
        "step start %s me A=1 'modeld @PORT@' && grep -q '^pid=[1-9]' out || exit 2;"
        "same() { grep -v '^last_words=\\|^moved=' out | cmp - first; }; grep -v '^last_words=\\|^moved=' "
        "out >first;"
        "step start %s me A=1 'modeld @PORT@' && same || exit 3;"
        "step look %s me && same || exit 4;"
        "step stop %s me && grep -qx gone=1 out || exit 5;"
        "step look %s me && grep -q '^last_words=port' out && ! grep -q ^pid out || exit 6",
        home, sh, server, home, server, server, server, server, server);
    int status = system(command);

    cr_assert_eq(status, 0, "%s: step %d", sh, WEXITSTATUS(status));
}

static bool is_there(const char *command)
{
    char text[200];

    snprintf(text, sizeof text, "%s >/dev/null 2>&1", command);
    return system(text) == 0;
}

Test(place, the_script_runs_under_dash)
{
    if (!is_there("dash -c true"))
        cr_skip_test("no dash");
    under("dash");
}

Test(place, the_script_runs_under_bash)
{
    if (!is_there("bash -c true"))
        cr_skip_test("no bash");
    under("bash --posix");
}

Test(place, the_script_runs_under_busybox)
{
    if (!is_there("busybox sh -c true"))
        cr_skip_test("no busybox");
    under("busybox sh");
}
