/* Opening channels, and dials.
 *
 * libssh2 keeps the state of an open in the session, so there is one at a time, in order, and none can be
 * taken back: who gave up is struck off, and a channel that comes after all is buried. A message is not
 * copied by libssh2: it lives in the opening.
 *
 * Right after the login sshd still keeps a small packet until the one before it is acknowledged: what it says
 * to a session channel would hold back the first answer by a round trip. So those wait for that answer, if
 * somebody waited for this login and has asked now, but not for long. */
#include <errno.h>

#include "base/clock.h"
#include "base/timer.h"
#include "ssh/conn_private.h"

#define MESSAGE_BYTES   600
#define FIRST_ANSWER_MS 1000 /* after the login */
#define HOST_BYTES      256

struct opening {
    struct list node;
    struct ssh_conn *conn;
    bool is_session, begun;
    uint32_t window;
    uint64_t due, begun_due;
    opening_fn done; /* NULL: nobody waits any more */
    void *ctx;
    uint16_t port; /* a dial's, with the length of the host's name in the message */
    size_t n_host;
    unsigned n_message;
    char message[MESSAGE_BYTES];
};

static void opening_free(struct opening *o)
{
    list_remove(&o->node);
    free(o);
}

static bool waits_for_first_answer(const struct ssh_conn *c)
{
    return c->ping.control != CONTROL_ON && c->n_unanswered > 0 &&
           clock_now_ms() < c->up_due + FIRST_ANSWER_MS;
}

/* The one in flight, else the oldest that may begin. */
static struct opening *openings_next(struct ssh_conn *c)
{
    LIST_FOREACH (o, &c->openings, struct opening, node)
        if (o->begun)
            return o;
    LIST_FOREACH (o, &c->openings, struct opening, node)
        if (!o->is_session || !waits_for_first_answer(c))
            return o;
    return NULL;
}

static void openings_plan(struct ssh_conn *c)
{
    bool waits = !list_is_empty(&c->openings) && waits_for_first_answer(c);
    uint64_t due = waits ? c->up_due + FIRST_ANSWER_MS : UINT64_MAX;

    LIST_FOREACH (o, &c->openings, struct opening, node) {
        if (!o->done)
            continue;
        due = MIN(due, o->due); /* the first is the oldest */
        break;
    }
    if (due == UINT64_MAX)
        timer_disarm(c->open_timer);
    else if (!timer_is_armed(c->open_timer) || timer_due(c->open_timer) != due)
        timer_arm_at(c->open_timer, due);
}

static struct opening *opening_new(struct ssh_conn *c, uint32_t window_bytes, opening_fn done, void *ctx)
{
    struct opening *o = xnew(struct opening);

    o->conn = c;
    o->window = window_bytes;
    o->due = clock_now_ms() + CONN_OPEN_MS;
    o->done = done;
    o->ctx = ctx;
    list_init(&o->node);
    list_append(&c->openings, &o->node);
    openings_plan(c);
    conn_dirty(c);
    return o;
}

struct opening *opening_new_session(struct ssh_conn *c, uint32_t window_bytes, opening_fn done, void *ctx)
{
    struct opening *o = opening_new(c, window_bytes, done, ctx);

    o->is_session = true;
    return o;
}

static void message_u32(struct opening *o, uint32_t value)
{
    for (int shift = 24; shift >= 0; shift -= 8)
        o->message[o->n_message++] = (char)(value >> shift);
}

static void message_text(struct opening *o, const char *text)
{
    size_t n = strlen(text);

    message_u32(o, (uint32_t)n);
    memcpy(o->message + o->n_message, text, n);
    o->n_message += (unsigned)n;
}

/* RFC 4254 §7.2. */
static struct opening *opening_new_direct(struct ssh_conn *c, const char *host, uint16_t port,
                                          opening_fn done, void *ctx)
{
    struct opening *o = opening_new(c, CHANNEL_FIRST_WINDOW, done, ctx);

    o->port = port;
    o->n_host = strlen(host);
    message_text(o, host);
    message_u32(o, port);
    message_text(o, "127.0.0.1");
    message_u32(o, 0);
    return o;
}

