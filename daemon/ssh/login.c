/* From the TCP connection to the login: a table of steps, run until one waits for bytes.
 *
 * libssh2 cannot show a partial success: with two factors the first correct one looks refused (-19). So after
 * each failure the server is asked anew what it offers, and the next way not tried yet goes on; only when
 * none is left was the login refused. Asking costs a round trip and is not counted by sshd as a try. With a
 * key of our own on the box it is skipped.
 *
 * Where that key alone let us in the last time, the first dial goes out behind the signature. Before the login
 * a server answers no such message (RFC 4252, 6), so a refusal after all is then the end of the connection. */
#include <errno.h>

#include "base/clock.h"
#include "base/timer.h"
#include "ssh/conn_private.h"

static const struct {
    const char *name, *method; /* as people read it; as servers list it */
} ways[LOGIN_WAYS] = {
    [LOGIN_OWN_KEY] = {"own key", "publickey"},
    [LOGIN_KEY] = {"key", "publickey"},
    [LOGIN_AGENT] = {"agent", "publickey"},
    [LOGIN_PASSWORD] = {"password", "password"},
    [LOGIN_KEYBOARD] = {"keyboard-interactive", "keyboard-interactive"},
};

/* A step: 0 go on, -EAGAIN wait for bytes, other < 0: over, the connection failed or is gone. */
static int login_handshake(struct ssh_conn *c)
{
    const char *banner;
    int r = libssh2_session_handshake(c->ssh, c->fd);

    if (r == LIBSSH2_ERROR_EAGAIN)
        return -EAGAIN;
    banner = libssh2_session_banner_get(c->ssh);
    if (banner && !c->banner)
        c->banner = xstrdup(banner);
    if (r < 0) {
        conn_break(c, r, "the SSH handshake");
        return -EIO;
    }
    buf_done(&c->overheard);
    c->step = CONN_HOST_KEY;
    return 0;
}

static int login_host_key(struct ssh_conn *c)
{
    size_t n = 0;
    int type = 0;
    const char *blob = libssh2_session_hostkey(c->ssh, &n, &type);
    struct host_key shown;
    struct fault f = {.kind = FAULT_DENIED, .text = "the host key was refused"};

    if (!blob || host_key_read(&shown, blob, n) < 0) {
        conn_fail(c, FAULT_INVALID, "protocol", "%s shows a host key that is none", c->name);
        return -EBADMSG;
    }
    if (c->events.host_key(c->ctx, &shown, &f) != 0 && !c->gone)
        conn_fail(c, f.kind, *f.code ? f.code : "host_key", "%s", f.text);
    if (c->gone || c->failed)
        return -EACCES;
    c->events.secrets(c->ctx, &c->login.secrets);
    if (c->gone) {
        login_forget(c);
        return -ECANCELED;
    }
    c->step = CONN_CHOOSE;
    return 0;
}

/* Whether a word is in a list with commas. */
static bool list_has(const char *list, const char *word)
{
    size_t n = strlen(word);

    for (const char *p = list; p; p = strchr(p, ',') ? strchr(p, ',') + 1 : NULL)
        if (strncmp(p, word, n) == 0 && (p[n] == ',' || p[n] == '\0'))
            return true;
    return false;
}

/* Looks at the key once, before it goes anywhere. */
static bool key_is_usable(struct ssh_conn *c)
{
    int r = key_check(c->login.secrets.key, &c->login.trouble);

    c->login.is_encrypted = r == -ENOKEY;
    if (r < 0 && r != -ENOKEY)
        return false;
    c->login.wants_passphrase = c->login.is_encrypted && !c->login.secrets.passphrase;
    return !c->login.wants_passphrase;
}

static bool way_is_open(struct ssh_conn *c, enum login_way way)
{
    const struct ssh_secrets *s = &c->login.secrets;

    switch (way) {
    case LOGIN_OWN_KEY: return s->own_key != NULL;
    case LOGIN_KEY: return s->key && key_is_usable(c);
    case LOGIN_AGENT: return s->agent != NULL;
    case LOGIN_PASSWORD:
    case LOGIN_KEYBOARD: return s->password != NULL;
    case LOGIN_WAYS: break;
    }
    return false;
}

static void add_tried(const struct login *g, char *out, size_t size)
{
    size_t n = 0;

    snprintf(out, size, "nothing");
    for (unsigned way = 0; way < LOGIN_WAYS; way++)
        if (g->sent & 1u << way)
            n += (size_t)snprintf(out + n, size - n, "%s%s", n ? ", " : "", ways[way].name);
}

