/* A machine of our own for the drivers: its shell answers what the test says, and behind its port stands a
 * script of HTTP exchanges. Everything happens on the loop. For test_engine_*.c. */
#pragma once

#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <sys/socket.h>

#include "base/fault.h"
#include "base/loop.h"
#include "base/op.h"
#include "base/settings.h"
#include "engine/engine.h"
#include "http/http.h"
#include "proto/json.h"
#include "session/host.h"
#include "tests/fixture/loop_fixture.h"

/* An exchange that ends as usual does not say so. */
#pragma GCC diagnostic ignored "-Wmissing-field-initializers"

enum then {
    KEEP_OPEN,
    CLOSE,  /* after the answer */
    CUT,    /* the connection, where the answer ends: not whole */
    HANG,   /* the answer is not over, and nothing follows by itself */
    REFUSE, /* nobody listens: this one is for a dial */
    FORBID, /* and this: the machine opens no way to its ports */
};

struct exchange {
    const char *request;  /* "POST /api/pull" */
    const char *body_has; /* NULL: anything */
    int status;
    const char *pieces[8]; /* of the answer's body */
    enum then then;
};

struct peer {
    struct stream *stream;
    struct buf in;
};

static struct fake {
    struct host host;
    struct loop *loop;
    struct http *http;
    struct engine *engine;
    struct settings *settings;
    char directory[40];
    /* Asked of the shell. */
    const char *find_says, *start_says, *look_says, *stop_says, *size_says, *cards_say, *cards_say_then, *begin_says, *poll_says, *ask_says, *room_says;
    struct fault shell_fault;
    bool shell_hangs;
    char *script;
    unsigned n_scripts;
    /* Asked over HTTP. */
    const struct exchange *exchanges;
    unsigned n_exchanges, next;
    struct peer peers[8];
    unsigned n_peers;
    /* Heard. */
    struct op *op;
    unsigned n_done, n_progress;
    bool again, free_in_done;
    struct fault fault;
    char text[200], texts[2000];
    int64_t bytes, bytes_total;
} w;

#define RUNS       "base=/root/llmhost\nlog=/root/llmhost/run/x.log\npid=77\nport=21000\nok=1\n"
#define DEAD(line) "base=/root/llmhost\nlog=/root/llmhost/run/x.log\nlast_line=" line "\nok=1\n"
#define NONE       "base=/root/llmhost\nlog=/root/llmhost/run/x.log\nok=1\n"

/* ---- the shell ---- */

struct fake_run {
    struct op op;
    struct work answer;
    const char *says;
    struct fault fault;
    run_done_fn done;
    void *ctx;
};

static void fake_run_cancel(struct op *op)
{
    struct fake_run *r = CONTAINER_OF(op, struct fake_run, op);

    runq_drop(&r->answer);
    free(r);
}

static void fake_run_answer(void *ctx)
{
    struct fake_run *r = ctx;
    struct run_result result = {};
    run_done_fn done = r->done;
    void *done_ctx = r->ctx;
    struct fault f = r->fault;

    buf_init(&result.out, 65536);
    buf_init(&result.err, 4096);
    buf_add_text(&result.out, r->says);
    op_end(&r->op);
    free(r);
    done(done_ctx, f.kind ? NULL : &result, f.kind ? &f : NULL);
    buf_done(&result.out);
    buf_done(&result.err);
}

static const char *shell_says(const char *script)
{
    static const char first[] = "set -- ";

    if (streq(script, gpu_script)) {
        const char *says = w.cards_say ? w.cards_say : "chip=none\n";

        w.cards_say = w.cards_say_then ? w.cards_say_then : w.cards_say;
        return says;
    }
    if (strncmp(script, first, strlen(first)) != 0)
        return w.size_says;
    script += strlen(first);
    script += *script == '\'';
    return strncmp(script, "find", 4) == 0    ? w.find_says
           : strncmp(script, "start", 5) == 0 ? w.start_says
           : strncmp(script, "look", 4) == 0  ? w.look_says
           : strncmp(script, "begin", 5) == 0 ? w.begin_says
           : strncmp(script, "poll", 4) == 0  ? w.poll_says
           : strncmp(script, "ask", 3) == 0   ? (w.ask_says ? w.ask_says : "tool=none\nok=1\n")
           : strncmp(script, "room", 4) == 0  ? (w.room_says ? w.room_says : "ok=1\n")
           : strncmp(script, "clean", 5) == 0 || strncmp(script, "check", 5) == 0 ? "ok=1\n"
                                              : w.stop_says;
}

