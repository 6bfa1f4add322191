#ifndef MLOPS_TESTS_SUPPORT_FAKE_CLOCK_H_
#define MLOPS_TESTS_SUPPORT_FAKE_CLOCK_H_

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "service/base/clock.h"

namespace mlops::support {

// A clock that stands still unless advanced. It must outlive the functions that
// clock() and steady_clock() return. Thread-safe.
class FakeClock {
 public:
  explicit FakeClock(absl::Time now = absl::FromUnixSeconds(1'700'000'000))
      : now_(now) {}

  absl::Time Now() const {
    absl::MutexLock lock(&mutex_);
    return now_;
  }
  void Advance(absl::Duration by) {
    absl::MutexLock lock(&mutex_);
    now_ += by;
  }
  base::Clock clock() {
    return [this] { return Now(); };
  }
  base::SteadyClock steady_clock() {
    return [this] { return Now() - absl::UnixEpoch(); };
  }

 private:
  mutable absl::Mutex mutex_;
  absl::Time now_ ABSL_GUARDED_BY(mutex_);
};

// The system's clock, which a FileCatalog needs because it compares it with
// times of files. Tests can move both clocks forward, or step the wall clock
// alone. It must outlive the functions that clock() and steady_clock() return.
// Thread-safe.
class JumpingClock {
 public:
  absl::Time Now() const {
    absl::MutexLock lock(&mutex_);
    return absl::Now() + ahead_ + stepped_;
  }
  void Advance(absl::Duration by) {
    absl::MutexLock lock(&mutex_);
    ahead_ += by;
  }
  void StepWallClock(absl::Duration by) {
    absl::MutexLock lock(&mutex_);
    stepped_ += by;
  }
  base::Clock clock() {
    return [this] { return Now(); };
  }
  base::SteadyClock steady_clock() {
    return [this, system = base::SystemSteadyClock()] {
      absl::MutexLock lock(&mutex_);
      return system() + ahead_;
    };
  }

 private:
  mutable absl::Mutex mutex_;
  absl::Duration ahead_ ABSL_GUARDED_BY(mutex_) = absl::ZeroDuration();
  absl::Duration stepped_ ABSL_GUARDED_BY(mutex_) = absl::ZeroDuration();
};

}  // namespace mlops::support

#endif  // MLOPS_TESTS_SUPPORT_FAKE_CLOCK_H_
