/* Requests with a reply, one at a time: two at once take each other's replies. And commands: open, exec, feed
 * and read, wait for the peer's close, status.
 *
 * The script travels on standard input to "exec sh -s", so that neither the user's login shell nor a list of
 * processes sees it. Both outputs are read, or the command would hang at 2 MiB of the other one. The status
 * is asked only after the peer closed: before that libssh2 says 0. */
#include <errno.h>
#include <signal.h>

#include "base/timer.h"
#include "proto/text.h"
#include "ssh/conn_private.h"

#define RUN_TIMEOUT_MS   30000
#define STDERR_BYTES_MAX 4096
#define READ_BYTES       (16u << 10)
#define READ_ROUNDS_MAX  8
#define FEED_BYTES_MAX   (256u << 10)

struct channel_request {
    struct list node;
    struct ssh_conn *conn;
    LIBSSH2_CHANNEL *ssh;
    char *command; /* NULL: any request will do */
    bool begun, owns_channel;
    channel_request_fn done;
    void *ctx;
};

static struct channel_request *channel_request_new(struct ssh_conn *c, LIBSSH2_CHANNEL *ch,
                                                   const char *command, channel_request_fn done, void *ctx)
{
    struct channel_request *q = xnew(struct channel_request);

    q->conn = c;
    q->ssh = ch;
    q->command = xstrdup(command);
    q->done = done;
    q->ctx = ctx;
    list_init(&q->node);
    list_append(&c->requests, &q->node);
    conn_dirty(c);
    return q;
}

struct channel_request *channel_request_exec(struct ssh_conn *c, LIBSSH2_CHANNEL *ch, const char *command,
                                             channel_request_fn done, void *ctx)
{
    return channel_request_new(c, ch, command, done, ctx);
}

void channel_request_answer(struct ssh_conn *c, LIBSSH2_CHANNEL *ch)
{
    channel_request_new(c, ch, NULL, NULL, NULL);
}

static void channel_request_free(struct channel_request *q)
{
    list_remove(&q->node);
    if (q->command)
        wipe(q->command, strlen(q->command));
    free(q->command);
    free(q);
}

void channel_request_abandon(struct ssh_conn *c, struct channel_request *q)
{
    q->done = NULL;
    q->owns_channel = true;
    if (q->begun)
        return;
    channel_bury(c, q->ssh);
    channel_request_free(q);
}

bool channel_requests_forget(struct ssh_conn *c, LIBSSH2_CHANNEL *ch)
{
    bool free_now = true;

    LIST_FOREACH_SAFE (q, &c->requests, struct channel_request, node) {
        if (q->ssh == ch && q->begun)
            free_now = false;
        else if (q->ssh == ch)
            channel_request_free(q);
    }
    return free_now;
}

static int channel_request_ask(const struct channel_request *q)
{
    if (!q->command)
        return libssh2_channel_setenv(q->ssh, "LLMHOST_PING", "1");
    return libssh2_channel_process_startup(q->ssh, "exec", 4, q->command, (unsigned)strlen(q->command));
}

void channel_requests_continue(struct ssh_conn *c)
{
    struct channel_request *q;

    while (!c->failed && (q = LIST_FIRST(&c->requests, struct channel_request, node))) {
        channel_request_fn done;
        void *ctx = q->ctx;
        int r;

        q->begun = true;
        r = channel_request_ask(q);
        if (r == LIBSSH2_ERROR_EAGAIN || conn_check(c, r))
            return;
        done = q->done;
        if (q->owns_channel)
            channel_bury(c, q->ssh);
        channel_request_free(q);
        if (done)
            done(ctx, r);
    }
}

void channel_requests_end(struct ssh_conn *c)
{
    struct channel_request *q;

    while ((q = LIST_FIRST(&c->requests, struct channel_request, node)))
        channel_request_free(q);
}

