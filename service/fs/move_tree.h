#ifndef MLOPS_SERVICE_FS_MOVE_TREE_H_
#define MLOPS_SERVICE_FS_MOVE_TREE_H_

#include <string>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "service/fs/dir.h"

namespace mlops::fs {

// The arguments of MoveTree(): one directory to rename or move.
struct TreeMove {
  Dir& from;
  std::string name;
  Dir& to;
  std::string to_name;
  RenameMode mode = RenameMode::kNoReplace;
  // Where the new tree is built; on the file system of `to`.
  Dir& staging;
  std::string staging_name;
  // The file in the directory to remove from the old place first; "" for none.
  std::string first;
};

// Moves a directory that Dir::Rename cannot move (IsCrossDevice()),
// such as one in a lower layer of an overlay. It builds the same directories
// in `staging` with a hard link to each file, renames the result to the new
// name, and removes the old tree. Files keep their identity, so that a program
// that is writing to one continues to write to the right file. Files that are
// added to the old tree meanwhile are moved too. A crash leaves the old tree,
// or both trees with the same files, or the new tree and a part of the old
// one without `first`.
//
// Calls `sync` to make the new name durable before it removes anything.
// Returns the errors of Dir, and PATH_UNSUITABLE, with nothing changed,
// if the files cannot be linked.
absl::Status MoveTree(const TreeMove& move,
                      absl::FunctionRef<absl::Status()> sync);

}  // namespace mlops::fs

#endif  // MLOPS_SERVICE_FS_MOVE_TREE_H_
