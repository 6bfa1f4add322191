#ifndef MLOPS_TESTS_SUPPORT_MEMORY_DISK_H_
#define MLOPS_TESTS_SUPPORT_MEMORY_DISK_H_

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "service/base/clock.h"
#include "service/fs/dir.h"

namespace mlops::support {

// An in-memory file system that simulates power cuts. The content of a file is
// durable once the file is synced. The creation, renaming or removal of an
// entry is durable once its old or new directory is synced. A power cut may
// lose any combination of changes that are not durable, with two exceptions
// that every journaling file system guarantees: a rename is atomic, and a
// change of an entry survives only together with all earlier changes of that
// entry.
//
// The file system has no symbolic links. Every change advances its clock by one
// second, so that stamps distinguish all states. Thread-safe.
class MemoryDisk {
 public:
  // Called once for each change that is not durable. Returns whether the change
  // survives a power cut.
  using Survives = std::function<bool()>;

  MemoryDisk();
  ~MemoryDisk();

  // Opens the top directory. The disk must outlive it.
  std::unique_ptr<fs::Dir> OpenTop();

  // Loses the changes that are neither durable nor chosen by `survives`. A file
  // keeps all, half or none of its unsynced data. Directories and files that
  // are open must not be used afterwards.
  void CutPower(const Survives& survives);

  // Makes all changes durable.
  void SyncAll();

  base::Clock clock() {
    return [this] { return Now(); };
  }

 private:
  friend class MemoryDir;
  friend class MemoryFile;
  friend class MemoryReader;

  struct Inode;
  using InodePtr = std::shared_ptr<Inode>;
  // A directory entry that now refers to another inode, or to none.
  struct EntryChange {
    InodePtr dir;
    std::string name;
    InodePtr becomes;
  };
  // Entries that change atomically.
  using Change = std::vector<EntryChange>;

  absl::Time Now() const;
  // Returns the regular file at `path`.
  absl::StatusOr<InodePtr> FindFile(const InodePtr& from,
                                    absl::string_view path) const
      ABSL_LOCKS_EXCLUDED(mutex_);
  static fs::FileStamp Stamp(const Inode& inode);
  InodePtr NewInode(fs::EntryType type) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  absl::StatusOr<InodePtr> Find(const InodePtr& from,
                                absl::string_view path) const
      ABSL_SHARED_LOCKS_REQUIRED(mutex_);
  // Returns the parent directory of `path`, and the last name of `path`.
  absl::StatusOr<std::pair<InodePtr, std::string>> FindParent(
      const InodePtr& from, absl::string_view path) const
      ABSL_SHARED_LOCKS_REQUIRED(mutex_);
  // Creates an entry. Returns ALREADY_EXISTS if the name is taken.
  absl::StatusOr<InodePtr> Add(const InodePtr& from, absl::string_view path,
                               fs::EntryType type) ABSL_LOCKS_EXCLUDED(mutex_);
  absl::Status Remove(const InodePtr& from, absl::string_view path,
                      fs::EntryType type) ABSL_LOCKS_EXCLUDED(mutex_);
  absl::Status Rename(const InodePtr& from, absl::string_view path,
                      const InodePtr& to, absl::string_view to_path,
                      fs::RenameMode mode) ABSL_LOCKS_EXCLUDED(mutex_);
  // Makes a change visible, but not durable.
  void Apply(Change change) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // Makes all changes of `dir` durable.
  void SyncDir(const InodePtr& dir) ABSL_LOCKS_EXCLUDED(mutex_);
  // Makes one change durable.
  static void MakeSafe(const Change& change);

  mutable absl::Mutex mutex_;
  absl::Time now_ ABSL_GUARDED_BY(mutex_) =
      absl::FromUnixSeconds(1'700'000'000);
  // All inodes; the top directory is the first.
  std::vector<InodePtr> inodes_ ABSL_GUARDED_BY(mutex_);
  // The changes that are not durable, oldest first.
  std::vector<Change> unsafe_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace mlops::support

#endif  // MLOPS_TESTS_SUPPORT_MEMORY_DISK_H_
