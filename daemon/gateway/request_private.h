/* What request.c (the life of a request) and request_ask.c (what it asks for) share. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/fault.h"
#include "deployment/deployment.h"
#include "gateway/relay.h"
#include "gateway/request.h"
#include "gateway/route.h"

struct body;
struct buf;
struct json_scan;
struct op;
struct timer;
struct upstream;

#define ANSWER_BYTES_MAX (1u << 20) /* of our own, lists above all */

enum request_step {
    REQUEST_READING,
    REQUEST_HELD,
    REQUEST_DIALING,
    REQUEST_PAUSING,
    REQUEST_SENT,
    REQUEST_OVER
};

struct request {
    struct gateway *gateway;
    struct client *client;
    const struct http1_head *head;
    struct route route;
    const char *origin; /* an allowed one, NULL: no browser */
    enum request_step step;
    unsigned id, status;           /* status: of the answer that has begun, 0: none yet */
    uint64_t begun_due, first_due; /* arrival; first byte of the answer */
    uint64_t wait_ms;              /* the longest hold */
    uint64_t limit_due, again_due; /* 0: none */

    struct json_scan *scan;
    int scan_error;
    struct body *body;

    struct deployment *deployment;    /* found and counted */
    bool held, waiting;               /* as told to the deployment */
    bool streams;                     /* /api/pull: lines are wanted */
    enum deployment_state told_state; /* in its last line */
    bool fresh;                       /* no connection that was used before */
    bool reused;                      /* this one was */
    unsigned server_number;
    struct op *op;
    struct timer *timer;
    struct upstream *upstream;
    struct relay relay;
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
