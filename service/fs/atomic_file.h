#ifndef MLOPS_SERVICE_FS_ATOMIC_FILE_H_
#define MLOPS_SERVICE_FS_ATOMIC_FILE_H_

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "service/fs/dir.h"

namespace mlops::fs {

// Creates `path` with `data`, synced and closed; the directory entry is not
// synced. On failure nothing of that name is left behind, if it can be removed.
// With `like`, as CreateFileLike() makes it. Errors as Dir.
absl::Status WriteNewFile(Dir& dir, absl::string_view path,
                          absl::string_view data, absl::string_view like = "");

}  // namespace mlops::fs

#endif  // MLOPS_SERVICE_FS_ATOMIC_FILE_H_
