#ifndef MLOPS_SERVICE_SERVER_GRPC_SETTINGS_H_
#define MLOPS_SERVICE_SERVER_GRPC_SETTINGS_H_

#include "grpcpp/server_builder.h"

namespace mlops::server {

// Sets what holds for every server of ours, whatever it serves: health and
// reflection beside it, limits on what clients may send, and no search for
// deadlocks in Abseil's mutexes. gRPC may hold what `max_artifact_streams`
// streams of the largest messages need, beside what all other calls may: where
// it has too little, it breaks streams off. To be called once a process, before
// the builder starts the server. Not thread-safe.
void ApplyGrpcSettings(grpc::ServerBuilder& builder, int max_artifact_streams);

}  // namespace mlops::server

#endif  // MLOPS_SERVICE_SERVER_GRPC_SETTINGS_H_
