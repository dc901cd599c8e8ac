/* What a server offers for the key exchange: its banner and its KEXINIT (RFC 4253 §4.2, §7.1), which travel in the clear. libssh2 says
 * of two that do not meet only that they do not. */
#pragma once

#include "ssh/wire.h"

struct kex_offer {
    struct wire exchanges, host_keys, ciphers, macs;    /* names with commas; of what goes to the server */
};

/* bytes: what came first, as much of it as was kept; the offer borrows them. -EBADMSG: no KEXINIT is in them. Any bytes may come. */
int kex_read(const void *bytes, size_t n, struct kex_offer *ret);
/* One of the names is in ours, which has commas as well. */
bool kex_meets(const struct wire *names, const char *ours);
/* Nothing but RSA keys, however they sign. */
bool kex_is_rsa(const struct wire *names);
