#include "service/observe/log_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <utility>

#include "absl/strings/str_cat.h"

namespace mlops::observe {
namespace {

constexpr mode_t kMode = 0644;
// Returned by OpenFile() for a file of the wrong type. None of its system calls
// returns this value.
constexpr int kUnsuitable = EBADMSG;

absl::Status CannotWrite(const std::string& path, absl::string_view why) {
  return absl::FailedPreconditionError(
      absl::StrCat("cannot write the log ", path, ": ", why));
}

}  // namespace

absl::StatusOr<std::unique_ptr<LogFile>> LogFile::Open(const std::string& path,
                                                       Options options) {
  const std::filesystem::path file(path);
  const std::string parent =
      file.has_parent_path() ? file.parent_path().string() : ".";
  // Keep the directory open, so that the log follows it when it is moved.
  base::UniqueFd dir(
      ::open(parent.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!dir.ok()) return CannotWrite(path, std::strerror(errno));
  auto log = std::unique_ptr<LogFile>(
      new LogFile(std::move(dir), file.filename().string(), options));
  switch (const int error = log->OpenFile()) {
    case 0:
    // A full disk must not prevent the server from starting.
    case ENOSPC:
    case EDQUOT:
      return log;
    case ELOOP:
    case kUnsuitable:
      return CannotWrite(path, "it is a link, or not a regular file");
    default:
      return CannotWrite(path, std::strerror(error));
  }
}

int LogFile::OpenFile() {
  if (file_.ok()) return 0;
  // O_NONBLOCK prevents open(2) from waiting for the reader of a pipe.
  const int flags = O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC |
                    (options_.follow_links ? 0 : O_NOFOLLOW | O_NONBLOCK);
  base::UniqueFd file(::openat(dir_.get(), name_.c_str(), flags, kMode));
  struct stat info;
  if (!file.ok() || ::fstat(file.get(), &info) != 0) return errno;
  is_regular_ = S_ISREG(info.st_mode);
  // Another hard link could be a file outside the directory.
  if (!options_.follow_links && (!is_regular_ || info.st_nlink != 1))
    return kUnsuitable;
  size_bytes_ = is_regular_ ? info.st_size : 0;
  file_ = std::move(file);
  return 0;
}

void LogFile::Rotate() {
  const std::string older = absl::StrCat(name_, ".1");
  if (::renameat(dir_.get(), name_.c_str(), dir_.get(), older.c_str()) != 0)
    return;
  file_.Reset();
}

void LogFile::Write(absl::string_view lines) {
  if (is_regular_ &&
      size_bytes_ + static_cast<int64_t>(lines.size()) > options_.max_bytes)
    Rotate();
  // Reopen the file after Rotate() or a failed attempt.
  if (OpenFile() != 0) return;
  while (!lines.empty()) {
    const ssize_t written = ::write(file_.get(), lines.data(), lines.size());
    if (written < 0 && errno == EINTR) continue;
    if (written <= 0) return;
    if (is_regular_) size_bytes_ += written;
    lines.remove_prefix(static_cast<size_t>(written));
  }
}

}  // namespace mlops::observe
