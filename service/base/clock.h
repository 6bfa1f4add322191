#ifndef MLOPS_SERVICE_BASE_CLOCK_H_
#define MLOPS_SERVICE_BASE_CLOCK_H_

#include <chrono>
#include <functional>

#include "absl/time/clock.h"
#include "absl/time/time.h"

namespace mlops::base {

// Tells the time; tests pass their own. Must be callable from several threads
// at once.
using Clock = std::function<absl::Time()>;

// The time since some moment in the past, for intervals: it never goes back,
// and no change of the wall clock moves it. Callable as a Clock is.
using SteadyClock = std::function<absl::Duration()>;

inline Clock SystemClock() {
  return [] { return absl::Now(); };
}

inline SteadyClock SystemSteadyClock() {
  return [] {
    return absl::FromChrono(
        std::chrono::steady_clock::now().time_since_epoch());
  };
}

}  // namespace mlops::base

#endif  // MLOPS_SERVICE_BASE_CLOCK_H_
