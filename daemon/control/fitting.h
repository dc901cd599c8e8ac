/* How large a model is, asked of its registry before anybody pays for a card (engine/shape.h, policy/fits.h). */
#pragma once

#include "engine/shape.h"

struct call;
struct rental_offer;

/* What is asked; part of the state of who asks, and done with it. */
struct fitting {
    struct shape_context context;
    struct shape shape;
    struct fault *why;      /* it is not known, or not wholly; NULL: it is */
    struct timer *patience;
    struct call *call;
    void (*then)(struct call *c);
};

/* then() when it is known, or will not be. Takes c->op until then. */
void fitting_ask(struct fitting *f, struct call *c, const char *model, void (*then)(struct call *c));
void fitting_done(struct fitting *f);
/* The shape on so many of these cards. */
struct fits fitting_judge(const struct fitting *f, const struct rental_offer *o, unsigned cards);
