/* The candidates lie in a table in the order in which they are tried; a hand walks round it. */
#include "lease/hunt.h"

#include <stdio.h>
#include <string.h>

#include "proto/mem.h"
#include "provider/rental.h"

#define STEP_MS  2000u  /* between two calls to one provider */
#define ROUND_MS 30000u /* between two rounds, give or take a fifth */
#define LATER_MS 60000u /* after so many of them */
#define ROUNDS   10u

/* The next word of a list with commas between, cut where it is too long for out; false: there is none. */
static bool next_word(const char **at, char *out, size_t size)
{
    size_t n = strcspn(*at, ",");

    if (!**at)
        return false;
    snprintf(out, size, "%.*s", (int)MIN(n, size - 1), *at);
    *at += n + ((*at)[n] == ',');
    return true;
}

static void add(struct hunt *h, const struct hunt_candidate *c)
{
    if (h->n < HUNT_MAX)
        h->all[h->n++] = *c;
}

void hunt_read(struct hunt *h, const char *gpus, unsigned cards, const char *regions)
{
    bool is_one = !strchr(gpus, ',');
    struct hunt_candidate c = {0};

    *h = (struct hunt){0};
    while (next_word(&gpus, c.gpu, sizeof c.gpu)) {
        unsigned count = rental_cut_count(c.gpu);
        const char *where = regions ? regions : "";

        c.cards = count ? count : is_one ? MAX(cards, 1u) : 1;
        *c.region = '\0';
        if (!*where)
            add(h, &c);
        while (next_word(&where, c.region, sizeof c.region))
            add(h, &c);
    }
}

/* To the first one from there on that is in; nobody is: it stays. */
static void settle(struct hunt *h, unsigned from)
{
    for (unsigned k = 0; k < h->n; k++) {
        unsigned i = (from + k) % h->n;

        if (h->all[i].out == HUNT_IN) {
            h->at = i;
            return;
        }
    }
}

void hunt_begin(struct hunt *h)
{
    for (unsigned i = 0; i < h->n; i++) {
        if (h->all[i].out == HUNT_REFUSED)
            h->all[i].out = HUNT_IN;
        h->all[i].tries = 0;
    }
    h->begun++;
    h->rounds = 0;
    h->is_within = false;
    settle(h, 0);
}

void hunt_limit(struct hunt *h, int64_t most_milli)
{
    for (unsigned i = 0; i < h->n; i++) {
        struct hunt_candidate *c = &h->all[i];
        bool dear = most_milli && c->price_milli > most_milli;

        if (c->out != HUNT_REFUSED)
            c->out = dear ? HUNT_DEAR : HUNT_IN;
    }
    if (h->n)
        settle(h, h->at);
}

const struct hunt_candidate *hunt_current(const struct hunt *h)
{
    return h->n && h->all[h->at].out == HUNT_IN ? &h->all[h->at] : NULL;
}

static bool is_last_of_round(const struct hunt *h)
{
    for (unsigned i = h->at + 1; i < h->n; i++)
        if (h->all[i].out == HUNT_IN)
            return false;
    return true;
}

const char *hunt_name(const struct hunt_candidate *c, char out[static HUNT_NAME_MAX])
{
    char count[16] = "";

    if (c->cards > 1)
        snprintf(count, sizeof count, "x%u", c->cards);
    snprintf(out, HUNT_NAME_MAX, "%s%s%s%s", c->gpu, count, *c->region ? " in " : "", c->region);
    return out;
}

static void note_why(struct hunt_candidate *c, const struct fault *f)
{
    c->tries++;
    snprintf(c->why, sizeof c->why, "%.*s", HUNT_WHY_MAX - 1,
             streq(f->code, "no_capacity") ? "no free card"
             : streq(f->code, "host_full") ? "no free card on its host"
                                           : f->text);
}

/* A refusal that has nothing to do with this card and this place would meet the next one as well: the wait is
 * that between two rounds. */
void hunt_refused(struct hunt *h, const struct fault *f)
{
    bool is_its_own = f->kind == FAULT_EXHAUSTED || f->kind == FAULT_INVALID;

    if (!h->n)
        return;
    bool last = is_last_of_round(h);

    note_why(&h->all[h->at], f);
    if (f->kind == FAULT_INVALID)
        h->all[h->at].out = HUNT_REFUSED;
    h->rounds += last || !is_its_own;
    h->is_within = is_its_own && !last;
    if (is_its_own)
        settle(h, h->at + 1);
}

uint64_t hunt_wait_ms(const struct hunt *h, uint32_t jitter)
{
    uint64_t round_ms = h->rounds >= ROUNDS ? LATER_MS : ROUND_MS;

    if (h->is_within)
        return STEP_MS;
    return round_ms - round_ms / 5 + jitter % (2 * round_ms / 5 + 1);
}

/* ---- how soon one account is asked again ---- */

static void forget_claims(struct pace *p, const void *who, uint64_t now)
{
    unsigned n = 0;

    for (unsigned i = 0; i < p->n; i++)
        if (p->all[i].who != who && p->all[i].due + STEP_MS > now)
            p->all[n++] = p->all[i];
    p->n = n;
}

/* The other's claim that is too near; NULL: none is. */
static const struct pace_claim *find_near(const struct pace *p, uint64_t due)
{
    for (unsigned i = 0; i < p->n; i++)
        if (due < p->all[i].due + STEP_MS && p->all[i].due < due + STEP_MS)
            return &p->all[i];
    return NULL;
}

uint64_t pace_claim(struct pace *p, const void *who, uint64_t due, uint64_t now)
{
    const struct pace_claim *near;

    forget_claims(p, who, now);
    if (p->last_due)
        due = MAX(due, p->last_due + STEP_MS);
    while ((near = find_near(p, due)))
        due = near->due + STEP_MS;
    if (p->n < PACE_MAX)
        p->all[p->n++] = (struct pace_claim){who, due};
    return due;
}

void pace_called(struct pace *p, const void *who, uint64_t now)
{
    forget_claims(p, who, now);
    p->last_due = now;
}