bool opening_has_begun(const struct opening *o)
{
    return o->begun;
}

void opening_abandon(struct opening *o)
{
    struct ssh_conn *c = o->conn;

    o->done = NULL;
    if (!o->begun)
        opening_free(o);
    openings_plan(c);
}

/* The server's own sentence is dropped by libssh2; its words stand for the reason code. */
static void opening_fault(struct ssh_conn *c, const struct opening *o, int ssh_error, struct fault *f)
{
    char *text = NULL;

    libssh2_session_last_error(c->ssh, &text, NULL, 0);
    if (ssh_error == LIBSSH2_ERROR_TIMEOUT)
        fault_code(f, FAULT_TRANSIENT, "timeout", "%s did not answer the opening of a channel", c->name);
    else if (text && strstr(text, "prohibited"))
        fault_code(f, FAULT_DENIED, "forbidden", "%s forbids it", c->name);
    else if (o->is_session)
        fault_code(f, FAULT_EXHAUSTED, "refused", "%s opens no more session channels", c->name);
    else
        fault_code(f, FAULT_TRANSIENT, "refused", "nothing listens there");
}

static LIBSSH2_CHANNEL *opening_ask(struct ssh_conn *c, const struct opening *o)
{
    const char *type = o->is_session ? "session" : "direct-tcpip";

    return libssh2_channel_open_ex(c->ssh, type, (unsigned)strlen(type), o->window, CHANNEL_PACKET_BYTES,
                                   o->is_session ? NULL : o->message, o->n_message);
}

static void opening_report(struct ssh_conn *c, struct opening *o, LIBSSH2_CHANNEL *ch, const struct fault *f)
{
    opening_fn done = TAKE_PTR(o->done);
    void *ctx = o->ctx;

    opening_free(o);
    if (done)
        done(ctx, ch, f);
    else if (ch)
        channel_bury(c, ch);
}

/* False: its answer is still to come. */
static bool opening_continue(struct ssh_conn *c, struct opening *o)
{
    LIBSSH2_CHANNEL *ch;
    struct fault f;
    int r = 0;

    if (!o->begun)
        o->begun_due = clock_now_ms();
    o->begun = true;
    ch = opening_ask(c, o);
    if (!ch)
        r = libssh2_session_last_errno(c->ssh);
    if (r == LIBSSH2_ERROR_EAGAIN || conn_check(c, r))
        return false;
    if (!ch)
        opening_fault(c, o, r, &f);
    opening_report(c, o, ch, ch ? NULL : &f);
    return true;
}

void openings_continue(struct ssh_conn *c)
{
    bool dialled = false;
    struct opening *o;

    while (!c->failed && (o = openings_next(c))) {
        bool is_session = o->is_session;

        if (dialled && is_session) { /* whoever dialled may ask first */
            conn_dirty(c);
            break;
        }
        if (!opening_continue(c, o))
            break;
        dialled |= !is_session;
    }
    openings_plan(c);
}

/* What a server says to it stands behind its yes to the login, and is read after that. */
void openings_go_ahead(struct ssh_conn *c)
{
    if (openings_are_ahead(c))
        return;
    LIST_FOREACH (o, &c->openings, struct opening, node)
        if (!o->is_session) {
            (void)opening_continue(c, o);
            break;
        }
    openings_plan(c);
}

void openings_catch_up(struct ssh_conn *c)
{
    LIST_FOREACH (o, &c->openings, struct opening, node)
        if (o->begun)
            o->begun_due = clock_now_ms();
}

bool openings_are_ahead(const struct ssh_conn *c)
{
    LIST_FOREACH (o, &c->openings, struct opening, node)
        if (o->begun)
            return true;
    return false;
}

