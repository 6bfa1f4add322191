#!/bin/sh
# Runs the server that make_arm64.sh has built, under qemu: creates, changes, counts and deletes a workspace
# over grpcurl, and restarts the server in between. Needs qemu-user and grpcurl.
# Usage: run_arm64.sh DIRECTORY   the argument of make_arm64.sh
set -eu
directory=$(realpath "$1")
cd "$(dirname "$0")/../.."

base=$(mktemp -d /tmp/mlops-arm64.XXXXXX)
pid=
clean() {
  [ -z "$pid" ] || kill -9 "$pid" 2>/dev/null || true
  rm -rf "$base"
}
trap clean EXIT
fail() {
  echo "FAILED: $*" >&2
  cat "$base/log" >&2
  exit 1
}

workspaced() {
  qemu-aarch64-static -L "$directory/sysroot" "$directory/build/service/workspaced" "$@"
}
start() {
  qemu-aarch64-static -L "$directory/sysroot" "$directory/build/service/workspaced" \
    --base "$base/base" --listen "unix:$base/socket" 2>>"$base/log" &
  pid=$!
  for _ in $(seq 600); do
    [ ! -S "$base/socket" ] || return 0
    sleep 0.1
  done
  fail "the server does not listen"
}
stop() {
  kill -TERM "$pid"
  wait "$pid" || fail "the server does not stop cleanly"
  pid=
}
call() {
  build/tools/grpcurl -plaintext -unix -d "$2" "$base/socket" "mlops.workspace.v1.WorkspaceService/$1" ||
    fail "$1"
}

[ "$(workspaced --version)" = "$(build/service/workspaced --version)" ] || fail "--version differs"
mkdir "$base/base"
start
call CreateWorkspace '{"project": "fraud", "workspace": {"metadata": {"stage": "test"}}}' >/dev/null
call WriteArtifact '{"project": "fraud", "path": "models/m", "data": "aGVsbG8=", "finish": true}' |
  grep -q '"sha256": "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"' || fail "the checksum is wrong"
call UpdateWorkspace '{"workspace": {"project": "fraud", "metadata": {"stage": "production"}}}' >/dev/null
call ListWorkspaces '{"filter": "metadata.stage = production"}' | grep -q '"total_size": 1' || fail "the filter finds nothing"
stop
start
call GetWorkspaceStatus '{"project": "fraud"}' | grep -q '"size_bytes": "5"' || fail "the file is lost"
call DeleteWorkspace '{"project": "fraud", "force": true}' >/dev/null
stop
[ -z "$(ls "$base/base")" ] || fail "the workspace is still there"
echo "OK"