static void login_refused(struct ssh_conn *c)
{
    struct login *g = &c->login;
    const char *agent = login_agent_trouble(g->agent);
    char tried[80], trouble[240] = "";

    if (g->trouble)
        snprintf(trouble, sizeof(trouble), " (the key is not usable: %s)", g->trouble);
    else if (agent)
        snprintf(trouble, sizeof(trouble), " (%s)", agent);
    add_tried(g, tried, sizeof(tried));
    if (g->wants_passphrase)
        conn_fail(c, FAULT_DENIED, "passphrase_needed",
                  "the key for %s is encrypted and its passphrase is %s", c->name,
                  g->secrets.passphrase ? "wrong" : "missing");
    else
        conn_fail(c, FAULT_DENIED, "login_refused", "%s refuses the login of %s: it offers %s; tried: %s%s",
                  c->name, c->user, g->offers && *g->offers ? g->offers : "nothing more", tried, trouble);
}

/* The connection ended while we tried to log in. A server that has seen enough tries ends it too, and to come
 * back at once with the same secrets would only be counted again. (sshd's words, sshd(8) MaxAuthTries: "Too
 * many authentication failures".) */
static void login_cut(struct ssh_conn *c, int ssh_error)
{
    if (strstr(c->last_words, "authentication failures") ||
        (c->login.tried & c->login.sent && c->receive_error == 0))
        login_refused(c);
    else
        conn_break(c, ssh_error, "the login");
}

static int login_is_up(struct ssh_conn *c, const char *method)
{
    timer_disarm(c->deadline);
    c->turn = turn_free(c->turn);
    login_forget(c);
    c->step = CONN_UP;
    c->up_due = clock_now_ms();
    openings_catch_up(c);
    c->events.up(c->ctx, method);
    return 0;
}

static int login_take(struct ssh_conn *c, enum login_way way)
{
    c->login.signer = signer_free(c->login.signer);
    c->login.came_back = c->login.is_signed = false;
    c->login.way = way;
    c->step = CONN_TRY;
    return 0;
}

static int login_choose(struct ssh_conn *c)
{
    struct login *g = &c->login;
    const char *offers;

    if (g->tried == 0 && way_is_open(c, LOGIN_OWN_KEY))
        return login_take(c, LOGIN_OWN_KEY);
    offers = libssh2_userauth_list(c->ssh, c->user, (unsigned)strlen(c->user));
    if (!offers) {
        int r = libssh2_session_last_errno(c->ssh);

        if (libssh2_userauth_authenticated(c->ssh))
            return login_is_up(c, "none");
        if (r == LIBSSH2_ERROR_EAGAIN)
            return -EAGAIN;
        login_cut(c, r);
        return -EIO;
    }
    free(g->offers);
    g->offers = xstrdup(offers);
    for (enum login_way way = 0; way < LOGIN_WAYS; way++) {
        if (g->tried & 1u << way || !list_has(offers, ways[way].method))
            continue;
        if (way_is_open(c, way))
            return login_take(c, way);
        g->tried |= 1u << way;
    }
    login_refused(c);
    return -EACCES;
}

static LIBSSH2_USERAUTH_PUBLICKEY_SIGN_FUNC(sign_login)
{
    struct ssh_conn *c = *abstract;
    struct buf signature;
    int r;

    (void)session;
    buf_init(&signature, 4096);
    r = signer_sign(c->login.signer, data, data_len, &signature);
    *sig = r == 0 ? conn_alloc(signature.len, abstract) : NULL;
    *sig_len = signature.len;
    if (*sig)
        memcpy(*sig, signature.data, signature.len);
    c->login.is_signed = *sig != NULL;
    buf_done(&signature);
    return *sig ? 0 : LIBSSH2_ERROR_PUBLICKEY_UNVERIFIED;
}

static int send_signed(struct ssh_conn *c)
{
    const struct buf *blob = signer_blob(c->login.signer);
    void *ctx = c;

    return libssh2_userauth_publickey(c->ssh, c->user, (const unsigned char *)blob->data, blob->len,
                                      sign_login, &ctx);
}

static int send_key(struct ssh_conn *c, const char *key)
{
    if (!c->login.signer && signer_new(key, NULL, &c->login.signer) < 0)
        return LIBSSH2_ERROR_FILE;
    return send_signed(c);
}

/* A key in OpenSSH's own format is opened by libssh2, which also sends it. */
static int send_by_library(struct ssh_conn *c)
{
    const struct ssh_secrets *s = &c->login.secrets;

    if (key_is_rsa(s->key) && !ssh_library_has_rsa()) {
        c->login.trouble = "an RSA key with a passphrase needs libssh2 1.11, or another format: ssh-keygen "
                           "-p -m PEM -f FILE";
        return LIBSSH2_ERROR_METHOD_NOT_SUPPORTED;
    }
    return libssh2_userauth_publickey_frommemory(c->ssh, c->user, strlen(c->user), NULL, 0, s->key,
                                                 strlen(s->key), s->passphrase);
}

static void lent_run(uv_work_t *work)
{
    struct ssh_conn *c = CONTAINER_OF(work, struct ssh_conn, login.work);
    struct login *g = &c->login;
    int r = signer_new(g->secrets.key, g->secrets.passphrase, &g->signer);

    g->result = r == -EOPNOTSUPP ? send_by_library(c) : r < 0 ? LIBSSH2_ERROR_FILE : 0;
}

