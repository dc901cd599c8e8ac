/* The way to the daemon: find its socket, make a call, read replies until the last. Blocking, with an end to every wait:
 * the daemon goes away (the socket closes), the daemon is there but does not answer (a second connection asks it after a
 * silence), the caller's limit, Ctrl-C.
 *
 * The socket is the one named (-s), else $LLMHOST_SOCKET, else the user's ($XDG_RUNTIME_DIR/llmhost/control or
 * /tmp/llmhost-UID/control), else /run/llmhost/control. A folder below /tmp counts only when it is ours and closed to others. */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "proto/error.h"
#include "proto/json.h"

struct connection;

/* named may be NULL. EXIT_NO_DAEMON: *ret_error says why and what to do, caller frees. */
enum exit_status connection_open(const char *named, struct connection **ret, struct json **ret_error);
struct connection *connection_free(struct connection *c);
DEFINE_CLEANUP(struct connection *, connection_free)
const char *connection_socket(const struct connection *c);
pid_t connection_daemon_pid(const struct connection *c);
/* Replies as they came; else control characters are taken out of all texts, so that what an engine or a far host wrote cannot
 * steer the terminal it is shown on. */
void connection_set_verbatim(struct connection *c, bool verbatim);
/* After how much silence the daemon is asked whether it lives, and how long that answer may take. Default 30 s and 10 s. */
void connection_set_patience(struct connection *c, uint64_t silence_ms, uint64_t answer_ms);

typedef void (*call_reply_fn)(void *ctx, const struct json *reply);
typedef void (*call_tick_fn)(void *ctx);

struct call {
    const char *method;             /* "Up"; with a dot in it: the full name */
    struct json *parameters;        /* owned by the call; NULL: none */
    const char *needs;              /* what the last answer must have beyond the contract: an answer without it is none; NULL */
    bool more;
    bool secret;                    /* the answer has one: taken as it came, and overwritten where it was read */
    uint64_t limit_ms;              /* 0: as long as the daemon lives */
    call_reply_fn on_reply;         /* each reply but the last; may be NULL */
    call_tick_fn on_tick;           /* every tick_ms while waiting; may be NULL */
    uint64_t tick_ms;
    void *ctx;
    bool heard;                     /* a reply that was not the last has come */
    struct json *answer;            /* EXIT_DONE: the last reply */
    struct json *error;             /* what an error carries, with "exit"; NULL when interrupted */
};

/* Makes the call and waits for its end. EXIT_INTERRUPTED: Ctrl-C; the connection is of no use then. */
enum exit_status connection_run(struct connection *c, struct call *call);
/* Overwrites the secrets in parameters and answer. */
void call_wipe(struct call *call);
/* As call_wipe(), and frees parameters, answer and error. */
void call_done(struct call *call);
#define _cleanup_call_ _cleanup_(call_done)

/* Milliseconds that only ever rise, also through a sleep of this machine. */
uint64_t steady_now_ms(void);
