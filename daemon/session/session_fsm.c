/* The life of a session. session_next() decides and is pure; session_enter() alone writes the state;
 * session_act() does what the state is for; session_event() is the only door. */
#include "session/session_private.h"

#include <time.h>

#include "base/clock.h"
#include "base/event.h"
#include "base/log.h"
#include "base/op.h"
#include "base/timer.h"
#include "proto/text.h"

#define STAY    ((struct session_move){s->state, SESSION_KEEP})
#define MOVE(x) ((struct session_move){(x), SESSION_ENTER})
#define PING    ((struct session_move){s->state, SESSION_PING})
#define SETTLE  ((struct session_move){s->state, SESSION_SETTLE})
#define SWAP    ((struct session_move){s->state, SESSION_SWAP})

const char *session_state_name(enum session_state st)
{
    switch (st) {
    case SESSION_IDLE: return "none";
    case SESSION_CONNECTING: return "connecting";
    case SESSION_UP: return "up";
    case SESSION_WAITING: return "down";
    case SESSION_REFUSED: return "refused";
    }
    return "?";
}

const char *session_event_name(enum session_event ev)
{
    switch (ev) {
    case SESSION_EV_WANT: return "wanted";
    case SESSION_EV_UNWANT: return "not wanted";
    case SESSION_EV_UP: return "logged in";
    case SESSION_EV_DOWN: return "connection lost";
    case SESSION_EV_SUSPECT: return "connection silent";
    case SESSION_EV_SPOKE: return "connection heard again";
    case SESSION_EV_TIMER: return "timer";
    case SESSION_EV_RENEW: return "renewed";
    case SESSION_EV_HURRY: return "hurry";
    }
    return "?";
}

/* After a refusal logins are rationed, whoever asks for them. */
static struct session_move session_try(const struct session *s)
{
    return MOVE(s->login_wait_ms > 0 ? SESSION_WAITING : SESSION_CONNECTING);
}

/* Of us, or of our ssh by a host on the way. */
static bool is_refused_login(const struct fault *f)
{
    return streq(f->code, "login_refused") || streq(f->code, "jump_refused");
}

static struct session_move session_after_fault(const struct session *s, const struct fault *f)
{
    if (f->kind != FAULT_DENIED)
        return MOVE(SESSION_WAITING);
    /* Another host key, a passphrase we lack: asking again changes nothing. */
    if (!is_refused_login(f) || s->reread)
        return MOVE(SESSION_REFUSED);
    /* The file may be newer than what was read: once. */
    return session_try(s);
}

/* A peer that lets us in and drops us at once would otherwise be asked thirty times a second. */
static struct session_move session_after_loss(const struct session *s)
{
    return s->tries <= 1 ? session_try(s) : MOVE(SESSION_WAITING);
}

struct session_move session_next(const struct session *s, enum session_event ev, const struct fault *f)
{
    switch (s->state) {
    case SESSION_IDLE:
        switch (ev) {
        case SESSION_EV_WANT: return s->refused ? MOVE(SESSION_REFUSED) : session_try(s);
        case SESSION_EV_UNWANT:
        case SESSION_EV_UP:
        case SESSION_EV_DOWN:
        case SESSION_EV_SUSPECT:
        case SESSION_EV_SPOKE:
        case SESSION_EV_TIMER:
        case SESSION_EV_RENEW:
        case SESSION_EV_HURRY: return STAY;
        }
        break;
    case SESSION_CONNECTING:
        switch (ev) {
        case SESSION_EV_UNWANT: return MOVE(SESSION_IDLE);
        case SESSION_EV_UP: return MOVE(SESSION_UP);
        case SESSION_EV_SPOKE: return s->has_other ? MOVE(SESSION_UP) : STAY;
        case SESSION_EV_DOWN: return session_after_fault(s, f);
        case SESSION_EV_TIMER: return MOVE(SESSION_WAITING);
        /* What it began with may be wrong by now; but this may be the last login of the hour. */
        case SESSION_EV_RENEW:
        case SESSION_EV_HURRY: return s->login_wait_ms > 0 ? STAY : MOVE(SESSION_CONNECTING);
        case SESSION_EV_SUSPECT:
        case SESSION_EV_WANT: return STAY;
        }
        break;
    case SESSION_UP:
        switch (ev) {
        case SESSION_EV_UNWANT: return MOVE(SESSION_IDLE);
        case SESSION_EV_DOWN: return session_after_loss(s);
        case SESSION_EV_SUSPECT: return s->has_other ? SWAP : session_after_loss(s);
        case SESSION_EV_TIMER: return SETTLE;
        case SESSION_EV_RENEW: return s->moved ? MOVE(SESSION_CONNECTING) : PING;
        case SESSION_EV_HURRY: return PING;
        case SESSION_EV_WANT:
        case SESSION_EV_UP:
        case SESSION_EV_SPOKE: return STAY;
        }
        break;
    case SESSION_WAITING:
        switch (ev) {
        case SESSION_EV_UNWANT: return MOVE(SESSION_IDLE);
        case SESSION_EV_SPOKE: return s->has_other ? MOVE(SESSION_UP) : STAY;
        case SESSION_EV_TIMER:
        case SESSION_EV_RENEW:
        case SESSION_EV_HURRY: return session_try(s);
        case SESSION_EV_WANT:
        case SESSION_EV_UP:
        case SESSION_EV_DOWN:
        case SESSION_EV_SUSPECT: return STAY;
        }
        break;
    case SESSION_REFUSED:
        switch (ev) {
        case SESSION_EV_UNWANT: return MOVE(SESSION_IDLE);
        case SESSION_EV_RENEW: return session_try(s);
        case SESSION_EV_WANT: /* wanting harder changes no credential */
        case SESSION_EV_UP:
        case SESSION_EV_DOWN:
        case SESSION_EV_SUSPECT:
        case SESSION_EV_SPOKE:
        case SESSION_EV_TIMER:
        case SESSION_EV_HURRY: return STAY;
        }
        break;
    }
    return STAY;
}

