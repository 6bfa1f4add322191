#!/bin/sh
# Runs a link command with every shared library in it replaced by the static one beside it: CMake's packages of gRPC and
# Abseil know only the shared ones. What has no static one stays, so that a missing archive shows in `ldd` only.
for argument; do
  shift
  case $argument in
  /*.so | /*.so.*) [ ! -f "${argument%.so*}.a" ] || argument=${argument%.so*}.a ;;
  -lre2) argument=-l:libre2.a ;;
  esac
  set -- "$@" "$argument"
done
exec "$@"
