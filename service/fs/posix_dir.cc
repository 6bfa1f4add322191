// The real Dir: descriptors and system calls.
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "proto/cpp/base/error.h"
#include "proto/cpp/base/status_macros.h"
#include "proto/cpp/base/unique_fd.h"
#include "service/fs/dir.h"
#include "service/fs/syscalls.h"

namespace mlops::fs {
namespace {

using base::UniqueFd;

// The umask applies.
constexpr mode_t kDirMode = 0777;
// The umask applies.
constexpr mode_t kFileMode = 0666;
constexpr mode_t kPrivateFileMode = 0600;

absl::Status Unsuitable(const std::string& path, absl::string_view problem) {
  return base::MakeError(
      absl::StatusCode::kFailedPrecondition,
      absl::StrCat(base::Echo(path), ": ", problem),
      {.reason = "PATH_UNSUITABLE",
       .metadata = {{"path", path}, {"problem", std::string(problem)}}});
}

absl::Status NoSpace(int error, int fd, const std::string& path) {
  struct statvfs info;
  const uint64_t available =
      ::fstatvfs(fd, &info) == 0 ? uint64_t{info.f_bavail} * info.f_frsize : 0;
  return base::MakeError(
      absl::StatusCode::kResourceExhausted,
      absl::StrCat(base::Echo(path), ": ", std::strerror(error),
                   "; nothing was changed"),
      {.reason = "NO_SPACE",
       .metadata = {{"path", path},
                    {"available_bytes", absl::StrCat(available)}}});
}

// Maps errno to a status, for all methods. `fd` is any descriptor on the file
// system in question.
absl::Status ErrnoStatus(int error, int fd, const std::string& path) {
  switch (error) {
    case ENOENT:
      return absl::NotFoundError(path);
    case EEXIST:
    case ENOTEMPTY:
      return absl::AlreadyExistsError(path);
    case ELOOP:
    case EMLINK:  // BSD's error for O_NOFOLLOW.
      return Unsuitable(path, "is, or leads through, a symbolic link");
    case ENOTDIR:
      return Unsuitable(
          path, "is, or leads through, something that is not a directory");
    case EISDIR:
      return Unsuitable(path, "is a directory");
    case EXDEV:
      return Unsuitable(
          path, "leads out of the base directory or to another file system");
    case EBUSY:
      return Unsuitable(
          path, "is in use, for example as a mount point: unmount it first");
    case ENOSPC:
    case EDQUOT:
      return NoSpace(error, fd, path);
    default:
      return base::MakeError(
          absl::StatusCode::kInternal,
          absl::StrCat(base::Echo(path), ": ", std::strerror(error)),
          {.reason = "IO_ERROR",
           .metadata = {{"path", path}, {"errno", absl::StrCat(error)}}});
  }
}

// Returns the error of a failed sync, whatever its cause. The written data
// may be lost, and a rename may or may not be on disk. Therefore a full disk
// is not NO_SPACE here, because that reason promises that nothing was changed.
absl::Status SyncFailure(int error, const std::string& path) {
  return base::MakeError(
      absl::StatusCode::kInternal,
      absl::StrCat(base::Echo(path),
                   ": could not be synced: ", std::strerror(error)),
      {.reason = "IO_ERROR",
       .metadata = {{"path", path}, {"errno", absl::StrCat(error)}}});
}

// Gives a file of ours, which is still private, the owner, group
// and permissions of `like`. Ignores refusals: the file then stays accessible
// to fewer users.
void AssignAccess(int fd, const struct stat& like) {
  struct stat own;
  if (::fstat(fd, &own) != 0) return;
  mode_t mode = like.st_mode & 07777;
  // Set owner and group separately: this process may be allowed to
  // set only one.
  const bool foreign_owner =
      own.st_uid != like.st_uid &&
      ::fchown(fd, like.st_uid, static_cast<gid_t>(-1)) != 0;
  const bool foreign_group =
      own.st_gid != like.st_gid &&
      ::fchown(fd, static_cast<uid_t>(-1), like.st_gid) != 0;
  // If the group could not be set, the actual one gets no more than everyone.
  // Drop set-user-ID and set-group-ID if owner or group differ, so that
  // no program runs as another user than before.
  if (foreign_group) mode &= ~S_IRWXG | ((mode & S_IRWXO) << 3);
  if (foreign_owner || foreign_group) mode &= ~(S_ISUID | S_ISGID);
  static_cast<void>(::fchmod(fd, mode));
}

// Gives `fd` the owner, group and permissions of the open file or directory
// `like`, without set-user-ID, set-group-ID and the sticky bit.
int TakeOpenAccess(int fd, int like) {
  struct stat info;
  if (::fstat(like, &info) != 0) return -1;
  info.st_mode &= ~static_cast<mode_t>(S_ISUID | S_ISGID | S_ISVTX);
  AssignAccess(fd, info);
  return 0;
}

// Syncs, and reports the time that it took. Sets errno if it fails.
int TimedSync(int fd, const OpenOptions& options,
              int (*sync)(int) = sys::Sync) {
  const auto begin = std::chrono::steady_clock::now();
  const int result = sync(fd);
  if (options.on_sync == nullptr) return result;
  const int error = errno;
  (*options.on_sync)(
      absl::FromChrono(std::chrono::steady_clock::now() - begin));
  errno = error;
  return result;
}

class PosixReader final : public FileReader {
 public:
  PosixReader(UniqueFd fd, std::string path, bool portable)
      : fd_(std::move(fd)), path_(std::move(path)), portable_(portable) {}