/* Fails the caller; an open that is in flight runs on without one. */
void openings_on_timer(void *ctx)
{
    struct ssh_conn *c = ctx;
    uint64_t now = clock_now_ms();
    struct fault f;

    fault_code(&f, FAULT_TRANSIENT, "timeout", "%s did not open the channel within %u s", c->name,
               CONN_OPEN_MS / 1000);
    LIST_FOREACH_SAFE (o, &c->openings, struct opening, node) {
        opening_fn done = o->done;
        void *done_ctx = o->ctx;

        if (!done || o->due > now)
            continue;
        o->done = NULL;
        if (!o->begun)
            opening_free(o);
        done(done_ctx, NULL, &f);
    }
    openings_plan(c);
    conn_dirty(c); /* what waited for the first answer goes on */
}

void openings_end(struct ssh_conn *c, const struct fault *f)
{
    struct opening *o;

    while ((o = LIST_FIRST(&c->openings, struct opening, node)))
        opening_report(c, o, NULL, f);
}

/* Dials. */

static const struct opening *dial_in_flight(const struct ssh_conn *c)
{
    LIST_FOREACH (o, &c->openings, struct opening, node)
        if (o->begun)
            return o->is_session ? NULL : o;
    return NULL;
}

uint64_t ssh_conn_dialling_due(const struct ssh_conn *c)
{
    const struct opening *o = dial_in_flight(c);

    return o ? o->begun_due : 0;
}

bool ssh_conn_dials(const struct ssh_conn *c, const char *host, uint16_t port)
{
    const struct opening *o = dial_in_flight(c);

    return o && o->port == port && o->n_host == strlen(host) && memcmp(o->message + 4, host, o->n_host) == 0;
}

struct dial {
    struct op op;
    struct ssh_conn *conn; /* while opening is set */
    struct opening *opening;
    struct stream *stream;
    uint32_t window;
    struct fault fault;
    struct work report;
    char where[HOST_BYTES + 8];
    ssh_dial_fn done;
    void *ctx;
};

static void dial_cancel(struct op *op)
{
    struct dial *d = CONTAINER_OF(op, struct dial, op);

    runq_drop(&d->report);
    if (d->opening)
        opening_abandon(d->opening);
    stream_free(d->stream, true);
    free(d);
}

static void dial_report(void *ctx)
{
    _cleanup_free_ struct dial *d = ctx;

    op_end(&d->op);
    d->done(d->ctx, d->stream, d->stream ? NULL : &d->fault);
}

static void dial_on_opened(void *ctx, LIBSSH2_CHANNEL *ch, const struct fault *f)
{
    struct dial *d = ctx;

    d->opening = NULL;
    if (ch) {
        d->stream = channel_stream(d->conn, ch, d->window);
    } else {
        d->fault = *f;
        fault_prefix(&d->fault, d->where);
    }
    runq_add(d->conn->loop, &d->report);
}

void ssh_dial(struct ssh_conn *c, const char *host, uint16_t port, uint32_t window_bytes, struct op **slot,
              ssh_dial_fn done, void *ctx)
{
    struct dial *d = xnew(struct dial);

    op_begin(&d->op, slot, dial_cancel);
    d->conn = c;
    d->window = window_bytes;
    d->done = done;
    d->ctx = ctx;
    work_init(&d->report, dial_report, d);
    snprintf(d->where, sizeof(d->where), "%s:%u", host, port);
    if (c->step != CONN_OVER && strlen(host) < HOST_BYTES) {
        d->opening = opening_new_direct(c, host, port, dial_on_opened, d);
        return;
    }
    if (c->step == CONN_OVER)
        fault_code(&d->fault, FAULT_TRANSIENT, "lost", "%s: the connection to %s is over", d->where, c->name);
    else
        fault_code(&d->fault, FAULT_INVALID, "", "%s: the name is too long", d->where);
    runq_add(c->loop, &d->report);
}
