/* llmhostd.conf: INI text, a file and the *.conf beside it in llmhostd.conf.d/, in order of their names. Later values win.
 * A complaint names file, line and key. Which keys exist is known here: an unknown one is an error that names a near one.
 * An empty value of a key without a default unsets it. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

struct settings;

/* path: the file, which must exist when must_exist; NULL: defaults alone. 0, or -EINVAL, -errno: *ret_why (caller frees). */
int settings_load(const char *path, bool must_exist, struct settings **ret, char **ret_why);
/* The same from memory, for tests: name is used in complaints. */
int settings_parse(const char *text, const char *name, struct settings **ret, char **ret_why);
/* Puts one value, in place of what it put before, into a piece that is read last; for the next start. Blocks: one small file.
 * *ret_file (caller frees): which. 0 or -errno; -EEXIST: another piece says otherwise all the same. */
int settings_keep(const char *path, const char *section, const char *key, const char *value, char **ret_file);
struct settings *settings_free(struct settings *s);

/* Values after defaults. The text stays until settings_free(). An engine section is [engine.NAME]; [hook.NAME] has names of the user's own. */
const char *settings_text(const struct settings *s, const char *section, const char *key);          /* NULL: not set, no default */
uint64_t settings_ms(const struct settings *s, const char *section, const char *key);
unsigned settings_percent(const struct settings *s, const char *section, const char *key);
bool settings_bool(const struct settings *s, const char *section, const char *key);
/* NAME of [hook.NAME], in the order in which they were read; NULL beyond the last. */
const char *settings_hook_at(const struct settings *s, unsigned i);
/* "FILE:LINE" the value comes from; NULL: it is the default. */
const char *settings_where(const struct settings *s, const char *section, const char *key);
/* Every value, default or not, in a fixed order, for --check-config. Returns false beyond the last. *ret_where: as settings_where(). */
bool settings_at(const struct settings *s, unsigned i, const char **ret_section, const char **ret_key, const char **ret_value,
                 const char **ret_where);
