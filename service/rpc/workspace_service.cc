#include "service/rpc/workspace_service.h"

#include <optional>
#include <utility>

#include "proto/cpp/base/status_macros.h"
#include "proto/cpp/base/utf8.h"
#include "service/core/errors.h"
#include "service/rpc/artifact_wire.h"
#include "service/rpc/convert.h"
#include "service/rpc/status_stream.h"
#include "service/rpc/watch_stream.h"

namespace mlops::rpc {

using core::ProjectName;
using core::WorkspacePtr;

void WorkspaceService::Describe(const core::Workspace& workspace,
                                pb::Workspace* message) const {
  ToProto(workspace, message);
  AddLease(workspace, message);
}

void WorkspaceService::AddLease(const core::Workspace& workspace,
                                pb::Workspace* message) const {
  if (const auto lease = parts_.authority->LeaseOf(workspace))
    ToProto(*lease, message->mutable_lease());
}

grpc::ServerUnaryReactor* WorkspaceService::CreateWorkspace(
    grpc::CallbackServerContext* context, const grpc::ByteBuffer* request,
    grpc::ByteBuffer* response) {
  return parts_.calls->Unary<pb::CreateWorkspaceRequest, pb::Workspace>(
      kCreateWorkspace, context, request, response,
      [this](const auto& request, auto* response) {
        ASSIGN_OR_RETURN(const core::CreateArgs args, FromProto(request));
        ASSIGN_OR_RETURN(const WorkspacePtr workspace,
                         parts_.authority->Create(args));
        Describe(*workspace, response);
        return absl::OkStatus();
      });
}

grpc::ServerUnaryReactor* WorkspaceService::GetWorkspace(
    grpc::CallbackServerContext* context, const grpc::ByteBuffer* request,
    grpc::ByteBuffer* response) {
  const auto at_once = [this](const auto& request,
                              auto* response) -> std::optional<absl::Status> {
    ASSIGN_OR_RETURN(const ProjectName project,
                     ProjectName::Parse(request.project()));
    ASSIGN_OR_RETURN(const WorkspacePtr workspace,
                     parts_.authority->Get(project));
    auto encoded =
        EncodeKept(*workspace, parts_.authority->LeaseOf(*workspace));
    if (!encoded.has_value()) return std::nullopt;
    *response = *std::move(encoded);
    return absl::OkStatus();
  };
  // The slow path builds the message, because the record is too large for the
  // cache.
  const auto in_time = [this](const auto& request, auto* response) {
    ASSIGN_OR_RETURN(const ProjectName project,
                     ProjectName::Parse(request.project()));
    ASSIGN_OR_RETURN(const WorkspacePtr workspace,
                     parts_.authority->Get(project));
    pb::Workspace message;
    Describe(*workspace, &message);
    *response = Encode(message);
    return absl::OkStatus();
  };
  return parts_.calls->UnaryUnless<pb::GetWorkspaceRequest, grpc::ByteBuffer>(
      at_once, kGetWorkspace, context, request, response, in_time);
}

grpc::ServerUnaryReactor* WorkspaceService::ListWorkspaces(
    grpc::CallbackServerContext* context, const grpc::ByteBuffer* request,
    grpc::ByteBuffer* response) {
  const auto list = [this, context](const pb::ListWorkspacesRequest& request,
                                    const CallInfo& call, ListEncoder& encoder,
                                    grpc::ByteBuffer* response) {
    ASSIGN_OR_RETURN(core::ListArgs args, FromProto(request));
    args.sight = parts_.calls->SightOf(call);
    // Take the token before the page, so that a watch from there misses no
    // change.
    const std::string resume_token =
        request.page_token().empty()
            ? parts_.watches->TokenNow(
                  parts_.calls->ViewOf(call, kWatchWorkspaces))
            : "";
    const auto cancelled = [context] { return context->IsCancelled(); };
    const auto fits = [this, &encoder](const core::Workspace& workspace,
                                       size_t left) {
      return encoder.Add(workspace, parts_.authority->LeaseOf(workspace), left);
    };
    ASSIGN_OR_RETURN(const core::ListResult result,
                     parts_.authority->List(args, cancelled, fits));
    *response = std::move(encoder).Finish(result, resume_token);
    return absl::OkStatus();
  };
  // Unrestricted pages are fast, unless they contain records so large that
  // encoding each takes milliseconds. Answer these on a worker.
  const auto at_once = [this, list](
                           const auto& request, auto* response,
                           CallInfo& call) -> std::optional<absl::Status> {
    if (!request.filter().empty() || !parts_.calls->SightOf(call).everything())
      return std::nullopt;
    ListEncoder encoder(ListEncoder::kOnlyKept);
    absl::Status status = list(request, call, encoder, response);
    // The page ends at the large record. Discard it; the worker builds a
    // complete one.
    if (encoder.met_large()) return std::nullopt;
    return status;
  };
  const auto in_time = [list](const auto& request, auto* response,
                              CallInfo& call) {
    ListEncoder encoder;
    return list(request, call, encoder, response);
  };
  return parts_.calls->UnaryUnless<pb::ListWorkspacesRequest, grpc::ByteBuffer>(
      at_once, kListWorkspaces, context, request, response, in_time);
}

grpc::ServerUnaryReactor* WorkspaceService::UpdateWorkspace(
    grpc::CallbackServerContext* context, const grpc::ByteBuffer* request,
    grpc::ByteBuffer* response) {
  return parts_.calls->Unary<pb::UpdateWorkspaceRequest, pb::Workspace>(
      kUpdateWorkspace, context, request, response,
      [this](const auto& request, auto* response, CallInfo& call) {
        ASSIGN_OR_RETURN(const core::UpdateArgs args, FromProto(request));
        // With allow_missing the call may create the workspace, which needs
        // that permission too.
        if (args.allow_missing)
          RETURN_IF_ERROR(parts_.calls->CheckPolicy(call, kCreateWorkspace));
        ASSIGN_OR_RETURN(const core::UpdateResult result,
                         parts_.authority->Update(args));
        // The audit log needs the etag that was replaced, not the one in the
        // request.
        call.old_etag = result.old_etag;
        Describe(*result.workspace, response);
        return absl::OkStatus();
      });
}

grpc::ServerUnaryReactor* WorkspaceService::DeleteWorkspace(
    grpc::CallbackServerContext* context, const grpc::ByteBuffer* request,
    grpc::ByteBuffer* response) {
  return parts_.calls
      ->Unary<pb::DeleteWorkspaceRequest, pb::DeleteWorkspaceResponse>(
          kDeleteWorkspace, context, request, response,
          [this, context](const auto& request, auto* response) {
            ASSIGN_OR_RETURN(const core::DeleteArgs args, FromProto(request));
            const auto cancelled = [context] { return context->IsCancelled(); };
            ASSIGN_OR_RETURN(const core::DeleteResult result,
                             parts_.authority->Delete(args, cancelled));
            ToProto(result, response);
            if (result.workspace != nullptr)
              AddLease(*result.workspace, response->mutable_workspace());
            return absl::OkStatus();
          });
}

grpc::ServerUnaryReactor* WorkspaceService::EnsureWorkspace(
    grpc::CallbackServerContext* context, const grpc::ByteBuffer* request,
    grpc::ByteBuffer* response) {
  // The workspace nearly always exists, in which case Ensure is as fast as Get.
  const auto find = [this](const auto& request, auto* response,
                           CallInfo& call) -> std::optional<absl::Status> {
    ASSIGN_OR_RETURN(const core::CreateArgs args, FromProto(request));
    // Reading a template may block on the disk.
    if (parts_.authority->UsesTemplate(args)) return std::nullopt;
    const auto existing = parts_.authority->EnsureExisting(args);
    if (absl::IsNotFound(existing.status())) return std::nullopt;
    RETURN_IF_ERROR(existing.status());
    auto encoded =
        EncodeKeptAsFound(**existing, parts_.authority->LeaseOf(**existing));
    if (!encoded.has_value()) return std::nullopt;
    *response = *std::move(encoded);
    // Nothing was created, so the audit log need not record the call.
    call.changes_nothing = true;
    return absl::OkStatus();
  };
  const auto make = [this](const auto& request, auto* response,
                           CallInfo& call) {
    ASSIGN_OR_RETURN(const core::CreateArgs args, FromProto(request));
    ASSIGN_OR_RETURN(const core::EnsureResult result,
                     parts_.authority->Ensure(args));
    pb::EnsureWorkspaceResponse message;
    Describe(*result.workspace, message.mutable_workspace());
    message.set_created(result.created);
    call.changes_nothing = !result.created;
    call.DescribeResult(message);
    *response = Encode(message);
    return absl::OkStatus();
  };
  return parts_.calls
      ->UnaryUnless<pb::EnsureWorkspaceRequest, grpc::ByteBuffer>(
          find, kEnsureWorkspace, context, request, response, make);
}

grpc::ServerUnaryReactor* WorkspaceService::UndeleteWorkspace(
    grpc::CallbackServerContext* context, const grpc::ByteBuffer* request,
    grpc::ByteBuffer* response) {
  return parts_.calls->Unary<pb::UndeleteWorkspaceRequest, pb::Workspace>(
      kUndeleteWorkspace, context, request, response,
      [this](const auto& request, auto* response) {
        ASSIGN_OR_RETURN(const ProjectName project,
                         ProjectName::Parse(request.project()));
        ASSIGN_OR_RETURN(const WorkspacePtr workspace,
                         parts_.authority->Undelete(project, request.uid()));
        Describe(*workspace, response);
        return absl::OkStatus();
      });
}

grpc::ServerWriteReactor<grpc::ByteBuffer>* WorkspaceService::CloneWorkspace(
    grpc::CallbackServerContext* context, const grpc::ByteBuffer* request) {
  return new CloneStream(parts_.clones, parts_.calls, context, *request);
}

grpc::ServerWriteReactor<grpc::ByteBuffer>* WorkspaceService::WatchWorkspaces(
    grpc::CallbackServerContext* context, const grpc::ByteBuffer* request) {
  return new WatchStream(parts_.watches, parts_.calls, context, *request);
}

grpc::ServerUnaryReactor* WorkspaceService::GetWorkspaceStatus(
    grpc::CallbackServerContext* context, const grpc::ByteBuffer* request,
    grpc::ByteBuffer* response) {
  const auto handler = [this, context](const auto& request, auto* response) {
    ASSIGN_OR_RETURN(const ProjectName project,
                     ProjectName::Parse(request.project()));
    ASSIGN_OR_RETURN(const absl::Duration staleness,
                     MaxStaleness(request.max_staleness()));
    const core::StatusArgs args{.max_staleness = staleness,
                                .counts_only = request.counts_only()};
    const auto cancelled = [context] { return context->IsCancelled(); };
    // With a uid, the request is about a workspace in the trash.
    ASSIGN_OR_RETURN(const core::StatusResult result,
                     request.uid().empty()
                         ? parts_.authority->Status(project, args, cancelled)
                         : parts_.authority->StatusInTrash(
                               project, request.uid(), args, cancelled));
    ToProto(result, response);
    AddLease(*result.workspace, response->mutable_workspace());
    return absl::OkStatus();
  };
  return parts_.calls
      ->Unary<pb::GetWorkspaceStatusRequest, pb::WorkspaceStatus>(
          kGetWorkspaceStatus, context, request, response, handler);
}

grpc::ServerWriteReactor<grpc::ByteBuffer>*
WorkspaceService::StreamWorkspaceStatuses(grpc::CallbackServerContext* context,
                                          const grpc::ByteBuffer* request) {
  return new StatusStream(parts_.authority, parts_.calls, context, *request);
}

grpc::ServerUnaryReactor* WorkspaceService::ListTemplates(
    grpc::CallbackServerContext* context, const grpc::ByteBuffer* request,
    grpc::ByteBuffer* response) {
  const auto handler = [this, context](const auto& request, auto* response) {
    if (parts_.templates == nullptr) return absl::OkStatus();
    const auto cancelled = [context] { return context->IsCancelled(); };
    ASSIGN_OR_RETURN(const artifacts::TemplatePage page,
                     parts_.templates->List(request.page_size(),
                                            request.page_token(), cancelled));
    for (const artifacts::ListedTemplate& listed : page.templates)
      ToProto(listed, response->add_templates());
    response->set_next_page_token(page.next_page_token);
    return absl::OkStatus();
  };
  return parts_.calls
      ->Unary<pb::ListTemplatesRequest, pb::ListTemplatesResponse>(
          kListTemplates, context, request, response, handler);
}

grpc::ServerWriteReactor<grpc::ByteBuffer>* WorkspaceService::ExportWorkspace(
    grpc::CallbackServerContext* context, const grpc::ByteBuffer* request) {
  return new ExportStream(parts_.archives, context, *request);
}

grpc::ServerBidiReactor<grpc::ByteBuffer, grpc::ByteBuffer>*
WorkspaceService::ImportWorkspace(grpc::CallbackServerContext* context) {
  return new ImportStream(parts_.archives, context);
}

grpc::ServerUnaryReactor* WorkspaceService::AcquireLease(
    grpc::CallbackServerContext* context, const grpc::ByteBuffer* request,
    grpc::ByteBuffer* response) {
  return parts_.calls->Unary<pb::AcquireLeaseRequest, pb::Lease>(
      kAcquireLease, context, request, response,
      [this](const auto& request, auto* response, CallInfo& call) {
        ASSIGN_OR_RETURN(const LeaseArgs args, FromProto(request));
        ASSIGN_OR_RETURN(const core::Leases::Acquired acquired,
                         parts_.authority->AcquireLease(args.project,
                                                        args.holder, args.ttl));
        // A renewal need not be audited: the holder stays the same.
        call.changes_nothing = acquired.renewed;
        ToProto(acquired.lease, response);
        return absl::OkStatus();
      });
}

grpc::ServerUnaryReactor* WorkspaceService::ReleaseLease(
    grpc::CallbackServerContext* context, const grpc::ByteBuffer* request,
    grpc::ByteBuffer* response) {
  return parts_.calls->Unary<pb::ReleaseLeaseRequest, pb::ReleaseLeaseResponse>(
      kReleaseLease, context, request, response,
      [this](const auto& request, auto*, CallInfo& call) {
        ASSIGN_OR_RETURN(const LeaseArgs args, FromProto(request));
        // Force takes the lease from its holder, which needs an administrator.
        if (args.force)
          RETURN_IF_ERROR(parts_.calls->CheckPolicy(call, kDeleteWorkspace));
        ASSIGN_OR_RETURN(const bool released,
                         parts_.authority->ReleaseLease(
                             args.project, args.holder, args.force));
        call.changes_nothing = !released;
        return absl::OkStatus();
      });
}

grpc::ServerUnaryReactor* WorkspaceService::GetServerInfo(
    grpc::CallbackServerContext* context, const grpc::ByteBuffer* request,
    grpc::ByteBuffer* response) {
  return parts_.calls->Unary<pb::GetServerInfoRequest, pb::ServerInfo>(
      kGetServerInfo, context, request, response,
      [this](const auto&, auto* response, CallInfo& call) {
        // Count only the workspaces that lists would show to the caller.
        ASSIGN_OR_RETURN(const int64_t count,
                         parts_.authority->Count(
                             parts_.calls->SightOf(call, kListWorkspaces)));
        response->set_version(facts_.version);
        response->set_base_path(base::PathText(facts_.base_path));
        ToProto(facts_.start_time, response->mutable_start_time());
        response->set_workspace_count(static_cast<int32_t>(count));
        response->set_max_page_size(core::kMaxPageSize);
        response->set_max_chunk_bytes(kMaxChunkBytes);
        response->set_max_metadata_bytes(core::kMaxMetadataBytes);
        ToProto(core::kMaxLeaseTtl, response->mutable_max_lease_ttl());
        ToProto(facts_.purge_delay, response->mutable_purge_delay());
        for (const std::string& feature : facts_.features)
          response->add_features(feature);
        ASSIGN_OR_RETURN(const auth::Caller caller,
                         parts_.calls->CallerOf(call));
        ToProto(caller, parts_.calls->GrantsOf(caller),
                response->mutable_caller());
        return absl::OkStatus();
      });
}

}  // namespace mlops::rpc
