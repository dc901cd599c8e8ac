/* links: gateway
 *
 * Many requests of one model: who is sent first, and that everybody gets one answer. */
#include "tests/unit/request_world.h"

TestSuite(request_order, .init = world_open, .fini = world_close);

static struct app *ask_number(unsigned n)
{
    _cleanup_free_ char *body = xasprintf("{\"model\":\"deepseek-r1:7b\",\"n\":%u}", n);
    struct app *a = app_new();

    app_post(a, CHAT, body);
    return a;
}

/* The connection that got that one. */
static unsigned engine_of(unsigned n)
{
    _cleanup_free_ char *text = xasprintf("\"n\":%u}", n);

    return engine_with(text);
}

static bool was_sent(unsigned n)
{
    _cleanup_free_ char *text = xasprintf("\"n\":%u}", n);

    for (unsigned i = 0; i < world.n_links; i++)
        if (link_has(i, text))
            return true;
    return false;
}

/* Connections that others dialed, one after the other, in any order. */
static void dial_ends(unsigned i)
{
    LIST_FOREACH (w, &world.deepseek.dials, struct world_wait, node) {
        if (i-- == 0) {
            runq_add(world.loop, &w->work);
            break;
        }
    }
    loop_turns(world.loop, 3);
}

Test(request_order, the_oldest_is_sent_whoevers_connection_comes_first)
{
    struct app *apps[4];

    world.deepseek.state = DEPLOYMENT_LOADING;
    world.deepseek.port_hangs = true;
    for (unsigned i = 0; i < 4; i++) {
        apps[i] = ask_number(i);
        cr_assert(LOOP_UNTIL(world.loop, world.deepseek.held == (int)i + 1));
    }
    world.deepseek.hold_is_over = true;
    world_state(&world.deepseek, DEPLOYMENT_READY);
    cr_assert(LOOP_UNTIL(world.loop, ({
                             unsigned n = 0;

                             LIST_FOREACH (w, &world.deepseek.dials, struct world_wait, node)
                                 n++;
                             n >= 4;
                         })));
    for (unsigned i = 0; i < 4; i++) {
        cr_assert_not(was_sent(i));
        dial_ends(i == 0 ? 2 : 0);
        engine_of(i);
        cr_assert_not(was_sent(i + 1));
    }
    for (unsigned i = 0; i < 4; i++) {
        link_say(engine_of(i), OK);
        app_wants(apps[i], "ok");
        app_free(apps[i]);
    }
}

Test(request_order, a_newcomer_does_not_overtake_those_that_wait)
{
    struct app *first = ask_number(0), *old, *new;

    engine_of(0);
    world.deepseek.port_hangs = true;
    old = ask_number(1);
    cr_assert(LOOP_UNTIL(world.loop, world.deepseek.held == 1));
    link_say(engine_of(0), OK);
    new = ask_number(2);
    app_wants(first, "ok");
    engine_of(1);
    cr_assert_not(was_sent(2), "the connection given back went to the older one");
    link_say(engine_of(1), OK);
    app_wants(old, "ok");
    link_say(engine_of(2), OK);
    app_wants(new, "ok");
    app_free(first);
    app_free(old);
    app_free(new);
}

Test(request_order, one_that_leaves_takes_nobodys_connection_along)
{
    struct app *apps[6];

    world.deepseek.state = DEPLOYMENT_LOADING;
    world.deepseek.port_hangs = true;
    for (unsigned i = 0; i < 6; i++) {
        apps[i] = ask_number(i);
        cr_assert(LOOP_UNTIL(world.loop, world.deepseek.held == (int)i + 1));
    }
    world.deepseek.hold_is_over = true;
    world_state(&world.deepseek, DEPLOYMENT_READY);
    loop_turns(world.loop, 3);
    for (unsigned i = 0; i < 6; i += 2)
        app_leave(apps[i]);
    cr_assert(LOOP_UNTIL(world.loop, world.deepseek.held == 3));
    world.deepseek.port_hangs = false;
    world_settle(&world.deepseek);
    for (unsigned i = 1; i < 6; i += 2) {
        link_say(engine_of(i), OK);
        app_wants(apps[i], "ok");
    }
    for (unsigned i = 0; i < 6; i++)
        app_free(apps[i]);
    cr_assert_leq(world.deepseek.dialed, 4, "%d connections for 3", world.deepseek.dialed);
}

Test(request_order, a_failed_dial_fails_the_oldest_for_now)
{
    struct app *a, *b;

    world.deepseek.port_hangs = true;
    a = ask_number(0);
    cr_assert(LOOP_UNTIL(world.loop, world.deepseek.held == 1));
    b = ask_number(1);
    cr_assert(LOOP_UNTIL(world.loop, world.deepseek.held == 2));
    fault_code(&world.deepseek.dial_fault, FAULT_TRANSIENT, "refused", "nothing listens on port 40001");
    world.deepseek.port_hangs = false;
    world_settle(&world.deepseek);
    cr_assert(LOOP_UNTIL(world.loop, world.deepseek.doubts >= 2));
    world.deepseek.dial_fault.kind = FAULT_NONE;
    loop_advance(world.loop, 600);
    link_say(engine_of(0), OK);
    app_wants(a, "ok");
    link_say(engine_of(1), OK);
    app_wants(b, "ok");
    app_free(a);
    app_free(b);
}
