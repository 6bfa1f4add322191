#ifndef MLOPS_CLIENT_CPP_SRC_ADDRESS_H_
#define MLOPS_CLIENT_CPP_SRC_ADDRESS_H_

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "mlops/options.h"
#include "proto/cpp/base/unique_fd.h"

// Functions that find the server. Thread-safe.
namespace mlops::internal {

// Returns the address of the server that `options` identify: their `address`,
// the one published below their base directory, or the environment's. Returns
// the errors of WorkspaceClient::Connect.
absl::StatusOr<std::string> ResolveAddress(const ClientOptions& options);

// Splits a result of ResolveAddress() into the addresses of single servers.
std::vector<std::string> SplitAddresses(const std::string& address);

// A server, in the form that gRPC expects.
struct GrpcTarget {
  std::string uri;
  // The directory that `uri` names by its descriptor, if any. It must stay open
  // as long as the channel exists.
  base::UniqueFd directory;
};

// Converts `address`, which names a single server, to a gRPC target.
// Percent-encodes the path of a Unix socket, because gRPC parses targets as
// URIs, in which '%', '#', '?' and other characters have a meaning. gRPC ends
// an address at a comma, even an encoded one, so for a directory whose path
// contains a comma the target uses a descriptor instead. Returns UNAVAILABLE,
// without a reason, if that directory cannot be opened or the socket's own name
// contains a comma.
absl::StatusOr<GrpcTarget> MakeGrpcTarget(absl::string_view address);

// Returns whether `address` is on this host, so that calls must bypass proxies.
bool IsLocal(absl::string_view address);

}  // namespace mlops::internal

#endif  // MLOPS_CLIENT_CPP_SRC_ADDRESS_H_
