#ifndef MLOPS_SERVICE_FS_DIR_H_
#define MLOPS_SERVICE_FS_DIR_H_

#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "absl/types/span.h"

namespace mlops::fs {

enum class EntryType { kFile, kDirectory, kSymlink, kOther };

// One state of a file or directory: two equal stamps mean the same content, but
// for changes within one tick of the file system's clock (which is why readers
// compare the times with when they read). What does not follow from the
// content, or not every file system tells, does not count for equality.
struct FileStamp {
  EntryType type = EntryType::kOther;
  uint64_t device = 0;
  uint64_t inode = 0;
  int64_t size_bytes = 0;
  absl::Time modify_time;
  absl::Time change_time;
  // Likewise where the file system does not tell.
  absl::Time birth_time = absl::InfinitePast();
  // Permission bits, set-uid and the like left out.
  uint32_t mode = 0644;

  bool operator==(const FileStamp& other) const;
};

// Times of files come from a clock that ticks: two changes within a tick leave
// the same stamp. A stamp is believed only if, when the file or directory was
// read, it was older than a tick (the rule git has for its index).
bool MayBeRacy(const FileStamp& stamp, absl::Time read_time);

// What one directory holds itself, without its sub-directories.
struct DirSummary {
  // Of the directory, before it was read.
  FileStamp stamp;
  int64_t file_count = 0;                         // Regular files.
  int64_t size_bytes = 0;                         // The sum of their sizes.
  absl::Time modify_time = absl::InfinitePast();  // The newest of them.
  // Their names, each ended by a NUL.
  std::string subdirectories;
  // The first with a file that could not be looked at, and is missing above.
  absl::Status problem;
};

struct SummaryOptions {
  // Without, nothing is asked of the files: size_bytes and modify_time stay as
  // they are when there is none.
  bool file_sizes = true;
  // If not 0: of a directory on another device than this one only the stamp is
  // set.
  uint64_t device = 0;
};

// A whole small file, and its state before it was read.
struct FileContent {
  std::string data;
  FileStamp stamp;
};

enum class RenameMode {
  kReplace,    // An existing target is replaced (rename(2)).
  kNoReplace,  // An existing target is ALREADY_EXISTS.
  // Source and target, both existing, change places. May be UNIMPLEMENTED.
  kExchange,
};

// A regular file open for reading: it stays what it is, whatever becomes of its
// name. Not thread-safe.
class FileReader {
 public:
  virtual ~FileReader() = default;
  virtual absl::StatusOr<FileStamp> Stat() const = 0;
  // Reads up to `size` bytes that begin at `offset` into `buffer`; fewer only
  // at the end of the file.
  virtual absl::StatusOr<size_t> ReadAt(int64_t offset, char* buffer,
                                        size_t size) = 0;
};

// A file being written at its end. Not thread-safe. Destroying it closes it;
// nothing is promised about data not synced.
class File {
 public:
  virtual ~File() = default;
  virtual absl::Status Write(absl::string_view data) = 0;
  // Writes the pieces one after the other.
  virtual absl::Status WritePieces(absl::Span<const absl::string_view> pieces);
  // Appends `size` bytes of `source`, of the same implementation, that begin at
  // `offset`, sharing the blocks where the file system can. Returns how many
  // there were: fewer only at the end of the source.
  virtual absl::StatusOr<int64_t> CopyFrom(FileReader& source, int64_t offset,
                                           int64_t size);
  // Has the disk begin with what was written, by whomever, to `size` bytes from
  // `offset` on, and does not wait for it: so that Sync() takes less. Files
  // written to the end through this object need not be told.
  virtual void StartWriteback(int64_t /*offset*/, int64_t /*size*/) {}
  // Sets the permission bits, `mode` being those of a FileStamp.
  virtual absl::Status SetMode(uint32_t /*mode*/) { return absl::OkStatus(); }
  // Makes what was written durable (fsync(2)). A failure is INTERNAL/IO_ERROR,
  // also if the disk is full, and final: the data may be gone, and asking again
  // would lie.
  virtual absl::Status Sync() = 0;
  virtual absl::Status Close() = 0;
};

// An open directory, through which everything below it is reached; the only
// door to the file system. A `path` is relative, one name or several joined by
// '/', never with "." or ".." in it. Const methods are thread-safe, as are the
// others in so far as the operating system's calls are.
//
// Errors, the same for all methods:
//   NOT_FOUND (no reason) if there is no such entry;
//   ALREADY_EXISTS (no reason) if there is one where none may be, or a
//   directory to be removed is not empty; FAILED_PRECONDITION/PATH_UNSUITABLE
//   {path, problem} if a component is a symbolic link or no directory, or the
//   entry
//     is of another type than needed; nothing outside the directory is ever
//     opened;
//   RESOURCE_EXHAUSTED/NO_SPACE {path, available_bytes} if the disk or quota is
//   full; INTERNAL/IO_ERROR {path, errno} for everything else.
class Dir {
 public:
  virtual ~Dir() = default;

