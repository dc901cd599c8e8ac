#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>

#include "base/child.h"
#include "proto/mem.h"
#include "tests/fixture/loop_fixture.h"

struct scene {
    struct loop *loop;
    struct child *child;
    int out; /* what it says */
    char text[4096];
    size_t n;
    unsigned exits;
    int status;
    bool free_at_exit;
};

static void on_exit_(void *ctx, int status)
{
    struct scene *s = ctx;

    s->exits++;
    s->status = status;
    if (s->free_at_exit)
        s->child = child_free(s->child);
}

static bool said(struct scene *s, const char *what)
{
    ssize_t n = read(s->out, s->text + s->n, sizeof(s->text) - 1 - s->n);

    if (n > 0)
        s->n += (size_t)n;
    s->text[s->n] = '\0';
    return strstr(s->text, what) != NULL;
}

static int start(struct scene *s, const char *const *argv, const char *const *environment)
{
    struct child_spec spec = {.argv = argv, .environment = environment, .in = -1, .err = -1};
    int fds[2], r;

    if (!s->loop)
        s->loop = loop_new();
    cr_assert_eq(pipe2(fds, O_CLOEXEC), 0);
    fcntl(fds[0], F_SETFL, O_NONBLOCK);
    s->out = fds[0];
    spec.out = fds[1];
    r = child_spawn(s->loop, &spec, on_exit_, s, &s->child);
    close(fds[1]);
    return r;
}

static void start_shell(struct scene *s, const char *script)
{
    const char *const argv[] = {"sh", "-c", script, NULL};

    cr_assert_eq(start(s, argv, NULL), 0);
}

static void close_scene(struct scene *s)
{
    child_free(s->child);
    loop_free_dry(s->loop);
    close(s->out);
    cr_assert_eq(waitpid(-1, NULL, WNOHANG), -1);
    cr_assert_eq(errno, ECHILD, "no zombie is left");
}

Test(child, ends_with_a_status_that_is_told_once)
{
    struct scene s = {0};

    start_shell(&s, "echo hello; exit 7");
    cr_assert_gt(child_pid(s.child), 0);
    cr_assert_eq(s.exits, 0);
    cr_assert(LOOP_UNTIL(s.loop, s.exits));
    cr_assert(WIFEXITED(s.status) && WEXITSTATUS(s.status) == 7);
    cr_assert(said(&s, "hello"));
    loop_turns(s.loop, 3);
    cr_assert_eq(s.exits, 1);
    child_kill(s.child, SIGKILL); /* nobody: it is reaped */
    close_scene(&s);
}

Test(child, a_program_that_is_not_there_is_an_error_at_once)
{
    struct scene s = {0};
    const char *const argv[] = {"no-such-program-here", NULL}, *const folder[] = {"/", NULL};

    cr_assert_eq(start(&s, argv, NULL), -ENOENT);
    close(s.out);
    cr_assert_eq(start(&s, folder, NULL), -EACCES);
    cr_assert_null(s.child);
    close_scene(&s);
}

Test(child, its_environment_is_what_is_named_and_otherwise_the_usual_five)
{
    struct scene s = {0}, given = {0};
    const char *const argv[] = {"env", NULL}, *const environment[] = {"LLMHOST_MODEL=x", NULL};

    setenv("SECRET", "do not tell", 1);
    setenv("LANG", "C.UTF-8", 1);
    cr_assert_eq(start(&s, argv, NULL), 0);
    cr_assert(LOOP_UNTIL(s.loop, s.exits));
    cr_assert(said(&s, "PATH="));
    cr_assert(said(&s, "LANG=C.UTF-8\n"));
    cr_assert(!said(&s, "SECRET"));
    close_scene(&s);
    cr_assert_eq(start(&given, argv, environment), 0);
    cr_assert(LOOP_UNTIL(given.loop, given.exits));
    said(&given, "");
    cr_assert_str_eq(given.text, "LLMHOST_MODEL=x\n");
    close_scene(&given);
}

Test(child, may_be_told_something_besides_the_usual_five)
{
    struct scene s = {.loop = loop_new()};
    const char *const argv[] = {"sh", "-c", "echo \"$HOME and $MORE\"", NULL};
    const char *const besides[] = {"MORE=this", NULL};
    struct child_spec spec = {.argv = argv, .besides = besides, .in = -1, .err = -1};
    int fds[2];

    setenv("HOME", "/home/me", 1);
    cr_assert_eq(pipe2(fds, O_CLOEXEC), 0);
    s.out = fds[0];
    spec.out = fds[1];
    cr_assert_eq(child_spawn(s.loop, &spec, on_exit_, &s, &s.child), 0);
    close(fds[1]);
    cr_assert(LOOP_UNTIL(s.loop, s.exits));
    cr_assert(said(&s, "/home/me and this\n"), "%s", s.text);
    close_scene(&s);
}

