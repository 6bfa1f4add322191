#!/bin/sh
# Boots a Debian 12 that has only systemd, installs the Debian package there, uses the service, upgrades,
# removes and purges the package, and checks what is left each time. Needs root, debootstrap and grpcurl.
# Usage: install_deb.sh PACKAGE
set -eu
cd "$(dirname "$0")/../.."
deb=$(realpath "$1")

fresh=build/deb-root
[ -e "$fresh/.complete" ] || {
  echo "installing a Debian 12 in $fresh"
  rm -rf "$fresh"
  debootstrap --variant=minbase --include=dbus,systemd,systemd-sysv bookworm "$fresh" >build/debootstrap.log
  touch "$fresh/.complete"
}
work=$(mktemp -d /tmp/mlops-deb.XXXXXX)
machine=
pid=
clean() {
  [ -z "$pid" ] || kill -KILL "$pid" 2>/dev/null || true
  [ -z "$machine" ] || wait "$machine" 2>/dev/null || true
  find /sys/fs/cgroup -depth -type d -path "*/$(basename "$work")*" -exec rmdir {} + 2>/dev/null || true
  rm -rf "$work"
}
trap clean EXIT
cp -a "$fresh/." "$work"

fail() {
  echo "FAILED: $*" >&2
  exit 1
}
inside() {
  nsenter --target "$pid" --mount --pid --net --uts --ipc --cgroup --root --wd \
    env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin DEBIAN_FRONTEND=noninteractive "$@"
}
# Waits until `inside` runs a command successfully.
until_ok() {
  for _ in $(seq 300); do
    ! inside "$@" >/dev/null 2>&1 || return 0
    sleep 0.1
  done
  inside journalctl --no-pager --unit mlops-workspace >&2 || true
  fail "$* does not succeed"
}
boot() {
  tests/packaging/boot.sh "$work" "$(basename "$work")" >"$work/boot.log" 2>&1 &
  machine=$!
  for _ in $(seq 100); do
    pid=$(pgrep --parent "$machine" --exact systemd) && break
    sleep 0.1
  done
  [ -n "$pid" ] || fail "systemd does not start: $(cat "$work/boot.log")"
  until_ok systemctl is-active multi-user.target
}
# Checks owner, group and mode of a path.
is() {
  found=$(inside stat -c '%U:%G %a' "$2") || fail "$2 is missing"
  [ "$found" = "$1" ] || fail "$2 is $found, not $1"
}
gone() { inside test ! -e "$1" || fail "$1 is still there"; }
has() { inside grep -qF "$1" "$2" || fail "$2 has no $1"; }
# Gives a file to the machine, below /root.
give() { cp "$1" "$work/root/$2"; }
dpkg() {
  inside dpkg "$@" >"$work/dpkg.log" 2>&1 || {
    cat "$work/dpkg.log" >&2
    fail "dpkg $*"
  }
}
call() {
  inside /root/grpcurl -plaintext -d "$2" -unix /run/mlops-workspace/socket \
    "mlops.workspace.v1.WorkspaceService/$1" || fail "$1"
}
main_pid() { inside systemctl show --property MainPID --value mlops-workspace; }

echo "boot"
boot
give build/tools/grpcurl grpcurl

echo "install"
give "$deb" package.deb
dpkg --install /root/package.deb
is "root:root 755" /usr/bin/workspaced
is "root:root 644" /etc/mlops-workspace/workspaced.toml
is "root:mlops-workspace 640" /etc/mlops-workspace/tokens
is "mlops-workspace:mlops-workspace 700" /var/lib/mlops-workspace
is "mlops-workspace:mlops-workspace 750" /var/log/mlops-workspace
inside systemctl is-enabled --quiet mlops-workspace || fail "the unit is not enabled"
until_ok systemctl is-active mlops-workspace
is "mlops-workspace:mlops-workspace 750" /run/mlops-workspace
inside runuser -u mlops-workspace -- \
  workspaced config check --config /etc/mlops-workspace/workspaced.toml >/dev/null ||
  fail "the settings are invalid"

echo "use"
call EnsureWorkspace '{"project": "fraud"}' | grep -q '"created": true' || fail "nothing created"
call WriteArtifact '{"project": "fraud", "path": "models/a", "data": "aGVsbG8=", "finish": true}' >/dev/null
call GetWorkspaceStatus '{"project": "fraud"}' >/dev/null
# A failed write to the disk would leave a message that is not only information.
inside journalctl --no-pager --output cat --unit mlops-workspace | grep -E '"level":"(warn|error)' &&
  fail "the service has a problem"

echo "kill"
killed=$(main_pid)
inside systemctl kill --signal=KILL mlops-workspace
until_ok sh -c "[ \$(systemctl show --property MainPID --value mlops-workspace) -gt $killed ]"
until_ok systemctl is-active mlops-workspace

echo "invalid settings"
inside sh -c 'echo "tls-crt = 1" >>/etc/mlops-workspace/workspaced.toml'
! inside systemctl restart mlops-workspace 2>/dev/null || fail "the service starts"
[ "$(inside systemctl show --property NRestarts --value mlops-workspace)" = 0 ] || fail "systemd retries"
inside journalctl --no-pager --unit mlops-workspace | grep -qF "the nearest one is tls-cert" ||
  fail "the journal does not name the key"
inside sed -i 's/^tls-crt.*/# A change by the administrator./' /etc/mlops-workspace/workspaced.toml
inside systemctl start mlops-workspace

echo "upgrade"
inside sh -c 'echo "robot 00" >>/etc/mlops-workspace/tokens'
replaced=$(main_pid)
DEB_COMPRESSION=gzip service/packaging/make_deb.sh "$work/usr/bin/workspaced" 99.0 "$work/root" >/dev/null
dpkg --install /root/mlops-workspace_99.0_"$(command dpkg --print-architecture)".deb
has "by the administrator" /etc/mlops-workspace/workspaced.toml
has robot /etc/mlops-workspace/tokens
until_ok systemctl is-active mlops-workspace
[ "$(main_pid)" != "$replaced" ] || fail "the new version does not run"
call GetWorkspace '{"project": "fraud"}' | grep -q fraud || fail "the workspace is lost"

echo "remove"
dpkg --remove mlops-workspace
gone /usr/bin/workspaced
gone /run/mlops-workspace
has fraud /var/lib/mlops-workspace/fraud/workspace.yaml

echo "purge"
dpkg --purge mlops-workspace
gone /etc/mlops-workspace
has fraud /var/lib/mlops-workspace/fraud/workspace.yaml

echo "install again, and purge with consent"
dpkg --install /root/package.deb
until_ok systemctl is-active mlops-workspace
call GetWorkspace '{"project": "fraud"}' | grep -q fraud || fail "the workspace is not found again"
inside sh -c 'echo "mlops-workspace mlops-workspace/remove-data boolean true" | debconf-set-selections'
dpkg --purge mlops-workspace
gone /var/lib/mlops-workspace
gone /var/log/mlops-workspace
gone /etc/mlops-workspace
echo "OK"
