/* links: engine
 * Any bytes as what llama-server answers, and as the last line of an engine's log: it becomes a fault with a
 * code. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/fault.h"
#include "engine/answer.h"
#include "engine/server.h"
#include "proto/json.h"
#include "proto/mem.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    _cleanup_json_ struct json *model = llamacpp_read_model((const char *)data, n);
    _cleanup_free_ char *line = strndup((const char *)data, n), *version = NULL;
    struct fault f = {};

    if (!line)
        abort();
    version = server_version(line);
    if (version && (!*version || strspn(version, "0123456789.") != strlen(version)))
        abort();
    server_explain(&f, "it ended", line);
    if (f.kind == FAULT_NONE || !*f.code || strncmp(f.text, "it ended:", 9) != 0)
        abort();
    struct hub_files h = {};

    if (hub_read_tree((const char *)data, n, n % 2 ? "Q4_K_M" : NULL, &h) == 0 && (!h.n || h.bytes < 0))
        abort();
    json_get_int(json_get(model, "meta"), "size", -1);
    return 0;
}
