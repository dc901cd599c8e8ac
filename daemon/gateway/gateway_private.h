/* What the files of the gateway share: gateway.c owns it, client.c and request.c work with it. */
#pragma once

#include "base/list.h"
#include "gateway/body.h"
#include "gateway/gateway.h"
#include "gateway/route.h"
#include "manager.h"
#include "proto/address.h"

struct client;
struct counts;
struct keys;
struct deployment;
struct listener;
struct pool;
struct stream;
struct timer;

#define GATEWAY_CLIENTS_MAX  2048
#define GATEWAY_RETRY_MS     10000      /* while the port is taken */
#define GATEWAY_RETRY_AFTER  30         /* seconds, in every 503 */

struct gateway {
    struct loop *loop;
    struct manager *manager;
    struct manager_listener changes;
    char ip[IP_TEXT_MAX], endpoint[80];
    uint16_t port;
    struct listener *listener;          /* NULL: the port is taken */
    struct timer *retry;
    char *owner;
    bool is_taken, is_passed;
    uint64_t hold_ms;
    bool heartbeat;
    int64_t started_at_ms;
    char *hosts, *origins;
    struct route_access access;
    struct body_budget budget;
    struct list clients;                /* the longest without an answer first */
    unsigned clients_max;
    bool is_full;                       /* the listener is paused */
    bool is_closing;                    /* for good */
    struct list pools;
    unsigned next_id;                   /* of requests, for the log */
    uint64_t next_turn;                 /* of those that wait for an engine */
    struct gateway_figures figures;
    struct counts *counts;
    struct keys *keys;
    uint64_t looks[ROUTE_SHOW + 1];     /* by enum route_kind */
};

/* gateway.c */
struct pool *gateway_pool(struct gateway *g, struct deployment *d);
void gateway_client_gone(struct gateway *g);
