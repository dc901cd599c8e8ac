/* The list of drivers. */
#include "provider/provider.h"

#include "proto/mem.h"

extern const struct provider_ops provider_ssh, provider_local, provider_autodl, provider_autodl_console;

static const struct provider_ops *const drivers[] = {&provider_ssh, &provider_local, &provider_autodl,
                                                     &provider_autodl_console};

const struct provider_ops *provider_find(const char *name)
{
    for (size_t i = 0; i < ELEMENTS(drivers); i++)
        if (streq(drivers[i]->name, name))
            return drivers[i];
    return NULL;
}

const char *provider_name_at(unsigned i)
{
    return i < ELEMENTS(drivers) ? drivers[i]->name : NULL;
}