static void fake_host_run(struct host *h, const struct run_spec *spec, struct op **slot, run_done_fn done,
                          void *ctx)
{
    struct fake_run *r = xnew(struct fake_run);

    (void)h;
    free(w.script);
    w.script = xstrdup(spec->script);
    w.n_scripts++;
    r->says = shell_says(spec->script);
    cr_assert_not_null(r->says, "nobody expected %.60s", spec->script);
    r->fault = w.shell_fault;
    r->done = done;
    r->ctx = ctx;
    work_init(&r->answer, fake_run_answer, r);
    op_begin(&r->op, slot, fake_run_cancel);
    if (!w.shell_hangs)
        runq_add(w.loop, &r->answer);
}

/* ---- the port ---- */

static const struct exchange *next_exchange(void)
{
    return w.next < w.n_exchanges ? &w.exchanges[w.next] : NULL;
}

static void peer_send(struct peer *p, const char *text, size_t n)
{
    while (n) {
        ssize_t sent = stream_write(p->stream, text, n);

        cr_assert_gt(sent, 0, "%s", strerror((int)-sent));
        text += sent;
        n -= (size_t)sent;
    }
}

/* One more piece of a chunked answer. */
static void peer_send_piece(struct peer *p, const char *text)
{
    char head[20];
    int n = snprintf(head, sizeof head, "%zx\r\n", strlen(text));

    peer_send(p, head, (size_t)n);
    peer_send(p, text, strlen(text));
    peer_send(p, "\r\n", 2);
}

static void peer_close(struct peer *p)
{
    p->stream = stream_free(p->stream, false);
}

static void peer_answer(struct peer *p, const struct exchange *x)
{
    char head[300];
    int n = snprintf(head, sizeof head,
                     "HTTP/1.1 %d Whatever\r\nContent-Type: application/x-ndjson\r\nDate: Fri, 20 Nov 2026 "
                     "20:57:55 GMT\r\n"
                     "Transfer-Encoding: chunked\r\n\r\n",
                     x->status);

    if (x->status)
        peer_send(p, head, (size_t)n);
    for (unsigned i = 0; i < ELEMENTS(x->pieces) && x->pieces[i]; i++)
        peer_send_piece(p, x->pieces[i]);
    if (x->then == KEEP_OPEN || x->then == CLOSE)
        peer_send(p, "0\r\n\r\n", 5);
    if (x->then == CLOSE || x->then == CUT)
        peer_close(p);
}

static void peer_on_ready(void *ctx, unsigned what)
{
    struct peer *p = ctx;
    const struct exchange *x = next_exchange();
    char *room;

    (void)what;
    cr_assert_eq(buf_reserve(&p->in, 4096, &room), 0);
    ssize_t n = stream_read(p->stream, room, 4096);

    if (n == -EAGAIN)
        return;
    if (n <= 0) {
        peer_close(p);
        return;
    }
    buf_grew(&p->in, (size_t)n);
    const char *text = buf_text(&p->in), *head_end = strstr(text, "\r\n\r\n"),
               *length = strcasestr(text, "Content-Length: ");

    if (!head_end || (length && strlen(head_end + 4) < strtoul(length + 16, NULL, 10)))
        return;
    cr_assert_not_null(x, "nobody expected %.60s", text);
    cr_assert_eq(strncmp(text, x->request, strlen(x->request)), 0, "expected %s, not %.60s", x->request,
                 text);
    cr_assert_eq(text[strlen(x->request)], ' ', "expected %s, not %.60s", x->request, text);
    if (x->body_has)
        cr_assert_not_null(strstr(head_end, x->body_has), "%s lacks %s", head_end, x->body_has);
    buf_clear(&p->in);
    w.next++;
    peer_answer(p, x);
}

struct fake_dial {
    struct op op;
    struct work answer;
    host_dial_fn done;
    void *ctx;
};

