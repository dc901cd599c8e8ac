/* What stands between a wish and its machine when that is about money, or about the account as a whole: what the codes of such faults mean, for all
 * who ask. What people read and type of each is in control/explain.c. */
#pragma once

#include <stdbool.h>

struct fault;
struct money_limits;

/* Any machine of that account would meet it: it is the account's, whichever of them met it. */
bool money_is_of_account(const struct fault *f);
/* Looking for a card on changes nothing: somebody has to raise a limit, pay, or take a higher price. */
bool money_ends_search(const struct fault *f);
/* A limit of our own, which the wish may leave behind, once (`--over-budget`). */
bool money_may_be_overruled(const struct fault *f);
/* One of them leaves less room than before: of what is spent or left, or of the price of an hour. */
bool money_is_tighter(const struct money_limits *now, const struct money_limits *before);
bool money_is_price_tighter(const struct money_limits *now, const struct money_limits *before);
/* It stops nothing, and is told so that somebody mends it before it does. */
bool money_is_warning(const struct fault *f);
