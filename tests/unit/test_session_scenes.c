/* links: session
 *
 * What a session does, scene by scene, over a world that behaves until the scene says otherwise. */
#include "tests/unit/session_scene.h"

Test(session_scenes, comes_up_and_says_so)
{
    struct session_figures figures;

    scene_begin();
    come_up();
    cr_assert_str_eq(w.told, "tunnel up: logged in at 10.0.0.1:22 with password");
    session_figures(w.session, &figures);
    cr_assert_str_eq(figures.method, "password");
    cr_assert_eq(figures.tries, 0);
    cr_assert_eq(figures.reconnects, 0);
    cr_assert_eq(figures.next_try_at_ms, 0);
    cr_assert_str_eq(figures.last_break, "");
    cr_assert(host_key_equal(&w.pinned,
                             &(struct host_key){.algorithm = "ssh-ed25519", .n = 4, .blob = {1, 1, 1, 1}}));
    scene_end();
}

Test(session_scenes, a_login_somebody_waits_for_says_so)
{
    scene_begin();
    ask_for(0, true, false);
    session_want(w.session, true);
    cr_assert_eq(w.session->link->conn->waiters, 0, "a command is our own affair");
    ask_for(1, false, false);
    session_waiting(w.session, 1);
    cr_assert_eq(w.session->link->conn->waiters, 2);
    ask_cancel(1);
    session_waiting(w.session, -1);
    cr_assert_eq(w.session->link->conn->waiters, 0);
    pass(2000);
    cut();
    ask_for(1, false, false);
    cr_assert_eq(w.session->link->conn->waiters, 1);
    pass(2000);
    scene_end();
}

Test(session_scenes, a_loss_is_tried_at_once_and_the_return_is_told_with_its_length)
{
    struct session_figures figures;

    scene_begin();
    come_up();
    cut();
    cr_assert_eq(session_state(w.session), SESSION_CONNECTING, "within the same turn");
    cr_assert_str_eq(w.told, "tunnel lost: lost");
    pass(1000);
    cr_assert_eq(session_state(w.session), SESSION_UP);
    session_figures(w.session, &figures);
    cr_assert_eq(figures.reconnects, 1);
    cr_assert(strncmp(w.told, "tunnel back after 0.", 20) == 0 &&
                  strstr(w.told, "s (lost; logged in with password)"),
              "%s", w.told);
    cr_assert(strncmp(figures.last_break, "0.", 2) == 0 && strstr(figures.last_break, " lost"), "%s",
              figures.last_break);
    cr_assert_gt(figures.since_at_ms, w.session->lost_at_ms, "it is up since it came back");
    scene_end();
}

Test(session_scenes, tries_for_ever_never_more_than_fifteen_seconds_apart)
{
    uint64_t quiet_ms = 0, tries = 0;

    scene_begin();
    w.network = false;
    session_want(w.session, true);
    while (w.now < 10 * 3600000ull) {
        pass(100);
        quiet_ms = tries == w.session->links_made ? quiet_ms + 100 : 0;
        tries = w.session->links_made;
        cr_assert_leq(quiet_ms, 15200);
    }
    cr_assert_gt(tries, 10 * 3600 / 16);
    scene_end();
}

Test(session_scenes, hurry_does_not_wait_for_the_next_try)
{
    scene_begin();
    w.network = false;
    session_want(w.session, true);
    pass(120000);
    while (session_state(w.session) != SESSION_WAITING)
        pass(10);
    w.network = true;
    session_hurry(w.session);
    cr_assert_eq(session_state(w.session), SESSION_CONNECTING);
    pass(1000);
    cr_assert_eq(session_state(w.session), SESSION_UP);
    scene_end();
}

Test(session_scenes, refused_credentials_are_read_again_once_and_then_left_alone)
{
    scene_begin();
    w.right_password = 1;
    session_want(w.session, true);
    pass(10 * 3600000);
    cr_assert_eq(session_state(w.session), SESSION_REFUSED);
    cr_assert_eq(w.logins, 2);
    cr_assert_eq(w.refusals, 1);
    session_want(w.session, false);
    session_want(w.session, true);
    session_hurry(w.session);
    pass(3600000);
    cr_assert_eq(w.logins, 2, "wanting harder is no new credential");
    w.password = 1;
    session_renew(w.session, NULL);
    pass(1000);
    cr_assert_eq(session_state(w.session), SESSION_UP);
    scene_end();
}

