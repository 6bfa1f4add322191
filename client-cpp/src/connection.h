#ifndef MLOPS_CLIENT_CPP_SRC_CONNECTION_H_
#define MLOPS_CLIENT_CPP_SRC_CONNECTION_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "grpcpp/support/slice.h"
#include "mlops/options.h"
#include "mlops/workspace/v1/workspace_service.pb.h"
#include "proto/cpp/wire_data.h"

namespace mlops::internal {

// A ReadArtifact call in flight. The destructor ends the call. Not thread-safe.
class ReadStream {
 public:
  virtual ~ReadStream() = default;

  // Waits for the next message. Sets `data` to its data and `head` to all other
  // fields. Returns false at the end of the stream.
  virtual absl::StatusOr<bool> Read(workspace::v1::ReadArtifactResponse* head,
                                    wire::Data* data) = 0;
};

// A WriteArtifact call in flight. The destructor cancels the call. Not
// thread-safe.
class WriteStream {
 public:
  virtual ~WriteStream() = default;

  // Sends `head`, whose data field is empty, together with `data`. A message
  // with `finish` must be the last one. Returns false if the call has ended;
  // Read() then returns the reason.
  virtual bool Write(const workspace::v1::WriteArtifactRequest& head,
                     const grpc::Slice& data) = 0;

  // Ends the stream of messages. A no-op after a message with `finish`.
  virtual void WritesDone() = 0;

  // Waits for the next response, an acknowledgement or the last one. Returns
  // false at the end of the call, and an error if the call failed. After
  // either, only the destructor may be called.
  virtual absl::StatusOr<bool> Read(
      workspace::v1::WriteArtifactResponse* response) = 0;
};

// Sends the RPCs of the contract as generated messages. At this interface
// between WorkspaceClient and gRPC, a fake can replace the server and tests can
// replay requests. Errors have a reason; see proto/cpp/wire_status.h.
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
  virtual absl::StatusOr<workspace::v1::Lease> AcquireLease(
      const workspace::v1::AcquireLeaseRequest& request,
      const CallOptions& call) = 0;
  virtual absl::StatusOr<workspace::v1::ReleaseLeaseResponse> ReleaseLease(
      const workspace::v1::ReleaseLeaseRequest& request,
      const CallOptions& call) = 0;
  virtual absl::StatusOr<workspace::v1::WorkspaceStatus> GetWorkspaceStatus(
      const workspace::v1::GetWorkspaceStatusRequest& request,
      const CallOptions& call) = 0;
  virtual absl::StatusOr<workspace::v1::ListTemplatesResponse> ListTemplates(
      const workspace::v1::ListTemplatesRequest& request,
      const CallOptions& call) = 0;
  virtual absl::StatusOr<workspace::v1::ServerInfo> GetServerInfo(
      const workspace::v1::GetServerInfoRequest& request,
      const CallOptions& call) = 0;

  // Calls `visit` with each message in turn, and returns the last one. Returns
  // CANCELLED once `visit` returns false.
  virtual absl::StatusOr<workspace::v1::CloneWorkspaceResponse> CloneWorkspace(
      const workspace::v1::CloneWorkspaceRequest& request,
      const CallOptions& call,
      const std::function<bool(const workspace::v1::CloneWorkspaceResponse&)>&
          visit) = 0;

  // Calls `visit` with each status in turn. Returns OK at the end of the
  // stream, or once `visit` returns false.
  virtual absl::Status StreamWorkspaceStatuses(
      const workspace::v1::StreamWorkspaceStatusesRequest& request,
      const CallOptions& call,
      const std::function<bool(const workspace::v1::WorkspaceStatus&)>&
          visit) = 0;

  // Calls `visit` with each response in turn. Ends the call with the first
  // error that `visit` returns.
  virtual absl::Status ExportWorkspace(
      const workspace::v1::ExportWorkspaceRequest& request,
      const CallOptions& call,
      const std::function<absl::Status(
          const workspace::v1::ExportWorkspaceResponse&)>& visit) = 0;
  // Sends the messages that `next` fills until it returns false, and returns
  // the last response. Calls `acknowledged` with the offset of every response.
  // Ends the call with the first error that either returns.
  virtual absl::StatusOr<workspace::v1::ImportWorkspaceResponse>
  ImportWorkspace(const CallOptions& call,
                  const std::function<absl::StatusOr<bool>(
                      workspace::v1::ImportWorkspaceRequest*)>& next,
                  const std::function<absl::Status(int64_t)>& acknowledged) = 0;

  // Calls `visit` with each response in turn. Returns OK once `visit` returns
  // false.
  virtual absl::Status WatchWorkspaces(
      const workspace::v1::WatchWorkspacesRequest& request,
      const CallOptions& call,
      const std::function<bool(const workspace::v1::WatchWorkspacesResponse&)>&
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

  // Returns the server's base directory if this host has a directory of that
  // name, otherwise "". That directory may still be a different one. The first
  // call asks the server, which counts against the timeout in `call`.
  virtual std::string LocalBase(const CallOptions& /*call*/) { return ""; }
};

// Returns a gRPC connection to `address`, which ResolveAddress() returned. The
// first call connects. Returns the errors of MakeGrpcTarget().
absl::StatusOr<std::shared_ptr<Connection>> MakeGrpcConnection(
    const std::string& address, const ClientOptions& options);

}  // namespace mlops::internal

#endif  // MLOPS_CLIENT_CPP_SRC_CONNECTION_H_
