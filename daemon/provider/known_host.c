/* A table of patterns, held against the name in lower case and without the dot at its end. */
#include "provider/known_host.h"

#include <ctype.h>
#include <fnmatch.h>
#include <string.h>

#include "proto/mem.h"

#define AUTODL "AutoDL", "an", true, "https://www.autodl.com/console/instance/list"
#define DSW    "PAI-DSW", "a", false, "https://pai.console.aliyun.com/"

/* The source of each: reference/autodl.md §6 has the forms of names that were seen; §5.1 (official) that "run
 * /usr/bin/shutdown" inside is the company's own advice to save money. reference/pai-dsw.md §4 and §7: the bill follows
 * the state Running until the API says Stopped, whatever happens inside. */
static const struct known_host hosts[] = {
    {"connect.*.seetacloud.com", AUTODL},
    {"*.autodl.com", AUTODL}, /* connect.NAME and the older region-N */
    {"connect.*.gpuhub.com", AUTODL},
    {"*.dsw.pai.alibaba.com", DSW},
};

const struct known_host *known_host_find(const char *host)
{
    char name[256];
    size_t n = host ? strnlen(host, sizeof name) : 0;

    if (!n || n == sizeof name)
        return NULL;
    for (size_t i = 0; i <= n; i++)
        name[i] = (char)tolower((unsigned char)host[i]);
    if (name[n - 1] == '.')
        name[n - 1] = '\0';
    for (size_t i = 0; i < ELEMENTS(hosts); i++)
        if (fnmatch(hosts[i].pattern, name, 0) == 0)
            return &hosts[i];
    return NULL;
}
