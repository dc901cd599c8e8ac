/* What `ps` and `why` show: the models in memory, and what keeps each thing as it is. */
#include <ctype.h>
#include <string.h>

#include "client/output.h"
#include "proto/mem.h"

/* ---- ps ---- */

/* How much of it is left to the processor, in percent, rounded up: what is not wholly on the GPU must not
 * read as if it were. -1: nobody knows. What was measured counts before what the engine says. */
static int cpu_share(const struct json *model)
{
    int64_t size = json_get_int(model, "size_bytes", 0), vram = json_get_int(model, "size_vram_bytes", -1);
    const char *measured = member_text(model, "processor", "");

    if (streq(measured, "cpu"))
        return 100;
    if (size <= 0 || vram < 0)
        return streq(measured, "gpu") ? 0 : -1;
    return vram >= size ? 0 : 100 - (int)((double)vram * 100 / (double)size);
}

/* The PROC cell. ~: the engine's word, nothing was measured. */
static const char *processor_text(char out[static TEXT_SHORT_MAX], const struct json *model)
{
    const char *measured = member_text(model, "processor", "");
    int share = cpu_share(model);

    if (streq(measured, "partly") && share <= 0)
        return "partly CPU!";
    if (share < 0)
        return "?";
    if (share == 100)
        return json_get_text(model, "card") ? "100% CPU!" : "100% CPU";
    if (share == 0)
        return streq(measured, "gpu") ? "100% GPU" : "100% GPU~";
    snprintf(out, TEXT_SHORT_MAX, "%d%% CPU!", share);
    return out;
}

/* Does it run where it should? */
static bool is_slow(const struct json *model)
{
    return cpu_share(model) > 0 || streq(member_text(model, "processor", ""), "partly");
}

static const char *number_text(char out[static TEXT_SHORT_MAX], int64_t n)
{
    snprintf(out, TEXT_SHORT_MAX, "%lld", (long long)n);
    return out;
}

/* The UNTIL cell. */
static char *until_text(const struct json *model)
{
    bool busy = json_get_int(model, "in_flight", 0) + json_get_int(model, "held", 0) > 0;

    return busy && streq(member_text(model, "state", ""), "ready") ? xstrdup("busy") : next_text(model);
}

static void add_process(struct table *t, const struct json *model)
{
    int64_t size = json_get_int(model, "size_bytes", 0), context = json_get_int(model, "context", 0);
    char bytes[TEXT_SHORT_MAX], share[TEXT_SHORT_MAX], tokens[TEXT_SHORT_MAX], requests[TEXT_SHORT_MAX];
    _cleanup_free_ char *until = until_text(model);

    table_add(t, STYLE_PLAIN, json_get_text(model, "name"));
    table_add(t, STYLE_PLAIN, json_get_text(model, "instance"));
    table_add(t, STYLE_PLAIN, size > 0 ? bytes_format(bytes, (uint64_t)size) : "?");
    table_add(t, is_slow(model) ? STYLE_BAD : STYLE_PLAIN, processor_text(share, model));
    table_add(t, STYLE_PLAIN, context > 0 ? number_text(tokens, context) : "?");
    table_add(t, STYLE_PLAIN,
              number_text(requests, json_get_int(model, "in_flight", 0) + json_get_int(model, "held", 0)));
    table_add(t, STYLE_PLAIN, until);
}

/* Below the table, next to the prompt: what makes a model slow. */
static void add_spills(const struct output *o, const struct json *models, struct buf *out)
{
    bool first = true;

    for (size_t i = 0; i < json_count(models); i++) {
        const struct json *model = json_at(models, i);
        const char *name = member_text(model, "name", ""), *card = json_get_text(model, "card");
        int share = cpu_share(model);
        _cleanup_free_ char *text = NULL;

        if (!is_slow(model))
            continue;
        text = share == 100 && card
                   ? xasprintf("%s runs on the CPU alone, although there is a card (%s).", name, card)
               : share == 100 ? xasprintf("%s runs on the CPU alone.", name)
               : share <= 0
                   ? xasprintf("a part of %s runs on the CPU, as measured.", name)
                   : xasprintf("%s does not fit on the GPU: %d%% of it runs on the CPU.", name, share);
        buf_add_text(out, first ? "\n" : "");
        add_wrapped(out, 0, o->out_width, text);
        buf_addf(out, "  llmhostctl doctor %s\n", name);
        first = false;
    }
}

