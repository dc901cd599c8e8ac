/* Values against a contract. The members that are there are judged first, in the order of the message, and
 * what is missing after them: who writes "modle" learns that it is unknown, not that "model" is missing. */
#include "proto/varlink_contract.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proto/json.h"

/* Where we are: "models[2].state". What does not fit is cut off. */
struct where {
    char text[256];
    size_t len;
};

static size_t where_add(struct where *w, const char *dot, const char *name)
{
    size_t len = w->len;
    int n = snprintf(w->text + len, sizeof(w->text) - len, "%s%s", len > 0 ? dot : "", name);

    w->len = n < 0 ? len : MIN(len + (size_t)n, sizeof(w->text) - 1);
    return len;
}

static size_t where_add_index(struct where *w, size_t i)
{
    char index[32];

    snprintf(index, sizeof(index), "[%zu]", i);
    return where_add(w, "", index);
}

static void where_back(struct where *w, size_t len)
{
    w->len = len;
    w->text[len] = '\0';
}

static bool is_missing(const struct json *v)
{
    return json_type(v) == JSON_NULL;
}

static int check_value(const struct varlink_type *t, const struct json *v, struct where *w);

/* A text that goes on behind a NUL would be read as another, shorter one. */
static int check_text(const struct varlink_type *t, const struct json *v)
{
    size_t n;
    const char *text = json_text_n(v, &n);

    if (!text || strlen(text) != n)
        return -EINVAL;
    return t->kind == VARLINK_STRING || varlink_field_find(t, text) ? 0 : -EINVAL;
}

static int check_struct(const struct varlink_type *t, const struct json *v, struct where *w)
{
    size_t len = w->len;
    int r;

    if (json_type(v) != JSON_OBJECT)
        return -EINVAL;
    for (size_t i = 0; i < json_count(v); i++) {
        const struct varlink_field *f = varlink_field_find(t, json_key_at(v, i));

        where_add(w, ".", json_key_at(v, i));
        r = f ? 0 : -EINVAL;
        if (f && !is_missing(json_at(v, i)))
            r = check_value(f->type, json_at(v, i), w);
        if (r < 0)
            return r;
        where_back(w, len);
    }
    for (const struct varlink_field *f = t->fields; f; f = f->next)
        if (!f->type->maybe && is_missing(json_get(v, f->name))) {
            where_add(w, ".", f->name);
            return -EINVAL;
        }
    return 0;
}

static int check_elements(const struct varlink_type *t, const struct json *v, struct where *w)
{
    if (json_type(v) != (t->kind == VARLINK_ARRAY ? JSON_ARRAY : JSON_OBJECT))
        return -EINVAL;
    for (size_t i = 0; i < json_count(v); i++) {
        size_t len = t->kind == VARLINK_ARRAY ? where_add_index(w, i) : where_add(w, ".", json_key_at(v, i));
        int r = check_value(t->of, json_at(v, i), w);

        if (r < 0)
            return r;
        where_back(w, len);
    }
    return 0;
}

/* The depth is that of the value, which json_parse() bounds. On failure w stays where it went wrong. */
static int check_value(const struct varlink_type *t, const struct json *v, struct where *w)
{
    enum json_type type = json_type(v);

    if (type == JSON_NULL)
        return t->maybe ? 0 : -EINVAL;
    switch (t->kind) {
    case VARLINK_BOOL: return type == JSON_BOOL ? 0 : -EINVAL;
    case VARLINK_INT: return type == JSON_INT ? 0 : -EINVAL;
    case VARLINK_FLOAT: return type == JSON_REAL || type == JSON_INT ? 0 : -EINVAL;
    case VARLINK_OBJECT: return 0;
    case VARLINK_STRING:
    case VARLINK_ENUM: return check_text(t, v);
    case VARLINK_STRUCT: return check_struct(t, v, w);
    case VARLINK_ARRAY:
    case VARLINK_MAP: return check_elements(t, v, w);
    case VARLINK_NAMED: return check_value(t->decl->in, v, w);
    }
    return -EINVAL;
}

