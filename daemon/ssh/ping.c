/* The control channel, and whether the peer lives.
 *
 * "exec cat" on a session channel makes sshd before 10.1 switch Nagle off (p99 of small messages 40 ms
 * without, 0.1 ms with it) and gives back each byte: a ping. Where session channels are refused, a request on
 * some stream's channel is the ping, since any server answers it, if only with no; with no channel at all
 * libssh2's keepalive. Its answers stay in libssh2's list for ever, so it comes rarely. TCP_QUICKACK stays on
 * there: it does to the peer's Nagle what exec does.
 *
 * Where the server opens a single session channel (MaxSessions 1) commands have it: the cat ends for the
 * first one that is refused, and the ping is what a command's channel answers, or the opening of one.
 *
 * The timer is moved only when it would come too late; when it comes too early it looks and goes to sleep
 * again. */
#include "base/clock.h"
#include "base/timer.h"
#include "ssh/conn_private.h"

#define SILENCE_MS          5000
#define SILENCE_STEP_MS     2500
#define SILENCE_WAITING_MS  500
#define SILENCE_FALLBACK_MS 30000
#define DEADLINE_MS         4000
#define DEADLINE_WAITING_MS 2500
#define DEADLINE_DOUBT_MS   1000  /* after sleep, or with other addresses: more likely dead than late */
#define DEAD_MS             10000 /* without a byte, where the owner is told of a late answer */
/* As libssh2 keeps it, in an int of seconds since its last one by the wall clock: long ago, whatever that
 * clock says now. */
#define KEEPALIVE_NOW    0x80000000u
#define CONTROL_YOUNG_MS 10000
#define CONTROL_COMMAND  "exec cat"

static LIBSSH2_CHANNEL *any_channel(const struct ssh_conn *c)
{
    LIBSSH2_CHANNEL *any = channels_any((struct ssh_conn *)c);

    return any ? any : runs_any(c, true);
}

static uint64_t ping_silence(const struct ssh_conn *c)
{
    const struct ping *p = &c->ping;

    if (p->waiters > 0)
        return SILENCE_WAITING_MS;
    return p->control == CONTROL_REFUSED && !p->is_single && !any_channel(c) ? SILENCE_FALLBACK_MS
                                                                             : SILENCE_MS;
}

static uint64_t ping_deadline(const struct ssh_conn *c)
{
    return c->ping.waiters > 0 ? DEADLINE_WAITING_MS : DEADLINE_MS;
}

/* Idle connections ask at the same instants, a little early, so that many of them share a wake-up. */
static uint64_t ping_due(const struct ssh_conn *c)
{
    uint64_t due = c->last_contact_due + ping_silence(c);

    return c->ping.waiters > 0 ? due : due - due % SILENCE_STEP_MS;
}

static void ping_plan(struct ssh_conn *c)
{
    struct ping *p = &c->ping;
    uint64_t due = p->deadline_due ? p->deadline_due : ping_due(c);

    if (p->timer && (!timer_is_armed(p->timer) || timer_due(p->timer) > due))
        timer_arm_at(p->timer, due);
}

/* Any byte is life. */
void ping_heard(struct ssh_conn *c)
{
    if (!c->ping.deadline_due)
        return;
    c->ping.deadline_due = 0;
    c->ping.is_suspect = false;
    if (c->ping.timer)
        timer_disarm(c->ping.timer);
    ping_plan(c);
}

/* Yes or no: it lives. */
static void ping_on_opened(void *ctx, LIBSSH2_CHANNEL *ch, const struct fault *f)
{
    struct ssh_conn *c = ctx;

    (void)f;
    c->ping.opening = NULL;
    if (ch)
        channel_bury(c, ch);
}

static void ping_fallback(struct ssh_conn *c)
{
    LIBSSH2_CHANNEL *any = any_channel(c);

    if (any && list_is_empty(&c->requests)) {
        channel_request_answer(c, any);
        return;
    }
    if (c->ping.is_single) {
        if (!c->ping.opening)
            c->ping.opening = opening_new_session(c, SSH_WINDOW_STREAM, ping_on_opened, c);
        return;
    }
    libssh2_keepalive_config(c->ssh, 1, KEEPALIVE_NOW);
    (void)libssh2_keepalive_send(c->ssh, &(int){0});
}

