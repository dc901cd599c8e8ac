/* What a login may use, and our own key: made once for the daemon, put on each machine after the first login
 * by other means, so that a password is needed once. The line is found again by the key itself and marked
 * with a name that tells nothing of this host. The scripts run on whatever sh, grep and tail the machine has
 * (dash, busybox ash). */
#include "session/session_private.h"

#include <ctype.h>
#include <errno.h>

#include "base/log.h"
#include "base/op.h"
#include "proto/text.h"
#include "store/secrets.h"

/* Appends to a file that may end without a newline. What is there already stays as it is, also with options
 * in front. */
static const char install_script[] =
    "umask 077\n"
    "[ -n \"$HOME\" ] || exit 1\n"
    "d=$HOME/.ssh f=$HOME/.ssh/authorized_keys\n"
    "mkdir -p \"$d\" || exit 1\n"
    "if [ -f \"$f\" ] && grep -qF \"$key\" \"$f\"; then echo there; exit 0; fi\n"
    "nl=\n"
    "if [ -s \"$f\" ] && [ -n \"$(tail -c 1 \"$f\")\" ]; then nl='\n'; fi\n"
    "printf '%s%s %s\\n' \"$nl\" \"$key\" \"$mark\" >>\"$f\" || exit 1\n"
    "grep -qF \"$key\" \"$f\" && echo added\n";

/* Only our own line, whole: one that was given options is somebody else's decision. Moved into place, because
 * a full disk must not cost the other keys; a link stays a link. */
static const char remove_script[] = "umask 077\n"
                                    "f=$HOME/.ssh/authorized_keys\n"
                                    "[ -f \"$f\" ] || exit 0\n"
                                    "grep -qxF \"$key $mark\" \"$f\" || exit 0\n"
                                    "f=$(readlink -f \"$f\") || exit 1\n"
                                    "t=$f.llmhost.$$\n"
                                    "cp -p \"$f\" \"$t\" || { rm -f \"$t\"; exit 1; }\n"
                                    "grep -vxF \"$key $mark\" \"$f\" >\"$t\"\n"
                                    "[ $? -le 1 ] && mv -f \"$t\" \"$f\" || { rm -f \"$t\"; exit 1; }\n"
                                    "echo removed\n";

/* The daemon's own key, made at first need. NULL when there is none: a login by other means goes on without.
 */
static char *own_key(struct session *s, bool make)
{
    _cleanup_secret_ char *private_key = NULL;
    _cleanup_free_ char *public_key = NULL;
    int r = secrets_get(s->secrets, "daemon", "key", &private_key);

    if (r != -ENOENT || !make)
        return r < 0 ? NULL : TAKE_PTR(private_key);
    r = key_generate(&private_key, &public_key);
    if (r >= 0)
        r = secrets_put(s->secrets, "daemon", "key", private_key);
    if (r < 0) {
        log_line(LOG_LEVEL_WARNING, LOG_SESSION, s->name, "no key of our own: %s", strerror(-r));
        return NULL;
    }
    return TAKE_PTR(private_key);
}

/* One that is there and cannot be read would otherwise look like a refusal by the server. */
static void read_credential(struct session *s, const char *kind, const char *instead, char **ret)
{
    if (instead) {
        *ret = xstrdup(instead);
        return;
    }
    int r = secrets_get(s->secrets, s->name, kind, ret);

    if (r < 0 && r != -ENOENT)
        log_line(LOG_LEVEL_WARNING, LOG_SESSION, s->name, "cannot read its %s: %s", kind, strerror(-r));
}

void session_credentials(struct session *s, struct ssh_secrets *ret)
{
    ret->own_key = own_key(s, s->install_key);
    read_credential(s, "key", s->instead.key, &ret->key);
    read_credential(s, "passphrase", s->instead.passphrase, &ret->passphrase);
    read_credential(s, "password", s->instead.password, &ret->password);
    ret->agent = xstrdup(s->agent);
}

