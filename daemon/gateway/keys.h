/* The API keys of applications, by name. A key is shown once, when it is made, and only its SHA-256 is kept: it has 256 bits of chance,
 * so nothing slower is needed against guessing. */
#pragma once

#include <stdint.h>

#include "store/store.h"

struct http1_head;
struct keys;

#define KEY_HASH_BYTES STORE_KEY_HASH_BYTES

struct key {
    char *name;
    uint8_t hash[KEY_HASH_BYTES];
    int64_t made_at_ms;
};

/* Reads what was kept, before the loop runs. s may be NULL: nothing is kept. 0, or < 0: *f says why it cannot be read. */
int keys_new(struct store *s, struct keys **ret, struct fault *f);
struct keys *keys_free(struct keys *k);

/* A new one. *ret_text: what applications send; caller wipes and frees. -EINVAL: no name (as of an instance, 32 letters at most);
 * -EEXIST; -EIO: no chance to be had. *ret_ticket: when it is on disk. */
int keys_make(struct keys *k, const char *name, char **ret_text, store_ticket *ret_ticket);
/* -ENOENT. */
int keys_remove(struct keys *k, const char *name, store_ticket *ret_ticket);
/* One after the other, oldest first; NULL beyond the last. */
const struct key *keys_at(const struct keys *k, unsigned i);

/* Whose key is in the head: Authorization: Bearer, X-Api-Key or Api-Key. NULL: none that is known. */
const char *keys_find(const struct keys *k, const struct http1_head *head);
