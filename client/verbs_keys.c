/* API keys of applications. */
#include "client/verb.h"

#include <string.h>

#include "proto/mem.h"

#define QUICK_MS 10000

/* Once and never again: alone on stdout, so that a script can take it. */
enum exit_status verb_key_add(struct run *r)
{
    _cleanup_call_ struct call call = {
        .method = "KeyAdd", .limit_ms = QUICK_MS, .parameters = json_object(), .secret = true};
    enum exit_status status;
    const char *text;

    verb_no_core();
    if (r->output.json)
        return verb_usage(r, "a new key is shown once, as a line of its own: not with --json.", NULL,
                          "llmhostctl key add NAME");
    json_put_string(call.parameters, "name", r->options.arguments[0]);
    status = verb_connect(r, true);
    if (status == EXIT_DONE)
        status = verb_call(r, &call);
    if (status != EXIT_DONE)
        return status;
    text = json_get_text(json_get(call.answer, "secret"), "text");
    setvbuf(stdout, NULL, _IONBF, 0);
    fputs(text ? text : "", stdout);
    fputc('\n', stdout);
    output_hint(&r->output,
                "this is shown once; only its hash is kept. Applications send it as their API key.\n"
                "  taken away again: llmhostctl key remove %s",
                r->options.arguments[0]);
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
    enum exit_status status;

    json_put_string(call.parameters, "name", r->options.arguments[0]);
    status = verb_connect(r, true);
    if (status == EXIT_DONE)
        status = verb_call(r, &call);
    if (status == EXIT_DONE)
        output_answer(&r->output, call.parameters, screen_key_removed, EXIT_DONE);
    return status;
}
