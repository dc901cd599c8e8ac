/* One search for a model: what an Up makes of the one that runs already, and what is said of that. The newer words win. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

struct call;
struct deployment;
struct fault;
struct lease;

/* "4090D or 5090x2 in westDC3, at most ¥6.00/h": what is looked for, of one that is rented. The other one: while it waits; else "". */
#define SEARCH_TEXT_MAX 400
const char *search_describe(char out[static SEARCH_TEXT_MAX], const struct lease *l);
const char *search_format(char out[static SEARCH_TEXT_MAX], const struct lease *l);

/* As it was before this call: where the model was looked for, with what, and how long. */
struct up_search {
    const struct lease *lease; /* NULL: nowhere */
    char text[SEARCH_TEXT_MAX];
    int64_t until_at_ms;
};
/* l: the machine that this Up would look for; NULL: a new one. -EAGAIN: another one is asked for just now, and what comes of that nobody knows. */
int up_search_may_change(const struct call *c, const struct lease *l, struct fault *f);
/* The model is wanted anywhere. */
bool up_search_is_wanted(const struct call *c);
/* The rented machine of the model that is on, or comes on, where this Up would have another one, l or a new one (NULL); NULL: there is none. */
const struct lease *up_search_came(const struct call *c, const struct lease *l);
void up_search_before(const struct call *c, struct up_search *ret);
/* The model is wanted on d from now on, and others: it may still be tried on others, as was said. What else it was looked for on is over. Of what was
 * changed a note; caller frees; NULL: nothing. *ticket: raised to when that is on disk as well. */
char *up_search_after(const struct call *c, const struct up_search *before, struct deployment *d, bool others,
                      uint64_t *ticket);
