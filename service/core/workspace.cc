#include "service/core/workspace.h"

#include <string>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"

namespace mlops::core {

Settings DefaultSettings(const ProjectName& project, absl::string_view root_path) {
  // Who opens the URI takes what follows a '?' for a query, and decodes what follows a '%'.
  const std::string uri_path = absl::StrReplaceAll(root_path, {{"%", "%25"}, {"?", "%3F"}});
  return {.mlflow_tracking_uri = absl::StrCat("sqlite:///", uri_path, "/mlflow/mlflow.db"),
          .dvc_remote_path = absl::StrCat(root_path, "/dvc/remote"),
          .bentoml_tag_prefix = absl::StrCat(project.str(), ":")};
}

}  // namespace mlops::core
