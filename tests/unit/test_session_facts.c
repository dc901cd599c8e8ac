/* links: session
 *
 * What a session remembers, counts and tells, change by change. */
#include "tests/unit/session_scene.h"

#include <time.h>

static unsigned tries(void)
{
    struct session_figures figures;

    session_figures(w.session, &figures);
    return figures.tries;
}

static int64_t next_try_at_ms(void)
{
    struct session_figures figures;

    session_figures(w.session, &figures);
    return figures.next_try_at_ms;
}

static void wait_for(enum session_state state)
{
    for (unsigned i = 0; i < 100000 && session_state(w.session) != state; i++)
        pass(10);
    cr_assert_eq(session_state(w.session), state);
}

static void be_refused(void)
{
    for (unsigned i = 0; i < 10000 && !w.session->reread; i++)
        pass(1);
    cr_assert(w.session->reread);
}

static void lose_with(const char *text)
{
    struct fault f;

    fault_code(&f, FAULT_TRANSIENT, "lost", "%s", text);
    conn_end_with(conn_first(), &f);
}

Test(session_facts, a_return_tells_when_and_why_it_was_lost)
{
    struct session_figures figures;
    char expected[200], why[300], at_time[16];
    int64_t lost_at_ms;
    time_t at;
    struct tm tm;

    scene_begin();
    come_up();
    lost_at_ms = fake_clock_wall_ms();
    at = lost_at_ms / 1000;
    strftime(at_time, sizeof at_time, "%H:%M:%S", localtime_r(&at, &tm));
    memset(why, 'x', sizeof why - 1);
    why[sizeof why - 1] = '\0';
    lose_with(why);
    session_figures(w.session, &figures);
    cr_assert_eq(figures.since_at_ms, lost_at_ms, "it is away since then");
    pass(1);
    while (session_state(w.session) != SESSION_UP)
        pass(1);
    session_figures(w.session, &figures);
    snprintf(expected, sizeof expected, "s, %s %.*s", at_time, (int)sizeof w.session->lost_why - 1, why);
    cr_assert_str_eq(strchr(figures.last_break, 's'), expected);
    cr_assert_eq(figures.next_try_at_ms, 0);
    scene_end();
}

Test(session_facts, what_was_lost_and_then_not_wanted_is_no_loss_for_the_next_wish)
{
    struct session_figures figures;

    scene_begin();
    come_up();
    w.network = false;
    cut();
    pass(5000);
    session_want(w.session, false);
    w.network = true;
    pass(5000);
    session_want(w.session, true);
    cr_assert_eq(tries(), 1, "counted anew");
    pass(2000);
    cr_assert_str_eq(w.told, "tunnel up: logged in at 10.0.0.1:22 with password");
    session_figures(w.session, &figures);
    cr_assert_eq(figures.reconnects, 0);
    cr_assert_str_eq(figures.last_break, "");
    scene_end();
}

Test(session_facts, why_it_is_away_goes_with_the_wish_but_a_refusal_stays)
{
    scene_begin();
    w.network = false;
    session_want(w.session, true);
    wait_for(SESSION_WAITING);
    cr_assert_str_eq(session_fault(w.session)->code, "unreachable");
    session_renew(w.session, NULL);
    cr_assert_str_eq(session_fault(w.session)->code, "unreachable", "until something else is known");
    session_want(w.session, false);
    cr_assert_eq(session_fault(w.session)->kind, FAULT_NONE);
    w.network = true;
    w.right_password = 1;
    session_want(w.session, true);
    wait_for(SESSION_REFUSED);
    session_want(w.session, false);
    cr_assert_str_eq(session_fault(w.session)->code, "login_refused");
    w.password = 1;
    session_renew(w.session, NULL);
    cr_assert_eq(session_fault(w.session)->kind, FAULT_NONE, "there is something new to try");
    scene_end();
}

Test(session_facts, a_refusal_pages_somebody_unless_it_was_on_trial)
{
    scene_begin();
    w.right_password = 1;
    session_want(w.session, true);
    wait_for(SESSION_REFUSED);
    cr_assert_eq(w.n_told, 1);
    cr_assert_str_eq(w.told, "login_refused");
    scene_end();

    scene_begin();
    w.right_password = 1;
    session_on_trial(w.session, true);
    session_want(w.session, true);
    wait_for(SESSION_REFUSED);
    cr_assert_eq(w.n_told, 0);
    scene_end();
}

/* Whoever logged in is let in; only a connection that spoke again proves nothing of the kind. */
Test(session_facts, a_good_login_ends_the_ration_and_silence_that_ends_does_not)
{
    struct ssh_conn *old;

    scene_begin();
    w.right_password = 1;
    session_want(w.session, true);
    while (w.logins == 0)
        pass(1);
    w.password = 1;
    wait_for(SESSION_UP);
    cr_assert_not(w.session->logins.refused);
    cr_assert_not(w.session->reread);

    pass(2000);
    w.right_password = 2;
    cut();
    be_refused();
    cr_assert_eq(session_state(w.session), SESSION_CONNECTING, "read again, as the first time");
    w.password = 2;
    wait_for(SESSION_UP);

    pass(2000);
    old = conn_first();
    old->streams = 1;
    old->stalled = true;
    conn_mute(old);
    w.right_password = 3;
    be_refused();
    old->stalled = false;
    conn_speak(old);
    cr_assert_eq(session_state(w.session), SESSION_UP);
    cr_assert_eq(conn_first(), old);
    cr_assert(w.session->reread && w.session->logins.refused);
    scene_end();
}

