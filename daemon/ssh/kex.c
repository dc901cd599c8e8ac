/* The algorithms: what we prefer, and what a server offers that has none of them. Lines before the banner are
 * passed over, as RFC 4253 wants it. */
#include "ssh/kex.h"

#include <errno.h>

#include "ssh/conn_private.h"

#define CIPHERS                                                                                              \
    "chacha20-poly1305@openssh.com,aes128-ctr,aes256-ctr,aes192-ctr,aes256-gcm@openssh.com,aes128-gcm@"      \
    "openssh.com"
#define MACS "hmac-sha2-256-etm@openssh.com,hmac-sha2-256,hmac-sha2-512-etm@openssh.com,hmac-sha2-512"
#define KEX                                                                                                  \
    "curve25519-sha256,curve25519-sha256@libssh.org,ecdh-sha2-nistp256,ecdh-sha2-nistp384,ecdh-sha2-"        \
    "nistp521,"                                                                                              \
    "diffie-hellman-group-exchange-sha256,diffie-hellman-group16-sha512,diffie-hellman-group18-sha512,"      \
    "diffie-hellman-group14-sha256"
#define KEXINIT      20
#define COOKIE_BYTES 16

/* Behind the line of the banner; NULL: it is not there. */
static const uint8_t *skip_banner(const uint8_t *at, const uint8_t *end)
{
    while (at < end) {
        const uint8_t *line_end = memchr(at, '\n', (size_t)(end - at));
        bool is_banner = end - at > 4 && memcmp(at, "SSH-", 4) == 0;

        if (!line_end)
            return NULL;
        at = line_end + 1;
        if (is_banner)
            return at;
    }
    return NULL;
}

int kex_read(const void *bytes, size_t n, struct kex_offer *ret)
{
    const uint8_t *end = (const uint8_t *)bytes + n, *at = skip_banner(bytes, end);
    struct wire w = {at, at ? (size_t)(end - at) : 0}, ignored;
    struct kex_offer o;
    uint32_t length;
    uint8_t padding, kind;

    if (!at || wire_read_u32(&w, &length) < 0 || wire_read_byte(&w, &padding) < 0 ||
        wire_read_byte(&w, &kind) < 0 || kind != KEXINIT || w.n < COOKIE_BYTES)
        return -EBADMSG;
    w.at += COOKIE_BYTES;
    w.n -= COOKIE_BYTES;
    if (wire_read_string(&w, &o.exchanges) < 0 || wire_read_string(&w, &o.host_keys) < 0 ||
        wire_read_string(&w, &o.ciphers) < 0 || wire_read_string(&w, &ignored) < 0 ||
        wire_read_string(&w, &o.macs) < 0)
        return -EBADMSG;
    *ret = o;
    return 0;
}

/* Takes the next name off the list; false: there is none. */
static bool take_name(struct wire *list, struct wire *ret)
{
    const uint8_t *comma = list->n ? memchr(list->at, ',', list->n) : NULL;
    size_t n = comma ? (size_t)(comma - list->at) : list->n, step = MIN(n + 1, list->n);

    if (list->n == 0)
        return false;
    *ret = (struct wire){list->at, n};
    list->at += step;
    list->n -= step;
    return true;
}

bool kex_meets(const struct wire *names, const char *ours)
{
    struct wire list = *names, name;

    while (take_name(&list, &name)) {
        struct wire mine = {(const uint8_t *)ours, strlen(ours)}, one;

        while (take_name(&mine, &one))
            if (one.n == name.n && memcmp(one.at, name.at, name.n) == 0)
                return true;
    }
    return false;
}

bool kex_is_rsa(const struct wire *names)
{
    static const char *const kinds[] = {"ssh-rsa", "rsa-sha2-256", "rsa-sha2-512"};
    struct wire list = *names, name;
    bool any = false;

    while (take_name(&list, &name)) {
        bool is_one = false;

        for (size_t i = 0; i < ELEMENTS(kinds); i++)
            is_one |= wire_is(&name, kinds[i]);
        if (!is_one)
            return false;
        any = true;
    }
    return any;
}

static bool is_supported(const char *const *known, int n, const char *name, size_t length)
{
    for (int i = 0; i < n; i++)
        if (strlen(known[i]) == length && strncmp(known[i], name, length) == 0)
            return true;
    return false;
}

