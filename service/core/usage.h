#ifndef MLOPS_SERVICE_CORE_USAGE_H_
#define MLOPS_SERVICE_CORE_USAGE_H_

#include <array>
#include <cstdint>
#include <functional>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "service/core/workspace.h"

namespace mlops::core {

// What one directory of a workspace holds, sub-directories included.
struct DirectoryUsage {
  bool exists = false;
  int64_t file_count = 0;
  int64_t size_bytes = 0;
  // The newest of any file or directory in it.
  absl::Time modify_time = absl::InfinitePast();
};

// What a workspace holds, in the order of kDirectories.
struct Usage {
  std::array<DirectoryUsage, kDirectories.size()> directories;
  // Whatever else lies in the workspace, its record too; not in the sums below.
  DirectoryUsage others;
  bool counts_only = false;  // Whether sizes and times were left out.
  absl::Time scan_time;
  // Not OK if a part could not be counted; the rest is exact.
  absl::Status problem;

  // Of the directories.
  int64_t file_count() const;
  int64_t size_bytes() const;

  // Leaves out sizes and times.
  void KeepCountsOnly();
};

// How much is wanted, and how new.
struct StatusArgs {
  // Zero: exact at the time of the call.
  absl::Duration max_staleness = absl::ZeroDuration();
  bool counts_only = false;
};

// Asked now and then during long work; true means that nobody waits for the
// result any more.
using Cancelled = absl::FunctionRef<bool()>;
inline bool NeverCancelled() { return false; }

// Counts the directories at workspace.root_path now. CANCELLED if told so;
// NOT_FOUND if the workspace is not there, or not any more when all is counted.
// Thread-safe.
using UsageScanner = std::function<absl::StatusOr<Usage>(
    const Workspace& workspace, bool counts_only, Cancelled cancelled)>;

}  // namespace mlops::core

#endif  // MLOPS_SERVICE_CORE_USAGE_H_
