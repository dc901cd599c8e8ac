/* links: engine
 * Any text as a catalog. What is refused has a complaint; what is accepted holds nothing that means something
 * to a shell, and all of it can be picked; whether a hash is needed is not its question. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "engine/catalog.h"
#include "proto/mem.h"

static void look_at(const struct catalog *c, const struct catalog_entry *e)
{
    static const char bad[] = "'\"`$\\;|<>()*!\n\r\t";

    if (strpbrk(e->engine, bad) || strpbrk(e->version, bad) || strpbrk(e->arch, bad) ||
        strpbrk(e->url, bad) || strpbrk(e->tree, bad))
        abort();
    if ((*e->sha256 && strlen(e->sha256) != 64) || e->at_most <= 0 || e->unpacked <= 0 ||
        strstr(e->tree, "..") || strchr(e->version, '/'))
        abort();
    const struct catalog_entry *found = catalog_pick(c, e->engine, e->version, e->arch, e->is_zst);

    if (!found || found > e)
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    static struct catalog c;
    _cleanup_free_ char *why = NULL;

    if (catalog_parse((const char *)data, n, &c, &why) < 0) {
        if (!why || strncmp(why, "line ", 5) != 0)
            abort();
        return 0;
    }
    for (unsigned i = 0; i < c.n; i++)
        look_at(&c, &c.entries[i]);
    return 0;
}
