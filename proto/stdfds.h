#pragma once

#include <fcntl.h>
#include <unistd.h>

/* Whoever starts a program may have closed 0, 1 or 2 (`>&-`). The next thing opened would get that number, and then what is meant
 * for people: a socket, the database. /dev/null takes their places, opened with flags. */
static inline void standard_fds_fill(int flags)
{
    int fd;

    do
        fd = open("/dev/null", flags);
    while (fd >= 0 && fd <= STDERR_FILENO);
    if (fd > STDERR_FILENO)
        close(fd);
}
