#include "service/core/workspace.h"

#include <algorithm>
#include <string>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "proto/cpp/base/utf8.h"

namespace mlops::core {

namespace {

// Returns `path` as the path of a URI. Escapes '?', which would begin a query,
// '%', which would begin an escape, and bytes that are not UTF-8.
std::string UriPath(absl::string_view path) {
  std::string uri;
  char32_t ignored;
  while (!path.empty()) {
    const size_t length = base::DecodeUtf8(path, &ignored);
    if (length == 0 || path[0] == '%' || path[0] == '?') {
      absl::StrAppendFormat(&uri, "%%%02X",
                            static_cast<unsigned char>(path[0]));
    } else {
      absl::StrAppend(&uri, path.substr(0, length));
    }
    path.remove_prefix(std::max<size_t>(length, 1));
  }
  return uri;
}

// Returns the default DVC remote. A setting must be valid UTF-8, but a path
// need not be. For any other path, returns "remote", which DVC resolves
// relative to its repository `dvc`.
std::string RemotePath(absl::string_view root_path) {
  return base::IsValidUtf8(root_path) ? absl::StrCat(root_path, "/dvc/remote")
                                      : "remote";
}

}  // namespace

Settings DefaultSettings(const ProjectName& project,
                         absl::string_view root_path) {
  return {.mlflow_tracking_uri = absl::StrCat("sqlite:///", UriPath(root_path),
                                              "/mlflow/mlflow.db"),
          .dvc_remote_path = RemotePath(root_path),
          .bentoml_tag_prefix = absl::StrCat(project.str(), ":")};
}

}  // namespace mlops::core
