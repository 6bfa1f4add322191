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

// A file system in memory that simulates power cuts. The content of a file is
// safe once the file has been synced. A created, renamed or removed entry is
// safe once a directory that it was in, or is in, has been synced. Any
// combination of unsafe changes may be lost, except for two guarantees that
// every journaling file system gives: a rename is atomic, and a change of an
// entry survives only if all earlier changes of that entry do.
//
// It has no symbolic links. Its clock advances by a second with every change,
// so that each state has different stamps. Thread-safe.
class MemoryDisk {
 public:
  // Decides whether an unsafe change survives a power cut. Called once for each
  // change.
  using Survives = std::function<bool()>;

  MemoryDisk();
  ~MemoryDisk();

  // Opens the top directory. The disk must outlive it.
  std::unique_ptr<fs::Dir> OpenTop();

  // Loses the unsafe changes that do not survive. Of a file's unsynced data,
  // all, half or nothing survives. Directories and files that are open must not
  // be used afterwards.
  void CutPower(const Survives& survives);

  // Makes all changes durable.
  void SyncAll();
  // Whether Dir::SyncAll() does that too. To be set before the disk is used.
  void set_can_sync_all(bool value) { can_sync_all_ = value; }

  base::Clock clock() {
    return [this] { return Now(); };
  }

 private:
  friend class MemoryDir;
  friend class MemoryFile;
  friend class MemoryReader;

  struct Inode;
  using InodePtr = std::shared_ptr<Inode>;
  // A change of one entry of a directory, which then names the inode `becomes`,
  // or no longer exists if that is null.
  struct EntryChange {
    InodePtr dir;
    std::string name;
    InodePtr becomes;
  };
  // Entries that change atomically.
  using Change = std::vector<EntryChange>;

  absl::Time Now() const;
  // Finds the regular file `path`; PATH_UNSUITABLE if it is something else.
  absl::StatusOr<InodePtr> FindFile(const InodePtr& from,
                                    absl::string_view path) const
      ABSL_LOCKS_EXCLUDED(mutex_);
  static fs::FileStamp Stamp(const Inode& inode);
  InodePtr NewInode(fs::EntryType type) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  absl::StatusOr<InodePtr> Find(const InodePtr& from,
                                absl::string_view path) const
      ABSL_SHARED_LOCKS_REQUIRED(mutex_);
  // Finds the directory that contains the last component of `path`, and returns
  // it with that component.
  absl::StatusOr<std::pair<InodePtr, std::string>> FindParent(
      const InodePtr& from, absl::string_view path) const
      ABSL_SHARED_LOCKS_REQUIRED(mutex_);
  // Creates an entry with a new inode; ALREADY_EXISTS if there is an entry.
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

  bool can_sync_all_ = false;
  mutable absl::Mutex mutex_;
  absl::Time now_ ABSL_GUARDED_BY(mutex_) =
      absl::FromUnixSeconds(1'700'000'000);
  // The top directory is the first.
  std::vector<InodePtr> inodes_ ABSL_GUARDED_BY(mutex_);
  // The unsafe changes, oldest first.
  std::vector<Change> unsafe_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace mlops::support

#endif  // MLOPS_TESTS_SUPPORT_MEMORY_DISK_H_
