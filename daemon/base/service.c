/* Notifications are datagrams to PID 1: a few a minute, and one a second at most while things change.
 * sd_notify(3) waits while the queue of a manager that hangs is full (sd-daemon.c of systemd 252: sendmsg()
 * without MSG_DONTWAIT), and a watchdog that is fed from there would hang with it. So they are sent from
 * here. */
#include "base/service.h"

#include <errno.h>
#include <pwd.h>
#include <stddef.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <systemd/sd-daemon.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/timer.h"
#include "proto/mem.h"
#include "proto/text.h"

#define STATUS_EVERY_MS 1000
#define AGAIN_MS        200  /* a message that was not taken */
#define UNTOLD_MAX      1000 /* of what waits: a status more or less */

struct service {
    struct loop *loop;
    int fd; /* to the manager, -1: there is none */
    struct sockaddr_un manager;
    socklen_t n_manager;
    char *untold; /* lines it has not taken yet, NULL: none */
    struct timer *again;
    char **names;  /* of passed sockets, which are SD_LISTEN_FDS_START and up; NULL behind the last */
    int n_sockets; /* those taken have an empty name */
    struct timer *watchdog;
    uint64_t feed_ms; /* 0: there is no watchdog */
    service_status_fn status;
    void *ctx;
    struct timer *tell;
    uint64_t told_due; /* when status() was asked last */
    char *told;
    char *linger_file;
    bool is_system;
    bool ready;
};

/* ---- what the manager is told ---- */

/* "/run/systemd/notify", or "@" and an abstract name. */
static void manager_open(struct service *s)
{
    const char *name = getenv("NOTIFY_SOCKET");
    size_t n = name ? strlen(name) : 0;

    s->fd = -1;
    if (n < 2 || n >= sizeof s->manager.sun_path || !strchr("/@", *name))
        return;
    s->manager.sun_family = AF_UNIX;
    memcpy(s->manager.sun_path, *name == '@' ? "" : "/", 1);
    memcpy(s->manager.sun_path + 1, name + 1, n - 1);
    s->n_manager = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + n);
    s->fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
}

static void tell_again(void *ctx)
{
    struct service *s = ctx;
    ssize_t n = sendto(s->fd, s->untold, strlen(s->untold), MSG_DONTWAIT | MSG_NOSIGNAL,
                       (const struct sockaddr *)&s->manager, s->n_manager);

    if (n < 0 && (errno == EAGAIN || errno == ENOBUFS || errno == EINTR)) {
        timer_arm(s->again, AGAIN_MS);
        return;
    }
    free(TAKE_PTR(s->untold)); /* or nobody is there to be told */
}

/* Several lines in one message are as good as several messages. */
static void tell(struct service *s, const char *lines)
{
    _cleanup_free_ char *before = s->untold;

    if (s->fd < 0)
        return;
    s->untold = before ? xasprintf("%s\n%s", before, lines) : xstrdup(lines);
    if (!before)
        tell_again(s);
}

static void service_on_watchdog(void *ctx)
{
    struct service *s = ctx;

    if (!s->untold || !strstr(s->untold, "WATCHDOG=1"))
        tell(s, "WATCHDOG=1");
    timer_arm(s->watchdog, s->feed_ms);
}

static void service_on_tell(void *ctx)
{
    struct service *s = ctx;
    _cleanup_free_ char *text = s->status(s->ctx), *line = NULL;

    s->told_due = clock_now_ms();
    if ((s->told && streq(text, s->told)) || (s->untold && strlen(s->untold) > UNTOLD_MAX))
        return;
    free(s->told);
    s->told = TAKE_PTR(text);
    line = xasprintf("STATUS=%s", s->told);
    tell(s, line);
}

/* ---- what it gave us ---- */

/* A terminal inherits MANAGERPID too: only what the manager started itself is its service. NULL: not ours. */
static char *find_linger_file(void)
{
    const char *manager = getenv("MANAGERPID");
    const struct passwd *user = manager && atoi(manager) == getppid() ? getpwuid(getuid()) : NULL;

    return user ? xasprintf("/var/lib/systemd/linger/%s", user->pw_name) : NULL;
}

/* What a service starts inherits the identifier, but not the parent. */
static bool is_started_by_system(void)
{
    return getenv("INVOCATION_ID") && !getenv("MANAGERPID") && getppid() == 1;
}

struct service *service_new(struct loop *l, service_status_fn status, void *ctx)
{
    struct service *s = xnew(struct service);
    uint64_t watchdog_us = 0;
    int n;

    s->loop = l;
    s->status = status;
    s->ctx = ctx;
    manager_open(s);
    s->again = timer_new(l, tell_again, s);
    s->watchdog = timer_new(l, service_on_watchdog, s);
    s->tell = timer_new(l, service_on_tell, s);
    n = sd_listen_fds_with_names(true, &s->names);
    s->n_sockets = MAX(n, 0);
    if (n < 0)
        log_warning(NULL, "sockets of the service manager cannot be taken: %s", strerror(-n));
    if (sd_watchdog_enabled(true, &watchdog_us) > 0)
        s->feed_ms = MAX(watchdog_us / 2000, 1u);
    s->linger_file = find_linger_file();
    s->is_system = is_started_by_system();
    return s;
}

struct service *service_free(struct service *s)
{
    if (!s)
        return NULL;
    for (int i = 0; i < s->n_sockets; i++) {
        if (*s->names[i])
            close(SD_LISTEN_FDS_START + i);
        free(s->names[i]);
    }
    free(s->names);
    if (s->fd >= 0)
        close(s->fd);
    free(s->untold);
    timer_free(s->again);
    timer_free(s->watchdog);
    timer_free(s->tell);
    free(s->told);
    free(s->linger_file);
    free(s);
    return NULL;
}

int service_take_socket(struct service *s, const char *name)
{
    for (int i = 0; i < s->n_sockets; i++)
        if (streq(s->names[i], name)) {
            *s->names[i] = '\0';
            return SD_LISTEN_FDS_START + i;
        }
    return 0;
}

bool service_is_system(const struct service *s)
{
    return s->is_system;
}

const char *service_linger_file(const struct service *s)
{
    return s->linger_file;
}

void service_ready(struct service *s)
{
    for (int i = 0; i < s->n_sockets; i++)
        if (*s->names[i])
            log_warning(NULL,
                        "the service manager passes a socket \"%s\" that is not used: who connects there "
                        "waits in vain",
                        s->names[i]);
    s->ready = true;
    tell(s, "READY=1");
    if (s->feed_ms)
        service_on_watchdog(s);
    service_changed(s);
}

void service_changed(struct service *s)
{
    if (s->ready && !timer_is_armed(s->tell))
        timer_arm_at(s->tell, s->told ? s->told_due + STATUS_EVERY_MS : 0);
}

void service_stopping(struct service *s)
{
    timer_disarm(s->tell);
    s->ready = false;
    tell(s, "STOPPING=1\nSTATUS=Ending");
}
