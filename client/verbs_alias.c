/* Short names of models. */
#include "client/verb.h"

#include "proto/mem.h"

#define QUICK_MS 10000

static void screen_alias_set(const struct output *o, const struct json *reply, struct buf *out)
{
    const struct json *alias = json_get(reply, "alias");

    (void)o;
    buf_addf(out, "%s is short for %s\n", member_text(alias, "name", "?"), member_text(alias, "model", "?"));
}

enum exit_status verb_alias_set(struct run *r)
{
    _cleanup_call_ struct call call = {
        .method = "AliasSet", .limit_ms = QUICK_MS, .parameters = json_object()};
    enum exit_status status;

    json_put_string(call.parameters, "name", r->options.arguments[0]);
    json_put_string(call.parameters, "stands_for", r->options.arguments[1]);
    status = verb_connect(r, true);
    if (status == EXIT_DONE)
        status = verb_call(r, &call);
    if (status == EXIT_DONE)
        output_answer(&r->output, call.answer, screen_alias_set, EXIT_DONE);
    return status;
}

enum exit_status verb_alias_list(struct run *r)
{
    _cleanup_call_ struct call call = {.method = "AliasList", .limit_ms = QUICK_MS};
    enum exit_status status = verb_connect(r, false);

    if (status == EXIT_DONE)
        status = verb_call(r, &call);
    if (status == EXIT_DONE)
        output_answer(&r->output, call.answer, screen_aliases, EXIT_DONE);
    return status;
}

static void screen_alias_removed(const struct output *o, const struct json *data, struct buf *out)
{
    (void)o;
    buf_addf(out, "the alias %s is removed; its model stays.\n", member_text(data, "name", "?"));
}

enum exit_status verb_alias_remove(struct run *r)
{
    _cleanup_call_ struct call call = {
        .method = "AliasRemove", .limit_ms = QUICK_MS, .parameters = json_object()};

    json_put_string(call.parameters, "name", r->options.arguments[0]);
    return verb_change(r, &call, screen_alias_removed);
}