/* One list serves all versions: what this one does not know is left out. Here, since libssh2 1.10 copies
 * overlapping memory when it has to do that itself (session_method_pref). */
static void choose(const struct ssh_conn *c, int method, const char *list, struct buf *ret)
{
    const char **known = NULL;
    int n = libssh2_session_supported_algs(c->ssh, method, &known);

    buf_init(ret, 4096);
    while (n > 0 && *list) {
        size_t length = strcspn(list, ",");

        if (is_supported(known, n, list, length) &&
            buf_addf(ret, "%s%.*s", ret->len ? "," : "", (int)length, list) < 0)
            abort(); /* no memory */
        list += length;
        list += *list == ',';
    }
    libssh2_free(c->ssh, known);
}

static void prefer(struct ssh_conn *c, int method, const char *list)
{
    struct buf chosen;

    choose(c, method, list, &chosen);
    if (chosen.len > 0)
        libssh2_session_method_pref(c->ssh, method, buf_text(&chosen));
    buf_done(&chosen);
}

/* Without CBC: 1.11.0 has -etm but no strict key exchange (CVE-2023-48795). */
void kex_prefer(struct ssh_conn *c)
{
    prefer(c, LIBSSH2_METHOD_CRYPT_CS, CIPHERS);
    prefer(c, LIBSSH2_METHOD_CRYPT_SC, CIPHERS);
    prefer(c, LIBSSH2_METHOD_MAC_CS, MACS);
    prefer(c, LIBSSH2_METHOD_MAC_SC, MACS);
    prefer(c, LIBSSH2_METHOD_KEX, KEX);
    prefer(c, LIBSSH2_METHOD_HOSTKEY, c->host_key_preference);
}

void kex_overhear(struct ssh_conn *c, size_t n)
{
    if (c->step == CONN_HANDSHAKE)
        (void)buf_add(&c->overheard, c->in.data, MIN(n, KEX_OVERHEARD_BYTES - c->overheard.len));
}

/* Which of the lists did not meet, as libssh2 goes through them. */
static const char *find_unmet(const struct ssh_conn *c, const struct kex_offer *o, struct wire *ret)
{
    const struct {
        const char *what, *ours;
        const struct wire *theirs;
    } lists[] = {{"key exchange", KEX, &o->exchanges},
                 {"host key", c->host_key_preference, &o->host_keys},
                 {"cipher", CIPHERS, &o->ciphers},
                 {"MAC", MACS, &o->macs}};
    static const int methods[] = {LIBSSH2_METHOD_KEX, LIBSSH2_METHOD_HOSTKEY, LIBSSH2_METHOD_CRYPT_CS,
                                  LIBSSH2_METHOD_MAC_CS};

    for (size_t i = 0; i < ELEMENTS(lists); i++) {
        struct buf known;
        bool meets;

        choose(c, methods[i], lists[i].ours, &known);
        meets = kex_meets(lists[i].theirs, buf_text(&known));
        buf_done(&known);
        if (!meets) {
            *ret = *lists[i].theirs;
            return lists[i].what;
        }
    }
    return NULL;
}

void kex_explain(struct ssh_conn *c)
{
    struct kex_offer o;
    struct wire names;
    const char *what = NULL, *version = ssh_library_version();

    if (c->overheard.len > 0 && kex_read(c->overheard.data, c->overheard.len, &o) == 0)
        what = find_unmet(c, &o, &names);
    if (what && streq(what, "host key") && kex_is_rsa(&names))
        conn_fail(c, FAULT_INVALID, "protocol",
                  "%s shows nothing but an RSA host key, which %s: make others there with \"ssh-keygen -A\", "
                  "let its "
                  "sshd_config use them (HostKey, HostKeyAlgorithms), and restart its sshd",
                  c->name,
                  ssh_library_has_rsa() ? "it signs with SHA-1 alone"
                                        : "the libssh2 of this host is too old to check (it needs 1.11)");
    else if (what)
        conn_fail(c, FAULT_INVALID, "protocol", "%s and libssh2 %s have no %s in common: it offers %.*s",
                  c->name, version, what, (int)MIN(names.n, 160u), (const char *)names.at);
    else
        conn_fail(c, FAULT_INVALID, "protocol",
                  "%s and libssh2 %s have no algorithm in common: the server is too strict for it", c->name,
                  version);
}
