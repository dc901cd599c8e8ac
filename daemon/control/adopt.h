/* Machines at a rental company that exist already: InstanceList with "at", InstanceAdd with a provider that rents out. */
#pragma once

#include <stdbool.h>

struct call;
struct lease;

/* InstanceAdd is about such a machine. */
bool adopt_is_meant(const struct call *c);
void adopt_instance(struct call *c);
/* What goes on when it is forgotten here, for people; NULL: nothing does. Caller frees. */
char *adopt_remains(const struct lease *l);
/* Asks the provider what the account has. */
void adopt_list(struct call *c);
