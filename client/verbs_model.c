/* down, sleep, keep, wait, and what they share with up: what people want of a model. Ctrl-C only stops the
 * looking on; the daemon goes on. */
#include "client/verbs_model.h"

#include "client/again.h"
#include "client/progress.h"
#include "proto/arguments.h"
#include "proto/mem.h"

#define GRACE_MS 10000 /* the daemon ends the wait at --timeout; if it does not, we do */

static void on_tick(void *ctx)
{
    progress_tick(ctx);
}

char *model_instances(const struct json *reply)
{
    const struct json *models = json_get(reply, "models");
    const char *on = json_get_text(json_get(reply, "model"), "instance");
    struct buf out;

    if (!json_count(models))
        return on ? xstrdup(on) : NULL;
    buf_init(&out, 65536);
    for (size_t i = 0; i < json_count(models); i++)
        buf_addf(&out, "%s%s", i ? ", " : "", json_get_text(json_at(models, i), "instance"));
    return buf_take(&out);
}

static void note_width(struct progress *p, const struct json *models)
{
    for (size_t i = 0; i < json_count(models); i++)
        progress_widen(p, text_columns(json_get_text(json_at(models, i), "instance")));
}

static void note_own(struct progress *p, const struct json *reply)
{
    const struct json *models = json_get(reply, "models");
    const char *on = json_get_text(json_get(reply, "model"), "instance"),
               *now = json_get_text(json_get(reply, "progress"), "instance");

    if (on)
        progress_own(p, on);
    if (now)
        progress_own(p, now);
    for (size_t i = 0; i < json_count(models); i++)
        progress_own(p, member_text(json_at(models, i), "instance", "?"));
}

static void on_reply(void *ctx, const struct json *reply)
{
    _cleanup_free_ char *on = model_instances(reply);
    struct progress *p = ctx;

    note_own(p, reply);
    note_width(p, json_get(reply, "models"));
    if (on)
        progress_headline(p, on, json_get(json_get(reply, "instance"), "rental"));
    if (json_count(json_get(reply, "notes")))
        progress_forget(p);
    verb_notes(p->output, reply);
    progress_show(p, json_get(reply, "progress"));
}

void model_call_prepare(struct run *r, struct call *call, struct progress *p)
{
    if (r->options.timeout_ms) {
        json_put_int(call->parameters, "timeout_ms", (int64_t)r->options.timeout_ms);
        call->limit_ms = r->options.timeout_ms + GRACE_MS;
    }
    call->on_reply = on_reply;
    call->on_tick = on_tick;
    call->tick_ms = progress_tick_ms(&r->output);
    call->ctx = p;
}

enum exit_status model_detached(struct run *r, const char *what, const char *watch, const char *give_up)
{
    _cleanup_json_ struct json *error =
        error_make(EXIT_INTERRUPTED, "interrupted", what, NULL, watch, give_up, NULL);

    if (r->output.json) {
        output_error(&r->output, error);
        return EXIT_INTERRUPTED;
    }
    struct buf said;

    buf_init(&said, 4096);
    add_wrapped(&said, 0, r->output.err_width, what);
    fprintf(stderr, "%s  %-8s  %s\n", buf_text(&said), "watch:", watch);
    buf_done(&said);
    if (give_up)
        fprintf(stderr, "  %-8s  %s\n", "give up:", give_up);
    return EXIT_INTERRUPTED;
}

void model_explain_timeout(struct json *error, const char *target, const char *until)
{
    const struct json *next = json_get(error, "next");
    struct json *commands;
    _cleanup_free_ char *command = NULL;

    if (error_status(error) != EXIT_TIMED_OUT)
        return;
    if (!json_get_text(error, "why"))
        json_put_string(error, "why", "the work goes on");
    /* The daemon's own command waits for "ready", unless it says for what. */
    for (size_t i = 0; i < json_count(next); i++) {
        const char *line = json_text(json_at(next, i));

        if (line && !until && strstr(line, " --on ")) /* of several places this one */
            return;
        if (line && strstr(line, " wait ") && (!until || streq(until, "ready") || strstr(line, " --for=")))
            return;
    }
    command = xasprintf("llmhostctl wait %s%s%s", target, until ? " --for=" : "", until ? until : "");
    commands = json_array();
    json_append_string(commands, command);
    json_put(error, "next", commands);
}

