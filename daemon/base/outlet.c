/* Datagrams and sockets are sent with MSG_DONTWAIT. A pipe or a terminal is opened anew, since O_NONBLOCK on
 * standard error itself would also hit everybody who shares it, the shell for one; where that is not allowed,
 * it is polled first, and a line is short enough for a pipe to take it whole. */
#include "base/outlet.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "proto/buf.h"
#include "proto/mem.h"
#include "proto/text.h"

#define WINDOW_MS       10000
#define PATIENCE_MS     50
#define ENTRY_BYTES_MAX ((size_t)16 << 10)

struct outlet {
    int fd;             /* standard error, or our own way to the same file */
    bool is_socket;     /* fd */
    bool is_reopened;   /* fd */
    bool is_file;       /* fd: there is always room, or never */
    bool from_journald; /* fd is read by journald: priorities as <N> are understood */
    int journal;        /* a datagram socket; -1: there is no journal */
    bool is_connected;  /* journal */
    struct sockaddr_un journald;
    bool torn;           /* the last line got out in part */
    uint64_t lost;       /* lines nobody took */
    uint64_t window_due; /* until then at most patience_ms more of waiting */
    unsigned patience_ms;
};

/* sd_journal_send(3): JOURNAL_STREAM holds device and inode of the stream that journald reads. */
static bool is_journal_stream(int fd)
{
    const char *stream = getenv("JOURNAL_STREAM");
    unsigned long long device, inode;
    struct stat st;

    return stream && sscanf(stream, "%llu:%llu", &device, &inode) == 2 && fstat(fd, &st) == 0 &&
           st.st_dev == device && st.st_ino == inode;
}

static void reopen(struct outlet *o)
{
    _cleanup_free_ char *path = xasprintf("/proc/self/fd/%d", o->fd);
    int fd = open(path, O_WRONLY | O_NONBLOCK | O_CLOEXEC | O_NOCTTY);

    if (fd < 0)
        return;
    o->fd = fd;
    o->is_reopened = true;
}

struct outlet *outlet_new(int fd, const char *journald)
{
    struct outlet *o = xnew(struct outlet);
    struct stat st = {};

    o->fd = fd;
    o->journal = -1;
    o->journald.sun_family = AF_UNIX;
    fstat(fd, &st);
    o->is_socket = S_ISSOCK(st.st_mode);
    o->is_file = S_ISREG(st.st_mode);
    if (S_ISFIFO(st.st_mode) || S_ISCHR(st.st_mode))
        reopen(o);
    o->from_journald = journald && is_journal_stream(fd);
    if (!o->from_journald)
        return o;
    strncpy(o->journald.sun_path, journald, sizeof(o->journald.sun_path) - 1);
    o->journal = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    return o;
}

struct outlet *outlet_free(struct outlet *o)
{
    if (!o)
        return NULL;
    if (o->is_reopened)
        close(o->fd);
    if (o->journal >= 0)
        close(o->journal);
    free(o);
    return NULL;
}

/* False: it was waited for long enough lately. */
static bool wait_for_reader(struct outlet *o, int fd)
{
    struct pollfd p = {.fd = fd, .events = POLLOUT};
    uint64_t now = clock_now_ms();

    if (now >= o->window_due) {
        o->window_due = now + WINDOW_MS;
        o->patience_ms = PATIENCE_MS;
    }
    if (o->patience_ms == 0)
        return false;
    int r = poll(&p, 1, (int)o->patience_ms);

    o->patience_ms -= (unsigned)MIN(MAX(clock_now_ms() - now, 1u), o->patience_ms);
    return r > 0;
}

static ssize_t try_text(struct outlet *o, const char *text, size_t n)
{
    struct pollfd p = {.fd = o->fd, .events = POLLOUT};
    ssize_t r;

    if (o->is_socket)
        r = send(o->fd, text, n, MSG_DONTWAIT | MSG_NOSIGNAL);
    else if (!o->is_reopened && !o->is_file && poll(&p, 1, 0) == 0)
        return -EAGAIN;
    else
        r = write(o->fd, text, n);
    return r < 0 ? -errno : r;
}

