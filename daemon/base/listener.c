/* Listeners. Accepting is bounded per turn, so that a storm of connections leaves room for those that exist,
 * and pauses when descriptors run out: a level-triggered loop would spin on the backlog otherwise. */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <sys/stat.h>
#include <sys/un.h>

#include "base/stream.h"
#include "base/timer.h"
#include "base/watch.h"
#include "proto/mem.h"

#define ACCEPTS_PER_TURN   16
#define EXHAUSTED_PAUSE_MS 100

struct listener {
    struct loop *loop;
    int fd;
    struct watch *watch;
    struct timer *pause; /* armed: descriptors ran out */
    bool paused;
    bool *freed; /* set for who is accepting when on_stream() frees us */
    void (*on_stream)(void *ctx, struct stream *s);
    void *ctx;
    char *path; /* of a Unix socket whose file is ours, else NULL */
    dev_t device;
    ino_t inode;
};

static void listener_update(struct listener *l)
{
    watch_want(l->watch, l->paused || timer_is_armed(l->pause) ? 0 : WATCH_IN);
}

static bool is_exhausted(int error)
{
    return error == EMFILE || error == ENFILE || error == ENOBUFS || error == ENOMEM;
}

static void listener_accept(void *ctx, unsigned events)
{
    struct listener *l = ctx;
    bool freed = false;

    (void)events;
    l->freed = &freed;
    for (unsigned i = 0; i < ACCEPTS_PER_TURN && !l->paused; i++) {
        int fd = accept4(l->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);

        if (fd < 0 && is_exhausted(errno)) {
            timer_arm(l->pause, EXHAUSTED_PAUSE_MS);
            listener_update(l);
        }
        if (fd < 0) /* EAGAIN: all taken. Anything else is the fate of that one connection; the next turn goes
                       on. */
            break;
        l->on_stream(l->ctx, stream_new_fd(l->loop, fd));
        if (freed)
            return;
    }
    l->freed = NULL;
}

static void listener_on_pause_over(void *ctx)
{
    listener_update(ctx);
}

/* Takes fd, bound and listening, and path. */
static struct listener *listener_new(struct loop *loop, int fd,
                                     void (*on_stream)(void *ctx, struct stream *s), void *ctx)
{
    struct listener *l = xnew(struct listener);

    l->loop = loop;
    l->fd = fd;
    l->on_stream = on_stream;
    l->ctx = ctx;
    l->watch = watch_new(loop, fd, listener_accept, l);
    l->pause = timer_new(loop, listener_on_pause_over, l);
    listener_update(l);
    return l;
}

static int address_parse(const char *ip, uint16_t port, struct sockaddr_storage *ret, socklen_t *ret_n)
{
    struct sockaddr_in *v4 = (struct sockaddr_in *)ret;
    struct sockaddr_in6 *v6 = (struct sockaddr_in6 *)ret;

    memset(ret, 0, sizeof(*ret));
    if (inet_pton(AF_INET, ip, &v4->sin_addr) == 1) {
        v4->sin_family = AF_INET;
        v4->sin_port = htons(port);
        *ret_n = sizeof(*v4);
        return 0;
    }
    if (inet_pton(AF_INET6, ip, &v6->sin6_addr) == 1) {
        v6->sin6_family = AF_INET6;
        v6->sin6_port = htons(port);
        *ret_n = sizeof(*v6);
        return 0;
    }
    return -EINVAL;
}

int listener_new_tcp(struct loop *l, const char *ip, uint16_t port,
                     void (*on_stream)(void *ctx, struct stream *s), void *ctx, struct listener **ret)
{
    _cleanup_close_ int fd = -1;
    struct sockaddr_storage address;
    socklen_t n;
    int on = 1, r = address_parse(ip, port, &address, &n);

    if (r < 0)
        return r;
    fd = socket(address.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return -errno;
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
    if (bind(fd, (struct sockaddr *)&address, n) < 0 || listen(fd, SOMAXCONN) < 0)
        return -errno;
    *ret = listener_new(l, TAKE_FD(fd), on_stream, ctx);
    return 0;
}

int listener_try_ip(const char *ip)
{
    _cleanup_close_ int fd = -1;
    struct sockaddr_storage address;
    socklen_t n;
    int r = address_parse(ip, 0, &address, &n);

    if (r < 0)
        return r;
    fd = socket(address.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    return fd < 0 || bind(fd, (struct sockaddr *)&address, n) < 0 ? -errno : 0;
}

int listener_new_fd(struct loop *l, int fd, void (*on_stream)(void *ctx, struct stream *s), void *ctx,
                    struct listener **ret)
{
    int listens = 0;

    if (getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listens, &(socklen_t){sizeof(listens)}) < 0)
        return -errno;
    if (!listens)
        return -EINVAL;
    if (fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK) <
        0) /* else accept() would wait for the next one */
        return -errno;
    *ret = listener_new(l, fd, on_stream, ctx);
    return 0;
}