/* ---- down ---- */

/* What a machine costs while it is off; nothing where the daemon does not say. */
static void add_stopped_price(struct run *r, const char *name, struct buf *out)
{
    _cleanup_call_ struct call call = {.method = "Cost", .limit_ms = 10000, .parameters = json_object()};
    struct json *targets = json_array();
    char text[AMOUNT_MAX];
    const char *cell;

    json_append_string(targets, name);
    json_put(call.parameters, "targets", targets);
    if (connection_run(r->connection, &call) != EXIT_DONE || !json_count(json_get(call.answer, "lines")))
        return;
    cell = amount_cell(text, json_get(json_at(json_get(call.answer, "lines"), 0), "stopped"), "/h");
    add_part(out, "%s while it is off", streq(cell, "0") ? "nothing" : cell);
}

/* Of a machine whose bill has ended: what it came to, what it costs from now on, how long its data is there.
 */
static void down_add_money(struct run *r, const struct json *reply, struct buf *out)
{
    const struct json *instance = json_get(reply, "instance");
    int64_t released = json_get_int(json_get(instance, "rental"), "released_at_ms", 0);
    const char *name = member_text(instance, "name", "");
    char text[AMOUNT_MAX], at[CLOCK_MAX];
    struct buf parts, text_of;

    if (streq(member_text(instance, "state", ""), "stopped?"))
        buf_addf(out, "  it went away, as its guard was told; nobody confirms that it is off\n");

    if (!is_rental(instance) || !streq(member_text(instance, "state", ""), "stopped"))
        return;
    buf_init(&parts, 4096);
    buf_init(&text_of, 8192);
    if (json_type(json_get(reply, "spent")) == JSON_OBJECT)
        add_part(&parts, "billed %s today", amount_format(text, json_get(reply, "spent"), ""));
    add_stopped_price(r, name, &parts);
    if (released)
        add_part(&parts, "data kept until %s", minute_format(at, released));
    buf_addf(&text_of, "%s is off, and %s says so%s%s", name,
             member_text(instance, "provider", "its provider"), parts.len ? ": " : "", buf_text(&parts));
    add_wrapped(out, 2, r->output.out_width, buf_text(&text_of));
    buf_done(&parts);
    buf_done(&text_of);
}

/* Of one that nobody could tell to go off, nobody knows whether it is on. */
static void stay_add_unknown(const struct output *o, const char *name, struct buf *out)
{
    _cleanup_free_ char *said =
        xasprintf("%s was not reached: whether it is on, and billed, is not known here.", name);

    add_wrapped(out, 2, o->out_width, said);
}

/* Its price is its company's and hers alone who rented it by hand. */
static const char *stay_price(char out[static AMOUNT_MAX], const struct json *instance)
{
    const struct json *rate = json_get(json_get(instance, "rental"), "rate");

    if (!is_rental(instance))
        return "?/h";
    return json_get_int(rate, "milli", 0) ? amount_format(out, rate, "/h") : NULL;
}

/* A word ends what a word began: not what somebody else switched on, or keeps. */
static bool stay_can_be_ended(const struct json *instance)
{
    const struct json *in_box = json_get(instance, "in_box");

    return is_rental(instance) ? streq(member_text(json_get(instance, "rental"), "goal", ""), "on")
                               : !streq(member_text(json_get(in_box, "guard"), "state", ""), "refused");
}

/* What bills on although its model is off: until when, why, and what ends that. */
static void add_stay(const struct output *o, const struct json *list, const char *target, const char *end,
                     struct buf *out)
{
    for (size_t i = 0; i < json_count(list); i++) {
        const struct json *instance = json_at(list, i), *stop = stop_of(instance);
        const char *name = member_text(instance, "name", ""), *stays = member_text(stop, "stays", "");
        int64_t until = json_get_int(stop, "until_at_ms", 0);
        char at[CLOCK_MAX], text[AMOUNT_MAX];
        const char *price = stay_price(text, instance);
        struct buf said;

        if (!is_rental(instance) && streq(member_text(instance, "state", ""), "unknown")) {
            stay_add_unknown(o, name, out);
            continue;
        }
        buf_init(&said, 4096);
        buf_addf(&said, "%s stays on", name);
        if (until)
            buf_addf(&said, " until %s", minute_format(at, until));
        if (streq(stays, "kept"))
            buf_add_text(&said, " (kept)");
        else if (streq(stays, "in_use"))
            buf_add_text(&said, " (in use)");
        if (price)
            buf_addf(&said, ", at %s", price);
        bool can_end = stay_can_be_ended(instance) && !streq(name, target);

        buf_add_text(&said, can_end ? "; end it:" : ".");
        add_wrapped(out, 2, o->out_width, buf_text(&said));
        if (can_end)
            buf_addf(out, "  llmhostctl %s %s\n", end, name);
        buf_done(&said);
    }
}

