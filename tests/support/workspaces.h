#ifndef MLOPS_TESTS_SUPPORT_WORKSPACES_H_
#define MLOPS_TESTS_SUPPORT_WORKSPACES_H_

#include <string>
#include <vector>

#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "service/core/catalog.h"
#include "service/core/workspace.h"

// Values that many tests need.
namespace mlops::support {

// `name`, which must be one.
core::ProjectName Project(absl::string_view name);

// A time that is `seconds` and some microseconds after a fixed one.
absl::Time TimeAt(int64_t seconds);

// A workspace as Create hands it to a catalog, below `base_path`; its uid is
// derived from name and time.
core::Workspace NewWorkspace(absl::string_view name,
                             absl::string_view base_path = "/base",
                             int64_t seconds = 0);

// The names of the workspaces, in their order.
std::vector<std::string> NamesOf(
    const std::vector<core::WorkspacePtr>& workspaces);

// A workspace.yaml as the original Python code writes it, with `note` in its
// metadata.
std::string OriginalRecord(absl::string_view name, absl::string_view root_path,
                           absl::string_view note = "hello");

}  // namespace mlops::support

#endif  // MLOPS_TESTS_SUPPORT_WORKSPACES_H_
