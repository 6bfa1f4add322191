#ifndef MLOPS_SERVICE_FS_DIR_H_
#define MLOPS_SERVICE_FS_DIR_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "absl/types/span.h"

namespace mlops::fs {

enum class EntryType { kFile, kDirectory, kSymlink, kOther };

// The state of a file or directory. Equal stamps mean equal content, except
// for changes within one tick of the file system's clock; MayBeRacy() detects
// that case. Equality ignores birth_time and mode, because they do not follow
// from the content, or not every file system reports them.
struct FileStamp {
  EntryType type = EntryType::kOther;
  uint64_t device = 0;
  uint64_t inode = 0;
  int64_t size_bytes = 0;
  absl::Time modify_time;
  absl::Time change_time;
  // InfinitePast if the file system does not report it. Not compared.
  absl::Time birth_time = absl::InfinitePast();
  // The lower nine permission bits. Not compared.
  uint32_t mode = 0644;

  bool operator==(const FileStamp& other) const;
};

// Returns whether a file or directory may have changed at `read_time`
// or later without a new stamp. File times come from a clock that ticks,
// so two changes within a tick leave the same stamp. A stamp is trustworthy
// only if it was older than a tick when the file or directory was read;
// Git applies the same rule to its index.
bool MayBeRacy(const FileStamp& stamp, absl::Time read_time);

// Distinguishes a directory from every other one, past or future; an inode
// number alone does not.
struct DirIdentity {
  uint64_t device = 0;
  uint64_t inode = 0;
  absl::Time birth_time;

  bool operator==(const DirIdentity&) const = default;
  template <typename H>
  friend H AbslHashValue(H h, const DirIdentity& identity) {
    return H::combine(std::move(h), identity.device, identity.inode,
                      identity.birth_time);
  }
};

// Returns the identity of the directory with this state. Returns nullopt if
// the file system does not report birth times, and for a directory that has
// just been created.
std::optional<DirIdentity> IdentityOf(const FileStamp& stamp);

// The content of one directory, without its subdirectories.
struct DirSummary {
  // State of the directory before it was read.
  FileStamp stamp;
  // Number of regular files.
  int64_t file_count = 0;
  // Sum of their sizes.
  int64_t size_bytes = 0;
  // Newest modification time of any of them.
  absl::Time modify_time = absl::InfinitePast();
  // Names of the subdirectories, each terminated by a NUL.
  std::string subdirectories;
  // The first error of a file that could not be examined; it is missing above.
  absl::Status problem;
};

struct SummaryOptions {
  // If false, files are not examined: size_bytes and modify_time keep
  // the values of an empty directory.
  bool file_sizes = true;
  // If not 0, only the stamp is set for a directory on another device.
  uint64_t device = 0;
};

// The content of a small file, and its state before it was read.
struct FileContent {
  std::string data;
  FileStamp stamp;
};

enum class RenameMode {
  // Replaces an existing target (rename(2)).
  kReplace,
  // Returns ALREADY_EXISTS if the target exists.
  kNoReplace,
  // Exchanges source and target, which must both exist. Returns UNIMPLEMENTED
  // where the system cannot.
  kExchange,
};

// A regular file open for reading. It refers to the same file even if its name
// is removed or reused. Not thread-safe.
class FileReader {
 public:
  virtual ~FileReader() = default;
  // Returns the current state of the file.
  virtual absl::StatusOr<FileStamp> Stat() const = 0;
  // Reads up to `size` bytes at `offset` into `buffer`. Returns the number
  // of bytes read, which is less than `size` only at the end of the file.
  virtual absl::StatusOr<size_t> ReadAt(int64_t offset, char* buffer,
                                        size_t size) = 0;
  // Takes a shared advisory lock on a range of bytes, which need not exist,
  // until Unlock() or the destructor. Other readers may share it, in this
  // process too. Returns false if another program holds an exclusive lock.
  // Always succeeds where the system has no such locks.
  virtual absl::StatusOr<bool> TryLock(int64_t /*offset*/, int64_t /*size*/) {
    return true;
  }
  virtual void Unlock(int64_t /*offset*/, int64_t /*size*/) {}
};

// A file open for appending. Not thread-safe. The destructor closes it;
// data that was not synced may be lost.
class File {
 public:
  virtual ~File() = default;
  // Appends `data`.
  virtual absl::Status Write(absl::string_view data) = 0;
  // Appends the pieces in order.
  virtual absl::Status WritePieces(absl::Span<const absl::string_view> pieces);
  // Appends `size` bytes of `source` from `offset` on, sharing blocks
  // and keeping holes if the file system can. `source` must be of the same
  // implementation. Returns the number of bytes copied, which is less than
  // `size` only at the end of the source.
  virtual absl::StatusOr<int64_t> CopyFrom(FileReader& source, int64_t offset,
                                           int64_t size);
  // Starts writing `size` bytes from `offset` on to disk, whoever wrote them,
  // without waiting, so that Sync() takes less time. Not needed for data
  // written through this object.
  virtual void StartWriteback(int64_t /*offset*/, int64_t /*size*/) {}
  // Sets the permission bits, as in FileStamp::mode.
  virtual absl::Status SetMode(uint32_t /*mode*/) { return absl::OkStatus(); }
  // Gives the file the owner, group and permission bits of `like`, as far as
  // this process may assign them; otherwise the file is accessible to fewer
  // users. Never sets set-user-ID and the like. `like` must be of the same
  // implementation.
  virtual absl::Status TakeAccess(const FileReader& like);
  // Sets the time of the last modification. Call it after the last write.
  virtual absl::Status SetModifyTime(absl::Time /*time*/) {
    return absl::OkStatus();
  }
  // Makes the written data durable (fsync(2)). A failure is INTERNAL/IO_ERROR,
  // even if the disk is full, and is final: the data may be lost, and a later
  // success would prove nothing.
  virtual absl::Status Sync() = 0;
  // Closes the file. No other method may be called afterwards.
  virtual absl::Status Close() = 0;
};

// An open directory, and the only access to the file system: everything below
// it is reached through it. A `path` is relative and consists of one name or
// several joined by '/', without "." and "..". Const methods are thread-safe;
// the others are as thread-safe as the system calls they make.
//
// All methods return the same errors:
// - NOT_FOUND (no reason) if there is no such entry;
// - ALREADY_EXISTS (no reason) if the entry exists but must not, or a directory
//   to remove is not empty;
// - FAILED_PRECONDITION/PATH_UNSUITABLE {path, problem} if a component
//   is a symbolic link or not a directory, or the entry has the wrong type;
//   no method ever opens anything outside the directory;
// - RESOURCE_EXHAUSTED/NO_SPACE {path, available_bytes} if the disk
//   or quota is full;
// - INTERNAL/IO_ERROR {path, errno} for any other failure.
class Dir {
 public:
  virtual ~Dir() = default;

