/* The session of libssh2 and everything around it that is not a procedure: memory, two buffers, the socket,
 * one run per turn of the loop, the end.
 *
 * libssh2 reads c->in and writes c->out through its callbacks. A send always takes everything, so no packet
 * is ever half sent; in turn we stop producing above a mark. Whatever happens (bytes, timers, new work) only
 * makes the connection dirty; conn_run() then does all there is to do, once. */
#include <errno.h>
#include <netinet/tcp.h>
#include <sys/mman.h>

#include "base/clock.h"
#include "base/timer.h"
#include "base/watch.h"
#include "ssh/conn_private.h"

#define FREE_ROUNDS_MAX 1000

/* Memory of one session, on a list: libssh2 1.10 loses some when a key exchange is cut off (64 bytes each),
 * and a daemon that retries for ever cannot. Overwritten before it is freed while passwords travel. */
struct block {
    struct list node;
    size_t n;
    max_align_t data[];
};

void *conn_alloc(size_t n, void **abstract)
{
    struct ssh_conn *c = *abstract;
    struct block *b = malloc(sizeof(*b) + n);

    if (!b)
        return NULL;
    b->n = n;
    list_append(&c->blocks, &b->node);
    return b->data;
}

static void block_free(struct ssh_conn *c, struct block *b)
{
    list_remove(&b->node);
    if (c->step < CONN_UP)
        wipe(b->data, b->n);
    free(b);
}

static void conn_release(void *p, void **abstract)
{
    if (p)
        block_free(*abstract, CONTAINER_OF(p, struct block, data));
}

static void *conn_realloc(void *p, size_t n, void **abstract)
{
    struct block *old = p ? CONTAINER_OF(p, struct block, data) : NULL;
    void *grown = conn_alloc(n, abstract);

    if (grown && old) {
        memcpy(grown, p, MIN(n, old->n));
        block_free(*abstract, old);
    }
    return grown;
}

/* Negative errno, not -1: to libssh2 only -EAGAIN means "later". */
static ssize_t conn_on_recv(libssh2_socket_t fd, void *to, size_t n, int flags, void **abstract)
{
    struct ssh_conn *c = *abstract;
    size_t taken = MIN(n, c->in.len);

    (void)fd;
    (void)flags;
    if (c->broken)
        return -ECONNRESET;
    if (taken == 0)
        return !c->eof ? -EAGAIN : c->receive_error;
    memcpy(to, c->in.data, taken);
    kex_overhear(c, taken);
    buf_drop(&c->in, taken);
    return (ssize_t)taken;
}

static ssize_t conn_on_send(libssh2_socket_t fd, const void *from, size_t n, int flags, void **abstract)
{
    struct ssh_conn *c = *abstract;

    (void)fd;
    (void)flags;
    if (!c->broken && buf_add(&c->out, from, n) < 0)
        return -ENOBUFS;
    return (ssize_t)n;
}

/* The peer's last words say more than any error number of libssh2. */
static LIBSSH2_DISCONNECT_FUNC(conn_on_disconnect)
{
    struct ssh_conn *c = *abstract;

    (void)session;
    (void)reason;
    (void)language;
    (void)language_len;
    snprintf(c->last_words, sizeof(c->last_words), "%.*s", message ? message_len : 0, message ? message : "");
}

static void set_callbacks(LIBSSH2_SESSION *ssh)
{
#if LIBSSH2_VERSION_NUM >= 0x010b01
    libssh2_session_callback_set2(ssh, LIBSSH2_CALLBACK_RECV, (libssh2_cb_generic *)conn_on_recv);
    libssh2_session_callback_set2(ssh, LIBSSH2_CALLBACK_SEND, (libssh2_cb_generic *)conn_on_send);
    libssh2_session_callback_set2(ssh, LIBSSH2_CALLBACK_DISCONNECT, (libssh2_cb_generic *)conn_on_disconnect);
#else
    libssh2_session_callback_set(ssh, LIBSSH2_CALLBACK_RECV, (void *)conn_on_recv);
    libssh2_session_callback_set(ssh, LIBSSH2_CALLBACK_SEND, (void *)conn_on_send);
    libssh2_session_callback_set(ssh, LIBSSH2_CALLBACK_DISCONNECT, (void *)conn_on_disconnect);
#endif
}

