/* A local listener whose connections lead to a port as the machine sees it; both ways, with back-pressure. It stays bound while
 * the tunnel is down: connections wait. */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "session/host.h"

struct forward;

/* Listens on ip:port here; port 0 lets the kernel choose. 0 or -EADDRINUSE, -EACCES, -EADDRNOTAVAIL. address and port: as seen
 * from the machine. */
int forward_new_tcp(struct loop *l, struct host *h, const char *ip, uint16_t listen_port, const char *address, uint16_t port,
                    struct forward **ret);
/* Listens on a Unix socket that only this very process may use (SO_PEERCRED): how libcurl reaches an engine without a port. */
int forward_new_unix(struct loop *l, struct host *h, const char *path, const char *address, uint16_t port, struct forward **ret);
/* Cuts its connections. */
struct forward *forward_free(struct forward *f);
uint16_t forward_port(const struct forward *f);          /* of the listener; 0 for a Unix socket */
unsigned forward_connections(const struct forward *f);
uint64_t forward_bytes(const struct forward *f);        /* both ways, since it was made */
/* Why the newest connection could not be made; NULL: it could, or there was none. */
const struct fault *forward_fault(const struct forward *f);