/* Somebody accepts there, or would if it had the time. */
static bool unix_is_alive(const struct sockaddr_un *address)
{
    _cleanup_close_ int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

    return fd < 0 || connect(fd, (const struct sockaddr *)address, sizeof(*address)) == 0 ||
           errno != ECONNREFUSED;
}

/* Removes a socket file that nobody listens on; any other file in the way stays. */
static int unix_remove_stale(const struct sockaddr_un *address)
{
    struct stat st;

    if (lstat(address->sun_path, &st) < 0)
        return errno == ENOENT ? 0 : -errno;
    if (!S_ISSOCK(st.st_mode) || unix_is_alive(address))
        return -EADDRINUSE;
    return unlink(address->sun_path) < 0 ? -errno : 0;
}

static int unix_bind(int fd, const struct sockaddr_un *address, unsigned mode, struct stat *ret_file)
{
    int r;

    if (bind(fd, (const struct sockaddr *)address, sizeof(*address)) < 0) {
        if (errno != EADDRINUSE)
            return -errno;
        r = unix_remove_stale(address);
        if (r < 0)
            return r;
        if (bind(fd, (const struct sockaddr *)address, sizeof(*address)) < 0)
            return -errno;
    }
    /* Nobody can connect before listen(), so there is no moment with wider permissions. */
    if (chmod(address->sun_path, mode) == 0 && listen(fd, SOMAXCONN) == 0 &&
        stat(address->sun_path, ret_file) == 0)
        return 0;
    r = -errno;
    unlink(address->sun_path);
    return r;
}

int listener_new_unix(struct loop *l, const char *path, unsigned mode,
                      void (*on_stream)(void *ctx, struct stream *s), void *ctx, struct listener **ret)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    _cleanup_close_ int fd = -1;
    struct stat file;
    int r;

    if (strlen(path) >= sizeof(address.sun_path))
        return -ENAMETOOLONG;
    strcpy(address.sun_path, path);
    fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return -errno;
    r = unix_bind(fd, &address, mode, &file);
    if (r < 0)
        return r;
    *ret = listener_new(l, TAKE_FD(fd), on_stream, ctx);
    (*ret)->path = xstrdup(path);
    (*ret)->device = file.st_dev;
    (*ret)->inode = file.st_ino;
    return 0;
}

uint16_t listener_port(const struct listener *l)
{
    struct sockaddr_storage address;
    socklen_t n = sizeof(address);

    if (getsockname(l->fd, (struct sockaddr *)&address, &n) < 0)
        return 0;
    if (address.ss_family == AF_INET)
        return ntohs(((struct sockaddr_in *)&address)->sin_port);
    if (address.ss_family == AF_INET6)
        return ntohs(((struct sockaddr_in6 *)&address)->sin6_port);
    return 0;
}

void listener_pause(struct listener *l, bool paused)
{
    l->paused = paused;
    listener_update(l);
}

/* Not the file of a successor who replaced ours. */
static void listener_remove_file(struct listener *l)
{
    struct stat st;

    if (l->path && stat(l->path, &st) == 0 && st.st_dev == l->device && st.st_ino == l->inode)
        unlink(l->path);
    free(l->path);
}

struct listener *listener_free(struct listener *l)
{
    if (!l)
        return NULL;
    if (l->freed)
        *l->freed = true;
    listener_remove_file(l);
    watch_free(l->watch, true);
    timer_free(l->pause);
    free(l);
    return NULL;
}

struct listener *listener_give_up(struct listener *l)
{
    if (l)
        shutdown(l->fd, SHUT_RDWR);
    return listener_free(l);
}
