#ifndef MLOPS_SERVICE_ARTIFACTS_UPLOAD_RECORD_H_
#define MLOPS_SERVICE_ARTIFACTS_UPLOAD_RECORD_H_

#include <cstdint>
#include <optional>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "service/fs/dir.h"

namespace mlops::artifacts {

// Content of `<id>.json` in the hidden directory: describes the upload whose
// bytes are staged in `<id>.part`.
struct UploadRecord {
  // Identifies the finished file. Written after the part is synced and before
  // it is renamed, so a file of this state at `path` is the finished upload.
  struct Content {
    std::string sha256;
    int64_t size_bytes = 0;
    int64_t modify_ns = 0;
  };

  // Returns whether `stamp` is the state of the part, or of the artifact that
  // it became. Compares the birth time, where the file system has one, because
  // the inode may have been reused.
  bool IsOf(const fs::FileStamp& stamp) const;
  // Returns whether `stamp` is the state of the finished file, unchanged.
  bool IsFinishedAs(const fs::FileStamp& stamp) const;

  std::string path;  // As on the wire.
  // Boot of the machine in which the part was created.
  std::string boot_id;
  uint64_t inode = 0;  // Inode of the part, and then of the artifact.
  std::optional<int64_t> birth_ns;
  std::optional<Content> content;
};

// Returns the record of an upload that is staged as `part`, without content.
UploadRecord NewUploadRecord(std::string path, std::string boot_id,
                             const fs::FileStamp& part);

// Returns the names of an upload's files in the hidden directory.
std::string PartName(absl::string_view upload_id);
std::string RecordName(absl::string_view upload_id);

// Reads a record. Returns nullopt if there is none, or if a crash tore it,
// because records are not synced. Returns other errors of fs::Dir::ReadFile()
// unchanged.
absl::StatusOr<std::optional<UploadRecord>> ReadUploadRecord(
    const fs::Dir& dir, absl::string_view upload_id);
// Replaces a record atomically. The caller must have claimed the upload.
absl::Status WriteUploadRecord(fs::Dir& dir, absl::string_view upload_id,
                               const UploadRecord& record);

// Removes a file; a no-op if it does not exist.
absl::Status RemoveIfThere(fs::Dir& dir, absl::string_view name);

}  // namespace mlops::artifacts

#endif  // MLOPS_SERVICE_ARTIFACTS_UPLOAD_RECORD_H_
