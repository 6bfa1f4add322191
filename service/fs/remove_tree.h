#ifndef MLOPS_SERVICE_FS_REMOVE_TREE_H_
#define MLOPS_SERVICE_FS_REMOVE_TREE_H_

#include <cstdint>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "service/fs/dir.h"

namespace mlops::fs {

struct RemovedTree {
  int64_t file_count = 0;   // Regular files removed.
  int64_t size_bytes = 0;   // The sum of their sizes.
  int64_t entry_count = 0;  // Entries removed or moved, of every type.
  bool complete = false;    // Whether the tree itself is gone.
};

// Removes at most `max_entries` entries of the tree `path` below `dir`, the
// deepest first, and `path` itself once it is empty; call again until
// `complete`. `path` may also be a single file of any type. Symbolic links are
// removed, never followed. Memory and open descriptors are bounded by a
// constant, whatever the tree's depth or width. A tree that does not exist is
// complete. Errors as Dir.
absl::StatusOr<RemovedTree> RemoveTree(Dir& dir, absl::string_view path,
                                       int64_t max_entries);

}  // namespace mlops::fs

#endif  // MLOPS_SERVICE_FS_REMOVE_TREE_H_
