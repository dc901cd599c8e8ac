/* An engine put on a machine that has none: from the catalog, never by its maker's script.
 *
 *     look            what machine it is, what tools it has, how much room; what fits is chosen before anything is copied
 *     on the box      a job there (install_job.sh) downloads, checks the hash, unpacks; it outlives us, and is found again
 *     here            when the box cannot: the same job on this host, into the cache of the state directory
 *     bring           the archive goes there piece by piece, from where it ends over there
 *
 * A machine where neither side has zstd gets the newest .tgz; where this side has it, the archive is packed anew here.
 * Like a driver: each call does one step and says "again"; nothing is repeated by itself, and any step may be lost. */
#pragma once

#include "engine/engine.h"

struct install;

/* Borrows e. settings: [engine.NAME] version, source, mirror, catalog; the cache is below state_directory. */
struct install *install_new(struct engine *e, const struct settings *settings, const char *state_directory);
struct install *install_free(struct install *i);    /* no step may be in flight */

/* present: the version that is there, put there by us; NULL: none. Done without a fault: what is wanted is there now. e->unverified, as of the step that decides, lets in what has no hash. Faults, beside
 * install_decide()'s (install_plan.h): engine_missing (nobody delivers it), engine_damaged (what is delivered is not it), disk_full. */
void install_step(struct install *i, const char *present, struct engine_reply to);
/* The version that is there is the first of the catalog, or the one that is set: no need to look closer. */
bool install_is_current(const struct install *i, const char *present);
/* A step said "again" and none after it has ended otherwise. */
bool install_is_under_way(const struct install *i);
