/* What `status` shows of one target: the long form, a line for each thing that is known of it. */
#include <stdarg.h>

#include "client/output.h"
#include "proto/mem.h"

#define FIELD_COLUMNS 13

void add_field(const struct output *o, struct buf *out, const char *name, const char *text)
{
    struct buf lines;

    if (!text || !*text)
        return;
    buf_init(&lines, SCREEN_BYTES_MAX);
    add_wrapped(&lines, FIELD_COLUMNS, o->out_width, text);
    buf_addf(out, "  %-9s  %s", name, buf_text(&lines) + MIN(FIELD_COLUMNS, lines.len));
    buf_done(&lines);
}

/* Behind the state, whose line has so many columns already; below it where the terminal ends. */
static void add_since(const struct output *o, struct buf *out, unsigned columns, const struct json *object)
{
    int64_t since = json_get_int(object, "since_at_ms", 0);
    char age[TEXT_SHORT_MAX], at[CLOCK_MAX];
    _cleanup_free_ char *text = NULL;

    if (!since)
        return;
    text = xasprintf("since %s (%s)", clock_format(at, since, false), age_format(age, since));
    buf_addf(out, "%s%s", o->out_width && columns + 1 + text_columns(text) > o->out_width ? "\n  " : " ",
             text);
}

void add_part(struct buf *out, const char *format, ...)
{
    char part[512];
    va_list args;

    va_start(args, format);
    vsnprintf(part, sizeof(part), format, args);
    va_end(args);
    buf_addf(out, "%s%s", out->len ? ", " : "", part);
}

/* Rounded down: what is not wholly on the GPU must not read as if it were. ~: the engine's word, nothing was
 * measured. */
static void add_processor(struct buf *line, const struct json *model, int64_t size, int64_t vram)
{
    const char *measured = member_text(model, "processor", "");

    if (streq(measured, "cpu"))
        add_part(line, "0%% GPU");
    else if (streq(measured, "gpu") && (vram < 0 || vram >= size))
        add_part(line, "100%% GPU");
    else if (streq(measured, "partly") && (vram < 0 || vram >= size))
        add_part(line, "partly on the CPU");
    else if (size > 0 && vram >= size)
        add_part(line, "100%% GPU~");
    else if (size > 0 && vram >= 0)
        add_part(line, "%d%% GPU", (int)((double)vram * 100 / (double)size));
}

static void add_engine(const struct output *o, const struct json *model, struct buf *out)
{
    int64_t size = json_get_int(model, "size_bytes", 0), vram = json_get_int(model, "size_vram_bytes", -1);
    char bytes[TEXT_SHORT_MAX];
    struct buf line;

    buf_init(&line, 4096);
    buf_add_text(&line, member_text(model, "engine", "?"));
    if (json_get_text(model, "engine_version"))
        buf_addf(&line, " %s", json_get_text(model, "engine_version"));
    if (json_get_bool(model, "engine_unverified", false))
        buf_add_text(&line, " (not verified)");
    if (json_get_int(model, "pid", 0))
        add_part(&line, "pid %lld", (long long)json_get_int(model, "pid", 0));
    if (size > 0)
        add_part(&line, "%s", bytes_format(bytes, (uint64_t)size));
    add_processor(&line, model, size, vram);
    if (json_get_int(model, "context", 0))
        add_part(&line, "context %lld", (long long)json_get_int(model, "context", 0));
    add_field(o, out, "engine", buf_text(&line));
    buf_done(&line);
}

/* As they would be typed again. */
static void add_arguments(const struct output *o, const struct json *model, struct buf *out)
{
    const struct json *arguments = json_get(model, "arguments");
    struct buf line;

    buf_init(&line, SCREEN_BYTES_MAX);
    for (size_t i = 0; i < json_count(arguments); i++) {
        if (i)
            buf_add_text(&line, " ");
        shell_quote(&line, json_text(json_at(arguments, i)) ? json_text(json_at(arguments, i)) : "");
    }
    add_field(o, out, "arguments", buf_text(&line));
    buf_done(&line);
}

static void seconds_format(char out[static 24], int64_t ms)
{
    snprintf(out, 24, ms < 1000 ? "%.2fs" : "%.1fs", (double)ms / 1000);
}

