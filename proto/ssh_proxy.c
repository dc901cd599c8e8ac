/* Reading keeps the line as it was written, so that it can be shown again; only when a connection is made it
 * becomes a command. */
#include "proto/ssh_proxy.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proto/buf.h"
#include "proto/mem.h"
#include "proto/ssh_part.h"
#include "proto/text.h"

static const char jump_option[] = "ProxyJump", command_option[] = "ProxyCommand";

/* What may become of one when its tokens are replaced. */
#define COMMAND_BYTES_MAX (4 * SSH_PROXY_BYTES_MAX)

static bool is_jump(const char *proxy)
{
    return strncmp(proxy, jump_option, strlen(jump_option)) == 0;
}

const char *ssh_proxy_option(const char *proxy)
{
    return is_jump(proxy) ? jump_option : command_option;
}

const char *ssh_proxy_value(const char *proxy)
{
    return proxy + strlen(ssh_proxy_option(proxy)) + 1;
}

const char *ssh_proxy_via(const char *proxy)
{
    return is_jump(proxy) ? ssh_proxy_value(proxy) : "a proxy command";
}

/* No shell sees more in it than a word, no program an option, and who reads a line of ssh_config no sign between
 * keyword and value. */
static bool is_plain(const char *text)
{
    if (!*text || *text == '-' || *text == '=')
        return false;
    for (; *text; text++)
        if (!(*text >= 'a' && *text <= 'z') && !(*text >= 'A' && *text <= 'Z') &&
            !(*text >= '0' && *text <= '9') && !strchr("_.:@%+=,/-", *text))
            return false;
    return true;
}

/* ---- jumps ---- */

struct hop {
    char *user, *host;
    uint16_t port; /* 0: not given */
};

static void hop_done(struct hop *h)
{
    free(h->user);
    free(h->host);
}

/* HOST[:PORT], where the host may be an IPv6 address in brackets. */
static int hop_read_address(struct hop *h, char *text, char **ret_why)
{
    char *end = *text == '[' ? strchr(text, ']') : NULL, *colon = strchr(end ? end : text, ':');
    int r;

    if (colon) {
        *colon = '\0';
        if (ssh_port_take(colon + 1, &h->port) < 0)
            return ssh_refuse(ret_why, "\"%s\" is not a port (1 to 65535)%s", colon + 1,
                              strchr(colon + 1, ':') ? "; an IPv6 address stands in brackets" : "");
    }
    r = ssh_host_keep(&h->host, text);
    return r == -EINVAL ? ssh_refuse(ret_why, "\"%s\" is not a host name or IP address", text) : r;
}

static int hop_read(struct hop *h, char *text, char **ret_why)
{
    char *at = strrchr(text, '@');

    *h = (struct hop){0};
    if (!at)
        return hop_read_address(h, text, ret_why);
    *at = '\0';
    if (!is_plain(text))
        return ssh_refuse(ret_why, "\"%s\" is not a user name a jump can be made with", text);
    int r = ssh_text_keep(&h->user, text);

    return r < 0 ? r : hop_read_address(h, at + 1, ret_why);
}

static int hops_check(const char *list, char **ret_why)
{
    _cleanup_free_ char *copy = strdup(list);
    char *rest = copy;
    int r = 0;

    if (!copy)
        return -ENOMEM;
    while (rest && r == 0) {
        struct hop h;

        r = hop_read(&h, strsep(&rest, ","), ret_why);
        hop_done(&h);
    }
    return r;
}

/* As ssh does with -J: it goes to the last hop, over those before it. Every word here was held against
 * is_plain() or is an address, so that quotes are needed for brackets alone. */
