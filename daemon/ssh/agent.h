/* The user's ssh-agent, over its Unix socket and never blocking (libssh2's own calls do). Protocol: draft-miller-ssh-agent, read
 * 2026-11; each request has a connection of its own. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct fault;
struct loop;
struct op;

#define AGENT_KEYS_MAX       32
#define AGENT_KEY_BYTES_MAX  4096

struct wire;

struct agent_key {
    const uint8_t *blob;            /* of the public key; its first string names the type */
    size_t n;
    const char *comment;
};

/* The keys it holds, at most AGENT_KEYS_MAX, as long as done() runs. Faults: no agent there, no answer within 5 s, no sense in it. */
typedef void (*agent_keys_fn)(void *ctx, const struct agent_key *keys, unsigned n, const struct fault *f);
void agent_list(struct loop *l, const char *path, struct op **slot, agent_keys_fn done, void *ctx);

/* The name of an algorithm: a key in a token (FIDO), which its owner touches. */
bool agent_is_token(const struct wire *type);

/* Has data signed by one of its keys; RSA with SHA-256. It may ask its owner, or wait for a touch of a token: there is no limit but
 * op_cancel(). signature: as it stands behind the algorithm's name (of a token: all that does, with its length in front), as long as done() runs; NULL with a fault (FAULT_DENIED: it
 * refuses). blob and data are copied. */
typedef void (*agent_signed_fn)(void *ctx, const uint8_t *signature, size_t n, const struct fault *f);
void agent_sign(struct loop *l, const char *path, const struct agent_key *key, const void *data, size_t n, struct op **slot,
                agent_signed_fn done, void *ctx);
