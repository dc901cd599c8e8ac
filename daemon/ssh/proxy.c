/* The other way to a server: a command that speaks for it on a socketpair, as OpenSSH's ProxyCommand. There
 * is no connecting; what comes from the socketpair is the handshake.
 *
 * It runs as ssh runs one, "exec COMMAND" by a shell. The command travels in the environment, which only its
 * own user can read, and not in the arguments of the shell, which everybody can. Beside it waits a process at
 * the lifeline (child.h): when the daemon is gone, however it went, or the connection was freed, all that the
 * command has started is killed. The command alone would live on for as long as it likes: nc(1), for one,
 * ignores the end of its input.
 *
 * When it ends, the end of the socketpair and the status of the child come in either order, and only both
 * together, with the last line it wrote to its standard error, say what happened. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/wait.h>

#include "base/child.h"
#include "base/timer.h"
#include "base/watch.h"
#include "proto/ssh_proxy.h"
#include "ssh/conn_private.h"

/* From the end of its output to its own. */
#define STATUS_MS  1000
#define LINE_BYTES 200
#define SHELL      "/bin/sh"

struct proxy {
    struct ssh_conn *conn;
    struct child *child;
    struct watch *errors;
    int error_fd;
    struct timer *patience;
    char line[LINE_BYTES], last[LINE_BYTES]; /* the line that is being read; the last whole one */
    size_t n;
    bool ended;
    int status; /* as of waitpid() */
};

static const char shell_script[] = "{ read -r x; kill -KILL 0; } <&3 >/dev/null 2>&1 &\n"
                                   "exec 3<&-\n"
                                   "command=$LLMHOST_PROXY\n"
                                   "unset LLMHOST_PROXY\n"
                                   "eval \"exec $command\"\n";

/* ---- what it has to say ---- */

/* Lines of ssh that say nothing where another one was before. */
static bool is_noise(const char *line)
{
    return !*line || streq(line, "stdio forwarding failed") ||
           strncmp(line, "Connection closed by UNKNOWN", 28) == 0 ||
           strncmp(line, "Disconnected from ", 18) == 0;
}

/* The shell's own complaint: it may show the command, or its first word, which may be an assignment. A name
 * of a program stays. */
static void line_hide_command(char *line)
{
    const char *what = strncmp(line, SHELL ":", strlen(SHELL ":")) == 0 ? strstr(line, "exec: ") : line;

    if (what && what != line && !memchr(what, '=', strcspn(what + 6, ":") + 6))
        memmove(line, what + 6, strlen(what + 6) + 1);
    else if (what != line)
        strcpy(line, "the shell cannot run it");
}

static void proxy_hear(struct proxy *p, const char *text, size_t n)
{
    for (; n > 0; n--, text++) {
        if (*text == '\n' || *text == '\r') {
            p->line[p->n] = '\0';
            if (p->n > 0 && p->line[p->n - 1] == '.')
                p->line[p->n - 1] = '\0';
            p->n = 0;
            line_hide_command(p->line);
            if (!is_noise(p->line))
                memcpy(p->last, p->line, sizeof(p->last));
        } else if ((unsigned char)*text >= ' ' && *text != 0x7f && p->n < sizeof(p->line) - 1) {
            p->line[p->n++] = *text;
        }
    }
}

static bool proxy_read_errors(struct proxy *p)
{
    char text[4096];
    ssize_t n = read(p->error_fd, text, sizeof(text));

    if (n > 0)
        proxy_hear(p, text, (size_t)n);
    else if (n == 0 || errno != EAGAIN)
        watch_want(p->errors, 0);
    return n > 0;
}

static void proxy_on_errors(void *ctx, unsigned events)
{
    (void)events;
    proxy_read_errors(ctx);
}

/* "", or ": " and the last line. */
const char *proxy_words(const struct ssh_conn *c, char *out, size_t size)
{
    snprintf(out, size, "%s%s", *c->proxy->last ? ": " : "", c->proxy->last);
    return out;
}

/* "the proxy command", "the jump over ops@bastion" */
const char *proxy_name(const struct ssh_conn *c, char *out, size_t size)
{
    bool is_jump = streq(ssh_proxy_option(c->way), "ProxyJump");

    snprintf(out, size, "the %s%s", is_jump ? "jump over " : "proxy command",
             is_jump ? ssh_proxy_value(c->way) : "");
    return out;
}

static bool proxy_knows_no_host_key(const struct proxy *p)
{
    return streq(p->last, "Host key verification failed");
}

