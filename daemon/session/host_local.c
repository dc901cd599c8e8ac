/* This very host. A command is a shell of its own process group: its standard input is one end of a socket
 * pair, so that a shell that stops reading is an error and no signal; its outputs are pipes. It is over when
 * it has ended and both outputs are closed, as sshd sees it, so that what behaves over SSH behaves here. */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <signal.h>
#include <sys/wait.h>

#include "base/child.h"
#include "base/fault.h"
#include "base/op.h"
#include "base/timer.h"
#include "session/host.h"

#define DIAL_MS       15000u
#define RUN_MS        30000u
#define ERR_BYTES_MAX 4096u
#define PIECE_BYTES   (32u << 10)

struct host_local {
    struct host host;
    struct loop *loop;
};

static struct loop *loop_of(const struct host *h)
{
    return CONTAINER_OF(h, struct host_local, host)->loop;
}

/* ---- Dials ---- */

struct local_dial {
    struct op op;
    struct op *inner;
    struct work unfit;
    char *address;
    uint16_t port;
    host_dial_fn done;
    void *ctx;
};

static void local_dial_free(struct local_dial *d)
{
    runq_drop(&d->unfit);
    free(d->address);
    free(d);
}

static void local_dial_cancel(struct op *op)
{
    struct local_dial *d = CONTAINER_OF(op, struct local_dial, op);

    op_cancel(&d->inner);
    local_dial_free(d);
}

static void local_dial_report(struct local_dial *d, struct stream *s, const struct fault *f)
{
    host_dial_fn done = d->done;
    void *ctx = d->ctx;

    op_end(&d->op);
    local_dial_free(d);
    done(ctx, s, f);
}

static void local_dial_on_connected(void *ctx, struct stream *s, const struct fault *f)
{
    struct local_dial *d = ctx;
    struct fault named;

    if (f && f->error == -ECONNREFUSED) {
        fault_code(&named, FAULT_TRANSIENT, "refused", "nothing listens at %s:%u", d->address, d->port);
        named.error = f->error;
        f = &named;
    } else if (f && f->error == -ETIMEDOUT) {
        fault_code(&named, FAULT_TRANSIENT, "timeout", "no answer from %s:%u", d->address, d->port);
        named.error = f->error;
        f = &named;
    }
    local_dial_report(d, s, f);
}

static void local_dial_on_unfit(void *ctx)
{
    struct local_dial *d = ctx;
    struct fault f;

    fault_set(&f, FAULT_INVALID, -EINVAL, "\"%s\" is no numeric address", d->address);
    local_dial_report(d, NULL, &f);
}

static socklen_t local_address(const char *text, uint16_t port, struct sockaddr_storage *ret)
{
    struct sockaddr_in *v4 = (struct sockaddr_in *)ret;
    struct sockaddr_in6 *v6 = (struct sockaddr_in6 *)ret;

    memset(ret, 0, sizeof(*ret));
    if (inet_pton(AF_INET, streq(text, "localhost") ? "127.0.0.1" : text, &v4->sin_addr) == 1) {
        v4->sin_family = AF_INET;
        v4->sin_port = htons(port);
        return sizeof(*v4);
    }
    if (inet_pton(AF_INET6, text, &v6->sin6_addr) == 1) {
        v6->sin6_family = AF_INET6;
        v6->sin6_port = htons(port);
        return sizeof(*v6);
    }
    return 0;
}

static void host_local_dial(struct host *h, const char *address, uint16_t port, enum host_traffic kind,
                            struct op **slot, host_dial_fn done, void *ctx)
{
    struct local_dial *d = xnew(struct local_dial);
    struct sockaddr_storage to;
    socklen_t n = local_address(address, port, &to);

    (void)kind;
    op_begin(&d->op, slot, local_dial_cancel);
    work_init(&d->unfit, local_dial_on_unfit, d);
    d->address = xstrdup(address);
    d->port = port;
    d->done = done;
    d->ctx = ctx;
    if (n > 0)
        stream_connect(loop_of(h), (struct sockaddr *)&to, n, DIAL_MS, &d->inner, local_dial_on_connected, d);
    else
        runq_add(loop_of(h), &d->unfit);
}

/* ---- Commands ---- */

