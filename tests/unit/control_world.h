/* A whole daemon but for main.c: control socket, manager, gateway, database, in a directory of its own, with
 * callers on the same loop. For test_control*.c. */
#pragma once

#include <arpa/inet.h>
#include <criterion/criterion.h>
#include <errno.h>
#include <netinet/in.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include "base/clock.h"
#include "base/event.h"
#include "base/fault.h"
#include "base/log.h"
#include "base/loop.h"
#include "base/resolve.h"
#include "base/settings.h"
#include "control/control.h"
#include "gateway/gateway.h"
#include "http/http.h"
#include "lease/lease.h"
#include "manager.h"
#include "proto/buf.h"
#include "proto/json.h"
#include "proto/varlink.h"
#include "store/secrets.h"
#include "store/store.h"
#include "tests/fixture/loop_fixture.h"

struct caller_end {
    int fd;
    struct buf in;
    bool ended;
};

static struct world {
    struct loop *loop;
    struct settings *settings;
    struct resolver *resolver;
    struct secrets *secrets;
    struct store *store;
    struct http *http;
    struct manager *manager;
    struct gateway *gateway;
    struct control *control;
    struct varlink_contract *contract;
    char directory[40], engines[60], socket[60], linger[60]; /* linger "": we are nobody's service */
    struct event_listener events;
    struct caller_end caller; /* the usual one */
} w;

static void world_on_event(void *ctx, const struct event *e)
{
    (void)ctx;
    store_put_event(w.store, e);
}

/* A port of 127.0.0.1 that was free a moment ago. */
static uint16_t free_port(void)
{
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t n = sizeof at;
    _cleanup_close_ int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    cr_assert_eq(bind(fd, (struct sockaddr *)&at, n), 0);
    cr_assert_eq(getsockname(fd, (struct sockaddr *)&at, &n), 0);
    return ntohs(at.sin_port);
}

static void daemon_begins(void)
{
    struct fault f = {};

    cr_assert_eq(store_open(w.loop, w.directory, &w.store, &f), 0, "%s", f.text);
    w.http = http_new(w.loop);
    w.resolver = resolver_new(w.loop);
    const struct manager_context mc = {w.loop,     w.store,   w.secrets, w.http, w.resolver,
                                       w.settings, w.engines, w.engines, NULL, false};

    cr_assert_eq(manager_new(&mc, &w.manager, &f), 0, "%s", f.text);
    cr_assert_eq(gateway_new(w.loop, w.manager, w.store, w.settings, 0, &w.gateway, &f), 0, "%s", f.text);
    const struct control_context cc = {.loop = w.loop,
                                       .manager = w.manager,
                                       .gateway = w.gateway,
                                       .store = w.store,
                                       .secrets = w.secrets,
                                       .http = w.http,
                                       .resolver = w.resolver,
                                       .settings = w.settings,
                                       .state_directory = w.directory,
                                       .socket_path = w.socket,
                                       .socket_mode = 0600,
                                       .linger_file = *w.linger ? w.linger : NULL,
                                       .started_due = clock_now_ms()};

    cr_assert_eq(control_new(&cc, &w.control, &f), 0, "%s", f.text);
    w.events = (struct event_listener){.heard = world_on_event};
    event_listen(&w.events);
}

static void daemon_ends(void)
{
    w.control = control_free(w.control);
    w.gateway = gateway_free(w.gateway);
    w.manager = manager_free(w.manager);
    w.http = http_free(w.http);
    w.resolver = resolver_free(w.resolver);
    event_unlisten(&w.events);
    w.store = store_close(w.store);
}

/* ---- callers ---- */

static void caller_comes(struct caller_end *c)
{
    struct sockaddr_un at = {.sun_family = AF_UNIX};

    snprintf(at.sun_path, sizeof at.sun_path, "%s", w.socket);
    c->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    c->ended = false;
    buf_init(&c->in, 16 << 20);
    cr_assert_eq(connect(c->fd, (struct sockaddr *)&at, sizeof at), 0, "%s", strerror(errno));
}

static void caller_leaves(struct caller_end *c)
{
    if (c->fd >= 0)
        close(c->fd);
    c->fd = -1;
    buf_done(&c->in);
}

static void say_bytes(struct caller_end *c, const char *bytes, size_t n)
{
    while (n) {
        ssize_t sent = send(c->fd, bytes, n, MSG_NOSIGNAL);

        if (sent < 0 && errno == EAGAIN) {
            loop_turns(w.loop, 3);
            continue;
        }
        if (sent < 0)
            return; /* it has hung up: what it said before is looked at */
        bytes += sent;
        n -= (size_t)sent;
    }
}

