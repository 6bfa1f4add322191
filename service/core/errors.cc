#include "service/core/errors.h"

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "service/base/error.h"

namespace mlops::core {

using absl::StatusCode;
using base::Echo;
using base::MakeError;

absl::Status FieldInvalid(absl::string_view field, absl::string_view problem) {
  return MakeError(
      StatusCode::kInvalidArgument, absl::StrCat(Echo(field), ": ", problem),
      {.reason = "FIELD_INVALID", .metadata = {{"field", std::string(field)}, {"problem", std::string(problem)}}});
}

absl::Status FilterInvalid(absl::string_view field, int position, absl::string_view problem) {
  return MakeError(
      StatusCode::kInvalidArgument, absl::StrCat(field, " at position ", position, ": ", problem),
      {.reason = "FILTER_INVALID",
       .metadata = {
           {"field", std::string(field)}, {"position", absl::StrCat(position)}, {"problem", std::string(problem)}}});
}

absl::Status TokenInvalid(absl::string_view field) {
  return MakeError(StatusCode::kInvalidArgument,
                   absl::StrCat(field, ": damaged, or made for a request with other arguments; start again without it"),
                   {.reason = "TOKEN_INVALID", .metadata = {{"field", std::string(field)}}});
}

absl::Status WorkspaceNotFound(absl::string_view project) {
  return MakeError(StatusCode::kNotFound, absl::StrCat("Workspace does not exist: ", project),
                   {.reason = "WORKSPACE_NOT_FOUND", .metadata = {{"project", std::string(project)}}});
}

absl::Status WorkspaceExists(absl::string_view project, absl::string_view uid) {
  return MakeError(
      StatusCode::kAlreadyExists, absl::StrCat("Workspace already exists: ", project),
      {.reason = "WORKSPACE_EXISTS", .metadata = {{"project", std::string(project)}, {"uid", std::string(uid)}}});
}

absl::Status ForceRequired(absl::string_view project, absl::string_view path) {
  return MakeError(
      StatusCode::kFailedPrecondition, "Workspace deletion requires force=True for safety",
      {.reason = "FORCE_REQUIRED", .metadata = {{"project", std::string(project)}, {"path", std::string(path)}}});
}

absl::Status PathUnsuitable(absl::string_view project, absl::string_view path, absl::string_view problem) {
  return MakeError(
      StatusCode::kFailedPrecondition, absl::StrCat(Echo(path), ": ", problem),
      {.reason = "PATH_UNSUITABLE",
       .metadata = {
           {"project", std::string(project)}, {"path", std::string(path)}, {"problem", std::string(problem)}}});
}

absl::Status EtagMismatch(absl::string_view project, absl::string_view etag, absl::string_view current_etag) {
  return MakeError(
      StatusCode::kAborted,
      absl::StrCat("Workspace ", project, " has changed since etag ", Echo(etag), "; read it again, then retry"),
      {.reason = "ETAG_MISMATCH",
       .metadata = {{"project", std::string(project)},
                    {"etag", std::string(etag)},
                    {"current_etag", std::string(current_etag)}}});
}

absl::Status WorkspaceBusy(absl::string_view project, absl::string_view operation) {
  return MakeError(StatusCode::kAborted, absl::StrCat("Workspace ", project, " is busy: ", operation, "; retry"),
                   {.reason = "WORKSPACE_BUSY",
                    .metadata = {{"project", std::string(project)}, {"operation", std::string(operation)}},
                    .retry_delay = absl::Milliseconds(100)});
}

absl::Status Overloaded(absl::string_view limit, absl::Duration retry_delay) {
  return MakeError(StatusCode::kUnavailable, absl::StrCat("Too much at once: ", limit, "; retry later"),
                   {.reason = "OVERLOADED", .metadata = {{"limit", std::string(limit)}}, .retry_delay = retry_delay});
}

absl::Status ShuttingDown() {
  return MakeError(StatusCode::kUnavailable, "The server is shutting down and did not begin this call",
                   {.reason = "SHUTTING_DOWN", .metadata = {}});
}

absl::Status WorkspaceCorrupt(absl::string_view project, absl::string_view file, int line, absl::string_view problem) {
  return MakeError(StatusCode::kDataLoss,
                   absl::StrCat(Echo(file), line > 0 ? absl::StrCat(":", line) : "", ": ", Echo(problem)),
                   {.reason = "WORKSPACE_CORRUPT",
                    .metadata = {{"project", std::string(project)},
                                 {"file", std::string(file)},
                                 {"line", absl::StrCat(line)},
                                 {"problem", std::string(problem)}}});
}

}  // namespace mlops::core
