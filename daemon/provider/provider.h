/* Who gives us the machine. A driver is one file and a line in the list in provider.c. Two rent nothing: a host that is simply there (ssh.c), and
 * this very host (local.c). Of one that rents, what it can be asked is rental.h. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

struct buf;
struct instance_record;

/* What somebody asked for; texts may be NULL, port 0. */
struct provider_wish {
    const char *command;            /* a pasted ssh command line */
    const char *host, *user;
    uint16_t port;
    const char *proxy;              /* the way there is, as of proto/ssh_proxy.h; a pasted command says it anew */
    const char *jump, *proxy_command;   /* over both; "none": no way but TCP */
};

struct provider_ops {
    const char *name;               /* as in Instance.provider */
    bool rented;                    /* it costs money while it runs */
    bool over_ssh;                  /* reached through a session; false: this very host */
    /* Judges a wish, no I/O, and fills the address of *ret (host, user, port, proxy; the record owns the texts). notes: lines about what was
     * left out and how to have it. -EINVAL: *ret_why names the word and the reason, caller frees. */
    int (*read_wish)(const struct provider_wish *w, struct instance_record *ret, struct buf *notes, char **ret_why);
};

/* NULL: none such. */
const struct provider_ops *provider_find(const char *name);
/* NULL beyond the last. */
const char *provider_name_at(unsigned i);
