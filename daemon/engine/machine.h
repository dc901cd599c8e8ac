/* What a machine is: asked by one short script (look.sh) that changes nothing there, and one dial to a port where nobody listens, for
 * whether its sshd forwards at all. For the doctor and for whoever adds a machine: what does not fit is said before anything is
 * copied. */
#pragma once

#include "base/fault.h"
#include "engine/gpu.h"
#include "session/host.h"

#define MACHINE_PORTS_MAX 8

struct machine_facts {
    bool has_answered;              /* the script; else why not: */
    struct fault silence;
    char arch[16];                  /* "amd64" */
    char base[160];                 /* our directory there, whether it exists or not */
    int64_t free_bytes;             /* on its disk, -1: unknown */
    uint16_t ours;                  /* the port of our own server, 0: none runs */
    struct gpu_facts gpu;
    unsigned n_ports;               /* of those asked for, where somebody listens */
    struct machine_port {
        uint16_t port;
        char who[48];               /* "ollama (pid 812)" */
    } ports[MACHINE_PORTS_MAX];
    bool forbids_forwards;
};

/* What to do about forbids_forwards; one %s, the instance. */
#define MACHINE_FORBIDS                                                                                                        \
    "%s lets nobody through to its ports, and models are reached that way: set \"AllowTcpForwarding yes\" in its sshd_config "   \
    "(or look for DisableForwarding and PermitOpen there), and restart its sshd"

/* An op; done() runs once, and *ret is filled by then, as far as there was an answer. It waits for the way to the machine like any
 * command: the owner has the patience. ports: of its 127.0.0.1, at most MACHINE_PORTS_MAX of them count. */
void machine_look(struct host *h, const uint16_t *ports, unsigned n_ports, struct machine_facts *ret, struct op **slot,
                  void (*done)(void *ctx), void *ctx);
const char *machine_who_listens(const struct machine_facts *m, uint16_t port);     /* NULL: nobody */
/* A script with the function cards in front, which says what the tools of the cards say. Caller frees. */
char *machine_script(const char *script);
/* uname's word as catalogs have it; what is not printable becomes '?'. */
void machine_read_arch(char out[static 16], const char *uname);
