/* Prometheus' text format 0.0.4: https://prometheus.io/docs/instrumenting/exposition_formats/. All lines of
 * one name stand together. A text beyond its limit is an error and not a part of one: what a reader misses
 * would look like a counter that was reset. */
#include <inttypes.h>
#include <string.h>

#include "gateway/counts.h"
#include "gateway/gateway_private.h"
#include "gateway/request_private.h"
#include "proto/buf.h"
#include "proto/mem.h"

#define PIECE_BYTES_MAX 4096 /* more than is ever added at once */

static void begin(struct buf *out, const char *name, const char *type, const char *help)
{
    buf_addf(out, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, type);
}

static void add_value(struct buf *out, const char *text)
{
    size_t n;

    buf_add_text(out, "\"");
    for (; *text; text += n) {
        n = strcspn(text, "\\\"\n");
        buf_add(out, text, n);
        if (!text[n])
            break;
        buf_add_text(out, text[n] == '\n' ? "\\n" : text[n] == '"' ? "\\\"" : "\\\\");
        n++;
    }
    buf_add_text(out, "\"");
}

/* ---- one number ---- */

static void single(struct buf *out, const char *name, const char *type, const char *help, uint64_t value)
{
    begin(out, name, type, help);
    buf_addf(out, "%s %" PRIu64 "\n", name, value);
}

/* ---- of a model and a client ---- */

static void add_names(struct buf *out, const struct count *one)
{
    buf_add_text(out, "model=");
    add_value(out, one->model);
    buf_add_text(out, ",client=");
    add_value(out, one->client);
}

static const struct sum {
    const char *name, *help;
    size_t place;
} sums[] = {
    {"llmhost_requests_total", "Requests of a model that are over.", offsetof(struct count, requests)},
    {"llmhost_request_errors_total", "Of those, answered with 400 and more, or not to the end.",
     offsetof(struct count, errors)},
    {"llmhost_prompt_tokens_total", "Tokens read by a model, where its answer says so.",
     offsetof(struct count, prompt_tokens)},
    {"llmhost_answer_tokens_total", "Tokens written by a model, where its answer says so.",
     offsetof(struct count, answer_tokens)},
    {"llmhost_request_bytes_total", "Bytes of bodies sent to a model.",
     offsetof(struct count, request_bytes)},
    {"llmhost_answer_bytes_total", "Bytes of bodies that came back.", offsetof(struct count, answer_bytes)},
};

static void add_sum(struct buf *out, const struct counts *c, const struct sum *sum)
{
    const struct count *one;

    begin(out, sum->name, "counter", sum->help);
    for (unsigned i = 0; (one = counts_at(c, i)); i++) {
        buf_addf(out, "%s{", sum->name);
        add_names(out, one);
        buf_addf(out, "} %" PRIu64 "\n", *(const uint64_t *)((const char *)one + sum->place));
    }
}

/* ---- times ---- */

/* 1, 2.5 and 5 of each decade. */
static bool is_shown(unsigned i)
{
    return i % 10 == 0 || i % 10 == 4 || i % 10 == 7;
}

static void add_histogram(struct buf *out, const char *name, const struct count *one,
                          const struct histogram *h)
{
    uint64_t n = 0;

    for (unsigned i = 0; i < HISTOGRAM_BOUNDS; i++) {
        n += h->n[i];
        if (!is_shown(i))
            continue;
        buf_addf(out, "%s_bucket{", name);
        add_names(out, one);
        buf_addf(out, ",le=\"%g\"} %" PRIu64 "\n", (double)histogram_bound_ms(i) / 1000, n);
    }
    n += h->n[HISTOGRAM_BOUNDS];
    buf_addf(out, "%s_bucket{", name);
    add_names(out, one);
    buf_addf(out, ",le=\"+Inf\"} %" PRIu64 "\n%s_sum{", n, name);
    add_names(out, one);
    buf_addf(out, "} %.3f\n%s_count{", (double)h->sum_ms / 1000, name);
    add_names(out, one);
    buf_addf(out, "} %" PRIu64 "\n", n);
}

static void add_times(struct buf *out, const struct counts *c)
{
    const struct count *one;

    begin(out, "llmhost_first_token_seconds", "histogram",
          "From a request's arrival to the first byte of its model's answer, waking included.");
    for (unsigned i = 0; (one = counts_at(c, i)); i++)
        add_histogram(out, "llmhost_first_token_seconds", one, &one->first);
    begin(out, "llmhost_request_seconds", "histogram", "From a request's arrival to the end of its answer.");
    for (unsigned i = 0; (one = counts_at(c, i)); i++)
        add_histogram(out, "llmhost_request_seconds", one, &one->total);
}

/* ---- what is now ---- */

struct gauge {
    const char *name, *help;
    int64_t (*value)(const struct deployment *d);
};

static int64_t ready(const struct deployment *d)
{
    return deployment_state(d) == DEPLOYMENT_READY;
}

static int64_t open_requests(const struct deployment *d)
{
    struct deployment_figures n;

    deployment_figures(d, &n);
    return n.open;
}

static int64_t held(const struct deployment *d)
{
    struct deployment_figures n;

    deployment_figures(d, &n);
    return n.held;
}

/* Over all instances it is wanted on: a series must not be there twice. */
static int64_t sum_of(struct manager *m, const char *name, int64_t (*value)(const struct deployment *d))
{
    struct deployment *d;
    int64_t sum = 0;

    for (unsigned i = 0; (d = manager_deployment_at(m, i)); i++)
        if (streq(deployment_name(d), name))
            sum += value(d);
    return sum;
}

static void add_models(struct buf *out, struct manager *m)
{
    static const struct gauge gauges[] = {
        {"llmhost_model_ready", "On so many instances the model answers at once.", ready},
        {"llmhost_model_requests_open", "Requests of the model that its engine has.", open_requests},
        {"llmhost_model_requests_held", "Requests that wait for the model.", held},
    };
    struct deployment *d;

    for (size_t i = 0; i < ELEMENTS(gauges); i++) {
        begin(out, gauges[i].name, "gauge", gauges[i].help);
        for (unsigned k = 0; (d = manager_model_at(m, k)); k++) {
            buf_addf(out, "%s{model=", gauges[i].name);
            add_value(out, deployment_name(d));
            buf_addf(out, "} %" PRId64 "\n", sum_of(m, deployment_name(d), gauges[i].value));
        }
    }
}

int metrics_text(const struct gateway *g, struct buf *out)
{
    char *room;

    begin(out, "llmhost_build_info", "gauge", "The daemon's version.");
    buf_add_text(out, "llmhost_build_info{version=");
    add_value(out, LLMHOST_VERSION);
    buf_add_text(out, "} 1\n");
    single(out, "llmhost_start_time_seconds", "gauge", "When the daemon started, since 1970.",
           (uint64_t)g->started_at_ms / 1000);
    single(out, "llmhost_connections", "gauge", "Connections of applications.", g->figures.open);
    single(out, "llmhost_connections_total", "counter", "Connections of applications since the start.",
           g->figures.connections);
    single(out, "llmhost_refused_total", "counter", "Requests refused as they were, since the start.",
           g->figures.refused);
    add_models(out, g->manager);
    for (size_t i = 0; i < ELEMENTS(sums); i++)
        add_sum(out, g->counts, &sums[i]);
    add_times(out, g->counts);
    return buf_reserve(out, PIECE_BYTES_MAX,
                       &room); /* so much is left only where every piece had its place */
}
