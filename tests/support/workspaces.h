#ifndef MLOPS_TESTS_SUPPORT_WORKSPACES_H_
#define MLOPS_TESTS_SUPPORT_WORKSPACES_H_

#include <string>
#include <vector>

#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "service/core/catalog.h"
#include "service/core/workspace.h"

// Values that many tests share.
namespace mlops::support {

// Returns the parsed `name`, which must be valid.
core::ProjectName Project(absl::string_view name);

// Returns a fixed time, with a fraction in microseconds, plus `seconds`.
absl::Time TimeAt(int64_t seconds);

// Returns a new workspace below `base_path`, as Create passes it to a catalog.
// Its uid is derived from its name and `seconds`.
core::Workspace NewWorkspace(absl::string_view name,
                             absl::string_view base_path = "/base",
                             int64_t seconds = 0);

// Returns the names of the workspaces, in the given order.
std::vector<std::string> NamesOf(
    const std::vector<core::WorkspacePtr>& workspaces);

// Returns a workspace.yaml as the original Python code writes it, with `note`
// in its metadata.
std::string OriginalRecord(absl::string_view name, absl::string_view root_path,
                           absl::string_view note = "hello");

}  // namespace mlops::support

#endif  // MLOPS_TESTS_SUPPORT_WORKSPACES_H_
