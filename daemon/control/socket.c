/* Connections are small state machines: bytes gather in a bounded buffer, the next call begins when the one
 * before is over, replies wait in a bounded buffer for a reader who is slow. A caller who leaves takes his
 * call along; one who only has nothing more to say is answered to the end. */
#include "control/socket.h"

#include <errno.h>
#include <sys/socket.h>

#include "base/fault.h"
#include "base/list.h"
#include "base/log.h"
#include "base/op.h"
#include "base/runq.h"
#include "base/stream.h"
#include "base/timer.h"
#include "control/call.h"
#include "control/explain.h"
#include "control/guards.h"
#include "control/methods.h"
#include "proto/arguments.h"
#include "proto/buf.h"
#include "proto/json.h"
#include "proto/varlink.h"

#define CONNECTIONS_MAX   2048
#define BACKLOG_BYTES_MAX (1u << 20)
#define ERROR_BYTES_MAX   (64u << 10) /* room kept for the error that ends a call */
#define LOGGED_BYTES_MAX  4096
/* A connection that ends itself gives its reader this long to take what waits. */
#define LINGER_MS 10000
/* A flood of calls takes turns with everybody else. */
#define CALLS_PER_TURN 4

struct control {
    struct control_context context;
    struct listener *listener;
    struct guards *guards;
    struct varlink_contract *contract, *service;
    struct list connections;
    unsigned n_connections;
};

struct connection {
    struct list node;
    struct control *control;
    struct stream *stream;
    struct caller caller;
    struct buf in, out;
    struct call call; /* valid while busy */
    struct varlink_call message;
    bool busy;
    bool said_all; /* he closed his side: answered, and then it ends */
    bool ended;    /* nothing more is read; goes when out is empty */
    struct work advance;
    struct timer *timer; /* ended: the reader's time is over. Else: it is our turn again */
};

/* ---- end ---- */

static void connection_drop_call(struct connection *c)
{
    if (!c->busy)
        return;
    c->busy = false;
    op_cancel(&c->call.op);
    if (c->call.drop)
        c->call.drop(&c->call);
    json_free(c->call.answer);
    json_free(c->call.real);
    varlink_call_done(&c->message);
}

static void connection_free(struct connection *c)
{
    connection_drop_call(c);
    runq_drop(&c->advance);
    timer_free(c->timer);
    stream_free(c->stream, false);
    buf_wipe(&c->in); /* calls may carry secrets */
    buf_wipe(&c->out);
    list_remove(&c->node);
    c->control->n_connections--;
    free(c);
}

static void connection_end(struct connection *c)
{
    if (c->ended)
        return;
    c->ended = true;
    timer_arm(c->timer, LINGER_MS);
}

/* ---- out ---- */

static void connection_want(struct connection *c)
{
    stream_want(c->stream, (c->ended || c->said_all ? 0 : STREAM_IN) | (c->out.len ? STREAM_OUT : 0));
}

/* Returns false when the connection is gone. */
static bool connection_flush(struct connection *c)
{
    while (c->out.len) {
        ssize_t n = stream_write(c->stream, c->out.data, c->out.len);

        if (n == -EAGAIN)
            break;
        if (n < 0) {
            connection_free(c);
            return false;
        }
        buf_drop(&c->out, (size_t)n);
    }
    if (!c->out.len && c->ended) {
        connection_free(c);
        return false;
    }
    connection_want(c);
    return true;
}

/* The last reply to a call always finds room: a call begins only below the limit of the backlog. */
int connection_send(struct connection *c, const struct json *parameters, bool continues)
{
    size_t before = c->out.len;
    int r = varlink_reply_write(&c->out, parameters, continues);

    if (r == 0 && continues && c->out.len > BACKLOG_BYTES_MAX && before) {
        c->out.len = before;
        r = -ENOBUFS;
    }
    runq_add(c->control->context.loop, &c->advance);
    return r;
}

