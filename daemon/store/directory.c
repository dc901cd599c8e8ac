/* Whose everything is, is looked at before anything is changed. */
#include "store/directory.h"

#include <errno.h>
#include <fcntl.h>
#include <pwd.h>
#include <sys/file.h>
#include <sys/stat.h>

#include "base/fault.h"
#include "proto/mem.h"
#include "store/database.h"

static const char *owner_name(uid_t uid)
{
    const struct passwd *p = getpwuid(uid);

    return p ? p->pw_name : "somebody else";
}

static int check_owner(const char *path, const struct stat *st, struct fault *f)
{
    if (st->st_uid == geteuid())
        return 0;
    _cleanup_free_ char *owner = xstrdup(owner_name(st->st_uid));

    return fault_set(f, FAULT_DENIED, -EPERM,
                     "%s belongs to %s (uid %u), this is %s (uid %u): "
                     "start llmhostd as its owner, or give it another state directory",
                     path, owner, st->st_uid, owner_name(geteuid()), geteuid());
}

int directory_check(const char *directory, struct fault *f)
{
    struct stat st;

    if (mkdir(directory, 0700) < 0 && errno != EEXIST)
        return fault_set(f, FAULT_DENIED, -errno, "%s cannot be made (%s)", directory, strerror(errno));
    if (stat(directory, &st) < 0)
        return database_fault_errno(directory, -errno, f);
    if (!S_ISDIR(st.st_mode))
        return fault_set(f, FAULT_DENIED, -ENOTDIR, "%s is not a directory", directory);
    int r = check_owner(directory, &st, f);

    if (r < 0)
        return r;
    if (st.st_mode & 022)
        return fault_set(f, FAULT_DENIED, -EPERM, "%s can be written by others: chmod go-w %s", directory,
                         directory);
    return 0;
}

int directory_check_file(const char *path, const struct stat *st, struct fault *f)
{
    if (S_ISLNK(st->st_mode))
        return fault_set(f, FAULT_DENIED, -EPERM, "%s is a link", path);
    if (!S_ISREG(st->st_mode))
        return fault_set(f, FAULT_DENIED, -EPERM, "%s is not a plain file", path);
    return check_owner(path, st, f);
}

int directory_make_file(const char *path, int *ret_fd, struct fault *f)
{
    _cleanup_close_ int fd = open(path, O_RDWR | O_CREAT | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC, 0600);
    struct stat st;

    if (fd < 0 && errno == ELOOP)
        return fault_set(f, FAULT_DENIED, -EPERM, "%s is a link", path);
    if (fd < 0 || fstat(fd, &st) < 0)
        return database_fault_errno(path, -errno, f);
    int r = directory_check_file(path, &st, f);

    if (r < 0)
        return r;
    *ret_fd = TAKE_FD(fd);
    return 0;
}

/* ---- the lock ---- */

static int fault_in_use(const char *directory, int fd, struct fault *f)
{
    char text[24] = "";
    long pid = fd >= 0 && pread(fd, text, sizeof(text) - 1, 0) > 0 ? strtol(text, NULL, 10) : 0;

    if (pid > 0)
        return fault_set(f, FAULT_DENIED, -EBUSY, "%s is in use by another llmhostd (process %ld)", directory,
                         pid);
    return fault_set(f, FAULT_DENIED, -EBUSY, "%s is in use by another llmhostd", directory);
}

/* For people. A disk that is full or read-only does without it. */
static void write_pid(int fd)
{
    char text[24];

    snprintf(text, sizeof(text), "%ld\n", (long)getpid());
    if (ftruncate(fd, 0) < 0 || pwrite(fd, text, strlen(text), 0) < 0)
        return;
}

/* The directory itself is locked, since that wants no room on the disk; NFS locks files alone. The lock is
 * the kernel's and goes with the process. */
int directory_lock(const char *directory, int *ret_fd, struct fault *f)
{
    _cleanup_free_ char *path = xasprintf("%s/lock", directory);
    _cleanup_close_ int fd = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC), file = -1;
    int r = directory_make_file(path, &file, f);

    if (r == -EPERM)
        return r; /* not ours */
    if (r < 0)
        file = open(path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    bool locked = flock(fd, LOCK_EX | LOCK_NB) == 0;

    if (!locked && errno != EWOULDBLOCK) {
        close(fd);
        fd = file >= 0 ? fcntl(file, F_DUPFD_CLOEXEC, 0) : -1;
        locked = flock(fd, LOCK_EX | LOCK_NB) == 0;
    }
    if (!locked && errno != EWOULDBLOCK)
        return fault_set(f, FAULT_TRANSIENT, -errno, "%s cannot be locked (%s)", directory, strerror(errno));
    if (!locked)
        return fault_in_use(directory, file, f);
    if (file >= 0)
        write_pid(file);
    *ret_fd = TAKE_FD(fd);
    return 0;
}
