/* What begins a daemon that is gone, or begins it anew, as it was begun here. */
#pragma once

#include <sys/types.h>

enum service_word {
    SERVICE_START,      /* it is not there */
    SERVICE_STATUS,     /* it went away, and why is in systemd's log */
    SERVICE_RESTART,    /* it is there */
};

/* The command. socket: where it is, or was looked for. pid: its process, 0: not known. Caller frees. */
char *service_command(const char *socket, enum service_word word, pid_t pid);
