/* What the two files of orphans share. manager_orphan.c: which machines are some. manager_orphan_end.c: the end of one, by a person's word. */
#pragma once

#include "manager_private.h"

#define ORPHAN_MISSING_MS 600000u /* so long in no list: it is no more */

/* manager_orphan.c */
const struct lease *orphans_find_instance(struct manager *m, const struct instance_seen *seen);     /* NULL: it is none */
bool orphans_have(struct manager *m, const char *provider, const char *id);

/* manager_orphan_end.c */
int64_t orphan_ends_asked_at_ms(struct manager *m, const char *provider, const char *id);   /* since when it is asked to stop; 0: it is not */
int orphan_ends_refuse_leave(struct manager *m, const char *provider, struct fault *f);     /* as orphans_refuse_leave() */
void orphan_ends_leave(struct manager *m, const char *provider);        /* its account was removed: whoever waits hears that */
void orphan_ends_drop(struct manager *m);
