/* The list of drivers, and what they have in common. */
#include "engine/engine.h"

#include <errno.h>

#include "base/settings.h"
#include "engine/install.h"
#include "proto/json.h"
#include "proto/mem.h"
#include "proto/text.h"

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
    const char *mirror = settings_text(settings, section, "model_mirror");

    e->ops = ops;
    e->loop = l;
    e->host = h;
    e->http = http;
    e->model = xstrdup(model);
    e->path = path && *path ? xstrdup(path) : NULL;
    e->model_mirror = mirror && *mirror ? xstrdup(mirror) : NULL;
    e->stall_ms = settings_ms(settings, section, "stall");
    e->socket_directory = xstrdup(socket_directory);
    e->instance = xstrdup(instance);
    e->arguments = xstrdup("");
    if (ops->installs)
        e->install = install_new(e, settings, state_directory);
    e->patience_ms = ENGINE_PATIENCE_MS;
    e->facts = (struct engine_facts){.pid = -1,
                                     .computed_ms = -1,
                                     .size_bytes = -1,
                                     .size_vram_bytes = -1,
                                     .context = -1,
                                     .load_bytes = -1,
                                     .free_bytes = -1};
    return e;
}

struct engine *engine_free(struct engine *e)
{
    if (!e)
        return NULL;
    free(e->model);
    free(e->path);
    free(e->arguments);
    free(e->model_mirror);
    free(e->socket_directory);
    free(e->instance);
    struct install *install = e->install; /* after the driver: a step of it may be in flight */

    e->ops->free(e);
    install_free(install);
    return NULL;
}

/* ---- arguments ---- */

/* More than anybody types, and little enough for every shell on the way. */
#define ARGUMENTS_MAX       64
#define ARGUMENTS_BYTES_MAX 4096

static int refuse(struct fault *f, const char *argument, const char *why)
{
    return fault_code(f, FAULT_INVALID, "bad_arguments", "the argument %.*s was not taken: %s",
                      (int)MIN(strcspn(argument, "="), (size_t)100), argument, why); /* no key in it */
}

int engine_check_arguments(const struct engine_ops *ops, const struct json *arguments, struct fault *f)
{
    size_t n = json_count(arguments), bytes = 0, length;
    const char *why;

    if (n && !ops->check_argument)
        return fault_code(f, FAULT_INVALID, "bad_arguments", "%s takes no arguments: %s", ops->name,
                          ops->no_arguments);
    for (size_t i = 0; i < n; i++) {
        const char *argument = json_text_n(json_at(arguments, i), &length);

        if (strlen(argument) != length)
            return refuse(f, argument, "it has a NUL in it");
        if (ops->check_argument(argument, &why) < 0)
            return refuse(f, argument, why);
        bytes += length;
    }
    if (n > ARGUMENTS_MAX || bytes > ARGUMENTS_BYTES_MAX)
        return fault_code(f, FAULT_INVALID, "bad_arguments",
                          "these are too many arguments: there may be %d, of %d bytes in all", ARGUMENTS_MAX,
                          ARGUMENTS_BYTES_MAX);
    return 0;
}

void engine_set_arguments(struct engine *e, const struct json *arguments)
{
    struct buf words;

    buf_init(&words, 16 * ARGUMENTS_BYTES_MAX);
    for (size_t i = 0; i < json_count(arguments); i++) {
        if (i)
            buf_add_text(&words, " ");
        shell_quote(&words, json_text(json_at(arguments, i)));
    }
    free(e->arguments);
    e->arguments = xstrdup(buf_text(&words));
    buf_done(&words);
}
