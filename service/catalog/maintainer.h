#ifndef MLOPS_SERVICE_CATALOG_MAINTAINER_H_
#define MLOPS_SERVICE_CATALOG_MAINTAINER_H_

#include <chrono>
#include <functional>
#include <memory>
#include <string>
#include <thread>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "service/base/clock.h"
#include "service/catalog/file_catalog.h"
#include "service/fs/watch.h"

namespace mlops::catalog {

// Runs the thread that keeps a FileCatalog fresh. It
// - detects new and removed directories within half a second;
// - detects edited records equally fast if the watcher reports them, otherwise
//   as fast as a bounded number of stats per second allows;
// - empties the trash in small steps;
// - saves the checkpoint every minute, and as soon as a restart without
//   it would have many records to read.
class Maintainer {
 public:
  struct Options {
    // Called five times a second. Should take only a small part
    // of that interval.
    std::function<void()> chore;
    // Receives each problem as it occurs, on the maintainer's thread.
    std::function<void(absl::string_view what, const absl::Status& problem)>
        report;
    // The wall clock, which the thread checks for jumps. Intervals
    // are measured by the monotonic clock.
    base::Clock clock = base::SystemClock();
  };

  // `catalog` must outlive this object. `watcher` must watch for records
  // in the catalog's base directory.
  Maintainer(FileCatalog* catalog, std::unique_ptr<fs::Watcher> watcher,
             Options options);
  // Stops the thread and saves a last checkpoint.
  ~Maintainer();

 private:
  using Monotonic = std::chrono::steady_clock;

  void Run();
  void RefreshNames();
  void RefreshRecords();
  void SweepTrash();
  void SaveCheckpoint();
  bool IsCheckpointDue() const;
  void WatchClock();
  void Report(absl::string_view what, const absl::Status& problem) const;
  // Waits for `duration`. Returns true early if the thread must stop.
  bool StopWithin(absl::Duration duration);

  FileCatalog* const catalog_;
  const std::unique_ptr<fs::Watcher> watcher_;
  const Options options_;
  absl::Mutex mutex_;
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;
  // Accessed only by the maintainer's thread.
  Monotonic::time_point next_names_ = Monotonic::time_point::min();
  // When a checkpoint is due, regardless of the number of changes.
  Monotonic::time_point next_checkpoint_;
  // No checkpoint is written before this time.
  Monotonic::time_point earliest_checkpoint_;
  // Both clocks' times at their last comparison.
  absl::Time last_time_;
  Monotonic::time_point last_monotonic_;
  std::thread thread_;
};

}  // namespace mlops::catalog

#endif  // MLOPS_SERVICE_CATALOG_MAINTAINER_H_