static void fake_dial_cancel(struct op *op)
{
    struct fake_dial *d = CONTAINER_OF(op, struct fake_dial, op);

    runq_drop(&d->answer);
    free(d);
}

static struct stream *dial_peer(void)
{
    struct peer *p = &w.peers[w.n_peers++ % ELEMENTS(w.peers)];
    int fd[2];

    stream_free(p->stream, false);
    buf_done(&p->in);
    buf_init(&p->in, 1 << 20);
    cr_assert_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fd), 0);
    p->stream = stream_new_fd(w.loop, fd[1]);
    stream_watch(p->stream, peer_on_ready, p);
    stream_want(p->stream, STREAM_IN);
    return stream_new_fd(w.loop, fd[0]);
}

static void fake_dial_answer(void *ctx)
{
    struct fake_dial *d = ctx;
    const struct exchange *x = next_exchange();
    host_dial_fn done = d->done;
    void *done_ctx = d->ctx;
    struct fault f;

    op_end(&d->op);
    free(d);
    if (!x || (x->then != REFUSE && x->then != FORBID)) {
        done(done_ctx, dial_peer(), NULL);
        return;
    }
    w.next++;
    if (x->then == FORBID)
        fault_code(&f, FAULT_DENIED, "forbidden", "gpu1 forbids it");
    else
        fault_code(&f, FAULT_TRANSIENT, "refused", "nothing listens");
    f.error = -ECONNREFUSED;
    done(done_ctx, NULL, &f);
}

static void fake_host_dial(struct host *h, const char *address, uint16_t port, enum host_traffic kind,
                           struct op **slot, host_dial_fn done, void *ctx)
{
    struct fake_dial *d = xnew(struct fake_dial);

    (void)h, (void)kind;
    cr_assert_str_eq(address, "127.0.0.1");
    cr_assert_eq(port, 21000);
    d->done = done;
    d->ctx = ctx;
    work_init(&d->answer, fake_dial_answer, d);
    op_begin(&d->op, slot, fake_dial_cancel);
    runq_add(w.loop, &d->answer);
}

static void fake_host_waiting(struct host *h, int change)
{
    (void)h, (void)change;
}

static bool fake_host_is_reachable(const struct host *h)
{
    (void)h;
    return true;
}

static const struct host_ops fake_host_ops = {.name = "fake",
                                              .dial = fake_host_dial,
                                              .run = fake_host_run,
                                              .waiting = fake_host_waiting,
                                              .is_reachable = fake_host_is_reachable};

/* ---- asking ---- */

static void on_progress(void *ctx, const struct engine_progress *p)
{
    cr_assert_eq(ctx, &w);
    cr_assert_not_null(w.op, "progress comes before the end");
    w.n_progress++;
    if (p->text) {
        snprintf(w.text, sizeof w.text, "%s", p->text);
        snprintf(w.texts + strlen(w.texts), sizeof w.texts - strlen(w.texts), "%s\n", p->text);
    }
    w.bytes = p->bytes;
    w.bytes_total = p->bytes_total;
}

static void on_done(void *ctx, bool again, const struct fault *f)
{
    cr_assert_eq(ctx, &w);
    cr_assert_null(w.op);
    w.n_done++;
    w.again = again;
    w.fault = f ? *f : (struct fault){};
    if (w.free_in_done)
        w.engine = engine_free(w.engine);
}

typedef void (*step_fn)(struct engine *e, struct engine_reply to);

static void begin(step_fn step)
{
    w.n_done = w.n_progress = 0;
    w.texts[0] = w.text[0] = '\0';
    step(w.engine, (struct engine_reply){.slot = &w.op, .done = on_done, .progress = on_progress, .ctx = &w});
    cr_assert_not_null(w.op);
    cr_assert_eq(w.n_done, 0, "not from inside the call");
}

static void finish(void)
{
    cr_assert(LOOP_UNTIL(w.loop, w.n_done == 1), "no answer; %u of %u exchanges", w.next, w.n_exchanges);
    loop_turns(w.loop, 2);
    cr_assert_eq(w.n_done, 1);
}

