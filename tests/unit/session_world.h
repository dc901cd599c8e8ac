/* The world around a session (session_fakes.h has its parts): an owner who asks, cancels and changes his
 * mind; time, in which networks come and go, credentials are refused, host keys change and answers come late
 * or never; and what must hold after each step. For test_session_fsm.c and test_session_scenes.c. */
#pragma once

#include "tests/unit/session_fakes.h"

/* ---- The owner ---- */

static void on_changed(void *ctx, struct session *s)
{
    (void)ctx, (void)s;
    cr_assert(w.in_drain);
}

static void on_pin(void *ctx, const struct host_key *shown)
{
    (void)ctx;
    cr_assert(w.in_drain);
    memcpy(&w.pinned, shown, offsetof(struct host_key, blob) + shown->n);
}

static void ask_answered(struct ask *a)
{
    cr_assert(a->open, "answered twice, or after it was cancelled");
    cr_assert_null(a->op);
    a->open = false;
    w.answers++;
}

static void maybe_change_mind(void)
{
    switch (dice(8)) {
    case 0: session_want(w.session, dice(2)); break;
    case 1: session_renew(w.session, NULL); break;
    case 2: session_hurry(w.session); break;
    }
}

static void on_dialled(void *ctx, struct stream *stream, const struct fault *f)
{
    (void)stream;
    ask_answered(ctx);
    cr_assert(!f || f->kind == FAULT_GONE || streq(f->code, "refused"), "seed %u: %s", w.seed, f->text);
    if (!f && !w.plain)
        maybe_change_mind();
}

static void on_ran(void *ctx, struct run_result *result, const struct fault *f)
{
    struct ask *a = ctx;

    ask_answered(a);
    cr_assert(result || f);
    cr_assert(f ? f->kind == FAULT_GONE || (f->kind == FAULT_EXHAUSTED && a->executions == 0) ||
                      (f->kind == FAULT_UNCERTAIN && (a->executions == 1 || a->has_input))
                : a->executions == 1);
    if (!f && !w.plain)
        maybe_change_mind();
}

static void ask_for(unsigned i, bool is_run, bool is_bulk)
{
    static const char upload[256 << 10];
    struct ask *a = &w.asks[i];
    char script[2] = {(char)('a' + i), '\0'};
    const struct run_spec spec = {
        .script = script, .input = is_bulk ? upload : NULL, .n_input = is_bulk ? sizeof(upload) : 0};

    if (a->open)
        return;
    *a = (struct ask){.open = true, .is_run = is_run, .has_input = is_bulk};
    if (is_run)
        session_run(w.session, &spec, &a->op, on_ran, a);
    else
        session_dial(w.session, "127.0.0.1", (uint16_t)(1000 + i), is_bulk ? SSH_WINDOW_BULK : 4096, &a->op,
                     on_dialled, a);
    cr_assert_not_null(a->op);
}

static void ask(unsigned i)
{
    ask_for(i, dice(2), dice(4) == 0);
}

static void ask_cancel(unsigned i)
{
    if (!w.asks[i].open)
        return;
    op_cancel(&w.asks[i].op);
    w.asks[i].open = false;
}

static struct host_key key_of(bool old)
{
    struct host_key k = {.algorithm = "ssh-ed25519", .n = 4};

    memset(k.blob, old ? 1 : 2, 4);
    return k;
}

static void session_begin(bool wanted)
{
    static const struct session_events events = {.changed = on_changed, .pin = on_pin};
    struct session_target target = {.host = "box", .port = 22, .user = "root", .pinned = &w.pinned};

    w.session = session_new(NULL, NULL, NULL, NULL, "box", &target, &events, NULL);
    w.session->dice = w.seed; /* the same story whenever it is told */
    session_want(w.session, wanted);
}

/* ---- Time ---- */

static void conn_end_with(struct ssh_conn *c, const struct fault *f)
{
    bool first = dice(2);

    c->phase = OVER;
    c->due = first ? w.now : UINT64_MAX; /* the ops learn of it before the session, or after */
    if (!first)
        LIST_FOREACH_SAFE (o, &c->ops, struct fake_op, node)
            if (dice(2))
                fake_op_begin_run(o);
    if (first) {
        struct fake_op *o;

        while ((o = LIST_FIRST(&c->ops, struct fake_op, node)))
            fake_op_lose(o);
    }
    c->due = UINT64_MAX;
    c->events.down(c->ctx, f);
}

