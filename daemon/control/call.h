/* One call: what was asked, by whom, and its replies. A call lives until its last reply is written or its caller has left. */
#pragma once

#include <stdbool.h>
#include <sys/types.h>

#include "control/control.h"
#include "proto/error.h"
#include "store/store.h"

struct call;
struct fault;
struct json;
struct op;

struct caller {
    pid_t pid;
    uid_t uid;
};

struct call {
    const struct control_context *context;
    struct control *control;
    const char *method;                 /* without the interface: "Up" */
    const struct json *parameters;      /* held against the contract already, names made real (target.h) */
    struct json *real;                  /* what they are in */
    bool more, oneway;
    struct caller caller;
    struct op *op;                      /* what the method waits for; cancelled with the call */
    void *state;                        /* the method's own */
    void (*drop)(struct call *c);       /* frees state; runs once, when the call is over for any reason. May be NULL */
    struct connection *connection;
    struct json *answer;                /* of call_reply_after(), until it is given */
    const char *not_durable;            /* likewise */
    void (*then)(struct call *c);       /* of call_if_kept() */
    bool over;                          /* the last reply was given */
};

/* The last reply; takes parameters. Whatever is answered afterwards is dropped. */
void call_reply(struct call *c, struct json *parameters);
/* The same, when t is on disk; takes c->op. not_durable: the sentence of the error when it cannot be written ("the forward works, but
 * is not on disk yet"); what was done stays done. */
void call_reply_after(struct call *c, store_ticket t, struct json *parameters, const char *not_durable);
/* then() when what it changes can be kept, which is at once, or after a try to write when the disk did not want to lately; else the
 * call is answered with the reason. Takes c->op until then. */
void call_if_kept(struct call *c, void (*then)(struct call *c));
/* The last reply is an error: WHAT, because of f, which the store says. */
void call_not_kept(struct call *c, const struct fault *f, const char *what);
/* One of several: only when c->more. False when the reader was too slow and the call is over. */
bool call_reply_more(struct call *c, struct json *parameters);

/* The last reply is an error of the contract. next: commands, one per line, "" for none. */
void call_fail(struct call *c, enum exit_status status, const char *code, const char *target, const char *why, const char *next,
               const char *format, ...) __attribute__((format(printf, 7, 8)));
/* The same for a fault: explain.h knows status and commands. what: the sentence in front ("gpu1 was not added"), or NULL. */
void call_fault(struct call *c, const struct fault *f, const char *target, const char *what);
/* The errors of org.varlink.service. */
void call_invalid_parameter(struct call *c, const char *parameter);
void call_method_not_found(struct call *c, const char *method);
void call_expected_more(struct call *c);

/* Of the calls that are under way beside c. */
bool call_any_other(const struct call *c, bool (*is)(const struct call *other, const struct call *c));
/* Logs a change that somebody asked for. */
void call_log_change(const struct call *c, const char *target, const char *format, ...) __attribute__((format(printf, 3, 4)));