struct local_run {
    struct op op;
    struct child *child;
    struct stream *in, *out, *err; /* NULL: closed */
    struct timer *deadline;
    struct work begin;
    struct loop *loop;
    char *script;
    const char *input; /* what goes to its standard input: the owner's bytes, or the script */
    size_t n_input;
    bool script_is_word; /* the script is an argument, for there is input */
    uint64_t timeout_ms;
    void (*on_output)(void *ctx, const char *data, size_t n);
    size_t n_err, n_out, max_out; /* of on_output(), which may go on for ever when no ceiling was asked for */
    bool ended;
    int wait_status;
    struct run_result result;
    run_done_fn done;
    void *ctx;
};

static void local_run_free(struct local_run *r)
{
    runq_drop(&r->begin);
    child_free(r->child);
    stream_free(r->in, false);
    stream_free(r->out, false);
    stream_free(r->err, false);
    timer_free(r->deadline);
    buf_done(&r->result.out);
    buf_done(&r->result.err);
    free(r->script);
    free(r);
}

static void local_run_cancel(struct op *op)
{
    local_run_free(CONTAINER_OF(op, struct local_run, op));
}

/* With NULL: the result. */
static void local_run_report(struct local_run *r, const struct fault *f)
{
    op_end(&r->op);
    r->done(r->ctx, f ? NULL : &r->result, f);
    local_run_free(r);
}

static int status_of(int wait_status)
{
    if (WIFEXITED(wait_status))
        return WEXITSTATUS(wait_status);
    return WIFSIGNALED(wait_status) ? 128 + WTERMSIG(wait_status) : RUN_STATUS_UNKNOWN;
}

static void local_run_look(struct local_run *r)
{
    if (!r->ended || r->out || r->err)
        return;
    r->result.status = status_of(r->wait_status);
    local_run_report(r, NULL);
}

static void local_run_on_exit(void *ctx, int wait_status)
{
    struct local_run *r = ctx;

    r->ended = true;
    r->wait_status = wait_status;
    r->in = stream_free(r->in, false);
    local_run_look(r);
}

static void local_run_on_deadline(void *ctx)
{
    struct local_run *r = ctx;
    struct fault f;

    fault_code(&f, FAULT_UNCERTAIN, "timeout", "the command did not end within %.1f s",
               (double)r->timeout_ms / 1000);
    f.error = -ETIMEDOUT;
    local_run_report(r, &f);
}

static void local_run_on_in(void *ctx, unsigned what)
{
    struct local_run *r = ctx;
    ssize_t n = r->n_input > 0 ? stream_write(r->in, r->input, MIN(r->n_input, (size_t)PIECE_BYTES)) : 0;

    (void)what;
    if (n == -EAGAIN)
        return;
    if (n > 0) {
        r->input += n;
        r->n_input -= (size_t)n;
    }
    if (n < 0 || r->n_input == 0)
        r->in = stream_free(r->in, false); /* it has read enough, or all */
}

/* At the ceiling the command is ended: nobody may fill our memory, nor go on for ever unheard. Its status is
 * not known then. */
static void local_run_cut(struct local_run *r)
{
    r->result.status = RUN_STATUS_UNKNOWN;
    local_run_report(r, NULL);
}

static void local_run_on_out(void *ctx, unsigned what)
{
    char piece[PIECE_BYTES];
    struct local_run *r = ctx;
    ssize_t n = stream_read(r->out, piece, sizeof(piece));

    (void)what;
    if (n == -EAGAIN)
        return;
    if (n <= 0) {
        r->out = stream_free(r->out, false);
        local_run_look(r);
    } else if (r->on_output && r->n_out == r->max_out) {
        local_run_cut(r);
    } else if (r->on_output) {
        n = MIN(n, (ssize_t)MIN(r->max_out - r->n_out, sizeof(piece)));
        r->n_out += (size_t)n;
        r->on_output(r->ctx, piece, (size_t)n); /* may cancel: nothing comes after it */
    } else {
        size_t room = r->result.out.max_bytes - r->result.out.len;
        int full = buf_add(&r->result.out, piece, MIN((size_t)n, room));

        if (full < 0 || (size_t)n > room)
            local_run_cut(r);
    }
}

