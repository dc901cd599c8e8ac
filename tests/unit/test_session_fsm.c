/* links: session
 *
 * The life of a session: its table of moves row by row, then thousands of random stories with the real
 * session.c, session_fsm.c and session_request.c over a world of our own (clock, timer, run queue,
 * connections), in which networks come and go, credentials are refused, host keys change, answers come late
 * or never, and the daemon is started again. */
#include <criterion/criterion.h>
#include <errno.h>

#define clock_now_ms              fake_clock_now_ms
#define clock_wall_ms             fake_clock_wall_ms
#define timer_new                 fake_timer_new
#define timer_free                fake_timer_free
#define timer_arm                 fake_timer_arm
#define timer_disarm              fake_timer_disarm
#define runq_add                  fake_runq_add
#define runq_drop                 fake_runq_drop
#define ssh_conn_new              fake_ssh_conn_new
#define ssh_conn_free             fake_ssh_conn_free
#define ssh_conn_is_up            fake_ssh_conn_is_up
#define ssh_conn_rtt_ms           fake_ssh_conn_rtt_ms
#define ssh_conn_peer             fake_ssh_conn_peer
#define ssh_conn_streams          fake_ssh_conn_streams
#define ssh_conn_last_contact_due fake_ssh_conn_last_contact_due
#define ssh_conn_waiters          fake_ssh_conn_waiters
#define ssh_conn_ping             fake_ssh_conn_ping
#define ssh_dial                  fake_ssh_dial
#define ssh_run                   fake_ssh_run
#define event_publish             fake_event_publish
#define log_line                  fake_log_line
#include "session/session.c"
#include "session/session_fsm.c"
#include "session/session_link.c"
#include "session/session_request.c"

/* ---- The table ---- */

/* clang-format off */
#define DENIED {FAULT_DENIED, 0, "login_refused", ""}
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

