#!/bin/bash
# Boots Debian with systemd and sshd from the folder $ROOT, in namespaces of its own; nothing it
# does reaches this machine. Started as root by lab.py:
#   unshare --mount --pid --fork --uts --ipc --net --cgroup --propagation private bash boot.sh
# Changes go to a tmpfs over $ROOT and vanish with the namespaces. The network stays private: with
# the machine's own, udev would rename its network card.
set -eu
W=${WORK:?a scratch folder} R=$W/root
hostname opsconductor-lab
mount -t tmpfs -o size=2g tmpfs "$W"
mkdir -p "$W/changed" "$W/overlay" "$R"
mount -t overlay -o "lowerdir=${ROOT:?a Debian root},upperdir=$W/changed,workdir=$W/overlay" overlay "$R"
cd "$R"
mount -t proc proc proc
# Only what belongs to these namespaces may be set: the rest of /proc/sys is the machine's own.
mount --bind proc/sys proc/sys
mount --bind proc/sys/net proc/sys/net
mount -o remount,bind,ro proc/sys
mount -t sysfs -o ro sysfs sys
mount -t tmpfs -o mode=755,size=1m tmpfs dev
for node in "null 1 3" "zero 1 5" "full 1 7" "random 1 8" "urandom 1 9" "tty 5 0" "kmsg 1 11"; do
    set -- $node
    mknod -m 666 "dev/$1" c "$2" "$3"
done
mkdir dev/pts dev/shm
mount -t devpts -o newinstance,ptmxmode=0666,mode=0620,gid=5 devpts dev/pts
ln -s pts/ptmx dev/ptmx
ln -s /proc/self/fd dev/fd
mount -t tmpfs tmpfs dev/shm
mount -t tmpfs -o mode=755 tmpfs run
mount -t tmpfs tmpfs tmp
mount -t tmpfs -o mode=755 tmpfs sys/fs/cgroup 2>/dev/null && mount -t cgroup2 none sys/fs/cgroup
# Docker and Podman keep their layers where overlay file systems cannot be stacked.
mkdir -p var/tmp/containers
mount -t tmpfs tmpfs var/tmp/containers
mkdir -p run/systemd/system
echo docker >run/systemd/container
for unit in systemd-udevd systemd-sysctl systemd-modules-load smartmontools console-getty; do
    ln -sf /dev/null "run/systemd/system/$unit.service"
done
ln -sf /dev/null run/systemd/system/getty.target
mkdir -p old
pivot_root . old
umount -l /old
ip link set lo up
export container=docker PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
# The clock, modules and raw devices are the machine's: setting the first time zone moves its clock.
exec setpriv --bounding-set=-sys_time,-sys_module,-sys_rawio,-wake_alarm,-mac_admin \
    --inh-caps=-sys_time,-sys_module,-sys_rawio,-wake_alarm,-mac_admin \
    /lib/systemd/systemd --system --unit=multi-user.target --log-target=null </dev/null
