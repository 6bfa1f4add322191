#include <algorithm>
#include <filesystem>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/clock.h"
#include "client-cpp/src/address.h"
#include "client-cpp/src/connection.h"
#include "client-cpp/src/credentials.h"
#include "client-cpp/src/grpc_call.h"
#include "client-cpp/src/servers.h"
#include "client-cpp/src/service_config.h"
#include "grpcpp/grpcpp.h"
#include "mlops/workspace/v1/workspace_service.grpc.pb.h"
#include "proto/cpp/base/status_macros.h"

namespace mlops::internal {
namespace {

namespace v1 = workspace::v1;
using google::protobuf::Descriptor;
using google::protobuf::MethodDescriptor;
using google::protobuf::ServiceDescriptor;

// Larger than any page that the server sends, so a larger response can only be
// an error.
constexpr int kMaxAnswerBytes = 64 << 20;
// gRPC's default, 8 KiB, is too small for the largest error details, because
// gRPC percent-encodes non-ASCII characters in messages.
constexpr int kMaxHeaderBytes = 16 << 10;
// Well above the minimum interval that servers tolerate.
constexpr int kKeepaliveMs = 25'000;
// Maximum number of attempts of a call that moves between servers.
constexpr int kMaxAttempts = 4;
constexpr absl::Duration kLocalBaseTimeout = absl::Seconds(2);

const ServiceDescriptor& Contract() {
  return *v1::GetWorkspaceRequest::descriptor()->file()->FindServiceByName(
      "WorkspaceService");
}

// Returns the default timeout of `method`; see ClientOptions.
absl::Duration TimeoutOf(const MethodDescriptor& method,
                         const ClientOptions& options) {
  const Descriptor* const request = method.input_type();
  const auto is_any_of = [request](auto... descriptors) {
    return ((request == descriptors) || ...);
  };
  // Transfers and watches may take any time.
  if (is_any_of(v1::ReadArtifactRequest::descriptor(),
                v1::WriteArtifactRequest::descriptor(),
                v1::WatchWorkspacesRequest::descriptor())) {
    return absl::InfiniteDuration();
  }
  if (method.server_streaming() || method.client_streaming())
    return options.stream_timeout;
  if (is_any_of(v1::GetWorkspaceStatusRequest::descriptor(),
                v1::GetArtifactRequest::descriptor(),
                v1::CopyArtifactRequest::descriptor())) {
    return options.status_timeout;
  }
  return IsRepeatable(method) ? options.repeatable_timeout
                              : options.change_timeout;
}

// `alone` says whether there is no other server to which calls could move.
grpc::ChannelArguments ChannelArgumentsFor(const std::string& address,
                                           const GrpcTarget& target,
                                           bool alone) {
  grpc::ChannelArguments arguments;
  arguments.SetServiceConfigJSON(ServiceConfigJson(Contract()));
  // With several servers, Unary() retries instead, because gRPC would retry the
  // same server.
  if (!alone) arguments.SetInt(GRPC_ARG_ENABLE_RETRIES, 0);
  arguments.SetMaxReceiveMessageSize(kMaxAnswerBytes);
  arguments.SetInt(GRPC_ARG_MAX_METADATA_SIZE, kMaxHeaderBytes);
  arguments.SetUserAgentPrefix("mlops-workspace-cpp");
  if (IsLocal(address)) arguments.SetInt(GRPC_ARG_ENABLE_HTTP_PROXY, 0);
  // A descriptor's number may name another directory later, so channels must
  // not share connections by address.
  if (target.directory.ok())
    arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
  // A server restarts faster than gRPC's default backoff, which starts at one
  // second and grows.
  arguments.SetInt(GRPC_ARG_INITIAL_RECONNECT_BACKOFF_MS, 100);
  arguments.SetInt(GRPC_ARG_MAX_RECONNECT_BACKOFF_MS, alone ? 2000 : 300);
  // Calls without a timeout may be idle for long. Keepalive pings end them when
  // the server has disappeared.
  arguments.SetInt(GRPC_ARG_KEEPALIVE_TIME_MS, kKeepaliveMs);
  arguments.SetInt(GRPC_ARG_KEEPALIVE_TIMEOUT_MS, kKeepaliveMs);
  arguments.SetInt(GRPC_ARG_HTTP2_MAX_PINGS_WITHOUT_DATA, 0);
  return arguments;
}

absl::StatusOr<std::unique_ptr<Server>> MakeServer(
    std::string address, const Credentials& credentials, bool alone) {
  // Refuse to send a token unencrypted before a channel can connect.
  RETURN_IF_ERROR(credentials.CheckAddress(address));
  ASSIGN_OR_RETURN(GrpcTarget target, MakeGrpcTarget(address));
  auto channel =
      grpc::CreateCustomChannel(target.uri, credentials.ForChannel(address),
                                ChannelArgumentsFor(address, target, alone));
  return std::unique_ptr<Server>(
      new Server{.address = std::move(address),
                 .target = std::move(target),
                 .channel = channel,
                 .stub = v1::WorkspaceService::NewStub(channel),
                 .streams = GrpcStreams(channel)});
}

class GrpcConnection final : public Connection {
 public:
  GrpcConnection(std::vector<std::unique_ptr<Server>> servers,
                 Credentials credentials, const ClientOptions& options)
      : credentials_(std::move(credentials)),
        servers_(std::move(servers), credentials_) {
    for (int i = 0; i < Contract().method_count(); ++i) {
      const MethodDescriptor& method = *Contract().method(i);
      policies_[method.input_type()] = {.timeout = TimeoutOf(method, options),
                                        .is_repeatable = IsRepeatable(method)};
    }
  }

