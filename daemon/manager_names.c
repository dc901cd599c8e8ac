/* What people call models: short names they gave them, and names that differ and mean one.
 *
 * An alias is a name for a name: it lasts when its model is forgotten, so that `up` by it brings the model
 * back. It never hides anything: a name that means an instance or a model already cannot become one, and what
 * has the name of one cannot be added. So the order of looking does not matter anywhere. */
#include "manager_private.h"

#include <errno.h>

#include "engine/engine.h"
#include "lease/lease.h"
#include "proto/mem.h"
#include "proto/text.h"

#define ALIASES_MAX 200

struct managed_alias {
    struct list node;
    struct alias alias;
};

/* ---- looking ---- */

const struct alias *manager_alias_at(struct manager *m, unsigned i)
{
    LIST_FOREACH (a, &m->aliases, struct managed_alias, node)
        if (i-- == 0)
            return &a->alias;
    return NULL;
}

static struct managed_alias *find(struct manager *m, const char *name)
{
    LIST_FOREACH (a, &m->aliases, struct managed_alias, node)
        if (id_matches(a->alias.name, name))
            return a;
    return NULL;
}

const char *manager_alias_model(struct manager *m, const char *name)
{
    const struct managed_alias *a = find(m, name);

    return a ? a->alias.model : NULL;
}

/* The name of a model there is that means the same to its engine: "ollama:qwen3" for "ollama:qwen3:latest".
 */
static const char *same_model(struct manager *m, const char *name)
{
    struct model_name asked, has;
    const char *why;

    if (manager_find_deployment(m, name) || model_name_parse(name, &asked, &why) < 0)
        return NULL;
    LIST_FOREACH (d, &m->deployments, struct managed_deployment, node)
        if ((deployment_engine(d->deployment)->dialects & ENGINE_OLLAMA) &&
            model_name_parse(deployment_name(d->deployment), &has, &why) == 0 &&
            streq(asked.engine, has.engine) && model_same(asked.rest, has.rest))
            return deployment_name(d->deployment);
    return NULL;
}

const char *manager_real_name(struct manager *m, const char *typed)
{
    const char *model = manager_alias_model(m, typed), *same;

    if (!model)
        model = typed;
    same = same_model(m, model);
    return same ? same : model;
}

/* ---- changing ---- */

static void insert(struct manager *m, const char *name, const char *model)
{
    struct managed_alias *n = xnew(struct managed_alias);
    struct list *before = &m->aliases;

    n->alias = (struct alias){.name = xstrdup(name), .model = xstrdup(model)};
    list_init(&n->node);
    LIST_FOREACH (a, &m->aliases, struct managed_alias, node)
        if (strcmp(a->alias.name, name) > 0) {
            before = &a->node;
            break;
        }
    list_append(before, &n->node);
}

static void drop(struct managed_alias *a)
{
    list_remove(&a->node);
    free(a->alias.name);
    free(a->alias.model);
    free(a);
}

void aliases_restore(void *ctx, const char *name, const char *model)
{
    insert(ctx, name, model);
}

void aliases_drop(struct manager *m)
{
    LIST_FOREACH_SAFE (a, &m->aliases, struct managed_alias, node)
        drop(a);
}

/* May it be a name at all, and does it mean nothing yet? */
static int check_name(struct manager *m, const char *name, struct fault *f)
{
    if (!name_is_alias(name))
        return fault_code(f, FAULT_INVALID, "bad_alias",
                          "\"%.80s\" cannot be a short name: use 1 to 60 letters, digits and . _ -, a letter "
                          "or digit first",
                          name);
    if (manager_find_lease(m, name))
        return fault_code(f, FAULT_INVALID, "name_is_taken",
                          "%s is an instance: it cannot be a model's name too", name);

    struct deployment *d = find(m, name) ? NULL : manager_find_id(m, name);

    if (d)
        return fault_code(f, FAULT_INVALID, "name_is_taken", "%s is the name of %s already", name,
                          deployment_name(d));
    return 0;
}

/* The whole name of the model that is meant. */
static int check_model(struct manager *m, const char *name, const char *meant, const char **ret,
                       struct fault *f)
{
    const struct managed_alias *other = find(m, meant);
    struct deployment *d = manager_find_id(m, meant);

    if (id_matches(name, meant))
        return fault_code(f, FAULT_INVALID, "alias_of_alias", "%s cannot stand for itself", name);
    if (other)
        return fault_code(f, FAULT_INVALID, "alias_of_alias",
                          "%s is a short name itself; name what it stands for: %s", meant,
                          other->alias.model);
    if (!d)
        return fault_code(f, FAULT_GONE, "no_such_model",
                          "no model \"%.200s\" is known that %s could stand for", meant, name);
    *ret = deployment_name(d);
    return 0;
}

int manager_set_alias(struct manager *m, const char *name, const char *meant, uint64_t *ret_ticket,
                      struct fault *f)
{
    struct managed_alias *old = find(m, name);
    const char *model;
    int r = check_name(m, name, f);

    if (r == 0)
        r = check_model(m, name, meant, &model, f);
    if (r < 0)
        return r;
    if (!old && manager_alias_at(m, ALIASES_MAX - 1))
        return fault_code(f, FAULT_INVALID, "too_many_aliases",
                          "%s was not set: there are %d short names already", name, ALIASES_MAX);
    if (old)
        drop(old);
    insert(m, name, model);
    *ret_ticket = store_put_alias(m->context.store, name, model);
    return 0;
}

int manager_remove_alias(struct manager *m, const char *name, uint64_t *ret_ticket)
{
    struct managed_alias *a = find(m, name);

    if (!a)
        return -ENOENT;
    *ret_ticket = store_remove_alias(m->context.store, a->alias.name);
    drop(a);
    return 0;
}

/* ---- what may not take the name of one ---- */

int aliases_refuse_instance(struct manager *m, const char *name, struct fault *f)
{
    const char *model = manager_alias_model(m, name);

    return model ? fault_code(f, FAULT_INVALID, "name_is_alias", "%s is a short name of %s", name, model) : 0;
}

int aliases_refuse_model(struct manager *m, const char *model, struct fault *f)
{
    const char *id = strchr(model, ':');
    const struct managed_alias *a = id ? find(m, id + 1) : NULL;

    return a ? fault_code(f, FAULT_INVALID, "name_is_alias",
                          "%s was not started: applications call it %s, and that is a short name of %s",
                          model, id + 1, a->alias.model)
             : 0;
}
