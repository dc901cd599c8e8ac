/* A child process: posix_spawn, a session of its own (so a process group, and no terminal to ask anybody at), nothing inherited but
 * what is named. */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

struct child;
struct loop;

struct child_spec {
    const char *const *argv;            /* argv[0] is looked up in PATH */
    const char *const *environment;     /* "NAME=value" …, NULL-terminated; NULL: PATH, HOME, USER, LANG, TMPDIR of ours alone */
    const char *const *besides;         /* the same, in addition; NULL: nothing */
    const char *directory;              /* NULL: / */
    int in, out, err;                   /* borrowed descriptors for 0, 1, 2; -1: /dev/null */
    bool lifeline;                      /* 3 reads from us: nothing, and its end when the child was freed or we are dead */
};

/* What a child is given: a socket both ways, or a pipe that it writes to. Ours does not block, theirs does, as a program expects of its
 * standard input and output. 0 or -errno; the caller closes both. */
int child_socket_new(int *ret_ours, int *ret_theirs);
int child_pipe_new(int *ret_ours, int *ret_theirs);

/* wait_status as of waitpid(). Runs once, from the loop. */
typedef void (*child_exit_fn)(void *ctx, int wait_status);

/* 0 or -errno (-ENOENT: no such program). */
int child_spawn(struct loop *l, const struct child_spec *spec, child_exit_fn on_exit, void *ctx, struct child **ret);
pid_t child_pid(const struct child *c);
/* To the whole process group. */
void child_kill(struct child *c, int signal);
/* on_exit will not run. A child that lives is sent SIGTERM, SIGKILL after 2 s, and is reaped whoever asks. */
struct child *child_free(struct child *c);
