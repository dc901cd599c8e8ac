/* The steps: READING its head and body; HELD until the deployment can be asked; DIALING a connection (or
 * taking a warm one); PAUSING before another try; SENT, while the engine answers; CURING, while an engine
 * that is stuck unloads its model; LOST, when the engine ended the connection, until it is known why; OVER.
 *
 * Whether a request may be sent again is the one question with money and work behind it. It may while no byte
 * of it has been written anywhere, also to another instance (request_move.c). It may once more when the
 * connection was an old one that its engine was closing at that very moment: then nothing was read. In every
 * other case the application is told that it was not repeated. And it may once more when an ollama is stuck, as
 * one can be after an application left in the middle of an answer: then nobody worked on it.
 *
 * request_on_timer() is the only place that acts while a request waits; what it sends to keep an application
 * patient is in request_beat.c. */
#include <errno.h>
#include <stdarg.h>
#include <string.h>

#include "base/clock.h"
#include "base/timer.h"
#include "engine/engine.h"
#include "gateway/body.h"
#include "gateway/client.h"
#include "gateway/gateway_private.h"
#include "gateway/http1.h"
#include "gateway/pool.h"
#include "gateway/relay.h"
#include "gateway/request_private.h"
#include "gateway/upstream.h"
#include "proto/buf.h"
#include "proto/json.h"
#include "proto/text.h"

#define AGAIN_MS  500  /* between two tries to connect */
#define REASON_MS 2000 /* for the reason why an engine ended; then it is told without one */
#define STALE_MS  2000 /* an engine that closes an idle connection is heard of within this */

/* ---- its end ---- */

void request_set_held(struct request *r, bool held)
{
    if (r->held != held)
        deployment_request_held(r->deployment, &r->use, held);
    r->held = held;
}

void request_set_waiting(struct request *r, bool waiting)
{
    if (r->waiting != waiting)
        deployment_waiting(r->deployment, waiting ? 1 : -1);
    r->waiting = waiting;
}

/* Lets go of everything but the memory; counts and logs. */
static void request_finish(struct request *r, const char *how)
{
    if (r->step == REQUEST_OVER)
        return;
    r->step = REQUEST_OVER;
    op_cancel(&r->op);
    r->timer = timer_free(r->timer);
    request_tell_abandoned(r);
    r->upstream = upstream_free(r->upstream, true);
    r->scan = json_scan_free(r->scan);
    r->body = body_free(r->body);
    buf_done(&r->late);
    request_tally(r, how);
    if (!r->deployment)
        return;
    request_set_held(r, false);
    request_set_waiting(r, false);
    deployment_request_end(r->deployment, &r->use);
    r->deployment = NULL;
}

struct request *request_free(struct request *r)
{
    if (!r)
        return NULL;
    request_finish(r, "left");
    free(r);
    return NULL;
}

/* ---- answers of our own ---- */

void request_reply(struct request *r, unsigned status, const char *type, const struct buf *body,
                   const char *fields)
{
    struct reply reply = {
        .status = status,
        .type = type,
        .body = body ? body->data : NULL,
        .n = body ? body->len : 0,
        .head_only = streq(r->head->method, "HEAD"),
        .origin = r->origin,
        .fields = fields,
    };

    r->status = status;
    r->relay.bytes = reply.n;
    reply_send(r->client, &reply);
    request_finish(r, NULL);
    client_answered(r->client);
}

void request_refuse_with(struct request *r, unsigned status, const char *code, const char *fields,
                         const char *text)
{
    struct buf body;

    if (status != 503)
        r->gateway->figures.refused++;
    buf_init(&body, ANSWER_BYTES_MAX);
    dialect_error(r->route.dialect, &body, status, code, text);
    request_reply(r, status, "application/json", &body, fields);
    buf_done(&body);
}

void request_refuse(struct request *r, unsigned status, const char *code, const char *format, ...)
{
    char text[1024];
    va_list args;

    va_start(args, format);
    vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    request_refuse_with(r, status, code, NULL, text);
}

void request_reply_made(struct request *r, const char *type, int error, struct buf *body)
{
    if (error < 0)
        request_refuse(r, 503, "internal", "the answer could not be made: %s", strerror(-error));
    else
        request_reply(r, 200, type, body, NULL);
}