  absl::StatusOr<v1::Workspace> CreateWorkspace(
      const v1::CreateWorkspaceRequest& request,
      const CallOptions& call) override {
    return Unary(&Stub::CreateWorkspace, request, call);
  }
  absl::StatusOr<v1::Workspace> GetWorkspace(
      const v1::GetWorkspaceRequest& request,
      const CallOptions& call) override {
    return Unary(&Stub::GetWorkspace, request, call);
  }
  absl::StatusOr<v1::ListWorkspacesResponse> ListWorkspaces(
      const v1::ListWorkspacesRequest& request,
      const CallOptions& call) override {
    return Unary(&Stub::ListWorkspaces, request, call);
  }
  absl::StatusOr<v1::Workspace> UpdateWorkspace(
      const v1::UpdateWorkspaceRequest& request,
      const CallOptions& call) override {
    return Unary(&Stub::UpdateWorkspace, request, call);
  }
  absl::StatusOr<v1::DeleteWorkspaceResponse> DeleteWorkspace(
      const v1::DeleteWorkspaceRequest& request,
      const CallOptions& call) override {
    return Unary(&Stub::DeleteWorkspace, request, call);
  }
  absl::StatusOr<v1::EnsureWorkspaceResponse> EnsureWorkspace(
      const v1::EnsureWorkspaceRequest& request,
      const CallOptions& call) override {
    return Unary(&Stub::EnsureWorkspace, request, call);
  }
  absl::StatusOr<v1::Workspace> UndeleteWorkspace(
      const v1::UndeleteWorkspaceRequest& request,
      const CallOptions& call) override {
    return Unary(&Stub::UndeleteWorkspace, request, call);
  }
  absl::StatusOr<v1::Lease> AcquireLease(const v1::AcquireLeaseRequest& request,
                                         const CallOptions& call) override {
    return Unary(&Stub::AcquireLease, request, call);
  }
  absl::StatusOr<v1::ReleaseLeaseResponse> ReleaseLease(
      const v1::ReleaseLeaseRequest& request,
      const CallOptions& call) override {
    return Unary(&Stub::ReleaseLease, request, call);
  }
  absl::StatusOr<v1::WorkspaceStatus> GetWorkspaceStatus(
      const v1::GetWorkspaceStatusRequest& request,
      const CallOptions& call) override {
    return Unary(&Stub::GetWorkspaceStatus, request, call);
  }
  absl::StatusOr<v1::ListTemplatesResponse> ListTemplates(
      const v1::ListTemplatesRequest& request,
      const CallOptions& call) override {
    return Unary(&Stub::ListTemplates, request, call);
  }
  absl::StatusOr<v1::ServerInfo> GetServerInfo(
      const v1::GetServerInfoRequest& request,
      const CallOptions& call) override {
    return Unary(&Stub::GetServerInfo, request, call);
  }

