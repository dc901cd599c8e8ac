/* Words as a shell makes them, then options as OpenSSH reads them: before and after the host, combined, with
 * their value attached or in the next word. An option is either understood, named among those left out, or an
 * error; never ignored. */
#include "proto/ssh_command.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "proto/buf.h"
#include "proto/mem.h"
#include "proto/ssh_part.h"
#include "proto/ssh_proxy.h"

/* Say nothing about where or how we connect. */
#define FLAGS_LEFT_OUT "CNgfnqTtv"

/* ---- forwards ---- */

/* Cuts text at colons outside brackets; returns how many parts there are, at most max + 1. */
static unsigned parts_cut(char *text, char **parts, unsigned max)
{
    unsigned n = 1;
    bool inside = false;

    parts[0] = text;
    for (; *text; text++) {
        if (*text == '[' || *text == ']')
            inside = *text == '[';
        if (*text != ':' || inside)
            continue;
        if (n == max)
            return max + 1;
        *text = '\0';
        parts[n++] = text + 1;
    }
    return n;
}

static int listen_keep(char **to, const char *text)
{
    unsigned char address[4];

    if (streq(text, "localhost"))
        return ssh_text_keep(to, "127.0.0.1");
    if (streq(text, "*"))
        return ssh_text_keep(to, "0.0.0.0");
    if (inet_pton(AF_INET, text, address) == 1)
        return ssh_text_keep(to, text);
    return *text == '[' ? ssh_host_keep(to, text) : -EINVAL;
}

static int forward_fill(struct ssh_forward *f, const char *text, char **parts, unsigned n, char **ret_why)
{
    const char *listen_ip = n == 2 || n == 4 ? parts[0] : "127.0.0.1";
    const char *listen_port = n == 2 || n == 4 ? parts[1] : parts[0];
    int r = listen_keep(&f->listen_ip, listen_ip);

    if (r == -EINVAL)
        return ssh_refuse(ret_why, "%s: %s is not an IP address to listen on", text,
                          *listen_ip ? listen_ip : "nothing");
    if (r < 0)
        return r;
    if (ssh_port_take(listen_port, &f->listen_port) < 0)
        return ssh_refuse(ret_why, "%s: \"%s\" is not a port (1 to 65535)", text, listen_port);
    r = ssh_host_keep(&f->host, n > 2 ? parts[n - 2] : "127.0.0.1");
    if (r == -EINVAL)
        return ssh_refuse(ret_why, "%s: \"%s\" is not a host", text, parts[n - 2]);
    if (r < 0)
        return r;
    if (ssh_port_take(n > 2 ? parts[n - 1] : listen_port, &f->port) < 0)
        return ssh_refuse(ret_why, "%s: \"%s\" is not a port (1 to 65535)", text, parts[n - 1]);
    return 0;
}

int ssh_forward_parse(const char *text, struct ssh_forward *ret, char **ret_why)
{
    _cleanup_free_ char *copy = NULL;
    struct ssh_forward f = {0};
    char *parts[4];
    unsigned n;
    int r;

    if (strlen(text) > SSH_COMMAND_BYTES_MAX)
        return ssh_refuse(ret_why, "the forward is longer than %d bytes", SSH_COMMAND_BYTES_MAX);
    copy = strdup(text);
    if (!copy)
        return -ENOMEM;
    n = parts_cut(copy, parts, ELEMENTS(parts));
    if (n > ELEMENTS(parts))
        return ssh_refuse(ret_why, "%s: a forward is [LISTEN_IP:]PORT[:HOST:PORT], IPv6 in brackets", text);
    r = forward_fill(&f, text, parts, n, ret_why);
    if (r < 0) {
        ssh_forward_done(&f);
        return r;
    }
    *ret = f;
    return 0;
}

void ssh_forward_done(struct ssh_forward *f)
{
    free(f->listen_ip);
    free(f->host);
    *f = (struct ssh_forward){0};
}

/* ---- words ---- */

struct words {
    const char *p;
    char word[SSH_COMMAND_BYTES_MAX + 1];
};

/* Behind an opening quote, up to and over the closing one. Adds to the word at *n. */
static int word_quoted(struct words *w, char quote, size_t *n, char **ret_why)
{
    for (; *w->p != quote; w->p++) {
        if (*w->p == '\0')
            return ssh_refuse(ret_why, "a quote (%c) is opened and never closed", quote);
        if (quote == '"' && *w->p == '\\' && w->p[1] && strchr("\"\\$`", w->p[1]))
            w->p++;
        w->word[(*n)++] = *w->p;
    }
    w->p++;
    return 0;
}

