/* How long things took: how often between fixed bounds, ten to a decade, from 10 ms to 1,000 s. A quantile is exact to the width of one
 * step, a quarter of itself. */
#pragma once

#include <stddef.h>
#include <stdint.h>

#define HISTOGRAM_BOUNDS 51

struct histogram {                          /* all zero: nothing yet */
    uint64_t n[HISTOGRAM_BOUNDS + 1];       /* the last: longer than all bounds */
    uint64_t sum_ms;
};

/* The upper end of step i, itself included. */
uint64_t histogram_bound_ms(unsigned i);
void histogram_add(struct histogram *h, uint64_t ms);
void histogram_merge(struct histogram *h, const struct histogram *more);
uint64_t histogram_count(const struct histogram *h);
/* share: 0.5 is the median. 0 when there is nothing. */
uint64_t histogram_quantile_ms(const struct histogram *h, double share);

/* "SUM 3:12 17:1": the steps that are not empty. Caller frees. */
char *histogram_text(const struct histogram *h);
/* -EINVAL: not what histogram_text() makes; *h is empty then. NULL is an empty one. */
int histogram_parse(struct histogram *h, const char *text);
