#ifndef MLOPS_SERVICE_CORE_UPDATE_RULES_H_
#define MLOPS_SERVICE_CORE_UPDATE_RULES_H_

#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "service/core/workspace.h"

// Defines which workspaces are valid and how an update changes one. Pure
// and thread-safe.
namespace mlops::core {

// There are eight valid paths, each of which may occur once.
inline constexpr size_t kMaxMaskPaths = 16;
// At least twice the number of keys that the largest metadata can have.
inline constexpr size_t kMaxRemovedKeys = 32 * 1024;

// The content of an UpdateWorkspace request.
struct UpdateSpec {
  Settings settings;
  Metadata metadata = Metadata::object();
  Quota quota;
  // The update mask. If it is absent, the update sets the settings and limits
  // that are present, and merges the metadata. If it is present, the update
  // replaces the named fields with the given values, and clears named fields
  // without a value. A path is the name of a setting or of a quota's limit,
  // "metadata", or "*" alone for all of them, which resets absent settings to
  // their defaults.
  std::optional<std::vector<std::string>> mask;
  std::vector<std::string> remove_metadata;
};

// The content of a Create or Ensure request.
struct NewWorkspaceSpec {
  ProjectName project;
  std::string root_path;
  std::string uid;
  std::string request_id;
  Settings settings;
  // Whether absent settings stay absent, instead of getting their defaults.
  bool exact_settings = false;
  Metadata metadata = Metadata::object();
  Quota quota;
  // See Workspace::unknown_keys.
  std::string unknown_keys;
};

// Returns INVALID_ARGUMENT/FIELD_INVALID if a limit is negative or larger than
// kMaxInteger.
absl::Status CheckQuotaFields(const Quota& quota);

// Returns INVALID_ARGUMENT/FIELD_INVALID if a setting is longer than
// kMaxSettingBytes or has a control character.
absl::Status CheckSettings(const Settings& settings);

// Returns INVALID_ARGUMENT/FIELD_INVALID if
// - CheckSettings(), CheckMetadata() or CheckQuotaFields() does;
// - a mask path is unknown, output-only, or combined with "*";
// - a key is both in `metadata` and in `remove_metadata`;
// - there are too many paths or removed keys.
absl::Status CheckUpdateSpec(const UpdateSpec& spec);

// Returns the workspace that Create makes. Absent settings get their defaults,
// unless `spec.exact_settings`. Returns INVALID_ARGUMENT/FIELD_INVALID if
// CheckSettings(), CheckMetadata(), CheckQuotaFields() or CheckReadable() does.
absl::StatusOr<Workspace> NewWorkspace(NewWorkspaceSpec spec, absl::Time now);

// Returns `current` with the update applied, or nullopt if the update changes
// nothing. The new update_time is `now` or, if the clock has been set back,
// just after the current update_time. Returns INVALID_ARGUMENT/FIELD_INVALID if
// CheckUpdateSpec() does for `spec`, or CheckMetadata() or CheckReadable() for
// the result.
absl::StatusOr<std::optional<Workspace>> ApplyUpdate(const Workspace& current,
                                                     const UpdateSpec& spec,
                                                     absl::Time now);

}  // namespace mlops::core

#endif  // MLOPS_SERVICE_CORE_UPDATE_RULES_H_
