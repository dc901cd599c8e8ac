/* Formats: the public key blob of RFC 4253 §6.6 (strings, the first one names the algorithm); OpenSSH's
 * private key file as in its PROTOCOL.key (read 2026-11): "openssh-key-v1", cipher, kdf, kdf options, count,
 * public blob, and a section that holds a check number twice, the key, a comment and padding 1, 2, 3 … to the
 * cipher's block size. */
#include "ssh/key.h"

#include <errno.h>
#include <libssh2.h>
#include <openssl/evp.h>
#include <openssl/rand.h>

#include "proto/buf.h"
#include "proto/mem.h"
#include "proto/text.h"
#include "ssh/wire.h"

#define MAGIC         "openssh-key-v1"
#define BEGIN_OPENSSH "-----BEGIN OPENSSH PRIVATE KEY-----"
#define END_OPENSSH   "-----END OPENSSH PRIVATE KEY-----"
#define ED25519       "ssh-ed25519"
#define ED25519_BYTES 32
#define KEY_BYTES_MAX (64u << 10)
#define LINE_LETTERS  70
#define CIPHER_BLOCK  8

int host_key_read(struct host_key *ret, const void *blob, size_t n)
{
    struct wire all = {.at = blob, .n = n}, name;

    if (n > HOST_KEY_BYTES_MAX)
        return -E2BIG;
    if (wire_read_string(&all, &name) < 0 || name.n == 0 || name.n >= sizeof(ret->algorithm) || all.n == 0)
        return -EBADMSG;
    for (size_t i = 0; i < name.n; i++)
        if (name.at[i] <= ' ' || name.at[i] > '~')
            return -EBADMSG;
    memset(ret, 0, sizeof(*ret));
    memcpy(ret->algorithm, name.at, name.n);
    memcpy(ret->blob, blob, n);
    ret->n = n;
    return 0;
}

void host_key_keep(struct host_key **kept, const struct host_key *k)
{
    struct host_key *copy = NULL;

    if (k && k->n > 0) {
        copy = xalloc(offsetof(struct host_key, blob) + k->n);
        memcpy(copy, k, offsetof(struct host_key, blob) + k->n);
    }
    free(*kept);
    *kept = copy;
}

bool host_key_equal(const struct host_key *a, const struct host_key *b)
{
    return a->n == b->n && memcmp(a->blob, b->blob, a->n) == 0;
}

const char *host_key_fingerprint(const struct host_key *k, char out[static FINGERPRINT_BYTES])
{
    uint8_t digest[EVP_MAX_MD_SIZE];
    unsigned n = 0;
    struct buf text;

    buf_init(&text, FINGERPRINT_BYTES);
    if (EVP_Digest(k->blob, k->n, digest, &n, EVP_sha256(), NULL) != 1 ||
        base64_encode(&text, digest, n, false) < 0)
        abort();
    snprintf(out, FINGERPRINT_BYTES, "SHA256:%s", buf_text(&text));
    buf_done(&text);
    return out;
}

/* Names that a version of the library does not know are dropped by it. ssh-rsa, signed with SHA-1, only where
 * it is the key we know. */
const char *host_key_preference(const struct host_key *pinned)
{
    static const struct {
        const char *algorithm, *preference;
    } of[] = {
        {"ecdsa-sha2-nistp256",
         "ecdsa-sha2-nistp256,ssh-ed25519,ecdsa-sha2-nistp384,ecdsa-sha2-nistp521,rsa-sha2-512,rsa-sha2-256"},
        {"ecdsa-sha2-nistp384",
         "ecdsa-sha2-nistp384,ssh-ed25519,ecdsa-sha2-nistp256,ecdsa-sha2-nistp521,rsa-sha2-512,rsa-sha2-256"},
        {"ecdsa-sha2-nistp521",
         "ecdsa-sha2-nistp521,ssh-ed25519,ecdsa-sha2-nistp256,ecdsa-sha2-nistp384,rsa-sha2-512,rsa-sha2-256"},
        {"ssh-rsa", "rsa-sha2-512,rsa-sha2-256,ssh-rsa,ssh-ed25519,ecdsa-sha2-nistp256,ecdsa-sha2-nistp384,"
                    "ecdsa-sha2-nistp521"},
    };

    for (size_t i = 0; pinned && pinned->n > 0 && i < ELEMENTS(of); i++)
        if (streq(pinned->algorithm, of[i].algorithm))
            return of[i].preference;
    return "ssh-ed25519,ecdsa-sha2-nistp256,ecdsa-sha2-nistp384,ecdsa-sha2-nistp521,rsa-sha2-512,rsa-sha2-"
           "256";
}

