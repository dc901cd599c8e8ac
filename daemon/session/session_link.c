/* The connections of a session. The first one is what the state is about. While it is up there may be spares,
 * made on demand: one for bulk, so that an upload does not stand in front of everybody's bytes, and others
 * while a dial hangs: the server opens one channel at a time, so a port that neither accepts nor refuses
 * would hold up all that comes after it. A spare that fails is no loss of the tunnel; a loss of the first
 * connection ends them all, for what cut it has most likely cut them too. */
#include "session/session_private.h"

#include <errno.h>

#include "base/clock.h"
#include "base/timer.h"

#define SPARE_LOGIN_MS 20000u /* beyond the connection's own deadline */
#define SPARE_PAUSE_MS 30000u /* after one that failed */

/* Before any secret leaves. */
static int session_on_host_key(void *ctx, const struct host_key *shown, struct fault *f)
{
    struct session_link *link = ctx;
    struct session *s = link->session;
    char expected[FINGERPRINT_BYTES], got[FINGERPRINT_BYTES];

    if (!s)
        return fault_set(f, FAULT_TRANSIENT, -ECANCELED, "no longer wanted");
    if (s->pinned.n == 0) {
        s->pinned = *shown;
        runq_add(s->loop, &s->pin);
        return 0;
    }
    if (host_key_equal(&s->pinned, shown))
        return 0;
    if (!s->shown)
        s->shown = xnew(struct host_key);
    *s->shown = *shown;
    return fault_code(f, FAULT_DENIED, "host_key",
                      "%s shows another host key than before: expected %s, got %s at %s:%u; not connected, "
                      "no password was sent",
                      s->name, host_key_fingerprint(&s->pinned, expected), host_key_fingerprint(shown, got),
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

static void link_bury(struct session_link *link)
{
    struct session *s = link->session;

    list_remove(&link->node);
    link->session = NULL;
    runq_add(s->loop, &link->bury);
}

/* f: NULL when it never said. Refused ones are not tried again beside a living connection: each is a line in
 * somebody's log. */
static void spare_give_up(struct session_link *link, const struct fault *f)
{
    link->session->spare_due = f && f->kind == FAULT_DENIED ? UINT64_MAX : clock_now_ms() + SPARE_PAUSE_MS;
    link_bury(link);
}

static void session_on_up(void *ctx, const char *method)
{
    struct session_link *link = ctx;
    struct session *s = link->session;

    if (s && is_first(link)) {
        snprintf(s->method, sizeof(s->method), "%s", method);
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

/* For one that says neither. */
void session_on_spare_timer(void *ctx)
{
    struct session *s = ctx;

    LIST_FOREACH_SAFE (link, &s->links, struct session_link, node)
        if (!is_first(link) && !ssh_conn_is_up(link->conn))
            spare_give_up(link, NULL);
    session_requests_start(s);
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
        .up = session_on_up,
        .down = session_on_down,
    };
    struct ssh_target target = {s->name, s->host, s->port, s->user, &s->pinned};
    struct session_link *link = xnew(struct session_link);

    link->session = s;
    link->number = ++s->links_made;
    work_init(&link->bury, session_link_on_bury, link);
    list_init(&link->node);
    list_append(&s->links, &link->node);
    link->conn = ssh_conn_new(s->loop, s->resolver, &target, &events, link);
    return link;
}

void session_link_open(struct session *s)
{
    s->link = link_new(s);
}

/* Whether one of its kind is on its way, perhaps since just now. */
bool session_spare_open(struct session *s, bool is_bulk)
{
    unsigned n = 0;

    LIST_FOREACH (link, &s->links, struct session_link, node) {
        if (!is_first(link) && link->is_bulk == is_bulk && !ssh_conn_is_up(link->conn))
            return true;
        n++;
    }
    if (n >= SESSION_LINKS_MAX || clock_now_ms() < s->spare_due)
        return false;
    link_new(s)->is_bulk = is_bulk;
    timer_arm(s->spare_timer, SPARE_LOGIN_MS);
    return true;
}

void session_links_drop(struct session *s)
{
    timer_disarm(s->spare_timer);
    s->link = NULL;
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
