/* What comes is hashed and the hashes are compared, all of them and to their ends, so that the time says
 * nothing. */
#include "gateway/keys.h"

#include <errno.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/rand.h>
#include <string.h>
#include <strings.h>

#include "base/clock.h"
#include "gateway/http1.h"
#include "proto/mem.h"
#include "proto/text.h"

#define KEY_PREFIX       "llmhost-" /* so that people and leak scanners know what it is */
#define KEY_CHANCE_BYTES 32
#define KEY_NAME_MAX     32

struct keys {
    struct store *store;
    struct key *at;
    unsigned n;
};

/* ---- hashes ---- */

static void hash(const char *text, uint8_t out[static KEY_HASH_BYTES])
{
    unsigned n = KEY_HASH_BYTES;

    if (!EVP_Digest(text, strlen(text), out, &n, EVP_sha256(), NULL) || n != KEY_HASH_BYTES)
        abort();
}

static const char *find_text(const struct keys *k, const char *text)
{
    uint8_t wanted[KEY_HASH_BYTES];
    const char *name = NULL;

    hash(text, wanted);
    for (unsigned i = 0; i < k->n; i++)
        if (CRYPTO_memcmp(k->at[i].hash, wanted, KEY_HASH_BYTES) == 0)
            name = k->at[i].name;
    return name;
}

const char *keys_find(const struct keys *k, const struct http1_head *head)
{
    static const char bearer[] = "Bearer ";
    const char *fields[] = {http1_field(head, "Authorization"), http1_field(head, "X-Api-Key"),
                            http1_field(head, "Api-Key")};
    const char *name = NULL;

    if (fields[0])
        fields[0] = strncasecmp(fields[0], bearer, strlen(bearer)) == 0 ? fields[0] + strlen(bearer) : NULL;
    for (size_t i = 0; i < ELEMENTS(fields) && !name; i++)
        if (fields[i] && k->n > 0)
            name = find_text(k, fields[i] + strspn(fields[i], " "));
    return name;
}

/* ---- the list ---- */

static void add(struct keys *k, const char *name, const uint8_t h[static KEY_HASH_BYTES], int64_t made_at_ms)
{
    struct key *one;

    k->at = reallocarray(k->at, k->n + 1, sizeof(*k->at));
    if (!k->at)
        abort();
    one = &k->at[k->n++];
    one->name = xstrdup(name);
    one->made_at_ms = made_at_ms;
    memcpy(one->hash, h, KEY_HASH_BYTES);
}

static void on_record(void *ctx, const struct key_record *r)
{
    add(ctx, r->name, r->hash, r->made_at_ms);
}

static struct key *find_name(const struct keys *k, const char *name)
{
    for (unsigned i = 0; i < k->n; i++)
        if (streq(k->at[i].name, name))
            return &k->at[i];
    return NULL;
}

int keys_new(struct store *s, struct keys **ret, struct fault *f)
{
    struct keys *k = xnew(struct keys);
    int r = s ? store_load_keys(s, on_record, k, f) : 0;

    if (r < 0) {
        keys_free(k);
        return r;
    }
    k->store = s;
    *ret = k;
    return 0;
}

struct keys *keys_free(struct keys *k)
{
    if (!k)
        return NULL;
    for (unsigned i = 0; i < k->n; i++)
        free(k->at[i].name);
    free(k->at);
    free(k);
    return NULL;
}

/* 43 letters of base64url for 32 bytes. */
static int make_text(char **ret)
{
    unsigned char chance[KEY_CHANCE_BYTES];
    char letters[4 * ((KEY_CHANCE_BYTES + 2) / 3) + 1];

    if (RAND_bytes(chance, sizeof(chance)) != 1)
        return -EIO;
    EVP_EncodeBlock((unsigned char *)letters, chance, sizeof(chance));
    for (char *p = letters; *p; p++)
        *p = *p == '+' ? '-' : *p == '/' ? '_' : *p == '=' ? '\0' : *p;
    *ret = xasprintf(KEY_PREFIX "%s", letters);
    explicit_bzero(chance, sizeof(chance));
    explicit_bzero(letters, sizeof(letters));
    return 0;
}

int keys_make(struct keys *k, const char *name, char **ret_text, store_ticket *ret_ticket)
{
    struct key_record r = {.name = (char *)name, .made_at_ms = clock_wall_ms()};
    int e;

    if (strlen(name) > KEY_NAME_MAX || !name_is_instance(name))
        return -EINVAL;
    if (find_name(k, name))
        return -EEXIST;
    e = make_text(ret_text);
    if (e < 0)
        return e;
    hash(*ret_text, r.hash);
    add(k, name, r.hash, r.made_at_ms);
    *ret_ticket = k->store ? store_put_key(k->store, &r) : 0;
    return 0;
}

int keys_remove(struct keys *k, const char *name, store_ticket *ret_ticket)
{
    struct key *one = find_name(k, name);

    if (!one)
        return -ENOENT;
    *ret_ticket = k->store ? store_remove_key(k->store, name) : 0;
    free(one->name);
    memmove(one, one + 1, (size_t)(k->at + --k->n - one) * sizeof(*one));
    return 0;
}

const struct key *keys_at(const struct keys *k, unsigned i)
{
    return i < k->n ? &k->at[i] : NULL;
}
