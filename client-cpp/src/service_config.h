#ifndef MLOPS_CLIENT_CPP_SRC_SERVICE_CONFIG_H_
#define MLOPS_CLIENT_CPP_SRC_SERVICE_CONFIG_H_

#include <string>

#include "google/protobuf/descriptor.h"

// Derives the client's retries from the contract's idempotency_level.
// Thread-safe.
namespace mlops::internal {

// Returns whether `method` is idempotent, so that the client may repeat a call
// whose outcome is unknown.
bool IsRepeatable(const google::protobuf::MethodDescriptor& method);

// Returns gRPC's service config as JSON. It makes gRPC retry the idempotent
// unary methods of `service`, only on UNAVAILABLE, in at most 4 attempts with
// 0.1 s to 2 s between them. It suspends retries while most attempts fail.
std::string ServiceConfigJson(
    const google::protobuf::ServiceDescriptor& service);

}  // namespace mlops::internal

#endif  // MLOPS_CLIENT_CPP_SRC_SERVICE_CONFIG_H_