void connection_send_error(struct connection *c, const char *error, const struct json *parameters)
{
    if (varlink_error_write(&c->out, error, parameters) < 0)
        connection_end(c);
    runq_add(c->control->context.loop, &c->advance);
}

void connection_send_service_error(struct connection *c, const char *error, const char *key,
                                   const char *value)
{
    _cleanup_json_ struct json *p = json_object();

    if (key)
        json_put_string(p, key, value);
    connection_send_error(c, error, p);
}

bool call_any_other(const struct call *c, bool (*is)(const struct call *other, const struct call *c))
{
    LIST_FOREACH (other, &c->control->connections, struct connection, node)
        if (other->busy && &other->call != c && is(&other->call, c))
            return true;
    return false;
}

void connection_call_over(struct connection *c)
{
    runq_add(c->control->context.loop, &c->advance);
}

const struct varlink_contract *connection_contract(const struct connection *c)
{
    return c->control->contract;
}

/* ---- the service interface ---- */

/* What cannot be said must not be waited for. */
static void service_answer(struct connection *c, const struct json *parameters)
{
    if (connection_send(c, parameters, false) < 0)
        connection_end(c);
}

static void service_info(struct connection *c)
{
    _cleanup_json_ struct json *p = json_object();
    struct json *interfaces = json_array();

    json_put_string(p, "vendor", "llmhost");
    json_put_string(p, "product", "llmhostd");
    json_put_string(p, "version", LLMHOST_VERSION);
    json_put_string(p, "url", "");
    json_append_string(interfaces, "org.varlink.service");
    json_append_string(interfaces, "io.llmhost");
    json_put(p, "interfaces", interfaces);
    service_answer(c, p);
}

static void service_description(struct connection *c, const struct json *parameters)
{
    const char *interface = json_get_text(parameters, "interface");
    const struct varlink_contract *const ours[] = {c->control->contract, c->control->service};

    for (size_t i = 0; i < ELEMENTS(ours); i++)
        if (interface && streq(interface, varlink_contract_name(ours[i]))) {
            _cleanup_json_ struct json *p = json_object();

            json_put_string(p, "description", varlink_contract_text(ours[i]));
            service_answer(c, p);
            return;
        }
    connection_send_service_error(c, "org.varlink.service.InterfaceNotFound", "interface",
                                  interface ? interface : "");
}

static void service_call(struct connection *c, const struct varlink_call *m)
{
    _cleanup_free_ char *where = NULL;
    const char *name = strrchr(m->method, '.') + 1;

    if (m->oneway)
        return; /* these only tell, and nobody listens */
    int r = varlink_check_call(c->control->service, m->method, m->parameters, &where);

    if (r == -ENOENT)
        connection_send_service_error(c, "org.varlink.service.MethodNotFound", "method", m->method);
    else if (r < 0)
        connection_send_service_error(c, "org.varlink.service.InvalidParameter", "parameter",
                                      where ? where : "");
    else if (streq(name, "GetInfo"))
        service_info(c);
    else
        service_description(c, m->parameters);
}

static void interface_not_found(struct connection *c, struct varlink_call *m)
{
    char *dot = strrchr(m->method, '.');

    *(dot ? dot : m->method) = '\0';
    if (!m->oneway)
        connection_send_service_error(c, "org.varlink.service.InterfaceNotFound", "interface", m->method);
}

/* ---- in ---- */

static bool in_interface(const char *method, const char *interface)
{
    size_t n = strlen(interface);

    return strncmp(method, interface, n) == 0 && method[n] == '.' && !strchr(method + n + 1, '.');
}

/* What was asked, without its secrets: a pasted command may hold a proxy command, and that a password; and what
 * is typed for an engine a key. */
