/* A private key that signs for a login. libcrypto does it: libssh2 before 1.11 signs with RSA by SHA-1 alone, which servers since
 * OpenSSH 8.8 refuse, and loses a part of an ECDSA key at each login (libssh2 1.10 with OpenSSH 9.2, observed 2026-11).
 *
 * All that key_check() accepts can be opened but one: a key in OpenSSH's own format with a passphrase, whose derivation (bcrypt)
 * is libssh2's alone. */
#pragma once

#include <stddef.h>
#include <stdint.h>

struct buf;
struct signer;

/* 0; -ENOKEY: encrypted, and passphrase is NULL or wrong; -EOPNOTSUPP: encrypted in OpenSSH's own format; -EBADMSG: no key, or of a
 * kind that is not signed with (DSA, other curves). With a passphrase it may compute for as long as the key's maker liked: on a
 * thread. */
int signer_new(const char *text, const char *passphrase, struct signer **ret);
struct signer *signer_free(struct signer *s);

/* The public key as the server shall see it: its first string is the algorithm that signs ("rsa-sha2-256" for any RSA key). */
const struct buf *signer_blob(const struct signer *s);
/* What signs, as it stands behind the algorithm's name in a login. ret has room for 2 KiB. -EIO. */
int signer_sign(const struct signer *s, const void *data, size_t n, struct buf *ret);
