#!/bin/sh
# Cross-compiles workspaced for aarch64 with the libraries of Debian 12, which debootstrap downloads.
# Needs root, debootstrap, and Debian's cross compiler.
# Usage: make_arm64.sh DIRECTORY   makes DIRECTORY/sysroot and DIRECTORY/build/service/workspaced
set -eu
mkdir -p "$1"
directory=$(realpath "$1")
cd "$(dirname "$0")/../.."

MLOPS_SYSROOT=$directory/sysroot
export MLOPS_SYSROOT
libraries=libgrpc++-dev,libprotobuf-dev,libabsl-dev,libc-ares-dev,libcli11-dev,libjemalloc-dev,libre2-dev
libraries=$libraries,libspdlog-dev,libsqlite3-dev,libssl-dev,libstdc++-12-dev,libtomlplusplus-dev
libraries=$libraries,libyaml-cpp-dev,nlohmann-json3-dev,zlib1g-dev
# gRPC's CMake package insists on its own plugin, although the one of this machine runs.
libraries=$libraries,protobuf-compiler-grpc
[ -e "$MLOPS_SYSROOT/.complete" ] || {
  echo "installing the libraries for arm64 in $MLOPS_SYSROOT"
  rm -rf "$MLOPS_SYSROOT"
  # No program of the other processor is run: the packages are only unpacked.
  debootstrap --arch=arm64 --foreign --variant=minbase --include="$libraries" bookworm "$MLOPS_SYSROOT" \
    >"$directory/debootstrap.log"
  for package in "$MLOPS_SYSROOT"/var/cache/apt/archives/*.deb; do
    dpkg-deb --fsys-tarfile "$package" | tar -x --keep-directory-symlink -C "$MLOPS_SYSROOT"
  done
  touch "$MLOPS_SYSROOT/.complete"
}

cmake -S . -B "$directory/build" -G Ninja -DCMAKE_TOOLCHAIN_FILE="$PWD/service/packaging/arm64.cmake" \
  -DCMAKE_BUILD_TYPE=RelWithDebInfo -DCMAKE_CXX_FLAGS_RELWITHDEBINFO="-O2 -g1 -DNDEBUG" \
  -DMLOPS_PRECOMPILE_HEADERS=ON -DMLOPS_BUILD_TESTS=OFF
cmake --build "$directory/build" --target workspaced
