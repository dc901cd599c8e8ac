/* What all verbs do: connect, call, show what went wrong. */
#include "client/verb.h"

#include <errno.h>
#include <string.h>
#include <sys/resource.h>

#include "client/again.h"
#include "client/ask.h"
#include "client/guards.h"
#include "client/service.h"
#include "proto/mem.h"

#define ACCEPTED_MS 1000 /* a call that was not refused by then is under way */

/* "0.4.1" -> 0 and 4: within one of these the contract only grows. */
static bool version_agrees(const char *theirs)
{
    int ours[2] = {0, 0}, other[2] = {0, 0};

    if (sscanf(LLMHOST_VERSION, "%d.%d", &ours[0], &ours[1]) != 2 ||
        sscanf(theirs, "%d.%d", &other[0], &other[1]) != 2)
        return false;
    return ours[0] == other[0] && ours[1] == other[1];
}

/* Reading goes on, with a word; a change is refused before it is made. */
static enum exit_status version_check(struct run *r, bool changes)
{
    _cleanup_call_ struct call call = {.method = "org.varlink.service.GetInfo", .limit_ms = 10000};
    enum exit_status status = verb_call(r, &call);
    const char *theirs;

    if (status != EXIT_DONE)
        return status;
    theirs = json_get_text(call.answer, "version");
    if (!theirs || version_agrees(theirs))
        return EXIT_DONE;

    _cleanup_free_ char *restart = service_command(connection_socket(r->connection), SERVICE_RESTART,
                                                   connection_daemon_pid(r->connection));

    if (!changes) {
        output_hint(&r->output,
                    "llmhostctl %s talks to llmhostd %s: reading works, changes need a restart:\n"
                    "  %s",
                    LLMHOST_VERSION, theirs, restart);
        return EXIT_DONE;
    }
    _cleanup_free_ char *message =
        xasprintf("llmhostctl %s talks to llmhostd %s: nothing was changed.", LLMHOST_VERSION, theirs);
    _cleanup_json_ struct json *error =
        error_make(EXIT_FAILED, "version_mismatch", message,
                   "reading works, changes need the same version on both sides", restart, NULL);

    output_error(&r->output, error);
    return EXIT_FAILED;
}

enum exit_status verb_connect(struct run *r, bool changes)
{
    _cleanup_json_ struct json *error = NULL;
    enum exit_status status = connection_open(r->options.socket, &r->connection, &error);

    if (status != EXIT_DONE) {
        if (streq(json_get_text(error, "code"), "no_daemon"))
            guards_note(error);
        output_error(&r->output, error);
        return status;
    }
    connection_set_verbatim(r->connection, r->output.json);
    return version_check(r, changes);
}

struct json *verb_targets(const struct options *opt)
{
    struct json *parameters = json_object(), *targets;

    if (!opt->n_arguments)
        return parameters;
    targets = json_array();
    for (unsigned i = 0; i < opt->n_arguments; i++)
        json_append_string(targets, opt->arguments[i]);
    json_put(parameters, "targets", targets);
    return parameters;
}

void verb_take_targets(struct run *r, const struct json *reply)
{
    const struct json *targets = json_get(reply, "targets");

    for (unsigned i = 0; i < r->options.n_arguments && i < json_count(targets); i++)
        if (json_text(json_at(targets, i)))
            r->options.arguments[i] = (char *)json_text(json_at(targets, i));
}

enum exit_status verb_failed(struct run *r, const struct call *call)
{
    if (!call->error)
        return EXIT_INTERRUPTED;
    again_complete(call->error, r);
    output_error(&r->output, call->error);
    return error_status(call->error);
}

enum exit_status verb_call(struct run *r, struct call *call)
{
    enum exit_status status = connection_run(r->connection, call);

    return status == EXIT_DONE ? status : verb_failed(r, call);
}

struct waiting {
    struct run *run;
    const char *text; /* NULL: it was said */
    uint64_t say_at;
};

static void waiting_on_tick(void *ctx)
{
    struct waiting *w = ctx;

    if (!w->text || steady_now_ms() < w->say_at)
        return;
    output_hint_wrapped(&w->run->output, w->text);
    w->text = NULL;
}

