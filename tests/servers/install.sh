#!/bin/sh
# install.sh [bench]
#
# Installs by apt what the tests talk to and look with, or says what is missing. Quick when all is there.
# Cyrus, whose packages and Dovecot's exclude each other, is only unpacked, into a folder of its own.
# `bench` adds what the benches measure themselves against.
set -eu
umask 022
export PATH="$PATH:/usr/sbin:/sbin" DEBIAN_FRONTEND=noninteractive

cache=/var/cache/panza-tests # tests/servers/cyrus.py looks there
missing=

want() { # COMMAND PACKAGE
  command -v "$1" >/dev/null || missing="$missing $2"
}

want_file() { # GLOB PACKAGE
  ls $1 >/dev/null 2>&1 || missing="$missing $2"
}

install() {
  apt-get install -y -q --no-install-recommends --no-upgrade "$@" </dev/null
}

download() {
  apt-get download -q -o APT::Sandbox::User=root "$@" </dev/null
}

# The lists of packages are fetched only when something cannot be had with those that are there.
update_and_install() {
  install "$@" || { apt-get update -q && install "$@"; }
}

dependencies() { # the libraries that packages need, but that of a virus scanner
  apt-cache depends --no-recommends --no-suggests "$@" | sed -n 's/^ *Depends: \(lib.*\)/\1/p' |
    sort -u | grep -v '^libclamav'
}

unpack_cyrus() {
  packages="cyrus-common cyrus-imapd sasl2-bin"
  apt-cache show $packages >/dev/null 2>&1 || apt-get update -q || return 1
  update_and_install $(dependencies $packages) || return 1
  mkdir -p "$cache"
  unpacked=$(mktemp -d "$cache/new.XXXXXX")
  (
    cd "$unpacked"
    chmod 755 .
    download $packages || { apt-get update -q && download $packages; } &&
      for package in *.deb; do dpkg-deb -x "$package" . || exit 1; done &&
      rm ./*.deb &&
      LD_LIBRARY_PATH=$(echo usr/lib/*-linux-*) usr/lib/cyrus/bin/cyr_buildinfo >/dev/null
  ) || { rm -rf "$unpacked"; return 1; }
  mv "$unpacked" "$cache/cyrus-$(apt-cache show cyrus-imapd | sed -n 's/^Version: //p;T;q')"
}

want dovecot dovecot-imapd
want openssl openssl
want strace strace
want systemd-analyze systemd
want nsenter util-linux
want mount mount
want_file "/lib/*/libnss_systemd.so.2" libnss-systemd
want_file /usr/lib/systemd/user/dbus.socket dbus-user-session
want ps procps
[ "${1:-}" != bench ] || want mbsync isync
ls "$cache"/cyrus-*/usr/lib/cyrus/bin/master >/dev/null 2>&1 || cyrus=missing
[ "$missing${cyrus:-}" ] || exit 0

if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
  echo "Skipped are the tests that need:${missing}${cyrus:+ cyrus}." \
    "As root on Debian or Ubuntu \`make servers\` installs them."
  exit 0
fi

# No server that is installed for tests is to be started for this machine.
policy=/usr/sbin/policy-rc.d
if [ ! -e $policy ]; then
  trap 'rm -f $policy' EXIT
  printf '#!/bin/sh\nexit 101\n' >$policy
  chmod 755 $policy
fi

[ -z "$missing" ] || update_and_install $missing ||
  echo "apt cannot install:$missing. The tests that need them are skipped."
[ -z "${cyrus:-}" ] || unpack_cyrus ||
  echo "apt cannot fetch Cyrus. The tests that need it are skipped."
