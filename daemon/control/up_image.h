/* Up's image, where it is one that people saved (`up --image NAME`). */
#pragma once

struct call;

/* then() once the parameter is a word that the provider's driver takes, or none is given; else the call is answered. Takes c->op and c->state
 * until then. */
void up_with_image(struct call *c, void (*then)(struct call *c));
