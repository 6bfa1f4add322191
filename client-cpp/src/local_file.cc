#include "client-cpp/src/local_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>
#ifdef __linux__
#include <sys/sendfile.h>
#endif

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <memory>

#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "proto/cpp/base/decimal_nanos.h"
#include "proto/cpp/base/id.h"
#include "proto/cpp/base/status_macros.h"
#include "proto/cpp/wire_data.h"

namespace mlops::internal {
namespace {

constexpr size_t kMaxPieces = 256;  // Per writev(); the kernel allows 1024.
constexpr size_t kEtagDigits = 16;
constexpr size_t kCopyBytes = 1 << 20;
constexpr mode_t kNewMode = 0666;  // Before the umask applies.
constexpr mode_t kPrivateMode = 0600;
constexpr mode_t kPermissions = 0777;

absl::StatusCode CodeOf(int error) {
  switch (error) {
    case ENOENT:
    case ENOTDIR:
      return absl::StatusCode::kNotFound;
    case EACCES:
    case EPERM:
    case EROFS:
      return absl::StatusCode::kPermissionDenied;
    case ENOSPC:
    case EDQUOT:
      return absl::StatusCode::kResourceExhausted;
    default:
      return absl::StatusCode::kInternal;
  }
}

absl::Status ErrnoError(absl::string_view what, const std::string& path) {
  const int error = errno;
  return absl::Status(CodeOf(error), absl::StrCat("Cannot ", what, " ", path,
                                                  ": ", std::strerror(error)));
}

// Repeats `call` as long as signals interrupt it.
template <typename Call>
auto Uninterrupted(Call call) {
  auto result = call();
  while (result < 0 && errno == EINTR) result = call();
  return result;
}

#ifdef __APPLE__
const timespec& ModifyTime(const struct stat& state) {
  return state.st_mtimespec;
}
const timespec& ChangeTime(const struct stat& state) {
  return state.st_ctimespec;
}
#else
const timespec& ModifyTime(const struct stat& state) { return state.st_mtim; }
const timespec& ChangeTime(const struct stat& state) { return state.st_ctim; }
#endif

std::string Nanos(const timespec& time) {
  return base::DecimalNanos(absl::TimeFromTimespec(time));
}

// Syncs the parent directory of `path`, so that its entries are durable.
absl::Status SyncDirectoryOf(const std::string& path) {
  const std::filesystem::path parent =
      std::filesystem::path(path).parent_path();
  const std::string directory = parent.empty() ? "." : parent.string();
  const base::UniqueFd fd(
      ::open(directory.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  // A directory without read permission cannot be opened, and so not be synced.
  if (!fd.ok())
    return errno == EACCES ? absl::OkStatus() : ErrnoError("open", directory);
  const bool synced = Uninterrupted([&] { return ::fsync(fd.get()); }) == 0;
  // File systems that cannot sync directories return EINVAL.
  return synced || errno == EINVAL ? absl::OkStatus()
                                   : ErrnoError("sync", directory);
}

// A function that copies up to `size` bytes of `from`, starting at `offset`, to
// the file offset of `to`. Returns the number of bytes, which may be less than
// `size` at any time, or -1 with errno if the copy fails.
using Copy = int64_t (*)(int from, int64_t offset, int to, int64_t size);

#ifdef __linux__
int64_t CopyRange(int from, int64_t offset, int to, int64_t size) {
  off64_t at = offset;
  return ::copy_file_range(from, &at, to, nullptr, static_cast<size_t>(size),
                           0);
}

int64_t Send(int from, int64_t offset, int to, int64_t size) {
  off_t at = offset;
  return ::sendfile(to, from, &at, static_cast<size_t>(size));
}
#endif

int64_t CopyByHand(int from, int64_t offset, int to, int64_t size) {
  const size_t wanted = std::min(static_cast<size_t>(size), kCopyBytes);
  const auto buffer = std::make_unique_for_overwrite<char[]>(wanted);
  const ssize_t got = ::pread(from, buffer.get(), wanted, offset);
  return got <= 0 ? got : ::write(to, buffer.get(), static_cast<size_t>(got));
}

// The ways to copy, fastest first. If one fails for any reason, the next one
// copies the rest or fails with the same error.
constexpr Copy kCopies[] = {
#ifdef __linux__
    CopyRange, Send,
#endif
    CopyByHand};

}  // namespace

std::string EtagOf(const struct stat& state) {
  return base::HashHex(
      absl::StrCat(state.st_ino, " ", state.st_size, " ",
                   Nanos(ModifyTime(state)), " ", Nanos(ChangeTime(state))),
      kEtagDigits);
}

bool SameModifyTime(const struct stat& a, const struct stat& b) {
  return Nanos(ModifyTime(a)) == Nanos(ModifyTime(b));
}

std::optional<SameFile> SameFile::Open(const std::string& path, int access,
                                       absl::string_view etag) {
  // Do not follow a symbolic link, and do not block on a FIFO without a peer.
  SameFile file;
  file.fd.Reset(
      ::open(path.c_str(), access | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC));
  if (!file.fd.ok() || ::fstat(file.fd.get(), &file.state) != 0)
    return std::nullopt;
  if (!S_ISREG(file.state.st_mode) || EtagOf(file.state) != etag)
    return std::nullopt;
  return file;
}

absl::StatusOr<size_t> ReadBytes(int fd, int64_t offset, char* buffer,
                                 size_t size, const std::string& path) {
  size_t done = 0;
  while (done < size) {
    const auto read = [&] {
      return ::pread(fd, buffer + done, size - done,
                     offset + static_cast<int64_t>(done));
    };
    const ssize_t got = Uninterrupted(read);
    if (got < 0) return ErrnoError("read", path);
    if (got == 0) break;
    done += static_cast<size_t>(got);
  }
  return done;
}

int64_t CopyBytes(int from, int64_t offset, int to, int64_t size) {
  // Each way continues where the previous one stopped. `got` is the result of
  // the last call.
  int64_t copied = 0, got = 0;
  const auto some = [&](Copy copy) {
    return copy(from, offset + copied, to, size - copied);
  };
  for (const Copy copy : kCopies) {
    while (copied < size &&
           (got = Uninterrupted([&] { return some(copy); })) > 0)
      copied += got;
  }
  return copied > 0 || got == 0 ? copied : -1;
}

absl::Status CloseWritten(base::UniqueFd fd) {
  return ::close(fd.Release()) == 0
             ? absl::OkStatus()
             : ErrnoError("write", "the file that the server has staged");
}

absl::StatusOr<SourceFile> SourceFile::Open(const std::string& path) {
  // Use O_NONBLOCK, because opening a FIFO without a writer would block.
  base::UniqueFd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  if (!fd.ok()) return ErrnoError("open", path);
  struct stat stat = {};
  if (::fstat(fd.get(), &stat) != 0) return ErrnoError("stat", path);
  if (!S_ISREG(stat.st_mode))
    return absl::InvalidArgumentError(
        absl::StrCat(path, " is not a regular file"));
  return SourceFile(path, std::move(fd), stat.st_size);
}

absl::StatusOr<grpc::Slice> SourceFile::Read(int64_t offset,
                                             int64_t max) const {
  const size_t size = static_cast<size_t>(std::min(max, size_ - offset));
  return wire::MakeSlice(size, [&](char* data) -> absl::Status {
    ASSIGN_OR_RETURN(const size_t got,
                     ReadBytes(fd_.get(), offset, data, size, path_));
    if (got < size)
      return absl::AbortedError(absl::StrCat(
          path_, " became shorter during the upload; upload it again"));
    return absl::OkStatus();
  });
}

absl::StatusOr<TargetFile> TargetFile::Create(const std::string& path) {
  const std::filesystem::path target(path);
  // Leave room for the suffix in the 255 bytes of a name.
  const std::string name =
      absl::StrCat(".", target.filename().string().substr(0, 200), ".",
                   base::RandomId().substr(0, 12));
  std::string temporary = (target.parent_path() / name).string();
  // The temporary file never grants more access than the file that it replaces:
  // it starts private, and gets the final permissions before any content.
  struct stat replaced = {};
  const bool replaces =
      ::stat(path.c_str(), &replaced) == 0 && S_ISREG(replaced.st_mode);
  const mode_t mode = replaces ? kPrivateMode : kNewMode;
  base::UniqueFd fd(
      ::open(temporary.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, mode));
  if (!fd.ok()) return ErrnoError("create", temporary);
  TargetFile file(path, std::move(temporary), std::move(fd));
  if (replaces &&
      ::fchmod(file.fd_.get(), replaced.st_mode & kPermissions) != 0) {
    return ErrnoError("set the permissions of", file.temporary_);
  }
  return file;
}

TargetFile::~TargetFile() {
  if (fd_.ok()) ::unlink(temporary_.c_str());
}

absl::Status TargetFile::Append(absl::Span<const absl::string_view> pieces) {
  size_t skip = 0;  // Bytes of the first piece that are already written.
  while (!pieces.empty()) {
    // Write many pieces with one system call.
    std::array<iovec, kMaxPieces> vectors;
    const size_t count = std::min(pieces.size(), kMaxPieces);
    for (size_t i = 0; i < count; ++i) {
      const absl::string_view piece = pieces[i].substr(i == 0 ? skip : 0);
      vectors[i] = {.iov_base = const_cast<char*>(piece.data()),
                    .iov_len = piece.size()};
    }
    const ssize_t written =
        ::writev(fd_.get(), vectors.data(), static_cast<int>(count));
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) return ErrnoError("write", temporary_);
    // writev() may write only a part of the bytes and stop inside a piece.
    skip += static_cast<size_t>(written);
    while (!pieces.empty() && skip >= pieces.front().size()) {
      skip -= pieces.front().size();
      pieces.remove_prefix(1);
    }
  }
  return absl::OkStatus();
}

absl::StatusOr<int64_t> TargetFile::CopyFrom(int fd, int64_t offset,
                                             int64_t size) {
  const int64_t copied = CopyBytes(fd, offset, fd_.get(), size);
  if (copied < 0) return ErrnoError("write", temporary_);
  return copied;
}

absl::Status TargetFile::Place() {
  // Sync the content before the rename, so that after a power cut the name
  // refers to either the old file or the complete new one.
  if (Uninterrupted([&] { return ::fsync(fd_.get()); }) != 0)
    return ErrnoError("sync", temporary_);
  if (::rename(temporary_.c_str(), path_.c_str()) != 0)
    return ErrnoError("replace", path_);
  // From here on, the destructor must not remove the file.
  fd_.Reset();
  return SyncDirectoryOf(path_);
}

}  // namespace mlops::internal
