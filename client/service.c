/* A systemd that does not run is of no use: in a container, on WSL without it, on a NAS. One's own is there when
 * its folder is, where systemctl itself looks; the system's as in sd_booted(3). */
#include "client/service.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "proto/mem.h"
#include "proto/text.h"

#define SYSTEM_FOLDER "/run/llmhost/"

static bool is_of_the_system(const char *socket)
{
    return strncmp(socket, SYSTEM_FOLDER, strlen(SYSTEM_FOLDER)) == 0;
}

static bool has_manager(const char *socket)
{
    const char *runtime = getenv("XDG_RUNTIME_DIR");
    _cleanup_free_ char *own = runtime && *runtime == '/' ? xasprintf("%s/systemd", runtime) : NULL;

    if (is_of_the_system(socket))
        return access("/run/systemd/system", F_OK) == 0;
    return own && access(own, F_OK) == 0;
}

char *service_command(const char *socket, enum service_word word, pid_t pid)
{
    static const char *const words[] = {"start", "status", "restart"};

    if (has_manager(socket))
        return xasprintf("systemctl %s%s llmhostd", is_of_the_system(socket) ? "" : "--user ", words[word]);
    if (word != SERVICE_RESTART)
        return xstrdup("llmhostd &");
    /* It has its socket and its database until it has ended. */
    return pid ? xasprintf("kill %d; sleep 3; llmhostd &", (int)pid)
               : xstrdup("pkill -x llmhostd; sleep 3; llmhostd &");
}
