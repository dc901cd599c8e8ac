/* What can be installed: archives by engine, version and architecture, each with its hash. Pure: text in, entries out. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define CATALOG_ENTRIES_MAX 64
#define CATALOG_BYTES_MAX   ((size_t)256 << 10)

struct catalog_entry {
    char engine[24], version[24], arch[16]; /* "ollama", "0.32.9", "amd64" */
    char url[400];
    char sha256[65];        /* "": nobody has said it, and it is taken only unverified */
    char tree[200];         /* files that must be there once it is unpacked, blanks between them */
    int64_t bytes;          /* of the archive, -1: unknown, and then at_most bounds it */
    int64_t at_most;
    int64_t unpacked;       /* of its content, about */
    bool is_zst;            /* .tar.zst, else .tgz */
};

struct catalog {
    struct catalog_entry entries[CATALOG_ENTRIES_MAX];
    unsigned n;
};

/* The form is described in catalog.ini, which is the one that is built in. -EINVAL: *ret_why (caller frees) names the line.
 * Any bytes may come. */
int catalog_parse(const char *text, size_t n, struct catalog *ret, char **ret_why);

/* Whether it may stand for one in a file's name and in an address. */
bool catalog_is_version(const char *text);
/* The first entry that fits. version NULL: any; can_zst: .tar.zst can be unpacked. NULL: none. */
const struct catalog_entry *catalog_pick(const struct catalog *c, const char *engine, const char *version, const char *arch,
                                         bool can_zst);
/* The next one behind after; NULL: the first. */
const struct catalog_entry *catalog_next(const struct catalog *c, const char *engine, const char *version, const char *arch,
                                         bool can_zst, const struct catalog_entry *after);
