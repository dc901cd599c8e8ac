/* The money of keeps on its way to the database. Until it is told what became of it, none of that machine's
 * is given back. */
#include "manager_private.h"

#include "lease/account.h"
#include "lease/lease.h"
#include "lease/rented.h"
#include "proto/text.h"

struct keep {
    struct op op;
    struct list node;
    char *instance;
    struct op *inner;
    op_done_fn done;
    void *ctx;
};

static void keep_free(struct keep *k)
{
    op_cancel(&k->inner);
    list_remove(&k->node);
    free(k->instance);
    free(k);
}

static void keep_cancel(struct op *op)
{
    keep_free(CONTAINER_OF(op, struct keep, op));
}

static void keep_on_reserved(void *ctx, const struct fault *f)
{
    struct keep *k = ctx;
    op_done_fn done = k->done;
    void *done_ctx = k->ctx;
    struct fault why = f ? *f : (struct fault){0};

    op_end(&k->op);
    keep_free(k);
    done(done_ctx, f ? &why : NULL);
}

void keeps_reserve(struct manager *m, const struct lease *l, const struct keep_wish *w, struct op **slot,
                   op_done_fn done, void *ctx)
{
    struct keep *k = xnew(struct keep);

    k->instance = xstrdup(lease_name(l));
    k->done = done;
    k->ctx = ctx;
    list_append(&m->keeps, &k->node);
    op_begin(&k->op, slot, keep_cancel);
    account_reserve_keep(rented_account(lease_rented(l)), k->instance, w->rate_milli, w->for_ms, &k->inner,
                         keep_on_reserved, k);
}

bool keeps_have(struct manager *m, const char *instance)
{
    LIST_FOREACH (k, &m->keeps, struct keep, node)
        if (streq(k->instance, instance))
            return true;
    return false;
}
