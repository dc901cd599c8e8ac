/* The real session.c, session_fsm.c, session_link.c and session_request.c, which it includes, over a clock,
 * timers, a run queue and connections of our own; and the one world they stand in. For session_world.h. */
#pragma once

#include <criterion/criterion.h>
#include <errno.h>

#define clock_now_ms              fake_clock_now_ms
#define clock_wall_ms             fake_clock_wall_ms
#define timer_new                 fake_timer_new
#define timer_free                fake_timer_free
#define timer_arm                 fake_timer_arm
#define timer_arm_at              fake_timer_arm_at
#define timer_disarm              fake_timer_disarm
#define timer_is_armed            fake_timer_is_armed
#define timer_due                 fake_timer_due
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
#define ssh_conn_yield            fake_ssh_conn_yield
#define ssh_conn_is_yielding      fake_ssh_conn_is_yielding
#define ssh_conn_is_single        fake_ssh_conn_is_single
#define ssh_conn_dialling_due     fake_ssh_conn_dialling_due
#define ssh_conn_dials            fake_ssh_conn_dials
#define ssh_dial                  fake_ssh_dial
#define ssh_run                   fake_ssh_run
#define ssh_run_has_begun         fake_ssh_run_has_begun
#define event_publish             fake_event_publish
#define log_line                  fake_log_line
#include "session/session.c"
#include "session/session_fsm.c"
#include "session/session_link.c"
#include "session/session_request.c"

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
    bool own_key_holds, is_soon; /* as it was told; once it has told that it takes dials */
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
    uint64_t due, begun_due;
    int ask; /* of a command, -1 for a dial */
    uint16_t port;
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
    struct timer *timer, *spare_timer, *pause_timer;
    struct session *session;
    bool in_drain;
    bool plain;               /* connections and their answers behave */
    char told[400];           /* the last event */
    unsigned n_told, n_lines; /* events; lines of the log that are there by default */
    unsigned pings;
    bool installs; /* our key, and never gets there */
    struct op install;
    unsigned n_uninstalled;        /* given up */
    unsigned conns_made, on[ASKS]; /* where each request went last */
    bool refuses_more, hangs;      /* the server: second connections; dials */
    bool stays;                    /* what is asked for from now on does not end */
    unsigned no_place;             /* a bit for each request that is refused a session channel */
    bool by_own_key;               /* logins where all behaves */
    unsigned order[ASKS], n_order; /* in which requests reached a connection */
    unsigned n_silent;             /* connections in a row that never answer: two at most */
    bool network, key_is_old;
    int password, right_password; /* in the file, at the server */
    struct host_key pinned;
    struct ask asks[ASKS];
    unsigned logins, answers, ups, refusals, spares, suspects, losses, same, full;
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

    cr_assert(!w.timer || !w.spare_timer || !w.pause_timer);
    t->fire = fire;
    t->ctx = ctx;
    *(!w.timer ? &w.timer : !w.spare_timer ? &w.spare_timer : &w.pause_timer) = t;
    return t;
}

struct timer *fake_timer_free(struct timer *t)
{
    *(t == w.timer ? &w.timer : t == w.spare_timer ? &w.spare_timer : &w.pause_timer) = NULL;
    free(t);
    return NULL;
}

void fake_timer_arm(struct timer *t, uint64_t delay_ms)
{
    t->due = w.now + delay_ms;
}

void fake_timer_arm_at(struct timer *t, uint64_t due_ms)
{
    cr_assert_gt(due_ms, w.now);
    t->due = due_ms;
}

void fake_timer_disarm(struct timer *t)
{
    t->due = 0;
}

bool fake_timer_is_armed(const struct timer *t)
{
    return t->due != 0;
}

