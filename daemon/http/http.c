/* libcurl's multi interface, driven by our watches and one timer of ours. curl says which descriptors and
 * which delay it wants, we say what is ready; what is finished is then read off its list, outside of curl, so
 * that done() may start, cancel and free as it likes. From inside curl (a body that streams) that is not
 * allowed: there, what is cancelled or started is put aside until curl has returned.
 *
 * Deadlines are timers of our own, on the clock that goes on while the machine sleeps. */
#include "http/http.h"

#include <arpa/inet.h>
#include <curl/curl.h>
#include <errno.h>
#include <inttypes.h>

#include "base/clock.h"
#include "base/fault.h"
#include "base/loop.h"
#include "base/resolve.h"
#include "base/timer.h"
#include "base/watch.h"
#include "proto/mem.h"
#include "proto/text.h"

#define TIMEOUT_MS      30000
#define CONNECT_MS      10000L
#define CONNECTIONS_MAX 32L /* kept open for the next request */

struct http {
    struct loop *loop;
    CURLM *multi;
    struct timer *timer;  /* curl's */
    struct list requests; /* in flight */
    struct list starting; /* put aside: not with curl yet */
    struct list dead;     /* put aside: cancelled, still with curl */
    struct list sockets;
    unsigned inside; /* calls of curl or of done() on the stack */
    bool is_freed;   /* from inside */
};

struct http_socket {
    struct list node;
    struct http *http;
    struct watch *watch;
    curl_socket_t fd;
};

struct request {
    struct op op;
    struct list node;
    struct http *http;
    CURL *easy;
    struct curl_slist *headers, *resolved;
    struct timer *timer;
    char *name; /* "POST /api/pull", for sentences */
    bool is_with_curl, is_dead;
    bool is_secret;     /* it carried a token: what came back may hold more of the kind */
    bool is_repeatable; /* asking twice does no harm */
    bool has_head;      /* the answer's, to its end */
    int64_t date_at_ms; /* what its head says; 0: nothing */
    uint64_t timeout_ms, whole_due, quiet_ms, byte_due; /* byte_due: when the last byte came */
    struct buf body;
    struct fault fault; /* kind set: why it could not begin, or why we ended it */
    void (*on_data)(void *ctx, const char *data, size_t n);
    http_done_fn done;
    void *ctx;
};

/* ---- putting aside ---- */

static struct http *http_destroy(struct http *h);

static void request_free(struct request *rq)
{
    list_remove(&rq->node);
    timer_free(rq->timer);
    if (rq->is_with_curl)
        curl_multi_remove_handle(rq->http->multi, rq->easy);
    curl_easy_cleanup(rq->easy);
    for (struct curl_slist *line = rq->headers; line; line = line->next)
        explicit_bzero(line->data, strlen(line->data)); /* one of them may be a token */
    curl_slist_free_all(rq->headers);
    curl_slist_free_all(rq->resolved);
    if (rq->is_secret)
        buf_wipe(&rq->body);
    else
        buf_done(&rq->body);
    free(rq->name);
    free(rq);
}

static void request_begin(struct request *rq)
{
    list_remove(&rq->node);
    list_append(&rq->http->requests, &rq->node);
    if (rq->fault.kind != FAULT_NONE)
        return; /* its timer reports it */
    if (curl_multi_add_handle(rq->http->multi, rq->easy) == CURLM_OK) {
        rq->is_with_curl = true;
        return;
    }
    fault_set(&rq->fault, FAULT_EXHAUSTED, -ENOMEM, "%s: no memory", rq->name);
    timer_arm(rq->timer, 0);
}

static void http_enter(struct http *h)
{
    h->inside++;
}

static void http_leave(struct http *h)
{
    struct request *rq;

    if (--h->inside > 0)
        return;
    while ((rq = LIST_FIRST(&h->dead, struct request, node)))
        request_free(rq);
    if (h->is_freed) {
        http_destroy(h);
        return;
    }
    while ((rq = LIST_FIRST(&h->starting, struct request, node)))
        request_begin(rq);
}

