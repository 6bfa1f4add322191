#ifndef MLOPS_SERVICE_CATALOG_CHECKPOINT_H_
#define MLOPS_SERVICE_CATALOG_CHECKPOINT_H_

#include <string>
#include <vector>

#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "service/core/workspace.h"
#include "service/fs/dir.h"

namespace mlops::catalog {

// A record and the state of its file at the time it was read.
struct SavedRecord {
  core::WorkspacePtr workspace;
  fs::FileStamp stamp;
  absl::Time read_time;
};

// The history of changes that led to the records, for watchers.
struct SavedHistory {
  // The output of core::EncodeHistory(); "" if the history is unknown.
  std::string changes;
  // The projects whose records could not be read, and therefore are not saved.
  std::vector<std::string> unreachable;
};

// Encodes `records` of the base directory `base_path`, so that the next start
// can load them faster than from their files.
std::string EncodeCheckpoint(const std::vector<SavedRecord>& records,
                             absl::string_view base_path,
                             const SavedHistory& history = {});

enum class CheckpointState { kGood, kOtherVersion, kOtherBase, kDamaged };
// Returns whether the next start could use `bytes` as the checkpoint of
// `base_path`, or why not.
CheckpointState InspectCheckpoint(absl::string_view bytes,
                                  absl::string_view base_path);

// Decodes the output of EncodeCheckpoint(). The records come in blocks, which
// threads can decode independently. A checkpoint is a cache: damaged parts
// count as not saved. Thread-safe.
class Checkpoint {
 public:
  // Makes a checkpoint without blocks if `bytes` is truncated, has another
  // format version, belongs to another base, or has a damaged history. `bytes`
  // must outlive this object.
  Checkpoint(absl::string_view bytes, absl::string_view base_path);

  // Returns false if there are no blocks for one of these reasons.
  bool usable() const { return usable_; }
  size_t block_count() const { return blocks_.size(); }
  // Returns the history of changes that led to the records.
  const SavedHistory& history() const { return history_; }
  // Returns the records of one block in the order in which they were encoded,
  // or none if the block is damaged. An intact block is never empty.
  std::vector<SavedRecord> Decode(size_t block) const;

 private:
  struct Block {
    absl::string_view bytes;
    int64_t crc;
  };

  const std::string base_path_;
  SavedHistory history_;
  std::vector<Block> blocks_;
  bool usable_ = false;
};

}  // namespace mlops::catalog

#endif  // MLOPS_SERVICE_CATALOG_CHECKPOINT_H_
