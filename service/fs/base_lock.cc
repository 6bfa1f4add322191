#include "service/fs/base_lock.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <fstream>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "proto/cpp/base/error.h"
#include "proto/cpp/base/status_macros.h"

namespace mlops::fs {
namespace {

using base::UniqueFd;

constexpr size_t kMaxContentBytes = 4096;

// Maps errno to a status about `path`, as Acquire() and MakeFile() promise.
absl::Status ErrnoStatus(const std::string& path) {
  const int error = errno;
  const std::string message = absl::StrCat(path, ": ", std::strerror(error));
  switch (error) {
    case EROFS:
    case EACCES:
    case EPERM:
      return absl::PermissionDeniedError(message);
    case ENOSPC:
    case EDQUOT:
      return absl::ResourceExhaustedError(message);
    case ELOOP:
      return absl::InvalidArgumentError(absl::StrCat(
          path, " is a symbolic link, which the server does not follow"));
    case ENOTDIR:
      return absl::InvalidArgumentError(
          absl::StrCat(path, " is a symbolic link, or not a directory"));
    case EISDIR:
      return absl::InvalidArgumentError(absl::StrCat(path, " is a directory"));
    default:
      return base::MakeError(
          absl::StatusCode::kInternal, message,
          {.reason = "IO_ERROR",
           .metadata = {{"path", path}, {"errno", absl::StrCat(error)}}});
  }
}

absl::Status Held() {
  return absl::FailedPreconditionError("held by another process");
}

// Locks the open file description, not the process: opening and closing
// the file elsewhere in the process does not release the lock.
int TryLockFile(int fd) {
#ifdef F_OFD_SETLK
  struct flock lock = {};
  lock.l_type = F_WRLCK;
  lock.l_whence = SEEK_SET;
  return ::fcntl(fd, F_OFD_SETLK, &lock);
#else
  return ::flock(fd, LOCK_EX | LOCK_NB);
#endif
}

// Asks whether another open file description holds the lock.
bool IsFileLocked([[maybe_unused]] int fd) {
#ifdef F_OFD_GETLK
  struct flock lock = {};
  lock.l_type = F_WRLCK;
  lock.l_whence = SEEK_SET;
  return ::fcntl(fd, F_OFD_GETLK, &lock) == 0 && lock.l_type != F_UNLCK;
#else
  return false;
#endif
}

// Looks for a flock(2) lock on the directory in the kernel's list.
bool IsDirectoryLocked(const std::string& path) {
  struct stat info;
  if (::stat(path.c_str(), &info) != 0) return false;
  const std::string id = absl::StrFormat(" %02x:%02x:%d ", major(info.st_dev),
                                         minor(info.st_dev), info.st_ino);
  std::ifstream locks("/proc/locks");
  for (std::string line; std::getline(locks, line);) {
    if (absl::StrContains(line, "FLOCK") && absl::StrContains(line, id))
      return true;
  }
  return false;
}

}  // namespace

BaseLock::BaseLock(std::string base_path, Names names)
    : base_path_(std::move(base_path)),
      names_(std::move(names)),
      file_path_(absl::StrCat(base_path_, "/", names_.dir, "/", names_.file)) {}

absl::Status BaseLock::OpenBase() {
  struct stat info;
  base_fd_.Reset(
      ::open(base_path_.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!base_fd_.ok() || ::fstat(base_fd_.get(), &info) != 0)
    return ErrnoStatus(base_path_);
  base_id_ = {info.st_dev, info.st_ino};
  return absl::OkStatus();
}

absl::StatusOr<std::unique_ptr<BaseLock>> BaseLock::Watch(
    const std::string& base_path) {
  auto lock = std::unique_ptr<BaseLock>(new BaseLock(base_path, {}));
  RETURN_IF_ERROR(lock->OpenBase());
  return lock;
}

absl::StatusOr<std::unique_ptr<BaseLock>> BaseLock::Acquire(
    const std::string& base_path, Names names) {
  auto lock =
      std::unique_ptr<BaseLock>(new BaseLock(base_path, std::move(names)));
  RETURN_IF_ERROR(lock->OpenBase());
  // Any other failure means that directories cannot be locked here.
  // Then the lock on the file must suffice.
  if (::flock(lock->base_fd_.get(), LOCK_EX | LOCK_NB) != 0 &&
      errno == EWOULDBLOCK)
    return Held();
  return lock;
}

absl::StatusOr<UniqueFd> BaseLock::OpenDir() const {
  const std::string path = absl::StrCat(base_path_, "/", names_.dir);
  if (::mkdirat(base_fd_.get(), names_.dir.c_str(), 0777) != 0 &&
      errno != EEXIST) {
    // Some systems check permissions before they check whether the directory
    // exists.
    const absl::Status failure = ErrnoStatus(path);
    if (::faccessat(base_fd_.get(), names_.dir.c_str(), F_OK, 0) != 0)
      return failure;
  }
  UniqueFd dir(::openat(base_fd_.get(), names_.dir.c_str(),
                        O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
  if (!dir.ok()) return ErrnoStatus(path);
  return dir;
}

absl::Status BaseLock::MakeFile() {
  if (has_file()) return absl::OkStatus();
  ASSIGN_OR_RETURN(const UniqueFd dir, OpenDir());
  constexpr int kFlags = O_RDWR | O_CREAT | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC;
  while (true) {
    // O_NOFOLLOW and O_NONBLOCK guard against a link or a FIFO in its place.
    struct stat opened, named;
    UniqueFd file(::openat(dir.get(), names_.file.c_str(), kFlags, 0644));
    if (!file.ok() || ::fstat(file.get(), &opened) != 0)
      return ErrnoStatus(file_path_);
    if (!S_ISREG(opened.st_mode))
      return absl::InvalidArgumentError(
          absl::StrCat(file_path_, " is not a regular file"));
    if (TryLockFile(file.get()) != 0)
      return errno == EAGAIN || errno == EACCES ? Held()
                                                : ErrnoStatus(file_path_);
    // The file may have lost its name meanwhile. A lock on it would
    // then exclude no one, so start again.
    if (::fstatat(dir.get(), names_.file.c_str(), &named,
                  AT_SYMLINK_NOFOLLOW) != 0 ||
        named.st_dev != opened.st_dev || named.st_ino != opened.st_ino) {
      continue;
    }
    file_fd_ = std::move(file);
    file_id_ = {opened.st_dev, opened.st_ino};
    has_file_.store(true, std::memory_order_release);
    return absl::OkStatus();
  }
}

std::string BaseLock::ReadContent(const std::string& base_path,
                                  const Names& names) {
  const std::string path =
      absl::StrCat(base_path, "/", names.dir, "/", names.file);
  // O_NOFOLLOW and O_NONBLOCK guard against a link or a FIFO in its place.
  const UniqueFd fd(
      ::open(path.c_str(), O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC));
  if (!fd.ok()) return "";
  std::string content(kMaxContentBytes, '\0');
  const ssize_t got = ::pread(fd.get(), content.data(), content.size(), 0);
  content.resize(got > 0 ? static_cast<size_t>(got) : 0);
  return content;
}

bool BaseLock::IsHeld(const std::string& base_path, const Names& names) {
  const std::string path =
      absl::StrCat(base_path, "/", names.dir, "/", names.file);
  const UniqueFd fd(
      ::open(path.c_str(), O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC));
  return (fd.ok() && IsFileLocked(fd.get())) || IsDirectoryLocked(base_path);
}

bool BaseLock::IsStillNamed() const {
  // The path of the lock file leads through the base, so one call checks both.
  const bool file = has_file();
  struct stat named;
  if (::lstat(file ? file_path_.c_str() : base_path_.c_str(), &named) != 0) {
    return errno != ENOENT && errno != ENOTDIR && errno != ELOOP;
  }
  const Id& id = file ? file_id_ : base_id_;
  return named.st_dev == id.device && named.st_ino == id.inode;
}

absl::Status BaseLock::WriteContent(absl::string_view text) {
  if (!has_file()) return absl::UnavailableError("there is no lock file yet");
  // Overwrite first and truncate afterwards: a full disk may have no space
  // for writing an emptied file again.
  const auto size = static_cast<ssize_t>(text.size());
  if (::pwrite(file_fd_.get(), text.data(), text.size(), 0) != size ||
      ::ftruncate(file_fd_.get(), size) != 0) {
    return ErrnoStatus(file_path_);
  }
  return absl::OkStatus();
}

}  // namespace mlops::fs
