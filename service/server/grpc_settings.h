#ifndef MLOPS_SERVICE_SERVER_GRPC_SETTINGS_H_
#define MLOPS_SERVICE_SERVER_GRPC_SETTINGS_H_

#include "grpcpp/resource_quota.h"
#include "grpcpp/server_builder.h"

namespace mlops::server {

// Applies the settings that all our servers share: health and reflection
// services, limits on what clients may send, `quota` for the memory of received
// messages, and no deadlock detection in Abseil's mutexes. Must be called
// before `builder` starts the server. Not thread-safe.
void ApplyGrpcSettings(grpc::ServerBuilder& builder,
                       const grpc::ResourceQuota& quota);

}  // namespace mlops::server

#endif  // MLOPS_SERVICE_SERVER_GRPC_SETTINGS_H_
