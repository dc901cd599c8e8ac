/* Logging in with the keys of an ssh-agent, one after the other. Only some are offered: each one counts as a
 * try with sshd, whose usual limit is six (sshd_config(5), MaxAuthTries). */
#include <errno.h>

#include "base/timer.h"
#include "ssh/agent.h"
#include "ssh/conn_private.h"
#include "ssh/wire.h"

#define OFFERED_MAX 4
/* A key may ask its owner, or want a touch; sshd gives two minutes for the whole login (LoginGraceTime). */
#define SIGN_MS 60000
/* An agent that needs nobody answers sooner. */
#define PATIENCE_MS 1000

/* One key, as the agent knows it and as the server shall see it. */
struct offer {
    struct buf agents, servers;
    char comment[64];
};

struct login_agent {
    struct ssh_conn *conn;
    struct op *asking;
    struct timer *patience;
    bool is_listed, is_signed;
    struct offer offers[OFFERED_MAX];
    unsigned n_offers, at;
    struct buf signature;
    struct fault fault; /* of the agent; FAULT_NONE: none */
};

void login_agent_free(struct login_agent *a)
{
    if (!a)
        return;
    op_cancel(&a->asking);
    timer_free(a->patience);
    for (unsigned i = 0; i < a->n_offers; i++) {
        buf_done(&a->offers[i].agents);
        buf_done(&a->offers[i].servers);
    }
    buf_done(&a->signature);
    free(a);
}

/* Certificates would need more than libssh2 can say for us, and so do tokens before 1.11. */
static bool can_be_offered(const struct agent_key *k, struct wire *ret_type, struct wire *ret_rest)
{
    static const char *const types[] = {"ssh-ed25519", "ecdsa-sha2-nistp256", "ecdsa-sha2-nistp384",
                                        "ecdsa-sha2-nistp521", "ssh-rsa"};

    *ret_rest = (struct wire){k->blob, k->n};
    if (wire_read_string(ret_rest, ret_type) < 0)
        return false;
    for (size_t i = 0; i < ELEMENTS(types); i++)
        if (wire_is(ret_type, types[i]))
            return true;
    return agent_is_token(ret_type) && ssh_library_has_tokens();
}

static void add_offer(struct login_agent *a, const struct agent_key *k)
{
    struct offer *o = &a->offers[a->n_offers];
    struct wire type, rest;

    if (a->n_offers == OFFERED_MAX || !can_be_offered(k, &type, &rest))
        return;
    buf_init(&o->agents, k->n);
    buf_init(&o->servers, k->n + 16);
    if (buf_add(&o->agents, k->blob, k->n) < 0)
        abort();
    if (wire_is(&type, "ssh-rsa")) /* the server is told how it will be signed */
        wire_add_text(&o->servers, "rsa-sha2-256");
    else
        wire_add_string(&o->servers, type.at, type.n);
    if (buf_add(&o->servers, rest.at, rest.n) < 0)
        abort();
    snprintf(o->comment, sizeof(o->comment), "%s", k->comment);
    a->n_offers++;
}

static bool has_token(const struct agent_key *keys, unsigned n)
{
    for (unsigned i = 0; i < n; i++) {
        struct wire blob = {keys[i].blob, keys[i].n}, type;

        if (wire_read_string(&blob, &type) == 0 && agent_is_token(&type))
            return true;
    }
    return false;
}

static void on_listed(void *ctx, const struct agent_key *keys, unsigned n, const struct fault *f)
{
    struct login_agent *a = ctx;

    a->is_listed = true;
    if (f)
        a->fault = *f;
    for (unsigned i = 0; i < n; i++)
        add_offer(a, &keys[i]);
    if (!f && !a->n_offers)
        fault_set(&a->fault, FAULT_DENIED, 0, "the ssh-agent %s",
                  !n ? "holds no key"
                  : has_token(keys, n)
                      ? "has keys in tokens (FIDO) alone, and the libssh2 of this host is too old "
                        "for them: it needs 1.11"
                      : "has no key of a kind that can be used here");
    conn_dirty(a->conn);
}

static void on_signed(void *ctx, const uint8_t *signature, size_t n, const struct fault *f)
{
    struct login_agent *a = ctx;

    timer_disarm(a->patience);
    timer_arm(a->conn->deadline, CONN_LOGIN_MS);
    a->is_signed = true;
    if (f)
        a->fault = *f;
    else if (buf_add(&a->signature, signature, n) < 0)
        abort(); /* an answer is shorter */
    conn_dirty(a->conn);
}

static void on_patience(void *ctx)
{
    struct login_agent *a = ctx;

    if (a->conn->events.waits)
        a->conn->events.waits(a->conn->ctx, a->offers[a->at].comment);
}

static void begin_signing(struct login_agent *a, const void *data, size_t n)
{
    const struct offer *o = &a->offers[a->at];
    const struct agent_key key = {(const uint8_t *)o->agents.data, o->agents.len, NULL};

    buf_clear(&a->signature);
    timer_arm(a->conn->deadline, SIGN_MS);
    timer_arm(a->patience, PATIENCE_MS);
    agent_sign(a->conn->loop, a->conn->login.secrets.agent, &key, data, n, &a->asking, on_signed, a);
}

static LIBSSH2_USERAUTH_PUBLICKEY_SIGN_FUNC(sign_by_agent)
{
    struct ssh_conn *c = *abstract;
    struct login_agent *a = c->login.agent;

    (void)session;
    if (!a->is_signed) {
        if (!a->asking)
            begin_signing(a, data, data_len);
        return LIBSSH2_ERROR_EAGAIN;
    }
    *sig = a->signature.len ? conn_alloc(a->signature.len, abstract) : NULL;
    *sig_len = a->signature.len;
    if (!*sig)
        return LIBSSH2_ERROR_PUBLICKEY_UNVERIFIED;
    memcpy(*sig, a->signature.data, a->signature.len);
    return 0;
}

static struct login_agent *agent_begin(struct ssh_conn *c)
{
    struct login_agent *a = xnew(struct login_agent);

    a->conn = c;
    buf_init(&a->signature, 256 << 10);
    a->patience = timer_new(c->loop, on_patience, a);
    agent_list(c->loop, c->login.secrets.agent, &a->asking, on_listed, a);
    return a;
}

/* A key whose signature was judged ends it: with two factors that was the first of them, and a second key is
 * of no use. */
int login_send_by_agent(struct ssh_conn *c)
{
    void *ctx = c;

    if (!c->login.agent)
        c->login.agent = agent_begin(c);
    struct login_agent *a = c->login.agent;

    if (!a->is_listed)
        return LIBSSH2_ERROR_EAGAIN;
    for (; a->at < a->n_offers; a->at++, a->is_signed = false) {
        const struct buf *blob = &a->offers[a->at].servers;
        int r = libssh2_userauth_publickey(c->ssh, c->user, (const unsigned char *)blob->data, blob->len,
                                           sign_by_agent, &ctx);

        if (r != LIBSSH2_ERROR_AUTHENTICATION_FAILED)
            return r;
    }
    return a->n_offers ? LIBSSH2_ERROR_AUTHENTICATION_FAILED : LIBSSH2_ERROR_METHOD_NONE;
}

const char *login_agent_trouble(const struct login_agent *a)
{
    return a && a->fault.kind != FAULT_NONE ? a->fault.text : NULL;
}
