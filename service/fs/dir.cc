#include "service/fs/dir.h"

#include <algorithm>

#include "service/base/status_macros.h"

namespace mlops::fs {
namespace {

void AddFile(const absl::StatusOr<FileStamp>& stamp, DirSummary* summary) {
  if (absl::IsNotFound(stamp.status())) return;
  if (!stamp.ok()) return summary->problem.Update(stamp.status());
  ++summary->file_count;
  summary->size_bytes += stamp->size_bytes;
  summary->modify_time = std::max(summary->modify_time, stamp->modify_time);
}

}  // namespace

// 20 ms is above the tick of any kernel; a file system that keeps whole seconds only is told by their absence.
bool MayBeRacy(const FileStamp& stamp, absl::Time read_time) {
  const absl::Time newest = std::max(stamp.modify_time, stamp.change_time);
  const bool whole_seconds = absl::ToUnixNanos(newest) % 1'000'000'000 == 0;
  return newest + (whole_seconds ? absl::Seconds(2) : absl::Milliseconds(20)) > read_time;
}

absl::Status Dir::Summarize(absl::string_view path, const SummaryOptions& options, DirSummary* summary) const {
  *summary = {};
  std::unique_ptr<Dir> opened;
  if (!path.empty()) {
    ASSIGN_OR_RETURN(opened, OpenDir(path));
  }
  const Dir& dir = opened == nullptr ? *this : *opened;
  ASSIGN_OR_RETURN(summary->stamp, dir.StatSelf());
  if (options.device != 0 && summary->stamp.device != options.device) return absl::OkStatus();
  return dir.ForEachEntry([&](absl::string_view name, EntryType type) {
    if (type == EntryType::kDirectory) {
      summary->subdirectories.append(name.data(), name.size()).push_back('\0');
    } else if (type == EntryType::kFile && options.file_sizes) {
      AddFile(dir.Stat(name), summary);
    } else if (type == EntryType::kFile) {
      ++summary->file_count;
    }
    return true;
  });
}

}  // namespace mlops::fs