static void connection_log_call(const struct connection *c)
{
    _cleanup_json_ struct json *shown = NULL;
    struct buf text;

    if (!log_wants(LOG_LEVEL_DEBUG))
        return;
    buf_init(&text, LOGGED_BYTES_MAX);
    shown = varlink_hide_secrets(c->control->contract, c->message.method, c->message.parameters);
    if (json_get(shown, "command"))
        json_put_string(shown, "command", "<command>");
    if (json_type(json_get(shown, "arguments")) == JSON_ARRAY)
        json_put(shown, "arguments", arguments_show(json_get(shown, "arguments")));
    log_debug(NULL, "pid %d asks %s %s", (int)c->caller.pid, c->message.method,
              shown && json_write(shown, &text) == 0 ? buf_text(&text) : "");
    buf_done(&text);
}

static void connection_begin_call(struct connection *c)
{
    struct control *k = c->control;
    const char *name = strrchr(c->message.method, '.');
    _cleanup_free_ char *where = NULL;

    c->busy = true;
    c->call = (struct call){
        .context = &k->context,
        .control = k,
        .method = name ? name + 1 : c->message.method,
        .parameters = c->message.parameters,
        .more = c->message.more,
        .oneway = c->message.oneway,
        .caller = c->caller,
        .connection = c,
    };
    int r = name && method_exists(name + 1)
                ? varlink_check_call(k->contract, c->message.method, c->message.parameters, &where)
                : -ENOENT;

    if (r == -ENOENT)
        call_method_not_found(&c->call, c->message.method);
    else if (r < 0)
        call_invalid_parameter(&c->call, where ? where : "");
    else {
        connection_log_call(c);
        method_run(&c->call);
    }
}

/* One whole message, if there is one. Returns false when there is none, or the connection ends. */
static bool connection_next(struct connection *c)
{
    const char *text;
    size_t n;
    int r = varlink_frame(&c->in, &text, &n);

    if (r == 0)
        return false;
    if (r > 0)
        r = varlink_call_parse(text, n, &c->message);
    if (r < 0) {
        /* There is no way to know where the next message begins, or what was meant. */
        log_info(NULL, "control connection of pid %d closed: it does not speak Varlink (%s)",
                 (int)c->caller.pid, strerror(-r));
        connection_end(c);
        return false;
    }
    wipe((char *)text, n); /* a call may carry a secret */
    buf_drop(&c->in, n + 1);
    if (in_interface(c->message.method, "org.varlink.service")) {
        service_call(c, &c->message);
        varlink_call_done(&c->message);
    } else if (in_interface(c->message.method, "io.llmhost")) {
        connection_begin_call(c);
    } else {
        interface_not_found(c, &c->message);
        varlink_call_done(&c->message);
    }
    return true;
}

/* From the run queue: a call that is over goes, the next begins, replies leave. */
static void connection_advance(void *ctx)
{
    struct connection *c = ctx;
    unsigned n = 0;

    for (;;) {
        if (c->busy && c->call.over)
            connection_drop_call(c);
        if (c->busy || c->ended || c->out.len > BACKLOG_BYTES_MAX || n == CALLS_PER_TURN ||
            !connection_next(c))
            break;
        n++;
    }
    if (n == CALLS_PER_TURN && !c->ended) {
        runq_drop(&c->advance); /* work queued by work runs in the same turn; a timer does not */
        timer_arm(c->timer, 0);
    } else if (c->said_all && !c->busy && c->out.len <= BACKLOG_BYTES_MAX) {
        connection_end(c);
    }
    connection_flush(c);
}

static void connection_on_timer(void *ctx)
{
    struct connection *c = ctx;

    if (c->ended)
        connection_free(c);
    else
        connection_advance(c);
}

static void connection_on_ready(void *ctx, unsigned what)
{
    struct connection *c = ctx;

    if (what & STREAM_OUT) {
        if (!connection_flush(c))
            return;
        runq_add(c->control->context.loop, &c->advance); /* there may be room for the next call */
    }
    if (!(what & STREAM_IN))
        return;
    char *room;
    int r = buf_reserve(&c->in, 16384, &room);

    /* A caller who sends on while his call runs is buffered up to one message, then left unread. */
    if (r == -ENOBUFS) {
        stream_want(c->stream, c->out.len ? STREAM_OUT : 0);
        return;
    }
    ssize_t n = r < 0 ? r : stream_read(c->stream, room, 16384);

    if (n == -EAGAIN)
        return;
    if (n < 0 || (n == 0 && stream_peer_left(c->stream))) {
        connection_free(c);
        return;
    }
    c->said_all = n == 0;
    buf_grew(&c->in, (size_t)n);
    runq_add(c->control->context.loop, &c->advance);
}

