#include "mlops/workspace_client.h"

#include <utility>

#include "client-cpp/src/address.h"
#include "client-cpp/src/connection.h"
#include "client-cpp/src/convert.h"
#include "client-cpp/src/inherited_lease.h"
#include "client-cpp/src/watch_session.h"
#include "google/protobuf/util/json_util.h"
#include "nlohmann/json.hpp"
#include "proto/cpp/base/error.h"
#include "proto/cpp/base/status_macros.h"

namespace mlops {
namespace {

namespace v1 = workspace::v1;
using internal::FromProto;
using internal::ToProto;

v1::UpdateWorkspaceRequest MakeUpdateRequest(std::string_view project,
                                             const Settings& settings,
                                             const UpdateOptions& options,
                                             int64_t fence) {
  v1::UpdateWorkspaceRequest request;
  *request.mutable_workspace() = ToProto(project, settings);
  request.mutable_workspace()->set_etag(options.etag);
  for (const std::string& path : options.update_mask)
    request.mutable_update_mask()->add_paths(path);
  for (const std::string& key : options.remove_metadata)
    request.add_remove_metadata(key);
  request.set_allow_missing(options.allow_missing);
  request.set_validate_only(options.validate_only);
  request.set_fence(fence);
  return request;
}

v1::DeleteWorkspaceRequest MakeDeleteRequest(std::string_view project,
                                             const DeleteOptions& options,
                                             int64_t fence) {
  v1::DeleteWorkspaceRequest request;
  request.set_project(std::string(project));
  request.set_force(options.force);
  request.set_etag(options.etag);
  request.set_allow_missing(options.allow_missing);
  request.set_permanent(options.permanent);
  request.set_only_deleted(options.only_deleted);
  request.set_validate_only(options.validate_only);
  request.set_uid(options.uid);
  request.set_fence(fence);
  return request;
}

}  // namespace

absl::StatusOr<google::protobuf::Struct> MetadataFromJson(
    std::string_view json) {
  google::protobuf::Struct metadata;
  const auto status =
      google::protobuf::util::JsonStringToMessage(std::string(json), &metadata);
  if (status.ok()) return metadata;
  const std::string problem =
      "not a JSON object: " + status.message().as_string();
  return base::MakeError(
      absl::StatusCode::kInvalidArgument, "metadata: " + base::Echo(problem),
      {.reason = "FIELD_INVALID",
       .metadata = {{"field", "metadata"}, {"problem", problem}}});
}

std::string MetadataToJson(const google::protobuf::Struct& metadata) {
  std::string json;
  (void)google::protobuf::util::MessageToJsonString(metadata, &json);
  // Protobuf's maps are unordered; nlohmann::json sorts the keys.
  return nlohmann::json::parse(json, nullptr, /*allow_exceptions=*/false)
      .dump();
}

absl::StatusOr<WorkspaceClient> WorkspaceClient::Connect(
    const ClientOptions& options) {
  ASSIGN_OR_RETURN(const std::string address,
                   internal::ResolveAddress(options));
  ASSIGN_OR_RETURN(std::shared_ptr<internal::Connection> connection,
                   internal::MakeGrpcConnection(address, options));
  return WorkspaceClient(std::move(connection));
}

WorkspaceClient::WorkspaceClient(
    std::shared_ptr<internal::Connection> connection)
    : connection_(std::move(connection)),
      inherited_lease_(internal::InheritedLease::FromEnvironment()) {}

absl::StatusOr<Workspace> WorkspaceClient::Create(
    std::string_view project, const Settings& settings,
    const CreateOptions& options, const CallOptions& call) const {
  v1::CreateWorkspaceRequest request;
  request.set_project(std::string(project));
  *request.mutable_workspace() = ToProto(project, settings);
  request.set_validate_only(options.validate_only);
  request.set_request_id(options.request_id);
  request.set_template_(options.template_name);
  ASSIGN_OR_RETURN(const v1::Workspace workspace,
                   connection_->CreateWorkspace(request, call));
  return FromProto(workspace);
}

absl::StatusOr<Workspace> WorkspaceClient::Get(std::string_view project,
                                               const CallOptions& call) const {
  v1::GetWorkspaceRequest request;
  request.set_project(std::string(project));
  ASSIGN_OR_RETURN(const v1::Workspace workspace,
                   connection_->GetWorkspace(request, call));
  return FromProto(workspace);
}

absl::StatusOr<EnsureResult> WorkspaceClient::Ensure(
    std::string_view project, const Settings& settings,
    const EnsureOptions& options, const CallOptions& call) const {
  v1::EnsureWorkspaceRequest request;
  request.set_project(std::string(project));
  *request.mutable_workspace() = ToProto(project, settings);
  request.set_template_(options.template_name);
  ASSIGN_OR_RETURN(const v1::EnsureWorkspaceResponse response,
                   connection_->EnsureWorkspace(request, call));
  return FromProto(response);
}

absl::StatusOr<Workspace> WorkspaceClient::Update(
    std::string_view project, const Settings& settings,
    const UpdateOptions& options, const CallOptions& call) const {
  ASSIGN_OR_RETURN(
      const v1::Workspace workspace,
      connection_->UpdateWorkspace(
          MakeUpdateRequest(project, settings, options,
                            inherited_lease_->FenceFor(project, call)),
          call));
  return FromProto(workspace);
}

absl::StatusOr<DeleteResult> WorkspaceClient::Delete(
    std::string_view project, const DeleteOptions& options,
    const CallOptions& call) const {
  const int64_t fence = inherited_lease_->FenceFor(project, call);
  ASSIGN_OR_RETURN(const v1::DeleteWorkspaceResponse response,
                   connection_->DeleteWorkspace(
                       MakeDeleteRequest(project, options, fence), call));
  // With a uid, the call may have deleted another workspace, one in the trash.
  if (!options.validate_only && options.uid.empty())
    inherited_lease_->NoteDeleted(project, fence);
  return FromProto(response);
}

absl::StatusOr<Workspace> WorkspaceClient::Undelete(
    std::string_view project, const UndeleteOptions& options,
    const CallOptions& call) const {
  v1::UndeleteWorkspaceRequest request;
  request.set_project(std::string(project));
  request.set_uid(options.uid);
  ASSIGN_OR_RETURN(const v1::Workspace workspace,
                   connection_->UndeleteWorkspace(request, call));
  return FromProto(workspace);
}

absl::StatusOr<Workspace> WorkspaceClient::CloneWorkspace(
    std::string_view project, std::string_view destination,
    const CloneOptions& options, const CallOptions& call) const {
  v1::CloneWorkspaceRequest request;
  request.set_project(std::string(project));
  request.set_destination_project(std::string(destination));
  for (const std::string& directory : options.directories)
    request.add_directories(directory);
  request.set_request_id(options.request_id);
  const auto visit = [&options](const v1::CloneWorkspaceResponse& message) {
    return options.progress == nullptr ||
           options.progress({.file_count = message.file_count(),
                             .size_bytes = message.size_bytes()});
  };
  ASSIGN_OR_RETURN(const v1::CloneWorkspaceResponse last,
                   connection_->CloneWorkspace(request, call, visit));
  return FromProto(last.workspace());
}

absl::StatusOr<std::vector<Template>> WorkspaceClient::ListTemplates(
    const CallOptions& call) const {
  std::vector<Template> templates;
  v1::ListTemplatesRequest request;
  do {
    ASSIGN_OR_RETURN(const v1::ListTemplatesResponse page,
                     connection_->ListTemplates(request, call));
    for (const v1::Template& one : page.templates())
      templates.push_back(FromProto(one));
    request.set_page_token(page.next_page_token());
  } while (!request.page_token().empty());
  return templates;
}

absl::StatusOr<LeaseInfo> WorkspaceClient::AcquireLease(
    std::string_view project, std::string_view holder,
    const AcquireLeaseOptions& options, const CallOptions& call) const {
  v1::AcquireLeaseRequest request;
  request.set_project(std::string(project));
  request.set_holder(std::string(holder));
  *request.mutable_ttl() = ToProto(options.ttl);
  ASSIGN_OR_RETURN(const v1::Lease lease,
                   connection_->AcquireLease(request, call));
  return FromProto(lease);
}

absl::Status WorkspaceClient::ReleaseLease(std::string_view project,
                                           std::string_view holder,
                                           const ReleaseLeaseOptions& options,
                                           const CallOptions& call) const {
  v1::ReleaseLeaseRequest request;
  request.set_project(std::string(project));
  request.set_holder(std::string(holder));
  request.set_force(options.force);
  return connection_->ReleaseLease(request, call).status();
}

absl::StatusOr<WorkspacePage> WorkspaceClient::List(
    const ListOptions& options, const CallOptions& call) const {
  v1::ListWorkspacesRequest request;
  request.set_page_size(options.page_size);
  request.set_page_token(options.page_token);
  request.set_filter(options.filter);
  request.set_order_by(options.order_by);
  request.set_show_deleted(options.show_deleted);
  ASSIGN_OR_RETURN(const v1::ListWorkspacesResponse response,
                   connection_->ListWorkspaces(request, call));
  return FromProto(response);
}

absl::StatusOr<ListSummary> WorkspaceClient::ListAll(
    const std::function<bool(const Workspace&)>& visit,
    const ListOptions& options, const CallOptions& call) const {
  // Take the summary from the first page, which alone names unreachable
  // projects.
  ASSIGN_OR_RETURN(WorkspacePage page, List(options, call));
  const ListSummary summary{.total_size = page.total_size,
                            .unreachable = std::move(page.unreachable)};
  for (ListOptions next = options;;) {
    for (const Workspace& workspace : page.workspaces) {
      if (!visit(workspace)) return summary;
    }
    if (page.next_page_token.empty()) return summary;
    next.page_token = std::move(page.next_page_token);
    ASSIGN_OR_RETURN(page, List(next, call));
  }
}

absl::Status WorkspaceClient::Watch(
    const std::function<bool(const WorkspaceEvent&)>& visit,
    const WatchOptions& options, const CallOptions& call) const {
  return internal::WatchSession(connection_.get(), visit, options, call).Run();
}

absl::StatusOr<WorkspaceStatus> WorkspaceClient::GetStatus(
    std::string_view project, const StatusOptions& options,
    const CallOptions& call) const {
  v1::GetWorkspaceStatusRequest request;
  request.set_project(std::string(project));
  *request.mutable_max_staleness() = ToProto(options.max_staleness);
  request.set_counts_only(options.counts_only);
  request.set_uid(options.uid);
  ASSIGN_OR_RETURN(const v1::WorkspaceStatus status,
                   connection_->GetWorkspaceStatus(request, call));
  return FromProto(status);
}

absl::Status WorkspaceClient::StreamStatuses(
    const std::function<bool(const WorkspaceStatus&)>& visit,
    const StatusStreamOptions& options, const CallOptions& call) const {
  v1::StreamWorkspaceStatusesRequest request;
  request.set_filter(options.filter);
  *request.mutable_max_staleness() = ToProto(options.max_staleness);
  request.set_counts_only(options.counts_only);
  request.set_show_deleted(options.show_deleted);
  return connection_->StreamWorkspaceStatuses(
      request, call, [&visit](const v1::WorkspaceStatus& status) {
        return visit(FromProto(status));
      });
}

absl::StatusOr<ServerInfo> WorkspaceClient::GetServerInfo(
    const CallOptions& call) const {
  ASSIGN_OR_RETURN(const v1::ServerInfo info,
                   connection_->GetServerInfo({}, call));
  return FromProto(info);
}

}  // namespace mlops
