/* One HTTP request, one answer, on the loop. libcurl stays in http.c; it never resolves a name and never blocks. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/op.h"
#include "proto/buf.h"

struct addresses;
struct fault;
struct http;
struct loop;

struct http *http_new(struct loop *l);
struct http *http_free(struct http *h);         /* requests in flight are cancelled */

#define HTTP_ANSWER_BYTES_MAX (1u << 20)

/* Borrowed for the call. */
struct http_request {
    const char *method;             /* "GET", "POST", … */
    const char *unix_socket;        /* connect here (see forward_new_unix); NULL: to origin */
    const char *origin;             /* "https://HOST" or "http://HOST:PORT"; a certificate that is not HOST's ends it before a byte is sent */
    const struct addresses *addresses;      /* of origin's host: libcurl looks nothing up */
    const char *authorization;      /* value of this header, a secret; NULL: none */
    const char *path;               /* "/api/version" */
    const char *accept, *range;     /* values of these headers; NULL: none */
    const char *content_type;       /* NULL: application/json when there is a body */
    const void *body;
    size_t n_body;
    uint64_t timeout_ms;            /* whole; 0: 30 s; UINT64_MAX: none */
    uint64_t quiet_ms;              /* longest silence between two bytes; 0: none */
    /* A streamed answer: called with each piece of a 2xx body instead of collecting it. */
    void (*on_data)(void *ctx, const char *data, size_t n);
};

struct http_answer {
    int status;
    int64_t date_at_ms;             /* by the other side's clock, its header Date, in whole seconds; 0: not told */
    const char *redirect;           /* the whole URL it sends us to, which nobody follows by itself; NULL: nowhere */
    struct buf body;                /* up to HTTP_ANSWER_BYTES_MAX; more is FAULT_INVALID */
};

/* answer lasts for the call, NULL with a fault; an HTTP error status is an answer. Faults: FAULT_TRANSIENT with error
 * -ECONNREFUSED (nobody there), -ETIMEDOUT, -ECONNRESET; FAULT_DENIED with the code "certificate"; FAULT_UNCERTAIN when a POST was sent and the answer is not whole. To an
 * origin nothing but GET and HEAD is sent twice. */
typedef void (*http_done_fn)(void *ctx, struct http_answer *answer, const struct fault *f);
void http_start(struct http *h, const struct http_request *rq, struct op **slot, http_done_fn done, void *ctx);
