/* Key pairs and host keys, held against ssh-keygen where it is installed. */
#include "ssh/key.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>

#include "proto/buf.h"
#include "proto/mem.h"
#include "proto/text.h"

/* A directory that goes away with what is in it. */
struct scratch {
    char directory[64], key[96], public[96];
};

static void scratch_open(struct scratch *s)
{
    strcpy(s->directory, "/tmp/test_key.XXXXXX");
    cr_assert_not_null(mkdtemp(s->directory));
    snprintf(s->key, sizeof(s->key), "%s/key", s->directory);
    snprintf(s->public, sizeof(s->public), "%s/key.pub", s->directory);
}

static void scratch_close(struct scratch *s)
{
    unlink(s->key);
    unlink(s->public);
    cr_assert_eq(rmdir(s->directory), 0);
}

static void write_file(const char *path, const char *text)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

    cr_assert_geq(fd, 0);
    cr_assert_eq(write(fd, text, strlen(text)), (ssize_t)strlen(text));
    close(fd);
}

static char *read_file(const char *path)
{
    char text[16384];
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t n = read(fd, text, sizeof(text) - 1);

    cr_assert_gt(n, 0, "%s", path);
    close(fd);
    text[n] = 0;
    return xstrdup(text);
}

static bool have_keygen(void)
{
    return access("/usr/bin/ssh-keygen", X_OK) == 0;
}

/* What a command prints; it must succeed. */
static char *output_of(const char *command)
{
    char text[8192];
    FILE *p = popen(command, "re");
    size_t n;

    cr_assert_not_null(p);
    n = fread(text, 1, sizeof(text) - 1, p);
    text[n] = 0;
    cr_assert_eq(pclose(p), 0, "%s: %s", command, text);
    return xstrdup(text);
}

static char *keygen(const struct scratch *s, const char *type, const char *passphrase)
{
    char command[512];

    snprintf(command, sizeof(command), "ssh-keygen -q -t %s -N '%s' -C '' -f %s", type, passphrase, s->key);
    free(output_of(command));
    return read_file(s->key);
}

/* The blob of a line of authorized_keys. */
static void blob_of_line(const char *line, struct host_key *ret)
{
    const char *letters = strchr(line, ' ') + 1;
    struct buf blob;

    buf_init(&blob, 8192);
    cr_assert_eq(base64_decode(&blob, letters, strcspn(letters, " \n")), 0);
    cr_assert_eq(host_key_read(ret, blob.data, blob.len), 0);
    buf_done(&blob);
}

Test(key, fingerprint_is_that_of_ssh_keygen)
{
    static const char *const types[] = {"ed25519", "ecdsa -b 256", "ecdsa -b 521", "rsa -b 2048"};

    if (!have_keygen())
        cr_skip_test("no ssh-keygen");
    for (size_t i = 0; i < ELEMENTS(types); i++) {
        struct scratch s;
        struct host_key k;
        char command[256], fingerprint[FINGERPRINT_BYTES];
        _cleanup_free_ char *private = NULL, *line = NULL, *said = NULL;

        scratch_open(&s);
        private = keygen(&s, types[i], "");
        line = read_file(s.public);
        blob_of_line(line, &k);
        cr_assert_eq(strncmp(line, k.algorithm, strlen(k.algorithm)), 0, "%s", k.algorithm);
        snprintf(command, sizeof(command), "ssh-keygen -l -E sha256 -f %s", s.public);
        said = output_of(command);
        cr_assert_not_null(strstr(said, host_key_fingerprint(&k, fingerprint)), "%s in %s", fingerprint,
                           said);
        scratch_close(&s);
    }
}

Test(key, known_fingerprint_without_any_tool)
{
    /* SHA-256 of these bytes by Python's hashlib, in base64 without padding. */
    static const uint8_t zeros[51] = {0,   0,   0,   11,  's', 's', 'h', '-', 'e', 'd',
                                      '2', '5', '5', '1', '9', 0,   0,   0,   32};
    struct host_key k;
    char fingerprint[FINGERPRINT_BYTES];

    cr_assert_eq(host_key_read(&k, zeros, sizeof(zeros)), 0);
    cr_assert_str_eq(k.algorithm, "ssh-ed25519");
    cr_assert_eq(strlen(host_key_fingerprint(&k, fingerprint)), 7 + 43);
    cr_assert_str_eq(fingerprint, "SHA256:kmYcvdi2GkPeWxB6XLjrZB8JHsy2Hm8luHMFp9GMvqk");
}

