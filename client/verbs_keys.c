/* API keys of applications, and where they connect. */
#include "client/verb.h"

#include <string.h>

#include "proto/mem.h"

#define QUICK_MS 10000

/* Once and never again: alone on stdout, so that a script can take it. */
static void show_new_key(const struct run *r, const struct json *answer)
{
    const char *text = json_get_text(json_get(answer, "secret"), "text");

    setvbuf(stdout, NULL, _IONBF, 0);
    fputs(text ? text : "", stdout);
    fputc('\n', stdout);
    output_hint(&r->output,
                "this is shown once; only its hash is kept. Applications send it as their API key.\n"
                "  taken away again: llmhostctl key remove %s",
                json_get_text(json_get(answer, "added"), "name"));
}

static enum exit_status no_json(struct run *r, const char *next)
{
    return verb_usage(r, "a new key is shown once, as a line of its own: not with --json.", NULL, next);
}

enum exit_status verb_key_add(struct run *r)
{
    _cleanup_call_ struct call call = {
        .method = "KeyAdd", .limit_ms = QUICK_MS, .parameters = json_object(), .secret = true};
    enum exit_status status;

    verb_no_core();
    if (r->output.json)
        return no_json(r, "llmhostctl key add NAME");
    json_put_string(call.parameters, "name", r->options.arguments[0]);
    status = verb_connect(r, true);
    if (status == EXIT_DONE)
        status = verb_call(r, &call);
    if (status == EXIT_DONE)
        show_new_key(r, call.answer);
    return status;
}

static void screen_listen(const struct output *o, const struct json *reply, struct buf *out)
{
    (void)o;
    buf_addf(out, "applications connect to %s\n", member_text(reply, "endpoint", "?"));
}

/* Programs that went without one until now would only see 401. */
static void hint_keys(const struct run *r, const struct json *reply)
{
    const char *endpoint = member_text(reply, "endpoint", "");

    if (strncmp(endpoint, "http://127.", 11) != 0 && strncmp(endpoint, "http://[::1]", 12) != 0)
        output_hint(&r->output,
                    "whoever asks there needs an API key, on this computer too.");
}

enum exit_status verb_listen(struct run *r)
{
    const char *key = r->options.new_key;
    _cleanup_call_ struct call call = {
        .method = "Listen", .limit_ms = QUICK_MS, .parameters = json_object(), .secret = key != NULL};
    enum exit_status status;

    if (key) {
        verb_no_core();
        if (r->output.json)
            return no_json(r, "llmhostctl listen IP:PORT --new-key");
        json_put_string(call.parameters, "new_key", *key ? key : "listen");
    }
    json_put_string(call.parameters, "address", r->options.arguments[0]);
    status = verb_connect(r, true);
    if (status == EXIT_DONE)
        status = verb_call(r, &call);
    if (status != EXIT_DONE)
        return status;
    if (key) {
        output_hint(&r->output, "applications connect to %s", member_text(call.answer, "endpoint", "?"));
        show_new_key(r, call.answer);
    } else {
        output_answer(&r->output, call.answer, screen_listen, EXIT_DONE);
    }
    hint_keys(r, call.answer);
    return EXIT_DONE;
}

enum exit_status verb_key_list(struct run *r)
{
    _cleanup_call_ struct call call = {.method = "KeyList", .limit_ms = QUICK_MS};
    enum exit_status status = verb_connect(r, false);

    if (status == EXIT_DONE)
        status = verb_call(r, &call);
    if (status == EXIT_DONE)
        output_answer(&r->output, call.answer, screen_keys, EXIT_DONE);
    return status;
}

static void screen_key_removed(const struct output *o, const struct json *data, struct buf *out)
{
    (void)o;
    buf_addf(out, "the key %s is removed: what it opened is refused from now on.\n",
             json_get_text(data, "name"));
}

enum exit_status verb_key_remove(struct run *r)
{
    _cleanup_call_ struct call call = {
        .method = "KeyRemove", .limit_ms = QUICK_MS, .parameters = json_object()};

    json_put_string(call.parameters, "name", r->options.arguments[0]);
    return verb_change(r, &call, screen_key_removed);
}
