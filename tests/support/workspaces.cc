#include "tests/support/workspaces.h"

#include "absl/strings/str_cat.h"
#include "absl/strings/substitute.h"
#include "proto/cpp/base/id.h"

namespace mlops::support {

core::ProjectName Project(absl::string_view name) {
  return core::ProjectName::Parse(name).value();
}

absl::Time TimeAt(int64_t seconds) {
  return absl::FromUnixMicros(1'700'000'000'123'456 + seconds * 1'000'000);
}

core::Workspace NewWorkspace(absl::string_view name,
                             absl::string_view base_path, int64_t seconds) {
  const std::string root_path = absl::StrCat(base_path, "/", name);
  return {.project = Project(name),
          .uid = base::HashHex(absl::StrCat(name, "@", seconds), 32),
          .root_path = root_path,
          .settings = core::DefaultSettings(Project(name), root_path),
          .metadata = {{"owner", "ana"}},
          .create_time = TimeAt(seconds),
          .update_time = TimeAt(seconds)};
}

std::vector<std::string> NamesOf(
    const std::vector<core::WorkspacePtr>& workspaces) {
  std::vector<std::string> names;
  for (const core::WorkspacePtr& workspace : workspaces)
    names.push_back(workspace->project.str());
  return names;
}

std::string OriginalRecord(absl::string_view name, absl::string_view root_path,
                           absl::string_view note) {
  return absl::Substitute(R"(bentoml_tag_prefix: '$0:'
created_at: '2024-03-05T10:20:30.123456+00:00'
dvc_remote_path: $1/dvc/remote
metadata:
  note: $2
mlflow_experiment_id: null
mlflow_tracking_uri: $1/mlflow
project_name: $0
root_path: $1
updated_at: '2024-03-06T11:21:31.654321+00:00'
)",
                          name, root_path, note);
}

}  // namespace mlops::support
