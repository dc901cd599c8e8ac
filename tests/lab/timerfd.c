/* libfaketime (0.9.10, Debian 12) speeds all clocks up, but not a timerfd that is set to an instant of CLOCK_BOOTTIME, which is what the
 * daemon's timers are: it would fire by the kernel's clock, an hour late. Here that instant is translated with the two clocks' present
 * distance. For LD_PRELOAD, in front of libfaketime; built with -DRATE, how much faster its clocks run. */
#define _GNU_SOURCE
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#define S_NS 1000000000LL

static long long ns_of(struct timespec t)
{
    return t.tv_sec * S_NS + t.tv_nsec;
}

int timerfd_settime(int fd, int flags, const struct itimerspec *new, struct itimerspec *old)
{
    struct timespec shown, kernels;
    struct itimerspec set = *new;
    long long due = ns_of(new->it_value);

    if ((flags & TFD_TIMER_ABSTIME) && !(flags & TFD_TIMER_CANCEL_ON_SET) && due > 0) {
        clock_gettime(CLOCK_BOOTTIME, &shown); /* libfaketime's */
        syscall(SYS_clock_gettime, CLOCK_BOOTTIME, &kernels);
        due = ns_of(kernels) + (due - ns_of(shown)) / RATE;
        due = due > 1 ? due : 1;
        set.it_value = (struct timespec){due / S_NS, due % S_NS};
    }
    return (int)syscall(SYS_timerfd_settime, fd, flags, &set, old);
}
