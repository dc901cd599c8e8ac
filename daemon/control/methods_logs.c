/* Logs: lines of the daemon out of its ring, events out of the database, lines of engines off the machine. */
#include "control/methods.h"

#include "base/fault.h"
#include "base/log.h"
#include "base/run.h"
#include "base/runq.h"
#include "control/show.h"
#include "control/target.h"
#include "engine/engine.h"
#include "lease/lease.h"
#include "manager.h"
#include "proto/buf.h"
#include "proto/json.h"
#include "proto/text.h"
#include "store/store.h"

#define LINES_DEFAULT 200
#define LINES_MAX     10000
/* One engine line is cut after this. */
#define LINE_BYTES_MAX 4096

struct found {
    int64_t at_ms;   /* to sort by */
    unsigned number; /* as they came, where the time is the same */
    struct json *line;
};

struct logs {
    struct call *call;
    const char *target; /* NULL: all */
    int64_t since_at_ms;
    unsigned lines;
    bool follow;
    struct found *found; /* as they came: the daemon's, then the engine's; room for two times lines */
    unsigned n_found;
    unsigned numbered;
    uint64_t older;
    uint64_t next_number; /* of the daemon's ring: where to go on */
    struct log_follower follower;
    struct work send;
    struct deployment *engine_of; /* whose engine's log is read, NULL: none */
    struct buf partial;           /* an engine line not whole yet */
    int64_t engine_at_ms;         /* of the last line that said so */
};

static void logs_drop(struct call *c)
{
    struct logs *g = c->state;

    if (g->follow)
        log_unfollow(&g->follower);
    runq_drop(&g->send);
    for (unsigned i = 0; i < g->n_found; i++)
        json_free(g->found[i].line);
    free(g->found);
    buf_done(&g->partial);
    free(g);
}

static bool logs_want_source(const struct logs *g, const char *source)
{
    const struct json *sources = json_get(g->call->parameters, "sources");

    for (size_t i = 0; i < json_count(sources); i++)
        if (streq(json_text(json_at(sources, i)), source))
            return true;
    return json_count(sources) == 0;
}

/* An instance's lines are its own and those of the models on it; a model's are its own and its machine's
 * session. */
static bool logs_want_target(const struct logs *g, const char *line_target, enum log_source source)
{
    struct manager *m = g->call->context->manager;

    if (!g->target || glob_match(g->target, line_target))
        return true;
    struct deployment *line_of;
    bool is_model = false;

    for (unsigned i = 0; (line_of = manager_deployment_at(m, i)); i++) {
        if (!streq(deployment_name(line_of), line_target))
            continue;
        if (target_is_model(g->target, line_of))
            return true;
        is_model = true;
    }
    if (is_model)
        return false;
    struct deployment *asked = manager_find_id(m, g->target);

    return asked && source == LOG_SESSION && streq(line_target, lease_name(deployment_lease(asked)));
}

static int found_compare(const void *a, const void *b)
{
    const struct found *x = a, *y = b;

    if (x->at_ms != y->at_ms)
        return x->at_ms < y->at_ms ? -1 : 1;
    return x->number < y->number ? -1 : 1;
}

/* One clock for all sources; the newest stay, as many as were asked for. */
static void logs_trim(struct logs *g)
{
    unsigned too_many = g->n_found > g->lines ? g->n_found - g->lines : 0;

    qsort(g->found, g->n_found, sizeof *g->found, found_compare);
    for (unsigned i = 0; i < too_many; i++)
        json_free(g->found[i].line);
    memmove(g->found, g->found + too_many, (g->n_found - too_many) * sizeof *g->found);
    g->n_found -= too_many;
    g->older += too_many;
}

/* Takes line. */
static void logs_add(struct logs *g, int64_t at_ms, struct json *line)
{
    if (g->n_found == 2 * g->lines)
        logs_trim(g);
    g->found[g->n_found] = (struct found){.at_ms = at_ms, .number = g->numbered++, .line = line};
    g->n_found++;
}

