#ifndef MLOPS_SERVICE_SERVER_GRPC_SETTINGS_H_
#define MLOPS_SERVICE_SERVER_GRPC_SETTINGS_H_

#include "grpcpp/server_builder.h"

namespace mlops::server {

// Applies the settings of all our servers: health and reflection services,
// limits on what clients may send, and no deadlock detection in Abseil's
// mutexes. gRPC's memory quota covers `max_artifact_streams` streams of
// messages of 1 MiB in addition to all other calls. When the quota is exhausted,
// by messages that never end for example, gRPC closes idle connections and ends
// streams. Must be called once per process, before the builder starts the
// server. Not thread-safe.
void ApplyGrpcSettings(grpc::ServerBuilder& builder, int max_artifact_streams);

}  // namespace mlops::server

#endif  // MLOPS_SERVICE_SERVER_GRPC_SETTINGS_H_
