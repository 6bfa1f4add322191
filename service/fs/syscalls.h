#ifndef MLOPS_SERVICE_FS_SYSCALLS_H_
#define MLOPS_SERVICE_FS_SYSCALLS_H_

#include <string>

#include "absl/functional/function_ref.h"
#include "absl/strings/string_view.h"
#include "service/fs/dir.h"

namespace mlops::fs {

// What a Dir says of a rename or link from one mount to another, and what to do
// about it.
inline constexpr absl::string_view kCrossDevice =
    "lies on another mount than the place it is to go to, or in a lower layer "
    "of an overlay, and cannot be moved "
    "there: "
    "have the whole base directory on one volume, mount the overlay with "
    "redirect_dir=on, or copy and remove it by "
    "hand";

}  // namespace mlops::fs

// The calls in which Linux does better than POSIX, each with its portable
// substitute. All return 0 or a descriptor, or -1 with errno set, and repeat
// what a signal interrupted. Where a kernel, a seccomp filter or a file system
// refuses the Linux call, the substitute takes over, for good where the kernel
// cannot know it. Thread-safe.
namespace mlops::fs::sys {

// Opens `path` below `dir` without following a symbolic link in any component;
// `flags` as for open(2). Linux: openat2(RESOLVE_BENEATH |
// RESOLVE_NO_SYMLINKS). Portable: one openat(O_NOFOLLOW) a component.
int OpenBeneath(int dir, const std::string& path, int flags, mode_t mode,
                bool portable);

// Renames without replacing anything: EEXIST if there is a target.
// Linux: renameat2(RENAME_NOREPLACE). Portable: link and unlink for files; for
// directories a look and then rename, which at worst replaces an empty
// directory made in between.
int RenameNoReplace(int from_dir, const std::string& from, int to_dir,
                    const std::string& to, bool portable);

// Exchanges two entries: renameat2(RENAME_EXCHANGE); ENOSYS where there is no
// such call.
int RenameExchange(int from_dir, const std::string& from, int to_dir,
                   const std::string& to, bool portable);

// The state of `path` below `dir`, or of `dir` itself if it is "". A symbolic
// link at the end is not followed. Linux: statx without a sync over the
// network. Portable: fstatat.
int Stat(int dir, const std::string& path, FileStamp* stamp, bool portable);

// What tells the open directory from every other one that there ever was:
// device, inode and time of birth. "" where the last is not told, as by POSIX.
std::string Identity(int fd);

// Calls `visit` for each entry of `dir`, read from its beginning, until it
// returns false. Linux: getdents64 with a large buffer. Portable: readdir.
int ForEachEntry(
    int dir,
    absl::FunctionRef<bool(absl::string_view name, EntryType type)> visit,
    bool portable);

// Adds to `summary` what `dir` holds itself, with the files' sizes and newest
// time if `file_sizes`; calls `failed` for each file that cannot be looked at,
// errno set. Reads from where `dir` stands, which must be its beginning. Linux:
// getdents64, and one statx a file with two fields. ENOSYS, and `summary` as it
// was, where these are refused: there is no portable substitute here, as Dir
// has one.
int Summarize(int dir, bool file_sizes, DirSummary* summary,
              absl::FunctionRef<void(const char* name)> failed);

// Appends `size` bytes of the file `from`, which begin at `offset`, to the file
// `to`, and returns how many there were. Linux: copy_file_range, which shares
// blocks where the file system can. ENOSYS where it is missing or refused
// before the first byte: Dir has the substitute.
int64_t CopyRange(int from, int64_t offset, int to, int64_t size,
                  bool portable);

// Tells the kernel that the file is about to be read from its beginning to its
// end, where it can be told.
void AdviseSequential(int fd);

// Has the disk begin with what was written to `size` bytes from `offset` on, 0
// meaning to the end, without waiting for it, where that can be asked for: the
// sync at the end of a large file is then short.
void StartWriteback(int fd, int64_t offset = 0, int64_t size = 0);

// What changes with every start of the kernel, or "".
std::string BootId();

// Makes a file or directory durable (fsync, or F_FULLFSYNC where fsync does not
// reach the disk).
int Sync(int fd);

}  // namespace mlops::fs::sys

#endif  // MLOPS_SERVICE_FS_SYSCALLS_H_