  // Opens the directory `path`.
  virtual absl::StatusOr<std::unique_ptr<Dir>> OpenDir(
      absl::string_view path) const = 0;

  // Returns the state of the entry, without following a symbolic link
  // at the end of `path`. Follows links in the components before it,
  // because it is a single system call: use it to compare stamps, never
  // to decide what to trust.
  virtual absl::StatusOr<FileStamp> Stat(absl::string_view path) const = 0;

  // Returns the target of the symbolic link `path`, unchecked, or nullopt
  // if the entry is not a symbolic link.
  virtual absl::StatusOr<std::optional<std::string>> ReadLink(
      absl::string_view path) const = 0;

  // Returns whether `path` is a symbolic link whose target does not exist.
  virtual bool IsBrokenLink(absl::string_view /*path*/) const { return false; }

  // Returns the state of this directory.
  virtual absl::StatusOr<FileStamp> StatSelf() const = 0;

  // Reads a regular file. Returns OUT_OF_RANGE (no reason) if it is larger
  // than `max_bytes`; it then stops reading.
  virtual absl::StatusOr<FileContent> ReadFile(absl::string_view path,
                                               int64_t max_bytes) const = 0;

  // Calls `visit` for each entry except "." and "..", in no particular order,
  // until `visit` returns false. Entries that are added or removed meanwhile
  // may or may not be visited.
  virtual absl::Status ForEachEntry(
      absl::FunctionRef<bool(absl::string_view name, EntryType type)> visit)
      const = 0;

  // Sets `summary` to the content of the directory `path`; "" is this
  // directory. Omits files that vanish meanwhile, and neither follows nor
  // counts symbolic links. The default implementation uses the methods above;
  // implementations with a faster way override it.
  virtual absl::Status Summarize(absl::string_view path,
                                 const SummaryOptions& options,
                                 DirSummary* summary) const;

  // Opens a regular file, and advises the kernel that reads are
  // mostly sequential.
  virtual absl::StatusOr<std::unique_ptr<FileReader>> OpenFile(
      absl::string_view path) const = 0;

  // Creates a directory with the permissions that the umask leaves.
  virtual absl::Status MakeDir(absl::string_view path) = 0;

