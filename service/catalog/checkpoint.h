#ifndef MLOPS_SERVICE_CATALOG_CHECKPOINT_H_
#define MLOPS_SERVICE_CATALOG_CHECKPOINT_H_

#include <string>
#include <vector>

#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "service/core/workspace.h"
#include "service/fs/dir.h"

namespace mlops::catalog {

// A record that was read: what it held, and the state of the file it was read from.
struct SavedRecord {
  core::WorkspacePtr workspace;
  fs::FileStamp stamp;
  absl::Time read_time;
};

// The records as bytes from which they are had again faster than from their files. `base_path` is where they lie.
std::string EncodeCheckpoint(const std::vector<SavedRecord>& records, absl::string_view base_path);

// The records of EncodeCheckpoint(), in the same order, using up to `threads` threads. Empty if the bytes are damaged,
// of another version or of another base: a checkpoint is a cache, and there is always another way.
std::vector<SavedRecord> DecodeCheckpoint(absl::string_view bytes, absl::string_view base_path, int threads);

}  // namespace mlops::catalog

#endif  // MLOPS_SERVICE_CATALOG_CHECKPOINT_H_
