/* Key pairs and host keys. libcrypto stays in key.c. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct buf;
struct fault;

/* A public host key as the server sends it: pinned per instance, byte for byte. The longest is RSA of 16384 bits, the most OpenSSH
 * takes (sshbuf.h, SSHBUF_MAX_BIGNUM), 2071 bytes; those that are kept are as long as they are, see host_key_keep(). */
#define HOST_KEY_BYTES_MAX 2080
struct host_key {
    char algorithm[40];                 /* "ssh-ed25519", "ecdsa-sha2-nistp256", "ssh-rsa": the first string in the blob */
    size_t n;                           /* 0: none known */
    uint8_t blob[HOST_KEY_BYTES_MAX];
};

/* -EBADMSG when the blob is no public key; -E2BIG. */
int host_key_read(struct host_key *ret, const void *blob, size_t n);
/* Replaces *kept by a copy of k that ends with its last byte: never to be assigned as a whole. Freed by free(). k NULL or n = 0:
 * none, *kept is NULL. */
void host_key_keep(struct host_key **kept, const struct host_key *k);
bool host_key_equal(const struct host_key *a, const struct host_key *b);
/* "SHA256:…", as ssh-keygen -lf prints it. */
#define FINGERPRINT_BYTES 64
const char *host_key_fingerprint(const struct host_key *k, char out[static FINGERPRINT_BYTES]);
/* For libssh2's preference list: the pinned algorithm first, so that another key comes only when that one is gone. NULL or n = 0:
 * no pin. The text is static. */
const char *host_key_preference(const struct host_key *pinned);

/* A new ed25519 key: *ret_private is OpenSSH's own private key format (which libssh2 reads from memory), *ret_public the line for
 * authorized_keys without a comment. Caller frees, and wipes the private one. */
int key_generate(char **ret_private, char **ret_public);
/* The authorized_keys line of an unencrypted private key made by key_generate(). */
int key_public(const char *private_key, char **ret_public);
/* What a private key in memory is: 0, or -EBADMSG (no key we can read; *ret_why is static text: "a public key", "a PuTTY key", …),
 * -ENOKEY (encrypted: needs a passphrase). */
int key_check(const char *text, const char **ret_why);
/* The private part of an unencrypted key in OpenSSH's own format, for signer.c: the key type and what belongs to it. Caller wipes
 * it. -ENOKEY: encrypted; -EBADMSG: another format, or damaged. */
int key_open(const char *text, struct buf *ret_section);
/* libssh2 as it runs: "1.11.1". has_rsa: it can sign and check with RSA the way servers since OpenSSH 8.8 want it (rsa-sha2). */
const char *ssh_library_version(void);
bool ssh_library_has_rsa(void);
bool ssh_library_has_tokens(void);      /* signatures of FIDO keys (sk-…): from 1.11 on */

/* Whether it is an RSA key, encrypted or not: libssh2 before 1.11 signs those with SHA-1, which servers refuse. */
bool key_is_rsa(const char *text);