  absl::StatusOr<v1::CloneWorkspaceResponse> CloneWorkspace(
      const v1::CloneWorkspaceRequest& request, const CallOptions& call,
      const std::function<bool(const v1::CloneWorkspaceResponse&)>& visit)
      override {
    // Cloning may take any time, so only the caller limits it.
    const absl::Time deadline =
        absl::Now() + call.timeout.value_or(absl::InfiniteDuration());
    const Server& server = servers_.Choose(
        std::min(deadline, DeadlineOf(*request.GetDescriptor(), call)),
        call.stop);
    const auto state = Begin(server, deadline, call);
    grpc::ClientContext& context = state->context();
    const auto reader = server.stub->CloneWorkspace(&context, request);
    v1::CloneWorkspaceResponse message, last;
    bool wanted = true;
    while (wanted && reader->Read(&message)) {
      wanted = visit(message);
      last = message;
    }
    // gRPC requires Finish() in any case; cancelling keeps it short.
    if (!wanted) context.TryCancel();
    const absl::Status end = state->ToAbsl(reader->Finish());
    // The copy may exist already, in which case it is the result.
    if (!wanted && !last.has_workspace())
      return absl::CancelledError("The progress callback ended the call");
    RETURN_IF_ERROR(wanted ? end : absl::OkStatus());
    return last;
  }

  absl::Status StreamWorkspaceStatuses(
      const v1::StreamWorkspaceStatusesRequest& request,
      const CallOptions& call,
      const std::function<bool(const v1::WorkspaceStatus&)>& visit) override {
    const absl::Time deadline = DeadlineOf(*request.GetDescriptor(), call);
    const Server& server = servers_.Choose(deadline, call.stop);
    const auto state = Begin(server, deadline, call);
    grpc::ClientContext& context = state->context();
    const auto reader = server.stub->StreamWorkspaceStatuses(&context, request);
    bool wanted = true;
    for (v1::StreamWorkspaceStatusesResponse some;
         wanted && reader->Read(&some);) {
      const auto& statuses = some.statuses();
      wanted = std::all_of(statuses.begin(), statuses.end(), visit);
    }
    // A visitor that stops early ends the call without an error.
    if (!wanted) context.TryCancel();
    const grpc::Status end = reader->Finish();
    return wanted ? state->ToAbsl(end) : absl::OkStatus();
  }

  absl::Status ExportWorkspace(
      const v1::ExportWorkspaceRequest& request, const CallOptions& call,
      const std::function<absl::Status(const v1::ExportWorkspaceResponse&)>&
          visit) override {
    const absl::Time deadline = DeadlineOf(*request.GetDescriptor(), call);
    const Server& server = servers_.Choose(deadline, call.stop);
    const auto state = Begin(server, deadline, call);
    grpc::ClientContext& context = state->context();
    const auto reader = server.stub->ExportWorkspace(&context, request);
    absl::Status visited;
    for (v1::ExportWorkspaceResponse response;
         visited.ok() && reader->Read(&response);)
      visited = visit(response);
    if (!visited.ok()) context.TryCancel();
    const grpc::Status end = reader->Finish();
    return visited.ok() ? state->ToAbsl(end) : visited;
  }