/* Nobody can promise that nothing comes of these. */
static void down_add_unsure(const struct output *o, const struct json *names, struct buf *out)
{
    struct buf said;

    buf_init(&said, 8192);
    buf_add_text(&said, "a call for ");
    for (size_t i = 0; i < json_count(names); i++)
        buf_addf(&said, "%s%s", i ? ", " : "", json_text(json_at(names, i)));
    buf_add_text(&said, " got no answer. no machine of it is seen; one that comes late is switched off.");
    add_wrapped(out, 2, o->out_width, buf_text(&said));
    buf_done(&said);
}

/* Whoever ends a search wants to know whether it costs something. */
static void down_add_search(const struct output *o, const struct json *search, struct buf *out)
{
    const struct json *names = json_get(search, "instances");
    char took[TEXT_SHORT_MAX], text[AMOUNT_MAX];
    struct buf said;

    if (json_type(search) != JSON_OBJECT)
        return;
    if (!json_get_bool(search, "powered", false) && json_count(json_get(search, "unsure"))) {
        down_add_unsure(o, json_get(search, "unsure"), out);
        return;
    }
    if (!json_get_bool(search, "powered", false)) {
        buf_add_text(out, "  nothing was powered on.\n");
        return;
    }
    buf_init(&said, 8192);
    if (json_count(names) > 1)
        buf_addf(&said, "%zu machines were powered on", json_count(names));
    else
        buf_add_text(&said, "one machine was powered on");
    for (size_t i = 0; json_count(names) > 1 && i < json_count(names); i++)
        buf_addf(&said, "%s%s", i ? ", " : " (", json_text(json_at(names, i)));
    if (json_count(names) > 1)
        buf_add_text(&said, "), one after the other,");
    buf_addf(&said, " for %s, %s, off and confirmed.",
             duration_format(took, (uint64_t)MAX(json_get_int(search, "powered_ms", 0), (int64_t)0), false),
             amount_format(text, json_get(search, "amount"), ""));
    add_wrapped(out, 2, o->out_width, buf_text(&said));
    buf_done(&said);
    if (json_count(json_get(search, "unsure")))
        down_add_unsure(o, json_get(search, "unsure"), out);
}

/* A host that is not rented from here and is not switched off from inside: only what ran on it is off. */
static bool is_plain_host(const struct json *instance, const char *target)
{
    return streq(member_text(instance, "name", ""), target) && !is_rental(instance) && !stop_of(instance);
}

static void add_option(struct buf *out, const char *option, const char *value)
{
    if (!value)
        return;
    buf_addf(out, " %s ", option);
    shell_quote(out, value);
}

/* The whole command, as it would be typed. */
static void down_say_again(const struct output *o, const char *target, const struct json *search)
{
    int64_t most_milli = json_get_int(search, "max_price_milli", 0), disk_gb = json_get_int(search, "disk_gb", 0);
    const struct json *arguments = json_get(search, "arguments");
    struct buf line;

    buf_init(&line, 65536);
    add_option(&line, "--gpu", json_get_text(search, "gpu"));
    if (most_milli)
        buf_addf(&line, " --max-price %lld.%03lld", (long long)(most_milli / 1000),
                 (long long)(most_milli % 1000));
    add_option(&line, "--provider", json_get_text(search, "provider"));
    add_option(&line, "--region", json_get_text(search, "region"));
    add_option(&line, "--image", json_get_text(search, "image"));
    if (disk_gb)
        buf_addf(&line, " --disk %lldG", (long long)disk_gb);
    for (size_t i = 0; i < json_count(arguments); i++) {
        buf_add_text(&line, i ? " " : " -- ");
        shell_quote(&line, json_text(json_at(arguments, i)) ? json_text(json_at(arguments, i)) : "");
    }
    output_hint(o,
                "  nothing is left of the search, and no model waits. to look again:\n"
                "  llmhostctl up %s%s",
                target, buf_text(&line));
    if (json_get_bool(search, "left_out", false))
        output_hint(o, "  %s", ARGUMENTS_LEFT_OUT);
    buf_done(&line);
}