static int check(const struct varlink_type *t, const struct json *parameters, char **ret_where)
{
    _cleanup_json_ struct json *none = NULL;
    struct where w = {0};
    char *where;
    int r;

    if (!parameters) {
        none = json_object();
        if (!none)
            return -ENOMEM;
        parameters = none;
    }
    r = check_value(t, parameters, &w);
    if (r < 0 && ret_where) {
        where = strdup(w.text);
        if (!where)
            return -ENOMEM;
        *ret_where = where;
    }
    return r;
}

int varlink_check_call(const struct varlink_contract *c, const char *method, const struct json *parameters,
                       char **ret_where)
{
    const struct varlink_decl *d = varlink_contract_find(c, DECL_METHOD, method);

    return d ? check(d->in, parameters, ret_where) : -ENOENT;
}

int varlink_check_reply(const struct varlink_contract *c, const char *method, const struct json *parameters,
                        char **ret_where)
{
    const struct varlink_decl *d = varlink_contract_find(c, DECL_METHOD, method);

    return d ? check(d->out, parameters, ret_where) : -ENOENT;
}

int varlink_check_error(const struct varlink_contract *c, const char *error, const struct json *parameters,
                        char **ret_where)
{
    const struct varlink_decl *d = varlink_contract_find(c, DECL_ERROR, error);

    return d ? check(d->in, parameters, ret_where) : -ENOENT;
}

const char *varlink_reply_lacks(const struct varlink_contract *c, const char *method,
                                const struct json *parameters)
{
    const struct varlink_decl *d = varlink_contract_find(c, DECL_METHOD, method);

    for (const struct varlink_field *f = d ? d->out->fields : NULL; f; f = f->next)
        if (!f->type->maybe && is_missing(json_get(parameters, f->name)))
            return f->name;
    return NULL;
}

/* ---- for the log ----
 *
 * What does not fit the contract is not shown at all: a secret may stand under a misspelt name, too. */

static struct json *hide_value(const struct varlink_type *t, const struct json *v);

static struct json *hide_struct(const struct varlink_type *t, const struct json *v)
{
    struct json *copy = json_object();

    for (size_t i = 0; i < json_count(v); i++) {
        const char *key = json_key_at(v, i);
        const struct varlink_field *f = varlink_field_find(t, key);

        json_put(copy, key, f ? hide_value(f->type, json_at(v, i)) : json_string("<unknown>"));
    }
    return copy;
}

static struct json *hide_elements(const struct varlink_type *t, const struct json *v)
{
    struct json *copy = t->kind == VARLINK_ARRAY ? json_array() : json_object();

    for (size_t i = 0; i < json_count(v); i++)
        if (t->kind == VARLINK_ARRAY)
            json_append(copy, hide_value(t->of, json_at(v, i)));
        else
            json_put(copy, json_key_at(v, i), hide_value(t->of, json_at(v, i)));
    return copy;
}

static struct json *hide_value(const struct varlink_type *t, const struct json *v)
{
    enum json_type type = json_type(v);

    if (t->kind == VARLINK_NAMED)
        return streq(t->name, "Secret") && type != JSON_NULL ? json_string("<secret>")
                                                             : hide_value(t->decl->in, v);
    if (t->kind == VARLINK_OBJECT || type == JSON_NULL)
        return json_copy(v);
    if (t->kind == VARLINK_ARRAY ? type == JSON_ARRAY : t->kind == VARLINK_MAP && type == JSON_OBJECT)
        return hide_elements(t, v);
    if (t->kind == VARLINK_STRUCT && type == JSON_OBJECT)
        return hide_struct(t, v);
    if (check_value(t, v, &(struct where){0}) < 0)
        return json_string("<unknown>");
    return json_copy(v);
}

struct json *varlink_hide_secrets(const struct varlink_contract *c, const char *method,
                                  const struct json *parameters)
{
    const struct varlink_decl *d = varlink_contract_find(c, DECL_METHOD, method);

    if (!parameters)
        return json_object();
    if (!d || json_type(parameters) != JSON_OBJECT)
        return json_string("<unknown>");
    return hide_struct(d->in, parameters);
}
