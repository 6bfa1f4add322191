#ifndef MLOPS_SERVICE_RPC_STEADY_CLOCK_H_
#define MLOPS_SERVICE_RPC_STEADY_CLOCK_H_

#include <chrono>

namespace mlops::rpc {

// Measures time spans. Clock adjustments do not affect it.
using SteadyClock = std::chrono::steady_clock;

// Earlier than any time that the process has measured, even right after the
// machine has started.
inline constexpr SteadyClock::time_point kLongAgo{
    -std::chrono::hours(24 * 365)};

}  // namespace mlops::rpc

#endif  // MLOPS_SERVICE_RPC_STEADY_CLOCK_H_
