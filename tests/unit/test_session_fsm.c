/* links: session
 *
 * The life of a session: its table of moves row by row, then thousands of random stories. */
#include "tests/unit/session_world.h"

/* ---- The table ---- */

/* clang-format off */
#define DENIED {FAULT_DENIED, 0, "login_refused", ""}
#define JUMP   {FAULT_DENIED, 0, "jump_refused", ""}
#define ON_WAY {FAULT_DENIED, 0, "jump_host_key", ""}
#define KEY    {FAULT_DENIED, 0, "host_key", ""}
#define LOCKED {FAULT_DENIED, 0, "passphrase_needed", ""}
#define LOST   {FAULT_TRANSIENT, 0, "lost", ""}
#define SILENT {FAULT_TRANSIENT, 0, "ping", ""}
#define BROKEN {FAULT_INVALID, 0, "protocol", ""}
#define NONE   {FAULT_NONE, 0, "", ""}
/* clang-format on */

enum { REFUSED = 1, REREAD = 2, MOVED = 4, RATIONED = 8, OTHER = 16 };

struct row {
    enum session_state from;
    unsigned facts;
    unsigned tries;
    enum session_event ev;
    struct fault fault;
    int how;
    enum session_state to;
};

static const struct row rows[] = {
    {SESSION_IDLE, 0, 0, SESSION_EV_WANT, NONE, SESSION_ENTER, SESSION_CONNECTING},
    {SESSION_IDLE, REFUSED, 0, SESSION_EV_WANT, NONE, SESSION_ENTER, SESSION_REFUSED},
    {SESSION_IDLE, RATIONED, 0, SESSION_EV_WANT, NONE, SESSION_ENTER, SESSION_WAITING},
    {SESSION_IDLE, 0, 0, SESSION_EV_UNWANT, NONE, SESSION_KEEP, SESSION_IDLE},
    {SESSION_IDLE, 0, 0, SESSION_EV_UP, NONE, SESSION_KEEP, SESSION_IDLE},
    {SESSION_IDLE, 0, 0, SESSION_EV_DOWN, LOST, SESSION_KEEP, SESSION_IDLE},
    {SESSION_IDLE, 0, 0, SESSION_EV_SUSPECT, SILENT, SESSION_KEEP, SESSION_IDLE},
    {SESSION_IDLE, OTHER, 0, SESSION_EV_SPOKE, NONE, SESSION_KEEP, SESSION_IDLE},
    {SESSION_IDLE, 0, 0, SESSION_EV_TIMER, NONE, SESSION_KEEP, SESSION_IDLE},
    {SESSION_IDLE, MOVED, 0, SESSION_EV_RENEW, NONE, SESSION_KEEP, SESSION_IDLE},
    {SESSION_IDLE, 0, 0, SESSION_EV_HURRY, NONE, SESSION_KEEP, SESSION_IDLE},

    {SESSION_CONNECTING, 0, 1, SESSION_EV_WANT, NONE, SESSION_KEEP, SESSION_CONNECTING},
    {SESSION_CONNECTING, 0, 1, SESSION_EV_UNWANT, NONE, SESSION_ENTER, SESSION_IDLE},
    {SESSION_CONNECTING, 0, 1, SESSION_EV_UP, NONE, SESSION_ENTER, SESSION_UP},
    {SESSION_CONNECTING, 0, 1, SESSION_EV_DOWN, LOST, SESSION_ENTER, SESSION_WAITING},
    {SESSION_CONNECTING, 0, 9, SESSION_EV_DOWN, BROKEN, SESSION_ENTER, SESSION_WAITING},
    {SESSION_CONNECTING, 0, 1, SESSION_EV_DOWN, DENIED, SESSION_ENTER, SESSION_CONNECTING},
    {SESSION_CONNECTING, RATIONED, 1, SESSION_EV_DOWN, DENIED, SESSION_ENTER, SESSION_WAITING},
    {SESSION_CONNECTING, REREAD, 2, SESSION_EV_DOWN, DENIED, SESSION_ENTER, SESSION_REFUSED},
    {SESSION_CONNECTING, 0, 1, SESSION_EV_DOWN, KEY, SESSION_ENTER, SESSION_REFUSED},
    {SESSION_CONNECTING, 0, 1, SESSION_EV_DOWN, JUMP, SESSION_ENTER, SESSION_CONNECTING},
    {SESSION_CONNECTING, RATIONED, 1, SESSION_EV_DOWN, JUMP, SESSION_ENTER, SESSION_WAITING},
    {SESSION_CONNECTING, REREAD, 2, SESSION_EV_DOWN, JUMP, SESSION_ENTER, SESSION_REFUSED},
    {SESSION_CONNECTING, 0, 1, SESSION_EV_DOWN, ON_WAY, SESSION_ENTER, SESSION_REFUSED},
    {SESSION_CONNECTING, 0, 1, SESSION_EV_DOWN, LOCKED, SESSION_ENTER, SESSION_REFUSED},
    {SESSION_CONNECTING, 0, 1, SESSION_EV_SUSPECT, SILENT, SESSION_KEEP, SESSION_CONNECTING},
    {SESSION_CONNECTING, OTHER, 1, SESSION_EV_SPOKE, NONE, SESSION_ENTER, SESSION_UP},
    {SESSION_CONNECTING, 0, 1, SESSION_EV_SPOKE, NONE, SESSION_KEEP, SESSION_CONNECTING},
    {SESSION_CONNECTING, 0, 1, SESSION_EV_TIMER, LOST, SESSION_ENTER, SESSION_WAITING},
    {SESSION_CONNECTING, 0, 1, SESSION_EV_RENEW, NONE, SESSION_ENTER, SESSION_CONNECTING},
    {SESSION_CONNECTING, RATIONED, 1, SESSION_EV_RENEW, NONE, SESSION_KEEP, SESSION_CONNECTING},
    {SESSION_CONNECTING, 0, 1, SESSION_EV_HURRY, NONE, SESSION_ENTER, SESSION_CONNECTING},
    {SESSION_CONNECTING, RATIONED, 1, SESSION_EV_HURRY, NONE, SESSION_KEEP, SESSION_CONNECTING},

    {SESSION_UP, 0, 0, SESSION_EV_WANT, NONE, SESSION_KEEP, SESSION_UP},
    {SESSION_UP, 0, 0, SESSION_EV_UNWANT, NONE, SESSION_ENTER, SESSION_IDLE},
    {SESSION_UP, 0, 0, SESSION_EV_UP, NONE, SESSION_KEEP, SESSION_UP},
    {SESSION_UP, 0, 0, SESSION_EV_DOWN, LOST, SESSION_ENTER, SESSION_CONNECTING},
    {SESSION_UP, 0, 1, SESSION_EV_DOWN, LOST, SESSION_ENTER, SESSION_CONNECTING},
    {SESSION_UP, 0, 2, SESSION_EV_DOWN, LOST, SESSION_ENTER, SESSION_WAITING},
    {SESSION_UP, RATIONED, 1, SESSION_EV_DOWN, LOST, SESSION_ENTER, SESSION_WAITING},
    {SESSION_UP, OTHER, 0, SESSION_EV_DOWN, LOST, SESSION_ENTER, SESSION_CONNECTING},
    {SESSION_UP, 0, 0, SESSION_EV_SUSPECT, SILENT, SESSION_ENTER, SESSION_CONNECTING},
    {SESSION_UP, 0, 2, SESSION_EV_SUSPECT, SILENT, SESSION_ENTER, SESSION_WAITING},
    {SESSION_UP, RATIONED, 1, SESSION_EV_SUSPECT, SILENT, SESSION_ENTER, SESSION_WAITING},
    {SESSION_UP, OTHER, 2, SESSION_EV_SUSPECT, SILENT, SESSION_SWAP, SESSION_UP},
    {SESSION_UP, OTHER, 0, SESSION_EV_SPOKE, NONE, SESSION_KEEP, SESSION_UP},
    {SESSION_UP, 0, 0, SESSION_EV_DOWN, BROKEN, SESSION_ENTER, SESSION_CONNECTING},
    {SESSION_UP, 0, 0, SESSION_EV_DOWN, DENIED, SESSION_ENTER, SESSION_CONNECTING},
    {SESSION_UP, 0, 3, SESSION_EV_TIMER, NONE, SESSION_SETTLE, SESSION_UP},
    {SESSION_UP, 0, 0, SESSION_EV_RENEW, NONE, SESSION_PING, SESSION_UP},
    {SESSION_UP, MOVED, 0, SESSION_EV_RENEW, NONE, SESSION_ENTER, SESSION_CONNECTING},
    {SESSION_UP, 0, 0, SESSION_EV_HURRY, NONE, SESSION_PING, SESSION_UP},

    {SESSION_WAITING, 0, 1, SESSION_EV_WANT, NONE, SESSION_KEEP, SESSION_WAITING},
    {SESSION_WAITING, 0, 1, SESSION_EV_UNWANT, NONE, SESSION_ENTER, SESSION_IDLE},
    {SESSION_WAITING, 0, 1, SESSION_EV_UP, NONE, SESSION_KEEP, SESSION_WAITING},
    {SESSION_WAITING, 0, 1, SESSION_EV_DOWN, LOST, SESSION_KEEP, SESSION_WAITING},
    {SESSION_WAITING, 0, 1, SESSION_EV_SUSPECT, SILENT, SESSION_KEEP, SESSION_WAITING},
    {SESSION_WAITING, OTHER, 1, SESSION_EV_SPOKE, NONE, SESSION_ENTER, SESSION_UP},
    {SESSION_WAITING, OTHER | RATIONED, 2, SESSION_EV_SPOKE, NONE, SESSION_ENTER, SESSION_UP},
    {SESSION_WAITING, 0, 1, SESSION_EV_SPOKE, NONE, SESSION_KEEP, SESSION_WAITING},
    {SESSION_WAITING, 0, 1, SESSION_EV_TIMER, NONE, SESSION_ENTER, SESSION_CONNECTING},
    {SESSION_WAITING, RATIONED, 1, SESSION_EV_TIMER, NONE, SESSION_ENTER, SESSION_WAITING},
    {SESSION_WAITING, 0, 1, SESSION_EV_RENEW, NONE, SESSION_ENTER, SESSION_CONNECTING},
    {SESSION_WAITING, 0, 1, SESSION_EV_HURRY, NONE, SESSION_ENTER, SESSION_CONNECTING},
    {SESSION_WAITING, RATIONED, 1, SESSION_EV_HURRY, NONE, SESSION_ENTER, SESSION_WAITING},

    {SESSION_REFUSED, REFUSED, 2, SESSION_EV_WANT, NONE, SESSION_KEEP, SESSION_REFUSED},
    {SESSION_REFUSED, REFUSED, 2, SESSION_EV_UNWANT, NONE, SESSION_ENTER, SESSION_IDLE},
    {SESSION_REFUSED, REFUSED, 2, SESSION_EV_UP, NONE, SESSION_KEEP, SESSION_REFUSED},
    {SESSION_REFUSED, REFUSED, 2, SESSION_EV_DOWN, DENIED, SESSION_KEEP, SESSION_REFUSED},
    {SESSION_REFUSED, REFUSED, 2, SESSION_EV_SUSPECT, SILENT, SESSION_KEEP, SESSION_REFUSED},
    {SESSION_REFUSED, REFUSED | OTHER, 2, SESSION_EV_SPOKE, NONE, SESSION_KEEP, SESSION_REFUSED},
    {SESSION_REFUSED, REFUSED, 2, SESSION_EV_TIMER, NONE, SESSION_KEEP, SESSION_REFUSED},
    {SESSION_REFUSED, 0, 0, SESSION_EV_RENEW, NONE, SESSION_ENTER, SESSION_CONNECTING},
    {SESSION_REFUSED, RATIONED, 0, SESSION_EV_RENEW, NONE, SESSION_ENTER, SESSION_WAITING},
    {SESSION_REFUSED, REFUSED, 2, SESSION_EV_HURRY, NONE, SESSION_KEEP, SESSION_REFUSED},
};

