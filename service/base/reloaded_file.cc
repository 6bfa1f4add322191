#include "service/base/reloaded_file.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/time/time.h"
#include "proto/cpp/base/id.h"
#include "proto/cpp/base/status_macros.h"
#include "proto/cpp/base/unique_fd.h"

namespace mlops::base {
namespace {

// Longer than a tick of any file system's clock.
constexpr absl::Duration kTick = absl::Seconds(2);
constexpr size_t kAllHexDigits = 64;

absl::Status Unusable(absl::string_view problem) {
  return absl::FailedPreconditionError(problem);
}

// Returns the contents of `fd`, at most `max_bytes` + 1 of them.
absl::StatusOr<std::string> ReadAll(int fd, size_t max_bytes) {
  std::string text;
  char buffer[1 << 16];
  while (text.size() <= max_bytes) {
    const ssize_t got = ::read(fd, buffer, sizeof(buffer));
    if (got < 0 && errno == EINTR) continue;
    if (got < 0)
      return Unusable(absl::StrCat("cannot be read: ", std::strerror(errno)));
    if (got == 0) break;
    text.append(buffer, got);
  }
  return text;
}

}  // namespace

ReloadedFile::ReloadedFile(Options options, Apply apply)
    : options_(std::move(options)), apply_(std::move(apply)) {}

ReloadedFile::Stamp ReloadedFile::StampOf(const struct stat& state) {
  const auto nanos = [](const timespec& time) {
    return time.tv_sec * int64_t{1'000'000'000} + time.tv_nsec;
  };
  return {.device = state.st_dev,
          .inode = state.st_ino,
          .size_bytes = state.st_size,
          .modify_nanos = nanos(state.st_mtim),
          .change_nanos = nanos(state.st_ctim)};
}

ReloadedFile::Stamp ReloadedFile::CurrentStamp() const {
  struct stat state;
  if (::stat(options_.path.c_str(), &state) != 0) return {};
  return StampOf(state);
}

absl::StatusOr<std::string> ReloadedFile::Read() {
  read_ = {};
  racy_ = false;
  // Without O_NONBLOCK, opening a pipe would wait for a writer.
  const UniqueFd fd(
      ::open(options_.path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  struct stat state;
  if (!fd.ok() || ::fstat(fd.get(), &state) != 0)
    return Unusable(absl::StrCat("cannot be opened: ", std::strerror(errno)));
  read_ = StampOf(state);
  // A change within the same clock tick would leave the same stamp, so Check()
  // must not rely on it.
  const absl::Duration age =
      options_.clock() - absl::FromUnixNanos(read_.change_nanos);
  racy_ = absl::AbsDuration(age) < kTick;
  if (!S_ISREG(state.st_mode)) return Unusable("is not a regular file");
  if ((state.st_mode & options_.refused_mode) != 0) {
    return Unusable(absl::StrFormat(
        "has the mode %04o, which lets other users change it or see it; "
        "run chmod so that none of the bits %04o is set",
        state.st_mode & 07777, options_.refused_mode));
  }
  ASSIGN_OR_RETURN(std::string text, ReadAll(fd.get(), options_.max_bytes));
  if (text.size() > options_.max_bytes) {
    return Unusable(
        absl::StrCat("is larger than ", options_.max_bytes, " bytes"));
  }
  return text;
}

absl::StatusOr<bool> ReloadedFile::ReadAndApply() {
  ASSIGN_OR_RETURN(const std::string text, Read());
  std::string hash = HashHex(text, kAllHexDigits);
  // The same contents need no second Apply, unless the file is not in force.
  if (!failing_ && hash == tried_) return false;
  tried_ = std::move(hash);
  RETURN_IF_ERROR(apply_(text));
  return true;
}

absl::StatusOr<bool> ReloadedFile::Load() {
  const absl::StatusOr<bool> applied = ReadAndApply();
  failing_ = !applied.ok();
  if (applied.ok()) {
    last_error_.clear();
    if (*applied) ++loads_;
    return applied;
  }
  const absl::Status& error = applied.status();
  std::string message =
      absl::StrCat(options_.what, " ", options_.path, ": ", error.message());
  // A repeated error counts once.
  if (message != last_error_) ++failures_;
  last_error_ = std::move(message);
  return absl::Status(error.code(), last_error_);
}

absl::StatusOr<bool> ReloadedFile::Check() {
  const Stamp now = CurrentStamp();
  const bool changed = now != read_ || racy_;
  // Whoever writes the file in place may not be done yet.
  const bool settled = now == std::exchange(seen_, now);
  if (!changed || !settled) return false;
  const int64_t known_failures = failures_;
  absl::StatusOr<bool> applied = Load();
  // Callers have already seen this error.
  if (!applied.ok() && failures_ == known_failures) return false;
  return applied;
}

}  // namespace mlops::base