static void conn_end(struct ssh_conn *c, enum fault_kind kind, const char *code)
{
    struct fault f;

    fault_code(&f, kind, code, "%s", code);
    conn_end_with(c, &f);
}

static void note_login(void)
{
    w.logins++;
    cr_assert(!w.session->refused && w.session->wanted, "seed %u: a login nobody wants", w.seed);
    if (!w.after_refusal)
        return;
    w.login_at[w.n_rationed % 64] = w.now;
    w.n_rationed++;
    if (w.n_rationed > 6)
        cr_assert_geq(w.now - w.login_at[(w.n_rationed - 7) % 64], 3600000,
                      "a seventh login within the hour");
}

static void conn_step(struct ssh_conn *c)
{
    struct ssh_secrets secrets;
    struct fault f;
    struct host_key shown = key_of(w.key_is_old);

    if (c->keeps_silent && c->phase < LIVES) {
        c->due = UINT64_MAX;
        return;
    }
    if ((!w.network || (w.refuses_more && w.session->link != c->ctx)) && c->phase < LIVES) {
        conn_end(c, FAULT_TRANSIENT, "unreachable");
        return;
    }
    switch (c->phase) {
    case BEGUN:
        c->phase = SHOWN;
        c->due = w.now + dice(50);
        if (c->events.host_key(c->ctx, &shown, &f) != 0)
            conn_end_with(c, &f);
        break;
    case SHOWN:
        c->phase = LOGGING_IN;
        c->due = w.now + dice(200);
        c->password = w.password;
        if (c->ctx && ((struct session_link *)c->ctx)->session)
            note_login();
        c->events.secrets(c->ctx, &secrets);
        if (c->own_key_holds && (w.plain || dice(2))) {
            c->is_soon = true;
            c->events.soon(c->ctx);
        }
        break;
    case LOGGING_IN:
        if (c->password != w.right_password) {
            if (((struct session_link *)c->ctx)->session && w.session->link == c->ctx)
                w.after_refusal = true;
            conn_end(c, FAULT_DENIED, "login_refused");
            break;
        }
        c->phase = LIVES;
        c->due = UINT64_MAX;
        if (((struct session_link *)c->ctx)->session) {
            w.after_refusal = false;
            w.n_rationed = 0;
        }
        c->events.up(c->ctx, (w.plain ? w.by_own_key : dice(2) > 0) ? "own key" : "password");
        break;
    case MUTE:
        if (w.network && !c->stalled && dice(2)) {
            conn_speak(c);
        } else if (w.now >= c->heard_due + 10000) {
            conn_end(c, FAULT_TRANSIENT, "ping");
        } else {
            c->due = w.now + 1 + dice(8000);
            c->due = MIN(c->due, c->heard_due + 10000);
            if (!c->is_suspect) {
                c->is_suspect = true;
                c->events.suspect(c->ctx, true);
            }
        }
        break;
    case LIVES:
    case OVER: c->due = UINT64_MAX; break;
    }
}

static void conns_bury(void)
{
    LIST_FOREACH_SAFE (c, &w.conns, struct ssh_conn, node) {
        struct fake_op *o;

        if (!c->freed)
            continue;
        while ((o = LIST_FIRST(&c->ops, struct fake_op, node)))
            fake_op_lose(o);
        list_remove(&c->node);
        free(c);
    }
}

static void drain(void)
{
    struct work *work;

    w.in_drain = true;
    while ((work = LIST_FIRST(&w.works, struct work, node))) {
        list_remove(&work->node);
        work->fn(work->ctx);
        if (list_is_empty(&w.works))
            conns_bury();
    }
    w.in_drain = false;
}

/* Whatever lives beside the first one was up once and is heard, or was until now; only of an UP session are
 * further ones on their way. */
