/* Weights and 2 % of them, the keys and values of every token of the context, and a GiB for the engine's own
 * work, against 97 % of the cards. */
#include "policy/fits.h"

#include <stdbool.h>

#include "proto/mem.h"

#define GIB           (1ll << 30)
#define BYTES_MAX     (INT64_MAX / 1024) /* of anything from outside: what is larger is nobody's memory */
#define CONTEXT_LIMIT (1ll << 28)

static bool is_sane(const struct fits_model *m)
{
    return m->weights_bytes > 0 && m->weights_bytes < BYTES_MAX &&
           m->token_bytes < BYTES_MAX / CONTEXT_LIMIT && m->window_token_bytes >= 0 &&
           m->window_token_bytes < BYTES_MAX / CONTEXT_LIMIT && m->window >= 0 && m->window < CONTEXT_LIMIT;
}

/* Of the context's tokens alone. */
static int64_t tokens_bytes(const struct fits_model *m, int64_t context)
{
    return context * m->token_bytes + MIN(context, m->window) * m->window_token_bytes;
}

int64_t fits_needs(const struct fits_model *m, int64_t context)
{
    if (!is_sane(m) || m->token_bytes < 0 || context < 0 || context > CONTEXT_LIMIT)
        return -1;
    return m->weights_bytes + m->weights_bytes / 50 + tokens_bytes(m, context) + GIB;
}

int64_t fits_usable(const struct fits_cards *c)
{
    if (!c->n || c->bytes <= 0 || c->bytes >= BYTES_MAX / 1024 || c->n > 1024)
        return 0;
    return MAX(c->n * c->bytes / 100 * 97 - (int64_t)(c->n - 1) * GIB, 1);
}

/* The shortest that is of use. */
static int64_t least_context(const struct fits_model *m)
{
    return m->context_max > 0 ? MIN(m->context_max, FITS_CONTEXT_LEAST) : FITS_CONTEXT_LEAST;
}

/* The longest context that fits, not beyond the model's own limit; 0: not even a short one. */
static int64_t longest(const struct fits_model *m, int64_t usable)
{
    int64_t limit = m->context_max > 0 ? MIN(m->context_max, CONTEXT_LIMIT) : CONTEXT_LIMIT, left, context;

    if (fits_needs(m, least_context(m)) > usable)
        return 0;
    left = usable - fits_needs(m, 0);
    if (m->window_token_bytes > 0 && left / (m->token_bytes + m->window_token_bytes) < m->window)
        context = left / (m->token_bytes + m->window_token_bytes);
    else if (m->token_bytes > 0)
        context = (left - m->window * m->window_token_bytes) / m->token_bytes;
    else
        context = limit;
    return MIN(context, limit);
}

struct fits fits_judge(const struct fits_model *m, const struct fits_cards *c, int64_t context)
{
    struct fits f = {.verdict = FITS_UNKNOWN};
    int64_t usable = fits_usable(c);

    if (!context)
        context = least_context(m);
    f.needs_bytes = fits_needs(m, context);
    if (!is_sane(m) || !usable)
        return f;
    if (f.needs_bytes < 0) { /* the weights alone may say enough */
        f.verdict = m->weights_bytes > usable ? FITS_NO : FITS_UNKNOWN;
        return f;
    }
    f.context = longest(m, usable);
    if (f.needs_bytes <= usable)
        f.verdict = FITS_YES;
    else if (f.needs_bytes <= usable + usable / 10 && m->weights_bytes + tokens_bytes(m, context) <= usable)
        f.verdict = FITS_TIGHT;
    else
        f.verdict = FITS_NO;
    return f;
}

int64_t fits_context(const struct fits_model *m, const struct fits_cards *c)
{
    struct fits f = fits_judge(m, c, 0);

    if (f.verdict == FITS_YES)
        return MIN(f.context, FITS_CONTEXT_USUAL);
    return f.verdict == FITS_UNKNOWN || f.needs_bytes < 0
               ? 0
               : least_context(m); /* as little of it as can be on the processor */
}

const char *fits_verdict_name(enum fits_verdict v)
{
    switch (v) {
    case FITS_UNKNOWN: return "unknown";
    case FITS_YES: return "yes";
    case FITS_TIGHT: return "tight";
    case FITS_NO: return "no";
    }
    return NULL;
}