static int jump_command(char *list, const char *host, uint16_t port, char **ret, char **ret_why)
{
    char *comma = strrchr(list, ','), at[16] = "";
    struct hop h;
    int r = hop_read(&h, comma ? comma + 1 : list, ret_why);

    if (comma)
        *comma = '\0';
    if (h.port)
        snprintf(at, sizeof(at), " -p %u", h.port);
    if (r == 0 && asprintf(ret, "ssh -o BatchMode=yes%s%s%s%s%s%s -W '[%s]:%u' -- %s", comma ? " -J '" : "",
                           comma ? list : "", comma ? "'" : "", h.user ? " -l " : "", h.user ? h.user : "",
                           at, host, port, h.host) < 0)
        r = -ENOMEM;
    hop_done(&h);
    return r;
}

/* ---- commands ---- */

static int expand_word(struct buf *out, const char *text, char **ret_why)
{
    if (!is_plain(text))
        return ssh_refuse(ret_why, "\"%s\" cannot be handed to a proxy command: it is not a plain word",
                          text);
    return buf_add_text(out, text);
}

static int expand(const char *template, const char *host, uint16_t port, const char *user, struct buf *out,
                  char **ret_why)
{
    int r = 0;

    for (const char *c = template; *c && r >= 0; c++) {
        if (*c != '%') {
            r = buf_add(out, c, 1);
            continue;
        }
        switch (*++c) {
        case '%': r = buf_add(out, "%", 1); break;
        case 'h':
        case 'n': r = expand_word(out, host, ret_why); break;
        case 'p': r = buf_addf(out, "%u", port); break;
        case 'r': r = expand_word(out, user, ret_why); break;
        default:
            return ssh_refuse(ret_why,
                              "%%%.1s in the proxy command: only %%h, %%n, %%p, %%r and %%%% are "
                              "understood",
                              c);
        }
    }
    return r;
}

static int command(const char *template, const char *host, uint16_t port, const char *user, char **ret,
                   char **ret_why)
{
    struct buf out;
    int r;

    buf_init(&out, COMMAND_BYTES_MAX);
    r = expand(template, host, port, user, &out, ret_why);
    if (r == -ENOBUFS)
        r = ssh_refuse(ret_why, "the proxy command is longer than %d bytes", COMMAND_BYTES_MAX);
    if (r == 0) {
        char *text = buf_take(&out);

        if (text)
            *ret = text;
        else
            r = -ENOMEM;
    }
    buf_done(&out);
    return r;
}

/* ---- both ---- */

static int check(const char *option, const char *value, char **ret_why)
{
    _cleanup_free_ char *tried = NULL;

    if (!*value)
        return ssh_refuse(ret_why, "its value is missing");
    if (strlen(value) > SSH_PROXY_BYTES_MAX)
        return ssh_refuse(ret_why, "it is longer than %d bytes", SSH_PROXY_BYTES_MAX);
    for (const char *c = value; *c; c++)
        if ((unsigned char)*c < 0x20 || *c == 0x7f)
            return ssh_refuse(ret_why, "byte %zu of it is a control character", (size_t)(c - value) + 1);
    if (option == jump_option)
        return hops_check(value, ret_why);
    return command(value, "host", 22, "user", &tried, ret_why);
}

int ssh_proxy_read(const char *option, const char *value, char **ret, char **ret_why)
{
    char *line;
    int r;

    option = ssh_proxy_option(option);
    r = streq(value, "none") ? 0 : check(option, value, ret_why);
    if (r < 0)
        return r;
    if (streq(value, "none"))
        line = strdup("");
    else if (asprintf(&line, "%s %s", option, value) < 0)
        line = NULL;
    if (!line)
        return -ENOMEM;
    *ret = line;
    return 0;
}

int ssh_proxy_command(const char *proxy, const char *host, uint16_t port, const char *user, char **ret,
                      char **ret_why)
{
    _cleanup_free_ char *value = strdup(ssh_proxy_value(proxy));

    if (!value)
        return -ENOMEM;
    if (!is_jump(proxy))
        return command(value, host, port, user, ret, ret_why);
    if (!is_plain(host))
        return ssh_refuse(ret_why, "\"%s\" cannot be jumped to: it is not a plain word", host);
    return jump_command(value, host, port, ret, ret_why);
}