Test(session_scenes, a_password_corrected_meanwhile_is_found_by_the_second_reading)
{
    scene_begin();
    w.right_password = 1;
    session_want(w.session, true);
    while (w.logins == 0)
        pass(1);
    w.password = 1;
    pass(2000);
    cr_assert_eq(session_state(w.session), SESSION_UP);
    cr_assert_eq(w.logins, 2);
    cr_assert_eq(w.refusals, 0);
    scene_end();
}

Test(session_scenes, another_host_key_is_refused_before_any_login)
{
    struct host_key other = key_of(false);
    char expected[FINGERPRINT_BYTES], got[FINGERPRINT_BYTES];
    _cleanup_free_ char *text = NULL;

    scene_begin();
    come_up();
    session_want(w.session, false);
    w.key_is_old = false;
    session_want(w.session, true);
    w.logins = 0;
    pass(60000);
    cr_assert_eq(session_state(w.session), SESSION_REFUSED);
    cr_assert_eq(w.logins, 0);
    cr_assert(host_key_equal(session_shown_key(w.session), &other));
    cr_assert_str_eq(session_fault(w.session)->code, "host_key");
    text = xasprintf("box shows another host key than before: expected %s, got %s at box:22; not connected, "
                     "no password was sent",
                     host_key_fingerprint(&w.pinned, expected), host_key_fingerprint(&other, got));
    cr_assert_str_eq(session_fault(w.session)->text, text);
    renew("box", &other);
    pass(1000);
    cr_assert_eq(session_state(w.session), SESSION_UP, "accepted by name");
    scene_end();
}

Test(session_scenes, a_new_address_is_another_connection_and_the_same_one_is_none)
{
    scene_begin();
    come_up();
    renew("box", &w.pinned);
    cr_assert_eq(session_state(w.session), SESSION_UP);
    renew("other", &w.pinned);
    cr_assert_eq(session_state(w.session), SESSION_CONNECTING);
    pass(1000);
    cr_assert_eq(session_state(w.session), SESSION_UP);
    scene_end();
}

Test(session_scenes, another_way_to_the_same_address_is_another_connection_too)
{
    struct session_target target = {.host = "box", .port = 22, .user = "root"};
    static const char *const ways[] = {"ProxyJump a", "ProxyJump b", NULL};

    scene_begin();
    come_up();
    for (size_t i = 0; i < ELEMENTS(ways); i++) {
        target.pinned = &w.pinned;
        target.proxy = ways[i];
        session_renew(w.session, &target);
        cr_assert_eq(session_state(w.session), SESSION_CONNECTING);
        pass(1000);
        cr_assert_eq(session_state(w.session), SESSION_UP);
        session_renew(w.session, &target);
        cr_assert_eq(session_state(w.session), SESSION_UP, "the same");
    }
    scene_end();
}

Test(session_scenes, an_upload_has_a_connection_of_its_own)
{
    scene_begin();
    come_up();
    ask_for(0, true, true);
    ask_for(1, true, false);
    ask_for(2, false, true);
    cr_assert(w.on[1] == 1 && w.on[2] == 1, "nobody else waits for it");
    pass(2000);
    cr_assert_eq(w.answers, 3);
    cr_assert_eq(w.on[0], 2);
    ask_for(3, false, true);
    cr_assert_eq(w.on[3], 2, "what is bulk goes there, now that it is there");
    ask_for(4, false, false);
    cr_assert_eq(w.on[4], 1);
    pass(1000);
    cr_assert_eq(w.conns_made, 2);
    cut();
    cr_assert_eq(session_state(w.session), SESSION_CONNECTING);
    pass(1000);
    scene_end();
}

/* As its connection says when the agent takes its time. */
static void conn_waits(unsigned id)
{
    LIST_FOREACH (c, &w.conns, struct ssh_conn, node)
        if (c->id == id) {
            c->events.waits(c->ctx, "yubikey");
            return;
        }
    cr_assert(false, "no connection %u", id);
}

Test(session_scenes, a_login_that_waits_for_a_touch_says_so_until_it_is_up)
{
    scene_begin();
    session_want(w.session, true);
    conn_waits(1);
    cr_assert_eq(session_fault(w.session)->kind, FAULT_TRANSIENT);
    cr_assert(strstr(session_fault(w.session)->text, "\"yubikey\""));
    pass(2000);
    cr_assert_eq(session_state(w.session), SESSION_UP);
    cr_assert_eq(session_fault(w.session)->kind, FAULT_NONE);
    scene_end();
}

