/* A stream of any bytes, cut into messages, read as calls and replies and held against the contract; and read
 * as a contract. */
#include <stdint.h>
#include <stdlib.h>

#include "proto/buf.h"
#include "proto/json.h"
#include "proto/varlink.h"

static void check_message(const struct varlink_contract *c, const char *text, size_t n)
{
    struct varlink_call call;
    struct varlink_reply reply;

    if (varlink_call_parse(text, n, &call) == 0) {
        _cleanup_free_ char *where = NULL;
        _cleanup_json_ struct json *hidden = varlink_hide_secrets(c, call.method, call.parameters);

        varlink_check_call(c, call.method, call.parameters, &where);
        varlink_call_done(&call);
    }
    if (varlink_reply_parse(text, n, &reply) == 0) {
        varlink_check_reply(c, "Status", reply.parameters, NULL);
        varlink_check_error(c, reply.error ? reply.error : "Failed", reply.parameters, NULL);
        varlink_reply_done(&reply);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    _cleanup_(cleanup_varlink_contract_free) struct varlink_contract *c = NULL, *theirs = NULL;
    _cleanup_free_ char *why = NULL;
    const char *text;
    struct buf in;
    size_t length;

    if (varlink_contract_parse(varlink_io_llmhost, &c, NULL) < 0)
        abort();
    buf_init(&in, SIZE_MAX);
    if (buf_add(&in, data, n) < 0)
        abort();
    varlink_contract_parse(buf_text(&in), &theirs, &why);
    for (; varlink_frame(&in, &text, &length) == 1; buf_drop(&in, length + 1))
        check_message(c, text, length);
    buf_done(&in);
    return 0;
}
