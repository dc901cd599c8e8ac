/* links: lease
 *
 * A machine that is switched off from inside: what is said of it, as session and guard tell of it. */
#include "lease/boxed.h"
#include "tests/unit/rented_world.h"

static struct boxed *boxed;

static void on_boxed_changed(void *ctx)
{
    (void)ctx;
    n_changed++;
}

static void begin_boxed(const struct boxed_record *record)
{
    boxed = boxed_new(
        &(struct boxed_context){
            .loop = loop, .store = store, .settings = settings, .name = "gpu1", .changed = on_boxed_changed},
        record);
}

static void setup_boxed(void)
{
    const struct instance_record gpu1 = {.name = (char *)"gpu1", .provider = (char *)"ssh"};

    setup();
    store_put_instance(store, &gpu1);
    begin_boxed(NULL);
}

static void teardown_boxed(void)
{
    boxed = boxed_free(boxed);
    teardown();
}

TestSuite(boxed, .init = setup_boxed, .fini = teardown_boxed);

static void session_goes(bool up)
{
    boxed_on_session(boxed, up ? BOXED_WAY_UP : BOXED_WAY_NONE);
    loop_turns(loop, 3);
}

static void nobody_answers(void)
{
    boxed_on_session(boxed, BOXED_WAY_NOBODY);
    loop_turns(loop, 3);
}

static struct boxed_figures figures(void)
{
    struct boxed_figures n;

    boxed_figures(boxed, &n);
    return n;
}

static void see_boxed(void *ctx, const struct instance_record *r)
{
    (void)ctx;
    if (!streq(r->name, "gpu1"))
        return;
    cr_assert_not_null(r->boxed);
    boxed = boxed_free(boxed);
    begin_boxed(r->boxed);
}

/* The daemon is killed, and another one goes on with what is on disk. */
static void daemon_is_killed(void)
{
    const struct store_readers readers = {.instance = see_boxed};
    struct fault f = {0};

    loop_turns(loop, 3);
    store = store_close(store);
    cr_assert_eq(store_open(loop, directory, &store, &f), 0, "%s", f.text);
    cr_assert_eq(store_load(store, &readers, NULL, &f), 0, "%s", f.text);
    loop_turns(loop, 3);
}

/* It is there, and its guard answers: of that power-on. */
static void answers_of(const char *cycle)
{
    session_goes(true);
    snprintf(keeper->figures.cycle, sizeof keeper->figures.cycle, "%s", cycle);
    keeper->figures.acts_at_ms = clock_wall_ms() + 900000;
    keeper_becomes(KEEPER_KEPT);
}

static void expect(enum boxed_state s)
{
    cr_assert_str_eq(boxed_state_name(boxed_state(boxed)), boxed_state_name(s));
}

static void is_stopped(void)
{
    answers_of("a.1");
    boxed_stop(boxed);
    expect(BOXED_STOPPING);
    loop_turns(loop, 3);
    cr_assert(keeper->is_told_to_stop);
    session_goes(false);
    expect(BOXED_OFF);
}

Test(boxed, is_used_only_with_a_guard_that_was_read_since_the_login)
{
    expect(BOXED_UNKNOWN);
    session_goes(true);
    expect(BOXED_ON);
    cr_assert_not(boxed_is_guarded(boxed));
    answers_of("a.1");
    cr_assert(boxed_is_guarded(boxed));
    session_goes(false);
    cr_assert_not(boxed_is_guarded(boxed), "another power-on may come back");
    session_goes(true);
    cr_assert_not(boxed_is_guarded(boxed));
    expect(BOXED_ON);
}

Test(boxed, one_that_cannot_stop_itself_is_used_by_name_alone)
{
    session_goes(true);
    fault_code(&keeper->fault, FAULT_DENIED, "no_guard", "no sudo");
    keeper_becomes(KEEPER_USELESS);
    cr_assert_not(boxed_is_guarded(boxed));
    cr_assert_str_eq(boxed_trouble(boxed)->code, "no_guard");
    boxed_allow(boxed, true);
    cr_assert(boxed_is_guarded(boxed));
}

