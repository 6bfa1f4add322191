#ifndef MLOPS_SERVICE_CORE_LAYOUT_H_
#define MLOPS_SERVICE_CORE_LAYOUT_H_

#include <optional>
#include <string>

#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "service/core/project_name.h"

// Defines every name that the server uses on disk.
//
// <base>/<project>/workspace.yaml
//   The record. A directory without it is not a workspace.
// <base>/<project>/.workspace.yaml.<id>
//   A record being written. The next update removes an orphaned one.
// <base>/<project>/.uploads/<id>.part
//   The data received for an upload; the client chose <id>.
// <base>/<project>/.uploads/<id>.json
//   The target of the upload. Kept for a while after the upload has finished.
// <base>/<project>/.uploads/<id>.tmp
//   A file being written that cannot be resumed.
// <base>/<project>/.uploads/<id>.trash
//   An artifact being removed.
// <base>/<project>/.uploads.<id>.trash
//   The same, if the disk had no room for it in .uploads.
// <base>/.staging/<id>/
//   A workspace being created. Orphaned ones are removed at start-up.
// <base>/.templates/<name>/template.yaml, <base>/.templates/<name>/files/
//   A template, which an operator makes by hand.
// <base>/.trash/<time>-<purge>.<uid>.<project>/
//   A deleted workspace: the time of its deletion and the earliest time of
//   its purge, in microseconds since 1970.
// <base>/.trash/<time>.<uid>.<project>/
//   The same without a purge time, as the first release wrote it.
// In both forms, <time> 0 marks a workspace that is being removed.
// <base>/.trash.0.<uid>.<project>/
//   A workspace being removed that was deleted permanently while the disk had
//   no room for it in .trash.
// <base>/.workspaced/lock
//   Locked by the running server. JSON: its identity and its addresses.
// <base>/.workspaced/.gitignore
//   "*": keeps the server's files out of version control.
// <base>/.workspaced/socket
//   The server's Unix socket, unless the path is too long for a socket.
// <base>/.workspaced/checkpoint
//   The saved index: a cache, safe to delete.
// <base>/.workspaced/doctor-<time>/
//   Entries that `workspaced doctor --repair` moved aside, by former path.
// <base>/.workspaced/leases/<project>
//   The lease on a workspace. JSON. Removed when the lease ends.
// <base>/.workspaced/leases/.<project>.<id>
//   A lease being written. Orphaned ones are removed at start-up.
// <base>/.workspaced/fences
//   A number larger than every fence granted so far. If the file is missing,
//   fences continue from the number of milliseconds since 1970.
// <base>/.workspaced/fences.<id>
//   The same file being written. Orphaned ones are removed at start-up.
// <base>/.workspaced/log
//   The log of a server that a client started.
namespace mlops::core::layout {

inline constexpr absl::string_view kRecord = "workspace.yaml";
// The directory is in the workspace, so that it moves with the workspace, is
// deleted with it, and is on the same file system.
inline constexpr absl::string_view kUploadsDir = ".uploads";
inline constexpr absl::string_view kPartSuffix = ".part";
inline constexpr absl::string_view kAboutSuffix = ".json";
inline constexpr absl::string_view kTempSuffix = ".tmp";
inline constexpr absl::string_view kRemovedSuffix = ".trash";
inline constexpr absl::string_view kStagingDir = ".staging";
inline constexpr absl::string_view kTemplatesDir = ".templates";
inline constexpr absl::string_view kTemplateFile = "template.yaml";
inline constexpr absl::string_view kTemplateFilesDir = "files";
inline constexpr absl::string_view kTrashDir = ".trash";
inline constexpr absl::string_view kServerDir = ".workspaced";
inline constexpr absl::string_view kLockFile = "lock";
inline constexpr absl::string_view kGitignoreFile = ".gitignore";
inline constexpr absl::string_view kSocketFile = "socket";
inline constexpr absl::string_view kCheckpointFile = "checkpoint";
inline constexpr absl::string_view kLeasesDir = "leases";
inline constexpr absl::string_view kFencesFile = "fences";

// Returns "<project>/workspace.yaml".
std::string RecordPath(const ProjectName& project);

// Returns the name of a temporary file beside the record. `id` makes it unique.
std::string RecordTempFile(absl::string_view id);
// Returns whether `name` is such a name.
bool IsRecordTempFile(absl::string_view name);

// Returns the name, in the workspace's directory, of an artifact to be removed
// for which .uploads has no room. `id` must be the output of base::RandomId().
std::string FormatHiddenArtifact(absl::string_view id);
// Returns the id if `name` is such a name, otherwise "".
absl::string_view ParseHiddenArtifact(absl::string_view name);

// The parts of a name in the trash.
struct TrashName {
  // The epoch means that the workspace is being removed and cannot be restored.
  absl::Time delete_time;
  // Absent in names written by the first release.
  std::optional<absl::Time> purge_time;
  std::string uid;
  ProjectName project;

  bool being_removed() const { return delete_time == absl::UnixEpoch(); }
};
std::string FormatTrashName(const TrashName& name);
// Returns nullopt if `text` is not the output of FormatTrashName().
std::optional<TrashName> ParseTrashName(absl::string_view text);

// Returns the name, in the base directory, of a workspace to be removed for
// which the trash has no room. `id` makes it unique.
std::string FormatHiddenName(absl::string_view id, const ProjectName& project);
// Returns whether `text` is the output of FormatHiddenName().
bool IsHiddenName(absl::string_view text);

}  // namespace mlops::core::layout

#endif  // MLOPS_SERVICE_CORE_LAYOUT_H_
