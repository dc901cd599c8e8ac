/* Look-ups run in libuv's thread pool, where getaddrinfo() can hang for as long as it likes. So two lives are
 * kept apart: that of the question (an op, with a deadline and an owner who may go) and that of the request
 * in the pool, which nothing can end. A question that gave up leaves its request behind; the request still
 * counts as in flight, since it holds a thread, and frees itself when the pool is done with it. What it found
 * then is still worth remembering.
 *
 * Two requests in flight and a queue behind them: a resolver that hangs must not take all threads from the
 * pool, and the deadline of those that wait runs from the question, not from its turn. */
#include "base/resolve.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netdb.h>

#include "base/fault.h"
#include "base/loop_private.h"
#include "base/op.h"
#include "base/timer.h"

#define IN_FLIGHT_MAX  2
#define REMEMBERED_MAX 64
#define DEADLINE_MS    5000
#define HOST_BYTES_MAX 256

struct resolver {
    struct loop *loop;
    struct list questions; /* all; those without a request wait for one, in this order */
    struct list requests;
    struct list memory; /* of the last good answers, newest first */
    unsigned in_flight, remembered;
};

struct question {
    struct list node;
    struct op op;
    struct resolver *resolver;
    char host[HOST_BYTES_MAX];
    uint16_t port;
    struct request *request; /* NULL: waits for its turn */
    struct timer *deadline;
    struct work work; /* answers what needs no look-up */
    struct addresses found;
    int error; /* EAI_… of what cannot be asked, 0: found is the answer */
    resolve_fn done;
    void *ctx;
};

struct request {
    struct list node;
    uv_getaddrinfo_t uv;
    struct resolver *resolver; /* NULL: has gone */
    struct question *question; /* NULL: gave up or was cancelled */
    char host[HOST_BYTES_MAX];
    uint16_t port;
};

struct memory {
    struct list node;
    char host[HOST_BYTES_MAX];
    uint16_t port;
    struct addresses found;
};

const char *address_format(const union address *a, char *out, size_t n)
{
    char ip[INET6_ADDRSTRLEN] = "?";

    if (a->any.sa_family == AF_INET)
        snprintf(out, n, "%s:%u", inet_ntop(AF_INET, &a->v4.sin_addr, ip, sizeof(ip)), ntohs(a->v4.sin_port));
    else if (a->any.sa_family == AF_INET6)
        snprintf(out, n, "[%s]:%u", inet_ntop(AF_INET6, &a->v6.sin6_addr, ip, sizeof(ip)),
                 ntohs(a->v6.sin6_port));
    else
        snprintf(out, n, "?");
    return out;
}

static bool numeric(const char *host, uint16_t port, struct addresses *ret)
{
    union address *a = &ret->at[0];

    *ret = (struct addresses){.n = 1};
    if (inet_pton(AF_INET, host, &a->v4.sin_addr) == 1) {
        a->v4.sin_family = AF_INET;
        a->v4.sin_port = htons(port);
    } else if (inet_pton(AF_INET6, host, &a->v6.sin6_addr) == 1) {
        a->v6.sin6_family = AF_INET6;
        a->v6.sin6_port = htons(port);
    } else {
        ret->n = 0;
    }
    return ret->n > 0;
}

/* Memory. */
static struct memory *recall(struct resolver *r, const char *host, uint16_t port)
{
    LIST_FOREACH (m, &r->memory, struct memory, node)
        if (m->port == port && streq(m->host, host))
            return m;
    return NULL;
}

static void forget(struct resolver *r, struct memory *m)
{
    list_remove(&m->node);
    r->remembered--;
    free(m);
}

static void remember(struct resolver *r, const char *host, uint16_t port, const struct addresses *found)
{
    struct memory *m = recall(r, host, port);

    if (m)
        forget(r, m);
    if (r->remembered == REMEMBERED_MAX)
        forget(r, CONTAINER_OF(r->memory.prev, struct memory, node));
    m = xnew(struct memory);
    strcpy(m->host, host);
    m->port = port;
    m->found = *found;
    list_prepend(&r->memory, &m->node);
    r->remembered++;
}

/* Questions. */
static void question_free(struct question *q)
{
    if (q->request)
        q->request->question = NULL;
    list_remove(&q->node);
    runq_drop(&q->work);
    timer_free(q->deadline);
    free(q);
}

static void question_cancel(struct op *op)
{
    question_free(CONTAINER_OF(op, struct question, op));
}

static void question_end(struct question *q, const struct addresses *found, const struct fault *f)
{
    struct addresses copy = found ? *found : (struct addresses){0};
    resolve_fn done = q->done;
    void *ctx = q->ctx;

    op_end(&q->op);
    question_free(q);
    done(ctx, found ? &copy : NULL, f);
}

/* "no such name" is an answer; everything else says that the resolver is away, and then old addresses are
 * better than none. */
static bool is_answer(int error)
{
    return error == EAI_NONAME || error == EAI_NODATA || error == EAI_ADDRFAMILY;
}

static void question_fail(struct question *q, int error)
{
    struct memory *m = is_answer(error) ? NULL : recall(q->resolver, q->host, q->port);
    struct fault f;

    if (m)
        return question_end(q, &m->found, NULL);
    if (error == 0)
        fault_set(&f, FAULT_TRANSIENT, -ETIMEDOUT, "look-up of %s: no answer in %d s", q->host,
                  DEADLINE_MS / 1000);
    else
        fault_set(&f, is_answer(error) ? FAULT_GONE : FAULT_TRANSIENT, 0, "look-up of %s: %s", q->host,
                  gai_strerror(error));
    question_end(q, NULL, &f);
}