void screen_ps(const struct output *o, const struct json *reply, struct buf *out)
{
    static const struct column columns[] = {
        {"MODEL", false, false}, {"ON", false, false}, {"SIZE", true, false},  {"PROC", false, false},
        {"CTX", true, false},    {"REQ", true, false}, {"UNTIL", false, true},
    };
    _cleanup_table_ struct table *t = table_new(columns, ELEMENTS(columns));
    const struct json *models = json_get(reply, "models");

    if (!json_count(models)) {
        buf_add_text(out, "none is in memory. all there are: llmhostctl ps -a\n");
        return;
    }
    for (size_t i = 0; i < json_count(models); i++)
        add_process(t, json_at(models, i));
    table_write(t, o->out_width, o->out_colour, out);
    add_spills(o, models, out);
}

void screen_ps_all(const struct output *o, const struct json *reply, struct buf *out)
{
    static const struct column columns[] = {
        {"MODEL", false, false}, {"ON", false, false},        {"STATE", false, false},
        {"REQ", true, false},    {"LAST USED", false, false}, {"NEXT", false, true},
    };
    _cleanup_table_ struct table *t = table_new(columns, ELEMENTS(columns));
    const struct json *models = json_get(reply, "models");

    if (!json_count(models)) {
        buf_add_text(out, "no model.\n");
        return;
    }
    for (size_t i = 0; i < json_count(models); i++) {
        const struct json *model = json_at(models, i);
        const char *state = member_text(model, "state", "");
        int64_t last = json_get_int(model, "last_used_at_ms", 0);
        _cleanup_free_ char *next = next_text(model), *used = NULL;
        char age[TEXT_SHORT_MAX], requests[TEXT_SHORT_MAX];

        used = last ? xasprintf("%s ago", age_format(age, last)) : NULL;
        table_add(t, STYLE_PLAIN, json_get_text(model, "name"));
        table_add(t, STYLE_PLAIN, json_get_text(model, "instance"));
        table_add(t, state_style(state), state_word(state));
        table_add(
            t, STYLE_PLAIN,
            number_text(requests, json_get_int(model, "in_flight", 0) + json_get_int(model, "held", 0)));
        table_add(t, STYLE_PLAIN, used);
        table_add(t, STYLE_PLAIN, next);
    }
    table_write(t, o->out_width, o->out_colour, out);
}

/* ---- why ---- */

static void add_tunnel_words(struct buf *out, int64_t tries, const char *age, const char *text)
{
    buf_addf(out, "tunnel down%s%s", *age ? " " : "", age);
    if (tries > 1)
        buf_addf(out, ", try %lld", (long long)tries);
    if (text)
        buf_addf(out, ": %s", text);
}

static void add_restart_words(struct buf *out, int64_t count, const char *age, const char *text)
{
    buf_addf(out, "its engine was started again%s%s%s", *age ? " " : "", age, *age ? " ago" : "");
    if (count > 1)
        buf_addf(out, " (%lld times lately)", (long long)count);
    if (text)
        buf_addf(out, ": %s", text);
}

/* Of a rented machine: why it is on, or why it goes off. False: it is no cause of machines. */
static bool add_machine_cause(struct buf *out, const char *name, const char *age, int64_t until_at_ms,
                              const char *text)
{
    char left[TEXT_SHORT_MAX] = "", at[CLOCK_MAX];

    if (until_at_ms)
        duration_format(left, (uint64_t)MAX(until_at_ms - now_at_ms(), (int64_t)0), false);
    if (streq(name, "in_use"))
        buf_add_text(out, "a model on it is in use");
    else if (streq(name, "idle"))
        buf_addf(out, "nobody asks%s%s", *left ? ", stops in " : ", and that stops nothing", left);
    else if (streq(name, "failed_hold"))
        buf_addf(out, "a model failed: on for %s more, so that you can look", left);
    else if (streq(name, "quiet_use"))
        buf_addf(out, "%s: on for %s more at most", text ? text : "used without requests", left);
    else if (streq(name, "max_up"))
        buf_addf(out, "longest time up%s%s", *left ? ": stops in " : "", left);
    else if (streq(name, "budget"))
        buf_addf(out, "a limit of money%s%s", *left ? ": stops in " : "", left);
    else if (streq(name, "stopped_by_user"))
        buf_add_text(out, "no model on it is wanted");
    else if (streq(name, "asleep"))
        buf_add_text(out, "its models were put to sleep");
    else if (streq(name, "prepaid"))
        buf_addf(out, "prepaid until %s, not stopped for being idle", minute_format(at, until_at_ms));
    else if (streq(name, "no_card"))
        buf_addf(out, "on without its card%s%s", until_at_ms ? " until " : "",
                 until_at_ms ? minute_format(at, until_at_ms) : "");
    else if (streq(name, "not_by_us"))
        buf_add_text(out, "switched on elsewhere, and not ours to stop");
    else if (streq(name, "switching_on"))
        buf_addf(out, "is being switched on%s%s%s", *age ? " (asked " : "", age, *age ? " ago)" : "");
    else if (streq(name, "misnamed"))
        buf_addf(out, "its card: %s", text ? text : "?");
    else if (streq(name, "never_made"))
        buf_add_text(out, "no machine was made of it, and none is looked for");
    else if (streq(name, "stopping"))
        buf_addf(out, "stop asked%s%s%s%s%s%s", *age ? " " : "", age, *age ? " ago" : "",
                 text ? ", provider says \"" : "", text ? text : "", text ? "\"" : "");
    else if (streq(name, "doubted"))
        buf_addf(out, "off counts%s%s: %s", *left ? " in " : "", left,
                 text ? text : "a power-on may still act");
    else if (streq(name, "machine_off"))
        buf_addf(out, "off%s%s", *age ? " for " : "", age);
    else if (streq(name, "was_off"))
        buf_addf(out, "off%s%s when llmhostd was started; not read yet since", *age ? " for " : "", age);
    else if (streq(name, "gone_off"))
        buf_addf(out, "gone%s%s: %s, and nobody confirms that it is off", *age ? " for " : "", age,
                 text ? text : "?");
    else
        return false;
    return true;
}