static void request_cancel(struct op *op)
{
    struct request *rq = CONTAINER_OF(op, struct request, op);

    if (rq->http->inside == 0) {
        request_free(rq);
        return;
    }
    rq->is_dead = true;
    timer_disarm(rq->timer);
    list_remove(&rq->node);
    list_append(&rq->http->dead, &rq->node);
}

/* ---- the end of a request ---- */

/* f NULL: the answer is whole. rq is gone afterwards. From inside http_enter() and http_leave(). */
static void request_end(struct request *rq, const struct fault *f)
{
    struct http_answer answer = {0};
    long status = 0;

    curl_easy_getinfo(rq->easy, CURLINFO_RESPONSE_CODE, &status);
    answer.status = (int)status;
    answer.date_at_ms = rq->date_at_ms;
    curl_easy_getinfo(rq->easy, CURLINFO_REDIRECT_URL, (char **)&answer.redirect);
    answer.body = rq->body;
    buf_init(&rq->body, 0);
    op_end(&rq->op);
    list_remove(&rq->node);
    timer_disarm(rq->timer);
    rq->done(rq->ctx, f ? NULL : &answer, f);
    if (rq->is_secret)
        buf_wipe(&answer.body);
    else
        buf_done(&answer.body);
    request_free(rq);
}

/* Whether they may have acted on it. */
static enum fault_kind kind_of_loss(const struct request *rq)
{
    long sent = 0;

    curl_easy_getinfo(rq->easy, CURLINFO_REQUEST_SIZE, &sent);
    return sent > 0 && !rq->is_repeatable ? FAULT_UNCERTAIN : FAULT_TRANSIENT;
}

/* It makes no sense; but what was asked may have been done. */
static enum fault_kind kind_of_nonsense(const struct request *rq)
{
    return kind_of_loss(rq) == FAULT_UNCERTAIN ? FAULT_UNCERTAIN : FAULT_INVALID;
}

/* A path that is not there is an engine that does not run, like a port where nobody listens. */
static void fault_of_connect(const struct request *rq, struct fault *f)
{
    long error = 0;

    curl_easy_getinfo(rq->easy, CURLINFO_OS_ERRNO, &error);
    if (error == 0 || error == ECONNREFUSED || error == ENOENT)
        fault_set(f, FAULT_TRANSIENT, -ECONNREFUSED, "%s: nobody there, connection refused", rq->name);
    else
        fault_set(f, FAULT_TRANSIENT, -(int)error, "%s: no connection (%s)", rq->name, strerror((int)error));
}

static void fault_of_code(const struct request *rq, CURLcode code, struct fault *f)
{
    switch (code) {
    case CURLE_COULDNT_CONNECT: fault_of_connect(rq, f); break;
    case CURLE_SEND_ERROR:
    case CURLE_RECV_ERROR:
    case CURLE_GOT_NOTHING:
        fault_set(f, kind_of_loss(rq), -ECONNRESET, "%s: the connection was cut before an answer", rq->name);
        break;
    case CURLE_PARTIAL_FILE:
        fault_set(f, kind_of_loss(rq), -ECONNRESET, "%s: the connection was cut in the middle of the answer",
                  rq->name);
        break;
    case CURLE_OPERATION_TIMEDOUT: /* the one limit that is curl's */
        fault_set(f, kind_of_loss(rq), -ETIMEDOUT, "%s: no connection within %ld s", rq->name,
                  CONNECT_MS / 1000);
        break;
    case CURLE_SSL_CONNECT_ERROR: /* any failure of the handshake, a cut one too */
        fault_set(f, FAULT_TRANSIENT, -ECONNRESET, "%s: no TLS (%s)", rq->name, curl_easy_strerror(code));
        break;
    case CURLE_SSL_CACERT_BADFILE:
        fault_code(f, FAULT_DENIED, "certificate", "%s: the certificates of this computer cannot be read",
                   rq->name);
        break;
    case CURLE_PEER_FAILED_VERIFICATION:
        fault_code(f, FAULT_DENIED, "certificate", "%s: the other side is not who it should be (%s)",
                   rq->name, curl_easy_strerror(code));
        break;
    case CURLE_OUT_OF_MEMORY: fault_set(f, FAULT_EXHAUSTED, -ENOMEM, "%s: no memory", rq->name); break;
    default:
        fault_set(f, kind_of_nonsense(rq), -EPROTO, "%s: no sensible answer (%s)", rq->name,
                  curl_easy_strerror(code));
        break;
    }
}

