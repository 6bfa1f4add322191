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

// Writes lines about records to the log, kBurst at once and one a second on
// average: a script that edits ten thousand records must not fill the disk. The
// next line that is written says how many were left out. Thread-safe.
class RecordLog {
 public:
  using Sink = std::function<void(absl::string_view line)>;
  static constexpr int kBurst = 20;

  // `sink` may be null.
  RecordLog(Sink sink, base::SteadyClock clock);

  void Write(absl::string_view line);

 private:
  const Sink sink_;
  const base::SteadyClock clock_;
  absl::Mutex mutex_;
  // Up to when lines have been paid for.
  absl::Duration filled_ ABSL_GUARDED_BY(mutex_);
  int64_t left_out_ ABSL_GUARDED_BY(mutex_) = 0;
};

}  // namespace mlops::catalog

#endif  // MLOPS_SERVICE_CATALOG_RECORD_LOG_H_
