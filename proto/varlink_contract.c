/* Reads an interface description (varlink.org, "Interface Definition", read 2026-11-21): a recursive descent
 * over the text. All that is made on the way hangs on one list, so that giving up half way needs no care. */
#include "proto/varlink_contract.h"

#include <errno.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define TYPE_DEPTH_MAX 16

struct varlink_block {
    struct varlink_block *next;
    max_align_t bytes[];
};

struct reader {
    struct varlink_contract *c;
    const char *p;
    unsigned line;
    unsigned depth;
    char *why;
};

/* ---- helpers ---- */

static void *contract_alloc(struct varlink_contract *c, size_t size)
{
    struct varlink_block *b = calloc(1, sizeof(*b) + size);

    if (!b)
        return NULL;
    b->next = c->blocks;
    c->blocks = b;
    return b->bytes;
}

static char *contract_text_n(struct varlink_contract *c, const char *text, size_t n)
{
    char *copy = contract_alloc(c, n + 1);

    if (copy)
        memcpy(copy, text, n);
    return copy;
}

__attribute__((format(printf, 3, 4))) static int refuse(struct reader *rd, unsigned line, const char *format,
                                                        ...)
{
    char reason[200];
    va_list args;

    va_start(args, format);
    vsnprintf(reason, sizeof(reason), format, args);
    va_end(args);
    free(rd->why);
    if (asprintf(&rd->why, "line %u: %s", line, reason) < 0) {
        rd->why = NULL;
        return -ENOMEM;
    }
    return -EBADMSG;
}

static int refuse_here(struct reader *rd, const char *expected)
{
    size_t n = strcspn(rd->p, " \t\r\n");

    if (*rd->p == '\0')
        return refuse(rd, rd->line, "%s expected, but the text ends", expected);
    return refuse(rd, rd->line, "%s expected at \"%.*s\"", expected, (int)MIN(n, 30), rd->p);
}

/* White space and comments. */
static void skip(struct reader *rd)
{
    for (;; rd->p++)
        if (*rd->p == '#') {
            rd->p += strcspn(rd->p, "\n");
            if (*rd->p == '\0')
                return;
            rd->line++;
        } else if (*rd->p == '\n')
            rd->line++;
        else if (*rd->p == '\0' || !strchr(" \t\r", *rd->p))
            return;
}

static bool take(struct reader *rd, const char *sign)
{
    size_t n = strlen(sign);

    skip(rd);
    if (strncmp(rd->p, sign, n) != 0)
        return false;
    rd->p += n;
    return true;
}

static int need(struct reader *rd, const char *sign)
{
    return take(rd, sign) ? 0 : refuse_here(rd, sign);
}

static bool is_upper(char c)
{
    return c >= 'A' && c <= 'Z';
}

static bool is_alpha(char c)
{
    return is_upper(c) || (c >= 'a' && c <= 'z');
}

static bool is_alnum(char c)
{
    return is_alpha(c) || (c >= '0' && c <= '9');
}

/* A whole word is there, and nothing else. */
static bool take_word(struct reader *rd, const char *word)
{
    size_t n = strlen(word);

    skip(rd);
    if (strncmp(rd->p, word, n) != 0 || is_alnum(rd->p[n]) || rd->p[n] == '_')
        return false;
    rd->p += n;
    return true;
}

static int name_done(struct reader *rd, size_t n, char **ret)
{
    *ret = contract_text_n(rd->c, rd->p, n);
    rd->p += n;
    return *ret ? 0 : -ENOMEM;
}

/* [A-Z][A-Za-z0-9]* */
static int read_name(struct reader *rd, char **ret)
{
    size_t n = 0;

    skip(rd);
    while (is_alnum(rd->p[n]))
        n++;
    return is_upper(*rd->p) ? name_done(rd, n, ret) : refuse_here(rd, "a name with a capital letter");
}

/* [A-Za-z](_?[A-Za-z0-9])* */
static int read_field_name(struct reader *rd, char **ret)
{
    size_t n = 0;

    skip(rd);
    while (is_alnum(rd->p[n]) || (n > 0 && rd->p[n] == '_' && is_alnum(rd->p[n + 1])))
        n++;
    return is_alpha(*rd->p) ? name_done(rd, n, ret) : refuse_here(rd, "the name of a field");
}

