#include "service/core/update_rules.h"

#include <algorithm>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "proto/cpp/base/error.h"
#include "proto/cpp/base/status_macros.h"
#include "service/core/errors.h"
#include "service/core/iso_time.h"
#include "service/core/workspace_yaml.h"

namespace mlops::core {
namespace {

constexpr absl::string_view kMetadataPath = "metadata";
constexpr absl::string_view kEverything = "*";

const SettingField* FindSetting(absl::string_view name) {
  for (const SettingField& field : kSettingFields) {
    if (field.name == name) return &field;
  }
  return nullptr;
}

absl::Status CheckMaskPath(const std::string& path, size_t path_count) {
  if (path == kEverything && path_count > 1)
    return FieldInvalid("update_mask", "\"*\" must be the only path");
  if (path == kEverything || path == kMetadataPath || path == kMaxSizeBytes ||
      path == kMaxFileCount || FindSetting(path) != nullptr)
    return absl::OkStatus();
  // This plausible mistake deserves its own advice.
  if (absl::StartsWith(path, "metadata.")) {
    return FieldInvalid("update_mask",
                        absl::StrCat("\"", base::Echo(path),
                                     "\": single keys are merged without a "
                                     "mask, or removed by remove_metadata"));
  }
  return FieldInvalid(
      "update_mask",
      absl::StrCat(
          "\"", base::Echo(path),
          "\" is not a field that can be set; those are mlflow_experiment_id, "
          "mlflow_tracking_uri, dvc_remote_path, bentoml_tag_prefix, "
          "max_size_bytes, max_file_count, metadata and *"));
}

void MergeWithoutMask(const UpdateSpec& spec, Workspace& workspace) {
  for (const SettingField& field : kSettingFields) {
    if (spec.settings.*field.member)
      workspace.settings.*field.member = spec.settings.*field.member;
  }
  workspace.metadata.update(spec.metadata);
  if (spec.quota.max_size_bytes)
    workspace.quota.max_size_bytes = spec.quota.max_size_bytes;
  if (spec.quota.max_file_count)
    workspace.quota.max_file_count = spec.quota.max_file_count;
}

void ReplaceMasked(const UpdateSpec& spec, Workspace& workspace) {
  for (const std::string& path : *spec.mask) {
    if (path == kEverything) {
      // As for a new workspace: absent settings get their defaults.
      workspace.settings =
          DefaultSettings(workspace.project, workspace.root_path);
      for (const SettingField& field : kSettingFields) {
        if (spec.settings.*field.member)
          workspace.settings.*field.member = spec.settings.*field.member;
      }
      workspace.metadata = spec.metadata;
      workspace.quota = spec.quota;
    } else if (path == kMetadataPath) {
      workspace.metadata = spec.metadata;
    } else if (path == kMaxSizeBytes) {
      workspace.quota.max_size_bytes = spec.quota.max_size_bytes;
    } else if (path == kMaxFileCount) {
      workspace.quota.max_file_count = spec.quota.max_file_count;
    } else {
      const SettingField& field = *FindSetting(path);
      workspace.settings.*field.member = spec.settings.*field.member;
    }
  }
}

}  // namespace

absl::Status CheckQuotaFields(const Quota& quota) {
  if (quota.max_size_bytes.value_or(0) < 0)
    return FieldInvalid(kMaxSizeBytes, "must not be negative");
  if (quota.max_size_bytes.value_or(0) > kMaxInteger) {
    return FieldInvalid(kMaxSizeBytes,
                        absl::StrCat("must be at most ", kMaxInteger));
  }
  if (quota.max_file_count.value_or(0) < 0)
    return FieldInvalid(kMaxFileCount, "must not be negative");
  return absl::OkStatus();
}

absl::Status CheckSettings(const Settings& settings) {
  for (const SettingField& field : kSettingFields) {
    const std::optional<std::string>& value = settings.*field.member;
    if (!value) continue;
    if (value->size() > kMaxSettingBytes) {
      return FieldInvalid(field.name, absl::StrCat("is longer than ",
                                                   kMaxSettingBytes, " bytes"));
    }
    if (std::any_of(value->begin(), value->end(), absl::ascii_iscntrl)) {
      return FieldInvalid(field.name, "has a control character");
    }
  }
  return absl::OkStatus();
}

absl::Status CheckUpdateSpec(const UpdateSpec& spec) {
  RETURN_IF_ERROR(CheckSettings(spec.settings));
  RETURN_IF_ERROR(CheckQuotaFields(spec.quota));
  // Check the sizes first, because the checks below take time for each element.
  if (spec.mask && spec.mask->size() > kMaxMaskPaths) {
    return FieldInvalid(
        "update_mask",
        absl::StrCat("has more than ", kMaxMaskPaths, " different paths"));
  }
  if (spec.remove_metadata.size() > kMaxRemovedKeys) {
    return FieldInvalid(
        "remove_metadata",
        absl::StrCat("has more than ", kMaxRemovedKeys, " keys"));
  }
  if (spec.mask) {
    for (const std::string& path : *spec.mask)
      RETURN_IF_ERROR(CheckMaskPath(path, spec.mask->size()));
  }
  RETURN_IF_ERROR(CheckMetadata(spec.metadata));
  // Refuse to set and remove the same key, instead of letting the order decide.
  for (const std::string& key : spec.remove_metadata) {
    if (spec.metadata.contains(key)) {
      return FieldInvalid("remove_metadata",
                          absl::StrCat("\"", base::Echo(key),
                                       "\" is also in workspace.metadata"));
    }
  }
  return absl::OkStatus();
}

absl::StatusOr<Workspace> NewWorkspace(NewWorkspaceSpec spec, absl::Time now) {
  RETURN_IF_ERROR(CheckSettings(spec.settings));
  RETURN_IF_ERROR(CheckMetadata(spec.metadata));
  RETURN_IF_ERROR(CheckQuotaFields(spec.quota));
  Settings settings = DefaultSettings(spec.project, spec.root_path);
  for (const SettingField& field : kSettingFields) {
    if (spec.settings.*field.member || spec.exact_settings)
      settings.*field.member = std::move(spec.settings.*field.member);
  }
  const bool only_defaults =
      spec.metadata.empty() && !spec.quota.limits() &&
      spec.unknown_keys.empty() &&
      settings == DefaultSettings(spec.project, spec.root_path);
  const absl::Time create_time = ClampTime(WholeMicros(now));
  Workspace workspace{.project = std::move(spec.project),
                      .uid = std::move(spec.uid),
                      .root_path = std::move(spec.root_path),
                      .settings = std::move(settings),
                      .metadata = std::move(spec.metadata),
                      .quota = spec.quota,
                      .create_time = create_time,
                      .update_time = create_time,
                      .request_id = std::move(spec.request_id),
                      .unknown_keys = std::move(spec.unknown_keys)};
  // Skip the expensive check for default values, which are always readable:
  // Ensure comes here on every call, nearly always with defaults.
  if (!only_defaults) RETURN_IF_ERROR(CheckReadable(workspace));
  return workspace;
}

absl::StatusOr<std::optional<Workspace>> ApplyUpdate(const Workspace& current,
                                                     const UpdateSpec& spec,
                                                     absl::Time now) {
  RETURN_IF_ERROR(CheckUpdateSpec(spec));
  Workspace updated = current;
  spec.mask ? ReplaceMasked(spec, updated) : MergeWithoutMask(spec, updated);
  for (const std::string& key : spec.remove_metadata)
    updated.metadata.erase(key);
  // Metadata that is valid in the request may exceed a limit once merged.
  RETURN_IF_ERROR(CheckMetadata(updated.metadata));
  if (updated.settings == current.settings &&
      updated.metadata == current.metadata && updated.quota == current.quota)
    return std::nullopt;
  // Let update_time increase even if the clock has been set back.
  updated.update_time = ClampTime(
      std::max(WholeMicros(now), current.update_time + absl::Microseconds(1)));
  RETURN_IF_ERROR(CheckReadable(updated));
  return updated;
}

}  // namespace mlops::core