/* what: "first" or "total". */
static void add_times(const struct json *model, const char *what, const char *words, struct buf *line)
{
    const struct json *counts = json_get(model, "counts");
    char half[24], most[24], p50[24], p95[24];

    snprintf(half, sizeof(half), "%s_p50_ms", what);
    snprintf(most, sizeof(most), "%s_p95_ms", what);
    if (json_get_int(counts, half, -1) < 0 || json_get_int(counts, most, -1) < 0)
        return;
    seconds_format(p50, json_get_int(counts, half, 0));
    seconds_format(p95, json_get_int(counts, most, 0));
    add_part(line, "%s %s p50 / %s p95", words, p50, p95);
}

/* What is known of all requests so far. */
static void add_counts(const struct output *o, const struct json *model, struct buf *out)
{
    const struct json *counts = json_get(model, "counts");
    int64_t prompt = json_get_int(counts, "prompt_tokens", 0),
            answer = json_get_int(counts, "answer_tokens", 0);
    int64_t errors = json_get_int(counts, "errors", 0);
    struct buf line;

    buf_init(&line, 4096);
    if (prompt || answer)
        add_part(&line, "%lld tokens in, %lld out", (long long)prompt, (long long)answer);
    if (errors)
        add_part(&line, "%lld failed", (long long)errors);
    add_times(model, "total", "whole answers", &line);
    add_field(o, out, "so far", buf_text(&line));
    buf_done(&line);
}

static void add_requests(const struct output *o, const struct json *model, struct buf *out)
{
    int64_t last = json_get_int(model, "last_used_at_ms", 0), held = json_get_int(model, "held", 0);
    char age[TEXT_SHORT_MAX];
    struct buf line;

    buf_init(&line, 4096);
    add_part(&line, "%lld open", (long long)json_get_int(model, "in_flight", 0));
    if (held)
        add_part(&line, "%lld held", (long long)held);
    add_part(&line, "%lld in all", (long long)json_get_int(model, "requests", 0));
    if (last)
        add_part(&line, "last %s ago", age_format(age, last));
    add_times(model, "first", "first token", &line);
    add_field(o, out, "requests", buf_text(&line));
    buf_done(&line);
    add_counts(o, model, out);
}

static void add_awake(const struct output *o, const struct json *model, struct buf *out)
{
    const struct json *awake = json_get(model, "awake");
    char age[TEXT_SHORT_MAX];
    struct buf line;

    buf_init(&line, 4096);
    for (size_t i = 0; i < json_count(awake); i++) {
        const struct json *cause = json_at(awake, i);
        int64_t count = json_get_int(cause, "count", 0), since = json_get_int(cause, "since_at_ms", 0);
        _cleanup_free_ char *name = words_of(member_text(cause, "cause", "?"));

        if (streq(name, "stays up"))
            continue; /* that is what "then" says */
        if (strstr(name, "request"))
            add_part(&line, "%lld %s%s", (long long)count, name, plural(count));
        else
            add_part(&line, "%s",
                     streq(name, "no room") && json_get_text(cause, "text") ? json_get_text(cause, "text")
                                                                            : name);
        if (since)
            buf_addf(&line, " (%s)", age_format(age, since));
    }
    add_field(o, out, "awake", buf_text(&line));
    buf_done(&line);
}

static void add_restarted(const struct output *o, const struct json *model, struct buf *out)
{
    const struct json *restarted = json_get(model, "restarted");
    int64_t count = json_get_int(restarted, "count", 0), at = json_get_int(restarted, "since_at_ms", 0);
    char age[TEXT_SHORT_MAX];
    struct buf line;

    if (!count)
        return;
    buf_init(&line, 4096);
    add_part(&line, "%lld time%s lately", (long long)count, plural(count));
    if (at)
        add_part(&line, "last %s ago", age_format(age, at));
    buf_addf(&line, ": %s", member_text(restarted, "text", "nobody knows why"));
    add_field(o, out, "restarted", buf_text(&line));
    buf_done(&line);
}