/* 1: w->word is the next word; 0: there is none. The words together are no longer than the text. */
static int word_next(struct words *w, char **ret_why)
{
    size_t n = 0;
    int r;

    w->p += strspn(w->p, " ");
    if (*w->p == '\0')
        return 0;
    while (*w->p && *w->p != ' ') {
        char c = *w->p++;

        if (c == '\'' || c == '"') {
            r = word_quoted(w, c, &n, ret_why);
            if (r < 0)
                return r;
            continue;
        }
        if (strchr(";&|<>()`", c))
            return ssh_refuse(ret_why, "only one plain ssh command is understood: \"%c\" is for a shell", c);
        if (c == '\\') {
            if (*w->p == '\0')
                return ssh_refuse(ret_why, "the command ends in a backslash");
            c = *w->p++;
        }
        w->word[n++] = c;
    }
    w->word[n] = '\0';
    return 1;
}

/* ---- options ---- */

struct command {
    struct ssh_command c;
    struct words words;
    char *host_name; /* -o HostName: the host given is only a name for it then */
    bool has_port;
    bool only_operands; /* behind -- */
    struct buf left_out;
};

/* Once each. */
static int leave_out(struct command *cmd, const char *option)
{
    const char *found = strstr(buf_text(&cmd->left_out), option);
    char after = found ? found[strlen(option)] : '!';

    if (after == '\0' || after == ' ')
        return 0;
    return buf_addf(&cmd->left_out, "%s%s", cmd->left_out.len ? " " : "", option);
}

static int take_port(struct command *cmd, const char *value, char **ret_why)
{
    uint16_t port;

    if (ssh_port_take(value, &port) < 0)
        return ssh_refuse(ret_why, "%s: not a port (1 to 65535)", value);
    if (cmd->has_port && port != cmd->c.port)
        return ssh_refuse(ret_why, "%s: another port is given too", value);
    cmd->c.port = port;
    cmd->has_port = true;
    return 0;
}

static int take_user(struct command *cmd, const char *value, char **ret_why)
{
    if (!ssh_is_user(value))
        return ssh_refuse(ret_why, "\"%s\" is not a user name", value);
    if (cmd->c.user && !streq(cmd->c.user, value))
        return ssh_refuse(ret_why, "%s: another user (%s) is given too", value, cmd->c.user);
    return ssh_text_keep(&cmd->c.user, value);
}

static int take_identity(struct command *cmd, const char *value, char **ret_why)
{
    if (!*value)
        return ssh_refuse(ret_why, "the name of a key file is missing");
    if (cmd->c.identity_file && !streq(cmd->c.identity_file, value))
        return ssh_refuse(ret_why, "%s: one key file is enough", value);
    return ssh_text_keep(&cmd->c.identity_file, value);
}

static int take_forward(struct command *cmd, const char *value, char **ret_why)
{
    int r;

    if (cmd->c.n_forwards == SSH_FORWARDS_MAX)
        return ssh_refuse(ret_why, "%s: more than %d forwards", value, SSH_FORWARDS_MAX);
    r = ssh_forward_parse(value, &cmd->c.forwards[cmd->c.n_forwards], ret_why);
    if (r == 0)
        cmd->c.n_forwards++;
    return r;
}

static int take_host_name(struct command *cmd, const char *value, char **ret_why)
{
    _cleanup_free_ char *host = NULL;
    int r = ssh_host_keep(&host, value);

    if (r == -EINVAL)
        return ssh_refuse(ret_why, "\"%s\" is not a host name or IP address", value);
    if (r == 0 && cmd->host_name && !streq(cmd->host_name, host))
        return ssh_refuse(ret_why, "%s: another host name (%s) is given too", value, cmd->host_name);
    return r < 0 ? r : ssh_text_keep(&cmd->host_name, host);
}

static int take_proxy(struct command *cmd, const char *option, const char *value, char **ret_why)
{
    _cleanup_free_ char *proxy = NULL;
    int r = ssh_proxy_read(option, value, &proxy, ret_why);

    if (r == 0 && cmd->c.proxy && !streq(cmd->c.proxy, proxy))
        return ssh_refuse(ret_why, "one way to the host is enough (-J, ProxyJump or ProxyCommand)");
    return r < 0 ? r : ssh_text_keep(&cmd->c.proxy, proxy);
}

static int take_jump(struct command *cmd, const char *value, char **ret_why)
{
    return take_proxy(cmd, "ProxyJump", value, ret_why);
}

static int take_proxy_command(struct command *cmd, const char *value, char **ret_why)
{
    return take_proxy(cmd, "ProxyCommand", value, ret_why);
}

