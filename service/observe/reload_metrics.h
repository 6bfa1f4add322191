#ifndef MLOPS_SERVICE_OBSERVE_RELOAD_METRICS_H_
#define MLOPS_SERVICE_OBSERVE_RELOAD_METRICS_H_

#include <atomic>
#include <cstdint>
#include <string>

#include "absl/status/statusor.h"
#include "service/base/clock.h"
#include "service/observe/metrics.h"

namespace mlops::observe {

// The metrics of a file, or a few related files, that the server rereads when
// they change. Thread-safe.
class ReloadMetrics {
 public:
  // Adds the series to `metrics`, which must not be written after this object
  // is destroyed. `file` names the flag, such as "policy". The server must just
  // have read the file.
  ReloadMetrics(Metrics& metrics, const std::string& file,
                base::Clock clock = base::SystemClock());

  // Must be called with the result of each check of the file: whether it was
  // reread, or why that failed, in which case the old content remains in use.
  void Count(const absl::StatusOr<bool>& reloaded);

 private:
  const base::Clock clock_;
  std::atomic<int64_t> successes_ = 0;
  std::atomic<int64_t> failures_ = 0;
  // Whether the content in use is the file's.
  std::atomic<bool> is_current_ = true;
  // Seconds since the epoch.
  std::atomic<double> last_success_;
};

}  // namespace mlops::observe

#endif  // MLOPS_SERVICE_OBSERVE_RELOAD_METRICS_H_
