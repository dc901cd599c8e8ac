/* links: gateway
 *
 * Connections to an engine that are kept for the next request. */
#include "gateway/pool.h"
#include "tests/unit/request_world.h"

TestSuite(request_kept, .init = world_open, .fini = world_close);

/* One request answered: its connection, number 0, is idle then. */
static struct app *with_idle(void)
{
    struct app *a = sent_on_fresh(CHAT);

    link_say(0, OK);
    app_wants(a, "\r\n\r\nok");
    loop_turns(world.loop, 3);
    app_forget(a);
    buf_clear(&world.links[0]->got);
    return a;
}

Test(request_kept, a_connection_is_used_again)
{
    struct app *a = with_idle();

    app_post(a, CHAT, MODEL);
    engine_gets(0, MODEL);
    link_say(0, OK);
    app_wants(a, "ok");
    cr_assert_leq(world.n_links, 2);
    app_free(a);
}

Test(request_kept, a_stale_connection_costs_nobody_an_answer)
{
    struct app *a = with_idle();
    unsigned n = world.n_links;

    app_post(a, CHAT, MODEL);
    engine_gets(0, MODEL);
    link_close(0);
    cr_assert(LOOP_UNTIL(world.loop, world.n_links > n && link_has(world.n_links - 1, MODEL)));
    link_say(world.n_links - 1, OK);
    app_wants(a, "ok");
    cr_assert_eq(world.deepseek.begun, 2);
    app_free(a);
}

Test(request_kept, the_second_try_is_the_last)
{
    struct app *a = with_idle();
    unsigned n = world.n_links;

    app_post(a, CHAT, MODEL);
    engine_gets(0, MODEL);
    link_close(0);
    cr_assert(LOOP_UNTIL(world.loop, world.n_links > n && link_has(world.n_links - 1, MODEL)));
    link_close(world.n_links - 1);
    app_wants(a, "HTTP/1.1 502 ");
    app_free(a);
}

Test(request_kept, an_old_connection_that_ends_late_was_not_stale)
{
    struct app *a = with_idle();

    app_post(a, CHAT, MODEL);
    engine_gets(0, MODEL);
    loop_advance(world.loop, 3000);
    link_close(0);
    app_wants(a, "HTTP/1.1 502 ");
    cr_assert(app_has(a, "not repeated"));
    app_free(a);
}

Test(request_kept, an_old_channel_that_broke_with_the_tunnel_was_not_stale)
{
    struct app *a;

    world.deepseek.channels = true;
    a = with_idle();
    app_post(a, CHAT, MODEL);
    engine_gets(0, MODEL);
    link_break(0);
    app_wants(a, "\"code\":\"tunnel_lost\"");
    app_free(a);
}

/* What was written to it could not be sent again. */
Test(request_kept, nothing_new_begins_on_a_silent_tunnel)
{
    struct app *a;
    unsigned n;

    world.deepseek.channels = true;
    a = with_idle();
    n = world.n_links;
    for (unsigned i = 0; i < n; i++)
        world.links[i]->silent = true;
    app_post(a, CHAT, MODEL);
    cr_assert(LOOP_UNTIL(world.loop, world.n_links > n && link_has(world.n_links - 1, MODEL)));
    for (unsigned i = 0; i < n; i++)
        cr_assert(world.links[i]->freed && !link_has(i, MODEL));
    link_say(world.n_links - 1, OK);
    app_wants(a, "ok");
    app_free(a);
}

Test(request_kept, a_ready_model_is_warm_before_it_is_asked)
{
    world_tell(&world.deepseek);
    cr_assert(LOOP_UNTIL(world.loop, world.deepseek.dialed == 1));
    loop_advance(world.loop, 3600000);
    cr_assert_eq(world.deepseek.dialed, 1);
    link_close(0);
    loop_advance(world.loop, 60000);
    cr_assert_eq(world.deepseek.dialed, 1, "nobody asked: not replaced");
}

Test(request_kept, an_idle_connection_that_ends_is_replaced_while_somebody_asks)
{
    struct app *a = with_idle();
    unsigned n;

    loop_advance(world.loop, 6000);
    n = (unsigned)world.deepseek.dialed;
    for (unsigned i = 0; i < world.n_links; i++)
        link_close(i);
    loop_turns(world.loop, 3);
    loop_advance(world.loop, 1100);
    cr_assert(LOOP_UNTIL(world.loop, world.deepseek.dialed == (int)n + 1));
    loop_advance(world.loop, 601000);
    link_close(world.n_links - 1);
    loop_advance(world.loop, 60000);
    cr_assert_eq(world.deepseek.dialed, (int)n + 1);
    app_free(a);
}

Test(request_kept, a_server_that_closes_at_once_is_not_hammered)
{
    struct app *a = with_idle();

    for (int i = 0; i < 120; i++) {
        for (unsigned k = 0; k < world.n_links; k++)
            if (world.links[k]->fd >= 0)
                link_close(k);
        loop_advance(world.loop, 500);
    }
    cr_assert_lt(world.deepseek.dialed, 12, "%d connections in a minute", world.deepseek.dialed);
    app_free(a);
}

Test(request_kept, connections_to_an_older_server_are_dropped)
{
    struct app *a = with_idle();

    world.deepseek.server_number++;
    world_tell(&world.deepseek);
    cr_assert(LOOP_UNTIL(world.loop, link_is_over(0)));
    app_post(a, CHAT, MODEL);
    cr_assert(LOOP_UNTIL(world.loop, link_has(world.n_links - 1, MODEL)));
    cr_assert_not(link_has(0, MODEL));
    app_free(a);
}

Test(request_kept, surplus_connections_go_after_a_while)
{
    struct app *apps[8];
    unsigned open = 0;

    for (unsigned i = 0; i < 8; i++) {
        apps[i] = app_new();
        app_post(apps[i], CHAT, MODEL);
    }
    cr_assert(LOOP_UNTIL(world.loop, world.deepseek.waiting == 8));
    for (unsigned i = 0; i < 8; i++) {
        unsigned at = engine_with(MODEL);

        buf_clear(&world.links[at]->got);
        link_say(at, OK);
    }
    for (unsigned i = 0; i < 8; i++) {
        app_wants(apps[i], "ok");
        app_free(apps[i]);
    }
    loop_advance(world.loop, 61000);
    loop_advance(world.loop, 61000);
    for (unsigned i = 0; i < world.n_links; i++)
        open += !link_is_over(i);
    cr_assert_eq(open, 1);
}