static void lent_back(uv_work_t *work, int status)
{
    struct ssh_conn *c = CONTAINER_OF(work, struct ssh_conn, login.work);

    (void)status;
    c->lent = false;
    c->login.came_back = true;
    if (c->gone)
        conn_destroy(c);
    else
        conn_dirty(c);
}

/* Opening an encrypted key takes 200 ms of computing, so a thread does it. Until it comes back nobody else
 * touches the session, its buffers or the secrets. */
static int send_encrypted_key(struct ssh_conn *c)
{
    struct login *g = &c->login;

    if (g->signer)
        return send_signed(c);
    if (g->came_back) {
        g->came_back = false;
        return g->result;
    }
    if (uv_queue_work(loop_uv(c->loop), &g->work, lent_run, lent_back) == 0)
        c->lent = true;
    return LIBSSH2_ERROR_EAGAIN;
}

/* Servers that allow no plain password mostly ask for one here. Only what would not be shown while typing is
 * answered with it. */
static LIBSSH2_USERAUTH_KBDINT_RESPONSE_FUNC(answer_prompts)
{
    const struct ssh_conn *c = *abstract;
    const char *password = c->login.secrets.password;

    (void)name;
    (void)name_len;
    (void)instruction;
    (void)instruction_len;
    for (int i = 0; i < num_prompts; i++) {
        size_t n = prompts[i].echo ? 0 : strlen(password);

        responses[i].text = conn_alloc(n + 1, abstract);
        responses[i].length = responses[i].text ? (unsigned)n : 0;
        if (responses[i].text)
            memcpy(responses[i].text, password, n);
    }
}

static int login_send(struct ssh_conn *c)
{
    const struct ssh_secrets *s = &c->login.secrets;
    unsigned n_user = (unsigned)strlen(c->user);

    switch (c->login.way) {
    case LOGIN_OWN_KEY: return send_key(c, s->own_key);
    case LOGIN_KEY: return c->login.is_encrypted ? send_encrypted_key(c) : send_key(c, s->key);
    case LOGIN_AGENT: return login_send_by_agent(c);
    case LOGIN_PASSWORD:
        return libssh2_userauth_password_ex(c->ssh, c->user, n_user, s->password,
                                            (unsigned)strlen(s->password), NULL);
    case LOGIN_KEYBOARD:
        return libssh2_userauth_keyboard_interactive_ex(c->ssh, c->user, n_user, answer_prompts);
    case LOGIN_WAYS: break;
    }
    return LIBSSH2_ERROR_METHOD_NONE;
}

/* Anything but these about a key means that it could not even be read: the server has not seen it. */
static bool was_refused(int ssh_error)
{
    return ssh_error == LIBSSH2_ERROR_AUTHENTICATION_FAILED ||
           ssh_error == LIBSSH2_ERROR_PUBLICKEY_UNVERIFIED;
}

static void login_go_ahead(struct ssh_conn *c)
{
    struct login *g = &c->login;

    if (!c->own_key_holds || g->way != LOGIN_OWN_KEY || !g->is_signed)
        return;
    if (!g->is_told && c->events.soon) {
        g->is_told = true;
        c->events.soon(c->ctx);
    }
    if (!c->gone)
        openings_go_ahead(c);
}

/* A connection that was cut while we waited for the verdict shows as a refusal in libssh2 1.10. */
static int login_try(struct ssh_conn *c)
{
    struct login *g = &c->login;
    int r = login_send(c);

    if (r == LIBSSH2_ERROR_EAGAIN) {
        login_go_ahead(c);
        return -EAGAIN;
    }
    if (r == 0)
        return login_is_up(c, ways[g->way].name);
    if (conn_is_lost_by(r) || (c->eof && c->in.len == 0)) {
        g->sent |= 1u << g->way;
        login_cut(c, r);
        return -EIO;
    }
    if (openings_are_ahead(c)) {
        conn_fail(c, FAULT_TRANSIENT, "lost", "%s does not let in the key that it let in before", c->name);
        return -EACCES;
    }
    if (g->way == LOGIN_AGENT && r == LIBSSH2_ERROR_METHOD_NONE) {
        ; /* it had nothing to offer */
    } else if (g->way == LOGIN_KEY && !was_refused(r)) {
        g->wants_passphrase = g->is_encrypted && !g->trouble;
        if (!g->is_encrypted)
            g->trouble = "it is damaged, or of a kind that is not known here";
    } else {
        g->sent |= 1u << g->way;
    }
    g->tried |= 1u << g->way;
    c->step = CONN_CHOOSE;
    return 0;
}

void login_run(struct ssh_conn *c)
{
    static int (*const steps[])(struct ssh_conn * c) = {
        [CONN_HANDSHAKE] = login_handshake,
        [CONN_HOST_KEY] = login_host_key,
        [CONN_CHOOSE] = login_choose,
        [CONN_TRY] = login_try,
    };

    while (!c->gone && c->step > CONN_CONNECT && c->step < CONN_UP && steps[c->step](c) == 0)
        ;
}
