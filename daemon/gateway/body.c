/* Reading and writing the file hits the page cache and does not wait for a disk in practice; the file is
 * never synced and has no name, so it vanishes with the daemon. */
#include "gateway/body.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>

#include "proto/buf.h"
#include "proto/mem.h"

struct patch {
    uint64_t from, to;
    char *text;
    size_t n;
};

struct body {
    struct body_budget *budget;
    struct buf memory; /* until there is a file */
    int fd;            /* -1: none yet */
    uint64_t size;     /* as it came */
    struct patch patches[BODY_PATCHES_MAX];
    unsigned n_patches;
};

struct body *body_new(struct body_budget *budget)
{
    struct body *b = xnew(struct body);

    b->budget = budget;
    b->fd = -1;
    buf_init(&b->memory, BODY_MEMORY_BYTES);
    return b;
}

struct body *body_free(struct body *b)
{
    if (!b)
        return NULL;
    b->budget->used_bytes -= b->size;
    for (unsigned i = 0; i < b->n_patches; i++)
        free(b->patches[i].text);
    buf_done(&b->memory);
    if (b->fd >= 0)
        close(b->fd);
    free(b);
    return NULL;
}

/* The file's disk, quota or largest size is used up: not to be taken for a limit of ours. */
static int file_error(int error)
{
    return error == EDQUOT || error == EFBIG ? -ENOSPC : -error;
}

/* A file without a name; -errno of the last try. */
static int open_unnamed(const char *directory)
{
    _cleanup_free_ char *path = NULL;
    int fd = open(directory, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);

    if (fd >= 0 || (errno != EOPNOTSUPP && errno != EISDIR && errno != EINVAL))
        return fd >= 0 ? fd : file_error(errno);
    path = xasprintf("%s/llmhost-body.XXXXXX", directory);
    fd = mkostemp(path, O_CLOEXEC);
    if (fd < 0)
        return file_error(errno);
    unlink(path);
    return fd;
}

/* The state directory first: the runtime directory is memory on most machines. */
static int open_spool(void)
{
    const char *const directories[] = {getenv("STATE_DIRECTORY"), "/var/tmp", "/tmp"};
    int fd = -ENOENT;

    for (size_t i = 0; i < ELEMENTS(directories) && fd < 0; i++)
        if (directories[i] && directories[i][0] == '/' && !strchr(directories[i], ':'))
            fd = open_unnamed(directories[i]);
    return fd;
}

static int write_all(int fd, uint64_t offset, const char *data, size_t n)
{
    while (n > 0) {
        ssize_t put = pwrite(fd, data, n, (off_t)offset);

        if (put < 0 && errno == EINTR)
            continue;
        if (put <= 0)
            return put < 0 ? file_error(errno) : -ENOSPC;
        data += put;
        n -= (size_t)put;
        offset += (size_t)put;
    }
    return 0;
}

static int move_to_file(struct body *b)
{
    int r, fd = open_spool();

    if (fd < 0)
        return fd;
    r = write_all(fd, 0, b->memory.data, b->memory.len);
    if (r < 0) {
        close(fd);
        return r;
    }
    b->fd = fd;
    buf_done(&b->memory);
    return 0;
}

int body_add(struct body *b, const void *data, size_t n)
{
    int r;

    if (n > BODY_BYTES_MAX - b->size)
        return -EFBIG;
    if (n > b->budget->max_bytes - MIN(b->budget->used_bytes, b->budget->max_bytes))
        return -EDQUOT;
    r = b->fd < 0 ? buf_add(&b->memory, data, n) : -ENOBUFS;
    if (r == -ENOBUFS && b->fd < 0)
        r = move_to_file(b);
    if (r < 0 && b->fd < 0)
        return r;
    if (b->fd >= 0)
        r = write_all(b->fd, b->size, data, n);
    if (r < 0)
        return r;
    b->size += n;
    b->budget->used_bytes += n;
    return 0;
}

void body_replace(struct body *b, uint64_t from_bytes, uint64_t to_bytes, const char *text, size_t n)
{
    struct patch *p = &b->patches[b->n_patches++];

    p->from = from_bytes;
    p->to = to_bytes;
    p->text = xalloc(n + 1);
    memcpy(p->text, text, n);
    p->n = n;
}

uint64_t body_size(const struct body *b)
{
    uint64_t size = b->size;

    for (unsigned i = 0; i < b->n_patches; i++)
        size = size - (b->patches[i].to - b->patches[i].from) + b->patches[i].n;
    return size;
}

/* Of the bytes as they came. */
static ssize_t read_stored(const struct body *b, uint64_t offset, void *to, size_t n)
{
    ssize_t got;

    if (b->fd < 0) {
        memcpy(to, b->memory.data + offset, n);
        return (ssize_t)n;
    }
    do {
        got = pread(b->fd, to, n, (off_t)offset);
    } while (got < 0 && errno == EINTR);
    if (got == 0)
        return -EIO; /* shorter than what was written */
    return got < 0 ? -errno : got;
}

ssize_t body_read(const struct body *b, uint64_t offset, void *to, size_t n)
{
    uint64_t stored = 0; /* where in the stored bytes the stretch begins that offset counts from */

    for (unsigned i = 0; i < b->n_patches; i++) {
        const struct patch *p = &b->patches[i];

        if (offset < p->from - stored)
            return read_stored(b, stored + offset, to, MIN(n, p->from - stored - offset));
        offset -= p->from - stored;
        if (offset < p->n) {
            n = MIN(n, p->n - offset);
            memcpy(to, p->text + offset, n);
            return (ssize_t)n;
        }
        offset -= p->n;
        stored = p->to;
    }
    if (offset >= b->size - stored)
        return 0;
    return read_stored(b, stored + offset, to, MIN(n, b->size - stored - offset));
}