static void question_on_deadline(void *ctx)
{
    question_fail(ctx, 0);
}

static void question_answer(void *ctx)
{
    struct question *q = ctx;

    if (q->error)
        question_fail(q, q->error);
    else
        question_end(q, &q->found, NULL);
}

/* Requests. */
static void copy_addresses(const struct addrinfo *list, uint16_t port, struct addresses *ret)
{
    *ret = (struct addresses){0};
    for (; list && ret->n < RESOLVE_ADDRESSES_MAX; list = list->ai_next) {
        union address *a = &ret->at[ret->n];

        if (list->ai_family == AF_INET && list->ai_addrlen == sizeof(a->v4)) {
            memcpy(&a->v4, list->ai_addr, sizeof(a->v4));
            a->v4.sin_port = htons(port);
            ret->n++;
        } else if (list->ai_family == AF_INET6 && list->ai_addrlen == sizeof(a->v6)) {
            memcpy(&a->v6, list->ai_addr, sizeof(a->v6));
            a->v6.sin6_port = htons(port);
            ret->n++;
        }
    }
}

/* libuv has numbers of its own (uv/errno.h); they end here. */
static int eai_of(int status)
{
    switch (status) {
    case UV_EAI_NONAME: return EAI_NONAME;
    case UV_EAI_NODATA: return EAI_NODATA;
    case UV_EAI_ADDRFAMILY: return EAI_ADDRFAMILY;
    case UV_EAI_AGAIN: return EAI_AGAIN;
    case UV_EAI_MEMORY: return EAI_MEMORY;
    default: return EAI_FAIL;
    }
}

static void start_waiting(struct resolver *r);

static void on_request(uv_getaddrinfo_t *uv, int status, struct addrinfo *list)
{
    struct request *request = CONTAINER_OF(uv, struct request, uv);
    struct resolver *r = request->resolver;
    struct question *q = request->question;
    struct addresses found;

    copy_addresses(list, request->port, &found);
    uv_freeaddrinfo(list);
    if (r) {
        list_remove(&request->node);
        r->in_flight--;
        if (status == 0 && found.n > 0)
            remember(r, request->host, request->port, &found);
    }
    free(request);
    if (!r)
        return;
    if (q) {
        q->request = NULL;
        list_remove(&q->node);      /* it waits for nothing any more */
    }
    start_waiting(r); /* before anybody is told: whoever it is may free the resolver */
    if (!q)
        return;
    if (status == 0 && found.n > 0)
        question_end(q, &found, NULL);
    else
        question_fail(q, status == 0 ? EAI_NODATA : eai_of(status));
}

static void request_start(struct question *q)
{
    static const struct addrinfo hints = {
        .ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM, .ai_flags = AI_ADDRCONFIG};
    struct resolver *r = q->resolver;
    struct request *request = xnew(struct request);

    request->resolver = r;
    strcpy(request->host, q->host);
    request->port = q->port;
    if (uv_getaddrinfo(&r->loop->uv, &request->uv, on_request, request->host, NULL, &hints) < 0) {
        free(request); /* a name that cannot be one */
        q->error = EAI_NONAME;
        runq_add(r->loop, &q->work);
        return;
    }
    request->question = q;
    q->request = request;
    list_append(&r->requests, &request->node);
    r->in_flight++;
}

/* A question whose answer is queued already needs no request. */
static void start_waiting(struct resolver *r)
{
    LIST_FOREACH (q, &r->questions, struct question, node) {
        if (r->in_flight >= IN_FLIGHT_MAX)
            return;
        if (!q->request && list_is_empty(&q->work.node))
            request_start(q);
    }
}

struct resolver *resolver_new(struct loop *l)
{
    struct resolver *r = xnew(struct resolver);

    r->loop = l;
    list_init(&r->questions);
    list_init(&r->requests);
    list_init(&r->memory);
    return r;
}

struct resolver *resolver_free(struct resolver *r)
{
    if (!r)
        return NULL;
    LIST_FOREACH_SAFE (q, &r->questions, struct question, node) {
        struct op **slot = q->op.slot;

        op_cancel(slot);
    }
    LIST_FOREACH_SAFE (request, &r->requests, struct request, node) {
        list_remove(&request->node);
        request->resolver = NULL;
        uv_cancel((uv_req_t *)&request->uv); /* helps when no thread has taken it yet */
    }
    LIST_FOREACH_SAFE (m, &r->memory, struct memory, node)
        forget(r, m);
    free(r);
    return NULL;
}

void resolve(struct resolver *r, const char *host, uint16_t port, struct op **slot, resolve_fn done,
             void *ctx)
{
    struct question *q = xnew(struct question);

    q->resolver = r;
    q->port = port;
    q->done = done;
    q->ctx = ctx;
    list_init(&q->node);
    list_append(&r->questions, &q->node);
    work_init(&q->work, question_answer, q);
    op_begin(&q->op, slot, question_cancel);
    snprintf(q->host, sizeof(q->host), "%s", host);
    if (numeric(host, port, &q->found)) {
        runq_add(r->loop, &q->work);
        return;
    }
    if (!*host || strlen(host) >= HOST_BYTES_MAX) {
        q->error = EAI_NONAME;
        runq_add(r->loop, &q->work);
        return;
    }
    q->deadline = timer_new(r->loop, question_on_deadline, q);
    timer_arm(q->deadline, DEADLINE_MS);
    start_waiting(r);
}
