/* One socket, one call at a time. Waiting is a poll() on three descriptors: the socket, a pipe that Ctrl-C
 * writes into, and now and then a second socket on which a silent daemon is asked for a sign of life (it
 * answers GetInfo from its loop, so an answer means that the loop turns and our call is only slow). */
#include "client/connection.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/un.h>
#include <time.h>

#include "client/output.h"
#include "client/service.h"
#include "proto/buf.h"
#include "proto/mem.h"
#include "proto/text.h"
#include "proto/varlink.h"

#define SILENCE_MS     30000
#define ANSWER_MS      10000
#define CONNECT_MS     10000
#define CALL_BYTES_MAX (4 * VARLINK_MESSAGE_BYTES_MAX)
#define SYSTEM_SOCKET  "/run/llmhost/control"

struct connection {
    char *path;
    int fd;
    pid_t pid; /* of the daemon, as the kernel says */
    struct buf in;
    bool verbatim;
    uint64_t silence_ms, answer_ms;
    int probe_fd;      /* -1: no sign of life asked for */
    uint64_t probe_at; /* steady */
};

uint64_t steady_now_ms(void)
{
    struct timespec t;

    clock_gettime(CLOCK_BOOTTIME, &t);
    return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

/* ---- finding the daemon ---- */

/* Anybody can make a folder in /tmp; passwords go only into one that is ours alone. */
static int folder_check(const char *folder)
{
    struct stat st;

    if (lstat(folder, &st) < 0)
        return -errno;
    if (!S_ISDIR(st.st_mode) || st.st_uid != getuid() || (st.st_mode & 022))
        return -EPERM;
    return 0;
}

static int user_socket(char **ret_path)
{
    const char *runtime = getenv("XDG_RUNTIME_DIR");
    _cleanup_free_ char *folder = NULL;
    int r;

    if (runtime && *runtime == '/') {
        *ret_path = xasprintf("%s/llmhost/control", runtime);
        return 0;
    }
    folder = xasprintf("/tmp/llmhost-%u", (unsigned)getuid());
    *ret_path = xasprintf("%s/control", folder);
    r = folder_check(folder);
    return r;
}

static int socket_connect(const char *path, int *ret_fd)
{
    struct sockaddr_un a = {.sun_family = AF_UNIX};
    struct timeval limit = {.tv_sec = CONNECT_MS / 1000};
    _cleanup_close_ int fd = -1;

    if (strlen(path) >= sizeof(a.sun_path))
        return -ENAMETOOLONG;
    memcpy(a.sun_path, path, strlen(path) + 1);
    fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return -errno;
    /* Bounds connect() as well, which waits while the daemon does not accept. */
    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit));
    if (connect(fd, (struct sockaddr *)&a, sizeof(a)) < 0)
        return -errno;
    *ret_fd = TAKE_FD(fd);
    return 0;
}

/* Whether /proc/PID is the daemon of that user. */
static bool process_is_daemon(const char *pid, uid_t owner)
{
    char path[300], comm[32] = "";
    struct stat st;
    FILE *f;

    snprintf(path, sizeof(path), "/proc/%s/comm", pid);
    f = fopen(path, "re");
    if (!f)
        return false;
    if (!fgets(comm, sizeof(comm), f) || fstat(fileno(f), &st) < 0)
        comm[0] = '\0';
    fclose(f);
    return streq(comm, "llmhostd\n") && st.st_uid == owner;
}

/* The daemon of whoever owns the socket, or 0: only to say more about a socket that will not have us. */
static pid_t daemon_find(const char *socket_path)
{
    DIR *proc = opendir("/proc");
    struct stat st;
    pid_t found = 0;

    if (proc && stat(socket_path, &st) == 0)
        for (struct dirent *d; !found && (d = readdir(proc));)
            if (d->d_name[0] >= '1' && d->d_name[0] <= '9' && process_is_daemon(d->d_name, st.st_uid))
                found = (pid_t)atoi(d->d_name);
    if (proc)
        closedir(proc);
    return found;
}

static struct json *open_error(const char *path, int r)
{
    _cleanup_free_ char *message = NULL, *start = service_command(path, SERVICE_START, 0);
    _cleanup_free_ char *restart = service_command(path, SERVICE_RESTART, 0);
    pid_t pid;

