/* The listener and its connections: frames in, frames out, one call at a time on each connection, in order. */
#pragma once

#include <stdbool.h>

struct connection;
struct json;
struct varlink_contract;

/* For call.c. 0, or -ENOBUFS when 1 MiB of replies waits already: then nothing was added. */
int connection_send(struct connection *c, const struct json *parameters, bool continues);
/* Always finds room. */
void connection_send_error(struct connection *c, const char *error, const struct json *parameters);
/* An error of org.varlink.service with its one parameter; key NULL: none. */
void connection_send_service_error(struct connection *c, const char *error, const char *key, const char *value);
/* The last reply was given: the next call of the connection may begin. */
void connection_call_over(struct connection *c);
const struct varlink_contract *connection_contract(const struct connection *c);