static bool is_zero(const char *at, size_t n)
{
    return at[0] == '\0' && memcmp(at, at + 1, n - 1) == 0;
}

/* libssh2 clears its whole session, 52 KiB. Most of that are two buffers for the largest packets there can be,
 * and one that moves small ones fills only their beginning. A page of zeros reads the same when the kernel has
 * it back. */
static void give_back_zeros(struct block *b)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    char *end = (char *)b->data + b->n;

    for (char *at = (char *)(((uintptr_t)b->data + page - 1) / page * page); at + page <= end; at += page)
        if (is_zero(at, page))
            (void)madvise(at, page, MADV_DONTNEED);
}

static void session_begin(struct ssh_conn *c)
{
    c->ssh = libssh2_session_init_ex(conn_alloc, conn_release, conn_realloc, c);
    if (!c->ssh)
        abort(); /* no memory */
    give_back_zeros(CONTAINER_OF((void *)c->ssh, struct block, data));
    libssh2_session_set_blocking(c->ssh, 0);
    set_callbacks(c->ssh);
}

void conn_connected(struct ssh_conn *c, int fd, struct watch *w)
{
    static bool initialised;

    if (!initialised && libssh2_init(0) == 0)
        initialised = true;
    c->fd = fd;
    c->watch = w;
    session_begin(c);
    kex_prefer(c);
    c->last_contact_due = clock_now_ms();
    c->quick_ack = true;
    c->step = CONN_HANDSHAKE;
    conn_dirty(c);
}

void conn_dirty(struct ssh_conn *c)
{
    if (c->step != CONN_OVER && !c->gone)
        runq_add(c->loop, &c->run);
}

/* No more will come. Of a proxy's end its own is awaited, which says why. */
static void conn_ended(struct ssh_conn *c, int error)
{
    if (c->eof || c->closed)
        return;
    c->receive_error = c->proxy ? 0 : error; /* that of a socketpair says nothing */
    if (c->proxy && !proxy_has_ended(c)) {
        c->closed = true;
        proxy_closed(c);
    } else {
        c->eof = true;
    }
}

void conn_proxy_ended(struct ssh_conn *c)
{
    if (c->closed)
        c->eof = true;
    else
        conn_receive(c); /* what it still had to say, and the end */
    conn_dirty(c);
}

/* Nothing there; and what could still come would be from somebody whom an ended proxy left behind. */
static bool is_nothing_yet(const struct ssh_conn *c, ssize_t n)
{
    return n < 0 && (errno == EINTR || (errno == EAGAIN && !(c->proxy && proxy_has_ended(c))));
}

/* One recv() per wake, so that a busy connection does not delay another. Into one place for all: room of
 * their own for as much as may come would leave holes in the heap, a session's worth each. */
void conn_receive(struct ssh_conn *c)
{
    static char received[CONN_TURN_BYTES];
    ssize_t n;

    if (c->eof || c->closed || c->in.len >= CONN_IN_MARK)
        return;
    n = recv(c->fd, received, sizeof(received), 0);
    if (is_nothing_yet(c, n))
        return;
    if (n <= 0) {
        conn_ended(c, n < 0 && errno != EAGAIN ? -errno : 0);
    } else {
        if (buf_add(&c->in, received, (size_t)n) < 0)
            abort(); /* no memory: the ceiling is far above the mark */
        c->last_contact_due = clock_now_ms();
        ping_heard(c);
    }
    if (c->quick_ack)
        (void)setsockopt(c->fd, IPPROTO_TCP, TCP_QUICKACK, &(int){1}, sizeof(int));
    conn_dirty(c);
}

void conn_on_ready(struct ssh_conn *c, unsigned events)
{
    if (events & WATCH_IN)
        conn_receive(c);
    if (events & WATCH_OUT)
        conn_dirty(c);
}

static void conn_flush(struct ssh_conn *c)
{
    while (c->out.len > 0 && !c->broken) {
        ssize_t n = send(c->fd, c->out.data, c->out.len, MSG_NOSIGNAL);

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && errno != EAGAIN)
            conn_ended(c, -errno); /* what arrived is read to its end; the reason is told then */
        if (n < 0)
            return;
        buf_drop(&c->out, (size_t)n);
    }
}