static void local_run_on_err(void *ctx, unsigned what)
{
    char piece[ERR_BYTES_MAX];
    struct local_run *r = ctx;
    ssize_t n = stream_read(r->err, piece, sizeof(piece));
    size_t len = r->result.err.len;

    (void)what;
    if (n == -EAGAIN)
        return;
    if (n <= 0) {
        r->err = stream_free(r->err, false);
        local_run_look(r);
        return;
    }
    if (len + (size_t)n > ERR_BYTES_MAX)
        buf_drop(&r->result.err, len + (size_t)n - ERR_BYTES_MAX);
    buf_add(&r->result.err, piece, (size_t)n);
    r->n_err += (size_t)n;
    if (r->n_err > RUN_ERRORS_BYTES_MAX)
        local_run_cut(r);
}

static struct stream *watched(struct local_run *r, int fd, stream_ready_fn ready, enum stream_events events)
{
    struct stream *s = stream_new_fd(r->loop, fd);

    stream_watch(s, ready, r);
    stream_want(s, events);
    return s;
}

static int local_run_spawn(struct local_run *r)
{
    _cleanup_close_ int in = -1, in_theirs = -1, out = -1, out_theirs = -1, err = -1, err_theirs = -1;
    const char *const with_input[] = {"/bin/sh", "-c", r->script, NULL};
    const char *const plain[] = {"/bin/sh", "-s", NULL};
    struct child_spec spec = {.argv = r->script_is_word ? with_input : plain};
    const char *home = getenv("HOME");
    int e = child_socket_new(&in, &in_theirs);

    if (e >= 0)
        e = child_pipe_new(&out, &out_theirs);
    if (e >= 0)
        e = child_pipe_new(&err, &err_theirs);
    if (e < 0)
        return e;
    spec.directory = home && home[0] == '/' ? home : NULL;
    spec.in = in_theirs;
    spec.out = out_theirs;
    spec.err = err_theirs;
    e = child_spawn(r->loop, &spec, local_run_on_exit, r, &r->child);
    if (e < 0)
        return e;
    r->in = watched(r, TAKE_FD(in), local_run_on_in, STREAM_OUT);
    r->out = watched(r, TAKE_FD(out), local_run_on_out, STREAM_IN);
    r->err = watched(r, TAKE_FD(err), local_run_on_err, STREAM_IN);
    return 0;
}

static void local_run_on_begin(void *ctx)
{
    struct local_run *r = ctx;
    struct fault f;
    int e = local_run_spawn(r);

    if (e < 0) {
        fault_set(&f, FAULT_EXHAUSTED, e, "cannot start a shell: %s", strerror(-e));
        local_run_report(r, &f);
        return;
    }
    if (r->timeout_ms != UINT64_MAX)
        timer_arm(r->deadline, r->timeout_ms);
}

static void host_local_run(struct host *h, const struct run_spec *spec, struct op **slot, run_done_fn done,
                           void *ctx)
{
    struct local_run *r = xnew(struct local_run);

    op_begin(&r->op, slot, local_run_cancel);
    r->loop = loop_of(h);
    r->script = xstrdup(spec->script);
    r->script_is_word = spec->input != NULL;
    r->input = spec->input ? spec->input : r->script;
    r->n_input = spec->input ? spec->n_input : strlen(r->script);
    r->timeout_ms = spec->timeout_ms ? spec->timeout_ms : RUN_MS;
    r->on_output = spec->on_output;
    r->max_out = spec->output_bytes_max ? spec->output_bytes_max : SIZE_MAX;
    r->done = done;
    r->ctx = ctx;
    buf_init(&r->result.out, spec->output_bytes_max ? spec->output_bytes_max : RUN_OUTPUT_BYTES_MAX);
    buf_init(&r->result.err, ERR_BYTES_MAX);
    r->deadline = timer_new(r->loop, local_run_on_deadline, r);
    work_init(&r->begin, local_run_on_begin, r);
    runq_add(r->loop, &r->begin);
}

static void host_local_waiting(struct host *h, int change)
{
    (void)h;
    (void)change; /* we do not get lost */
}

static bool host_local_is_reachable(const struct host *h)
{
    (void)h;
    return true;
}

static struct host *host_local_free(struct host *h)
{
    free(CONTAINER_OF(h, struct host_local, host));
    return NULL;
}

static const struct host_ops host_local_ops = {
    .name = "local",
    .dial = host_local_dial,
    .run = host_local_run,
    .waiting = host_local_waiting,
    .is_reachable = host_local_is_reachable,
    .free = host_local_free,
};

struct host *host_local_new(struct loop *l)
{
    struct host_local *h = xnew(struct host_local);

    h->host.ops = &host_local_ops;
    h->loop = l;
    return &h->host;
}
