#ifndef MLOPS_SERVICE_ARTIFACTS_LIST_H_
#define MLOPS_SERVICE_ARTIFACTS_LIST_H_

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "service/artifacts/dir_names.h"
#include "service/artifacts/tree.h"
#include "service/fs/dir.h"

namespace mlops::core {

struct TreePage {
  std::vector<Artifact> artifacts;
  std::string last;  // As on disk: the path of the last one.
  bool more = false;
};

// One page of the files and directories in `dir`, whose path is `path`, ""
// being a workspace, of which only kDirectories count; with `recursive` of all
// below it. Paths, on disk, are compared name by name, as bytes: a directory
// comes right before what is in it. The page begins after `after`, "" being the
// beginning, whether or not that exists any more.
//
// Links and special files are left out, as is what has a longer path than an
// artifact may have. Directories below `dir` that vanish or that the server may
// not read are passed over. Memory is bounded by the page and the depth,
// however many entries a directory has: of each no more names are kept than the
// page has room for. For the next ones it is read again, unless `cache` has
// them. Descriptors are bounded by a constant.
//
// Errors as fs::Dir about `dir`.
absl::StatusOr<TreePage> ListTree(const fs::Dir& dir, const std::string& path,
                                  bool recursive, absl::string_view after,
                                  size_t page_size, DirNamesCache* cache);

}  // namespace mlops::core

#endif  // MLOPS_SERVICE_ARTIFACTS_LIST_H_
