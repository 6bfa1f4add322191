#ifndef MLOPS_SERVICE_BASE_CLOCK_H_
#define MLOPS_SERVICE_BASE_CLOCK_H_

#include <chrono>
#include <functional>

#include "absl/time/clock.h"
#include "absl/time/time.h"

namespace mlops::base {

// Returns the wall-clock time. Must be callable from several threads at once.
// Tests pass their own.
using Clock = std::function<absl::Time()>;

// Returns the time since an arbitrary moment in the past, for measuring
// intervals. It never goes back and ignores changes of the wall clock.
// Must be callable from several threads at once.
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
