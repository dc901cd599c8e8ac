/* Exit statuses of llmhostctl and the errors of the contract: one for one (llmhostctl(1), EXIT STATUS: they are never reused). */
#pragma once

enum exit_status {
    EXIT_DONE = 0,
    EXIT_FAILED = 1,            /* io.llmhost.Failed */
    EXIT_USAGE = 2,             /* Usage */
    EXIT_NOT_RUNNING = 3,       /* NotRunning */
    EXIT_NOT_FOUND = 4,         /* NotFound */
    EXIT_CREDENTIALS = 5,       /* CredentialsRefused */
    EXIT_NO_CAPACITY = 6,       /* NoCapacity */
    EXIT_TIMED_OUT = 7,         /* TimedOut */
    EXIT_NO_DAEMON = 8,         /* the client's own */
    EXIT_TUNNEL = 9,            /* TunnelFailed */
    EXIT_REFUSED = 10,          /* Refused */
    EXIT_NOT_CONFIRMED = 11,    /* StopNotConfirmed */
    EXIT_CONFLICT = 12,         /* Conflict */
    EXIT_ENGINE = 13,           /* EngineFailed */
    EXIT_INTERRUPTED = 130,     /* the client's own */
};

/* "io.llmhost.NotFound"; io.llmhost.Failed for what has no error of its own. */
const char *error_name(enum exit_status status);
/* io.llmhost.* and org.varlink.service.* (InvalidParameter, MethodNotFound, …: EXIT_USAGE); EXIT_FAILED for the rest. */
enum exit_status error_exit(const char *error);
/* Of two statuses the one to end with when several targets differ: 11, 10, 5, 9, 13, 6, 12, 7, 4, 3, 1, 0.
 * 130, 8 and 2, which end the whole command, are worse than all of them. */
enum exit_status exit_worse(enum exit_status a, enum exit_status b);
