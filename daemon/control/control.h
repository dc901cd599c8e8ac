/* Door 1: people and scripts. The control socket speaks Varlink (proto/io.llmhost.varlink); the daemon end of every verb is here. */
#pragma once

#include <stdint.h>

struct control;
struct fault;
struct gateway;
struct http;
struct loop;
struct manager;
struct resolver;
struct secrets;
struct settings;
struct store;

/* Borrowed for the life of the door. */
struct control_context {
    struct loop *loop;
    struct manager *manager;
    struct gateway *gateway;
    struct store *store;
    struct secrets *secrets;
    struct http *http;
    struct resolver *resolver;
    const struct settings *settings;
    const char *config_path;        /* llmhostd.conf, which need not exist */
    const char *state_directory;
    const char *socket_path;
    unsigned socket_mode;           /* of the socket's file */
    int passed_fd;                  /* listens there already, from now on the door's; 0: none */
    const char *linger_file;        /* base/service.h; NULL: no logout ends us */
    uint64_t started_due;           /* clock_now_ms() when the daemon began */
};

/* Listens. 0 or -errno: *f names the socket and who has it. */
int control_new(const struct control_context *context, struct control **ret, struct fault *f);
/* Nobody new is let in, for good: who connects waits in the backlog, for our successor where the socket was passed. */
void control_close_door(struct control *c);
/* Calls in flight are cut. */
struct control *control_free(struct control *c);
