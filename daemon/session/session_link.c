/* The connections of a session. The first one is what the state is about. While it is up there may be spares,
 * made on demand: one for bulk, so that an upload does not stand in front of everybody's bytes, and others
 * while a dial hangs: the server opens one channel at a time, so a port that neither accepts nor refuses
 * would hold up all that comes after it. A spare that fails is no loss of the tunnel; a loss of the first
 * connection ends them all, for what cut it has most likely cut them too.
 *
 * Silence is no loss yet. A first connection that does not answer in time is under suspicion: another one is
 * tried beside it, and whichever of the two is heard first becomes the first one. The other then keeps the
 * streams it has, and goes with the last of them or after 10 s without a byte. */
#include "session/session_private.h"

#include <errno.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/timer.h"

#define SPARE_LOGIN_MS 20000u /* beyond the connection's own deadline */
#define SPARE_PAUSE_MS 30000u /* after one that failed */
#define SPARE_IDLE_MS  60000u
#define SPARE_LOOK_MS  10000u
#define HEARD_MS       2500u /* so long ago the first one, silent now, was asked */

/* Before any secret leaves. */
static int session_on_host_key(void *ctx, const struct host_key *shown, struct fault *f)
{
    struct session_link *link = ctx;
    struct session *s = link->session;
    char expected[FINGERPRINT_BYTES], got[FINGERPRINT_BYTES];

    if (!s)
        return fault_set(f, FAULT_TRANSIENT, -ECANCELED, "no longer wanted");
    if (!s->pinned) {
        host_key_keep(&s->pinned, shown);
        runq_add(s->loop, &s->pin);
        return 0;
    }
    if (host_key_equal(s->pinned, shown))
        return 0;
    host_key_keep(&s->shown, shown);
    return fault_code(f, FAULT_DENIED, "host_key",
                      "%s shows another host key than before: expected %s, got %s at %s:%u; not connected, "
                      "no password was sent",
                      s->name, host_key_fingerprint(s->pinned, expected), host_key_fingerprint(shown, got),
                      s->host, s->port);
}

static void session_on_secrets(void *ctx, struct ssh_secrets *ret)
{
    struct session_link *link = ctx;

    *ret = (struct ssh_secrets){0};
    if (!link->session)
        return;
    retry_login_begins(&link->session->logins, clock_now_ms());
    session_credentials(link->session, ret);
}

static bool is_first(const struct session_link *link)
{
    return link->session->link == link;
}

static unsigned links_count(const struct session *s)
{
    unsigned n = 0;

    LIST_FOREACH (link, &s->links, struct session_link, node)
        n++;
    return n;
}

static void link_bury(struct session_link *link)
{
    struct session *s = link->session;

    if (is_first(link))
        s->link = NULL;
    list_remove(&link->node);
    link->session = NULL;
    runq_add(s->loop, &link->bury);
}

static unsigned link_uses(const struct session_link *link)
{
    return ssh_conn_streams(link->conn) + session_requests_on(link);
}

/* f: NULL when it never said. Refused ones are not tried again beside a living connection: each is a line in
 * somebody's log. */
static void spare_give_up(struct session_link *link, const struct fault *f)
{
    if (!link->is_suspect && !link->is_retired)
        link->session->spare_due =
            f && f->kind == FAULT_DENIED ? UINT64_MAX : clock_now_ms() + SPARE_PAUSE_MS;
    link_bury(link);
}

/* Why it takes so long; the login goes on. Of a spare it is no trouble of the tunnel, which is up. */
static void session_on_waits(void *ctx, const char *key)
{
    struct session_link *link = ctx;
    struct session *s = link->session;
    struct fault f;

    if (!s)
        return;
    fault_code(&f, FAULT_TRANSIENT, SESSION_AGENT_WAITS,
               "waiting for a touch of the key \"%s\", or whatever else its ssh-agent asks its owner", key);
    log_line(LOG_LEVEL_NOTICE, LOG_SESSION, s->name, "%s", f.text);
    if (!is_first(link))
        return;
    s->fault = f;
    runq_add(s->loop, &s->changed);
}

