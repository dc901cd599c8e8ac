/* This very host: nothing to reach, nothing to pay. */
#include <errno.h>

#include "proto/mem.h"
#include "provider/provider.h"
#include "store/store.h"

extern const struct provider_ops provider_local;

static int local_read_wish(const struct provider_wish *w, struct instance_record *ret, struct buf *notes,
                           char **ret_why)
{
    (void)ret, (void)notes;
    if (w->command || w->host || w->user || w->port) {
        *ret_why = xasprintf("the provider local is this very host: it has no address to log in to");
        return -EINVAL;
    }
    return 0;
}

const struct provider_ops provider_local = {.name = "local", .read_wish = local_read_wish};
