#include <algorithm>
#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <system_error>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/clock.h"
#include "client-cpp/src/address.h"
#include "client-cpp/src/connection.h"
#include "client-cpp/src/grpc_call.h"
#include "client-cpp/src/service_config.h"
#include "grpcpp/grpcpp.h"
#include "mlops/workspace/v1/workspace_service.grpc.pb.h"

namespace mlops::internal {
namespace {

namespace v1 = workspace::v1;
using google::protobuf::Descriptor;
using google::protobuf::MethodDescriptor;
using google::protobuf::ServiceDescriptor;

// Larger than any page that the server sends, so that a larger response can
// only be an error.
constexpr int kMaxAnswerBytes = 64 << 20;
// gRPC's default of 8 KiB holds the largest error details only if the message
// is plain ASCII, because gRPC percent-encodes other characters.
constexpr int kMaxHeaderBytes = 16 << 10;
// Well above the minimum interval that servers tolerate.
constexpr int kKeepaliveMs = 25'000;
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
  if (is_any_of(v1::ReadArtifactRequest::descriptor(),
                v1::WriteArtifactRequest::descriptor())) {
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

grpc::ChannelArguments ChannelArgumentsFor(const std::string& address) {
  grpc::ChannelArguments arguments;
  arguments.SetServiceConfigJSON(ServiceConfigJson(Contract()));
  arguments.SetMaxReceiveMessageSize(kMaxAnswerBytes);
  arguments.SetInt(GRPC_ARG_MAX_METADATA_SIZE, kMaxHeaderBytes);
  arguments.SetUserAgentPrefix("mlops-workspace-cpp");
  if (IsLocal(address)) arguments.SetInt(GRPC_ARG_ENABLE_HTTP_PROXY, 0);
  // A server restarts faster than gRPC's default backoff, which starts at one
  // second and grows.
  arguments.SetInt(GRPC_ARG_INITIAL_RECONNECT_BACKOFF_MS, 100);
  arguments.SetInt(GRPC_ARG_MAX_RECONNECT_BACKOFF_MS, 2000);
  // Keepalive pings end calls without a timeout, which may be idle for long,
  // when the server has disappeared.
  arguments.SetInt(GRPC_ARG_KEEPALIVE_TIME_MS, kKeepaliveMs);
  arguments.SetInt(GRPC_ARG_KEEPALIVE_TIMEOUT_MS, kKeepaliveMs);
  arguments.SetInt(GRPC_ARG_HTTP2_MAX_PINGS_WITHOUT_DATA, 0);
  return arguments;
}

class GrpcConnection final : public Connection {
 public:
  GrpcConnection(std::string address, const ClientOptions& options)
      : address_(std::move(address)),
        channel_(grpc::CreateCustomChannel(GrpcTarget(address_),
                                           grpc::InsecureChannelCredentials(),
                                           ChannelArgumentsFor(address_))),
        stub_(v1::WorkspaceService::NewStub(channel_)),
        streams_(channel_) {
    for (int i = 0; i < Contract().method_count(); ++i) {
      const MethodDescriptor& method = *Contract().method(i);
      timeouts_[method.input_type()] = TimeoutOf(method, options);
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
  absl::StatusOr<v1::WorkspaceStatus> GetWorkspaceStatus(
      const v1::GetWorkspaceStatusRequest& request,
      const CallOptions& call) override {
    return Unary(&Stub::GetWorkspaceStatus, request, call);
  }
  absl::StatusOr<v1::ServerInfo> GetServerInfo(
      const v1::GetServerInfoRequest& request,
      const CallOptions& call) override {
    return Unary(&Stub::GetServerInfo, request, call);
  }

  absl::Status StreamWorkspaceStatuses(
      const v1::StreamWorkspaceStatusesRequest& request,
      const CallOptions& call,
      const std::function<bool(const v1::WorkspaceStatus&)>& visit) override {
    ClientCall state(address_, call);
    grpc::ClientContext& context = state.context();
    SetDeadline(*request.GetDescriptor(), call, context);
    const auto reader = stub_->StreamWorkspaceStatuses(&context, request);
    bool wanted = true;
    for (v1::StreamWorkspaceStatusesResponse some;
         wanted && reader->Read(&some);) {
      const auto& statuses = some.statuses();
      wanted = std::all_of(statuses.begin(), statuses.end(), visit);
    }
    // A visitor that stops early ends the call, which is not an error.
    if (!wanted) context.TryCancel();
    const grpc::Status end = reader->Finish();
    return wanted ? state.ToAbsl(end) : absl::OkStatus();
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
    auto state = std::make_unique<ClientCall>(address_, call);
    SetDeadline(*request.GetDescriptor(), call, state->context());
    return streams_.Read(std::move(state), request);
  }
  std::unique_ptr<WriteStream> WriteArtifact(const CallOptions& call) override {
    auto state = std::make_unique<ClientCall>(address_, call);
    SetDeadline(*v1::WriteArtifactRequest::descriptor(), call,
                state->context());
    return streams_.Write(std::move(state));
  }

  std::string LocalBase(const CallOptions& call) override {
    {
      absl::MutexLock lock(&mutex_);
      if (local_base_) return *local_base_;
    }
    // Without the lock, because the RPC may take long. Callers that race get
    // the same answer.
    CallOptions part = call;
    part.timeout = std::min(
        kLocalBaseTimeout, call.timeout.value_or(absl::InfiniteDuration()) / 4);
    const auto info = GetServerInfo({}, part);
    // Do not remember a failure, so that the next transfer asks again.
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
    ClientCall state(address_, call);
    SetDeadline(*request.GetDescriptor(), call, state.context());
    Response response;
    const grpc::Status status =
        (stub_.get()->*method)(&state.context(), request, &response);
    if (!status.ok()) return state.ToAbsl(status);
    return response;
  }

  // Sets the deadline of a call. The request's type identifies the method,
  // because no two methods share one.
  void SetDeadline(const Descriptor& request, const CallOptions& call,
                   grpc::ClientContext& context) const {
    const absl::Time deadline =
        absl::Now() + call.timeout.value_or(timeouts_.at(&request));
    context.set_deadline(absl::ToChronoTime(deadline));
  }

  const std::string address_;
  const std::shared_ptr<grpc::Channel> channel_;
  const std::unique_ptr<Stub> stub_;
  const GrpcStreams streams_;
  // Constant once constructed.
  std::map<const Descriptor*, absl::Duration> timeouts_;
  absl::Mutex mutex_;
  std::optional<std::string> local_base_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace

std::shared_ptr<Connection> MakeGrpcConnection(const std::string& address,
                                               const ClientOptions& options) {
  return std::make_shared<GrpcConnection>(address, options);
}

}  // namespace mlops::internal
