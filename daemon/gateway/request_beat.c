/* A request that waits long: bytes that mean nothing, status lines of /api/pull, and an engine's answer that
 * comes after 200 has been said.
 *
 * Beats are for waiting that is our doing: they begin while a request is held, and once it has been, they go
 * on until the engine answers. A request that reached its engine at once is relayed and nothing else. */
#include "base/clock.h"
#include "gateway/client.h"
#include "gateway/dialect.h"
#include "gateway/gateway_private.h"
#include "gateway/http1.h"
#include "gateway/request_private.h"
#include "proto/buf.h"
#include "proto/json.h"
#include "proto/text.h"

#define HELD_MS        1000        /* shorter was no hold */
#define LATE_ERROR_MAX (64u << 10) /* of what an engine says about its failure */

/* ---- beats ---- */

void request_plan_beats(struct request *r, int stream)
{
    r->asked_due = clock_now_ms();
    if (r->may_beat)
        r->beats = beats_for(&r->route, stream);
    r->beat_due = r->asked_due + beats_first_ms(&r->beats);
}

void request_beats_sent(struct request *r)
{
    if (clock_now_ms() - r->asked_due >= HELD_MS)
        r->was_held = true;
}

bool request_beats(const struct request *r)
{
    return r->beats.type && (r->step != REQUEST_SENT || r->status || r->was_held);
}

/* Our head, where there is none yet. */
static void request_begin_answer(struct request *r, const char *type)
{
    struct buf out;

    if (r->status)
        return;
    buf_init(&out, ANSWER_BYTES_MAX);
    relay_own_head(&r->relay, type, client_is_old(r->client), client_closes(r->client), r->origin, &out);
    client_send(r->client, out.data, out.len);
    r->status = 200;
    buf_done(&out);
}

static void request_pull_say(struct request *r, struct buf *line)
{
    request_begin_answer(r, "application/x-ndjson");
    relay_data(&r->relay, r->client, line->data, line->len);
    buf_done(line);
}

static void request_pull_line(struct request *r, const char *status)
{
    struct buf line;

    buf_init(&line, ANSWER_BYTES_MAX);
    ollama_status(&line, status);
    request_pull_say(r, &line);
}

static void request_pull_bytes(struct request *r)
{
    struct stage_view v;
    struct buf line;

    deployment_stage(r->deployment, STAGE_FETCH, &v);
    if (v.state != STAGE_RUNNING || v.bytes < 0 || v.bytes_total <= 0 || v.changes == r->told_fetch)
        return;
    r->told_fetch = v.changes;
    buf_init(&line, ANSWER_BYTES_MAX);
    ollama_download(&line, r->deployment, MIN(v.bytes, v.bytes_total), v.bytes_total);
    request_pull_say(r, &line);
}

static void request_pull_state(struct request *r)
{
    char text[TEXT_SHORT_MAX * 2];

    r->told_state = deployment_state(r->deployment);
    snprintf(text, sizeof(text), "llmhost %s", deployment_state_name(r->told_state));
    request_pull_line(r, text);
}

void request_beat(struct request *r)
{
    if (!request_beats(r) || clock_now_ms() < r->beat_due)
        return;
    request_begin_answer(r, r->beats.type);
    if (r->beats.bytes)
        relay_beat(&r->relay, r->client, r->beats.bytes);
    else
        request_pull_state(r);
    r->beat_due = clock_now_ms() + BEAT_MS;
}

/* ---- /api/pull ---- */

static void request_end_answer(struct request *r)
{
    relay_end(&r->relay, r->client);
    request_close(r, true, NULL);
}

void request_pull_changed(struct request *r)
{
    if (!r->streams || !r->held)
        return;
    if (deployment_state(r->deployment) != r->told_state)
        request_pull_state(r);
    request_pull_bytes(r);
}

void request_pulled(struct request *r)
{
    r->first_due = clock_now_ms();
    if (r->streams) {
        request_pull_line(r, "success");
        request_end_answer(r);
    } else {
        struct buf body;
        int e;

        buf_init(&body, ANSWER_BYTES_MAX);
        e = ollama_status(&body, "success");
        if (r->status) { /* after beats */
            relay_data(&r->relay, r->client, body.data, body.len);
            request_end_answer(r);
        } else {
            request_reply_made(r, "application/json; charset=utf-8", e, &body);
        }
        buf_done(&body);
    }
}

/* ---- answers after 200 ---- */

void request_take_late_head(struct request *r, const struct http1_head *head)
{
    r->late_status = 0;
    if (head->status < 400 && !http1_field(head, "Content-Encoding"))
        return;
    r->late_status = head->status;
    buf_init(&r->late, LATE_ERROR_MAX);
}

void request_take_late_data(struct request *r, const char *data, size_t n)
{
    buf_add(&r->late, data, n); /* beyond the limit it says nothing more anyway */
}

/* The engine's own error where it made one, on one line. */
static bool write_engines_error(struct request *r, struct buf *out)
{
    _cleanup_json_ struct json *said = NULL;

    return json_parse(buf_text(&r->late), r->late.len, &said) == 0 && json_get(said, "error") &&
           json_write(said, out) == 0;
}

void request_tell_late_error(struct request *r)
{
    struct buf error;
    char text[400];
    bool clean;

    buf_init(&error, ANSWER_BYTES_MAX);
    if (!write_engines_error(r, &error)) {
        buf_clear(&error);
        snprintf(text, sizeof(text), "the engine of %s answered %u: %.300s", deployment_id(r->deployment),
                 r->late_status, r->late_status >= 400 ? buf_text(&r->late) : "compressed, unasked");
        dialect_error(r->route.dialect, &error, r->late_status >= 400 ? r->late_status : 502, "engine_error",
                      text);
    }
    clean = relay_tell(&r->relay, r->client, buf_text(&error));
    buf_done(&error);
    request_close(r, clean, "engine error");
}
