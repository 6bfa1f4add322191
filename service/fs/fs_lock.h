#ifndef MLOPS_SERVICE_FS_FS_LOCK_H_
#define MLOPS_SERVICE_FS_FS_LOCK_H_

#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "proto/cpp/base/unique_fd.h"

namespace mlops::fs {

// A file that one process at a time holds locked, and in which it says who it is. The lock ends with the process; the
// file stays, since a new one under the same name would be another lock. Not thread-safe.
class LockFile {
 public:
  // Locks `path`, which is made if missing, for this object's life. FAILED_PRECONDITION (no reason) if another process
  // holds it; INTERNAL/IO_ERROR {path, errno} if it cannot be opened or locked.
  static absl::StatusOr<std::unique_ptr<LockFile>> Acquire(const std::string& path);

  // What the holder, or the last one, wrote; at most 4 KiB, and "" if the file cannot be read. Needs no lock.
  static std::string ReadContent(const std::string& path);

  // Whether the file still has its name. If not, another process may hold a lock under that name: the file, or a
  // directory above it, was removed or moved.
  bool IsStillNamed() const;

  // Replaces what stands in the file. INTERNAL/IO_ERROR {path, errno} if it cannot be written.
  absl::Status WriteContent(absl::string_view text);

 private:
  LockFile(base::UniqueFd fd, std::string path) : fd_(std::move(fd)), path_(std::move(path)) {}

  const base::UniqueFd fd_;
  const std::string path_;
};

}  // namespace mlops::fs

#endif  // MLOPS_SERVICE_FS_FS_LOCK_H_