Test(session_fsm, states_have_the_names_of_the_contract)
{
    cr_assert_str_eq(session_state_name(SESSION_IDLE), "none");
    cr_assert_str_eq(session_state_name(SESSION_CONNECTING), "connecting");
    cr_assert_str_eq(session_state_name(SESSION_UP), "up");
    cr_assert_str_eq(session_state_name(SESSION_WAITING), "down");
    cr_assert_str_eq(session_state_name(SESSION_REFUSED), "refused");
}

Test(session_fsm, each_row_of_the_table)
{
    for (unsigned i = 0; i < ELEMENTS(rows); i++) {
        const struct row *row = &rows[i];
        struct session *s = xnew(struct session);

        s->state = row->from;
        s->refused = row->facts & REFUSED;
        s->reread = row->facts & REREAD;
        s->moved = row->facts & MOVED;
        s->login_wait_ms = row->facts & RATIONED ? 1 : 0;
        s->has_other = row->facts & OTHER;
        s->tries = row->tries;
        struct session_move m = session_next(s, row->ev, row->fault.kind ? &row->fault : NULL);

        cr_assert_eq((int)m.how, row->how, "row %u: how %d", i, (int)m.how);
        cr_assert_eq(m.state, row->to, "row %u: %s", i, session_state_name(m.state));
        free(s);
    }
}