static void conn_want(struct ssh_conn *c)
{
    if (!c->watch)
        return;
    if (c->lent || c->failed) {
        watch_want(c->watch, 0);
        return;
    }
    watch_want(c->watch, (c->eof || c->closed || c->in.len >= CONN_IN_MARK ? 0 : WATCH_IN) |
                             (c->out.len > 0 && !c->eof && !c->closed ? WATCH_OUT : 0));
    if (c->in.len == 0)
        buf_done(&c->in); /* an idle connection holds no buffers */
    if (c->out.len == 0)
        buf_done(&c->out);
}

void conn_fail(struct ssh_conn *c, enum fault_kind kind, const char *code, const char *format, ...)
{
    char text[sizeof(c->fault.text)];
    va_list args;

    if (c->failed || c->step == CONN_OVER)
        return;
    va_start(args, format);
    vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    fault_code(&c->fault, kind, code, "%s", text);
    c->failed = true;
    conn_dirty(c);
}

/* Errors after which the bytes of the session make no sense any more are those that are not about one channel
 * or one request. */
static bool is_harmless(int ssh_error)
{
    switch (ssh_error) {
    case LIBSSH2_ERROR_NONE:
    case LIBSSH2_ERROR_EAGAIN:
    case LIBSSH2_ERROR_TIMEOUT:
    case LIBSSH2_ERROR_CHANNEL_OUTOFORDER:
    case LIBSSH2_ERROR_CHANNEL_FAILURE:
    case LIBSSH2_ERROR_CHANNEL_REQUEST_DENIED:
    case LIBSSH2_ERROR_CHANNEL_UNKNOWN:
    case LIBSSH2_ERROR_CHANNEL_WINDOW_EXCEEDED:
    case LIBSSH2_ERROR_CHANNEL_PACKET_EXCEEDED:
    case LIBSSH2_ERROR_CHANNEL_CLOSED:
    case LIBSSH2_ERROR_CHANNEL_EOF_SENT:
    case LIBSSH2_ERROR_REQUEST_DENIED:
    case LIBSSH2_ERROR_INVAL:
    case LIBSSH2_ERROR_BAD_USE: return true;
    default: return ssh_error > 0;
    }
}

bool conn_is_lost_by(int ssh_error)
{
    return ssh_error == LIBSSH2_ERROR_SOCKET_DISCONNECT || ssh_error == LIBSSH2_ERROR_SOCKET_RECV ||
           ssh_error == LIBSSH2_ERROR_SOCKET_SEND || ssh_error == LIBSSH2_ERROR_SOCKET_NONE;
}

bool conn_check(struct ssh_conn *c, int ssh_error)
{
    if (!is_harmless(ssh_error))
        conn_break(c, ssh_error, "the SSH connection");
    return c->failed;
}

static const char *library_text(struct ssh_conn *c)
{
    char *text = NULL;

    libssh2_session_last_error(c->ssh, &text, NULL, 0);
    return text && *text ? text : "no reason given";
}

/* One that carried us this far was let in. */
static void conn_fail_proxy(struct ssh_conn *c, const char *why)
{
    const char *refusal = c->step == CONN_HANDSHAKE ? proxy_refusal(c) : NULL;

    if (refusal)
        conn_fail(c, FAULT_DENIED, refusal, "%s", why);
    else
        conn_fail(c, FAULT_TRANSIENT, c->step == CONN_UP ? "lost" : "unreachable", "%s", why);
}

/* Of the errors of a session that was cut off only "no algorithm in common" tells more than the end itself.
 */
void conn_break(struct ssh_conn *c, int ssh_error, const char *doing)
{
    bool at_end = c->eof && c->in.len == 0;
    char why[sizeof(c->fault.text)];

    if (at_end && c->proxy && proxy_explain(c, why, sizeof(why)))
        conn_fail_proxy(c, why);
    else if (ssh_error == LIBSSH2_ERROR_KEX_FAILURE)
        kex_explain(c);
    else if (at_end && c->receive_error < 0)
        conn_fail(c, FAULT_TRANSIENT, "lost", "%s: %s was cut: %s", c->name, doing,
                  strerror(-c->receive_error));
    else if (at_end || conn_is_lost_by(ssh_error))
        conn_fail(c, FAULT_TRANSIENT, "lost", "%s closed the connection during %s%s%s", c->name, doing,
                  *c->last_words ? ": " : "", c->last_words);
    else
        conn_fail(c, FAULT_TRANSIENT, "protocol", "%s: %s failed: %s (%d)", c->name, doing, library_text(c),
                  ssh_error);
}

