/* A key becomes an EVP_PKEY, by libcrypto's own PEM reader or from the fields of OpenSSH's format (its
 * PROTOCOL.key and sshkey.c, read 2026-11); what the server shall see is then written from that, so that both
 * ways say the same. */
#include "ssh/signer.h"

#include <errno.h>
#include <openssl/bn.h>
#include <openssl/core_names.h>
#include <openssl/ec.h>
#include <openssl/evp.h>
#include <openssl/param_build.h>
#include <openssl/pem.h>
#include <string.h>

#include "proto/buf.h"
#include "proto/mem.h"
#include "ssh/key.h"
#include "ssh/wire.h"

#define ED25519_BYTES  32
#define RSA_BITS_MIN   1024 /* sshkey.h, SSH_RSA_MINIMUM_MODULUS_SIZE */
#define RSA_BITS_MAX   16384
#define RSA_E_BITS_MAX 256
#define BLOB_BYTES_MAX 4096

struct signer {
    EVP_PKEY *key;
    const struct kind *kind;
    struct buf blob;
};

/* What can sign. */
static const struct kind {
    const char *algorithm;
    int type;
    const char *curve, *group;     /* as SSH calls it; as libcrypto does */
    const EVP_MD *(*digest)(void); /* NULL: the algorithm has its own */
} kinds[] = {
    {"ssh-ed25519", EVP_PKEY_ED25519, NULL, NULL, NULL},
    {"ecdsa-sha2-nistp256", EVP_PKEY_EC, "nistp256", SN_X9_62_prime256v1, EVP_sha256},
    {"ecdsa-sha2-nistp384", EVP_PKEY_EC, "nistp384", SN_secp384r1, EVP_sha384},
    {"ecdsa-sha2-nistp521", EVP_PKEY_EC, "nistp521", SN_secp521r1, EVP_sha512},
    {"rsa-sha2-256", EVP_PKEY_RSA, NULL, NULL, EVP_sha256},
};

/* ---- numbers ---- */

/* Secure: what is made of it is overwritten when it is freed. */
static BIGNUM *read_number(struct wire *w)
{
    struct wire bytes;
    BIGNUM *n;

    if (wire_read_string(w, &bytes) < 0 || bytes.n > RSA_BITS_MAX / 8 + 1 || !(n = BN_secure_new()))
        return NULL;
    if (BN_bin2bn(bytes.at, (int)bytes.n, n))
        return n;
    BN_clear_free(n);
    return NULL;
}

static void add_number(struct buf *b, const BIGNUM *n)
{
    uint8_t bytes[RSA_BITS_MAX / 8];
    int length = BN_bn2bin(n, bytes);

    wire_add_mpint(b, bytes, (size_t)length);
}

/* ---- from OpenSSH's format ---- */

static EVP_PKEY *make_key(int type, OSSL_PARAM_BLD *build)
{
    EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new_id(type, NULL);
    OSSL_PARAM *parameters = OSSL_PARAM_BLD_to_param(build);
    EVP_PKEY *key = NULL;

    if (!ctx || !parameters || EVP_PKEY_fromdata_init(ctx) != 1 ||
        EVP_PKEY_fromdata(ctx, &key, EVP_PKEY_KEYPAIR, parameters) != 1)
        key = NULL;
    OSSL_PARAM_free(parameters);
    EVP_PKEY_CTX_free(ctx);
    return key;
}

/* public, seed and public again */
static EVP_PKEY *open_ed25519(struct wire *w)
{
    struct wire public, both;

    if (wire_read_string(w, &public) < 0 || public.n != ED25519_BYTES || wire_read_string(w, &both) < 0 ||
        both.n != 2 * ED25519_BYTES)
        return NULL;
    return EVP_PKEY_new_raw_private_key(EVP_PKEY_ED25519, NULL, both.at, ED25519_BYTES);
}