Test(session_fsm, every_state_meets_every_event_in_the_table)
{
    for (int state = SESSION_IDLE; state <= SESSION_REFUSED; state++)
        for (int ev = SESSION_EV_WANT; ev <= SESSION_EV_HURRY; ev++) {
            bool found = false;

            for (unsigned i = 0; i < ELEMENTS(rows); i++)
                found = found || ((int)rows[i].from == state && (int)rows[i].ev == ev);
            cr_assert(found, "%s, %s", session_state_name((enum session_state)state),
                      session_event_name((enum session_event)ev));
        }
}

/* ---- Stories ---- */

static void restart(void)
{
    bool wanted = w.session->wanted;

    w.session = session_free(w.session);
    drain();
    for (unsigned i = 0; i < ASKS; i++)
        cr_assert(!w.asks[i].open, "a restart answers what waited");
    cr_assert(list_is_empty(&w.conns));
    w.after_refusal = false;
    w.n_rationed = 0;
    w.good_since = w.now;
    session_begin(wanted);
}

static void network_begins(void)
{
    w.network = true;
    LIST_FOREACH_SAFE (c, &w.conns, struct ssh_conn, node)
        if (dice(4))
            conn_speak(c);
}

static void hiccup(void)
{
    network_ends();
    pass(dice(11000));
    network_begins();
}

