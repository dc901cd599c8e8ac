/* Keys of every kind and format; what they sign is accepted by a real sshd in test_conn.c. */
#include "ssh/signer.h"

#include <criterion/criterion.h>
#include <errno.h>

#include "proto/buf.h"
#include "proto/mem.h"
#include "proto/text.h"
#include "ssh/wire.h"

static char *read_file(const char *path)
{
    char text[16384];
    FILE *f = fopen(path, "re");
    size_t n;

    cr_assert_not_null(f, "%s", path);
    n = fread(text, 1, sizeof(text) - 1, f);
    fclose(f);
    text[n] = 0;
    return xstrdup(text);
}

/* The private key; *ret_public: the base64 of its public half. NULL: no ssh-keygen. */
static char *keygen(const char *type, const char *passphrase, char **ret_public)
{
    char directory[] = "/tmp/test_signer.XXXXXX", command[256], path[64];
    char *key, *line;

    if (access("/usr/bin/ssh-keygen", X_OK) < 0)
        return NULL;
    cr_assert_not_null(mkdtemp(directory));
    snprintf(command, sizeof(command), "ssh-keygen -q -t %s -N '%s' -C '' -f %s/k", type, passphrase,
             directory);
    cr_assert_eq(system(command), 0, "%s", command);
    snprintf(path, sizeof(path), "%s/k", directory);
    key = read_file(path);
    unlink(path);
    snprintf(path, sizeof(path), "%s/k.pub", directory);
    line = read_file(path);
    unlink(path);
    rmdir(directory);
    if (ret_public)
        *ret_public = strndup(strchr(line, ' ') + 1, strcspn(strchr(line, ' ') + 1, " \n"));
    free(line);
    return key;
}

#define REQUIRE_KEYGEN(key)                                                                                  \
    do {                                                                                                     \
        if (!(key))                                                                                          \
            cr_skip_test("no ssh-keygen");                                                                   \
    } while (0)

/* What the server shall see is what ssh-keygen wrote beside the key, but for the name in front of an RSA one.
 */
Test(signer, shows_the_public_half)
{
    static const struct {
        const char *type, *passphrase, *algorithm;
    } rows[] = {
        {"ed25519", "", "ssh-ed25519"},
        {"ecdsa -b 256", "", "ecdsa-sha2-nistp256"},
        {"ecdsa -b 384 -m PEM", "", "ecdsa-sha2-nistp384"},
        {"ecdsa -b 521 -m PKCS8", "long words", "ecdsa-sha2-nistp521"},
        {"rsa -b 1024", "", "rsa-sha2-256"},
        {"rsa -b 2048 -m PEM", "long words", "rsa-sha2-256"},
        {"rsa -b 2048 -m PKCS8", "", "rsa-sha2-256"},
    };

    for (size_t i = 0; i < ELEMENTS(rows); i++) {
        _cleanup_free_ char *public = NULL;
        _cleanup_free_ char *key = keygen(rows[i].type, rows[i].passphrase, &public);
        struct signer *s = NULL;
        struct wire ours, theirs, name;
        struct buf raw;

        REQUIRE_KEYGEN(key);
        cr_assert_eq(signer_new(key, *rows[i].passphrase ? rows[i].passphrase : NULL, &s), 0, "%s",
                     rows[i].type);
        buf_init(&raw, 8192);
        cr_assert_eq(base64_decode(&raw, public, strlen(public)), 0);
        ours = (struct wire){(const uint8_t *)signer_blob(s)->data, signer_blob(s)->len};
        theirs = (struct wire){(const uint8_t *)raw.data, raw.len};
        cr_assert_eq(wire_read_string(&ours, &name), 0);
        cr_assert(wire_is(&name, rows[i].algorithm), "%s", rows[i].type);
        cr_assert_eq(wire_read_string(&theirs, &name), 0);
        cr_assert_eq(ours.n, theirs.n, "%s", rows[i].type);
        cr_assert_eq(memcmp(ours.at, theirs.at, ours.n), 0, "%s", rows[i].type);
        buf_done(&raw);
        signer_free(s);
    }
}

