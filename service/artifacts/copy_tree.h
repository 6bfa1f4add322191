#ifndef MLOPS_SERVICE_ARTIFACTS_COPY_TREE_H_
#define MLOPS_SERVICE_ARTIFACTS_COPY_TREE_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "service/artifacts/stage.h"
#include "service/core/project_name.h"
#include "service/core/usage.h"
#include "service/fs/dir.h"

namespace mlops::artifacts {

// The amount copied so far.
struct CopyProgress {
  // Regular files.
  int64_t file_count = 0;
  int64_t size_bytes = 0;
};

struct TreeCopy {
  // The workspace to copy from.
  core::ProjectName project;
  const fs::Dir& from;
  StagedTree& to;
  // Which of the five directories to copy with their content.
  std::vector<std::string> directories;
};

// Copies directories of a workspace, even while other programs use it. Copies
// each file in one of its states, and a database with every transaction that
// was committed before (consistent_copy.h). Files share blocks with the source
// if the file system can. Keeps permissions and modification times, and owners
// as far as this process may assign them. Copies symbolic links as links, and
// a file with several hard links as several files. Omits files and directories
// that vanish meanwhile. Does not sync: call StagedTree::Sync() afterwards.
//
// Calls `report` from time to time, on this thread. Memory is bounded
// by the entries of the directories on the current path, and the number of open
// descriptors by a constant. Returns CANCELLED once `cancelled` returns true,
// FAILED_PRECONDITION/PATH_UNSUITABLE if there is a device, FIFO or socket,
// ABORTED/WORKSPACE_BUSY if a file changes during each attempt to copy it,
// and the errors of fs::Dir.
absl::StatusOr<CopyProgress> CopyTree(
    const TreeCopy& copy, core::Cancelled cancelled,
    absl::FunctionRef<void(const CopyProgress&)> report);

}  // namespace mlops::artifacts

#endif  // MLOPS_SERVICE_ARTIFACTS_COPY_TREE_H_