static void down_screen(struct run *r, const char *target, const struct json *reply, bool sleep)
{
    bool is_host = !sleep && is_plain_host(json_get(reply, "instance"), target);
    int64_t took_ms = json_get_int(reply, "took_ms", -1);
    const char *on = r->options.on, *at = r->options.at;
    const struct json *search = json_get(reply, "search");
    char took[TEXT_SHORT_MAX];
    struct buf out;

    buf_init(&out, 65536);
    if (is_host)
        buf_addf(&out, "nothing runs on %s any more%s", target, r->options.forget ? ", and it is forgotten" : "");
    else
        buf_addf(&out, "%s%s%s%s is %s%s", glob_is_pattern(target) ? "what matches " : "", target,
                 on ? " on " : "", on ? on : "", sleep ? "asleep" : "off",
                 r->options.forget ? " and forgotten" : "");
    if (took_ms >= 0)
        buf_addf(&out, ", after %s", duration_format(took, (uint64_t)took_ms, true));
    buf_add_text(&out, ".\n");
    if (is_host)
        buf_add_text(&out, "  the machine itself stays on: it is not rented from here.\n");
    down_add_search(&r->output, search, &out);
    down_add_money(r, reply, &out);
    for (size_t i = 0; i < json_count(json_get(reply, "ended")); i++)
        down_add_money(r, json_at(json_get(reply, "ended"), i), &out);
    add_stay(&r->output, json_get(reply, "stay"), target, "down", &out);
    if (at && json_get(reply, "machine"))
        buf_addf(&out, "  %s says so: %s\n", at, member_text(json_get(reply, "machine"), "state", "?"));
    output_flush(&out);
    buf_done(&out);
    if (at)
        output_hint(&r->output,
                    "  it is there with its data, and what its disk costs. to give it back:\n"
                    "  llmhostctl release --at %s %s",
                    at, target);
    else if (sleep)
        output_hint(&r->output, "  the next request wakes it");
    else if (json_get_text(search, "gpu") && strchr(target, ':') && !glob_is_pattern(target))
        down_say_again(&r->output, target, search);
    else if (r->output.err_moves && !r->options.forget && strchr(target, ':') && !glob_is_pattern(target))
        output_hint(&r->output, "  it stays off until: llmhostctl up %s%s%s", target, on ? " --on " : "",
                    on ? on : "");
}

/* One row of several targets. */
static struct json *row_make(const char *target, enum exit_status status, struct call *call)
{
    struct json *row = json_object();

    json_put_string(row, "target", target);
    json_put_int(row, "exit", status);
    if (call->error)
        json_put(row, "error", json_copy(call->error));
    else
        json_put(row, "data", json_copy(call->answer));
    return row;
}

static enum exit_status down_one(struct run *r, const char *target, struct json *rows, bool sleep)
{
    _cleanup_progress_ struct progress p;
    _cleanup_call_ struct call call = {
        .method = sleep ? "Sleep" : "Down", .more = true, .parameters = json_object()};
    enum exit_status status;

    progress_init(&p, &r->output, target);
    json_put_string(call.parameters, "target", target);
    json_put_string(call.parameters, "on", r->options.on);
    json_put_string(call.parameters, "at", r->options.at);
    if (r->options.now)
        json_put_bool(call.parameters, "now", true);
    if (r->options.forget)
        json_put_bool(call.parameters, "forget", true);
    model_call_prepare(r, &call, &p);
    status = connection_run(r->connection, &call);
    progress_leave(&p);
    if (status == EXIT_INTERRUPTED)
        return status;
    if (call.error && !r->options.at)
        model_explain_timeout(call.error, target, sleep ? "idle" : "stopped");
    if (call.error)
        again_complete(call.error, r);
    if (rows)
        json_append(rows, row_make(target, status, &call));
    else if (status != EXIT_DONE)
        output_error(&r->output, call.error);
    else if (r->output.json)
        output_answer(&r->output, call.answer, NULL, EXIT_DONE);
    else
        down_screen(r, target, call.answer, sleep);
    return status;
}

