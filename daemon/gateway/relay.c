/* The head is written anew, without what belongs to one hop alone; the body passes in the framing its reader
 * understands. How an answer that breaks off is told depends on what has gone out: an event where there are
 * events, else the connection breaks. */
#include "gateway/relay.h"

#include <string.h>
#include <strings.h>

#include "gateway/client.h"
#include "gateway/gateway_private.h"
#include "gateway/http1.h"
#include "proto/buf.h"
#include "proto/mem.h"

#define HEAD_BYTES_MAX (2 * HTTP1_HEAD_BYTES_MAX)

/* ---- answers of our own ---- */

const char *reply_reason(unsigned status)
{
    switch (status) {
    case 200: return "OK";
    case 204: return "No Content";
    case 400: return "Bad Request";
    case 401: return "Unauthorized";
    case 403: return "Forbidden";
    case 404: return "Not Found";
    case 405: return "Method Not Allowed";
    case 413: return "Content Too Large";
    case 431: return "Request Header Fields Too Large";
    case 501: return "Not Implemented";
    case 502: return "Bad Gateway";
    case 503: return "Service Unavailable";
    case 505: return "HTTP Version Not Supported";
    case 507: return "Insufficient Storage";
    }
    return "Error";
}

static void add_origin(struct buf *out, const char *origin)
{
    if (origin)
        buf_addf(out, "Access-Control-Allow-Origin: %s\r\nVary: Origin\r\n", origin);
}

void reply_send(struct client *c, const struct reply *r)
{
    struct buf out;

    buf_init(&out, HEAD_BYTES_MAX + r->n);
    buf_addf(&out, "HTTP/1.1 %u %s\r\n", r->status, reply_reason(r->status));
    if (r->type)
        buf_addf(&out, "Content-Type: %s\r\n", r->type);
    if (r->status != 204)
        buf_addf(&out, "Content-Length: %zu\r\n", r->n);
    /* x-should-retry is read by the openai libraries: they would sit out Retry-After twice. All others that try
     * again (LiteLLM's proxy, a person's script) know Retry-After alone, and would be back at once without it. */
    if (r->status == 503)
        buf_addf(&out, "Retry-After: %d\r\nx-should-retry: false\r\n", GATEWAY_RETRY_AFTER);
    add_origin(&out, r->origin);
    if (r->fields)
        buf_add_text(&out, r->fields);
    if (client_closes(c))
        buf_add_text(&out, "Connection: close\r\n");
    buf_add_text(&out, "\r\n");
    if (!r->head_only)
        buf_add(&out, r->body, r->n);
    client_send(c, out.data, out.len);
    buf_done(&out);
}

/* ---- fields ---- */

static bool is_one_of(const char *name, const char *const *list, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (strcasecmp(name, list[i]) == 0)
            return true;
    return false;
}

/* RFC 9110, 7.6.1, and what Connection names. */
static bool is_hop_by_hop(const struct http1_head *head, const char *name)
{
    static const char *const always[] = {"Connection",
                                         "Keep-Alive",
                                         "Proxy-Connection",
                                         "Proxy-Authenticate",
                                         "Proxy-Authorization",
                                         "TE",
                                         "Trailer",
                                         "Transfer-Encoding",
                                         "Upgrade",
                                         "Content-Length"};

    return is_one_of(name, always, ELEMENTS(always)) || http1_field_lists(head, "Connection", name);
}

static bool stays_here(const char *name)
{
    static const char *const ours[] = {"Host",      "Expect",  "Origin", "Authorization",
                                       "X-Api-Key", "Api-Key", "Cookie"};

    return is_one_of(name, ours, ELEMENTS(ours)) || strncasecmp(name, "X-LLMHost-", 10) == 0 ||
           strncasecmp(name, "Access-Control-", 15) == 0;
}

/* What we say ourselves about who may read it and how it is to be passed on. */
static bool is_ours_to_say(const char *name)
{
    static const char *const ours[] = {"X-Accel-Buffering"};

    return is_one_of(name, ours, ELEMENTS(ours)) || strncasecmp(name, "Access-Control-", 15) == 0;
}

void relay_request_head(const struct http1_head *head, const char *path, uint16_t port, uint64_t size_bytes,
                        bool plain, struct buf *out)
{
    buf_addf(out, "%s %s HTTP/1.1\r\nHost: 127.0.0.1:%u\r\n", head->method, path, port);
    for (unsigned i = 0; i < head->n_fields; i++) {
        const struct http1_field *f = &head->fields[i];

        if (!is_hop_by_hop(head, f->name) && !stays_here(f->name) &&
            !(plain && strcasecmp(f->name, "Accept-Encoding") == 0))
            buf_addf(out, "%s: %s\r\n", f->name, f->value);
    }
    buf_addf(out, "Content-Length: %llu\r\n\r\n", (unsigned long long)size_bytes);
}

