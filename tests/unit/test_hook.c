#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "base/event.h"
#include "base/settings.h"
#include "hook.h"
#include "proto/mem.h"
#include "tests/fixture/loop_fixture.h"

#define HEARD_MAX 100

struct scene {
    struct loop *loop;
    struct settings *settings;
    struct hooks *hooks;
    struct event_listener ear;
    char folder[64];
    unsigned heard; /* events of hooks */
    char kinds[HEARD_MAX][16], texts[HEARD_MAX][320], targets[HEARD_MAX][32];
    char read_back[4096];
};

static void on_event(void *ctx, const struct event *e)
{
    struct scene *s = ctx;

    if (strncmp(e->kind, "hook_", 5) != 0)
        return;
    cr_assert_lt(s->heard, HEARD_MAX);
    snprintf(s->kinds[s->heard], sizeof s->kinds[0], "%s", e->kind);
    snprintf(s->targets[s->heard], sizeof s->targets[0], "%s", e->target ? e->target : "-");
    snprintf(s->texts[s->heard++], sizeof s->texts[0], "%s", e->text);
}

/* Programs NAME made of scripts; in them $F is the folder. */
static void program(struct scene *s, const char *name, const char *script)
{
    _cleanup_free_ char *path = xasprintf("%s/%s", s->folder, name);
    FILE *f = fopen(path, "we");

    cr_assert_not_null(f);
    fprintf(f, "#!/bin/sh\nF=%s\n%s\n", s->folder, script);
    fclose(f);
    cr_assert_eq(chmod(path, 0700), 0);
}

static void begin(struct scene *s)
{
    snprintf(s->folder, sizeof s->folder, "%s/hook.XXXXXX", getenv("TMPDIR") ? getenv("TMPDIR") : "/tmp");
    cr_assert_not_null(mkdtemp(s->folder));
    dup2(open("/dev/null", O_WRONLY | O_CLOEXEC), STDERR_FILENO);
    log_open(LOG_LEVEL_INFO);
    s->loop = loop_new();
    s->ear = (struct event_listener){.heard = on_event, .ctx = s};
    event_listen(&s->ear);
}

/* further: lines of the section; a %s in it is the folder. */
static void open_hook(struct scene *s, const char *further)
{
    _cleanup_free_ char *text = xasprintf("[hook.notify]\ncommand=%s/notify\n%s", s->folder, further);
    char *why = NULL;

    cr_assert_eq(settings_parse(text, "test.conf", &s->settings, &why), 0, "%s", why);
    s->hooks = hooks_new(s->loop, s->settings, "/etc/llmhost");
}

static const char *file(struct scene *s, const char *name)
{
    _cleanup_free_ char *path = xasprintf("%s/%s", s->folder, name);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? 0 : read(fd, s->read_back, sizeof s->read_back - 1);

    if (fd >= 0)
        close(fd);
    s->read_back[MAX(n, 0)] = '\0';
    return fd < 0 ? NULL : s->read_back;
}

static void end(struct scene *s)
{
    char command[100];

    hooks_free(s->hooks);
    event_unlisten(&s->ear);
    settings_free(s->settings);
    loop_free_dry(s->loop);
    snprintf(command, sizeof command, "rm -r %s", s->folder);
    cr_assert_eq(system(command), 0);
    cr_assert_eq(waitpid(-1, NULL, WNOHANG), -1, "no zombie is left");
    log_close();
}

static void publish(const char *kind, const char *target, const char *text)
{
    event_publish(LOG_LEVEL_ERR, LOG_PROVIDER, target, kind, "%s", text);
}

Test(hook, is_told_in_its_environment_and_nowhere_else)
{
    struct scene s = {0};

    begin(&s);
    program(&s, "notify",
            "env | grep ^LLMHOST | sort >$F/told; echo $# >>$F/told; pwd >>$F/told; echo all is well");
    open_hook(&s, "");
    setenv("LLMHOST_SECRET_OF_OURS", "x", 1);
    publish("stop_not_confirmed", "gz-4090", "it may be \"billed\"; $(touch x)");
    cr_assert_eq(s.heard, 0, "nothing runs from inside the event");
    cr_assert(LOOP_UNTIL(s.loop, s.heard));
    const char *told = file(&s, "told");
    cr_assert_not_null(told);
    cr_assert(strstr(told, "LLMHOST_EVENT=stop_not_confirmed\n"), "%s", told);
    cr_assert(strstr(told, "LLMHOST_TARGET=gz-4090\n"));
    cr_assert(strstr(told, "LLMHOST_LEVEL=err\n"));
    cr_assert(strstr(told, "LLMHOST_TEXT=it may be \"billed\"; $(touch x)\n0\n/\n"), "%s", told);
    cr_assert(strstr(told, "LLMHOST_CONFIG_DIRECTORY=/etc/llmhost\n"));
    cr_assert_gt(atoll(strstr(told, "LLMHOST_AT_MS=") + 14), 1700000000000);
    cr_assert_null(strstr(told, "SECRET"));
    cr_assert_str_eq(s.kinds[0], "hook_ran");
    cr_assert_str_eq(s.targets[0], "gz-4090");
    cr_assert_str_eq(s.texts[0], "hook \"notify\" ran for stop_not_confirmed gz-4090, exit 0");
    end(&s);
}

