/* How a scene over session_world.h begins and ends: all behaves until the scene says otherwise. */
#pragma once

#pragma GCC diagnostic ignored "-Wunused-function" /* not each scene needs each part */
#include "tests/unit/session_world.h"

static void scene_begin(void)
{
    w = (struct world){.now = 1000, .seed = 1, .network = true, .key_is_old = true, .plain = true};
    list_init(&w.works);
    list_init(&w.conns);
    w.good_since = w.now;
    session_begin(false);
}

static void scene_end(void)
{
    session_free(w.session);
    drain();
    cr_assert_null(w.timer);
    cr_assert(list_is_empty(&w.works) && list_is_empty(&w.conns));
}

static void come_up(void)
{
    session_want(w.session, true);
    pass(2000);
    cr_assert_eq(session_state(w.session), SESSION_UP);
}

static struct ssh_conn *conn_first(void)
{
    return w.session->link->conn;
}
