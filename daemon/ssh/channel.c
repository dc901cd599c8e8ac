/* Streams over channels.
 *
 * There is no way to ask which channels have data. So each run asks every channel, and keeps what that
 * brought until it is read: ready() is told of bytes, not of hopes. Of an owner who wants to read that is one
 * call's worth, of one who does not all there is: left in libssh2 it would be a packet of its own for each
 * small event, three times its bytes, and all channels would be read past it.
 *
 * So the peer may not send more when we have read, as libssh2 would have it, but when the owner has. libssh2
 * widens a window by itself as soon as a read leaves less than three quarters of the one the channel was
 * opened with (libssh2_channel_read, 1.10 and 1.11). Ours are opened with next to nothing, read no further
 * than that, and widened here.
 *
 * Freeing a channel takes until the peer's answer, which may never come: it is dying until then, and tried
 * again in each run. */
#include <errno.h>

#include "base/timer.h"
#include "ssh/conn_private.h"

#define PASSES_MAX 2
#define GRANTS     8 /* to a window: each is a packet */

struct channel {
    struct stream stream;
    struct list node;
    struct loop *loop;
    struct ssh_conn *conn; /* NULL: the connection is over */
    LIBSSH2_CHANNEL *ssh;
    unsigned wanted;
    struct work broken;         /* tells the owner once, after the end */
    struct buf ahead;           /* read, not yet asked for */
    uint32_t window;            /* what the peer may send before the owner has read any of it */
    uint32_t n_taken, granting; /* that much was read since; is on its way to the peer */
    char *held;                 /* taken, not yet sent: libssh2 wants the same bytes again */
    size_t held_at, n_held;
    uint64_t drained_at;        /* nothing more to read since this reception */
    bool is_asked, is_answered; /* bytes went out; came back, or never will */
    bool at_end, end_wanted, end_sent;
    bool is_closed; /* by the peer: it takes nothing more, though its window may be open */
};

/* Channels that nobody needs any more. */

static void channel_destroy(struct channel *ch)
{
    list_remove(&ch->node);
    runq_drop(&ch->broken);
    buf_done(&ch->ahead);
    free(ch->held);
    free(ch);
}

static void channel_tell_broken(void *ctx)
{
    struct channel *ch = ctx;

    if (ch->wanted && ch->stream.ready)
        ch->stream.ready(ch->stream.ctx, ch->wanted);
}

static struct channel *channel_new(struct ssh_conn *c, LIBSSH2_CHANNEL *ssh)
{
    struct channel *ch = xnew(struct channel);

    ch->loop = c->loop;
    ch->conn = c;
    ch->ssh = ssh;
    list_init(&ch->node);
    work_init(&ch->broken, channel_tell_broken, ch);
    return ch;
}

void channel_bury(struct ssh_conn *c, LIBSSH2_CHANNEL *ssh)
{
    list_append(&c->dying, &channel_new(c, ssh)->node);
    conn_dirty(c);
}

static void channel_send_held(struct channel *ch)
{
    while (ch->n_held > 0 && !ch->conn->failed) {
        ssize_t n = libssh2_channel_write(ch->ssh, ch->held + ch->held_at, ch->n_held);

        if (n <= 0) {
            if (n < 0 && n != LIBSSH2_ERROR_EAGAIN && !conn_check(ch->conn, (int)n))
                ch->n_held = 0; /* the channel is closed: nobody will read it */
            break;
        }
        ch->held_at += (size_t)n;
        ch->n_held -= (size_t)n;
    }
    if (ch->n_held == 0 && ch->held)
        free(TAKE_PTR(ch->held));
}

void channels_bury(struct ssh_conn *c)
{
    LIST_FOREACH_SAFE (ch, &c->dying, struct channel, node) {
        if (c->failed)
            return;
        channel_send_held(ch);
        if (ch->n_held > 0)
            continue;
        if (channel_requests_forget(c, ch->ssh) && libssh2_channel_free(ch->ssh) != LIBSSH2_ERROR_EAGAIN)
            channel_destroy(ch);
    }
}

/* libssh2 has no question for "did the peer close it", but waiting for that without blocking answers at once.
 */