static void public_blob(struct buf *b, const uint8_t public[static ED25519_BYTES])
{
    wire_add_text(b, ED25519);
    wire_add_string(b, public, ED25519_BYTES);
}

static char *public_line(const uint8_t public[static ED25519_BYTES])
{
    struct buf blob, line;
    char *text;

    buf_init(&blob, 256);
    buf_init(&line, 256);
    public_blob(&blob, public);
    if (buf_add_text(&line, ED25519 " ") < 0 || base64_encode(&line, blob.data, blob.len, true) < 0 ||
        !(text = buf_take(&line)))
        abort();
    buf_done(&blob);
    return text;
}

static void reserve(struct buf *b, size_t n)
{
    char *room;

    buf_init(b, n);
    if (buf_reserve(b, n, &room) < 0)
        abort();
}

/* The section that would be encrypted. */
static void private_section(struct buf *b, const uint8_t seed[static ED25519_BYTES],
                            const uint8_t public[static ED25519_BYTES], uint32_t check)
{
    uint8_t both[2 * ED25519_BYTES];

    memcpy(both, seed, ED25519_BYTES);
    memcpy(both + ED25519_BYTES, public, ED25519_BYTES);
    wire_add_u32(b, check);
    wire_add_u32(b, check);
    public_blob(b, public);
    wire_add_string(b, both, sizeof(both));
    wire_add_text(b, "");
    for (char pad = 1; b->len % CIPHER_BLOCK; pad++)
        if (buf_add(b, &pad, 1) < 0)
            abort();
    wipe(both, sizeof(both));
}

static char *wrap_private(const struct buf *file)
{
    struct buf letters, text;
    char *whole;

    reserve(&letters, 1024);
    reserve(&text, 1024);
    if (base64_encode(&letters, file->data, file->len, true) < 0 ||
        buf_add_text(&text, BEGIN_OPENSSH "\n") < 0)
        abort();
    for (size_t at = 0; at < letters.len; at += LINE_LETTERS)
        if (buf_add(&text, letters.data + at, MIN((size_t)LINE_LETTERS, letters.len - at)) < 0 ||
            buf_add_text(&text, "\n") < 0)
            abort();
    if (buf_add_text(&text, END_OPENSSH "\n") < 0 || !(whole = xstrdup(buf_text(&text))))
        abort();
    buf_wipe(&letters);
    buf_wipe(&text);
    return whole;
}

static char *private_text(const uint8_t seed[static ED25519_BYTES],
                          const uint8_t public[static ED25519_BYTES], uint32_t check)
{
    struct buf blob, section, file;
    char *text;

    reserve(&blob, 256);
    reserve(&section, 512);
    reserve(&file, 1024);
    public_blob(&blob, public);
    private_section(&section, seed, public, check);
    if (buf_add(&file, MAGIC, sizeof(MAGIC)) < 0) // the NUL belongs to it
        abort();
    wire_add_text(&file, "none");
    wire_add_text(&file, "none");
    wire_add_text(&file, "");
    wire_add_u32(&file, 1);
    wire_add_string(&file, blob.data, blob.len);
    wire_add_string(&file, section.data, section.len);
    text = wrap_private(&file);
    buf_done(&blob);
    buf_wipe(&section);
    buf_wipe(&file);
    return text;
}

