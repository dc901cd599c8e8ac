/* What request.c (the life of a request), request_ask.c (what it asks for), request_move.c (to which of several instances it goes),
 * request_beat.c (what it is sent while it waits), request_cure.c (an engine that is stuck) and request_tally.c (what is written down of it) share. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/fault.h"
#include "deployment/deployment.h"
#include "gateway/beat.h"
#include "gateway/relay.h"
#include "gateway/request.h"
#include "gateway/route.h"
#include "gateway/tokens.h"
#include "proto/buf.h"

struct body;
struct json_scan;
struct op;
struct timer;
struct upstream;

#define ANSWER_BYTES_MAX  (1u << 20) /* of our own, lists above all */
#define METRICS_BYTES_MAX (4u << 20)
#define REQUEST_DIAL_MS   5000       /* for connecting, beyond the hold */

enum request_step {
    REQUEST_READING,
    REQUEST_HELD,
    REQUEST_DIALING,
    REQUEST_PAUSING,
    REQUEST_SENT,
    REQUEST_CURING,
    REQUEST_LOST,
    REQUEST_OVER
};

struct request {
    struct gateway *gateway;
    struct client *client;
    const struct http1_head *head;
    struct route route;
    char from[ROUTE_CLIENT_MAX];
    const char *origin; /* an allowed one, NULL: no browser */
    enum request_step step;
    uint64_t turn;                 /* among the requests of its model */
    unsigned id, status;           /* status: of the answer that has begun, 0: none yet */
    uint64_t begun_due, first_due; /* arrival; first byte of the engine's answer, 0: none yet */
    uint64_t wait_ms;              /* the longest hold */
    uint64_t limit_due, again_due; /* 0: none */

    bool may_beat;                /* neither the settings nor its head forbid it */
    struct beats beats;           /* what to send while it waits */
    uint64_t asked_due, beat_due; /* its body was whole; the next beat */
    bool was_held;                /* longer than a moment, before it was sent */
    unsigned late_status;         /* of an engine's error after our 200, 0: none */
    struct buf late;              /* its body */

    struct json_scan *scan;
    int scan_error;
    struct body *body;

    struct deployment *deployment;    /* found and counted */
    struct deployment_use use;        /* by that */
    bool held, waiting;               /* as told to the deployment */
    bool streams;                     /* /api/pull: lines are wanted */
    enum deployment_state told_state; /* in its last line */
    unsigned told_fetch;              /* struct stage_view's changes */
    bool fresh;                       /* no connection that was used before */
    bool reused;                      /* this one was */
    unsigned server_number;
    uint64_t silent_due; /* when an engine that says nothing is looked at; 0: never */
    bool cured;          /* it was once; not again for this request */
    struct op *op;
    struct timer *timer;
    struct upstream *upstream;
    struct relay relay;
    struct tokens tokens;
    uint64_t request_bytes; /* of its body */
    struct fault last; /* of the last try to connect */
};

/* request.c: whole answers of our own; the request is over then. */
void request_reply(struct request *r, unsigned status, const char *type, const struct buf *body,
                   const char *fields);
void request_reply_made(struct request *r, const char *type, int error, struct buf *body);
void request_refuse(struct request *r, unsigned status, const char *code, const char *format, ...)
    __attribute__((format(printf, 4, 5)));
void request_refuse_with(struct request *r, unsigned status, const char *code, const char *fields,
                         const char *text);
/* From here on it counts as a request for d. */
void request_count(struct request *r, struct deployment *d);
/* To the engine, as soon as that can be. */
void request_hold(struct request *r);
/* The same, behind those that came before it. */
void request_wait(struct request *r);
/* What there is to say has been said; clean: the answer is whole, else the application must see that it is not. how: for the log, or NULL. */
void request_close(struct request *r, bool clean, const char *how);

/* It waits for bytes of the engine, or no longer. */
void request_set_waiting(struct request *r, bool waiting);

/* It has not gone out, or (again) it has. */
void request_set_held(struct request *r, bool held);

/* request_move.c */
/* It cannot go on where it is, and no engine has a byte of it: another deployment of that name, if there is one that is likely to
 * answer sooner, has it now (true). */
bool request_move(struct request *r);

/* request_cure.c */
/* It goes to an engine now. */
void request_watch(struct request *r);
/* silent_due has come: is the engine stuck? Then it is cured and asked again. */
void request_judge_silence(struct request *r);
/* It ends while an engine is at work for it, perhaps. */
void request_tell_abandoned(struct request *r);

/* request_beat.c */
/* The body is there; stream as beats_for() has it. */
void request_plan_beats(struct request *r, int stream);
/* It goes to an engine now. */
void request_beats_sent(struct request *r);
/* Is there a beat to come, at beat_due? */
bool request_beats(const struct request *r);
/* Sends it if it is due. */
void request_beat(struct request *r);
/* A line when the state is another; the last one, or the whole document. */
void request_pull_changed(struct request *r);
void request_pulled(struct request *r);
/* The engine's head after our 200 is dropped; an error in it is collected, and told at its end. */
void request_take_late_head(struct request *r, const struct http1_head *head);
void request_take_late_data(struct request *r, const char *data, size_t n);
void request_tell_late_error(struct request *r);

/* request_tally.c */
/* It is over: its line in the log, and its counts. how: NULL, or what became of it instead of an answer. */
void request_tally(const struct request *r, const char *how);
/* What Prometheus reads. */
int metrics_text(const struct gateway *g, struct buf *out);