bool channel_is_closed_by_peer(LIBSSH2_CHANNEL *ch)
{
    return libssh2_channel_wait_closed(ch) == 0;
}

/* Streams. */

static bool has_room(struct channel *ch)
{
    return ch->n_held == 0 && conn_has_room(ch->conn) && libssh2_channel_window_write(ch->ssh) > 0;
}

static void channel_asks(struct channel *ch)
{
    ch->conn->n_unanswered += !ch->is_asked && !ch->is_answered;
    ch->is_asked = true;
}

static void channel_is_answered(struct channel *ch)
{
    if (ch->is_answered)
        return;
    ch->is_answered = true;
    if (ch->is_asked && --ch->conn->n_unanswered == 0)
        conn_dirty(ch->conn); /* what waited for it */
}

/* Bytes of ours may have come about: data, or an opened window. */
static void channel_touched(struct channel *ch)
{
    if (!ch->conn->running)
        conn_dirty(ch->conn);
}

/* A key exchange may hold it up; it must be asked for again then, and for the same. */
static void channel_grant(struct channel *ch)
{
    int r;

    if (ch->granting == 0 && ch->n_taken >= ch->window / GRANTS) {
        ch->granting = ch->n_taken;
        ch->n_taken = 0;
    }
    if (ch->granting == 0 || ch->at_end)
        return;
    r = libssh2_channel_receive_window_adjust2(ch->ssh, ch->granting, 1, NULL);
    if (r == LIBSSH2_ERROR_EAGAIN || conn_check(ch->conn, r))
        return;
    ch->granting = 0;
    ch->drained_at = 0; /* what libssh2 still had can be read now */
    channel_touched(ch);
}

/* As much as libssh2 gives without widening the window by itself. */
static size_t channel_most(struct channel *ch)
{
    size_t window = libssh2_channel_window_read_ex(ch->ssh, NULL, NULL);
    size_t most = window - MIN(window, (size_t)CHANNEL_FIRST_WINDOW / 4 * 3);

    return MIN(most, (size_t)CHANNEL_CALL_BYTES);
}

/* Up to n bytes into to; 0 at the end, -EAGAIN. */
static ssize_t channel_take(struct channel *ch, char *to, size_t n)
{
    struct ssh_conn *c = ch->conn;
    ssize_t r;

    if (ch->at_end)
        return 0;
    if (ch->drained_at == c->generation)
        return -EAGAIN;
    n = MIN(n, channel_most(ch));
    r = n > 0 ? libssh2_channel_read(ch->ssh, to, n) : LIBSSH2_ERROR_EAGAIN;
    if (r > 0) {
        channel_is_answered(ch);
        return r;
    }
    if (r < 0 && conn_check(c, (int)r))
        return -ECONNRESET;
    if (r == 0 && libssh2_channel_eof(ch->ssh) == 1) {
        ch->at_end = true;
        channel_is_answered(ch);
        return 0;
    }
    ch->drained_at = c->generation;
    return -EAGAIN;
}

/* As channel_take(), into what is kept. For the second piece there is room for a window made at once: growing
 * by doubling would leave holes in the heap, a window's worth each. */
static ssize_t channel_take_ahead(struct channel *ch)
{
    static char taken[CHANNEL_CALL_BYTES];
    ssize_t n = channel_take(ch, taken, sizeof(taken));
    bool is_second = ch->ahead.len > 0 && ch->ahead.len <= CHANNEL_CALL_BYTES;
    char *room;

    if (n <= 0)
        return n;
    if ((is_second && buf_reserve(&ch->ahead, ch->window - ch->ahead.len, &room) < 0) ||
        buf_add(&ch->ahead, taken, (size_t)n) < 0)
        abort(); /* no memory: the ceiling is the window */
    return n;
}

static bool has_input(struct channel *ch)
{
    return ch->ahead.len > 0 || channel_take_ahead(ch) >= 0;
}

static void channel_send_end(struct channel *ch)
{
    int r;

    if (!ch->end_wanted || ch->end_sent || ch->n_held > 0)
        return;
    r = libssh2_channel_send_eof(ch->ssh);
    if (r == LIBSSH2_ERROR_EAGAIN)
        return;
    ch->end_sent = true;
    conn_check(ch->conn, r);
}