Test(key, blob_that_is_no_key_is_refused)
{
    static const uint8_t short_length[3] = {0, 0, 0}, no_name[8] = {0}, beyond[8] = {0, 0, 0, 200, 'a'},
                         name_alone[5] = {0, 0, 0, 1, 'a'}, control[8] = {0, 0, 0, 2, 'a', '\n', 0, 0};
    uint8_t long_name[64] = {0, 0, 0, 50};
    _cleanup_free_ uint8_t *large = xalloc(HOST_KEY_BYTES_MAX + 1);
    struct host_key k = {.n = 7};

    memset(long_name + 4, 'a', 60);
    cr_assert_eq(host_key_read(&k, short_length, 3), -EBADMSG);
    cr_assert_eq(host_key_read(&k, short_length, 0), -EBADMSG);
    cr_assert_eq(host_key_read(&k, no_name, 8), -EBADMSG);
    cr_assert_eq(host_key_read(&k, beyond, 8), -EBADMSG);
    cr_assert_eq(host_key_read(&k, name_alone, 5), -EBADMSG);
    cr_assert_eq(host_key_read(&k, control, 8), -EBADMSG);
    cr_assert_eq(host_key_read(&k, long_name, 64), -EBADMSG);
    cr_assert_eq(host_key_read(&k, large, HOST_KEY_BYTES_MAX + 1), -E2BIG);
    cr_assert_eq(k.n, 7, "untouched on failure");
}

Test(key, equal_means_every_byte)
{
    static const uint8_t one[10] = {0, 0, 0, 1, 'a', 1, 2, 3, 4, 5},
                         other[10] = {0, 0, 0, 1, 'a', 1, 2, 3, 4, 6};
    struct host_key a, b, c;

    cr_assert_eq(host_key_read(&a, one, 10), 0);
    cr_assert_eq(host_key_read(&b, other, 10), 0);
    cr_assert_eq(host_key_read(&c, one, 9), 0);
    cr_assert(host_key_equal(&a, &a));
    cr_assert(!host_key_equal(&a, &b));
    cr_assert(!host_key_equal(&a, &c));
}

Test(key, kept_host_key_is_replaced_and_forgotten)
{
    static const uint8_t one[10] = {0, 0, 0, 1, 'a', 1, 2, 3, 4, 5};
    struct host_key k, *kept = NULL;

    cr_assert_eq(host_key_read(&k, one, 10), 0);
    host_key_keep(&kept, &k);
    cr_assert(host_key_equal(kept, &k));
    cr_assert_str_eq(kept->algorithm, "a");
    host_key_keep(&kept, kept);
    cr_assert(host_key_equal(kept, &k), "by itself too");
    k.blob[9]++;
    host_key_keep(&kept, &k);
    cr_assert(host_key_equal(kept, &k));
    host_key_keep(&kept, &(struct host_key){0});
    cr_assert_null(kept);
    host_key_keep(&kept, &k);
    host_key_keep(&kept, NULL);
    cr_assert_null(kept);
}

Test(key, preference_begins_with_what_is_pinned)
{
    struct host_key k = {.n = 1};

    cr_assert_eq(strncmp(host_key_preference(NULL), "ssh-ed25519,", 12), 0);
    cr_assert_eq(strncmp(host_key_preference(&(struct host_key){0}), "ssh-ed25519,", 12), 0);
    cr_assert_null(strstr(host_key_preference(NULL), "ssh-rsa"), "SHA-1 only where it is pinned");
    strcpy(k.algorithm, "ecdsa-sha2-nistp384");
    cr_assert_eq(strncmp(host_key_preference(&k), "ecdsa-sha2-nistp384,", 20), 0);
    cr_assert_not_null(strstr(host_key_preference(&k), "ssh-ed25519"),
                       "another key still comes when that one is gone");
    strcpy(k.algorithm, "ssh-rsa");
    cr_assert_eq(strncmp(host_key_preference(&k), "rsa-sha2-512,rsa-sha2-256,ssh-rsa,", 34), 0);
    strcpy(k.algorithm, "ssh-ed25519");
    cr_assert_str_eq(host_key_preference(&k), host_key_preference(NULL));
}

Test(key, generated_key_is_accepted_by_ssh_keygen)
{
    struct scratch s;
    char command[256];
    _cleanup_free_ char *private = NULL, *public = NULL, *said = NULL;

    if (!have_keygen())
        cr_skip_test("no ssh-keygen");
    cr_assert_eq(key_generate(&private, &public), 0);
    scratch_open(&s);
    write_file(s.key, private);
    snprintf(command, sizeof(command), "ssh-keygen -y -P '' -f %s", s.key);
    said = output_of(command);
    said[strcspn(said, "\n")] = 0;
    cr_assert_str_eq(said, public);
    scratch_close(&s);
}

