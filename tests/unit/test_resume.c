/* links: control
 *
 * A daemon whose machine slept, or whose network changed, does not wait for the next try. */
#include <sched.h>

#include "session/session.h"
#include "tests/unit/control_world.h"

TestSuite(resume, .fini = world_end, .timeout = 60);

static void ip(const char *words)
{
    _cleanup_free_ char *command = xasprintf("PATH=$PATH:/usr/sbin:/sbin ip %s", words);

    cr_assert_eq(system(command), 0, "%s", command);
}

static struct session *gone(void)
{
    return lease_session(manager_find_lease(w.manager, "gone"));
}

static unsigned tries(void)
{
    struct session_figures figures;

    session_figures(gone(), &figures);
    return figures.tries;
}

/* An instance at whose port nobody listens, tried so often that the pause between two tries is the longest.
 */
static void begin_with_a_long_pause(void)
{
    const struct instance_record r = {
        .name = "gone", .provider = "ssh", .host = "127.0.0.1", .port = 9, .user = "root"};

    world_begin();
    store_put_instance(w.store, &r);
    caller_leaves(&w.caller);
    daemon_ends();
    loop_turns(w.loop, 5);
    daemon_begins();
    caller_comes(&w.caller);
    for (unsigned n = 1; n < 10; n++) {
        cr_assert(LOOP_UNTIL(w.loop, tries() == n && session_state(gone()) == SESSION_WAITING), "try %u", n);
        loop_advance(w.loop, 15000);
    }
    cr_assert(LOOP_UNTIL(w.loop, tries() == 10 && session_state(gone()) == SESSION_WAITING));
}

static void is_tried_at_once(void)
{
    cr_assert(LOOP_UNTIL(w.loop, tries() == 1 && session_state(gone()) == SESSION_WAITING),
              "tries are counted anew: %u", tries());
}

Test(resume, machine_that_slept_tries_at_once)
{
    begin_with_a_long_pause();
    loop_machine_sleeps(w.loop, 6000);
    is_tried_at_once();
}

Test(resume, time_that_merely_passes_ends_no_pause)
{
    begin_with_a_long_pause();
    loop_advance(w.loop, 6000);
    loop_turns(w.loop, 30);
    cr_assert_eq(tries(), 10);
}

Test(resume, changed_network_is_tried_at_once)
{
    if (unshare(geteuid() == 0 ? CLONE_NEWNET : CLONE_NEWUSER | CLONE_NEWNET) < 0) {
        world_begin();
        cr_skip("no network namespace of its own: %s", strerror(errno));
    }
    ip("link set lo up");
    ip("link add near type veth peer name far");
    ip("link set near up");
    ip("link set far up");
    begin_with_a_long_pause();
    ip("address add 192.0.2.1/24 dev near");
    loop_turns(w.loop, 5);
    loop_advance(w.loop, 101);
    is_tried_at_once();
}