static enum exit_status down_detached(struct run *r, const char *target, bool sleep)
{
    _cleanup_free_ char *watch =
        r->options.at ? xstrdup("llmhostctl status")
                      : xasprintf("llmhostctl wait %s --for=%s", target, sleep ? "idle" : "stopped");
    _cleanup_free_ char *give_up = xasprintf("llmhostctl up %s", target);
    bool is_model = strchr(target, ':') && !glob_is_pattern(target);

    return model_detached(r, "detached; the daemon goes on with it.", watch, is_model ? give_up : NULL);
}

static enum exit_status down_all(struct run *r, bool sleep)
{
    const struct options *opt = &r->options;
    _cleanup_json_ struct json *rows = opt->n_arguments > 1 && r->output.json ? json_array() : NULL;
    enum exit_status status = verb_connect(r, true), worst = EXIT_DONE;

    if (status != EXIT_DONE)
        return status;
    for (unsigned i = 0; i < opt->n_arguments; i++) {
        status = down_one(r, opt->arguments[i], rows, sleep);
        if (status == EXIT_INTERRUPTED)
            return down_detached(r, opt->arguments[i], sleep);
        if (status == EXIT_NO_DAEMON || status == EXIT_USAGE) {
            worst = status;
            break;
        }
        worst = exit_worse(worst, status);
    }
    if (rows) {
        _cleanup_json_ struct json *data = json_object();

        json_put(data, "targets", TAKE_PTR(rows));
        output_answer(&r->output, data, NULL, worst);
    }
    return worst;
}

enum exit_status verb_down(struct run *r)
{
    return down_all(r, false);
}

enum exit_status verb_sleep(struct run *r)
{
    return down_all(r, true);
}

/* ---- keep ---- */

#define ROUND_MS 1500 /* what passes until it is shown: 2h, not 1h59m */

/* It is looked for, or comes up: it stays nowhere yet. */
static bool keep_is_to_come(const struct json *instance)
{
    static const char *const states[] = {"absent", "waiting", "creating", "starting"};

    for (size_t i = 0; i < ELEMENTS(states); i++)
        if (is_rental(instance) && streq(member_text(instance, "state", ""), states[i]))
            return true;
    return false;
}

static bool is_kept(const struct json *model)
{
    return streq(member_text(model, "goal", ""), "on");
}

static bool keep_has_kept(const struct json *models)
{
    for (size_t i = 0; i < json_count(models); i++)
        if (is_kept(json_at(models, i)))
            return true;
    return false;
}

/* Of a model whose own keep goes on after that of its machine. */
static void keep_left_screen(const struct json *model)
{
    const struct json *next = json_get(model, "next");
    const char *name = member_text(model, "name", ""), *on = member_text(model, "instance", "");
    char at[CLOCK_MAX] = "";

    if (streq(member_text(next, "action", ""), "keep_ends"))
        minute_format(at, json_get_int(next, "at_ms", 0));
    printf("%s on %s is kept all the same%s%s; end that:\n  llmhostctl keep --off %s --on %s\n", name, on,
           *at ? ", until " : "", at, name, on);
}

/* The keep is over: whether its machine stops now is for what else keeps it. */
static void keep_over_screen(const struct json *reply, const char *target)
{
    const char *name = member_text(json_get(reply, "instance"), "name", "");

    if (!*name || json_count(json_get(reply, "stay")))
        return;
    if (!keep_has_kept(json_get(reply, "models")))
        printf("%s stops again when nobody asks.\n", name);
    else if (streq(name, target))
        printf("the keep of %s itself is over.\n", name);
}

/* Of a machine: until when, and what that comes to. */
static void keep_instance_screen(const struct json *reply, int64_t keep_until)
{
    const struct json *instance = json_get(reply, "instance"), *cost = json_get(reply, "cost");
    int64_t until = json_get_int(stop_of(instance), "until_at_ms", 0);
    const char *name = member_text(instance, "name", "");
    char at[CLOCK_MAX], text[AMOUNT_MAX];

    if (json_type(instance) != JSON_OBJECT)
        return;
    bool no_card = json_get_bool(json_get(instance, "rental"), "no_card", false);
    bool to_come = !no_card && keep_is_to_come(instance);

    printf("%s %s", name,
           no_card   ? "comes up without its card, and stays"
           : to_come ? "is not on yet; once it is on it stays"
                     : "stays up");
    until = to_come ? keep_until : until;
    if (until)
        printf(" until %s", minute_format(at, until));
    if (json_type(cost) == JSON_OBJECT)
        printf(", about %s", amount_format(text, cost, ""));
    printf(is_rental(instance) ? ". guard lease and balance still apply.\n" : ", by its guard.\n");
}