static void check_links(unsigned conns)
{
    const struct session *s = w.session;
    unsigned links = 0;

    LIST_FOREACH (link, &s->links, struct session_link, node) {
        struct ssh_conn *c = link->conn;

        links++;
        cr_assert(c->phase != OVER && !c->freed);
        cr_assert_eq(link->is_suspect, c->is_suspect);
        if (link == s->link) {
            cr_assert_eq(links, 1, "the first stands first");
            cr_assert(!link->is_suspect && !link->is_retired && !link->is_bulk);
            cr_assert_eq(fake_ssh_conn_is_up(c), s->state == SESSION_UP, "seed %u", w.seed);
            continue;
        }
        cr_assert(s->state == SESSION_UP || fake_ssh_conn_is_up(c));
        cr_assert(c->phase != MUTE || w.now <= c->heard_due + 10000, "seed %u: kept for ever", w.seed);
        if (c->phase == MUTE || s->state != SESSION_UP)
            w.suspects++;
        cr_assert_neq(w.spare_timer->due, 0, "somebody looks after it");
    }
    cr_assert_eq(links, conns, "seed %u", w.seed);
    cr_assert_eq(s->link != NULL, s->state == SESSION_CONNECTING || s->state == SESSION_UP);
}

/* The server had none for it, and somebody looks after it. */
static bool waits_for_a_place(const struct session_request *rq)
{
    return rq->script &&
           ((rq->again_due > w.now && w.pause_timer->due && w.pause_timer->due <= rq->again_due) ||
            session_has_ending_runs(rq->session, request_is_bulk(rq)));
}

static void check(void)
{
    const struct session *s = w.session;
    unsigned conns = 0, open = 0, known = 0, coming = 0;

    LIST_FOREACH (c, &w.conns, struct ssh_conn, node)
        conns++;
    switch (s->state) {
    case SESSION_CONNECTING:
        cr_assert(conns >= 1 && conns <= 4, "seed %u: %u connections", w.seed, conns);
        break;
    case SESSION_UP: cr_assert(conns >= 1 && conns <= 4, "seed %u: %u connections", w.seed, conns); break;
    case SESSION_WAITING: cr_assert_leq(conns, 3, "seed %u: %u connections", w.seed, conns); break;
    case SESSION_IDLE:
    case SESSION_REFUSED: cr_assert_eq(conns, 0, "seed %u: %u connections", w.seed, conns); break;
    }
    w.spares = MAX(w.spares, conns);
    check_links(conns);
    cr_assert(s->wanted || s->state == SESSION_IDLE);
    cr_assert(!s->wanted || s->state != SESSION_IDLE);
    cr_assert_eq(s->timer->due != 0, s->state == SESSION_CONNECTING || s->state == SESSION_WAITING ||
                                         (s->state == SESSION_UP && s->timer->due));
    for (unsigned i = 0; i < ASKS; i++) {
        cr_assert_eq(w.asks[i].open, w.asks[i].op != NULL);
        open += w.asks[i].open;
    }
    LIST_FOREACH (rq, &s->queued, struct session_request, node)
        known++;
    LIST_FOREACH (rq, &s->started, struct session_request, node)
        known++;
    cr_assert_eq(open, known, "a request was forgotten");
    if (s->state == SESSION_UP && list_is_empty(&w.works)) {
        LIST_FOREACH (link, &s->links, struct session_link, node) {
            unsigned n = 0;

            LIST_FOREACH (rq, &s->started, struct session_request, node)
                n += rq->link_number == link->number;
            LIST_FOREACH (rq, &s->queued, struct session_request, node)
                n += link->conn->phase < LIVES && !rq->script;
            cr_assert_eq(link->conn->waiters, n);
            coming += link->conn->phase < LIVES;
        }
        LIST_FOREACH (rq, &s->queued, struct session_request, node) {
            cr_assert_lt(rq->again_due, w.now + 2 * REFUSED_PAUSE_MAX_MS);
            cr_assert(coming || waits_for_a_place(rq), "seed %u: waits beside a living connection", w.seed);
        }
    }
}

static bool is_good(void)
{
    struct host_key k = key_of(w.key_is_old);

    return w.session->wanted && w.network && w.password == w.right_password && !w.session->refused &&
           (!w.session->pinned || host_key_equal(&k, w.session->pinned)) &&
           retry_login_wait_ms(&w.session->logins, w.now) == 0 && w.session->login_wait_ms == 0;
}