enum exit_status verb_call_waiting(struct run *r, struct call *call, const char *text)
{
    struct waiting w = {.run = r, .text = text, .say_at = steady_now_ms() + ACCEPTED_MS};

    call->on_tick = waiting_on_tick;
    call->tick_ms = ACCEPTED_MS;
    call->ctx = &w;
    return verb_call(r, call);
}

enum exit_status verb_change(struct run *r, struct call *call, screen_fn screen)
{
    enum exit_status status = verb_connect(r, true);

    if (status == EXIT_DONE)
        status = verb_call(r, call);
    if (status == EXIT_DONE)
        output_answer(&r->output, call->parameters, screen, EXIT_DONE);
    return status;
}

void verb_notes(const struct output *o, const struct json *reply)
{
    const struct json *notes = json_get(reply, "notes");

    for (size_t i = 0; i < json_count(notes); i++) {
        static const char head[] = "  note: ";
        struct buf lines;

        buf_init(&lines, SCREEN_BYTES_MAX);
        add_wrapped(&lines, strlen(head), o->err_width, json_text(json_at(notes, i)));
        if (lines.len > strlen(head))
            output_hint(o, "%s%.*s", head, (int)(lines.len - strlen(head) - 1),
                        buf_text(&lines) + strlen(head));
        buf_done(&lines);
    }
}

void verb_no_core(void)
{
    setrlimit(RLIMIT_CORE, &(struct rlimit){0, 0});
}

/* ---- secrets ---- */

static const char *read_error_word(int r)
{
    switch (-r) {
    case EFBIG: return "longer than 64 KiB";
    case ENODATA: return "empty";
    case EILSEQ: return "not a text (it has a zero byte)";
    default: return strerror(-r);
    }
}

enum exit_status verb_secret_from(struct run *r, const char *what, const char *path, bool one_line,
                                  struct secret *ret)
{
    int e = path ? secret_read(path, one_line, ret) : 0;
    _cleanup_free_ char *message = NULL, *help = NULL;

    if (e == 0)
        return EXIT_DONE;
    message = xasprintf("cannot read the %s from %s: %s.", what, streq(path, "-") ? "standard input" : path,
                        read_error_word(e));
    help = xasprintf("llmhostctl %s -h", r->verb->name);
    return verb_usage(r, message, NULL, help);
}

enum exit_status verb_secret_asked(struct run *r, const char *what, const char *about, const char *flag,
                                   struct secret *ret)
{
    _cleanup_free_ char *prompt = xasprintf("%s for %s (not shown): ", what, about);
    _cleanup_free_ char *message = NULL;
    int e;

    if (r->output.json || !ask_is_possible()) {
        message = xasprintf("no %s for %s, and nobody to ask.", what, about);
        return verb_usage(r, message, "there is no terminal, or --json was given", flag);
    }
    e = ask_secret(prompt, ret);
    if (e == -EINTR)
        return EXIT_INTERRUPTED;
    if (e < 0 || ret->n == 0) {
        message = xasprintf("no %s given.", what);
        return verb_usage(r, message, NULL, flag);
    }
    return EXIT_DONE;
}

void verb_put_secret(struct json *parameters, const char *key, const char *text, size_t n)
{
    struct json *object;

    if (!text)
        return;
    object = json_object();
    json_put(object, "text", json_string_n(text, n));
    json_put(parameters, key, object);
}

/* What was typed stands in it, and is nothing that a terminal obeys. Caller frees. */
static char *cleaned(const char *text)
{
    struct buf out;
    char *copy;

    if (!text)
        return NULL;
    buf_init(&out, SCREEN_BYTES_MAX);
    utf8_clean(&out, text, strlen(text), true);
    copy = xstrdup(buf_text(&out));
    buf_done(&out);
    return copy;
}

enum exit_status verb_usage(struct run *r, const char *message, const char *why, const char *next)
{
    _cleanup_free_ char *clean_message = cleaned(message), *clean_why = cleaned(why),
                        *clean_next = cleaned(next);
    _cleanup_json_ struct json *error =
        error_make(EXIT_USAGE, "usage", clean_message, clean_why, clean_next, NULL);

    output_error(&r->output, error);
    return EXIT_USAGE;
}
