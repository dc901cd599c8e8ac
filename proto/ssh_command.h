/* A pasted ssh command line, as rental companies print it:
 *     ssh -p 46464 root@connect.nmb1.seetacloud.com
 *     ssh -CNg -L 6006:127.0.0.1:6006 root@connect.nmb1.seetacloud.com -p 46464
 * Both programs read it: the client to find the key file of -i, the daemon for all the rest. No file is opened here. */
#pragma once

#include <stdint.h>

#define SSH_COMMAND_BYTES_MAX 4096
#define SSH_FORWARDS_MAX      16

struct ssh_forward {
    char *listen_ip;        /* "127.0.0.1" when not given */
    uint16_t listen_port;
    char *host;             /* as the far end resolves it */
    uint16_t port;
};

struct ssh_command {
    char *user;             /* NULL: not given */
    char *host;             /* name, IPv4 or IPv6 address without brackets */
    uint16_t port;          /* 22 when not given */
    char *identity_file;    /* -i, NULL: not given */
    char *proxy;            /* -J or -o ProxyCommand, as of ssh_proxy.h; "": none, by name; NULL: not given */
    struct ssh_forward forwards[SSH_FORWARDS_MAX];      /* -L */
    unsigned n_forwards;
    char *left_out;         /* options that mean nothing here ("-g -N -o LogLevel"), NULL: none */
};

/* The word ssh in front may be missing; user@host alone will do. Quotes and backslashes as in a shell; nothing is expanded.
 * 0, or -EINVAL: *ret_why names the word and what is wrong with it, caller frees. -o takes the
 * options that say where to and as whom, and leaves out those that do not matter here. All others, which would change where or how
 * we connect (-F, -D, -R, -o Ciphers, …), are errors that name the option: not accepted and ignored. Control characters and what
 * only a shell understands (; & | …) are errors too. -ENOMEM. ret_why may be NULL; *ret stays untouched on failure. */
int ssh_command_parse(const char *text, struct ssh_command *ret, char **ret_why);
void ssh_command_done(struct ssh_command *c);

/* [LISTEN_IP:]PORT[:HOST:PORT]; PORT alone means the same port on the far end's 127.0.0.1. Brackets around IPv6.
 * localhost is 127.0.0.1 and * is 0.0.0.0 to listen on; names are not resolved. */
int ssh_forward_parse(const char *text, struct ssh_forward *ret, char **ret_why);
void ssh_forward_done(struct ssh_forward *f);
