#!/bin/sh
# Boots the systemd in the directory ROOT, as process 1 of namespaces and a cgroup of its own.
# Usage: boot.sh ROOT CGROUP
#   CGROUP  the name of the new cgroup, below that of the caller, who removes it
set -eu
root=$1

if [ "$2" != inside ]; then
  # Lines of /proc/self/cgroup: "0::<path>" and, beside version 1, "<number>:name=systemd:<path>".
  sed -n -e 's/^0::/unified /p' -e 's/^[0-9]*:name=systemd:/systemd /p' /proc/self/cgroup |
    while read -r hierarchy path; do
      [ -d "/sys/fs/cgroup/$hierarchy" ] || hierarchy=.
      mkdir "/sys/fs/cgroup/$hierarchy$path/$2"
      echo $$ >"/sys/fs/cgroup/$hierarchy$path/$2/cgroup.procs"
    done
  exec unshare --mount --pid --fork --net --uts --ipc --cgroup "$0" "$root" inside
fi

mount --make-rprivate /
mount --bind "$root" "$root"
mount -t proc proc "$root/proc"
mount -t sysfs -o ro sysfs "$root/sys"
groups=$root/sys/fs/cgroup
if [ -e /sys/fs/cgroup/cgroup.controllers ]; then
  mount -t cgroup2 cgroup2 "$groups"
else
  mount -t tmpfs tmpfs "$groups"
  mkdir "$groups/unified" "$groups/systemd"
  mount -t cgroup2 cgroup2 "$groups/unified"
  mount -t cgroup -o none,name=systemd cgroup "$groups/systemd"
fi
for directory in run tmp dev; do mount -t tmpfs tmpfs "$root/$directory"; done
for device in null:3 zero:5 full:7 random:8 urandom:9; do
  mknod -m 666 "$root/dev/${device%:*}" c 1 "${device#*:}"
done
mknod -m 666 "$root/dev/tty" c 5 0
mknod -m 600 "$root/dev/console" c 1 3
# PrivateDevices= needs /dev/pts.
mkdir "$root/dev/pts" "$root/dev/shm"
mount -t devpts -o newinstance,ptmxmode=0666 devpts "$root/dev/pts"
ln -s pts/ptmx "$root/dev/ptmx"
mount -t tmpfs tmpfs "$root/dev/shm"
hostname debian
ip link set lo up
exec chroot "$root" env -i container=other PATH=/usr/sbin:/usr/bin:/sbin:/bin \
  /lib/systemd/systemd --show-status=no