  absl::StatusOr<v1::ImportWorkspaceResponse> ImportWorkspace(
      const CallOptions& call,
      const std::function<absl::StatusOr<bool>(v1::ImportWorkspaceRequest*)>&
          next,
      const std::function<absl::Status(int64_t)>& acknowledged) override {
    const absl::Time deadline =
        DeadlineOf(*v1::ImportWorkspaceRequest::descriptor(), call);
    const Server& server = servers_.Choose(deadline, call.stop);
    const auto state = Begin(server, deadline, call);
    grpc::ClientContext& context = state->context();
    const auto stream = server.stub->ImportWorkspace(&context);
    // A thread sends while this one reads the acknowledgements, because the
    // server keeps only the newest for a client that does not read them.
    absl::Status sent;
    std::thread sender([&] {
      while (true) {
        v1::ImportWorkspaceRequest message;
        const absl::StatusOr<bool> more = next(&message);
        if (!more.ok()) {
          sent = more.status();
          return context.TryCancel();
        }
        // A failed write means that the call has ended.
        if (!*more || !stream->Write(message)) break;
      }
      stream->WritesDone();
    });
    absl::Status read;
    v1::ImportWorkspaceResponse last;
    // Read to the end even after an error, because Finish() requires it.
    for (v1::ImportWorkspaceResponse response; stream->Read(&response);) {
      last = response;
      if (read.ok()) read = acknowledged(response.offset());
      if (!read.ok()) context.TryCancel();
    }
    sender.join();
    const absl::Status end = state->ToAbsl(stream->Finish());
    // The sender's error comes first: its cancellation caused the others.
    RETURN_IF_ERROR(sent);
    if (!end.ok()) return read.ok() ? end : read;
    return last;
  }

  absl::Status WatchWorkspaces(
      const v1::WatchWorkspacesRequest& request, const CallOptions& call,
      const std::function<bool(const v1::WatchWorkspacesResponse&)>& visit)
      override {
    const absl::Time deadline = DeadlineOf(*request.GetDescriptor(), call);
    const Server& server = servers_.Choose(deadline, call.stop);
    const auto state = Begin(server, deadline, call);
    v1::WatchWorkspacesRequest batched = request;
    batched.set_batched(true);
    const auto reader =
        server.stub->WatchWorkspaces(&state->context(), batched);
    bool wanted = true;
    for (v1::WatchWorkspacesResponse response;
         wanted && reader->Read(&response);) {
      // A server of an earlier release sends single responses.
      if (response.batch().empty()) wanted = visit(response);
      for (const v1::WatchWorkspacesResponse& each : response.batch())
        wanted = wanted && visit(each);
    }
    if (!wanted) state->context().TryCancel();
    const grpc::Status end = reader->Finish();
    if (!wanted) return absl::OkStatus();
    absl::Status error = state->ToAbsl(end);
    // With several addresses, let the next attempt look for the server that
    // serves.
    servers_.MayMove(error, /*repeatable=*/true);
    return error;
  }

  absl::StatusOr<v1::Artifact> GetArtifact(
      const v1::GetArtifactRequest& request, const CallOptions& call) override {
    return Unary(&Stub::GetArtifact, request, call);
  }
  absl::StatusOr<v1::ListArtifactsResponse> ListArtifacts(
      const v1::ListArtifactsRequest& request,
      const CallOptions& call) override {
    return Unary(&Stub::ListArtifacts, request, call);
  }
  absl::StatusOr<v1::Upload> GetUpload(const v1::GetUploadRequest& request,
                                       const CallOptions& call) override {
    return Unary(&Stub::GetUpload, request, call);
  }
  absl::StatusOr<v1::DeleteArtifactResponse> DeleteArtifact(
      const v1::DeleteArtifactRequest& request,
      const CallOptions& call) override {
    return Unary(&Stub::DeleteArtifact, request, call);
  }
  absl::StatusOr<v1::Artifact> MoveArtifact(
      const v1::MoveArtifactRequest& request,
      const CallOptions& call) override {
    return Unary(&Stub::MoveArtifact, request, call);
  }
  absl::StatusOr<v1::Artifact> CopyArtifact(
      const v1::CopyArtifactRequest& request,
      const CallOptions& call) override {
    return Unary(&Stub::CopyArtifact, request, call);
  }
  absl::StatusOr<v1::Artifact> MakeDirectory(
      const v1::MakeDirectoryRequest& request,
      const CallOptions& call) override {
    return Unary(&Stub::MakeDirectory, request, call);
  }
  std::unique_ptr<ReadStream> ReadArtifact(
      const v1::ReadArtifactRequest& request,
      const CallOptions& call) override {
    const absl::Time deadline = DeadlineOf(*request.GetDescriptor(), call);
    const Server& server = servers_.Choose(deadline, call.stop);
    return server.streams.Read(Begin(server, deadline, call), request);
  }
  std::unique_ptr<WriteStream> WriteArtifact(const CallOptions& call) override {
    const absl::Time deadline =
        DeadlineOf(*v1::WriteArtifactRequest::descriptor(), call);
    const Server& server = servers_.Choose(deadline, call.stop);
    return server.streams.Write(Begin(server, deadline, call));
  }

