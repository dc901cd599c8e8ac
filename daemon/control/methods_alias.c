/* Short names of models. */
#include "control/methods.h"

#include "base/fault.h"
#include "manager.h"
#include "proto/json.h"

static struct json *show_alias(const char *name, const char *model)
{
    struct json *v = json_object();

    json_put_string(v, "name", name);
    json_put_string(v, "model", model);
    return v;
}

void method_alias_set(struct call *c)
{
    const char *name = json_get_text(c->parameters, "name"),
               *meant = json_get_text(c->parameters, "stands_for");
    struct manager *m = c->context->manager;
    struct json *v;
    struct fault f = {};
    uint64_t t;

    if (manager_set_alias(m, name, meant, &t, &f) < 0) {
        call_fault(c, &f, name, NULL);
        return;
    }
    call_log_change(c, manager_alias_model(m, name), "alias set %s", name);
    v = json_object();
    json_put(v, "alias", show_alias(name, manager_alias_model(m, name)));
    call_reply_after(c, t, v, "the alias works, but is not on disk yet");
}

void method_alias_list(struct call *c)
{
    struct json *v = json_object(), *list = json_array();
    const struct alias *a;

    for (unsigned i = 0; (a = manager_alias_at(c->context->manager, i)); i++)
        json_append(list, show_alias(a->name, a->model));
    json_put(v, "aliases", list);
    call_reply(c, v);
}

void method_alias_remove(struct call *c)
{
    const char *name = json_get_text(c->parameters, "name");
    uint64_t t;

    if (manager_remove_alias(c->context->manager, name, &t) < 0) {
        call_fail(c, EXIT_NOT_FOUND, "not_found", name, NULL, "llmhostctl alias list", "there is no alias %s",
                  name);
        return;
    }
    call_log_change(c, NULL, "alias remove %s", name);
    call_reply_after(c, t, json_object(), "the alias is gone, but is still on disk");
}
