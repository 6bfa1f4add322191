#include "service/observe/audit_file.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <utility>

#include "absl/strings/str_cat.h"
#include "proto/cpp/base/error.h"

namespace mlops::observe {
namespace {

constexpr mode_t kMode = 0640;
// Returned by OpenFile() for a file of the wrong type. None of its system calls
// returns this value.
constexpr int kUnsuitable = EBADMSG;

absl::Status CannotOpen(const std::string& path, absl::string_view why) {
  return absl::FailedPreconditionError(
      absl::StrCat("cannot write the audit log ", path, ": ", why));
}

bool IsFull(int error) {
  return error == ENOSPC || error == EDQUOT || error == EFBIG;
}

bool EndsMidLine(int fd, int64_t size_bytes) {
  char last = '\n';
  return size_bytes > 0 && ::pread(fd, &last, 1, size_bytes - 1) == 1 &&
         last != '\n';
}

}  // namespace

absl::StatusOr<std::unique_ptr<AuditFile>> AuditFile::Open(
    const std::string& path, const Options& options) {
  const std::filesystem::path file(path);
  const std::string parent =
      file.has_parent_path() ? file.parent_path().string() : ".";
  base::UniqueFd dir(
      ::open(parent.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!dir.ok()) return CannotOpen(path, std::strerror(errno));
  if (::faccessat(dir.get(), ".", W_OK | X_OK, AT_EACCESS) != 0) {
    return CannotOpen(path,
                      "its directory cannot be written, which is needed "
                      "to set full files aside");
  }
  auto audit = std::unique_ptr<AuditFile>(
      new AuditFile(std::move(dir), path, file.filename().string(), options));
  const int error = audit->OpenFile();
  if (error == 0 || IsFull(error)) return audit;
  if (error == EWOULDBLOCK)
    return CannotOpen(path, "another process is writing it");
  if (error == ELOOP || error == kUnsuitable)
    return CannotOpen(path, "it is a link, or not a regular file");
  return CannotOpen(path, std::strerror(error));
}

absl::Status AuditFile::EnsureOpen() {
  // Finish the lines in the current file, even if it has lost its name.
  if (file_.ok() && (is_unsynced_ || is_mid_line_ || IsStillNamed()))
    return absl::OkStatus();
  const int error = OpenFile();
  return error == 0 ? absl::OkStatus() : Error(error);
}

int AuditFile::OpenFile() {
  // O_NONBLOCK prevents open(2) from waiting for the reader of a pipe.
  base::UniqueFd file(::openat(
      dir_.get(), name_.c_str(),
      O_RDWR | O_APPEND | O_CREAT | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK,
      kMode));
  struct stat info;
  if (!file.ok() || ::fstat(file.get(), &info) != 0) return errno;
  // Another hard link could be a file outside the directory.
  if (!S_ISREG(info.st_mode) || info.st_nlink != 1) return kUnsuitable;
  // Two processes would set each other's files aside. Ignore other errors: not
  // every file system supports locks.
  if (::flock(file.get(), LOCK_EX | LOCK_NB) != 0 && errno == EWOULDBLOCK)
    return EWOULDBLOCK;
  size_bytes_ = durable_bytes_ = info.st_size;
  is_cut_off_ = EndsMidLine(file.get(), info.st_size);
  // The file may be new, so its name must be synced.
  are_names_unsynced_ = true;
  file_ = std::move(file);
  return 0;
}

bool AuditFile::IsStillNamed() const {
  struct stat named, own;
  return ::fstatat(dir_.get(), name_.c_str(), &named, AT_SYMLINK_NOFOLLOW) ==
             0 &&
         ::fstat(file_.get(), &own) == 0 && named.st_dev == own.st_dev &&
         named.st_ino == own.st_ino;
}

std::string AuditFile::NameOf(int number) const {
  return number == 0 ? name_ : absl::StrCat(name_, ".", number);
}

bool AuditFile::HasRoom(size_t bytes) const {
  return is_mid_line_ || size_bytes_ == 0 ||
         size_bytes_ + static_cast<int64_t>(bytes) <= options_.max_bytes;
}

absl::Status AuditFile::StartNew() {
  const bool is_named = file_.ok() && IsStillNamed();
  // Without durable bytes, everything in the file will be appended again.
  // Remove it, because setting it aside would push out an older file.
  const bool is_worthless = durable_bytes_ == 0;
  file_.Reset();
  size_bytes_ = 0;
  is_unsynced_ = is_mid_line_ = false;
  if (!is_named) return absl::OkStatus();
  if (is_worthless) {
    are_names_unsynced_ = true;
    return ::unlinkat(dir_.get(), name_.c_str(), 0) == 0 ? absl::OkStatus()
                                                         : Error(errno);
  }
  // Move only as many files as needed. A crash between two renames leaves a gap
  // in the numbers, which the next call closes.
  int last = 1;
  while (last < options_.older_files &&
         ::faccessat(dir_.get(), NameOf(last).c_str(), F_OK,
                     AT_SYMLINK_NOFOLLOW) == 0)
    ++last;
  // Rename the oldest first, so that no rename replaces a file that is still
  // needed.
  for (int number = last; number > 0; --number) {
    if (::renameat(dir_.get(), NameOf(number - 1).c_str(), dir_.get(),
                   NameOf(number).c_str()) != 0)
      return Error(errno);
  }
  are_names_unsynced_ = true;
  return absl::OkStatus();
}

size_t AuditFile::Append(absl::string_view lines, absl::Status* problem) {
  *problem = EnsureOpen();
  if (!problem->ok()) return 0;
  const auto write = [&](absl::string_view text) {
    size_t done = 0;
    while (done < text.size()) {
      const ssize_t written =
          ::write(file_.get(), text.data() + done, text.size() - done);
      if (written < 0 && errno == EINTR) continue;
      if (written <= 0) {
        *problem = Error(errno);
        break;
      }
      done += static_cast<size_t>(written);
    }
    is_unsynced_ = is_unsynced_ || done > 0;
    size_bytes_ += static_cast<int64_t>(done);
    return done;
  };
  // End a cut-off line first, or the next line would be damaged too.
  if (is_cut_off_ && write("\n") == 0) return 0;
  is_cut_off_ = false;
  const size_t done = write(lines);
  if (done > 0) is_mid_line_ = lines[done - 1] != '\n';
  return done;
}

absl::Status AuditFile::Sync() {
  if (!is_unsynced_) return absl::OkStatus();
  if (::fsync(file_.get()) != 0) return Error(errno);
  // Some file systems cannot sync a directory, and need not.
  if (are_names_unsynced_ && ::fsync(dir_.get()) != 0 && errno != EINVAL)
    return Error(errno);
  are_names_unsynced_ = false;
  // If the file has been removed, its lines must be written again.
  struct stat info;
  if (::fstat(file_.get(), &info) != 0) return Error(errno);
  if (info.st_nlink == 0) return Error(ENOENT);
  is_unsynced_ = false;
  durable_bytes_ = size_bytes_;
  return absl::OkStatus();
}

absl::Status AuditFile::Error(int error) const {
  const std::string message = absl::StrCat(
      "The audit log ", path_, " cannot be written: ", std::strerror(error));
  if (!IsFull(error)) {
    return base::MakeError(
        absl::StatusCode::kInternal, message,
        {.reason = "IO_ERROR",
         .metadata = {{"path", path_}, {"errno", absl::StrCat(error)}}});
  }
  struct statvfs info;
  const uint64_t available = ::fstatvfs(dir_.get(), &info) == 0
                                 ? uint64_t{info.f_bavail} * info.f_frsize
                                 : 0;
  return base::MakeError(
      absl::StatusCode::kResourceExhausted, message,
      {.reason = "NO_SPACE",
       .metadata = {{"path", path_},
                    {"available_bytes", absl::StrCat(available)}}});
}

}  // namespace mlops::observe