static bool is_writable(struct channel *ch)
{
    ch->is_closed = ch->is_closed || channel_is_closed_by_peer(ch->ssh);
    return ch->is_closed || has_room(ch);
}

static unsigned channel_is_ready_for(struct channel *ch)
{
    unsigned what = 0;

    if (ch->wanted & STREAM_IN)
        what |= has_input(ch) ? STREAM_IN : 0u;
    else
        while (!ch->conn->failed && channel_take_ahead(ch) > 0)
            ;
    if (ch->wanted & STREAM_OUT && !ch->conn->failed && is_writable(ch))
        what |= STREAM_OUT;
    return ch->conn->failed ? 0 : what;
}

/* Whether it is to be visited again before the peer has said anything more. */
static bool is_still_ready(struct channel *ch)
{
    return (ch->wanted & STREAM_IN &&
            (ch->ahead.len > 0 || ch->at_end || ch->drained_at != ch->conn->generation)) ||
           (ch->wanted & STREAM_OUT && is_writable(ch));
}

static void channel_visit(struct channel *ch)
{
    struct ssh_conn *c = ch->conn;
    unsigned what;

    channel_send_held(ch);
    if (!c->failed)
        channel_send_end(ch);
    if (!c->failed)
        channel_grant(ch);
    what = c->failed ? 0 : channel_is_ready_for(ch);
    if (!what || !ch->stream.ready)
        return;
    c->visited = ch;
    ch->stream.ready(ch->stream.ctx, what);
    if (!c->gone && !c->failed && c->visited == ch && is_still_ready(ch))
        c->again = true;
    c->visited = NULL;
}

/* Each channel once; the owners may free and add any. */
static void channels_visit(struct ssh_conn *c)
{
    for (unsigned n = c->n_channels; n > 0 && !c->gone && !c->failed; n--) {
        struct channel *ch = LIST_FIRST(&c->channels, struct channel, node);

        if (!ch)
            return;
        list_remove(&ch->node);
        list_append(&c->channels, &ch->node);
        channel_visit(ch);
    }
}

void channels_pump(struct ssh_conn *c)
{
    for (unsigned pass = 0; pass < PASSES_MAX; pass++) {
        c->again = false;
        channels_visit(c);
        if (c->gone || c->failed || !c->again)
            return;
    }
    timer_arm(c->again_timer, 0);
}

LIBSSH2_CHANNEL *channels_any(struct ssh_conn *c)
{
    struct channel *ch = LIST_FIRST(&c->channels, struct channel, node);

    return ch ? ch->ssh : NULL;
}

/* The connection is over: libssh2 frees what is its own, the owners keep the rest. */
void channels_break(struct ssh_conn *c)
{
    struct channel *ch;

    while ((ch = LIST_FIRST(&c->dying, struct channel, node)))
        channel_destroy(ch);
    while ((ch = LIST_FIRST(&c->channels, struct channel, node))) {
        list_remove(&ch->node);
        ch->conn = NULL;
        ch->ssh = NULL;
        runq_add(ch->loop, &ch->broken);
    }
    c->n_channels = c->n_unanswered = 0;
    c->visited = NULL;
}

static struct channel *channel_of(struct stream *s)
{
    return CONTAINER_OF(s, struct channel, stream);
}

static void channel_want(struct stream *s, unsigned events)
{
    struct channel *ch = channel_of(s);
    struct ssh_conn *c = ch->conn;
    bool more = events & ~ch->wanted;

    ch->wanted = events;
    if (!events)
        return;
    if (!c)
        runq_add(ch->loop, &ch->broken);
    else if (c->running)
        c->again |= more; /* a second run in this turn could go on for ever */
    else
        conn_dirty(c);
}

static size_t take_ahead(struct channel *ch, void *to, size_t n)
{
    n = MIN(n, ch->ahead.len);
    if (n == 0)
        return 0;
    memcpy(to, ch->ahead.data, n);
    buf_drop(&ch->ahead, n);
    if (ch->ahead.len == 0)
        buf_done(&ch->ahead);
    return n;
}

