#ifndef MLOPS_SERVICE_FS_SCAN_H_
#define MLOPS_SERVICE_FS_SCAN_H_

#include <cstdint>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "service/fs/dir.h"

namespace mlops::fs {

// What a tree holds.
struct TreeUsage {
  int64_t file_count = 0;                         // Regular files; a file with several links counts at each.
  int64_t size_bytes = 0;                         // The sum of their sizes.
  absl::Time modify_time = absl::InfinitePast();  // The newest of any file or directory, the top included.
  // Directories that could not be read, at most 10; what they hold is missing above.
  std::vector<absl::Status> problems;
};

// Counts the tree `path` below `dir`. Symbolic links are not followed, other file systems not entered; entries that
// vanish meanwhile are not counted. `cancelled` is asked before each directory. Bounded in memory and descriptors on a
// tree of any depth. Returns CANCELLED if `cancelled` said so, and errors as Dir if `path` itself cannot be opened.
absl::StatusOr<TreeUsage> ScanTree(const Dir& dir, absl::string_view path, absl::FunctionRef<bool()> cancelled);

}  // namespace mlops::fs

#endif  // MLOPS_SERVICE_FS_SCAN_H_
