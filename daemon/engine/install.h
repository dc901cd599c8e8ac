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

#include "engine/catalog.h"
#include "engine/engine.h"

struct install;

enum install_source { INSTALL_AUTO, INSTALL_BOX, INSTALL_UPLOAD };

/* What is wanted: the settings of [engine.NAME]. */
struct install_wish {
    const char *engine, *instance;
    const char *version;            /* NULL: the first of the catalog that fits */
    enum install_source source;
};

/* What a machine says of itself. */
struct install_machine {
    char arch[16];                  /* as the catalog calls it */
    bool is_ascend;                 /* an NPU, and no NVIDIA card */
    bool has_download, has_zstd;    /* curl or wget */
    char lacks[16];                 /* a tool nothing goes without, "" */
    int64_t free_bytes;             /* on the data disk, -1: unknown */
};

struct install_plan {
    struct catalog_entry entry;
    bool by_box;                    /* it can fetch and unpack by itself */
    bool pack_anew;                 /* here, as a .tgz */
};

/* Pure. < 0: *f says why not (engine_unfit, engine_missing, disk_full). here_zstd: this host has zstd. */
int install_decide(const struct catalog *c, const struct install_wish *wish, const struct install_machine *m, bool here_zstd,
                   struct install_plan *ret, struct fault *f);

/* Borrows e. settings: [engine.NAME] version, source, mirror, catalog; the cache is below state_directory. */
struct install *install_new(struct engine *e, const struct settings *settings, const char *state_directory);
struct install *install_free(struct install *i);    /* no step may be in flight */

/* present: the version that is there, put there by us; NULL: none. Done without a fault: what is wanted is there now. Faults, beside
 * install_decide()'s: engine_missing (nobody delivers it), engine_damaged (what is delivered is not it), disk_full. */
void install_step(struct install *i, const char *present, struct engine_reply to);
/* The version that is there is the first of the catalog, or the one that is set: no need to look closer. */
bool install_is_current(const struct install *i, const char *present);
/* A step said "again" and none after it has ended otherwise. */
bool install_is_under_way(const struct install *i);