typedef int (*take_fn)(struct command *cmd, const char *value, char **ret_why);

/* Without a function: says nothing about where or how we connect, or asks for what is done here anyhow. Keys
 * are looked for in the files and agents that are named, logins tried in an order of our own, host keys
 * pinned to the instance, and a dead peer is found by our pings. */
static const struct {
    const char *name;
    take_fn take;
} settings[] = {
    {"HostName", take_host_name},
    {"IdentityFile", take_identity},
    {"Port", take_port},
    {"ProxyCommand", take_proxy_command},
    {"ProxyJump", take_jump},
    {"User", take_user},
    {"AddKeysToAgent", NULL},
    {"BatchMode", NULL},
    {"CheckHostIP", NULL},
    {"ClearAllForwardings", NULL},
    {"Compression", NULL},
    {"ConnectionAttempts", NULL},
    {"ConnectTimeout", NULL},
    {"ControlMaster", NULL},
    {"ControlPath", NULL},
    {"ControlPersist", NULL},
    {"EscapeChar", NULL},
    {"ExitOnForwardFailure", NULL},
    {"ForkAfterAuthentication", NULL},
    {"GatewayPorts", NULL},
    {"GlobalKnownHostsFile", NULL},
    {"GSSAPIAuthentication", NULL},
    {"HashKnownHosts", NULL},
    {"HostKeyAlgorithms", NULL},
    {"IdentitiesOnly", NULL},
    {"IPQoS", NULL},
    {"KbdInteractiveAuthentication", NULL},
    {"LogLevel", NULL},
    {"NumberOfPasswordPrompts", NULL},
    {"PasswordAuthentication", NULL},
    {"PreferredAuthentications", NULL},
    {"PubkeyAcceptedAlgorithms", NULL},
    {"PubkeyAcceptedKeyTypes", NULL},
    {"PubkeyAuthentication", NULL},
    {"RequestTTY", NULL},
    {"SendEnv", NULL},
    {"ServerAliveCountMax", NULL},
    {"ServerAliveInterval", NULL},
    {"SessionType", NULL},
    {"StdinNull", NULL},
    {"StrictHostKeyChecking", NULL},
    {"TCPKeepAlive", NULL},
    {"UpdateHostKeys", NULL},
    {"UserKnownHostsFile", NULL},
    {"VerifyHostKeyDNS", NULL},
    {"VisualHostKey", NULL},
};

/* As ssh_config reads a line: NAME VALUE, NAME=VALUE, white space around both, quotes around the value; that
 * of ProxyCommand is all the rest as it stands. */
static char *setting_value(char *line, bool is_rest)
{
    char *value = line + strcspn(line, " ="), *end = line + strlen(line);

    if (*value)
        *value++ = '\0';
    value += strspn(value, is_rest ? " =" : " ");
    if (!is_rest && *value == '=')
        value++;
    value += strspn(value, " ");
    while (end > value && end[-1] == ' ')
        *--end = '\0';
    if (!is_rest && end - value >= 2 && *value == '"' && end[-1] == '"') {
        *--end = '\0';
        value++;
    }
    return value;
}

static int setting_leave_out(struct command *cmd, const char *name)
{
    char option[64];

    snprintf(option, sizeof(option), "-o %s", name);
    return leave_out(cmd, option);
}

static int take_setting(struct command *cmd, const char *line, char **ret_why)
{
    _cleanup_free_ char *name = strdup(line), *why = NULL;
    char *value;

    if (!name)
        return -ENOMEM;
    value = setting_value(name, strncasecmp(name, "ProxyCommand", 12) == 0);
    for (size_t i = 0; i < ELEMENTS(settings); i++) {
        if (strcasecmp(settings[i].name, name) != 0)
            continue;
        if (!*value)
            return ssh_refuse(ret_why, "%s: its value is missing", settings[i].name);
        if (!settings[i].take)
            return setting_leave_out(cmd, settings[i].name);
        int r = settings[i].take(cmd, value, &why);

        return r == -EINVAL ? ssh_refuse(ret_why, "%s: %s", settings[i].name, why) : r;
    }
    return ssh_refuse(ret_why, "%.60s: not understood here; it could change where or how we connect", name);
}

static const struct {
    char letter;
    take_fn take;
} valued[] = {
    {'p', take_port},    {'l', take_user}, {'i', take_identity},
    {'L', take_forward}, {'J', take_jump}, {'o', take_setting},
};

static int take_value(struct command *cmd, char option, const char *value, char **ret_why)
{
    _cleanup_free_ char *why = NULL;
    int r = 0;

    for (size_t i = 0; i < ELEMENTS(valued); i++)
        if (valued[i].letter == option)
            r = valued[i].take(cmd, value, &why);
    return r == -EINVAL ? ssh_refuse(ret_why, "-%c %s", option, why) : r;
}

