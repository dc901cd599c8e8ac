/* What Up says of a machine that is to be rented (`up --gpu`): read, asked for, made. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

struct call;
struct deployment;
struct json;
struct lease;

/* A machine with such a card is asked for. */
bool up_rents(const struct call *c);
/* What is asked for; its texts are the call's. */
struct manager_rent;
void up_read_rent(const struct call *c, struct manager_rent *ret);
/* Other cards or regions are named than the one that this machine has, or will have. */
bool up_has_more(const struct call *c, const struct lease *l);
/* A list of cards, regions or instances has a place without a name: the call was answered. */
bool up_names_nothing(struct call *c);
/* It could be rented, and the model put there: nothing is made. False: the call was answered. */
bool up_may_rent(struct call *c);
/* What is switched on by it has a price that somebody knows, or a limit: nobody agrees to more than was said. False: the call was answered. */
bool up_agrees_to_price(struct call *c);
/* Whether such a card holds the model, and whether there is such a model: asked before it is paid for, unless the caller insists. then() when it does,
 * or nobody knows, with a note on what is doubtful ("": nothing); else the call is answered. Takes c->op and c->state until then. */
#define FIT_NOTE_MAX 400
typedef void (*up_fits_fn)(struct call *c, const char *note);
void up_if_it_fits(struct call *c, up_fits_fn then);
/* While a call of a search is under way that this Up would change, its answer is waited for, 15 s at most. Takes c->state until then(). */
void up_when_it_rests(struct call *c, const char *note, up_fits_fn then);
/* It is an instance from now on. NULL: the call was answered. *ret_ticket: when it is durable, 0: it was there. */
struct lease *up_rent(struct call *c, uint64_t *ret_ticket);
/* The options that said which machine, as people type them: what a next command needs. */
struct buf;
void up_add_rent(const struct call *c, struct buf *out);
/* Adds each card of --gpu that is left out, because it is too dear. */
void up_name_dear(const struct call *c, struct json *notes);
/* The machine of d, if that is rented, is held to what was said. */
void up_limit_price(const struct call *c, const struct deployment *d);
/* What the next power-on may ignore, once, how long its card is looked for, and that limit: on the machine of d, if that is rented. */
void up_allow(const struct call *c, const struct deployment *d);
