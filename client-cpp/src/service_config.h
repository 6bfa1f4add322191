#ifndef MLOPS_CLIENT_CPP_SRC_SERVICE_CONFIG_H_
#define MLOPS_CLIENT_CPP_SRC_SERVICE_CONFIG_H_

#include <string>

#include "google/protobuf/descriptor.h"

// What the contract's idempotency_level says about a client. Thread-safe.
namespace mlops::internal {

// Whether a call may be sent again when nobody knows what became of it.
bool IsRepeatable(const google::protobuf::MethodDescriptor& method);

// gRPC's service config, as JSON, that retries the repeatable unary methods of
// `service` on UNAVAILABLE alone, in at most 4 attempts with 0.1 s to 2 s
// between them, and stops doing so while most attempts fail.
std::string ServiceConfigJson(
    const google::protobuf::ServiceDescriptor& service);

}  // namespace mlops::internal

#endif  // MLOPS_CLIENT_CPP_SRC_SERVICE_CONFIG_H_
