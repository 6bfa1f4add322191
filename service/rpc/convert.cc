#include "service/rpc/convert.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <string>
#include <utility>
#include <vector>

#include "absl/algorithm/container.h"
#include "absl/container/flat_hash_set.h"
#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "google/protobuf/io/coded_stream.h"
#include "google/protobuf/io/zero_copy_stream_impl_lite.h"
#include "google/protobuf/wire_format_lite.h"
#include "grpcpp/impl/codegen/proto_utils.h"
#include "proto/cpp/base/error.h"
#include "proto/cpp/base/status_macros.h"
#include "proto/cpp/base/utf8.h"
#include "proto/cpp/wire_status.h"
#include "service/core/errors.h"
#include "service/core/iso_time.h"

namespace mlops::rpc {

using core::FieldInvalid;
using core::Metadata;
using google::protobuf::internal::WireFormatLite;

namespace {

constexpr size_t kMaxRequestIdBytes = 64;

Metadata FromProto(const google::protobuf::Value& value);

Metadata FromProto(const google::protobuf::Struct& message) {
  Metadata object = Metadata::object();
  for (const auto& [key, value] : message.fields())
    object[key] = FromProto(value);
  return object;
}

// Converts a number. An integral one becomes an integer, because YAML and
// Python distinguish the two.
Metadata FromNumber(double number) {
  const bool integral = std::isfinite(number) && number == std::trunc(number);
  if (integral && std::abs(number) <= static_cast<double>(core::kMaxInteger))
    return static_cast<int64_t>(number);
  return number;
}

Metadata FromProto(const google::protobuf::Value& value) {
  switch (value.kind_case()) {
    case google::protobuf::Value::kBoolValue:
      return value.bool_value();
    case google::protobuf::Value::kNumberValue:
      return FromNumber(value.number_value());
    case google::protobuf::Value::kStringValue:
      return value.string_value();
    case google::protobuf::Value::kStructValue:
      return FromProto(value.struct_value());
    case google::protobuf::Value::kListValue: {
      Metadata list = Metadata::array();
      for (const auto& element : value.list_value().values())
        list.push_back(FromProto(element));
      return list;
    }
    default:
      // Null, or a value whose kind is not set.
      return nullptr;
  }
}

void ToProto(const Metadata& metadata, google::protobuf::Value* value) {
  switch (metadata.type()) {
    case Metadata::value_t::boolean:
      value->set_bool_value(metadata.get<bool>());
      break;
    case Metadata::value_t::number_integer:
    case Metadata::value_t::number_unsigned:
    case Metadata::value_t::number_float:
      value->set_number_value(metadata.get<double>());
      break;
    case Metadata::value_t::string:
      value->set_string_value(metadata.get_ref<const std::string&>());
      break;
    case Metadata::value_t::array:
      for (const Metadata& element : metadata)
        ToProto(element, value->mutable_list_value()->add_values());
      // An empty list must still set the kind of the value.
      if (metadata.empty()) value->mutable_list_value();
      break;
    case Metadata::value_t::object: {
      auto& fields = *value->mutable_struct_value()->mutable_fields();
      for (const auto& [key, element] : metadata.items())
        ToProto(element, &fields[key]);
      break;
    }
    default:
      value->set_null_value(google::protobuf::NULL_VALUE);
  }
}

core::Settings SettingsFromProto(const pb::Workspace& message) {
  core::Settings settings;
  if (message.has_mlflow_experiment_id())
    settings.mlflow_experiment_id = message.mlflow_experiment_id();
  if (message.has_mlflow_tracking_uri())
    settings.mlflow_tracking_uri = message.mlflow_tracking_uri();
  if (message.has_dvc_remote_path())
    settings.dvc_remote_path = message.dvc_remote_path();
  if (message.has_bentoml_tag_prefix())
    settings.bentoml_tag_prefix = message.bentoml_tag_prefix();
  return settings;
}

core::Quota QuotaFromProto(const pb::Workspace& message) {
  core::Quota quota;
  if (message.has_max_size_bytes())
    quota.max_size_bytes = message.max_size_bytes();
  if (message.has_max_file_count())
    quota.max_file_count = message.max_file_count();
  return quota;
}

absl::Status CheckHolder(absl::string_view holder) {
  if (holder.empty()) return FieldInvalid("holder", "is required");
  if (holder.size() <= core::kMaxHolderBytes &&
      std::all_of(holder.begin(), holder.end(), absl::ascii_isprint))
    return absl::OkStatus();
  return FieldInvalid("holder", "must be 1 to 128 printable ASCII characters");
}

// Converts the fields that Create and Ensure have in common.
template <typename Request>
absl::StatusOr<core::CreateArgs> NewWorkspaceFromProto(const Request& request) {
  ASSIGN_OR_RETURN(core::ProjectName project,
                   core::ProjectName::Parse(request.project()));
  const pb::Workspace& workspace = request.workspace();
  if (!workspace.project().empty() &&
      workspace.project() != request.project()) {
    return FieldInvalid("workspace.project",
                        "must be absent or the same as project");
  }
  return core::CreateArgs{.project = std::move(project),
                          .settings = SettingsFromProto(workspace),
                          .metadata = FromProto(workspace.metadata()),
                          .quota = QuotaFromProto(workspace),
                          .template_name = request.template_()};
}

// Returns the distinct `texts` in their order. Stops once there are more than
// `limit`, because a request can repeat one text many thousands of times.
std::vector<std::string> Distinct(
    const google::protobuf::RepeatedPtrField<std::string>& texts,
    size_t limit) {
  std::vector<std::string> distinct;
  absl::flat_hash_set<absl::string_view> seen;
  for (const std::string& text : texts) {
    if (distinct.size() > limit) break;
    if (seen.insert(text).second) distinct.push_back(text);
  }
  return distinct;
}

}  // namespace

absl::Status CheckRequestId(absl::string_view id) {
  const auto allowed = [](char c) {
    return absl::ascii_isalnum(c) || c == '.' || c == '_' || c == '-';
  };
  if (id.size() <= kMaxRequestIdBytes &&
      std::all_of(id.begin(), id.end(), allowed))
    return absl::OkStatus();
  return FieldInvalid(
      "request_id",
      "must be 1 to 64 characters from A-Z, a-z, 0-9, '.', '_' and '-'");
}

absl::Status CheckRepeated(absl::string_view field, absl::string_view value,
                           absl::string_view first) {
  if (value.empty() || value == first) return absl::OkStatus();
  return DiffersFromFirst(field);
}

absl::Status DiffersFromFirst(absl::string_view field) {
  return core::FieldInvalid(field,
                            "is not what the first message of the stream says");
}

absl::StatusOr<std::vector<std::string>> ParseDirectories(
    const google::protobuf::RepeatedPtrField<std::string>& names) {
  for (const std::string& name : names) {
    if (absl::c_linear_search(core::kDirectories, name)) continue;
    return FieldInvalid(
        "directories",
        absl::StrCat("\"", base::Echo(name),
                     "\" is none of the directories mlflow, dvc, monitoring, "
                     "models and outputs"));
  }
  // Iterate over the known names, which yields each once and in a fixed order.
  std::vector<std::string> directories;
  for (absl::string_view name : core::kDirectories) {
    if (names.empty() || absl::c_linear_search(names, name))
      directories.emplace_back(name);
  }
  return directories;
}

absl::Status CheckFence(int64_t fence) {
  if (fence >= 0) return absl::OkStatus();
  return FieldInvalid("fence", "must not be negative");
}

int32_t ClampToInt32(int64_t count) {
  return static_cast<int32_t>(
      std::min<int64_t>(count, std::numeric_limits<int32_t>::max()));
}

absl::Status Decode(const grpc::ByteBuffer& bytes,
                    google::protobuf::Message* message) {
  // Deserializing consumes the buffer, so work on a copy, which shares the
  // slices.
  grpc::ByteBuffer copy = bytes;
  if (grpc::GenericDeserialize<grpc::ProtoBufferReader,
                               google::protobuf::Message>(&copy, message)
          .ok()) {
    return absl::OkStatus();
  }
  return FieldInvalid(
      "request",
      absl::StrCat("is not a valid ", message->GetDescriptor()->name()));
}

grpc::ByteBuffer Encode(const google::protobuf::MessageLite& message) {
  return ToByteBuffer(message.SerializeAsString());
}

grpc::ByteBuffer ToByteBuffer(std::string bytes) {
  // The slice takes ownership of the string, so the bytes are not copied.
  auto* const owned = new std::string(std::move(bytes));
  const auto destroy = [](void* text) {
    delete static_cast<std::string*>(text);
  };
  const grpc::Slice slice(owned->data(), owned->size(), destroy, owned);
  return grpc::ByteBuffer(&slice, 1);
}

absl::StatusOr<core::CreateArgs> FromProto(
    const pb::CreateWorkspaceRequest& request) {
  ASSIGN_OR_RETURN(core::CreateArgs args, NewWorkspaceFromProto(request));
  RETURN_IF_ERROR(CheckRequestId(request.request_id()));
  args.request_id = request.request_id();
  args.validate_only = request.validate_only();
  return args;
}

absl::StatusOr<core::CreateArgs> FromProto(
    const pb::EnsureWorkspaceRequest& request) {
  return NewWorkspaceFromProto(request);
}

absl::StatusOr<core::ListArgs> FromProto(
    const pb::ListWorkspacesRequest& request) {
  ASSIGN_OR_RETURN(core::Filter filter, core::Filter::Parse(request.filter()));
  return core::ListArgs{.page_size = request.page_size(),
                        .page_token = request.page_token(),
                        .filter = std::move(filter),
                        .order_by = request.order_by(),
                        .show_deleted = request.show_deleted()};
}

absl::StatusOr<core::UpdateArgs> FromProto(
    const pb::UpdateWorkspaceRequest& request) {
  ASSIGN_OR_RETURN(core::ProjectName project,
                   core::ProjectName::Parse(request.workspace().project()));
  RETURN_IF_ERROR(CheckFence(request.fence()));
  core::UpdateArgs args{
      .project = std::move(project),
      .etag = request.workspace().etag(),
      .spec = {.settings = SettingsFromProto(request.workspace()),
               .metadata = FromProto(request.workspace().metadata()),
               .quota = QuotaFromProto(request.workspace()),
               .remove_metadata =
                   Distinct(request.remove_metadata(), core::kMaxRemovedKeys)},
      .allow_missing = request.allow_missing(),
      .validate_only = request.validate_only(),
      .fence = request.fence()};
  const auto& paths = request.update_mask().paths();
  // Without paths the mask stays absent, which selects the fields that are
  // present.
  if (!paths.empty()) args.spec.mask = Distinct(paths, core::kMaxMaskPaths);
  return args;
}

absl::StatusOr<core::DeleteArgs> FromProto(
    const pb::DeleteWorkspaceRequest& request) {
  ASSIGN_OR_RETURN(core::ProjectName project,
                   core::ProjectName::Parse(request.project()));
  RETURN_IF_ERROR(CheckFence(request.fence()));
  if (request.only_deleted() &&
      !(request.permanent() && !request.uid().empty())) {
    return core::FieldInvalid("only_deleted", "requires permanent and uid");
  }
  return core::DeleteArgs{.project = std::move(project),
                          .force = request.force(),
                          .etag = request.etag(),
                          .uid = request.uid(),
                          .allow_missing = request.allow_missing(),
                          .permanent = request.permanent(),
                          .only_deleted = request.only_deleted(),
                          .validate_only = request.validate_only(),
                          .fence = request.fence()};
}

absl::StatusOr<LeaseArgs> FromProto(const pb::AcquireLeaseRequest& request) {
  ASSIGN_OR_RETURN(core::ProjectName project,
                   core::ProjectName::Parse(request.project()));
  RETURN_IF_ERROR(CheckHolder(request.holder()));
  LeaseArgs args{.project = std::move(project), .holder = request.holder()};
  if (!request.has_ttl()) return args;
  // Check the range in seconds first, so that the sum cannot overflow.
  const int64_t seconds = request.ttl().seconds();
  args.ttl =
      seconds < 0 || absl::Seconds(seconds) > core::kMaxLeaseTtl
          ? absl::ZeroDuration()
          : absl::Seconds(seconds) + absl::Nanoseconds(request.ttl().nanos());
  if (args.ttl < core::kMinLeaseTtl || args.ttl > core::kMaxLeaseTtl)
    return FieldInvalid("ttl", "must be 1 s to 24 h");
  return args;
}

absl::StatusOr<LeaseArgs> FromProto(const pb::ReleaseLeaseRequest& request) {
  ASSIGN_OR_RETURN(core::ProjectName project,
                   core::ProjectName::Parse(request.project()));
  // An administrator may release a lease without knowing its holder.
  if (!request.force() || !request.holder().empty())
    RETURN_IF_ERROR(CheckHolder(request.holder()));
  return LeaseArgs{.project = std::move(project),
                   .holder = request.holder(),
                   .force = request.force()};
}

absl::StatusOr<absl::Duration> MaxStaleness(
    const google::protobuf::Duration& max_staleness) {
  if (max_staleness.seconds() < 0 || max_staleness.nanos() < 0) {
    return FieldInvalid("max_staleness", "must not be negative");
  }
  return absl::Seconds(max_staleness.seconds()) +
         absl::Nanoseconds(max_staleness.nanos());
}

void ToProto(const auth::Caller& caller,
             const std::vector<auth::Policy::Grant>& grants,
             pb::Caller* message) {
  message->set_name(caller.name);
  message->set_kind(std::string(auth::KindName(caller.kind)));
  for (const auth::Policy::Grant& grant : grants) {
    pb::Permission* const permission = message->add_permissions();
    permission->set_role(grant.role);
    for (const std::string& project : grant.projects)
      permission->add_projects(project);
  }
}

void ToProto(absl::Time time, google::protobuf::Timestamp* message) {
  time = core::ClampTime(time);
  const int64_t seconds = absl::ToUnixSeconds(time);
  message->set_seconds(seconds);
  message->set_nanos(static_cast<int32_t>(
      absl::ToInt64Nanoseconds(time - absl::FromUnixSeconds(seconds))));
}

void ToProto(absl::Duration duration, google::protobuf::Duration* message) {
  absl::Duration rest;
  message->set_seconds(absl::IDivDuration(duration, absl::Seconds(1), &rest));
  message->set_nanos(static_cast<int32_t>(absl::ToInt64Nanoseconds(rest)));
}

namespace {

// Converts the values that users can set.
void ValuesToProto(const core::Settings& settings,
                   const core::Metadata& metadata, const core::Quota& quota,
                   pb::Workspace* message) {
  if (settings.mlflow_experiment_id)
    message->set_mlflow_experiment_id(*settings.mlflow_experiment_id);
  if (settings.mlflow_tracking_uri)
    message->set_mlflow_tracking_uri(*settings.mlflow_tracking_uri);
  if (settings.dvc_remote_path)
    message->set_dvc_remote_path(*settings.dvc_remote_path);
  if (settings.bentoml_tag_prefix)
    message->set_bentoml_tag_prefix(*settings.bentoml_tag_prefix);
  if (!metadata.empty()) {
    auto& fields = *message->mutable_metadata()->mutable_fields();
    for (const auto& [key, value] : metadata.items())
      ToProto(value, &fields[key]);
  }
  if (quota.max_size_bytes) message->set_max_size_bytes(*quota.max_size_bytes);
  if (quota.max_file_count) message->set_max_file_count(*quota.max_file_count);
}

}  // namespace

void ToProto(const core::Workspace& workspace, pb::Workspace* message) {
  message->set_project(workspace.project.str());
  message->set_uid(workspace.uid);
  message->set_root_path(base::PathText(workspace.root_path));
  ValuesToProto(workspace.settings, workspace.metadata, workspace.quota,
                message);
  // A trashed workspace with a corrupt record has no times.
  if (workspace.create_time != absl::Time())
    ToProto(workspace.create_time, message->mutable_create_time());
  if (workspace.update_time != absl::Time())
    ToProto(workspace.update_time, message->mutable_update_time());
  if (workspace.delete_time)
    ToProto(*workspace.delete_time, message->mutable_delete_time());
  if (workspace.purge_time)
    ToProto(*workspace.purge_time, message->mutable_purge_time());
  message->set_etag(workspace.etag);
}

void ToProto(const artifacts::ListedTemplate& listed, pb::Template* message) {
  const core::Template& tmpl = *listed.tmpl;
  message->set_name(tmpl.name);
  // A broken template is listed with its error, so that it does not hide the
  // others.
  if (!listed.problem.ok()) {
    *message->mutable_error() = wire::ToProto(listed.problem);
    return;
  }
  message->set_description(tmpl.description);
  ValuesToProto(tmpl.settings, tmpl.metadata, tmpl.quota,
                message->mutable_defaults());
  for (std::string& path : core::ListedPaths(tmpl))
    message->add_directories(std::move(path));
}

void ToProto(const core::Lease& lease, pb::Lease* message) {
  message->set_holder(lease.holder);
  message->set_fence(lease.fence);
  ToProto(lease.acquire_time, message->mutable_acquire_time());
  ToProto(lease.expire_time, message->mutable_expire_time());
}

namespace {

// Larger encodings are not cached: caching them would double the memory that a
// server needs for its records.
constexpr size_t kMaxKeptBytes = 32 << 10;
// Pages longer than this count as long.
constexpr size_t kMuchBytes = 1 << 20;

// Encodes the workspace as an element of ListWorkspacesResponse.workspaces,
// with its tag and length.
std::string MakeListItem(const core::Workspace& workspace) {
  pb::ListWorkspacesResponse item;
  rpc::ToProto(workspace, item.add_workspaces());
  return item.SerializeAsString();
}

// Returns the encoding that the workspace caches, or "" if it is too large to
// be cached.
const std::string& KeptListItem(const core::Workspace& workspace) {
  return workspace.wire.Get([&workspace] {
    std::string item = MakeListItem(workspace);
    if (item.size() > kMaxKeptBytes) item = std::string();
    return item;
  });
}

// Appends `message`, an encoded workspace, together with `lease`, as an element
// of ListWorkspacesResponse.workspaces. Concatenated encodings merge, so a
// lease that changes does not invalidate the cached encoding.
void AppendWithLease(absl::string_view message, const core::Lease& lease,
                     std::string* bytes) {
  pb::Workspace rest;
  rpc::ToProto(lease, rest.mutable_lease());
  const size_t size = message.size() + rest.ByteSizeLong();
  google::protobuf::io::StringOutputStream stream(bytes);
  // Write the tag and the total length by hand, then both parts: protobuf
  // merges them into one message.
  google::protobuf::io::CodedOutputStream coded(&stream);
  WireFormatLite::WriteTag(pb::ListWorkspacesResponse::kWorkspacesFieldNumber,
                           WireFormatLite::WIRETYPE_LENGTH_DELIMITED, &coded);
  coded.WriteVarint64(size);
  coded.WriteRaw(message.data(), static_cast<int>(message.size()));
  rest.SerializeWithCachedSizes(&coded);
}

// Returns the message inside an encoded field, after its one-byte tag and its
// length.
absl::string_view InField(absl::string_view field) {
  size_t begin = 1;
  while ((field[begin] & 0x80) != 0) ++begin;
  return field.substr(begin + 1);
}

}  // namespace

std::optional<grpc::ByteBuffer> EncodeKept(
    const core::Workspace& workspace, const std::optional<core::Lease>& lease) {
  const std::string& kept = KeptListItem(workspace);
  if (kept.empty()) return std::nullopt;
  std::string bytes(InField(kept));
  // Appending an encoded lease merges it into the workspace.
  if (lease) {
    pb::Workspace rest;
    ToProto(*lease, rest.mutable_lease());
    rest.AppendToString(&bytes);
  }
  return ToByteBuffer(std::move(bytes));
}

std::optional<grpc::ByteBuffer> EncodeKeptAsFound(
    const core::Workspace& workspace, const std::optional<core::Lease>& lease) {
  // A list item is also an EnsureWorkspaceResponse, because both hold the
  // workspace in the same field; `created` is false, so it is absent.
  static_assert(int{pb::EnsureWorkspaceResponse::kWorkspaceFieldNumber} ==
                int{pb::ListWorkspacesResponse::kWorkspacesFieldNumber});
  const std::string& kept = KeptListItem(workspace);
  if (kept.empty()) return std::nullopt;
  if (!lease) return ToByteBuffer(kept);
  std::string bytes;
  AppendWithLease(InField(kept), *lease, &bytes);
  return ToByteBuffer(std::move(bytes));
}

bool ListEncoder::Add(const core::Workspace& workspace,
                      const std::optional<core::Lease>& lease, size_t left) {
  const std::string& kept = KeptListItem(workspace);
  if (kept.empty() && which_ == kOnlyKept) {
    met_large_ = true;
    return false;
  }
  // `made` owns what the cache does not hold, so that `item` can refer to
  // either.
  std::string made = kept.empty() ? MakeListItem(workspace) : "";
  if (lease) {
    std::string leased;
    AppendWithLease(InField(kept.empty() ? made : kept), *lease, &leased);
    made = std::move(leased);
  }
  const std::string& item = made.empty() ? kept : made;
  if (!bytes_.empty() && bytes_.size() + item.size() > kMaxPageBytes)
    return false;
  // Most records of a base have about the same length, so the first one
  // predicts the size of the page.
  if (bytes_.empty())
    bytes_.reserve(std::min(kMuchBytes, left * (item.size() * 9 / 8)));
  // Reserve a long page at once: doubling it would hold it twice for a while,
  // on each worker.
  if (bytes_.size() > kMuchBytes && bytes_.capacity() < kMaxPageBytes)
    bytes_.reserve(kMaxPageBytes + kMuchBytes);
  bytes_.append(item);
  return true;
}

grpc::ByteBuffer ListEncoder::Finish(const core::ListResult& result,
                                     const std::string& resume_token) && {
  pb::ListWorkspacesResponse rest;
  rest.set_next_page_token(result.next_page_token);
  rest.set_total_size(ClampToInt32(result.total_size));
  rest.set_resume_token(resume_token);
  for (const std::string& project : result.unreachable)
    rest.add_unreachable(project);
  rest.AppendToString(&bytes_);
  // Free the unused capacity, because the page stays in memory until the client
  // reads it.
  if (bytes_.capacity() > 2 * bytes_.size()) bytes_.shrink_to_fit();
  return ToByteBuffer(std::move(bytes_));
}

void ToProto(const core::DeleteResult& result,
             pb::DeleteWorkspaceResponse* message) {
  if (result.workspace != nullptr)
    ToProto(*result.workspace, message->mutable_workspace());
  message->set_file_count(ClampToInt32(result.file_count));
  message->set_size_bytes(result.size_bytes);
  message->set_purged(result.purged);
}

namespace {

void ToProto(const core::Usage& usage, pb::WorkspaceStatus* message) {
  for (size_t i = 0; i < core::kDirectories.size(); ++i) {
    const core::DirectoryUsage& directory = usage.directories[i];
    pb::DirectoryUsage* out = message->add_directories();
    out->set_name(std::string(core::kDirectories[i]));
    out->set_exists(directory.exists);
    out->set_file_count(ClampToInt32(directory.file_count));
    out->set_size_bytes(directory.size_bytes);
    if (directory.modify_time != absl::InfinitePast())
      rpc::ToProto(directory.modify_time, out->mutable_modify_time());
  }
  message->set_file_count(ClampToInt32(usage.file_count()));
  message->set_size_bytes(usage.size_bytes());
  rpc::ToProto(usage.scan_time, message->mutable_scan_time());
  if (!usage.problem.ok())
    *message->mutable_error() = wire::ToProto(usage.problem);
}

}  // namespace

void ToProto(const core::StatusResult& result, pb::WorkspaceStatus* message) {
  ToProto(*result.workspace, message->mutable_workspace());
  ToProto(result.usage, message);
  message->set_over_quota(result.over_quota);
}

std::string EncodeStatus(const core::ProjectName& project,
                         const absl::StatusOr<core::StatusResult>& result,
                         const std::optional<core::Lease>& lease) {
  // Reused across calls, to keep its allocations.
  thread_local pb::WorkspaceStatus rest;
  rest.Clear();
  std::string made;
  absl::string_view workspace;
  if (result.ok()) {
    // A list item is also a valid status that has only a workspace:
    // the workspace is field 1 of both.
    static_assert(int{pb::WorkspaceStatus::kWorkspaceFieldNumber} ==
                  pb::ListWorkspacesResponse::kWorkspacesFieldNumber);
    workspace = KeptListItem(*result->workspace);
    if (workspace.empty()) workspace = made = MakeListItem(*result->workspace);
    if (lease) {
      std::string leased;
      AppendWithLease(InField(workspace), *lease, &leased);
      workspace = made = std::move(leased);
    }
    ToProto(result->usage, &rest);
    rest.set_over_quota(result->over_quota);
  } else {
    rest.mutable_workspace()->set_project(project.str());
    *rest.mutable_error() = wire::ToProto(result.status());
  }
  // Write both parts behind one tag and length, so that the workspace is not
  // encoded again.
  const size_t size = workspace.size() + rest.ByteSizeLong();
  std::string bytes;
  {
    google::protobuf::io::StringOutputStream stream(&bytes);
    google::protobuf::io::CodedOutputStream coded(&stream);
    WireFormatLite::WriteTag(
        pb::StreamWorkspaceStatusesResponse::kStatusesFieldNumber,
        WireFormatLite::WIRETYPE_LENGTH_DELIMITED, &coded);
    coded.WriteVarint64(size);
    coded.WriteRaw(workspace.data(), static_cast<int>(workspace.size()));
    rest.SerializeWithCachedSizes(&coded);
  }
  return bytes;
}

std::string EncodeWatched(pb::Change change, const core::Workspace& workspace,
                          const std::optional<core::Lease>& lease,
                          bool over_quota, const std::string& resume_token) {
  std::string made;
  absl::string_view encoded = KeptListItem(workspace);
  if (encoded.empty()) encoded = made = MakeListItem(workspace);
  encoded = InField(encoded);
  // Encode the lease as an extra field, which is then appended to the encoded
  // workspace.
  std::string lease_field;
  if (lease.has_value()) {
    pb::Workspace message;
    ToProto(*lease, message.mutable_lease());
    lease_field = message.SerializeAsString();
  }
  pb::WatchWorkspacesResponse rest;
  rest.set_resume_token(resume_token);
  rest.set_over_quota(over_quota);
  std::string bytes;
  // As in EncodeStatus(), write the fields by hand around the cached encoding.
  {
    google::protobuf::io::StringOutputStream stream(&bytes);
    google::protobuf::io::CodedOutputStream coded(&stream);
    WireFormatLite::WriteEnum(pb::WatchWorkspacesResponse::kChangeFieldNumber,
                              change, &coded);
    WireFormatLite::WriteTag(pb::WatchWorkspacesResponse::kWorkspaceFieldNumber,
                             WireFormatLite::WIRETYPE_LENGTH_DELIMITED, &coded);
    coded.WriteVarint64(encoded.size() + lease_field.size());
    coded.WriteRaw(encoded.data(), static_cast<int>(encoded.size()));
    coded.WriteString(lease_field);
    rest.SerializeToCodedStream(&coded);
  }
  return bytes;
}

}  // namespace mlops::rpc
