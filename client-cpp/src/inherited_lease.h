#ifndef MLOPS_CLIENT_CPP_SRC_INHERITED_LEASE_H_
#define MLOPS_CLIENT_CPP_SRC_INHERITED_LEASE_H_

#include <atomic>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <utility>

#include "mlops/options.h"

namespace mlops::internal {

// The lease that another process, such as `mlops lease run`, holds and renews
// for this one. Thread-safe.
class InheritedLease {
 public:
  // Returns the lease that MLOPS_LEASE_PROJECT and MLOPS_LEASE_FENCE name.
  // Without them, returns one that matches no project.
  static std::shared_ptr<InheritedLease> FromEnvironment();

  InheritedLease(std::string project, int64_t fence)
      : project_(std::move(project)), fence_(fence) {}

  // Returns the fence that a change to `project` must carry: the call's, else
  // this lease's, else 0.
  int64_t FenceFor(std::string_view project, const CallOptions& call) const;

  // Records that a change with `fence` deleted the workspace, which ends the
  // lease.
  void NoteDeleted(std::string_view project, int64_t fence);

 private:
  const std::string project_;
  // 0 once the lease has ended.
  std::atomic<int64_t> fence_;
};

}  // namespace mlops::internal

#endif  // MLOPS_CLIENT_CPP_SRC_INHERITED_LEASE_H_
