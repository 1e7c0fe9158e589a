#!/bin/bash
# boot.sh CGROUP PLACE INTERPRETER VENV [PACKAGE...]
#
# Boots this machine's own systemd as PID 1 of private namespaces, over a copy-on-write view of /.
# In the view VENV is /opt/panza, and the PACKAGEs, folders of source code, are installed in it;
# INTERPRETER, where it is not the system's, is in /opt/python. So it does not matter whether a user
# without rights can enter the folders where these are. PLACE is an empty folder; what the view
# writes lives in a tmpfs over it, which nobody outside sees and which ends with PID 1.
#
# Nothing outside is touched but CGROUP, an empty control group that becomes the view's root. Whoever
# started this ends it by killing this process; PID 1, and with it all else, goes along.
set -eu
echo $$ > "$1/cgroup.procs"
shift

inside() {
  local place=$1 python=$2 venv=$3 root=$1/root path package packages unit
  shift 3
  mount -t tmpfs -o mode=755 tmpfs "$place"
  mkdir "$place"/{upper,work,root,venv,venv-work}
  mount -t overlay -o "lowerdir=/,upperdir=$place/upper,workdir=$place/work" overlay "$root"

  mount -t proc proc "$root/proc"
  # What a kernel has only once is not for the view to change.
  mount --bind "$root/proc/sys" "$root/proc/sys"
  mount -o remount,bind,ro "$root/proc/sys"
  mount -t sysfs -o ro sysfs "$root/sys"
  mount -t cgroup2 cgroup2 "$root/sys/fs/cgroup"
  mount -t tmpfs -o mode=755 tmpfs "$root/run"
  mount -t tmpfs -o mode=1777 tmpfs "$root/tmp"
  mount -t tmpfs -o mode=755 tmpfs "$root/dev"
  for path in null zero full random urandom tty; do
    : > "$root/dev/$path"
    mount --bind "/dev/$path" "$root/dev/$path"
  done
  mkdir "$root/dev/pts" "$root/dev/shm"
  mount -t tmpfs -o mode=1777 tmpfs "$root/dev/shm"
  mount -t devpts -o newinstance,ptmxmode=666 devpts "$root/dev/pts"
  ln -s pts/ptmx "$root/dev/ptmx"
  ln -s /proc/self/fd "$root/dev/fd"

  # A machine with nothing to do: none of this one's services, mounts and homes.
  rm -rf "$root"/etc/systemd/system/*.{wants,requires} "$root"/home/*
  : > "$root/etc/fstab"
  : > "$root/etc/machine-id"
  for unit in udevd udev-trigger timesyncd resolved logind networkd modules-load sysctl binfmt \
    random-seed firstboot update-utmp journal-flush hwdb-update; do
    ln -sf /dev/null "$root/etc/systemd/system/systemd-$unit.service"
  done
  for unit in dev-hugepages.mount dev-mqueue.mount sys-kernel-debug.mount sys-kernel-config.mount \
    sys-kernel-tracing.mount sys-fs-fuse-connections.mount; do
    ln -sf /dev/null "$root/etc/systemd/system/$unit"
  done
  printf '[Unit]\nRequires=basic.target\nAfter=basic.target\n' \
    > "$root/etc/systemd/system/view.target"

  mkdir -p "$root/opt/panza" "$root/opt/python"
  mount -t overlay -o "lowerdir=$venv,upperdir=$place/venv,workdir=$place/venv-work" overlay \
    "$root/opt/panza"
  packages=$(echo "$root"/opt/panza/lib/python3*/site-packages)
  for package; do
    mkdir -p "$packages/${package##*/}"
    mount --bind "$package" "$packages/${package##*/}"
  done
  sed -i '1s|.*|#!/opt/panza/bin/python|' "$root/opt/panza/bin/panza"
  if [ "${python#/usr/}" = "$python" ]; then
    mount --bind "${python%/bin/*}" "$root/opt/python"
    ln -sf "/opt/python/bin/${python##*/}" "$root/opt/panza/bin/python"
    echo 'home = /opt/python/bin' > "$root/opt/panza/pyvenv.cfg"
    # Its library, where it has one, would else be looked for where it was, and then in the system.
    echo /opt/python/lib > "$root/etc/ld.so.conf.d/000-panza-test.conf"
    ldconfig -r "$root"
  fi

  cd "$root"
  mkdir "$root/tmp/outside"
  pivot_root . tmp/outside
  umount -l /tmp/outside
  rmdir /tmp/outside
  mount --make-rshared /
  exec env -i container=panza-test PATH=/usr/sbin:/usr/bin:/sbin:/bin \
    /lib/systemd/systemd --unit=view.target --log-target=journal --show-status=no
}
export -f inside
exec setpriv --pdeathsig KILL unshare --mount --propagation private --pid --fork --kill-child \
  --uts --ipc --net --cgroup bash -euc 'inside "$@"' inside "$@"
