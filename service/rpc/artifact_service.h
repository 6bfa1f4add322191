#ifndef MLOPS_SERVICE_RPC_ARTIFACT_SERVICE_H_
#define MLOPS_SERVICE_RPC_ARTIFACT_SERVICE_H_

#include "service/artifacts/artifacts.h"
#include "service/rpc/artifact_streams.h"
#include "service/rpc/call.h"
#include "service/rpc/raw_service.h"

namespace mlops::rpc {

// The RPCs of WorkspaceService that handle artifacts. Thread-safe.
class ArtifactService : public RawService {
 public:
  // `streams` must outlive this.
  explicit ArtifactService(ArtifactStreams* streams)
      : artifacts_(&streams->artifacts()),
        calls_(&streams->calls()),
        streams_(streams) {}

  grpc::ServerUnaryReactor* GetArtifact(grpc::CallbackServerContext* context,
                                        const grpc::ByteBuffer* request,
                                        grpc::ByteBuffer* response) override;
  grpc::ServerUnaryReactor* ListArtifacts(grpc::CallbackServerContext* context,
                                          const grpc::ByteBuffer* request,
                                          grpc::ByteBuffer* response) override;
  grpc::ServerWriteReactor<grpc::ByteBuffer>* ReadArtifact(
      grpc::CallbackServerContext* context,
      const grpc::ByteBuffer* request) override;
  grpc::ServerBidiReactor<grpc::ByteBuffer, grpc::ByteBuffer>* WriteArtifact(
      grpc::CallbackServerContext* context) override;
  grpc::ServerUnaryReactor* GetUpload(grpc::CallbackServerContext* context,
                                      const grpc::ByteBuffer* request,
                                      grpc::ByteBuffer* response) override;
  grpc::ServerUnaryReactor* DeleteArtifact(grpc::CallbackServerContext* context,
                                           const grpc::ByteBuffer* request,
                                           grpc::ByteBuffer* response) override;
  grpc::ServerUnaryReactor* MoveArtifact(grpc::CallbackServerContext* context,
                                         const grpc::ByteBuffer* request,
                                         grpc::ByteBuffer* response) override;
  grpc::ServerUnaryReactor* CopyArtifact(grpc::CallbackServerContext* context,
                                         const grpc::ByteBuffer* request,
                                         grpc::ByteBuffer* response) override;
  grpc::ServerUnaryReactor* MakeDirectory(grpc::CallbackServerContext* context,
                                          const grpc::ByteBuffer* request,
                                          grpc::ByteBuffer* response) override;

 private:
  artifacts::Artifacts* const artifacts_;
  Calls* const calls_;
  ArtifactStreams* const streams_;
};

}  // namespace mlops::rpc

#endif  // MLOPS_SERVICE_RPC_ARTIFACT_SERVICE_H_
