/* The HTTP port applications use: OpenAI (/v1) and Ollama (/api) on one address, routed by model name. It is bound from start to
 * end of the daemon; when somebody else has it, it is tried again every 10 s. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

struct fault;
struct gateway;
struct loop;
struct manager;
struct settings;
struct store;

/* Borrows all; s keeps counts and API keys, NULL: nobody does. [gateway] listen, hold, heartbeat, allow_host, allow_origin. passed_fd: a
 * socket that listens already and counts instead of listen, from now on the gateway's; 0: none. 0 or -EINVAL: *f names the setting. A taken port is no error. */
int gateway_new(struct loop *l, struct manager *m, struct store *s, const struct settings *settings, int passed_fd,
                struct gateway **ret, struct fault *f);
/* What it says of the setting when error is what listening there came to; code "bad_listen". */
void gateway_fault_listen(const struct settings *s, int error, struct fault *f);
/* Listens at another address from now on; who is connected stays. address: as in [gateway] listen. 0, or < 0: *f says why (codes
 * "port_taken", "bad_listen", "port_passed"), and all is as it was. */
int gateway_move(struct gateway *g, const char *address, struct fault *f);
/* Nobody new is let in: who connects waits in the backlog, for our successor where the socket was passed. For good. */
void gateway_close_door(struct gateway *g);
/* Cuts what is open: an error event where an answer has begun, 503 where not. */
struct gateway *gateway_free(struct gateway *g);

bool gateway_is_listening(const struct gateway *g);
const char *gateway_endpoint(const struct gateway *g);      /* "http://127.0.0.1:11434" */
/* While the port is taken: who has it, as far as /proc tells: "ollama (pid 1880)"; NULL: not known. */
const char *gateway_owner(const struct gateway *g);

struct gateway_figures {
    uint64_t connections, requests, refused;    /* since the daemon started */
    unsigned open;                              /* connections now */
};
void gateway_figures(const struct gateway *g, struct gateway_figures *ret);
/* What applications have only looked at since the daemon started: "GET /api/tags", and how often. It wakes nothing. NULL beyond the
 * last. */
const char *gateway_look_at(const struct gateway *g, unsigned i, uint64_t *ret_count);
/* Of all clients of a model together. */
struct count;
void gateway_counts_of(const struct gateway *g, const char *model, struct count *ret);
struct keys;
struct keys *gateway_keys(struct gateway *g);
/* It listens beyond loopback: whoever has no key is refused. */
bool gateway_needs_key(const struct gateway *g);
