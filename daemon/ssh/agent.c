/* One question, one answer: connect, write the message, read the length, then as much as that says. */
#include "ssh/agent.h"

#include <errno.h>
#include <string.h>
#include <sys/un.h>

#include "base/fault.h"
#include "base/op.h"
#include "base/stream.h"
#include "base/timer.h"
#include "proto/buf.h"
#include "proto/mem.h"
#include "ssh/wire.h"

#define ANSWER_BYTES_MAX (256u << 10) /* sshd's own limit (authfd.c, MAX_AGENT_REPLY_LEN) */
#define CONNECT_MS       2000
#define LIST_MS          5000

enum { /* messages */
       AGENT_FAILURE = 5,
       AGENT_REQUEST_IDENTITIES = 11,
       AGENT_IDENTITIES_ANSWER = 12,
       AGENT_SIGN_REQUEST = 13,
       AGENT_SIGN_RESPONSE = 14,
       AGENT_RSA_SHA2_256 = 2, /* a flag of the sign request */
};

struct ask {
    struct op op;
    struct loop *loop;
    struct op *connecting;
    struct stream *stream;
    struct timer *timer; /* NULL: no limit */
    struct buf out, in;
    agent_keys_fn listed; /* one of the two */
    agent_signed_fn signed_;
    void *ctx;
};

static void ask_free(struct ask *a)
{
    op_cancel(&a->connecting);
    stream_free(a->stream, false);
    timer_free(a->timer);
    buf_done(&a->out);
    buf_done(&a->in);
    free(a);
}

static void ask_cancel(struct op *op)
{
    ask_free(CONTAINER_OF(op, struct ask, op));
}

static void ask_fail(struct ask *a, const struct fault *f)
{
    agent_keys_fn listed = a->listed;
    agent_signed_fn signed_ = a->signed_;
    void *ctx = a->ctx;

    op_end(&a->op);
    ask_free(a);
    if (listed)
        listed(ctx, NULL, 0, f);
    else
        signed_(ctx, NULL, 0, f);
}

static void ask_fail_with(struct ask *a, enum fault_kind kind, const char *text)
{
    struct fault f;

    fault_set(&f, kind, 0, "the ssh-agent %s", text);
    ask_fail(a, &f);
}

/* ---- answers ---- */

static void answer_keys(struct ask *a, struct wire w)
{
    struct agent_key keys[AGENT_KEYS_MAX];
    char comments[AGENT_KEYS_MAX][64];
    agent_keys_fn listed = a->listed;
    void *ctx = a->ctx;
    unsigned n = 0;
    uint32_t count;

    if (wire_read_u32(&w, &count) < 0) {
        ask_fail_with(a, FAULT_INVALID, "gives an answer that makes no sense");
        return;
    }
    for (; count > 0 && n < AGENT_KEYS_MAX; count--) {
        struct wire blob, comment;

        if (wire_read_string(&w, &blob) < 0 || wire_read_string(&w, &comment) < 0) {
            ask_fail_with(a, FAULT_INVALID, "gives an answer that makes no sense");
            return;
        }
        if (blob.n > AGENT_KEY_BYTES_MAX)
            continue;
        snprintf(comments[n], sizeof(comments[n]), "%.*s", (int)MIN(comment.n, sizeof(comments[n]) - 1),
                 (const char *)comment.at);
        keys[n] = (struct agent_key){.blob = blob.at, .n = blob.n, .comment = comments[n]};
        n++;
    }
    op_end(&a->op);
    listed(ctx, keys, n, NULL);
    ask_free(a);
}

/* A string that holds the algorithm and what signs; of a token (PROTOCOL.u2f of OpenSSH 9.2, "SSH U2F
 * signatures") also its flags and a counter, which belong to what it signs. */
static void answer_signature(struct ask *a, struct wire w)
{
    agent_signed_fn signed_ = a->signed_;
    void *ctx = a->ctx;
    struct wire whole, algorithm, rest, signature;
    bool good = wire_read_string(&w, &whole) == 0 && wire_read_string(&whole, &algorithm) == 0;

    rest = whole;
    if (!good || wire_read_string(&whole, &signature) < 0 || signature.n == 0) {
        ask_fail_with(a, FAULT_INVALID, "gives an answer that makes no sense");
        return;
    }
    if (agent_is_token(&algorithm))
        signature = rest;
    op_end(&a->op);
    signed_(ctx, signature.at, signature.n, NULL);
    ask_free(a);
}

bool agent_is_token(const struct wire *type)
{
    return wire_is(type, "sk-ssh-ed25519@openssh.com") || wire_is(type, "sk-ecdsa-sha2-nistp256@openssh.com");
}