/* Connections that were kept are gone: the next request needs a new one. */
static void peers_hang_up(void)
{
    for (unsigned i = 0; i < ELEMENTS(w.peers); i++)
        peer_close(&w.peers[i]);
    loop_turns(w.loop, 5);
}

/* The step, with these exchanges, all of which must happen. */
static void ask_with(step_fn step, const struct exchange *exchanges, unsigned n)
{
    w.exchanges = exchanges;
    w.n_exchanges = n;
    w.next = 0;
    if (n && (exchanges->then == REFUSE || !exchanges->status))
        peers_hang_up();
    begin(step);
    finish();
    cr_assert_eq(w.next, n, "%u of %u exchanges", w.next, n);
}

#define ASK(step, ...)                                                                                       \
    do {                                                                                                     \
        const struct exchange exchanges_[] = {__VA_ARGS__};                                                  \
        ask_with(step, exchanges_, ELEMENTS(exchanges_));                                                    \
    } while (0)
#define ASK_SHELL(step) ask_with(step, NULL, 0)

static void went_well(void)
{
    cr_assert_eq(w.fault.kind, FAULT_NONE, "%s: %s", w.fault.code, w.fault.text);
    cr_assert_not(w.again);
}

static void failed_with(const char *code, enum fault_kind kind)
{
    cr_assert_str_eq(w.fault.code, code, "%s: %s", w.fault.code, w.fault.text);
    cr_assert_eq(w.fault.kind, kind, "%s: kind %d", w.fault.text, (int)w.fault.kind);
    cr_assert_not(w.again);
}

static void world_make_engine(const char *engine, const char *model)
{
    w.engine =
        engine_new(engine_find_ops(engine), w.loop, &w.host, w.http, "gpu1", model, w.settings, w.directory,
                   w.directory);
}

static void world_begin(const char *engine, const char *model, const char *settings)
{
    char *why = NULL;

    w = (struct fake){.host = {.ops = &fake_host_ops}};
    strcpy(w.directory, "/tmp/test_engine.XXXXXX");
    cr_assert_not_null(mkdtemp(w.directory));
    cr_assert_eq(settings_parse(settings, "test", &w.settings, &why), 0, "%s", why);
    w.loop = loop_new();
    w.http = http_new(w.loop);
    world_make_engine(engine, model);
}

static void world_end(void)
{
    char command[100];

    op_cancel(&w.op);
    engine_free(w.engine);
    http_free(w.http);
    for (unsigned i = 0; i < ELEMENTS(w.peers); i++) {
        stream_free(w.peers[i].stream, false);
        buf_done(&w.peers[i].in);
    }
    settings_free(w.settings);
    free(w.script);
    loop_free_dry(w.loop);
    snprintf(command, sizeof command, "rm -rf %s", w.directory);
    cr_assert_eq(system(command), 0);
}

/* The step is cancelled after each number of turns, then the engine is freed: nothing is heard, nothing
 * leaks. Then it is asked to the end, and the engine freed by the one who is told. */
static inline void leave_at_every_turn(const char *engine, const char *model, step_fn step, const char *find,
                                       const struct exchange *exchanges, unsigned n)
{
    bool over = false;

    w.exchanges = exchanges;
    w.n_exchanges = n;
    for (unsigned turns = 0; !over; turns++) {
        if (find) {
            w.find_says = find;
            w.n_exchanges = 0;
            begin(w.engine->ops->find);
            finish();
            w.n_exchanges = n;
        }
        w.next = 0;
        begin(step);
        for (unsigned i = 0; i < turns && w.n_done == 0; i++)
            loop_turns(w.loop, 1);
        over = w.n_done == 1 || turns > 400;
        cr_assert(over || w.op);
        op_cancel(&w.op);
        w.n_done = 0;
        if (turns % 2)
            loop_turns(w.loop, 3);
        w.engine = engine_free(w.engine);
        loop_turns(w.loop, 3);
        cr_assert_eq(w.n_done, 0);
        world_make_engine(engine, model);
    }
    if (find) {
        begin(w.engine->ops->find);
        finish();
    }
    w.next = 0;
    w.free_in_done = true;
    begin(step);
    finish();
    w.free_in_done = false;
    cr_assert_null(w.engine);
    world_make_engine(engine, model);
}
