/* In a network of its own, which any user may have where user namespaces are allowed. */
#include <criterion/criterion.h>
#include <errno.h>
#include <sched.h>
#include <sys/resource.h>

#include "base/network.h"
#include "proto/mem.h"
#include "tests/fixture/loop_fixture.h"

struct scene {
    struct loop *loop;
    struct network_watch *watch;
    unsigned changes;
    bool free_in_changed;
};

static void on_changed(void *ctx)
{
    struct scene *s = ctx;

    s->changes++;
    if (s->free_in_changed)
        s->watch = network_watch_free(s->watch);
}

static void ip(const char *words)
{
    char command[400];

    snprintf(command, sizeof(command), "PATH=$PATH:/usr/sbin:/sbin ip %s", words);
    cr_assert_eq(system(command), 0, "ip %s", words);
}

static bool has_network_of_its_own(void)
{
    return unshare(geteuid() == 0 ? CLONE_NEWNET : CLONE_NEWUSER | CLONE_NEWNET) == 0;
}

#define REQUIRE_NETWORK()                                                                                    \
    do {                                                                                                     \
        if (!has_network_of_its_own())                                                                       \
            cr_skip("no network namespace of its own: %s", strerror(errno));                                 \
    } while (0)

/* A cable with both ends here, and an address on one. */
static void scene_open(struct scene *s)
{
    *s = (struct scene){.loop = loop_new()};
    ip("link add near type veth peer name far");
    ip("link set near up");
    ip("link set far up");
    ip("address add 192.0.2.1/24 dev near");
    cr_assert_eq(
        system("PATH=$PATH:/usr/sbin:/sbin; i=0; until ip link show near | grep -q LOWER_UP.*state.UP; do"
               " i=$((i + 1)); [ $i -lt 2000 ] || exit 1; done"),
        0, "the carrier");
    cr_assert_eq(network_watch_new(s->loop, on_changed, s, &s->watch), 0);
    loop_turns(s->loop, 5);
    loop_advance(s->loop, 1000);
    cr_assert_eq(s->changes, 0, "what there was before is no change");
}

static void scene_close(struct scene *s)
{
    network_watch_free(s->watch);
    loop_free_dry(s->loop);
}

/* The kernel may tell of a carrier, or of an address it has looked around for, when the command is over. */
static bool is_told_once(struct scene *s, const char *words)
{
    unsigned before = s->changes;

    ip(words);
    if (!LOOP_UNTIL(s->loop, s->changes > before))
        return false;
    loop_advance(s->loop, 101);
    return s->changes == before + 1;
}

static bool is_not_told(struct scene *s, const char *words)
{
    unsigned before = s->changes;

    ip(words);
    loop_turns(s->loop, 5);
    loop_advance(s->loop, 101);
    loop_turns(s->loop, 5);
    return s->changes == before;
}

Test(network, address_that_comes_or_goes_is_told_once)
{
    struct scene s;

    REQUIRE_NETWORK();
    scene_open(&s);
    cr_assert(is_told_once(&s, "address add 198.51.100.7/24 dev near"));
    cr_assert(is_told_once(&s, "address del 198.51.100.7/24 dev near"));
    cr_assert(is_told_once(&s, "-6 address add 2001:db8::1/64 dev near nodad"));
    cr_assert(is_told_once(&s, "-6 address del 2001:db8::1/64 dev near"));
    loop_advance(s.loop, 3600000);
    cr_assert_eq(s.changes, 4);
    scene_close(&s);
}

Test(network, link_with_an_address_that_goes_down_or_up_is_told)
{
    struct scene s;

    REQUIRE_NETWORK();
    scene_open(&s);
    cr_assert(is_told_once(&s, "link set near down"));
    cr_assert(is_told_once(&s, "link set near up"));
    cr_assert(is_told_once(&s, "link set far down"), "the cable is out: the carrier is lost");
    cr_assert(is_not_told(&s, "link del near"), "its address led nowhere before");
    scene_close(&s);
}