int key_generate(char **ret_private, char **ret_public)
{
    uint8_t seed[ED25519_BYTES], public[ED25519_BYTES];
    size_t n_seed = sizeof(seed), n_public = sizeof(public);
    EVP_PKEY *pair = EVP_PKEY_Q_keygen(NULL, NULL, "ED25519");
    uint32_t check;
    int r = -EIO;

    if (pair && EVP_PKEY_get_raw_private_key(pair, seed, &n_seed) == 1 && n_seed == sizeof(seed) &&
        EVP_PKEY_get_raw_public_key(pair, public, &n_public) == 1 && n_public == sizeof(public) &&
        RAND_bytes((unsigned char *)&check, sizeof(check)) == 1) {
        *ret_private = private_text(seed, public, check);
        *ret_public = public_line(public);
        r = 0;
    }
    wipe(seed, sizeof(seed));
    EVP_PKEY_free(pair);
    return r;
}

/* What stands between the lines BEGIN and END of OpenSSH's format, decoded. */
static int openssh_decode(const char *text, struct buf *ret)
{
    const char *begin = strstr(text, BEGIN_OPENSSH), *end = begin ? strstr(begin, END_OPENSSH) : NULL;
    struct buf letters;
    int r = 0;

    if (!end || (size_t)(end - begin) > KEY_BYTES_MAX)
        return -EBADMSG;
    reserve(&letters, KEY_BYTES_MAX);
    for (const char *p = begin + strlen(BEGIN_OPENSSH); p < end && r >= 0; p++)
        if (!strchr(" \t\r\n", *p))
            r = buf_add(&letters, p, 1);
    reserve(ret, KEY_BYTES_MAX);
    if (r >= 0)
        r = base64_decode(ret, buf_text(&letters), letters.len);
    buf_wipe(&letters);
    return r < 0 ? -EBADMSG : 0;
}

/* The parts of the decoded file; they point into it. */
struct openssh_key {
    bool encrypted;
    struct wire public, section;
};

static int openssh_split(const struct buf *file, struct openssh_key *ret)
{
    struct wire r = {.at = (const uint8_t *)file->data, .n = file->len}, cipher, kdf, options;
    uint32_t n_keys;

    if (r.n < sizeof(MAGIC) || memcmp(r.at, MAGIC, sizeof(MAGIC)) != 0)
        return -EBADMSG;
    r.at += sizeof(MAGIC);
    r.n -= sizeof(MAGIC);
    if (wire_read_string(&r, &cipher) < 0 || wire_read_string(&r, &kdf) < 0 ||
        wire_read_string(&r, &options) < 0 || wire_read_u32(&r, &n_keys) < 0 || n_keys != 1 ||
        wire_read_string(&r, &ret->public) < 0 || wire_read_string(&r, &ret->section) < 0)
        return -EBADMSG;
    ret->encrypted = !wire_is(&cipher, "none");
    return 0;
}

/* The 32 bytes of an ed25519 public blob. */
static int ed25519_public(struct wire blob, const uint8_t **ret)
{
    struct wire name, public;

    if (wire_read_string(&blob, &name) < 0 || !wire_is(&name, ED25519) ||
        wire_read_string(&blob, &public) < 0 || public.n != ED25519_BYTES)
        return -EBADMSG;
    *ret = public.at;
    return 0;
}

int key_public(const char *private_key, char **ret_public)
{
    struct buf file = {0};
    struct openssh_key k;
    const uint8_t *public;
    int r = openssh_decode(private_key, &file);

    if (r >= 0)
        r = openssh_split(&file, &k);
    if (r >= 0 && k.encrypted)
        r = -ENOKEY;
    if (r >= 0)
        r = ed25519_public(k.public, &public);
    if (r >= 0)
        *ret_public = public_line(public);
    buf_wipe(&file);
    return r;
}