  absl::StatusOr<FileStamp> Stat() const override {
    FileStamp stamp;
    if (sys::Stat(fd_.get(), "", &stamp, portable_) == 0) return stamp;
    return ErrnoStatus(errno, fd_.get(), path_);
  }

  absl::StatusOr<size_t> ReadAt(int64_t offset, char* buffer,
                                size_t size) override {
    size_t done = 0;
    while (done < size) {
      const ssize_t got =
          ::pread(fd_.get(), buffer + done, size - done,
                  static_cast<off_t>(offset + static_cast<int64_t>(done)));
      // A signal interrupted the read before it returned any data.
      if (got < 0 && errno == EINTR) continue;
      if (got < 0) return ErrnoStatus(errno, fd_.get(), path_);
      if (got == 0) break;
      done += static_cast<size_t>(got);
    }
    return done;
  }

  absl::StatusOr<bool> TryLock(int64_t offset, int64_t size) override {
    if (SetLock(F_RDLCK, offset, size) == 0) return true;
    if (errno == EAGAIN || errno == EACCES) return false;
    // Some file systems have no locks, so no program can hold one.
    if (errno == EINVAL || errno == ENOLCK || errno == ENOSYS ||
        errno == EOPNOTSUPP)
      return true;
    return ErrnoStatus(errno, fd_.get(), path_);
  }

  void Unlock(int64_t offset, int64_t size) override {
    SetLock(F_UNLCK, offset, size);
  }

  int fd() const { return fd_.get(); }

 private:
  // Uses locks that belong to the open file, not to the process: those would
  // end when the process closes any other descriptor of the same file.
  int SetLock([[maybe_unused]] short type, [[maybe_unused]] int64_t offset,
              [[maybe_unused]] int64_t size) {
#ifdef F_OFD_SETLK
    struct flock lock = {};
    lock.l_type = type;
    lock.l_whence = SEEK_SET;
    lock.l_start = static_cast<off_t>(offset);
    lock.l_len = static_cast<off_t>(size);
    return ::fcntl(fd_.get(), F_OFD_SETLK, &lock);
#else
    errno = ENOSYS;
    return -1;
#endif
  }

  const UniqueFd fd_;
  const std::string path_;
  const bool portable_;
};

class PosixFile final : public File {
 public:
  PosixFile(UniqueFd fd, std::string path, const OpenOptions& options)
      : fd_(std::move(fd)), path_(std::move(path)), options_(options) {}

  absl::Status Write(absl::string_view data) override {
    while (!data.empty()) {
      const ssize_t written = ::write(fd_.get(), data.data(), data.size());
      if (written < 0 && errno == EINTR) continue;
      if (written < 0) return ErrnoStatus(errno, fd_.get(), path_);
      data.remove_prefix(static_cast<size_t>(written));
    }
    return absl::OkStatus();
  }