static ssize_t channel_read(struct stream *s, void *to, size_t n)
{
    struct channel *ch = channel_of(s);
    size_t taken;
    ssize_t r = 1;

    if (!ch->conn || ch->conn->failed)
        return -ECONNRESET;
    taken = take_ahead(ch, to, n);
    while (taken < n && r > 0) {
        r = channel_take(ch, (char *)to + taken, n - taken);
        if (r > 0)
            taken += (size_t)r;
    }
    ch->n_taken += (uint32_t)taken;
    if (!ch->conn->failed)
        channel_grant(ch);
    channel_touched(ch);
    return taken > 0 ? (ssize_t)taken : r;
}

/* libssh2 has begun a packet that a key exchange holds up, and must be given the same bytes again. So they
 * are ours now. */
static void channel_hold(struct channel *ch, const char *from, size_t n)
{
    ch->held = xalloc(n);
    memcpy(ch->held, from, n);
    ch->held_at = 0;
    ch->n_held = n;
}

static ssize_t channel_write(struct stream *s, const void *from, size_t n)
{
    struct channel *ch = channel_of(s);
    size_t taken = 0;
    ssize_t r = 0;

    if (!ch->conn || ch->conn->failed)
        return -ECONNRESET;
    if (ch->end_wanted || ch->is_closed)
        return -EPIPE;
    channel_grant(ch); /* the first one in one piece with the first bytes */
    while (taken < n && has_room(ch)) {
        size_t piece = MIN(n - taken, (size_t)CHANNEL_CALL_BYTES - 100);

        r = libssh2_channel_write(ch->ssh, (const char *)from + taken, piece);
        if (r == LIBSSH2_ERROR_EAGAIN) {
            channel_hold(ch, (const char *)from + taken, piece);
            r = (ssize_t)piece;
        }
        if (r <= 0)
            break;
        taken += (size_t)r;
    }
    if (r < 0 && conn_check(ch->conn, (int)r))
        return -ECONNRESET;
    if (taken > 0) {
        channel_asks(ch);
        channel_touched(ch);
        return (ssize_t)taken;
    }
    return r < 0 || channel_is_closed_by_peer(ch->ssh) ? -EPIPE : -EAGAIN;
}

static int channel_shutdown(struct stream *s)
{
    struct channel *ch = channel_of(s);

    if (!ch->conn || ch->conn->failed)
        return -ECONNRESET;
    ch->end_wanted = true;
    channel_send_end(ch);
    conn_dirty(ch->conn);
    return 0;
}

static void channel_free(struct stream *s, bool reset)
{
    struct channel *ch = channel_of(s);
    struct ssh_conn *c = ch->conn;

    runq_drop(&ch->broken);
    if (!c) {
        channel_destroy(ch);
        return;
    }
    if (c->visited == ch)
        c->visited = NULL;
    if (reset)
        ch->n_held = 0;
    channel_is_answered(ch);
    ch->wanted = 0;
    buf_done(&ch->ahead);
    list_remove(&ch->node);
    c->n_channels--;
    list_append(&c->dying, &ch->node);
    conn_dirty(c);
}

static bool channel_is_silent(const struct stream *s)
{
    const struct channel *ch = CONTAINER_OF(s, struct channel, stream);

    return ch->conn && ch->conn->ping.is_suspect;
}

static const struct stream_ops channel_ops = {
    .want = channel_want,
    .read = channel_read,
    .write = channel_write,
    .shutdown = channel_shutdown,
    .free = channel_free,
    .is_silent = channel_is_silent,
};

struct stream *channel_stream(struct ssh_conn *c, LIBSSH2_CHANNEL *ssh, uint32_t window_bytes)
{
    struct channel *ch = channel_new(c, ssh);

    ch->stream.ops = &channel_ops;
    ch->window = window_bytes;
    ch->n_taken = window_bytes - CHANNEL_FIRST_WINDOW; /* to be granted with what goes out first */
    buf_init(&ch->ahead, window_bytes);
    list_append(&c->channels, &ch->node);
    c->n_channels++;
    return &ch->stream;
}