    switch (-r) {
    case ENOENT:
    case ENOTDIR:
        message = xasprintf("llmhostd is not running (socket missing: %s).", path);
        return error_make(EXIT_NO_DAEMON, "no_daemon", message, NULL, start, NULL);
    case ECONNREFUSED:
        message = xasprintf("llmhostd is not running (nobody listens at the socket %s).", path);
        return error_make(EXIT_NO_DAEMON, "no_daemon", message, NULL, start, NULL);
    case EACCES:
        pid = daemon_find(path);
        message =
            pid ? xasprintf("llmhostd runs (pid %d) but its socket is not yours: join group \"llmhost\".",
                            (int)pid)
                : xasprintf("the socket %s is not yours: join group \"llmhost\".", path);
        return error_make(EXIT_NO_DAEMON, "not_yours", message, "a new group counts from the next login on",
                          "sudo usermod -aG llmhost \"$USER\"", NULL);
    case EPERM:
        message =
            xasprintf("the folder of %s belongs to somebody else or is open to others: not used.", path);
        return error_make(EXIT_NO_DAEMON, "not_yours", message, NULL, start, NULL);
    case EAGAIN:
        message = xasprintf("llmhostd does not accept connections at %s.", path);
        return error_make(EXIT_NO_DAEMON, "no_answer", message, "it hangs, or is stopped",
                          restart, NULL);
    default:
        message = xasprintf("cannot connect to llmhostd at %s: %s.", path, strerror(-r));
        return error_make(EXIT_NO_DAEMON, "no_daemon", message, NULL, start, NULL);
    }
}

static struct connection *connection_new(const char *path, int fd)
{
    struct connection *c = xnew(struct connection);
    struct ucred peer;
    socklen_t n = sizeof(peer);

    c->path = xstrdup(path);
    c->fd = fd;
    c->probe_fd = -1;
    c->silence_ms = SILENCE_MS;
    c->answer_ms = ANSWER_MS;
    buf_init(&c->in, VARLINK_MESSAGE_BYTES_MAX + 65536);
    if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &n) == 0)
        c->pid = peer.pid;
    return c;
}

enum exit_status connection_open(const char *named, struct connection **ret, struct json **ret_error)
{
    const char *variable = getenv("LLMHOST_SOCKET");
    _cleanup_free_ char *path = NULL;
    int fd = -1, r, system;

    if (!named && variable && *variable)
        named = variable;
    if (named) {
        path = xstrdup(named);
        r = 0;
    } else {
        r = user_socket(&path);
    }
    if (r == 0)
        r = socket_connect(path, &fd);
    if (r < 0 && !named && r != -EAGAIN) {
        system = socket_connect(SYSTEM_SOCKET, &fd);
        /* Of two failures the one that tells more: a socket that is there over one that is not. */
        if (system == 0 || (r == -ENOENT && system != -ENOENT)) {
            free(path);
            path = xstrdup(SYSTEM_SOCKET);
            r = system;
        }
    }
    if (r < 0) {
        *ret_error = open_error(path, r);
        return EXIT_NO_DAEMON;
    }
    *ret = connection_new(path, fd);
    return EXIT_DONE;
}

struct connection *connection_free(struct connection *c)
{
    if (!c)
        return NULL;
    close(c->fd);
    if (c->probe_fd >= 0)
        close(c->probe_fd);
    buf_done(&c->in);
    free(c->path);
    free(c);
    return NULL;
}

const char *connection_socket(const struct connection *c)
{
    return c->path;
}

pid_t connection_daemon_pid(const struct connection *c)
{
    return c->pid;
}

void connection_set_verbatim(struct connection *c, bool verbatim)
{
    c->verbatim = verbatim;
}

void connection_set_patience(struct connection *c, uint64_t silence_ms, uint64_t answer_ms)
{
    c->silence_ms = silence_ms;
    c->answer_ms = answer_ms;
}

/* ---- Ctrl-C ---- */

static int interrupt_pipe[2] = {-1, -1};

