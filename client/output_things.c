/* What the other verbs show: settings of an instance, forwards, checks, lines of logs. */
#include "client/output.h"
#include "proto/mem.h"

/* InstanceShow is the long form of status with the settings below it. */
void screen_show(const struct output *o, const struct json *reply, struct buf *out)
{
    const struct json *settings = json_get(reply, "settings"), *models = json_get(reply, "models");
    _cleanup_json_ struct json *status = json_object();
    const char *proxy = json_get_text(json_get(reply, "proxy_command"), "text");
    struct json *list = json_array();

    json_append(list, json_copy(json_get(reply, "instance")));
    json_put(status, "instances", list);
    screen_instance(o, status, out);
    for (size_t i = 0; i < json_count(models); i++)
        buf_addf(out, "  %-9s  %s\n", i ? "" : "models", json_text(json_at(models, i)));
    for (size_t i = 0; i < json_count(settings); i++)
        buf_addf(out, "  %-9s  %s = %s\n", i ? "" : "settings", json_key_at(settings, i),
                 member_text(settings, json_key_at(settings, i), ""));
    if (proxy)
        buf_addf(out, "  %-9s  proxy_command = %s\n", json_count(settings) ? "" : "settings", proxy);
    screen_trouble(o, status, out);
}

void screen_forwards(const struct output *o, const struct json *reply, struct buf *out)
{
    static const struct column columns[] = {
        {"LISTEN", false, false}, {"TO", false, false},  {"ON", false, false},
        {"STATE", false, false},  {"CONN", true, false}, {"WHY", false, true},
    };
    _cleanup_table_ struct table *t = table_new(columns, ELEMENTS(columns));
    const struct json *forwards = json_get(reply, "forwards");

    if (!json_count(forwards)) {
        buf_add_text(out, "no forwards: llmhostctl forward add INSTANCE PORT\n");
        return;
    }
    for (size_t i = 0; i < json_count(forwards); i++) {
        const struct json *f = json_at(forwards, i);
        const char *state = member_text(f, "state", "");
        char connections[24];

        snprintf(connections, sizeof(connections), "%lld", (long long)json_get_int(f, "connections", 0));
        table_add(t, STYLE_PLAIN, json_get_text(f, "listen"));
        table_add(t, STYLE_PLAIN, json_get_text(f, "target"));
        table_add(t, STYLE_PLAIN, json_get_text(f, "instance"));
        table_add(t, streq(state, "listening") ? STYLE_GOOD : STYLE_BAD, state);
        table_add(t, STYLE_PLAIN, connections);
        table_add(t, STYLE_PLAIN, json_get_text(f, "reason"));
    }
    table_write(t, o->out_width, o->out_colour, out);
}

/* ---- keys ---- */

void screen_keys(const struct output *o, const struct json *reply, struct buf *out)
{
    static const struct column columns[] = {{"KEY", false, false}, {"MADE", false, true}};
    _cleanup_table_ struct table *t = table_new(columns, ELEMENTS(columns));
    const struct json *keys = json_get(reply, "keys");

    for (size_t i = 0; i < json_count(keys); i++) {
        const struct json *key = json_at(keys, i);
        char age[TEXT_SHORT_MAX];
        _cleanup_free_ char *made = xasprintf("%s ago", age_format(age, json_get_int(key, "made_at_ms", 0)));

        table_add(t, STYLE_PLAIN, json_get_text(key, "name"));
        table_add(t, STYLE_PLAIN, made);
    }
    if (json_count(keys))
        table_write(t, o->out_width, o->out_colour, out);
    else
        buf_addf(out, "no keys%s: llmhostctl key add NAME\n",
                 json_get_bool(reply, "needed", false) ? ", and every request is refused without one"
                                                       : ", and none is needed");
}

/* ---- aliases ---- */

void screen_aliases(const struct output *o, const struct json *reply, struct buf *out)
{
    static const struct column columns[] = {{"ALIAS", false, false}, {"MODEL", false, true}};
    _cleanup_table_ struct table *t = table_new(columns, ELEMENTS(columns));
    const struct json *aliases = json_get(reply, "aliases");

    for (size_t i = 0; i < json_count(aliases); i++) {
        table_add(t, STYLE_PLAIN, json_get_text(json_at(aliases, i), "name"));
        table_add(t, STYLE_PLAIN, json_get_text(json_at(aliases, i), "model"));
    }
    if (json_count(aliases))
        table_write(t, o->out_width, o->out_colour, out);
    else
        buf_add_text(out, "no aliases: llmhostctl alias set NAME MODEL\n");
}

/* ---- the doctor ---- */

#define CHECK_COLUMNS 8 /* "  FAIL  " */