Test(hook, runs_for_the_events_it_names_and_never_for_those_of_hooks)
{
    struct scene s = {0};

    begin(&s);
    program(&s, "notify", "echo $LLMHOST_EVENT $LLMHOST_TARGET >>$F/told");
    open_hook(&s, "events = ready, tunnel_lost\n");
    publish("stop_not_confirmed", "a", "x");
    publish("ready", "a", "x");
    publish("tunnel_lost", NULL, "x");
    cr_assert(LOOP_UNTIL(s.loop, s.heard == 2));
    cr_assert_str_eq(file(&s, "told"), "ready a\ntunnel_lost\n");
    cr_assert_str_eq(s.targets[1], "-");
    cr_assert_str_eq(s.texts[1], "hook \"notify\" ran for tunnel_lost, exit 0");
    hooks_free(s.hooks);
    settings_free(s.settings);
    open_hook(&s, "events = all\n");
    publish("keep_over", "a", "x");
    cr_assert(LOOP_UNTIL(s.loop, s.heard == 3));
    loop_turns(s.loop, 5);
    cr_assert_str_eq(file(&s, "told"), "ready a\ntunnel_lost\nkeep_over a\n", "its own end is no news to it");
    end(&s);
}

Test(hook, failure_is_told_with_its_last_line)
{
    struct scene s = {0};

    begin(&s);
    program(&s, "notify",
            "case $LLMHOST_TARGET in a) echo one; echo two >&2; exit 3 ;; b) printf 'no\\tend'; kill -9 $$ "
            ";; *) ;; esac");
    open_hook(&s, "");
    publish("failed", "a", "x");
    publish("failed", "b", "x");
    publish("failed", "c", "x");
    cr_assert(LOOP_UNTIL(s.loop, s.heard == 3));
    cr_assert_str_eq(s.kinds[0], "hook_failed");
    cr_assert_str_eq(s.texts[0], "hook \"notify\" failed for failed a, exit 3: two");
    cr_assert_str_eq(s.texts[1], "hook \"notify\" failed for failed b: it was killed by signal 9: noend");
    cr_assert_str_eq(s.kinds[2], "hook_ran", "one that failed is no reason not to try the next");
    end(&s);
}

Test(hook, that_is_not_there_is_told_too)
{
    struct scene s = {0};

    begin(&s);
    open_hook(&s, "");
    publish("failed", "a", "x");
    publish("failed", "b", "x");
    cr_assert(LOOP_UNTIL(s.loop, s.heard == 2));
    cr_assert_str_eq(s.texts[0],
                     "hook \"notify\" failed for failed a: it cannot be started: No such file or directory");
    end(&s);
}

Test(hook, is_killed_with_all_it_started_when_its_time_is_over)
{
    struct scene s = {0};

    begin(&s);
    program(&s, "notify", "trap '' TERM; echo begun; sleep 1000 & echo $! >$F/pid; wait; sleep 1000");
    open_hook(&s, "");
    publish("failed", "a", "x");
    cr_assert(LOOP_UNTIL(s.loop, file(&s, "pid") && strchr(s.read_back, '\n')));
    pid_t pid = (pid_t)atoi(s.read_back);
    /* It is not our child: the loop does not hear of its end. */
    struct pollfd its_end = {.fd = (int)syscall(SYS_pidfd_open, pid, 0), .events = POLLIN};

    cr_assert_geq(its_end.fd, 0);
    loop_advance(s.loop, 25000);
    loop_turns(s.loop, 5);
    cr_assert_eq(s.heard, 0);
    cr_assert_eq(kill(pid, 0), 0);
    loop_advance(s.loop, 5000);
    cr_assert(LOOP_UNTIL(s.loop, s.heard));
    cr_assert_str_eq(
        s.texts[0], "hook \"notify\" failed for failed a: it ran for longer than 30 s and was killed: begun");
    cr_assert_eq(poll(&its_end, 1, 10000), 1);
    close(its_end.fd);
    end(&s);
}