/* [A-Za-z](-*[A-Za-z0-9])*(\.[A-Za-z0-9](-*[A-Za-z0-9])*)+ */
static int read_interface_name(struct reader *rd, char **ret)
{
    size_t n = 0, dots = 0;

    skip(rd);
    for (; is_alnum(rd->p[n]) || (n > 0 && (rd->p[n] == '.' || rd->p[n] == '-')); n++) {
        if (rd->p[n] == '.') {
            dots++;
            if (!is_alnum(rd->p[n - 1]) || !is_alnum(rd->p[n + 1]))
                return refuse_here(rd, "the name of an interface");
        }
    }
    if (!is_alpha(*rd->p) || dots == 0 || !is_alnum(rd->p[n - 1]))
        return refuse_here(rd, "the name of an interface, as in com.example.thing,");
    return name_done(rd, n, ret);
}

/* ---- types ---- */

static int read_type(struct reader *rd, struct varlink_type **ret);

static struct varlink_type *type_new(struct reader *rd)
{
    struct varlink_type *t = contract_alloc(rd->c, sizeof(*t));

    if (t) {
        t->fields_end = &t->fields;
        t->line = rd->line;
    }
    return t;
}

const struct varlink_field *varlink_field_find(const struct varlink_type *type, const char *name)
{
    for (const struct varlink_field *f = type->fields; f; f = f->next)
        if (streq(f->name, name))
            return f;
    return NULL;
}

/* One field of a struct, or one word of an enum; the first decides which it is. */
static int read_field(struct reader *rd, struct varlink_type *t)
{
    struct varlink_field *f = contract_alloc(rd->c, sizeof(*f));
    bool first = !t->fields;
    int r = f ? read_field_name(rd, &f->name) : -ENOMEM;

    if (r < 0)
        return r;
    if (varlink_field_find(t, f->name))
        return refuse(rd, rd->line, "%.60s comes twice", f->name);
    if (take(rd, ":")) {
        if (!first && t->kind == VARLINK_ENUM)
            return refuse(rd, rd->line, "%.60s has a type among words without", f->name);
        r = read_type(rd, &f->type);
        if (r < 0)
            return r;
    } else if (first)
        t->kind = VARLINK_ENUM;
    else if (t->kind == VARLINK_STRUCT)
        return refuse(rd, rd->line, "the field %.60s has no type", f->name);
    *t->fields_end = f;
    t->fields_end = &f->next;
    return 0;
}

/* Behind the opening bracket. */
static int read_fields(struct reader *rd, struct varlink_type *t)
{
    int r;

    t->kind = VARLINK_STRUCT;
    if (take(rd, ")"))
        return 0;
    do {
        r = read_field(rd, t);
        if (r < 0)
            return r;
    } while (take(rd, ","));
    return need(rd, ")");
}

static int read_plain_type(struct reader *rd, struct varlink_type *t)
{
    static const struct {
        const char *word;
        enum varlink_kind kind;
    } words[] = {
        {"bool", VARLINK_BOOL},     {"int", VARLINK_INT},       {"float", VARLINK_FLOAT},
        {"string", VARLINK_STRING}, {"object", VARLINK_OBJECT},
    };

    for (size_t i = 0; i < ELEMENTS(words); i++)
        if (take_word(rd, words[i].word)) {
            t->kind = words[i].kind;
            return 0;
        }
    if (!is_upper(*rd->p))
        return refuse_here(rd, "a type");
    t->kind = VARLINK_NAMED;
    return read_name(rd, &t->name);
}

static int read_type_inside(struct reader *rd, struct varlink_type *t)
{
    t->maybe = take(rd, "?");
    if (take(rd, "[]")) {
        t->kind = VARLINK_ARRAY;
        return read_type(rd, &t->of);
    }
    if (take(rd, "[string]")) {
        t->kind = VARLINK_MAP;
        return read_type(rd, &t->of);
    }
    return take(rd, "(") ? read_fields(rd, t) : read_plain_type(rd, t);
}

static int read_type(struct reader *rd, struct varlink_type **ret)
{
    int r;

    if (rd->depth == TYPE_DEPTH_MAX)
        return refuse(rd, rd->line, "types are nested too deeply");
    skip(rd);
    *ret = type_new(rd);
    if (!*ret)
        return -ENOMEM;
    rd->depth++;
    r = read_type_inside(rd, *ret);
    rd->depth--;
    return r;
}

/* ( … ); an enum too where that is allowed. */
static int read_brackets(struct reader *rd, bool may_be_enum, struct varlink_type **ret)
{
    int r = need(rd, "(");

    if (r < 0)
        return r;
    *ret = type_new(rd);
    if (!*ret)
        return -ENOMEM;
    r = read_fields(rd, *ret);
    if (r == 0 && !may_be_enum && (*ret)->kind == VARLINK_ENUM)
        return refuse(rd, (*ret)->line, "parameters need types");
    return r;
}

