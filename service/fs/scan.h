#ifndef MLOPS_SERVICE_FS_SCAN_H_
#define MLOPS_SERVICE_FS_SCAN_H_

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "service/base/thread_pool.h"
#include "service/fs/dir.h"

namespace mlops::fs {

// What a tree holds, or a part of it.
struct TreeUsage {
  // Whether any directory of it could be read.
  bool exists = false;
  // Regular files; a file with several links counts at each.
  int64_t file_count = 0;
  int64_t size_bytes = 0;  // The sum of their sizes.
  // The newest of any file or directory, the top included.
  absl::Time modify_time = absl::InfinitePast();
  // What could not be read, at most 10; what it holds is missing above.
  std::vector<absl::Status> problems;
};

// What one directory held when a scan read it.
struct KnownDir {
  uint64_t inode = 0;  // 0: nothing is known.
  uint64_t device = 0;
  int64_t modify_ns = 0;
  int64_t change_ns = 0;
  int64_t file_count = 0;
  std::string subdirectories;            // Their names, each ended by a NUL.
  std::unique_ptr<KnownDir[]> children;  // Likewise.
};

// The numbers of files in a tree by directory, as scans found them: those whose
// stamp is still the same need not be read again to be counted, nor those
// without files to know their size. Used by one scan at a time.
struct KnownTree {
  explicit KnownTree(size_t max_bytes) : max_bytes(max_bytes) {}

  const size_t max_bytes;         // What has no room is read each time.
  std::atomic<size_t> bytes = 0;  // Of memory.
  KnownDir top;
};

struct ScanOptions {
  // Directories right in the tree that are counted each for itself. Each may
  // lie on a file system of its own.
  absl::Span<const absl::string_view> groups;
  // Count files only: size_bytes stays 0, and modify_time is not told.
  bool counts_only = false;
  // Threads that share the work of a tree that turns out to be large; may be
  // null. Several scans may share the pool.
  base::ThreadPool* helpers = nullptr;
  // What earlier scans of this tree, with the same groups, found, for this one
  // to use and bring up to date; may be null.
  KnownTree* known = nullptr;
  // A time before the scan, by the clock of the file system.
  absl::Time now = absl::Now();
};

// Counts the tree `path` below `dir`: one usage for each of options.groups, and
// one for all the rest, the files right in the tree among it. Symbolic links
// are not followed, other file systems not entered; entries that vanish
// meanwhile are not counted. `cancelled` is asked before each directory, on the
// thread of the caller only.
//
// Descriptors are bounded on a tree of any depth; memory by the names of the
// directories that have been found and not yet been read, however many files
// there are.
//
// Returns CANCELLED if `cancelled` said so; NOT_FOUND if the tree was removed
// or replaced meanwhile, so that the sums would be of nothing that ever was;
// errors as Dir if `path` itself cannot be read.
absl::StatusOr<std::vector<TreeUsage>> ScanTree(
    const Dir& dir, absl::string_view path, const ScanOptions& options,
    absl::FunctionRef<bool()> cancelled);

}  // namespace mlops::fs

#endif  // MLOPS_SERVICE_FS_SCAN_H_