/* curve, point, scalar */
static EVP_PKEY *open_ecdsa(struct wire *w, const struct kind *kind)
{
    OSSL_PARAM_BLD *build = OSSL_PARAM_BLD_new();
    struct wire curve, point;
    EVP_PKEY *key = NULL;
    BIGNUM *scalar = NULL;

    if (build && wire_read_string(w, &curve) == 0 && wire_is(&curve, kind->curve) &&
        wire_read_string(w, &point) == 0 && (scalar = read_number(w)) &&
        OSSL_PARAM_BLD_push_utf8_string(build, OSSL_PKEY_PARAM_GROUP_NAME, kind->group, 0) == 1 &&
        OSSL_PARAM_BLD_push_octet_string(build, OSSL_PKEY_PARAM_PUB_KEY, point.at, point.n) == 1 &&
        OSSL_PARAM_BLD_push_BN(build, OSSL_PKEY_PARAM_PRIV_KEY, scalar) == 1)
        key = make_key(EVP_PKEY_EC, build);
    OSSL_PARAM_BLD_free(build);
    BN_clear_free(scalar);
    return key;
}

/* d modulo a prime less one */
static BIGNUM *rsa_exponent(const BIGNUM *d, const BIGNUM *prime)
{
    BN_CTX *ctx = BN_CTX_secure_new();
    BIGNUM *less = BN_secure_new(), *e = BN_secure_new();
    bool good = ctx && less && e && BN_copy(less, prime) && BN_sub_word(less, 1) == 1 && !BN_is_zero(less) &&
                BN_mod(e, d, less, ctx) == 1;

    BN_CTX_free(ctx);
    BN_clear_free(less);
    if (good)
        return e;
    BN_clear_free(e);
    return NULL;
}

/* n, e, d, the coefficient, p, q; the two exponents are not written down, but signing without them takes four
 * times as long */
static EVP_PKEY *open_rsa(struct wire *w)
{
    static const char *const names[] = {
        OSSL_PKEY_PARAM_RSA_N,         OSSL_PKEY_PARAM_RSA_E,
        OSSL_PKEY_PARAM_RSA_D,         OSSL_PKEY_PARAM_RSA_COEFFICIENT1,
        OSSL_PKEY_PARAM_RSA_FACTOR1,   OSSL_PKEY_PARAM_RSA_FACTOR2,
        OSSL_PKEY_PARAM_RSA_EXPONENT1, OSSL_PKEY_PARAM_RSA_EXPONENT2,
    };
    enum { D = 2, P = 4, Q = 5, WRITTEN = 6, ALL = ELEMENTS(names) };
    OSSL_PARAM_BLD *build = OSSL_PARAM_BLD_new();
    BIGNUM *numbers[ALL] = {};
    EVP_PKEY *key = NULL;
    bool good = build != NULL;

    for (unsigned i = 0; good && i < WRITTEN; i++)
        good = (numbers[i] = read_number(w)) != NULL;
    for (unsigned i = WRITTEN; good && i < ALL; i++)
        good = (numbers[i] = rsa_exponent(numbers[D], numbers[i - WRITTEN + P])) != NULL;
    for (unsigned i = 0; good && i < ALL; i++)
        good = OSSL_PARAM_BLD_push_BN(build, names[i], numbers[i]) == 1;
    if (good)
        key = make_key(EVP_PKEY_RSA, build);
    OSSL_PARAM_BLD_free(build);
    for (unsigned i = 0; i < ALL; i++)
        BN_clear_free(numbers[i]);
    return key;
}

static EVP_PKEY *open_section(const struct buf *section)
{
    struct wire w = {.at = (const uint8_t *)section->data, .n = section->len}, type;

    if (wire_read_string(&w, &type) < 0)
        return NULL;
    if (wire_is(&type, "ssh-rsa"))
        return open_rsa(&w);
    if (wire_is(&type, "ssh-ed25519"))
        return open_ed25519(&w);
    for (size_t i = 0; i < ELEMENTS(kinds); i++)
        if (kinds[i].curve && wire_is(&type, kinds[i].algorithm))
            return open_ecdsa(&w, &kinds[i]);
    return NULL;
}

/* ---- from PEM ---- */

/* libcrypto asks on the terminal unless it is given an answer. */
static int give_passphrase(char *to, int size, int writing, void *passphrase)
{
    int n = passphrase ? (int)strnlen(passphrase, (size_t)size) : 0;

    (void)writing;
    if (n > 0)
        memcpy(to, passphrase, (size_t)n);
    return n > 0 ? n : -1;
}

static EVP_PKEY *open_pem(const char *text, const char *passphrase)
{
    BIO *bio = BIO_new_mem_buf(text, -1);
    EVP_PKEY *key = bio ? PEM_read_bio_PrivateKey(bio, NULL, give_passphrase, (void *)passphrase) : NULL;

    BIO_free(bio);
    return key;
}

/* ---- what the server sees ---- */