bool conn_has_room(struct ssh_conn *c)
{
    if (c->out.len < CONN_OUT_MARK)
        return true;
    c->throttled = true;
    return false;
}

/* The socket took what was in the way before anybody could be told. */
static void conn_look_for_room(struct ssh_conn *c)
{
    if (!c->throttled || c->out.len >= CONN_OUT_MARK || c->step != CONN_UP || c->failed)
        return;
    c->throttled = false;
    timer_arm(c->again_timer, 0);
}

static void conn_pump(struct ssh_conn *c)
{
    if (c->in.len > 0)
        c->generation++;
    control_begin(c);
    control_pull(c);
    channel_requests_continue(c);
    channels_pump(c);
    if (!c->gone)
        openings_continue(c); /* after those who may have asked something */
    if (!c->gone)
        runs_pump(c);
    if (!c->gone)
        channels_bury(c);
}

/* libssh2 has seen all there was; nothing more will come. */
static void conn_look_for_end(struct ssh_conn *c)
{
    if (c->eof && !c->failed)
        conn_break(c, LIBSSH2_ERROR_SOCKET_RECV, c->step == CONN_UP ? "the SSH session" : "the login");
}

static void secrets_wipe(char **text)
{
    if (*text)
        wipe(*text, strlen(*text));
    free(TAKE_PTR(*text));
}

void login_forget(struct ssh_conn *c)
{
    secrets_wipe(&c->login.secrets.own_key);
    secrets_wipe(&c->login.secrets.key);
    secrets_wipe(&c->login.secrets.passphrase);
    secrets_wipe(&c->login.secrets.password);
    free(c->login.secrets.agent);
    c->login.secrets.agent = NULL;
    login_agent_free(c->login.agent);
    c->login.agent = NULL;
    c->login.signer = signer_free(c->login.signer);
}

/* What belongs to the session of libssh2; not while it is lent. Nothing is sent any more and every read
 * fails, so that its own end cannot wait for the peer. */
static void session_end(struct ssh_conn *c)
{
    struct block *b;

    c->broken = true;
    for (int i = 0; c->ssh && i < FREE_ROUNDS_MAX && libssh2_session_free(c->ssh) == LIBSSH2_ERROR_EAGAIN;
         i++)
        ;
    c->ssh = NULL;
    while ((b = LIST_FIRST(&c->blocks, struct block, node)))
        block_free(c, b);
    login_forget(c);
    buf_done(&c->overheard);
    buf_wipe(&c->in);
    buf_wipe(&c->out);
}

/* One try, where the connection is thought to live. */
static void say_goodbye(struct ssh_conn *c)
{
    if (c->step != CONN_UP || c->failed)
        return;
    (void)libssh2_session_disconnect(c->ssh, "closed");
    conn_flush(c);
}

/* Answers everything that is open, and leaves nothing behind that could call us. The watch closes the socket
 * when the loop has let go of it, which is after the session is gone. */
static void conn_shut(struct ssh_conn *c)
{
    if (c->step == CONN_OVER)
        return;
    if (!c->lent)
        say_goodbye(c);
    c->failed = true;
    c->turn = turn_free(c->turn);
    connect_end(c);
    proxy_end(c);
    ping_end(c);
    openings_end(c, &c->fault);
    runs_end(c, &c->fault);
    channel_requests_end(c);
    channels_break(c);
    c->deadline = timer_free(c->deadline);
    c->again_timer = timer_free(c->again_timer);
    c->open_timer = timer_free(c->open_timer);
    c->watch = watch_free(c->watch, true);
    if (!c->lent)
        session_end(c);
    c->step = CONN_OVER;
    runq_drop(&c->run);
}

struct ssh_conn *conn_destroy(struct ssh_conn *c)
{
    session_end(c);
    free(c->login.offers);
    free(c->name);
    free(c->host);
    free(c->user);
    free(c->way);
    free(c->agent);
    free(c->banner);
    free(c);
    return NULL;
}

static void conn_down(struct ssh_conn *c)
{
    struct fault f = c->fault;

    conn_shut(c);
    c->events.down(c->ctx, &f);
}

