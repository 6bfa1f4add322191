#include "service/archive/manifest.h"

#include <limits>
#include <set>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "nlohmann/json.hpp"
#include "proto/cpp/base/status_macros.h"
#include "proto/cpp/base/utf8.h"
#include "service/archive/entry_rules.h"
#include "service/core/errors.h"

namespace mlops::archive {
namespace {

using core::Settings;
using json = nlohmann::json;

constexpr absl::string_view kFormat = "mlops-workspace";
constexpr int kVersion = 1;
// Deeper JSON is refused before any function recurses into it.
constexpr int kMaxDepth = core::kMaxMetadataDepth + 4;
constexpr absl::string_view kDatabase = "/mlflow/mlflow.db";

absl::Status Invalid(absl::string_view problem) {
  return core::ArchiveInvalid(kManifestName, problem);
}

// Returns the text that stands for the workspace's directory in a setting:
// its path, or in the tracking URI its escaped path. Returns "" if the setting
// does not name a location.
std::string RootIn(const core::SettingField& field, const Settings& defaults,
                   absl::string_view root_path) {
  if (field.member == &Settings::mlflow_tracking_uri)
    return std::string(
        absl::StripSuffix(*defaults.mlflow_tracking_uri, kDatabase));
  if (field.member == &Settings::dvc_remote_path &&
      base::IsValidUtf8(root_path))
    return std::string(root_path);
  return "";
}

ArchivedSetting ArchiveSetting(const core::SettingField& field,
                               const core::Workspace& workspace,
                               const Settings& defaults) {
  using Kind = ArchivedSetting::Kind;
  const std::optional<std::string>& value = workspace.settings.*field.member;
  if (!value.has_value()) return {};
  // A default follows the name and place of the imported workspace.
  if (value == defaults.*field.member) return {.kind = Kind::kDefault};
  // Store a location in the workspace relative to it, so that it stays valid
  // after an import.
  const std::string root = RootIn(field, defaults, workspace.root_path);
  absl::string_view rest = *value;
  if (!root.empty() && absl::ConsumePrefix(&rest, root) &&
      absl::StartsWith(rest, "/"))
    return {.kind = Kind::kBelowRoot, .text = std::string(rest)};
  return {.kind = Kind::kText, .text = *value};
}

json EncodeSetting(const ArchivedSetting& setting) {
  switch (setting.kind) {
    case ArchivedSetting::Kind::kAbsent:
      break;
    case ArchivedSetting::Kind::kDefault:
      return {{"default", true}};
    case ArchivedSetting::Kind::kBelowRoot:
      return {{"below_root", setting.text}};
    case ArchivedSetting::Kind::kText:
      return {{"text", setting.text}};
  }
  return nullptr;
}

std::optional<ArchivedSetting> DecodeSetting(const json& value) {
  using Kind = ArchivedSetting::Kind;
  if (value.is_null()) return ArchivedSetting();
  if (!value.is_object() || value.size() != 1) return std::nullopt;
  const std::string key = value.begin().key();
  const json& content = value.begin().value();
  if (key == "default" && content == true)
    return ArchivedSetting{.kind = Kind::kDefault};
  if (!content.is_string()) return std::nullopt;
  if (key == "below_root")
    return ArchivedSetting{.kind = Kind::kBelowRoot, .text = content};
  if (key == "text")
    return ArchivedSetting{.kind = Kind::kText, .text = content};
  return std::nullopt;
}

// Parses an object. Returns null if it is malformed, too deep, or has
// a duplicate member, for which different readers may use different values.
json ParseObject(absl::string_view text) {
  bool fine = true;
  std::vector<std::set<std::string>> names;
  const auto visit = [&](int depth, json::parse_event_t event, json& value) {
    fine &= depth <= kMaxDepth;
    if (event == json::parse_event_t::object_start) names.emplace_back();
    if (event == json::parse_event_t::object_end) names.pop_back();
    if (event == json::parse_event_t::key)
      fine &= names.back().insert(value.get<std::string>()).second;
    return fine;
  };
  json parsed = json::parse(text, visit, /*allow_exceptions=*/false);
  return fine && parsed.is_object() ? parsed : json();
}

absl::Status DecodeSettings(const json& root, Manifest* manifest) {
  const auto settings = root.find("settings");
  if (settings == root.end() || !settings->is_object())
    return Invalid("has no settings");
  for (size_t i = 0; i < core::kSettingFields.size(); ++i) {
    const std::string name(core::kSettingFields[i].name);
    const auto value = settings->find(name);
    if (value == settings->end()) continue;
    auto setting = DecodeSetting(*value);
    if (!setting.has_value())
      return Invalid(absl::StrCat("has an invalid setting ", name));
    manifest->settings[i] = *std::move(setting);
  }
  return absl::OkStatus();
}

template <typename Integer>
json EncodeLimit(const std::optional<Integer>& limit) {
  return limit.has_value() ? json(*limit) : json();
}

// Reads a limit from 0 to `max`. Returns false if it is anything else.
template <typename Integer>
bool DecodeLimit(const json& quota, absl::string_view name, int64_t max,
                 std::optional<Integer>* limit) {
  const json value = quota.value(std::string(name), json());
  if (value.is_null()) return true;
  if (!value.is_number_unsigned() ||
      value.get<uint64_t>() > static_cast<uint64_t>(max))
    return false;
  *limit = value.get<Integer>();
  return true;
}

absl::Status DecodeQuota(const json& root, Manifest* manifest) {
  const auto quota = root.find("quota");
  if (quota == root.end() || !quota->is_object() ||
      !DecodeLimit(*quota, core::kMaxSizeBytes, core::kMaxInteger,
                   &manifest->quota.max_size_bytes) ||
      !DecodeLimit(*quota, core::kMaxFileCount,
                   std::numeric_limits<int32_t>::max(),
                   &manifest->quota.max_file_count))
    return Invalid("has no valid quota");
  return absl::OkStatus();
}

absl::Status DecodeDirectories(const json& root, Manifest* manifest) {
  const auto directories = root.find("directories");
  if (directories == root.end() || !directories->is_array())
    return Invalid("has no list of directories");
  for (const json& name : *directories) {
    if (!name.is_string()) return Invalid("has an invalid list of directories");
    manifest->directories.push_back(name);
  }
  return absl::OkStatus();
}

}  // namespace

Manifest MakeManifest(const core::Workspace& workspace,
                      std::vector<std::string> directories) {
  Manifest manifest{.project = workspace.project,
                    .metadata = workspace.metadata,
                    .quota = workspace.quota,
                    .directories = std::move(directories)};
  const Settings defaults =
      core::DefaultSettings(workspace.project, workspace.root_path);
  for (size_t i = 0; i < core::kSettingFields.size(); ++i)
    manifest.settings[i] =
        ArchiveSetting(core::kSettingFields[i], workspace, defaults);
  return manifest;
}

core::Settings SettingsFor(const Manifest& manifest,
                           const core::ProjectName& project,
                           absl::string_view root_path) {
  const Settings defaults = core::DefaultSettings(project, root_path);
  Settings settings;
  for (size_t i = 0; i < core::kSettingFields.size(); ++i) {
    const core::SettingField& field = core::kSettingFields[i];
    const ArchivedSetting& archived = manifest.settings[i];
    switch (archived.kind) {
      case ArchivedSetting::Kind::kAbsent:
        break;
      case ArchivedSetting::Kind::kDefault:
        settings.*field.member = defaults.*field.member;
        break;
      case ArchivedSetting::Kind::kBelowRoot:
        settings.*field.member =
            absl::StrCat(RootIn(field, defaults, root_path), archived.text);
        break;
      case ArchivedSetting::Kind::kText:
        settings.*field.member = archived.text;
        break;
    }
  }
  return settings;
}

std::string EncodeManifest(const Manifest& manifest) {
  json settings = json::object();
  for (size_t i = 0; i < core::kSettingFields.size(); ++i)
    settings[std::string(core::kSettingFields[i].name)] =
        EncodeSetting(manifest.settings[i]);
  const json root = {{"format", std::string(kFormat)},
                     {"version", kVersion},
                     {"project", manifest.project.str()},
                     {"settings", std::move(settings)},
                     {"metadata", manifest.metadata},
                     {"quota",
                      {{std::string(core::kMaxSizeBytes),
                        EncodeLimit(manifest.quota.max_size_bytes)},
                       {std::string(core::kMaxFileCount),
                        EncodeLimit(manifest.quota.max_file_count)}}},
                     {"directories", manifest.directories}};
  // JSON cannot hold invalid UTF-8, so replace it instead of failing.
  return absl::StrCat(root.dump(2, ' ', false, json::error_handler_t::replace),
                      "\n");
}

absl::StatusOr<Manifest> DecodeManifest(absl::string_view text) {
  const json root = ParseObject(text);
  if (root.is_null()) return Invalid("is not a JSON object");
  if (root.value("format", json()) != std::string(kFormat))
    return Invalid("does not say that this is the archive of a workspace");
  if (root.value("version", json()) != kVersion) {
    return Invalid(
        "has another version of the format; import it with a newer server");
  }
  const json name = root.value("project", json());
  auto project =
      core::ProjectName::Parse(name.is_string() ? name.get<std::string>() : "");
  if (!project.ok()) return Invalid("has no valid project");
  Manifest manifest{.project = *std::move(project)};
  RETURN_IF_ERROR(DecodeSettings(root, &manifest));
  RETURN_IF_ERROR(DecodeQuota(root, &manifest));
  RETURN_IF_ERROR(DecodeDirectories(root, &manifest));
  const auto metadata = root.find("metadata");
  if (metadata == root.end() || !metadata->is_object())
    return Invalid("has no metadata");
  manifest.metadata = *metadata;
  return manifest;
}

}  // namespace mlops::archive
