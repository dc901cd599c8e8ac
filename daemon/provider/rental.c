/* The providers that rent machines out. */
#include "provider/rental.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "proto/mem.h"
#include "proto/text.h"
#include "provider/provider.h"

extern const struct rental_ops rental_autodl, rental_autodl_console;
extern const struct provider_ops provider_autodl, provider_autodl_console;

static const struct rental_ops *const all[] = {&rental_autodl, &rental_autodl_console};

const struct rental_ops *rental_find(const char *name)
{
    for (unsigned i = 0; i < ELEMENTS(all); i++)
        if (streq(all[i]->name, name))
            return all[i];
    return NULL;
}

const struct rental_ops *rental_at(unsigned i)
{
    return i < ELEMENTS(all) ? all[i] : NULL;
}

unsigned rental_cut_count(char *gpu)
{
    char *x = strrchr(gpu, 'x');
    size_t digits = x ? strspn(x + 1, "0123456789") : 0;

    if (!x || x == gpu || digits < 1 || digits > 2 || x[1 + digits] || x[1] == '0')
        return 0;
    unsigned n = (unsigned)atoi(x + 1);

    if (n > RENTAL_CARDS_MAX)
        return 0;
    *x = '\0';
    return n;
}

/* What we rent has another address after each power-on. */
static int rented_read_wish(const struct provider_wish *w, struct instance_record *ret, struct buf *notes,
                            char **ret_why)
{
    (void)w, (void)ret, (void)notes;
    *ret_why = xasprintf(
        "a machine of a rental company has no address to keep: it is rented by llmhostctl up MODEL --gpu "
        "CARD; one that you rented by hand is added with its ssh command alone");
    return -EINVAL;
}

const struct provider_ops provider_autodl = {
    .name = "autodl", .rented = true, .over_ssh = true, .read_wish = rented_read_wish};
const struct provider_ops provider_autodl_console = {
    .name = "autodl-console", .rented = true, .over_ssh = true, .read_wish = rented_read_wish};
