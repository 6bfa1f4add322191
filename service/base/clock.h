#ifndef MLOPS_SERVICE_BASE_CLOCK_H_
#define MLOPS_SERVICE_BASE_CLOCK_H_

#include <chrono>
#include <functional>

#include "absl/time/clock.h"
#include "absl/time/time.h"

namespace mlops::base {

// Tells the time; tests pass their own. Must be callable from several threads at once.
using Clock = std::function<absl::Time()>;

inline Clock SystemClock() {
  return [] { return absl::Now(); };
}

// Never steps back or jumps, whatever happens to the time of day. Its values are good for intervals only.
inline Clock MonotonicClock() {
  return [] { return absl::UnixEpoch() + absl::FromChrono(std::chrono::steady_clock::now().time_since_epoch()); };
}

}  // namespace mlops::base

#endif  // MLOPS_SERVICE_BASE_CLOCK_H_