struct run {
    struct op op;     /* op.slot NULL: cancelled */
    struct list node; /* of the connection's runs */
    struct loop *loop;
    struct ssh_conn *conn; /* NULL: over, to be reported */
    struct opening *opening;
    struct channel_request *request;
    LIBSSH2_CHANNEL *ssh;
    bool started; /* the server said that the command runs */
    bool end_sent, out_ended, closing;
    char *command, *script;
    const char *input; /* the script, or the caller's */
    size_t n_input, n_sent;
    struct timer *timer;
    uint64_t timeout_ms;
    void (*on_output)(void *ctx, const char *data, size_t n);
    struct run_result result;
    size_t n_out, max_bytes, n_err;
    struct work report;
    bool failed;
    struct fault fault;
    run_done_fn done;
    void *ctx;
};

static void run_free(struct run *r)
{
    runq_drop(&r->report);
    list_remove(&r->node);
    timer_free(r->timer);
    buf_wipe(&r->result.out);
    buf_wipe(&r->result.err);
    if (r->script)
        wipe(r->script, strlen(r->script));
    if (r->command)
        wipe(r->command, strlen(r->command));
    free(r->script);
    free(r->command);
    free(r);
}

static void run_report(void *ctx)
{
    struct run *r = ctx;

    if (r->op.slot) {
        op_end(&r->op);
        r->done(r->ctx, &r->result, r->failed ? &r->fault : NULL);
    }
    run_free(r);
}

/* Lets go of the connection. The rest of the run is told, and freed, from the run queue: this may be inside
 * on_output(). */
static void run_end(struct run *r)
{
    struct ssh_conn *c = TAKE_PTR(r->conn);

    if (!c)
        return;
    list_remove(&r->node);
    timer_disarm(r->timer);
    if (r->opening)
        opening_abandon(TAKE_PTR(r->opening));
    if (r->request)
        channel_request_abandon(c, TAKE_PTR(r->request));
    else if (r->ssh)
        channel_bury(c, r->ssh);
    r->ssh = NULL;
    runq_add(r->loop, &r->report);
}

static void run_fail(struct run *r, const struct fault *f)
{
    if (!r->conn)
        return;
    r->failed = true;
    r->fault = *f;
    if (r->started && r->fault.kind == FAULT_TRANSIENT)
        r->fault.kind = FAULT_UNCERTAIN;
    run_end(r);
}

static void run_cancel(struct op *op)
{
    struct run *r = CONTAINER_OF(op, struct run, op);

    r->input = NULL; /* no longer lent to us */
    r->n_input = r->n_sent = 0;
    run_end(r);
}

static void run_on_timer(void *ctx)
{
    struct run *r = ctx;
    struct fault f;

    fault_code(&f, r->started ? FAULT_UNCERTAIN : FAULT_TRANSIENT, "timeout",
               "the command did not end within %.1f s", (double)r->timeout_ms / 1000);
    run_fail(r, &f);
}

static void run_on_exec(void *ctx, int ssh_error)
{
    struct run *r = ctx;
    struct fault f;

    r->request = NULL;
    if (ssh_error < 0) {
        fault_code(&f, FAULT_DENIED, "forbidden", "%s refuses to run commands", r->conn->name);
        run_fail(r, &f);
        return;
    }
    r->started = true;
    conn_dirty(r->conn);
}

static void run_on_opened(void *ctx, LIBSSH2_CHANNEL *ch, const struct fault *f)
{
    struct run *r = ctx;

    r->opening = NULL;
    if (!ch) {
        run_fail(r, f);
        return;
    }
    r->ssh = ch;
    r->conn->ping.is_single |= r->conn->ping.found_no_place;
    if (r->timeout_ms != UINT64_MAX)
        timer_arm(r->timer, r->timeout_ms);
    r->request = channel_request_exec(r->conn, ch, r->command, run_on_exec, r);
}

/* Input goes in until the window or our mark says wait. A command that ended early takes no more; libssh2
 * would not say so. */
