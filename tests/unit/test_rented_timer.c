/* links: lease
 *
 * The provider's own timer: set with each power-on, kept ahead while the machine is ours and guarded, read
 * back. */
#include "base/clock.h"
#include "tests/unit/rented_world.h"

#define MINUTE 60000ll

TestSuite(rented_timer, .init = setup, .fini = teardown);

static void is_timed(void)
{
    company.has_timer = true;
    make_new("4090D", 0);
    is_there();
}

static int64_t ahead_ms(void)
{
    return company.machine.off_at_ms - clock_wall_ms();
}

Test(rented_timer, a_company_without_one_is_asked_for_none)
{
    make_new("4090D", 0);
    is_there();
    loop_advance(loop, 3600000);
    cr_assert_eq(company.n_timer, 0);
}

Test(rented_timer, is_kept_ahead_while_the_machine_is_guarded)
{
    struct rented_figures n;

    is_timed();
    cr_assert(COMES_TRUE(company.n_timer == 1));
    cr_assert_geq(ahead_ms(), 58 * MINUTE);
    loop_advance(loop, 5 * MINUTE);
    cr_assert_eq(company.n_timer, 1, "there is time");
    for (int i = 0; i < 60; i++)
        loop_advance(loop, MINUTE);
    cr_assert_geq(company.n_timer, 2);
    cr_assert_leq(company.n_timer, 4);
    cr_assert_geq(ahead_ms(), 28 * MINUTE);
    rented_figures(rented, &n);
    cr_assert_eq(n.off_at_ms, company.machine.off_at_ms);
    cr_assert_null(n.timer_lacks);
}

Test(rented_timer, stands_behind_the_end_of_a_hold_and_comes_back_from_it)
{
    is_timed();
    keeper->figures.hold_until_at_ms = clock_wall_ms() + 600 * MINUTE;
    for (int i = 0; i < 40; i++)
        loop_advance(loop, MINUTE);
    cr_assert_geq(company.machine.off_at_ms, keeper->figures.hold_until_at_ms);
    keeper->figures.hold_until_at_ms = 0;
    for (int i = 0; i < 3; i++)
        loop_advance(loop, MINUTE);
    cr_assert_leq(ahead_ms(), 61 * MINUTE);
}

Test(rented_timer, is_told_by_the_clock_of_the_company)
{
    books.off_ms = -120 * MINUTE;
    is_timed();
    cr_assert(COMES_TRUE(company.n_timer == 1));
    cr_assert_geq(ahead_ms() - 120 * MINUTE, 58 * MINUTE);
    keeper->figures.hold_until_at_ms = clock_wall_ms() + 600 * MINUTE;
    for (int i = 0; i < 40; i++)
        loop_advance(loop, MINUTE);
    cr_assert_geq(company.machine.off_at_ms, keeper->figures.hold_until_at_ms + 120 * MINUTE);
}

Test(rented_timer, one_that_is_not_read_back_is_said)
{
    struct rented_figures n;

    company.timer_is_deaf = true;
    is_timed();
    for (int i = 0; i < 5; i++)
        loop_advance(loop, MINUTE);
    rented_figures(rented, &n);
    cr_assert_not_null(n.timer_lacks);
    company.timer_is_deaf = false;
    for (int i = 0; i < 5; i++)
        loop_advance(loop, MINUTE);
    rented_figures(rented, &n);
    cr_assert_null(n.timer_lacks);
}

Test(rented_timer, is_not_for_a_machine_whose_guard_is_anothers)
{
    company.has_timer = true;
    make_new("4090D", 0);
    is_on_its_way();
    session_is(true);
    keeper_becomes(KEEPER_REFUSED);
    loop_advance(loop, 10 * MINUTE);
    cr_assert_eq(company.n_timer, 0);
}

Test(rented_timer, is_taken_away_when_the_machine_is_off_and_travels_with_the_next_power_on)
{
    is_timed();
    cr_assert(COMES_TRUE(company.n_timer == 1));
    rented_want(rented, LIFE_GOAL_OFF);
    cr_assert(COMES_TRUE(state() == LIFE_STOPPED));
    loop_advance(loop, 2 * MINUTE);
    cr_assert(COMES_TRUE(company.machine.off_at_ms == 0), "somebody may switch it on for work of his own");
    session_is(false);
    is_on_its_way();
    cr_assert_eq(company.first_ms, 30 * MINUTE);
}
