/* posix_spawn, and a pidfd in the loop instead of SIGCHLD, which would be shared with everybody in the
 * process. The descriptor becomes readable when the child ends; only then is it reaped, so its number cannot
 * have been given to another before. */
#include "base/child.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/loop_private.h"
#include "base/timer.h"
#include "base/watch.h"

#define TERM_MS  2000
#define LIFELINE 3

struct child {
    struct list node; /* among the orphans once freed */
    struct loop *loop;
    pid_t pid;
    int pidfd;
    int lifeline; /* nothing is ever written; -1: none */
    struct watch *watch;
    struct timer *patience; /* of an orphan */
    bool ended;             /* reaped: pid may be another's */
    bool orphan;
    child_exit_fn on_exit;
    void *ctx;
};

static int pair_made(const int fd[2], int *ret_ours, int *ret_theirs)
{
    fcntl(fd[0], F_SETFL, O_NONBLOCK);
    *ret_ours = fd[0];
    *ret_theirs = fd[1];
    return 0;
}

int child_socket_new(int *ret_ours, int *ret_theirs)
{
    int fd[2];

    return socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fd) < 0 ? -errno
                                                                      : pair_made(fd, ret_ours, ret_theirs);
}

int child_pipe_new(int *ret_ours, int *ret_theirs)
{
    int fd[2];

    return pipe2(fd, O_CLOEXEC) < 0 ? -errno : pair_made(fd, ret_ours, ret_theirs);
}

static unsigned list_count(const char *const *list)
{
    unsigned n = 0;

    while (list && list[n])
        n++;
    return n;
}

/* Ours has everything the daemon was told; a child is told what any program expects, what is named, and no
 * more. */
static char **environment_new(const struct child_spec *spec)
{
    static const char *const names[] = {"PATH", "HOME", "USER", "LANG", "TMPDIR"};
    char **environment = xalloc(
        (ELEMENTS(names) + list_count(spec->environment) + list_count(spec->besides) + 1) * sizeof(char *));
    unsigned n = 0;

    for (unsigned i = 0; !spec->environment && i < ELEMENTS(names); i++)
        if (getenv(names[i]))
            environment[n++] = xasprintf("%s=%s", names[i], getenv(names[i]));
    for (unsigned i = 0; i < list_count(spec->environment); i++)
        environment[n++] = xstrdup(spec->environment[i]);
    for (unsigned i = 0; i < list_count(spec->besides); i++)
        environment[n++] = xstrdup(spec->besides[i]);
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
    posix_spawnattr_setsigmask(a, &none);
    posix_spawnattr_setsigdefault(a, &all);
    return posix_spawnattr_setflags(a, POSIX_SPAWN_SETSID | POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
}

/* fds: the first n, above LIFELINE, so that none is overwritten before its turn. */
static int actions_init(posix_spawn_file_actions_t *a, const int *fds, int n, const char *directory)
{
    int r = posix_spawn_file_actions_init(a);

    for (int i = 0; r == 0 && i < n; i++)
        r = posix_spawn_file_actions_adddup2(a, fds[i], i);
    if (r == 0)
        r = posix_spawn_file_actions_addclosefrom_np(a, n);
    if (r == 0)
        r = posix_spawn_file_actions_addchdir_np(a, directory ? directory : "/");
    return r;
}

/* Copies of what was lent, or of /dev/null, and the far end of the lifeline. Returns how many, or -errno. */
static int borrow(const struct child_spec *spec, int lifeline, int fds[static LIFELINE + 1])
{
    const int lent[] = {spec->in, spec->out, spec->err, lifeline};
    int n = spec->lifeline ? LIFELINE + 1 : LIFELINE;
    _cleanup_close_ int null = open("/dev/null", O_RDWR | O_CLOEXEC);

    if (null < 0)
        return -errno;
    for (int i = 0; i < n; i++) {
        fds[i] = fcntl(lent[i] < 0 ? null : lent[i], F_DUPFD_CLOEXEC, LIFELINE + 1);
        if (fds[i] < 0)
            return -errno;
    }
    return n;
}

static int spawn_with(const struct child_spec *spec, const int *fds, int n, pid_t *ret)
{
    char **environment = environment_new(spec);
    posix_spawn_file_actions_t actions;
    posix_spawnattr_t attributes;
    int r;

    attributes_init(&attributes);
    r = -actions_init(&actions, fds, n, spec->directory);
    if (r == 0)
        r = -posix_spawnp(ret, spec->argv[0], &actions, &attributes, (char *const *)spec->argv, environment);
    posix_spawn_file_actions_destroy(&actions);
    posix_spawnattr_destroy(&attributes);
    free_environment(environment);
    return r;
}

static int spawn(const struct child_spec *spec, int lifeline, pid_t *ret)
{
    int fds[] = {-1, -1, -1, -1}, n = borrow(spec, lifeline, fds);
    int r = n < 0 ? n : spawn_with(spec, fds, n, ret);

    for (unsigned i = 0; i < ELEMENTS(fds); i++)
        if (fds[i] >= 0)
            close(fds[i]);
    return r;
}

static void release(struct child *c)
{
    list_remove(&c->node);
    watch_free(c->watch, true);
    timer_free(c->patience);
    if (c->lifeline >= 0)
        close(c->lifeline);
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
    _cleanup_close_ int theirs = -1, ours = -1;
    struct child *c;
    pid_t pid;
    int r, pidfd, lifeline[2];

    if (spec->lifeline) {
        if (pipe2(lifeline, O_CLOEXEC) < 0)
            return -errno;
        theirs = lifeline[0];
        ours = lifeline[1];
    }
    r = spawn(spec, theirs, &pid);
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
    c->lifeline = TAKE_FD(ours);
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
