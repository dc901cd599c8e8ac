/* A machine at a rental company that exists already becomes an instance: the account's list has to have it,
 * what the list says of it is written down, and its life begins by looking. It is neither switched on nor off
 * by that. */
#include "manager_private.h"

#include <errno.h>

#include "base/clock.h"
#include "base/event.h"
#include "base/settings.h"
#include "lease/account.h"
#include "lease/lease.h"
#include "lease/rented.h"
#include "proto/buf.h"
#include "proto/text.h"

struct adoption {
    struct op op;
    struct list node;
    struct manager *manager;
    char *name, *provider, *id;
    struct op *step;
    manager_added_fn done;
    void *ctx;
};

static void adoption_free(struct adoption *x)
{
    op_cancel(&x->step);
    list_remove(&x->node);
    free(x->name);
    free(x->provider);
    free(x->id);
    free(x);
}

static void adoption_cancel(struct op *op)
{
    adoption_free(CONTAINER_OF(op, struct adoption, op));
}

/* f may be of what ends with it. */
static void adoption_end(void *ctx, const struct fault *f)
{
    struct adoption *x = ctx;
    manager_added_fn done = x->done;
    struct lease *l = f ? NULL : manager_find_lease(x->manager, x->name);
    struct fault why = f ? *f : (struct fault){};
    void *done_ctx = x->ctx;

    op_end(&x->op);
    adoption_free(x);
    done(done_ctx, l, "", f ? &why : NULL);
}

bool adoptions_have(struct manager *m, const char *name)
{
    LIST_FOREACH (x, &m->adoptions, struct adoption, node)
        if (streq(x->name, name))
            return true;
    return false;
}

void adoptions_drop(struct manager *m)
{
    while (!list_is_empty(&m->adoptions)) {
        struct adoption *x = LIST_FIRST(&m->adoptions, struct adoption, node);

        op_cancel(x->op.slot);
    }
}

/* ---- which machine it is ---- */

struct lease *manager_find_machine(struct manager *m, const struct account *a,
                                   const struct instance_seen *seen)
{
    LIST_FOREACH (l, &m->leases, struct managed_lease, node) {
        const struct rented *r = lease_rented(l->lease);

        if (r && rented_account(r) == a && life_has(rented_life(r), seen))
            return l->lease;
    }
    return NULL;
}

/* "pro-0a1b (somebody, 4090D, off)" of those that can be added, as many as there is room for; how many they are.
 */
static unsigned list_machines(struct manager *m, const struct account *a, const struct instance_seen *seen,
                              unsigned n, struct buf *out)
{
    unsigned found = 0;

    for (unsigned i = 0; i < n; i++) {
        if (manager_find_machine(m, a, &seen[i]) || found++ >= 4)
            continue;
        buf_addf(out, "%s%.40s (", found > 1 ? ", " : "", seen[i].id);
        if (*seen[i].name)
            buf_addf(out, "%.24s, ", seen[i].name);
        if (*seen[i].gpu)
            buf_addf(out, "%.12s, ", seen[i].gpu);
        buf_addf(out, "%s)", seen[i].word);
    }
    if (found > 4)
        buf_addf(out, " and %u more", found - 4);
    return found;
}

static int refuse_unknown(const struct adoption *x, const struct account *a, const struct instance_seen *seen,
                          unsigned n, struct fault *f)
{
    struct buf there;

    buf_init(&there, 4096);
    unsigned found = list_machines(x->manager, a, seen, n, &there);
    int r = fault_code(f, FAULT_GONE, "no_such_machine", "%s%.64s at %s%s %s%s",
                       *x->id ? "there is no machine " : "no machine is named by its id;", x->id,
                       account_ops(a)->title, *x->id ? ";" : "",
                       found ? "there are: "
                       : n   ? "what is there are instances already"
                             : "there is none",
                       buf_text(&there));

    buf_done(&there);
    return r;
}

/* Made by us: by another instance, or by one that was forgotten; its name is no other's. */
static int refuse_ours(struct manager *m, const struct account *a, const struct instance_seen *seen,
                       struct fault *f)
{
    const struct lease *l = manager_find_machine(m, a, seen);

    if (l)
        return fault_code(f, FAULT_INVALID, "is_instance", "%s is the instance %s already", seen->id,
                          lease_name(l));
    if (manager_is_orphan(m, seen))
        return fault_code(f, FAULT_INVALID, "is_orphan",
                          "%s has the name %s, which is one of a machine that was rented from here", seen->id,
                          seen->name);
    return 0;
}

