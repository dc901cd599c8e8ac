/* The address and who may come in. Behind it each connection is a client (client.c), and the connections to the
 * model servers lie in a pool for each deployment (pool.c); here the one is told of what happens to the other. When all
 * places are taken an idle client goes for a new one; where none is idle, who comes waits in the kernel's backlog. */
#include "gateway/gateway.h"

#include <arpa/inet.h>
#include <errno.h>
#include <string.h>
#include <strings.h>
#include <sys/resource.h>

#include "base/clock.h"
#include "base/event.h"
#include "base/fault.h"
#include "base/owner.h"
#include "base/settings.h"
#include "base/stream.h"
#include "base/timer.h"
#include "gateway/client.h"
#include "gateway/counts.h"
#include "gateway/gateway_private.h"
#include "gateway/keys.h"
#include "gateway/pool.h"

#define DESCRIPTORS_KEPT 128 /* for everything that is no application */

/* ---- connections ---- */

/* Of those that wait for a request, or for the rest of its head, the one that had no answer for longest: its
 * next request will make a new connection. The newest, which needs the room, is none of them. */
static bool make_room(struct gateway *g)
{
    for (struct list *node = g->clients.next; node != g->clients.prev; node = node->next) {
        if (client_may_go(client_of_node(node))) {
            client_free(client_of_node(node));
            return true;
        }
    }
    return false;
}

static void gateway_on_stream(void *ctx, struct stream *s)
{
    struct gateway *g = ctx;

    g->figures.connections++;
    if (!client_new(g, s))
        return;
    g->figures.open++;
    if (g->figures.open >= g->clients_max && !make_room(g)) {
        g->is_full = true; /* who comes now waits in the backlog */
        listener_pause(g->listener, true);
    }
}

void gateway_client_gone(struct gateway *g)
{
    g->figures.open--;
    if (!g->is_full || g->is_closing || !g->listener)
        return;
    g->is_full = false;
    listener_pause(g->listener, false);
}

/* ---- models ---- */

struct pool *gateway_pool(struct gateway *g, struct deployment *d)
{
    struct pool *p;

    for (struct list *node = g->pools.next; node != &g->pools; node = node->next)
        if (pool_deployment(pool_of_node(node)) == d)
            return pool_of_node(node);
    p = pool_new(g->loop, d);
    list_append(&g->pools, pool_node(p));
    return p;
}

static void gateway_on_deployment(void *ctx, struct deployment *d, bool gone)
{
    struct gateway *g = ctx;
    struct pool *p = gateway_pool(g, d);
    bool has_other = manager_has_other(g->manager, d);

    for (struct list *node = g->clients.next; node != &g->clients; node = node->next) {
        if (has_other)
            client_look_elsewhere(client_of_node(node), d);
        client_deployment_changed(client_of_node(node), d, gone);
    }
    if (gone) {
        pool_free(p);
        if (!has_other) /* counts are the name's, and another one goes on with them */
            counts_forget(g->counts, deployment_name(d));
    } else {
        pool_look(p);
    }
}

/* ---- the port ---- */

static void gateway_say_taken(struct gateway *g)
{
    char *owner = owner_of_port(g->ip, g->port);
    bool same = streq(owner ? owner : "", g->owner ? g->owner : "");

    if (!g->is_taken || !same)
        event_publish(LOG_LEVEL_ERR, LOG_DAEMON, NULL, "port_taken",
                      "%s is taken%s%s; trying again every 10 s", g->endpoint, owner ? " by " : "",
                      owner ? owner : "");
    free(g->owner);
    g->owner = owner;
    g->is_taken = true;
}

static void gateway_name_endpoint(struct gateway *g, uint16_t port)
{
    snprintf(g->endpoint, sizeof(g->endpoint), strchr(g->ip, ':') ? "http://[%s]:%u" : "http://%s:%u", g->ip,
             port);
}

/* 0 also when the port is taken: then again in 10 s. */
static int gateway_listen(struct gateway *g)
{
    int r = listener_new_tcp(g->loop, g->ip, g->port, gateway_on_stream, g, &g->listener);

    if (r == -EADDRINUSE) {
        gateway_say_taken(g);
        timer_arm(g->retry, GATEWAY_RETRY_MS);
        return 0;
    }
    if (r < 0)
        return r;
    free(TAKE_PTR(g->owner));
    g->is_taken = false;
    gateway_name_endpoint(g, listener_port(g->listener));
    return 0;
}

