#include "service/fs/fs_lock.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "proto/cpp/base/error.h"

namespace mlops::fs {
namespace {

constexpr size_t kMaxContentBytes = 4096;

absl::Status IoError(const std::string& path) {
  return base::MakeError(absl::StatusCode::kInternal, absl::StrCat(path, ": ", std::strerror(errno)),
                         {.reason = "IO_ERROR", .metadata = {{"path", path}, {"errno", absl::StrCat(errno)}}});
}

// A lock of the open file, not of the process: it is not lost when the file is opened and closed elsewhere.
int TryLock(int fd) {
#ifdef F_OFD_SETLK
  struct flock lock = {};
  lock.l_type = F_WRLCK;
  lock.l_whence = SEEK_SET;
  return ::fcntl(fd, F_OFD_SETLK, &lock);
#else
  return ::flock(fd, LOCK_EX | LOCK_NB);
#endif
}

// Whether `path` still names the file that is open: a lock on an unlinked one keeps nobody out.
bool Names(const std::string& path, int fd) {
  struct stat open_file, named_file;
  return ::fstat(fd, &open_file) == 0 && ::stat(path.c_str(), &named_file) == 0 &&
         open_file.st_dev == named_file.st_dev && open_file.st_ino == named_file.st_ino;
}

}  // namespace

absl::StatusOr<std::unique_ptr<LockFile>> LockFile::Acquire(const std::string& path) {
  while (true) {
    base::UniqueFd fd(::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0644));
    if (!fd.ok()) return IoError(path);
    if (TryLock(fd.get()) != 0) {
      if (errno == EAGAIN || errno == EACCES) return absl::FailedPreconditionError("held by another process");
      return IoError(path);
    }
    if (Names(path, fd.get())) return std::unique_ptr<LockFile>(new LockFile(std::move(fd), path));
  }
}

std::string LockFile::ReadContent(const std::string& path) {
  const base::UniqueFd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!fd.ok()) return "";
  std::string content(kMaxContentBytes, '\0');
  const ssize_t got = ::pread(fd.get(), content.data(), content.size(), 0);
  content.resize(got > 0 ? static_cast<size_t>(got) : 0);
  return content;
}

bool LockFile::IsStillNamed() const { return Names(path_, fd_.get()); }

absl::Status LockFile::WriteContent(absl::string_view text) {
  // Written over what stands there, and cut only then: that needs no space that a full disk would not give.
  const auto size = static_cast<ssize_t>(text.size());
  if (::pwrite(fd_.get(), text.data(), text.size(), 0) != size || ::ftruncate(fd_.get(), size) != 0) {
    return IoError(path_);
  }
  return absl::OkStatus();
}

}  // namespace mlops::fs