/* Else ssh, for one, would open /dev/tty and ask there, of a daemon that was started on a terminal. */
Test(child, has_a_session_of_its_own)
{
    struct scene s = {0};

    start_shell(&s, "cut -d' ' -f1,5,6 /proc/$$/stat");
    cr_assert(LOOP_UNTIL(s.loop, s.exits));
    cr_assert(said(&s, "\n"));
    int pid, group, session;

    cr_assert_eq(sscanf(s.text, "%d %d %d", &pid, &group, &session), 3);
    cr_assert_eq(pid, child_pid(s.child));
    cr_assert_eq(group, pid);
    cr_assert_eq(session, pid);
    close_scene(&s);
}

/* Its end is read by one of its group when the child is freed, although that one ignores SIGTERM: it is how
 * they learn of the death of a daemon that could not even send a signal. */
Test(child, the_lifeline_ends_with_the_child)
{
    struct scene s = {.loop = loop_new()};
    const char *const argv[] = {
        "sh", "-c", "trap '' TERM; ls -m /proc/self/fd; { read -r x; echo end; } <&3 & exit 0", NULL};
    struct child_spec spec = {.argv = argv, .in = -1, .err = -1, .lifeline = true};
    int fds[2];

    cr_assert_eq(pipe2(fds, O_CLOEXEC), 0);
    fcntl(fds[0], F_SETFL, O_NONBLOCK);
    s.out = fds[0];
    spec.out = fds[1];
    cr_assert_eq(child_spawn(s.loop, &spec, on_exit_, &s, &s.child), 0);
    close(fds[1]);
    cr_assert(LOOP_UNTIL(s.loop, s.exits));
    cr_assert(said(&s, "0, 1, 2, 3, 4\n"), "4 is the folder itself: %s", s.text);
    cr_assert(!said(&s, "end"), "it waits");
    s.child = child_free(s.child);
    cr_assert_eq(poll(&(struct pollfd){.fd = s.out, .events = POLLIN}, 1, 5000), 1);
    cr_assert(said(&s, "end\n"));
    close_scene(&s);
}

/* One descriptor without close-on-exec, one signal blocked, one ignored: none of it reaches the child. */
Test(child, inherits_neither_descriptors_nor_signals)
{
    struct scene s = {0};
    unsigned long long ignored;
    sigset_t blocked;
    int leak = open("/dev/null", O_RDONLY);

    cr_assert_gt(leak, 2);
    sigemptyset(&blocked);
    sigaddset(&blocked, SIGTERM);
    sigprocmask(SIG_BLOCK, &blocked, NULL);
    signal(SIGPIPE, SIG_IGN);
    start_shell(&s, "cd /proc/$$/fd; echo fds: $(for f in *; do readlink $f | grep null; done);"
                    "exec grep -E '^Sig(Blk|Ign)' /proc/self/status");
    cr_assert(LOOP_UNTIL(s.loop, s.exits));
    cr_assert(said(&s, "fds: /dev/null /dev/null\n"), "0 and 2: %s", s.text);
    cr_assert(said(&s, "SigBlk:\t0000000000000000"), "%s", s.text);
    cr_assert_eq(sscanf(strstr(s.text, "SigIgn:"), "SigIgn: %llx", &ignored), 1);
    cr_assert_eq(ignored & 0x7fffffff, 0, "%s", s.text); /* libc keeps its own two, 32 and 33, ignored */
    sigprocmask(SIG_UNBLOCK, &blocked, NULL);
    close(leak);
    close_scene(&s);
}

Test(child, runs_in_the_root_folder_or_where_it_is_told)
{
    struct scene s = {.loop = loop_new()};
    const char *const argv[] = {"sh", "-c", "[ $PWD = /tmp ]", NULL};
    struct child_spec spec = {.argv = argv, .directory = "/tmp", .in = -1, .out = -1, .err = -1};

    cr_assert_eq(child_spawn(s.loop, &spec, on_exit_, &s, &s.child), 0);
    cr_assert(LOOP_UNTIL(s.loop, s.exits));
    cr_assert_eq(s.status, 0);
    child_free(s.child);
    start_shell(&s, "pwd");
    cr_assert(LOOP_UNTIL(s.loop, s.exits == 2));
    cr_assert(said(&s, "/\n"));
    close_scene(&s);
}

Test(child, reads_what_it_is_lent_and_nothing_otherwise)
{
    struct scene s = {.loop = loop_new()};
    const char *const argv[] = {"sh", "-c", "read line; echo got $line >&2", NULL};
    struct child_spec spec = {.argv = argv, .out = -1};
    int in[2], err[2];

    cr_assert_eq(pipe2(in, O_CLOEXEC), 0);
    cr_assert_eq(pipe2(err, O_CLOEXEC | O_NONBLOCK), 0);
    cr_assert_eq(write(in[1], "bread\n", 6), 6);
    close(in[1]);
    spec.in = in[0];
    spec.err = err[1];
    cr_assert_eq(child_spawn(s.loop, &spec, on_exit_, &s, &s.child), 0);
    cr_assert(LOOP_UNTIL(s.loop, s.exits));
    s.out = err[0];
    cr_assert(said(&s, "got bread"));
    cr_assert(fcntl(in[0], F_GETFD) >= 0, "borrowed, not taken");
    close(in[0]);
    close(err[1]);
    close_scene(&s);
}

