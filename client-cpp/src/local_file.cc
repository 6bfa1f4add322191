#include "client-cpp/src/local_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <filesystem>

#include "absl/strings/str_cat.h"
#include "proto/cpp/wire_data.h"
#include "service/base/id.h"
#include "service/base/status_macros.h"

namespace mlops::internal {
namespace {

constexpr size_t kMaxPieces = 256;  // Of one call; the system allows 1024.

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
  return absl::Status(CodeOf(error), absl::StrCat("Cannot ", what, " ", path, ": ", std::strerror(error)));
}

}  // namespace

absl::StatusOr<SourceFile> SourceFile::Open(const std::string& path) {
  // A FIFO without a writer would be waited for.
  base::UniqueFd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  if (!fd.ok()) return ErrnoError("open", path);
  struct stat stat = {};
  if (::fstat(fd.get(), &stat) != 0) return ErrnoError("look at", path);
  if (!S_ISREG(stat.st_mode)) return absl::InvalidArgumentError(absl::StrCat(path, " is no regular file"));
  return SourceFile(path, std::move(fd), stat.st_size);
}

absl::StatusOr<grpc::Slice> SourceFile::Read(int64_t offset, int64_t max) const {
  const size_t size = static_cast<size_t>(std::min(max, size_ - offset));
  return wire::MakeSlice(size, [&](char* data) -> absl::Status {
    for (size_t done = 0; done < size;) {
      const ssize_t got = ::pread(fd_.get(), data + done, size - done, offset + static_cast<int64_t>(done));
      if (got < 0 && errno == EINTR) continue;
      if (got < 0) return ErrnoError("read", path_);
      if (got == 0) return absl::AbortedError(absl::StrCat(path_, " became shorter while it was read"));
      done += static_cast<size_t>(got);
    }
    return absl::OkStatus();
  });
}

absl::StatusOr<TargetFile> TargetFile::Create(const std::string& path) {
  const std::filesystem::path target(path);
  const std::string name =
      absl::StrCat(".", target.filename().string().substr(0, 200), ".", base::RandomId().substr(0, 12));
  std::string temporary = (target.parent_path() / name).string();
  base::UniqueFd fd(::open(temporary.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666));
  if (!fd.ok()) return ErrnoError("create", temporary);
  return TargetFile(path, std::move(temporary), std::move(fd));
}

TargetFile::~TargetFile() {
  if (fd_.ok()) ::unlink(temporary_.c_str());
}

absl::Status TargetFile::Append(absl::Span<const absl::string_view> pieces) {
  size_t skip = 0;  // Of the first piece.
  while (!pieces.empty()) {
    std::array<iovec, kMaxPieces> vectors;
    const size_t count = std::min(pieces.size(), kMaxPieces);
    for (size_t i = 0; i < count; ++i) {
      const absl::string_view piece = pieces[i].substr(i == 0 ? skip : 0);
      vectors[i] = {.iov_base = const_cast<char*>(piece.data()), .iov_len = piece.size()};
    }
    const ssize_t written = ::writev(fd_.get(), vectors.data(), static_cast<int>(count));
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) return ErrnoError("write", temporary_);
    skip += static_cast<size_t>(written);
    while (!pieces.empty() && skip >= pieces.front().size()) {
      skip -= pieces.front().size();
      pieces.remove_prefix(1);
    }
  }
  return absl::OkStatus();
}

absl::Status TargetFile::Place() {
  if (::rename(temporary_.c_str(), path_.c_str()) != 0) return ErrnoError("replace", path_);
  const int fd = fd_.Release();
  return ::close(fd) == 0 ? absl::OkStatus() : ErrnoError("write", path_);
}

}  // namespace mlops::internal
