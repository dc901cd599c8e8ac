/* A way to a server that is no TCP connection from here, as a line of ssh_config(5):
 *     ProxyJump ops@bastion.example:2222
 *     ProxyCommand nc -X 5 -x 127.0.0.1:1080 %h %p
 * Both end in a command that speaks for the server on its standard input and output. */
#pragma once

#include <stdint.h>

#define SSH_PROXY_BYTES_MAX 4096

/* Makes that line. option: "ProxyJump", whose value is [USER@]HOST[:PORT][,…] with IPv6 in brackets, or "ProxyCommand", whose value is
 * a command for a shell with %h %n (the host), %p (the port), %r (the user) and %%. *ret is "" for the value none: no proxy, whatever
 * there was. 0, -ENOMEM, or -EINVAL: *ret_why (may be NULL) says what is wrong, caller frees. */
int ssh_proxy_read(const char *option, const char *value, char **ret, char **ret_why);

/* What /bin/sh -c is to run for that line. A jump is ssh's own -W, which asks nobody (BatchMode): its keys and its known_hosts are
 * those of the user who runs it. The host, the port and the user are words of the command and never more than that: those that would
 * mean something to a shell, or look like an option, are refused. As above. */
int ssh_proxy_command(const char *proxy, const char *host, uint16_t port, const char *user, char **ret, char **ret_why);

/* What may be shown to everybody: the hosts of a jump; of a command, which may hold a password, only that there is one. */
const char *ssh_proxy_via(const char *proxy);
/* The value of that line, and its option: a pointer into it, "ProxyJump" or "ProxyCommand". */
const char *ssh_proxy_value(const char *proxy);
const char *ssh_proxy_option(const char *proxy);
