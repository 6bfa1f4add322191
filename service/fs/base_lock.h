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

// Gives one process at a time the right to change a base directory. The kernel
// holds two locks, which end with the process: one on the directory itself,
// which cannot be circumvented by removing a file; and one on a file below it,
// which identifies the holder and also works where directories cannot be locked
// (NFS). The file stays when the holder exits, because a new file of that name
// would be a different lock.
//
// IsStillNamed() may be called from any thread; all other methods
// only from one.
class BaseLock {
 public:
  // The lock file's path below the base: `<base>/<dir>/<file>`. MakeFile()
  // creates the directory and the file if they are missing.
  struct Names {
    std::string dir;
    std::string file;
  };

  // Locks the directory `base_path`, an absolute path without symbolic links,
  // for the lifetime of the returned object. Writes nothing; MakeFile()
  // creates the lock file. Returns
  // - FAILED_PRECONDITION (no reason) if another process holds the lock;
  // - PERMISSION_DENIED if this process may not read the directory;
  // - RESOURCE_EXHAUSTED, INVALID_ARGUMENT or INTERNAL/IO_ERROR {path, errno},
  //   as MakeFile() does, if the directory cannot be opened for another reason.
  static absl::StatusOr<std::unique_ptr<BaseLock>> Acquire(
      const std::string& base_path, Names names);

  // Returns an object that only watches the base's name, and locks and writes
  // nothing. Returns the same errors as Acquire() if the base cannot be opened.
  static absl::StatusOr<std::unique_ptr<BaseLock>> Watch(
      const std::string& base_path);

  // Returns the text that the holder, or the last holder, wrote: at most 4 KiB,
  // and "" if the file cannot be read. Needs no lock.
  static std::string ReadContent(const std::string& base_path,
                                 const Names& names);

  // Returns whether a process holds one of the locks on `base_path`. Takes
  // no lock and creates nothing, so it never gets in the way of a server.
  // Returns false also if the system does not say: a lock on the directory
  // alone is visible only in /proc/locks.
  static bool IsHeld(const std::string& base_path, const Names& names);

  // Returns whether the paths of the lock file and the base still lead
  // to the locked file and directory. If not, someone has removed, moved
  // or replaced one of them, and another process may own the current ones.
  // Makes one system call. Returns true after an error that says nothing
  // about the names, such as EIO.
  bool IsStillNamed() const;

  // Returns whether MakeFile() has succeeded.
  bool has_file() const { return has_file_.load(std::memory_order_acquire); }
  // Creates and locks the file. No-op if it has already succeeded. Returns
  // - FAILED_PRECONDITION (no reason) if another process holds its lock;
  // - PERMISSION_DENIED if this process may not write there, or the file
  //   system is read-only;
  // - RESOURCE_EXHAUSTED if the disk is full: the directory stays locked,
  //   so retry later;
  // - INVALID_ARGUMENT if `dir` is a symbolic link or not a directory,
  //   or `file` is a symbolic link or not a regular file;
  // - INTERNAL/IO_ERROR {path, errno} if a system call fails
  //   for another reason.
  absl::Status MakeFile();

  // Replaces the content of the file. Returns UNAVAILABLE if there is no file
  // yet, otherwise the errors of MakeFile() if the file cannot be written.
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
  // Set, with file_id_, before has_file_.
  base::UniqueFd file_fd_;
  Id file_id_;
  std::atomic<bool> has_file_ = false;
};

}  // namespace mlops::fs

#endif  // MLOPS_SERVICE_FS_BASE_LOCK_H_
