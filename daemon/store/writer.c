/* Two lists under one lock: to do, and done. The thread rings the loop with uv_async, whose handle is a leaf
 * of its own, because libuv wants its memory a little longer than we do. It keeps the loop alive only while
 * there are jobs. */
#include "store/writer.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <time.h>

#include "base/loop.h"
#include "store/database.h"

#define HANG_LIMIT_MS 500

struct bell {
    uv_async_t uv;
    struct writer *writer; /* NULL: freed */
};

struct writer {
    struct database *database;
    struct bell *bell; /* the loop's, but for uv_async_send(), which is under the lock */
    unsigned jobs;     /* sent and not over; the loop's */
    pthread_t thread;

    pthread_mutex_t lock;
    pthread_cond_t wake; /* for the thread */
    pthread_cond_t idle; /* for the loop, when it waits */
    struct list todo, done;
    bool running, ending, ended, abandoned;
};

static void lock(struct writer *w)
{
    if (pthread_mutex_lock(&w->lock) != 0)
        abort();
}

static void unlock(struct writer *w)
{
    if (pthread_mutex_unlock(&w->lock) != 0)
        abort();
}

static void drop_all(struct list *jobs)
{
    LIST_FOREACH_SAFE (j, jobs, struct job, node) {
        list_remove(&j->node);
        j->drop(j);
    }
}

static void writer_destroy(struct writer *w)
{
    drop_all(&w->todo);
    drop_all(&w->done);
    database_free(w->database);
    pthread_cond_destroy(&w->wake);
    pthread_cond_destroy(&w->idle);
    pthread_mutex_destroy(&w->lock);
    free(w);
}

/* ---- the thread ---- */

/* Under the lock, which is given up while the job runs. */
static void run_first(struct writer *w)
{
    struct job *j = LIST_FIRST(&w->todo, struct job, node);

    list_remove(&j->node);
    w->running = true;
    unlock(w);
    j->run(j, w->database);
    lock(w);
    w->running = false;
    list_append(&w->done, &j->node);
    if (w->bell)
        uv_async_send(&w->bell->uv);
    pthread_cond_signal(&w->idle);
}

static void *writer_main(void *ctx)
{
    struct writer *w = ctx;

    lock(w);
    while (!w->ending) {
        if (list_is_empty(&w->todo))
            pthread_cond_wait(&w->wake, &w->lock);
        else
            run_first(w);
    }
    w->ended = true;
    pthread_cond_signal(&w->idle);
    bool abandoned = w->abandoned;

    unlock(w);
    if (abandoned)
        writer_destroy(w);
    return NULL;
}

/* ---- the loop ---- */

/* over() may free the writer: the bell knows. */
static void collect(struct bell *bell)
{
    struct list done;

    list_init(&done);
    lock(bell->writer);
    LIST_FOREACH_SAFE (j, &bell->writer->done, struct job, node) {
        list_remove(&j->node);
        list_append(&done, &j->node);
    }
    unlock(bell->writer);
    LIST_FOREACH_SAFE (j, &done, struct job, node) {
        list_remove(&j->node);
        if (!bell->writer) {
            j->drop(j);
            continue;
        }
        if (--bell->writer->jobs == 0)
            uv_unref((uv_handle_t *)&bell->uv);
        j->over(j);
    }
}

static void on_ring(uv_async_t *uv)
{
    struct bell *bell = CONTAINER_OF(uv, struct bell, uv);

    if (bell->writer)
        collect(bell);
}

static void on_bell_closed(uv_handle_t *handle)
{
    free(CONTAINER_OF(handle, struct bell, uv));
}

static void init_locks(struct writer *w)
{
    pthread_condattr_t monotonic;

    pthread_mutex_init(&w->lock, NULL);
    pthread_cond_init(&w->wake, NULL);
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(&w->idle, &monotonic);
    pthread_condattr_destroy(&monotonic);
}

/* Signals are for the loop. */
static void start(struct writer *w)
{
    sigset_t all, before;

    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    if (pthread_create(&w->thread, NULL, writer_main, w) != 0)
        abort();
    pthread_sigmask(SIG_SETMASK, &before, NULL);
}

struct writer *writer_new(struct loop *l, struct database *d)
{
    struct writer *w = xnew(struct writer);

    w->database = d;
    w->bell = xnew(struct bell);
    w->bell->writer = w;
    if (uv_async_init(loop_uv(l), &w->bell->uv, on_ring) < 0)
        abort();
    uv_unref((uv_handle_t *)&w->bell->uv);
    list_init(&w->todo);
    list_init(&w->done);
    init_locks(w);
    start(w);
    return w;
}

void writer_send(struct writer *w, struct job *j)
{
    if (w->jobs++ == 0)
        uv_ref((uv_handle_t *)&w->bell->uv);
    list_init(&j->node);
    lock(w);
    list_append(&w->todo, &j->node);
    pthread_cond_signal(&w->wake);
    unlock(w);
}

/* Under the lock. */
static bool wait_until_idle(struct writer *w, uint64_t limit_ms)
{
    struct timespec until;

    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += (time_t)(limit_ms / 1000);
    until.tv_nsec += (long)(limit_ms % 1000) * 1000000;
    if (until.tv_nsec >= 1000000000) {
        until.tv_nsec -= 1000000000;
        until.tv_sec++;
    }
    while (w->ending ? !w->ended : w->running || !list_is_empty(&w->todo))
        if (pthread_cond_timedwait(&w->idle, &w->lock, &until) == ETIMEDOUT)
            return false;
    return true;
}

bool writer_wait(struct writer *w, uint64_t limit_ms)
{
    lock(w);
    bool idle = wait_until_idle(w, limit_ms);

    unlock(w);
    collect(w->bell);
    return idle;
}

struct writer *writer_free(struct writer *w)
{
    if (!w)
        return NULL;
    w->bell->writer = NULL;
    uv_close((uv_handle_t *)&w->bell->uv, on_bell_closed); /* a late ring finds the handle closing: fine */
    lock(w);
    w->bell = NULL;
    w->ending = true;
    pthread_cond_signal(&w->wake);
    w->abandoned =
        w->running && !wait_until_idle(w, HANG_LIMIT_MS); /* between jobs it only needs to wake up */
    bool abandoned = w->abandoned;
    pthread_t thread = w->thread;

    unlock(w);
    if (abandoned) {
        pthread_detach(thread);
        return NULL;
    }
    pthread_join(thread, NULL);
    writer_destroy(w);
    return NULL;
}