static void conn_run(void *ctx)
{
    struct ssh_conn *c = ctx;
    enum conn_step before = c->step;

    if (c->lent || c->gone)
        return;
    c->running = true;
    conn_flush(c);
    if (!c->failed && c->step == CONN_UP)
        conn_pump(c);
    else if (!c->failed && c->step > CONN_CONNECT)
        login_run(c);
    if (!c->gone && !c->lent) {
        conn_flush(c);
        conn_look_for_room(c);
        conn_look_for_end(c);
    }
    if (!c->gone)
        conn_want(c);
    if (!c->gone && before < CONN_UP && c->step == CONN_UP)
        conn_dirty(c); /* after what is queued now: whoever waited for this login has its dial before our
                          control channel */
    if (!c->gone)
        ping_tell(c);
    if (!c->gone && c->failed && !c->lent)
        conn_down(c);
    c->running = false;
    if (c->gone && !c->lent)
        conn_destroy(c);
}

static void conn_on_deadline(void *ctx)
{
    struct ssh_conn *c = ctx;
    char name[128], words[256];

    if (c->step == CONN_CONNECT)
        conn_fail(c, FAULT_TRANSIENT, "unreachable", "no connection to %s port %u within %u s", c->host,
                  c->port, CONN_LOGIN_MS / 1000);
    else if (c->proxy && c->step == CONN_HANDSHAKE)
        conn_fail(c, FAULT_TRANSIENT, "unreachable", "no answer through %s within %u s%s",
                  proxy_name(c, name, sizeof(name)), CONN_LOGIN_MS / 1000,
                  proxy_words(c, words, sizeof(words)));
    else
        conn_fail(c, FAULT_TRANSIENT, "unreachable", "%s did not finish %s within %u s", c->name,
                  c->step == CONN_HANDSHAKE ? "the SSH handshake" : "the login", CONN_LOGIN_MS / 1000);
}

static void conn_on_again(void *ctx)
{
    conn_dirty(ctx);
}

struct ssh_conn *ssh_conn_new(struct loop *l, struct resolver *r, const struct ssh_target *target,
                              const struct ssh_conn_events *events, void *ctx)
{
    struct ssh_conn *c = xnew(struct ssh_conn);

    c->loop = l;
    c->resolver = r;
    c->events = *events;
    c->ctx = ctx;
    c->name = xstrdup(target->name);
    c->host = xstrdup(target->host);
    c->user = xstrdup(target->user);
    c->way = xstrdup(target->proxy);
    c->agent = xstrdup(target->agent);
    c->port = target->port;
    c->turns = target->turns;
    c->host_key_preference = host_key_preference(target->pinned);
    c->fd = -1;
    c->generation = 1;
    c->ping.is_single = target->is_single;
    c->own_key_holds = target->own_key_holds;
    work_init(&c->run, conn_run, c);
    list_init(&c->blocks);
    list_init(&c->openings);
    list_init(&c->requests);
    list_init(&c->channels);
    list_init(&c->dying);
    list_init(&c->runs);
    buf_init(&c->overheard, KEX_OVERHEARD_BYTES);
    buf_init(&c->in, CONN_IN_MARK + CONN_TURN_BYTES);
    buf_init(&c->out, CONN_OUT_BYTES_MAX);
    c->deadline = timer_new(l, conn_on_deadline, c);
    c->again_timer = timer_new(l, conn_on_again, c);
    c->open_timer = timer_new(l, openings_on_timer, c);
    connect_begin(c);
    return c;
}

struct ssh_conn *ssh_conn_free(struct ssh_conn *c)
{
    if (!c)
        return NULL;
    if (c->step != CONN_OVER && !c->failed)
        fault_code(&c->fault, FAULT_TRANSIENT, "lost", "the connection to %s was closed", c->name);
    conn_shut(c);
    c->gone = true;
    if (!c->running && !c->lent)
        conn_destroy(c);
    return NULL;
}

bool ssh_conn_is_up(const struct ssh_conn *c)
{
    return c->step == CONN_UP && !c->failed;
}

uint64_t ssh_conn_last_contact_due(const struct ssh_conn *c)
{
    return c->last_contact_due;
}

unsigned ssh_conn_streams(const struct ssh_conn *c)
{
    return c->n_channels;
}

const char *ssh_conn_peer(const struct ssh_conn *c)
{
    return c->peer;
}

const char *ssh_conn_banner(const struct ssh_conn *c)
{
    return c->banner ? c->banner : "";
}
