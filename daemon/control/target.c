/* Names and globs against what there is. */
#include "control/target.h"

#include <string.h>

#include "control/call.h"
#include "deployment/deployment.h"
#include "lease/lease.h"
#include "manager.h"
#include "proto/buf.h"
#include "proto/json.h"
#include "proto/mem.h"
#include "proto/text.h"

static struct json *real_name(struct manager *m, const struct json *typed)
{
    return json_string(manager_real_name(m, json_text(typed)));
}

void target_real_names(struct call *c)
{
    static const char *const keys[] = {"model", "target", "for_model"};
    struct manager *m = c->context->manager;
    const struct json *targets = json_get(c->parameters, "targets");

    if (!targets && !json_get(c->parameters, "model") && !json_get(c->parameters, "target") &&
        !json_get(c->parameters, "for_model"))
        return; /* they may hold a secret, of which there should be one copy */
    c->real = json_copy(c->parameters);
    for (size_t i = 0; i < ELEMENTS(keys); i++)
        if (json_get_text(c->real, keys[i]))
            json_put(c->real, keys[i], real_name(m, json_get(c->real, keys[i])));
    if (json_count(targets)) {
        struct json *list = json_array();

        for (size_t i = 0; i < json_count(targets); i++)
            json_append(list, real_name(m, json_at(targets, i)));
        json_put(c->real, "targets", list);
    }
    c->parameters = c->real;
}

bool target_is_model(const char *text, const struct deployment *d)
{
    return glob_match(text, deployment_name(d)) || streq(text, deployment_id(d)) ||
           glob_match(text, lease_name(deployment_lease(d)));
}

bool target_is_instance(const char *text, const struct lease *l)
{
    return glob_match(text, lease_name(l));
}

bool target_has_model(const struct json *targets, const struct deployment *d)
{
    for (size_t i = 0; i < json_count(targets); i++)
        if (target_is_model(json_text(json_at(targets, i)), d))
            return true;
    return json_count(targets) == 0;
}

bool target_has_name(const struct json *targets, const char *name)
{
    for (size_t i = 0; i < json_count(targets); i++)
        if (glob_match(json_text(json_at(targets, i)), name))
            return true;
    return json_count(targets) == 0;
}

bool target_has_instance(const struct json *targets, const struct lease *l)
{
    return target_has_name(targets, lease_name(l));
}

/* Does the list have it before that place? */
static bool on_has_before(const char *on, const char *place, size_t n)
{
    for (; on < place; on += strcspn(on, ",") + 1)
        if (strcspn(on, ",") == n && strncmp(on, place, n) == 0)
            return true;
    return false;
}

char *target_on_at(const char *on, unsigned i)
{
    for (const char *p = on;; p++) {
        size_t n = strcspn(p, ",");

        if (!on_has_before(on, p, n) && i-- == 0)
            return xasprintf("%.*s", (int)n, p);
        p += n;
        if (!*p)
            return NULL;
    }
}

static bool target_means_something(struct manager *m, const char *text)
{
    struct deployment *d;
    struct lease *l;

    for (unsigned i = 0; (d = manager_deployment_at(m, i)); i++)
        if (target_is_model(text, d))
            return true;
    for (unsigned i = 0; (l = manager_lease_at(m, i)); i++)
        if (target_is_instance(text, l))
            return true;
    return false;
}

static void near_name(const char *text, const char *name, unsigned *best, const char **ret)
{
    unsigned n = text_distance(text, name, 4);

    if (n < *best) {
        *best = n;
        *ret = name;
    }
}

bool target_check_one(struct call *c, const char *text)
{
    struct manager *m = c->context->manager;
    struct deployment *d;
    struct lease *l;
    const char *close = NULL;
    unsigned best = MIN(5u, MAX(2u, (unsigned)strlen(text) / 3 + 1)); /* beyond that it is another word */

    if (target_means_something(m, text))
        return true;
    for (unsigned i = 0; (d = manager_deployment_at(m, i)); i++)
        near_name(text, deployment_name(d), &best, &close);
    for (unsigned i = 0; (l = manager_lease_at(m, i)); i++)
        near_name(text, lease_name(l), &best, &close);

    const struct alias *a;

    for (unsigned i = 0; (a = manager_alias_at(m, i)); i++)
        near_name(text, a->name, &best, &close);

    const char *kind = glob_is_pattern(text) ? "nothing matches"
                       : strchr(text, ':')   ? "no model"
                                             : "no instance or model";
    _cleanup_free_ char *why = close ? xasprintf("close: %s", close) : NULL;

    call_fail(c, EXIT_NOT_FOUND, "not_found", text, why, "llmhostctl status", "%s \"%.200s\"", kind, text);
    return false;
}

bool target_check(struct call *c, const struct json *targets)
{
    for (size_t i = 0; i < json_count(targets); i++)
        if (!target_check_one(c, json_text(json_at(targets, i))))
            return false;
    return true;
}