  absl::Status WritePieces(
      absl::Span<const absl::string_view> pieces) override {
    while (!pieces.empty()) {
      std::array<iovec, kMaxPieces> vector;
      const size_t count = std::min(pieces.size(), vector.size());
      size_t size = 0;
      for (size_t i = 0; i < count; ++i) {
        vector[i] = {.iov_base = const_cast<char*>(pieces[i].data()),
                     .iov_len = pieces[i].size()};
        size += pieces[i].size();
      }
      const ssize_t written =
          ::writev(fd_.get(), vector.data(), static_cast<int>(count));
      if (written < 0 && errno == EINTR) continue;
      if (written < 0) return ErrnoStatus(errno, fd_.get(), path_);
      // A short write hints at a full disk. Write() repeats the rest
      // and reports the error.
      if (static_cast<size_t>(written) < size) {
        size_t skip = static_cast<size_t>(written);
        for (; skip >= pieces.front().size(); pieces.remove_prefix(1))
          skip -= pieces.front().size();
        RETURN_IF_ERROR(Write(pieces.front().substr(skip)));
        pieces.remove_prefix(1);
      } else {
        pieces.remove_prefix(count);
      }
      unwritten_bytes_ += size;
    }
    // Write back regularly, so that the sync at the end takes less time.
    if (unwritten_bytes_ >= kWritebackBytes) {
      sys::StartWriteback(fd_.get());
      unwritten_bytes_ = 0;
    }
    return absl::OkStatus();
  }

  absl::StatusOr<int64_t> CopyFrom(FileReader& source, int64_t offset,
                                   int64_t size) override {
    const int from = static_cast<PosixReader&>(source).fd();
    int64_t copied = 0;
    while (copied < size) {
      const sys::FilePart part =
          sys::PartAt(from, offset + copied, size - copied, options_.portable);
      // Keep the hole, so that the copy takes no more space than the source.
      if (part.is_hole) {
        if (sys::AppendHole(fd_.get(), part.size_bytes) != 0)
          return ErrnoStatus(errno, fd_.get(), path_);
        copied += part.size_bytes;
        continue;
      }
      ASSIGN_OR_RETURN(const int64_t got,
                       CopyStored(source, offset + copied, part.size_bytes));
      copied += got;
      if (got < part.size_bytes) break;
    }
    return copied;
  }

  void StartWriteback(int64_t offset, int64_t size) override {
    sys::StartWriteback(fd_.get(), offset, size);
  }

  absl::Status SetMode(uint32_t mode) override {
    FileStamp now;
    // On a file system without permissions all files have the same ones,
    // and fchmod fails.
    if (sys::Stat(fd_.get(), "", &now, options_.portable) == 0 &&
        now.mode == (mode & kPermissions))
      return absl::OkStatus();
    return ::fchmod(fd_.get(), mode & kPermissions) == 0
               ? absl::OkStatus()
               : ErrnoStatus(errno, fd_.get(), path_);
  }

  absl::Status TakeAccess(const FileReader& like) override {
    const int from = static_cast<const PosixReader&>(like).fd();
    return TakeOpenAccess(fd_.get(), from) == 0
               ? absl::OkStatus()
               : ErrnoStatus(errno, fd_.get(), path_);
  }

  absl::Status SetModifyTime(absl::Time time) override {
    return sys::SetModifyTime(fd_.get(), time) == 0
               ? absl::OkStatus()
               : ErrnoStatus(errno, fd_.get(), path_);
  }

  absl::Status Sync() override {
    return TimedSync(fd_.get(), options_) == 0 ? absl::OkStatus()
                                               : SyncFailure(errno, path_);
  }

  absl::Status Close() override {
    // Do not retry after EINTR: the descriptor is already closed, and another
    // thread may have reused its number.
    return ::close(fd_.Release()) == 0 || errno == EINTR
               ? absl::OkStatus()
               : ErrnoStatus(errno, -1, path_);
  }

