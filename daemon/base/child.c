/* posix_spawn, and a pidfd in the loop instead of SIGCHLD, which would be shared with everybody in the
 * process. The descriptor becomes readable when the child ends; only then is it reaped, so its number cannot
 * have been given to another before. */
#include "base/child.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "base/loop_private.h"
#include "base/timer.h"
#include "base/watch.h"

#define TERM_MS 2000

struct child {
    struct list node; /* among the orphans once freed */
    struct loop *loop;
    pid_t pid;
    int pidfd;
    struct watch *watch;
    struct timer *patience; /* of an orphan */
    bool ended;             /* reaped: pid may be another's */
    bool orphan;
    child_exit_fn on_exit;
    void *ctx;
};

/* Ours has everything the daemon was told; a child is told what any program expects and no more. */
static char **default_environment(void)
{
    static const char *const names[] = {"PATH", "HOME", "USER", "LANG", "TMPDIR"};
    char **environment = xalloc((ELEMENTS(names) + 1) * sizeof(*environment));
    unsigned n = 0;

    for (unsigned i = 0; i < ELEMENTS(names); i++)
        if (getenv(names[i]))
            environment[n++] = xasprintf("%s=%s", names[i], getenv(names[i]));
    return environment;
}

static void free_environment(char **environment)
{
    for (char **e = environment; *e; e++)
        free(*e);
    free(environment);
}

static int attributes_init(posix_spawnattr_t *a)
{
    sigset_t none, all;

    sigemptyset(&none);
    sigfillset(&all);
    posix_spawnattr_init(a);
    posix_spawnattr_setpgroup(a, 0);
    posix_spawnattr_setsigmask(a, &none);
    posix_spawnattr_setsigdefault(a, &all);
    return posix_spawnattr_setflags(a,
                                    POSIX_SPAWN_SETPGROUP | POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
}

/* fds: above 2, so that none is overwritten before its turn. */
static int actions_init(posix_spawn_file_actions_t *a, const int fds[static 3], const char *directory)
{
    int r = posix_spawn_file_actions_init(a);

    for (int i = 0; r == 0 && i < 3; i++)
        r = posix_spawn_file_actions_adddup2(a, fds[i], i);
    if (r == 0)
        r = posix_spawn_file_actions_addclosefrom_np(a, 3);
    if (r == 0)
        r = posix_spawn_file_actions_addchdir_np(a, directory ? directory : "/");
    return r;
}

/* Copies of what was lent, or of /dev/null. */
static int borrow(const struct child_spec *spec, int fds[static 3])
{
    const int lent[3] = {spec->in, spec->out, spec->err};
    _cleanup_close_ int null = open("/dev/null", O_RDWR | O_CLOEXEC);

    if (null < 0)
        return -errno;
    for (int i = 0; i < 3; i++) {
        fds[i] = fcntl(lent[i] < 0 ? null : lent[i], F_DUPFD_CLOEXEC, 3);
        if (fds[i] < 0)
            return -errno;
    }
    return 0;
}

static int spawn(const struct child_spec *spec, pid_t *ret)
{
    _cleanup_close_ int in = -1, out = -1, err = -1;
    int fds[3] = {-1, -1, -1}, r = borrow(spec, fds);
    char **made = spec->environment ? NULL : default_environment();
    posix_spawn_file_actions_t actions;
    posix_spawnattr_t attributes;

    in = fds[0];
    out = fds[1];
    err = fds[2];
    if (r == 0) {
        attributes_init(&attributes);
        r = -actions_init(&actions, fds, spec->directory);
        if (r == 0)
            r = -posix_spawnp(ret, spec->argv[0], &actions, &attributes, (char *const *)spec->argv,
                              made ? made : (char *const *)spec->environment);
        posix_spawn_file_actions_destroy(&actions);
        posix_spawnattr_destroy(&attributes);
    }
    if (made)
        free_environment(made);
    return r;
}

static void release(struct child *c)
{
    list_remove(&c->node);
    watch_free(c->watch, true);
    timer_free(c->patience);
    free(c);
}

static void on_ended(void *ctx, unsigned events)
{
    struct child *c = ctx;
    int status;

    (void)events;
    if (c->orphan)
        kill(-c->pid, SIGKILL); /* the rest of its group; until it is reaped the group's number is its own */
    if (waitpid(c->pid, &status, WNOHANG) != c->pid)
        return;
    c->ended = true;
    if (c->orphan) {
        release(c);
        return;
    }
    watch_want(c->watch, 0);
    c->on_exit(c->ctx, status); /* may free c */
}

int child_spawn(struct loop *l, const struct child_spec *spec, child_exit_fn on_exit, void *ctx,
                struct child **ret)
{
    struct child *c;
    pid_t pid;
    int r = spawn(spec, &pid), pidfd;

    if (r < 0)
        return r;
    pidfd = (int)syscall(SYS_pidfd_open, pid, 0); /* close-on-exec by itself */
    if (pidfd < 0) {
        r = -errno;
        kill(-pid, SIGKILL);
        waitpid(pid, NULL, 0);
        return r;
    }
    c = xnew(struct child);
    list_init(&c->node);
    c->loop = l;
    c->pid = pid;
    c->pidfd = pidfd;
    c->on_exit = on_exit;
    c->ctx = ctx;
    c->watch = watch_new(l, pidfd, on_ended, c);
    watch_want(c->watch, WATCH_IN);
    *ret = c;
    return 0;
}

pid_t child_pid(const struct child *c)
{
    return c->pid;
}

void child_kill(struct child *c, int signal)
{
    if (!c->ended)
        kill(-c->pid, signal);
}

static void on_patience_over(void *ctx)
{
    child_kill(ctx, SIGKILL);
}

struct child *child_free(struct child *c)
{
    if (!c)
        return NULL;
    if (c->ended) {
        release(c);
        return NULL;
    }
    c->orphan = true;
    list_append(&c->loop->orphans, &c->node);
    child_kill(c, SIGTERM);
    c->patience = timer_new(c->loop, on_patience_over, c);
    timer_arm(c->patience, TERM_MS);
    return NULL;
}

void children_hurry(struct loop *l)
{
    LIST_FOREACH (c, &l->orphans, struct child, node)
        child_kill(c, SIGKILL);
}