static void gateway_on_retry(void *ctx)
{
    struct gateway *g = ctx;

    if (gateway_listen(g) < 0)
        timer_arm(g->retry, GATEWAY_RETRY_MS);
    else if (g->listener)
        event_publish(LOG_LEVEL_NOTICE, LOG_DAEMON, NULL, "port_free", "%s is ours now", g->endpoint);
}

/* Both at once cannot be where the port stays and the address grows, so the old one goes first. */
int gateway_move(struct gateway *g, const char *address, struct fault *f)
{
    _cleanup_free_ char *owner = NULL;
    char ip[IP_TEXT_MAX];
    uint16_t port = g->listener ? listener_port(g->listener) : g->port;
    int r;

    if (g->is_passed)
        return fault_code(f, FAULT_INVALID, "port_passed", "the service manager listens at %s, not llmhostd",
                          g->endpoint);
    strcpy(ip, g->ip);
    timer_disarm(g->retry);
    g->listener = listener_give_up(g->listener);
    if (ip_port_parse(address, g->ip, &g->port) < 0)
        abort(); /* the caller has looked */
    r = listener_new_tcp(g->loop, g->ip, g->port, gateway_on_stream, g, &g->listener);
    if (r == 0) {
        free(TAKE_PTR(g->owner));
        g->is_taken = false;
        gateway_name_endpoint(g, listener_port(g->listener));
        listener_pause(g->listener, g->is_full || g->is_closing);
        return 0;
    }
    owner = r == -EADDRINUSE ? owner_of_port(g->ip, g->port) : NULL;
    fault_code(f, FAULT_INVALID, r == -EADDRINUSE ? "port_taken" : "bad_listen", "cannot listen on %s: %s%s",
               address, owner ? "taken by " : strerror(-r), owner ? owner : "");
    strcpy(g->ip, ip);
    g->port = port;
    if (gateway_listen(g) < 0)
        timer_arm(g->retry, GATEWAY_RETRY_MS);
    return r;
}

/* ---- settings ---- */

static void take_settings(struct gateway *g, const struct settings *s)
{
    const char *listen = settings_text(s, "gateway", "listen");

    if (ip_port_parse(listen, g->ip, &g->port) < 0)
        abort(); /* judged when the settings were read */
    gateway_name_endpoint(g, g->port);
    g->hold_ms = settings_ms(s, "gateway", "hold");
    g->heartbeat = settings_bool(s, "gateway", "heartbeat");
    g->hosts = xstrdup(settings_text(s, "gateway", "allow_host"));
    g->origins = xstrdup(settings_text(s, "gateway", "allow_origin"));
    g->access = (struct route_access){g->hosts, g->origins};
}

/* Half of what the system grants us, for each request may need a second one. */
static unsigned most_clients(void)
{
    struct rlimit files = {0};

    if (getrlimit(RLIMIT_NOFILE, &files) < 0 || files.rlim_cur == RLIM_INFINITY)
        return GATEWAY_CLIENTS_MAX;
    if (files.rlim_cur < 2 * DESCRIPTORS_KEPT)
        return DESCRIPTORS_KEPT / 4;
    return MIN((unsigned)((files.rlim_cur - DESCRIPTORS_KEPT) / 2), (unsigned)GATEWAY_CLIENTS_MAX);
}

/* ---- a socket that was passed ---- */

/* Where it listens, into g; false when that is no address of ours to serve. */
static bool take_address(struct gateway *g, int fd)
{
    struct sockaddr_storage at = {0};
    socklen_t n = sizeof(at);
    const void *host = &((struct sockaddr_in *)&at)->sin_addr;

    if (getsockname(fd, (struct sockaddr *)&at, &n) < 0)
        return false;
    if (at.ss_family == AF_INET6)
        host = &((struct sockaddr_in6 *)&at)->sin6_addr;
    if (!inet_ntop(at.ss_family, host, g->ip, sizeof(g->ip)))
        return false;
    g->port = ntohs(((struct sockaddr_in *)&at)->sin_port); /* at the same place in both */
    return true;
}

/* Who passed it has decided where we listen, and the setting has no say; a setting that says otherwise is
 * told of. */
static int gateway_adopt(struct gateway *g, int fd, struct fault *f)
{
    char wanted[sizeof(g->endpoint)];
    int r;

    strcpy(wanted, g->endpoint);
    if (!take_address(g, fd))
        return fault_set(
            f, FAULT_INVALID, -EINVAL,
            "the socket passed for applications is not one of TCP: ListenStream=127.0.0.1:11434");
    g->is_passed = true;
    r = listener_new_fd(g->loop, fd, gateway_on_stream, g, &g->listener);
    if (r < 0)
        return fault_set(f, FAULT_INVALID, r, "the socket passed for applications cannot be used: %s",
                         strerror(-r));
    gateway_name_endpoint(g, g->port);
    if (!streq(wanted, g->endpoint))
        log_notice(NULL, "[gateway] listen says %s, but the service manager listens at %s, which counts",
                   wanted, g->endpoint);
    return 0;
}