/* Our own descriptors 0 to 2 in any order: each arrives where it should. */
Test(child, low_descriptors_may_be_lent_crosswise)
{
    struct scene s = {.loop = loop_new()};
    const char *const argv[] = {"sh", "-c", "echo out; echo err >&2", NULL};
    struct child_spec spec = {.argv = argv, .in = -1, .out = 2, .err = 1};
    int one[2], two[2], was_one = dup(1), was_two = dup(2);
    char text[16] = "";

    cr_assert_eq(pipe2(one, O_CLOEXEC | O_NONBLOCK) | pipe2(two, O_CLOEXEC | O_NONBLOCK), 0);
    dup2(one[1], 1);
    dup2(two[1], 2);
    cr_assert_eq(child_spawn(s.loop, &spec, on_exit_, &s, &s.child), 0);
    dup2(was_one, 1);
    dup2(was_two, 2);
    cr_assert(LOOP_UNTIL(s.loop, s.exits));
    cr_assert_eq(read(one[0], text, sizeof(text)), 4);
    cr_assert_str_eq(text, "err\n");
    cr_assert_eq(read(two[0], text, sizeof(text)), 4);
    cr_assert_str_eq(text, "out\n");
    s.out = one[0];
    close(one[1]);
    close(two[0]);
    close(two[1]);
    close(was_one);
    close(was_two);
    close_scene(&s);
}

Test(child, a_signal_goes_to_the_whole_group)
{
    struct scene s = {0};

    start_shell(&s, "trap 'wait; exit 3' TERM;"
                    "(trap 'echo inner; exit' TERM; echo ready; while :; do sleep 0.05; done) & wait; wait");
    cr_assert(LOOP_UNTIL(s.loop, said(&s, "ready")));
    child_kill(s.child, SIGTERM);
    cr_assert(LOOP_UNTIL(s.loop, s.exits));
    cr_assert(WIFEXITED(s.status) && WEXITSTATUS(s.status) == 3, "status %x", (unsigned)s.status);
    cr_assert(said(&s, "inner"));
    close_scene(&s);
}

Test(child, may_be_freed_inside_on_exit)
{
    struct scene s = {.free_at_exit = true};

    start_shell(&s, "exit 0");
    cr_assert(LOOP_UNTIL(s.loop, s.exits));
    cr_assert_null(s.child);
    close_scene(&s);
}

static bool is_gone(pid_t pid)
{
    return kill(pid, 0) < 0 && errno == ESRCH;
}

Test(child, freed_alive_it_is_asked_to_end_and_its_exit_is_not_told)
{
    struct scene s = {0};
    pid_t pid;

    start_shell(&s, "trap 'echo asked; exit' TERM; echo ready; while :; do sleep 0.05; done");
    cr_assert(LOOP_UNTIL(s.loop, said(&s, "ready")));
    pid = child_pid(s.child);
    s.child = child_free(s.child);
    cr_assert(LOOP_UNTIL(s.loop, is_gone(pid)));
    cr_assert(said(&s, "asked"));
    cr_assert_eq(s.exits, 0);
    close_scene(&s);
}

Test(child, one_that_does_not_listen_is_killed_after_two_seconds_with_its_group)
{
    struct scene s = {0};
    struct pollfd end = {.events = POLLIN};
    pid_t pid;

    start_shell(&s, "trap '' TERM; sleep 1000 & echo ready; while :; do sleep 0.05; done");
    cr_assert(LOOP_UNTIL(s.loop, said(&s, "ready")));
    pid = child_pid(s.child);
    end.fd = s.out;
    s.child = child_free(s.child);
    loop_advance(s.loop, 1900);
    cr_assert(!is_gone(pid));
    loop_advance(s.loop, 101);
    cr_assert(LOOP_UNTIL(s.loop, is_gone(pid)));
    cr_assert_eq(s.exits, 0);
    cr_assert_eq(poll(&end, 1, 5000), 1, "somebody of its group still holds the pipe");
    cr_assert_eq(read(s.out, s.text, 1), 0);
    close_scene(&s);
}

Test(child, freeing_the_loop_ends_what_is_still_there)
{
    struct scene s = {0};
    pid_t pid;

    start_shell(&s, "trap '' TERM; echo ready; while :; do sleep 1; done");
    cr_assert(LOOP_UNTIL(s.loop, said(&s, "ready")));
    pid = child_pid(s.child);
    s.child = child_free(s.child);
    s.loop = loop_free(s.loop);
    cr_assert(is_gone(pid));
    close(s.out);
}

Test(child, null_is_fine_to_free)
{
    cr_assert_null(child_free(NULL));
}

Test(child, left_behind_it_is_a_bug, .signal = SIGABRT)
{
    struct scene s = {0};

    start_shell(&s, "exec sleep 5");
    loop_free(s.loop);
}