static void interrupt_on_signal(int sig)
{
    int saved = errno;
    ssize_t n = write(interrupt_pipe[1], "", 1);

    (void)sig;
    (void)n;
    errno = saved;
}

/* The first Ctrl-C ends the wait in an orderly way, the second one kills (SA_RESETHAND). */
static void interrupt_catch(struct sigaction *ret_before)
{
    struct sigaction action = {.sa_handler = interrupt_on_signal, .sa_flags = SA_RESETHAND};

    if (interrupt_pipe[0] < 0 && pipe2(interrupt_pipe, O_CLOEXEC | O_NONBLOCK) < 0)
        abort();
    sigaction(SIGINT, &action, ret_before);
}

static bool interrupt_came(void)
{
    char byte;

    return read(interrupt_pipe[0], &byte, 1) == 1;
}

/* ---- the call ---- */

static int send_all(int fd, const char *data, size_t n)
{
    while (n > 0) {
        ssize_t sent = send(fd, data, n, MSG_NOSIGNAL);

        if (sent < 0 && errno == EINTR)
            continue;
        if (sent < 0)
            return -errno;
        data += sent;
        n -= (size_t)sent;
    }
    return 0;
}

static int call_send(struct connection *c, const struct call *call)
{
    _cleanup_free_ char *method = NULL;
    struct buf out;
    char *room;
    int r;

    method = strchr(call->method, '.') ? xstrdup(call->method) : xasprintf("io.llmhost.%s", call->method);
    buf_init(&out, CALL_BYTES_MAX);
    /* Room at once: a buffer that moves while it grows would leave parts of a secret behind. */
    buf_reserve(&out, 4 * (64u << 10), &room);
    r = varlink_call_write(&out, method, call->parameters, call->more, false);
    if (r == 0)
        r = send_all(c->fd, out.data, out.len);
    buf_wipe(&out);
    return r;
}

static struct json *clean_copy(const struct json *v);

static struct json *clean_text(const char *text, size_t n)
{
    struct json *copy;
    struct buf b;

    buf_init(&b, 2 * VARLINK_MESSAGE_BYTES_MAX);
    copy = utf8_clean(&b, text, n, true) == 0 ? json_string(buf_text(&b)) : json_string("?");
    buf_done(&b);
    return copy;
}

static struct json *clean_copy(const struct json *v)
{
    struct json *copy;
    size_t n;
    const char *text = json_text_n(v, &n);

    switch (json_type(v)) {
    case JSON_STRING: return clean_text(text, n);
    case JSON_ARRAY:
        copy = json_array();
        for (size_t i = 0; i < json_count(v); i++)
            json_append(copy, clean_copy(json_at(v, i)));
        return copy;
    case JSON_OBJECT:
        copy = json_object();
        for (size_t i = 0; i < json_count(v); i++)
            json_put(copy, json_key_at(v, i), clean_copy(json_at(v, i)));
        return copy;
    case JSON_NULL:
    case JSON_BOOL:
    case JSON_INT:
    case JSON_REAL: break;
    }
    return json_copy(v);
}

/* org.varlink.service errors carry one word; ours carry the whole story. */
static struct json *error_from_reply(const struct varlink_reply *reply)
{
    enum exit_status exit = error_exit(reply->error);
    const char *what = json_get_text(reply->parameters, "parameter");
    _cleanup_free_ char *message = NULL, *why = NULL;
    struct json *error;

    if (json_get_text(reply->parameters, "message")) {
        error = json_copy(reply->parameters);
        json_put_int(error, "exit", exit);
        return error;
    }
    if (!what)
        what = json_get_text(reply->parameters, "method");
    message = what ? xasprintf("llmhostd does not take \"%s\".", what)
                   : xasprintf("llmhostd refused the call (%s).", reply->error);
    why = xasprintf("it answered %s; llmhostctl and llmhostd may be of different versions", reply->error);
    return error_make(exit, "invalid_parameter", message, why, "llmhostctl version", NULL);
}

static enum exit_status call_lost(struct connection *c, struct call *call, const char *code, const char *why)
{
    _cleanup_free_ char *message = NULL, *next = NULL;