static void request_over(struct request *rq, CURLcode code)
{
    struct fault f = rq->fault; /* ours comes first: curl only knows that we ended it */

    if (code == CURLE_OK && !rq->has_head)
        code = CURLE_GOT_NOTHING; /* cut inside the head: curl takes that for an answer without a body */
    if (f.kind == FAULT_NONE && code != CURLE_OK)
        fault_of_code(rq, code, &f);
    request_end(rq, f.kind != FAULT_NONE ? &f : NULL);
}

static void request_arm(struct request *rq)
{
    uint64_t quiet_due = rq->quiet_ms ? rq->byte_due + rq->quiet_ms : UINT64_MAX;
    uint64_t due = MIN(rq->whole_due, quiet_due);

    if (due != UINT64_MAX)
        timer_arm_at(rq->timer, due);
}

/* Bytes only note their time; the timer looks whether it was quiet. */
static void request_on_timer(void *ctx)
{
    struct request *rq = ctx;
    struct http *h = rq->http;
    uint64_t now = clock_now_ms();
    char text[TEXT_SHORT_MAX];
    struct fault f = rq->fault;

    if (f.kind == FAULT_NONE && now >= rq->whole_due)
        fault_set(&f, kind_of_loss(rq), -ETIMEDOUT, "%s: no answer within %s", rq->name,
                  duration_format(text, rq->timeout_ms, true));
    else if (f.kind == FAULT_NONE && rq->quiet_ms && now - rq->byte_due >= rq->quiet_ms)
        fault_set(&f, kind_of_loss(rq), -ETIMEDOUT, "%s: nothing came for %s", rq->name,
                  duration_format(text, rq->quiet_ms, true));
    if (f.kind == FAULT_NONE) {
        request_arm(rq);
        return;
    }
    http_enter(h);
    request_end(rq, &f);
    http_leave(h);
}

/* ---- called by curl ---- */

/* Its time may be nonsense; who reads it judges it. */
static int64_t date_of_line(const char *line, size_t n)
{
    char date[64];

    if (n < 5 || n - 5 >= sizeof date || strncasecmp(line, "Date:", 5) != 0)
        return 0;
    memcpy(date, line + 5, n - 5);
    date[n - 5] = '\0';
    return MAX((int64_t)curl_getdate(date, NULL), (int64_t)0) * 1000;
}

/* Line by line; the last is empty. An interim answer (1xx) is followed by another head, a chunked body may be
 * by further lines. */
static size_t request_on_header(char *data, size_t size, size_t n, void *ctx)
{
    struct request *rq = ctx;

    n *= size;
    rq->byte_due = clock_now_ms();
    if (n >= 5 && memcmp(data, "HTTP/", 5) == 0)
        rq->has_head = false;
    else if (n > 0 && (data[0] == '\r' || data[0] == '\n'))
        rq->has_head = true;
    else if (!rq->has_head && date_of_line(data, n))
        rq->date_at_ms = date_of_line(data, n);
    return n;
}

/* Anything but n ends the request. */
static size_t request_on_body(char *data, size_t size, size_t n, void *ctx)
{
    struct request *rq = ctx;
    long status = 0;

    n *= size;
    if (rq->is_dead)
        return 0;
    rq->byte_due = clock_now_ms();
    curl_easy_getinfo(rq->easy, CURLINFO_RESPONSE_CODE, &status);
    if (rq->on_data && status / 100 == 2) {
        rq->on_data(rq->ctx, data, n);
        return rq->is_dead ? 0 : n;
    }
    if (buf_add(&rq->body, data, n) == 0)
        return n;
    fault_set(&rq->fault, kind_of_nonsense(rq), -EMSGSIZE, "%s: the answer is longer than %u KiB", rq->name,
              HTTP_ANSWER_BYTES_MAX >> 10);
    return 0;
}

