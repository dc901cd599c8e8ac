/* What install.sh says of a machine, read, and what follows from it: which archive, by which way, or why none. Pure. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/fault.h"
#include "engine/catalog.h"
#include "engine/gpu.h"
#include "proto/buf.h"

enum install_source { INSTALL_AUTO, INSTALL_BOX, INSTALL_UPLOAD };

/* What is wanted: the settings of [engine.NAME]. */
struct install_wish {
    const char *engine, *instance;
    const char *version;            /* NULL: the first of the catalog that fits */
    enum install_source source;
    bool unverified;                /* also what has no hash, and a version that the catalog does not have */
};

/* What a machine says of itself. */
struct install_machine {
    char arch[16];                  /* as the catalog calls it */
    struct gpu_facts gpu;
    bool has_download, has_zstd;    /* curl or wget */
    char lacks[16];                 /* a tool nothing goes without, "" */
    int64_t free_bytes;             /* on the data disk, -1: unknown */
};

struct install_plan {
    struct catalog_entry entry;
    bool by_box;                    /* it can fetch and unpack by itself */
    bool pack_anew;                 /* here, as a .tgz */
};

/* Pure. < 0: *f says why not (engine_unfit, engine_missing, engine_unverified, disk_full). An entry without a hash in *ret: nobody can tell
 * whether what is delivered is it. here_zstd: this host has zstd. */
int install_decide(const struct catalog *c, const struct install_wish *wish, const struct install_machine *m, bool here_zstd,
                   struct install_plan *ret, struct fault *f);

/* The last answer of install.sh. Texts are owned, NULL when it did not say. */
struct install_said {
    char *doing, *failed;           /* of the job: "fetching", "done", "failed"; failed: "CODE TEXT" */
    char *what;                     /* the archive it is about */
    char *file, *sha256;            /* what a job here made */
    int64_t have, bytes;            /* of the archive there; of the file */
    bool is_running, is_taken, is_installed;
    struct buf cards;               /* lines of the tools of the cards */
    struct install_machine machine; /* of a look; complete after install_said_machine() */
    bool has_curl, has_wget, has_gzip, has_tar, has_sha256sum, has_setsid;
};

void install_said_clear(struct install_said *s);
/* One line of it; false: no such key. Any bytes may come. */
bool install_said_take(struct install_said *s, const char *key, const char *value);
/* After a look. */
struct install_machine install_said_machine(const struct install_said *s);
/* The words of a failed job; code gets its first. */
const char *install_said_failure(const struct install_said *s, char code[static 32]);
