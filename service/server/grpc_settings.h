#ifndef MLOPS_SERVICE_SERVER_GRPC_SETTINGS_H_
#define MLOPS_SERVICE_SERVER_GRPC_SETTINGS_H_

#include "grpcpp/server_builder.h"

namespace mlops::server {

// Applies the settings of all our servers: health and reflection services,
// limits on what clients may send, and no deadlock detection in Abseil's
// mutexes. gRPC's memory quota covers `max_artifact_streams` streams
// of the largest messages in addition to all other calls, because gRPC breaks
// streams off when the quota is exhausted. Must be called once per process,
// before the builder starts the server. Not thread-safe.
void ApplyGrpcSettings(grpc::ServerBuilder& builder, int max_artifact_streams);

}  // namespace mlops::server

#endif  // MLOPS_SERVICE_SERVER_GRPC_SETTINGS_H_
