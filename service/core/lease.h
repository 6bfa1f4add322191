#ifndef MLOPS_SERVICE_CORE_LEASE_H_
#define MLOPS_SERVICE_CORE_LEASE_H_

#include <cstdint>
#include <string>

#include "absl/time/time.h"

namespace mlops::core {

// The exclusive right of one holder to change a workspace through the service,
// as clients see it.
struct Lease {
  std::string holder;
  // Requests that change the workspace must carry it. Larger than the fence of
  // every earlier lease.
  int64_t fence = 0;
  // By the wall clock.
  absl::Time acquire_time;
  absl::Time expire_time;
};

}  // namespace mlops::core

#endif  // MLOPS_SERVICE_CORE_LEASE_H_
