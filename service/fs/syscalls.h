#ifndef MLOPS_SERVICE_FS_SYSCALLS_H_
#define MLOPS_SERVICE_FS_SYSCALLS_H_

#include <string>

#include "absl/functional/function_ref.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "service/fs/dir.h"

namespace mlops::fs {

// The problem that a Dir reports, with its remedy, when a rename or link would
// cross mounts or leave a lower layer of an overlay.
inline constexpr absl::string_view kCrossDevice =
    "cannot be moved, because its destination is on another mount or it lies "
    "in a lower layer of an overlay: put the whole base directory on one "
    "volume, mount the overlay with redirect_dir=on, or copy it and remove the "
    "original";

}  // namespace mlops::fs

// System calls for which Linux has a better variant than POSIX,
// each with a portable fallback. Each returns 0 or a descriptor, or -1
// with errno set, and retries after EINTR. The fallback takes over if a kernel,
// a seccomp filter or a file system refuses the Linux call: permanently
// if the kernel does not know it. Thread-safe.
namespace mlops::fs::sys {

// Opens `path` below `dir` without following a symbolic link in any component.
// `flags` are those of open(2). Linux: openat2(RESOLVE_BENEATH |
// RESOLVE_NO_SYMLINKS). Portable: one openat(O_NOFOLLOW) per component.
int OpenBeneath(int dir, const std::string& path, int flags, mode_t mode,
                bool portable);

// Renames without replacing: EEXIST if the target exists. Linux:
// renameat2(RENAME_NOREPLACE). Portable: link and unlink for files;
// for directories a check and then rename, which can at worst replace an empty
// directory created in between.
int RenameNoReplace(int from_dir, const std::string& from, int to_dir,
                    const std::string& to, bool portable);

// Exchanges two entries with renameat2(RENAME_EXCHANGE). ENOSYS if that call
// is not available.
int RenameExchange(int from_dir, const std::string& from, int to_dir,
                   const std::string& to, bool portable);

// Stores the state of `path` below `dir`, or of `dir` itself if `path` is "",
// in `*stamp`. Does not follow a symbolic link at the end. Linux: statx.
// Portable: fstatat.
int Stat(int dir, const std::string& path, FileStamp* stamp, bool portable);

// Calls `visit` for each entry of `dir`, from the first one, until it returns
// false. Linux: getdents64 with a large buffer. Portable: readdir.
int ForEachEntry(
    int dir,
    absl::FunctionRef<bool(absl::string_view name, EntryType type)> visit,
    bool portable);

// Adds the content of `dir` to `summary`, with the files' sizes and newest time
// if `file_sizes` is set. Calls `failed`, with errno set, for each file
// that cannot be examined. The descriptor's position must be the beginning.
// Linux: getdents64, and one statx of two fields per file. Fails
// with ENOSYS and leaves `summary` unchanged if these are refused:
// Dir has the portable fallback.
int Summarize(int dir, bool file_sizes, DirSummary* summary,
              absl::FunctionRef<void(const char* name)> failed);

// A part of a file: stored bytes, or a hole, which reads as zeros.
struct FilePart {
  bool is_hole = false;
  int64_t size_bytes = 0;
};

// Returns the part that begins at `offset`, cut to `size` bytes (lseek
// with SEEK_DATA and SEEK_HOLE). The end of the file counts as stored bytes,
// and so does everything on a system that cannot find holes. Moves
// the descriptor's position.
FilePart PartAt(int fd, int64_t offset, int64_t size, bool portable);

// Makes the file longer by a hole of `size` bytes, and sets the descriptor's
// position to its end.
int AppendHole(int fd, int64_t size);

// Appends `size` bytes of the file `from`, beginning at `offset`, to the file
// `to`, and returns the number of bytes copied. Linux: copy_file_range,
// which shares blocks if the file system can. Fails with ENOSYS if that call
// is missing or refused before the first byte: Dir has the fallback.
int64_t CopyRange(int from, int64_t offset, int to, int64_t size,
                  bool portable);

// Advises the kernel that the file will be read sequentially,
// if the system supports it.
void AdviseSequential(int fd);

// Starts writing `size` bytes from `offset` on to disk without waiting,
// if the system supports it; a `size` of 0 means to the end. This shortens
// the sync at the end of a large file.
void StartWriteback(int fd, int64_t offset = 0, int64_t size = 0);

// Returns an identifier that changes with every start of the kernel, or "".
std::string BootId();

// Sets the time of the last modification, and leaves that of the last access.
int SetModifyTime(int fd, absl::Time time);

// Returns whether SyncAll() writes everything to disk and reports every
// failure since `fd` was opened. Few file systems do both.
bool CanSyncAll(int fd);

// Makes the whole file system of `fd` durable (syncfs). Must not be called
// unless CanSyncAll().
int SyncAll(int fd);

// Makes a file or directory durable: fsync or, where fsync does not reach
// the disk, F_FULLFSYNC.
int Sync(int fd);

}  // namespace mlops::fs::sys

#endif  // MLOPS_SERVICE_FS_SYSCALLS_H_
