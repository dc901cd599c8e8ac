/* links: engine
 * Any bytes as the head of a GGUF file. What comes out is a number that makes sense; and what the first bytes
 * tell, more of them tell as well. */
#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "engine/gguf.h"
#include "proto/mem.h"

static void check(bool good)
{
    if (!good)
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    struct fits_model m = {0}, part = {0};
    int r = gguf_read_shape(data, n, &m), r_part = gguf_read_shape(data, n / 2, &part);

    check(r == 0 || r == -EAGAIN || r == -EBADMSG);
    check(r_part == -EAGAIN || r_part == r);
    if (r_part == 0)
        check(memcmp(&part, &m, sizeof m) == 0);
    if (r == 0) {
        check(m.token_bytes >= -1 && m.window_token_bytes >= 0 && m.window >= 0 && m.context_max >= 0);
        check(m.weights_bytes == -1 && fits_needs(&m, 4096) == -1);
        m.weights_bytes = 1 << 30;
        check(fits_needs(&m, 4096) >= -1);
    }
    return 0;
}
