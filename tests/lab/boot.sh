#!/bin/sh
# Boots one host of the lab; started by host.py inside the host's new namespaces, becomes its first process.
#   ROOT    where to build the root       NAME      host name
#   DISK    upper/ and work/ of the overlay
#   DATA    KEPT, DATA_AT: a directory bound into the host that outlives a wiped disk, or empty
#   SSHD    empty: sshd does not come by itself
#   ENGINES a directory of this machine that shall be seen at the same path, read-only, or empty
set -eu
umask 022

mount -t overlay -o "lowerdir=/,upperdir=$DISK/upper,workdir=$DISK/work" "$NAME" "$ROOT"
cd "$ROOT"

# The kernel is shared with the machine: its knobs are read-only, but for those of the host's own network.
mount -t proc proc proc
mount --bind proc/sys proc/sys
mount --bind proc/sys/net proc/sys/net
mount -o remount,bind,ro proc/sys
mount -t sysfs -o ro sysfs sys

mount -t tmpfs -o mode=755 dev dev
mkdir dev/pts dev/shm
mount -t devpts -o newinstance,ptmxmode=666,mode=620,gid=5 devpts dev/pts
mount -t tmpfs -o mode=1777,size=64m shm dev/shm
mknod -m 666 dev/null c 1 3
mknod -m 666 dev/zero c 1 5
mknod -m 666 dev/full c 1 7
mknod -m 666 dev/random c 1 8
mknod -m 666 dev/urandom c 1 9
mknod -m 666 dev/tty c 5 0
ln -s pts/ptmx dev/ptmx
ln -s /proc/self/fd dev/fd
ln -s fd/0 dev/stdin
ln -s fd/1 dev/stdout
ln -s fd/2 dev/stderr

mount -t tmpfs -o mode=755 run run
mkdir run/sshd run/lock run/outside         # sshd wants the first for its unprivileged half
[ -n "$SSHD" ] || : >run/no-sshd

if [ -n "$DATA" ]; then
    mkdir -p "./$DATA_AT"
    mount --bind "$DATA" "./$DATA_AT"
fi
if [ -n "$ENGINES" ]; then
    mkdir -p "./$ENGINES"
    mount --bind "$ENGINES" "./$ENGINES"
    mount -o remount,bind,ro "./$ENGINES"
fi

hostname "$NAME"
pivot_root . run/outside
umount -l /run/outside
rmdir /run/outside
cd /

# The first process keeps sshd running, unless told to leave it off, and collects orphans (sh does, while it waits).
exec env -i PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin sh -c '
    trap "exit 0" TERM
    while :; do
        if [ -e /run/no-sshd ]; then
            sleep 0.02 & wait
        else
            /usr/sbin/sshd -D -e -f /etc/ssh/lab_sshd_config & echo $! >/run/sshd.pid
            wait $! || sleep 0.05
        fi
    done'
