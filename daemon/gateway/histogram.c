/* Preferred numbers (ISO 3, R10): 1, 2.5 and 5 of every decade are among them, which is what /metrics shows.
 */
#include "gateway/histogram.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "proto/buf.h"
#include "proto/mem.h"

uint64_t histogram_bound_ms(unsigned i)
{
    static const uint16_t decade[] = {100, 125, 160, 200, 250, 320, 400, 500, 630, 800};
    uint64_t tenths = decade[i % ELEMENTS(decade)];

    for (i /= ELEMENTS(decade); i > 0; i--)
        tenths *= 10;
    return tenths / 10;
}

void histogram_add(struct histogram *h, uint64_t ms)
{
    unsigned i = 0;

    while (i < HISTOGRAM_BOUNDS && ms > histogram_bound_ms(i))
        i++;
    h->n[i]++;
    h->sum_ms += ms;
}

void histogram_merge(struct histogram *h, const struct histogram *more)
{
    for (unsigned i = 0; i <= HISTOGRAM_BOUNDS; i++)
        h->n[i] += more->n[i];
    h->sum_ms += more->sum_ms;
}

uint64_t histogram_count(const struct histogram *h)
{
    uint64_t n = 0;

    for (unsigned i = 0; i <= HISTOGRAM_BOUNDS; i++)
        n += h->n[i];
    return n;
}

/* Within a step they are taken to lie evenly. */
uint64_t histogram_quantile_ms(const struct histogram *h, double share)
{
    double wanted = share * (double)histogram_count(h), before = 0;

    for (unsigned i = 0; i < HISTOGRAM_BOUNDS; i++) {
        double low = i ? (double)histogram_bound_ms(i - 1) : 0, high = (double)histogram_bound_ms(i);
        double here = (double)h->n[i];

        if (here > 0 && before + here >= wanted)
            return (uint64_t)(low + (high - low) * (wanted - before) / here);
        before += here;
    }
    return before < wanted ? histogram_bound_ms(HISTOGRAM_BOUNDS - 1) : 0;
}

char *histogram_text(const struct histogram *h)
{
    struct buf text;

    buf_init(&text, (HISTOGRAM_BOUNDS + 2) * 28);
    if (buf_addf(&text, "%" PRIu64, h->sum_ms) < 0)
        abort();
    for (unsigned i = 0; i <= HISTOGRAM_BOUNDS; i++)
        if (h->n[i] && buf_addf(&text, " %u:%" PRIu64, i, h->n[i]) < 0)
            abort();
    return buf_take(&text);
}

static int take(struct histogram *h, const char *text)
{
    int used = 0;
    unsigned i;
    uint64_t n;

    if (sscanf(text, "%" SCNu64 "%n", &h->sum_ms, &used) != 1)
        return -EINVAL;
    for (text += used; *text; text += used) {
        if (sscanf(text, " %u:%" SCNu64 "%n", &i, &n, &used) != 2 || i > HISTOGRAM_BOUNDS)
            return -EINVAL;
        h->n[i] = n;
    }
    return 0;
}

int histogram_parse(struct histogram *h, const char *text)
{
    int r;

    memset(h, 0, sizeof(*h));
    r = text ? take(h, text) : 0;
    if (r < 0)
        memset(h, 0, sizeof(*h));
    return r;
}
