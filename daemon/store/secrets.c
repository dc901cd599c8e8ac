/* One file per secret, opened by name below a directory descriptor, so that nobody can put another directory
 * in its place while we run. A file is only trusted when it is a plain file of ours that nobody else may
 * read; what the service manager hands us in $CREDENTIALS_DIRECTORY is trusted as it is. */
#include "store/secrets.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>

#define NAME_BYTES_MAX 160

struct secrets {
    char *path;
    int directory;
    int credentials; /* -1: none */
};

static int open_directory(const char *path)
{
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);

    return fd < 0 ? -errno : fd;
}

/* -ELOOP and -ENOTDIR: somebody put a link or a file there. */
static int open_ours(const char *path, int *ret_fd)
{
    struct stat st;

    if (mkdir(path, 0700) < 0 && errno != EEXIST)
        return -errno;
    _cleanup_close_ int fd = open_directory(path);

    if (fd < 0)
        return fd == -ELOOP || fd == -ENOTDIR ? -EPERM : fd;
    if (fstat(fd, &st) < 0)
        return -errno;
    if (st.st_uid != geteuid() || (st.st_mode & 077) != 0)
        return -EPERM;
    *ret_fd = TAKE_FD(fd);
    return 0;
}

int secrets_open(const char *directory, struct secrets **ret)
{
    _cleanup_free_ char *path = xasprintf("%s/secrets", directory);
    const char *credentials = getenv("CREDENTIALS_DIRECTORY");
    int fd = -1, r = open_ours(path, &fd);

    if (r < 0)
        return r;
    struct secrets *s = xnew(struct secrets);

    s->path = TAKE_PTR(path);
    s->directory = fd;
    s->credentials = -1;
    if (credentials && credentials[0] == '/') {
        fd = open_directory(credentials);
        s->credentials = fd < 0 ? -1 : fd;
    }
    *ret = s;
    return 0;
}

struct secrets *secrets_free(struct secrets *s)
{
    if (!s)
        return NULL;
    close(s->directory);
    if (s->credentials >= 0)
        close(s->credentials);
    free(s->path);
    free(s);
    return NULL;
}

const char *secrets_path(const struct secrets *s)
{
    return s->path;
}

/* Small letters, digits, "-" and "_" alone: no name can leave the directory or meet a file that is being
 * written. */
static bool is_word(const char *text)
{
    size_t n = strlen(text);

    return n > 0 && n <= 64 && strspn(text, "abcdefghijklmnopqrstuvwxyz0123456789-_") == n;
}

static int file_name(char out[static NAME_BYTES_MAX], const char *thing, const char *kind)
{
    if (!is_word(thing) || !is_word(kind))
        return -EINVAL;
    snprintf(out, NAME_BYTES_MAX, "%s.%s", thing, kind);
    return 0;
}

static int write_all(int fd, const char *text, size_t n)
{
    while (n > 0) {
        ssize_t w = write(fd, text, n);

        if (w < 0 && errno == EINTR)
            continue;
        if (w < 0)
            return -errno;
        text += w;
        n -= (size_t)w;
    }
    return fsync(fd) < 0 ? -errno : 0;
}

/* Best effort: a file system that copies on write, or a disk that moves sectors about, keeps what it wants.
 */
static void overwrite(int fd)
{
    static const char zeros[4096];
    struct stat st;

    if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode))
        return;
    for (off_t at = 0; at < st.st_size && at < (off_t)SECRET_BYTES_MAX;) {
        ssize_t w = pwrite(fd, zeros, MIN(sizeof(zeros), (size_t)(st.st_size - at)), at);

        if (w <= 0)
            break;
        at += w;
    }
    (void)fsync(fd);
}

static int write_beside(struct secrets *s, const char *beside, const char *text, size_t n)
{
    if (unlinkat(s->directory, beside, 0) < 0 && errno != ENOENT)
        return -errno;
    _cleanup_close_ int fd =
        openat(s->directory, beside, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);

    if (fd < 0)
        return -errno;
    return write_all(fd, text, n);
}

