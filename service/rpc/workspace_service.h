#ifndef MLOPS_SERVICE_RPC_WORKSPACE_SERVICE_H_
#define MLOPS_SERVICE_RPC_WORKSPACE_SERVICE_H_

#include <string>
#include <utility>
#include <vector>

#include "absl/time/time.h"
#include "service/artifacts/templates.h"
#include "service/core/authority.h"
#include "service/rpc/archive_streams.h"
#include "service/rpc/artifact_streams.h"
#include "service/rpc/call.h"
#include "service/rpc/clone_stream.h"
#include "service/rpc/raw_service.h"
#include "service/rpc/watch_hub.h"

namespace mlops::rpc {

namespace pb = mlops::workspace::v1;

// The data that GetServerInfo returns in addition to the authority's.
struct ServerFacts {
  std::string version;
  std::string base_path;
  absl::Time start_time;
  absl::Duration purge_delay;
  std::vector<std::string> features;
};

// The objects that the handlers use. All pointers must outlive the service.
struct ServiceParts {
  core::Authority* authority = nullptr;
  ArtifactStreams* artifacts = nullptr;
  ArchiveStreams* archives = nullptr;
  WatchHub* watches = nullptr;
  Calls* calls = nullptr;
  artifacts::Templates* templates = nullptr;  // Null: there are none.
  CloneParts clones = {};
};

// WorkspaceService on top of an Authority: each handler converts the request,
// calls the authority, and converts the result. Thread-safe.
//
// workspace_service.cc implements the workspace methods, artifact_methods.cc
// the artifact methods.
class WorkspaceService final : public RawService {
 public:
  WorkspaceService(const ServiceParts& parts, ServerFacts facts)
      : parts_(parts), facts_(std::move(facts)) {}

  grpc::ServerUnaryReactor* CreateWorkspace(
      grpc::CallbackServerContext* context, const grpc::ByteBuffer* request,
      grpc::ByteBuffer* response) override;
  grpc::ServerUnaryReactor* GetWorkspace(grpc::CallbackServerContext* context,
                                         const grpc::ByteBuffer* request,
                                         grpc::ByteBuffer* response) override;
  grpc::ServerUnaryReactor* ListWorkspaces(grpc::CallbackServerContext* context,
                                           const grpc::ByteBuffer* request,
                                           grpc::ByteBuffer* response) override;
  grpc::ServerUnaryReactor* UpdateWorkspace(
      grpc::CallbackServerContext* context, const grpc::ByteBuffer* request,
      grpc::ByteBuffer* response) override;
  grpc::ServerUnaryReactor* DeleteWorkspace(
      grpc::CallbackServerContext* context, const grpc::ByteBuffer* request,
      grpc::ByteBuffer* response) override;
  grpc::ServerUnaryReactor* EnsureWorkspace(
      grpc::CallbackServerContext* context, const grpc::ByteBuffer* request,
      grpc::ByteBuffer* response) override;
  grpc::ServerUnaryReactor* UndeleteWorkspace(
      grpc::CallbackServerContext* context, const grpc::ByteBuffer* request,
      grpc::ByteBuffer* response) override;
  grpc::ServerWriteReactor<grpc::ByteBuffer>* CloneWorkspace(
      grpc::CallbackServerContext* context,
      const grpc::ByteBuffer* request) override;
  grpc::ServerWriteReactor<grpc::ByteBuffer>* WatchWorkspaces(
      grpc::CallbackServerContext* context,
      const grpc::ByteBuffer* request) override;
  grpc::ServerUnaryReactor* GetWorkspaceStatus(
      grpc::CallbackServerContext* context, const grpc::ByteBuffer* request,
      grpc::ByteBuffer* response) override;
  grpc::ServerWriteReactor<grpc::ByteBuffer>* StreamWorkspaceStatuses(
      grpc::CallbackServerContext* context,
      const grpc::ByteBuffer* request) override;
  grpc::ServerUnaryReactor* ListTemplates(grpc::CallbackServerContext* context,
                                          const grpc::ByteBuffer* request,
                                          grpc::ByteBuffer* response) override;
  grpc::ServerWriteReactor<grpc::ByteBuffer>* ExportWorkspace(
      grpc::CallbackServerContext* context,
      const grpc::ByteBuffer* request) override;
  grpc::ServerBidiReactor<grpc::ByteBuffer, grpc::ByteBuffer>* ImportWorkspace(
      grpc::CallbackServerContext* context) override;
  grpc::ServerUnaryReactor* AcquireLease(grpc::CallbackServerContext* context,
                                         const grpc::ByteBuffer* request,
                                         grpc::ByteBuffer* response) override;
  grpc::ServerUnaryReactor* ReleaseLease(grpc::CallbackServerContext* context,
                                         const grpc::ByteBuffer* request,
                                         grpc::ByteBuffer* response) override;
  grpc::ServerUnaryReactor* GetServerInfo(grpc::CallbackServerContext* context,
                                          const grpc::ByteBuffer* request,
                                          grpc::ByteBuffer* response) override;

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
  // Describe() converts a workspace with its lease; AddLease() adds only the
  // lease.
  void Describe(const core::Workspace& workspace, pb::Workspace* message) const;
  void AddLease(const core::Workspace& workspace, pb::Workspace* message) const;

  const ServiceParts parts_;
  const ServerFacts facts_;
};

}  // namespace mlops::rpc

#endif  // MLOPS_SERVICE_RPC_WORKSPACE_SERVICE_H_
