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
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "service/base/thread_pool.h"
#include "service/fs/dir.h"

namespace mlops::fs {

// The content of a tree or of a part of it.
struct TreeUsage {
  // Whether any of its directories could be read.
  bool exists = false;
  // Number of regular files. A file with several hard links counts
  // once for each.
  int64_t file_count = 0;
  // Sum of their sizes.
  int64_t size_bytes = 0;
  // Newest time of any file or directory, including the top.
  absl::Time modify_time = absl::InfinitePast();
  // The first 10 errors. The counts above omit what could not be read.
  std::vector<absl::Status> problems;
};

// The content of one directory when a scan read it.
struct KnownDir {
  // 0 means that nothing is known.
  uint64_t inode = 0;
  uint64_t device = 0;
  int64_t modify_ns = 0;
  int64_t change_ns = 0;
  int64_t file_count = 0;
  // Names of the subdirectories, each terminated by a NUL.
  std::string subdirectories;
  // One for each of them.
  std::unique_ptr<KnownDir[]> children;
};

// Remembers the number of files in each directory of a tree. A later scan
// that only counts files skips directories whose stamp has not changed;
// a scan that needs sizes skips only those without files. May be used
// by one scan at a time.
struct KnownTree {
  explicit KnownTree(size_t max_bytes) : max_bytes(max_bytes) {}

  // Directories beyond this limit are read each time.
  const size_t max_bytes;
  // Memory in use.
  std::atomic<size_t> bytes = 0;
  KnownDir top;
};

struct ScanOptions {
  // Directories at the top of the tree that are counted separately.
  // Each may lie on its own file system.
  absl::Span<const absl::string_view> groups;
  // If true, only files are counted: size_bytes stays 0 and modify_time is not
  // set.
  bool counts_only = false;
  // Threads that share the work of a large tree. May be null. Several scans
  // may share a pool.
  base::ThreadPool* helpers = nullptr;
  // Results of earlier scans of this tree with the same groups, which this scan
  // uses and updates. May be null.
  KnownTree* known = nullptr;
  // A time before the scan, by the file system's clock.
  absl::Time now = absl::Now();
};

// Counts the tree `path` below `dir`. Returns one usage for each of
// options.groups, and a last one for the rest, including the files at the top.
// Does not follow symbolic links or enter other file systems, and omits entries
// that vanish meanwhile. Polls `cancelled` before each directory,
// only on the calling thread.
//
// The number of open descriptors is bounded, however deep the tree is.
// Memory is bounded by the names of the directories that were found but not yet
// read, regardless of the number of files.
//
// Returns CANCELLED if `cancelled` returned true; NOT_FOUND if the tree was
// removed or replaced meanwhile, because the sums would then describe a state
// that never existed; and the errors of Dir if `path` itself cannot be read.
absl::StatusOr<std::vector<TreeUsage>> ScanTree(
    const Dir& dir, absl::string_view path, const ScanOptions& options,
    absl::FunctionRef<bool()> cancelled);

}  // namespace mlops::fs

#endif  // MLOPS_SERVICE_FS_SCAN_H_
