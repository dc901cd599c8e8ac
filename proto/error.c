/* Three small tables: names, statuses, and which of two is worse. */
#include "proto/error.h"

#include <stddef.h>
#include <string.h>

#include "proto/mem.h"

static const struct {
    enum exit_status status;
    const char *name;
} errors[] = {
    {EXIT_FAILED, "io.llmhost.Failed"},
    {EXIT_USAGE, "io.llmhost.Usage"},
    {EXIT_NOT_RUNNING, "io.llmhost.NotRunning"},
    {EXIT_NOT_FOUND, "io.llmhost.NotFound"},
    {EXIT_CREDENTIALS, "io.llmhost.CredentialsRefused"},
    {EXIT_NO_CAPACITY, "io.llmhost.NoCapacity"},
    {EXIT_TIMED_OUT, "io.llmhost.TimedOut"},
    {EXIT_TUNNEL, "io.llmhost.TunnelFailed"},
    {EXIT_REFUSED, "io.llmhost.Refused"},
    {EXIT_NOT_CONFIRMED, "io.llmhost.StopNotConfirmed"},
    {EXIT_CONFLICT, "io.llmhost.Conflict"},
    {EXIT_ENGINE, "io.llmhost.EngineFailed"},
};

const char *error_name(enum exit_status status)
{
    for (size_t i = 0; i < ELEMENTS(errors); i++)
        if (errors[i].status == status)
            return errors[i].name;
    return "io.llmhost.Failed";
}

enum exit_status error_exit(const char *error)
{
    static const char service[] = "org.varlink.service.";

    if (!error)
        return EXIT_FAILED;
    if (strncmp(error, service, strlen(service)) == 0)
        return EXIT_USAGE;
    for (size_t i = 0; i < ELEMENTS(errors); i++)
        if (streq(errors[i].name, error))
            return errors[i].status;
    return EXIT_FAILED;
}

/* The first three end a command before or between its targets; llmhostctl(1), EXIT STATUS, has the others in order. */
static const enum exit_status worst_first[] = {
    EXIT_INTERRUPTED, EXIT_NO_DAEMON, EXIT_USAGE,       EXIT_NOT_CONFIRMED, EXIT_REFUSED,
    EXIT_CREDENTIALS, EXIT_TUNNEL,    EXIT_ENGINE,      EXIT_NO_CAPACITY,   EXIT_CONFLICT,
    EXIT_TIMED_OUT,   EXIT_NOT_FOUND, EXIT_NOT_RUNNING, EXIT_FAILED,        EXIT_DONE,
};

enum exit_status exit_worse(enum exit_status a, enum exit_status b)
{
    for (size_t i = 0; i < ELEMENTS(worst_first); i++)
        if (worst_first[i] == a || worst_first[i] == b)
            return worst_first[i];
    return EXIT_FAILED;
}
