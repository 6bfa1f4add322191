#ifndef MLOPS_SERVICE_FS_ATOMIC_FILE_H_
#define MLOPS_SERVICE_FS_ATOMIC_FILE_H_

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "service/fs/dir.h"

namespace mlops::fs {

// Creates `path` with `data`, syncs it and closes it. Does not sync
// the directory entry. On failure, removes the file if possible.
// If `like` is given, the file gets its owner and mode as CreateFileLike()
// does. Returns the errors of Dir.
absl::Status WriteNewFile(Dir& dir, absl::string_view path,
                          absl::string_view data, absl::string_view like = "");

}  // namespace mlops::fs

#endif  // MLOPS_SERVICE_FS_ATOMIC_FILE_H_
