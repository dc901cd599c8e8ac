/* Whether a model fits the cards of a machine, before anybody pays for it, and how long its context may be there. Pure: the model and the
 * cards are handed in.
 *
 * The formula and the three answers are those of reference/lease.md §5. It lies -2 to +8 % from what people saw with models above 4 GB: good
 * enough to propose, and to refuse what cannot work; between the two the engine decides. */
#pragma once

#include <stdint.h>

#define FITS_CONTEXT_LEAST 4096         /* with less a model is of no use */
#define FITS_CONTEXT_USUAL 32768        /* longer only when somebody asks for it */

struct fits_model {
    int64_t weights_bytes;      /* -1: unknown, and with it everything */
    int64_t token_bytes;        /* of one token's keys and values, 2 bytes each, in the layers that see the whole context; -1: unknown */
    int64_t window_token_bytes; /* the same in the layers that see only the last window tokens */
    int64_t window;
    int64_t context_max;        /* the longest it was made for; 0: unknown */
};

/* Of one machine, all alike. */
struct fits_cards {
    unsigned n;
    int64_t bytes;              /* of one; 0: unknown */
};

enum fits_verdict {
    FITS_UNKNOWN,
    FITS_YES,
    FITS_TIGHT,                 /* perhaps: at most 10 % are lacking by the formula */
    FITS_NO,                    /* part of it would run on the processor */
};

struct fits {
    enum fits_verdict verdict;
    int64_t context;            /* the longest that fits; 0: none, or unknown */
    int64_t needs_bytes;        /* with the context that was asked about; -1: unknown */
};

/* context: as it is wanted; 0: the shortest that is of use, for the daemon sets it as the cards allow. */
struct fits fits_judge(const struct fits_model *m, const struct fits_cards *c, int64_t context);
/* What the model takes with this context, its engine's working memory included; -1: unknown. */
int64_t fits_needs(const struct fits_model *m, int64_t context);
/* Of all cards together, what a model can have; 0: unknown. */
int64_t fits_usable(const struct fits_cards *c);
/* What an engine is to be started with: the usual one, or as much of it as fits and the model was made for, but never less than the
 * shortest of use; 0: nobody knows. */
int64_t fits_context(const struct fits_model *m, const struct fits_cards *c);

/* "yes", "tight", "no", "unknown": Offer.fits of the contract. */
const char *fits_verdict_name(enum fits_verdict v);
