#ifndef MLOPS_SERVICE_RPC_ARTIFACT_SERVICE_H_
#define MLOPS_SERVICE_RPC_ARTIFACT_SERVICE_H_

#include "mlops/workspace/v1/workspace_service.grpc.pb.h"
#include "service/artifacts/artifacts.h"
#include "service/rpc/artifact_streams.h"
#include "service/rpc/call.h"

namespace mlops::rpc {

namespace pb = mlops::workspace::v1;

// The part of WorkspaceService that is about artifacts. What carries data, and what may have many
// records, is bytes instead of messages.
// Thread-safe.
class ArtifactService : public pb::WorkspaceService::WithRawCallbackMethod_ReadArtifact<
                            pb::WorkspaceService::WithRawCallbackMethod_WriteArtifact<
                                pb::WorkspaceService::WithRawCallbackMethod_ListWorkspaces<
                                    pb::WorkspaceService::WithRawCallbackMethod_StreamWorkspaceStatuses<
                                        pb::WorkspaceService::CallbackService>>>> {
 public:
  // Must outlive this.
  explicit ArtifactService(ArtifactStreams* streams)
      : artifacts_(&streams->artifacts()), calls_(&streams->calls()), streams_(streams) {}

  grpc::ServerUnaryReactor* GetArtifact(grpc::CallbackServerContext* context, const pb::GetArtifactRequest* request,
                                        pb::Artifact* response) override;
  grpc::ServerUnaryReactor* ListArtifacts(grpc::CallbackServerContext* context, const pb::ListArtifactsRequest* request,
                                          pb::ListArtifactsResponse* response) override;
  grpc::ServerWriteReactor<grpc::ByteBuffer>* ReadArtifact(grpc::CallbackServerContext* context,
                                                           const grpc::ByteBuffer* request) override;
  grpc::ServerReadReactor<grpc::ByteBuffer>* WriteArtifact(grpc::CallbackServerContext* context,
                                                           grpc::ByteBuffer* response) override;
  grpc::ServerUnaryReactor* GetUpload(grpc::CallbackServerContext* context, const pb::GetUploadRequest* request,
                                      pb::Upload* response) override;
  grpc::ServerUnaryReactor* DeleteArtifact(grpc::CallbackServerContext* context,
                                           const pb::DeleteArtifactRequest* request,
                                           pb::DeleteArtifactResponse* response) override;
  grpc::ServerUnaryReactor* MoveArtifact(grpc::CallbackServerContext* context, const pb::MoveArtifactRequest* request,
                                         pb::Artifact* response) override;
  grpc::ServerUnaryReactor* CopyArtifact(grpc::CallbackServerContext* context, const pb::CopyArtifactRequest* request,
                                         pb::Artifact* response) override;
  grpc::ServerUnaryReactor* MakeDirectory(grpc::CallbackServerContext* context, const pb::MakeDirectoryRequest* request,
                                          pb::Artifact* response) override;

 private:
  core::Artifacts* const artifacts_;
  Calls* const calls_;
  ArtifactStreams* const streams_;
};

}  // namespace mlops::rpc

#endif  // MLOPS_SERVICE_RPC_ARTIFACT_SERVICE_H_
