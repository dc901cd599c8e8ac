/* Names to addresses without blocking: two look-ups in flight, 5 s deadline, the last good addresses kept for when the resolver
 * is away. */
#pragma once

#include <netinet/in.h>
#include <sys/socket.h>

struct fault;
struct loop;
struct op;
struct resolver;

#define RESOLVE_ADDRESSES_MAX 8

union address {
    struct sockaddr any;
    struct sockaddr_in v4;
    struct sockaddr_in6 v6;
};

struct addresses {
    unsigned n;
    union address at[RESOLVE_ADDRESSES_MAX];
};

struct resolver *resolver_new(struct loop *l);
struct resolver *resolver_free(struct resolver *r);     /* cancels what is in flight */

/* A numeric address needs no look-up (and still answers from the loop). */
typedef void (*resolve_fn)(void *ctx, const struct addresses *found, const struct fault *f);
void resolve(struct resolver *r, const char *host, uint16_t port, struct op **slot, resolve_fn done, void *ctx);

/* "10.0.0.1:22", "[::1]:22". out holds at least 64 bytes. */
const char *address_format(const union address *a, char *out, size_t n);
