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

// A file system in memory that knows what a power cut would leave of it. What a
// file holds is safe once the file was synced; an entry made, renamed or
// removed is safe once a directory that it was in, or is in, was synced. What
// is not safe may be lost in any combination, but for two things on which every
// file system with a journal can be relied: a rename happens as a whole, and a
// change of an entry is not kept without the earlier ones of the same entry.
//
// It has no symbolic links. Every change takes a second of its clock, so that
// stamps tell states apart. Thread-safe.
class MemoryDisk {
 public:
  // Whether one change that is not safe survives a power cut; asked for each.
  using Survives = std::function<bool()>;

  MemoryDisk();
  ~MemoryDisk();

  // The top directory. The disk must outlive it.
  std::unique_ptr<fs::Dir> OpenTop();

  // Loses what is not safe and did not survive. Directories and files that are
  // open must not be used afterwards. Of data that was not synced, a file that
  // survives holds all, half or nothing.
  void CutPower(const Survives& survives);

  // Makes everything safe.
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
  // One entry of a directory that now names something else, or nothing.
  struct EntryChange {
    InodePtr dir;
    std::string name;
    InodePtr becomes;
  };
  // Entries that change together.
  using Change = std::vector<EntryChange>;

  absl::Time Now() const;
  // The regular file `path`.
  absl::StatusOr<InodePtr> FindFile(const InodePtr& from,
                                    absl::string_view path) const
      ABSL_LOCKS_EXCLUDED(mutex_);
  static fs::FileStamp Stamp(const Inode& inode);
  InodePtr NewInode(fs::EntryType type) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  absl::StatusOr<InodePtr> Find(const InodePtr& from,
                                absl::string_view path) const
      ABSL_SHARED_LOCKS_REQUIRED(mutex_);
  // The directory that holds the last name of `path`, and that name.
  absl::StatusOr<std::pair<InodePtr, std::string>> FindParent(
      const InodePtr& from, absl::string_view path) const
      ABSL_SHARED_LOCKS_REQUIRED(mutex_);
  // Makes a new entry; ALREADY_EXISTS if there is one.
  absl::StatusOr<InodePtr> Add(const InodePtr& from, absl::string_view path,
                               fs::EntryType type) ABSL_LOCKS_EXCLUDED(mutex_);
  absl::Status Remove(const InodePtr& from, absl::string_view path,
                      fs::EntryType type) ABSL_LOCKS_EXCLUDED(mutex_);
  absl::Status Rename(const InodePtr& from, absl::string_view path,
                      const InodePtr& to, absl::string_view to_path,
                      fs::RenameMode mode) ABSL_LOCKS_EXCLUDED(mutex_);
  void Apply(Change change) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void SyncDir(const InodePtr& dir) ABSL_LOCKS_EXCLUDED(mutex_);
  static void MakeSafe(const Change& change);

  mutable absl::Mutex mutex_;
  absl::Time now_ ABSL_GUARDED_BY(mutex_) =
      absl::FromUnixSeconds(1'700'000'000);
  std::vector<InodePtr> inodes_ ABSL_GUARDED_BY(mutex_);  // The top first.
  // In the order in which they were made.
  std::vector<Change> unsafe_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace mlops::support

#endif  // MLOPS_TESTS_SUPPORT_MEMORY_DISK_H_
