/* For scripts: the envelope. `v` rises only for a breaking change. */
#include "client/output.h"

void envelope_write(struct buf *out, const struct json *data, const struct json *error, enum exit_status exit)
{
    _cleanup_json_ struct json *envelope = json_object();

    json_put_int(envelope, "v", 1);
    json_put_bool(envelope, "ok", !error);
    if (exit != EXIT_DONE)
        json_put_int(envelope, "exit", exit);
    if (error)
        json_put(envelope, "error", json_copy(error));
    else
        json_put(envelope, "data", data ? json_copy(data) : json_object());
    json_write(envelope, out);
    buf_add_text(out, "\n");
}