Test(boxed, goes_off_when_told_and_is_on_again_when_a_person_says_so)
{
    struct boxed_figures n;

    is_stopped();
    boxed_figures(boxed, &n);
    cr_assert_gt(n.stop_asked_at_ms, 0);
    cr_assert(n.told);
    loop_advance(loop, 3600000);
    expect(BOXED_OFF);
    answers_of("b.1");
    expect(BOXED_ON);
    cr_assert(boxed_is_guarded(boxed));
    boxed_figures(boxed, &n);
    cr_assert_eq(n.stop_asked_at_ms, 0);
    cr_assert_eq(n.cycles, 2);
    cr_assert_eq(boxed_trouble(boxed)->kind, FAULT_NONE);
}

Test(boxed, one_that_comes_back_was_not_off_and_is_told_again)
{
    is_stopped();
    keeper->is_told_to_stop = false;
    answers_of("a.1");
    expect(BOXED_STOPPING);
    cr_assert_str_eq(boxed_trouble(boxed)->code, "stop_not_confirmed");
    cr_assert(keeper->is_told_to_stop);
    session_goes(false);
    expect(BOXED_OFF);
    cr_assert_eq(boxed_trouble(boxed)->kind, FAULT_NONE);
}

Test(boxed, one_that_stays_is_an_alarm_and_is_told_again)
{
    answers_of("a.1");
    boxed_stop(boxed);
    loop_turns(loop, 3);
    keeper->is_told_to_stop = false;
    loop_advance(loop, 21000);
    loop_turns(loop, 3);
    cr_assert(keeper->is_told_to_stop, "as often as its guard tries");
    cr_assert_eq(boxed_trouble(boxed)->kind, FAULT_NONE);
    for (unsigned i = 0; i < 5; i++) {
        loop_advance(loop, 20000);
        loop_turns(loop, 3);
    }
    cr_assert_str_eq(boxed_trouble(boxed)->code, "stop_not_confirmed");
    cr_assert_not(boxed_stay(boxed), "its guard was told");
}

Test(boxed, one_that_is_lost_is_off_once_its_guard_was_due)
{
    answers_of("a.1");
    session_goes(false);
    loop_advance(loop, 900000);
    expect(BOXED_ON);
    loop_advance(loop, 70000);
    expect(BOXED_OFF);
    answers_of("a.1");
    expect(BOXED_ON);
}

Test(boxed, one_that_is_away_is_told_when_it_is_back_if_it_is_the_same)
{
    answers_of("a.1");
    session_goes(false);
    boxed_stop(boxed);
    cr_assert_not(keeper->is_told_to_stop);
    answers_of("a.1");
    cr_assert(keeper->is_told_to_stop);

    is_stopped();
}

Test(boxed, one_that_was_switched_on_meanwhile_is_not_told_what_the_one_before_was)
{
    answers_of("a.1");
    session_goes(false);
    boxed_stop(boxed);
    answers_of("b.1");
    expect(BOXED_ON);
    cr_assert_not(keeper->is_told_to_stop);
}

Test(boxed, a_stop_is_taken_back_before_its_guard_heard_of_it)
{
    answers_of("a.1");
    session_goes(false);
    boxed_stop(boxed);
    cr_assert(boxed_stay(boxed));
    expect(BOXED_ON);
    answers_of("a.1");
    cr_assert_not(keeper->is_told_to_stop);
}

Test(boxed, anothers_is_let_alone)
{
    session_goes(true);
    snprintf(keeper->figures.cycle, sizeof keeper->figures.cycle, "a.1");
    keeper_becomes(KEEPER_REFUSED);
    cr_assert(boxed_is_guarded(boxed));
    boxed_stop(boxed);
    expect(BOXED_ON);
    cr_assert_not(keeper->is_told_to_stop);
}

/* ---- what the next daemon knows ---- */