static void session_remember_loss(struct session *s, const struct fault *f)
{
    s->lost_due = clock_now_ms();
    s->lost_at_ms = clock_wall_ms();
    snprintf(s->lost_why, sizeof(s->lost_why), "%.*s",
             (int)utf8_valid(f->text, MIN(strlen(f->text), sizeof(s->lost_why) - 1)), f->text);
    event_publish(LOG_LEVEL_WARNING, LOG_SESSION, s->name, "tunnel_lost", "tunnel lost: %s", f->text);
}

/* With the connection it had, or with another one. */
static void session_remember_return(struct session *s, bool same)
{
    char away[TEXT_SHORT_MAX], at_time[16] = "";
    time_t at = s->lost_at_ms / 1000;
    struct tm tm;

    duration_format(away, clock_now_ms() - s->lost_due, true);
    if (localtime_r(&at, &tm))
        strftime(at_time, sizeof(at_time), "%H:%M:%S", &tm);
    snprintf(s->last_break, sizeof(s->last_break), "%s, %s %s", away, at_time, s->lost_why);
    s->reconnects += !same;
    s->lost_due = 0;
    event_publish(LOG_LEVEL_NOTICE, LOG_SESSION, s->name, "tunnel_restored",
                  "tunnel back after %s (%s; %s %s)", away, s->lost_why,
                  same ? "the same connection, logged in with" : "logged in with", s->method);
}

/* One line per change. The same failure every 15 s for a night is worth one line, not two thousand. */
static void session_tell(struct session *s, enum session_state next, enum session_event ev,
                         const struct fault *f)
{
    bool again = f && s->tries > 1 && streq(f->text, s->fault.text);

    if (s->state == SESSION_UP && (ev == SESSION_EV_DOWN || ev == SESSION_EV_SUSPECT))
        session_remember_loss(s, f);
    else if (next == SESSION_UP && s->lost_due)
        session_remember_return(s, ev == SESSION_EV_SPOKE);
    else if (next == SESSION_UP)
        event_publish(LOG_LEVEL_NOTICE, LOG_SESSION, s->name, "tunnel_up",
                      "tunnel up: logged in at %s with %s", ssh_conn_peer(s->link->conn), s->method);
    else if (next == SESSION_REFUSED && s->on_trial)
        log_line(LOG_LEVEL_NOTICE, LOG_SESSION, s->name, "%s", f ? f->text : s->fault.text);
    else if (next == SESSION_REFUSED)
        event_publish(LOG_LEVEL_ERR, LOG_SESSION, s->name, "tunnel_refused", "%s",
                      f ? f->text : s->fault.text);
    else
        log_line(again || (next == SESSION_CONNECTING && s->tries > 0) ? LOG_LEVEL_DEBUG : LOG_LEVEL_INFO,
                 LOG_SESSION, s->name, "%s -> %s (%s)", session_state_name(s->state),
                 session_state_name(next), f ? f->text : session_event_name(ev));
}

