/* A host that is simply there: whoever gives us an ssh command line has it. */
#include <errno.h>

#include "proto/buf.h"
#include "proto/mem.h"
#include "proto/ssh_command.h"
#include "proto/ssh_proxy.h"
#include "proto/text.h"
#include "provider/provider.h"
#include "store/store.h"

extern const struct provider_ops provider_ssh;

/* What the pasted line would have done besides logging in. */
static void note_left_out(const struct ssh_command *c, struct buf *notes)
{
    for (unsigned i = 0; i < c->n_forwards; i++) {
        const struct ssh_forward *f = &c->forwards[i];
        char listen[64], target[300];

        buf_addf(notes,
                 "the forward of the pasted line was not made; to have it: llmhostctl forward add INSTANCE "
                 "%s:%s\n",
                 host_port_format(listen, sizeof listen, f->listen_ip, f->listen_port),
                 host_port_format(target, sizeof target, f->host, f->port));
    }
    if (c->left_out)
        buf_addf(notes, "not needed here and left out: %s\n", c->left_out);
    if (c->left_out && (strstr(c->left_out, "HostKeyChecking") || strstr(c->left_out, "KnownHosts")))
        buf_addf(notes, "the first host key that is shown is pinned, and another one refused\n");
}

static int refuse_proxy(const char *option, char *why, char **ret_why)
{
    *ret_why = xasprintf("%s: %s", option, why ? why : "no memory");
    free(why);
    return -EINVAL;
}

/* The way, where it is no TCP connection. Tried out: what cannot be made into a command is refused now. */
static int read_proxy(const struct provider_wish *w, const struct ssh_command *c, struct instance_record *ret,
                      char **ret_why)
{
    const char *given = w->jump ? w->jump : w->proxy_command;
    _cleanup_free_ char *proxy = xstrdup(w->command ? c->proxy : w->proxy), *command = NULL;
    char *why = NULL;

    if (w->jump && w->proxy_command) {
        *ret_why = xasprintf("one way to the host is enough: a jump or a proxy command");
        return -EINVAL;
    }
    if (given) {
        free(TAKE_PTR(proxy));
        if (ssh_proxy_read(w->jump ? "ProxyJump" : "ProxyCommand", given, &proxy, &why) < 0)
            return refuse_proxy(w->jump ? "the jump" : "the proxy command", why, ret_why);
    }
    if (!proxy || !*proxy)
        return 0;
    if (ssh_proxy_command(proxy, ret->host, ret->port, ret->user, &command, &why) < 0)
        return refuse_proxy(ssh_proxy_option(proxy), why, ret_why);
    ret->proxy = TAKE_PTR(proxy);
    return 0;
}

static int ssh_read_wish(const struct provider_wish *w, struct instance_record *ret, struct buf *notes,
                         char **ret_why)
{
    struct ssh_command c = {};
    int r = w->command ? ssh_command_parse(w->command, &c, ret_why) : 0;

    if (r < 0)
        return r;
    const char *host = w->host ? w->host : c.host, *user = w->user ? w->user : c.user;

    if (!host || !*host) {
        *ret_why = xasprintf("no host is named; paste the ssh command, or give --host");
        r = -EINVAL;
    } else if (!user || !*user) {
        *ret_why = xasprintf("no user is named; write root@%s, or give --user", host);
        r = -EINVAL;
    } else {
        ret->host = xstrdup(host);
        ret->user = xstrdup(user);
        ret->port = w->port ? w->port : c.port ? c.port : 22;
        note_left_out(&c, notes);
        r = read_proxy(w, &c, ret, ret_why);
    }
    ssh_command_done(&c);
    return r;
}

const struct provider_ops provider_ssh = {.name = "ssh", .over_ssh = true, .read_wish = ssh_read_wish};
