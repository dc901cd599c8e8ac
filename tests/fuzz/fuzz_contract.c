/* A contract, a NUL, then messages held against it and against our own. What is accepted stays accepted when
 * it was written and read again, and no value of the type Secret is left in the copy for the log. */
#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "proto/buf.h"
#include "proto/json.h"
#include "proto/varlink.h"

static struct varlink_contract *ours;

/* "<secret>" has taken the place of every text under "password". */
static void check_hidden(const struct json *hidden)
{
    const struct json *password = json_get(hidden, "password");

    if (json_text(password) && !streq(json_text(password), "<secret>") &&
        !streq(json_text(password), "<unknown>"))
        abort();
    if (json_type(password) == JSON_OBJECT && json_get_text(password, "text") &&
        !streq(json_get_text(password, "text"), "<secret>"))
        abort();
}

static void check_call(const struct varlink_contract *c, const struct varlink_call *call)
{
    _cleanup_free_ char *where = NULL, *where_again = NULL;
    _cleanup_json_ struct json *hidden = varlink_hide_secrets(c, call->method, call->parameters);
    struct varlink_call again;
    struct buf text;
    int r = varlink_check_call(c, call->method, call->parameters, &where);

    if (r == -EINVAL ? !where : where != NULL)
        abort();
    if (c == ours && strcmp(call->method, "io.llmhost.InstanceAdd") == 0)
        check_hidden(hidden);
    buf_init(&text, VARLINK_MESSAGE_BYTES_MAX + 1);
    if (varlink_call_write(&text, call->method, call->parameters, call->more, call->oneway) == 0) {
        if (varlink_call_parse(text.data, text.len - 1, &again) < 0)
            abort();
        if (varlink_check_call(c, again.method, again.parameters, &where_again) != r)
            abort();
        varlink_call_done(&again);
    }
    buf_done(&text);
}

static void check_message(const struct varlink_contract *c, const char *text, size_t n)
{
    struct varlink_call call;
    struct varlink_reply reply;

    if (varlink_call_parse(text, n, &call) == 0) {
        check_call(c, &call);
        varlink_call_done(&call);
    }
    if (varlink_reply_parse(text, n, &reply) == 0) {
        const char *method = varlink_contract_method(c, 0);

        if (method)
            varlink_check_reply(c, method, reply.parameters, NULL);
        varlink_check_error(c, reply.error ? reply.error : "Failed", reply.parameters, NULL);
        varlink_reply_done(&reply);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    _cleanup_(cleanup_varlink_contract_free) struct varlink_contract *theirs = NULL;
    _cleanup_free_ char *text = strndup((const char *)data, n), *why = NULL;
    size_t length = text ? strlen(text) : 0;

    if (!text || (!ours && varlink_contract_parse(varlink_io_llmhost, &ours, NULL) < 0))
        abort();
    int r = varlink_contract_parse(text, &theirs, &why);

    if (r == 0 ? why != NULL : !why)
        abort();
    for (size_t at = length + 1; at < n;) {
        const uint8_t *end = memchr(data + at, '\0', n - at);
        size_t to = end ? (size_t)(end - data) : n;

        check_message(ours, (const char *)data + at, to - at);
        if (theirs)
            check_message(theirs, (const char *)data + at, to - at);
        at = to + 1;
    }
    return 0;
}
