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

// Writes lines about records to the log: at most kBurst at once, and one per
// second on average, so that a script that edits ten thousand records does not
// fill the disk. The next line written says how many lines were dropped.
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
  // Each written line advances this time by the line's price. A line that would
  // advance it beyond the present is dropped.
  absl::Duration filled_ ABSL_GUARDED_BY(mutex_);
  int64_t left_out_ ABSL_GUARDED_BY(mutex_) = 0;
};

}  // namespace mlops::catalog

#endif  // MLOPS_SERVICE_CATALOG_RECORD_LOG_H_
