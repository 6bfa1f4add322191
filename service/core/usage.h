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

// The content of one directory of a workspace, including subdirectories.
struct DirectoryUsage {
  bool exists = false;
  int64_t file_count = 0;
  int64_t size_bytes = 0;
  // The latest modification time of any file or directory in it.
  absl::Time modify_time = absl::InfinitePast();
};

// The content of a workspace.
struct Usage {
  // In the order of kDirectories.
  std::array<DirectoryUsage, kDirectories.size()> directories;
  // Everything else in the workspace, including its record. Not part of the
  // sums below.
  DirectoryUsage others;
  // Whether sizes and times are omitted.
  bool counts_only = false;
  absl::Time scan_time;
  // Not OK if a part of the workspace could not be counted. The counts of the
  // rest are exact.
  absl::Status problem;

  // Sums over the directories.
  int64_t file_count() const;
  int64_t size_bytes() const;

  // Removes sizes and times.
  void KeepCountsOnly();
};

// The data that a caller needs, and how old it may be.
struct StatusArgs {
  // Zero requires a scan that begins after the call.
  absl::Duration max_staleness = absl::ZeroDuration();
  bool counts_only = false;
};

// Returns true once no caller waits for the result any more. Long operations
// poll it.
using Cancelled = absl::FunctionRef<bool()>;
inline bool NeverCancelled() { return false; }

// Counts the current files in the directories at workspace.root_path.
// Returns CANCELLED if `cancelled` returns true, and NOT_FOUND if the workspace
// does not exist or disappears during the count. Thread-safe.
using UsageScanner = std::function<absl::StatusOr<Usage>(
    const Workspace& workspace, bool counts_only, Cancelled cancelled)>;

}  // namespace mlops::core

#endif  // MLOPS_SERVICE_CORE_USAGE_H_