static void add_check(const struct output *o, const struct json *check, struct buf *out)
{
    const char *level = member_text(check, "level", "?"), *message = member_text(check, "message", "");
    const struct json *next = json_get(check, "next");
    bool failed = streq(level, "fail"), fine = streq(level, "ok");
    struct buf lines;

    buf_init(&lines, SCREEN_BYTES_MAX);
    add_wrapped(&lines, CHECK_COLUMNS, o->out_width, message);
    buf_add_text(out, "  ");
    add_styled(out, o->out_colour,
               failed ? STYLE_BAD
               : fine ? STYLE_GOOD
                      : STYLE_BUSY,
               failed ? "FAIL" : level);
    buf_addf(out, "%*s%s", MAX(CHECK_COLUMNS - 2 - (int)text_columns(level), 1), "",
             lines.len ? buf_text(&lines) + MIN(CHECK_COLUMNS, lines.len) : "\n");
    buf_done(&lines);
    for (size_t i = 0; i < json_count(next); i++)
        buf_addf(out, "          %s\n", json_text(json_at(next, i)));
}

/* Grouped by target in the order in which targets come first; the daemon's own checks have none. */
static bool is_first_of_target(const struct json *checks, size_t at)
{
    const char *target = member_text(json_at(checks, at), "target", "");

    for (size_t i = 0; i < at; i++)
        if (streq(member_text(json_at(checks, i), "target", ""), target))
            return false;
    return true;
}

static unsigned count_level(const struct json *checks, const char *level)
{
    unsigned n = 0;

    for (size_t i = 0; i < json_count(checks); i++)
        n += streq(member_text(json_at(checks, i), "level", ""), level);
    return n;
}

static void screen_checks(const struct output *o, const struct json *reply, struct buf *out)
{
    const struct json *checks = json_get(reply, "checks");
    unsigned warnings = count_level(checks, "warn");

    for (size_t i = 0; i < json_count(checks); i++) {
        const char *target = member_text(json_at(checks, i), "target", "");

        if (!is_first_of_target(checks, i))
            continue;
        add_styled(out, o->out_colour, STYLE_HEAD, *target ? target : "daemon");
        buf_add_text(out, "\n");
        for (size_t k = i; k < json_count(checks); k++)
            if (streq(member_text(json_at(checks, k), "target", ""), target))
                add_check(o, json_at(checks, k), out);
    }
    buf_addf(out, "\n%u failed, %u warning%s, %u ok.", count_level(checks, "fail"), warnings,
             warnings == 1 ? "" : "s", count_level(checks, "ok"));
}

void screen_doctor(const struct output *o, const struct json *reply, struct buf *out)
{
    screen_checks(o, reply, out);
    buf_add_text(out, "  nothing was changed.\n");
}

void screen_accepted(const struct output *o, const struct json *reply, struct buf *out)
{
    screen_checks(o, reply, out);
    buf_add_text(out, "\n");
}

/* ---- logs ---- */

static enum style level_style(const char *level)
{
    if (streq(level, "err"))
        return STYLE_BAD;
    return streq(level, "warning") ? STYLE_BUSY : streq(level, "debug") ? STYLE_FAINT : STYLE_PLAIN;
}

/* "no_capacity" -> "no-capacity": one word, so that columns can be cut. */
static char *kind_word(const char *kind)
{
    char *copy = xstrdup(kind);

    for (char *p = copy; *p; p++)
        if (*p == '_')
            *p = '-';
    return copy;
}

void screen_line(const struct output *o, const struct json *line, bool events, const char *known, bool cut,
                 struct buf *out)
{
    const char *level = member_text(line, "level", ""), *text = member_text(line, "text", "");
    const char *target = member_text(line, "target", "");
    int64_t at = json_get_int(line, "at_ms", 0);
    const char *word = streq(level, "err") ? "error: " : streq(level, "warning") ? "warning: " : "";
    char clock[CLOCK_MAX] = "";
    _cleanup_free_ char *kind = kind_word(member_text(line, "kind", "-")), *shown = NULL;
    size_t begin = out->len;
    unsigned used;

    /* Lines of an engine may have no time of their own. */
    add_padded(out, at ? clock_format(clock, at, !events) : "", events ? 8 : 12);
    buf_add_text(out, " ");
    if (events) {
        add_padded(out, *target ? target : "daemon", 24);
        buf_add_text(out, " ");
        add_padded(out, kind, 16);
    } else {
        add_padded(out, member_text(line, "source", ""), 9);
    }
    buf_add_text(out, " ");
    if (!events && *target && !streq(target, known) && !streq(member_text(line, "source", ""), "request"))
        buf_addf(out, "%s: ", target); /* a line of a request names it in its own way */
    used = text_columns(buf_text(out) + begin) + text_columns(word);
    if (cut && o->out_width > used && used + text_columns(text) > o->out_width)
        shown = xasprintf("%.*s\xe2\x80\xa6", (int)text_fit(text, o->out_width - used - 1), text);
    add_styled(out, o->out_colour, level_style(level), word);
    add_styled(out, o->out_colour, level_style(level), shown ? shown : text);
    buf_add_text(out, "\n");
}