/* Of a search: since when, what was answered, what comes next, what ends it. False: it is no cause of one. */
static bool add_search_cause(struct buf *out, const char *name, const char *age, int64_t until_at_ms,
                             int64_t tries, const char *text)
{
    char left[TEXT_SHORT_MAX] = "", at[CLOCK_MAX];

    if (until_at_ms)
        duration_format(left, (uint64_t)MAX(until_at_ms - now_at_ms(), (int64_t)0), false);
    if (streq(name, "searched"))
        buf_addf(out, "looks for %s%s%s", text ? text : "a card", !*age ? "" : text ? ", for " : " for ", age);
    else if (streq(name, "answered"))
        buf_add_text(out, text ? text : "?");
    else if (streq(name, "next_try") && *left)
        buf_addf(out, "asks for %s in %s", text ? text : "it", left);
    else if (streq(name, "next_try"))
        buf_addf(out, "asks for %s just now", text ? text : "it");
    else if (streq(name, "next_turn"))
        buf_addf(out, "%s is next", text ? text : "another one");
    else if (streq(name, "search_ends"))
        buf_addf(out, "ends at %s, or with: llmhostctl down %s", minute_format(at, until_at_ms),
                 text ? text : "it");
    else
        return false;
    if (streq(name, "answered") && tries > 1)
        buf_addf(out, " (%lld times)", (long long)tries);
    return true;
}

/* One cause as part of a sentence; one this client does not know is shown in its own words. */
static void add_cause(struct buf *out, const struct json *cause, bool of_machine)
{
    const char *name = member_text(cause, "cause", "?"), *text = json_get_text(cause, "text");
    int64_t count = json_get_int(cause, "count", 0), since = json_get_int(cause, "since_at_ms", 0);
    int64_t until = json_get_int(cause, "until_at_ms", 0), left_ms = until ? until - now_at_ms() : 0;
    char age[TEXT_SHORT_MAX] = "", left[TEXT_SHORT_MAX];

    if (since)
        age_format(age, since);
    if ((of_machine && add_machine_cause(out, name, age, until, text)) ||
        add_search_cause(out, name, age, until, count, text))
        return;
    duration_format(left, (uint64_t)MAX(left_ms, 0), false);
    if (streq(name, "request"))
        buf_addf(out, "%lld open request%s%s%s", (long long)count, plural(count), since ? ", oldest " : "",
                 age);
    else if (streq(name, "held_request"))
        buf_addf(out, "%lld request%s held%s%s", (long long)count, plural(count), since ? " for " : "", age);
    else if (streq(name, "loading"))
        buf_addf(out, "waking%s%s", since ? " for " : "", age);
    else if (streq(name, "kept"))
        buf_addf(out, "kept for %s (llmhostctl keep)", left);
    else if (streq(name, "minimum_up"))
        buf_addf(out, "minimum up time for %s", left);
    else if (streq(name, "idle"))
        buf_addf(out, "no request for %s, sleeps in %s", age, left);
    else if (streq(name, "flapping"))
        buf_addf(out, "woken soon after it slept, %lld time%s: sleeps only after %s", (long long)count,
                 plural(count), text);
    else if (streq(name, "stays_up"))
        buf_addf(out, "stays up until down%s%s%s", since ? " (" : "", age, since ? ")" : "");
    else if (streq(name, "not_rented"))
        buf_add_text(out, "not rented, never stopped");
    else if (streq(name, "draining") && !count)
        buf_addf(out, "stopping%s%s", since ? " for " : "", age);
    else if (streq(name, "draining"))
        buf_addf(out, "draining%s%s, %lld request%s left", since ? " for " : "", age, (long long)count,
                 plural(count));
    else if (streq(name, "connecting"))
        buf_addf(out, "connecting%s%s", since ? " for " : "", age);
    else if (streq(name, "tunnel_down"))
        add_tunnel_words(out, count, age, text);
    else if (streq(name, "no_room"))
        buf_add_text(out, text ? text : "no room in memory"); /* for as long as it is waking */
    else if (streq(name, "unloaded"))
        buf_addf(out, "%s%s%s%s; wakes at a request", text ? text : "unloaded", since ? " " : "", age,
                 since ? " ago" : "");
    else if (streq(name, "stopped_by_user"))
        buf_addf(out, "stopped with llmhostctl down%s%s%s", since ? " " : "", age, since ? " ago" : "");
    else if (streq(name, "engine_restarted"))
        add_restart_words(out, count, age, text);
    else if (streq(name, "failure"))
        buf_addf(out, "%s%s%s%s", text ? text : "failed", since ? " (" : "", age, since ? " ago)" : "");
    else {
        _cleanup_free_ char *words = words_of(name);

        buf_addf(out, "%s%s%s%s%s", words, since ? " for " : "", age, text ? ": " : "", text ? text : "");
    }
}