 private:
  // As CopyFrom(), but stores zeros for a hole.
  absl::StatusOr<int64_t> CopyStored(FileReader& source, int64_t offset,
                                     int64_t size) {
    const int64_t copied =
        sys::CopyRange(static_cast<PosixReader&>(source).fd(), offset,
                       fd_.get(), size, options_.portable);
    if (copied >= 0) return copied;
    // The fallback reads and writes.
    if (errno == ENOSYS) return File::CopyFrom(source, offset, size);
    return ErrnoStatus(errno, fd_.get(), path_);
  }

  static constexpr mode_t kPermissions = 0777;
  // Below every system's IOV_MAX.
  static constexpr size_t kMaxPieces = 256;
  static constexpr size_t kWritebackBytes = size_t{8} << 20;

  UniqueFd fd_;
  const std::string path_;
  const OpenOptions options_;
  // Since the last StartWriteback().
  size_t unwritten_bytes_ = 0;
};

class PosixDir final : public Dir {
 public:
  PosixDir(UniqueFd fd, std::string path, OpenOptions options)
      : fd_(std::move(fd)), path_(std::move(path)), options_(options) {}

  absl::StatusOr<std::unique_ptr<Dir>> OpenDir(
      absl::string_view path) const override {
    ASSIGN_OR_RETURN(UniqueFd fd, Open(path, O_RDONLY | O_DIRECTORY));
    return std::make_unique<PosixDir>(std::move(fd), FullPath(path), options_);
  }

  absl::StatusOr<FileStamp> Stat(absl::string_view path) const override {
    FileStamp stamp;
    const std::string name(path);
    if (sys::Stat(fd_.get(), name, &stamp, options_.portable) == 0)
      return stamp;
    return Error(path);
  }

  absl::StatusOr<std::optional<std::string>> ReadLink(
      absl::string_view path) const override {
    // No system supports longer targets.
    std::array<char, 4096> target;
    ssize_t size = 0;
    RETURN_IF_ERROR(WithParent(path, [&](int dir, const char* name) {
      size = ::readlinkat(dir, name, target.data(), target.size());
      return size < 0 && errno != EINVAL ? -1 : 0;
    }));
    if (size < 0) return std::nullopt;
    return std::string(target.data(), static_cast<size_t>(size));
  }

  bool IsBrokenLink(absl::string_view path) const override {
    struct stat state;
    const auto at = [&](int flags) {
      return ::fstatat(fd_.get(), std::string(path).c_str(), &state, flags);
    };
    if (at(AT_SYMLINK_NOFOLLOW) != 0 || !S_ISLNK(state.st_mode)) return false;
    // Following the link shows whether its target exists.
    return at(0) != 0 &&
           (errno == ENOENT || errno == ENOTDIR || errno == ELOOP);
  }

  absl::StatusOr<FileStamp> StatSelf() const override { return Stat(""); }

  absl::StatusOr<FileContent> ReadFile(absl::string_view path,
                                       int64_t max_bytes) const override {
    FileContent content;
    ASSIGN_OR_RETURN(const UniqueFd fd,
                     OpenRegular(path, O_RDONLY, &content.stamp));
    if (content.stamp.size_bytes > max_bytes)
      return absl::OutOfRangeError(path);
    // One byte more than expected, so that the buffer has room left to detect
    // the end of the file.
    content.data.resize(static_cast<size_t>(content.stamp.size_bytes) + 1);
    size_t size = 0;
    while (true) {
      const ssize_t got = ::read(fd.get(), content.data.data() + size,
                                 content.data.size() - size);
      if (got < 0 && errno == EINTR) continue;
      if (got < 0) return Error(path);
      if (got == 0) break;
      size += static_cast<size_t>(got);
      if (size > static_cast<size_t>(max_bytes))
        return absl::OutOfRangeError(path);
      // The file grows while it is being read.
      if (size == content.data.size()) content.data.resize(2 * size);
    }
    content.data.resize(size);
    return content;
  }

  absl::Status ForEachEntry(
      absl::FunctionRef<bool(absl::string_view name, EntryType type)> visit)
      const override {
    // Open a new descriptor, because the position in a directory belongs
    // to the open file description.
    ASSIGN_OR_RETURN(const UniqueFd fd, Open(".", O_RDONLY | O_DIRECTORY));
    return sys::ForEachEntry(fd.get(), visit, options_.portable) == 0
               ? absl::OkStatus()
               : Error("");
  }

