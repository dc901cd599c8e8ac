/* The registry is asked once, with a limit of its own: one that is slow or away is no reason not to rent, so the
 * answer is "unknown" then. */
#include "control/fitting.h"

#include "base/fault.h"
#include "base/op.h"
#include "base/timer.h"
#include "control/call.h"
#include "proto/mem.h"
#include "provider/rental.h"

/* Somebody waits to pay; a registry that says nothing is not worth more of his time. */
#define PATIENCE_MS 20000

static void fitting_over(struct fitting *f, const struct shape *shape, const struct fault *why)
{
    f->shape = *shape;
    if (why) {
        f->why = xnew(struct fault);
        *f->why = *why;
    }
    f->patience = timer_free(f->patience);
    f->then(f->call);
}

static void on_shape(void *ctx, const struct shape *shape, const struct fault *why)
{
    fitting_over(ctx, shape, why);
}

static void on_patience(void *ctx)
{
    struct fitting *f = ctx;
    const struct shape unknown = {.fits = {.weights_bytes = -1, .token_bytes = -1}, .download_bytes = -1};
    struct fault late;

    op_cancel(&f->call->op);
    fault_code(&late, FAULT_TRANSIENT, "registry_unreachable",
               "the registry of the model did not answer in time");
    fitting_over(f, &unknown, &late);
}

void fitting_ask(struct fitting *f, struct call *c, const char *model, void (*then)(struct call *c))
{
    const struct control_context *k = c->context;

    f->call = c;
    f->then = then;
    f->context = (struct shape_context){
        .loop = k->loop, .http = k->http, .resolver = k->resolver, .settings = k->settings};
    f->patience = timer_new(k->loop, on_patience, f);
    timer_arm(f->patience, PATIENCE_MS);
    shape_ask(&f->context, model, &c->op, on_shape, f);
}

void fitting_done(struct fitting *f)
{
    f->patience = timer_free(f->patience);
    free(f->why);
    f->why = NULL;
}

struct fits fitting_judge(const struct fitting *f, const struct rental_offer *o, unsigned cards)
{
    const struct fits_cards have = {.n = cards, .bytes = (int64_t)o->memory_gib << 30};

    return fits_judge(&f->shape.fits, &have, 0);
}
