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

namespace mlops::core {

// A file of a workspace, open for reading, and its state when it was opened.
struct OpenedArtifact {
  ProjectName project;
  std::unique_ptr<fs::FileReader> file;
  fs::FileStamp stamp;
  Artifact artifact;
};

// Errors as ArtifactTree::OpenFile().
absl::StatusOr<OpenedArtifact> OpenArtifact(const ArtifactTree& tree,
                                            const RelativePath& path);

// One stream that reads a range of a file. What it reads is the file that had
// the name when it was opened. Not thread-safe.
class ArtifactReader {
 public:
  // Reads the whole file.
  explicit ArtifactReader(OpenedArtifact opened);
  // Reads `size` bytes from `offset` on, all of which the file had when it was
  // opened.
  ArtifactReader(OpenedArtifact opened, int64_t offset, int64_t size);

  const Artifact& artifact() const { return opened_.artifact; }
  const fs::FileStamp& stamp() const { return opened_.stamp; }
  int64_t remaining_bytes() const { return end_ - offset_; }

  // Reads the next bytes: as many as fit into `size` and remain.
  // ABORTED/ETAG_MISMATCH if the file has become too short, or turns out at the
  // end of the range to have been overwritten; INTERNAL/IO_ERROR if it cannot
  // be read.
  absl::StatusOr<size_t> Read(char* buffer, size_t size);

  // Appends up to `size` of the next bytes to `to`, sharing blocks where the
  // file system can. Errors as Read(), and as fs::File::CopyFrom().
  absl::Status CopyTo(fs::File& to, int64_t size);

 private:
  absl::Status Advance(int64_t bytes);
  absl::Status Changed() const;
  // Whether everything that was read belongs to one state of the file. Bytes
  // appended since do no harm.
  absl::Status CheckUnchanged() const;

  const OpenedArtifact opened_;
  int64_t offset_ = 0;
  int64_t end_ = 0;
};

}  // namespace mlops::core

#endif  // MLOPS_SERVICE_ARTIFACTS_READER_H_
