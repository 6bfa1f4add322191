#ifndef MLOPS_SERVICE_RPC_WORKSPACE_SERVICE_H_
#define MLOPS_SERVICE_RPC_WORKSPACE_SERVICE_H_

#include <string>
#include <utility>
#include <vector>

#include "absl/time/time.h"
#include "service/artifacts/templates.h"
#include "service/core/authority.h"
#include "service/rpc/archive_streams.h"
#include "service/rpc/artifact_service.h"
#include "service/rpc/call.h"
#include "service/rpc/clone_stream.h"

namespace mlops::rpc {

namespace pb = mlops::workspace::v1;

// What GetServerInfo returns in addition to the authority's own data.
struct ServerFacts {
  std::string version;
  std::string base_path;
  absl::Time start_time;
  absl::Duration purge_delay;
  std::vector<std::string> features;
};

// WorkspaceService on top of an Authority: each handler converts the request,
// calls the authority, and converts the result. Thread-safe.
class WorkspaceService final : public ArtifactService {
 public:
  // All pointers must outlive this.
  WorkspaceService(core::Authority* authority, ArtifactStreams* artifacts,
                   ArchiveStreams* archives, Calls* calls, ServerFacts facts);
  // Lists `templates`, which must outlive this. Call it before any RPC.
  void SetTemplates(artifacts::Templates* templates) { templates_ = templates; }
  // What CloneWorkspace works with. Call it before any RPC.
  void SetClones(CloneParts parts) { clones_ = std::move(parts); }

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
  grpc::ServerUnaryReactor* GetServerInfo(grpc::CallbackServerContext* context,
                                          const grpc::ByteBuffer* request,
                                          grpc::ByteBuffer* response) override;

 private:
  core::Authority* const authority_;
  ArchiveStreams* const archives_;
  Calls* const calls_;
  const ServerFacts facts_;
  CloneParts clones_;
  // Null if there are none.
  artifacts::Templates* templates_ = nullptr;
};

}  // namespace mlops::rpc

#endif  // MLOPS_SERVICE_RPC_WORKSPACE_SERVICE_H_
