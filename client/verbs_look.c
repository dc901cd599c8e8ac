/* status, logs, doctor, version: they look, and change nothing. */
#include "client/verb.h"
#include "proto/mem.h"

#define QUICK_MS   30000 /* answered from memory: longer is a fault */
#define LAST_LINES 10

/* ---- status ---- */

static bool any_in_state(const struct json *list, const char *state)
{
    for (size_t i = 0; i < json_count(list); i++) {
        const char *has = json_get_text(json_at(list, i), "state");

        if (has && streq(has, state))
            return true;
    }
    return false;
}

/* By its own name, not only by that of its machine. */
static bool is_named(const struct options *opt, const struct json *model)
{
    const char *name = json_get_text(model, "name"), *id = json_get_text(model, "id");

    for (unsigned i = 0; i < opt->n_arguments; i++)
        if ((name && glob_match(opt->arguments[i], name)) || (id && streq(opt->arguments[i], id)))
            return true;
    return false;
}

static bool is_down(const struct json *model)
{
    const char *state = json_get_text(model, "state");

    return state && (streq(state, "off") || streq(state, "failed"));
}

/* It may be on several instances: it is not running where all that were named are down. */
static bool runs_elsewhere(const struct options *opt, const struct json *models, const char *name)
{
    for (size_t i = 0; name && i < json_count(models); i++) {
        const struct json *model = json_at(models, i);
        const char *other = json_get_text(model, "name");

        if (other && streq(other, name) && !is_down(model) && is_named(opt, model))
            return true;
    }
    return false;
}

static bool any_named_is_down(const struct options *opt, const struct json *models)
{
    for (size_t i = 0; i < json_count(models); i++) {
        const struct json *model = json_at(models, i);

        if (is_down(model) && is_named(opt, model) &&
            !runs_elsewhere(opt, models, json_get_text(model, "name")))
            return true;
    }
    return false;
}

/* A machine that is off because its models sleep is healthy; it is not running for whoever asks for it by
 * name. */
static bool any_named_is_stopped(const struct options *opt, const struct json *instances)
{
    for (size_t i = 0; i < json_count(instances); i++) {
        const char *state = json_get_text(json_at(instances, i), "state");

        if (state && (streq(state, "stopped") || streq(state, "released")) &&
            is_named(opt, json_at(instances, i)))
            return true;
    }
    return false;
}

/* Asleep is healthy; off and failed are not running. Without a target the answer itself is the good news. */
static enum exit_status status_exit(const struct options *opt, const struct json *reply)
{
    const struct json *models = json_get(reply, "models"), *trouble = json_get(reply, "trouble");
    enum exit_status worst = EXIT_DONE;

    if (opt->n_arguments &&
        (any_named_is_down(opt, models) || any_named_is_stopped(opt, json_get(reply, "instances"))))
        worst = EXIT_NOT_RUNNING;
    for (size_t i = 0; opt->check && i < json_count(trouble); i++)
        worst = exit_worse(worst, (enum exit_status)json_get_int(json_at(trouble, i), "exit", EXIT_FAILED));
    return worst;
}

/* The one thing that was asked for by name: its long form. */
static screen_fn screen_for(const struct options *opt, const struct json *reply)
{
    const struct json *models = json_get(reply, "models"), *instances = json_get(reply, "instances");
    const char *target = opt->n_arguments == 1 ? opt->arguments[0] : NULL;

    if (opt->quiet)
        return screen_names;
    if (!target || glob_is_pattern(target))
        return screen_status;
    if (json_count(models) == 1 && json_get_text(json_at(models, 0), "name") &&
        streq(json_get_text(json_at(models, 0), "name"), target))
        return screen_model;
    if (json_count(instances) == 1 && json_get_text(json_at(instances, 0), "name") &&
        streq(json_get_text(json_at(instances, 0), "name"), target))
        return screen_instance;
    return screen_status;
}

