#ifndef MLOPS_SERVICE_CATALOG_CHECKPOINT_H_
#define MLOPS_SERVICE_CATALOG_CHECKPOINT_H_

#include <string>
#include <vector>

#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "service/core/workspace.h"
#include "service/fs/dir.h"

namespace mlops::catalog {

// A record that was read: what it held, and the state of the file it was read
// from.
struct SavedRecord {
  core::WorkspacePtr workspace;
  fs::FileStamp stamp;
  absl::Time read_time;
};

// The records as bytes from which they are had again faster than from their
// files. `base_path` is where they lie.
std::string EncodeCheckpoint(const std::vector<SavedRecord>& records,
                             absl::string_view base_path);

// What EncodeCheckpoint() made, in blocks of records that can be decoded each
// by itself, by any thread. A checkpoint is a cache: what is damaged is as if
// it had not been saved. Thread-safe.
class Checkpoint {
 public:
  // Without any block if the bytes are cut off, of another version or of
  // another base. They must outlive this.
  Checkpoint(absl::string_view bytes, absl::string_view base_path);

  size_t block_count() const { return blocks_.size(); }
  // The records of one block, in the order in which they were encoded; none if
  // it is damaged.
  std::vector<SavedRecord> Decode(size_t block) const;

 private:
  struct Block {
    absl::string_view bytes;
    int64_t crc;
  };

  const std::string base_path_;
  std::vector<Block> blocks_;
};

}  // namespace mlops::catalog

#endif  // MLOPS_SERVICE_CATALOG_CHECKPOINT_H_