void request_reply_bare(struct client *c, unsigned status, const char *text)
{
    struct buf body;

    buf_init(&body, ANSWER_BYTES_MAX);
    dialect_error(DIALECT_OPENAI, &body, status, status == 503 ? "internal" : "bad_request", text);
    reply_send(
        c, &(struct reply){.status = status, .type = "application/json", .body = body.data, .n = body.len});
    buf_done(&body);
}

void request_close(struct request *r, bool clean, const char *how)
{
    struct client *c = r->client;

    request_finish(r, how);
    if (clean)
        client_answered(c);
    else
        client_end(c);
}

/* The answer has begun: an event in it where it has events, an error in the place of a document that has not
 * begun; else it breaks off. */
static void request_break(struct request *r, const char *code, const char *text, const char *how)
{
    struct client *c = r->client;
    struct buf error;
    bool clean;

    if (!relay_can_tell(&r->relay)) {
        request_finish(r, how);
        client_abort(c);
        return;
    }
    buf_init(&error, ANSWER_BYTES_MAX);
    dialect_error(r->relay.kind == RELAY_SSE ? DIALECT_OPENAI : r->route.dialect, &error, 502, code, text);
    clean = relay_tell(&r->relay, c, buf_text(&error));
    buf_done(&error);
    request_close(r, clean, how);
}

/* Whatever the step is. */
static void request_fail(struct request *r, unsigned status, const char *code, const char *text,
                         const char *how)
{
    if (r->status)
        request_break(r, code, text, how);
    else
        request_refuse_with(r, status, code, NULL, text);
}

void request_cut(struct request *r, const char *code, const char *text)
{
    if (r->step != REQUEST_OVER)
        request_fail(r, 503, code, text, "cut");
}

/* ---- its beginning ---- */

struct request *request_new(struct gateway *g, struct client *c, const struct http1_head *head)
{
    struct request *r = xnew(struct request);

    r->gateway = g;
    r->client = c;
    r->head = head;
    r->id = g->next_id++;
    r->begun_due = clock_now_ms();
    r->wait_ms = g->hold_ms;
    r->may_beat = g->heartbeat;
    route_take(head, &r->route);
    route_take_client(head, r->from);
    return r;
}

/* ---- waiting ---- */

void request_count(struct request *r, struct deployment *d)
{
    r->deployment = d;
    r->request_bytes = body_size(r->body);
    r->turn = r->gateway->next_turn++;
    deployment_request_begin(d, &r->use);
    r->limit_due = r->begun_due + r->wait_ms;
}

/* An engine works for it: the end of the hold does not concern it. */
static bool request_is_at_engine(const struct request *r)
{
    return r->step == REQUEST_SENT || r->step == REQUEST_CURING;
}

static void request_arm(struct request *r)
{
    uint64_t due = request_is_at_engine(r) ? UINT64_MAX : r->limit_due;

    if (r->step == REQUEST_PAUSING)
        due = MIN(due, r->again_due);
    if (r->step == REQUEST_SENT && r->silent_due > 0)
        due = MIN(due, r->silent_due);
    if (request_beats(r))
        due = MIN(due, r->beat_due);
    if (due == UINT64_MAX)
        timer_disarm(r->timer);
    else
        timer_arm_at(r->timer, due);
}

static void request_give_up(struct request *r)
{
    const char *id = deployment_id(r->deployment);
    const char *room = deployment_room_text(r->deployment);
    enum deployment_state state = deployment_state(r->deployment);
    const struct fault *why = deployment_fault(r->deployment)->kind ? deployment_fault(r->deployment) : &r->last;
    char waited[TEXT_SHORT_MAX], text[640];
    struct fault off;

    if (state != DEPLOYMENT_FAILED && deployment_needs_hand(r->deployment, &off)) {
        request_fail(r, 503, off.code, off.text, off.text);
        return;
    }
    duration_format(waited, clock_now_ms() - r->begun_due, false);
    /* A dial that has not even failed waits for the tunnel. */
    if (state == DEPLOYMENT_READY)
        snprintf(text, sizeof(text), "%s cannot be reached after %s: %s; ask again", id, waited,
                 r->last.text[0] ? r->last.text : "the tunnel to its machine is down");
    else
        snprintf(text, sizeof(text), "%s is not ready after %s: %s%s%s; ask again", id, waited,
                 room ? room : deployment_state_name(state), why->text[0] ? ", " : "", why->text);
    request_fail(r, 503, "not_ready", text, "not ready");
}