/* What an engine prints about each request says nothing here; why it failed does. */
static struct json *last_sources(bool failed)
{
    static const char *const names[] = {"daemon", "session", "request", "provider", "engine"};
    struct json *sources = json_array();

    for (size_t i = 0; i < ELEMENTS(names) - !failed; i++)
        json_append_string(sources, names[i]);
    return sources;
}

/* The newest lines about the target below its long form; that there are none is no error. */
static void add_last_lines(struct run *r, const char *target, bool failed, struct buf *out)
{
    _cleanup_call_ struct call call = {.method = "Logs", .limit_ms = QUICK_MS, .parameters = json_object()};
    const struct json *lines;

    json_put_string(call.parameters, "target", target);
    json_put_int(call.parameters, "lines", LAST_LINES);
    json_put(call.parameters, "sources", last_sources(failed));
    if (connection_run(r->connection, &call) != EXIT_DONE)
        return;
    lines = json_get(call.answer, "lines");
    if (json_count(lines))
        buf_add_text(out, "\n");
    for (size_t i = 0; i < json_count(lines); i++)
        screen_line(&r->output, json_at(lines, i), false, target, true, out);
}

/* The model's own reply may come without its instance, whose tunnel belongs on the screen. */
static void add_instance_of_model(struct run *r, struct json *reply)
{
    const char *on = json_get_text(json_at(json_get(reply, "models"), 0), "instance");
    _cleanup_call_ struct call call = {.method = "Status", .limit_ms = QUICK_MS, .parameters = json_object()};
    struct json *targets = json_array();

    json_append_string(targets, on ? on : "");
    json_put(call.parameters, "targets", targets);
    if (!on || json_count(json_get(reply, "instances")) || connection_run(r->connection, &call) != EXIT_DONE)
        return;
    json_put(reply, "instances", json_copy(json_get(call.answer, "instances")));
}

static enum exit_status status_once(struct run *r)
{
    _cleanup_call_ struct call call = {
        .method = "Status", .limit_ms = QUICK_MS, .parameters = verb_targets(&r->options)};
    enum exit_status status = verb_call(r, &call);
    screen_fn screen;
    struct buf out;

    if (status != EXIT_DONE)
        return status;
    verb_take_targets(r, call.answer);
    status = status_exit(&r->options, call.answer);
    screen = screen_for(&r->options, call.answer);
    if (r->output.json) {
        output_answer(&r->output, call.answer, NULL, status);
        return status;
    }
    if (screen == screen_model)
        add_instance_of_model(r, call.answer);
    buf_init(&out, SCREEN_BYTES_MAX);
    screen(&r->output, call.answer, &out);
    if (screen == screen_model || screen == screen_instance) {
        add_last_lines(r, r->options.arguments[0],
                       screen == screen_model && any_in_state(json_get(call.answer, "models"), "failed"),
                       &out);
        screen_trouble(&r->output, call.answer, &out);
    }
    output_flush(&out);
    buf_done(&out);
    return status;
}

/* ---- status -w ---- */

struct watch {
    struct run *run;
    struct json *world; /* a Status, kept up to date by the events */
};

static bool is_text(const struct json *thing, const char *key, const char *text)
{
    const char *has = json_get_text(thing, key);

    return text && has && streq(text, has);
}

/* Puts the thing in the place of the one with that name (a model: on that instance), or at the end; NULL:
 * takes that one out. */
static void world_put(struct json *world, const char *list_name, const char *name, const char *on,
                      const struct json *thing)
{
    const struct json *list = json_get(world, list_name);
    struct json *changed = json_array();
    bool found = false;

    for (size_t i = 0; i < json_count(list); i++) {
        bool same =
            is_text(json_at(list, i), "name", name) && (!on || is_text(json_at(list, i), "instance", on));

        if (!same || thing)
            json_append(changed, json_copy(same ? thing : json_at(list, i)));
        found |= same;
    }
    if (!found && thing)
        json_append(changed, json_copy(thing));
    json_put(world, list_name, changed);
}

