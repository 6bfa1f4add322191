#ifndef MLOPS_SERVICE_RPC_STEADY_CLOCK_H_
#define MLOPS_SERVICE_RPC_STEADY_CLOCK_H_

#include <chrono>

namespace mlops::rpc {

// Measures spans of time, which clock steps do not affect.
using SteadyClock = std::chrono::steady_clock;

// Earlier than every time that the process has measured, even right after
// the machine was started.
inline constexpr SteadyClock::time_point kLongAgo{
    -std::chrono::hours(24 * 365)};

}  // namespace mlops::rpc

#endif  // MLOPS_SERVICE_RPC_STEADY_CLOCK_H_