  absl::Status Summarize(absl::string_view path, const SummaryOptions& options,
                         DirSummary* summary) const override {
    if (options_.portable) return Dir::Summarize(path, options, summary);
    ASSIGN_OR_RETURN(const UniqueFd fd,
                     Open(path.empty() ? "." : path, O_RDONLY | O_DIRECTORY));
    // Reuse the memory of the string.
    *summary = {.subdirectories = std::move(summary->subdirectories)};
    summary->subdirectories.clear();
    if (sys::Stat(fd.get(), "", &summary->stamp, false) != 0)
      return Error(path);
    // Another file system: the caller needs only the stamp.
    if (options.device != 0 && summary->stamp.device != options.device)
      return absl::OkStatus();
    const auto failed = [&](const char* name) {
      summary->problem.Update(Error(absl::StrCat(path, "/", name)));
    };
    if (sys::Summarize(fd.get(), options.file_sizes, summary, failed) == 0)
      return absl::OkStatus();
    return errno == ENOSYS ? Dir::Summarize(path, options, summary)
                           : Error(path);
  }

  absl::StatusOr<std::unique_ptr<FileReader>> OpenFile(
      absl::string_view path) const override {
    ASSIGN_OR_RETURN(UniqueFd fd, OpenRegular(path, O_RDONLY));
    sys::AdviseSequential(fd.get());
    return std::make_unique<PosixReader>(std::move(fd), FullPath(path),
                                         options_.portable);
  }

  absl::Status MakeDir(absl::string_view path) override {
    return WithParent(path, [](int dir, const char* name) {
      return ::mkdirat(dir, name, kDirMode);
    });
  }

  absl::StatusOr<std::unique_ptr<File>> CreateFile(
      absl::string_view path) override {
    ASSIGN_OR_RETURN(UniqueFd fd, Open(path, O_WRONLY | O_CREAT | O_EXCL));
    return std::make_unique<PosixFile>(std::move(fd), FullPath(path), options_);
  }

  absl::StatusOr<std::unique_ptr<File>> CreateFileLike(
      absl::string_view path, absl::string_view like) override {
    struct stat state;
    const absl::Status found =
        WithParent(like, [&state](int dir, const char* name) {
          return ::fstatat(dir, name, &state, AT_SYMLINK_NOFOLLOW);
        });
    if (absl::IsNotFound(found)) return CreateFile(path);
    RETURN_IF_ERROR(found);
    // Keep the file private until it has the mode of `like`,
    // which may be private too.
    ASSIGN_OR_RETURN(UniqueFd fd,
                     Open(path, O_WRONLY | O_CREAT | O_EXCL, kPrivateFileMode));
    AssignAccess(fd.get(), state);
    return std::make_unique<PosixFile>(std::move(fd), FullPath(path), options_);
  }

  absl::StatusOr<std::unique_ptr<File>> ReopenFile(
      absl::string_view path) override {
    ASSIGN_OR_RETURN(UniqueFd fd, OpenRegular(path, O_WRONLY | O_APPEND));
    return std::make_unique<PosixFile>(std::move(fd), FullPath(path), options_);
  }

  absl::Status Rename(absl::string_view path, const Dir& to,
                      absl::string_view to_path, RenameMode mode) override {
    const int from_fd = fd_.get(),
              to_fd = static_cast<const PosixDir&>(to).fd_.get();
    const std::string from_name(path), to_name(to_path);
    const auto rename = [&] {
      switch (mode) {
        case RenameMode::kNoReplace:
          return sys::RenameNoReplace(from_fd, from_name, to_fd, to_name,
                                      options_.portable);
        case RenameMode::kExchange:
          return sys::RenameExchange(from_fd, from_name, to_fd, to_name,
                                     options_.portable);
        case RenameMode::kReplace:
          break;
      }
      return ::renameat(from_fd, from_name.c_str(), to_fd, to_name.c_str());
    };
    if (rename() == 0) return absl::OkStatus();
    if (mode == RenameMode::kExchange && errno == ENOSYS)
      return absl::UnimplementedError("no exchange here");
    // IsCrossDevice() recognizes this problem, so that callers can
    // copy or link.
    if (errno == EXDEV) return Unsuitable(FullPath(path), kCrossDevice);
    // Report the path that caused the error: the source's if it is missing
    // or busy, otherwise the target's.
    return errno == ENOENT || errno == EBUSY
               ? Error(path)
               : static_cast<const PosixDir&>(to).Error(to_path);
  }

