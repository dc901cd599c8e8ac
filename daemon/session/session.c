/* The object: what it was told, its connection, and what others may ask of it. What happens when is in
 * session_fsm.c. */
#include "session/session_private.h"

#include <sys/random.h>

#include "base/clock.h"
#include "base/op.h"
#include "base/timer.h"

uint32_t session_dice(struct session *s)
{
    s->dice = s->dice * 1664525u + 1013904223u;
    return s->dice >> 4;
}

static void session_on_timer(void *ctx)
{
    session_event(ctx, SESSION_EV_TIMER, NULL);
}

static void session_on_changed(void *ctx)
{
    struct session *s = ctx;

    if (s->events.changed)
        s->events.changed(s->ctx, s);
}

static void session_on_pin(void *ctx)
{
    struct session *s = ctx;

    if (s->events.pin)
        s->events.pin(s->ctx, s->pinned);
}

static bool is_same(const char *a, const char *b)
{
    return a && b ? streq(a, b) : a == b;
}

/* A changed target leads elsewhere unless all it says is what we have: also the pin that our own first
 * contact gave. */
static bool session_set_target(struct session *s, const struct session_target *t)
{
    const struct host_key *pinned = t->pinned && t->pinned->n > 0 ? t->pinned : NULL;
    bool moved = !s->host || !streq(s->host, t->host) || !streq(s->user, t->user) || s->port != t->port ||
                 !is_same(s->proxy, t->proxy);

    if (moved) {
        free(s->host);
        free(s->user);
        s->host = xstrdup(t->host);
        s->user = xstrdup(t->user);
        s->port = t->port;
        free(s->proxy);
        s->proxy = xstrdup(t->proxy);
        s->is_single = s->own_key_holds = false;
        s->ahead_lost = 0;
        s->logins = (struct retry_logins){0}; /* the ration is the other host's */
    }
    if (!pinned != !s->pinned || (pinned && !host_key_equal(pinned, s->pinned))) {
        host_key_keep(&s->pinned, pinned);
        moved = moved || pinned;
    }
    s->install_key = t->install_key;
    free(s->agent);
    s->agent = xstrdup(t->agent);
    return moved;
}

struct session *session_new(struct loop *l, struct resolver *r, struct turns *turns, struct secrets *secrets,
                            const char *name, const struct session_target *target,
                            const struct session_events *events, void *ctx)
{
    struct session *s = xnew(struct session);

    s->loop = l;
    s->resolver = r;
    s->turns = turns;
    s->secrets = secrets;
    s->name = xstrdup(name);
    s->events = *events;
    s->ctx = ctx;
    s->since_at_ms = clock_wall_ms();
    s->timer = timer_new(l, session_on_timer, s);
    s->spare_timer = timer_new(l, session_on_spare_timer, s);
    s->pause_timer = timer_new(l, session_on_pause_timer, s);
    work_init(&s->changed, session_on_changed, s);
    work_init(&s->pin, session_on_pin, s);
    list_init(&s->links);
    list_init(&s->queued);
    list_init(&s->started);
    if (getrandom(&s->dice, sizeof(s->dice), GRND_NONBLOCK) < 0)
        s->dice = (uint32_t)clock_now_ms();
    session_set_target(s, target);
    return s;
}

void session_use_secrets(struct session *s, const struct session_secrets *instead)
{
    s->instead = *instead;
}

void session_on_trial(struct session *s, bool on_trial)
{
    s->on_trial = on_trial;
}

struct session *session_free(struct session *s)
{
    if (!s)
        return NULL;
    op_cancel(&s->key_op);
    session_requests_abandon(s);
    session_links_drop(s);
    timer_free(s->timer);
    timer_free(s->spare_timer);
    timer_free(s->pause_timer);
    runq_drop(&s->changed);
    runq_drop(&s->pin);
    free(s->pinned);
    free(s->shown);
    free(s->name);
    free(s->agent);
    free(s->proxy);
    free(s->host);
    free(s->user);
    free(s);
    return NULL;
}

void session_want(struct session *s, bool wanted)
{
    if (s->wanted != wanted)
        session_event(s, wanted ? SESSION_EV_WANT : SESSION_EV_UNWANT, NULL);
}

void session_renew(struct session *s, const struct session_target *target)
{
    s->moved = target && session_set_target(s, target);
    session_event(s, SESSION_EV_RENEW, NULL);
}

void session_hurry(struct session *s)
{
    session_event(s, SESSION_EV_HURRY, NULL);
}

enum session_state session_state(const struct session *s)
{
    return s->state;
}

const char *session_name(const struct session *s)
{
    return s->name;
}

const struct fault *session_fault(const struct session *s)
{
    return &s->fault;
}

const struct host_key *session_shown_key(const struct session *s)
{
    static const struct host_key none;

    return s->shown ? s->shown : &none;
}

void session_figures(const struct session *s, struct session_figures *ret)
{
    *ret = (struct session_figures){
        .since_at_ms = s->lost_due ? s->lost_at_ms : s->since_at_ms,
        .tries = s->state == SESSION_UP ? 0 : s->tries,
        .next_try_at_ms = s->next_try_at_ms,
        .reconnects = s->reconnects,
        .is_single = s->is_single || (s->link && ssh_conn_is_single(s->link->conn)),
        .rtt_ms = s->state == SESSION_UP ? ssh_conn_rtt_ms(s->link->conn) : -1,
        .method = s->state == SESSION_UP ? s->method : NULL,
    };
    memcpy(ret->last_break, s->last_break, sizeof(ret->last_break));
}