/* "llmhost-" and eight letters of the key's own fingerprint. */
static int key_mark(const char *public_key, char *ret_mark, size_t n_mark)
{
    struct host_key *k = xnew(struct host_key);
    char fingerprint[FINGERPRINT_BYTES], *out = ret_mark + strlen("llmhost-");
    const char *blob = strchr(public_key, ' ');
    struct buf raw;
    int r;

    buf_init(&raw, HOST_KEY_BYTES_MAX);
    r = blob ? base64_decode(&raw, blob + 1, strcspn(blob + 1, " \n")) : -EBADMSG;
    if (r >= 0)
        r = host_key_read(k, raw.data, raw.len);
    if (r >= 0) {
        snprintf(ret_mark, n_mark, "llmhost-");
        for (const char *p = host_key_fingerprint(k, fingerprint) + strlen("SHA256:");
             *p && out < ret_mark + n_mark - 1; p++)
            if (isalnum((unsigned char)*p))
                *out++ = *p;
        *out = '\0';
    }
    buf_done(&raw);
    free(k);
    return r;
}

/* The script with the key and its mark in front; caller frees. */
static int key_script(struct session *s, const char *body, char **ret)
{
    _cleanup_secret_ char *private_key = own_key(s, false);
    _cleanup_free_ char *public_key = NULL;
    char mark[sizeof("llmhost-") + 8];
    int r = private_key ? key_public(private_key, &public_key) : -ENOENT;

    if (r >= 0)
        r = key_mark(public_key, mark, sizeof(mark));
    if (r < 0)
        return r;
    public_key[strcspn(public_key, "\n")] = '\0';
    *ret = xasprintf("key='%s' mark='%s'\n%s", public_key, mark, body);
    return 0;
}

static void session_on_installed(void *ctx, struct run_result *result, const struct fault *f)
{
    struct session *s = ctx;

    if (f)
        log_line(LOG_LEVEL_WARNING, LOG_SESSION, s->name, "own key not installed: %s", f->text);
    else if (result->status != 0)
        log_line(LOG_LEVEL_WARNING, LOG_SESSION, s->name, "own key not installed: status %d, %s",
                 result->status, buf_text(&result->err));
    else if (streq(buf_text(&result->out), "added\n"))
        log_line(LOG_LEVEL_NOTICE, LOG_SESSION, s->name, "own key added to ~/.ssh/authorized_keys of %s",
                 s->user);
}

void session_key_install(struct session *s)
{
    _cleanup_free_ char *script = NULL;

    if (!s->install_key || streq(s->method, "own key") || streq(s->method, "none") ||
        key_script(s, install_script, &script) < 0)
        return;
    session_run(s, &(struct run_spec){.script = script}, &s->key_op, session_on_installed, s);
}

struct forget {
    struct op op;
    struct op *inner;
    struct session *session;
    op_done_fn done;
    void *ctx;
};

static void forget_cancel(struct op *op)
{
    struct forget *fg = CONTAINER_OF(op, struct forget, op);

    op_cancel(&fg->inner);
    free(fg);
}

static void forget_on_ran(void *ctx, struct run_result *result, const struct fault *f)
{
    _cleanup_free_ struct forget *fg = ctx;
    struct fault failed;

    if (!f && result->status != 0) {
        fault_set(&failed, FAULT_INVALID, -EIO, "own key not removed: status %d, %s", result->status,
                  buf_text(&result->err));
        f = &failed;
    }
    if (!f)
        log_line(LOG_LEVEL_NOTICE, LOG_SESSION, fg->session->name,
                 "own key removed from ~/.ssh/authorized_keys");
    op_end(&fg->op);
    fg->done(fg->ctx, f);
}

void session_forget_key(struct session *s, struct op **slot, op_done_fn done, void *ctx)
{
    _cleanup_free_ char *script = NULL;

    s->install_key = false;
    if (key_script(s, remove_script, &script) < 0) {
        op_finish_later(s->loop, slot, NULL, done, ctx); /* without a key of our own there is no line */
        return;
    }
    struct forget *fg = xnew(struct forget);

    op_begin(&fg->op, slot, forget_cancel);
    fg->session = s;
    fg->done = done;
    fg->ctx = ctx;
    session_run(s, &(struct run_spec){.script = script}, &fg->inner, forget_on_ran, fg);
}