int key_open(const char *text, struct buf *ret_section)
{
    struct buf file = {0};
    struct openssh_key k;
    uint32_t check, again;
    int r = openssh_decode(text, &file);

    if (r >= 0)
        r = openssh_split(&file, &k);
    if (r >= 0 && k.encrypted)
        r = -ENOKEY;
    if (r >= 0 &&
        (wire_read_u32(&k.section, &check) < 0 || wire_read_u32(&k.section, &again) < 0 || check != again))
        r = -EBADMSG;
    if (r >= 0) {
        reserve(ret_section, MAX(k.section.n, (size_t)1));
        if (buf_add(ret_section, k.section.at, k.section.n) < 0)
            abort();
    }
    buf_wipe(&file);
    return r;
}

static int openssh_check(const char *text, const char **ret_why)
{
    struct buf file = {0};
    struct openssh_key k = {0};
    int r = openssh_decode(text, &file);

    if (r >= 0)
        r = openssh_split(&file, &k);
    buf_wipe(&file);
    if (r < 0) {
        *ret_why = "a damaged or cut off private key";
        return r;
    }
    return k.encrypted ? -ENOKEY : 0;
}

/* What people paste instead of a private key. */
static const char *key_mistake(const char *text)
{
    static const struct {
        const char *begins, *is;
    } known[] = {
        {"ssh-", "a public key"},
        {"ecdsa-sha2-", "a public key"},
        {"sk-", "a public key of a security token"},
        {"-----BEGIN PUBLIC KEY", "a public key"},
        {"-----BEGIN RSA PUBLIC KEY", "a public key"},
        {"---- BEGIN SSH2 PUBLIC KEY", "a public key"},
        {"-----BEGIN CERTIFICATE", "a certificate"},
        {"PuTTY-User-Key-File", "a PuTTY key (PuTTYgen exports it as an OpenSSH key)"},
        {"-----BEGIN DSA PRIVATE KEY", "a DSA key, which servers no longer accept"},
    };

    for (size_t i = 0; i < ELEMENTS(known); i++)
        if (strncmp(text, known[i].begins, strlen(known[i].begins)) == 0)
            return known[i].is;
    return *text ? "not a private key" : "empty";
}

int key_check(const char *text, const char **ret_why)
{
    text += strspn(text, " \t\r\n");
    if (strncmp(text, BEGIN_OPENSSH, strlen(BEGIN_OPENSSH)) == 0)
        return openssh_check(text, ret_why);
    if (strncmp(text, "-----BEGIN ENCRYPTED PRIVATE KEY-----", 37) == 0)
        return -ENOKEY;
    if (strncmp(text, "-----BEGIN RSA PRIVATE KEY-----", 31) != 0 &&
        strncmp(text, "-----BEGIN EC PRIVATE KEY-----", 30) != 0 &&
        strncmp(text, "-----BEGIN PRIVATE KEY-----", 27) != 0) {
        *ret_why = key_mistake(text);
        return -EBADMSG;
    }
    if (!strstr(text, "-----END ")) {
        *ret_why = "a damaged or cut off private key";
        return -EBADMSG;
    }
    return strstr(text, "Proc-Type: 4,ENCRYPTED") ? -ENOKEY : 0;
}

bool key_is_rsa(const char *text)
{
    struct buf file = {0};
    struct openssh_key k;
    struct wire name;
    bool rsa;

    if (strstr(text, "-----BEGIN RSA PRIVATE KEY-----"))
        return true;
    rsa = openssh_decode(text, &file) >= 0 && openssh_split(&file, &k) >= 0 &&
          wire_read_string(&k.public, &name) >= 0 && wire_is(&name, "ssh-rsa");
    buf_wipe(&file);
    return rsa;
}

const char *ssh_library_version(void)
{
    return libssh2_version(0);
}

bool ssh_library_has_rsa(void)
{
    return libssh2_version(0x010b00) != NULL;
}

bool ssh_library_has_tokens(void)
{
    return libssh2_version(0x010b00) != NULL;
}
