#include "service/core/errors.h"

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "proto/cpp/base/error.h"
#include "proto/cpp/base/field_invalid.h"

namespace mlops::core {

using absl::StatusCode;
using base::Echo;
using base::MakeError;

absl::Status FieldInvalid(absl::string_view field, absl::string_view problem) {
  return base::FieldInvalid(field, problem);
}

absl::Status FilterInvalid(absl::string_view field, int position,
                           absl::string_view problem) {
  return MakeError(
      StatusCode::kInvalidArgument,
      absl::StrCat(field, " at position ", position, ": ", problem),
      {.reason = "FILTER_INVALID",
       .metadata = {{"field", std::string(field)},
                    {"position", absl::StrCat(position)},
                    {"problem", std::string(problem)}}});
}

absl::Status TokenInvalid(absl::string_view field) {
  return MakeError(
      StatusCode::kInvalidArgument,
      absl::StrCat(field,
                   ": damaged, or made for a request with other arguments; "
                   "start again without it"),
      {.reason = "TOKEN_INVALID", .metadata = {{"field", std::string(field)}}});
}

absl::Status WorkspaceNotFound(absl::string_view project) {
  return MakeError(StatusCode::kNotFound,
                   absl::StrCat("Workspace does not exist: ", project),
                   {.reason = "WORKSPACE_NOT_FOUND",
                    .metadata = {{"project", std::string(project)}}});
}

absl::Status NotInTrash(absl::string_view project, absl::string_view uid,
                        absl::Duration purge_delay) {
  const std::string which =
      uid.empty() ? "" : absl::StrCat(" with the uid ", Echo(uid));
  return MakeError(StatusCode::kNotFound,
                   absl::StrCat("The trash has no workspace ", project, which,
                                "; it keeps deleted workspaces for ",
                                absl::FormatDuration(purge_delay),
                                ", list them with show_deleted"),
                   {.reason = "WORKSPACE_NOT_FOUND",
                    .metadata = {{"project", std::string(project)}}});
}

absl::Status WorkspaceExists(absl::string_view project, absl::string_view uid) {
  return MakeError(StatusCode::kAlreadyExists,
                   absl::StrCat("Workspace already exists: ", project),
                   {.reason = "WORKSPACE_EXISTS",
                    .metadata = {{"project", std::string(project)},
                                 {"uid", std::string(uid)}}});
}

absl::Status ForceRequired(absl::string_view project, absl::string_view path) {
  return MakeError(StatusCode::kFailedPrecondition,
                   "Workspace deletion requires \"force\": true for safety",
                   {.reason = "FORCE_REQUIRED",
                    .metadata = {{"project", std::string(project)},
                                 {"path", std::string(path)}}});
}

absl::Status PathUnsuitable(absl::string_view project, absl::string_view path,
                            absl::string_view problem) {
  return MakeError(StatusCode::kFailedPrecondition,
                   absl::StrCat(Echo(path), ": ", problem),
                   {.reason = "PATH_UNSUITABLE",
                    .metadata = {{"project", std::string(project)},
                                 {"path", std::string(path)},
                                 {"problem", std::string(problem)}}});
}

absl::Status NoSpaceInTrash(const absl::Status& no_space) {
  return MakeError(
      no_space.code(),
      absl::StrCat(no_space.message(),
                   "; delete it with \"permanent\": true, which needs no space "
                   "and frees the workspace's"),
      base::GetErrorInfo(no_space).value_or(base::ErrorInfo()));
}

absl::Status EtagMismatch(absl::string_view project, absl::string_view etag,
                          absl::string_view current_etag) {
  return MakeError(
      StatusCode::kAborted,
      absl::StrCat("Workspace ", project, " has changed since etag ",
                   Echo(etag), "; read it again, then retry"),
      {.reason = "ETAG_MISMATCH",
       .metadata = {{"project", std::string(project)},
                    {"etag", std::string(etag)},
                    {"current_etag", std::string(current_etag)}}});
}

absl::Status WorkspaceBusy(absl::string_view project,
                           absl::string_view operation) {
  return MakeError(
      StatusCode::kAborted,
      absl::StrCat("Workspace ", project, " is busy: ", operation, "; retry"),
      {.reason = "WORKSPACE_BUSY",
       .metadata = {{"project", std::string(project)},
                    {"operation", std::string(operation)}},
       .retry_delay = absl::Milliseconds(100)});
}

absl::Status Overloaded(absl::string_view limit, absl::Duration retry_delay) {
  return MakeError(StatusCode::kUnavailable,
                   absl::StrCat("The server is overloaded: too many ", limit,
                                "; retry later"),
                   {.reason = "OVERLOADED",
                    .metadata = {{"limit", std::string(limit)}},
                    .retry_delay = retry_delay});
}

absl::Status ShuttingDown() {
  return MakeError(StatusCode::kUnavailable,
                   "The server is shutting down and did not begin this call",
                   {.reason = "SHUTTING_DOWN", .metadata = {}});
}

absl::Status StandsBy(absl::string_view who) {
  return MakeError(
      StatusCode::kUnavailable,
      absl::StrCat("This server stands by and did not begin this call: ", who),
      {.reason = "SHUTTING_DOWN", .metadata = {}});
}

absl::Status ReadOnly(absl::string_view base_path) {
  return MakeError(
      StatusCode::kFailedPrecondition,
      absl::StrCat("The server serves ", base_path,
                   " read-only; to change it, start a server that may write "
                   "there, without --read-only"),
      {.reason = "READ_ONLY", .metadata = {{"path", std::string(base_path)}}});
}

absl::Status CutByShutdown() {
  return MakeError(StatusCode::kUnavailable,
                   "The server is shutting down and did not finish this call; "
                   "resume it when the server is back",
                   {.reason = "SHUTTING_DOWN", .metadata = {}});
}

absl::Status ClientIsIdle() {
  return MakeError(
      StatusCode::kUnavailable,
      "The client neither sent nor read for too long; resume the call",
      {.reason = "OVERLOADED",
       .metadata = {{"limit", "time without progress"}},
       .retry_delay = absl::Milliseconds(100)});
}

absl::Status WorkspaceCorrupt(absl::string_view project, absl::string_view file,
                              int line, absl::string_view problem) {
  return MakeError(
      StatusCode::kDataLoss,
      absl::StrCat(Echo(file), line > 0 ? absl::StrCat(":", line) : "", ": ",
                   Echo(problem)),
      {.reason = "WORKSPACE_CORRUPT",
       .metadata = {{"project", std::string(project)},
                    {"file", std::string(file)},
                    {"line", absl::StrCat(line)},
                    {"problem", std::string(problem)}}});
}

absl::Status TemplateNotFound(absl::string_view name) {
  return MakeError(StatusCode::kNotFound,
                   absl::StrCat("Template does not exist: ", Echo(name),
                                "; ListTemplates names those that do"),
                   {.reason = "TEMPLATE_NOT_FOUND",
                    .metadata = {{"template", std::string(name)}}});
}

absl::Status TemplateInvalid(absl::string_view name, absl::string_view file,
                             int line, absl::string_view problem) {
  return MakeError(StatusCode::kFailedPrecondition,
                   absl::StrCat("template ", Echo(name), ": ", Echo(file),
                                line > 0 ? absl::StrCat(":", line) : "", ": ",
                                Echo(problem)),
                   {.reason = "TEMPLATE_INVALID",
                    .metadata = {{"template", std::string(name)},
                                 {"file", std::string(file)},
                                 {"line", absl::StrCat(line)},
                                 {"problem", std::string(problem)}}});
}

absl::Status PathInvalid(absl::string_view path, absl::string_view problem) {
  return MakeError(StatusCode::kInvalidArgument,
                   absl::StrCat("path ", Echo(path), " ", problem),
                   {.reason = "PATH_INVALID",
                    .metadata = {{"path", std::string(path)},
                                 {"problem", std::string(problem)}}});
}

absl::Status ArtifactNotFound(absl::string_view project,
                              absl::string_view path) {
  return MakeError(StatusCode::kNotFound,
                   absl::StrCat("Workspace ", project, " has no ", Echo(path)),
                   {.reason = "ARTIFACT_NOT_FOUND",
                    .metadata = {{"project", std::string(project)},
                                 {"path", std::string(path)}}});
}

absl::Status BrokenLink(absl::string_view project, absl::string_view path) {
  return MakeError(StatusCode::kNotFound,
                   absl::StrCat("In workspace ", project, ", ", Echo(path),
                                " is, or leads through, a broken symbolic "
                                "link: its target does not exist"),
                   {.reason = "ARTIFACT_NOT_FOUND",
                    .metadata = {{"project", std::string(project)},
                                 {"path", std::string(path)}}});
}

absl::Status ArtifactExists(absl::string_view project, absl::string_view path) {
  return MakeError(
      StatusCode::kAlreadyExists,
      absl::StrCat("Workspace ", project, " already has ", Echo(path)),
      {.reason = "ARTIFACT_EXISTS",
       .metadata = {{"project", std::string(project)},
                    {"path", std::string(path)}}});
}

absl::Status ArtifactForceRequired(absl::string_view project,
                                   absl::string_view path) {
  return MakeError(
      StatusCode::kFailedPrecondition,
      absl::StrCat(Echo(path),
                   " is not empty; to delete all that is in it, set force"),
      {.reason = "FORCE_REQUIRED",
       .metadata = {{"project", std::string(project)},
                    {"path", std::string(path)}}});
}

absl::Status ArtifactEtagMismatch(absl::string_view project,
                                  absl::string_view path,
                                  absl::string_view etag,
                                  absl::string_view current_etag) {
  return MakeError(StatusCode::kAborted,
                   absl::StrCat(Echo(path), " has changed since etag ",
                                Echo(etag), "; read it again, then retry"),
                   {.reason = "ETAG_MISMATCH",
                    .metadata = {{"project", std::string(project)},
                                 {"path", std::string(path)},
                                 {"etag", std::string(etag)},
                                 {"current_etag", std::string(current_etag)}}});
}

absl::Status ChecksumMismatch(absl::string_view project, absl::string_view path,
                              absl::string_view expected,
                              absl::string_view actual) {
  return MakeError(StatusCode::kInvalidArgument,
                   absl::StrCat(Echo(path), ": the received data has SHA-256 ",
                                actual, ", not ", Echo(expected)),
                   {.reason = "CHECKSUM_MISMATCH",
                    .metadata = {{"project", std::string(project)},
                                 {"path", std::string(path)},
                                 {"expected_sha256", std::string(expected)},
                                 {"actual_sha256", std::string(actual)}}});
}

absl::Status UploadNotFound(absl::string_view project,
                            absl::string_view upload_id) {
  return MakeError(
      StatusCode::kNotFound,
      absl::StrCat("Workspace ", project, " has no upload ", upload_id),
      {.reason = "UPLOAD_NOT_FOUND",
       .metadata = {{"project", std::string(project)},
                    {"upload_id", std::string(upload_id)}}});
}

absl::Status UploadOffsetMismatch(absl::string_view project,
                                  absl::string_view upload_id, int64_t offset,
                                  int64_t committed_offset) {
  return MakeError(
      StatusCode::kOutOfRange,
      absl::StrCat("The upload is at offset ", committed_offset, ", not at ",
                   offset, "; resume from there"),
      {.reason = "UPLOAD_OFFSET_MISMATCH",
       .metadata = {{"project", std::string(project)},
                    {"upload_id", std::string(upload_id)},
                    {"offset", absl::StrCat(offset)},
                    {"committed_offset", absl::StrCat(committed_offset)}}});
}

absl::Status OffsetOutOfRange(absl::string_view project, absl::string_view path,
                              int64_t offset, int64_t size_bytes) {
  return MakeError(
      StatusCode::kOutOfRange,
      absl::StrCat(Echo(path), " has only ", size_bytes, " bytes; offset ",
                   offset, " is beyond its end"),
      {.reason = "OFFSET_OUT_OF_RANGE",
       .metadata = {{"project", std::string(project)},
                    {"path", std::string(path)},
                    {"offset", absl::StrCat(offset)},
                    {"size_bytes", absl::StrCat(size_bytes)}}});
}

absl::Status ArchiveInvalid(absl::string_view entry,
                            absl::string_view problem) {
  const std::string what =
      entry.empty() ? "The beginning" : absl::StrCat("Entry ", Echo(entry));
  return MakeError(StatusCode::kInvalidArgument,
                   absl::StrCat(what, " of the archive ", problem),
                   {.reason = "ARCHIVE_INVALID",
                    .metadata = {{"entry", std::string(entry)},
                                 {"problem", std::string(problem)}}});
}

}  // namespace mlops::core