Test(session_fsm, each_row_of_the_table)
{
    for (unsigned i = 0; i < ELEMENTS(rows); i++) {
        const struct row *row = &rows[i];
        struct session *s = xnew(struct session);

        s->state = row->from;
        s->refused = row->facts & REFUSED;
        s->reread = row->facts & REREAD;
        s->moved = row->facts & MOVED;
        s->login_wait_ms = row->facts & RATIONED ? 1000 : 0;
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

/* ---- The world ---- */

enum { STEPS_MAX = 90, ASKS = 6 };

struct timer {
    void (*fire)(void *ctx);
    void *ctx;
    uint64_t due; /* 0: not armed */
};

enum phase { BEGUN, SHOWN, LOGGING_IN, LIVES, MUTE, OVER };

struct ssh_conn {
    struct list node, ops;
    struct ssh_conn_events events;
    void *ctx;
    enum phase phase;
    uint64_t due;             /* of the next step; UINT64_MAX: it never comes */
    bool keeps_silent;        /* a bug: no answer ever */
    bool is_suspect, stalled; /* told so; its own way is blocked */
    uint64_t heard_due;
    unsigned streams;
    bool freed; /* waits for its ops to be answered */
    int password;
    unsigned waiters;
    unsigned id;
};

struct fake_op {
    struct op op;
    struct list node;
    struct ssh_conn *conn;
    uint64_t due;
    int ask; /* of a command, -1 for a dial */
    bool began;
    bool hangs;
    ssh_dial_fn dialled;
    run_done_fn ran;
    void *ctx;
};

/* A request of the test's own. */
struct ask {
    struct op *op;
    bool is_run, open, has_input;
    unsigned executions;
};

static struct world {
    uint64_t now;
    uint32_t seed;
    struct list works, conns;
    struct timer *timer, *spare_timer;
    struct session *session;
    bool in_drain;
    bool plain;                    /* connections and their answers behave */
    char told[400];                /* the last event */
    unsigned conns_made, on[ASKS]; /* where each request went last */
    bool refuses_more, hangs;      /* the server: second connections; dials */
    unsigned order[ASKS], n_order; /* in which requests reached a connection */
    bool network, key_is_old;
    int password, right_password; /* in the file, at the server */
    struct host_key pinned;
    struct ask asks[ASKS];
    unsigned logins, answers, ups, refusals, spares, suspects, losses, same;
    uint64_t login_at[64];
    unsigned n_rationed; /* logins after a refusal */
    bool after_refusal;
    uint64_t good_since, queued_since;
} w;

static unsigned dice(unsigned n)
{
    w.seed = w.seed * 1664525u + 1013904223u;
    return (w.seed >> 8) % n;
}

uint64_t fake_clock_now_ms(void)
{
    return w.now;
}

int64_t fake_clock_wall_ms(void)
{
    return (int64_t)w.now + 1700000000000;
}

struct timer *fake_timer_new(struct loop *l, void (*fire)(void *ctx), void *ctx)
{
    (void)l;
    struct timer *t = xnew(struct timer);

    cr_assert(!w.timer || !w.spare_timer);
    t->fire = fire;
    t->ctx = ctx;
    *(w.timer ? &w.spare_timer : &w.timer) = t;
    return t;
}

struct timer *fake_timer_free(struct timer *t)
{
    *(t == w.timer ? &w.timer : &w.spare_timer) = NULL;
    free(t);
    return NULL;
}

void fake_timer_arm(struct timer *t, uint64_t delay_ms)
{
    t->due = w.now + delay_ms;
}

void fake_timer_disarm(struct timer *t)
{
    t->due = 0;
}

void fake_runq_add(struct loop *l, struct work *work)
{
    (void)l;
    if (list_is_empty(&work->node))
        list_append(&w.works, &work->node);
}

void fake_runq_drop(struct work *work)
{
    list_remove(&work->node);
}

void fake_event_publish(enum log_level level, enum log_source source, const char *target, const char *kind,
                        const char *format, ...)
{
    va_list args;

    (void)level, (void)source, (void)target;
    va_start(args, format);
    vsnprintf(w.told, sizeof(w.told), format, args);
    va_end(args);
    w.ups += streq(kind, "tunnel_up") || streq(kind, "tunnel_restored");
    w.refusals += streq(kind, "tunnel_refused");
    w.losses += streq(kind, "tunnel_lost");
    w.same += strstr(w.told, "the same connection") != NULL;
}

void fake_log_line(enum log_level level, enum log_source source, const char *target, const char *format, ...)
{
    (void)level, (void)source, (void)target, (void)format;
}

void session_credentials(struct session *s, struct ssh_secrets *ret)
{
    (void)s, (void)ret;
}

void session_key_install(struct session *s)
{
    (void)s;
}

struct ssh_conn *fake_ssh_conn_new(struct loop *l, struct resolver *r, const struct ssh_target *target,
                                   const struct ssh_conn_events *events, void *ctx)
{
    (void)l, (void)r, (void)target;
    struct ssh_conn *c = xnew(struct ssh_conn);

    list_init(&c->node);
    list_init(&c->ops);
    list_append(&w.conns, &c->node);
    c->events = *events;
    c->ctx = ctx;
    c->id = ++w.conns_made;
    c->keeps_silent = !w.plain && dice(40) == 0;
    c->due = w.now + 1 + dice(100);
    return c;
}

/* What is in flight is answered later, as when the connection is lost. */
struct ssh_conn *fake_ssh_conn_free(struct ssh_conn *c)
{
    cr_assert(w.in_drain, "freed from inside something else");
    cr_assert(!c->freed);
    c->freed = true;
    c->phase = OVER;
    c->due = w.now;
    return NULL;
}

bool fake_ssh_conn_is_up(const struct ssh_conn *c)
{
    cr_assert(!c->freed);
    return c->phase == LIVES || c->phase == MUTE;
}

unsigned fake_ssh_conn_streams(const struct ssh_conn *c)
{
    cr_assert(!c->freed);
    return c->streams;
}

uint64_t fake_ssh_conn_last_contact_due(const struct ssh_conn *c)
{
    cr_assert(!c->freed);
    return c->phase == MUTE ? c->heard_due : w.now;
}

double fake_ssh_conn_rtt_ms(const struct ssh_conn *c)
{
    (void)c;
    return 1;
}

const char *fake_ssh_conn_peer(const struct ssh_conn *c)
{
    cr_assert(!c->freed);
    return "10.0.0.1:22";
}

void fake_ssh_conn_waiters(struct ssh_conn *c, unsigned n)
{
    cr_assert(!c->freed);
    c->waiters = n;
}

/* From now on no byte comes; told after a while, and ended after 10 s. */
static void conn_mute(struct ssh_conn *c)
{
    if (c->phase != LIVES || c->freed)
        return;
    c->phase = MUTE;
    c->is_suspect = false;
    c->heard_due = w.now;
    c->due = w.now + (w.plain ? 3000 : 2500 + dice(6500));
}

/* It speaks, unless its end came first. */
static void conn_speak(struct ssh_conn *c)
{
    if (c->phase != MUTE || c->freed || !w.network || c->stalled)
        return;
    c->phase = LIVES;
    c->due = UINT64_MAX;
    if (c->is_suspect)
        c->events.suspect(c->ctx, false);
    c->is_suspect = false;
}

void fake_ssh_conn_ping(struct ssh_conn *c)
{
    cr_assert(!c->freed);
    if (!w.network)
        conn_mute(c);
}

static void fake_op_cancel(struct op *op)
{
    struct fake_op *o = CONTAINER_OF(op, struct fake_op, op);

    list_remove(&o->node);
    free(o);
}

static struct fake_op *fake_op_new(struct ssh_conn *c, struct op **slot, void *ctx)
{
    struct fake_op *o = xnew(struct fake_op);

    cr_assert(!c->freed && fake_ssh_conn_is_up(c));
    op_begin(&o->op, slot, fake_op_cancel);
    list_init(&o->node);
    list_append(&c->ops, &o->node);
    o->conn = c;
    o->due = w.now + 1 + dice(500);
    o->hangs = !w.plain && dice(4) == 0;
    o->ctx = ctx;
    o->ask = -1;
    return o;
}

void fake_ssh_dial(struct ssh_conn *c, const char *host, uint16_t port, uint32_t window_bytes,
                   struct op **slot, ssh_dial_fn done, void *ctx)
{
    cr_assert_str_eq(host, "127.0.0.1");
    cr_assert(port >= 1000 && port < 1000 + ASKS &&
              (window_bytes == 4096 || window_bytes == SSH_WINDOW_BULK));
    fake_op_new(c, slot, ctx)->dialled = done;
    w.order[w.n_order++ % ASKS] = port - 1000u;
    w.on[port - 1000] = c->id;
}

void fake_ssh_run(struct ssh_conn *c, const struct run_spec *spec, struct op **slot, run_done_fn done,
                  void *ctx)
{
    struct fake_op *o = fake_op_new(c, slot, ctx);

    o->ask = spec->script[0] - 'a';
    w.order[w.n_order++ % ASKS] = (unsigned)o->ask;
    w.on[o->ask] = c->id;
    o->ran = done;
}

/* A command begins some time after it was asked for: here on the way to its answer. */
static void fake_op_begin_run(struct fake_op *o)
{
    if (o->ask < 0 || o->began)
        return;
    o->began = true;
    w.asks[o->ask].executions++;
    cr_assert_leq(w.asks[o->ask].executions, 1, "seed %u: a command ran twice", w.seed);
}

static void fake_op_answer(struct fake_op *o, const struct fault *f)
{
    struct run_result result = {.status = 0};
    ssh_dial_fn dialled = o->dialled;
    run_done_fn ran = o->ran;
    void *ctx = o->ctx;

    op_end(&o->op);
    list_remove(&o->node);
    free(o);
    if (dialled)
        dialled(ctx, NULL, f);
    else
        ran(ctx, f ? NULL : &result, f);
}

static void fake_op_lose(struct fake_op *o)
{
    struct fault f;

    fault_code(&f, o->began ? FAULT_UNCERTAIN : FAULT_TRANSIENT, "lost", "connection lost");
    fake_op_answer(o, &f);
}

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
    cr_assert(f ? f->kind == FAULT_GONE ||
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

    w.session = session_new(NULL, NULL, NULL, "box", &target, &events, NULL);
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
        c->events.up(c->ctx, "password");
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
            cr_assert_eq(link->conn->waiters, n);
            coming += link->conn->phase < LIVES;
        }
        cr_assert(coming || list_is_empty(&s->queued), "seed %u: waits beside a living connection", w.seed);
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

static void check_progress(void)
{
    if (!is_good() || w.session->state == SESSION_UP)
        w.good_since = w.now;
    if (w.session->state != SESSION_UP || list_is_empty(&w.session->queued))
        w.queued_since = w.now;
    cr_assert_leq(w.now - w.queued_since, 3 * SPARE_LOGIN_MS, "seed %u: waits for a spare that never comes",
                  w.seed);
    cr_assert_lt(w.now - w.good_since, GOOD_MS, "seed %u: all is well, and it is %s", w.seed,
                 session_state_name(w.session->state));
}

static void fake_op_step(struct fake_op *o)
{
    struct fault f;

    fake_op_begin_run(o);
    if (o->hangs || (w.hangs && o->dialled) || !w.network) {
        o->due = UINT64_MAX;
        return;
    }
    fault_code(&f, FAULT_TRANSIENT, "refused", "nothing listens there");
    fake_op_answer(o, o->dialled && !w.plain && dice(4) == 0 ? &f : NULL);
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
            if (o->due < due && c->phase == LIVES && !c->freed) {
                due = o->due;
                op = o;
            }
    }
    struct timer *timer =
        w.spare_timer->due && (!w.timer->due || w.spare_timer->due < w.timer->due) ? w.spare_timer : w.timer;

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

/* ---- Scenes ---- */

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

Test(session_fsm, comes_up_and_says_so)
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

Test(session_fsm, a_loss_is_tried_at_once_and_the_return_is_told_with_its_length)
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
    scene_end();
}

Test(session_fsm, tries_for_ever_never_more_than_fifteen_seconds_apart)
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

Test(session_fsm, hurry_does_not_wait_for_the_next_try)
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

Test(session_fsm, refused_credentials_are_read_again_once_and_then_left_alone)
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

Test(session_fsm, a_password_corrected_meanwhile_is_found_by_the_second_reading)
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

Test(session_fsm, another_host_key_is_refused_before_any_login)
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

Test(session_fsm, a_new_address_is_another_connection_and_the_same_one_is_none)
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

Test(session_fsm, an_upload_has_a_connection_of_its_own)
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

Test(session_fsm, a_login_that_waits_for_a_touch_says_so_until_it_is_up)
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

Test(session_fsm, a_further_connection_that_waits_for_a_touch_is_no_fault_of_the_tunnel)
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

Test(session_fsm, without_a_second_connection_uploads_go_through_the_first)
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

Test(session_fsm, a_port_that_hangs_does_not_hold_up_the_others)
{
    scene_begin();
    come_up();
    w.hangs = true;
    ask_for(0, false, false);
    pass(2900);
    ask_for(1, true, false);
    cr_assert_eq(w.on[1], 1);
    pass(200);
    ask_for(2, true, false);
    cr_assert_eq(w.on[2], 0, "waits for a spare");
    pass(1000);
    cr_assert_eq(w.on[2], 2);
    ask_for(3, true, false);
    cr_assert_eq(w.on[3], 2);
    ask_cancel(0);
    pass(1000);
    ask_for(4, true, false);
    cr_assert_eq(w.on[4], 1, "and is needed no more");
    scene_end();
}

Test(session_fsm, four_connections_are_the_most)
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

static struct ssh_conn *conn_first(void)
{
    return w.session->link->conn;
}

Test(session_fsm, silence_is_told_and_the_same_connection_may_come_back)
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

Test(session_fsm, silence_is_answered_by_a_second_connection_beside_the_first)
{
    struct session_figures figures;
    struct ssh_conn *old;

    scene_begin();
    come_up();
    old = conn_first();
    old->streams = 2;
    old->stalled = true;
    conn_mute(old);
    ask_for(0, false, false);
    ask_for(1, true, false);
    cr_assert(w.on[0] == 1 && w.on[1] == 1);
    pass(3000);
    cr_assert_eq(session_state(w.session), SESSION_CONNECTING);
    ask_for(2, true, false);
    pass(900);
    cr_assert_eq(session_state(w.session), SESSION_UP);
    session_figures(w.session, &figures);
    cr_assert_eq(figures.reconnects, 1);
    cr_assert(w.on[0] == 2 && w.on[2] == 2, "what had no answer, and what was asked meanwhile");
    cr_assert_eq(w.on[1], 1, "a command may have begun");
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

Test(session_fsm, a_dead_one_goes_after_ten_seconds_and_is_no_second_loss)
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

Test(session_fsm, a_spare_that_is_heard_takes_over_at_once)
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

Test(session_fsm, spares_without_work_go_after_a_minute)
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

Test(session_fsm, an_address_that_changed_under_suspicion_leaves_nothing_of_the_old_one)
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

Test(session_fsm, requests_wait_and_begin_in_order)
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

Test(session_fsm, requests_end_with_their_session)
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

#ifndef STORIES
#define STORIES 6000
#endif

Test(session_fsm, thousands_of_random_stories_end_well, .timeout = 100)
{
    unsigned ups = 0, refusals = 0, answers = 0, logins = 0, spares = 0, suspects = 0, same = 0;

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
    }
    cr_assert(ups > 5 * STORIES && refusals > STORIES / 2 && answers > 3 * STORIES && logins > ups &&
                  spares > STORIES / 10 && suspects > STORIES / 2 && same > STORIES / 20,
              "the stories must have something in them: %u ups, %u refusals, %u answers, %u logins, %u with "
              "spares, "
              "%u with suspicion, %u returns of the same connection",
              ups, refusals, answers, logins, spares, suspects, same);
}
