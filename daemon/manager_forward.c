/* Forwards people asked for: bound from start to end; a port that somebody else has is tried again every 10
 * s. */
#include "manager_private.h"

#include <arpa/inet.h>
#include <errno.h>

#include "base/log.h"
#include "base/owner.h"
#include "base/timer.h"
#include "lease/lease.h"
#include "proto/address.h"
#include "proto/ssh_command.h"
#include "proto/text.h"
#include "session/forward.h"

#define RETRY_MS 10000

struct managed_forward {
    struct list node;
    struct manager *manager;
    struct lease *lease;
    struct forward_record record; /* instance is the lease's */
    struct forward *forward;      /* NULL: not listening */
    char listen[64], target[300]; /* as people write them */
    char reason[120];
    struct timer *timer;
};

static int forward_listen(struct managed_forward *f)
{
    struct manager *m = f->manager;
    int r = forward_new_tcp(m->context.loop, lease_host(f->lease), f->record.listen_ip, f->record.listen_port,
                            f->record.address, f->record.port, &f->forward);

    if (r < 0) {
        snprintf(f->reason, sizeof f->reason, "%s", r == -EADDRINUSE ? "the port is taken" : strerror(-r));
        timer_arm(f->timer, RETRY_MS);
    }
    return r;
}

static void forward_on_timer(void *ctx)
{
    struct managed_forward *f = ctx;

    if (forward_listen(f) == 0)
        log_notice(lease_name(f->lease), "forward %s listens now", f->listen);
}

static struct managed_forward *managed_forward_new(struct manager *m, struct lease *l, const char *listen_ip,
                                                   uint16_t listen_port, const char *address, uint16_t port)
{
    struct managed_forward *f = xnew(struct managed_forward);

    f->manager = m;
    f->lease = l;
    f->record = (struct forward_record){
        .instance = (char *)lease_name(l),
        .listen_ip = xstrdup(listen_ip),
        .address = xstrdup(address),
        .listen_port = listen_port,
        .port = port,
    };
    host_port_format(f->listen, sizeof f->listen, listen_ip, listen_port);
    host_port_format(f->target, sizeof f->target, address, port);
    f->timer = timer_new(m->context.loop, forward_on_timer, f);
    list_init(&f->node);
    list_append(&m->forwards, &f->node);
    return f;
}

static void managed_forward_free(struct managed_forward *f)
{
    list_remove(&f->node);
    forward_free(f->forward);
    timer_free(f->timer);
    free(f->record.listen_ip);
    free(f->record.address);
    free(f);
}

void forwards_restore(struct manager *m, const struct forward_record *r)
{
    struct lease *l = manager_find_lease(m, r->instance);

    if (!l)
        return;
    struct managed_forward *f = managed_forward_new(m, l, r->listen_ip, r->listen_port, r->address, r->port);

    if (forward_listen(f) < 0)
        log_warning(r->instance, "forward %s does not listen yet: %s", f->listen, f->reason);
}

/* l NULL: all of them. */
void forwards_drop(struct manager *m, struct lease *l)
{
    LIST_FOREACH_SAFE (f, &m->forwards, struct managed_forward, node)
        if (!l || f->lease == l)
            managed_forward_free(f);
}

bool forwards_have(struct manager *m, const struct lease *l)
{
    LIST_FOREACH (f, &m->forwards, struct managed_forward, node)
        if (f->lease == l)
            return true;
    return false;
}

uint64_t forwards_bytes(struct manager *m, const struct lease *l)
{
    uint64_t bytes = 0;

    LIST_FOREACH (f, &m->forwards, struct managed_forward, node)
        if (f->lease == l && f->forward)
            bytes += forward_bytes(f->forward);
    return bytes;
}

static struct managed_forward *forward_find(struct manager *m, const char *ip, uint16_t port)
{
    LIST_FOREACH (f, &m->forwards, struct managed_forward, node)
        if (f->record.listen_port == port && (!ip || streq(f->record.listen_ip, ip)))
            return f;
    return NULL;
}

static void forward_look(const struct managed_forward *f, struct forward_view *ret)
{
    *ret = (struct forward_view){
        .instance = lease_name(f->lease),
        .listen = f->listen,
        .target = f->target,
        .listening = f->forward != NULL,
        .connections = f->forward ? forward_connections(f->forward) : 0,
        .reason = f->forward ? NULL : f->reason,
    };
}

static bool is_this_host(const char *host)
{
    return streq(host, "localhost") || ip_is_loopback(host);
}

int manager_add_forward(struct manager *m, struct lease *l, const struct ssh_forward *w,
                        struct forward_view *ret, uint64_t *ret_ticket, struct fault *fault)
{
    struct in6_addr room;

    if (inet_pton(strchr(w->listen_ip, ':') ? AF_INET6 : AF_INET, w->listen_ip, &room) != 1)
        return fault_code(fault, FAULT_INVALID, "bad_forward", "\"%.60s\" is no numeric address to listen on",
                          w->listen_ip);
    if (forward_find(m, w->listen_ip, w->listen_port)) {
        char listen[64];

        return fault_code(fault, FAULT_INVALID, "forward_exists", "%s leads somewhere already",
                          host_port_format(listen, sizeof listen, w->listen_ip, w->listen_port));
    }

    if (!lease_session(l) && w->port == w->listen_port && is_this_host(w->host))
        return fault_code(fault, FAULT_INVALID, "bad_forward", "%s is this very host: port %u is here already",
                          lease_name(l), w->port);

    struct managed_forward *f = managed_forward_new(m, l, w->listen_ip, w->listen_port, w->host, w->port);
    int r = forward_listen(f);

    if (r < 0) {
        _cleanup_free_ char *owner = r == -EADDRINUSE ? owner_of_port(w->listen_ip, w->listen_port) : NULL;

        fault_code(fault, FAULT_INVALID, "port_taken", "cannot listen on %s: %s%s%s", f->listen, f->reason,
                   owner ? " by " : "", owner ? owner : "");
        managed_forward_free(f);
        return r;
    }
    log_notice(lease_name(l), "forward %s to %s", f->listen, f->target);
    forward_look(f, ret);
    *ret_ticket = store_put_forward(m->context.store, &f->record);
    return 0;
}

int manager_remove_forward(struct manager *m, struct lease *l, const char *listen, uint64_t *ret_ticket)
{
    LIST_FOREACH (f, &m->forwards, struct managed_forward, node) {
        char port[8];

        snprintf(port, sizeof port, "%u", f->record.listen_port);
        if (f->lease != l || (!streq(f->listen, listen) && !streq(port, listen)))
            continue;
        *ret_ticket = store_remove_forward(m->context.store, f->record.listen_ip, f->record.listen_port);
        managed_forward_free(f);
        return 0;
    }
    return -ENOENT;
}

bool manager_forward_at(struct manager *m, const struct lease *l, unsigned i, struct forward_view *ret)
{
    LIST_FOREACH (f, &m->forwards, struct managed_forward, node) {
        if ((l && f->lease != l) || i-- > 0)
            continue;
        forward_look(f, ret);
        return true;
    }
    return false;
}