Test(session_facts, one_that_held_is_tried_at_once_after_a_loss_and_one_that_did_not_waits)
{
    scene_begin();
    come_up();
    for (unsigned i = 0; i < 4; i++) {
        cut();
        cr_assert_eq(session_state(w.session), SESSION_CONNECTING, "%u", i);
        wait_for(SESSION_UP);
        pass(SESSION_SETTLE_MS + 10);
    }
    cut();
    wait_for(SESSION_UP);
    cut();
    cr_assert_eq(session_state(w.session), SESSION_CONNECTING, "the second time within a second");
    wait_for(SESSION_UP);
    cut();
    cr_assert_eq(session_state(w.session), SESSION_WAITING, "the third time");
    session_want(w.session, true);
    scene_end();
}

/* A word without a meaning for it changes nothing of that. */
Test(session_facts, what_is_kept_is_not_settled_by_it)
{
    scene_begin();
    come_up();
    cut();
    wait_for(SESSION_UP);
    cut();
    wait_for(SESSION_UP);
    cr_assert_eq(w.session->tries, 2);
    session_event(w.session, SESSION_EV_SPOKE, NULL);
    cr_assert_eq(w.session->tries, 2);
    pass(SESSION_SETTLE_MS + 10);
    cr_assert_eq(w.session->tries, 0);
    scene_end();
}

Test(session_facts, tries_are_counted_anew_when_somebody_asks_for_one)
{
    scene_begin();
    w.network = false;
    session_want(w.session, true);
    pass(60000);
    wait_for(SESSION_WAITING);
    cr_assert_gt(tries(), 3);
    cr_assert_neq(next_try_at_ms(), 0);
    session_hurry(w.session);
    cr_assert_eq(next_try_at_ms(), 0, "it is under way");
    cr_assert_eq(tries(), 1);
    session_hurry(w.session);
    cr_assert_eq(tries(), 2, "one that is under way is one");
    pass(60000);
    wait_for(SESSION_WAITING);
    session_renew(w.session, NULL);
    cr_assert_eq(tries(), 1);
    session_renew(w.session, NULL);
    cr_assert_eq(tries(), 1);
    w.network = true;
    w.right_password = 1;
    wait_for(SESSION_REFUSED);
    w.network = false;
    session_renew(w.session, NULL);
    cr_assert_eq(tries(), 1, "after a refusal too");
    scene_end();
}

Test(session_facts, a_connection_is_asked_for_a_sign_of_life_when_somebody_doubts_it)
{
    scene_begin();
    come_up();
    cr_assert_eq(w.pings, 0);
    session_hurry(w.session);
    cr_assert_eq(w.pings, 1);
    session_renew(w.session, NULL);
    cr_assert_eq(w.pings, 2);
    pass(5000);
    cr_assert_eq(w.pings, 2);
    scene_end();
}

/* The same credentials again say nothing against what is silent. */
Test(session_facts, what_is_under_suspicion_outlives_a_renewal_of_the_same)
{
    struct ssh_conn *old;

    scene_begin();
    come_up();
    old = conn_first();
    old->streams = 1;
    old->stalled = true;
    conn_mute(old);
    w.refuses_more = false;
    pass(3001);
    cr_assert_eq(session_state(w.session), SESSION_CONNECTING);
    session_renew(w.session, NULL);
    cr_assert_eq(session_state(w.session), SESSION_CONNECTING);
    old->stalled = false;
    conn_speak(old);
    cr_assert_eq(session_state(w.session), SESSION_UP);
    cr_assert_eq(conn_first(), old);
    scene_end();
}

Test(session_facts, a_key_that_did_not_get_there_is_given_up_with_its_connection)
{
    scene_begin();
    w.installs = true;
    come_up();
    cr_assert_eq(w.session->key_op, &w.install);
    w.installs = false;
    cut();
    cr_assert_null(w.session->key_op);
    cr_assert_eq(w.n_uninstalled, 1);
    scene_end();
}

Test(session_facts, a_login_that_never_ends_says_where_and_after_how_long)
{
    scene_begin();
    session_want(w.session, true);
    drain();
    conn_first()->keeps_silent = true;
    while (session_fault(w.session)->kind == FAULT_NONE)
        pass(100);
    cr_assert_str_eq(session_fault(w.session)->text, "no login at box:22 within 90 s");
    scene_end();
}

/* A night of it is worth a line, and what somebody asked for one more. */
Test(session_facts, the_same_failure_is_told_once)
{
    scene_begin();
    w.network = false;
    session_want(w.session, true);
    pass(8 * 3600000);
    cr_assert_eq(w.n_lines, 2, "that it begins, and what became of it: %u", w.n_lines);
    wait_for(SESSION_WAITING);
    session_hurry(w.session);
    pass(3600000);
    cr_assert_eq(w.n_lines, 4, "%u", w.n_lines);
    scene_end();
}