  // Creates a directory with the mode of `like` and, as far as this process
  // may assign it, its owner. `like` must be of the same implementation.
  virtual absl::Status MakeDirLike(absl::string_view path,
                                   const Dir& /*like*/) {
    return MakeDir(path);
  }

  // Sets the permission bits of this directory, as in FileStamp::mode. Keeps
  // set-group-ID and the like.
  virtual absl::Status SetMode(uint32_t /*mode*/) { return absl::OkStatus(); }
  // As File::TakeAccess().
  virtual absl::Status TakeAccess(const Dir& like);
  // Sets the time of this directory's last modification. Every later change of
  // its entries sets another one.
  virtual absl::Status SetModifyTime(absl::Time /*time*/) {
    return absl::OkStatus();
  }

  // Creates a symbolic link `path` to `target`, which is not checked.
  virtual absl::Status MakeSymlink(absl::string_view path,
                                   absl::string_view target);

  // Creates a hard link `to_path` in `to` to the entry `path`, which must not
  // be a directory. `to` must be of the same implementation and file system.
  // Returns PATH_UNSUITABLE if hard links are not possible there.
  virtual absl::Status Link(absl::string_view path, const Dir& to,
                            absl::string_view to_path);

  // Creates a new, empty file. Returns ALREADY_EXISTS if an entry
  // of that name exists.
  virtual absl::StatusOr<std::unique_ptr<File>> CreateFile(
      absl::string_view path) = 0;

  // Creates a new, empty file with the owner, group and permissions of the file
  // `like`, as far as this process may assign them; otherwise the new file has
  // narrower permissions. Behaves like CreateFile() if `like` does not exist,
  // and on systems without owners and permissions.
  virtual absl::StatusOr<std::unique_ptr<File>> CreateFileLike(
      absl::string_view path, absl::string_view /*like*/) {
    return CreateFile(path);
  }

  // Opens a regular file for appending.
  virtual absl::StatusOr<std::unique_ptr<File>> ReopenFile(
      absl::string_view path) = 0;

  // Renames `path` to `to_path` in `to`, which must be of the same
  // implementation and file system. The change is atomic, and durable
  // only after Sync() of both directories. If the system cannot rename
  // from one directory to the other, IsCrossDevice() is true for the result.
  virtual absl::Status Rename(absl::string_view path, const Dir& to,
                              absl::string_view to_path, RenameMode mode) = 0;

  // Removes an entry that is not a directory.
  virtual absl::Status RemoveFile(absl::string_view path) = 0;
  // Removes an empty directory.
  virtual absl::Status RemoveDir(absl::string_view path) = 0;

  // Makes this directory's entries durable, but not those of its
  // subdirectories. Fails like File::Sync().
  virtual absl::Status Sync() = 0;

  // Returns RESOURCE_EXHAUSTED/NO_SPACE unless the file system has room for
  // `bytes` more. Other programs may take it a moment later.
  virtual absl::Status CheckSpace(int64_t /*bytes*/) const {
    return absl::OkStatus();
  }

  // Returns whether SyncAll() is possible here.
  virtual bool CanSyncAll() const { return false; }
  // Makes everything durable that any program has written to this file system
  // since the directory was opened. For many new files this is faster than
  // syncing each of them, but it may wait for the data of other programs, and
  // fail because of them. Must not be called unless CanSyncAll(). Fails like
  // File::Sync().
  virtual absl::Status SyncAll() { return Sync(); }
};

// Returns whether `status` is the error of a Dir that cannot rename or link,
// because source and target lie on different mounts or the source
// is a directory in a lower layer of an overlay. Such an entry must be copied
// or linked instead.
bool IsCrossDevice(const absl::Status& status);

struct OpenOptions {
  // Use only POSIX calls, as if the Linux ones were missing or refused.
  bool portable = false;
  // Called with the time that each sync of a file or directory took,
  // on the thread that syncs. Must outlive all that is opened. May be null.
  const std::function<void(absl::Duration)>* on_sync = nullptr;
};

// Returns an identifier that changes with every start of the operating system,
// or "" if the system has none. While it stays the same, data that a process
// wrote but did not sync is intact.
std::string BootId();

// Opens the directory `absolute_path`, whose components may be symbolic links.
absl::StatusOr<std::unique_ptr<Dir>> OpenBaseDir(
    const std::string& absolute_path, OpenOptions options = {});

}  // namespace mlops::fs

#endif  // MLOPS_SERVICE_FS_DIR_H_
