#include <criterion/criterion.h>
#include <stdio.h>

#include "base/clock.h"
#include "ssh/turn.h"
#include "tests/fixture/loop_fixture.h"

enum { CROWD = 50 };

static struct loop *l;
static struct turns *all;
static struct login {
    struct turn *turn;
    unsigned begun; /* the how-manyth; 0: not yet */
    bool ends_at_once;
} logins[CROWD];
static unsigned n_begun;

static void on_begin(void *ctx)
{
    struct login *g = ctx;

    cr_assert_eq(g->begun, 0);
    cr_assert(turn_has_begun(g->turn));
    g->begun = ++n_begun;
    if (g->ends_at_once)
        g->turn = turn_free(g->turn);
}

static void ask(unsigned i, const char *host, uint16_t port)
{
    logins[i].turn = turn_new(all, host, port, on_begin, &logins[i]);
}

static void ask_all(void)
{
    for (unsigned i = 0; i < CROWD; i++)
        ask(i, "gate.example", 22);
    loop_turns(l, 3);
}

static void end(unsigned i)
{
    logins[i].turn = turn_free(logins[i].turn);
}

static void setup(void)
{
    memset(logins, 0, sizeof(logins));
    n_begun = 0;
    l = loop_new();
    all = turns_new(l);
}

static void teardown(void)
{
    for (unsigned i = 0; i < CROWD; i++)
        end(i);
    all = turns_free(all);
    cr_assert_null(all);
    cr_assert_null(turns_free(NULL));
    loop_free_dry(l);
}

TestSuite(turn, .init = setup, .fini = teardown);

Test(turn, begins_from_the_loop_and_never_from_inside_the_call)
{
    ask(0, "gate.example", 22);
    cr_assert_eq(n_begun, 0);
    cr_assert(!turn_has_begun(logins[0].turn));
    loop_turns(l, 1);
    cr_assert_eq(logins[0].begun, 1);
}

Test(turn, no_more_than_so_many_have_a_place_and_the_rest_follow_in_order)
{
    ask_all();
    cr_assert_eq(n_begun, TURNS_MAX);
    for (unsigned i = 0; i < CROWD; i++) {
        cr_assert_eq(logins[i].begun, i + 1, "%u", i);
        end(i);
        loop_advance(l, TURN_LEAVE_MS);
        cr_assert_eq(n_begun, MIN(i + 1 + TURNS_MAX, (unsigned)CROWD));
    }
}

Test(turn, a_place_is_given_on_a_moment_after_it_was_left)
{
    ask_all();
    end(0);
    loop_advance(l, TURN_LEAVE_MS / 2); /* what the machine itself takes meanwhile counts too */
    cr_assert_eq(n_begun, TURNS_MAX);
    loop_advance(l, TURN_LEAVE_MS / 2);
    cr_assert_eq(n_begun, TURNS_MAX + 1);
}

Test(turn, logins_that_fail_at_once_still_go_a_few_at_a_time)
{
    for (unsigned i = 0; i < CROWD; i++)
        logins[i].ends_at_once = true;
    ask_all();
    cr_assert_eq(n_begun, TURNS_MAX);
    for (unsigned waves = 2; n_begun < CROWD; waves++) {
        loop_advance(l, TURN_LEAVE_MS);
        cr_assert_eq(n_begun, MIN(waves * TURNS_MAX, (unsigned)CROWD));
    }
}

Test(turn, one_for_whom_somebody_waits_goes_before_all_others)
{
    ask_all();
    turn_hurry(logins[40].turn, true);
    turn_hurry(logins[30].turn, true);
    turn_hurry(logins[20].turn, true);
    turn_hurry(logins[20].turn, false);
    for (unsigned i = 0; i < 3; i++)
        end(i);
    loop_advance(l, TURN_LEAVE_MS);
    cr_assert_eq(logins[30].begun, TURNS_MAX + 1, "the older of the two");
    cr_assert_eq(logins[40].begun, TURNS_MAX + 2);
    cr_assert_eq(logins[TURNS_MAX].begun, TURNS_MAX + 3);
}

Test(turn, one_that_gives_up_waiting_is_passed_over)
{
    ask_all();
    end(TURNS_MAX);
    end(0);
    loop_advance(l, TURN_LEAVE_MS);
    cr_assert_eq(logins[TURNS_MAX].begun, 0);
    cr_assert_eq(logins[TURNS_MAX + 1].begun, TURNS_MAX + 1);
}

Test(turn, addresses_do_not_wait_for_each_other)
{
    char host[16];

    for (unsigned i = 0; i < CROWD; i++) {
        snprintf(host, sizeof(host), "10.0.0.%u", i);
        ask(i, host, 22);
    }
    loop_turns(l, 3);
    cr_assert_eq(n_begun, CROWD);
}

Test(turn, ports_of_one_address_share_its_places_but_with_the_slow)
{
    for (unsigned i = 0; i < 12; i++)
        ask(i, i % 2 ? "Gate.example" : "gate.example", (uint16_t)(30000 + i));
    loop_turns(l, 3);
    cr_assert_eq(n_begun, TURNS_MAX);
    loop_advance(l, TURN_SLOW_MS / 2);
    cr_assert_eq(n_begun, TURNS_MAX);
    loop_advance(l, TURN_SLOW_MS / 2);
    cr_assert_eq(n_begun, 12, "eight dead machines keep nobody out");
}

Test(turn, the_slow_count_at_their_own_port_to_their_end)
{
    ask_all();
    loop_advance(l, 10 * TURN_SLOW_MS);
    cr_assert_eq(n_begun, TURNS_MAX, "it is one sshd");
    end(3);
    loop_advance(l, TURN_LEAVE_MS);
    cr_assert_eq(n_begun, TURNS_MAX + 1);
}

Test(turn, all_of_it_may_go_before_those_who_have_a_place_or_wait)
{
    ask_all();
    end(0);
    all = turns_free(all);
    loop_advance(l, TURN_LEAVE_MS);
    cr_assert_eq(n_begun, TURNS_MAX);
}