static void collect(struct http *h)
{
    CURLMsg *m;
    int left;

    while (!h->is_freed && (m = curl_multi_info_read(h->multi, &left))) {
        CURLcode code = m->data.result;
        struct request *rq = NULL;

        if (m->msg != CURLMSG_DONE)
            continue;
        curl_easy_getinfo(m->easy_handle, CURLINFO_PRIVATE, (char **)&rq);
        curl_multi_remove_handle(h->multi, rq->easy); /* m is gone now */
        rq->is_with_curl = false;
        if (!rq->is_dead)
            request_over(rq, code);
    }
}

static void http_act(struct http *h, curl_socket_t fd, int what)
{
    int running;

    http_enter(h);
    curl_multi_socket_action(h->multi, fd, what, &running);
    collect(h);
    http_leave(h);
}

static void socket_on_ready(void *ctx, unsigned events)
{
    struct http_socket *s = ctx;

    http_act(s->http, s->fd,
             (events & WATCH_IN ? CURL_CSELECT_IN : 0) | (events & WATCH_OUT ? CURL_CSELECT_OUT : 0));
}

static struct http_socket *socket_free(struct http_socket *s)
{
    list_remove(&s->node);
    watch_free(s->watch, false); /* curl closes it, after this */
    free(s);
    return NULL;
}

static int on_socket(CURL *easy, curl_socket_t fd, int what, void *ctx, void *of_socket)
{
    struct http_socket *s = of_socket;
    struct http *h = ctx;

    (void)easy;
    if (what == CURL_POLL_REMOVE) {
        if (s)
            socket_free(s);
        return 0;
    }
    if (!s) {
        s = xnew(struct http_socket);
        s->http = h;
        s->fd = fd;
        s->watch = watch_new(h->loop, fd, socket_on_ready, s);
        list_append(&h->sockets, &s->node);
        curl_multi_assign(h->multi, fd, s);
    }
    watch_want(s->watch, (what & CURL_POLL_IN ? WATCH_IN : 0) | (what & CURL_POLL_OUT ? WATCH_OUT : 0));
    return 0;
}

/* Never acts itself: curl is in the middle of something. */
static int on_delay(CURLM *multi, long delay_ms, void *ctx)
{
    struct http *h = ctx;

    (void)multi;
    if (delay_ms < 0)
        timer_disarm(h->timer);
    else
        timer_arm(h->timer, (uint64_t)delay_ms);
    return 0;
}

static void http_on_timer(void *ctx)
{
    http_act(ctx, CURL_SOCKET_TIMEOUT, 0);
}

/* ---- starting ---- */

static bool is_path(const char *path)
{
    if (path[0] != '/')
        return false;
    for (const unsigned char *p = (const unsigned char *)path; *p; p++)
        if (*p <= ' ' || *p == 0x7f || *p == '#')
            return false;
    return true;
}

/* name with its colon; an empty value leaves the header out. */
static void add_header(struct request *rq, const char *name, const char *value)
{
    _cleanup_free_ char *line = xasprintf("%s%s%s", name, *value ? " " : "", value);
    struct curl_slist *longer = curl_slist_append(rq->headers, line);

    if (!longer)
        abort();
    rq->headers = longer;
    explicit_bzero(line, strlen(line));
}

static bool find_port(const char *origin, const char **ret_host, size_t *ret_n, unsigned *ret_port)
{
    bool tls = strncmp(origin, "https://", 8) == 0;
    const char *host = origin + (tls ? 8 : 7), *end;

    if (!tls && strncmp(origin, "http://", 7) != 0)
        return false;
    end = host + strcspn(host, ":/?#@[");
    *ret_host = host;
    *ret_n = (size_t)(end - host);
    *ret_port = tls ? 443 : 80;
    if (*end == ':') {
        char *rest;
        unsigned long port = strtoul(end + 1, &rest, 10);

        if (*rest || port == 0 || port > 65535)
            return false;
        *ret_port = (unsigned)port;
    } else if (*end) {
        return false;
    }
    return end > host;
}

/* "HOST:PORT:ADDRESS,ADDRESS": all that curl knows of names. False: origin is none, or there is no address.
 */