static void request_tell_lost(struct request *r, const struct fault *f);

static void request_on_timer(void *ctx)
{
    struct request *r = ctx;
    uint64_t now = clock_now_ms();

    if (r->step == REQUEST_LOST) {
        op_cancel(&r->op);
        request_tell_lost(r, NULL);
        return;
    }
    if (!request_is_at_engine(r) && now >= r->limit_due) {
        request_give_up(r);
        return;
    }
    request_beat(r);
    if (r->step == REQUEST_SENT && r->silent_due > 0 && now >= r->silent_due)
        request_judge_silence(r);
    if (r->step == REQUEST_PAUSING && now >= r->again_due)
        request_hold(r);
    else
        request_arm(r);
}

/* The connection could not be had: elsewhere, or the same again in a moment, from the hold on, for the engine may
 * be gone. */
static void request_try_again(struct request *r, const struct fault *f)
{
    deployment_doubt(r->deployment);
    deployment_served(r->deployment, false);
    if (request_move(r))
        return;
    if (f)
        r->last = *f;
    r->step = REQUEST_PAUSING;
    r->again_due = clock_now_ms() + AGAIN_MS;
    request_set_held(r, true);
    request_arm(r);
}

static void request_failed_hold(struct request *r, const struct fault *f)
{
    const char *code = f->code[0] ? f->code : fault_kind_name(f->kind);
    char text[900];

    if (request_move(r))
        return;
    if (streq(code, "stopped_by_user") || streq(code, "machine_gone"))
        snprintf(text, sizeof(text), "%s. bring it back: llmhostctl up %s", f->text,
                 deployment_name(r->deployment));
    else
        snprintf(text, sizeof(text), "%s: %s", deployment_id(r->deployment), f->text);
    request_fail(r, 503, code, text, code);
}

/* ---- sending ---- */

static void on_answer_head(void *ctx, const struct http1_head *head);
static void on_answer_data(void *ctx, const char *data, size_t n);
static void on_answer_end(void *ctx);
static void on_lost(void *ctx, int error);

static void request_send(struct request *r, const struct pool_stream *s)
{
    const struct upstream_events events = {on_answer_head, on_answer_data, on_answer_end, on_lost, r};
    struct buf head;
    size_t n;

    r->step = REQUEST_SENT;
    r->reused = s->is_reused;
    r->server_number = s->number;
    request_beats_sent(r);
    request_watch(r);
    request_arm(r);
    request_set_held(r, false);
    request_set_waiting(r, true);
    buf_init(&head, 2 * HTTP1_HEAD_BYTES_MAX);
    relay_request_head(r->head, r->route.path, deployment_facts(r->deployment)->port, body_size(r->body),
                       request_beats(r), &head);
    n = head.len;
    r->upstream = upstream_new(s->stream, buf_take(&head), n, r->body, &events);
}

static void request_refused_dial(struct request *r, const struct fault *f)
{
    deployment_served(r->deployment, false);
    request_failed_hold(r, f);
}

static void on_dialed(void *ctx, const struct pool_stream *s, const struct fault *f)
{
    struct request *r = ctx;

    if (!f)
        request_send(r, s);
    else if (fault_may_pass(f))
        request_try_again(r, f);
    else
        request_refused_dial(r, f);
}

static void request_dial(struct request *r)
{
    r->step = REQUEST_DIALING;
    /* However little of the hold is left, and however often it has to be tried; but to wait for the tunnel is
     * to hold. */
    if (deployment_is_reachable(r->deployment))
        r->limit_due = MAX(r->limit_due, MIN(clock_now_ms(), r->begun_due + r->wait_ms) + REQUEST_DIAL_MS);
    request_arm(r);
    pool_want(gateway_pool(r->gateway, r->deployment), r->turn, r->fresh, &r->op, on_dialed, r);
}

/* ---- the hold ---- */

