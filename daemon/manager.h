/* Owns every object: instances with their sessions, deployments, forwards. Restores them at start, changes them by verbs, tells
 * others of each change, ends everything in order. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/fault.h"
#include "base/op.h"
#include "deployment/deployment.h"

struct http;
struct lease;
struct loop;
struct manager;
struct resolver;
struct secrets;
struct settings;
struct store;

/* ---- looking ---- */

/* By the name applications use: the id ("deepseek-r1:7b"), the id without ":latest", or the whole name
 * ("ollama:deepseek-r1:7b"). Of several with one id: one that is ready, else one that is wanted, else any. NULL: none. */
struct deployment *manager_find_id(struct manager *m, const char *id);
/* In order of their names; NULL beyond the last. */
struct deployment *manager_deployment_at(struct manager *m, unsigned i);

/* Told after each change of a deployment or an instance, from the run queue. gone: it is about to be freed. */
struct manager_listener {
    void (*deployment)(void *ctx, struct deployment *d, bool gone);     /* may be NULL */
    void (*lease)(void *ctx, struct lease *l, bool gone);               /* may be NULL */
    void *ctx;
    struct manager_listener *next;
};
void manager_listen(struct manager *m, struct manager_listener *l);
void manager_unlisten(struct manager *m, struct manager_listener *l);