/* For an attempt that never answers, twice in a row at most here, and the longest pause. */
#define GOOD_MS (3 * (SESSION_LOGIN_MS + 15000))

/* What waits for a place waits as long as commands run here: for ever, where one hangs. */
static bool waits_for_a_spare(void)
{
    LIST_FOREACH (rq, &w.session->queued, struct session_request, node)
        if (!waits_for_a_place(rq))
            return true;
    return false;
}

static void check_progress(void)
{
    if (!is_good() || w.session->state == SESSION_UP)
        w.good_since = w.now;
    if (w.session->state != SESSION_UP || !waits_for_a_spare())
        w.queued_since = w.now;
    cr_assert_leq(w.now - w.queued_since, 3 * SPARE_LOGIN_MS, "seed %u: waits for a spare that never comes",
                  w.seed);
    cr_assert_lt(w.now - w.good_since, GOOD_MS, "seed %u: all is well, and it is %s", w.seed,
                 session_state_name(w.session->state));
}

static void fake_op_step(struct fake_op *o)
{
    struct fault f;

    if (o->ran && !o->began && ((!w.plain && dice(4) == 0) || w.no_place & 1u << o->ask)) {
        w.full++;
        fault_code(&f, FAULT_EXHAUSTED, "refused", "it opens no more session channels");
        fake_op_answer(o, &f);
        return;
    }
    fake_op_begin_run(o);
    if (o->hangs || (w.hangs && o->dialled) || !w.network) {
        o->due = UINT64_MAX;
        return;
    }
    fault_code(&f, FAULT_TRANSIENT, "refused", "nothing listens there");
    fake_op_answer(o, o->dialled && !w.plain && dice(4) == 0 ? &f : NULL);
}

static struct timer *earlier(struct timer *a, struct timer *b)
{
    return b->due && (!a->due || b->due < a->due) ? b : a;
}

/* The earliest thing that is due at or before until. False: nothing. */
static bool happen(uint64_t until)
{
    struct ssh_conn *conn = NULL;
    struct fake_op *op = NULL;
    uint64_t due = until;

    LIST_FOREACH (c, &w.conns, struct ssh_conn, node) {
        if (c->due <= due && !c->freed) {
            due = c->due;
            conn = c;
        }
        LIST_FOREACH (o, &c->ops, struct fake_op, node)
            if (o->due < due && c->phase == LIVES && !c->freed && !is_behind_a_dial(o)) {
                due = o->due;
                op = o;
            }
    }
    struct timer *timer = earlier(earlier(w.timer, w.spare_timer), w.pause_timer);

    if (timer->due && timer->due <= due) {
        w.now = MAX(w.now, timer->due);
        timer->due = 0;
        timer->fire(timer->ctx);
        return true;
    }
    if (!op && !conn)
        return false;
    w.now = MAX(w.now, due);
    if (op)
        fake_op_step(op);
    else
        conn_step(conn);
    return true;
}

static void pass(uint64_t ms)
{
    uint64_t until = w.now + ms;
    unsigned n = 0;

    do {
        if (dice(4)) { /* sometimes a connection speaks between being dropped and being freed */
            drain();
            check();
        }
        check_progress();
        cr_assert_lt(++n, 100000, "seed %u: no end", w.seed);
    } while (happen(until));
    w.now = until;
    drain();
    check();
    check_progress();
}

static void renew(const char *host, const struct host_key *pinned)
{
    struct session_target target = {.host = host, .port = 22, .user = "root", .pinned = pinned};

    if (!streq(host, w.session->host)) { /* the ration is per host */
        w.after_refusal = false;
        w.n_rationed = 0;
    }
    session_renew(w.session, &target);
    w.good_since = w.now;
}

static void cut(void)
{
    LIST_FOREACH_SAFE (c, &w.conns, struct ssh_conn, node)
        if (!c->freed && c->phase != OVER) {
            conn_end(c, FAULT_TRANSIENT, "lost");
            return;
        }
}

static void network_ends(void)
{
    w.network = false;
    LIST_FOREACH (c, &w.conns, struct ssh_conn, node)
        conn_mute(c);
}
