/* Credential files: secrets/THING.KIND in the state directory, 0600, read on use, wiped after. Never in SQLite, argv, environment,
 * logs or answers. With $CREDENTIALS_DIRECTORY a file THING.KIND there is read first (systemd credentials). */
#pragma once

#include <stddef.h>

#include "proto/mem.h"

#define SECRET_BYTES_MAX (64u << 10)

struct secrets;

/* Makes directory/secrets (0700) when it is not there; -EPERM when it is not ours or open to others. */
int secrets_open(const char *directory, struct secrets **ret);
struct secrets *secrets_free(struct secrets *s);
/* For people. */
const char *secrets_path(const struct secrets *s);

/* kind: password, key, passphrase. thing: an instance, or "daemon". Written beside and moved, fsynced. A trailing newline of a
 * password is not part of it. */
int secrets_put(struct secrets *s, const char *thing, const char *kind, const char *text);
/* 0 or -ENOENT, -errno. Give it back with secret_free(). */
int secrets_get(struct secrets *s, const char *thing, const char *kind, char **ret);
int secrets_remove(struct secrets *s, const char *thing, const char *kind);     /* overwrites first; -ENOENT is 0 */

/* Overwrites, frees, returns NULL. */
char *secret_free(char *text);
DEFINE_CLEANUP(char *, secret_free)
#define _cleanup_secret_ _cleanup_(cleanup_secret_free)