static void session_on_up(void *ctx, const char *method)
{
    struct session_link *link = ctx;
    struct session *s = link->session;

    if (s && is_first(link)) {
        snprintf(s->method, sizeof(s->method), "%s", method);
        s->ahead_lost = link->went_ahead ? 0 : s->ahead_lost;
        s->own_key_holds = streq(method, "own key") && s->ahead_lost < SESSION_AHEAD_LOST_MAX;
        session_event(s, SESSION_EV_UP, NULL);
    } else if (s) {
        session_requests_start(s);
    }
}

static void session_on_down(void *ctx, const struct fault *f)
{
    struct session_link *link = ctx;
    struct session *s = link->session;

    if (s && is_first(link)) {
        session_event(s, SESSION_EV_DOWN, f);
    } else if (s) {
        spare_give_up(link, f);
        session_requests_start(s);
    }
}

/* The first one was asked and did not answer; or some other one that was asked did at last. */
static void session_on_suspect(void *ctx, bool is_suspect)
{
    struct session_link *link = ctx;
    struct session *s = link->session;
    struct fault f;

    if (!s)
        return;
    link->is_suspect = is_suspect;
    fault_code(&f, FAULT_TRANSIENT, "ping", "%s does not answer: no byte for %.1f s", s->name,
               (double)(clock_now_ms() - ssh_conn_last_contact_due(link->conn)) / 1000);
    if (!is_suspect)
        session_event(s, SESSION_EV_SPOKE, NULL);
    else if (is_first(link))
        session_event(s, SESSION_EV_SUSPECT, &f);
    session_requests_start(s);
}

static void session_on_room(void *ctx)
{
    struct session_link *link = ctx;

    if (link->session)
        session_requests_start(link->session);
}

/* Until it is up, the next one is trusted no further than any other. */
static void session_on_soon(void *ctx)
{
    struct session_link *link = ctx;
    struct session *s = link->session;

    if (!s || !is_first(link))
        return;
    s->own_key_holds = false;
    if (!session_requests_go_ahead(s))
        return;
    link->went_ahead = true;
    s->ahead_lost++;
}

static void spare_look(struct session_link *link)
{
    struct session *s = link->session;
    uint64_t now = clock_now_ms();

    if (!ssh_conn_is_up(link->conn)) { /* one that says neither */
        if (now >= link->used_due + SPARE_LOGIN_MS)
            spare_give_up(link, NULL);
    } else if (link_uses(link) > 0) {
        link->used_due = now;
    } else if (s->state == SESSION_UP && (link->is_retired || now >= link->used_due + SPARE_IDLE_MS)) {
        link_bury(link);
    }
}

void session_spare_look_within(struct session *s, uint64_t delay_ms)
{
    if (!timer_is_armed(s->spare_timer) || timer_due(s->spare_timer) > clock_now_ms() + delay_ms)
        timer_arm(s->spare_timer, delay_ms);
}

/* Once more when one that is under way will have hung too long. */
static void spare_look_at_dials(struct session *s)
{
    uint64_t now = clock_now_ms();

    LIST_FOREACH (link, &s->links, struct session_link, node) {
        uint64_t since_due = ssh_conn_dialling_due(link->conn);

        if (since_due && now < since_due + SESSION_STALLED_MS)
            session_spare_look_within(s, since_due + SESSION_STALLED_MS - now);
    }
}

void session_on_spare_timer(void *ctx)
{
    struct session *s = ctx;

    LIST_FOREACH_SAFE (link, &s->links, struct session_link, node)
        if (!is_first(link))
            spare_look(link);
    session_event(s, SESSION_EV_SPOKE, NULL); /* not under suspicion itself, a spare would not say so */
    if (links_count(s) > (s->link ? 1 : 0))
        session_spare_look_within(s, s->state == SESSION_UP ? SPARE_LOOK_MS : HEARD_MS);
    session_requests_start(s);
    spare_look_at_dials(s);
}

static void session_link_on_bury(void *ctx)
{
    struct session_link *link = ctx;

    ssh_conn_free(link->conn);
    free(link);
}

static struct session_link *link_new(struct session *s)
{
    static const struct ssh_conn_events events = {
        .host_key = session_on_host_key,
        .secrets = session_on_secrets,
        .waits = session_on_waits,
        .up = session_on_up,
        .down = session_on_down,
        .suspect = session_on_suspect,
        .room = session_on_room,
        .soon = session_on_soon,
    };
    struct ssh_target target = {
        .name = s->name,
        .host = s->host,
        .port = s->port,
        .user = s->user,
        .pinned = s->pinned,
        .proxy = s->proxy,
        .agent = s->agent,
        .turns = s->turns,
        .is_single = s->is_single,
        .own_key_holds = s->own_key_holds,
    };
    struct session_link *link = xnew(struct session_link);

