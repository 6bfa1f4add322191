#ifndef MLOPS_CLIENT_CPP_SRC_LOCAL_FILE_H_
#define MLOPS_CLIENT_CPP_SRC_LOCAL_FILE_H_

#include <cstdint>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "grpcpp/support/slice.h"
#include "service/base/unique_fd.h"

// Files on this side. Errors have no reason: NOT_FOUND, PERMISSION_DENIED, RESOURCE_EXHAUSTED, else INTERNAL. Not
// thread-safe.
namespace mlops::internal {

// A file that is read as it was when it was opened.
class SourceFile {
 public:
  // INVALID_ARGUMENT if it is no regular file.
  static absl::StatusOr<SourceFile> Open(const std::string& path);

  int64_t size() const { return size_; }

  // The bytes from `offset` on, at most `max`. ABORTED if the file has become shorter than it was.
  absl::StatusOr<grpc::Slice> Read(int64_t offset, int64_t max) const;

 private:
  SourceFile(std::string path, base::UniqueFd fd, int64_t size)
      : path_(std::move(path)), fd_(std::move(fd)), size_(size) {}

  std::string path_;
  base::UniqueFd fd_;
  int64_t size_ = 0;
};

// A file that is written beside the one in whose place it is put once it is whole. Removed if it is not.
class TargetFile {
 public:
  static absl::StatusOr<TargetFile> Create(const std::string& path);
  TargetFile(TargetFile&&) = default;
  ~TargetFile();

  absl::Status Append(absl::Span<const absl::string_view> pieces);
  absl::Status Place();

 private:
  TargetFile(std::string path, std::string temporary, base::UniqueFd fd)
      : path_(std::move(path)), temporary_(std::move(temporary)), fd_(std::move(fd)) {}

  std::string path_;
  std::string temporary_;
  base::UniqueFd fd_;  // Open until the file is in its place.
};

}  // namespace mlops::internal

#endif  // MLOPS_CLIENT_CPP_SRC_LOCAL_FILE_H_
