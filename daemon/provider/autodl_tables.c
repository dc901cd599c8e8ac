/* libinih reads the lines; each section opens a row and keys fill it. */
#include "provider/autodl_tables.h"

#include <ctype.h>
#include <errno.h>
#include <ini.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "proto/mem.h"
#include "proto/text.h"

struct reading {
    struct autodl_tables *t;
    char section[80]; /* of the row that is filled */
    void *row;
};

static bool put(char *to, size_t size, const char *text)
{
    if (!*text || strlen(text) >= size)
        return false;
    snprintf(to, size, "%s", text);
    return true;
}

static bool put_number(unsigned *to, const char *text)
{
    if (!*text || text[strspn(text, "0123456789")] || strlen(text) > 6)
        return false;
    *to = (unsigned)strtoul(text, NULL, 10);
    return true;
}

/* "1.88 2026-09-01": yuan with up to three places, and the day. */
static bool put_price(int64_t *price_milli, char price_day[static AUTODL_DAY_MAX], const char *text)
{
    unsigned yuan, n_digits = 0;
    int64_t milli = 0;
    char *end;

    if (!isdigit((unsigned char)*text))
        return false;
    yuan = (unsigned)strtoul(text, &end, 10);
    if (*end == '.')
        for (end++; isdigit((unsigned char)*end) && n_digits < 3; end++, n_digits++)
            milli = milli * 10 + (*end - '0');
    for (; n_digits < 3; n_digits++)
        milli *= 10;
    if (*end != ' ' || yuan > 10000)
        return false;
    *price_milli = yuan * (int64_t)1000 + milli;
    return put(price_day, AUTODL_DAY_MAX, end + 1);
}

static bool fill_card(struct autodl_card *c, const char *key, const char *value)
{
    if (streq(key, "gpu"))
        return put(c->gpu, sizeof c->gpu, value);
    if (streq(key, "stock"))
        return put(c->stock, sizeof c->stock, value);
    if (streq(key, "memory"))
        return put_number(&c->memory_gib, value);
    return streq(key, "price") && put_price(&c->price_milli, c->price_day, value);
}

static bool fill_disk(struct autodl_disk *d, const char *key, const char *value)
{
    if (streq(key, "free"))
        return put_number(&d->free_gb, value);
    return streq(key, "price") && put_price(&d->price_milli, d->price_day, value);
}

static bool fill_region(struct autodl_region *r, const char *key, const char *value)
{
    if (streq(key, "name"))
        return put(r->name, sizeof r->name, value);
    r->can_create = streq(value, "yes");
    return streq(key, "create") && (r->can_create || streq(value, "no"));
}

static bool fill_image(struct autodl_image *i, const char *key, const char *value)
{
    if (streq(key, "name"))
        return put(i->name, sizeof i->name, value);
    if (streq(key, "word"))
        return put(i->word, sizeof i->word, value);
    return streq(key, "cuda") && put_number(&i->cuda, value);
}

static bool fill_kind(struct autodl_error *e, const char *value)
{
    static const enum fault_kind kinds[] = {FAULT_TRANSIENT, FAULT_EXHAUSTED, FAULT_DENIED, FAULT_GONE,
                                            FAULT_INVALID};

    for (unsigned i = 0; i < ELEMENTS(kinds); i++)
        if (streq(value, fault_kind_name(kinds[i]))) {
            e->kind = kinds[i];
            return true;
        }
    return false;
}

static bool fill_error(struct autodl_error *e, const char *key, const char *value)
{
    if (streq(key, "code"))
        return put(e->code, sizeof e->code, value);
    if (streq(key, "has"))
        return put(e->has, sizeof e->has, value);
    if (streq(key, "text"))
        return put(e->text, sizeof e->text, value);
    return streq(key, "kind") && fill_kind(e, value);
}