Test(session_scenes, a_further_connection_that_waits_for_a_touch_is_no_fault_of_the_tunnel)
{
    scene_begin();
    come_up();
    ask_for(0, true, true);
    conn_waits(2);
    cr_assert_eq(session_state(w.session), SESSION_UP);
    cr_assert_eq(session_fault(w.session)->kind, FAULT_NONE, "%s", session_fault(w.session)->text);
    pass(2000);
    cr_assert_eq(w.answers, 1);
    scene_end();
}

Test(session_scenes, without_a_second_connection_uploads_go_through_the_first)
{
    scene_begin();
    come_up();
    w.refuses_more = true;
    ask_for(0, true, true);
    pass(2000);
    cr_assert_eq(w.on[0], 1);
    cr_assert_eq(w.answers, 1);
    ask_for(1, true, true);
    cr_assert_eq(w.on[1], 1, "not asked for again so soon");
    pass(31000);
    ask_for(2, true, true);
    cr_assert_eq(w.conns_made, 3);
    pass(1000);
    cr_assert_eq(session_state(w.session), SESSION_UP, "a spare that fails is no loss");
    cr_assert_eq(w.answers, 3);
    scene_end();
}

Test(session_scenes, a_port_that_hangs_does_not_hold_up_the_others)
{
    scene_begin();
    come_up();
    w.hangs = true;
    ask_for(0, false, false);
    pass(1900);
    ask_for(1, true, false);
    cr_assert_eq(w.on[1], 1);
    cr_assert_eq(w.asks[1].executions, 0, "it waits its turn");
    pass(200);
    ask_for(2, true, false);
    cr_assert_neq(w.on[2], 1, "waits for a spare");
    pass(1000);
    cr_assert_eq(w.on[2], 2);
    cr_assert_eq(w.on[1], 2, "it had not begun: it goes there as well");
    pass(1000);
    cr_assert_eq(w.asks[1].executions, 1);
    ask_for(3, true, false);
    cr_assert_eq(w.on[3], 2);
    ask_cancel(0);
    pass(1000);
    ask_for(4, true, false);
    cr_assert_eq(w.on[4], 1, "and is needed no more");
    scene_end();
}

Test(session_scenes, dials_behind_one_that_hangs_are_given_to_another_connection)
{
    scene_begin();
    come_up();
    w.hangs = true;
    ask_for(0, false, false);
    pass(500);
    ask_for(1, false, false);
    ask_for(2, false, true);
    cr_assert_eq(w.on[1], 1);
    pass(3000);
    cr_assert_eq(w.on[0], 1, "what hangs stays");
    cr_assert_neq(w.on[1], 1);
    cr_assert_neq(w.on[2], 1);
    scene_end();
}

Test(session_scenes, four_connections_are_the_most)
{
    scene_begin();
    come_up();
    w.hangs = true;
    for (unsigned i = 0; i < ASKS; i++) {
        ask_for(i, false, false);
        pass(4000);
    }
    cr_assert_eq(w.conns_made, 4);
    cr_assert_eq(w.on[3], 4);
    cr_assert_eq(w.on[5], 1, "then they wait behind the others");
    scene_end();
}

Test(session_scenes, silence_is_told_and_the_same_connection_may_come_back)
{
    struct session_figures figures;

    scene_begin();
    come_up();
    conn_first()->streams = 1;
    network_ends();
    pass(2900);
    cr_assert_eq(session_state(w.session), SESSION_UP);
    pass(200);
    cr_assert_neq(session_state(w.session), SESSION_UP);
    cr_assert_eq(w.losses, 1);
    cr_assert_str_eq(w.told, "tunnel lost: box does not answer: no byte for 3.0 s");
    pass(3000);
    cr_assert_eq(w.losses, 1, "once");
    w.network = true;
    conn_speak(LIST_FIRST(&w.conns, struct ssh_conn, node));
    cr_assert_eq(session_state(w.session), SESSION_UP, "within the same turn");
    cr_assert_str_eq(w.told, "tunnel back after 3.1s (box does not answer: no byte for 3.0 s; the same "
                             "connection, logged in with password)");
    session_figures(w.session, &figures);
    cr_assert_eq(figures.reconnects, 0);
    cr_assert(strncmp(figures.last_break, "3.1s, ", 6) == 0, "%s", figures.last_break);
    pass(1);
    cr_assert_eq(conn_first()->id, 1);
    cr_assert_eq(w.conns.next->next, &w.conns, "nothing is beside it");
    scene_end();
}

