/* A machine over SSH: each request is the session's. */
#include "proto/mem.h"
#include "session/host.h"
#include "session/session.h"

struct host_ssh {
    struct host host;
    struct session *session; /* borrowed */
};

static struct session *session_of(const struct host *h)
{
    return CONTAINER_OF(h, struct host_ssh, host)->session;
}

static void host_ssh_dial(struct host *h, const char *address, uint16_t port, enum host_traffic kind,
                          struct op **slot, host_dial_fn done, void *ctx)
{
    session_dial(session_of(h), address, port, kind == HOST_BULK ? SSH_WINDOW_BULK : SSH_WINDOW_STREAM, slot,
                 done, ctx);
}

static void host_ssh_run(struct host *h, const struct run_spec *spec, struct op **slot, run_done_fn done,
                         void *ctx)
{
    session_run(session_of(h), spec, slot, done, ctx);
}

static void host_ssh_waiting(struct host *h, int change)
{
    session_waiting(session_of(h), change);
}

static bool host_ssh_is_reachable(const struct host *h)
{
    return session_state(session_of(h)) == SESSION_UP;
}

static struct host *host_ssh_free(struct host *h)
{
    free(CONTAINER_OF(h, struct host_ssh, host));
    return NULL;
}

static const struct host_ops host_ssh_ops = {
    .name = "ssh",
    .dial = host_ssh_dial,
    .run = host_ssh_run,
    .waiting = host_ssh_waiting,
    .is_reachable = host_ssh_is_reachable,
    .free = host_ssh_free,
};

struct host *host_ssh_new(struct session *s)
{
    struct host_ssh *h = xnew(struct host_ssh);

    h->host.ops = &host_ssh_ops;
    h->session = s;
    return &h->host;
}