    if (streq(code, "no_answer"))
        message = xasprintf("llmhostd (pid %d) does not answer.", (int)c->pid);
    else if (streq(code, "bad_reply"))
        message = xasprintf("the answer of llmhostd (pid %d) cannot be read.", (int)c->pid);
    else
        message = xstrdup(call->heard ? "llmhostd went away." : "llmhostd went away before it had answered.");
    next = service_command(c->path, streq(code, "daemon_gone") ? SERVICE_STATUS : SERVICE_RESTART, c->pid);
    call->error = error_make(EXIT_NO_DAEMON, code, message, why, next, "llmhostctl status", NULL);
    return EXIT_NO_DAEMON;
}

static enum exit_status call_timed_out(struct call *call)
{
    call->error = error_make(EXIT_TIMED_OUT, "timed_out", "no end within the given time.",
                             "the daemon goes on with it", "llmhostctl status", NULL);
    return EXIT_TIMED_OUT;
}

/* What the last answer must have and has not, by the contract or by the verb: it would look like one that
 * says nothing. What is new in it is welcome, since the daemon may be the younger one. NULL: it is whole;
 * caller frees. */
static char *answer_lacks(const struct call *call, const struct json *parameters)
{
    _cleanup_(cleanup_varlink_contract_free) struct varlink_contract *contract = NULL;
    const char *lacks = NULL;

    if (call->needs && !json_get(parameters, call->needs))
        return xstrdup(call->needs);
    if (!strchr(call->method, '.') && varlink_contract_parse(varlink_io_llmhost, &contract, NULL) == 0)
        lacks = varlink_reply_lacks(contract, call->method, parameters);
    return lacks ? xstrdup(lacks) : NULL;
}

static enum exit_status call_answered(struct connection *c, struct call *call, struct varlink_reply *reply)
{
    _cleanup_free_ char *lacks = answer_lacks(call, reply->parameters), *why = NULL;

    if (lacks) {
        why = xasprintf("it has no \"%s\"; llmhostctl and llmhostd may be of different versions", lacks);
        return call_lost(c, call, "bad_reply", why);
    }
    call->answer = TAKE_PTR(reply->parameters);
    return EXIT_DONE;
}

/* One whole message. True: it was the last, and *ret is what the call ended with. */
static bool call_on_message(struct connection *c, struct call *call, const char *text, size_t n,
                            enum exit_status *ret)
{
    struct varlink_reply reply;
    struct json *parameters;

    if (varlink_reply_parse(text, n, &reply) < 0) {
        *ret = call_lost(c, call, "bad_reply", "it sent something that is no Varlink reply");
        return true;
    }
    if (!call->secret && !c->verbatim) {
        parameters = clean_copy(reply.parameters);
        json_free(reply.parameters);
        reply.parameters = parameters;
    }
    bool last = reply.error || !reply.continues || !call->more;

    if (reply.error) {
        call->error = error_from_reply(&reply);
        *ret = error_status(call->error);
    } else if (!last) {
        call->heard = true;
        if (call->on_reply)
            call->on_reply(call->ctx, reply.parameters);
    } else {
        *ret = call_answered(c, call, &reply);
    }
    varlink_reply_done(&reply);
    return last;
}

/* Reads what is there and hands out whole messages. True: the call is over. */
static bool call_read(struct connection *c, struct call *call, enum exit_status *ret)
{
    const char *text;
    ssize_t got;
    size_t n;
    char *room;
    bool over = false;
    int r;

    if (buf_reserve(&c->in, 65536, &room) < 0) {
        *ret = call_lost(c, call, "bad_reply", "its reply is longer than a message may be");
        return true;
    }
    got = recv(c->fd, room, 65536, MSG_DONTWAIT);
    if (got < 0 && (errno == EAGAIN || errno == EINTR))
        return false;
    if (got <= 0) {
        *ret = call_lost(c, call, "daemon_gone", NULL);
        return true;
    }
    buf_grew(&c->in, (size_t)got);
    while (!over && (r = varlink_frame(&c->in, &text, &n)) != 0) {
        if (r < 0) {
            *ret = call_lost(c, call, "bad_reply", "its reply is longer than a message may be");
            return true;
        }
        over = call_on_message(c, call, text, n, ret);
        /* The text of a secret must not stay behind in the buffer. */
        if (call->secret)
            wipe((char *)text, n);
        buf_drop(&c->in, n + 1);
    }
    return over;
}