static bool given(const struct json *reply, const char *key)
{
    return json_get(reply, key) && json_type(json_get(reply, key)) != JSON_NULL;
}

static void world_update(struct json *world, const struct json *reply)
{
    static const char *const whole[] = {"daemon", "models", "instances", "trouble", "accounts"};
    const struct json *model = json_get(reply, "model"), *instance = json_get(reply, "instance");
    const char *gone = json_get_text(reply, "gone");

    for (size_t i = 0; i < ELEMENTS(whole); i++)
        if (given(reply, whole[i]))
            json_put(world, whole[i], json_copy(json_get(reply, whole[i])));
    if (gone) {
        world_put(world, "models", gone, json_get_text(reply, "gone_on"), NULL);
        world_put(world, "instances", gone, NULL, NULL);
    }
    if (given(reply, "model"))
        world_put(world, "models", json_get_text(model, "name"), json_get_text(model, "instance"), model);
    if (given(reply, "instance"))
        world_put(world, "instances", json_get_text(instance, "name"), NULL, instance);
}

/* The end of the screen is what matters most: of one that is too high for the terminal the top is left out.
 */
static const char *bottom_of(const char *screen, unsigned height)
{
    unsigned lines = 0;

    for (const char *p = screen; *p; p++)
        lines += *p == '\n';
    for (; height && lines >= height; lines--)
        screen = strchr(screen, '\n') + 1;
    return screen;
}

/* Written over the old one line by line, so that nothing flickers. */
static void watch_paint(struct watch *w)
{
    struct output *o = &w->run->output;
    struct buf screen, out;

    output_measure(o);
    buf_init(&screen, SCREEN_BYTES_MAX);
    buf_init(&out, 2 * SCREEN_BYTES_MAX);
    screen_status(o, w->world, &screen);
    buf_add_text(&out, "\033[H");
    for (const char *p = bottom_of(buf_text(&screen), o->out_height); *p; p++)
        buf_addf(&out, "%s%c", *p == '\n' ? "\033[K" : "", *p);
    buf_add_text(&out, "\033[J");
    output_flush(&out);
    buf_done(&screen);
    buf_done(&out);
}

/* Off a terminal: a line per change. */
static void watch_line(struct watch *w, const struct json *reply)
{
    const struct json *event = json_get(reply, "event");
    const struct json *thing = given(reply, "model") ? json_get(reply, "model") : json_get(reply, "instance");
    struct buf out;

    buf_init(&out, SCREEN_BYTES_MAX);
    if (given(reply, "event"))
        screen_line(&w->run->output, event, true, "", false, &out);
    else if (json_get_text(thing, "name") && json_get_text(thing, "state"))
        buf_addf(&out, "%s %s\n", json_get_text(thing, "name"), json_get_text(thing, "state"));
    output_flush(&out);
    buf_done(&out);
}

static void watch_on_reply(void *ctx, const struct json *reply)
{
    struct watch *w = ctx;
    bool first = !json_count(w->world);

    world_update(w->world, reply);
    if (w->run->output.json) {
        output_answer(&w->run->output, reply, NULL, EXIT_DONE);
        return;
    }
    if (first && w->run->output.out_terminal)
        fputs("\033[2J", stdout);
    if (w->run->output.out_terminal)
        watch_paint(w);
    else if (first)
        output_answer(&w->run->output, reply, screen_status, EXIT_DONE);
    else
        watch_line(w, reply);
}

/* Ages grow without any event. */
static void watch_on_tick(void *ctx)
{
    struct watch *w = ctx;

    if (json_count(w->world) && w->run->output.out_terminal && !w->run->output.json)
        watch_paint(w);
}

static enum exit_status status_watch(struct run *r)
{
    struct watch w = {.run = r, .world = json_object()};
    _cleanup_call_ struct call call = {.method = "Watch",
                                       .more = true,
                                       .parameters = verb_targets(&r->options),
                                       .on_reply = watch_on_reply,
                                       .on_tick = watch_on_tick,
                                       .tick_ms = 1000,
                                       .ctx = &w};
    enum exit_status status = verb_call(r, &call);

