/* Any text as a pasted ssh command line and as a forward. What is accepted has a host; what is refused has a
 * reason. */
#include <stdint.h>
#include <stdlib.h>

#include "proto/mem.h"
#include "proto/ssh_command.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    _cleanup_free_ char *text = strndup((const char *)data, n), *why = NULL, *forward_why = NULL;
    struct ssh_command command = {0};
    struct ssh_forward forward = {0};

    if (!text)
        abort();
    if (ssh_command_parse(text, &command, &why) == 0 ? !command.host || command.port == 0 : !why)
        abort();
    if (ssh_forward_parse(text, &forward, &forward_why) == 0 ? !forward.host || forward.port == 0
                                                             : !forward_why)
        abort();
    ssh_command_done(&command);
    ssh_forward_done(&forward);
    return 0;
}
