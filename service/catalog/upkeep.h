#ifndef MLOPS_SERVICE_CATALOG_UPKEEP_H_
#define MLOPS_SERVICE_CATALOG_UPKEEP_H_

#include <memory>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "service/base/clock.h"
#include "service/catalog/file_catalog.h"
#include "service/fs/watch.h"

namespace mlops::catalog {

// Does the periodic work that keeps a FileCatalog fresh and its base tidy. Each
// method does one bounded step. If the owner calls all of them five times a
// second,
// - new and removed directories are detected within half a second;
// - edited records are detected equally fast if the watcher reports them,
//   otherwise as fast as 10,000 stats per second allow.
// Each method returns an error for the log. All work is best effort, because
// the files are authoritative: the next call or start retries.
// Not thread-safe.
class Upkeep {
 public:
  struct Options {
    // The wall clock, which WatchClock() checks for jumps.
    base::Clock clock = base::SystemClock();
    // Measures all intervals.
    base::SteadyClock steady_clock = base::SystemSteadyClock();
  };

  // `catalog` must outlive this object. `watcher` must watch for records in the
  // catalog's base directory.
  Upkeep(FileCatalog* catalog, std::unique_ptr<fs::Watcher> watcher,
         Options options);

  // Detects new and removed directories. Takes long if a large base has
  // changed, so do not call it again at once.
  absl::Status RefreshNames();

  // Detects edits of records. Returns RESOURCE_EXHAUSTED if the operating
  // system lost events, so that some edits are detected late.
  absl::Status RefreshRecords();

  // Removes some of the files of workspaces that have expired in the trash.
  absl::Status SweepTrash();

  // Saves the checkpoint every minute, and earlier if a restart would otherwise
  // have many records to read. Takes long if there are many records, so do not
  // call it again at once either.
  absl::Status SaveCheckpoint();

  // Returns OUT_OF_RANGE if the wall clock has jumped since the last call.
  // Times in the trash and file stamps depend on that clock, so a jump in the
  // log explains surprising results.
  absl::Status WatchClock();

 private:
  bool IsCheckpointDue() const;

  FileCatalog* const catalog_;
  const std::unique_ptr<fs::Watcher> watcher_;
  const Options options_;
  // Durations are steady times.
  // When a checkpoint is due, regardless of the number of changes.
  absl::Duration next_checkpoint_;
  // No checkpoint is written before this time.
  absl::Duration earliest_checkpoint_;
  // Both clocks' times at their last comparison.
  absl::Time last_time_;
  absl::Duration last_steady_time_;
};

}  // namespace mlops::catalog

#endif  // MLOPS_SERVICE_CATALOG_UPKEEP_H_