    if (status == EXIT_DONE)
        watch_on_reply(&w, call.answer);
    if (status == EXIT_INTERRUPTED && r->output.out_terminal)
        putchar('\n'); /* the terminal wrote ^C, and the shell writes on */
    json_free(w.world);
    return status;
}

enum exit_status verb_status(struct run *r)
{
    enum exit_status status;

    if (r->options.watch && r->options.check)
        return verb_usage(r, "--check looks once, -w goes on: not both.", NULL, "llmhostctl status -h");
    if (r->options.watch && r->options.quiet && !r->options.json)
        return verb_usage(r, "-q shows names once, -w goes on: not both.", NULL, "llmhostctl status -h");
    status = verb_connect(r, false);
    if (status != EXIT_DONE)
        return status;
    return r->options.watch ? status_watch(r) : status_once(r);
}

/* ---- logs ---- */

static void lines_show(struct run *r, const struct json *reply)
{
    const struct json *lines = json_get(reply, "lines");
    const char *known = r->options.n_arguments ? r->options.arguments[0] : "";
    struct buf out;

    buf_init(&out, SCREEN_BYTES_MAX);
    for (size_t i = 0; i < json_count(lines); i++)
        if (r->output.json)
            envelope_write(&out, json_at(lines, i), NULL, EXIT_DONE);
        else
            screen_line(&r->output, json_at(lines, i), r->options.events, known, false, &out);
    output_flush(&out);
    buf_done(&out);
}

/* Cut logs say so. */
static void older_show(struct run *r, const struct json *reply)
{
    const struct options *opt = &r->options;
    const char *target = opt->n_arguments ? opt->arguments[0] : NULL;
    int64_t older = json_get_int(reply, "older", 0);

    if (older > 0)
        output_hint(&r->output, "-- %lld older line%s: llmhostctl logs%s%s%s%s%s -n %lld --",
                    (long long)older, older == 1 ? "" : "s", target ? " " : "", target ? target : "",
                    opt->events ? " --events" : "", opt->sources ? " --source=" : "",
                    opt->sources ? opt->sources : "",
                    (long long)MIN((int64_t)json_count(json_get(reply, "lines")) + older, 10000));
}

struct logs_shown {
    struct run *run;
    bool begun;
};

static void logs_on_reply(void *ctx, const struct json *reply)
{
    struct logs_shown *shown = ctx;

    if (!shown->begun)
        older_show(shown->run, reply);
    shown->begun = true;
    lines_show(shown->run, reply);
}

static bool is_source(const char *word, size_t n)
{
    static const char *const names[] = {"daemon", "session", "engine", "request", "provider"};

    for (size_t i = 0; i < ELEMENTS(names); i++)
        if (strlen(names[i]) == n && strncmp(names[i], word, n) == 0)
            return true;
    return false;
}

/* "engine,daemon"; NULL when a word is no source, or there is none: no line would ever be shown. */
static struct json *sources_of(const char *list)
{
    _cleanup_json_ struct json *sources = json_array();

    while (*list) {
        size_t n = strcspn(list, ",");

        if (n && !is_source(list, n))
            return NULL;
        if (n)
            json_append(sources, json_string_n(list, n));
        list += n + (list[n] == ',');
    }
    return json_count(sources) ? TAKE_PTR(sources) : NULL;
}

enum exit_status verb_logs(struct run *r)
{
    const struct options *opt = &r->options;
    struct json *sources = opt->sources ? sources_of(opt->sources) : NULL;
    struct logs_shown shown = {.run = r};
    _cleanup_call_ struct call call = {.method = "Logs", .more = opt->follow, .parameters = json_object()};
    enum exit_status status;

