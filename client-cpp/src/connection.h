#ifndef MLOPS_CLIENT_CPP_SRC_CONNECTION_H_
#define MLOPS_CLIENT_CPP_SRC_CONNECTION_H_

#include <functional>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "grpcpp/support/slice.h"
#include "mlops/workspace/v1/workspace_service.pb.h"
#include "mlops/workspace_client.h"
#include "proto/cpp/wire_data.h"

namespace mlops::internal {

// One ReadArtifact call. Destroying it ends the call. Not thread-safe.
class ReadStream {
 public:
  virtual ~ReadStream() = default;

  // Waits for the next message: its data, and all else, with the data left out,
  // in `head`. False at the end.
  virtual absl::StatusOr<bool> Read(workspace::v1::ReadArtifactResponse* head,
                                    wire::Data* data) = 0;
};

// One WriteArtifact call. Destroying it cancels the call. Not thread-safe.
class WriteStream {
 public:
  virtual ~WriteStream() = default;

  // Sends `head`, which has no data, with `data`; a message with `finish` is
  // the last. Returns false if the call has ended: Read() returns why.
  virtual bool Write(const workspace::v1::WriteArtifactRequest& head,
                     const grpc::Slice& data) = 0;

  // Ends the stream of messages; a no-op after one with `finish`.
  virtual void WritesDone() = 0;

  // Waits for the next response: an acknowledgement, or the last one. Returns
  // false at the end of the call, and an error if the call failed; then the
  // stream can only be destroyed.
  virtual absl::StatusOr<bool> Read(
      workspace::v1::WriteArtifactResponse* response) = 0;
};

// The RPCs of the contract in their generated messages, below WorkspaceClient
// and above gRPC: where a fake takes the place of a server, and where recorded
// requests can be played. Errors carry their reason (proto/cpp/wire_status.h).
// Implementations are thread-safe.
class Connection {
 public:
  virtual ~Connection() = default;

  virtual absl::StatusOr<workspace::v1::Workspace> CreateWorkspace(
      const workspace::v1::CreateWorkspaceRequest& request,
      const CallOptions& call) = 0;
  virtual absl::StatusOr<workspace::v1::Workspace> GetWorkspace(
      const workspace::v1::GetWorkspaceRequest& request,
      const CallOptions& call) = 0;
  virtual absl::StatusOr<workspace::v1::ListWorkspacesResponse> ListWorkspaces(
      const workspace::v1::ListWorkspacesRequest& request,
      const CallOptions& call) = 0;
  virtual absl::StatusOr<workspace::v1::Workspace> UpdateWorkspace(
      const workspace::v1::UpdateWorkspaceRequest& request,
      const CallOptions& call) = 0;
  virtual absl::StatusOr<workspace::v1::DeleteWorkspaceResponse>
  DeleteWorkspace(const workspace::v1::DeleteWorkspaceRequest& request,
                  const CallOptions& call) = 0;
  virtual absl::StatusOr<workspace::v1::EnsureWorkspaceResponse>
  EnsureWorkspace(const workspace::v1::EnsureWorkspaceRequest& request,
                  const CallOptions& call) = 0;
  virtual absl::StatusOr<workspace::v1::Workspace> UndeleteWorkspace(
      const workspace::v1::UndeleteWorkspaceRequest& request,
      const CallOptions& call) = 0;
  virtual absl::StatusOr<workspace::v1::WorkspaceStatus> GetWorkspaceStatus(
      const workspace::v1::GetWorkspaceStatusRequest& request,
      const CallOptions& call) = 0;
  virtual absl::StatusOr<workspace::v1::ServerInfo> GetServerInfo(
      const workspace::v1::GetServerInfoRequest& request,
      const CallOptions& call) = 0;

  // Calls `visit` with each status in turn. Returns OK at the end of the
  // stream, or when `visit` returned false.
  virtual absl::Status StreamWorkspaceStatuses(
      const workspace::v1::StreamWorkspaceStatusesRequest& request,
      const CallOptions& call,
      const std::function<bool(const workspace::v1::WorkspaceStatus&)>&
          visit) = 0;

  virtual absl::StatusOr<workspace::v1::Artifact> GetArtifact(
      const workspace::v1::GetArtifactRequest& request,
      const CallOptions& call) = 0;
  virtual absl::StatusOr<workspace::v1::ListArtifactsResponse> ListArtifacts(
      const workspace::v1::ListArtifactsRequest& request,
      const CallOptions& call) = 0;
  virtual absl::StatusOr<workspace::v1::Upload> GetUpload(
      const workspace::v1::GetUploadRequest& request,
      const CallOptions& call) = 0;
  virtual absl::StatusOr<workspace::v1::DeleteArtifactResponse> DeleteArtifact(
      const workspace::v1::DeleteArtifactRequest& request,
      const CallOptions& call) = 0;
  virtual absl::StatusOr<workspace::v1::Artifact> MoveArtifact(
      const workspace::v1::MoveArtifactRequest& request,
      const CallOptions& call) = 0;
  virtual absl::StatusOr<workspace::v1::Artifact> CopyArtifact(
      const workspace::v1::CopyArtifactRequest& request,
      const CallOptions& call) = 0;
  virtual absl::StatusOr<workspace::v1::Artifact> MakeDirectory(
      const workspace::v1::MakeDirectoryRequest& request,
      const CallOptions& call) = 0;
  virtual std::unique_ptr<ReadStream> ReadArtifact(
      const workspace::v1::ReadArtifactRequest& request,
      const CallOptions& call) = 0;
  virtual std::unique_ptr<WriteStream> WriteArtifact(
      const CallOptions& call) = 0;

  // The server's base directory if this machine has a directory of that name,
  // which may be another one; else "". Asks the server the first time, for a
  // part of the time that `call` has.
  virtual std::string LocalBase(const CallOptions& /*call*/) { return ""; }
};

// The server at `address`, which ResolveAddress() returned, over gRPC. Connects
// with the first call.
std::shared_ptr<Connection> MakeGrpcConnection(const std::string& address,
                                               const ClientOptions& options);

}  // namespace mlops::internal

#endif  // MLOPS_CLIENT_CPP_SRC_CONNECTION_H_
