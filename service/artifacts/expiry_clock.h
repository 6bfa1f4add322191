#ifndef MLOPS_SERVICE_ARTIFACTS_EXPIRY_CLOCK_H_
#define MLOPS_SERVICE_ARTIFACTS_EXPIRY_CLOCK_H_

#include <algorithm>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "service/base/clock.h"

namespace mlops::core {

// The time by which files expire whose age is told by their mtime. That is the
// wall clock's, since it must survive a restart; but a wall clock that jumps
// ahead must not destroy anything. Thread-safe.
class ExpiryClock {
 public:
  ExpiryClock(base::Clock wall, base::SteadyClock steady)
      : wall_(std::move(wall)), steady_(std::move(steady)) {}

  // The wall clock's time, less what it has jumped ahead since this object was
  // made.
  absl::Time Now() const {
    return std::min(wall_(), begin_ + (steady_() - steady_begin_));
  }

  // Whether the wall clock has run evenly for a while. Before that nothing may
  // be removed for its age: a machine may start with a wrong clock, which is
  // set a moment later. To be asked regularly.
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

}  // namespace mlops::core

#endif  // MLOPS_SERVICE_ARTIFACTS_EXPIRY_CLOCK_H_