    if (opt->sources && !sources) {
        _cleanup_free_ char *message =
            xasprintf("--source=%s: it can be daemon, session, engine, request or provider, with commas "
                      "between several.",
                      opt->sources);

        return verb_usage(r, message, NULL, "llmhostctl logs -h");
    }
    if (opt->n_arguments)
        json_put_string(call.parameters, "target", opt->arguments[0]);
    if (opt->lines >= 0)
        json_put_int(call.parameters, "lines", opt->lines);
    if (opt->since_at_ms >= 0)
        json_put_int(call.parameters, "since_at_ms", opt->since_at_ms);
    if (opt->sources)
        json_put(call.parameters, "sources", sources);
    if (opt->events)
        json_put_bool(call.parameters, "events", true);
    if (opt->follow)
        json_put_bool(call.parameters, "follow", true);
    else
        call.limit_ms = 2 * QUICK_MS; /* lines of an engine are read from the instance */
    call.on_reply = logs_on_reply;
    call.ctx = &shown;
    status = verb_connect(r, false);
    if (status != EXIT_DONE)
        return status;
    status = verb_call(r, &call);
    if (status == EXIT_DONE)
        logs_on_reply(&shown, call.answer);
    return status;
}

/* ---- doctor, version ---- */

enum exit_status verb_doctor(struct run *r)
{
    const struct options *opt = &r->options;
    _cleanup_call_ struct call call = {.method = "Doctor", .parameters = json_object()};
    enum exit_status status;

    if (opt->accept_new_host_key && !opt->n_arguments)
        return verb_usage(r, "--accept-new-host-key needs the name of the instance.", NULL,
                          "llmhostctl doctor INSTANCE --accept-new-host-key=SHA256:...");
    if (opt->drill && !opt->n_arguments)
        return verb_usage(r, "--drill needs the name of the instance.", NULL,
                          "llmhostctl doctor INSTANCE --drill");
    if (opt->n_arguments)
        json_put_string(call.parameters, "target", opt->arguments[0]);
    json_put_string(call.parameters, "accept_new_host_key", opt->accept_new_host_key);
    if (opt->drill)
        json_put_bool(call.parameters, "drill", true);
    status = verb_connect(r, opt->accept_new_host_key || opt->drill);
    if (status != EXIT_DONE)
        return status;
    _cleanup_free_ char *drill =
        opt->drill ? xasprintf("its guard stops %s now; then it has to be off. this takes minutes.",
                               opt->arguments[0])
                   : NULL;

    status = verb_call_waiting(r, &call, drill);
    if (status != EXIT_DONE)
        return status;
    status = json_get_bool(call.answer, "healthy", true) ? EXIT_DONE : EXIT_FAILED;
    output_answer(&r->output, call.answer,
                  opt->accept_new_host_key || opt->drill ? screen_accepted : screen_doctor, status);
    return status;
}

static void screen_version(const struct output *o, const struct json *data, struct buf *out)
{
    const struct json *daemon = json_get(data, "daemon");
    const char *version = json_get_text(daemon, "version");

    (void)o;
    buf_addf(out, "llmhostctl %s\nllmhostd   %s (pid %lld)\n", json_get_text(data, "client"),
             version ? version : "?", (long long)json_get_int(data, "pid", 0));
}

enum exit_status verb_version(struct run *r)
{
    _cleanup_call_ struct call call = {.method = "org.varlink.service.GetInfo", .limit_ms = QUICK_MS};
    _cleanup_json_ struct json *data = json_object();
    enum exit_status status;

    status = verb_connect(r, false);
    if (status == EXIT_DONE)
        status = verb_call(r, &call);
    if (status != EXIT_DONE) {
        if (!r->output.json)
            printf("llmhostctl %s\n", LLMHOST_VERSION);
        return status;
    }
    json_put_string(data, "client", LLMHOST_VERSION);
    json_put(data, "daemon", json_copy(call.answer));
    json_put_int(data, "pid", connection_daemon_pid(r->connection));
    output_answer(&r->output, data, screen_version, EXIT_DONE);
    return EXIT_DONE;
}
