#ifndef MLOPS_SERVICE_CORE_WORKSPACE_H_
#define MLOPS_SERVICE_CORE_WORKSPACE_H_

#include <array>
#include <memory>
#include <optional>
#include <string>

#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "nlohmann/json.hpp"
#include "service/base/memo.h"
#include "service/core/project_name.h"

namespace mlops::core {

// What users keep about a project: an object of null, bool, int64 within
// ±kMaxInteger, finite double, UTF-8 string, array and object.
using Metadata = nlohmann::json;

// The largest integer that, as all smaller ones, a double holds exactly (2^53 -
// 1, as in RFC 7493).
inline constexpr int64_t kMaxInteger = (int64_t{1} << 53) - 1;
inline constexpr int kMaxMetadataBytes = 64 * 1024;  // As JSON without spaces.
// The map itself is depth 1.
inline constexpr int kMaxMetadataDepth = 16;
inline constexpr int kMaxMetadataKeyBytes = 256;
inline constexpr int kMaxSettingBytes = 4096;

// The directories of a workspace, in the order in which they are shown.
inline constexpr std::array<absl::string_view, 5> kDirectories = {
    "mlflow", "dvc", "monitoring", "models", "outputs"};

// What a user may set, besides metadata. An absent one is Python's None.
struct Settings {
  std::optional<std::string> mlflow_experiment_id;
  std::optional<std::string> mlflow_tracking_uri;
  std::optional<std::string> dvc_remote_path;
  std::optional<std::string> bentoml_tag_prefix;

  bool operator==(const Settings&) const = default;
};

// The names of the settings on the wire and in workspace.yaml, with their
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

// A workspace as it is stored. Times have microseconds.
struct Workspace {
  ProjectName project;
  std::string uid;
  std::string root_path;  // Absolute; where the directory really is.
  Settings settings;
  Metadata metadata = Metadata::object();
  absl::Time create_time;
  absl::Time update_time;
  std::optional<absl::Time> delete_time;  // Set while in the trash.
  std::optional<absl::Time> purge_time;   // Likewise.
  // Of the stored record; set by the catalog.
  std::string etag;
  // Of the Create that made it; "" if it gave none.
  std::string request_id;
  // YAML text of the record's other top-level keys, kept on update; mostly "".
  std::string unknown_keys;
  base::Memo wire;  // What rpc sends of it in a list.
};

// Records are immutable and shared: a reader keeps the one it got.
using WorkspacePtr = std::shared_ptr<const Workspace>;

// The settings that Create fills in where they are absent.
Settings DefaultSettings(const ProjectName& project,
                         absl::string_view root_path);

}  // namespace mlops::core

#endif  // MLOPS_SERVICE_CORE_WORKSPACE_H_
