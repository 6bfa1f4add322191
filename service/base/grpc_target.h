#ifndef MLOPS_SERVICE_BASE_GRPC_TARGET_H_
#define MLOPS_SERVICE_BASE_GRPC_TARGET_H_

#include <string>

#include "absl/strings/string_view.h"

namespace mlops::base {

// `address`, "unix:<path>" or "<host>:<port>", as gRPC wants it: gRPC takes it for a URI, in which a path with '%',
// '#',
// '?' and the like has to be escaped. Thread-safe.
std::string GrpcTarget(absl::string_view address);

}  // namespace mlops::base

#endif  // MLOPS_SERVICE_BASE_GRPC_TARGET_H_
