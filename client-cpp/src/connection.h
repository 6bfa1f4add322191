#ifndef MLOPS_CLIENT_CPP_SRC_CONNECTION_H_
#define MLOPS_CLIENT_CPP_SRC_CONNECTION_H_

#include <functional>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "mlops/workspace/v1/workspace_service.pb.h"
#include "mlops/workspace_client.h"

namespace mlops::internal {

// The RPCs of the contract in their generated messages, below WorkspaceClient and above gRPC: where a fake takes the
// place of a server, and where recorded requests can be played. Errors carry their reason (proto/cpp/wire_status.h).
// Implementations are thread-safe.
class Connection {
 public:
  virtual ~Connection() = default;

  virtual absl::StatusOr<workspace::v1::Workspace> CreateWorkspace(const workspace::v1::CreateWorkspaceRequest& request,
                                                                   const CallOptions& call) = 0;
  virtual absl::StatusOr<workspace::v1::Workspace> GetWorkspace(const workspace::v1::GetWorkspaceRequest& request,
                                                                const CallOptions& call) = 0;
  virtual absl::StatusOr<workspace::v1::ListWorkspacesResponse> ListWorkspaces(
      const workspace::v1::ListWorkspacesRequest& request, const CallOptions& call) = 0;
  virtual absl::StatusOr<workspace::v1::Workspace> UpdateWorkspace(const workspace::v1::UpdateWorkspaceRequest& request,
                                                                   const CallOptions& call) = 0;
  virtual absl::StatusOr<workspace::v1::DeleteWorkspaceResponse> DeleteWorkspace(
      const workspace::v1::DeleteWorkspaceRequest& request, const CallOptions& call) = 0;
  virtual absl::StatusOr<workspace::v1::EnsureWorkspaceResponse> EnsureWorkspace(
      const workspace::v1::EnsureWorkspaceRequest& request, const CallOptions& call) = 0;
  virtual absl::StatusOr<workspace::v1::Workspace> UndeleteWorkspace(
      const workspace::v1::UndeleteWorkspaceRequest& request, const CallOptions& call) = 0;
  virtual absl::StatusOr<workspace::v1::WorkspaceStatus> GetWorkspaceStatus(
      const workspace::v1::GetWorkspaceStatusRequest& request, const CallOptions& call) = 0;
  virtual absl::StatusOr<workspace::v1::ServerInfo> GetServerInfo(const workspace::v1::GetServerInfoRequest& request,
                                                                  const CallOptions& call) = 0;

  // Calls `visit` with each status in turn. Returns OK at the end of the stream, or when `visit` returned false.
  virtual absl::Status StreamWorkspaceStatuses(
      const workspace::v1::StreamWorkspaceStatusesRequest& request, const CallOptions& call,
      const std::function<bool(const workspace::v1::WorkspaceStatus&)>& visit) = 0;
};

// The server at `address`, which ResolveAddress() returned, over gRPC. Connects with the first call.
std::shared_ptr<Connection> MakeGrpcConnection(const std::string& address, const ClientOptions& options);

}  // namespace mlops::internal

#endif  // MLOPS_CLIENT_CPP_SRC_CONNECTION_H_