static void say(struct caller_end *c, const char *message)
{
    say_bytes(c, message, strlen(message) + 1);
}

static bool has_message(struct caller_end *c)
{
    char *room;

    for (;;) {
        cr_assert_eq(buf_reserve(&c->in, 65536, &room), 0);
        ssize_t n = recv(c->fd, room, 65536, 0);

        if (n <= 0) {
            c->ended = c->ended || n == 0 || errno == ECONNRESET;
            break;
        }
        buf_grew(&c->in, (size_t)n);
    }
    return c->in.len && memchr(c->in.data, '\0', c->in.len);
}

/* The next message; NULL: the connection has ended. */
static struct json *hear(struct caller_end *c)
{
    struct json *v = NULL;

    cr_assert(LOOP_UNTIL(w.loop, has_message(c) || c->ended), "nothing is said");
    if (!has_message(c))
        return NULL;
    size_t n = strlen(c->in.data);

    cr_assert_eq(json_parse(c->in.data, n, &v), 0, "%.200s", c->in.data);
    buf_drop(&c->in, n + 1);
    return v;
}

static __attribute__((unused)) bool is_silent(struct caller_end *c)
{
    loop_turns(w.loop, 30);
    return !has_message(c) && !c->ended;
}

static struct json *ask(const char *message)
{
    say(&w.caller, message);
    struct json *v = hear(&w.caller);

    cr_assert_not_null(v, "hung up after %.100s", message);
    return v;
}

/* The call is answered with an error: its name, and the member key of its parameters. */
static __attribute__((unused)) void refuses(const char *message, const char *error, const char *key,
                                            const char *value)
{
    _cleanup_json_ struct json *v = ask(message);
    const char *is = json_get_text(v, "error"), *text = json_get_text(json_get(v, "parameters"), key);

    cr_assert_not_null(is, "%.200s is answered without an error", message);
    cr_assert_str_eq(is, error, "%.200s: %s", message, is);
    cr_assert_str_eq(text ? text : "(none)", value, "%.200s", message);
}

/* The call is answered; what it says fits the contract. Caller frees. */
static __attribute__((unused)) struct json *answers(const char *method, const char *parameters)
{
    _cleanup_free_ char *message =
        xasprintf("{\"method\":\"io.llmhost.%s\",\"parameters\":%s}", method, parameters);
    _cleanup_json_ struct json *v = ask(message);
    _cleanup_free_ char *where = NULL;
    struct buf text;

    buf_init(&text, 1 << 20);
    json_write(v, &text);
    cr_assert_null(json_get_text(v, "error"), "%s: %s", method, buf_text(&text));
    buf_done(&text);
    cr_assert_eq(varlink_check_reply(w.contract, method, json_get(v, "parameters"), &where), 0, "%s: %s",
                 method, where);
    return json_take(v, "parameters");
}

/* ---- beginning and end ---- */

static void world_begin(void)
{
    _cleanup_free_ char *conf = NULL, *why = NULL;

    memset(&w, 0, sizeof w);
    strcpy(w.directory, "/tmp/test_control.XXXXXX");
    cr_assert_not_null(mkdtemp(w.directory));
    snprintf(w.engines, sizeof w.engines, "%s/engines", w.directory);
    snprintf(w.socket, sizeof w.socket, "%s/control", w.directory);
    cr_assert_eq(mkdir(w.engines, 0700), 0);
    setenv("HOME", w.directory, 1);
    conf =
        xasprintf("[gateway]\nlisten = 127.0.0.1:%u\n[engine.ollama]\npath = /nowhere/ollama\n", free_port());
    cr_assert_eq(settings_parse(conf, "test", &w.settings, &why), 0, "%s", why);
    cr_assert_eq(varlink_contract_parse(varlink_io_llmhost, &w.contract, &why), 0, "%s", why);
    log_open(LOG_LEVEL_ERR);
    w.loop = loop_new();
    cr_assert_eq(secrets_open(w.directory, &w.secrets), 0);
    daemon_begins();
    caller_comes(&w.caller);
}

static void world_end(void)
{
    _cleanup_free_ char *command = xasprintf("rm -rf %s", w.directory);

    caller_leaves(&w.caller);
    daemon_ends();
    secrets_free(w.secrets);
    loop_free_dry(w.loop);
    settings_free(w.settings);
    varlink_contract_free(w.contract);
    log_close();
    cr_assert_eq(system(command), 0);
}
