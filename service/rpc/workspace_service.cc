#include "service/rpc/workspace_service.h"

#include <optional>
#include <utility>

#include "proto/cpp/base/status_macros.h"
#include "service/core/errors.h"
#include "service/core/layout.h"
#include "service/rpc/artifact_wire.h"
#include "service/rpc/convert.h"
#include "service/rpc/status_stream.h"

namespace mlops::rpc {

using core::ProjectName;
using core::WorkspacePtr;

WorkspaceService::WorkspaceService(core::Authority* authority, ArtifactStreams* artifacts, Calls* calls,
                                   ServerFacts facts)
    : ArtifactService(artifacts), authority_(authority), calls_(calls), facts_(std::move(facts)) {
  SetMessageAllocatorFor_GetWorkspace(&get_messages_);
  SetMessageAllocatorFor_EnsureWorkspace(&ensure_messages_);
}

grpc::ServerUnaryReactor* WorkspaceService::CreateWorkspace(grpc::CallbackServerContext* context,
                                                            const pb::CreateWorkspaceRequest* request,
                                                            pb::Workspace* response) {
  return calls_->Unary(kCreateWorkspace, context, request, response, [this](const auto& request, auto* response) {
    ASSIGN_OR_RETURN(const core::CreateArgs args, FromProto(request));
    ASSIGN_OR_RETURN(const WorkspacePtr workspace, authority_->Create(args));
    ToProto(*workspace, response);
    return absl::OkStatus();
  });
}

grpc::ServerUnaryReactor* WorkspaceService::GetWorkspace(grpc::CallbackServerContext* context,
                                                         const pb::GetWorkspaceRequest* request,
                                                         pb::Workspace* response) {
  return calls_->Unary(kGetWorkspace, context, request, response, [this](const auto& request, auto* response) {
    ASSIGN_OR_RETURN(const ProjectName project, ProjectName::Parse(request.project()));
    ASSIGN_OR_RETURN(const WorkspacePtr workspace, authority_->Get(project));
    ToProto(*workspace, response);
    return absl::OkStatus();
  });
}

grpc::ServerUnaryReactor* WorkspaceService::ListWorkspaces(grpc::CallbackServerContext* context,
                                                           const grpc::ByteBuffer* request,
                                                           grpc::ByteBuffer* response) {
  pb::ListWorkspacesRequest parsed;
  const absl::Status problem = Decode(*request, &parsed);
  const Method& method = parsed.filter().empty() ? kListWorkspaces : kListMatchingWorkspaces;
  const auto handler = [this, context, problem, parsed](const auto&, auto* response) {
    RETURN_IF_ERROR(problem);
    ASSIGN_OR_RETURN(const core::ListArgs args, FromProto(parsed));
    const auto cancelled = [context] { return context->IsCancelled(); };
    ASSIGN_OR_RETURN(const core::ListResult result, authority_->List(args, cancelled));
    *response = EncodeList(result);
    return absl::OkStatus();
  };
  return calls_->Unary(method, context, request, response, handler);
}

grpc::ServerUnaryReactor* WorkspaceService::UpdateWorkspace(grpc::CallbackServerContext* context,
                                                            const pb::UpdateWorkspaceRequest* request,
                                                            pb::Workspace* response) {
  return calls_->Unary(kUpdateWorkspace, context, request, response, [this](const auto& request, auto* response) {
    ASSIGN_OR_RETURN(const core::UpdateArgs args, FromProto(request));
    ASSIGN_OR_RETURN(const WorkspacePtr workspace, authority_->Update(args));
    ToProto(*workspace, response);
    return absl::OkStatus();
  });
}

grpc::ServerUnaryReactor* WorkspaceService::DeleteWorkspace(grpc::CallbackServerContext* context,
                                                            const pb::DeleteWorkspaceRequest* request,
                                                            pb::DeleteWorkspaceResponse* response) {
  const auto handler = [this, context](const auto& request, auto* response) {
    ASSIGN_OR_RETURN(const core::DeleteArgs args, FromProto(request));
    const auto cancelled = [context] { return context->IsCancelled(); };
    ASSIGN_OR_RETURN(const core::DeleteResult result, authority_->Delete(args, cancelled));
    ToProto(result, response);
    return absl::OkStatus();
  };
  return calls_->Unary(kDeleteWorkspace, context, request, response, handler);
}

grpc::ServerUnaryReactor* WorkspaceService::EnsureWorkspace(grpc::CallbackServerContext* context,
                                                            const pb::EnsureWorkspaceRequest* request,
                                                            pb::EnsureWorkspaceResponse* response) {
  // Nearly always it exists, which is answered as fast as Get.
  const auto find = [this](const auto& request, auto* response) -> std::optional<absl::Status> {
    const auto args = FromProto(request);
    if (!args.ok()) return args.status();
    const auto existing = authority_->EnsureExisting(*args);
    if (absl::IsNotFound(existing.status())) return std::nullopt;
    if (existing.ok()) ToProto(**existing, response->mutable_workspace());
    return existing.status();
  };
  const auto make = [this](const auto& request, auto* response) {
    ASSIGN_OR_RETURN(const core::CreateArgs args, FromProto(request));
    ASSIGN_OR_RETURN(const core::EnsureResult result, authority_->Ensure(args));
    ToProto(*result.workspace, response->mutable_workspace());
    response->set_created(result.created);
    return absl::OkStatus();
  };
  return calls_->UnaryUnless(find, kEnsureWorkspace, context, request, response, make);
}

grpc::ServerUnaryReactor* WorkspaceService::UndeleteWorkspace(grpc::CallbackServerContext* context,
                                                              const pb::UndeleteWorkspaceRequest* request,
                                                              pb::Workspace* response) {
  return calls_->Unary(kUndeleteWorkspace, context, request, response, [this](const auto& request, auto* response) {
    ASSIGN_OR_RETURN(const ProjectName project, ProjectName::Parse(request.project()));
    ASSIGN_OR_RETURN(const WorkspacePtr workspace, authority_->Undelete(project, request.uid()));
    ToProto(*workspace, response);
    return absl::OkStatus();
  });
}

grpc::ServerUnaryReactor* WorkspaceService::GetWorkspaceStatus(grpc::CallbackServerContext* context,
                                                               const pb::GetWorkspaceStatusRequest* request,
                                                               pb::WorkspaceStatus* response) {
  const auto handler = [this, context](const auto& request, auto* response) {
    ASSIGN_OR_RETURN(const ProjectName project, ProjectName::Parse(request.project()));
    ASSIGN_OR_RETURN(const absl::Duration staleness,
                     MaxStaleness(request.has_max_staleness(), request.max_staleness()));
    const core::StatusArgs args{.max_staleness = staleness, .counts_only = request.counts_only()};
    const auto cancelled = [context] { return context->IsCancelled(); };
    ASSIGN_OR_RETURN(const core::StatusResult result, authority_->Status(project, args, cancelled));
    ToProto(result, response);
    return absl::OkStatus();
  };
  return calls_->Unary(kGetWorkspaceStatus, context, request, response, handler);
}

grpc::ServerWriteReactor<grpc::ByteBuffer>* WorkspaceService::StreamWorkspaceStatuses(
    grpc::CallbackServerContext* context, const grpc::ByteBuffer* request) {
  return new StatusStream(authority_, calls_, context, *request);
}

grpc::ServerUnaryReactor* WorkspaceService::GetServerInfo(grpc::CallbackServerContext* context,
                                                          const pb::GetServerInfoRequest* request,
                                                          pb::ServerInfo* response) {
  return calls_->Unary(kGetServerInfo, context, request, response, [this](const auto&, auto* response) {
    ASSIGN_OR_RETURN(const int64_t count, authority_->Count());
    response->set_version(facts_.version);
    response->set_base_path(core::layout::PathAsText(facts_.base_path));
    ToProto(facts_.start_time, response->mutable_start_time());
    response->set_workspace_count(static_cast<int32_t>(count));
    response->set_max_page_size(core::kMaxPageSize);
    response->set_max_chunk_bytes(kMaxChunkBytes);
    response->set_max_metadata_bytes(core::kMaxMetadataBytes);
    ToProto(facts_.purge_delay, response->mutable_purge_delay());
    return absl::OkStatus();
  });
}

}  // namespace mlops::rpc