void gateway_fault_listen(const struct settings *s, int error, struct fault *f)
{
    const char *where = settings_where(s, "gateway", "listen");

    fault_code(f, FAULT_INVALID, "bad_listen", "%s%s[gateway] listen: %s cannot be had: %s",
               where ? where : "", where ? ": " : "", settings_text(s, "gateway", "listen"),
               strerror(-error));
}

/* ---- its life ---- */

int gateway_new(struct loop *l, struct manager *m, struct store *s, const struct settings *settings,
                int passed_fd, struct gateway **ret, struct fault *f)
{
    struct gateway *g = xnew(struct gateway);
    int r;

    g->loop = l;
    g->manager = m;
    g->started_at_ms = clock_wall_ms();
    g->next_id = (unsigned)g->started_at_ms;
    g->clients_max = most_clients();
    g->budget.max_bytes = BODY_TOGETHER_MAX;
    list_init(&g->clients);
    list_init(&g->pools);
    g->changes = (struct manager_listener){.deployment = gateway_on_deployment, .ctx = g};
    g->retry = timer_new(l, gateway_on_retry, g);
    manager_listen(m, &g->changes);
    take_settings(g, settings);
    r = counts_new(l, s, &g->counts, f);
    if (r == 0)
        r = keys_new(s, &g->keys, f);
    if (r == 0 && passed_fd) {
        r = gateway_adopt(g, passed_fd, f);
    } else if (r == 0) {
        r = gateway_listen(g);
        if (r < 0)
            gateway_fault_listen(settings, r, f);
    }
    if (r < 0) {
        gateway_free(g);
        return -EINVAL;
    }
    if (gateway_needs_key(g) && !keys_at(g->keys, 0))
        log_warning(NULL,
                    "%s can be reached from other hosts, and there is no API key: every request is refused; "
                    "llmhostctl key add NAME makes one",
                    g->endpoint);
    *ret = g;
    return 0;
}

struct gateway *gateway_free(struct gateway *g)
{
    if (!g)
        return NULL;
    manager_unlisten(g->manager, &g->changes);
    g->listener = listener_free(g->listener);
    g->retry = timer_free(g->retry);
    while (!list_is_empty(&g->clients)) {
        struct client *c = client_of_node(g->clients.next);

        client_cut(c);
        client_free(c);
    }
    while (!list_is_empty(&g->pools))
        pool_free(pool_of_node(g->pools.next));
    counts_free(g->counts);
    keys_free(g->keys);
    free(g->owner);
    free(g->hosts);
    free(g->origins);
    free(g);
    return NULL;
}

void gateway_close_door(struct gateway *g)
{
    g->is_closing = true;
    timer_disarm(g->retry);
    if (g->listener)
        listener_pause(g->listener, true);
}

bool gateway_is_listening(const struct gateway *g)
{
    return g->listener != NULL;
}

const char *gateway_endpoint(const struct gateway *g)
{
    return g->endpoint;
}

const char *gateway_owner(const struct gateway *g)
{
    return g->listener ? NULL : g->owner;
}

void gateway_figures(const struct gateway *g, struct gateway_figures *ret)
{
    *ret = g->figures;
}

/* In the order in which people know them. */
static const struct {
    enum route_kind kind;
    const char *what;
} looks[] = {
    {ROUTE_TAGS, "GET /api/tags"}, {ROUTE_MODELS, "GET /v1/models"}, {ROUTE_MODEL, "GET /v1/models/ID"},
    {ROUTE_PS, "GET /api/ps"},     {ROUTE_SHOW, "POST /api/show"},   {ROUTE_VERSION, "GET /api/version"},
    {ROUTE_HEALTH, "GET /health"}, {ROUTE_METRICS, "GET /metrics"},  {ROUTE_ROOT, "GET /"},
};

const char *gateway_look_at(const struct gateway *g, unsigned i, uint64_t *ret_count)
{
    if (i >= ELEMENTS(looks))
        return NULL;
    *ret_count = g->looks[looks[i].kind];
    return looks[i].what;
}

void gateway_counts_of(const struct gateway *g, const char *model, struct count *ret)
{
    counts_of_model(g->counts, model, ret);
}

struct keys *gateway_keys(struct gateway *g)
{
    return g->keys;
}

bool gateway_needs_key(const struct gateway *g)
{
    return !ip_is_loopback(g->ip);
}