static void keep_screen(const struct run *r, const struct json *reply, int64_t keep_until)
{
    const char *target = r->options.arguments[0];
    const struct json *models = json_get(reply, "models");
    bool off = r->options.off;
    struct buf out;

    if (off)
        keep_over_screen(reply, target);
    else
        keep_instance_screen(reply, keep_until);

    for (size_t i = 0; i < json_count(models); i++) {
        const struct json *model = json_at(models, i), *next = json_get(model, "next");
        const char *name = json_get_text(model, "name"), *action = json_get_text(next, "action");
        int64_t left_ms = json_get_int(next, "at_ms", 0) - now_at_ms();
        char left[TEXT_SHORT_MAX];

        if (off && is_kept(model))
            keep_left_screen(model);
        else if (!is_kept(model))
            printf("%s sleeps again when nobody asks.\n", name);
        else if (action && streq(action, "keep_ends"))
            printf("%s is kept for %s.\n", name,
                   duration_format(left, (uint64_t)MAX(left_ms + ROUND_MS, 0), false));
        else
            printf("%s is kept, and %s.\n", name,
                   keep_is_to_come(json_get(reply, "instance")) ? "waits for its machine" : "is being woken");
    }
    buf_init(&out, 65536);
    add_stay(&r->output, json_get(reply, "stay"), target, "keep --off", &out);
    output_flush(&out);
    buf_done(&out);
}

enum exit_status verb_keep(struct run *r)
{
    const struct options *opt = &r->options;
    _cleanup_call_ struct call call = {.method = "Keep", .parameters = json_object(), .limit_ms = 30000};
    uint64_t for_ms = 0;
    enum exit_status status;

    json_put_string(call.parameters, "target", opt->arguments[0]);
    json_put_string(call.parameters, "on", opt->on);
    if (opt->off == (opt->n_arguments == 2))
        return verb_usage(r,
                          opt->off ? "--off ends a keep; a time begins one: not both."
                                   : "keep has an end: say for how long.",
                          NULL, "llmhostctl keep TARGET 2h");
    if (!opt->off && (duration_parse(opt->arguments[1], &for_ms) < 0 || !for_ms)) {
        _cleanup_free_ char *message = xasprintf("\"%s\" is no time; write 90m or 2h.", opt->arguments[1]);

        return verb_usage(r, message, NULL, "llmhostctl keep -h");
    }
    if (opt->no_card)
        json_put_bool(call.parameters, "no_card", true);
    json_put_int(call.parameters, "for_ms", (int64_t)for_ms);
    status = verb_connect(r, true);
    if (status == EXIT_DONE)
        status = verb_call(r, &call);
    if (status != EXIT_DONE)
        return status;
    if (r->output.json)
        output_answer(&r->output, call.answer, NULL, EXIT_DONE);
    else
        keep_screen(r, call.answer, now_at_ms() + (int64_t)for_ms);
    return EXIT_DONE;
}

/* ---- wait ---- */

/* A model that is off says nothing of its machine, which bills. */
static void wait_add_machine(const struct output *o, const struct json *answer, const char *target,
                             struct buf *out)
{
    const struct json *instance = json_get(answer, "instance");
    const char *name = member_text(instance, "name", ""), *state = member_text(instance, "state", "");
    char text[AMOUNT_MAX];
    const char *price = stay_price(text, instance);

    if (!is_rental(instance) || streq(name, target) || streq(state, "waiting"))
        return;
    bool goes_off = !streq(member_text(json_get(instance, "rental"), "goal", ""), "on");
    _cleanup_free_ char *said = xasprintf(
        "its machine %s %s%s%s%s", name, streq(state, "running") ? "is still on" : "is not confirmed off",
        price ? ", at " : "", price ? price : "", goes_off ? "; until its company says that it is off:" : ".");

