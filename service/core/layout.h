#ifndef MLOPS_SERVICE_CORE_LAYOUT_H_
#define MLOPS_SERVICE_CORE_LAYOUT_H_

#include <optional>
#include <string>

#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "service/core/project_name.h"

// Every name the server uses on disk.
//
//   <base>/<project>/workspace.yaml         the record; a directory without it
//   is no workspace <base>/<project>/.workspace.yaml.<id>   a record being
//   written; a leftover goes with the next update
//   <base>/<project>/.uploads/<id>.part     what came of an upload; <id> as the
//   client chose it <base>/<project>/.uploads/<id>.json     what it is to
//   become; stays for a while when that is done
//   <base>/<project>/.uploads/<id>.tmp      a file being written that nobody
//   can resume <base>/<project>/.uploads/<id>.trash    an artifact being
//   removed <base>/.staging/<id>/                   a workspace being made;
//   leftovers are removed at start-up
//   <base>/.trash/<time>-<purge>.<uid>.<project>/   a deleted workspace: when
//   it was deleted and until when it stays at
//                                                   least, in microseconds
//                                                   since 1970
//   <base>/.trash/<time>.<uid>.<project>/   likewise, from before the second
//   time was kept; <time> 0: being removed <base>/.workspaced/lock locked by
//   the server that runs; JSON of who it is and where it listens
//   <base>/.workspaced/.gitignore           "*": what lies here is nobody's to
//   keep <base>/.workspaced/socket               the Unix socket it listens on,
//   unless the path is too long for one <base>/.workspaced/checkpoint what the
//   index held; a cache, safe to delete <base>/.workspaced/log log of a server
//   that a client started
namespace mlops::core::layout {

inline constexpr absl::string_view kRecord = "workspace.yaml";
// In the workspace, so that it moves and goes with it, and lies on its file
// system.
inline constexpr absl::string_view kUploadsDir = ".uploads";
inline constexpr absl::string_view kPartSuffix = ".part";
inline constexpr absl::string_view kAboutSuffix = ".json";
inline constexpr absl::string_view kTempSuffix = ".tmp";
inline constexpr absl::string_view kRemovedSuffix = ".trash";
inline constexpr absl::string_view kStagingDir = ".staging";
inline constexpr absl::string_view kTrashDir = ".trash";
inline constexpr absl::string_view kServerDir = ".workspaced";
inline constexpr absl::string_view kLockFile = "lock";
inline constexpr absl::string_view kGitignoreFile = ".gitignore";
inline constexpr absl::string_view kSocketFile = "socket";
inline constexpr absl::string_view kCheckpointFile = "checkpoint";

// "<project>/workspace.yaml".
std::string RecordPath(const ProjectName& project);

// Name of a temporary file beside the record; `id` makes it unique.
std::string RecordTempFile(absl::string_view id);
bool IsRecordTempFile(absl::string_view name);

// A name in the trash, taken apart.
struct TrashName {
  // The epoch: being removed, no longer to be restored.
  absl::Time delete_time;
  // Absent from names of the first release.
  std::optional<absl::Time> purge_time;
  std::string uid;
  ProjectName project;

  bool being_removed() const { return delete_time == absl::UnixEpoch(); }
};
std::string FormatTrashName(const TrashName& name);
std::optional<TrashName> ParseTrashName(absl::string_view text);

}  // namespace mlops::core::layout

#endif  // MLOPS_SERVICE_CORE_LAYOUT_H_