Test(session_scenes, silence_is_answered_by_a_second_connection_beside_the_first)
{
    struct session_figures figures;
    struct ssh_conn *old;

    scene_begin();
    come_up();
    old = conn_first();
    old->streams = 2;
    old->stalled = true;
    conn_mute(old);
    ask_for(1, true, false);
    ask_for(0, false, false);
    cr_assert(w.on[0] == 1 && w.on[1] == 1);
    pass(3000);
    cr_assert_eq(session_state(w.session), SESSION_CONNECTING);
    ask_for(2, true, false);
    pass(900);
    cr_assert_eq(session_state(w.session), SESSION_UP);
    session_figures(w.session, &figures);
    cr_assert_eq(figures.reconnects, 1);
    cr_assert(w.on[0] == 2 && w.on[2] == 2, "what had no answer, and what was asked meanwhile");
    cr_assert_eq(w.on[1], 1, "a command that may have begun");
    cr_assert_eq(w.answers, 2);
    old->stalled = false;
    conn_speak(old);
    pass(1000);
    cr_assert_eq(w.answers, 3);
    cr_assert_eq(w.asks[1].executions, 1);
    ask_for(3, false, false);
    cr_assert_eq(w.on[3], 2, "though the old one is alive");
    pass(30000);
    cr_assert(!old->freed && old->phase == LIVES);
    old->streams = 0;
    pass(11000);
    cr_assert_eq(LIST_FIRST(&w.conns, struct ssh_conn, node)->id, 2, "it went with its last stream");
    cr_assert_eq(session_state(w.session), SESSION_UP);
    cr_assert_eq(w.conns_made, 2);
    scene_end();
}

Test(session_scenes, a_dead_one_goes_after_ten_seconds_and_is_no_second_loss)
{
    scene_begin();
    come_up();
    conn_first()->streams = 2;
    conn_first()->stalled = true;
    conn_mute(conn_first());
    ask_for(0, true, false);
    pass(9900);
    cr_assert_eq(w.answers, 0);
    cr_assert_eq(w.losses, 1);
    pass(1000);
    cr_assert_eq(w.answers, 1);
    cr_assert_eq(w.on[0], 2, "it never began over there");
    cr_assert_eq(w.losses, 1);
    cr_assert_eq(session_state(w.session), SESSION_UP);
    cr_assert_eq(w.conns_made, 2);
    cr_assert_eq(conn_first()->id, 2);
    scene_end();
}

Test(session_scenes, a_spare_that_is_heard_takes_over_at_once)
{
    scene_begin();
    come_up();
    ask_for(0, true, true);
    pass(2000);
    cr_assert_eq(w.on[0], 2);
    conn_first()->streams = 1;
    conn_first()->stalled = true;
    conn_mute(conn_first());
    ask_for(1, false, false);
    cr_assert_eq(w.on[1], 1);
    pass(3001);
    cr_assert_eq(session_state(w.session), SESSION_UP);
    cr_assert_eq(w.losses, 0);
    cr_assert_eq(w.on[1], 2);
    ask_for(2, true, false);
    cr_assert_eq(w.on[2], 2);
    pass(1000);
    cr_assert_eq(w.answers, 3);
    cr_assert_eq(w.conns_made, 2);
    scene_end();
}

Test(session_scenes, spares_without_work_go_after_a_minute)
{
    scene_begin();
    come_up();
    ask_for(0, true, true);
    pass(2000);
    LIST_FOREACH (c, &w.conns, struct ssh_conn, node)
        c->streams = c->id == 2;
    pass(600000);
    ask_for(1, true, true);
    cr_assert_eq(w.on[1], 2, "still there: it carries a stream");
    pass(1000);
    LIST_FOREACH (c, &w.conns, struct ssh_conn, node)
        c->streams = 0;
    pass(49000);
    ask_for(2, true, true);
    cr_assert_eq(w.on[2], 2);
    pass(71000);
    cr_assert_eq(LIST_FIRST(&w.conns, struct ssh_conn, node)->node.next, &w.conns, "only the first is left");
    ask_for(3, true, true);
    pass(1000);
    cr_assert_eq(w.on[3], 3);
    scene_end();
}

Test(session_scenes, an_address_that_changed_under_suspicion_leaves_nothing_of_the_old_one)
{
    scene_begin();
    come_up();
    conn_first()->streams = 1;
    network_ends();
    pass(3100);
    renew("other", &w.pinned);
    drain();
    LIST_FOREACH (c, &w.conns, struct ssh_conn, node)
        cr_assert_neq(c->id, 1);
    w.network = true;
    pass(SESSION_LOGIN_MS);
    cr_assert_eq(session_state(w.session), SESSION_UP);
    scene_end();
}

