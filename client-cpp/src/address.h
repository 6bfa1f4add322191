#ifndef MLOPS_CLIENT_CPP_SRC_ADDRESS_H_
#define MLOPS_CLIENT_CPP_SRC_ADDRESS_H_

#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "mlops/workspace_client.h"

// Finding the server. Thread-safe.
namespace mlops::internal {

// The address `options` mean: their own, the one written down below their base
// directory, or the environment's. Errors as WorkspaceClient::Connect.
absl::StatusOr<std::string> ResolveAddress(const ClientOptions& options);

// `address` as gRPC wants it: gRPC takes it for a URI, in which the path of a
// Unix socket with '%', '#', '?' and the like has to be escaped.
std::string GrpcTarget(absl::string_view address);

// Whether calls to `address` stay on this machine, so that no proxy can help.
bool IsLocal(absl::string_view address);

}  // namespace mlops::internal

#endif  // MLOPS_CLIENT_CPP_SRC_ADDRESS_H_
