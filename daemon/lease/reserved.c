/* A copy in memory of what the database has open. The database decides who may start (one statement); this one only tells, so both follow
 * the same rules: a new one of a name takes the old one's place, and what a machine has cost since counts once. */
#include "lease/reserved.h"

#include <stdlib.h>

#include "base/list.h"
#include "lease/ledger.h"
#include "proto/mem.h"
#include "store/store.h"

struct reserved {
    const struct ledger *ledger;
    struct list all;
};

struct reservation_kept {
    struct list node;
    char *name, *instance;
    int64_t at_ms, milli;
    bool is_keep;
};

struct reserved *reserved_new(const struct ledger *g)
{
    struct reserved *r = xnew(struct reserved);

    r->ledger = g;
    list_init(&r->all);
    return r;
}

static void drop(struct reservation_kept *k)
{
    list_remove(&k->node);
    free(k->name);
    free(k->instance);
    free(k);
}

struct reserved *reserved_free(struct reserved *r)
{
    if (!r)
        return NULL;
    LIST_FOREACH_SAFE (k, &r->all, struct reservation_kept, node)
        drop(k);
    free(r);
    return NULL;
}

void reserved_drop(struct reserved *r, const char *name)
{
    LIST_FOREACH_SAFE (k, &r->all, struct reservation_kept, node)
        if (streq(k->name, name))
            drop(k);
}

void reserved_put(struct reserved *r, const struct intent_record *i)
{
    struct reservation_kept *k;

    reserved_drop(r, i->name);
    k = xnew(struct reservation_kept);
    k->name = xstrdup(i->name);
    k->instance = xstrdup(i->instance ? i->instance : "");
    k->at_ms = i->at_ms;
    k->milli = i->reserved_milli;
    k->is_keep = i->kept_ms != 0;
    list_append(&r->all, &k->node);
}

void reserved_release(struct reserved *r, const char *instance, bool keeps)
{
    LIST_FOREACH_SAFE (k, &r->all, struct reservation_kept, node)
        if (streq(k->instance, instance) && (keeps || !k->is_keep))
            drop(k);
}

/* A call's interval is named after it; a keep's are all of its machine since it was said. */
static int64_t cost_since(const struct reserved *r, const struct reservation_kept *k, int64_t now_ms)
{
    const struct spent_record *row;
    int64_t milli = 0;

    for (unsigned i = 0; (row = ledger_row_at(r->ledger, i)); i++) {
        if (!streq(row->kind, "compute"))
            continue;
        if (k->is_keep && streq(row->instance, k->instance))
            milli += ledger_cost(row, now_ms) - ledger_cost(row, k->at_ms);
        else if (!k->is_keep && row->intent && streq(row->intent, k->name))
            milli += ledger_cost(row, now_ms);
    }
    return milli;
}

int64_t reserved_milli(const struct reserved *r, const char *but, int64_t now_ms, bool *ret_all)
{
    int64_t milli = 0;

    *ret_all = false;
    LIST_FOREACH (k, &r->all, struct reservation_kept, node) {
        if (but && streq(k->name, but))
            continue;
        *ret_all |= k->milli < 0;
        milli += MAX(k->milli - cost_since(r, k, now_ms), (int64_t)0);
    }
    return milli;
}