static void ping_send(struct ssh_conn *c)
{
    struct ping *p = &c->ping;

    p->deadline_due = clock_now_ms() + ping_deadline(c);
    if (p->control != CONTROL_ON)
        ping_fallback(c);
    else if (libssh2_channel_write(p->channel, "\n", 1) == 1 && p->sent_ns == 0)
        p->sent_ns = uv_hrtime();
    conn_dirty(c);
}

/* The owner learns of it from conn_run(), as of all else. */
void ping_tell(struct ssh_conn *c)
{
    struct ping *p = &c->ping;

    if (p->told == p->is_suspect || c->failed)
        return;
    p->told = p->is_suspect;
    c->events.suspect(c->ctx, p->told);
}

/* A path that stalls for some seconds loses nothing: the end is not yet. */
static bool ping_suspect(struct ssh_conn *c, uint64_t now)
{
    struct ping *p = &c->ping;
    uint64_t dead_due = MAX(c->last_contact_due, p->doubted_due) + DEAD_MS;

    if (!c->events.suspect || now >= dead_due)
        return false;
    p->is_suspect = true;
    p->deadline_due = dead_due;
    conn_dirty(c);
    return true;
}

static void ping_on_timer(void *ctx)
{
    struct ssh_conn *c = ctx;
    struct ping *p = &c->ping;
    uint64_t now;

    conn_receive(c); /* a loop that was busy, or slept, must not blame the peer */
    now = clock_now_ms();
    if (c->failed)
        return;
    if (p->deadline_due && now >= p->deadline_due && !ping_suspect(c, now)) {
        conn_fail(c, FAULT_TRANSIENT, "ping", "%s does not answer: no byte for %.1f s", c->name,
                  (double)(now - c->last_contact_due) / 1000);
        return;
    }
    if (!p->deadline_due && now >= ping_due(c))
        ping_send(c);
    ping_plan(c);
}

static void control_refused(struct ssh_conn *c)
{
    c->ping.control = CONTROL_REFUSED;
    c->ping.since_due = clock_now_ms();
    ping_plan(c);
}

static void control_on_exec(void *ctx, int ssh_error)
{
    struct ssh_conn *c = ctx;
    struct ping *p = &c->ping;

    if (ssh_error < 0) {
        channel_bury(c, TAKE_PTR(p->channel));
        control_refused(c);
        return;
    }
    p->control = CONTROL_ON;
    p->since_due = clock_now_ms();
    p->is_warm = false;
    c->quick_ack = false;
    ping_send(c);
    ping_plan(c);
}

static void control_on_opened(void *ctx, LIBSSH2_CHANNEL *ch, const struct fault *f)
{
    struct ssh_conn *c = ctx;

    (void)f;
    c->ping.opening = NULL;
    c->ping.channel = ch;
    if (ch) {
        channel_request_exec(c, ch, CONTROL_COMMAND, control_on_exec, c);
        return;
    }
    c->ping.found_no_place = true;
    c->ping.is_single |= runs_any(c, false) != NULL; /* which has the only one */
    control_refused(c);
}

static void control_open(struct ssh_conn *c)
{
    c->ping.control = CONTROL_OPENING;
    c->ping.opening = opening_new_session(c, SSH_WINDOW_STREAM, control_on_opened, c);
}

void control_begin(struct ssh_conn *c)
{
    if (c->ping.control != CONTROL_LATER)
        return;
    c->ping.timer = timer_new(c->loop, ping_on_timer, c);
    if (c->ping.is_single)
        c->ping.control = CONTROL_REFUSED;
    else
        control_open(c);
    ping_plan(c);
}

/* The cat goes at the end of its input, and sshd counts it until then. */
bool ssh_conn_yield(struct ssh_conn *c)
{
    struct ping *p = &c->ping;

    if (p->control != CONTROL_ON || c->failed)
        return p->control == CONTROL_YIELDING;
    p->control = CONTROL_YIELDING;
    p->is_single = true;
    p->sent_ns = 0;
    c->quick_ack = true;
    conn_dirty(c);
    return true;
}