  absl::Status Link(absl::string_view path, const Dir& to,
                    absl::string_view to_path) override {
    const auto& target = static_cast<const PosixDir&>(to);
    if (::linkat(fd_.get(), std::string(path).c_str(), target.fd_.get(),
                 std::string(to_path).c_str(), 0) == 0) {
      return absl::OkStatus();
    }
    // These errors mean another mount, a file system without hard links,
    // or a kernel that protects other users' files.
    if (errno == EXDEV || errno == EPERM || errno == EOPNOTSUPP ||
        errno == EMLINK) {
      return Unsuitable(FullPath(path), kCrossDevice);
    }
    return errno == ENOENT ? Error(path) : target.Error(to_path);
  }

  absl::Status MakeDirLike(absl::string_view path, const Dir& like) override {
    struct stat info;
    if (::fstat(static_cast<const PosixDir&>(like).fd_.get(), &info) != 0)
      return Error(path);
    // Keep the directory private until it has its owner and mode.
    RETURN_IF_ERROR(WithParent(path, [](int dir, const char* name) {
      return ::mkdirat(dir, name, 0700);
    }));
    ASSIGN_OR_RETURN(const UniqueFd fd, Open(path, O_RDONLY | O_DIRECTORY));
    // Without the privilege, this process stays the owner.
    if (::fchown(fd.get(), info.st_uid, info.st_gid) != 0 && errno != EPERM)
      return Error(path);
    return ::fchmod(fd.get(), info.st_mode & 07777) == 0 ? absl::OkStatus()
                                                         : Error(path);
  }

  absl::Status RemoveFile(absl::string_view path) override {
    return WithParent(path, [](int dir, const char* name) {
      return ::unlinkat(dir, name, 0);
    });
  }

  absl::Status RemoveDir(absl::string_view path) override {
    return WithParent(path, [](int dir, const char* name) {
      return ::unlinkat(dir, name, AT_REMOVEDIR);
    });
  }

  absl::Status SetMode(uint32_t mode) override {
    struct stat info;
    if (::fstat(fd_.get(), &info) != 0) return Error("");
    const mode_t wanted = (info.st_mode & 07000) | (mode & 0777);
    // On a file system without permissions fchmod fails.
    if (wanted == (info.st_mode & 07777)) return absl::OkStatus();
    return ::fchmod(fd_.get(), wanted) == 0 ? absl::OkStatus() : Error("");
  }

  absl::Status TakeAccess(const Dir& like) override {
    const int from = static_cast<const PosixDir&>(like).fd_.get();
    struct stat info;
    if (::fstat(fd_.get(), &info) != 0 || TakeOpenAccess(fd_.get(), from) != 0)
      return Error("");
    // Restore set-group-ID, which the directory inherited from its parent:
    // with it, new files get the directory's group.
    if ((info.st_mode & S_ISGID) == 0) return absl::OkStatus();
    if (::fstat(fd_.get(), &info) != 0 ||
        ::fchmod(fd_.get(), (info.st_mode & 07777) | S_ISGID) != 0)
      return Error("");
    return absl::OkStatus();
  }

  absl::Status SetModifyTime(absl::Time time) override {
    return sys::SetModifyTime(fd_.get(), time) == 0 ? absl::OkStatus()
                                                    : Error("");
  }

  absl::Status MakeSymlink(absl::string_view path,
                           absl::string_view target) override {
    const std::string text(target);
    return WithParent(path, [&text](int dir, const char* name) {
      return ::symlinkat(text.c_str(), dir, name);
    });
  }

  absl::Status Sync() override {
    return TimedSync(fd_.get(), options_) == 0 ? absl::OkStatus()
                                               : SyncFailure(errno, path_);
  }

