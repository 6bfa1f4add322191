#ifndef MLOPS_SERVICE_ARTIFACTS_UPLOAD_RECORD_H_
#define MLOPS_SERVICE_ARTIFACTS_UPLOAD_RECORD_H_

#include <cstdint>
#include <optional>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "service/fs/dir.h"

namespace mlops::core {

// What `<id>.json` in the hidden directory says of an upload, whose bytes are
// staged in `<id>.part`.
struct UploadRecord {
  // The whole content, once `finish` came and the part was synced. It is
  // written before the part gets its name as an artifact, so a file of this
  // state at `path` is what the upload became.
  struct Content {
    std::string sha256;
    int64_t size_bytes = 0;
    int64_t modify_ns = 0;
  };

  // Whether `stamp` is the state of the part, or of the artifact that it
  // became. An inode alone does not tell: it may be another file's by now. The
  // time of birth does, where the file system has it.
  bool IsOf(const fs::FileStamp& stamp) const;
  // Whether a file of this state holds exactly what the upload made of it.
  bool IsFinishedAs(const fs::FileStamp& stamp) const;

  std::string path;  // As on the wire.
  // Of the run of the machine in which the part was begun.
  std::string boot_id;
  uint64_t inode = 0;  // Of the part, and so of the artifact.
  std::optional<int64_t> birth_ns;
  std::optional<Content> content;
};

// The record of the upload that is staged as `part`, before its content is
// known.
UploadRecord NewUploadRecord(std::string path, std::string boot_id,
                             const fs::FileStamp& part);

// Names in the hidden directory.
std::string PartName(absl::string_view upload_id);
std::string RecordName(absl::string_view upload_id);

// nullopt if there is no record, or one that is torn: it is never synced.
// Errors as fs::Dir::ReadFile() for everything else, which says nothing about
// the upload.
absl::StatusOr<std::optional<UploadRecord>> ReadUploadRecord(
    const fs::Dir& dir, absl::string_view upload_id);
// Replaces the record as a whole. To be called by the one who has claimed the
// upload.
absl::Status WriteUploadRecord(fs::Dir& dir, absl::string_view upload_id,
                               const UploadRecord& record);

// Removes a file if it is there.
absl::Status RemoveIfThere(fs::Dir& dir, absl::string_view name);

}  // namespace mlops::core

#endif  // MLOPS_SERVICE_ARTIFACTS_UPLOAD_RECORD_H_
