/* What a server offers, out of its first bytes; and two real ones that offer too little. */
#include "ssh/kex.h"

#include "tests/fixture/ssh_client.h"

#define COOKIE "0123456789abcdef"

/* A banner and a KEXINIT with these lists, up to the MACs. */
static size_t offer(char *out, const char *before, const char *kex, const char *host_keys)
{
    struct buf b;

    buf_init(&b, 2000);
    buf_addf(&b, "%sSSH-2.0-OpenSSH_9.2\r\n", before);
    wire_add_u32(&b, 500);
    wire_add_byte(&b, 4);
    wire_add_byte(&b, 20);
    buf_add(&b, COOKIE, 16);
    wire_add_text(&b, kex);
    wire_add_text(&b, host_keys);
    wire_add_text(&b, "aes128-ctr,aes256-ctr");
    wire_add_text(&b, "aes128-ctr");
    wire_add_text(&b, "hmac-sha2-256");

    size_t n = b.len;

    memcpy(out, b.data, n);
    buf_done(&b);
    return n;
}

Test(kex, lists_are_read_also_behind_lines_before_the_banner)
{
    char bytes[2000];
    struct kex_offer o;

    for (unsigned i = 0; i < 2; i++) {
        size_t n = offer(bytes, i ? "Authorized use only\r\nSSH is watched\n" : "",
                         "curve25519-sha256,kex-strict", "rsa-sha2-512,ssh-rsa");

        cr_assert_eq(kex_read(bytes, n, &o), 0);
        cr_assert(kex_meets(&o.exchanges, "ecdh-sha2-nistp256,curve25519-sha256"));
        cr_assert_not(kex_meets(&o.exchanges, "curve25519,kex,sha256"));
        cr_assert(kex_is_rsa(&o.host_keys));
        cr_assert_not(kex_is_rsa(&o.ciphers));
        cr_assert(kex_meets(&o.ciphers, "aes256-ctr") && kex_meets(&o.macs, "hmac-sha2-256"));
        for (size_t cut = 0; cut < n; cut++)
            cr_assert_eq(kex_read(bytes, cut, &o), -EBADMSG, "%zu bytes are too few", cut);
    }
}

Test(kex, nothing_is_no_rsa_and_meets_nobody)
{
    struct wire none = {(const uint8_t *)"", 0};

    cr_assert_not(kex_is_rsa(&none));
    cr_assert_not(kex_meets(&none, "aes128-ctr"));
    cr_assert_not(kex_meets(&none, ""));
}

static void refuses(const char *config, const char *says, const char *names)
{
    struct sshd_fixture *s = sshd_fixture_new(config);
    struct client c = {0};

    REQUIRE_SSHD(s);
    client_begin(&c, s);
    cr_assert(LOOP_UNTIL(c.loop, c.n_down));
    cr_assert_str_eq(c.fault.code, "protocol");
    cr_assert(strstr(c.fault.text, says) && strstr(c.fault.text, names), "%s", c.fault.text);
    cr_assert_null(strstr(c.fault.text, ". "), "one sentence: %s", c.fault.text);
    client_close(&c);
    sshd_fixture_free(s);
}

Test(kex, a_server_that_is_too_strict_is_told_in_what)
{
    refuses("Ciphers aes256-cbc\n", "no cipher in common", "it offers aes256-cbc");
    refuses("MACs umac-64@openssh.com\n", "no MAC in common", "umac-64@openssh.com");
    refuses("KexAlgorithms sntrup761x25519-sha512@openssh.com\n", "no key exchange in common",
            "sntrup761x25519");
}