Test(boxed, that_it_was_to_stop_and_when_is_known_after_a_restart)
{
    struct boxed_figures before;

    is_stopped();
    before = figures();
    daemon_is_killed();
    expect(BOXED_OFF);
    cr_assert_eq(figures().stop_asked_at_ms, before.stop_asked_at_ms);
    cr_assert_eq(figures().since_at_ms, before.since_at_ms);
    cr_assert(figures().told);
    nobody_answers();
    expect(BOXED_OFF);
    answers_of("b.1");
    expect(BOXED_ON);
    cr_assert_eq(figures().stop_asked_at_ms, 0);
    cr_assert_not(keeper->is_told_to_stop);
}

Test(boxed, a_stop_that_a_daemon_before_began_goes_on_where_it_is_still_there)
{
    int64_t asked_at_ms;

    answers_of("a.1");
    session_goes(false);
    boxed_stop(boxed);
    asked_at_ms = figures().stop_asked_at_ms;
    daemon_is_killed();
    expect(BOXED_STOPPING);
    cr_assert_eq(figures().stop_asked_at_ms, asked_at_ms);
    nobody_answers();
    expect(BOXED_STOPPING); /* its guard has not been told: it may run on */
    answers_of("a.1");
    cr_assert(keeper->is_told_to_stop);
    expect(BOXED_STOPPING);
}

Test(boxed, one_that_went_while_no_daemon_was_there_is_off_once_it_was_looked_for)
{
    answers_of("a.1");
    boxed_stop(boxed);
    loop_turns(loop, 3);
    cr_assert(keeper->is_told_to_stop);
    daemon_is_killed();
    expect(BOXED_STOPPING);
    nobody_answers();
    expect(BOXED_OFF);
    loop_advance(loop, BOXED_AWAY_MS);
    loop_turns(loop, 3);
    cr_assert_eq(figures().trial, BOXED_UNTRIED, "nobody saw how it went");
}

Test(boxed, one_that_was_told_by_a_daemon_before_and_is_there_is_told_again)
{
    is_stopped();
    daemon_is_killed();
    answers_of("a.1");
    expect(BOXED_STOPPING);
    cr_assert(keeper->is_told_to_stop);
    cr_assert_str_eq(boxed_trouble(boxed)->code, "stop_not_confirmed");
}

Test(boxed, one_that_is_not_there_after_a_restart_is_off_once_its_guard_was_due)
{
    answers_of("a.1");
    daemon_is_killed();
    expect(BOXED_UNKNOWN);
    cr_assert_gt(figures().acts_at_ms, 0);
    loop_advance(loop, 970000);
    loop_turns(loop, 3);
    expect(BOXED_UNKNOWN); /* not looked for yet */
    nobody_answers();
    expect(BOXED_OFF);
    cr_assert_eq(figures().stop_asked_at_ms, 0);
}

Test(boxed, one_that_was_let_go_without_a_guard_is_so_after_a_restart)
{
    boxed_allow(boxed, true);
    daemon_is_killed();
    cr_assert(boxed_is_guarded(boxed));
    boxed_allow(boxed, false);
    daemon_is_killed();
    cr_assert_not(boxed_is_guarded(boxed));
}

/* ---- whether its guard can end it ---- */

Test(boxed, that_it_went_and_stayed_away_is_kept_with_its_day)
{
    int64_t tried_at_ms;

    is_stopped();
    cr_assert_eq(figures().trial, BOXED_UNTRIED);
    loop_advance(loop, BOXED_AWAY_MS);
    loop_turns(loop, 3);
    cr_assert_eq(figures().trial, BOXED_WENT);
    tried_at_ms = figures().tried_at_ms;
    cr_assert_gt(tried_at_ms, 0);
    answers_of("b.1");
    daemon_is_killed();
    cr_assert_eq(figures().trial, BOXED_WENT);
    cr_assert_eq(figures().tried_at_ms, tried_at_ms);
}

Test(boxed, one_that_is_lost_proves_nothing_of_its_guard)
{
    answers_of("a.1");
    session_goes(false);
    loop_advance(loop, 970000);
    expect(BOXED_OFF);
    loop_advance(loop, BOXED_AWAY_MS);
    loop_turns(loop, 3);
    cr_assert_eq(figures().trial, BOXED_UNTRIED);
}

