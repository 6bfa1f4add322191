#ifndef MLOPS_CLIENT_CPP_SRC_LOCAL_FILE_H_
#define MLOPS_CLIENT_CPP_SRC_LOCAL_FILE_H_

#include <sys/stat.h>

#include <cstdint>
#include <optional>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "grpcpp/support/slice.h"
#include "proto/cpp/base/unique_fd.h"

// Files on this side. Errors have no reason: NOT_FOUND, PERMISSION_DENIED,
// RESOURCE_EXHAUSTED, else INTERNAL. Not thread-safe.
namespace mlops::internal {

// Less is a message or two over the wire, which is quicker than to look for
// another way.
inline constexpr int64_t kMinBytesByPath = 2 << 20;

// The etag that the contract gives a file in this state.
std::string EtagOf(const struct stat& state);
// Whether the content was last changed at the same time.
bool SameModifyTime(const struct stat& a, const struct stat& b);

// A file of a workspace, opened by its path after it was proved to be the one
// that the server speaks of.
struct SameFile {
  base::UniqueFd fd;
  struct stat state = {};  // When it was opened.

  // `access` is O_RDONLY or O_WRONLY. Nothing if the file at `path` has another
  // etag: as a copy has, and one of another file system, since nobody can set
  // all that an etag is made of. Or if it cannot be opened here.
  static std::optional<SameFile> Open(const std::string& path, int access,
                                      absl::string_view etag);
};

// Reads `size` bytes that begin at `offset`; returns how many there were: fewer
// only at the end. `path` is for messages.
absl::StatusOr<size_t> ReadBytes(int fd, int64_t offset, char* buffer,
                                 size_t size, const std::string& path);

// Appends the bytes of `from` that begin at `offset`, at most `size`, where
// `to` stands: in the kernel, sharing the blocks where the file system can.
// Returns how many there were: fewer only at the end of `from`. -1 with errno
// if it fails.
int64_t CopyBytes(int from, int64_t offset, int to, int64_t size);

// Closes what was written to; some file systems tell only now that it failed.
absl::Status CloseWritten(base::UniqueFd fd);

// A file that is read as it was when it was opened.
class SourceFile {
 public:
  // INVALID_ARGUMENT if it is no regular file.
  static absl::StatusOr<SourceFile> Open(const std::string& path);

  int fd() const { return fd_.get(); }
  int64_t size() const { return size_; }

  // The bytes from `offset` on, at most `max`. ABORTED if the file has become
  // shorter than it was.
  absl::StatusOr<grpc::Slice> Read(int64_t offset, int64_t max) const;

 private:
  SourceFile(std::string path, base::UniqueFd fd, int64_t size)
      : path_(std::move(path)), fd_(std::move(fd)), size_(size) {}

  std::string path_;
  base::UniqueFd fd_;
  int64_t size_ = 0;
};

// A file that is written beside the one in whose place it is put, durably, once
// it is whole. It takes the permissions of the one that it replaces. Removed if
// it does not become whole.
class TargetFile {
 public:
  static absl::StatusOr<TargetFile> Create(const std::string& path);
  TargetFile(TargetFile&&) = default;
  ~TargetFile();

  absl::Status Append(absl::Span<const absl::string_view> pieces);
  // As CopyBytes().
  absl::StatusOr<int64_t> CopyFrom(int fd, int64_t offset, int64_t size);
  // Makes the content durable, then renames the file into its place, then makes
  // the name durable.
  absl::Status Place();

 private:
  TargetFile(std::string path, std::string temporary, base::UniqueFd fd)
      : path_(std::move(path)),
        temporary_(std::move(temporary)),
        fd_(std::move(fd)) {}

  std::string path_;
  std::string temporary_;
  base::UniqueFd fd_;  // Open until the file is in its place.
};

}  // namespace mlops::internal

#endif  // MLOPS_CLIENT_CPP_SRC_LOCAL_FILE_H_
