#ifndef MLOPS_SERVICE_CORE_NAME_POLICY_H_
#define MLOPS_SERVICE_CORE_NAME_POLICY_H_

#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "service/core/project_name.h"

namespace re2 {
class RE2;
}

namespace mlops::core {

// Decides which names new workspaces may have. A call that may create a
// workspace is refused even if one of that name exists, so that its result does
// not depend on which workspaces exist. Calls that only serve existing
// workspaces ignore the policy. Thread-safe; cheap to copy.
class NamePolicy {
 public:
  // Allows every name.
  NamePolicy() = default;

  // Returns a policy that allows the names which `pattern`, in the syntax of
  // RE2, matches as a whole; "" allows every name. Returns INVALID_ARGUMENT,
  // with a message for the operator, if `pattern` is malformed.
  static absl::StatusOr<NamePolicy> Parse(const std::string& pattern);

  // Returns whether the policy refuses some names.
  bool restricts() const { return pattern_ != nullptr; }

  // Returns INVALID_ARGUMENT/FIELD_INVALID for the field `project` if no new
  // workspace may have that name.
  absl::Status Check(const ProjectName& project) const;

 private:
  std::shared_ptr<const re2::RE2> pattern_;
};

}  // namespace mlops::core

#endif  // MLOPS_SERVICE_CORE_NAME_POLICY_H_