#define OPEN(rows, name)                                                                                     \
    (t->n_##rows < AUTODL_ROWS_MAX && put(t->rows[t->n_##rows].name, sizeof t->rows[0].name, word)           \
         ? (void *)&t->rows[t->n_##rows++]                                                                   \
         : NULL)

/* "card h800" */
static bool open_row(struct reading *g, const char *section)
{
    struct autodl_tables *t = g->t;
    const char *word = section + strcspn(section, " ");

    g->row = NULL;
    if (!*word || !put(g->section, sizeof g->section, section))
        return false;
    word++;
    switch (*section) {
    case 'c': g->row = OPEN(cards, spec); break;
    case 'o': g->row = OPEN(ordinary, spec); break;
    case 'r': g->row = OPEN(regions, code); break;
    case 'i': g->row = OPEN(images, uuid); break;
    case 'e': g->row = OPEN(errors, word); break;
    case 'd': g->row = &t->disk; break;
    }
    return g->row;
}

static bool fill_row(struct reading *g, const char *key, const char *value)
{
    if (strncmp(g->section, "card ", 5) == 0 || strncmp(g->section, "ordinary ", 9) == 0)
        return fill_card(g->row, key, value);
    if (strncmp(g->section, "region ", 7) == 0)
        return fill_region(g->row, key, value);
    if (strncmp(g->section, "image ", 6) == 0)
        return fill_image(g->row, key, value);
    if (strncmp(g->section, "disk ", 5) == 0)
        return fill_disk(g->row, key, value);
    return strncmp(g->section, "error ", 6) == 0 && fill_error(g->row, key, value);
}

/* libinih goes on behind a line that was refused, and remembers the first. */
static int on_line(void *ctx, const char *section, const char *key, const char *value)
{
    struct reading *g = ctx;

    if (!streq(section, g->section) && !open_row(g, section))
        *g->section = '\0';
    return *g->section && fill_row(g, key, value);
}

static const char *judge_cards(const struct autodl_card *cards, unsigned n)
{
    for (unsigned i = 0; i < n; i++)
        if (!*cards[i].gpu || !cards[i].memory_gib)
            return cards[i].spec;
    return NULL;
}

/* Rows that lack what they are for. */
static const char *judge(const struct autodl_tables *t)
{
    const char *lacks = judge_cards(t->cards, t->n_cards);

    if (!lacks)
        lacks = judge_cards(t->ordinary, t->n_ordinary);
    if (lacks)
        return lacks;
    for (unsigned i = 0; i < t->n_errors; i++)
        if (!*t->errors[i].code || !*t->errors[i].text || t->errors[i].kind == FAULT_NONE)
            return t->errors[i].word;
    return NULL;
}

int autodl_tables_parse(const char *text, size_t n, struct autodl_tables *ret, char **ret_why)
{
    _cleanup_free_ char *copy = NULL;
    struct reading g = {.t = ret};
    const char *lacks;

    *ret = (struct autodl_tables){0};
    if (n > AUTODL_BYTES_MAX || memchr(text, '\0', n)) {
        *ret_why = xasprintf("not a text of at most %zu KiB", AUTODL_BYTES_MAX >> 10);
        return -EINVAL;
    }
    copy = xasprintf("%.*s", (int)n, text);
    int line = ini_parse_string(copy, on_line, &g);

    if (line) {
        *ret_why = xasprintf("line %d is not understood", line);
        return -EINVAL;
    }
    lacks = judge(ret);
    if (lacks) {
        *ret_why = xasprintf("the section of %s is not whole", lacks);
        return -EINVAL;
    }
    return 0;
}

const struct autodl_card *autodl_find_card(const struct autodl_tables *t, const char *name)
{
    for (unsigned i = 0; i < t->n_cards; i++)
        if (strcasecmp(t->cards[i].spec, name) == 0 || strcasecmp(t->cards[i].gpu, name) == 0 ||
            strcasecmp(t->cards[i].stock, name) == 0)
            return &t->cards[i];
    return NULL;
}

/* Letter by letter without spaces, behind the words that say nothing. */
static void bare_name(const char *name, char out[static 32])
{
    static const char *const words[] = {"nvidia", "geforce", "rtx"};
    size_t n = 0;

    for (unsigned i = 0; i < ELEMENTS(words); i++) {
        name += strspn(name, " ");
        if (strncasecmp(name, words[i], strlen(words[i])) == 0)
            name += strlen(words[i]);
    }
    for (; *name && n < 31; name++)
        if (*name != ' ')
            out[n++] = *name;
    out[n] = '\0';
}

struct autodl_card *autodl_find_ordinary(struct autodl_tables *t, const char *name)
{
    char wanted[32], known[32];

    bare_name(name, wanted);
    for (unsigned i = 0; i < t->n_ordinary; i++) {
        bare_name(t->ordinary[i].stock, known);
        if (strcasecmp(t->ordinary[i].gpu, wanted) == 0 || strcasecmp(known, wanted) == 0)
            return &t->ordinary[i];
    }
    return NULL;
}

int64_t autodl_disk_day_milli(const struct autodl_tables *t, unsigned disk_gb)
{
    unsigned paid_gb = disk_gb > t->disk.free_gb ? disk_gb - t->disk.free_gb : 0;

    return (paid_gb * t->disk.price_milli + 500) / 1000;
}

const struct autodl_error *autodl_find_error(const struct autodl_tables *t, const char *code,
                                             const char *message)
{
    for (unsigned i = 0; i < t->n_errors; i++) {
        const struct autodl_error *e = &t->errors[i];

        if ((streq(e->code, "*") || streq(e->code, code)) && (!*e->has || strstr(message, e->has)))
            return e;
    }
    return NULL;
}
