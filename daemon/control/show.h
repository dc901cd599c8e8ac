/* Objects as the contract shows them. From memory only: looking never wakes, never calls anybody. Caller frees. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "deployment/deployment.h"

struct control_context;
struct json;
struct lease;

struct json *show_daemon(const struct control_context *k);
struct json *show_model(const struct deployment *d);
struct json *show_instance(struct lease *l);
struct json *show_progress(const struct deployment *d, enum stage s);
/* What needs somebody: of all models and instances, of the gateway and the database. */
struct json *show_trouble(const struct control_context *k);

/* One line of trouble about target (NULL: the daemon) out of a fault. */
struct fault;
struct json *show_fault(const struct fault *f, const char *target, int64_t since_at_ms);

/* Model.state "failed" or "off": what `status T` calls not running. */
bool show_is_running(const struct deployment *d);
