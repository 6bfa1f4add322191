#ifndef MLOPS_SERVICE_RPC_STEADY_CLOCK_H_
#define MLOPS_SERVICE_RPC_STEADY_CLOCK_H_

#include <chrono>

namespace mlops::rpc {

// For spans of time, which no step of the wall clock may change.
using SteadyClock = std::chrono::steady_clock;

// Before anything that a process has seen, whenever the machine was started.
inline constexpr SteadyClock::time_point kLongAgo{
    -std::chrono::hours(24 * 365)};

}  // namespace mlops::rpc

#endif  // MLOPS_SERVICE_RPC_STEADY_CLOCK_H_
