# Defines MlopsWorkspace::client, the C++ client of workspaced, and MlopsWorkspace::testing, a fake of
# the server for tests.
include(CMakeFindDependencyMacro)
find_dependency(Threads)
find_dependency(absl)
find_dependency(OpenSSL)
# Older gRPC packages need the targets of CMake's own Protobuf module, so it must come first.
find_dependency(Protobuf)
find_dependency(gRPC CONFIG)
include(${CMAKE_CURRENT_LIST_DIR}/MlopsWorkspaceTargets.cmake)
