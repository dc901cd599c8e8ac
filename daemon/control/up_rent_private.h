/* What up_rent.c and up_price.c share. */
#pragma once

#include "control/up_rent.h"

struct account;
struct buf;
struct fault;

/* NULL: there is none of that name, or none at all. */
struct account *up_account(const struct call *c);
/* What renting would come to, and nothing is made: *ret is the machine there is, NULL: it would be a new one. */
int up_try_rent(const struct call *c, struct lease **ret, struct fault *f);
/* Answers the call by the fault of that. */
void up_rent_fail(struct call *c, const struct fault *f);
/* In quotes where a shell would take it for more than a word. */
const char *up_quote_for(const char *text);
/* Adds " --option=text"; nothing where text is NULL, or has a quote in it. */
void up_add_word(struct buf *out, const char *option, const char *text);
