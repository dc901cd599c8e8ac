#!/bin/sh
# Furnishes a box and becomes its systemd; started by box inside the new namespaces.
#   DIR    an empty directory for the root      REPO, BUILD    bound to their own places, the first read-only
set -eu
umask 022
root=$DIR/root

mkdir "$DIR/layer" "$root"
mount -t tmpfs -o size=1g,mode=755 box "$DIR/layer"
mkdir "$DIR/layer/upper" "$DIR/layer/work"
mount -t overlay -o "lowerdir=/,upperdir=$DIR/layer/upper,workdir=$DIR/layer/work" box "$root"
cd "$root"

mount -t proc proc proc
mount --bind proc/sys proc/sys                      # the kernel is the machine's, so its knobs are for looking
mount --bind proc/sys/net proc/sys/net
mount -o remount,bind,ro proc/sys
mount -t sysfs -o ro sysfs sys
mount -t cgroup2 cgroup2 sys/fs/cgroup
mount -t tmpfs -o mode=755 dev dev
mkdir dev/pts dev/shm
mount -t devpts -o newinstance,ptmxmode=666,mode=620,gid=5 devpts dev/pts
mount -t tmpfs -o mode=1777 shm dev/shm
for device in null zero full random urandom tty; do
    cp -a "/dev/$device" dev/
done
ln -s pts/ptmx dev/ptmx
ln -s /proc/self/fd dev/fd
ln -s fd/0 dev/stdin
ln -s fd/1 dev/stdout
ln -s fd/2 dev/stderr
mount -t tmpfs -o mode=755 run run
mount -t tmpfs -o mode=1777 tmp tmp
mkdir -p "./$REPO"
mount --bind "$REPO" "./$REPO"
mount -o remount,bind,ro "./$REPO"
if [ -d "$BUILD" ]; then
    mkdir -p "./$BUILD"
    mount --bind "$BUILD" "./$BUILD"
fi

# What is booted: up to basic.target and D-Bus. A machine id that is set: else it is a first boot, which enables every service.
units=etc/systemd/system
rm -rf $units/default.target $units/*.wants var/log/journal
cat >$units/default.target <<'UNIT'
[Unit]
Description=box
Requires=basic.target
Wants=dbus.socket
After=basic.target
AllowIsolate=yes
UNIT
for name in systemd-udevd.service systemd-udev-trigger.service systemd-udevd-control.socket systemd-udevd-kernel.socket \
    systemd-hwdb-update.service systemd-modules-load.service systemd-binfmt.service systemd-random-seed.service \
    systemd-sysctl.service systemd-machine-id-commit.service systemd-firstboot.service systemd-update-utmp.service \
    systemd-journal-catalog-update.service systemd-update-done.service systemd-remount-fs.service systemd-pstore.service \
    systemd-network-generator.service ldconfig.service kmod-static-nodes.service dev-hugepages.mount dev-mqueue.mount \
    sys-kernel-config.mount sys-kernel-debug.mount sys-kernel-tracing.mount sys-fs-fuse-connections.mount \
    proc-sys-fs-binfmt_misc.automount; do
    ln -sf /dev/null "$units/$name"
done
: >etc/fstab
tr -d - <proc/sys/kernel/random/uuid >etc/machine-id
echo box >etc/hostname
ip link set lo up

mkdir run/outside
pivot_root . run/outside
umount -l /run/outside
rmdir /run/outside
mount --make-rshared /                              # else LoadCredential= gives an empty directory, without a word
exec env -i container=box PATH=/usr/sbin:/usr/bin:/sbin:/bin /lib/systemd/systemd --show-status=no --log-target=journal