/* -CNgp 46464, -p46464: flags, up to one that takes the rest of the word or the next word. */
static int take_options(struct command *cmd, char **ret_why)
{
    int r = 0;

    for (const char *c = cmd->words.word + 1; *c && r == 0; c++) {
        char option = *c;

        if (strchr(FLAGS_LEFT_OUT, option)) {
            r = leave_out(cmd, (char[]){'-', option, '\0'});
            continue;
        }
        if (option == '-')
            return ssh_refuse(ret_why, "%s: ssh has no such option", cmd->words.word);
        if (!strchr("pliLJo", option))
            return ssh_refuse(ret_why, "-%c: not understood here; it would change where or how we connect",
                              option);
        if (c[1])
            return take_value(cmd, option, c + 1, ret_why);
        r = word_next(&cmd->words, ret_why);
        if (r == 0)
            return ssh_refuse(ret_why, "-%c: its value is missing", option);
        return r < 0 ? r : take_value(cmd, option, cmd->words.word, ret_why);
    }
    return r;
}

static bool is_ascii(const char *text)
{
    while (*text && (unsigned char)*text < 0x80)
        text++;
    return *text == '\0';
}

/* USER@HOST or HOST; as in OpenSSH the last @ counts. */
static int take_destination(struct command *cmd, char **ret_why)
{
    char *word = cmd->words.word, *at = strrchr(word, '@'), *host = at ? at + 1 : word;
    int r = 0;

    if (cmd->c.host)
        return ssh_refuse(ret_why, "%s: a command to run on the machine is not understood here", word);
    if (!is_ascii(word))
        return ssh_refuse(
            ret_why, "%s: not plain ASCII; was a - or @ changed into another sign on the way here?", word);
    if (at) {
        *at = '\0';
        r = take_user(cmd, word, ret_why);
    }
    if (r == 0) {
        r = ssh_host_keep(&cmd->c.host, host);
        if (r == -EINVAL)
            r = ssh_refuse(ret_why, "\"%s\" is not a host name or IP address%s", host,
                           strchr(host, ':') ? "; a port is given with -p" : "");
    }
    return r;
}

static int command_read(struct command *cmd, char **ret_why)
{
    bool first = true;
    int r;

    while ((r = word_next(&cmd->words, ret_why)) > 0) {
        const char *word = cmd->words.word;

        if (first && streq(word, "ssh"))
            r = 0;
        else if (!cmd->only_operands && streq(word, "--"))
            cmd->only_operands = true;
        else if (!cmd->only_operands && word[0] == '-' && word[1])
            r = take_options(cmd, ret_why);
        else
            r = take_destination(cmd, ret_why);
        if (r < 0)
            return r;
        first = false;
    }
    if (r < 0)
        return r;
    if (!cmd->c.host)
        return ssh_refuse(ret_why, "the host is missing: ssh -p PORT USER@HOST");
    if (cmd->host_name) {
        free(cmd->c.host);
        cmd->c.host = TAKE_PTR(cmd->host_name);
    }
    return cmd->left_out.len ? ssh_text_keep(&cmd->c.left_out, buf_text(&cmd->left_out)) : 0;
}

int ssh_command_parse(const char *text, struct ssh_command *ret, char **ret_why)
{
    struct command cmd = {.c = {.port = 22}, .words = {.p = text}};
    int r;

    if (strlen(text) > SSH_COMMAND_BYTES_MAX)
        return ssh_refuse(ret_why, "the command is longer than %d bytes", SSH_COMMAND_BYTES_MAX);
    for (const char *c = text; *c; c++)
        if ((unsigned char)*c < 0x20 || *c == 0x7f)
            return ssh_refuse(ret_why, "byte %zu of the command is a control character",
                              (size_t)(c - text) + 1);
    buf_init(&cmd.left_out, SSH_COMMAND_BYTES_MAX);
    r = command_read(&cmd, ret_why);
    buf_done(&cmd.left_out);
    free(cmd.host_name);
    if (r < 0) {
        ssh_command_done(&cmd.c);
        return r;
    }
    *ret = cmd.c;
    return 0;
}

void ssh_command_done(struct ssh_command *c)
{
    for (unsigned i = 0; i < c->n_forwards; i++)
        ssh_forward_done(&c->forwards[i]);
    free(c->user);
    free(c->host);
    free(c->identity_file);
    free(c->proxy);
    free(c->left_out);
    *c = (struct ssh_command){0};
}