Test(hook, one_runs_at_a_time_and_the_oldest_of_too_many_is_dropped_aloud)
{
    struct scene s = {0};
    char target[8];

    begin(&s);
    program(&s, "notify",
            "mkdir $F/alone || echo two at once >>$F/told; echo $LLMHOST_TARGET >>$F/told\n"
            "while [ $LLMHOST_TARGET = t0 ] && [ ! -e $F/go ]; do sleep 0.01; done; rmdir $F/alone");
    open_hook(&s, "");
    publish("failed", "t0", "x");
    cr_assert(LOOP_UNTIL(s.loop, file(&s, "told")));
    for (int i = 1; i <= 18; i++) {
        snprintf(target, sizeof target, "t%d", i);
        publish("failed", target, "x");
    }
    cr_assert_eq(s.heard, 2);
    cr_assert_str_eq(s.kinds[0], "hook_failed");
    cr_assert_str_eq(s.texts[0],
                     "hook \"notify\" failed for failed t1: too many wait for it, and this was the oldest");
    cr_assert_str_eq(s.targets[1], "t2");
    program(&s, "go", "");
    cr_assert(LOOP_UNTIL(s.loop, s.heard == 2 + 17));
    cr_assert_str_eq(file(&s, "told"),
                     "t0\nt3\nt4\nt5\nt6\nt7\nt8\nt9\nt10\nt11\nt12\nt13\nt14\nt15\nt16\nt17\nt18\n");
    end(&s);
}

Test(hook, same_news_is_told_once_in_ten_minutes)
{
    struct scene s = {0};

    begin(&s);
    program(&s, "notify", "echo $LLMHOST_TEXT >>$F/told");
    open_hook(&s, "");
    publish("budget", "a", "1.50 are spent");
    publish("budget", "a", "2.75 are spent");      /* only its figures are others */
    publish("budget", "b", "3.00 are spent");      /* another target */
    publish("low_balance", "a", "4.00 are spent"); /* another kind */
    publish("budget", "a", "5.00 are gone");       /* other words */
    event_publish(LOG_LEVEL_WARNING, LOG_PROVIDER, "a", "budget", "6.00 are gone"); /* another level */
    cr_assert(LOOP_UNTIL(s.loop, s.heard == 5));
    cr_assert_str_eq(file(&s, "told"),
                     "1.50 are spent\n3.00 are spent\n4.00 are spent\n5.00 are gone\n6.00 are gone\n");
    loop_advance(s.loop, 10 * 60000 - 1000);
    publish("budget", "b", "3.00 are spent");
    loop_turns(s.loop, 5);
    cr_assert_eq(s.heard, 5);
    loop_advance(s.loop, 2000);
    publish("budget", "b", "3.00 are spent");
    cr_assert(LOOP_UNTIL(s.loop, s.heard == 6));
    end(&s);
}

Test(hook, news_that_was_forgotten_for_others_is_told_again)
{
    struct scene s = {0};
    char target[8];

    begin(&s);
    program(&s, "notify", "exit 0");
    open_hook(&s, "");
    for (int i = 0; i < 70; i++) {
        snprintf(target, sizeof target, "t%d", i);
        publish("failed", target, "x");
        loop_advance(s.loop, 1000);
    }
    cr_assert(LOOP_UNTIL(s.loop, s.heard == 70));
    publish("failed", "t69", "x");
    loop_turns(s.loop, 5);
    publish("failed", "t0", "x");
    cr_assert(LOOP_UNTIL(s.loop, s.heard == 71));
    cr_assert_str_eq(s.targets[70], "t0");
    end(&s);
}

Test(hook, freed_while_one_runs_and_others_wait)
{
    struct scene s = {0};

    begin(&s);
    program(&s, "notify", "echo x >$F/told; sleep 1000");
    open_hook(&s, "");
    publish("failed", "a", "x");
    publish("failed", "b", "x");
    cr_assert(LOOP_UNTIL(s.loop, file(&s, "told")));
    end(&s);
}

Test(hook, one_whose_command_was_taken_away_does_not_run)
{
    struct scene s = {0};

    begin(&s);
    program(&s, "notify", "exit 0");
    open_hook(&s, "command =\n");
    publish("failed", "a", "x");
    loop_turns(s.loop, 5);
    cr_assert_eq(s.heard, 0);
    end(&s);
}