uint64_t fake_timer_due(const struct timer *t)
{
    return t->due;
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
    w.n_told++;
    vsnprintf(w.told, sizeof(w.told), format, args);
    va_end(args);
    w.ups += streq(kind, "tunnel_up") || streq(kind, "tunnel_restored");
    w.refusals += streq(kind, "tunnel_refused");
    w.losses += streq(kind, "tunnel_lost");
    w.same += strstr(w.told, "the same connection") != NULL;
}

void fake_log_line(enum log_level level, enum log_source source, const char *target, const char *format, ...)
{
    (void)source, (void)target, (void)format;
    w.n_lines += level <= LOG_LEVEL_INFO;
}

void session_credentials(struct session *s, struct ssh_secrets *ret)
{
    (void)s, (void)ret;
}

static void install_cancel(struct op *op)
{
    cr_assert_eq(op, &w.install);
    w.n_uninstalled++;
}

void session_key_install(struct session *s)
{
    if (w.installs)
        op_begin(&w.install, &s->key_op, install_cancel);
}

struct ssh_conn *fake_ssh_conn_new(struct loop *l, struct resolver *r, const struct ssh_target *target,
                                   const struct ssh_conn_events *events, void *ctx)
{
    (void)l, (void)r;
    struct ssh_conn *c = xnew(struct ssh_conn);

    list_init(&c->node);
    list_init(&c->ops);
    list_append(&w.conns, &c->node);
    c->events = *events;
    c->ctx = ctx;
    c->own_key_holds = target->own_key_holds;
    c->id = ++w.conns_made;
    c->keeps_silent = !w.plain && dice(40) == 0 && w.n_silent < 2;
    w.n_silent = c->keeps_silent ? w.n_silent + 1 : 0;
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
    w.pings++;
    if (!w.network)
        conn_mute(c);
}

/* Here no connection has a control channel. */
bool fake_ssh_conn_yield(struct ssh_conn *c)
{
    (void)c;
    return false;
}

bool fake_ssh_conn_is_yielding(const struct ssh_conn *c)
{
    (void)c;
    return false;
}

bool fake_ssh_conn_is_single(const struct ssh_conn *c)
{
    (void)c;
    return false;
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

    cr_assert(!c->freed && (fake_ssh_conn_is_up(c) || c->is_soon));
    op_begin(&o->op, slot, fake_op_cancel);
    list_init(&o->node);
    list_append(&c->ops, &o->node);
    o->conn = c;
    o->begun_due = w.now;
    o->due = w.now + 1 + dice(500);
    o->hangs = w.stays || (!w.plain && dice(4) == 0);
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
    struct fake_op *o = fake_op_new(c, slot, ctx);

    o->dialled = done;
    o->port = port;
    w.order[w.n_order++ % ASKS] = port - 1000u;
    w.on[port - 1000] = c->id;
}

/* The oldest, as if the others waited for it. */
static const struct fake_op *fake_dial(const struct ssh_conn *c)
{
    cr_assert(!c->freed);
    LIST_FOREACH (o, &c->ops, struct fake_op, node)
        if (o->dialled)
            return o;
    return NULL;
}

uint64_t fake_ssh_conn_dialling_due(const struct ssh_conn *c)
{
    const struct fake_op *o = fake_dial(c);

    return o ? o->begun_due : 0;
}

bool fake_ssh_conn_dials(const struct ssh_conn *c, const char *host, uint16_t port)
{
    const struct fake_op *o = fake_dial(c);

    (void)host;
    return o && o->port == port;
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

/* Channels are opened one after the other: a command waits for a dial that was there before. */
static bool is_behind_a_dial(const struct fake_op *o)
{
    if (!o->ran || o->began)
        return false;
    LIST_FOREACH (before, &o->conn->ops, struct fake_op, node) {
        if (before == o)
            return false;
        if (before->dialled)
            return true;
    }
    return false;
}

/* Its channel is asked for, at least. */
bool fake_ssh_run_has_begun(const struct op *op)
{
    return !is_behind_a_dial(CONTAINER_OF(op, struct fake_op, op));
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