    link->session = s;
    link->number = ++s->links_made;
    link->used_due = clock_now_ms();
    work_init(&link->bury, session_link_on_bury, link);
    list_init(&link->node);
    list_append(&s->links, &link->node);
    link->conn = ssh_conn_new(s->loop, s->resolver, &target, &events, link);
    session_requests_count(s);
    return link;
}

static void link_make_first(struct session_link *link)
{
    struct session *s = link->session;

    list_remove(&link->node);
    list_prepend(&s->links, &link->node);
    link->is_retired = link->is_bulk = false;
    s->link = link;
}

void session_link_open(struct session *s)
{
    link_make_first(link_new(s));
}

/* The one that was tried. */
void session_link_abandon(struct session *s)
{
    if (s->link)
        link_bury(s->link);
}

/* Beside the first one: since that one fell silent. NULL: none. */
struct session_link *session_link_heard(const struct session *s)
{
    uint64_t now = clock_now_ms(), since_due = s->lost_due ? s->lost_due : now - MIN(now, HEARD_MS);

    LIST_FOREACH (link, &s->links, struct session_link, node)
        if (!is_first(link) && !link->is_suspect && ssh_conn_is_up(link->conn) &&
            ssh_conn_last_contact_due(link->conn) >= since_due)
            return link;
    return NULL;
}

/* There is one that was heard. */
void session_link_take_over(struct session *s)
{
    struct session_link *heard = session_link_heard(s);

    if (s->link && ssh_conn_is_up(s->link->conn))
        s->link->is_retired = true;
    else
        session_link_abandon(s);
    link_make_first(heard);
    session_spare_look_within(s, SPARE_LOOK_MS);
}

static struct session_link *links_least_used(const struct session *s)
{
    struct session_link *least = NULL;

    LIST_FOREACH (link, &s->links, struct session_link, node)
        if (!is_first(link) && (!least || link_uses(link) < link_uses(least)))
            least = link;
    return least;
}

/* What carries something stays with the first one, as far as there is room for another. */
void session_links_suspect(struct session *s)
{
    LIST_FOREACH_SAFE (link, &s->links, struct session_link, node)
        if (!is_first(link) && (!ssh_conn_is_up(link->conn) || link_uses(link) == 0))
            link_bury(link);
    while (links_count(s) >= SESSION_LINKS_MAX)
        link_bury(links_least_used(s));
    s->link = NULL;
    s->spare_due = 0;
    session_links_ping(s);
    session_spare_look_within(s, HEARD_MS);
}

/* A new first one is up. */
void session_links_retire(struct session *s)
{
    LIST_FOREACH_SAFE (link, &s->links, struct session_link, node) {
        if (is_first(link))
            continue;
        link->is_retired = true;
        if (link_uses(link) == 0)
            link_bury(link);
    }
}

/* Whether one of its kind is on its way, perhaps since just now. */
bool session_spare_open(struct session *s, bool is_bulk)
{
    LIST_FOREACH (link, &s->links, struct session_link, node)
        if (!is_first(link) && link->is_bulk == is_bulk && !ssh_conn_is_up(link->conn))
            return true;
    if (links_count(s) >= SESSION_LINKS_MAX || clock_now_ms() < s->spare_due ||
        retry_login_wait_ms(&s->logins, clock_now_ms()) > 0)
        return false;
    link_new(s)->is_bulk = is_bulk;
    session_spare_look_within(s, SPARE_LOOK_MS);
    return true;
}

void session_links_drop_others(struct session *s)
{
    LIST_FOREACH_SAFE (link, &s->links, struct session_link, node)
        if (!is_first(link))
            link_bury(link);
}

void session_links_drop(struct session *s)
{
    timer_disarm(s->spare_timer);
    s->spare_due = 0;
    LIST_FOREACH_SAFE (link, &s->links, struct session_link, node)
        link_bury(link);
}

void session_links_ping(struct session *s)
{
    LIST_FOREACH (link, &s->links, struct session_link, node)
        if (ssh_conn_is_up(link->conn))
            ssh_conn_ping(link->conn);
}
