#ifndef MLOPS_SERVICE_ARTIFACTS_LIST_H_
#define MLOPS_SERVICE_ARTIFACTS_LIST_H_

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "service/artifacts/dir_names.h"
#include "service/artifacts/tree.h"
#include "service/fs/dir.h"

namespace mlops::artifacts {

struct TreePage {
  std::vector<Artifact> artifacts;
  // The path of the last artifact, as on disk.
  std::string last;
  bool more = false;
};

// Returns one page of the files and directories in `dir`, whose path is `path`.
// "" stands for the workspace, of which only kDirectories are listed.
// With `recursive`, the page also covers everything below. Paths on disk
// are compared name by name as bytes, so a directory comes right before
// its content. The page begins after the path `after`, which need not exist any
// more; "" means at the beginning.
//
// Omits links, special files, and everything whose path is longer than
// that of an artifact may be. Skips directories below `dir` that disappear or
// that the server may not read.
//
// Memory is bounded by the page size and the depth, however many entries
// a directory has: of each directory, no more names are kept than the page
// has room for. For the following names the directory is read again,
// unless `cache` has them. The number of descriptors is bounded by a constant.
//
// Errors as fs::Dir about `dir`.
absl::StatusOr<TreePage> ListTree(const fs::Dir& dir, const std::string& path,
                                  bool recursive, absl::string_view after,
                                  size_t page_size, DirNamesCache* cache);

}  // namespace mlops::artifacts

#endif  // MLOPS_SERVICE_ARTIFACTS_LIST_H_
