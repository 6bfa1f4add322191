#include "service/fs/syscalls.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <limits>
#include <memory>
#include <optional>
#include <tuple>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "proto/cpp/base/unique_fd.h"

#ifdef __linux__
#include <linux/openat2.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <sys/vfs.h>
#ifndef RENAME_NOREPLACE
#define RENAME_NOREPLACE (1 << 0)
#define RENAME_EXCHANGE (1 << 1)
#endif
#endif

namespace mlops::fs::sys {
namespace {

// Repeats a call that a signal interrupted.
template <typename Call>
auto Retry(Call call) {
  auto result = call();
  while (result < 0 && errno == EINTR) result = call();
  return result;
}

constexpr mode_t kPermissions = 0777;

EntryType TypeOfMode(mode_t mode) {
  if (S_ISREG(mode)) return EntryType::kFile;
  if (S_ISDIR(mode)) return EntryType::kDirectory;
  if (S_ISLNK(mode)) return EntryType::kSymlink;
  return EntryType::kOther;
}

// Returns the type of a directory entry, looking it up if the file system
// does not report it. Returns nullopt if the entry vanished (errno is ENOENT)
// or cannot be looked up (errno is anything else).
std::optional<EntryType> TypeOfEntry(int dir, unsigned char type,
                                     const char* name) {
  switch (type) {
    case DT_REG:
      return EntryType::kFile;
    case DT_DIR:
      return EntryType::kDirectory;
    case DT_LNK:
      return EntryType::kSymlink;
    case DT_UNKNOWN:
      break;
    default:
      return EntryType::kOther;
  }
  struct stat info;
  if (::fstatat(dir, name, &info, AT_SYMLINK_NOFOLLOW) != 0)
    return std::nullopt;
  return TypeOfMode(info.st_mode);
}

bool IsDots(const char* name) {
  return name[0] == '.' &&
         (name[1] == '\0' || (name[1] == '.' && name[2] == '\0'));
}

#ifdef __linux__

// Returns whether errno may mean that this kernel, filter or file system
// does not support the call, so that the fallback must answer. A filter
// returns EPERM or ENOSYS; a file system that lacks a flag returns EINVAL.
// If the error was genuine, the fallback fails with it again.
bool MayBeRefusal(int error) {
  return error == ENOSYS || error == EPERM || error == EINVAL ||
         error == EOPNOTSUPP || error == E2BIG;
}

// Set once the kernel lacks a call, to avoid trying it again.
std::atomic<bool> g_no_openat2 = false;
std::atomic<bool> g_no_renameat2 = false;
std::atomic<bool> g_no_statx = false;
std::atomic<bool> g_no_getdents64 = false;

void Remember(std::atomic<bool>& missing) {
  if (errno == ENOSYS) missing.store(true, std::memory_order_relaxed);
}

bool Known(const std::atomic<bool>& missing) {
  return missing.load(std::memory_order_relaxed);
}

absl::Time FromStatxTime(const statx_timestamp& time) {
  return absl::FromUnixSeconds(time.tv_sec) + absl::Nanoseconds(time.tv_nsec);
}

constexpr size_t kEntryBufferBytes = 64 * 1024;
constexpr int kRefused = 1;

// The layout that getdents64(2) uses.
struct RawEntry {
  uint64_t inode;
  int64_t offset;
  uint16_t length;
  uint8_t type;
  char name[1];
};

// Calls `visit(name, type)` for each entry of `dir` until it returns false.
// Returns 0, or -1 with errno set, or kRefused if the call was refused
// before the first entry.
template <typename Visit>
int ForEachRawEntry(int dir, char* buffer, Visit visit) {
  bool first = true;
  while (true) {
    const long bytes =
        ::syscall(SYS_getdents64, dir, buffer, kEntryBufferBytes);
    if (bytes == 0) return 0;
    // After the first entries it is too late for the fallback, which would
    // visit them again.
    if (bytes < 0 && first && MayBeRefusal(errno)) {
      Remember(g_no_getdents64);
      return kRefused;
    }
    if (bytes < 0) return -1;
    first = false;
    for (long at = 0; at < bytes;) {
      const auto* entry = reinterpret_cast<const RawEntry*>(buffer + at);
      at += entry->length;
      if (!IsDots(entry->name) && !visit(entry->name, entry->type)) return 0;
    }
  }
}

int PortableStat(int dir, const std::string& path, FileStamp* stamp);

// Sums over files, as plain numbers because they are updated once per
// file of a tree.
struct FileSums {
  int64_t count = 0;
  int64_t bytes = 0;
  int64_t newest_seconds = std::numeric_limits<int64_t>::min();
  int64_t newest_nanos = 0;

