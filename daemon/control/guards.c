/* Written anew as a whole after each turn in which a lease changed, and only where the text is another one. */
#include "control/guards.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <unistd.h>

#include "base/log.h"
#include "base/runq.h"
#include "control/control.h"
#include "control/machines.h"
#include "control/show_rent.h"
#include "guard/keeper.h"
#include "lease/account.h"
#include "lease/boxed.h"
#include "lease/lease.h"
#include "lease/rented.h"
#include "manager.h"
#include "proto/buf.h"
#include "proto/mem.h"

#define GUARDS_BYTES_MAX (64u << 10)

struct guards {
    const struct control_context *context;
    struct manager_listener listener;
    struct work write;
    char *path, *beside, *text; /* text: what is in the file; NULL: not known */
};

/* It is on, or may be. */
static bool is_meant(const struct lease *l)
{
    struct rented_figures n = {0};

    if (lease_rented(l))
        rented_figures(lease_rented(l), &n);
    return (lease_rented(l) || lease_boxed(l)) && !machine_is_off(l) && !n.is_none &&
           n.state != LIFE_WAITING;
}

/* Nobody knows what it costs. */
static void add_boxed(struct buf *out, const struct lease *l)
{
    const struct boxed *b = lease_boxed(l);
    struct boxed_figures n;
    struct keeper_figures k;

    boxed_figures(b, &n);
    keeper_figures(boxed_keeper(b), &k);
    buf_addf(out, "%s %s %" PRId64 " 0 -\n", lease_name(l), boxed_state_name(boxed_state(b)),
             MAX(n.acts_at_ms, k.hold_until_at_ms));
}

static void add_rented(struct buf *out, struct lease *l)
{
    const struct keeper *k = rented_keeper(lease_rented(l));
    struct keeper_figures n = {0};
    bool estimate;

    if (k)
        keeper_figures(k, &n);
    buf_addf(out, "%s %s %" PRId64 " %" PRId64 " %s\n", lease_name(l), show_rental_state(l),
             MAX(n.acts_at_ms, n.hold_until_at_ms), rental_rate(l, &estimate),
             account_ops(rented_account(lease_rented(l)))->unit);
}

/* Nobody waits for it: the page cache takes it at once. */
static int write_file(const struct guards *g, const char *text, size_t n)
{
    _cleanup_close_ int fd = open(g->beside, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0600);

    if (fd < 0 || write(fd, text, n) != (ssize_t)n)
        return errno ? -errno : -EIO;
    return rename(g->beside, g->path) < 0 ? -errno : 0;
}

static void guards_write(void *ctx)
{
    struct guards *g = ctx;
    struct lease *l;
    struct buf out;

    buf_init(&out, GUARDS_BYTES_MAX);
    for (unsigned i = 0; (l = manager_lease_at(g->context->manager, i)); i++)
        if (is_meant(l) && lease_boxed(l))
            add_boxed(&out, l);
        else if (is_meant(l))
            add_rented(&out, l);
    _cleanup_free_ char *text = buf_take(&out);

    if (g->text && streq(g->text, text))
        return;

    int r = write_file(g, text, strlen(text));

    if (r < 0)
        log_warning(NULL, "%s was not written: %s", g->path, strerror(-r));
    free(g->text);
    g->text = r < 0 ? NULL : TAKE_PTR(text);
}

static void guards_on_lease(void *ctx, struct lease *l, bool gone)
{
    struct guards *g = ctx;

    (void)gone;
    if (lease_rented(l) || lease_boxed(l))
        runq_add(g->context->loop, &g->write);
}

struct guards *guards_new(const struct control_context *k)
{
    struct guards *g = xnew(struct guards);

    g->context = k;
    g->path = xasprintf("%s/guards", k->state_directory);
    g->beside = xasprintf("%s/guards.new", k->state_directory);
    g->listener = (struct manager_listener){.lease = guards_on_lease, .ctx = g};
    manager_listen(k->manager, &g->listener);
    work_init(&g->write, guards_write, g);
    runq_add(k->loop, &g->write);
    return g;
}

struct guards *guards_free(struct guards *g)
{
    if (!g)
        return NULL;
    manager_unlisten(g->context->manager, &g->listener);
    runq_drop(&g->write);
    free(g->path);
    free(g->beside);
    free(g->text);
    free(g);
    return NULL;
}