/* What sleeps has no cause: it waits for one. */
static char *causes_text(const char *verdict, const struct json *causes, bool of_machine)
{
    struct buf out;

    if (!json_count(causes))
        return xstrdup(streq(verdict, "asleep") ? "wakes at a request" : "");
    buf_init(&out, SCREEN_BYTES_MAX);
    for (size_t i = 0; i < json_count(causes); i++) {
        buf_add_text(&out, i ? "; " : "");
        add_cause(&out, json_at(causes, i), of_machine);
    }
    return buf_take(&out);
}

static enum style verdict_style(const char *verdict)
{
    if (streq(verdict, "awake"))
        return STYLE_GOOD;
    return streq(verdict, "failed") || streq(verdict, "down") ? STYLE_BAD : STYLE_PLAIN;
}

/* The reason beside target and verdict where it has room, else below them. */
#define REASON_COLUMNS  30
#define VERDICT_COLUMNS 6

/* A model that is on several instances is told with each. */
static char *target_text(const struct json *line)
{
    const char *target = member_text(line, "target", ""), *instance = json_get_text(line, "instance");

    return instance ? xasprintf("%s on %s", target, instance) : xstrdup(target);
}

static void add_line(const struct output *o, const struct json *line, unsigned target_width, struct buf *out)
{
    _cleanup_free_ char *target = target_text(line);
    const char *verdict = member_text(line, "verdict", "?");
    _cleanup_free_ char *causes = causes_text(verdict, json_get(line, "causes"),
                                              !strchr(member_text(line, "target", ":"), ':')),
                        *shown = xstrdup(verdict);
    unsigned beside = target_width + 2 + VERDICT_COLUMNS + 2;
    bool below = o->out_width && o->out_width < beside + REASON_COLUMNS;
    struct buf reason;

    for (char *p = shown; *p; p++)
        *p = (char)toupper((unsigned char)*p);
    buf_init(&reason, SCREEN_BYTES_MAX);
    add_wrapped(&reason, below ? 4 : beside, o->out_width, causes);
    add_padded(out, target, target_width);
    buf_add_text(out, "  ");
    add_styled(out, o->out_colour, verdict_style(verdict), shown);
    if (below || !reason.len)
        buf_addf(out, "\n%s", buf_text(&reason));
    else
        buf_addf(out, "%*s%s", MAX(VERDICT_COLUMNS + 2 - (int)text_columns(shown), 1), "",
                 buf_text(&reason) + MIN(beside, reason.len));
    buf_done(&reason);
}

static void add_not_counted(const struct output *o, const struct json *list, struct buf *out)
{
    struct buf text;

    if (!json_count(list))
        return;
    buf_init(&text, SCREEN_BYTES_MAX);
    buf_add_text(&text, "not counted as activity:");
    for (size_t i = 0; i < json_count(list); i++)
        buf_addf(&text, "%s %s %lldx", i ? "," : "", member_text(json_at(list, i), "cause", "?"),
                 (long long)json_get_int(json_at(list, i), "count", 0));
    buf_add_text(out, "\n");
    add_wrapped(out, 0, o->out_width, buf_text(&text));
    buf_done(&text);
}

void screen_why(const struct output *o, const struct json *reply, struct buf *out)
{
    const struct json *lines = json_get(reply, "lines");
    unsigned width = 0;

    for (size_t i = 0; i < json_count(lines); i++) {
        _cleanup_free_ char *target = target_text(json_at(lines, i));

        width = MAX(width, text_columns(target));
    }
    for (size_t i = 0; i < json_count(lines); i++)
        add_line(o, json_at(lines, i), width, out);
    if (!json_count(lines))
        buf_add_text(out, "no instance and no model: nothing is awake.\n");
    add_not_counted(o, json_get(reply, "not_counted"), out);
}
