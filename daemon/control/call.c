/* Replies and errors, each held against the contract before it leaves. A call is over with its last one: what comes
 * after that is dropped here, so that nobody who fails has to ask whether somebody else did. */
#include "control/call.h"

#include "base/fault.h"
#include "base/log.h"
#include "control/explain.h"
#include "control/socket.h"
#include "proto/buf.h"
#include "proto/json.h"
#include "proto/mem.h"
#include "proto/varlink.h"

/* What a method waits for may come in the turn in which its call was answered: on the wire only the first
 * last reply counts, a second one would be taken for the answer to the next call. */
static void call_over(struct call *c)
{
    c->over = true;
    connection_call_over(c->connection);
}

/* A reply that breaks our own contract is a bug of ours: it is said, and does not leave. */
static bool call_check(struct call *c, const struct json *parameters)
{
    _cleanup_free_ char *where = NULL;

    if (varlink_check_reply(connection_contract(c->connection), c->method, parameters, &where) == 0)
        return true;
    log_err(NULL, "bug: the reply to %s breaks the contract at %s", c->method, where ? where : "?");
    return false;
}

bool call_reply_more(struct call *c, struct json *parameters)
{
    _cleanup_json_ struct json *p = parameters;

    if (c->over || !call_check(c, p))
        return !c->over;
    if (connection_send(c->connection, p, true) == 0)
        return true;
    call_fail(c, EXIT_FAILED, "slow_reader", NULL, NULL, "",
              "the reader of %s is too slow: 1 MiB of replies waits", c->method);
    return false;
}

void call_reply(struct call *c, struct json *parameters)
{
    _cleanup_json_ struct json *p = parameters;

    if (c->over)
        return;
    if (!call_check(c, p)) {
        call_fail(c, EXIT_FAILED, "bug", NULL, NULL, "", "the answer to %s cannot be told", c->method);
        return;
    }
    if (!c->oneway && connection_send(c->connection, p, false) < 0) {
        call_fail(c, EXIT_FAILED, "too_large", NULL, NULL, "", "the answer to %s is larger than 1 MiB",
                  c->method);
        return;
    }
    call_over(c);
}

void call_fail(struct call *c, enum exit_status status, const char *code, const char *target, const char *why,
               const char *next, const char *format, ...)
{
    _cleanup_json_ struct json *p = json_object();
    _cleanup_free_ char *message = NULL;
    va_list args;

    if (c->over)
        return;
    va_start(args, format);
    message = xvasprintf(format, args);
    va_end(args);
    json_put_string(p, "code", code);
    json_put_string(p, "message", message);
    if (why && *why)
        json_put_string(p, "why", why);
    json_put(p, "next", explain_lines(next));
    json_put_string(p, "target", target);
    log_debug(target, "%s of pid %d: %s (%s)", c->method, (int)c->caller.pid, message, code);
    if (!c->oneway)
        connection_send_error(c->connection, error_name(status), p);
    call_over(c);
}

void call_fault(struct call *c, const struct fault *f, const char *target, const char *what)
{
    struct buf next;

    buf_init(&next, 4096);
    explain_next(f, target, &next);
    if (what)
        call_fail(c, explain_status(f), explain_code(f), target, f->text, buf_text(&next), "%s", what);
    else
        call_fail(c, explain_status(f), explain_code(f), target, NULL, buf_text(&next), "%s", f->text);
    buf_done(&next);
}

void call_not_kept(struct call *c, const struct fault *f, const char *what)
{
    struct buf next;

    buf_init(&next, 4096);
    explain_next(f, c->context->state_directory, &next);
    call_fail(c, explain_status(f), explain_code(f), NULL, f->text, buf_text(&next), "%s", what);
    buf_done(&next);
}

static void call_on_durable(void *ctx, const struct fault *f)
{
    struct call *c = ctx;

    if (f)
        call_not_kept(c, f, c->not_durable);
    else
        call_reply(c, TAKE_PTR(c->answer));
}

void call_reply_after(struct call *c, store_ticket t, struct json *parameters, const char *not_durable)
{
    c->answer = parameters;
    c->not_durable = not_durable;
    store_after(c->context->store, t, &c->op, call_on_durable, c);
}

static void call_on_ready(void *ctx, const struct fault *f)
{
    struct call *c = ctx;

    if (f)
        call_not_kept(c, f, "nothing was done: it could not be kept");
    else
        c->then(c);
}

void call_if_kept(struct call *c, void (*then)(struct call *c))
{
    const struct fault *stuck;

    c->then = then;
    if (store_stuck_ms(c->context->store, &stuck))
        store_ready(c->context->store, &c->op, call_on_ready, c);
    else
        then(c);
}

static void call_service_error(struct call *c, const char *error, const char *key, const char *value)
{
    if (c->over)
        return;
    if (!c->oneway)
        connection_send_service_error(c->connection, error, key, value);
    call_over(c);
}

void call_invalid_parameter(struct call *c, const char *parameter)
{
    call_service_error(c, "org.varlink.service.InvalidParameter", "parameter", parameter);
}

void call_method_not_found(struct call *c, const char *method)
{
    call_service_error(c, "org.varlink.service.MethodNotFound", "method", method);
}

void call_expected_more(struct call *c)
{
    call_service_error(c, "org.varlink.service.ExpectedMore", NULL, NULL);
}

void call_log_change(const struct call *c, const char *target, const char *format, ...)
{
    _cleanup_free_ char *text = NULL;
    va_list args;

    va_start(args, format);
    text = xvasprintf(format, args);
    va_end(args);
    log_notice(target, "%s, by uid %u (pid %d)", text, (unsigned)c->caller.uid,
               (int)c->caller.pid);
}