static void control_on_stream(void *ctx, struct stream *s)
{
    struct control *k = ctx;
    struct ucred peer = {};
    socklen_t n = sizeof peer;

    if (k->n_connections >= CONNECTIONS_MAX ||
        getsockopt(stream_fd(s), SOL_SOCKET, SO_PEERCRED, &peer, &n) < 0) {
        log_warning(NULL, "control connection refused: %s",
                    k->n_connections >= CONNECTIONS_MAX ? "too many" : strerror(errno));
        stream_free(s, true);
        return;
    }
    struct connection *c = xnew(struct connection);

    c->control = k;
    c->stream = s;
    c->caller = (struct caller){.pid = peer.pid, .uid = peer.uid};
    buf_init(&c->in, VARLINK_MESSAGE_BYTES_MAX + 32768);
    buf_init(&c->out, 2 * BACKLOG_BYTES_MAX + ERROR_BYTES_MAX);
    work_init(&c->advance, connection_advance, c);
    c->timer = timer_new(k->context.loop, connection_on_timer, c);
    list_init(&c->node);
    list_append(&k->connections, &c->node);
    k->n_connections++;
    stream_watch(s, connection_on_ready, c);
    stream_want(s, STREAM_IN);
}

/* ---- the door ---- */

static int control_listen(struct control *k, struct fault *f)
{
    const struct control_context *c = &k->context;
    int domain = AF_UNIX, r;

    if (!c->passed_fd) {
        r = listener_new_unix(c->loop, c->socket_path, c->socket_mode, control_on_stream, k, &k->listener);
    } else if (getsockopt(c->passed_fd, SOL_SOCKET, SO_DOMAIN, &domain, &(socklen_t){sizeof domain}) == 0 &&
               domain != AF_UNIX) {
        return fault_set(f, FAULT_INVALID, -EINVAL,
                         "the control socket that was passed is no Unix socket, which alone tells who calls");
    } else {
        r = listener_new_fd(c->loop, c->passed_fd, control_on_stream, k, &k->listener);
    }
    if (r == 0)
        return 0;
    return fault_set(f, FAULT_INVALID, r, "cannot listen on %s: %s", c->socket_path,
                     r == -EADDRINUSE ? "another llmhostd does" : strerror(-r));
}

int control_new(const struct control_context *context, struct control **ret, struct fault *f)
{
    explain_store_is_in(context->state_directory);
    struct control *k = xnew(struct control);
    _cleanup_free_ char *why = NULL;

    k->context = *context;
    list_init(&k->connections);
    if (varlink_contract_parse(varlink_io_llmhost, &k->contract, &why) < 0 ||
        varlink_contract_parse(varlink_org_varlink_service, &k->service, &why) < 0) {
        control_free(k);
        return fault_set(f, FAULT_INVALID, -EBADMSG, "bug: the contract cannot be read: %s", why ? why : "");
    }
    int r = control_listen(k, f);

    if (r < 0) {
        control_free(k);
        return r;
    }
    k->guards = guards_new(&k->context);
    *ret = k;
    return 0;
}

void control_close_door(struct control *k)
{
    listener_pause(k->listener, true);
}

struct control *control_free(struct control *k)
{
    if (!k)
        return NULL;
    listener_free(k->listener);
    guards_free(k->guards);
    while (!list_is_empty(&k->connections))
        connection_free(LIST_FIRST(&k->connections, struct connection, node));
    varlink_contract_free(k->contract);
    varlink_contract_free(k->service);
    free(k);
    return NULL;
}
