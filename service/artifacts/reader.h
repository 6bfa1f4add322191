#ifndef MLOPS_SERVICE_ARTIFACTS_READER_H_
#define MLOPS_SERVICE_ARTIFACTS_READER_H_

#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "service/artifacts/relative_path.h"
#include "service/artifacts/tree.h"
#include "service/core/project_name.h"
#include "service/fs/dir.h"

namespace mlops::artifacts {

// A file of a workspace that is open for reading, and its state when
// it was opened.
struct OpenedArtifact {
  core::ProjectName project;
  std::unique_ptr<fs::FileReader> file;
  fs::FileStamp stamp;
  Artifact artifact;
};

// Opens the file at `path`. Errors as ArtifactTree::OpenFile().
absl::StatusOr<OpenedArtifact> OpenArtifact(const ArtifactTree& tree,
                                            const RelativePath& path);

// Reads a range of a file sequentially. Reads the file that had the name
// when it was opened, even if the name is reused later. Not thread-safe.
class ArtifactReader {
 public:
  // Reads the whole file.
  explicit ArtifactReader(OpenedArtifact opened);
  // Reads `size` bytes starting at `offset`. The range must lie within the file
  // as it was opened.
  ArtifactReader(OpenedArtifact opened, int64_t offset, int64_t size);

  const Artifact& artifact() const { return opened_.artifact; }
  const fs::FileStamp& stamp() const { return opened_.stamp; }
  int64_t remaining_bytes() const { return end_ - offset_; }

  // Reads the next bytes, at most `size`, and returns their number.
  // ABORTED/ETAG_MISMATCH if the file was truncated, or if at the end
  // of the range it turns out to have been overwritten; INTERNAL/IO_ERROR
  // if it cannot be read.
  absl::StatusOr<size_t> Read(char* buffer, size_t size);

  // Appends at most `size` of the next bytes to `to`, sharing blocks
  // if the file system can. Errors as Read() and fs::File::CopyFrom().
  absl::Status CopyTo(fs::File& to, int64_t size);

 private:
  // Moves past bytes that were read, and at the end of the range checks
  // that they are consistent.
  absl::Status Advance(int64_t bytes);
  // Returns ABORTED/ETAG_MISMATCH for this file.
  absl::Status Changed() const;
  // Checks that all bytes read belong to one state of the file. Bytes appended
  // since then are harmless.
  absl::Status CheckUnchanged() const;

  const OpenedArtifact opened_;
  int64_t offset_ = 0;
  int64_t end_ = 0;
};

}  // namespace mlops::artifacts

#endif  // MLOPS_SERVICE_ARTIFACTS_READER_H_