/* All that was found, oldest first. */
static struct json *logs_take(struct logs *g)
{
    struct json *v = json_object(), *list = json_array();

    logs_trim(g);
    for (unsigned i = 0; i < g->n_found; i++)
        json_append(list, g->found[i].line);
    g->n_found = 0;
    json_put(v, "lines", list);
    json_put_int(v, "older", (int64_t)g->older);
    return v;
}

/* ---- the daemon's ring ---- */

static bool logs_see(void *ctx, const struct log_entry *e)
{
    struct logs *g = ctx;

    g->next_number = e->number + 1;
    if (e->at_ms >= g->since_at_ms && logs_want_source(g, log_source_name(e->source)) &&
        logs_want_target(g, e->target, e->source))
        logs_add(g, e->at_ms,
                 show_line(e->at_ms, log_source_name(e->source), e->target, log_level_name(e->level), NULL,
                           e->text));
    return true;
}

static void logs_on_added(void *ctx)
{
    struct logs *g = ctx;

    runq_add(g->call->context->loop, &g->send);
}

static void logs_send(void *ctx)
{
    struct logs *g = ctx;

    log_read(g->next_number, logs_see, g);
    if (g->n_found)
        call_reply_more(g->call, logs_take(g));
}

/* ---- the engine's log ---- */

/* ollama begins its lines with time=RFC3339; a line without a time happened at that of the one before. */
static void logs_add_engine_line(struct logs *g, const char *text, size_t n)
{
    const struct engine_ops *engine = deployment_engine(g->engine_of);
    struct buf clean;
    const char *at = NULL;
    char stamp[48] = "";

    buf_init(&clean, 2 * LINE_BYTES_MAX);
    if (n == 0 || utf8_clean(&clean, text, MIN(n, LINE_BYTES_MAX), false) < 0) {
        buf_done(&clean);
        return;
    }
    if (engine->is_probe_line && engine->is_probe_line(buf_text(&clean))) {
        buf_done(&clean);
        return;
    }
    if (strncmp(buf_text(&clean), "time=", 5) == 0)
        at = buf_text(&clean) + 5;
    if (at) {
        snprintf(stamp, sizeof stamp, "%.*s", (int)MIN(strcspn(at, " "), sizeof stamp - 1), at);
        rfc3339_parse(stamp, &g->engine_at_ms);
    }
    /* A log without times (llama.cpp's) comes last: it is as new as this look. */
    logs_add(
        g, g->engine_at_ms ? g->engine_at_ms : INT64_MAX,
        show_line(g->engine_at_ms, "engine", deployment_name(g->engine_of), "info", NULL, buf_text(&clean)));
    buf_done(&clean);
}

static void logs_on_engine_output(void *ctx, const char *data, size_t n)
{
    struct call *c = ctx;
    struct logs *g = c->state;

    if (buf_add(&g->partial, data, n) < 0) {
        buf_clear(&g->partial); /* one endless line */
        return;
    }
    for (;;) {
        const char *end = g->partial.len ? memchr(g->partial.data, '\n', g->partial.len) : NULL;

        if (!end)
            break;
        size_t line = (size_t)(end - g->partial.data);

        logs_add_engine_line(g, g->partial.data, line);
        buf_drop(&g->partial, line + 1);
    }
    if (g->follow)
        runq_add(g->call->context->loop, &g->send);
}

static void logs_on_engine_end(void *ctx, struct run_result *result, const struct fault *f)
{
    struct call *c = ctx;
    struct logs *g = c->state;

    (void)result;
    if (f)
        logs_add(g, INT64_MAX,
                 show_line(0, "engine", deployment_name(g->engine_of), "warning", NULL, f->text));
    if (!g->follow)
        call_reply(c, logs_take(g));
    else if (g->n_found)
        call_reply_more(c, logs_take(g));
}

/* The model whose engine has a log to read: the one asked for, or one on the instance asked for. */
static struct deployment *logs_engine_of(const struct logs *g)
{
    struct deployment *d;

