/* What the files of the settings share. settings.c: which keys there are, reading, the getters. settings_value.c: what a value may be.
 * settings_keep.c: writing one. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct known {
    const char *section, *key;
    const char *otherwise; /* the default, NULL: none */
    bool (*is_good)(const char *value, const struct known *k);
    const char *form; /* what is_good() takes, for complaints */
    uint64_t most_ms; /* of durations */
};

bool value_is_duration(const char *value, const struct known *k);
bool value_is_span(const char *value, const struct known *k);
bool value_is_bool(const char *value, const struct known *k);
bool value_is_listen(const char *value, const struct known *k);
bool value_is_hosts(const char *value, const struct known *k);
bool value_is_origins(const char *value, const struct known *k);
bool value_is_level(const char *value, const struct known *k);
bool value_is_path(const char *value, const struct known *k);
bool value_is_path_there(const char *value, const struct known *k);
bool value_is_version(const char *value, const struct known *k);
bool value_is_source(const char *value, const struct known *k);
bool value_is_mirror(const char *value, const struct known *k);
bool value_is_hub(const char *value, const struct known *k);
bool value_is_kinds(const char *value, const struct known *k);
bool value_is_percent(const char *value, const struct known *k);
int value_parse_percent(const char *value); /* -1: it is none */
int value_parse_bool(const char *value); /* -1: neither yes nor no */
bool value_find_unknown_kind(const char *value, char *ret, size_t n); /* the first word that is no event */