bool ssh_conn_is_yielding(const struct ssh_conn *c)
{
    return c->ping.control == CONTROL_YIELDING;
}

bool ssh_conn_is_single(const struct ssh_conn *c)
{
    return c->ping.is_single;
}

static void control_yield(struct ssh_conn *c)
{
    struct ping *p = &c->ping;
    char echo[64];

    if (libssh2_channel_send_eof(p->channel) == LIBSSH2_ERROR_EAGAIN)
        return;
    while (libssh2_channel_read(p->channel, echo, sizeof(echo)) > 0)
        ;
    if (libssh2_channel_eof(p->channel) != 1 || !channel_is_closed_by_peer(p->channel))
        return;
    channel_bury(c, TAKE_PTR(p->channel));
    control_refused(c);
    if (c->events.room)
        c->events.room(c->ctx);
}

/* Somebody ended the cat, or there is none. One that lived is replaced. */
static void control_ended(struct ssh_conn *c)
{
    bool young = clock_now_ms() < c->ping.since_due + CONTROL_YOUNG_MS;

    channel_bury(c, TAKE_PTR(c->ping.channel));
    c->ping.sent_ns = 0;
    c->quick_ack = true;
    if (young)
        control_refused(c);
    else
        control_open(c);
}

static void ping_answered(struct ssh_conn *c)
{
    struct ping *p = &c->ping;

    if (p->sent_ns == 0)
        return;
    if (!p->is_warm) {
        p->is_warm = true;
        p->sent_ns = 0;
        ping_send(c); /* the first answer took as long as the far side needed to start a shell */
        ping_plan(c);
        return;
    }
    p->rtt_ms[p->n_rtt++ % ELEMENTS(p->rtt_ms)] = (double)(uv_hrtime() - p->sent_ns) / 1e6;
    p->sent_ns = 0;
}

/* Reading this channel makes libssh2 sort everything received, for all channels. */
void control_pull(struct ssh_conn *c)
{
    LIBSSH2_CHANNEL *ch = c->ping.control == CONTROL_ON ? c->ping.channel : NULL;
    char echo[64];
    ssize_t n;

    if (c->ping.control == CONTROL_YIELDING && !c->failed)
        control_yield(c);
    if (!ch || c->failed)
        return;
    while ((n = libssh2_channel_read(ch, echo, sizeof(echo))) > 0)
        ping_answered(c);
    if (!conn_check(c, (int)n) && n == 0 && libssh2_channel_eof(ch) == 1)
        control_ended(c);
}

void ping_end(struct ssh_conn *c)
{
    c->ping.timer = timer_free(c->ping.timer);
    c->ping.channel = NULL; /* goes with the session */
}

void ssh_conn_waiters(struct ssh_conn *c, unsigned n)
{
    struct ping *p = &c->ping;

    p->waiters = n;
    if (c->turn)
        turn_hurry(c->turn, n > 0);
    if (n == 0 || !p->timer)
        return;
    if (p->deadline_due && !p->is_suspect)
        p->deadline_due = MIN(p->deadline_due, clock_now_ms() + DEADLINE_WAITING_MS);
    ping_plan(c);
}

void ssh_conn_ping(struct ssh_conn *c)
{
    struct ping *p = &c->ping;

    if (!p->timer || c->failed || p->is_suspect)
        return;
    if (!p->deadline_due)
        ping_send(c);
    p->doubted_due = clock_now_ms();
    p->deadline_due = MIN(p->deadline_due, p->doubted_due + DEADLINE_DOUBT_MS);
    ping_plan(c);
}

double ssh_conn_rtt_ms(const struct ssh_conn *c)
{
    const struct ping *p = &c->ping;
    double least = -1;

    for (unsigned i = 0; i < MIN(p->n_rtt, (unsigned)ELEMENTS(p->rtt_ms)); i++)
        if (least < 0 || p->rtt_ms[i] < least)
            least = p->rtt_ms[i];
    return least;
}