static void probe_end(struct connection *c)
{
    if (c->probe_fd >= 0)
        close(c->probe_fd);
    c->probe_fd = -1;
}

static void probe_start(struct connection *c)
{
    static const char question[] = "{\"method\":\"org.varlink.service.GetInfo\",\"parameters\":{}}";

    c->probe_at = steady_now_ms();
    if (socket_connect(c->path, &c->probe_fd) < 0)
        return;
    send_all(c->probe_fd, question, sizeof(question));
}

/* How long poll() may sleep at most. */
static int call_sleep_ms(const struct connection *c, const struct call *call, uint64_t now, uint64_t heard_at,
                         uint64_t limit_at)
{
    uint64_t until = c->probe_at ? c->probe_at + c->answer_ms : heard_at + c->silence_ms;

    if (call->on_tick)
        until = MIN(until, now + call->tick_ms);
    if (limit_at)
        until = MIN(until, limit_at);
    return until > now ? (int)MIN(until - now, 60000u) : 0;
}

/* One turn of waiting. True: the call is over. */
static bool call_wait(struct connection *c, struct call *call, uint64_t *heard_at, uint64_t limit_at,
                      enum exit_status *ret)
{
    uint64_t now = steady_now_ms();
    struct pollfd p[] = {{.fd = c->fd, .events = POLLIN},
                         {.fd = interrupt_pipe[0], .events = POLLIN},
                         {.fd = c->probe_fd, .events = POLLIN}};
    int n = poll(p, ELEMENTS(p), call_sleep_ms(c, call, now, *heard_at, limit_at));

    now = steady_now_ms();
    if (interrupt_came()) {
        *ret = EXIT_INTERRUPTED;
        return true;
    }
    if (n > 0 && (p[0].revents || (p[2].revents & POLLIN))) {
        /* Either of them is a sign of life. */
        *heard_at = now;
        c->probe_at = 0;
        probe_end(c);
        if (p[0].revents && call_read(c, call, ret))
            return true;
    } else if (c->probe_at && now >= c->probe_at + c->answer_ms) {
        *ret =
            call_lost(c, call, "no_answer", "its process is there, but it has not said anything for a while");
        return true;
    } else if (!c->probe_at && now >= *heard_at + c->silence_ms) {
        probe_start(c);
    }
    if (limit_at && now >= limit_at) {
        *ret = call_timed_out(call);
        return true;
    }
    if (call->on_tick)
        call->on_tick(call->ctx);
    return false;
}

enum exit_status connection_run(struct connection *c, struct call *call)
{
    enum exit_status status = EXIT_FAILED;
    uint64_t heard_at, limit_at;
    struct sigaction before;
    int r;

    interrupt_catch(&before);
    heard_at = steady_now_ms();
    limit_at = call->limit_ms ? heard_at + call->limit_ms : 0;
    c->probe_at = 0;
    r = call_send(c, call);
    if (r == -EPIPE || r == -ECONNRESET)
        status = call_lost(c, call, "daemon_gone", NULL);
    else if (r < 0)
        status = call_lost(c, call, "no_answer", strerror(-r));
    else
        while (!call_wait(c, call, &heard_at, limit_at, &status))
            ;
    probe_end(c);
    sigaction(SIGINT, &before, NULL);
    return status;
}

/* The tree owns its texts and frees them as they are; so they are overwritten in place before that. */
static void secrets_wipe(const struct json *parameters)
{
    static const char *const names[] = {"password", "key", "passphrase", "secret"};

    for (size_t i = 0; i < ELEMENTS(names); i++) {
        size_t n;
        const char *text = json_text_n(json_get(json_get(parameters, names[i]), "text"), &n);

        if (text)
            wipe((char *)text, n);
    }
}

void call_wipe(struct call *call)
{
    secrets_wipe(call->parameters);
    secrets_wipe(call->answer);
}

void call_done(struct call *call)
{
    call_wipe(call);
    call->parameters = json_free(call->parameters);
    call->answer = json_free(call->answer);
    call->error = json_free(call->error);
}