/* ---- answers of the engine ---- */

static bool type_is(const char *value, const char *type)
{
    size_t n = strlen(type);

    return value && strncasecmp(value, type, n) == 0 && (!value[n] || value[n] == ';' || value[n] == ' ');
}

static enum relay_kind kind_of(const char *type)
{
    if (type_is(type, "text/event-stream"))
        return RELAY_SSE;
    return type_is(type, "application/x-ndjson") ? RELAY_LINES : RELAY_PLAIN;
}

/* nginx would collect a stream otherwise, and heartbeats when it compresses. */
static void end_head(struct relay *r, bool has_body, bool old, bool closes, const char *origin,
                     struct buf *out)
{
    r->chunked = has_body && !r->bounded && !old;
    if (r->kind != RELAY_PLAIN || r->own)
        buf_add_text(out, "X-Accel-Buffering: no\r\n");
    if (r->chunked)
        buf_add_text(out, "Transfer-Encoding: chunked\r\n");
    add_origin(out, origin);
    if (closes || old)
        buf_add_text(out, "Connection: close\r\n");
    buf_add_text(out, "\r\n");
}

void relay_answer_head(struct relay *r, const struct http1_head *answer, bool old, bool closes,
                       const char *origin, struct buf *out)
{
    bool encoded = http1_field(answer, "Content-Encoding") != NULL;

    *r = (struct relay){.kind = encoded ? RELAY_PLAIN : kind_of(http1_field(answer, "Content-Type"))};
    buf_addf(out, "HTTP/1.1 %u %s\r\n", answer->status, answer->reason);
    for (unsigned i = 0; i < answer->n_fields; i++) {
        const struct http1_field *f = &answer->fields[i];

        if (!is_hop_by_hop(answer, f->name) && !is_ours_to_say(f->name))
            buf_addf(out, "%s: %s\r\n", f->name, f->value);
    }
    r->bounded = answer->framing == HTTP1_LENGTH;
    if (r->bounded)
        buf_addf(out, "Content-Length: %llu\r\n", (unsigned long long)answer->length_bytes);
    end_head(r, answer->framing != HTTP1_NO_BODY, old, closes, origin, out);
}

void relay_own_head(struct relay *r, const char *type, bool old, bool closes, const char *origin,
                    struct buf *out)
{
    *r = (struct relay){.kind = kind_of(type), .own = true};
    buf_addf(out, "HTTP/1.1 200 OK\r\nContent-Type: %s\r\n", type);
    end_head(r, true, old, closes, origin, out);
}

static void send_piece(const struct relay *r, struct client *c, const char *data, size_t n)
{
    struct buf out;

    if (!r->chunked) {
        client_send(c, data, n);
        return;
    }
    buf_init(&out, n + 64);
    buf_addf(&out, "%zx\r\n", n);
    buf_add(&out, data, n);
    buf_add_text(&out, "\r\n");
    client_send(c, out.data, out.len);
    buf_done(&out);
}

void relay_data(struct relay *r, struct client *c, const char *data, size_t n)
{
    if (n == 0)
        return;
    r->tail[0] = n > 1 ? data[n - 2] : r->tail[1];
    r->tail[1] = data[n - 1];
    r->bytes += n;
    send_piece(r, c, data, n);
}

void relay_beat(struct relay *r, struct client *c, const char *beat)
{
    send_piece(r, c, beat, strlen(beat));
}

void relay_end(struct relay *r, struct client *c)
{
    if (r->chunked)
        client_send(c, "0\r\n\r\n", 5);
}

/* In a document only while it has not begun. */
bool relay_can_tell(const struct relay *r)
{
    return r->kind == RELAY_PLAIN ? r->own && r->bytes == 0 : !r->bounded;
}

/* The event begins on a line of its own even when the engine was cut in the middle of one. */
static void add_event(const struct relay *r, const char *error, struct buf *out)
{
    bool fresh_line = r->bytes == 0 || r->tail[1] == '\n';

    if (r->kind == RELAY_SSE && r->bytes > 0 && !(fresh_line && r->tail[0] == '\n'))
        buf_add_text(out, fresh_line ? "\n" : "\n\n");
    else if (r->kind == RELAY_LINES && !fresh_line)
        buf_add_text(out, "\n");
    buf_addf(out, r->kind == RELAY_SSE ? "data: %s\n\n" : "%s\n", error);
}

bool relay_tell(struct relay *r, struct client *c, const char *error)
{
    struct buf out;

    buf_init(&out, HEAD_BYTES_MAX + strlen(error));
    add_event(r, error, &out);
    relay_data(r, c, out.data, out.len);
    buf_done(&out);
    if (r->kind != RELAY_PLAIN)
        relay_end(r, c);
    return r->kind != RELAY_PLAIN;
}
