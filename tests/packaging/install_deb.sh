#!/bin/sh
# Boots a Debian 12 that has only systemd, installs the Debian package there, uses the service, also from
# a client in a network of its own, upgrades, removes and purges the package, and checks what is left
# each time. Needs root, debootstrap, grpcurl, and .venv with the client's wheel.
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
client=$(basename "$work")
clean() {
  ip netns delete "$client" 2>/dev/null || true
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
# Runs a command in the client's network, where workspaces.example is the machine.
remotely() {
  ip netns exec "$client" unshare --mount sh -c \
    'mount --bind "$0" /etc/hosts && exec env -i PATH="$PATH" "$@"' "$work/root/hosts" "$@"
}
call_remotely() {
  remotely build/tools/grpcurl -cacert "$work/root/ca.crt" -H "authorization: Bearer $token" -d "$2" \
    workspaces.example:50051 "mlops.workspace.v1.WorkspaceService/$1"
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

echo "open to a team, as OPERATIONS.md shows"
ip netns add "$client"
ip link add eth0 netns "$client" type veth peer name eth0 netns "$pid"
ip -n "$client" address add 192.0.2.2/24 dev eth0
nsenter --target "$pid" --net ip address add 192.0.2.1/24 dev eth0
ip -n "$client" link set eth0 up
nsenter --target "$pid" --net ip link set eth0 up
echo "192.0.2.1 workspaces.example" >"$work/root/hosts"
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj "/CN=workspaces CA" \
  -keyout "$work/root/ca.key" -out "$work/root/ca.crt" 2>"$work/openssl.log"
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 \
  -subj "/CN=workspaces.example" -addext "subjectAltName=DNS:workspaces.example" \
  -CA "$work/root/ca.crt" -CAkey "$work/root/ca.key" \
  -keyout "$work/root/tls.key" -out "$work/root/tls.crt" 2>>"$work/openssl.log"
inside install -m 0644 /root/tls.crt /etc/mlops-workspace/tls.crt
inside install -m 0640 -g mlops-workspace /root/tls.key /etc/mlops-workspace/tls.key
token=$(inside workspaced token alice --tokens /etc/mlops-workspace/tokens --expires 90d)
inside sh -c 'printf "bindings:\n  - {principal: alice, role: operator}\n  - {principal: \"uid:0\", role: operator}\n" \
  >/etc/mlops-workspace/policy.yaml'
! call_remotely GetServerInfo '{}' 2>/dev/null || fail "the service is open before it is configured"
inside sed -i -e '/^listen/d' -e '1i listen = ["unix:/run/mlops-workspace/socket", "0.0.0.0:50051"]' \
  -e '1i tls-cert = "/etc/mlops-workspace/tls.crt"' -e '1i tls-key = "/etc/mlops-workspace/tls.key"' \
  -e '1i tokens = "/etc/mlops-workspace/tokens"' -e '1i policy = "/etc/mlops-workspace/policy.yaml"' \
  /etc/mlops-workspace/workspaced.toml
inside runuser -u mlops-workspace -- \
  workspaced config check --config /etc/mlops-workspace/workspaced.toml >/dev/null ||
  fail "the settings are invalid"
inside systemctl restart mlops-workspace

echo "five operations with grpcurl, from another network"
call_remotely CreateWorkspace '{"project": "remote", "workspace": {"mlflow_experiment_id": "17"}}' |
  grep -q '"mlflow_experiment_id": "17"' || fail "nothing created"
call_remotely GetWorkspace '{"project": "remote"}' | grep -q '"project": "remote"' || fail "nothing found"
call_remotely UpdateWorkspace '{"workspace": {"project": "remote", "metadata": {"stage": "production"}}}' |
  grep -q production || fail "nothing updated"
call_remotely ListWorkspaces '{"filter": "metadata.stage = production"}' | grep -q '"total_size": 1' ||
  fail "not listed"
call_remotely GetWorkspaceStatus '{"project": "remote"}' >/dev/null || fail "no status"
call_remotely DeleteWorkspace '{"project": "remote", "force": true}' >/dev/null || fail "not deleted"

echo "five operations with Python, from another network"
remotely env MLOPS_WORKSPACE_ADDRESS=workspaces.example:50051 MLOPS_WORKSPACE_TOKEN="$token" \
  MLOPS_WORKSPACE_CA="$work/root/ca.crt" .venv/bin/python tests/packaging/remote_client.py

echo "strangers from another network"
good=$token
for token in "" mlw_wrong; do
  ! call_remotely GetWorkspace '{"project": "fraud"}' 2>"$work/stranger.log" || fail "'$token' is accepted"
  grep -q CREDENTIALS_INVALID "$work/stranger.log" || fail "$(cat "$work/stranger.log")"
done
! remotely build/tools/grpcurl -plaintext -H "authorization: Bearer $good" -max-time 5 \
  workspaces.example:50051 mlops.workspace.v1.WorkspaceService/GetServerInfo 2>/dev/null ||
  fail "the service speaks without TLS"
! remotely curl -sf --max-time 5 http://workspaces.example:9464/metrics >/dev/null ||
  fail "the metrics are open to the network"
inside grep -qF '"principal":"alice"' /var/log/mlops-workspace/audit.log || fail "the audit log has no alice"
! inside grep -rqF "$good" /var/log /etc/mlops-workspace || fail "the token is written down"
! inside journalctl --no-pager | grep -qF "$good" || fail "the journal has the token"

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
inside sh -c 'echo "# robot" >>/etc/mlops-workspace/tokens'
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
gone /etc/mlops-workspace/workspaced.toml
gone /etc/mlops-workspace/tokens
# The operator's own files stay.
has alice /etc/mlops-workspace/policy.yaml
inside rm -r /etc/mlops-workspace
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
