/* Companies whose machines are rented by hand, and what is known of a shutdown inside of one: told by the name of the host that ssh goes to, which is
 * all there is of them without an account. Pure. */
#pragma once

#include <stdbool.h>

struct known_host {
    const char *pattern;            /* of fnmatch(), lower case */
    const char *title;              /* of the company */
    const char *article;            /* "an" AutoDL machine */
    bool shutdown_ends_bill;        /* /usr/bin/shutdown in the box: the company takes it for its own power-off */
    const char *console_url;        /* where people switch it on */
};

/* NULL: no company that we know. host: a name or an address, in any case. */
const struct known_host *known_host_find(const char *host);
