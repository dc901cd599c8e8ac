/* The steps on the machine that drivers share: find the data disk and the program, start it detached, find it again, stop it.
 *
 * One script (place.sh behind machine.sh, sent with each command: script.h) does them. It keeps, in BASE/run on the machine's data disk, per server:
 *     SERVER.pid    "PID BORN PORT BOOT KILLS OWNER": BORN is the start time of the process (field 22 of /proc/PID/stat), so that a pid that was
 *                   given to somebody else is told from our server; BOOT is the kernel's boot id with the start time of process 1, so that
 *                   no file of before a restart is trusted (a container's restart keeps the boot id, and BORN counts from the kernel's start);
                   OWNER is the llmhostd that started it: others use it, and neither stop it nor start another in its place
 *     SERVER.end    "STATUS KILLS BEFORE": how it ended, as a shell has it (128 + signal), written by its keeper, a shell that waits for it;
 *                   the kernel had killed BEFORE processes beside it for want of memory when it started, KILLS when it ended
 *     SERVER.log    what the server printed
 *     SERVER.arguments    those of its command line that people gave, as they were quoted
 *     SERVER.lock   a directory while a start or a stop is under way: two requests start one server, and a stop waits for a start
 *                   that is under way although its daemon has gone
 * What it starts has LLMHOST_SERVER=BASE/run/SERVER.pid in its environment: what is left of a server that was killed is found by it. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "engine/engine.h"
#include "proto/buf.h"

struct place;

/* What the machine answered. Texts are owned by the place, NULL when unknown. */
struct place_facts {
    char *base;             /* "/root/autodl-tmp/llmhost": our directory on the data disk */
    char *program;          /* the engine, as found; NULL: not there */
    char *version;          /* what it says of itself, its first line */
    char *log;
    char *models;           /* where its models are kept already, if somewhere */
    char *last_line;        /* of the log: why it ended; NULL: it does not say */
    char *last_words;       /* the last line of the log that is no line about a request */
    char *foreign;          /* it runs, and this llmhostd started it (store_daemon_id()); NULL: we did */
    char *owner;            /* it ended because its port was taken: by whom, "python3 (pid 77)" */
    bool unverified;        /* find: it was put there by us, and nobody knew its hash */
    bool other;             /* find: it runs, with other arguments than were asked about */
    bool is_ascend;         /* an NPU, and no NVIDIA card */
    int64_t pid;            /* of our server, -1: none runs */
    uint16_t port;
    /* As of a look. */
    bool restarted;         /* it ran before the machine was started anew, and has not since */
    bool stopped;           /* somebody sent it SIGSTOP */
    int64_t ended;          /* its exit status, 128 + signal; -1: it runs, or nobody knows */
    int64_t kills;          /* processes beside it that the kernel has killed since it began, for want of memory; -1: unknown */
    int64_t limit_bytes;    /* what they may use of the machine's memory, told when some were killed; -1: no such limit */
    int64_t layers, layers_on_gpu;      /* of llama.cpp's model, as its log says; -1: it does not */
    int64_t computed_ms;    /* CPU time of the server and all it started; -1: unknown */
    int64_t moved_bytes;    /* what they have read, and the memory they have, all in all; -1: unknown */
};

/* owner: who we are, one word; copied. NULL: nobody in particular, whose servers are everybody's. */
struct place *place_new(struct host *h, const char *owner);
struct place *place_free(struct place *p);         /* no step may be in flight */
const struct place_facts *place_facts(const struct place *p);

typedef void (*place_done_fn)(void *ctx, const struct fault *f);

/* server: a name for the files, [a-z0-9.-]; usual: further places of the program, separated by spaces, ~ is $HOME and BASE our
 * directory. path: look nowhere else (NULL: PATH and the usual ones). No program is no fault: facts.program is NULL. arguments: quoted
 * for sh, what the server should have been started with. */
void place_find(struct place *p, const char *server, const char *program, const char *usual, const char *path, const char *arguments,
                struct op **slot, place_done_fn done, void *ctx);
/* Starts the command line, in which @PORT@ stands for a free port of 127.0.0.1 and @BASE@ for our directory; environment likewise
 * ("NAME=value" words, quoted for sh by the caller); behind it stand the arguments, as they are. When the server runs already that is
 * all, unless it is the process hung_pid (0: none such), which is ended first. After find. */
void place_start(struct place *p, const char *server, const char *environment, const char *command, const char *arguments,
                 int64_t hung_pid, struct op **slot, place_done_fn done, void *ctx);
/* Is our server still that process? facts.pid is -1 when not, and last_line says why, if the log does. */
void place_look(struct place *p, const char *server, struct op **slot, place_done_fn done, void *ctx);
/* TERM, again after 5 s (llama-server needs it), KILL for the whole process group after 10 s, then what is left of its children, also
 * of a server that died before. Of a foreign one nothing ends: facts.foreign. Faults of start and stop: disk_full, engine_exited (no setsid, say), engine_stuck, busy. */
void place_stop(struct place *p, const char *server, struct op **slot, place_done_fn done, void *ctx);
