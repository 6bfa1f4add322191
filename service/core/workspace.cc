#include "service/core/workspace.h"

#include "absl/strings/str_cat.h"

namespace mlops::core {

Settings DefaultSettings(const ProjectName& project, absl::string_view root_path) {
  return {.mlflow_tracking_uri = absl::StrCat("sqlite:///", root_path, "/mlflow/mlflow.db"),
          .dvc_remote_path = absl::StrCat(root_path, "/dvc/remote"),
          .bentoml_tag_prefix = absl::StrCat(project.str(), ":")};
}

}  // namespace mlops::core