static void ask_answer(struct ask *a, struct wire w)
{
    uint8_t kind;

    if (wire_read_byte(&w, &kind) < 0)
        ask_fail_with(a, FAULT_INVALID, "gives an answer that makes no sense");
    else if (kind == AGENT_IDENTITIES_ANSWER && a->listed)
        answer_keys(a, w);
    else if (kind == AGENT_SIGN_RESPONSE && a->signed_)
        answer_signature(a, w);
    else if (kind == AGENT_FAILURE)
        ask_fail_with(a, FAULT_DENIED, a->listed ? "does not list its keys" : "refuses to sign");
    else
        ask_fail_with(a, FAULT_INVALID, "gives an answer that makes no sense");
}

/* ---- the conversation ---- */

static int ask_write(struct ask *a)
{
    while (a->out.len) {
        ssize_t n = stream_write(a->stream, a->out.data, a->out.len);

        if (n < 0)
            return (int)n;
        buf_drop(&a->out, (size_t)n);
    }
    return 0;
}

/* 1: the answer is whole. */
static int ask_read(struct ask *a, struct wire *ret)
{
    char piece[4096];

    for (;;) {
        struct wire w = {(const uint8_t *)a->in.data, a->in.len};
        uint32_t length;

        if (wire_read_u32(&w, &length) == 0) {
            if (length > ANSWER_BYTES_MAX)
                return -EMSGSIZE;
            if (w.n >= length) {
                *ret = (struct wire){w.at, length};
                return 1;
            }
        }
        ssize_t n = stream_read(a->stream, piece, sizeof(piece));

        if (n <= 0)
            return n == 0 ? -EPIPE : (int)n;
        if (buf_add(&a->in, piece, (size_t)n) < 0)
            return -EMSGSIZE;
    }
}

static void ask_on_ready(void *ctx, unsigned what)
{
    struct ask *a = ctx;
    struct wire answer;
    int r = ask_write(a);

    (void)what;
    if (r == 0)
        r = ask_read(a, &answer);
    if (r == 1)
        ask_answer(a, answer);
    else if (r == -EAGAIN)
        stream_want(a->stream, a->out.len ? STREAM_IN | STREAM_OUT : STREAM_IN);
    else
        ask_fail_with(a, FAULT_TRANSIENT, r == -EMSGSIZE ? "gives an answer without end" : "hung up");
}

static void ask_on_connected(void *ctx, struct stream *s, const struct fault *f)
{
    struct ask *a = ctx;

    if (f) {
        ask_fail_with(a, FAULT_GONE, "is not there: nobody listens at its socket");
        return;
    }
    a->stream = s;
    stream_watch(s, ask_on_ready, a);
    stream_want(s, STREAM_IN | STREAM_OUT);
}

static void ask_on_timer(void *ctx)
{
    ask_fail_with(ctx, FAULT_TRANSIENT, "does not answer");
}

static struct ask *ask_begin(struct loop *l, struct op **slot, size_t n_message)
{
    struct ask *a = xnew(struct ask);

    a->loop = l;
    buf_init(&a->in, 4 + ANSWER_BYTES_MAX + 4096);
    buf_init(&a->out, 4 + n_message);
    wire_add_u32(&a->out, (uint32_t)n_message);
    op_begin(&a->op, slot, ask_cancel);
    return a;
}

/* A path that is too long connects to nothing: what is cut is another name. */
static void ask_go(struct ask *a, const char *path)
{
    struct sockaddr_un at = {.sun_family = AF_UNIX};

    snprintf(at.sun_path, sizeof(at.sun_path), "%s", strlen(path) < sizeof(at.sun_path) ? path : "/");
    stream_connect(a->loop, (struct sockaddr *)&at, sizeof(at), CONNECT_MS, &a->connecting, ask_on_connected,
                   a);
}

void agent_list(struct loop *l, const char *path, struct op **slot, agent_keys_fn done, void *ctx)
{
    struct ask *a = ask_begin(l, slot, 1);

    a->listed = done;
    a->ctx = ctx;
    wire_add_byte(&a->out, AGENT_REQUEST_IDENTITIES);
    a->timer = timer_new(l, ask_on_timer, a);
    timer_arm(a->timer, LIST_MS);
    ask_go(a, path);
}

void agent_sign(struct loop *l, const char *path, const struct agent_key *key, const void *data, size_t n,
                struct op **slot, agent_signed_fn done, void *ctx)
{
    struct ask *a = ask_begin(l, slot, 1 + 4 + key->n + 4 + n + 4);

    a->signed_ = done;
    a->ctx = ctx;
    wire_add_byte(&a->out, AGENT_SIGN_REQUEST);
    wire_add_string(&a->out, key->blob, key->n);
    wire_add_string(&a->out, data, n);
    wire_add_u32(&a->out, AGENT_RSA_SHA2_256);
    ask_go(a, path);
}
