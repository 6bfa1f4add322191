#ifndef MLOPS_SERVICE_CATALOG_RECORD_LOG_H_
#define MLOPS_SERVICE_CATALOG_RECORD_LOG_H_

#include <cstdint>
#include <functional>

#include "absl/base/thread_annotations.h"
#include "absl/strings/string_view.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "service/base/clock.h"

namespace mlops::catalog {

// Writes lines about records to the log, at most kBurst at once and one per
// second on average: a script that edits ten thousand records must not fill
// the disk. The next line that is written says how many lines were dropped.
// Thread-safe.
class RecordLog {
 public:
  using Sink = std::function<void(absl::string_view line)>;
  static constexpr int kBurst = 20;

  // A null `sink` drops all lines.
  RecordLog(Sink sink, base::SteadyClock clock);

  // Writes `line`, or drops it if the limit is exceeded.
  void Write(absl::string_view line);

 private:
  const Sink sink_;
  const base::SteadyClock clock_;
  absl::Mutex mutex_;
  // The time up to which the written lines have used the budget.
  absl::Duration filled_ ABSL_GUARDED_BY(mutex_);
  int64_t left_out_ ABSL_GUARDED_BY(mutex_) = 0;
};

}  // namespace mlops::catalog

#endif  // MLOPS_SERVICE_CATALOG_RECORD_LOG_H_
