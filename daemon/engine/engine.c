/* The list of drivers, and what they have in common. */
#include "engine/engine.h"

#include "base/settings.h"
#include "engine/install.h"
#include "proto/json.h"
#include "proto/mem.h"

extern const struct engine_ops engine_ollama, engine_llamacpp;

static const struct engine_ops *const drivers[] = {&engine_ollama, &engine_llamacpp};

const struct engine_ops *engine_find_ops(const char *name)
{
    for (size_t i = 0; i < ELEMENTS(drivers); i++)
        if (streq(drivers[i]->name, name))
            return drivers[i];
    return NULL;
}

const char *engine_name_at(unsigned i)
{
    return i < ELEMENTS(drivers) ? drivers[i]->name : NULL;
}

struct engine *engine_new(const struct engine_ops *ops, struct loop *l, struct host *h, struct http *http,
                          const char *instance, const char *model, const struct settings *settings,
                          const char *socket_directory, const char *state_directory)
{
    struct engine *e = ops->new ();
    _cleanup_free_ char *section = xasprintf("engine.%s", ops->name);
    const char *path = settings_text(settings, section, "path");

    e->ops = ops;
    e->loop = l;
    e->host = h;
    e->http = http;
    e->model = xstrdup(model);
    e->path = path && *path ? xstrdup(path) : NULL;
    e->socket_directory = xstrdup(socket_directory);
    e->instance = xstrdup(instance);
    if (ops->installs)
        e->install = install_new(e, settings, state_directory);
    e->facts = (struct engine_facts){.pid = -1, .size_bytes = -1, .size_vram_bytes = -1, .context = -1};
    return e;
}

struct engine *engine_free(struct engine *e)
{
    if (!e)
        return NULL;
    free(e->model);
    free(e->path);
    free(e->socket_directory);
    free(e->instance);
    struct install *install = e->install; /* after the driver: a step of it may be in flight */

    e->ops->free(e);
    install_free(install);
    return NULL;
}
