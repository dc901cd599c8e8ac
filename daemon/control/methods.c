/* The table of verbs. */
#include "control/methods.h"

#include "proto/mem.h"

static const struct {
    const char *name;
    method_fn fn;
} methods[] = {
    {"Status", method_status},
    {"Watch", method_watch},
    {"Ps", method_ps},
    {"Why", method_why},
    {"Up", method_up},
    {"Down", method_down},
    {"Wait", method_wait},
    {"Logs", method_logs},
    {"Doctor", method_doctor},
    {"InstanceAdd", method_instance_add},
    {"InstanceList", method_instance_list},
    {"InstanceShow", method_instance_show},
    {"InstanceSecret", method_instance_secret},
    {"InstanceRemove", method_instance_remove},
    {"ForwardAdd", method_forward_add},
    {"ForwardList", method_forward_list},
    {"ForwardRemove", method_forward_remove},
};

method_fn method_find(const char *name)
{
    for (size_t i = 0; i < ELEMENTS(methods); i++)
        if (streq(methods[i].name, name))
            return methods[i].fn;
    return NULL;
}