static int put_text(struct outlet *o, const char *text, size_t n)
{
    for (size_t at = 0; at < n;) {
        ssize_t r = try_text(o, text + at, n - at);

        if (r > 0)
            at += (size_t)r;
        else if (r != -EINTR && (r != -EAGAIN || !wait_for_reader(o, o->fd))) {
            o->torn |= at > 0;
            return r < 0 ? (int)r : -EIO;
        }
    }
    o->torn = false;
    return 0;
}

static int emit_text(struct outlet *o, const struct log_entry *e)
{
    time_t second = (time_t)(e->at_ms / 1000);
    char line[PIPE_BUF], priority[8] = "";
    struct tm tm;
    size_t n;

    localtime_r(&second, &tm);
    if (o->from_journald)
        snprintf(priority, sizeof(priority), "<%d>", (int)e->level);
    n = (size_t)snprintf(line, sizeof(line), "%s%s%02d:%02d:%02d.%03d %-7s %-7s %s%s%s", o->torn ? "\n" : "",
                         priority, tm.tm_hour, tm.tm_min, tm.tm_sec, (int)(e->at_ms % 1000),
                         log_level_name(e->level), log_source_name(e->source), e->target,
                         *e->target ? ": " : "", e->text);
    if (n >= sizeof(line))
        n = utf8_valid(line, sizeof(line) - 1);
    line[n] = '\n';
    return put_text(o, line, n + 1);
}

/* https://systemd.io/JOURNAL_NATIVE_PROTOCOL, read 2026-11-27: NAME=VALUE lines in one datagram. No value of
 * ours holds a line break. sd_journal_send() does the same, but blocks. */
static void journal_fields(struct buf *b, const struct log_entry *e)
{
    buf_addf(b, "MESSAGE=%s%s%s\nPRIORITY=%d\nSYSLOG_IDENTIFIER=llmhostd\nLLMHOST_SOURCE=%s\n", e->target,
             *e->target ? ": " : "", e->text, (int)e->level, log_source_name(e->source));
    if (*e->target)
        buf_addf(b, "%s=%s\n", name_is_instance(e->target) ? "LLMHOST_INSTANCE" : "LLMHOST_MODEL", e->target);
    if (e->event)
        buf_addf(b, "LLMHOST_EVENT=%s\n", e->event);
    if (e->message_id)
        buf_addf(b, "MESSAGE_ID=%s\n", e->message_id);
}

static int journal_connect(struct outlet *o)
{
    if (connect(o->journal, (struct sockaddr *)&o->journald, sizeof(o->journald)) < 0)
        return -errno;
    o->is_connected = true;
    return 0;
}

static int emit_journal(struct outlet *o, const struct log_entry *e)
{
    struct buf b;
    int r;

    if (o->journal < 0)
        return -ENOTCONN;
    buf_init(&b, ENTRY_BYTES_MAX);
    journal_fields(&b, e);
    do {
        r = o->is_connected ? 0 : journal_connect(o);
        if (r == 0 && send(o->journal, b.data, b.len, MSG_DONTWAIT | MSG_NOSIGNAL) < 0)
            r = -errno;
        if (r == -ECONNREFUSED ||
            r == -ENOTCONN) { /* another journald than the one we knew: the next line finds it */
            o->is_connected = false;
            break;
        }
    } while (r == -EINTR || (r == -EAGAIN && wait_for_reader(o, o->journal)));
    buf_done(&b);
    return r;
}

/* The stream that journald reads is the second way, when its socket is gone; not when it does not read. */
static int emit(struct outlet *o, const struct log_entry *e)
{
    int r = emit_journal(o, e);

    return r < 0 && r != -EAGAIN ? emit_text(o, e) : r;
}

void outlet_write(struct outlet *o, const struct log_entry *e)
{
    char text[100];
    struct log_entry note = {
        .at_ms = e->at_ms, .level = LOG_LEVEL_WARNING, .source = LOG_DAEMON, .target = "", .text = text};

    if (o->lost > 0) {
        snprintf(text, sizeof(text), "%llu lines are missing here, nobody read them: llmhostctl logs",
                 (unsigned long long)o->lost);
        if (emit(o, &note) == 0)
            o->lost = 0;
    }
    if (o->lost > 0 || emit(o, e) < 0)
        o->lost++;
}
