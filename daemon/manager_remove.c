/* An instance is removed: our key leaves the machine, as far as that is reached, and what a guard of ours would still do
 * is waited for; then it is forgotten here, and the disk is the last to hear of it. */
#include "manager_private.h"

#include <errno.h>

#include "base/clock.h"
#include "base/event.h"
#include "base/timer.h"
#include "lease/account.h"
#include "lease/lease.h"
#include "lease/ledger.h"
#include "lease/rented.h"
#include "session/session.h"

struct removal {
    struct op op;
    struct list node;
    struct manager *manager;
    char *name;
    struct op *step;
    struct timer *timer;
    op_done_fn done;
    void *ctx;
};

/* How long our key line may take to be removed from a machine that is up. */
#define FORGET_KEY_MS 5000

static void removal_free(struct removal *x)
{
    list_remove(&x->node);
    op_cancel(&x->step);
    timer_free(x->timer);
    free(x->name);
    free(x);
}

static void removal_cancel(struct op *op)
{
    removal_free(CONTAINER_OF(op, struct removal, op));
}

static void removal_on_durable(void *ctx, const struct fault *f)
{
    struct removal *x = ctx;
    op_done_fn done = x->done;
    void *done_ctx = x->ctx;

    op_end(&x->op);
    removal_free(x);
    done(done_ctx, f);
}

static void removal_on_key_gone(void *ctx, const struct fault *f)
{
    struct removal *x = ctx;
    struct manager *m = x->manager;
    struct lease *l = manager_find_lease(m, x->name);

    timer_disarm(x->timer);
    if (f)
        log_warning(x->name, "our key stays in its authorized_keys: %s", f->text);
    if (l) {
        if (lease_rented(l)) /* what it costs from now on is not for us to say */
            ledger_gone(account_ledger(rented_account(lease_rented(l))), x->name, clock_wall_ms());
        manager_forget_instance(m, l);
        event_publish(LOG_LEVEL_NOTICE, LOG_DAEMON, x->name, "instance_removed", "removed");
    }
    store_after(m->context.store, store_remove_instance(m->context.store, x->name), &x->step,
                removal_on_durable, x);
}

static void removal_on_timer(void *ctx)
{
    struct removal *x = ctx;
    struct fault f;

    op_cancel(&x->step);
    fault_code(&f, FAULT_TRANSIENT, "timed_out", "no answer in time");
    removal_on_key_gone(x, &f);
}

/* From the question to the disk: nothing is placed there meanwhile, and nobody else removes what may come
 * under its name. */
bool removals_have(struct manager *m, const char *name)
{
    LIST_FOREACH (x, &m->removals, struct removal, node)
        if (streq(x->name, name))
            return true;
    return false;
}

/* One that somebody else made goes on without us; what is on by us would bill, and be nobody's. */
static int check_rented_removable(const struct lease *l, const struct rented *r, struct fault *f)
{
    enum life_state s = life_state(rented_life(r));

    if (s == LIFE_ABSENT || life_is_missing(rented_life(r)))
        return 0;
    if (!rented_record(r)->adopted)
        return fault_code(f, FAULT_INVALID, "is_rented",
                          "%s was not removed: it is rented; give it back first", lease_name(l));
    if (s == LIFE_RELEASING)
        return fault_code(f, FAULT_INVALID, "being_removed", "%s is being given back", lease_name(l));
    if (rented_record(r)->ours && s != LIFE_STOPPED)
        return fault_code(f, FAULT_INVALID, "not_off", "%s was not removed: it is not off, and that is by us",
                          lease_name(l));
    return 0;
}

static int check_removable(struct manager *m, struct lease *l, struct fault *f)
{
    const struct rented *rented = lease_rented(l);

    if (removals_have(m, lease_name(l)))
        return fault_code(f, FAULT_INVALID, "being_removed", "%s is being removed already", lease_name(l));
    if (rented && check_rented_removable(l, rented, f) < 0)
        return -EINVAL;
    LIST_FOREACH (d, &m->deployments, struct managed_deployment, node) {
        const struct deployment *on = d->deployment;

        if (deployment_lease(on) != l || deployment_is_idle(on))
            continue;
        /* A machine that is gone for good cannot be asked to stop what ran there. */
        if (deployment_goal(on) == GOAL_OFF && !lease_is_reachable(l))
            continue;
        return fault_code(f, FAULT_INVALID, "in_use", "%s was not removed: %s %s on it", lease_name(l),
                          deployment_name(on), deployment_goal(on) == GOAL_OFF ? "still runs" : "is wanted");
    }
    return 0;
}

/* Another instance that logs in to the same account of the same machine, with our one key; NULL: none. */
static const struct lease *find_twin(struct manager *m, const struct lease *l)
{
    const struct instance_record *r = lease_record(l);
    const struct host_key *key = lease_host_key(l);

    LIST_FOREACH (other, &m->leases, struct managed_lease, node) {
        const struct instance_record *o = lease_record(other->lease);
        const struct host_key *its = lease_host_key(other->lease);

        if (other->lease == l || !o->host || !r->host || !streq(o->user, r->user))
            continue;
        if ((key && its && host_key_equal(key, its)) || (streq(o->host, r->host) && o->port == r->port))
            return other->lease;
    }
    return NULL;
}

static void removal_forget_key(struct removal *x, struct lease *l)
{
    const struct lease *twin = find_twin(x->manager, l);

    if (twin)
        log_info(x->name, "our key stays in its authorized_keys: %s logs in with it", lease_name(twin));
    if (!twin && lease_session(l) && lease_is_reachable(l))
        session_forget_key(lease_session(l), &x->step, removal_on_key_gone, x);
    else
        op_finish_later(x->manager->context.loop, &x->step, NULL, removal_on_key_gone, x);
}

/* Or it lives on, and was told of. */
static void removal_on_freed(void *ctx, const struct fault *f)
{
    struct removal *x = ctx;
    struct lease *l = manager_find_lease(x->manager, x->name);

    if (f)
        log_warning(x->name, "%s: it switches the machine off when its lease is over", f->text);
    if (l)
        removal_forget_key(x, l);
    else
        removal_on_key_gone(x, NULL);
}

void manager_remove_instance(struct manager *m, struct lease *l, struct op **slot, op_done_fn done, void *ctx)
{
    struct fault f;

    if (check_removable(m, l, &f) < 0) {
        op_finish_later(m->context.loop, slot, &f, done, ctx);
        return;
    }

    struct removal *x = xnew(struct removal);
    int64_t acts_at_ms;

    x->manager = m;
    x->name = xstrdup(lease_name(l));
    list_init(&x->node);
    list_append(&m->removals, &x->node);
    x->done = done;
    x->ctx = ctx;
    x->timer = timer_new(m->context.loop, removal_on_timer, x);
    op_begin(&x->op, slot, removal_cancel);
    timer_arm(x->timer, FORGET_KEY_MS);
    if (lease_boxed(l)) {
        lease_set_stop(l, NULL);
        manager_look_at_lease(m, l);
    }
    if (lease_leaves_guard(l, &acts_at_ms))
        lease_wait_freed(l, &x->step, removal_on_freed, x);
    else
        removal_forget_key(x, l);
}