/* Where the command has nothing to complain of, the end is the server's. */
bool proxy_explain(const struct ssh_conn *c, char *out, size_t size)
{
    const struct proxy *p = c->proxy;
    char name[128], how[64], words[LINE_BYTES + 2];

    if (!p->ended)
        snprintf(how, sizeof(how), "closed its output");
    else if (WIFSIGNALED(p->status))
        snprintf(how, sizeof(how), "was killed by signal %d", WTERMSIG(p->status));
    else if (WEXITSTATUS(p->status) != 0 || *p->last)
        snprintf(how, sizeof(how), "ended with status %d", WEXITSTATUS(p->status));
    else
        return false;
    snprintf(out, size, "%s %s%s%s", proxy_name(c, name, sizeof(name)), how,
             proxy_words(c, words, sizeof(words)),
             proxy_knows_no_host_key(p) ? " (log in there once by hand, to accept its host key)" : "");
    return true;
}

/* What it says is ssh's word for a login that asking again does not change; NULL: it is not. */
const char *proxy_refusal(const struct ssh_conn *c)
{
    const char *last = c->proxy->last;

    if (proxy_knows_no_host_key(c->proxy))
        return "jump_host_key";
    return strstr(last, ": Permission denied (") || strstr(last, ": Too many authentication failures")
               ? "jump_refused"
               : NULL;
}

/* ---- its end ---- */

bool proxy_has_ended(const struct ssh_conn *c)
{
    return c->proxy->ended;
}

static void proxy_on_exit(void *ctx, int wait_status)
{
    struct proxy *p = ctx;

    p->ended = true;
    p->status = wait_status;
    timer_disarm(p->patience);
    for (int i = 0; i < 16 && proxy_read_errors(p); i++) /* a flood, of another of its group, may go on */
        ;
    proxy_hear(p, "\n", 1);
    conn_proxy_ended(p->conn);
}

static void proxy_on_patience_over(void *ctx)
{
    struct proxy *p = ctx;

    conn_proxy_ended(p->conn);
}

void proxy_closed(struct ssh_conn *c)
{
    timer_arm(c->proxy->patience, STATUS_MS);
}

/* ---- its beginning ---- */

static void proxy_on_ready(void *ctx, unsigned events)
{
    struct proxy *p = ctx;

    conn_on_ready(p->conn, events);
}

/* The agent that lets us in, or else our own, is the jump's too: ssh would have but one. */
static char *agent_variable(const struct ssh_conn *c)
{
    const char *socket = c->agent ? c->agent : getenv("SSH_AUTH_SOCK");

    return socket ? xasprintf("SSH_AUTH_SOCK=%s", socket) : NULL;
}

static int proxy_spawn(struct ssh_conn *c, const char *command, int in_out, int err)
{
    static const char *const argv[] = {SHELL, "-c", shell_script, NULL};
    _cleanup_free_ char *variable = xasprintf("LLMHOST_PROXY=%s", command), *agent = agent_variable(c);
    const char *const besides[] = {variable, agent, NULL};
    const char *home = getenv("HOME");
    const struct child_spec spec = {
        .argv = argv,
        .besides = besides,
        .directory = home && *home == '/' && access(home, X_OK) == 0 ? home : NULL,
        .in = in_out,
        .out = in_out,
        .err = err,
        .lifeline = true,
    };

    return child_spawn(c->loop, &spec, proxy_on_exit, c->proxy, &c->proxy->child);
}

static int proxy_start(struct ssh_conn *c, const char *command)
{
    _cleanup_close_ int ours = -1, theirs = -1, errors = -1, their_errors = -1;
    struct proxy *p = c->proxy;
    int r = child_socket_new(&ours, &theirs);

    if (r == 0)
        r = child_pipe_new(&errors, &their_errors);
    if (r == 0)
        r = proxy_spawn(c, command, theirs, their_errors);
    if (r < 0)
        return r;
    p->patience = timer_new(c->loop, proxy_on_patience_over, p);
    p->error_fd = errors;
    p->errors = watch_new(c->loop, TAKE_FD(errors), proxy_on_errors, p);
    watch_want(p->errors, WATCH_IN);

    struct watch *w = watch_new(c->loop, ours, proxy_on_ready, p);

    conn_connected(c, TAKE_FD(ours), w);
    return 0;
}

void proxy_begin(struct ssh_conn *c)
{
    _cleanup_free_ char *command = NULL, *why = NULL;
    int r = ssh_proxy_command(c->way, c->host, c->port, c->user, &command, &why);

    if (r < 0) {
        conn_fail(c, FAULT_INVALID, "bad_command", "%s", why ? why : strerror(-r));
        return;
    }
    snprintf(c->peer, sizeof(c->peer), "%s:%u through %s", c->host, c->port, ssh_proxy_via(c->way));
    c->proxy = xnew(struct proxy);
    c->proxy->conn = c;
    r = proxy_start(c, command);
    if (r < 0)
        conn_fail(c, FAULT_EXHAUSTED, "unreachable",
                  "a shell for the proxy command of %s cannot be started: %s", c->name, strerror(-r));
}

void proxy_end(struct ssh_conn *c)
{
    struct proxy *p = c->proxy;

    if (!p)
        return;
    child_free(p->child);
    timer_free(p->patience);
    if (p->errors)
        watch_free(p->errors, true);
    free(p);
    c->proxy = NULL;
}
