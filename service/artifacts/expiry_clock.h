#ifndef MLOPS_SERVICE_ARTIFACTS_EXPIRY_CLOCK_H_
#define MLOPS_SERVICE_ARTIFACTS_EXPIRY_CLOCK_H_

#include <algorithm>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "service/base/clock.h"

namespace mlops::artifacts {

// The clock against which the mtime of files expires. Follows the wall clock,
// because the time must survive a restart, but a forward jump of the wall clock
// must not destroy anything. Thread-safe.
class ExpiryClock {
 public:
  ExpiryClock(base::Clock wall, base::SteadyClock steady)
      : wall_(std::move(wall)), steady_(std::move(steady)) {}

  // Returns the wall clock's time, minus its forward jumps since this object
  // was created.
  absl::Time Now() const {
    return std::min(wall_(), begin_ + (steady_() - steady_begin_));
  }

  // Returns whether the wall clock has run evenly for 30 s. Until then nothing
  // may be removed because of its age: a machine may start with a wrong clock
  // that is corrected a moment later. Must be called regularly.
  bool IsSettled() ABSL_LOCKS_EXCLUDED(mutex_) {
    const absl::Duration steady = steady_();
    const absl::Time offset = wall_() - steady;
    absl::MutexLock lock(&mutex_);
    if (absl::AbsDuration(offset - offset_) > kMaxDrift) {
      offset_ = offset;
      even_since_ = steady;
    }
    return steady - even_since_ >= kSettleTime;
  }

 private:
  static constexpr absl::Duration kMaxDrift = absl::Seconds(1);
  static constexpr absl::Duration kSettleTime = absl::Seconds(30);

  const base::Clock wall_;
  const base::SteadyClock steady_;
  const absl::Time begin_ = wall_();
  const absl::Duration steady_begin_ = steady_();
  absl::Mutex mutex_;
  absl::Time offset_ ABSL_GUARDED_BY(mutex_) = begin_ - steady_begin_;
  absl::Duration even_since_ ABSL_GUARDED_BY(mutex_) = steady_begin_;
};

}  // namespace mlops::artifacts

#endif  // MLOPS_SERVICE_ARTIFACTS_EXPIRY_CLOCK_H_
