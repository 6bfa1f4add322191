#!/bin/sh
# Builds the image of service/packaging/Containerfile and runs it as Kubernetes does: as its own user, with
# a read-only root and no capabilities. Needs root, podman, and grpcurl.
# Usage: run_image.sh [BASE_IMAGE]
#   BASE_IMAGE  a directory with a Debian 12 that stands in for debian:12-slim, for machines without a registry
set -eu
cd "$(dirname "$0")/../.."

image=localhost/mlops-workspace-test
name=mlops-workspace-test-$$
clean() {
  podman rm --force "$name" >/dev/null 2>&1 || true
  podman volume rm --force "$name" >/dev/null 2>&1 || true
}
trap clean EXIT
fail() {
  echo "FAILED: $*" >&2
  podman logs "$name" >&2 || true
  exit 1
}

[ $# = 0 ] || tar -C "$1" -c . | podman import --quiet - docker.io/library/debian:12-slim >/dev/null
# Isolation by chroot works also where podman cannot make a cgroup.
podman build --quiet --isolation=chroot --pull=missing --tag "$image" -f service/packaging/Containerfile . >/dev/null

# crun refuses machines that mount both versions of cgroups, so hide the second one.
start() {
  unshare --mount --propagation private sh -c 'umount /sys/fs/cgroup/unified 2>/dev/null; exec podman run "$@"' run \
    --detach --name "$name" --cgroups=disabled --network=none --ulimit nofile=1024:4096 --ulimit nproc=1024:1024 \
    --read-only --cap-drop=ALL --security-opt=no-new-privileges --volume "$name:/var/lib/mlops-workspace" \
    "$image" --metrics 127.0.0.1:9464 >/dev/null || fail "the container does not start"
  pid=$(podman inspect --format '{{.State.Pid}}' "$name")
  for _ in $(seq 100); do
    [ "$(nsenter --target "$pid" --net curl -s http://127.0.0.1:9464/readyz)" != ok ] || return 0
    sleep 0.1
  done
  fail "/readyz is not ok"
}
call() {
  build/tools/grpcurl -plaintext -d "$2" -unix \
    "$(podman volume inspect --format '{{.Mountpoint}}' "$name")/.workspaced/socket" \
    "mlops.workspace.v1.WorkspaceService/$1" || fail "$1"
}

start
grep -q '^Uid:.10001.10001.10001.10001' "/proc/$pid/status" || fail "the server runs as another user"
grep -q '^CapEff:.0000000000000000' "/proc/$pid/status" || fail "the server has capabilities"
call CreateWorkspace '{"project": "fraud"}' >/dev/null
podman stop --time 20 "$name" >/dev/null
[ "$(podman inspect --format '{{.State.ExitCode}}' "$name")" = 0 ] || fail "the server does not stop cleanly"

# A new container of the same volume has the workspace.
podman rm "$name" >/dev/null
start
call GetWorkspace '{"project": "fraud"}' | grep -q '"project": "fraud"' || fail "the workspace is lost"
podman stop --time 20 "$name" >/dev/null
echo "OK"