/* ---- it becomes an instance ---- */

/* Nothing is added that cannot be kept. */
static void adoption_on_durable(void *ctx, const struct fault *f)
{
    struct adoption *x = ctx;
    struct manager *m = x->manager;
    struct lease *l = manager_find_lease(m, x->name);
    struct fault failed;

    if (!l)
        fault_code(&failed, FAULT_GONE, "gone", "%s was removed meanwhile", x->name);
    else if (f) {
        failed = *f;
        manager_forget_instance(m, l);
        store_remove_instance(m->context.store, x->name);
    } else {
        event_publish(LOG_LEVEL_NOTICE, LOG_DAEMON, x->name, "instance_added", "added (%s, %s)", x->provider,
                      x->id);
    }
    adoption_end(x, !l || f ? &failed : NULL);
}

static void adoption_keep(struct adoption *x, const struct account *a, const struct instance_seen *seen)
{
    struct manager *m = x->manager;
    _cleanup_free_ char *why = NULL;
    struct rental_offer card;
    bool known = account_ops(a)->find_card(account_rental(a), seen->gpu, &card, &why) == 0;
    struct rental_record rental = {
        .state = (char *)life_state_name(LIFE_UNKNOWN),
        .goal = (char *)life_goal_name(LIFE_GOAL_OFF),
        .id = (char *)seen->id,
        .gpu = (char *)(known ? card.gpu : seen->gpu),
        .card = (char *)(known ? card.card : seen->gpu),
        .cards = MAX(seen->cards, 1u),
        .disk_gb = seen->disk_gb,
        .prepaid_until_at_ms = seen->prepaid_until_at_ms,
        .adopted = true,
        .made_at_ms = account_now_ms(a),
    };
    const struct instance_record record = {
        .name = x->name,
        .provider = x->provider,
        .install_key = settings_bool(m->context.settings, "ssh", "install_key"),
        .added_at_ms = clock_wall_ms(),
        .rental = &rental,
    };
    struct lease *l = manager_make_lease(m, &record, false);

    manager_insert_lease(m, l);
    store_after(m->context.store, lease_keep(l), &x->step, adoption_on_durable, x);
    manager_tell_lease(m, l, false);
}

static void adoption_on_list(void *ctx, const struct instance_seen *seen, unsigned n, const struct fault *f)
{
    struct adoption *x = ctx;
    struct account *a = manager_find_account(x->manager, x->provider);
    const struct instance_seen *found = NULL;
    struct fault failed;

    for (unsigned i = 0; !f && i < n; i++)
        if (streq(seen[i].id, x->id))
            found = &seen[i];
    if (a && !f)
        account_listed(a, seen, n);
    if (f)
        failed = *f;
    else if (!a)
        fault_code(&failed, FAULT_GONE, "no_provider", "the account at %s was removed meanwhile",
                   x->provider);
    else if (!found)
        refuse_unknown(x, a, seen, n, &failed);
    else if (refuse_ours(x->manager, a, found, &failed) == 0) {
        adoption_keep(x, a, found);
        return;
    }
    adoption_end(x, &failed);
}

static int adoption_check(struct manager *m, const struct manager_adopt *w, struct fault *f)
{
    if (instances_refuse_name(m, w->name, f) < 0)
        return -EINVAL;
    if (!manager_find_account(m, w->provider))
        return fault_code(f, FAULT_INVALID, "no_provider", "there is no account at %.60s", w->provider);
    return 0;
}

void manager_adopt(struct manager *m, const struct manager_adopt *w, struct op **slot, manager_added_fn done,
                   void *ctx)
{
    struct adoption *x = xnew(struct adoption);
    const struct account *a = manager_find_account(m, w->provider);
    struct fault f;
    int r = adoption_check(m, w, &f);

    x->manager = m;
    x->name = xstrdup(w->name);
    x->provider = xstrdup(w->provider);
    x->id = xstrdup(w->id ? w->id : "");
    x->done = done;
    x->ctx = ctx;
    list_init(&x->node);
    op_begin(&x->op, slot, adoption_cancel);
    if (r < 0) {
        op_finish_later(m->context.loop, &x->step, &f, adoption_end, x);
        return;
    }
    list_append(&m->adoptions, &x->node);
    account_ops(a)->list(account_rental(a), &x->step, adoption_on_list, x);
}