/* The facts that go with being in a state. */
static void session_take_facts(struct session *s, enum session_state next, enum session_event ev,
                               const struct fault *f)
{
    if (f)
        s->fault = *f;
    if (f && is_refused_login(f)) {
        s->reread = true;
        retry_login_refused(&s->logins);
    }
    if (f && streq(f->code, "jump_refused")) /* which we only now know to have begun */
        retry_login_begins(&s->logins, clock_now_ms());
    switch (next) {
    case SESSION_IDLE:
        s->lost_due = 0;
        s->tries = 0;
        if (!s->refused)
            s->fault = (struct fault){0};
        break;
    case SESSION_CONNECTING: s->tries++; break;
    case SESSION_UP:
        s->fault = (struct fault){0};
        if (ev == SESSION_EV_SPOKE) /* which is no login */
            break;
        s->reread = s->refused = false;
        retry_login_accepted(&s->logins);
        break;
    case SESSION_WAITING: break;
    case SESSION_REFUSED: s->refused = true; break;
    }
}

/* What the state is for. */
static void session_act(struct session *s)
{
    uint64_t delay_ms;

    switch (s->state) {
    case SESSION_CONNECTING:
        timer_arm(s->timer, SESSION_LOGIN_MS);
        session_link_open(s);
        break;
    case SESSION_UP:
        timer_arm(s->timer, SESSION_SETTLE_MS);
        session_requests_start(s);
        session_key_install(s);
        break;
    case SESSION_WAITING:
        delay_ms = MAX(retry_delay_ms(s->tries, session_dice(s)), s->login_wait_ms);
        s->next_try_at_ms = clock_wall_ms() + (int64_t)delay_ms;
        timer_arm(s->timer, delay_ms);
        break;
    case SESSION_IDLE:
    case SESSION_REFUSED: break;
    }
}

/* A connection under suspicion stays beside those that are tried for it. */
static void session_change_links(struct session *s, enum session_state next, enum session_event ev)
{
    bool tries = next == SESSION_CONNECTING || next == SESSION_WAITING;

    if (s->state == SESSION_UP && tries && ev == SESSION_EV_SUSPECT)
        session_links_suspect(s);
    else if (s->state != SESSION_UP && tries)
        session_link_abandon(s);
    else if (next == SESSION_UP && ev == SESSION_EV_SPOKE)
        session_link_take_over(s);
    else if (next == SESSION_UP)
        session_links_retire(s);
    else
        session_links_drop(s);
}

/* The only place that writes s->state. */
static void session_enter(struct session *s, enum session_state next, enum session_event ev,
                          const struct fault *f)
{
    op_cancel(&s->key_op);
    timer_disarm(s->timer);
    session_tell(s, next, ev, f);
    session_take_facts(s, next, ev, f);
    session_change_links(s, next, ev);
    s->state = next;
    s->since_at_ms = clock_wall_ms();
    s->next_try_at_ms = 0;
    session_act(s);
    runq_add(s->loop, &s->changed);
}

/* What an event tells beside itself, before anything is decided by it. */
static void session_note(struct session *s, enum session_event ev)
{
    switch (ev) {
    case SESSION_EV_WANT: s->wanted = true; break;
    case SESSION_EV_UNWANT: s->wanted = false; break;
    case SESSION_EV_RENEW:
        s->refused = s->reread = false;
        if (s->state != SESSION_UP)
            s->tries = 0;
        if (s->moved)
            session_links_drop_others(s);
        if (s->state == SESSION_IDLE)
            s->fault = (struct fault){0};
        break;
    case SESSION_EV_HURRY:
        if (s->state == SESSION_WAITING)
            s->tries = 0;
        break;
    case SESSION_EV_UP:
    case SESSION_EV_DOWN:
    case SESSION_EV_SUSPECT:
    case SESSION_EV_SPOKE:
    case SESSION_EV_TIMER: break;
    }
    s->has_other = session_link_heard(s) != NULL;
    s->login_wait_ms = retry_login_wait_ms(&s->logins, clock_now_ms());
}

void session_event(struct session *s, enum session_event ev, const struct fault *f)
{
    struct fault late;

    if (ev == SESSION_EV_TIMER && s->state == SESSION_CONNECTING) {
        fault_code(&late, FAULT_TRANSIENT, "unreachable", "no login at %s:%u within %u s", s->host, s->port,
                   SESSION_LOGIN_MS / 1000);
        f = &late;
    }
    session_note(s, ev);
    struct session_move m = session_next(s, ev, f);

    if (m.how == SESSION_ENTER)
        session_enter(s, m.state, ev, f);
    else if (m.how == SESSION_PING)
        session_links_ping(s);
    else if (m.how == SESSION_SETTLE)
        s->tries = 0;
    else if (m.how == SESSION_SWAP)
        session_link_take_over(s);
}
