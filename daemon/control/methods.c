/* The table of verbs. */
#include "control/methods.h"

#include "control/target.h"
#include "proto/mem.h"

static const struct method {
    const char *name;
    method_fn fn;
    bool keeps; /* begins nothing that cannot be kept. Up looks at what it is asked for; Down stops what it
                   can */
} methods[] = {
    {"Status", method_status, false},
    {"Watch", method_watch, false},
    {"Ps", method_ps, false},
    {"Why", method_why, false},
    {"Up", method_up, false},
    {"Down", method_down, false},
    {"Sleep", method_sleep, false},
    {"Keep", method_keep, true},
    {"Wait", method_wait, false},
    {"Logs", method_logs, false},
    {"Doctor", method_doctor, false},
    {"ProviderAdd", method_provider_add, true},
    {"ProviderSet", method_provider_set, true},
    {"ProviderList", method_provider_list, false},
    {"ProviderRemove", method_provider_remove, true},
    {"Offers", method_offers, false},
    {"ImageSave", method_image_save, false},
    {"ImageList", method_image_list, false},
    {"Release", method_release, true},
    {"Cost", method_cost, false},
    {"InstanceAdd", method_instance_add, true},
    {"InstanceSet", method_instance_set, true},
    {"InstanceList", method_instance_list, false},
    {"InstanceShow", method_instance_show, false},
    {"InstanceSecret", method_instance_secret, false},
    {"InstanceRemove", method_instance_remove, true},
    {"InstanceTake", method_instance_take, false},
    {"ForwardAdd", method_forward_add, true},
    {"ForwardList", method_forward_list, false},
    {"ForwardRemove", method_forward_remove, true},
    {"KeyAdd", method_key_add, true},
    {"KeyList", method_key_list, false},
    {"KeyRemove", method_key_remove, true},
    {"AliasSet", method_alias_set, true},
    {"AliasList", method_alias_list, false},
    {"AliasRemove", method_alias_remove, true},
    {"Listen", method_listen, true},
};

static const struct method *find(const char *name)
{
    for (size_t i = 0; i < ELEMENTS(methods); i++)
        if (streq(methods[i].name, name))
            return &methods[i];
    return NULL;
}

bool method_exists(const char *name)
{
    return find(name) != NULL;
}

void method_run(struct call *c)
{
    const struct method *m = find(c->method);

    target_real_names(c);
    if (m->keeps)
        call_if_kept(c, m->fn);
    else
        m->fn(c);
}