static void run_feed(struct run *r)
{
    struct ssh_conn *c = r->conn;
    size_t fed = 0;
    ssize_t n;

    while (r->n_sent < r->n_input && fed < FEED_BYTES_MAX && conn_has_room(c)) {
        n = libssh2_channel_write(r->ssh, r->input + r->n_sent,
                                  MIN(r->n_input - r->n_sent, (size_t)CHANNEL_CALL_BYTES - 100));
        if (n == 0 || n == LIBSSH2_ERROR_EAGAIN)
            return;
        if (n < 0) {
            conn_check(c, (int)n);
            r->n_sent = r->n_input;
            return;
        }
        r->n_sent += (size_t)n;
        fed += (size_t)n;
    }
    if (r->n_sent < r->n_input) {
        c->again |= fed >= FEED_BYTES_MAX;
        return;
    }
    if (!r->end_sent && libssh2_channel_send_eof(r->ssh) != LIBSSH2_ERROR_EAGAIN)
        r->end_sent = true;
}

/* Nobody may fill our memory, or keep us busy with what nobody reads. */
static void run_cut(struct run *r)
{
    r->result.status = RUN_STATUS_UNKNOWN;
    run_end(r);
}

/* What one reading of stdout brought. Returns whether the run goes on. */
static bool run_take_output(struct run *r, const char *data, size_t n)
{
    size_t room = r->max_bytes - r->n_out;
    bool too_much = n > room;

    n = MIN(n, room);
    r->n_out += n;
    if (r->on_output && n > 0)
        r->on_output(r->ctx, data, n);
    else if (n > 0 && buf_add(&r->result.out, data, n) < 0)
        too_much = true;
    if (!r->conn)
        return false;
    if (too_much)
        run_cut(r);
    return !too_much;
}

/* The same of stderr. */
static bool run_take_errors(struct run *r, const char *data, size_t n)
{
    struct buf *err = &r->result.err;

    r->n_err += n;
    if (n > STDERR_BYTES_MAX) {
        data += n - STDERR_BYTES_MAX;
        n = STDERR_BYTES_MAX;
    }
    if (err->len + n > STDERR_BYTES_MAX)
        buf_drop(err, err->len + n - STDERR_BYTES_MAX);
    if (buf_add(err, data, n) < 0)
        buf_clear(err);
    if (r->n_err > RUN_ERRORS_BYTES_MAX)
        run_cut(r);
    return r->n_err <= RUN_ERRORS_BYTES_MAX;
}

/* Returns whether the run goes on. */
static bool run_read(struct run *r, int stream)
{
    char data[READ_BYTES];

    for (unsigned round = 0; round < READ_ROUNDS_MAX; round++) {
        ssize_t n = libssh2_channel_read_ex(r->ssh, stream, data, sizeof(data));

        if (n <= 0)
            return n == 0 || !conn_check(r->conn, (int)n);
        if (stream != 0 ? !run_take_errors(r, data, (size_t)n) : !run_take_output(r, data, (size_t)n))
            return false;
    }
    r->conn->again = true;
    return true;
}

static int signal_number(const char *name)
{
    static const struct {
        const char *name;
        int number;
    } known[] = {
        {"HUP", SIGHUP},   {"INT", SIGINT},   {"QUIT", SIGQUIT}, {"ILL", SIGILL},   {"ABRT", SIGABRT},
        {"FPE", SIGFPE},   {"KILL", SIGKILL}, {"SEGV", SIGSEGV}, {"PIPE", SIGPIPE}, {"ALRM", SIGALRM},
        {"TERM", SIGTERM}, {"USR1", SIGUSR1}, {"USR2", SIGUSR2},
    };

    for (size_t i = 0; i < ELEMENTS(known); i++)
        if (streq(name, known[i].name))
            return known[i].number;
    return RUN_STATUS_UNKNOWN - 128;
}

static int run_status(struct run *r)
{
    char *name = NULL;
    int status;

    if (libssh2_channel_get_exit_signal(r->ssh, &name, NULL, NULL, NULL, NULL, NULL) == 0 && name) {
        status = 128 + signal_number(name);
        libssh2_free(r->conn->ssh, name);
        return status;
    }
    return libssh2_channel_get_exit_status(r->ssh);
}

