#ifndef MLOPS_SERVICE_FS_BASE_LOCK_H_
#define MLOPS_SERVICE_FS_BASE_LOCK_H_

#include <sys/types.h>

#include <atomic>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "proto/cpp/base/unique_fd.h"

namespace mlops::fs {

// The right of one process at a time to change what is below a base directory.
// The kernel holds two locks for it, which end with the process: one on the
// directory itself, which nobody can take by removing a file, and one on a file
// below it, in which the holder says who it is and which also works where
// directories cannot be locked (NFS). The file stays when the holder ends,
// since a new file of that name would be another lock.
//
// IsStillNamed() may be called from any thread; everything else is for one
// thread.
class BaseLock {
 public:
  // Names of the file below the base: `<base>/<dir>/<file>`. MakeFile() makes
  // both if they are missing.
  struct Names {
    std::string dir;
    std::string file;
  };

  // Locks the directory `base_path`, an absolute path without symbolic links,
  // for this object's life, and writes nothing. MakeFile() does the rest.
  //   FAILED_PRECONDITION (no reason) if another process holds the lock;
  //   PERMISSION_DENIED if this process may not read the directory;
  //   INTERNAL/IO_ERROR {path, errno} if it cannot be opened otherwise.
  static absl::StatusOr<std::unique_ptr<BaseLock>> Acquire(
      const std::string& base_path, Names names);

  // Locks nothing, writes nothing, and only watches the base's name.
  // INTERNAL/IO_ERROR if it cannot be opened.
  static absl::StatusOr<std::unique_ptr<BaseLock>> Watch(
      const std::string& base_path);

  // What the holder, or the last one, wrote; at most 4 KiB, and "" if the file
  // cannot be read. Needs no lock.
  static std::string ReadContent(const std::string& base_path,
                                 const Names& names);

  // Whether the lock file and the base are still the ones that are found by
  // their paths. If not, somebody removed, moved or replaced one of them, and
  // another process may own what has these names now. One system call. A
  // failure that says nothing about the names, such as EIO, counts as yes.
  bool IsStillNamed() const;

  bool has_file() const { return has_file_.load(std::memory_order_acquire); }
  // Makes and locks the file, unless that is done.
  //   FAILED_PRECONDITION (no reason) if another process holds its lock;
  //   PERMISSION_DENIED if this process may not write there, or the file system
  //   is read-only; RESOURCE_EXHAUSTED if the disk is full: to be tried again
  //   later, the directory is locked; INVALID_ARGUMENT if `dir` is a symbolic
  //   link or no directory, or `file` is no regular file; INTERNAL/IO_ERROR
  //   {path, errno} if a system call fails otherwise.
  absl::Status MakeFile();

  // Replaces what stands in the file. UNAVAILABLE while there is no file,
  // INTERNAL/IO_ERROR {path, errno} if it cannot be written.
  absl::Status WriteContent(absl::string_view text);

 private:
  struct Id {
    dev_t device = 0;
    ino_t inode = 0;
  };

  BaseLock(std::string base_path, Names names);
  absl::Status OpenBase();
  absl::StatusOr<base::UniqueFd> OpenDir() const;

  const std::string base_path_;
  const Names names_;
  const std::string file_path_;
  base::UniqueFd base_fd_;
  Id base_id_;
  base::UniqueFd file_fd_;  // With file_id_, set before has_file_.
  Id file_id_;
  std::atomic<bool> has_file_ = false;
};

}  // namespace mlops::fs

#endif  // MLOPS_SERVICE_FS_BASE_LOCK_H_
