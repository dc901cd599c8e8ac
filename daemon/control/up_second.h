/* A machine that is on beside the one that Up is about to rent: a second one is meant sometimes, and told each time. */
#pragma once

#include <stdbool.h>

struct call;
struct deployment;

/* The model is up elsewhere, or a machine with such a card is on, and this Up, which wants d, takes another one: which, its price, and the command that
 * uses it. Caller frees; NULL: there is none. */
char *up_second_note(const struct call *c, const struct deployment *d, bool is_of_several);
/* The commands that look at d alone, and end it alone. Caller frees; NULL: its model is up nowhere else. */
char *up_second_next(const struct call *c, const struct deployment *d);