static void run_pump(struct run *r)
{
    if (!r->started)
        return;
    run_feed(r);
    if (r->conn->failed || !run_read(r, 0) || !run_read(r, SSH_EXTENDED_DATA_STDERR))
        return;
    if (libssh2_channel_eof(r->ssh) != 1)
        return;
    r->n_sent = r->n_input; /* nobody reads it any more */
    if (!channel_is_closed_by_peer(r->ssh))
        return;
    r->result.status = run_status(r);
    run_end(r);
}

LIBSSH2_CHANNEL *runs_any(const struct ssh_conn *c, bool started)
{
    LIST_FOREACH (r, &c->runs, struct run, node)
        if (r->ssh && (r->started || !started))
            return r->ssh;
    return NULL;
}

/* A run ends itself only, but the owner that hears its output may end any: those are marked by conn == NULL
 * and freed later. */
void runs_pump(struct ssh_conn *c)
{
    unsigned n = 0;

    c->again = false;
    LIST_FOREACH (r, &c->runs, struct run, node)
        n++;
    for (; n > 0 && !c->gone && !c->failed; n--) {
        struct run *r = LIST_FIRST(&c->runs, struct run, node);

        if (!r)
            return;
        list_remove(&r->node);
        list_append(&c->runs, &r->node);
        run_pump(r);
    }
    if (!c->gone && !c->failed && c->again)
        timer_arm(c->again_timer, 0);
}

void runs_end(struct ssh_conn *c, const struct fault *f)
{
    struct run *r;

    while ((r = LIST_FIRST(&c->runs, struct run, node)))
        run_fail(r, f);
}

/* The words of the shell that sshd starts for us, and what goes to its standard input. */
static void run_prepare(struct run *r, const struct run_spec *spec)
{
    struct buf command;

    if (!spec->input) {
        r->command = xstrdup("exec sh -s");
        r->script = xstrdup(spec->script);
        r->input = r->script;
        r->n_input = strlen(r->script);
        return;
    }
    buf_init(&command, SIZE_MAX / 2);
    if (buf_add_text(&command, "exec sh -c ") < 0 || shell_quote(&command, spec->script) < 0 ||
        !(r->command = buf_take(&command)))
        abort(); /* no memory */
    r->input = spec->input;
    r->n_input = spec->n_input;
}

bool ssh_run_has_begun(const struct op *op)
{
    const struct run *r = CONTAINER_OF(op, struct run, op);

    return !r->opening || opening_has_begun(r->opening);
}

void ssh_run(struct ssh_conn *c, const struct run_spec *spec, struct op **slot, run_done_fn done, void *ctx)
{
    struct run *r = xnew(struct run);

    op_begin(&r->op, slot, run_cancel);
    r->loop = c->loop;
    r->done = done;
    r->ctx = ctx;
    r->on_output = spec->on_output;
    r->max_bytes = spec->output_bytes_max ? spec->output_bytes_max : RUN_OUTPUT_BYTES_MAX;
    if (r->on_output && !spec->output_bytes_max)
        r->max_bytes = SIZE_MAX; /* nothing is collected */
    r->timeout_ms = spec->timeout_ms ? spec->timeout_ms : RUN_TIMEOUT_MS;
    r->timer = timer_new(c->loop, run_on_timer, r);
    buf_init(&r->result.out, r->max_bytes);
    buf_init(&r->result.err, STDERR_BYTES_MAX);
    list_init(&r->node);
    work_init(&r->report, run_report, r);
    run_prepare(r, spec);
    if (c->step == CONN_OVER) {
        r->failed = true;
        fault_code(&r->fault, FAULT_TRANSIENT, "lost", "the connection to %s is over", c->name);
        runq_add(c->loop, &r->report);
        return;
    }
    r->conn = c;
    list_append(&c->runs, &r->node);
    r->opening = opening_new_session(c, SSH_WINDOW_BULK, run_on_opened, r);
}
