#!/bin/sh
# Installs the Debian package in a Debian 12 that has nothing else, uses the service, upgrades, removes
# and purges the package, and checks what is left each time. Needs root, debootstrap and grpcurl.
# Usage: install_deb.sh PACKAGE
set -eu
cd "$(dirname "$0")/../.."
deb=$(realpath "$1")
# The service gets a network and mounts of its own.
[ -n "${IN_NAMESPACE:-}" ] || exec env IN_NAMESPACE=1 unshare --mount --net "$0" "$deb"

fresh=build/deb-root
[ -e "$fresh/.complete" ] || {
  echo "installing a fresh Debian 12 in $fresh"
  # The network of the host is needed for this only.
  nsenter --net --target 1 debootstrap --variant=minbase bookworm "$fresh" >build/debootstrap.log
  touch "$fresh/.complete"
}
work=$(mktemp -d /tmp/mlops-deb.XXXXXX)
server=
clean() {
  [ -z "$server" ] || kill "$server" 2>/dev/null || true
  umount "$work/proc" 2>/dev/null || true
  rm -rf "$work"
}
trap clean EXIT
cp -a "$fresh/." "$work"
mount -t proc proc "$work/proc"
ip link set lo up 2>/dev/null || true

inside() { DEBIAN_FRONTEND=noninteractive chroot "$work" "$@"; }
fail() {
  echo "FAILED: $*" >&2
  exit 1
}
# Checks owner, group and mode of a path.
is() {
  found=$(inside stat -c '%U:%G %a' "$2") || fail "$2 is missing"
  [ "$found" = "$1" ] || fail "$2 is $found, not $1"
}
gone() { [ ! -e "$work$1" ] || fail "$1 is still there"; }
install_package() {
  cp "$1" "$work/tmp/package.deb"
  inside dpkg --install /tmp/package.deb >"$work/tmp/dpkg.log" 2>&1 || {
    cat "$work/tmp/dpkg.log" >&2
    fail "dpkg --install $1"
  }
}
# Starts the service as its unit does.
start() {
  inside install -d -o mlops-workspace -g mlops-workspace -m 0750 /run/mlops-workspace
  chroot --userspec=mlops-workspace:mlops-workspace "$work" \
    /usr/bin/workspaced --config /etc/mlops-workspace/workspaced.toml >"$work/tmp/log" 2>&1 &
  server=$!
  for _ in $(seq 100); do
    [ ! -S "$work/run/mlops-workspace/socket" ] || return 0
    sleep 0.1
  done
  cat "$work/tmp/log" >&2
  fail "the service does not listen"
}
stop() {
  kill "$server"
  wait "$server" || fail "the service exited with $?"
  server=
}
call() {
  build/tools/grpcurl -plaintext -d "$2" -unix "$work/run/mlops-workspace/socket" \
    "mlops.workspace.v1.WorkspaceService/$1" || fail "$1"
}

echo "install"
install_package "$deb"
is root:root\ 755 /usr/bin/workspaced
is root:root\ 644 /etc/mlops-workspace/workspaced.toml
is root:mlops-workspace\ 640 /etc/mlops-workspace/tokens
is mlops-workspace:mlops-workspace\ 700 /var/lib/mlops-workspace
is mlops-workspace:mlops-workspace\ 750 /var/log/mlops-workspace
[ -L "$work/etc/systemd/system/multi-user.target.wants/mlops-workspace.service" ] ||
  fail "the unit is not enabled"
inside runuser -u mlops-workspace -- \
  workspaced config check --config /etc/mlops-workspace/workspaced.toml >/dev/null ||
  fail "the settings are invalid"
inside ldd /usr/bin/workspaced | grep -v -E 'linux-vdso|ld-linux|libc\.|libm\.' &&
  fail "workspaced needs more than the C library"

echo "use"
start
call EnsureWorkspace '{"project": "fraud"}' | grep -q '"created": true' || fail "nothing created"
stop

echo "upgrade"
echo "# A change by the administrator." >>"$work/etc/mlops-workspace/workspaced.toml"
echo "robot 00" >>"$work/etc/mlops-workspace/tokens"
DEB_COMPRESSION=none service/packaging/make_deb.sh "$work/usr/bin/workspaced" 99.0 "$work/tmp" >/dev/null
install_package "$work"/tmp/mlops-workspace_99.0_*.deb
grep -q "by the administrator" "$work/etc/mlops-workspace/workspaced.toml" || fail "settings are lost"
grep -q robot "$work/etc/mlops-workspace/tokens" || fail "tokens are lost"
start
call GetWorkspace '{"project": "fraud"}' | grep -q fraud || fail "the workspace is lost"
stop

echo "remove"
inside dpkg --remove mlops-workspace >/dev/null 2>&1 || fail "dpkg --remove"
gone /usr/bin/workspaced
is mlops-workspace:mlops-workspace\ 700 /var/lib/mlops-workspace
[ -d "$work/var/lib/mlops-workspace/fraud" ] || fail "removal deleted the workspace"

echo "purge"
inside dpkg --purge mlops-workspace >/dev/null 2>&1 || fail "dpkg --purge"
gone /etc/mlops-workspace
[ -d "$work/var/lib/mlops-workspace/fraud" ] || fail "the purge did not ask"

echo "install again, and purge with consent"
install_package "$deb"
start
call GetWorkspace '{"project": "fraud"}' | grep -q fraud || fail "the workspace is not found again"
stop
echo "mlops-workspace mlops-workspace/remove-data boolean true" | inside debconf-set-selections
inside dpkg --purge mlops-workspace >/dev/null 2>&1 || fail "dpkg --purge"
gone /var/lib/mlops-workspace
gone /var/log/mlops-workspace
gone /etc/mlops-workspace
echo "OK"