/* One connection's way alone. */
static void stall(void)
{
    unsigned n = dice(3);

    LIST_FOREACH (c, &w.conns, struct ssh_conn, node)
        if (c->phase == LIVES && !c->freed && n-- == 0) {
            c->stalled = dice(2);
            conn_mute(c);
            return;
        }
}

/* Streams come and go. */
static void carry(void)
{
    LIST_FOREACH (c, &w.conns, struct ssh_conn, node)
        if (!c->freed && fake_ssh_conn_is_up(c))
            c->streams = dice(3);
}

static void story_step(void)
{
    unsigned i = dice(ASKS);

    switch (dice(23)) {
    case 22: hiccup(); break;
    case 20: stall(); break;
    case 21: carry(); break;
    case 0:
    case 1: session_want(w.session, true); break;
    case 2: session_want(w.session, false); break;
    case 3: renew(dice(3) ? "box" : "other", dice(4) ? &w.pinned : NULL); break;
    case 4:
        session_hurry(w.session);
        w.good_since = w.now;
        break;
    case 5: network_ends(); break;
    case 6:
    case 7: network_begins(); break;
    case 8:
    case 9: cut(); break;
    case 10: w.password = w.right_password; break;
    case 11: w.password = dice(2); break;
    case 12: w.right_password = dice(2); break;
    case 13: w.key_is_old = dice(4); break;
    case 14:
    case 15:
    case 16: ask(i); break;
    case 17: ask_cancel(i); break;
    case 18:
        session_renew(w.session, NULL);
        w.good_since = w.now;
        break;
    case 19: dice(4) ? (void)0 : restart(); break;
    }
}

static void world_begin(unsigned seed)
{
    w = (struct world){.now = 1000, .seed = seed * 2654435761u + 1, .network = true, .key_is_old = true};
    list_init(&w.works);
    list_init(&w.conns);
    w.good_since = w.now;
    session_begin(dice(2));
}

/* All is well again and wanted: it must come up, answer what waits, and then come to rest. */
static void world_end(void)
{
    w.network = true;
    w.password = w.right_password;
    renew("box", NULL);
    session_want(w.session, true);
    for (unsigned i = 0; i < ASKS; i++)
        ask_cancel(i);
    for (int i = 0; i < 80 && session_state(w.session) != SESSION_UP; i++)
        pass(60000);
    cr_assert_eq(session_state(w.session), SESSION_UP, "seed %u: %s", w.seed,
                 session_state_name(session_state(w.session)));
    cr_assert_eq(session_fault(w.session)->kind, FAULT_NONE);
    session_want(w.session, false);
    pass(100000);
    cr_assert_eq(session_state(w.session), SESSION_IDLE);
    cr_assert_eq(w.timer->due, 0);
    cr_assert(list_is_empty(&w.works) && list_is_empty(&w.conns));
    session_free(w.session);
    drain();
    cr_assert_null(w.timer);
}

#ifndef STORIES
#define STORIES 6000
#endif

Test(session_fsm, thousands_of_random_stories_end_well, .timeout = 100)
{
    unsigned ups = 0, refusals = 0, answers = 0, logins = 0, spares = 0, suspects = 0, same = 0,
             full = 0;

    for (unsigned seed = 1; seed <= STORIES; seed++) {
        world_begin(seed);
        for (int i = 0; i < STEPS_MAX; i++) {
            story_step();
            pass(dice(3) ? dice(300) : dice(40000));
        }
        world_end();
        ups += w.ups;
        refusals += w.refusals;
        answers += w.answers;
        logins += w.logins;
        spares += w.spares > 1;
        suspects += w.suspects > 0;
        same += w.same;
        full += w.full;
    }
    cr_assert(ups > 5 * STORIES && refusals > STORIES / 2 && answers > 3 * STORIES && logins > ups &&
                  spares > STORIES / 10 && suspects > STORIES / 2 && same > STORIES / 20 &&
                  full > STORIES / 2,
              "the stories must have something in them: %u ups, %u refusals, %u answers, %u logins, %u with "
              "spares, "
              "%u with suspicion, %u returns of the same connection, %u commands without a place",
              ups, refusals, answers, logins, spares, suspects, same, full);
}
