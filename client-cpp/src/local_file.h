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

// Accesses files on the client's host. Errors have no reason, and the code
// NOT_FOUND, PERMISSION_DENIED, RESOURCE_EXHAUSTED or INTERNAL. Not
// thread-safe.
namespace mlops::internal {

// Minimum file size for direct access. Smaller files take one or two messages,
// which is faster than looking for the local file.
inline constexpr int64_t kMinBytesByPath = 2 << 20;

// Returns the etag that the contract defines for a file in this state.
std::string EtagOf(const struct stat& state);
// Returns whether both states have the same modification time.
bool SameModifyTime(const struct stat& a, const struct stat& b);

// A workspace's file, opened locally after its etag proved that it is the
// server's file.
struct SameFile {
  base::UniqueFd fd;
  struct stat state = {};  // When the file was opened.

  // Opens `path` with `access`, which is O_RDONLY or O_WRONLY. Returns nullopt
  // if the file cannot be opened or has another etag. A copy, or a file on
  // another file system, always has another etag, because an etag includes
  // values that programs cannot set.
  static std::optional<SameFile> Open(const std::string& path, int access,
                                      absl::string_view etag);
};

// Reads `size` bytes from `offset` into `buffer`. Returns their number, which
// is less than `size` only at the end of the file. Error messages contain
// `path`.
absl::StatusOr<size_t> ReadBytes(int fd, int64_t offset, char* buffer,
                                 size_t size, const std::string& path);

// Copies up to `size` bytes of `from`, starting at `offset`, to the file offset
// of `to`. Copies in the kernel, and shares blocks if the file system supports
// it. Returns the number of bytes, which is less than `size` only at the end of
// `from`, or -1 with errno if the copy fails.
int64_t CopyBytes(int from, int64_t offset, int to, int64_t size);

// Closes a written file. Some file systems report write errors only at this
// point.
absl::Status CloseWritten(base::UniqueFd fd);

// A local file to upload, with its size when it was opened.
class SourceFile {
 public:
  // Returns INVALID_ARGUMENT if `path` is not a regular file.
  static absl::StatusOr<SourceFile> Open(const std::string& path);

  int fd() const { return fd_.get(); }
  int64_t size() const { return size_; }

  // Reads up to `max` bytes from `offset`. Returns ABORTED if the file has
  // become shorter since it was opened.
  absl::StatusOr<grpc::Slice> Read(int64_t offset, int64_t max) const;

 private:
  SourceFile(std::string path, base::UniqueFd fd, int64_t size)
      : path_(std::move(path)), fd_(std::move(fd)), size_(size) {}

  std::string path_;
  base::UniqueFd fd_;
  int64_t size_ = 0;
};

// A local file to download into. The content goes into a temporary file in the
// same directory, which Place() renames to the target atomically and durably.
// The new file gets the permissions of the file that it replaces. The
// destructor removes the temporary file unless Place() has succeeded.
class TargetFile {
 public:
  // Creates the temporary file for the target `path`.
  static absl::StatusOr<TargetFile> Create(const std::string& path);
  TargetFile(TargetFile&&) = default;
  ~TargetFile();

  absl::Status Append(absl::Span<const absl::string_view> pieces);
  // Appends bytes of `fd`; see CopyBytes().
  absl::StatusOr<int64_t> CopyFrom(int fd, int64_t offset, int64_t size);
  // Syncs the content, renames the file to the target, and syncs the directory.
  absl::Status Place();

 private:
  TargetFile(std::string path, std::string temporary, base::UniqueFd fd)
      : path_(std::move(path)),
        temporary_(std::move(temporary)),
        fd_(std::move(fd)) {}

  std::string path_;
  std::string temporary_;
  base::UniqueFd fd_;  // Open until Place() has renamed the file.
};

}  // namespace mlops::internal

#endif  // MLOPS_CLIENT_CPP_SRC_LOCAL_FILE_H_