    add_wrapped(out, 2, o->out_width, said);
    if (goes_off)
        buf_addf(out, "  llmhostctl wait %s --for=confirmed\n", name);
}

struct wait_shown {
    struct progress progress;
    const char *until;
};

static void wait_show(struct wait_shown *w, const struct json *reply)
{
    const char *state = json_get_text(json_get(reply, "model"), "state");
    _cleanup_json_ struct json *progress = json_object();
    _cleanup_free_ char *text = NULL;

    if (!state && streq(w->until, "confirmed"))
        state = json_get_text(json_get(reply, "instance"), "state");
    if (!state)
        state = json_get_text(json_get(json_get(reply, "instance"), "tunnel"), "state");
    text = state ? xasprintf("until %s, now %s", w->until, state) : xasprintf("until %s", w->until);
    json_put_string(progress, "stage", "wait");
    json_put_string(progress, "state", "running");
    json_put_string(progress, "text", text);
    progress_show(&w->progress, progress);
}

static void wait_on_reply(void *ctx, const struct json *reply)
{
    wait_show(ctx, reply);
}

static void wait_on_tick(void *ctx)
{
    struct wait_shown *w = ctx;

    progress_tick(&w->progress);
}

static const char *wait_result(const char *target, const char *until, const struct json *answer)
{
    bool is_asleep = streq(member_text(json_get(answer, "model"), "state", ""), "asleep");
    bool is_machine = streq(member_text(json_get(answer, "instance"), "name", ""), target);

    if (streq(until, "tunnel"))
        return "is connected";
    if (streq(until, "idle"))
        return "is asleep, or off";
    if (streq(until, "confirmed"))
        return is_asleep && !is_machine ? "is asleep, its machine confirmed off; a request wakes it"
                                        : "is off, and its provider says so";
    if (is_asleep)
        return "is asleep; a request wakes it";
    return streq(until, "ready") ? "is ready" : "is off";
}

static void wait_screen(struct run *r, const char *target, const char *until, const struct json *answer)
{
    struct buf out;

    buf_init(&out, 8192);
    buf_addf(&out, "%s %s.\n", target, wait_result(target, until, answer));
    if (streq(until, "stopped"))
        wait_add_machine(&r->output, answer, target, &out);
    output_flush(&out);
    buf_done(&out);
}

static enum exit_status wait_end(struct run *r, const char *target, const char *until,
                                 enum exit_status status, struct call *call)
{
    _cleanup_free_ char *watch = xasprintf("llmhostctl wait %s --for=%s", target, until);

    if (status == EXIT_INTERRUPTED)
        return model_detached(r, "no longer waiting; nothing was changed.", watch, NULL);
    if (status != EXIT_DONE) {
        model_explain_timeout(call->error, target, until);
        return verb_failed(r, call);
    }
    if (r->output.json)
        output_answer(&r->output, call->answer, NULL, EXIT_DONE);
    else
        wait_screen(r, target, until, call->answer);
    return EXIT_DONE;
}

enum exit_status verb_wait(struct run *r)
{
    const char *target = r->options.arguments[0], *until = r->options.until ? r->options.until : "ready";
    _cleanup_call_ struct call call = {.method = "Wait", .more = true, .parameters = json_object()};
    struct wait_shown w = {.until = until};
    enum exit_status status;

    if (!streq(until, "ready") && !streq(until, "idle") && !streq(until, "stopped") &&
        !streq(until, "tunnel") && !streq(until, "confirmed")) {
        _cleanup_free_ char *message =
            xasprintf("--for=%s: it can be ready, idle, stopped, tunnel or confirmed.", until);

        return verb_usage(r, message, NULL, "llmhostctl wait -h");
    }
    status = verb_connect(r, false);
    if (status != EXIT_DONE)
        return status;
    progress_init(&w.progress, &r->output, target);
    w.progress.header = true;
    json_put_string(call.parameters, "target", target);
    json_put_string(call.parameters, "until", until);
    model_call_prepare(r, &call, NULL);
    call.on_reply = wait_on_reply;
    call.on_tick = wait_on_tick;
    call.ctx = &w;
    if (r->output.err_moves)
        wait_show(&w, NULL);
    status = connection_run(r->connection, &call);
    progress_clear(&w.progress);
    progress_done(&w.progress);
    return wait_end(r, target, until, status, &call);
}
