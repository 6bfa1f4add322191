#include "client-cpp/testing/fake_rules.h"

#include <algorithm>
#include <iterator>
#include <string>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/strip.h"
#include "absl/time/clock.h"
#include "google/protobuf/descriptor.h"
#include "google/protobuf/util/time_util.h"
#include "mlops/testing/fake_workspace_service.h"
#include "proto/cpp/base/error.h"
#include "proto/cpp/base/field_invalid.h"
#include "proto/cpp/base/status_macros.h"

namespace mlops::testing::rules {
namespace {

namespace v1 = workspace::v1;
using absl::StatusCode;
using google::protobuf::FieldDescriptor;
using google::protobuf::util::TimeUtil;

constexpr char kMaxSizeBytes[] = "max_size_bytes";
constexpr char kMaxFileCount[] = "max_file_count";
constexpr size_t kMaxHolderBytes = 128;

// Copies a setting, or clears it if it is absent in `from`.
void CopyOrClear(const std::string& field_name, const v1::Workspace& from,
                 v1::Workspace& to) {
  const FieldDescriptor* field =
      v1::Workspace::descriptor()->FindFieldByName(field_name);
  const auto* reflection = from.GetReflection();
  reflection->ClearField(&to, field);
  if (reflection->HasField(from, field)) {
    reflection->SetString(&to, field, reflection->GetString(from, field));
  }
}

// Copies a quota, or removes it if it is absent in `from`.
void CopyOrRemoveLimit(const std::string& name, const v1::Workspace& from,
                       v1::Workspace& to) {
  if (name == kMaxSizeBytes) {
    to.clear_max_size_bytes();
    if (from.has_max_size_bytes()) to.set_max_size_bytes(from.max_size_bytes());
  } else {
    to.clear_max_file_count();
    if (from.has_max_file_count()) to.set_max_file_count(from.max_file_count());
  }
}

// Replaces the fields that the path of an update mask selects.
absl::Status ReplaceMasked(const std::string& path, const v1::Workspace& from,
                           v1::Workspace& to) {
  const bool all = path == "*";
  const auto setting =
      std::find(std::begin(kSettings), std::end(kSettings), path);
  const bool limit = path == kMaxSizeBytes || path == kMaxFileCount;
  if (!all && !limit && path != "metadata" && setting == std::end(kSettings)) {
    return base::FieldInvalid("update_mask", "no such setting: " + path);
  }
  for (const char* name : kSettings) {
    if (all || name == path) CopyOrClear(name, from, to);
  }
  for (const char* name : {kMaxSizeBytes, kMaxFileCount}) {
    if (all || name == path) CopyOrRemoveLimit(name, from, to);
  }
  if (all || path == "metadata") *to.mutable_metadata() = from.metadata();
  return absl::OkStatus();
}

}  // namespace

google::protobuf::Timestamp ToTimestamp(absl::Time time) {
  return TimeUtil::NanosecondsToTimestamp(absl::ToUnixNanos(time));
}

absl::Status NotFound(const std::string& project) {
  return MakeError(StatusCode::kNotFound, "WORKSPACE_NOT_FOUND",
                   "Workspace does not exist: " + project,
                   {{"project", project}});
}

absl::Status Exists(const v1::Workspace& workspace) {
  return MakeError(
      StatusCode::kAlreadyExists, "WORKSPACE_EXISTS",
      "Workspace already exists: " + workspace.project(),
      {{"project", workspace.project()}, {"uid", workspace.uid()}});
}

absl::Status CheckProject(const std::string& project) {
  const auto is_inner = [](char c) {
    return absl::ascii_isalnum(c) || c == '.' || c == '_' || c == '-';
  };
  const bool valid = !project.empty() && project.size() <= 63 &&
                     std::all_of(project.begin(), project.end(), is_inner) &&
                     absl::ascii_isalnum(project.front()) &&
                     absl::ascii_isalnum(project.back());
  return valid ? absl::OkStatus()
               : base::FieldInvalid(
                     "project",
                     "must be [A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?");
}

absl::Status CheckSameProject(const std::string& project,
                              const v1::Workspace& workspace) {
  if (workspace.project().empty() || workspace.project() == project)
    return absl::OkStatus();
  return base::FieldInvalid("workspace.project", "must be the same as project");
}

absl::Status CheckEtag(const v1::Workspace& current, const std::string& etag) {
  if (etag.empty() || etag == current.etag()) return absl::OkStatus();
  return MakeError(StatusCode::kAborted, "ETAG_MISMATCH",
                   "Workspace has changed; read it again, then retry",
                   {{"project", current.project()},
                    {"etag", etag},
                    {"current_etag", current.etag()}});
}

absl::Status CheckLimits(const v1::Workspace& workspace) {
  if (workspace.max_size_bytes() < 0)
    return base::FieldInvalid(kMaxSizeBytes, "must not be negative");
  if (workspace.max_file_count() < 0)
    return base::FieldInvalid(kMaxFileCount, "must not be negative");
  return absl::OkStatus();
}

bool IsOverQuota(const v1::WorkspaceStatus& status) {
  const v1::Workspace& workspace = status.workspace();
  return (workspace.has_max_size_bytes() &&
          status.size_bytes() > workspace.max_size_bytes()) ||
         (workspace.has_max_file_count() &&
          status.file_count() > workspace.max_file_count());
}

void MergeSettings(const v1::Workspace& from, v1::Workspace& to) {
  for (const char* setting : kSettings) {
    const FieldDescriptor* field =
        v1::Workspace::descriptor()->FindFieldByName(setting);
    if (from.GetReflection()->HasField(from, field))
      CopyOrClear(setting, from, to);
  }
  if (from.has_max_size_bytes()) CopyOrRemoveLimit(kMaxSizeBytes, from, to);
  if (from.has_max_file_count()) CopyOrRemoveLimit(kMaxFileCount, from, to);
  for (const auto& [key, value] : from.metadata().fields())
    (*to.mutable_metadata()->mutable_fields())[key] = value;
}

absl::Status Apply(const v1::UpdateWorkspaceRequest& request,
                   v1::Workspace& workspace) {
  RETURN_IF_ERROR(CheckLimits(request.workspace()));
  if (request.update_mask().paths().empty())
    MergeSettings(request.workspace(), workspace);
  for (const std::string& path : request.update_mask().paths()) {
    RETURN_IF_ERROR(ReplaceMasked(path, request.workspace(), workspace));
  }
  for (const std::string& key : request.remove_metadata()) {
    if (request.workspace().metadata().fields().contains(key)) {
      return base::FieldInvalid("remove_metadata",
                                "also in workspace.metadata: " + key);
    }
    workspace.mutable_metadata()->mutable_fields()->erase(key);
  }
  return absl::OkStatus();
}

absl::Status CheckNoFilter(const std::string& filter) {
  if (filter.empty()) return absl::OkStatus();
  return MakeError(StatusCode::kInvalidArgument, "FILTER_INVALID",
                   "filter: the fake does not support filters",
                   {{"field", "filter"},
                    {"position", "0"},
                    {"problem", "the fake does not support filters"}});
}

absl::Status CheckHolder(const std::string& holder) {
  const bool valid =
      !holder.empty() && holder.size() <= kMaxHolderBytes &&
      std::all_of(holder.begin(), holder.end(), absl::ascii_isprint);
  return valid ? absl::OkStatus()
               : base::FieldInvalid(
                     "holder", "must be 1 to 128 printable ASCII characters");
}

absl::Status LeaseHeld(const std::string& project, const v1::Lease& lease) {
  const std::string until = TimeUtil::ToString(lease.expire_time());
  return base::MakeError(
      StatusCode::kFailedPrecondition,
      absl::StrCat("Workspace ", project, " is leased by ", lease.holder(),
                   " until ", until),
      {.reason = "LEASE_HELD",
       .metadata = {{"project", project},
                    {"holder", lease.holder()},
                    {"expire_time", until}},
       .retry_delay = absl::FromUnixNanos(TimeUtil::TimestampToNanoseconds(
                          lease.expire_time())) -
                      absl::Now()});
}

absl::StatusOr<Order> Order::Parse(std::string text) {
  const bool descending = absl::EndsWith(text, " desc");
  text = std::string(absl::StripSuffix(text, " desc"));
  if (text.empty() && !descending) text = "project";
  if (text == "project" || text == "create_time" || text == "update_time")
    return Order{text, descending};
  return MakeError(
      StatusCode::kInvalidArgument, "FILTER_INVALID",
      "order_by: cannot order by this",
      {{"field", "order_by"}, {"position", "0"}, {"problem", "unknown field"}});
}

std::string Order::Key(const v1::Workspace& workspace) const {
  const std::string name =
      absl::StrCat(workspace.project(), " ", workspace.uid());
  if (field == "project") return name;
  const auto& time = field == "create_time" ? workspace.create_time()
                                            : workspace.update_time();
  return absl::StrFormat("%020d %s", TimeUtil::TimestampToNanoseconds(time),
                         name);
}

}  // namespace mlops::testing::rules
