/* A connection of an application: reads one request after the other, keeps what was sent early for later, and writes answers
 * no faster than they are taken. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

struct client;
struct deployment;
struct gateway;
struct list;
struct stream;

#define CLIENT_HEAD_MS   30000          /* from its first byte to its last; also from the connection to the first byte */
#define CLIENT_BODY_MS   60000          /* for each CLIENT_BODY_MIN of a body, or its end: one that trickles would never be over */
#define CLIENT_BODY_MIN  (16u << 10)
#define CLIENT_IDLE_MS   180000         /* between two requests */
#define CLIENT_LINGER_MS 5000           /* for the peer to close, after we have */
#define CLIENT_OUT_HIGH  (16u << 10)    /* above: stop reading from the engine */
#define CLIENT_OUT_LOW   (8u << 10)
#define CLIENT_EARLY_MAX (16u << 10)    /* of what follows a request that is being answered */

/* Takes s; adds itself to the gateway's list. NULL: no memory, the connection is closed. */
struct client *client_new(struct gateway *g, struct stream *s);
/* At once, with its request. Not from inside a call of the request. */
struct client *client_free(struct client *c);
struct client *client_of_node(struct list *node);
/* No request of it has a whole head: closing it costs nobody an answer. */
bool client_may_go(const struct client *c);

/* ---- for the manager's listener and the end of the gateway ---- */

/* d has changed, and is not the only one of its name. */
void client_look_elsewhere(struct client *c, const struct deployment *d);
/* d has changed, or (gone) ceases to be. */
void client_deployment_changed(struct client *c, struct deployment *d, bool gone);
/* Tells the application that it ends here, as far as that can be said without waiting. */
void client_cut(struct client *c);

/* ---- for the request ---- */

/* Queues bytes; what is taken at once leaves at once. */
void client_send(struct client *c, const void *data, size_t n);
bool client_is_full(const struct client *c);
/* The request speaks HTTP/1.0, or the connection ends after it: bodies of unknown length end with the connection. */
bool client_closes(const struct client *c);
bool client_is_old(const struct client *c);     /* HTTP/1.0 */
/* The answer is complete: the next request, or the end. */
void client_answered(struct client *c);
/* The answer is not whole, and the application must see that, but also all that was sent: the connection ends in order. */
void client_end(struct client *c);
/* The answer broke off: the application must see that. */
void client_abort(struct client *c);
