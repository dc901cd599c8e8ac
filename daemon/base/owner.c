/* /proc/net/tcp has the inode of each socket, /proc/PID/fd who holds it open: proc(5). The second is readable
 * for our own user's programs only (for root: all), the first for everybody. */
#include "base/owner.h"

#include <arpa/inet.h>
#include <dirent.h>
#include <pwd.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "proto/mem.h"

#define STATE_LISTEN    0x0a
#define TABLE_LINES_MAX 65536

struct found {
    unsigned long inode;
    unsigned uid;
};

DEFINE_CLEANUP(FILE *, fclose)
DEFINE_CLEANUP(DIR *, closedir)

/* The address as the table writes it: 32-bit words of the machine's own byte order, in hexadecimal. */
static void address_in_table(const char *ip, bool v6, char out[static 33])
{
    uint32_t words[4] = {0};

    inet_pton(v6 ? AF_INET6 : AF_INET, ip, words);
    *out = '\0';
    for (int i = 0; i < (v6 ? 4 : 1); i++)
        snprintf(out + 8 * i, 9, "%08X", words[i]);
}

static bool find_listener(const char *table, const char *ip, bool v6, uint16_t port, struct found *ret)
{
    _cleanup_(cleanup_fclose) FILE *f = fopen(table, "re");
    char line[512], address[40], wanted[33];
    unsigned local_port, state;

    if (!f)
        return false;
    address_in_table(ip, v6, wanted);
    for (unsigned i = 0; i < TABLE_LINES_MAX && fgets(line, sizeof(line), f); i++) {
        if (sscanf(line, " %*u: %32[0-9A-F]:%x %*s %x %*s %*s %*s %u %*s %lu", address, &local_port, &state,
                   &ret->uid, &ret->inode) != 5)
            continue;
        if (state == STATE_LISTEN && local_port == port &&
            (streq(address, wanted) || strspn(address, "0") == strlen(address)))
            return true;
    }
    return false;
}

static bool holds_inode(const char *pid, unsigned long inode)
{
    char path[64], link[64], wanted[64];
    _cleanup_(cleanup_closedir) DIR *fds = NULL;
    struct dirent *e;

    snprintf(path, sizeof(path), "/proc/%.16s/fd", pid);
    snprintf(wanted, sizeof(wanted), "socket:[%lu]", inode);
    fds = opendir(path);
    while (fds && (e = readdir(fds))) {
        ssize_t n = readlinkat(dirfd(fds), e->d_name, link, sizeof(link) - 1);

        if (n < 0)
            continue;
        link[n] = '\0';
        if (streq(link, wanted))
            return true;
    }
    return false;
}

static char *name_process(const char *pid)
{
    char path[64], comm[64] = "";
    _cleanup_(cleanup_fclose) FILE *f = NULL;

    snprintf(path, sizeof(path), "/proc/%.16s/comm", pid);
    f = fopen(path, "re");
    if (!f || !fgets(comm, sizeof(comm), f))
        return NULL;
    comm[strcspn(comm, "\n")] = '\0';
    return xasprintf("%s (pid %.16s)", comm, pid);
}

static char *find_process(unsigned long inode)
{
    _cleanup_(cleanup_closedir) DIR *proc = opendir("/proc");
    struct dirent *e;

    while (proc && (e = readdir(proc)))
        if (*e->d_name >= '1' && *e->d_name <= '9' && holds_inode(e->d_name, inode))
            return name_process(e->d_name);
    return NULL;
}

/* The file alone: asking the name service could take its time. */
static char *name_user(unsigned uid)
{
    _cleanup_(cleanup_fclose) FILE *f = fopen("/etc/passwd", "re");
    const struct passwd *user;

    while (f && (user = fgetpwent(f)))
        if (user->pw_uid == uid)
            return xasprintf("a program of user %s", user->pw_name);
    return xasprintf("a program of user %u", uid);
}

char *owner_of_port(const char *ip, uint16_t port)
{
    struct found found = {0};
    bool v6 = strchr(ip, ':');
    char *owner;

    if (!find_listener(v6 ? "/proc/net/tcp6" : "/proc/net/tcp", ip, v6, port, &found) &&
        !find_listener("/proc/net/tcp6", "::", true, port, &found))
        return NULL;
    owner = find_process(found.inode);
    return owner ? owner : name_user(found.uid);
}