  absl::Status CheckSpace(int64_t bytes) const override {
    struct statvfs info;
    if (::fstatvfs(fd_.get(), &info) != 0) return Error("");
    const bool fits =
        static_cast<uint64_t>(bytes) / info.f_frsize < info.f_bavail;
    return fits ? absl::OkStatus() : NoSpace(ENOSPC, fd_.get(), path_);
  }

  bool CanSyncAll() const override {
    return !options_.portable && sys::CanSyncAll(fd_.get());
  }

  absl::Status SyncAll() override {
    return TimedSync(fd_.get(), options_, sys::SyncAll) == 0
               ? absl::OkStatus()
               : SyncFailure(errno, path_);
  }

 private:
  std::string FullPath(absl::string_view path) const {
    return path.empty() || path == "." ? path_ : absl::StrCat(path_, "/", path);
  }

  absl::Status Error(absl::string_view path) const {
    return ErrnoStatus(errno, fd_.get(), FullPath(path));
  }

  absl::StatusOr<UniqueFd> Open(absl::string_view path, int flags,
                                mode_t mode = kFileMode) const {
    const int fd = sys::OpenBeneath(fd_.get(), std::string(path), flags, mode,
                                    options_.portable);
    if (fd >= 0) return UniqueFd(fd);
    return errno == ENOTDIR ? NoDirectory(path) : Error(path);
  }

  // Returns the error for a `path` that is not a directory.
  // The kernel reports ENOTDIR for a symbolic link that it does not follow,
  // so check what the entry is.
  absl::Status NoDirectory(absl::string_view path) const {
    FileStamp state;
    if (sys::Stat(fd_.get(), std::string(path), &state, options_.portable) ==
            0 &&
        state.type == EntryType::kSymlink) {
      return Unsuitable(FullPath(path), "is a symbolic link");
    }
    errno = ENOTDIR;
    return Error(path);
  }

  // Opens a regular file. Stores its state in `*stamp` unless that is null.
  absl::StatusOr<UniqueFd> OpenRegular(absl::string_view path, int flags,
                                       FileStamp* stamp = nullptr) const {
    // Without O_NONBLOCK, opening a FIFO would block the thread until another
    // process opens its other end.
    UniqueFd fd(sys::OpenBeneath(fd_.get(), std::string(path),
                                 flags | O_NONBLOCK, 0, options_.portable));
    // These are the errors for a FIFO without a reader, a socket,
    // and a missing device.
    const bool special = !fd.ok() && (errno == ENXIO || errno == ENODEV);
    if (!fd.ok() && !special) return Error(path);
    FileStamp state;
    if (!special && sys::Stat(fd.get(), "", &state, options_.portable) != 0)
      return Error(path);
    if (state.type == EntryType::kDirectory)
      return Unsuitable(FullPath(path), "is a directory");
    if (state.type != EntryType::kFile)
      return Unsuitable(FullPath(path), "is not a regular file");
    if (stamp != nullptr) *stamp = state;
    return fd;
  }

  // Calls `call` with the directory that contains `path`, reached without
  // following symbolic links, and with the last name of `path`.
  absl::Status WithParent(
      absl::string_view path,
      absl::FunctionRef<int(int dir, const char* name)> call) const {
    const size_t slash = path.rfind('/');
    UniqueFd parent;
    if (slash != absl::string_view::npos) {
      ASSIGN_OR_RETURN(parent,
                       Open(path.substr(0, slash), O_RDONLY | O_DIRECTORY));
    }
    const std::string name(
        slash == absl::string_view::npos ? path : path.substr(slash + 1));
    if (call(parent.ok() ? parent.get() : fd_.get(), name.c_str()) == 0)
      return absl::OkStatus();
    return Error(path);
  }

  const UniqueFd fd_;
  const std::string path_;
  const OpenOptions options_;
};

}  // namespace

std::string BootId() { return sys::BootId(); }

absl::StatusOr<std::unique_ptr<Dir>> OpenBaseDir(
    const std::string& absolute_path, OpenOptions options) {
  UniqueFd fd(
      ::open(absolute_path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!fd.ok()) return ErrnoStatus(errno, -1, absolute_path);
  return std::make_unique<PosixDir>(std::move(fd), absolute_path, options);
}

}  // namespace mlops::fs