Test(signer, passphrases)
{
    static const struct {
        const char *type, *passphrase;
        int r;
    } rows[] = {
        {"rsa -b 1024 -m PEM", NULL, -ENOKEY},       {"rsa -b 1024 -m PEM", "other words", -ENOKEY},
        {"rsa -b 1024 -m PEM", "", -ENOKEY},         {"ecdsa -m PKCS8", "other words", -ENOKEY},
        {"ed25519 -a 1", "long words", -EOPNOTSUPP}, {"ed25519 -a 1", NULL, -EOPNOTSUPP},
        {"rsa -b 1024 -m PEM", "long words", 0},
    };

    for (size_t i = 0; i < ELEMENTS(rows); i++) {
        _cleanup_free_ char *key = keygen(rows[i].type, "long words", NULL);
        struct signer *s = NULL;

        REQUIRE_KEYGEN(key);
        cr_assert_eq(signer_new(key, rows[i].passphrase, &s), rows[i].r, "%s %s", rows[i].type,
                     rows[i].passphrase);
        signer_free(s);
    }
}

/* Cut anywhere, or with any byte changed: refused, or a key after all, never more. */
Test(signer, damaged_keys)
{
    static const char *const types[] = {"ed25519", "ecdsa", "rsa -b 1024", "ecdsa -m PEM"};

    for (size_t i = 0; i < ELEMENTS(types); i++) {
        _cleanup_free_ char *key = keygen(types[i], "", NULL);

        REQUIRE_KEYGEN(key);
        for (size_t at = 0, n = strlen(key); at < n; at += 3) {
            struct signer *s = NULL;
            char was = key[at];

            key[at] = at % 2 ? 'A' : '\0';
            int r = signer_new(key, NULL, &s);

            cr_assert(r == 0 || r == -EBADMSG || r == -ENOKEY || r == -EOPNOTSUPP, "%s at %zu: %d", types[i],
                      at, r);
            signer_free(s);
            key[at] = was;
        }
    }
}

Test(signer, signs_anew_each_time)
{
    _cleanup_free_ char *key = keygen("ed25519", "", NULL);
    struct buf first, second;
    struct signer *s;

    REQUIRE_KEYGEN(key);
    cr_assert_eq(signer_new(key, NULL, &s), 0);
    buf_init(&first, 4096);
    buf_init(&second, 4096);
    cr_assert_eq(signer_sign(s, "abc", 3, &first), 0);
    cr_assert_eq(signer_sign(s, "abd", 3, &second), 0);
    cr_assert_eq(first.len, 64);
    cr_assert_eq(second.len, 64);
    cr_assert_neq(memcmp(first.data, second.data, 64), 0);
    buf_done(&first);
    buf_done(&second);
    signer_free(s);
}

Test(wire, mpints)
{
    static const struct {
        const char *number, *written;
        size_t n, n_written;
    } rows[] = {
        {"", "\0\0\0\0", 0, 4},           {"\0\0", "\0\0\0\0", 2, 4},       {"\x7f", "\0\0\0\1\x7f", 1, 5},
        {"\x80", "\0\0\0\2\0\x80", 1, 6}, {"\0\1\2", "\0\0\0\2\1\2", 3, 6},
    };

    for (size_t i = 0; i < ELEMENTS(rows); i++) {
        struct buf b;

        buf_init(&b, 64);
        wire_add_mpint(&b, (const uint8_t *)rows[i].number, rows[i].n);
        cr_assert_eq(b.len, rows[i].n_written, "row %zu", i);
        cr_assert_eq(memcmp(b.data, rows[i].written, b.len), 0, "row %zu", i);
        buf_done(&b);
    }
}

Test(wire, strings_beyond_the_end_are_refused_and_nothing_is_taken)
{
    struct wire w = {(const uint8_t *)"\0\0\0\5abcd", 8}, s = {};

    cr_assert_eq(wire_read_string(&w, &s), -EBADMSG);
    cr_assert_eq(w.n, 8);
    w.n = 3;
    cr_assert_eq(wire_read_string(&w, &s), -EBADMSG);
}