static const struct kind *kind_of(const EVP_PKEY *key)
{
    char group[64] = "";

    EVP_PKEY_get_group_name(key, group, sizeof(group), NULL);
    for (size_t i = 0; i < ELEMENTS(kinds); i++)
        if (EVP_PKEY_get_base_id(key) == kinds[i].type && (!kinds[i].group || streq(group, kinds[i].group)))
            return &kinds[i];
    return NULL;
}

static int add_rsa(struct buf *b, const EVP_PKEY *key)
{
    BIGNUM *e = NULL, *n = NULL;
    int bits = EVP_PKEY_get_bits(key), r = -EBADMSG;

    if (bits >= RSA_BITS_MIN && bits <= RSA_BITS_MAX &&
        EVP_PKEY_get_bn_param(key, OSSL_PKEY_PARAM_RSA_E, &e) == 1 && BN_num_bits(e) <= RSA_E_BITS_MAX &&
        EVP_PKEY_get_bn_param(key, OSSL_PKEY_PARAM_RSA_N, &n) == 1) {
        add_number(b, e);
        add_number(b, n);
        r = 0;
    }
    BN_free(e);
    BN_free(n);
    return r;
}

static int write_blob(struct signer *s)
{
    uint8_t point[256];
    size_t n = sizeof(point);

    wire_add_text(&s->blob, s->kind->algorithm);
    if (s->kind->type == EVP_PKEY_RSA)
        return add_rsa(&s->blob, s->key);
    if (s->kind->curve)
        wire_add_text(&s->blob, s->kind->curve);
    if (s->kind->curve ? EVP_PKEY_get_octet_string_param(s->key, OSSL_PKEY_PARAM_PUB_KEY, point, n, &n) != 1
                       : EVP_PKEY_get_raw_public_key(s->key, point, &n) != 1)
        return -EBADMSG;
    wire_add_string(&s->blob, point, n);
    return 0;
}

int signer_new(const char *text, const char *passphrase, struct signer **ret)
{
    const char *why;
    int r = key_check(text, &why);
    bool encrypted = r == -ENOKEY;
    struct buf section = {};
    struct signer *s;

    if (r < 0 && !encrypted)
        return r;
    s = xnew(struct signer);
    buf_init(&s->blob, BLOB_BYTES_MAX);
    r = key_open(text, &section);
    if (r == 0)
        s->key = open_section(&section);
    else if (r == -EBADMSG)
        s->key = open_pem(text, passphrase);
    buf_wipe(&section);
    if (r == -ENOKEY)
        r = -EOPNOTSUPP;
    else if (!s->key)
        r = encrypted ? -ENOKEY : -EBADMSG;
    else
        r = (s->kind = kind_of(s->key)) ? write_blob(s) : -EBADMSG;
    if (r < 0) {
        signer_free(s);
        return r;
    }
    *ret = s;
    return 0;
}

struct signer *signer_free(struct signer *s)
{
    if (!s)
        return NULL;
    EVP_PKEY_free(s->key);
    buf_done(&s->blob);
    free(s);
    return NULL;
}

const struct buf *signer_blob(const struct signer *s)
{
    return &s->blob;
}

/* ---- signing ---- */

/* The two numbers of an ECDSA signature, which libcrypto gives as DER. */
static int add_ecdsa(struct buf *b, const uint8_t *der, size_t n)
{
    ECDSA_SIG *sig = d2i_ECDSA_SIG(NULL, &der, (long)n);

    if (!sig)
        return -EIO;
    add_number(b, ECDSA_SIG_get0_r(sig));
    add_number(b, ECDSA_SIG_get0_s(sig));
    ECDSA_SIG_free(sig);
    return 0;
}

int signer_sign(const struct signer *s, const void *data, size_t n, struct buf *ret)
{
    uint8_t signature[RSA_BITS_MAX / 8];
    size_t n_signature = sizeof(signature);
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();
    const EVP_MD *digest = s->kind->digest ? s->kind->digest() : NULL;
    int r = -EIO;

    if (ctx && EVP_DigestSignInit(ctx, NULL, digest, NULL, s->key) == 1 &&
        EVP_DigestSign(ctx, signature, &n_signature, data, n) == 1)
        r = s->kind->curve ? add_ecdsa(ret, signature, n_signature) : buf_add(ret, signature, n_signature);
    EVP_MD_CTX_free(ctx);
    return r;
}
