/* Any text as a pasted ssh command line, as a forward, as a way to a host, and as the host that is handed to
 * such a way. What is refused has a reason. What is accepted has a host and ports, and written out again,
 * every word quoted, it means the same. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "proto/buf.h"
#include "proto/mem.h"
#include "proto/ssh_command.h"
#include "proto/ssh_proxy.h"
#include "proto/text.h"

static bool same(const char *a, const char *b)
{
    return a && b ? streq(a, b) : a == b;
}

static bool same_forward(const struct ssh_forward *a, const struct ssh_forward *b)
{
    return same(a->listen_ip, b->listen_ip) && same(a->host, b->host) && a->listen_port == b->listen_port &&
           a->port == b->port;
}

static void forward_write(const struct ssh_forward *f, struct buf *out)
{
    char listen[400], target[400];

    host_port_format(listen, sizeof listen, f->listen_ip, f->listen_port);
    host_port_format(target, sizeof target, f->host, f->port);
    buf_addf(out, "%s:%s", listen, target);
}

static void check_forward(const struct ssh_forward *f)
{
    _cleanup_free_ char *why = NULL;
    struct ssh_forward again = {0};
    struct buf text;

    if (!f->host || !f->listen_ip || f->port == 0 || f->listen_port == 0)
        abort();
    buf_init(&text, SSH_COMMAND_BYTES_MAX);
    forward_write(f, &text);
    if (ssh_forward_parse(buf_text(&text), &again, &why) < 0 || !same_forward(f, &again))
        abort();
    ssh_forward_done(&again);
    buf_done(&text);
}

/* -o NAME has lost its value. */
static void left_out_write(const char *left_out, struct buf *out)
{
    for (const char *word = left_out; word && *word;) {
        size_t n = strcspn(word, " ");

        buf_addf(out, "%.*s%s ", (int)n, word, *word == '-' ? "" : "=x");
        word += n + (word[n] == ' ');
    }
}

static void command_write(const struct ssh_command *c, struct buf *out)
{
    buf_addf(out, "ssh -p %u ", c->port);
    left_out_write(c->left_out, out);
    if (c->proxy) {
        buf_add_text(out, "-o ");
        shell_quote(out, *c->proxy ? c->proxy : "ProxyCommand none");
        buf_add_text(out, " ");
    }
    if (c->user) {
        buf_add_text(out, "-l ");
        shell_quote(out, c->user);
    }
    if (c->identity_file) {
        buf_add_text(out, " -i ");
        shell_quote(out, c->identity_file);
    }
    for (unsigned i = 0; i < c->n_forwards; i++) {
        buf_add_text(out, " -L");
        forward_write(&c->forwards[i], out);
    }
    buf_add_text(out, " -- ");
    shell_quote(out, c->host);
}

/* Whatever the host is: a word, or nothing. The longest may become too long. */
static void check_proxy(const char *proxy, const char *host)
{
    _cleanup_free_ char *command = NULL, *why = NULL;
    int r = ssh_proxy_command(proxy, host, 22, "root", &command, &why);

    if (r < 0 ? !why || command : why || !command)
        abort();
    if (r == 0 && strncmp(proxy, "ProxyCommand %h", 16) == 0 && strpbrk(command, " ;&|<>()$`'\"\\\n"))
        abort();
}

static void check_proxies(const char *text)
{
    static const char *const options[] = {"ProxyJump", "ProxyCommand"};

    for (size_t i = 0; i < ELEMENTS(options); i++) {
        _cleanup_free_ char *proxy = NULL, *why = NULL;
        int r = ssh_proxy_read(options[i], text, &proxy, &why);

        if (r < 0 ? !why || proxy : why || !proxy)
            abort();
        if (r == 0 && *proxy)
            check_proxy(proxy, "box");
    }
    check_proxy("ProxyCommand %h", text);
    check_proxy("ProxyJump bastion", text);
}

static void check_command(const struct ssh_command *c)
{
    _cleanup_free_ char *why = NULL;
    struct ssh_command again = {0};
    struct buf text;

    if (!c->host || c->port == 0 || c->n_forwards > SSH_FORWARDS_MAX)
        abort();
    for (unsigned i = 0; i < c->n_forwards; i++)
        check_forward(&c->forwards[i]);
    if (c->proxy && *c->proxy)
        check_proxy(c->proxy, c->host);
    buf_init(&text, 8 * SSH_COMMAND_BYTES_MAX);
    command_write(c, &text);
    if (text.len <= SSH_COMMAND_BYTES_MAX) { /* short forwards grow when they are written in full */
        if (ssh_command_parse(buf_text(&text), &again, &why) < 0)
            abort();
        if (!same(c->host, again.host) || !same(c->user, again.user) || c->port != again.port ||
            !same(c->identity_file, again.identity_file) || !same(c->left_out, again.left_out) ||
            !same(c->proxy, again.proxy) || c->n_forwards != again.n_forwards)
            abort();
        for (unsigned i = 0; i < c->n_forwards; i++)
            if (!same_forward(&c->forwards[i], &again.forwards[i]))
                abort();
        ssh_command_done(&again);
    }
    buf_done(&text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    _cleanup_free_ char *text = strndup((const char *)data, n), *why = NULL, *forward_why = NULL;
    struct ssh_command command = {0};
    struct ssh_forward forward = {0};

    if (!text)
        abort();
    if (ssh_command_parse(text, &command, &why) == 0)
        check_command(&command);
    else if (!why)
        abort();
    if (ssh_forward_parse(text, &forward, &forward_why) == 0)
        check_forward(&forward);
    else if (!forward_why)
        abort();
    check_proxies(text);
    ssh_command_done(&command);
    ssh_forward_done(&forward);
    return 0;
}