  std::string LocalBase(const CallOptions& call) override {
    {
      absl::MutexLock lock(&mutex_);
      if (local_base_) return *local_base_;
    }
    // Do not hold the lock, because the RPC may take long. Callers that race
    // get the same answer.
    CallOptions part = call;
    part.timeout = std::min(
        kLocalBaseTimeout, call.timeout.value_or(absl::InfiniteDuration()) / 4);
    const auto info = GetServerInfo({}, part);
    // Do not cache a failure, so that the next transfer asks again.
    if (!info.ok()) return "";
    std::error_code error;
    const bool here = std::filesystem::is_directory(info->base_path(), error);
    absl::MutexLock lock(&mutex_);
    local_base_ = here ? info->base_path() : "";
    return *local_base_;
  }

 private:
  using Stub = v1::WorkspaceService::Stub;

  template <typename Request, typename Response>
  absl::StatusOr<Response> Unary(
      grpc::Status (Stub::*method)(grpc::ClientContext*, const Request&,
                                   Response*),
      const Request& request, const CallOptions& call) {
    const absl::Time deadline = DeadlineOf(*request.GetDescriptor(), call);
    const bool repeatable = policies_.at(request.GetDescriptor()).is_repeatable;
    for (int attempt = 1;; ++attempt) {
      const Server& server = servers_.Choose(deadline, call.stop);
      const auto state = Begin(server, deadline, call);
      Response response;
      const grpc::Status status =
          (server.stub.get()->*method)(&state->context(), request, &response);
      if (status.ok()) return response;
      absl::Status error = state->ToAbsl(status);
      // Tell the servers about the failure, so that the next attempt may choose
      // another one.
      const bool may_move = servers_.MayMove(error, repeatable);
      if (!may_move || attempt == kMaxAttempts) return error;
    }
  }

  // Returns the deadline of a call that begins now. The request's type
  // identifies the method, because no two methods share one.
  absl::Time DeadlineOf(const Descriptor& request,
                        const CallOptions& call) const {
    return absl::Now() + call.timeout.value_or(policies_.at(&request).timeout);
  }

  std::unique_ptr<ClientCall> Begin(const Server& server, absl::Time deadline,
                                    const CallOptions& call) const {
    auto state = std::make_unique<ClientCall>(
        server.address, credentials_.Authorization(), call);
    state->context().set_deadline(absl::ToChronoTime(deadline));
    return state;
  }

  struct Policy {
    absl::Duration timeout;
    bool is_repeatable;
  };

  const Credentials credentials_;
  Servers servers_;
  // Constant after construction.
  std::map<const Descriptor*, Policy> policies_;
  absl::Mutex mutex_;
  std::optional<std::string> local_base_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace

absl::StatusOr<std::shared_ptr<Connection>> MakeGrpcConnection(
    const std::string& address, const ClientOptions& options) {
  ASSIGN_OR_RETURN(Credentials credentials, Credentials::From(options));
  const std::vector<std::string> addresses = SplitAddresses(address);
  std::vector<std::unique_ptr<Server>> servers;
  for (const std::string& one : addresses) {
    ASSIGN_OR_RETURN(servers.emplace_back(),
                     MakeServer(one, credentials, addresses.size() == 1));
  }
  return std::make_shared<GrpcConnection>(std::move(servers),
                                          std::move(credentials), options);
}

}  // namespace mlops::internal
