#ifndef MLOPS_SERVICE_FS_ATOMIC_FILE_H_
#define MLOPS_SERVICE_FS_ATOMIC_FILE_H_

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "service/fs/dir.h"

namespace mlops::fs {

// Creates `path` with `data`, synced and closed; the directory entry is not synced. On failure nothing of that name is
// left behind, if it can be removed. Errors as Dir.
absl::Status WriteNewFile(Dir& dir, absl::string_view path, absl::string_view data);

// Makes `path` hold `data`, whole or not at all also after a power cut: a new file `temp_path` (in the same directory),
// synced, renamed over `path`, and `dir` synced. Errors as Dir; after one, `path` is as it was unless only the last
// sync failed.
absl::Status ReplaceFile(Dir& dir, absl::string_view path, absl::string_view temp_path, absl::string_view data);

}  // namespace mlops::fs

#endif  // MLOPS_SERVICE_FS_ATOMIC_FILE_H_
