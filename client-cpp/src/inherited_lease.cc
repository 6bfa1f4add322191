#include "client-cpp/src/inherited_lease.h"

#include <cstdlib>

#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"

namespace mlops::internal {
namespace {

std::string Variable(const char* name) {
  const char* const value = std::getenv(name);
  return value == nullptr ? "" : value;
}

}  // namespace

std::shared_ptr<InheritedLease> InheritedLease::FromEnvironment() {
  const std::string text = Variable("MLOPS_LEASE_FENCE");
  int64_t fence = 0;
  if (text.empty() || !absl::ascii_isdigit(text.front()) ||
      !absl::SimpleAtoi(text, &fence))
    fence = 0;
  return std::make_shared<InheritedLease>(Variable("MLOPS_LEASE_PROJECT"),
                                          fence);
}

int64_t InheritedLease::FenceFor(std::string_view project,
                                 const CallOptions& call) const {
  if (call.fence != 0 || project != project_) return call.fence;
  return fence_.load();
}

void InheritedLease::NoteDeleted(std::string_view project, int64_t fence) {
  if (project == project_) fence_.compare_exchange_strong(fence, 0);
}

}  // namespace mlops::internal