  virtual absl::StatusOr<std::unique_ptr<Dir>> OpenDir(
      absl::string_view path) const = 0;

  // The state of the entry itself: a symbolic link at the end is not followed.
  // As it is one system call, links on the way to it are: use it to compare
  // stamps, never to decide what may be trusted.
  virtual absl::StatusOr<FileStamp> Stat(absl::string_view path) const = 0;

  // What the symbolic link `path` says, whatever that is; nullopt if the entry
  // is something else.
  virtual absl::StatusOr<std::optional<std::string>> ReadLink(
      absl::string_view path) const = 0;

  // Whether `path` is a symbolic link that leads to nothing.
  virtual bool IsBrokenLink(absl::string_view /*path*/) const { return false; }

  // The state of this directory.
  virtual absl::StatusOr<FileStamp> StatSelf() const = 0;

  // Tells this directory from every other one that there ever was or will be,
  // which its inode alone does not. "" where the file system does not say when
  // it was made, and of one that was made just now.
  virtual std::string Identity() const { return ""; }

  // Reads a regular file. OUT_OF_RANGE (no reason) if it has more than
  // `max_bytes`; then no more is read than that.
  virtual absl::StatusOr<FileContent> ReadFile(absl::string_view path,
                                               int64_t max_bytes) const = 0;

  // Calls `visit` for each entry, "." and ".." left out, in no particular
  // order, until it returns false. Entries that come or go meanwhile may be
  // visited or not.
  virtual absl::Status ForEachEntry(
      absl::FunctionRef<bool(absl::string_view name, EntryType type)> visit)
      const = 0;

  // Sets `summary` to what the directory `path` holds itself; "" is this
  // directory. Files that vanish meanwhile are left out, links neither followed
  // nor counted. The default makes it of the calls above; a Dir with a faster
  // way has its own.
  virtual absl::Status Summarize(absl::string_view path,
                                 const SummaryOptions& options,
                                 DirSummary* summary) const;

  // Opens a regular file for reading it from its beginning to its end, more or
  // less: the kernel is told so.
  virtual absl::StatusOr<std::unique_ptr<FileReader>> OpenFile(
      absl::string_view path) const = 0;

  // Makes a directory that everyone may enter as the umask allows.
  virtual absl::Status MakeDir(absl::string_view path) = 0;

  // Makes a directory with the mode and, as far as this process may give it
  // away, the owner of `like`, which must be of the same implementation.
  virtual absl::Status MakeDirLike(absl::string_view path,
                                   const Dir& /*like*/) {
    return MakeDir(path);
  }

  // Gives the entry `path`, which is no directory, the further name `to_path`
  // in `to`, which must be a directory of the same implementation and file
  // system. PATH_UNSUITABLE where there are no such names.
  virtual absl::Status Link(absl::string_view path, const Dir& to,
                            absl::string_view to_path);

  // Makes a new, empty file; ALREADY_EXISTS if there is anything of that name.
  virtual absl::StatusOr<std::unique_ptr<File>> CreateFile(
      absl::string_view path) = 0;

  // Makes a new, empty file with the owner, the group and the permissions of
  // the file `like`, as far as this process may give them: where it may not,
  // the new file is open to fewer. As CreateFile() where there is no file
  // `like`, and on systems that have no such things.
  virtual absl::StatusOr<std::unique_ptr<File>> CreateFileLike(
      absl::string_view path, absl::string_view /*like*/) {
    return CreateFile(path);
  }

  // Opens a regular file to write on at its end.
  virtual absl::StatusOr<std::unique_ptr<File>> ReopenFile(
      absl::string_view path) = 0;

  // Renames `path` to `to_path` in `to`, which must be a directory of the same
  // implementation and file system. The change is atomic; it is durable only
  // after Sync() of both directories. If the system cannot rename from one to
  // the other, IsCrossDevice() is true of the result.
  virtual absl::Status Rename(absl::string_view path, const Dir& to,
                              absl::string_view to_path, RenameMode mode) = 0;

  virtual absl::Status RemoveFile(absl::string_view path) = 0;
  virtual absl::Status RemoveDir(absl::string_view path) = 0;

  // Makes the directory's entries durable, not those of its sub-directories. A
  // failure is as in File::Sync().
  virtual absl::Status Sync() = 0;
};

// Whether a Dir says that source and target lie on different mounts, or that
// the source is a directory in a lower layer of an overlay. What lies there can
// only be copied or linked.
bool IsCrossDevice(const absl::Status& status);

struct OpenOptions {
  // Use only calls of POSIX, as where the Linux ones are missing or refused.
  bool portable = false;
};

// Something that changes with every start of the operating system, "" where it
// does not tell. What a process wrote and did not sync is whole as long as this
// stays the same.
std::string BootId();

// Opens the directory `absolute_path`, whose components may be symbolic links.
absl::StatusOr<std::unique_ptr<Dir>> OpenBaseDir(
    const std::string& absolute_path, OpenOptions options = {});

}  // namespace mlops::fs

#endif  // MLOPS_SERVICE_FS_DIR_H_