Test(session_scenes, a_login_that_never_ends_is_tried_again)
{
    scene_begin();
    session_want(w.session, true);
    drain();
    conn_first()->keeps_silent = true;
    pass(SESSION_LOGIN_MS - 1000);
    cr_assert_eq(session_fault(w.session)->kind, FAULT_NONE);
    pass(1100);
    cr_assert_eq(session_fault(w.session)->kind, FAULT_TRANSIENT);
    cr_assert_not_null(strstr(session_fault(w.session)->text, "no login at"), "%s",
                       session_fault(w.session)->text);
    cr_assert_neq(session_state(w.session), SESSION_REFUSED);
    scene_end();
}

Test(session_scenes, requests_wait_and_begin_in_order)
{
    scene_begin();
    w.network = false;
    session_want(w.session, true);
    for (unsigned i = 0; i < ASKS; i++) {
        ask_for(i, i % 2, false);
        pass(500);
    }
    ask_cancel(3);
    cr_assert_eq(w.n_order, 0);
    w.network = true;
    pass(60000);
    cr_assert_eq(w.n_order, ASKS - 1);
    cr_assert(w.order[0] == 0 && w.order[1] == 1 && w.order[2] == 2 && w.order[3] == 4 && w.order[4] == 5);
    cr_assert_eq(w.answers, ASKS - 1);
    scene_end();
}

/* What went ahead with a login that failed is asked again, and the login after that takes nothing along. */
Test(session_scenes, dials_go_ahead_where_our_key_let_us_in)
{
    scene_begin();
    w.by_own_key = true;
    come_up();
    network_ends();
    pass(15000);
    cr_assert_neq(session_state(w.session), SESSION_UP);
    ask_for(0, true, false);
    ask_for(1, false, false);
    ask_for(2, false, true);
    w.network = true;
    session_renew(w.session, NULL);
    for (unsigned i = 0; i < 1000 && !(w.session->link && conn_first()->is_soon); i++)
        pass(1);
    cr_assert_eq(session_state(w.session), SESSION_CONNECTING);
    cr_assert(w.n_order == 1 && w.order[0] == 1, "neither a command nor bulk");
    w.network = false;
    pass(500);
    cr_assert(!w.session->own_key_holds);
    w.network = true;
    pass(60000);
    cr_assert_eq(session_state(w.session), SESSION_UP);
    cr_assert(w.n_order == 4 && w.order[1] == 0 && w.order[2] == 1 && w.order[3] == 2);
    cr_assert(w.session->own_key_holds && w.answers == 3);
    scene_end();
}

/* Each return would cost it a connection. */
Test(session_scenes, no_dial_goes_ahead_to_a_server_that_cuts_off_who_does_not_wait)
{
    unsigned ahead = 0;

    scene_begin();
    w.by_own_key = true;
    come_up();
    for (unsigned round = 0; round < 4; round++) {
        network_ends();
        pass(15000);
        ask_for(0, false, false);
        w.network = true;
        session_renew(w.session, NULL);
        for (unsigned i = 0; i < 1000 && session_state(w.session) != SESSION_UP; i++) {
            pass(1);
            if (!w.session->link || !conn_first()->is_soon || session_state(w.session) != SESSION_CONNECTING)
                continue;
            ahead++;
            w.network = false;
            pass(500);
            w.network = true;
        }
        pass(60000);
        cr_assert_eq(session_state(w.session), SESSION_UP);
        cr_assert_eq(w.answers, round + 1);
    }
    cr_assert_eq(ahead, SESSION_AHEAD_LOST_MAX);
    scene_end();
}

/* Behind one that ran meanwhile it has waited its turn, and was not refused so long. */
Test(session_scenes, a_command_that_is_refused_alone_has_its_time_anew_after_another_one_ran)
{
    scene_begin();
    come_up();
    ask_for(2, true, false);
    pass(1000);
    w.no_place = 1 << 0;
    ask_for(0, true, false);
    pass(2000);
    w.stays = true;
    ask_for(1, true, false);
    pass(12000);
    cr_assert_eq(w.asks[1].executions, 1);
    ask_cancel(1);
    pass(1500); /* its process goes on for a moment */
    w.no_place = 0;
    w.stays = false;
    pass(2000);
    cr_assert_eq(w.asks[0].executions, 1);
    scene_end();
}

Test(session_scenes, requests_end_with_their_session)
{
    scene_begin();
    for (unsigned i = 0; i < ASKS; i++)
        ask(i);
    ask_cancel(0);
    w.session = session_free(w.session);
    cr_assert_eq(w.answers, 0, "not from inside the call");
    ask_cancel(1);
    drain();
    cr_assert_eq(w.answers, ASKS - 2);
    cr_assert_null(w.timer);
}