Test(key, generated_keys_differ_and_say_their_public_half)
{
    _cleanup_free_ char *private = NULL, *public = NULL, *private2 = NULL, *public2 = NULL, *again = NULL;
    const char *why = NULL;

    cr_assert_eq(key_generate(&private, &public), 0);
    cr_assert_eq(key_generate(&private2, &public2), 0);
    cr_assert_str_neq(private, private2);
    cr_assert_str_neq(public, public2);
    cr_assert_eq(key_public(private, &again), 0);
    cr_assert_str_eq(again, public);
    cr_assert_eq(key_check(private, &why), 0);
    cr_assert(!key_is_rsa(private));
}

Test(key, kinds_of_keys_from_ssh_keygen)
{
    static const struct {
        const char *type, *passphrase;
        int expected;
        bool rsa;
    } row[] = {
        {"ed25519", "", 0, false},
        {"ed25519", "secret words", -ENOKEY, false},
        {"ecdsa", "", 0, false},
        {"ecdsa -m PEM", "", 0, false},
        {"ecdsa -m PEM", "secret words", -ENOKEY, false},
        {"ecdsa -m PKCS8", "", 0, false},
        {"ecdsa -m PKCS8", "secret words", -ENOKEY, false},
        {"rsa -b 2048", "", 0, true},
        {"rsa -b 2048", "secret words", -ENOKEY, true},
        {"rsa -b 2048 -m PEM", "", 0, true},
        {"rsa -b 2048 -m PEM", "secret words", -ENOKEY, true},
    };

    if (!have_keygen())
        cr_skip_test("no ssh-keygen");
    for (size_t i = 0; i < ELEMENTS(row); i++) {
        struct scratch s;
        const char *why = NULL;
        _cleanup_free_ char *text = NULL, *public = NULL;

        scratch_open(&s);
        text = keygen(&s, row[i].type, row[i].passphrase);
        public = read_file(s.public);
        cr_assert_eq(key_check(text, &why), row[i].expected, "%s %s", row[i].type, row[i].passphrase);
        cr_assert_eq(key_is_rsa(text), row[i].rsa, "%s", row[i].type);
        cr_assert_eq(key_check(public, &why), -EBADMSG);
        cr_assert_str_eq(why, "a public key");
        scratch_close(&s);
    }
}

Test(key, pasted_mistakes_are_named)
{
    static const struct {
        const char *text, *why;
    } row[] = {
        {"", "empty"},
        {"\n  \n", "empty"},
        {"hello", "not a private key"},
        {"\nssh-ed25519 AAAA me@here", "a public key"},
        {"-----BEGIN CERTIFICATE-----\n", "a certificate"},
        {"PuTTY-User-Key-File-3: ssh-ed25519\n", "a PuTTY key (PuTTYgen exports it as an OpenSSH key)"},
        {"-----BEGIN OPENSSH PRIVATE KEY-----\nAAAA", "a damaged or cut off private key"},
        {"-----BEGIN OPENSSH PRIVATE KEY-----\n!!\n-----END OPENSSH PRIVATE KEY-----\n",
         "a damaged or cut off private key"},
        {"-----BEGIN EC PRIVATE KEY-----\nAAAA", "a damaged or cut off private key"},
    };

    for (size_t i = 0; i < ELEMENTS(row); i++) {
        const char *why = "";

        cr_assert_eq(key_check(row[i].text, &why), -EBADMSG, "%s", row[i].text);
        cr_assert_str_eq(why, row[i].why);
        cr_assert(!key_is_rsa(row[i].text));
    }
}

Test(key, cut_off_anywhere_is_damage_not_a_crash)
{
    _cleanup_free_ char *private = NULL, *public = NULL;

    cr_assert_eq(key_generate(&private, &public), 0);
    for (size_t n = strlen("-----BEGIN OPENSSH PRIVATE KEY-----"); n + 40 < strlen(private); n++) {
        _cleanup_free_ char *cut = xasprintf("%.*s\n-----END OPENSSH PRIVATE KEY-----\n", (int)n, private),
                            *got = NULL;
        const char *why;

        cr_assert_eq(key_check(cut, &why), -EBADMSG, "%zu", n);
        cr_assert_eq(key_public(cut, &got), -EBADMSG, "%zu", n);
    }
}

Test(key, public_half_of_an_encrypted_key_is_not_read)
{
    struct scratch s;
    _cleanup_free_ char *text = NULL, *public = NULL;

    if (!have_keygen())
        cr_skip_test("no ssh-keygen");
    scratch_open(&s);
    text = keygen(&s, "ed25519", "secret words");
    cr_assert_eq(key_public(text, &public), -ENOKEY);
    cr_assert_null(public);
    scratch_close(&s);
}
