/* A model wanted on an instance. A life (deployment_fsm.c): it places, connects, starts, fetches and loads while wanted, holds
 * requests meanwhile, and drains, unloads and stops when not. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/fault.h"
#include "base/op.h"
#include "session/host.h"

struct deployment;
struct engine_facts;
struct engine_ops;
struct json;

/* What people want. `down` sets off, `up` sets on_demand. */
enum deployment_goal { GOAL_OFF, GOAL_ON_DEMAND };

enum deployment_state {
    DEPLOYMENT_OFF,             /* not wanted, and nothing of it runs as far as we know */
    DEPLOYMENT_CONNECTING,      /* waits for the way to the machine */
    DEPLOYMENT_INSTALLING,      /* finds the engine */
    DEPLOYMENT_STARTING,        /* its server */
    DEPLOYMENT_FETCHING,        /* the model onto the machine: both engines do it through their server, so after starting */
    DEPLOYMENT_LOADING,
    DEPLOYMENT_READY,
    DEPLOYMENT_DRAINING,        /* finishes open requests, takes no new ones */
    DEPLOYMENT_STOPPING,        /* unloads, stops the server; shown as draining */
    DEPLOYMENT_FAILED,          /* stays until `up` or `down` */
};

const char *deployment_state_name(enum deployment_state s);         /* Model.state of the contract */

/* ---- what the gateway needs (daemon/gateway) ---- */

const char *deployment_name(const struct deployment *d);            /* "ollama:deepseek-r1:7b" */
const char *deployment_id(const struct deployment *d);              /* "deepseek-r1:7b": what applications and the engine call it */
const struct engine_ops *deployment_engine(const struct deployment *d);
enum deployment_state deployment_state(const struct deployment *d);
enum deployment_goal deployment_goal(const struct deployment *d);

/* Done when requests can be sent (NULL), or when they cannot: FAULT_GONE "stopped_by_user" (off or draining; the text has the
 * command that brings it back), or the fault it failed with. Never waits for ever by itself in those states; while it is waking
 * or the tunnel is down it waits until the caller cancels. */
void deployment_hold(struct deployment *d, struct op **slot, op_done_fn done, void *ctx);
/* A fresh connection to the engine's port; waits while the tunnel is down. done() takes the stream. */
void deployment_dial(struct deployment *d, struct op **slot, host_dial_fn done, void *ctx);
/* Changes whenever the server behind it is another one than before: connections of an older number are of no use. */
unsigned deployment_server_number(const struct deployment *d);

/* A request has arrived (it counts, also while it is held) and has ended. Draining waits for the last one. */
void deployment_request_begin(struct deployment *d);
void deployment_request_end(struct deployment *d);
/* It is held (+1), or no longer (-1): shown in status. */
void deployment_request_held(struct deployment *d, int change);
/* A request waits for bytes of the engine (+1), or no longer does (-1). */
void deployment_waiting(struct deployment *d, int change);
/* A request got no answer although the connection stood or was refused: look whether the engine lives. */
void deployment_doubt(struct deployment *d);
/* True once `down --now` cuts: open requests end now, with an error event where they have begun. Announced by the manager's
 * listener (manager.h). */
bool deployment_is_cut(const struct deployment *d);

/* The engine's own description (engine.h, struct engine_facts.shown), also while it is off; NULL before the first load. */
const struct json *deployment_shown(const struct deployment *d);
const struct engine_facts *deployment_facts(const struct deployment *d);
