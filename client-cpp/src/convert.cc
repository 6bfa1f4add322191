#include "client-cpp/src/convert.h"

#include <optional>

#include "proto/cpp/wire_status.h"

namespace mlops::internal {
namespace {

namespace v1 = workspace::v1;

absl::Time ToTime(const google::protobuf::Timestamp& proto) {
  return absl::FromUnixSeconds(proto.seconds()) +
         absl::Nanoseconds(proto.nanos());
}

DirectoryUsage FromProto(const v1::DirectoryUsage& proto) {
  DirectoryUsage usage{.name = proto.name(),
                       .exists = proto.exists(),
                       .file_count = proto.file_count(),
                       .size_bytes = proto.size_bytes()};
  if (proto.has_modify_time()) usage.modify_time = ToTime(proto.modify_time());
  return usage;
}

}  // namespace

v1::Workspace ToProto(std::string_view project, const Settings& settings) {
  v1::Workspace proto;
  proto.set_project(std::string(project));
  if (settings.mlflow_experiment_id)
    proto.set_mlflow_experiment_id(*settings.mlflow_experiment_id);
  if (settings.mlflow_tracking_uri)
    proto.set_mlflow_tracking_uri(*settings.mlflow_tracking_uri);
  if (settings.dvc_remote_path)
    proto.set_dvc_remote_path(*settings.dvc_remote_path);
  if (settings.bentoml_tag_prefix)
    proto.set_bentoml_tag_prefix(*settings.bentoml_tag_prefix);
  if (settings.metadata.fields_size() > 0)
    *proto.mutable_metadata() = settings.metadata;
  if (settings.max_size_bytes)
    proto.set_max_size_bytes(*settings.max_size_bytes);
  if (settings.max_file_count)
    proto.set_max_file_count(*settings.max_file_count);
  return proto;
}

google::protobuf::Duration ToProto(absl::Duration duration) {
  google::protobuf::Duration proto;
  proto.set_seconds(absl::IDivDuration(duration, absl::Seconds(1), &duration));
  proto.set_nanos(static_cast<int32_t>(absl::ToInt64Nanoseconds(duration)));
  return proto;
}

LeaseInfo FromProto(const v1::Lease& proto) {
  return {.holder = proto.holder(),
          .fence = proto.fence(),
          .acquire_time = ToTime(proto.acquire_time()),
          .expire_time = ToTime(proto.expire_time())};
}

Workspace FromProto(const v1::Workspace& proto) {
  Workspace workspace{.project = proto.project(),
                      .uid = proto.uid(),
                      .root_path = proto.root_path(),
                      .metadata = proto.metadata(),
                      .etag = proto.etag()};
  // Absent fields stay nullopt, which differs from an empty string.
  if (proto.has_mlflow_experiment_id())
    workspace.mlflow_experiment_id = proto.mlflow_experiment_id();
  if (proto.has_mlflow_tracking_uri())
    workspace.mlflow_tracking_uri = proto.mlflow_tracking_uri();
  if (proto.has_dvc_remote_path())
    workspace.dvc_remote_path = proto.dvc_remote_path();
  if (proto.has_bentoml_tag_prefix())
    workspace.bentoml_tag_prefix = proto.bentoml_tag_prefix();
  if (proto.has_max_size_bytes())
    workspace.max_size_bytes = proto.max_size_bytes();
  if (proto.has_max_file_count())
    workspace.max_file_count = proto.max_file_count();
  if (proto.has_create_time())
    workspace.create_time = ToTime(proto.create_time());
  if (proto.has_update_time())
    workspace.update_time = ToTime(proto.update_time());
  if (proto.has_delete_time())
    workspace.delete_time = ToTime(proto.delete_time());
  if (proto.has_purge_time()) workspace.purge_time = ToTime(proto.purge_time());
  if (proto.has_lease()) workspace.lease = FromProto(proto.lease());
  return workspace;
}

WorkspaceStatus FromProto(const v1::WorkspaceStatus& proto) {
  WorkspaceStatus status{.workspace = FromProto(proto.workspace()),
                         .file_count = proto.file_count(),
                         .size_bytes = proto.size_bytes(),
                         .error = wire::FromProto(proto.error()),
                         .over_quota = proto.over_quota()};
  for (const auto& directory : proto.directories())
    status.directories.push_back(FromProto(directory));
  if (proto.has_scan_time()) status.scan_time = ToTime(proto.scan_time());
  return status;
}

WorkspacePage FromProto(const v1::ListWorkspacesResponse& proto) {
  WorkspacePage page{
      .next_page_token = proto.next_page_token(),
      .resume_token = proto.resume_token(),
      .total_size = proto.total_size(),
      .unreachable = {proto.unreachable().begin(), proto.unreachable().end()}};
  page.workspaces.reserve(static_cast<size_t>(proto.workspaces_size()));
  for (const auto& workspace : proto.workspaces())
    page.workspaces.push_back(FromProto(workspace));
  return page;
}

DeleteResult FromProto(const v1::DeleteWorkspaceResponse& proto) {
  DeleteResult result{.file_count = proto.file_count(),
                      .size_bytes = proto.size_bytes(),
                      .purged = proto.purged()};
  if (proto.has_workspace()) result.workspace = FromProto(proto.workspace());
  return result;
}

EnsureResult FromProto(const v1::EnsureWorkspaceResponse& proto) {
  return {.workspace = FromProto(proto.workspace()),
          .created = proto.created()};
}

Template FromProto(const v1::Template& proto) {
  Template result{
      .name = proto.name(),
      .description = proto.description(),
      .paths = {proto.directories().begin(), proto.directories().end()},
      .error = wire::FromProto(proto.error())};
  const Workspace defaults = FromProto(proto.defaults());
  result.settings = {.mlflow_experiment_id = defaults.mlflow_experiment_id,
                     .mlflow_tracking_uri = defaults.mlflow_tracking_uri,
                     .dvc_remote_path = defaults.dvc_remote_path,
                     .bentoml_tag_prefix = defaults.bentoml_tag_prefix,
                     .metadata = defaults.metadata,
                     .max_size_bytes = defaults.max_size_bytes,
                     .max_file_count = defaults.max_file_count};
  return result;
}

ServerInfo FromProto(const v1::ServerInfo& proto) {
  ServerInfo info{
      .version = proto.version(),
      .base_path = proto.base_path(),
      .workspace_count = proto.workspace_count(),
      .max_page_size = proto.max_page_size(),
      .max_metadata_bytes = proto.max_metadata_bytes(),
      .features = {proto.features().begin(), proto.features().end()}};
  if (proto.has_start_time()) info.start_time = ToTime(proto.start_time());
  info.purge_delay = absl::Seconds(proto.purge_delay().seconds()) +
                     absl::Nanoseconds(proto.purge_delay().nanos());
  info.max_lease_ttl = absl::Seconds(proto.max_lease_ttl().seconds()) +
                       absl::Nanoseconds(proto.max_lease_ttl().nanos());
  return info;
}

Artifact FromProto(const v1::Artifact& proto) {
  Artifact artifact{.path = proto.path(),
                    .directory = proto.directory(),
                    .size_bytes = proto.size_bytes(),
                    .sha256 = proto.sha256(),
                    .etag = proto.etag()};
  if (proto.has_modify_time())
    artifact.modify_time = ToTime(proto.modify_time());
  return artifact;
}

}  // namespace mlops::internal
