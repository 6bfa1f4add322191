#ifndef MLOPS_SERVICE_FS_MOVE_TREE_H_
#define MLOPS_SERVICE_FS_MOVE_TREE_H_

#include <string>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "service/fs/dir.h"

namespace mlops::fs {

// One directory that is to have another name or place.
struct TreeMove {
  Dir& from;
  std::string name;
  Dir& to;
  std::string to_name;
  RenameMode mode = RenameMode::kNoReplace;
  // For the tree while it is being made; on the file system of `to`.
  Dir& staging;
  std::string staging_name;
  // The file in the directory that leaves the old place first; "" if there is
  // none.
  std::string first;
};

// Moves a directory that Dir::Rename cannot move (IsCrossDevice()), such as one
// in a lower layer of an overlay: makes the same directories in `staging`, with
// a hard link to each file, gives them their new name by one rename, and
// removes the old ones. Files keep their identity, so that whoever writes to
// one goes on writing to the right one, and what comes to the old place
// meanwhile is moved over. A crash leaves the old tree, or both with the same
// files, or the new one and a part of the old one without `first`.
//
// `sync` is called to make the new name durable before anything is removed.
// Errors as Dir; where files cannot be linked either, PATH_UNSUITABLE, and
// nothing has changed.
absl::Status MoveTree(const TreeMove& move,
                      absl::FunctionRef<absl::Status()> sync);

}  // namespace mlops::fs

#endif  // MLOPS_SERVICE_FS_MOVE_TREE_H_