/* ---- declarations ---- */

static const struct varlink_decl *find_name(const struct varlink_contract *c, const char *name)
{
    for (const struct varlink_decl *d = c->decls; d; d = d->next)
        if (streq(d->name, name))
            return d;
    return NULL;
}

static int read_decl_inside(struct reader *rd, struct varlink_decl *d)
{
    int r = read_name(rd, &d->name);

    if (r < 0)
        return r;
    if (find_name(rd->c, d->name))
        return refuse(rd, rd->line, "%.60s is declared twice", d->name);
    r = read_brackets(rd, d->kind == DECL_TYPE, &d->in);
    if (r < 0 || d->kind != DECL_METHOD)
        return r;
    r = need(rd, "->");
    return r < 0 ? r : read_brackets(rd, false, &d->out);
}

static int read_decl(struct reader *rd)
{
    struct varlink_decl *d = contract_alloc(rd->c, sizeof(*d));
    int r;

    if (!d)
        return -ENOMEM;
    if (take_word(rd, "method"))
        d->kind = DECL_METHOD;
    else if (take_word(rd, "error"))
        d->kind = DECL_ERROR;
    else if (take_word(rd, "type"))
        d->kind = DECL_TYPE;
    else
        return refuse_here(rd, "type, method or error");
    r = read_decl_inside(rd, d);
    if (r < 0)
        return r;
    *rd->c->decls_end = d;
    rd->c->decls_end = &d->next;
    return 0;
}

/* Types may be used above their declaration, so names are looked up at the end. */
static int resolve(struct reader *rd, struct varlink_type *t)
{
    const struct varlink_decl *d;
    int r;

    if (!t)
        return 0;
    if (t->kind == VARLINK_NAMED) {
        d = find_name(rd->c, t->name);
        if (!d || d->kind != DECL_TYPE)
            return refuse(rd, t->line, "there is no type %.60s", t->name);
        t->decl = d;
    }
    for (struct varlink_field *f = t->fields; f; f = f->next) {
        r = resolve(rd, f->type);
        if (r < 0)
            return r;
    }
    return resolve(rd, t->of);
}

static int read_contract(struct reader *rd)
{
    int r;

    if (!take_word(rd, "interface"))
        return refuse_here(rd, "interface");
    r = read_interface_name(rd, &rd->c->name);
    if (r < 0)
        return r;
    for (skip(rd); *rd->p; skip(rd)) {
        r = read_decl(rd);
        if (r < 0)
            return r;
    }
    for (struct varlink_decl *d = rd->c->decls; d; d = d->next) {
        r = resolve(rd, d->in);
        if (r == 0)
            r = resolve(rd, d->out);
        if (r < 0)
            return r;
    }
    return 0;
}

int varlink_contract_parse(const char *text, struct varlink_contract **ret, char **ret_why)
{
    _cleanup_(cleanup_varlink_contract_free) struct varlink_contract *c = calloc(1, sizeof(*c));
    struct reader rd = {.c = c, .p = text, .line = 1};
    int r = -ENOMEM;

    if (!c)
        return r;
    c->decls_end = &c->decls;
    c->text = contract_text_n(c, text, strlen(text));
    if (c->text)
        r = read_contract(&rd);
    if (r < 0) {
        if (ret_why)
            *ret_why = TAKE_PTR(rd.why);
        free(rd.why);
        return r;
    }
    *ret = TAKE_PTR(c);
    return 0;
}

struct varlink_contract *varlink_contract_free(struct varlink_contract *c)
{
    while (c && c->blocks) {
        struct varlink_block *b = c->blocks;

        c->blocks = b->next;
        free(b);
    }
    free(c);
    return NULL;
}

/* ---- looking ---- */

const char *varlink_contract_name(const struct varlink_contract *c)
{
    return c->name;
}

const char *varlink_contract_text(const struct varlink_contract *c)
{
    return c->text;
}

const char *varlink_contract_method(const struct varlink_contract *c, size_t i)
{
    for (const struct varlink_decl *d = c->decls; d; d = d->next)
        if (d->kind == DECL_METHOD && i-- == 0)
            return d->name;
    return NULL;
}

const struct varlink_decl *varlink_contract_find(const struct varlink_contract *c,
                                                 enum varlink_decl_kind kind, const char *name)
{
    size_t n = strlen(c->name);
    const struct varlink_decl *d;

    if (strncmp(name, c->name, n) == 0 && name[n] == '.')
        name += n + 1;
    d = find_name(c, name);
    return d && d->kind == kind ? d : NULL;
}