static bool set_addresses(struct request *rq, const char *origin, const struct addresses *found)
{
    struct buf line;
    const char *host;
    unsigned port;
    size_t n;

    if (!found || found->n == 0 || !find_port(origin, &host, &n, &port))
        return false;
    buf_init(&line, 4096);
    buf_addf(&line, "%.*s:%u:", (int)n, host, port);
    for (unsigned i = 0; i < found->n; i++) {
        const union address *a = &found->at[i];
        char text[INET6_ADDRSTRLEN];

        if (a->any.sa_family == AF_INET6)
            inet_ntop(AF_INET6, &a->v6.sin6_addr, text, sizeof text);
        else
            inet_ntop(AF_INET, &a->v4.sin_addr, text, sizeof text);
        buf_addf(&line, a->any.sa_family == AF_INET6 ? "%s[%s]" : "%s%s", i ? "," : "", text);
    }
    rq->resolved = curl_slist_append(NULL, buf_text(&line));
    buf_done(&line);
    if (!rq->resolved)
        abort();
    curl_easy_setopt(rq->easy, CURLOPT_RESOLVE, rq->resolved);
    return true;
}

/* No proxy, no redirect, no netrc, no cookies, no name looked up, no signal: this request and nothing else.
 */
static bool set_connection(struct request *rq, const struct http_request *from)
{
    _cleanup_free_ char *url =
        xasprintf("%s%s", from->unix_socket ? "http://localhost" : from->origin, from->path);

    curl_easy_setopt(rq->easy, CURLOPT_URL, url);
    if (from->unix_socket)
        curl_easy_setopt(rq->easy, CURLOPT_UNIX_SOCKET_PATH, from->unix_socket);
    curl_easy_setopt(rq->easy, CURLOPT_PATH_AS_IS, 1L);
    curl_easy_setopt(rq->easy, CURLOPT_PROXY, "");
    curl_easy_setopt(rq->easy, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(rq->easy, CURLOPT_PROTOCOLS_STR, "http,https");
    curl_easy_setopt(rq->easy, CURLOPT_FOLLOWLOCATION, 0L);
    curl_easy_setopt(rq->easy, CURLOPT_CONNECTTIMEOUT_MS, CONNECT_MS);
    curl_easy_setopt(rq->easy, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
    curl_easy_setopt(rq->easy, CURLOPT_USERAGENT, "llmhostd/" LLMHOST_VERSION);
    /* Where a connection that was used before ends without an answer, curl asks again by itself, also with a
     * POST. An engine may be asked twice; a machine would be rented twice. */
    if (!rq->is_repeatable && !from->unix_socket)
        curl_easy_setopt(rq->easy, CURLOPT_FRESH_CONNECT, 1L);
    rq->is_secret = from->authorization;
    if (from->authorization)
        add_header(rq, "Authorization:", from->authorization);
    if (from->accept)
        add_header(rq, "Accept:", from->accept);
    if (from->range)
        add_header(rq, "Range:", from->range);
    return from->unix_socket || set_addresses(rq, from->origin, from->addresses);
}

static void set_body(struct request *rq, const struct http_request *from)
{
    bool has_body = from->body && from->n_body > 0;

    if (streq(from->method, "HEAD")) {
        curl_easy_setopt(rq->easy, CURLOPT_NOBODY, 1L);
        return;
    }
    if (has_body || streq(from->method, "POST")) {
        curl_easy_setopt(rq->easy, CURLOPT_POST, 1L);
        curl_easy_setopt(rq->easy, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)from->n_body);
        curl_easy_setopt(rq->easy, CURLOPT_COPYPOSTFIELDS, has_body ? from->body : "");
        add_header(rq, "Content-Type:", from->content_type ? from->content_type : "application/json");
        add_header(rq, "Expect:", "");
    }
    curl_easy_setopt(rq->easy, CURLOPT_CUSTOMREQUEST, from->method);
}

static void set_callbacks(struct request *rq)
{
    curl_easy_setopt(rq->easy, CURLOPT_PRIVATE, rq);
    curl_easy_setopt(rq->easy, CURLOPT_WRITEFUNCTION, request_on_body);
    curl_easy_setopt(rq->easy, CURLOPT_WRITEDATA, rq);
    curl_easy_setopt(rq->easy, CURLOPT_HEADERFUNCTION, request_on_header);
    curl_easy_setopt(rq->easy, CURLOPT_HEADERDATA, rq);
    curl_easy_setopt(rq->easy, CURLOPT_HTTPHEADER, rq->headers);
}

static void set_deadlines(struct request *rq, const struct http_request *from)
{
    uint64_t now = clock_now_ms();

    rq->timeout_ms = from->timeout_ms ? from->timeout_ms : TIMEOUT_MS;
    rq->whole_due = rq->timeout_ms > UINT64_MAX - now ? UINT64_MAX : now + rq->timeout_ms;
    rq->quiet_ms = from->quiet_ms > UINT64_MAX / 2 ? 0 : from->quiet_ms;
    rq->byte_due = now;
    request_arm(rq);
}

void http_start(struct http *h, const struct http_request *from, struct op **slot, http_done_fn done,
                void *ctx)
{
    struct request *rq = xnew(struct request);

    rq->http = h;
    rq->easy = curl_easy_init();
    if (!rq->easy)
        abort();
    rq->timer = timer_new(h->loop, request_on_timer, rq);
    rq->name = xasprintf("%s %s", from->method, from->path);
    rq->is_repeatable = streq(from->method, "GET") || streq(from->method, "HEAD");
    rq->on_data = from->on_data;
    rq->done = done;
    rq->ctx = ctx;
    buf_init(&rq->body, HTTP_ANSWER_BYTES_MAX);
    bool has_way = set_connection(rq, from);

    set_body(rq, from);
    set_callbacks(rq);
    set_deadlines(rq, from);
    if (!is_path(from->path))
        fault_set(&rq->fault, FAULT_INVALID, -EINVAL, "%s: not a path", rq->name);
    else if (!has_way)
        fault_set(&rq->fault, FAULT_INVALID, -EINVAL, "%s: %.100s is not https://HOST with an address",
                  rq->name, from->origin);
    if (rq->fault.kind)
        timer_arm(rq->timer, 0);
    op_begin(&rq->op, slot, request_cancel);
    list_append(&h->starting, &rq->node);
    if (h->inside == 0)
        request_begin(rq);
}

/* ---- all of it ---- */

struct http *http_new(struct loop *l)
{
    struct http *h = xnew(struct http);

    if (curl_global_init(CURL_GLOBAL_NOTHING) != CURLE_OK) /* no TLS here: nothing to set up for it */
        abort();
    h->loop = l;
    h->multi = curl_multi_init();
    if (!h->multi)
        abort();
    list_init(&h->requests);
    list_init(&h->starting);
    list_init(&h->dead);
    list_init(&h->sockets);
    h->timer = timer_new(l, http_on_timer, h);
    curl_multi_setopt(h->multi, CURLMOPT_SOCKETFUNCTION, on_socket);
    curl_multi_setopt(h->multi, CURLMOPT_SOCKETDATA, h);
    curl_multi_setopt(h->multi, CURLMOPT_TIMERFUNCTION, on_delay);
    curl_multi_setopt(h->multi, CURLMOPT_TIMERDATA, h);
    curl_multi_setopt(h->multi, CURLMOPT_MAXCONNECTS, CONNECTIONS_MAX);
    return h;
}

static struct http *http_destroy(struct http *h)
{
    curl_multi_cleanup(h->multi);
    LIST_FOREACH_SAFE (s, &h->sockets, struct http_socket, node)
        socket_free(s);
    timer_free(h->timer);
    curl_global_cleanup();
    free(h);
    return NULL;
}

struct http *http_free(struct http *h)
{
    if (!h)
        return NULL;
    LIST_FOREACH_SAFE (rq, &h->requests, struct request, node)
        op_cancel(rq->op.slot);
    LIST_FOREACH_SAFE (rq, &h->starting, struct request, node)
        op_cancel(rq->op.slot);
    if (h->inside == 0)
        return http_destroy(h);
    h->is_freed = true; /* http_leave() does the rest */
    return NULL;
}
