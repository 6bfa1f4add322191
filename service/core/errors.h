#ifndef MLOPS_SERVICE_CORE_ERRORS_H_
#define MLOPS_SERVICE_CORE_ERRORS_H_

#include <cstdint>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"

// Creates every error of the core and of artifacts, with one function or more
// per reason. The comment on each ErrorReason in error_reason.proto defines its
// code and the meaning of its metadata.
namespace mlops::core {

absl::Status FieldInvalid(absl::string_view field, absl::string_view problem);
absl::Status FilterInvalid(absl::string_view field, int position,
                           absl::string_view problem);
absl::Status TokenInvalid(absl::string_view field);
absl::Status ResumeTokenExpired();
absl::Status WorkspaceNotFound(absl::string_view project);
// WORKSPACE_NOT_FOUND for a workspace that is not in the trash. `uid` may be
// "". `purge_delay` is how long the trash keeps newly deleted workspaces.
absl::Status NotInTrash(absl::string_view project, absl::string_view uid,
                        absl::Duration purge_delay);
absl::Status WorkspaceExists(absl::string_view project, absl::string_view uid);
absl::Status ForceRequired(absl::string_view project, absl::string_view path);
absl::Status PathUnsuitable(absl::string_view project, absl::string_view path,
                            absl::string_view problem);
// Returns `no_space`, an error of fs::Dir, with advice on how to delete a
// workspace for which the trash has no room.
absl::Status NoSpaceInTrash(const absl::Status& no_space);
// NO_SPACE for a change that needs `wanted` files or bytes in addition to
// `used`, and would exceed the workspace's limit named `quota`.
absl::Status QuotaExceeded(absl::string_view project, absl::string_view quota,
                           int64_t limit, int64_t used, int64_t wanted);
absl::Status EtagMismatch(absl::string_view project, absl::string_view etag,
                          absl::string_view current_etag);
absl::Status WorkspaceBusy(absl::string_view project,
                           absl::string_view operation);
absl::Status Overloaded(absl::string_view limit, absl::Duration retry_delay);
absl::Status ShuttingDown();
// SHUTTING_DOWN for a call to a standby server. `who` is a clause that says
// which server serves the base.
absl::Status StandsBy(absl::string_view who);
absl::Status ReadOnly(absl::string_view base_path);
// SHUTTING_DOWN for a call that had already begun.
absl::Status CutByShutdown();
// OVERLOADED for a stream whose client neither sends nor reads, while other
// calls need the resources that the stream holds.
absl::Status ClientIsIdle();
// `line` counts from 1; 0 means the file as a whole.
absl::Status WorkspaceCorrupt(absl::string_view project, absl::string_view file,
                              int line, absl::string_view problem);
absl::Status TemplateNotFound(absl::string_view name);
// `line` as above; `file` is relative to the template's directory.
absl::Status TemplateInvalid(absl::string_view name, absl::string_view file,
                             int line, absl::string_view problem);
// `retry_delay` is the time until the lease expires. If `for_change`, the
// message says how to make the refused change.
absl::Status LeaseHeld(absl::string_view project, absl::string_view holder,
                       absl::Time expire_time, absl::Duration retry_delay,
                       bool for_change);
// `current_fence` is 0 if there is no lease.
absl::Status LeaseLost(absl::string_view project, int64_t fence,
                       int64_t current_fence);
// The functions below create errors of artifacts. `path` is as on the wire.
absl::Status PathInvalid(absl::string_view path, absl::string_view problem);
absl::Status ArtifactNotFound(absl::string_view project,
                              absl::string_view path);
// ARTIFACT_NOT_FOUND for a name that exists but is, or leads through,
// a broken symbolic link.
absl::Status BrokenLink(absl::string_view project, absl::string_view path);
absl::Status ArtifactExists(absl::string_view project, absl::string_view path);
absl::Status ArtifactForceRequired(absl::string_view project,
                                   absl::string_view path);
absl::Status ArtifactEtagMismatch(absl::string_view project,
                                  absl::string_view path,
                                  absl::string_view etag,
                                  absl::string_view current_etag);
absl::Status ChecksumMismatch(absl::string_view project, absl::string_view path,
                              absl::string_view expected,
                              absl::string_view actual);
absl::Status UploadNotFound(absl::string_view project,
                            absl::string_view upload_id);
absl::Status UploadOffsetMismatch(absl::string_view project,
                                  absl::string_view upload_id, int64_t offset,
                                  int64_t committed_offset);
absl::Status OffsetOutOfRange(absl::string_view project, absl::string_view path,
                              int64_t offset, int64_t size_bytes);
// `entry` may contain any bytes; "" means the beginning of the archive.
absl::Status ArchiveInvalid(absl::string_view entry, absl::string_view problem);

}  // namespace mlops::core

#endif  // MLOPS_SERVICE_CORE_ERRORS_H_
