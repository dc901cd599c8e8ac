/* rtnetlink(7) is the doorbell: any word about links or addresses makes us look, soon after, at the addresses
 * there are. Only when those differ was it a change; a renewed lifetime, a container's link that comes or
 * goes and a scan of the air ring too, and would otherwise cost every tunnel a ping. Of routes only the
 * default ones count, and they count as they are told: nothing else need differ when they do. So does news
 * that was lost because we were slow. */
#include "base/network.h"

#include <errno.h>
#include <ifaddrs.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include "base/timer.h"
#include "base/watch.h"
#include "proto/mem.h"

#define BURST_MS   100
#define READS_MAX  16 /* per turn of the loop */
#define NEWS_BYTES 16384

struct network_watch {
    struct watch *watch;
    int fd;
    struct timer *look;
    bool rerouted;
    uint64_t addresses; /* a sum over those there are, 0: could not be asked */
    void (*changed)(void *ctx);
    void *ctx;
};

/* FNV-1a, 64 bits. */
static uint64_t hash(const void *data, size_t n)
{
    uint64_t h = 0xcbf29ce484222325u;

    for (const uint8_t *p = data; n > 0; n--)
        h = (h ^ *p++) * 0x100000001b3u;
    return h;
}

/* Of an address that leads out; 0 for any other. An address on a link that is down leads nowhere. */
static uint64_t address_hash(const struct ifaddrs *a)
{
    const unsigned working = IFF_UP | IFF_RUNNING;
    const struct sockaddr_in6 *v6 = (const void *)a->ifa_addr;
    const struct sockaddr_in *v4 = (const void *)a->ifa_addr;

    if (!a->ifa_addr || (a->ifa_flags & working) != working || a->ifa_flags & IFF_LOOPBACK)
        return 0;
    if (a->ifa_addr->sa_family == AF_INET)
        return hash(&v4->sin_addr, sizeof(v4->sin_addr)) + hash(a->ifa_name, strlen(a->ifa_name));
    if (a->ifa_addr->sa_family == AF_INET6 && !IN6_IS_ADDR_LINKLOCAL(&v6->sin6_addr))
        return hash(&v6->sin6_addr, sizeof(v6->sin6_addr)) + hash(a->ifa_name, strlen(a->ifa_name));
    return 0;
}

/* In whatever order they are listed. */
static uint64_t addresses_now(void)
{
    struct ifaddrs *all = NULL;
    uint64_t sum = 1;

    if (getifaddrs(&all) < 0)
        return 0;
    for (const struct ifaddrs *a = all; a; a = a->ifa_next)
        sum += address_hash(a);
    freeifaddrs(all);
    return sum;
}

static void network_look(void *ctx)
{
    struct network_watch *w = ctx;
    uint64_t now = addresses_now();
    bool changed = w->rerouted || now != w->addresses;

    w->rerouted = false;
    w->addresses = now;
    if (changed)
        w->changed(w->ctx);
}

static bool is_default_route(const struct nlmsghdr *m)
{
    const struct rtmsg *route = NLMSG_DATA(m);

    return (m->nlmsg_type == RTM_NEWROUTE || m->nlmsg_type == RTM_DELROUTE) &&
           m->nlmsg_len >= NLMSG_LENGTH(sizeof(*route)) && route->rtm_dst_len == 0 &&
           route->rtm_type == RTN_UNICAST;
}

static bool is_of_an_address(const struct nlmsghdr *m)
{
    return m->nlmsg_type == RTM_NEWLINK || m->nlmsg_type == RTM_DELLINK || m->nlmsg_type == RTM_NEWADDR ||
           m->nlmsg_type == RTM_DELADDR;
}

static void network_look_soon(struct network_watch *w)
{
    if (!timer_is_armed(w->look))
        timer_arm(w->look, BURST_MS);
}

static void network_hear(struct network_watch *w, const void *news, int n)
{
    for (const struct nlmsghdr *m = news; NLMSG_OK(m, n); m = NLMSG_NEXT(m, n)) {
        w->rerouted |= is_default_route(m);
        if (w->rerouted || is_of_an_address(m))
            network_look_soon(w);
    }
}

static void network_on_ready(void *ctx, unsigned events)
{
    struct network_watch *w = ctx;
    static _Alignas(struct nlmsghdr) char news[NEWS_BYTES]; /* one datagram; a longer one is cut, and heard */

    (void)events;
    for (unsigned i = 0; i < READS_MAX; i++) {
        ssize_t n = recv(w->fd, news, sizeof(news), 0);

        if (n > 0) {
            network_hear(w, news, (int)n);
        } else if (n < 0 && errno == ENOBUFS) { /* some of it was lost */
            w->rerouted = true;
            network_look_soon(w);
        } else if (n == 0 || errno != EINTR) {
            return;
        }
    }
}

int network_watch_new(struct loop *l, void (*changed)(void *ctx), void *ctx, struct network_watch **ret)
{
    struct sockaddr_nl all = {
        .nl_family = AF_NETLINK,
        .nl_groups =
            RTMGRP_LINK | RTMGRP_IPV4_IFADDR | RTMGRP_IPV6_IFADDR | RTMGRP_IPV4_ROUTE | RTMGRP_IPV6_ROUTE,
    };
    int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, NETLINK_ROUTE), r;
    struct network_watch *w;

    if (fd < 0)
        return -errno;
    if (bind(fd, (struct sockaddr *)&all, sizeof(all)) < 0) {
        r = -errno;
        close(fd);
        return r;
    }
    w = xnew(struct network_watch);
    w->fd = fd;
    w->changed = changed;
    w->ctx = ctx;
    w->addresses = addresses_now();
    w->look = timer_new(l, network_look, w);
    w->watch = watch_new(l, fd, network_on_ready, w);
    watch_want(w->watch, WATCH_IN);
    *ret = w;
    return 0;
}

struct network_watch *network_watch_free(struct network_watch *w)
{
    if (!w)
        return NULL;
    w->look = timer_free(w->look);
    w->watch = watch_free(w->watch, true);
    free(w);
    return NULL;
}
