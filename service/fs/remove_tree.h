#ifndef MLOPS_SERVICE_FS_REMOVE_TREE_H_
#define MLOPS_SERVICE_FS_REMOVE_TREE_H_

#include <cstdint>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "service/fs/dir.h"

namespace mlops::fs {

struct RemovedTree {
  // Number of regular files removed.
  int64_t file_count = 0;
  // Sum of their sizes.
  int64_t size_bytes = 0;
  // Number of entries removed or moved, of every type.
  int64_t entry_count = 0;
  // Whether the tree itself has been removed.
  bool complete = false;
};

// Removes up to `max_entries` entries of the tree `path` below `dir`, deepest
// first, and `path` itself once it is empty. Call it again until `complete`.
// Makes directories writable whose owner this process is.
// `path` may also be a single file of any type. Removes symbolic links and
// never follows them. Memory and open descriptors are bounded by a constant,
// however deep or wide the tree is. A tree that does not exist is complete.
// Returns the errors of Dir.
absl::StatusOr<RemovedTree> RemoveTree(Dir& dir, absl::string_view path,
                                       int64_t max_entries);

}  // namespace mlops::fs

#endif  // MLOPS_SERVICE_FS_REMOVE_TREE_H_
