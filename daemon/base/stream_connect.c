/* A connection attempt: an op around a non-blocking connect(), a watch for its end and a timer for its
 * deadline. */
#include <errno.h>

#include "base/fault.h"
#include "base/op.h"
#include "base/stream.h"
#include "base/timer.h"
#include "base/watch.h"

#define FULL_RETRY_MS 20

struct attempt {
    struct op op;
    struct loop *loop;
    struct sockaddr_storage address;
    socklen_t address_len;
    int fd;
    struct watch *watch;
    struct timer *deadline, *retry;
    struct work first; /* the first try is made from the loop: starting never fails */
    stream_connect_fn done;
    void *ctx;
};

static void attempt_free(struct attempt *a)
{
    runq_drop(&a->first);
    timer_free(a->deadline);
    timer_free(a->retry);
    if (a->watch)
        watch_free(a->watch, a->fd >= 0);
    else if (a->fd >= 0)
        close(a->fd);
    free(a);
}

static void attempt_cancel(struct op *op)
{
    attempt_free(CONTAINER_OF(op, struct attempt, op));
}

static void attempt_report(struct attempt *a, struct stream *s, const struct fault *f)
{
    stream_connect_fn done = a->done;
    void *ctx = a->ctx;

    op_end(&a->op);
    attempt_free(a);
    done(ctx, s, f);
}

static enum fault_kind kind_of(int error)
{
    switch (error) {
    case ENOENT: return FAULT_GONE; /* no such Unix socket */
    case EACCES:
    case EPERM: return FAULT_DENIED;
    case EMFILE:
    case ENFILE:
    case ENOBUFS:
    case ENOMEM:
    case EADDRNOTAVAIL: return FAULT_EXHAUSTED;
    case EINVAL:
    case EAFNOSUPPORT:
    case EPROTOTYPE:
    case ENOTSOCK: return FAULT_INVALID;
    default: return FAULT_TRANSIENT;
    }
}

static void attempt_fail(struct attempt *a, int error)
{
    struct fault f;

    fault_set(&f, kind_of(error), -error, "connect: %s", strerror(error));
    attempt_report(a, NULL, &f);
}

static void attempt_succeed(struct attempt *a)
{
    int fd = TAKE_FD(a->fd);

    a->watch = watch_free(a->watch, false); /* lets go of fd at once, so that the stream can watch it */
    attempt_report(a, stream_new_fd(a->loop, fd), NULL);
}

static void attempt_on_ready(void *ctx, unsigned events)
{
    struct attempt *a = ctx;
    int error = 0;

    (void)events;
    if (getsockopt(a->fd, SOL_SOCKET, SO_ERROR, &error, &(socklen_t){sizeof(error)}) < 0)
        error = errno;
    if (error)
        attempt_fail(a, error);
    else
        attempt_succeed(a);
}

static void attempt_try(void *ctx)
{
    struct attempt *a = ctx;
    const struct sockaddr *to = (const struct sockaddr *)&a->address;

    if (a->fd < 0)
        a->fd = socket(to->sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (a->fd < 0)
        return attempt_fail(a, errno);
    if (connect(a->fd, to, a->address_len) == 0)
        return attempt_succeed(a);
    if (errno == EAGAIN &&
        to->sa_family == AF_UNIX) /* the listener's backlog is full; there is no event for room */
        return timer_arm(a->retry, FULL_RETRY_MS);
    if (errno != EINPROGRESS && errno != EINTR)
        return attempt_fail(a, errno);
    a->watch = watch_new(a->loop, a->fd, attempt_on_ready, a);
    watch_want(a->watch, WATCH_OUT);
}

static void attempt_on_deadline(void *ctx)
{
    attempt_fail(ctx, ETIMEDOUT);
}

void stream_connect(struct loop *l, const struct sockaddr *address, socklen_t n, uint64_t timeout_ms,
                    struct op **slot, stream_connect_fn done, void *ctx)
{
    struct attempt *a = xnew(struct attempt);

    a->loop = l;
    a->fd = -1;
    a->done = done;
    a->ctx = ctx;
    a->address_len = MIN(n, (socklen_t)sizeof(a->address));
    memcpy(&a->address, address, a->address_len);
    op_begin(&a->op, slot, attempt_cancel);
    a->retry = timer_new(l, attempt_try, a);
    a->deadline = timer_new(l, attempt_on_deadline, a);
    timer_arm(a->deadline, timeout_ms);
    work_init(&a->first, attempt_try, a);
    runq_add(l, &a->first);
}
