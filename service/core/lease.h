#ifndef MLOPS_SERVICE_CORE_LEASE_H_
#define MLOPS_SERVICE_CORE_LEASE_H_

#include <cstdint>
#include <string>

#include "absl/time/time.h"

namespace mlops::core {

// The exclusive right of one holder to change a workspace.
struct Lease {
  std::string holder;
  // Increases with every change of holder.
  int64_t fence = 0;
  absl::Time acquire_time;
  // When the lease expires unless it is renewed.
  absl::Time expire_time;
};

}  // namespace mlops::core

#endif  // MLOPS_SERVICE_CORE_LEASE_H_