static void add_tunnel(const struct output *o, const struct json *instance, struct buf *out)
{
    const struct json *tunnel = json_get(instance, "tunnel");
    _cleanup_free_ char *state = tunnel_text(tunnel);
    int64_t reconnects = json_get_int(tunnel, "reconnects", 0),
            next_try = json_get_int(tunnel, "next_try_at_ms", 0);
    char left[TEXT_SHORT_MAX];
    struct buf line;
    double rtt;

    if (!instance || streq(state, "-"))
        return;
    buf_init(&line, 8192);
    buf_add_text(&line, state);
    if (json_to_real(json_get(tunnel, "rtt_ms"), &rtt))
        add_part(&line, "%.*f ms", rtt < 10 ? 1 : 0, rtt);
    if (reconnects)
        add_part(&line, "%lld reconnect%s", (long long)reconnects, plural(reconnects));
    if (json_get_text(tunnel, "last_break"))
        buf_addf(&line, " (last: %s)", json_get_text(tunnel, "last_break"));
    if (json_get_text(tunnel, "reason"))
        add_part(&line, "%s", json_get_text(tunnel, "reason"));
    if (next_try > now_at_ms())
        add_part(&line, "next try in %s", duration_format(left, (uint64_t)(next_try - now_at_ms()), true));
    add_field(o, out, "tunnel", buf_text(&line));
    buf_done(&line);
}

void screen_model(const struct output *o, const struct json *status, struct buf *out)
{
    const struct json *model = json_at(json_get(status, "models"), 0), *daemon = json_get(status, "daemon");
    const char *state = member_text(model, "state", ""), *on = json_get_text(model, "instance");
    _cleanup_free_ char *endpoint = NULL, *next = next_text(model);
    _cleanup_free_ char *head =
        xasprintf("%s%s%s  ", member_text(model, "name", ""), on ? " on " : "", on ? on : "");

    buf_add_text(out, head);
    add_styled(out, o->out_colour, state_style(state), state_word(state));
    add_since(o, out, text_columns(head) + text_columns(state_word(state)), model);
    buf_add_text(out, "\n");
    endpoint = xasprintf("%s  model name \"%s\"", member_text(daemon, "endpoint", "?"),
                         member_text(model, "id", "?"));
    add_field(o, out, "endpoint", endpoint);
    add_engine(o, model, out);
    add_arguments(o, model, out);
    add_requests(o, model, out);
    add_restarted(o, model, out);
    add_awake(o, model, out);
    add_field(o, out, "then", next);
    add_tunnel(o, instance_find(status, on), out);
    if (is_stopped_by_us(instance_find(status, on)))
        screen_guard(o, instance_find(status, on), out);
}

static void add_models_of(const struct json *status, const char *instance, struct buf *out)
{
    const struct json *models = json_get(status, "models");
    bool first = true;

    for (size_t i = 0; i < json_count(models); i++) {
        const struct json *model = json_at(models, i);
        _cleanup_free_ char *text = NULL;

        if (!streq(member_text(model, "instance", ""), instance))
            continue;
        text =
            xasprintf("%s  %s", member_text(model, "name", ""), state_word(member_text(model, "state", "")));
        buf_addf(out, "  %-9s  %s\n", first ? "models" : "", text);
        first = false;
    }
}

void screen_instance(const struct output *o, const struct json *status, struct buf *out)
{
    const struct json *instance = json_at(json_get(status, "instances"), 0);
    const char *name = member_text(instance, "name", ""), *state = member_text(instance, "state", "");
    const char *address = json_get_text(instance, "address"), *user = json_get_text(instance, "user");
    _cleanup_free_ char *login = NULL, *stops = stops_text(instance, false), *shown = NULL;

    shown = is_stopped_by_us(instance) ? rented_state_text(instance) : xstrdup(state);
    buf_addf(out, "%s  ", name);
    add_styled(out, o->out_colour, is_stopped_by_us(instance) ? rented_style(instance) : state_style(state),
               shown);
    buf_addf(out, "  (%s)\n", member_text(instance, "provider", "?"));
    if (address)
        login = user ? xasprintf("%s@%s", user, address) : xstrdup(address);
    add_field(o, out, "address", login);
    add_field(o, out, "via", json_get_text(instance, "via"));
    add_field(o, out, "host key", json_get_text(instance, "host_key"));
    add_tunnel(o, instance, out);
    if (is_rental(instance))
        screen_rental(o, instance, out);
    else if (is_stopped_by_us(instance))
        screen_guard(o, instance, out);
    add_field(o, out, "stops", stops);
    add_models_of(status, name, out);
}