static void on_hold_over(void *ctx, const struct fault *f)
{
    struct request *r = ctx;

    if (f)
        request_failed_hold(r, f);
    else if (r->route.kind == ROUTE_PULL)
        request_pulled(r);
    else
        request_dial(r);
}

/* Over a warm connection, which is proof enough that the way is open; unless others wait, it is no shorter
 * way for this one alone. */
static bool request_send_at_once(struct request *r)
{
    struct pool *pool = gateway_pool(r->gateway, r->deployment);
    struct deployment_figures figures;

    deployment_figures(r->deployment, &figures);
    if (deployment_state(r->deployment) != DEPLOYMENT_READY || r->route.kind != ROUTE_ENGINE || r->fresh ||
        figures.held > 0 || !pool_has_idle(pool))
        return false;
    request_send(r, &(struct pool_stream){pool_take(pool), deployment_server_number(r->deployment), true});
    return true;
}

void request_hold(struct request *r)
{
    if (!r->timer)
        r->timer = timer_new(r->gateway->loop, request_on_timer, r);
    if (!request_send_at_once(r))
        request_wait(r);
}

void request_wait(struct request *r)
{
    r->step = REQUEST_HELD;
    request_set_held(r, true);
    request_arm(r);
    deployment_hold(r->deployment, &r->op, on_hold_over, r);
}

void request_deployment_changed(struct request *r, struct deployment *d, bool gone)
{
    if (r->deployment != d || r->step == REQUEST_OVER)
        return;
    if (gone) {
        request_cut(r, "not_found", "this model was removed");
    } else if (deployment_is_cut(d) && deployment_goal(d) == GOAL_OFF) {
        request_cut(r, "stopped_by_user", "this model was stopped, open requests included");
    } else if (deployment_is_cut(d) && !r->held) {
        request_cut(r, "restarted",
                    deployment_is_falling_asleep(d)
                        ? "this model was put to sleep, open requests included; ask again"
                        : "this model's server is started anew with other arguments; ask again");
    } else if (r->route.kind == ROUTE_PULL) {
        request_pull_changed(r);
    }
}

/* ---- the answer ---- */

/* The engine has read it all and answers: it will never be sent again. */
static void request_drop_body(struct request *r)
{
    if (r->body && upstream_is_sent(r->upstream))
        r->body = body_free(r->body);
}

static void on_answer_head(void *ctx, const struct http1_head *head)
{
    struct request *r = ctx;
    struct buf out;

    r->first_due = clock_now_ms();
    r->timer = timer_free(r->timer);
    pool_set_abandoned(gateway_pool(r->gateway, r->deployment), false);
    deployment_served(r->deployment, head->status < 500);
    request_drop_body(r);
    if (r->status) {
        request_take_late_head(r, head);
        return;
    }
    r->status = head->status;
    buf_init(&out, 2 * HTTP1_HEAD_BYTES_MAX);
    relay_answer_head(&r->relay, head, client_is_old(r->client), client_closes(r->client), r->origin, &out);
    client_send(r->client, out.data, out.len);
    buf_done(&out);
}

static void on_answer_data(void *ctx, const char *data, size_t n)
{
    struct request *r = ctx;

    deployment_hears(r->deployment);
    request_drop_body(r);
    if (r->late_status) {
        request_take_late_data(r, data, n);
        return;
    }
    tokens_pass(&r->tokens, data, n);
    relay_data(&r->relay, r->client, data, n);
    if (client_is_full(r->client)) {
        upstream_pause(r->upstream, true);
        request_set_waiting(r, false);
    }
}

void request_resume(struct request *r)
{
    if (!r->upstream)
        return;
    upstream_pause(r->upstream, false);
    request_set_waiting(r, true);
}

static void on_answer_end(void *ctx)
{
    struct request *r = ctx;
    struct stream *s = upstream_take_stream(r->upstream);

    r->upstream = upstream_free(r->upstream, false);
    if (s)
        pool_put(gateway_pool(r->gateway, r->deployment), s, r->server_number);
    if (r->late_status) {
        request_tell_late_error(r);
        return;
    }
    relay_end(&r->relay, r->client);
    request_close(r, true, NULL);
}

