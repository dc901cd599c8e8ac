/* A wall clock that was never set: 1970 plus the time since boot, as a board without a battery shows it, plus
 * the seconds that stand in the file $CLOCK_MOVED, which may change. The other clocks are the kernel's. For
 * LD_PRELOAD. */
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static long moved(void)
{
    const char *path = getenv("CLOCK_MOVED");
    FILE *f = path ? fopen(path, "re") : NULL;
    long seconds = 0;

    if (f && fscanf(f, "%ld", &seconds) != 1)
        seconds = 0;
    if (f)
        fclose(f);
    return seconds;
}

int clock_gettime(clockid_t id, struct timespec *t)
{
    int r = (int)syscall(SYS_clock_gettime, id == CLOCK_REALTIME ? CLOCK_BOOTTIME : id, t);

    if (r == 0 && id == CLOCK_REALTIME)
        t->tv_sec += moved();
    return r;
}

time_t time(time_t *t)
{
    struct timespec now;

    clock_gettime(CLOCK_REALTIME, &now);
    if (t)
        *t = now.tv_sec;
    return now.tv_sec;
}

int gettimeofday(struct timeval *restrict t, void *restrict zone)
{
    struct timespec now;

    (void)zone;
    clock_gettime(CLOCK_REALTIME, &now);
    t->tv_sec = now.tv_sec;
    t->tv_usec = now.tv_nsec / 1000;
    return 0;
}