Test(network, default_route_is_told_and_others_are_not)
{
    struct scene s;

    REQUIRE_NETWORK();
    scene_open(&s);
    cr_assert(is_not_told(&s, "route add 203.0.113.0/24 via 192.0.2.9"));
    cr_assert(is_told_once(&s, "route add default via 192.0.2.9"));
    cr_assert(is_told_once(&s, "route replace default via 192.0.2.8"));
    cr_assert(is_told_once(&s, "route del default"));
    scene_close(&s);
}

Test(network, link_without_an_address_that_leads_out_is_none_of_our_business)
{
    struct scene s;

    REQUIRE_NETWORK();
    scene_open(&s);
    cr_assert(is_not_told(&s, "link add other type veth peer name otherfar"));
    cr_assert(is_not_told(&s, "link set other up"));
    cr_assert(is_not_told(&s, "link set otherfar up"), "link-local addresses do not count");
    cr_assert(is_not_told(&s, "link set lo up"));
    cr_assert(is_not_told(&s, "link set near mtu 1400"));
    cr_assert(is_not_told(&s, "address change 192.0.2.1/24 dev near valid_lft 600 preferred_lft 600"),
              "a renewed lifetime");
    scene_close(&s);
}

static void batch(const char *lines)
{
    char command[400];

    snprintf(command, sizeof(command), "PATH=$PATH:/usr/sbin:/sbin; printf '%s' | ip -batch -", lines);
    cr_assert_eq(system(command), 0, "%s", lines);
}

Test(network, burst_is_one_change_and_what_is_undone_in_it_none)
{
    struct scene s;

    REQUIRE_NETWORK();
    scene_open(&s);
    batch("address add 198.51.100.7/24 dev near\\naddress add 198.51.100.8/24 dev near\\n");
    loop_turns(s.loop, 5);
    loop_advance(s.loop, 101);
    cr_assert_eq(s.changes, 1);
    batch("address del 198.51.100.8/24 dev near\\naddress add 198.51.100.8/24 dev near\\n");
    loop_turns(s.loop, 5);
    loop_advance(s.loop, 101);
    cr_assert_eq(s.changes, 1);
    scene_close(&s);
}

/* Many more words than the kernel keeps for a reader who does not come. */
Test(network, news_that_was_lost_counts_as_a_change)
{
    struct scene s;

    REQUIRE_NETWORK();
    scene_open(&s);
    ip("route add 203.0.113.0/24 via 192.0.2.9");
    cr_assert_eq(system("PATH=$PATH:/usr/sbin:/sbin; for i in $(seq 1500); do"
                        " echo route replace 203.0.113.0/24 via 192.0.2.$((i % 8 + 2)); done | ip -batch -"),
                 0);
    loop_turns(s.loop, 200);
    loop_advance(s.loop, 101);
    cr_assert_eq(s.changes, 1);
    cr_assert(is_told_once(&s, "address add 198.51.100.7/24 dev near"), "it hears on");
    scene_close(&s);
}

Test(network, watch_may_be_freed_while_told_and_before)
{
    struct scene s;

    REQUIRE_NETWORK();
    scene_open(&s);
    s.free_in_changed = true;
    cr_assert(is_told_once(&s, "address add 198.51.100.7/24 dev near"));
    cr_assert_null(s.watch);
    cr_assert_eq(network_watch_new(s.loop, on_changed, &s, &s.watch), 0);
    ip("address del 198.51.100.7/24 dev near");
    loop_turns(s.loop, 5);
    s.watch = network_watch_free(s.watch);
    loop_advance(s.loop, 1000);
    cr_assert_eq(s.changes, 1);
    cr_assert_null(network_watch_free(NULL));
    scene_close(&s);
}

Test(network, without_news_it_says_why)
{
    struct loop *l = loop_new();
    struct network_watch *w = NULL;
    struct rlimit none = {.rlim_cur = 0, .rlim_max = 1024}, before;

    cr_assert_eq(getrlimit(RLIMIT_NOFILE, &before), 0);
    none.rlim_max = before.rlim_max;
    cr_assert_eq(setrlimit(RLIMIT_NOFILE, &none), 0);
    cr_assert_eq(network_watch_new(l, on_changed, NULL, &w), -EMFILE);
    cr_assert_null(w);
    cr_assert_eq(setrlimit(RLIMIT_NOFILE, &before), 0);
    loop_free_dry(l);
}
