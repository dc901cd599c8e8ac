/* The one value people change by a verb: a piece of our own, last by its name, so that the key stands in
 * files alone. */
#include "base/settings.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "proto/mem.h"

#define PIECE  "zz-llmhostctl.conf"
#define BESIDE ".zz-llmhostctl.new" /* no piece: its name does not end in .conf */

static int write_beside(int folder, const char *text)
{
    size_t n = strlen(text);

    if (unlinkat(folder, BESIDE, 0) < 0 && errno != ENOENT)
        return -errno;
    _cleanup_close_ int fd =
        openat(folder, BESIDE, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0644);

    if (fd < 0)
        return -errno;
    if (write(fd, text, n) != (ssize_t)n)
        return errno ? -errno : -EIO;
    return fsync(fd) < 0 ? -errno : 0;
}

static int replace(const char *path, const char *text)
{
    _cleanup_free_ char *name = xasprintf("%s.d", path);
    int r = mkdir(name, 0755) < 0 && errno != EEXIST ? -errno : 0;
    _cleanup_close_ int folder = r < 0 ? -1 : open(name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

    if (folder < 0)
        return r < 0 ? r : -errno;
    r = write_beside(folder, text);
    if (r == 0 && renameat(folder, BESIDE, folder, PIECE) < 0)
        r = -errno;
    if (r < 0) {
        (void)unlinkat(folder, BESIDE, 0);
        return r;
    }
    return fsync(folder) < 0 ? -errno : 0;
}

int settings_keep(const char *path, const char *section, const char *key, const char *value, char **ret_file)
{
    _cleanup_free_ char *text =
        xasprintf("# Written by llmhostctl; take it away to have the other files' say.\n"
                  "[%s]\n%s = %s\n",
                  section, key, value);
    _cleanup_free_ char *why = NULL;
    struct settings *s = NULL;
    int r;

    *ret_file = xasprintf("%s.d/" PIECE, path);
    r = replace(path, text);
    if (r < 0)
        return r;
    r = settings_load(path, false, &s, &why);
    if (r == 0 && !streq(settings_text(s, section, key), value))
        r = -EEXIST;
    settings_free(s);
    return r;
}