  // Adds the file `name` in `dir`, unless it is no longer a regular file.
  // Returns false with errno set if it cannot be examined.
  bool Add(int dir, const char* name) {
    struct statx info;
    if (::statx(dir, name, AT_SYMLINK_NOFOLLOW,
                STATX_TYPE | STATX_SIZE | STATX_MTIME, &info) == 0) {
      if (S_ISREG(info.stx_mode)) {
        AddFile(static_cast<int64_t>(info.stx_size), info.stx_mtime.tv_sec,
                info.stx_mtime.tv_nsec);
      }
      return true;
    }
    if (!MayBeRefusal(errno)) return false;
    Remember(g_no_statx);
    FileStamp stamp;
    if (PortableStat(dir, name, &stamp) != 0) return false;
    if (stamp.type == EntryType::kFile) {
      const timespec time = absl::ToTimespec(stamp.modify_time);
      AddFile(stamp.size_bytes, time.tv_sec, time.tv_nsec);
    }
    return true;
  }

  absl::Time newest() const {
    return absl::FromUnixSeconds(newest_seconds) +
           absl::Nanoseconds(newest_nanos);
  }

 private:
  void AddFile(int64_t size, int64_t seconds, int64_t nanos) {
    ++count;
    bytes += size;
    if (std::tie(seconds, nanos) <= std::tie(newest_seconds, newest_nanos))
      return;
    newest_seconds = seconds;
    newest_nanos = nanos;
  }
};

#endif  // __linux__

int PortableOpenBeneath(int dir, const std::string& path, int flags,
                        mode_t mode) {
  base::UniqueFd parent;
  size_t begin = 0;
  while (true) {
    const size_t slash = path.find('/', begin);
    const int from = parent.ok() ? parent.get() : dir;
    const std::string name = path.substr(begin, slash - begin);
    if (slash == std::string::npos) {
      return Retry([&] {
        return ::openat(from, name.c_str(), flags | O_NOFOLLOW | O_CLOEXEC,
                        mode);
      });
    }
    // Open each component separately, because O_NOFOLLOW covers only
    // the last one.
    const int next = Retry([&] {
      return ::openat(from, name.c_str(),
                      O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    });
    if (next < 0) return -1;
    parent.Reset(next);
    begin = slash + 1;
  }
}

int PortableRenameNoReplace(int from_dir, const std::string& from, int to_dir,
                            const std::string& to) {
  struct stat info;
  if (::fstatat(from_dir, from.c_str(), &info, AT_SYMLINK_NOFOLLOW) != 0)
    return -1;
  if (!S_ISDIR(info.st_mode)) {
    // linkat() fails if the target exists, so no separate check is needed.
    if (::linkat(from_dir, from.c_str(), to_dir, to.c_str(), 0) != 0) return -1;
    return ::unlinkat(from_dir, from.c_str(), 0);
  }
  // Directories have no hard links, so check first; rename(2) below replaces
  // at most an empty directory.
  if (::fstatat(to_dir, to.c_str(), &info, AT_SYMLINK_NOFOLLOW) == 0) {
    errno = EEXIST;
    return -1;
  }
  if (errno != ENOENT) return -1;
  if (::renameat(from_dir, from.c_str(), to_dir, to.c_str()) == 0) return 0;
  // Someone created the target since the check.
  if (errno == ENOTEMPTY || errno == ENOTDIR) errno = EEXIST;
  return -1;
}

int PortableStat(int dir, const std::string& path, FileStamp* stamp) {
  struct stat info;
  const int result =
      path.empty() ? ::fstat(dir, &info)
                   : ::fstatat(dir, path.c_str(), &info, AT_SYMLINK_NOFOLLOW);
  if (result != 0) return -1;
#ifdef __APPLE__
  const timespec modified = info.st_mtimespec, changed = info.st_ctimespec;
#else
  const timespec modified = info.st_mtim, changed = info.st_ctim;
#endif
  *stamp = {.type = TypeOfMode(info.st_mode),
            .device = static_cast<uint64_t>(info.st_dev),
            .inode = info.st_ino,
            .size_bytes = info.st_size,
            .modify_time = absl::TimeFromTimespec(modified),
            .change_time = absl::TimeFromTimespec(changed),
            .mode = static_cast<uint32_t>(info.st_mode & kPermissions)};
  return 0;
}

int PortableForEachEntry(
    int dir, absl::FunctionRef<bool(absl::string_view, EntryType)> visit) {
  // readdir needs its own descriptor: it owns the position and a buffer.
  const int copy = Retry(
      [&] { return ::openat(dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC); });
  if (copy < 0) return -1;
  const std::unique_ptr<DIR, int (*)(DIR*)> stream(::fdopendir(copy),
                                                   ::closedir);
  if (stream == nullptr) {
    ::close(copy);
    return -1;
  }
  while (true) {
    errno = 0;
    const dirent* entry = ::readdir(stream.get());
    if (entry == nullptr) return errno == 0 ? 0 : -1;
    if (IsDots(entry->d_name)) continue;
    const auto type = TypeOfEntry(dir, entry->d_type, entry->d_name);
    if (!type && errno != ENOENT) return -1;
    if (type && !visit(entry->d_name, *type)) return 0;
  }
}

}  // namespace

int OpenBeneath(int dir, const std::string& path, int flags, mode_t mode,
                bool portable) {
#ifdef __linux__
  if (!portable && !Known(g_no_openat2)) {
    open_how how = {};
    how.flags = static_cast<uint64_t>(flags | O_NOFOLLOW | O_CLOEXEC);
    // openat2(2) rejects a mode without O_CREAT.
    how.mode = (flags & O_CREAT) != 0 ? mode : 0;
    how.resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS;
    const long fd = Retry([&] {
      return ::syscall(SYS_openat2, dir, path.c_str(), &how, sizeof(how));
    });
    // EAGAIN: a rename interfered with the resolution.
    if (fd >= 0 || !(MayBeRefusal(errno) || errno == EAGAIN))
      return static_cast<int>(fd);
    Remember(g_no_openat2);
  }
#endif
  return PortableOpenBeneath(dir, path, flags, mode);
}

int RenameNoReplace(int from_dir, const std::string& from, int to_dir,
                    const std::string& to, bool portable) {
#ifdef __linux__
  if (!portable && !Known(g_no_renameat2)) {
    const long result = ::syscall(SYS_renameat2, from_dir, from.c_str(), to_dir,
                                  to.c_str(), RENAME_NOREPLACE);
    if (result == 0 || !MayBeRefusal(errno)) return static_cast<int>(result);
    Remember(g_no_renameat2);
  }
#endif
  return PortableRenameNoReplace(from_dir, from, to_dir, to);
}

int RenameExchange([[maybe_unused]] int from_dir,
                   [[maybe_unused]] const std::string& from,
                   [[maybe_unused]] int to_dir,
                   [[maybe_unused]] const std::string& to,
                   [[maybe_unused]] bool portable) {
#ifdef __linux__
  if (!portable && !Known(g_no_renameat2)) {
    const long result = ::syscall(SYS_renameat2, from_dir, from.c_str(), to_dir,
                                  to.c_str(), RENAME_EXCHANGE);
    if (result == 0 || !MayBeRefusal(errno)) return static_cast<int>(result);
    Remember(g_no_renameat2);
  }
#endif
  errno = ENOSYS;
  return -1;
}

int Stat(int dir, const std::string& path, FileStamp* stamp, bool portable) {
#ifdef __linux__
  if (!portable && !Known(g_no_statx)) {
    constexpr unsigned kMask = STATX_TYPE | STATX_MODE | STATX_INO |
                               STATX_SIZE | STATX_MTIME | STATX_CTIME |
                               STATX_BTIME;
    struct statx info;
    const int flags = AT_SYMLINK_NOFOLLOW | (path.empty() ? AT_EMPTY_PATH : 0);
    if (::statx(dir, path.c_str(), flags, kMask, &info) == 0) {
      *stamp = {
          .type = TypeOfMode(info.stx_mode),
          .device = (uint64_t{info.stx_dev_major} << 32) | info.stx_dev_minor,
          .inode = info.stx_ino,
          .size_bytes = static_cast<int64_t>(info.stx_size),
          .modify_time = FromStatxTime(info.stx_mtime),
          .change_time = FromStatxTime(info.stx_ctime),
          .mode = static_cast<uint32_t>(info.stx_mode & kPermissions)};
      if ((info.stx_mask & STATX_BTIME) != 0)
        stamp->birth_time = FromStatxTime(info.stx_btime);
      return 0;
    }
    if (!MayBeRefusal(errno)) return -1;
    Remember(g_no_statx);
  }
#endif
  return PortableStat(dir, path, stamp);
}

int ForEachEntry(
    int dir,
    absl::FunctionRef<bool(absl::string_view name, EntryType type)> visit,
    bool portable) {
#ifdef __linux__
  if (!portable && !Known(g_no_getdents64)) {
    const auto buffer =
        std::make_unique_for_overwrite<char[]>(kEntryBufferBytes);
    if (::lseek(dir, 0, SEEK_SET) < 0) return -1;
    int error = 0;
    const int result = ForEachRawEntry(
        dir, buffer.get(), [&](const char* name, unsigned char raw_type) {
          const auto type = TypeOfEntry(dir, raw_type, name);
          // An entry that vanished is skipped; any other error ends the loop.
          if (!type && errno != ENOENT) error = errno;
          return type ? visit(name, *type) : error == 0;
        });
    if (error != 0) {
      errno = error;
      return -1;
    }
    if (result != kRefused) return result;
  }
#endif
  return PortableForEachEntry(dir, visit);
}

int Summarize(
    [[maybe_unused]] int dir, [[maybe_unused]] bool file_sizes,
    [[maybe_unused]] DirSummary* summary,
    [[maybe_unused]] absl::FunctionRef<void(const char* name)> failed) {
#ifdef __linux__
  if (!Known(g_no_getdents64) && !(file_sizes && Known(g_no_statx))) {
    // A scan reads many directories one after the other, so keep
    // one buffer per thread.
    thread_local const auto buffer =
        std::make_unique_for_overwrite<char[]>(kEntryBufferBytes);
    FileSums sums;
    const int result = ForEachRawEntry(
        dir, buffer.get(), [&](const char* name, unsigned char raw_type) {
          // Nearly all entries have one of these types.
          const bool told = raw_type == DT_REG || raw_type == DT_DIR;
          const auto type = !told ? TypeOfEntry(dir, raw_type, name)
                            : raw_type == DT_REG
                                ? std::optional(EntryType::kFile)
                                : std::optional(EntryType::kDirectory);
          if (!type && errno != ENOENT) failed(name);
          if (type == EntryType::kDirectory)
            summary->subdirectories.append(name, std::strlen(name) + 1);
          if (type != EntryType::kFile) return true;
          if (!file_sizes) {
            ++sums.count;
          } else if (!sums.Add(dir, name) && errno != ENOENT) {
            failed(name);
          }
          return true;
        });
    if (result != kRefused) {
      // Added only now, so that a refusal leaves `summary` unchanged.
      summary->file_count += sums.count;
      summary->size_bytes += sums.bytes;
      if (sums.count > 0 && file_sizes)
        summary->modify_time = std::max(summary->modify_time, sums.newest());
      return result;
    }
  }
#endif
  errno = ENOSYS;
  return -1;
}

FilePart PartAt([[maybe_unused]] int fd, [[maybe_unused]] int64_t offset,
                int64_t size, [[maybe_unused]] bool portable) {
#if defined(SEEK_DATA) && defined(SEEK_HOLE)
  if (!portable) {
    const int64_t data = ::lseek(fd, offset, SEEK_DATA);
    if (data > offset)
      return {.is_hole = true, .size_bytes = std::min(size, data - offset)};
    if (data == offset) {
      const int64_t hole = ::lseek(fd, offset, SEEK_HOLE);
      if (hole > offset) return {.size_bytes = std::min(size, hole - offset)};
    } else if (errno == ENXIO) {
      // No data follows: either a hole reaches to the end, or this is the end.
      const int64_t end = ::lseek(fd, 0, SEEK_END);
      if (end > offset)
        return {.is_hole = true, .size_bytes = std::min(size, end - offset)};
    }
  }
#endif
  return {.size_bytes = size};
}

int AppendHole(int fd, int64_t size) {
  const off_t end = ::lseek(fd, 0, SEEK_END);
  if (end < 0 || Retry([&] { return ::ftruncate(fd, end + size); }) != 0)
    return -1;
  // ftruncate(2) does not move the position.
  return ::lseek(fd, 0, SEEK_END) < 0 ? -1 : 0;
}

int64_t CopyRange([[maybe_unused]] int from, [[maybe_unused]] int64_t offset,
                  [[maybe_unused]] int to, [[maybe_unused]] int64_t size,
                  [[maybe_unused]] bool portable) {
#ifdef __linux__
  if (!portable) {
    off64_t at = offset;
    int64_t copied = 0;
    while (copied < size) {
      const ssize_t got = Retry([&] {
        return ::copy_file_range(from, &at, to, nullptr, size - copied, 0);
      });
      if (got > 0) {
        copied += got;
        continue;
      }
      // Some file systems return 0 for files whose reported size is 0
      // although they have content, so only trust 0 after some bytes.
      if (copied > 0 && got == 0) return copied;
      if (copied > 0 || !(got == 0 || MayBeRefusal(errno) || errno == EXDEV ||
                          errno == EBADF))
        return -1;
      break;
    }
    if (copied > 0) return copied;
  }
#endif
  errno = ENOSYS;
  return -1;
}

void AdviseSequential([[maybe_unused]] int fd) {
#ifdef POSIX_FADV_SEQUENTIAL
  // Best effort: without the advice, reading is only slower.
  ::posix_fadvise(fd, 0, 0, POSIX_FADV_SEQUENTIAL);
#endif
}

void StartWriteback([[maybe_unused]] int fd, [[maybe_unused]] int64_t offset,
                    [[maybe_unused]] int64_t size) {
#ifdef __linux__
  // Best effort: the sync reports failures.
  ::sync_file_range(fd, offset, size, SYNC_FILE_RANGE_WRITE);
#endif
}

std::string BootId() {
#ifdef __linux__
  const base::UniqueFd fd(
      ::open("/proc/sys/kernel/random/boot_id", O_RDONLY | O_CLOEXEC));
  char text[64];
  const ssize_t size = fd.ok() ? ::read(fd.get(), text, sizeof(text)) : 0;
  // The text ends with a newline.
  if (size > 1) return std::string(text, static_cast<size_t>(size - 1));
#endif
  return "";
}

int SetModifyTime(int fd, absl::Time time) {
  const timespec times[2] = {{.tv_sec = 0, .tv_nsec = UTIME_OMIT},
                             absl::ToTimespec(time)};
  return ::futimens(fd, times);
}

bool CanSyncAll([[maybe_unused]] int fd) {
#ifdef __linux__
  // Since Linux 5.8, syncfs reports the failures of write-back.
  static const bool new_enough = [] {
    utsname system;
    int major = 0, minor = 0;
    return ::uname(&system) == 0 &&
           std::sscanf(system.release, "%d.%d", &major, &minor) == 2 &&
           std::pair(major, minor) >= std::pair(5, 8);
  }();
  struct statfs info;
  if (!new_enough || ::fstatfs(fd, &info) != 0) return false;
  // Other file systems may only hand the data to a server or a lower layer.
  constexpr uint64_t kExt4 = 0xEF53, kXfs = 0x58465342, kBtrfs = 0x9123683E;
  const auto type = static_cast<uint64_t>(info.f_type) & 0xFFFFFFFF;
  return type == kExt4 || type == kXfs || type == kBtrfs;
#else
  return false;
#endif
}

int SyncAll([[maybe_unused]] int fd) {
#ifdef __linux__
  return Retry([&] { return ::syncfs(fd); });
#else
  errno = ENOSYS;
  return -1;
#endif
}

int Sync(int fd) {
#ifdef F_FULLFSYNC
  if (::fcntl(fd, F_FULLFSYNC) == 0) return 0;
#endif
  return Retry([&] { return ::fsync(fd); });
}

}  // namespace mlops::fs::sys
