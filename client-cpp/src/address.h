#ifndef MLOPS_CLIENT_CPP_SRC_ADDRESS_H_
#define MLOPS_CLIENT_CPP_SRC_ADDRESS_H_

#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "mlops/workspace_client.h"

// Functions that find the server. Thread-safe.
namespace mlops::internal {

// Returns the address of the server that `options` identify: their `address`,
// the one published below their base directory, or the environment's. Returns
// the errors of WorkspaceClient::Connect.
absl::StatusOr<std::string> ResolveAddress(const ClientOptions& options);

// Converts `address` to a gRPC target. Percent-encodes the path of a Unix
// socket, because gRPC parses targets as URIs, in which '%', '#', '?' and other
// characters have a meaning.
std::string GrpcTarget(absl::string_view address);

// Returns whether `address` is on this host, so that calls must bypass proxies.
bool IsLocal(absl::string_view address);

}  // namespace mlops::internal

#endif  // MLOPS_CLIENT_CPP_SRC_ADDRESS_H_
