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

// The thread that keeps a FileCatalog fresh: new and vanished directories
// within half a second; edited records within as much where the watcher hears
// of them, else as fast as a bounded number of stats a second allows; the trash
// swept in small steps; the checkpoint saved every minute, and as soon as a
// restart would have many records to read without it.
class Maintainer {
 public:
  struct Options {
    // Called five times a second; should take little of that time.
    std::function<void()> chore;
    // Told what went wrong, each time it does, from the maintainer's thread.
    std::function<void(absl::string_view what, const absl::Status& problem)>
        report;
    base::Clock clock =
        // The wall clock, watched for jumps. Intervals are those of the
        // monotonic one.
        base::SystemClock();
  };

  // `catalog` must outlive this.
  // `watcher` hears of records in the catalog's base directory.
  Maintainer(FileCatalog* catalog, std::unique_ptr<fs::Watcher> watcher,
             Options options);
  // Ends the thread and saves a last checkpoint.
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
  // Waits; true when it is time to stop.
  bool StopWithin(absl::Duration duration);

  FileCatalog* const catalog_;
  const std::unique_ptr<fs::Watcher> watcher_;
  const Options options_;
  absl::Mutex mutex_;
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;
  // Used by the thread alone.
  Monotonic::time_point next_names_ = Monotonic::time_point::min();
  // When one is written after however few changes.
  Monotonic::time_point next_checkpoint_;
  Monotonic::time_point earliest_checkpoint_;  // Before which none is written.
  // By both clocks, when they were compared last.
  absl::Time last_time_;
  Monotonic::time_point last_monotonic_;
  std::thread thread_;
};

}  // namespace mlops::catalog

#endif  // MLOPS_SERVICE_CATALOG_MAINTAINER_H_