int secrets_put(struct secrets *s, const char *thing, const char *kind, const char *text)
{
    char name[NAME_BYTES_MAX], beside[NAME_BYTES_MAX + 8];
    size_t n = strlen(text);
    int r = file_name(name, thing, kind);

    if (r < 0)
        return r;
    if (n > SECRET_BYTES_MAX)
        return -E2BIG;
    snprintf(beside, sizeof(beside), ".%s.new", name);
    _cleanup_close_ int old = openat(s->directory, name, O_WRONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);

    r = write_beside(s, beside, text, n);
    if (r == 0 && renameat(s->directory, beside, s->directory, name) < 0)
        r = -errno;
    if (r < 0) {
        (void)unlinkat(s->directory, beside, 0);
        return r;
    }
    if (fsync(s->directory) < 0)
        return -errno;
    if (old >= 0)
        overwrite(old);
    return 0;
}

/* The whole file, terminated, or -EFBIG; -EBADMSG when it holds a NUL. */
static int read_whole(int fd, char **ret)
{
    char *text = xalloc(SECRET_BYTES_MAX + 2);
    size_t n = 0;
    int r = 0;

    while (n < SECRET_BYTES_MAX + 1) {
        ssize_t got = read(fd, text + n, SECRET_BYTES_MAX + 1 - n);

        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            r = -errno;
        if (got <= 0)
            break;
        n += (size_t)got;
    }
    if (r == 0 && n > SECRET_BYTES_MAX)
        r = -EFBIG;
    if (r == 0 && strlen(text) != n)
        r = -EBADMSG;
    if (r == 0)
        *ret = xstrdup(text);
    wipe(text, SECRET_BYTES_MAX + 2);
    free(text);
    return r;
}

static int read_ours(struct secrets *s, const char *name, char **ret)
{
    struct stat st;
    _cleanup_close_ int fd = openat(s->directory, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);

    if (fd < 0)
        return errno == ELOOP ? -EPERM : -errno;
    if (fstat(fd, &st) < 0)
        return -errno;
    if (!S_ISREG(st.st_mode) || st.st_uid != geteuid() || (st.st_mode & 077) != 0)
        return -EPERM;
    return read_whole(fd, ret);
}

static int read_credential(struct secrets *s, const char *name, char **ret)
{
    if (s->credentials < 0)
        return -ENOENT;
    _cleanup_close_ int fd = openat(s->credentials, name, O_RDONLY | O_NONBLOCK | O_CLOEXEC);

    return fd < 0 ? -errno : read_whole(fd, ret);
}

/* An editor or echo puts a newline at the end; no login ever wants it. A key file keeps its own. */
static void drop_newline(char *text)
{
    size_t n = strlen(text);

    if (n > 0 && text[n - 1] == '\n')
        text[--n] = 0;
    if (n > 0 && text[n - 1] == '\r')
        text[--n] = 0;
}

int secrets_get(struct secrets *s, const char *thing, const char *kind, char **ret)
{
    _cleanup_secret_ char *text = NULL;
    char name[NAME_BYTES_MAX];
    int r = file_name(name, thing, kind);

    if (r < 0)
        return r;
    r = read_credential(s, name, &text);
    if (r == -ENOENT)
        r = read_ours(s, name, &text);
    if (r < 0)
        return r;
    if (!streq(kind, "key"))
        drop_newline(text);
    *ret = TAKE_PTR(text);
    return 0;
}

int secrets_remove(struct secrets *s, const char *thing, const char *kind)
{
    char name[NAME_BYTES_MAX];
    int r = file_name(name, thing, kind);

    if (r < 0)
        return r;
    _cleanup_close_ int fd = openat(s->directory, name, O_WRONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);

    if (fd >= 0)
        overwrite(fd);
    if (unlinkat(s->directory, name, 0) < 0)
        return errno == ENOENT ? 0 : -errno;
    return fsync(s->directory) < 0 ? -errno : 0;
}

char *secret_free(char *text)
{
    if (text)
        wipe(text, strlen(text));
    free(text);
    return NULL;
}