    /* Without a target only where the engine was asked for and there is no choice. */
    if (!g->target && (json_count(json_get(g->call->parameters, "sources")) == 0 ||
                       manager_deployment_at(g->call->context->manager, 1)))
        return NULL;
    for (unsigned i = 0; (d = manager_deployment_at(g->call->context->manager, i)); i++)
        if ((!g->target || target_is_model(g->target, d)) && deployment_facts(d)->log &&
            lease_is_reachable(deployment_lease(d)))
            return d;
    return NULL;
}

static void logs_read_engine(struct logs *g)
{
    struct buf script;

    buf_init(&script, 4096);
    buf_addf(&script, "exec tail -n %u %s ", g->follow ? MIN(g->lines, 20u) : g->lines,
             g->follow ? "-F" : "");
    shell_quote(&script, deployment_facts(g->engine_of)->log);
    const struct run_spec spec = {
        .script = buf_text(&script),
        .on_output = logs_on_engine_output,
        .timeout_ms = g->follow ? UINT64_MAX : 10000,
    };

    host_run(lease_host(deployment_lease(g->engine_of)), &spec, &g->call->op, logs_on_engine_end, g->call);
    buf_done(&script);
}

/* ---- events ---- */

static void logs_on_events(void *ctx, const struct event_row *rows, unsigned n, uint64_t older,
                           const struct fault *f)
{
    struct call *c = ctx;
    struct logs *g = c->state;

    if (f) {
        call_fault(c, f, NULL, "the events cannot be read");
        return;
    }
    g->older = older;
    for (unsigned i = 0; i < n; i++)
        logs_add(g, rows[i].at_ms,
                 show_line(rows[i].at_ms, rows[i].source, rows[i].target, rows[i].level, rows[i].kind,
                           rows[i].text));
    call_reply(c, logs_take(g));
}

static bool sources_are_known(const struct json *sources)
{
    for (size_t i = 0; i < json_count(sources); i++) {
        bool known = false;

        for (enum log_source s = LOG_DAEMON; s <= LOG_PROVIDER; s++)
            known = known || streq(json_text(json_at(sources, i)), log_source_name(s));
        if (!known)
            return false;
    }
    return true;
}

void method_logs(struct call *c)
{
    const struct json *p = c->parameters;
    int64_t lines = json_get_int(p, "lines", LINES_DEFAULT);
    bool events = json_get_bool(p, "events", false);

    if (lines < 1 || lines > LINES_MAX) {
        call_invalid_parameter(c, "lines");
        return;
    }
    if (!sources_are_known(json_get(p, "sources"))) {
        call_invalid_parameter(c, "sources");
        return;
    }
    if (json_get_bool(p, "follow", false) && !c->more) {
        call_expected_more(c);
        return;
    }
    if (json_get_text(p, "target") && !target_check_one(c, json_get_text(p, "target")))
        return;
    struct logs *g = xnew(struct logs);

    g->call = c;
    g->target = json_get_text(p, "target");
    g->since_at_ms = json_get_int(p, "since_at_ms", 0);
    g->lines = (unsigned)lines;
    g->follow = json_get_bool(p, "follow", false);
    g->found = xalloc(2 * (size_t)lines * sizeof *g->found);
    buf_init(&g->partial, 64 * 1024);
    work_init(&g->send, logs_send, g);
    c->state = g;
    c->drop = logs_drop;
    g->follower = (struct log_follower){.added = logs_on_added, .ctx = g};
    if (g->follow)
        log_follow(&g->follower);
    if (events && !g->follow) {
        store_read_events(c->context->store, g->target, g->since_at_ms, g->lines, &c->op, logs_on_events, c);
        return;
    }
    log_read(0, logs_see, g);
    g->engine_of = logs_want_source(g, "engine") && !events ? logs_engine_of(g) : NULL;
    if (g->engine_of)
        logs_read_engine(g);
    if (g->follow)
        logs_send(g);
    else if (!g->engine_of)
        call_reply(c, logs_take(g));
}