/* Closed by an engine that had nothing to do on it, while our request was on its way: it was not read. On a
 * channel that is its end; a broken one is the tunnel's doing, and then nobody knows. */
static bool was_stale(const struct request *r, int error)
{
    const struct upstream *u = r->upstream;
    bool closed = error == 0 || error == -EPIPE || (error == -ECONNRESET && upstream_is_local(u));

    return r->reused && closed && upstream_answer_bytes(u) == 0 &&
           clock_now_ms() - upstream_progress_due(u) <= STALE_MS;
}

/* By the engine itself: it works no longer on what it was asked. Else the tunnel broke, or its answer made no
 * sense, and to the engine we left. */
static bool engine_closed(const struct request *r, int error)
{
    return !error || (error != -EPROTO && upstream_is_local(r->upstream));
}

/* f: why the engine ended; NULL: it did not, or nobody can tell soon enough. */
static void request_tell_lost(struct request *r, const struct fault *f)
{
    char text[900];

    if (r->first_due) {
        snprintf(text, sizeof(text), "the engine ended in the middle of this answer%s%s%s; the request was not repeated",
                 f ? " (" : "", f ? f->text : "", f ? ")" : "");
        request_break(r, "engine_lost", text, "lost");
        return;
    }
    snprintf(text, sizeof(text),
             "the engine %s while %s had this request%s%s%s; it was not repeated, because it may have been carried out",
             f ? "ended" : "closed the connection", deployment_id(r->deployment), f ? " (" : "", f ? f->text : "", f ? ")" : "");
    request_fail(r, 502, "engine_lost", text, "lost");
}

static void on_judged(void *ctx, const struct fault *f)
{
    request_tell_lost(ctx, f);
}

/* The engine ended this connection. A look at it takes a round trip or two. */
static void request_ask_why(struct request *r)
{
    r->step = REQUEST_LOST;
    if (!r->timer)
        r->timer = timer_new(r->gateway->loop, request_on_timer, r);
    timer_arm(r->timer, REASON_MS);
    deployment_judge(r->deployment, &r->op, on_judged, r);
}

/* No byte of the engine's answer has gone to the application. */
static void request_lost_early(struct request *r, int error)
{
    bool untouched = upstream_sent_bytes(r->upstream) == 0, stale = was_stale(r, error),
         closed = engine_closed(r, error);
    const char *id = deployment_id(r->deployment);
    char text[400];

    if (!stale && !untouched && !closed)
        request_tell_abandoned(r);
    r->upstream = upstream_free(r->upstream, true);
    request_set_waiting(r, false);
    r->fresh = true;
    if (stale) {
        request_hold(r);
        return;
    }
    if (untouched) {
        request_try_again(r, NULL);
        return;
    }
    deployment_served(r->deployment, false);
    if (error == -EPROTO) {
        deployment_doubt(r->deployment);
        snprintf(text, sizeof(text), "the engine of %s gave an answer that makes no sense", id);
        request_fail(r, 502, "bad_answer", text, "bad answer");
        return;
    }
    if (closed) {
        request_ask_why(r);
        return;
    }
    deployment_doubt(r->deployment);
    snprintf(text, sizeof(text),
             "the tunnel broke while %s had this request; it was not repeated, because it may have been carried out", id);
    request_fail(r, 502, "tunnel_lost", text, "lost");
}

static void on_lost(void *ctx, int error)
{
    struct request *r = ctx;
    bool tunnel = error && error != -EPROTO && !upstream_is_local(r->upstream);

    if (!r->first_due) {
        request_lost_early(r, error);
        return;
    }
    deployment_served(r->deployment, false);
    if (!engine_closed(r, error))
        request_tell_abandoned(r);
    r->upstream = upstream_free(r->upstream, true);
    request_set_waiting(r, false);
    if (!tunnel && !r->late_status && relay_can_tell(&r->relay)) {
        request_ask_why(r);
        return;
    }
    deployment_doubt(r->deployment);
    request_break(r, tunnel ? "tunnel_lost" : "engine_lost",
                  tunnel ? "the tunnel broke in the middle of this answer; the request was not repeated"
                         : "the engine ended in the middle of this answer; the request was not repeated",
                  "lost");
}
