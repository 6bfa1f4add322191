#ifndef MLOPS_SERVICE_CORE_WORKSPACE_H_
#define MLOPS_SERVICE_CORE_WORKSPACE_H_

#include <array>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "nlohmann/json.hpp"
#include "service/base/memo.h"
#include "service/core/project_name.h"

namespace mlops::core {

// The user's metadata of a project: an object whose values are null, bool,
// int64 within ±kMaxInteger, finite double, UTF-8 string, array or object.
using Metadata = nlohmann::json;

// The largest metadata integer, 2^53 - 1 as in RFC 7493: doubles represent
// every integer up to it exactly.
inline constexpr int64_t kMaxInteger = (int64_t{1} << 53) - 1;
// Measured as JSON without spaces.
inline constexpr int kMaxMetadataBytes = 64 * 1024;
// The metadata object itself has depth 1.
inline constexpr int kMaxMetadataDepth = 16;
inline constexpr int kMaxMetadataKeyBytes = 256;
inline constexpr int kMaxSettingBytes = 4096;

// The directories of a workspace, in the order in which they are displayed.
inline constexpr std::array<absl::string_view, 5> kDirectories = {
    "mlflow", "dvc", "monitoring", "models", "outputs"};

// The fields that a user can set, besides metadata and the quota. An absent
// setting is None in Python.
struct Settings {
  std::optional<std::string> mlflow_experiment_id;
  std::optional<std::string> mlflow_tracking_uri;
  std::optional<std::string> dvc_remote_path;
  std::optional<std::string> bentoml_tag_prefix;

  bool operator==(const Settings&) const = default;
};

// Maps the settings' names, on the wire and in workspace.yaml, to their
// members.
struct SettingField {
  absl::string_view name;
  std::optional<std::string> Settings::*member;
};
inline constexpr std::array<SettingField, 4> kSettingFields = {{
    {"mlflow_experiment_id", &Settings::mlflow_experiment_id},
    {"mlflow_tracking_uri", &Settings::mlflow_tracking_uri},
    {"dvc_remote_path", &Settings::dvc_remote_path},
    {"bentoml_tag_prefix", &Settings::bentoml_tag_prefix},
}};

// Limits the content of the five directories. An absent limit means no limit.
struct Quota {
  // At least 0 and at most kMaxInteger.
  std::optional<int64_t> max_size_bytes;
  // Maximum number of regular files; at least 0.
  std::optional<int32_t> max_file_count;

  // Returns whether there is any limit.
  bool limits() const {
    return max_size_bytes.has_value() || max_file_count.has_value();
  }
  bool operator==(const Quota&) const = default;
};

// The names of the quota's limits, on the wire and in workspace.yaml.
inline constexpr absl::string_view kMaxSizeBytes = "max_size_bytes";
inline constexpr absl::string_view kMaxFileCount = "max_file_count";

// A workspace as stored. Times have microsecond precision.
struct Workspace {
  ProjectName project;
  std::string uid;
  // Absolute real path of the directory.
  std::string root_path;
  Settings settings;
  Metadata metadata = Metadata::object();
  Quota quota;
  absl::Time create_time;
  absl::Time update_time;
  // Set while in the trash.
  std::optional<absl::Time> delete_time;
  // Set while in the trash.
  std::optional<absl::Time> purge_time;
  // Etag of the stored record, set by the catalog.
  std::string etag;
  // Request id of the Create call that made the workspace, or "" if the call
  // had none.
  std::string request_id;
  // YAML text of the record's other top-level keys, preserved by updates.
  // Usually "".
  std::string unknown_keys;
  // Caches the encoding that the rpc layer sends in lists.
  base::Memo wire;
};

// Workspaces are immutable and shared: a reader keeps the version that it got.
using WorkspacePtr = std::shared_ptr<const Workspace>;

// Returns the values that Create sets for absent settings.
Settings DefaultSettings(const ProjectName& project,
                         absl::string_view root_path);

}  // namespace mlops::core

#endif  // MLOPS_SERVICE_CORE_WORKSPACE_H_
