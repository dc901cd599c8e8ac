/* A sorted array: it is looked into at every status, and grows only with a new model or machine. */
#include "store/usual.h"

#include <errno.h>
#include <inttypes.h>

#include "proto/buf.h"
#include "proto/mem.h"

struct entry {
    char *what;
    unsigned n;
    uint64_t ms[USUAL_KEPT]; /* oldest first */
};

struct usual {
    struct entry **entries; /* by what */
    unsigned n, size;
};

struct usual *usual_new(void)
{
    return xnew(struct usual);
}

struct usual *usual_free(struct usual *u)
{
    if (!u)
        return NULL;
    for (unsigned i = 0; i < u->n; i++) {
        free(u->entries[i]->what);
        free(u->entries[i]);
    }
    free(u->entries);
    free(u);
    return NULL;
}

/* Where `what` is or belongs. */
static unsigned place(const struct usual *u, const char *what)
{
    unsigned low = 0, high = u->n;

    while (low < high) {
        unsigned middle = low + (high - low) / 2;

        if (strcmp(u->entries[middle]->what, what) < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

static const struct entry *find(const struct usual *u, const char *what)
{
    unsigned i = place(u, what);

    return i < u->n && streq(u->entries[i]->what, what) ? u->entries[i] : NULL;
}

static struct entry *find_or_add(struct usual *u, const char *what)
{
    unsigned i = place(u, what);

    if (i < u->n && streq(u->entries[i]->what, what))
        return u->entries[i];
    if (u->n == u->size) {
        u->size = u->size ? 2 * u->size : 16;
        u->entries = reallocarray(u->entries, u->size, sizeof(*u->entries));
        if (!u->entries)
            abort();
    }
    memmove(u->entries + i + 1, u->entries + i, (u->n - i) * sizeof(*u->entries));
    u->n++;
    u->entries[i] = xnew(struct entry);
    u->entries[i]->what = xstrdup(what);
    return u->entries[i];
}

static void add(struct entry *e, uint64_t ms)
{
    if (e->n == USUAL_KEPT)
        memmove(e->ms, e->ms + 1, --e->n * sizeof(*e->ms));
    e->ms[e->n++] = MAX(ms, 1u);
}

void usual_load(struct usual *u, const char *what, const char *last)
{
    struct entry *e = find_or_add(u, what);

    while (*last) {
        char *end;

        errno = 0;
        uint64_t ms = strtoull(last, &end, 10);

        if (end == last)
            return;
        if (errno == 0)
            add(e, ms);
        last = end;
    }
}

char *usual_add(struct usual *u, const char *what, uint64_t ms)
{
    struct entry *e = find_or_add(u, what);
    struct buf text;

    add(e, ms);
    buf_init(&text, USUAL_KEPT * 24);
    for (unsigned i = 0; i < e->n; i++)
        if (buf_addf(&text, "%s%" PRIu64, i ? " " : "", e->ms[i]) < 0)
            abort();
    return buf_take(&text);
}

static int compare(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

    return (x > y) - (x < y);
}

uint64_t usual_ms(const struct usual *u, const char *what)
{
    const struct entry *e = find(u, what);
    uint64_t sorted[USUAL_KEPT];

    if (!e || e->n == 0)
        return 0;
    memcpy(sorted, e->ms, e->n * sizeof(*sorted));
    qsort(sorted, e->n, sizeof(*sorted), compare);
    return e->n % 2 ? sorted[e->n / 2] : (sorted[e->n / 2 - 1] + sorted[e->n / 2]) / 2;
}
