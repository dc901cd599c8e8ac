/* The providers that rent machines out. */
#include "provider/rental.h"

#include "proto/mem.h"
#include "proto/text.h"

extern const struct rental_ops rental_autodl;

const struct rental_ops *rental_find(const char *name)
{
    static const struct rental_ops *const all[] = {&rental_autodl};

    for (unsigned i = 0; i < ELEMENTS(all); i++)
        if (streq(all[i]->name, name))
            return all[i];
    return NULL;
}
