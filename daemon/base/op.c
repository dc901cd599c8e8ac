/* The promise of op.h, kept in one place: a slot is set exactly while a request is in flight. */
#include "base/op.h"

#include "base/fault.h"

void op_begin(struct op *op, struct op **slot, void (*cancel)(struct op *op))
{
    if (*slot) {
        fprintf(
            stderr,
            "op_begin: the slot is taken\n"); /* a second request would overwrite the first: a bug of ours */
        abort();
    }
    op->slot = slot;
    op->cancel = cancel;
    *slot = op;
}

void op_end(struct op *op)
{
    *op->slot = NULL;
    op->slot = NULL;
}

void op_cancel(struct op **slot)
{
    struct op *op = *slot;

    if (!op)
        return;
    op_end(op);
    op->cancel(op);
}

struct finish {
    struct op op;
    struct work work;
    bool failed;
    struct fault fault;
    op_done_fn done;
    void *ctx;
};

static void finish_cancel(struct op *op)
{
    struct finish *f = CONTAINER_OF(op, struct finish, op);

    runq_drop(&f->work);
    free(f);
}

static void finish_run(void *ctx)
{
    _cleanup_free_ struct finish *f = ctx;

    op_end(&f->op);
    f->done(f->ctx, f->failed ? &f->fault : NULL);
}

void op_finish_later(struct loop *l, struct op **slot, const struct fault *f, op_done_fn done, void *ctx)
{
    struct finish *later = xnew(struct finish);

    op_begin(&later->op, slot, finish_cancel);
    if (f) {
        later->failed = true;
        later->fault = *f;
    }
    later->done = done;
    later->ctx = ctx;
    work_init(&later->work, finish_run, later);
    runq_add(l, &later->work);
}