Test(boxed, one_that_is_lost_after_its_guard_had_its_time_did_not_go_by_it)
{
    answers_of("a.1");
    boxed_stop(boxed);
    for (unsigned i = 0; i < 6; i++) {
        loop_advance(loop, 20000);
        loop_turns(loop, 3);
    }
    cr_assert_eq(figures().trial, BOXED_STAYED);
    session_goes(false);
    expect(BOXED_OFF);
    loop_advance(loop, BOXED_AWAY_MS);
    loop_turns(loop, 3);
    cr_assert_eq(figures().trial, BOXED_STAYED);
}

Test(boxed, one_that_comes_back_by_itself_in_a_drill_is_not_ended_by_its_guard)
{
    answers_of("a.1");
    boxed_drill(boxed);
    loop_turns(loop, 3);
    cr_assert(keeper->is_told_to_stop);
    session_goes(false);
    expect(BOXED_OFF);
    loop_advance(loop, BOXED_AWAY_MS - 5000);
    answers_of("b.1");
    expect(BOXED_ON);
    cr_assert_eq(figures().trial, BOXED_CAME_BACK);
}

Test(boxed, one_that_a_person_switches_on_at_once_proves_nothing)
{
    is_stopped();
    answers_of("b.1");
    loop_advance(loop, BOXED_AWAY_MS);
    loop_turns(loop, 3);
    expect(BOXED_ON);
    cr_assert_eq(figures().trial, BOXED_UNTRIED);
}

/* ---- when it was used ---- */

/* Its guard tells so much of the machine's own clock. */
static void tells_its_clock(int64_t box_s)
{
    keeper->figures.box_s = box_s;
    keeper->figures.box_due = clock_now_ms();
}

static int64_t unused_s(void)
{
    uint64_t ms;

    return boxed_unused_ms(boxed, clock_now_ms(), &ms) ? (int64_t)(ms / 1000) : -1;
}

Test(boxed, its_last_use_is_known_to_the_next_daemon_by_its_own_clock)
{
    answers_of("a.1");
    tells_its_clock(1000);
    cr_assert_eq(unused_s(), -1);
    boxed_note_used(boxed, clock_now_ms() - 100000);
    cr_assert_eq(unused_s(), 100);
    daemon_is_killed();
    cr_assert_eq(unused_s(), -1, "it may be another power-on that is there now");
    answers_of("a.1");
    cr_assert_eq(unused_s(), -1, "its clock was not told yet");
    tells_its_clock(8000); /* whatever ours was set to meanwhile */
    cr_assert_eq(unused_s(), 7100);
    loop_advance(loop, 60000);
    cr_assert_eq(unused_s(), 7160);
}

Test(boxed, another_power_on_was_not_used_yet)
{
    answers_of("a.1");
    tells_its_clock(1000);
    boxed_note_used(boxed, clock_now_ms());
    daemon_is_killed();
    answers_of("b.1");
    tells_its_clock(50);
    cr_assert_eq(unused_s(), -1);
}

Test(boxed, a_use_that_nobody_can_date_is_not_written_down)
{
    session_goes(true);
    boxed_note_used(boxed, clock_now_ms());
    cr_assert_eq(unused_s(), -1);
    answers_of("a.1");
    tells_its_clock(5);
    boxed_note_used(boxed, clock_now_ms() - 60000); /* it was on before we could see it */
    cr_assert_eq(unused_s(), 5);
}

Test(boxed, uses_are_written_down_once_a_minute)
{
    unsigned n;

    answers_of("a.1");
    tells_its_clock(1000);
    boxed_note_used(boxed, clock_now_ms());
    loop_turns(loop, 3);
    n = n_changed;
    loop_advance(loop, 59000);
    boxed_note_used(boxed, clock_now_ms());
    loop_turns(loop, 3);
    cr_assert_eq(n_changed, n);
    loop_advance(loop, 2000);
    boxed_note_used(boxed, clock_now_ms());
    loop_turns(loop, 3);
    cr_assert_gt(n_changed, n);
    cr_assert_eq(unused_s(), 0);
}
